//! `eye health`: whether the service can be used, for health checks of containers and for scripts.

use super::{Common, Failure, Outcome, print};
use crate::client::{Client, MissingFolder};
use axum::body::Bytes;
use axum::http::{HeaderMap, Method};
use serde_json::Value;

/// Ask the running service whether it is ready; exit status 1 if it is not, 3 if none runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  eye health\n  eye health --server https://eye.example:8443")]
pub(crate) struct HealthArgs {}

pub(crate) async fn run(common: &Common) -> Result<Outcome, Failure> {
    let target = common.target(MissingFolder::Refuse);
    let Some(client) = Client::of_running(&target).await? else {
        return Err(Failure::Failed(format!(
            "no service runs on {}",
            common.data.display()
        )));
    };
    // An answer of 503 is what this asks for, and no failure to ask.
    let asked = client
        .request(Method::GET, "/health/ready", HeaderMap::new(), Bytes::new())
        .await;
    client.close().await;
    let health: Value = asked?.json()?;
    if common.json {
        print(&health.to_string())?;
    } else {
        let text = |name: &str| health[name].as_str().unwrap_or_default().to_owned();
        print(format!("{}  {}", text("state"), text("detail")).trim_end())?;
    }
    Ok(if health["ready"] == true {
        Outcome::Done
    } else {
        Outcome::No
    })
}
