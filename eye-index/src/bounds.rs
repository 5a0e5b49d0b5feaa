//! What one question may use. Past a bound the answer is an error that names it, or says itself that it was bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on a question.
#[derive(Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its name in `/limits` and in errors.
    pub name: &'static str,
    /// The most there may be.
    pub value: usize,
    /// Of what.
    pub unit: &'static str,
}

/// So many words of the index a prefix, a wildcard or a fuzzy word may stand for.
pub const QUERY_TERMS: Bound = Bound {
    name: "query_terms",
    value: 100_000,
    unit: "words",
};
/// So many fields may be counted in one question.
pub const FACET_FIELDS: Bound = Bound {
    name: "facet_fields",
    value: 2_000,
    unit: "fields",
};
/// So many events may match the steps of a funnel or a sequence: 48 bytes each in memory.
pub const STEP_EVENTS: Bound = Bound {
    name: "step_events",
    value: 1_300_000,
    unit: "events",
};
/// So many sessions may be listed by a filter.
pub const FILTERED_SESSIONS: Bound = Bound {
    name: "sessions",
    value: 100_000,
    unit: "sessions",
};
/// So much the values that one question tells apart may take. An answer that would need more says so: it names no values.
pub const QUERY_MEMORY: Bound = Bound {
    name: "query_memory",
    value: 64 << 20,
    unit: "bytes",
};

/// So many buckets the aggregations of one question may answer with.
pub const AGGS_BUCKETS: Bound = Bound {
    name: "aggs_buckets",
    value: 65_000,
    unit: "buckets",
};
/// So many aggregations one question may ask for.
pub const AGGS_MAX: Bound = Bound {
    name: "aggs_max",
    value: 100,
    unit: "aggregations",
};
/// So deep aggregations may lie in one another.
pub const AGGS_NESTING: Bound = Bound {
    name: "aggs_nesting",
    value: 5,
    unit: "levels",
};

/// What one question has taken of [`QUERY_MEMORY`], on all its threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<AtomicUsize>);

impl Memory {
    /// Takes so many bytes more; says whether they were still there. What was taken stays taken until the question ends.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= QUERY_MEMORY.value
    }
}

/// All of them.
pub const BOUNDS: [&Bound; 8] = [
    &QUERY_TERMS,
    &FACET_FIELDS,
    &STEP_EVENTS,
    &FILTERED_SESSIONS,
    &QUERY_MEMORY,
    &AGGS_BUCKETS,
    &AGGS_MAX,
    &AGGS_NESTING,
];
