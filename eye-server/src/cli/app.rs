//! `eye app`: applications.

use super::{
    Common, Failure, Outcome, print,
    table::{Align, Table},
};
use crate::client::{Client, MissingFolder, encoded};
use axum::http::Method;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use std::io::{BufRead as _, Read as _};
use uuid::Uuid;

/// Register, list, disable and enable applications
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AppCommand {
    /// Register an application and print its token, once
    #[command(
        after_help = "Examples:\n  eye app create shop\n  eye app create shop --token-stdin < old-token"
    )]
    Create {
        /// A name of 1 to 100 characters, never changed later
        name: String,
        /// Take the token from standard input: 20 or more characters that its clients use already
        #[arg(long)]
        token_stdin: bool,
    },
    /// List the applications
    List,
    /// Stop accepting an application's tokens; its events stay
    Disable { name: String },
    /// Accept a disabled application's tokens again
    Enable { name: String },
    /// Set how long and how much is kept of an application, and how fast its tokens may send
    #[command(
        after_help = "Examples:\n  eye app set shop --retention-days 90\n  eye app set shop --max-bytes none --rate 1000"
    )]
    Set {
        name: String,
        /// Events that arrived longer ago expire; `none` keeps them
        #[arg(long, value_name = "DAYS", value_parser = number_or_none)]
        retention_days: Option<Value>,
        /// The oldest events expire beyond this many bytes before compression; `none` for no bound
        #[arg(long, value_name = "BYTES", value_parser = number_or_none)]
        max_bytes: Option<Value>,
        /// Events a second of each of its tokens; `none` for no bound
        #[arg(long, value_name = "N", value_parser = number_or_none)]
        rate: Option<Value>,
    },
}

/// Reads a whole number, or `none`.
fn number_or_none(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    text.parse::<u64>()
        .map(Value::from)
        .map_err(|_| "a whole number, or none".to_owned())
}

pub(crate) async fn run(command: &AppCommand, common: &Common) -> Result<Outcome, Failure> {
    let missing = match command {
        AppCommand::Create { .. } => MissingFolder::Make,
        _ => MissingFolder::Refuse,
    };
    let client = common.client(missing).await?;
    let result = match command {
        AppCommand::Create { name, token_stdin } => {
            create(&client, name, *token_stdin, common).await
        }
        AppCommand::List => list(&client, common).await,
        AppCommand::Disable { name } => set_active(&client, name, false, common).await,
        AppCommand::Enable { name } => set_active(&client, name, true, common).await,
        AppCommand::Set {
            name,
            retention_days,
            max_bytes,
            rate,
        } => {
            let limits = [
                ("retention_days", retention_days),
                ("max_bytes", max_bytes),
                ("rate", rate),
            ];
            set_limits(&client, name, &limits, common).await
        }
    };
    client.close().await;
    result.map(|()| Outcome::Done)
}

async fn create(
    client: &Client,
    name: &str,
    token_stdin: bool,
    common: &Common,
) -> Result<(), Failure> {
    let mut body = json!({ "name": name });
    if token_stdin {
        body["token"] = token_of_stdin()?.into();
    }
    let mut created: Value = client
        .call(Method::POST, "/applications", Some(&body))
        .await?
        .json()?;
    if token_stdin && let Some(fields) = created.as_object_mut() {
        // Whoever gave it knows it.
        fields.remove("token");
    }
    if common.json {
        return print(&created.to_string());
    }
    let token = created["token"].as_str().unwrap_or_default();
    let name = created["name"].as_str().unwrap_or(name);
    if token_stdin {
        return print(&format!(
            "application  {name}\n\nIts token is accepted from now on."
        ));
    }
    print(&format!(
        "application  {name}\ntoken        {token}\n\nThe token is shown only now. Try it, with the server running:\n\n{}",
        curl_line(&address(client, common).await, token)
    ))
}

/// Reads a secret from standard input, where neither a list of processes nor a shell's history shows it.
pub(super) fn token_of_stdin() -> Result<String, Failure> {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(1024).read_line(&mut line);
    read.map_err(|error| Failure::Failed(format!("cannot read standard input: {error}")))?;
    match line.trim() {
        "" => Err(Failure::Usage(
            "--token-stdin: there is no token on standard input".to_owned(),
        )),
        token => Ok(token.to_owned()),
    }
}

/// Returns a line that stores one event when pasted into a shell.
fn curl_line(address: &str, token: &str) -> String {
    let event = json!({
        "session_id": Uuid::new_v4(),
        "category": "demo",
        "name": "hello",
        "data": {"from": "curl"},
        "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
    });
    format!(
        "curl -sS {address}/events -H 'Authorization: Token {token}' -H 'Content-Type: application/json' \\\n  -d '{event}'"
    )
}

