//! What was asked to be erased, and how far that is: the fold of the log's erasure records.
//!
//! What must stay true: from the moment the record is on the disk the events are hidden, also after a restart, until
//! their bytes are gone.

use std::collections::BTreeMap;
use std::ops::Range;

use uuid::Uuid;

use crate::error::AppendError;
use crate::format::keys::Keys;
use crate::log::Log;
use crate::offset::Offset;
use crate::ranges::OffsetRanges;
use crate::record::{ErasureRecord, ErasureState, Note};
use crate::registry::Actor;

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

/// What is to be erased.
#[derive(Debug, Clone)]
pub struct EraseRequest {
    /// Its id.
    pub id: Uuid,
    /// Who asks.
    pub by: Actor,
    /// What stands for the request; see [`Log::erasure_filter`].
    pub filter: [u8; 16],
    /// The sessions it is about.
    pub sessions: Vec<Uuid>,
    /// The offsets of the events.
    pub ranges: Vec<Range<Offset>>,
}

impl Log {
    /// Returns what stands for a request in the log: a keyed hash, so that the same request is recognised and nothing
    /// of it is said.
    pub fn erasure_filter(&self, request: &str) -> [u8; 16] {
        Keys::of(self.store_id()).erasure(request)
    }

    /// Hides events and has them erased at the next compaction. When this returns the request is on the disk and no
    /// reader made from now on shows them.
    pub fn erase(&self, request: EraseRequest) -> Result<Erasure, AppendError> {
        let keys = Keys::of(self.store_id());
        let id = request.id;
        // Ranges that touch become one, so that a long session is not a long list.
        let ranges: OffsetRanges = request.ranges.into_iter().collect();
        self.note(Note::Erasure(ErasureRecord {
            at: 0,
            by: request.by.token,
            request: request.by.request,
            id,
            state: ErasureState::Requested,
            filter: request.filter,
            sessions: request
                .sessions
                .iter()
                .map(|session| keys.session(*session))
                .collect(),
            ranges: ranges
                .iter()
                .map(|range| (range.start, range.end))
                .collect(),
            events: ranges.len(),
            certificate: String::new(),
        }))?;
        self.erasures()
            .into_iter()
            .find(|erasure| erasure.id == id)
            .ok_or(AppendError::Closed)
    }

    /// Records that no byte of an erasure's events is left anywhere, with the certificate, JSON text, that says so.
    pub fn complete_erasure(
        &self,
        id: Uuid,
        by: Actor,
        certificate: String,
    ) -> Result<(), AppendError> {
        self.note(Note::Erasure(ErasureRecord {
            at: 0,
            by: by.token,
            request: by.request,
            id,
            state: ErasureState::Done,
            filter: [0; 16],
            sessions: Vec::new(),
            ranges: Vec::new(),
            events: 0,
            certificate,
        }))?;
        Ok(())
    }
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
