//! Everything that a page of metrics tells, looked at once.

use eye_index::IndexStatus;
use eye_log::{LogFigures, Offset};

use super::Metrics;
use super::process::Process;
use crate::routes::health::condition;
use crate::state::AppState;

/// The service at one moment.
pub(super) struct Seen<'a> {
    pub(super) state: &'a AppState,
    pub(super) metrics: &'a Metrics,
    pub(super) ready: bool,
    pub(super) condition: &'static str,
    pub(super) log: LogFigures,
    pub(super) durable_end: Offset,
    pub(super) index: IndexStatus,
    /// How long the oldest record has waited that cannot be found yet.
    pub(super) lag_seconds: f64,
    /// Erasures that are not done.
    pub(super) erasures_open: usize,
    /// How long the oldest of them has been open.
    pub(super) erasure_age_seconds: f64,
    pub(super) process: Process,
}

impl<'a> Seen<'a> {
    /// Looks. Asks the file system, and reads a record where the index lags. Blocks.
    pub(super) fn of(state: &'a AppState) -> Self {
        let now = eye_log::now();
        let since = |instant: i64| (now - instant).max(0) as f64 / 1e6;
        let (ready, condition, _) = condition(state);
        let index = state.index().status();
        let durable_end = state.reader().durable_end();
        let mut lag_seconds = 0.0;
        if index.indexed_through < durable_end
            && let Ok(arrived) = state.reader().lookup().arrived_at(index.indexed_through)
        {
            lag_seconds = since(arrived);
        }
        let open: Vec<i64> = state
            .log()
            .erasures()
            .iter()
            .filter(|erasure| erasure.certificate.is_none())
            .map(|erasure| erasure.requested_at)
            .collect();
        Self {
            state,
            metrics: state.metrics(),
            ready,
            condition,
            log: state.log().figures(),
            durable_end,
            index,
            lag_seconds,
            erasures_open: open.len(),
            erasure_age_seconds: open.iter().min().map_or(0.0, |oldest| since(*oldest)),
            process: Process::now(),
        }
    }
}
