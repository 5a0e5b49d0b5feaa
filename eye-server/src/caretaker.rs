//! Looks after the log beside the service: expires, erases, merges, and says what came of it.
//!
//! What must stay true: an erasure is done only when its bytes are gone from the log and from the index, and somebody
//! has looked.

use std::time::{Duration, Instant};

use eye_index::Needs;
use eye_log::compaction::{CompactError, CompactReport, Compaction, ErasedFromLog};
use eye_log::record::Record;
use eye_log::sealing::SealError;
use eye_log::{Actor, OffsetRanges, ReadError, format_timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Problem};
use crate::state::AppState;
use crate::tasks::Pulse;

/// How often retention is looked at.
const RETENTION_EVERY: Duration = Duration::from_secs(3600);
/// How long after the start sealed files are first read from the disk.
const SCRUB_AFTER_START: Duration = Duration::from_secs(600);
/// How often counts of requests that stored nothing are put into the log.
const TALLY_EVERY: Duration = Duration::from_secs(1);
/// How often it is noted when tokens were used.
const USAGE_EVERY: Duration = Duration::from_secs(60);
/// How often it looks whether there is something to erase.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Notes when tokens were last used. Blocks.
pub(crate) fn note_usage(state: &AppState) {
    if let Err(error) = state.usage().save(&state.log().registry()) {
        tracing::warn!(%error, "cannot note when tokens were last used");
    }
}

/// Puts the counts of requests that stored nothing into the log, every second while there are any.
async fn write_tallies(state: AppState) {
    while !state.is_stopping() {
        tokio::time::sleep(TALLY_EVERY).await;
        let inner = state.clone();
        let written = tokio::task::spawn_blocking(move || inner.log().write_tally()).await;
        if let Ok(Err(error)) = written {
            tracing::debug!(%error, "counts of what came to nothing wait for the next try");
        }
    }
}

/// Compacts the log, takes what is gone out of the index, and completes erasures. Blocks.
pub(crate) fn compact(
    state: &AppState,
    what: &Compaction,
    pulse: &Pulse,
) -> Result<Value, Problem> {
    let log = state.log();
    let result = log.compact(what, &mut |done, of| {
        pulse.tell(done, of);
        !pulse.is_cancelled()
    });
    let report = result.map_err(|error| problem(&error))?;
    if !what.dry_run {
        purge(state, &report)?;
        for erasure in &report.erasures {
            complete(state, erasure, what.by)?;
        }
    }
    let merged: usize = report
        .rewritten
        .iter()
        .map(|file| file.from.len())
        .filter(|files| *files > 1)
        .sum();
    let gone: usize = report
        .rewritten
        .iter()
        .map(|file| file.from.len() - 1)
        .sum();
    // Beside it other files may have been sealed.
    let files = log.reader().sealed_files().len();
    let (files_before, files_after) = if what.dry_run {
        (files, files.saturating_sub(gone))
    } else {
        (files + gone, files)
    };
    Ok(json!({
        "rewritten": report.rewritten.len(), "merged": merged, "expired": report.expired, "erased": report.erased,
        "files_before": files_before, "files_after": files_after,
        "bytes_before": report.bytes_before, "bytes_after": report.bytes_after,
    }))
}

/// Takes what the log no longer has out of the index.
fn purge(state: &AppState, report: &CompactReport) -> Result<(), Problem> {
    // What the log hides is hidden here too; what has just expired is not, until the indexes are without it.
    state.index().set_erased(report.gone.iter().collect());
    let pending: OffsetRanges = state
        .log()
        .erasures()
        .into_iter()
        .filter(|erasure| erasure.certificate.is_none())
        .flat_map(|erasure| erasure.ranges)
        .chain(report.gone.iter())
        .collect();
    let purged = state.index().purge(pending.iter().collect());
    purged.map_err(|error| {
        Problem::new(
            Code::Damaged,
            format!("What is gone from the log could not be taken out of the index: {error}."),
        )
    })?;
    state.index().set_erased(Vec::new());
    Ok(())
}

