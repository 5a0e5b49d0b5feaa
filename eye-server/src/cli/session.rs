//! `eye session`: what happened in one session, in order.

use super::search::{lines, rows::Rows};
use super::{Common, Failure, Outcome, print, unprinted};
use crate::client::{Client, MissingFolder, encoded};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::io::{self, IsTerminal as _, Write};

/// Show a session
///
/// On a terminal a summary and its events as aligned columns, in the order they occurred; in a pipe its events as NDJSON; with
/// --json one object, {"session", "events"}.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye session e2085be5-9137-4e4e-80b5-f1ffddc25423\n  \
                        eye session e2085be5-9137-4e4e-80b5-f1ffddc25423 | jq .name"
)]
pub(crate) struct SessionArgs {
    /// Its id
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next: Option<String>,
}

pub(crate) async fn run(args: &SessionArgs, common: &Common) -> Result<Outcome, Failure> {
    let client = common.client(MissingFolder::Refuse).await?;
    let result = show(&client, args, common).await;
    client.close().await;
    result.map(|()| Outcome::Done)
}

async fn show(client: &Client, args: &SessionArgs, common: &Common) -> Result<(), Failure> {
    let path = format!("/sessions/{}", encoded(&args.id));
    let session: Box<RawValue> = client.get(&path).await?.json()?;
    let columns = io::stdout().is_terminal() && !common.json;
    if columns {
        print(&summary(
            &serde_json::from_str(session.get()).unwrap_or_default(),
        ))?;
    }
    let (mut rows, mut all) = (Rows::default(), Vec::new());
    let mut page = format!("{path}/events?limit=1000");
    loop {
        let answer: Page = client.get(&page).await?.json()?;
        if common.json {
            all.extend(answer.events);
        } else {
            let text = if columns {
                rows.render(&answer.events)
            } else {
                lines(&answer.events)
            };
            io::stdout()
                .lock()
                .write_all(text.as_bytes())
                .map_err(unprinted)?;
        }
        match answer.next {
            Some(next) => page = format!("{path}/events?limit=1000&cursor={}", encoded(&next)),
            None => break,
        }
    }
    if common.json {
        // As they came: numbers keep their digits.
        let all: Vec<&str> = all.iter().map(|event| event.get()).collect();
        print(&format!(
            "{{\"session\":{},\"events\":[{}]}}",
            session.get(),
            all.join(",")
        ))?;
    }
    Ok(())
}

fn summary(session: &Value) -> String {
    let text = |name: &str| session[name].as_str().unwrap_or("-").to_owned();
    let categories: Vec<String> = session["categories"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(category, count)| format!("{category} {count}"))
        .collect();
    let seconds = session["duration_ms"].as_u64().unwrap_or(0) / 1000;
    format!(
        "session      {}\napplication  {}\nfirst        {}\nlast         {}\nduration     {}:{:02}:{:02}\nevents       {} ({})\n",
        text("id"),
        text("application"),
        text("first"),
        text("last"),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        session["count"],
        categories.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_summary_says_how_long_and_of_what() {
        let session = json!({"id": "s", "application": "shop", "first": "T1", "last": "T2", "duration_ms": 3_723_000,
                             "count": 5, "categories": {"form": 2, "page": 3}});
        let told = summary(&session);
        assert!(
            told.contains("duration     1:02:03\n")
                && told.contains("events       5 (form 2, page 3)"),
            "{told}"
        );
    }
}
