//! A question and a page of its answer.

use std::sync::Arc;
use std::time::Instant;

use eye_log::{ApplicationId, Offset, Registry};
use uuid::Uuid;

use crate::search::query::Clause;

/// Which events, in which order, from where on.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// What must hold of them.
    pub query: Clause,
    /// Names of applications, for `application:` in queries.
    pub registry: Arc<Registry>,
    /// Only this application's.
    pub application: Option<ApplicationId>,
    /// Only from this instant on, unix microseconds.
    pub from: Option<i64>,
    /// Only before this instant, unix microseconds.
    pub to: Option<i64>,
    /// Only of exactly this category.
    pub category: Option<String>,
    /// Only of exactly this name.
    pub name: Option<String>,
    /// Only of this session.
    pub session: Option<Uuid>,
    /// Only below this offset.
    pub as_of: Offset,
    /// In which order.
    pub order: Order,
    /// Behind this row; the last one of the page before.
    pub after: Option<Place>,
    /// At most so many.
    pub limit: usize,
    /// When the answer is no longer wanted.
    pub deadline: Option<Instant>,
}

impl SearchRequest {
    /// Asks for what matches below an offset, of all applications and times, the newest first, a number at most.
    pub fn new(query: Clause, registry: Arc<Registry>, as_of: Offset, limit: usize) -> Self {
        Self {
            query,
            registry,
            application: None,
            from: None,
            to: None,
            category: None,
            name: None,
            session: None,
            as_of,
            order: Order::NewestFirst,
            after: None,
            limit,
            deadline: None,
        }
    }
}

/// An order of events. Ties go by offset, in the direction of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Latest timestamp first.
    NewestFirst,
    /// Earliest timestamp first.
    OldestFirst,
    /// Session id and timestamp, both descending.
    BySession,
    /// What fits best first; ties newest first. Without a place to go on from.
    BestFirst,
}

/// Where a row stands in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its session; needed for [`Order::BySession`].
    pub session: Option<Uuid>,
    /// Its timestamp, unix microseconds.
    pub timestamp: i64,
    /// Its offset.
    pub offset: Offset,
}

/// A row: an event of the answer.
pub type Hit = Place;

/// A page.
#[derive(Debug, Clone, Default)]
pub struct SearchAnswer {
    /// The rows, in order.
    pub hits: Vec<Hit>,
    /// The score of each, for [`Order::BestFirst`].
    pub scores: Vec<f64>,
    /// Whether there are more behind them.
    pub more: bool,
}

impl SearchAnswer {
    /// Returns a page of an order that is no order by score.
    pub(crate) fn of(hits: Vec<Hit>, more: bool) -> Self {
        Self {
            hits,
            scores: Vec::new(),
            more,
        }
    }
}

/// A session in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSummary {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub application: ApplicationId,
    /// Earliest timestamp of its events, unix microseconds.
    pub first: i64,
    /// Latest timestamp of its events, unix microseconds.
    pub last: i64,
    /// How many events it has.
    pub count: u64,
}