/// Writes an erasure's certificate into the log.
fn complete(state: &AppState, erasure: &ErasedFromLog, by: Actor) -> Result<(), Problem> {
    if erasure.found > 0 {
        return Err(Problem::new(
            Code::Damaged,
            format!(
                "Erasure {} is not done: {} of its events are still in the log.",
                erasure.id, erasure.found
            ),
        ));
    }
    let hash = |hash: &[u8]| {
        hash.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let segments: Vec<Value> = erasure
        .segments
        .iter()
        .map(|(base, before, after)| {
            json!({"base_offset": base, "before": hash(before), "after": hash(after)})
        })
        .collect();
    let mut certificate = json!({
        "segments": segments, "checked_at": format_timestamp(eye_log::now()), "found": erasure.found,
    });
    let sum = Sha256::digest(certificate.to_string().as_bytes());
    certificate["sha256"] = json!(hash(&sum));
    state
        .log()
        .complete_erasure(erasure.id, by, certificate.to_string())
        .map_err(Problem::from)
}

fn problem(error: &CompactError) -> Problem {
    match error {
        CompactError::Append(error) => Problem::from(error.clone()),
        CompactError::Seal(SealError::Read(error @ ReadError::Damaged(_))) => {
            Problem::from(error.clone())
        }
        CompactError::ClockJumped { .. } => {
            Problem::new(Code::Conflict, format!("Nothing was done: {error}."))
                .detail("`eye compact --confirm` does it all the same.")
        }
        CompactError::Stopped => Problem::new(Code::Conflict, "The task was cancelled."),
        CompactError::Seal(_) => Problem::new(
            Code::Damaged,
            format!("The log could not be compacted: {error}."),
        )
        .detail("What was done until then counts, and the log is as sound as before."),
    }
}

/// Takes out of the index what the log lost before: the process may have ended between the two.
pub(crate) fn mend_index(state: &AppState) -> Result<(), Problem> {
    let files = state.reader().sealed_files();
    let Some(end) = files.last().map(|file| file.end) else {
        return Ok(());
    };
    while state.index().wait_for(Needs::Both, end, LOOK_EVERY) < end {
        if state.is_stopping() {
            return Ok(());
        }
    }
    let mut gone = OffsetRanges::default();
    for file in state.index().disagrees(&files) {
        let mut scan = state.reader().scan(file.base);
        while scan.next_offset() < file.end {
            scan.read(|offset, record| {
                if matches!(record, Record::Gone(_)) {
                    gone.insert(offset..offset + 1);
                }
            })?;
        }
    }
    if !gone.is_empty() && state.reader().erased().is_empty() {
        tracing::warn!("the index holds events that the log has lost; they are taken out");
        let report = CompactReport {
            gone,
            ..CompactReport::default()
        };
        purge(state, &report)?;
    }
    Ok(())
}

/// How long a scrub sleeps at most before it looks whether the service stops.
const SCRUB_NAP: Duration = Duration::from_millis(200);

/// Reads all sealed files from the disk over and over, slowly. Blocks until the service stops.
fn scrub(state: &AppState) {
    let settings = state.settings();
    let (interval, rate) = (settings.scrub_interval, settings.scrub_rate.max(1));
    let nap = |until: Instant| {
        while Instant::now() < until && !state.is_stopping() {
            std::thread::sleep(SCRUB_NAP.min(until - Instant::now().min(until)));
        }
        !state.is_stopping()
    };
    // The start of a service has other work, and a service that is restarted often is not to read all the time.
    let mut due = Instant::now() + interval.min(SCRUB_AFTER_START);
    while nap(due) {
        due = Instant::now() + interval;
        let mut resume = Instant::now();
        let passed = state.log().scrub(&mut |bytes| {
            resume += Duration::from_secs_f64(bytes as f64 / rate as f64);
            nap(resume)
        });
        match passed {
            Ok(report) if report.stopped => {}
            Ok(report) => {
                state.metrics().scrubbed(report.files, report.bytes);
                tracing::info!(
                    files = report.files,
                    bytes = report.bytes,
                    damaged = state.log().damage().len(),
                    "every sealed file was read from the disk"
                );
            }
            Err(error) => tracing::error!(%error, "the disk could not be read"),
        }
    }
}

/// Looks after the log for as long as the service runs: retention once an hour, erasures within their deadline.
pub(crate) async fn run(state: AppState) {
    let inner = state.clone();
    let mended = tokio::task::spawn_blocking(move || mend_index(&inner)).await;
    if let Ok(Err(problem)) = mended {
        tracing::error!(?problem, "the index could not be compared with the log");
    }
    if !state.settings().scrub_interval.is_zero() {
        let inner = state.clone();
        let spawned = std::thread::Builder::new()
            .name("eye-scrub".to_owned())
            .spawn(move || scrub(&inner));
        if let Err(error) = spawned {
            tracing::error!(%error, "sealed files are not checked in the background");
        }
    }
    tokio::spawn(write_tallies(state.clone()));
    let mut retention_due = tokio::time::Instant::now() + RETENTION_EVERY;
    let mut usage_due = tokio::time::Instant::now() + USAGE_EVERY;
    loop {
        let deadline = state.settings().erasure_deadline;
        tokio::time::sleep(LOOK_EVERY.min(deadline / 4)).await;
        if state.is_stopping() {
            return;
        }
        if tokio::time::Instant::now() >= usage_due {
            usage_due += USAGE_EVERY;
            let inner = state.clone();
            // One that panicked has left its message in the log.
            let _ = tokio::task::spawn_blocking(move || note_usage(&inner)).await;
        }
        // A fraction of the deadline is waited for, so that many erasures are one compaction.
        let patience = i64::try_from((deadline / 24).as_micros()).unwrap_or(i64::MAX);
        let now = eye_log::now();
        let erase =
            state.log().erasures().iter().any(|erasure| {
                erasure.certificate.is_none() && now - erasure.requested_at >= patience
            });
        let expire = tokio::time::Instant::now() >= retention_due;
        if !erase && !expire {
            continue;
        }
        if expire {
            retention_due = tokio::time::Instant::now() + RETENTION_EVERY;
        }
        let inner = state.clone();
        let task = state.tasks().start("compact", "bytes", move |pulse| {
            compact(&inner, &Compaction::default(), pulse)
        });
        if let Some(task) = task {
            task.ended().await;
        }
    }
}
