//! A task of a running service, started and watched until it is over.

use super::{Failure, progress::Progress};
use crate::client::Client;
use axum::http::Method;
use serde_json::Value;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Starts the task that `wanted` describes, tells how far it is, and returns its result. Ctrl-C asks the service to end
/// the task, too.
pub(crate) async fn run(client: &Client, wanted: &Value, label: &str) -> Result<Value, Failure> {
    let started = client
        .call(Method::POST, "/admin/tasks", Some(wanted))
        .await?;
    watch(client, started.json()?, label).await
}

/// Tells how far a task is that was started, and returns its result.
pub(crate) async fn watch(client: &Client, mut task: Value, label: &str) -> Result<Value, Failure> {
    let path = format!("/admin/tasks/{}", task["id"].as_str().unwrap_or_default());
    let mut progress = match task["unit"].as_str() {
        Some("records") => Progress::counting(label, "records"),
        Some("rejections") => Progress::counting(label, "rejections"),
        _ => Progress::new(label, 0),
    };
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        match task["state"].as_str() {
            Some("done") => return Ok(task["result"].take()),
            Some("queued" | "running") => {}
            Some("cancelled") => return Err(Failure::Failed("the task was cancelled".to_owned())),
            _ => return Err(Failure::Failed(failure(&task))),
        }
        let number = |name: &str| task[name].as_u64().unwrap_or(0);
        progress.tick(number("done"), Some(number("total")), None);
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = interrupted.as_mut() => {
                client.call(Method::DELETE, &path, None).await?;
                return Err(Failure::Failed("stopped, and the service was asked to stop the task".to_owned()));
            }
        }
        task = client.get(&path).await?.json()?;
    }
}

fn failure(task: &Value) -> String {
    let error = &task["error"];
    let text = |name: &str| error[name].as_str().filter(|text| !text.is_empty());
    let why = text("message").or(text("detail")).or(text("title"));
    format!(
        "the task failed: {}",
        why.unwrap_or("the service did not say why")
    )
}
