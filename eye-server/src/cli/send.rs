//! `eye send`: events from NDJSON files or standard input into the log, in order, resumable.

pub(super) mod batch;
pub(super) mod delivery;
mod line_id;
pub(super) mod position;
pub(super) mod source;
pub(super) mod summary;
mod transfer;

use super::{Common, Failure, Outcome, note, print};
use crate::client::{Client, ClientError, MissingFolder};
use clap::ArgAction;
use delivery::Patience;
use serde_json::Value;
use source::Source;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use summary::Summary;
use tokio::sync::watch;
use transfer::Transfer;

const WITHOUT_PROGRESS: Duration = Duration::from_secs(600);
const WITHOUT_CONNECTION: Duration = Duration::from_secs(60);
/// How long to wait before a service that is starting is asked again.
const WHILE_STARTING: Duration = Duration::from_millis(500);

/// Send events from NDJSON files or standard input, plain, gzip or zstd
///
/// Every line is one event. A line without an id gets one made of the application, the file's content and the line's
/// number, so the same file sent again stores nothing new, and a run that was stopped goes on where it was when the
/// same command is run again. Refused lines are printed to standard error as FILE:LINE: field: message;
/// the exit status is then 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  eye send events.ndjson.zst --app shop\n  \
                        zcat old/*.gz | eye send --app shop\n  \
                        eye send *.ndjson --server http://10.0.0.5:8001 --token eye_w_…")]
pub(crate) struct SendArgs {
    /// Files to send, one after the other; none, or -, is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The application the events belong to; not needed with an application's token
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Send files once more although they were sent: makes no ids and keeps no position
    #[arg(long)]
    again: bool,
    /// How many events go into one request, at most
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Whether to wait and try again when the service is busy, full or gone
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    retry: bool,
}

/// Says what is sent where, apart from the files.
#[derive(Debug, Clone)]
struct Plan {
    /// The parameter `application`; none: the token says it.
    application: Option<String>,
    again: bool,
    batch_lines: usize,
    /// Where positions are kept; none: nowhere.
    positions: Option<PathBuf>,
    patience: Patience,
}

pub(crate) async fn run(args: &SendArgs, common: &Common) -> Result<Outcome, Failure> {
    if args.app.is_none() && common.token.is_none() {
        return Err(Failure::Usage(
            "whose events are these? --app NAME says it, or an application's --token".to_owned(),
        ));
    }
    let sources = sources(&args.files)?;
    let plan = Plan {
        application: args.app.clone(),
        again: args.again,
        batch_lines: usize::try_from(args.batch).unwrap_or(usize::MAX),
        positions: position::folder(),
        patience: patience(args.retry),
    };
    let client = common.client(MissingFolder::Make).await?;
    let (stopper, stop) = watch::channel(false);
    tokio::spawn(stop_on_signals(stopper));
    let mut summary = Summary::start();
    let result = send_all(&client, &sources, &plan, stop, &mut summary).await;
    client.close().await;
    if result.is_ok() || summary.sent() > 0 {
        print(&if common.json {
            summary.json().to_string()
        } else {
            summary.text()
        })?;
    }
    result?;
    Ok(if summary.refused_ever() > 0 {
        Outcome::No
    } else {
        Outcome::Done
    })
}

/// Says how long a sender goes on trying.
pub(super) fn patience(retry: bool) -> Patience {
    Patience {
        retry,
        without_progress: WITHOUT_PROGRESS,
        without_connection: WITHOUT_CONNECTION,
    }
}

fn sources(files: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    if files.is_empty() {
        return Ok(vec![Source::StandardInput]);
    }
    let mut sources = Vec::new();
    for file in files {
        let source = Source::of(file).map_err(|error| {
            Failure::Failed(format!(
                "cannot read {}: {error}; nothing was sent",
                file.display()
            ))
        })?;
        if source == Source::StandardInput && sources.contains(&source) {
            return Err(Failure::Usage(
                "standard input (-) can be read only once".to_owned(),
            ));
        }
        sources.push(source);
    }
    Ok(sources)
}

async fn send_all(
    client: &Client,
    sources: &[Source],
    plan: &Plan,
    stop: watch::Receiver<bool>,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let receiver = Receiver::ask(client, plan).await?;
    for source in sources {
        Transfer::new(source, plan, &receiver, client, stop.clone())
            .run(summary)
            .await?;
    }
    Ok(())
}

/// Names the log that the events go to, for the ids of lines and the names of positions.
#[derive(Debug, Clone)]
struct Receiver {
    store: String,
    application: String,
}

impl Receiver {
    /// Asks the service who it is, and whose token this is. It may not say: then its address stands for it.
    async fn ask(client: &Client, plan: &Plan) -> Result<Receiver, Failure> {
        let me = who_am_i(client, &plan.patience).await?;
        let store = me["store"].as_str().unwrap_or(client.place()).to_owned();
        let application = plan.application.as_deref().or(me["application"].as_str());
        if application.is_none() && !client.has_token() {
            return Err(Failure::Usage(
                "whose events are these? --app NAME says it".to_owned(),
            ));
        }
        Ok(Receiver {
            store,
            application: application.unwrap_or_default().to_owned(),
        })
    }
}

/// Gets `/me`; waits for a service that is only starting. One that does not know the path, or does not let this token
/// ask, answers nothing.
pub(super) async fn who_am_i(client: &Client, patience: &Patience) -> Result<Value, Failure> {
    let begun = Instant::now();
    loop {
        let problem = match client.get("/me").await {
            Ok(answer) => return Ok(answer.json().unwrap_or_default()),
            Err(ClientError::Refused(problem)) => problem,
            Err(error) => return Err(error.into()),
        };
        match problem.http_status.as_u16() {
            403 | 404 => return Ok(Value::Null),
            429 | 503 if patience.retry && begun.elapsed() < patience.without_connection => {
                tokio::time::sleep(WHILE_STARTING).await;
            }
            _ => return Err(ClientError::Refused(problem).into()),
        }
    }
}

/// Asks to stop on the first Ctrl-C or SIGTERM, and stops at once on the second.
pub(super) async fn stop_on_signals(stopper: watch::Sender<bool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return;
    };
    for round in 0.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if round > 0 {
            // The log on disk is as good as after a crash: whole, up to the last acknowledged event.
            std::process::exit(3);
        }
        let _ = stopper.send(true);
        note("\nstopping after the request under way; once more stops at once");
    }
}

#[cfg(test)]
mod tests;
