//! `eye search`: matching events, as columns on a terminal and as NDJSON in a pipe.

pub(super) mod rows;

use super::{Common, Failure, Outcome, caret, note, print, unprinted};
use crate::client::{Client, ClientError, MissingFolder, encoded};
use rows::Rows;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The most a page holds (`limit` of the API).
const PAGE: u64 = 1_000;

/// Search events
///
/// On a terminal the events come as aligned columns; in a pipe, or with --json, as NDJSON, one whole event per line.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye search 'category:page AND data.ms>500'\n  \
                        eye search checkout --app shop --from now-7d --order timestamp\n  \
                        eye search 'name:error' --count\n  eye search '*' --all > events.ndjson"
)]
pub(crate) struct SearchArgs {
    /// The query, e.g. 'category:page AND data.ms>500'
    #[arg(value_name = "Q")]
    query: String,
    /// Only events of this application
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Only from this time on (RFC 3339, or now-15m, now-7d)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// How many events at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u64,
    /// Newest first or oldest first
    #[arg(long, value_name = "ORDER", default_value = "-timestamp", allow_hyphen_values = true,
          value_parser = ["-timestamp", "timestamp"])]
    order: String,
    /// Print only how many events match
    #[arg(long, conflicts_with = "all")]
    count: bool,
    /// Print every match, however many
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Exit with status 1 if nothing matches
    #[arg(long)]
    fail_empty: bool,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    events: Vec<Box<RawValue>>,
    next: Option<String>,
    count: Option<u64>,
    exact: Option<bool>,
}

pub(crate) async fn run(args: &SearchArgs, common: &Common) -> Result<Outcome, Failure> {
    let client = common.client(MissingFolder::Refuse).await?;
    let result = search(&client, args, common).await;
    client.close().await;
    let found = result?;
    Ok(if found == 0 && args.fail_empty {
        Outcome::No
    } else {
        Outcome::Done
    })
}

/// How long a command waits for an index that lags: longer than a request does, since nobody asks twice.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until the answer covers everything stored before, or patience is over; then it says so.
async fn exact_page(client: &Client, args: &SearchArgs, path: &str) -> Result<Page, Failure> {
    let started = Instant::now();
    loop {
        let page = page(client, args, path).await?;
        if page.exact != Some(false) {
            return Ok(page);
        }
        if started.elapsed() > PATIENCE {
            note("the index lags behind the log: the latest events are missing from this answer");
            return Ok(page);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn search(client: &Client, args: &SearchArgs, common: &Common) -> Result<u64, Failure> {
    if args.count {
        let path = format!("{}&limit=0&count=true", first_page(args));
        let page = exact_page(client, args, &path).await?;
        let count = page
            .count
            .ok_or_else(|| Failure::Failed("the service answered without a count".to_owned()))?;
        print(&if common.json {
            json!({ "count": count }).to_string()
        } else {
            count.to_string()
        })?;
        return Ok(count);
    }
    let columns = io::stdout().is_terminal() && !common.json;
    let mut wanted = if args.all { u64::MAX } else { args.limit };
    // The same on every page, since a cursor may be held to the parameters it was made with.
    let limit = wanted.min(PAGE);
    let mut found = 0;
    let mut path = format!("{}&limit={limit}", first_page(args));
    let mut rows = Rows::default();
    while wanted > 0 {
        let page = if found == 0 {
            exact_page(client, args, &path).await?
        } else {
            page(client, args, &path).await?
        };
        let events = &page.events[..page
            .events
            .len()
            .min(usize::try_from(wanted).unwrap_or(usize::MAX))];
        let text = if columns {
            rows.render(events)
        } else {
            lines(events)
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(unprinted)?;
        let count = events.len() as u64;
        found += count;
        wanted -= count;
        match page.next {
            Some(cursor) if count > 0 => {
                path = format!("/search?limit={limit}&cursor={}", encoded(&cursor))
            }
            _ => break,
        }
    }
    if columns && found == 0 {
        note("nothing matches");
    }
    Ok(found)
}

fn first_page(args: &SearchArgs) -> String {
    let mut path = format!(
        "/search?q={}&order={}",
        encoded(&args.query),
        encoded(&args.order)
    );
    for (name, value) in [
        ("application", &args.app),
        ("from", &args.from),
        ("to", &args.to),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    path
}

async fn page(client: &Client, args: &SearchArgs, path: &str) -> Result<Page, Failure> {
    match client.get(path).await {
        Ok(answer) => Ok(answer.json()?),
        Err(error) => Err(explained(&args.query, error)),
    }
}

/// Returns what to tell of a question that was not answered: where its query is wrong, the place in it.
pub(super) fn explained(query: &str, error: ClientError) -> Failure {
    match error {
        ClientError::Refused(problem) => match caret::explain(query, &problem) {
            Some(explained) => {
                Failure::Usage(format!("the query is not understood\n\n{explained}"))
            }
            None => ClientError::Refused(problem).into(),
        },
        error => error.into(),
    }
}

/// Writes each event on one line. Data is kept as it was sent, so white space in it may hold line feeds; within JSON's
/// strings there are none.
pub(super) fn lines(events: &[Box<RawValue>]) -> String {
    let mut out = String::new();
    for event in events {
        if event.get().contains(['\n', '\r']) {
            out.push_str(&event.get().replace(['\n', '\r'], " "));
        } else {
            out.push_str(event.get());
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::{Cli, Command};
    use axum::{Router, http::StatusCode, routing::get};
    use clap::Parser;

    fn args(line: &[&str]) -> (SearchArgs, Common) {
        let cli = Cli::try_parse_from(["eye", "search"].iter().chain(line)).unwrap();
        let Some(Command::Search(args)) = cli.command else {
            panic!("parsed as another command")
        };
        (args, cli.common)
    }

    #[tokio::test]
    async fn all_pages_are_read_with_nothing_but_the_cursor() {
        let router = Router::new().route(
            "/search",
            get(|uri: axum::http::Uri| async move {
                match uri.query().unwrap() {
                    "q=a%20b&order=-timestamp&application=shop&limit=1000" => {
                        "{\"events\":[{\"id\":\"1\",\n \"data\":{}},{\"id\":\"2\"}],\"next\":\"c\",\"as_of\":9}"
                    }
                    "limit=1000&cursor=c" => "{\"events\":[{\"id\":\"3\"}],\"next\":null}",
                    other => panic!("asked for {other}"),
                }
            }),
        );
        let (args, common) = args(&["a b", "--all", "--app", "shop"]);
        assert_eq!(
            search(&Client::of_router(router), &args, &common)
                .await
                .unwrap(),
            3
        );
    }

    #[tokio::test]
    async fn a_bad_query_is_wrong_usage_and_shown_with_its_place() {
        let router = Router::new().route(
            "/search",
            get(|| async {
                let body = r#"{"code":"bad_query","errors":{"q":[{"position":2,"length":1,"expected":[],"message":"no"}]}}"#;
                (StatusCode::BAD_REQUEST, body)
            }),
        );
        let (args, common) = args(&["a ("]);
        let error = search(&Client::of_router(router), &args, &common)
            .await
            .unwrap_err();
        assert!(matches!(error, Failure::Usage(_)));
        assert!(error.to_string().contains("  a (\n    ^\n  no"), "{error}");
    }

    #[test]
    fn every_event_is_one_line() {
        let events: Vec<Box<RawValue>> = serde_json::from_str("[{\"a\":\r\n1.10}, 2]").unwrap();
        assert_eq!(lines(&events), "{\"a\":  1.10}\n2\n");
    }
}
