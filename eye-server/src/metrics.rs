//! What the service counts while it runs.
//!
//! What must stay true: a label's value is one of a set that is known when the program is built. Nothing that a client
//! sends becomes one, so the number of series has a bound and no series tells what events hold.

mod families;
mod process;
mod seen;
mod text;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use eye_log::{Exception, Histogram, Receipt};

use crate::error::{Code, Problem};

#[cfg(test)]
pub(crate) use families::FAMILIES;
pub(crate) use text::{CONTENT_TYPE, page};

/// The upper ends of ranges of how long answers take, microseconds.
const ANSWER_MICROS: &[u64] = &[
    500, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
/// Other methods are counted as the last of these.
const METHODS: [&str; 8] = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other",
];
/// What the service answers with; other statuses are counted as the last of these.
const STATUSES: [u16; 24] = [
    200, 201, 202, 204, 206, 207, 304, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 416, 429,
    500, 503, 504, 507, 0,
];
/// The route of a path that is none.
const NO_ROUTE: &str = "none";

/// How a query can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueryEnd {
    Done,
    /// It was wrong, or what it asks for is not there.
    Refused,
    /// It took longer than `query_deadline`.
    Timeout,
    /// No turn came within the deadline.
    Overloaded,
    Failed,
}

/// The names of [`QueryEnd`], in its order.
pub(crate) const QUERY_ENDS: [&str; 5] = ["done", "refused", "timeout", "overloaded", "failed"];

/// Where connections come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The address or socket that `listen` names.
    Public,
    /// `eye.sock` in the data folder.
    Owner,
    /// What `metrics_listen` names.
    Metrics,
}

/// The names of [`Door`], in its order.
pub(crate) const DOORS: [&str; 3] = ["public", "owner", "metrics"];

/// Counts of one process; they begin at 0 with it.
#[derive(Debug)]
pub(crate) struct Metrics {
    routes: HashMap<&'static str, Route>,
    pub(crate) in_flight: AtomicI64,
    sent_bytes: AtomicU64,
    stored: AtomicU64,
    duplicates: AtomicU64,
    rejected: AtomicU64,
    query_micros: Histogram,
    queries: [AtomicU64; QUERY_ENDS.len()],
    connections: [ConnectionCounts; DOORS.len()],
    pub(crate) connections_refused: AtomicU64,
    certificates_read: [AtomicU64; 2],
    scrub: Scrub,
}

/// The requests of a path, by method; made when the first one comes.
type Route = [OnceLock<Box<Requests>>; METHODS.len()];

#[derive(Debug)]
struct Requests {
    by_status: [AtomicU64; STATUSES.len()],
    micros: Histogram,
}

#[derive(Debug, Default)]
struct ConnectionCounts {
    open: AtomicI64,
    accepted: AtomicU64,
}

#[derive(Debug, Default)]
struct Scrub {
    files: AtomicU64,
    bytes: AtomicU64,
    /// Unix microseconds; 0 for never.
    ended_at: AtomicI64,
}

/// Counts no routes, for a service that is not open yet.
impl Default for Metrics {
    fn default() -> Self {
        Self::new([])
    }
}

/// Is one of what is counted; no longer when dropped.
pub(crate) struct Present<'a>(&'a AtomicI64);

impl<'a> Present<'a> {
    pub(crate) fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts the requests of these paths.
    pub(crate) fn new(paths: impl IntoIterator<Item = &'static str>) -> Self {
        let routes = paths.into_iter().chain([NO_ROUTE]);
        Self {
            routes: routes.map(|path| (path, Route::default())).collect(),
            in_flight: AtomicI64::new(0),
            sent_bytes: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            query_micros: Histogram::new(ANSWER_MICROS),
            queries: Default::default(),
            connections: Default::default(),
            connections_refused: AtomicU64::new(0),
            certificates_read: Default::default(),
            scrub: Scrub::default(),
        }
    }

    /// Returns the name under which a matched path is counted.
    pub(crate) fn route(&self, matched: Option<&str>) -> &'static str {
        let path = match matched {
            Some("/") => "/",
            Some(path) => path.trim_end_matches('/'),
            None => NO_ROUTE,
        };
        self.routes
            .get_key_value(path)
            .map_or(NO_ROUTE, |(path, _)| path)
    }

    /// Counts an answer whose beginning took so long.
    pub(crate) fn answered(
        &self,
        route: &'static str,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let Some(route) = self.routes.get(route) else {
            return;
        };
        let last = METHODS.len() - 1;
        let place = METHODS.iter().position(|known| *known == method.as_str());
        let requests = route[place.unwrap_or(last)].get_or_init(|| {
            Box::new(Requests {
                by_status: Default::default(),
                micros: Histogram::new(ANSWER_MICROS),
            })
        });
        let last = STATUSES.len() - 1;
        let place = STATUSES.iter().position(|known| *known == status.as_u16());
        requests.by_status[place.unwrap_or(last)].fetch_add(1, Ordering::Relaxed);
        requests.micros.observe(micros(took));
    }

    /// Counts bytes of bodies that went out.
    pub(crate) fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what became of the events that the log was given.
    pub(crate) fn received(&self, receipt: &Receipt) {
        let of_these = |known: bool| {
            let exceptions = receipt.exceptions.iter();
            exceptions
                .filter(|(_, why)| matches!(why, Exception::Duplicate { .. }) == known)
                .count() as u64
        };
        self.stored
            .fetch_add(receipt.stored as u64, Ordering::Relaxed);
        self.duplicates.fetch_add(of_these(true), Ordering::Relaxed);
        self.rejected(of_these(false));
    }

    /// Counts a request that was refused as a whole, if that was for what it brought.
    pub(crate) fn refused(&self, problem: &Problem) {
        match problem.code() {
            Code::MalformedJson
            | Code::InvalidEvent
            | Code::FutureTimestamp
            | Code::TooLarge
            | Code::TooDeep
            | Code::UnsupportedType
            | Code::RuleViolation => self.rejected(1),
            // Nobody looked at it, or it was wrong whatever it brought.
            _ => {}
        }
    }

    /// Counts events that were refused.
    pub(crate) fn rejected(&self, events: u64) {
        self.rejected.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts a query that ended after so long, waiting for its turn included.
    pub(crate) fn queried(&self, end: QueryEnd, took: Duration) {
        self.queries[end as usize].fetch_add(1, Ordering::Relaxed);
        self.query_micros.observe(micros(took));
    }

    /// Counts a connection, which is open until what this returns is dropped.
    pub(crate) fn connected(&self, door: Door) -> Present<'_> {
        let counts = &self.connections[door as usize];
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        Present::new(&counts.open)
    }

    /// Counts that the certificate was read again, and whether it can be used.
    pub(crate) fn read_certificate(&self, usable: bool) {
        self.certificates_read[usize::from(usable)].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a pass over the sealed files that reached its end.
    pub(crate) fn scrubbed(&self, files: usize, bytes: u64) {
        self.scrub.files.fetch_add(files as u64, Ordering::Relaxed);
        self.scrub.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.scrub.ended_at.store(eye_log::now(), Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
