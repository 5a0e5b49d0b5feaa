//! `eye erase`: has sessions, or what a query finds, forgotten.

use super::{Common, Failure, Outcome, figures, print};
use crate::client::{MissingFolder, encoded};
use axum::http::Method;
use serde_json::{Value, json};

/// Have sessions, or what a query finds, forgotten for good
///
/// The events vanish from every answer at once. Their bytes leave the log and the index at the next compaction, which
/// starts by itself within `erasure_deadline` (24 h) while the service runs, or with `eye compact`; then `eye erase
/// --status ID` shows the certificate. Offsets are never used again. Backups taken before still hold the events.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye erase --session 6f3c1c1e-8f0b-4a57-9d8b-0d7f1f2b3c4d\n  \
                        eye erase --q 'user:alice@example.com'\n  eye erase --status 0d5e…"
)]
#[group(required = true, multiple = false)]
pub(crate) struct EraseArgs {
    /// A session; may be given several times
    #[arg(long, value_name = "ID")]
    session: Vec<String>,
    /// What a search for this finds, as of now
    #[arg(long, value_name = "Q")]
    q: Option<String>,
    /// Show how far an erasure is
    #[arg(long, value_name = "ERASURE")]
    status: Option<String>,
}

pub(crate) async fn run(args: &EraseArgs, common: &Common) -> Result<Outcome, Failure> {
    let client = common.client(MissingFolder::Refuse).await?;
    let asked = match (&args.status, &args.q) {
        (Some(id), _) => client.get(&format!("/erasures/{}", encoded(id))).await,
        (None, Some(q)) => {
            let body = json!({ "q": q });
            client.call(Method::POST, "/erasures", Some(&body)).await
        }
        (None, None) => {
            let body = json!({ "session_ids": args.session });
            client.call(Method::POST, "/erasures", Some(&body)).await
        }
    };
    client.close().await;
    let erasure: Value = asked?.json()?;
    print(&if common.json {
        erasure.to_string()
    } else {
        in_words(&erasure)
    })?;
    Ok(Outcome::Done)
}

fn in_words(erasure: &Value) -> String {
    let text = |name: &str| erasure[name].as_str().unwrap_or("-");
    let events = figures::count(erasure["events"].as_u64().unwrap_or(0));
    let mut words = format!("erasure {}: {events} events, {}", text("id"), text("state"));
    let certificate = &erasure["certificate"];
    if certificate.is_object() {
        let segments = certificate["segments"].as_array().map_or(0, Vec::len);
        words += &format!(
            "; {segments} segments rewritten, {} events found when looked for at {}",
            certificate["found"],
            certificate["checked_at"].as_str().unwrap_or("-")
        );
    } else {
        words += "; hidden now, gone from every file after the next compaction";
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_from_a_promise() {
        let hidden = json!({"id": "x", "state": "hidden", "events": 1200});
        assert!(in_words(&hidden).starts_with("erasure x: 1,200 events, hidden; hidden now"));
        let done = json!({"id": "x", "state": "done", "events": 1,
                          "certificate": {"segments": [{}, {}], "found": 0, "checked_at": "T"}});
        assert_eq!(
            in_words(&done),
            "erasure x: 1 events, done; 2 segments rewritten, 0 events found when looked for at T"
        );
    }
}
