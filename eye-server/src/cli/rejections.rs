//! `eye rejections`: what was refused and why, and sending it again.

use super::table::{Align, Table};
use super::{Common, Failure, Outcome, figures, print, read_whole, task};
use crate::client::{Client, ClientError, MissingFolder, encoded};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use eye_client::Answer;
use serde_json::Value;

/// Show what was refused and why, or send it again
///
/// Without anything, the newest are listed; with an ID, one is shown with what was sent. An event that was refused is kept as
/// it came, within `rejections_max_bytes` and `rejections_max_age`; sent again it is judged by the rules of now, and stored once.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye rejections --summary\n  eye rejections --app shop --reason invalid_event\n  \
                        eye rejections 0d5e… --retry\n  eye rejections 0d5e… --retry --with mended.json\n  \
                        eye rejections --reason future_timestamp --retry"
)]
pub(crate) struct RejectionsArgs {
    /// One of them
    #[arg(value_name = "ID", conflicts_with_all = ["app", "reason", "from", "to", "state", "summary", "limit"])]
    id: Option<String>,
    /// Of this application only
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Of this code only, such as invalid_event
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Received then or later: RFC 3339, a date, or now-1h
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Received before
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only those that are open, or that were retried
    #[arg(long, value_parser = ["open", "retried"])]
    state: Option<String>,
    /// Count the open ones by application and reason
    #[arg(long, conflicts_with = "retry")]
    summary: bool,
    /// How many are listed, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u16,
    /// Send it again; without an ID, every open one of --reason
    #[arg(long)]
    retry: bool,
    /// What is sent instead of what was refused: a file with one event, or - for standard input
    #[arg(long, value_name = "FILE", requires_all = ["id", "retry"])]
    with: Option<String>,
}

pub(crate) async fn run(args: &RejectionsArgs, common: &Common) -> Result<Outcome, Failure> {
    // A file that is none is found out before the folder is opened.
    let corrected = args.with.as_deref().map(corrected).transpose()?;
    let client = common.client(MissingFolder::Refuse).await?;
    let asked = match (&args.id, args.retry) {
        (Some(id), false) => client.get(&format!("/rejections/{}", encoded(id))).await,
        (Some(id), true) => send_again(&client, id, corrected).await,
        (None, true) => {
            let path = format!("/rejections/retry?{}", args.narrowed());
            let begun = client.call(Method::POST, &path, None).await;
            let ended = match begun.and_then(|begun| begun.json()) {
                Ok(task) => task::watch(&client, task, "sending again").await,
                Err(error) => Err(error.into()),
            };
            client.close().await;
            return told(&ended?, common);
        }
        (None, false) => {
            let more = if args.summary {
                "summary=true".to_owned()
            } else {
                format!("limit={}", args.limit)
            };
            let path = format!("/rejections?{more}&{}", args.narrowed());
            client.get(&path).await
        }
    };
    client.close().await;
    let answer: Value = asked?.json()?;
    if common.json {
        print(&answer.to_string())?;
        return Ok(Outcome::Done);
    }
    match (&args.id, args.retry) {
        (Some(_), true) => print(&format!(
            "stored as event {} at offset {}",
            text(&answer["id"]),
            answer["offset"]
        ))?,
        (Some(_), false) => print(&in_words(&answer))?,
        (None, _) if args.summary => summary(&answer)?,
        (None, _) => list(&answer)?,
    }
    Ok(Outcome::Done)
}

/// Returns what a file holds. An empty one would send what was refused.
fn corrected(file: &str) -> Result<Bytes, Failure> {
    let whole = read_whole(file)?;
    if whole.trim_ascii().is_empty() {
        return Err(Failure::Usage(format!(
            "--with: {file} is empty; without --with the event is sent again as it was"
        )));
    }
    Ok(whole.into())
}