/// Returns where the service listens, as far as its settings tell: those of the one that runs, or that will.
async fn address(client: &Client, common: &Common) -> String {
    if let Some(server) = &common.server {
        return server.trim_end_matches('/').to_owned();
    }
    let asked = client.call(Method::GET, "/admin/settings", None).await;
    let told: Value = asked.and_then(|answer| answer.json()).unwrap_or_default();
    let settings = told["settings"].as_array();
    let listen = settings.and_then(|all| all.iter().find(|one| one["name"] == "listen"));
    let listen = listen
        .and_then(|listen| listen["value"].as_str())
        .unwrap_or_default();
    // What listens everywhere, or on a port picked at start, is best guessed at the default.
    match listen.rsplit_once(':') {
        Some(("0.0.0.0" | "[::]" | "", port)) if port != "0" => format!("http://127.0.0.1:{port}"),
        Some((_, port)) if port != "0" => format!("http://{listen}"),
        _ => "http://127.0.0.1:8001".to_owned(),
    }
}

async fn list(client: &Client, common: &Common) -> Result<(), Failure> {
    let applications = client.list("/applications", "applications").await?;
    if common.json {
        return print(&json!({ "applications": applications }).to_string());
    }
    let mut table = Table::new(&[
        ("application", Align::Left),
        ("state", Align::Left),
        ("events", Align::Right),
        ("sessions", Align::Right),
        ("last event", Align::Left),
        ("created", Align::Left),
    ]);
    for application in &applications {
        let text = |key: &str| application[key].as_str().unwrap_or("-").to_owned();
        let number = |key: &str| {
            application[key]
                .as_u64()
                .map_or_else(|| "-".to_owned(), super::figures::count)
        };
        let state = if application["active"] == json!(false) {
            "disabled"
        } else {
            "active"
        };
        table.push([
            text("name"),
            state.to_owned(),
            number("events"),
            number("sessions"),
            text("last"),
            text("created_at"),
        ]);
    }
    if applications.is_empty() {
        super::note("no applications yet; `eye app create NAME` registers one");
    }
    table.print()
}

async fn set_active(
    client: &Client,
    name: &str,
    active: bool,
    common: &Common,
) -> Result<(), Failure> {
    let path = format!("/applications/{}", encoded(name));
    let answer = client
        .call(Method::PATCH, &path, Some(&json!({ "active": active })))
        .await?;
    if common.json {
        let changed: Value = answer
            .json()
            .unwrap_or_else(|_| json!({ "name": name, "active": active }));
        return print(&changed.to_string());
    }
    print(&format!(
        "{name} is {}",
        if active {
            "enabled"
        } else {
            "disabled: its tokens are refused, its events stay"
        }
    ))
}

async fn set_limits(
    client: &Client,
    name: &str,
    limits: &[(&str, &Option<Value>)],
    common: &Common,
) -> Result<(), Failure> {
    let wanted: serde_json::Map<String, Value> = limits
        .iter()
        .filter_map(|(limit, value)| Some(((*limit).to_owned(), (*value).clone()?)))
        .collect();
    if wanted.is_empty() {
        return Err(Failure::Usage(
            "say what to set: --retention-days, --max-bytes or --rate".to_owned(),
        ));
    }
    let path = format!("/applications/{}", encoded(name));
    let changed: Value = client
        .call(Method::PATCH, &path, Some(&Value::Object(wanted)))
        .await?
        .json()?;
    if common.json {
        return print(&changed.to_string());
    }
    let shown = |limit: &str, unit: &str| match &changed[limit] {
        Value::Null => "no limit".to_owned(),
        value => format!("{value} {unit}"),
    };
    print(&format!(
        "{name} keeps {} and {}, and may send {}",
        shown("retention_days", "days"),
        shown("max_bytes", "bytes"),
        shown("rate", "events a second"),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::{Json, Router, routing::get};

    #[test]
    fn the_curl_line_holds_a_whole_event() {
        let line = curl_line("http://127.0.0.1:8001", "eye_s_x");
        let body = line.split_once("-d '").unwrap().1.trim_end_matches('\'');
        let event: Value = serde_json::from_str(body).unwrap();
        assert_eq!(event.as_object().unwrap().len(), 5);
        assert!(line.contains("Token eye_s_x"));
    }

    #[tokio::test]
    async fn a_list_is_read_through_all_its_pages() {
        let router = Router::new().route(
            "/applications",
            get(|uri: axum::http::Uri| async move {
                Json(match uri.query() {
                    None => json!({"applications": [{"name": "a"}], "next": "c d"}),
                    Some("cursor=c%20d") => json!({"applications": [{"name": "b"}], "next": null}),
                    Some(other) => panic!("asked for {other}"),
                })
            }),
        );
        let rows = Client::of_router(router)
            .list("/applications", "applications")
            .await
            .unwrap();
        assert_eq!(rows, [json!({"name": "a"}), json!({"name": "b"})]);
    }
}
