//! `eye tail`: events as they come, as columns on a terminal and as NDJSON in a pipe.

use super::search::{explained, rows::Rows};
use super::{Common, Failure, Outcome, note, unprinted};
use crate::client::{Client, ClientError, encoded};
use axum::http::{HeaderMap, HeaderValue};
use serde_json::{Value, value::RawValue};
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

/// How long to wait before a lost connection is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// Follow events as they come
///
/// On a terminal the events come as aligned columns; in a pipe, or with --json, as NDJSON. A connection that is lost is opened again
/// where it ended, so that no event is missed; events that are gone meanwhile are told of on standard error. Ends with Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye tail\n  eye tail 'name:error' --app shop\n  eye tail --from 0 | jq .data"
)]
pub(crate) struct TailArgs {
    /// The query; without it, everything
    #[arg(value_name = "Q", default_value = "")]
    query: String,
    /// Only events of this application
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// From this offset on, instead of from now on
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

pub(crate) async fn run(args: &TailArgs, common: &Common) -> Result<Outcome, Failure> {
    let Some(client) = common.running().await? else {
        return Err(Failure::Failed(
            "no server runs on this folder, so nothing new comes; `eye search` looks at what is there".to_owned(),
        ));
    };
    let mut follower = Follower {
        columns: (io::stdout().is_terminal() && !common.json).then(Rows::default),
        last: None,
        left: args.limit.unwrap_or(u64::MAX),
        text: String::new(),
    };
    loop {
        match follower.follow(&client, args).await {
            Ok(()) if follower.left == 0 => return Ok(Outcome::Done),
            // The service stops, or lost the connection: it may be there again in a moment.
            Ok(()) => note("the tail ended; going on where it was"),
            Err(Failure::Failed(cause)) if follower.last.is_some() => {
                note(&format!("eye: {cause}; trying again"))
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

struct Follower {
    columns: Option<Rows>,
    last: Option<u64>,
    left: u64,
    /// What has come of the next thing said.
    text: String,
}

impl Follower {
    /// Follows one connection to its end.
    async fn follow(&mut self, client: &Client, args: &TailArgs) -> Result<(), Failure> {
        let mut path = format!("/tail?q={}", encoded(&args.query));
        if let Some(app) = &args.app {
            path.push_str(&format!("&application={}", encoded(app)));
        }
        let mut headers = HeaderMap::new();
        match (self.last, args.from) {
            (Some(last), _) => drop(headers.insert("last-event-id", HeaderValue::from(last))),
            (None, Some(from)) => path.push_str(&format!("&from={from}")),
            (None, None) => {}
        }
        let opened = client.open_stream(&path, headers).await;
        let mut answer = opened.map_err(|error| explained(&args.query, error))?;
        let mut bytes: Vec<u8> = Vec::new();
        self.text.clear();
        while let Some(piece) = answer.next().await? {
            bytes.extend_from_slice(&piece);
            // A piece may end within a character.
            let whole = match std::str::from_utf8(&bytes) {
                Ok(text) => text.len(),
                Err(error) => error.valid_up_to(),
            };
            self.text
                .push_str(&String::from_utf8_lossy(&bytes[..whole]));
            bytes.drain(..whole);
            while let Some(end) = self.text.find("\n\n") {
                let said: String = self.text.drain(..end + 2).collect();
                self.take(&said)?;
                if self.left == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, said: &str) -> Result<(), Failure> {
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
        if let Some(id) = field("id: ").and_then(|id| id.parse().ok()) {
            self.last = Some(id);
        }
        let data = field("data: ").unwrap_or("null");
        match field("event: ") {
            Some("event") => self.show(data),
            Some("gap") => {
                let gap: Value = serde_json::from_str(data).unwrap_or_default();
                note(&format!(
                    "offsets {} to {} are left out: {}",
                    gap["from"],
                    gap["to"],
                    gap["reason"].as_str().unwrap_or("gone")
                ));
                Ok(())
            }
            Some("end") => {
                let end: Value = serde_json::from_str(data).unwrap_or_default();
                match end["reason"].as_str() {
                    Some("revoked") => {
                        Err(Failure::Usage("the token is no longer accepted".to_owned()))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn show(&mut self, data: &str) -> Result<(), Failure> {
        let event: Box<RawValue> = serde_json::from_str(data).map_err(|error| {
            ClientError::Garbled(format!("an event was not understood: {error}"))
        })?;
        let text = match &mut self.columns {
            Some(rows) => rows.render(&[event]),
            None => format!("{}\n", event.get()),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(unprinted)?;
        self.left -= 1;
        Ok(())
    }
}