async fn send_again(
    client: &Client,
    id: &str,
    corrected: Option<Bytes>,
) -> Result<Answer, ClientError> {
    let path = format!("/rejections/{}/retry", encoded(id));
    let mut headers = HeaderMap::new();
    if corrected.is_some() {
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
    }
    let body = corrected.unwrap_or_default();
    client
        .request(Method::POST, &path, headers, body)
        .await?
        .or_problem()
}

/// Says what came of sending many again.
fn told(result: &Value, common: &Common) -> Result<Outcome, Failure> {
    let number = |name: &str| figures::count(result[name].as_u64().unwrap_or(0));
    print(&if common.json {
        result.to_string()
    } else {
        let (stored, known, refused) = (number("stored"), number("duplicates"), number("rejected"));
        format!("{stored} stored, {known} stored before, {refused} refused again")
    })?;
    Ok(Outcome::Done)
}

impl RejectionsArgs {
    /// Returns what narrows the list, as a query string.
    fn narrowed(&self) -> String {
        let given = [
            ("application", &self.app),
            ("reason", &self.reason),
            ("from", &self.from),
            ("to", &self.to),
            ("state", &self.state),
        ];
        let pairs = given.into_iter().filter_map(|(name, value)| {
            let value = value.as_ref()?;
            Some(format!("{name}={}", encoded(value)))
        });
        pairs.collect::<Vec<_>>().join("&")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Returns every message with its field.
fn why(rejection: &Value) -> String {
    let fields = rejection["errors"].as_object();
    let each = fields.into_iter().flatten().map(|(field, messages)| {
        let messages = messages.as_array().into_iter().flatten();
        let messages: Vec<&str> = messages.map(text).collect();
        format!("{field}: {}", messages.join(" "))
    });
    each.collect::<Vec<_>>().join("; ")
}

fn in_words(rejection: &Value) -> String {
    let body = match &rejection["body"] {
        Value::String(body) => body.clone(),
        _ => format!("(no UTF-8, in Base64) {}", text(&rejection["body_base64"])),
    };
    format!(
        "{} of {}, received {}, {}\n{}\n\n{body}{}",
        text(&rejection["code"]),
        text(&rejection["application"]),
        text(&rejection["received_at"]),
        text(&rejection["state"]),
        why(rejection),
        if rejection["truncated"] == true {
            "\n… and more, which is not kept"
        } else {
            ""
        }
    )
}

fn summary(answer: &Value) -> Result<(), Failure> {
    let rows = answer["summary"].as_array().cloned().unwrap_or_default();
    if rows.is_empty() {
        return print("nothing is open");
    }
    let mut table = Table::new(&[
        ("application", Align::Left),
        ("reason", Align::Left),
        ("open", Align::Right),
        ("first", Align::Left),
        ("last", Align::Left),
    ]);
    for row in &rows {
        table.push([
            text(&row["application"]).to_owned(),
            text(&row["reason"]).to_owned(),
            row["count"].to_string(),
            text(&row["first"]).to_owned(),
            text(&row["last"]).to_owned(),
        ]);
    }
    table.print()
}

fn list(answer: &Value) -> Result<(), Failure> {
    let rows = answer["rejections"].as_array().cloned().unwrap_or_default();
    if rows.is_empty() {
        return print("nothing was refused");
    }
    let mut table = Table::new(&[
        ("received", Align::Left),
        ("application", Align::Left),
        ("reason", Align::Left),
        ("state", Align::Left),
        ("id", Align::Left),
        ("why", Align::Left),
    ]);
    for row in &rows {
        table.push([
            text(&row["received_at"]).to_owned(),
            text(&row["application"]).to_owned(),
            text(&row["code"]).to_owned(),
            text(&row["state"]).to_owned(),
            text(&row["id"]).to_owned(),
            why(row),
        ]);
    }
    table.print()?;
    if answer["next"].is_string() {
        print("… and older ones; --limit shows more, --from and --to others")?;
    }
    Ok(())
}
