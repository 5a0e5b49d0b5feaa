//! What was asked to be erased, and how far that is: the fold of the log's erasure records.
//!
//! What must stay true: from the moment the record is on the disk the events are hidden, also after a restart, until
//! their bytes are gone.

use std::collections::BTreeMap;
use std::ops::Range;

use uuid::Uuid;

use crate::offset::Offset;
use crate::ranges::OffsetRanges;
use crate::record::{ErasureRecord, ErasureState};

/// An erasure that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Its id.
    pub id: Uuid,
    /// When it was asked for, unix microseconds.
    pub requested_at: i64,
    /// The acting token's id; nil for the owner of the folder.
    pub by: Uuid,
    /// A keyed hash of the request, by which asking again for the same is recognised.
    pub filter: [u8; 16],
    /// How many sessions it is about.
    pub sessions: usize,
    /// How many events.
    pub events: u64,
    /// Where they were.
    pub ranges: Vec<Range<Offset>>,
    /// JSON text that says what was done and checked; `None` until it is done.
    pub certificate: Option<String>,
    /// How many erasures were asked for before this one.
    order: usize,
}

/// All erasures of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Erasures {
    by_id: BTreeMap<Uuid, Erasure>,
}

impl Erasures {
    /// Takes in a record.
    pub(crate) fn apply(&mut self, record: &ErasureRecord) {
        match record.state {
            ErasureState::Requested => {
                let order = self.by_id.len();
                self.by_id.entry(record.id).or_insert_with(|| Erasure {
                    id: record.id,
                    requested_at: record.at,
                    by: record.by,
                    filter: record.filter,
                    sessions: record.sessions.len(),
                    events: record.events,
                    ranges: record
                        .ranges
                        .iter()
                        .map(|(start, end)| *start..*end)
                        .collect(),
                    certificate: None,
                    order,
                });
            }
            ErasureState::Done => {
                if let Some(erasure) = self.by_id.get_mut(&record.id) {
                    erasure.certificate = Some(record.certificate.clone());
                }
            }
        }
    }

    /// Returns the offsets of all erasures that are not done.
    pub(crate) fn hidden(&self) -> OffsetRanges {
        self.by_id
            .values()
            .filter(|erasure| erasure.certificate.is_none())
            .flat_map(|erasure| erasure.ranges.iter().cloned())
            .collect()
    }

    /// Returns all of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Erasure> {
        let mut all: Vec<Erasure> = self.by_id.values().cloned().collect();
        all.sort_by_key(|erasure| erasure.order);
        all
    }
}
