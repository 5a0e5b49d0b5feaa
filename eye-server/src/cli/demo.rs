//! `eye demo`: the service on a throw-away folder with sample events in it.

mod sample;

use super::{Common, Failure, Outcome, note, prepare, print};
use crate::client::{Client, MissingFolder, Target};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use eye_log::Senders;
use eye_log::storage::make_private_folder;
use eye_server::Settings;
use eye_server::config::{Given, LogFilter, LogFormat};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// The application of the sample events.
const APPLICATION: &str = "shop";
/// Where the demo listens if it can.
const USUAL_PORT: u16 = 8001;
/// Events in one request; far below every limit.
const BATCH: usize = 500;

/// Serve sample events from a throw-away folder, to look around
///
/// A week of visits to an imagined shop, in the application `shop`, up to now. The folder is a temporary one and goes with
/// the demo (Ctrl-C).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  eye demo\n  eye demo --events 100000 --listen 127.0.0.1:9000")]
pub(crate) struct DemoArgs {
    /// How many sample events to make
    #[arg(long, value_name = "N", default_value_t = 5000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    events: u64,
    /// Where to listen [default: 127.0.0.1:8001, or a free port where that one is taken]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

/// A temporary folder that goes when this does.
struct ThrowAway(PathBuf);

impl ThrowAway {
    fn make() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("eye-demo-{}", uuid::Uuid::new_v4()));
        make_private_folder(&folder).map_err(|error| {
            Failure::Failed(format!("cannot make {}: {error}", folder.display()))
        })?;
        Ok(Self(folder))
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            note(&format!(
                "{} could not be removed: {error}",
                self.0.display()
            ));
        }
    }
}

pub(crate) async fn run(
    args: &DemoArgs,
    common: &Common,
    senders: Senders,
) -> Result<Outcome, Failure> {
    common.folder_only("demo")?;
    if common.given_data.is_some() {
        return Err(Failure::Usage(
            "`eye demo` works on a folder of its own; `eye serve --data DIR` serves yours"
                .to_owned(),
        ));
    }
    prepare(
        &LogFilter::of_a_command().map_err(Failure::Usage)?,
        LogFormat::Text,
    );
    let folder = ThrowAway::make()?;
    let listen = address(args.listen.as_deref())?;
    let settings = Settings::load(&Given {
        data: Some(folder.0.clone()),
        config: common.config.clone(),
        flags: vec![("listen", listen.clone())],
    })
    .map_err(Failure::Failed)?;
    let token = tokio::select! {
        filled = fill(&folder.0, common, args.events) => filled?,
        _ = tokio::signal::ctrl_c() => return Ok(Outcome::Done),
    };
    print(&greeting(&listen, &token, args.events))?;
    eye_server::serve(&settings, senders)
        .await
        .map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(Outcome::Done)
}

/// Returns the address to listen on, with a port that is free now: people are told it before the service is there.
fn address(wanted: Option<&str>) -> Result<String, Failure> {
    let bound = match wanted {
        Some(wanted) => TcpListener::bind(wanted),
        None => {
            let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            bind(USUAL_PORT).or_else(|_| bind(0))
        }
    };
    bound
        .and_then(|listener| listener.local_addr())
        .map(|address| address.to_string())
        .map_err(|error| {
            let wanted = wanted.unwrap_or("any port of 127.0.0.1");
            Failure::Failed(format!("cannot listen on {wanted}: {error}"))
        })
}

/// Registers the application, sends the sample, and returns an admin's token.
async fn fill(folder: &Path, common: &Common, events: u64) -> Result<String, Failure> {
    let client = Client::open(&Target {
        data: folder.to_owned(),
        config: common.config.clone(),
        server: None,
        token: None,
        missing_folder: MissingFolder::Refuse,
    })
    .await?;
    let filled = send_sample(&client, events).await;
    client.close().await;
    filled
}

async fn send_sample(client: &Client, events: u64) -> Result<String, Failure> {
    client
        .call(
            Method::POST,
            "/applications",
            Some(&json!({"name": APPLICATION})),
        )
        .await?;
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static("content-type"),
        HeaderValue::from_static("application/x-ndjson"),
    );
    let lines = sample::lines(events, eye_log::now());
    for batch in lines.chunks(BATCH) {
        let path = format!("/events?application={APPLICATION}");
        let body = Bytes::from(batch.join("\n"));
        let answer = client
            .request(Method::POST, &path, headers.clone(), body)
            .await?
            .or_problem()?;
        let answer: Value = answer.json()?;
        if answer["accepted"].as_u64() != Some(batch.len() as u64) {
            return Err(Failure::Failed(format!(
                "sample events were refused: {answer}"
            )));
        }
    }
    let token: Value = client
        .call(Method::POST, "/tokens", Some(&json!({"kind": "admin"})))
        .await?
        .json()?;
    Ok(token["token"].as_str().unwrap_or_default().to_owned())
}

fn greeting(listen: &str, token: &str, events: u64) -> String {
    format!(
        "{} sample events of a week in a shop, in the application `{APPLICATION}`.\n\n  \
         Look around:  http://{listen}/\n  \
         Admin token:  {token}\n\n\
         Or ask from another terminal:\n\n  \
         export EYE_TOKEN={token}\n  \
         eye search 'category:order' --server http://{listen}\n  \
         eye search 'name:search \"red shoes\"' --server http://{listen}\n  \
         eye search 'category:error data.status:>=500' --server http://{listen}\n\n\
         Ctrl-C ends the demo and removes what it made.",
        super::figures::count(events),
    )
}
