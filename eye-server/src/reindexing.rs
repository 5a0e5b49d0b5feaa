//! The index made anew from the log, beside the one that answers, whose place it then takes.
//!
//! What must stay true: reads are answered all the while, and at whatever instant the process ends, the next start finds
//! an index that is whole, or none, which grows back.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use eye_index::search::facets::{FacetOptions, FieldColumns};
use eye_index::{Index, Needs};
use eye_log::{ApplicationId, Offset};
use serde_json::{Value, json};

use crate::caretaker;
use crate::error::{Code, Problem};
use crate::listing;
use crate::state::AppState;
use crate::tasks::Pulse;

/// Where an index grows, in the data folder.
const GROWING: &str = "index.new";
/// Where the index before goes, in the data folder, until it is removed.
const BEFORE: &str = "index.old";
/// How often it is looked at how far the new index is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an index that does not go on and says why is waited for.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// How long the index before may take to catch up, to be counted.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Removes what a process left that ended while it made an index. The log's lock must be held.
pub(crate) fn remove_leftovers(data: &Path) -> io::Result<()> {
    remove(&data.join(GROWING))?;
    remove(&data.join(BEFORE))
}

/// Makes the index anew, then answers from it. Returns the events and sessions that both count, by application. Blocks.
pub(crate) fn reindex(state: &AppState, pulse: &Pulse) -> Result<Value, Problem> {
    let made = make_anew(state, pulse);
    // What was erased must not stay in a folder that nobody looks after.
    let removed = remove_leftovers(&state.settings().data).map_err(failed);
    made.and_then(|result| removed.map(|()| result))
}

fn make_anew(state: &AppState, pulse: &Pulse) -> Result<Value, Problem> {
    let data = &state.settings().data;
    let growing = data.join(GROWING);
    let started = Instant::now();
    remove_leftovers(data).map_err(failed)?;
    let new =
        Index::open(&growing, state.log(), state.settings().index_config()).map_err(failed)?;
    let Some(as_of) = grown(state, &new, pulse)? else {
        new.close();
        return Ok(Value::Null);
    };
    let old = state.index();
    let old_through = old.wait_for(Needs::Both, as_of, CATCH_UP).min(as_of);
    let counted = diff(state, &old, old_through, &new, as_of)?;
    new.close();
    // Its files are locked until it is gone.
    drop(new);
    take_place(state, &old).map_err(|problem| {
        tracing::error!(
            ?problem,
            "the new index could not take its place: nothing is indexed until a restart, after which the index grows back"
        );
        problem
    })?;
    drop(old);
    remove(&data.join(BEFORE)).map_err(failed)?;
    // What the log has lost meanwhile.
    caretaker::mend_index(state)?;
    let mut result = counted;
    result["records"] = json!(as_of);
    result["seconds"] = json!(started.elapsed().as_secs_f64());
    Ok(result)
}

/// Waits until the index has all of the log; returns how far that is, or `None` when nobody wants it any more.
fn grown(state: &AppState, new: &Index, pulse: &Pulse) -> Result<Option<Offset>, Problem> {
    let (mut furthest, mut moved) = (0, Instant::now());
    loop {
        let end = state.reader().durable_end();
        let through = new.wait_for(Needs::Both, end, LOOK_EVERY).min(end);
        pulse.tell(through, end);
        if pulse.is_cancelled() {
            return Ok(None);
        }
        if state.is_stopping() {
            return Err(failed("the service stops"));
        }
        if through >= end {
            return Ok(Some(end));
        }
        if through > furthest {
            (furthest, moved) = (through, Instant::now());
        }
        if let Some(trouble) = new
            .status()
            .trouble
            .filter(|_| moved.elapsed() > STUCK_AFTER)
        {
            new.close();
            return Err(failed(format!(
                "it does not go on at record {through}: {trouble}"
            )));
        }
    }
}

/// Puts the folder of the new index, which is closed, in the place of the old one's, and opens it. Reads are answered
/// from the old one meanwhile, as far as it was.
fn take_place(state: &AppState, old: &Index) -> Result<(), Problem> {
    let data = &state.settings().data;
    let index = data.join("index");
    old.close();
    fs::rename(&index, data.join(BEFORE)).map_err(failed)?;
    fs::rename(data.join(GROWING), &index).map_err(failed)?;
    fs::File::open(data)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)?;
    let opened =
        Index::open(&index, state.log(), state.settings().index_config()).map_err(failed)?;
    state.set_index(opened);
    Ok(())
}

/// Returns `{"same", "through": {"old", "new"}, "total": {"events": {"old", "new"}, "sessions": {"old", "new"}},
/// "applications": [{"name", "events", "sessions"}]}`. What the old index cannot count is null.
fn diff(
    state: &AppState,
    old: &Index,
    old_through: Offset,
    new: &Index,
    as_of: Offset,
) -> Result<Value, Problem> {
    let mut same = true;
    let mut both = |application: Option<ApplicationId>| -> Result<Value, Problem> {
        let now = counts(state, new, application, as_of)?;
        let before = counts(state, old, application, old_through).ok();
        same &= before == Some(now);
        Ok(json!({
            "events": {"old": before.map(|counts| counts.0), "new": now.0},
            "sessions": {"old": before.map(|counts| counts.1), "new": now.1},
        }))
    };
    let total = both(None)?;
    let mut applications = Vec::new();
    for application in state.log().registry().applications() {
        let mut row = both(Some(application.id))?;
        row["name"] = json!(application.name);
        applications.push(row);
    }
    Ok(json!({
        "same": same, "through": {"old": old_through, "new": as_of}, "total": total, "applications": applications,
    }))
}

/// Counts the events and sessions that an index has, of one application or of all. Blocks.
fn counts(
    state: &AppState,
    index: &Index,
    application: Option<ApplicationId>,
    as_of: Offset,
) -> Result<(u64, u64), Problem> {
    let mut all = listing::every_event(state, application, as_of)?;
    // Nobody waits for this one.
    all.deadline = None;
    let options = FacetOptions {
        size: 0,
        times: false,
    };
    let (events, figures) = index.facets(&all, &[FieldColumns::Session], options)?;
    Ok((
        events,
        figures.first().map_or(0, |figures| figures.distinct),
    ))
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(cause: impl std::fmt::Display) -> Problem {
    Problem::new(
        Code::Damaged,
        format!("The index could not be made anew: {cause}."),
    )
}
