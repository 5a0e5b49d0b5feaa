//! `eye replay` (also `eye log replay`): the events of a log once more, to another service, to standard output, or into
//! the index.

mod batches;
mod into_index;
mod pace;
mod to_server;

use super::{
    Common, Failure, Outcome,
    log::{
        log_folder,
        records::{Records, Selection, time},
    },
    note,
    progress::Progress,
    unprinted,
};
use batches::Batches;
use eye_log::Offset;
use pace::Pace;
use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Instant,
};

/// Drive the log's events through another service, to standard output, or through the indexer once more
///
/// To a service (--to URL --token T) events go with their ids, so that replaying them again stores nothing twice, and a run
/// that was stopped goes on where it was when the same command is run again. An admin's token sends the events of
/// every application, and registers there what is missing; an application's token sends its own. Events arrive anew:
/// received_at is the time of the replay. To standard output they come as NDJSON that `eye send` takes.
/// Both read the files only, beside a running server or on a copy. Into the index (--into index) the whole log is driven,
/// with no server running: the index is made anew.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye replay --to http://10.0.0.5:8001 --token eye_a_…\n  \
                        eye replay --since now-1d --speed 10x --to http://127.0.0.1:9001 --token eye_a_…\n  \
                        eye replay --app shop --rate 500/s | eye send --app shop --data /tmp/other\n  \
                        eye replay --into index"
)]
pub(crate) struct ReplayArgs {
    /// Send the events to this service, under --token
    #[arg(long, value_name = "URL", conflicts_with = "into")]
    to: Option<String>,
    /// Make the index anew from the whole log
    #[arg(long, value_name = "index", value_parser = ["index"],
          conflicts_with_all = ["from", "until", "since", "segment", "app", "rate", "speed", "again"])]
    into: Option<String>,
    /// Begin with this offset
    #[arg(long, value_name = "OFFSET")]
    from: Option<Offset>,
    /// End before this offset
    #[arg(long, value_name = "OFFSET")]
    until: Option<Offset>,
    /// Only events that arrived at this time or later (RFC 3339, a date, now-15m)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Only the segment that begins with this offset; may be repeated
    #[arg(long, value_name = "BASE")]
    segment: Vec<Offset>,
    /// Only the events of this application
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// At most so many events a second, e.g. 500/s
    #[arg(long, value_name = "N/s", value_parser = pace::rate, conflicts_with = "speed")]
    rate: Option<f64>,
    /// As fast as the events arrived, times this, e.g. 10x
    #[arg(long, value_name = "N×", value_parser = pace::speed)]
    speed: Option<f64>,
    /// Begin from the start although an earlier run got further
    #[arg(long, requires = "to")]
    again: bool,
}

pub(crate) async fn run(args: &ReplayArgs, common: &Common) -> Result<Outcome, Failure> {
    common.folder_only("replay")?;
    let folder = log_folder(common)?;
    if args.into.is_some() {
        return into_index::run(common).await;
    }
    let selection = Selection {
        from: args.from,
        until: args.until,
        since: args.since,
        segments: args.segment.clone(),
    };
    let records = Records::open(&folder, &selection)?;
    if let Some(name) = &args.app
        && records.registry().application_named(name).is_none()
    {
        return Err(Failure::Usage(format!(
            "the log has no application {name:?}; `eye app list` lists them"
        )));
    }
    match &args.to {
        Some(url) => to_server::run(args, url, records, common).await,
        None => to_standard_output(args, records).await,
    }
}

impl ReplayArgs {
    fn pace(&self) -> Pace {
        match (self.rate, self.speed) {
            (Some(rate), _) => Pace::Rate(rate),
            (None, Some(speed)) => Pace::Speed(speed),
            (None, None) => Pace::Unbound,
        }
    }
}

async fn to_standard_output(args: &ReplayArgs, records: Records) -> Result<Outcome, Failure> {
    let all = records.count();
    let first = records.first();
    let mut progress =
        (!io::stdout().is_terminal()).then(|| Progress::counting("replaying", "records"));
    let mut batches = Batches::start(records, args.app.clone(), args.pace())?;
    let started = Instant::now();
    while let Some(batch) = batches.next().await? {
        tokio::time::sleep_until((started + batch.due).into()).await;
        let mut out = io::stdout().lock();
        out.write_all(&batch.events.body)
            .and_then(|()| out.flush())
            .map_err(unprinted)?;
        if let Some(progress) = &mut progress {
            let done = batch.events.end.position.saturating_sub(first);
            progress.tick(done.min(all), Some(all), None);
        }
    }
    if all == 0 {
        note("nothing to replay");
    }
    Ok(Outcome::Done)
}
