//! Reads records back: a few by offset, or all from an offset on.
//!
//! What must stay true: nothing at or beyond the durable end is ever shown, nothing whose checksums do not hold, and
//! nothing that somebody asked to erase.

mod controls;
mod lookup;
mod scan;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use uuid::Uuid;

pub use lookup::Lookup;
pub(crate) use lookup::control_of;
pub use scan::Scan;

use crate::error::ReadError;
use crate::files::SealedInfo;
use crate::log::Shared;
use crate::offset::{DurableEnd, Offset};
use crate::pieces::Piece;
use crate::ranges::OffsetRanges;
use crate::record::EventRecord;
use crate::registry::ApplicationId;

/// Events so near each other are probably in one block.
const NEAR_OFFSETS: u64 = 300;
/// From so many jumps on, events are read on two threads.
const SCATTERED_MIN: usize = 6;

/// Reads the log; cheap to clone, and many may read at once.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

/// An event as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its offset.
    pub offset: Offset,
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub application: ApplicationId,
    /// Its session.
    pub session_id: Uuid,
    /// Its category.
    pub category: String,
    /// Its name.
    pub name: String,
    /// When it happened, unix microseconds.
    pub timestamp: i64,
    /// When it arrived, unix microseconds.
    pub received_at: i64,
    /// Its data, the JSON text as sent.
    pub data: String,
    /// JSON text the server added about its arrival.
    pub meta: Option<String>,
    /// The id the client sent, where that was no UUID.
    pub client_id: Option<String>,
}

impl StoredEvent {
    /// Returns a record's event, with everything it borrows.
    pub fn of(offset: Offset, event: &EventRecord<'_>) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            offset,
            id: event.id,
            application: event.application,
            session_id: event.session_id,
            category: event.category.to_owned(),
            name: event.name.to_owned(),
            timestamp: event.timestamp,
            received_at: event.received_at,
            data: event.data.to_owned(),
            meta: some(event.meta),
            client_id: event.client.and_then(|client| some(client.key)),
        }
    }
}

impl Reader {
    /// Returns one past the last offset that can be read.
    pub fn durable_end(&self) -> Offset {
        self.shared.durable.get()
    }

    /// Returns what says when the durable end moves.
    pub fn durable(&self) -> &DurableEnd {
        &self.shared.durable
    }

    /// Returns the store's id, drawn when its folder was new.
    pub fn store_id(&self) -> Uuid {
        self.shared.store
    }

    /// Returns the first offsets of the segments as they were first written, oldest first; the last one is active.
    /// Merging files changes nothing here, so indexes may be cut along these.
    pub fn segment_bases(&self) -> Vec<Offset> {
        self.shared.files.bases().as_ref().clone()
    }

    /// Returns what sealed files there are, oldest first.
    pub fn sealed_files(&self) -> Vec<SealedInfo> {
        self.shared
            .files
            .pieces()
            .iter()
            .filter_map(|piece| match piece {
                Piece::Sealed(file) => Some(SealedInfo::of(file)),
                Piece::Raw(_) | Piece::Damaged(..) => None,
            })
            .collect()
    }

    /// Returns the offsets that are hidden because their erasure was asked for and is not done yet.
    pub fn erased(&self) -> Arc<OffsetRanges> {
        self.shared.erased()
    }

    /// Reads the events at `offsets`, in that order; `None` where there is no event, none any more, or nothing yet.
    pub fn read_many(&self, offsets: &[Offset]) -> Result<Vec<Option<StoredEvent>>, ReadError> {
        let mut order: Vec<usize> = (0..offsets.len()).collect();
        order.sort_unstable_by_key(|place| offsets[*place]);
        let near = |a: &usize, b: &usize| offsets[*b] - offsets[*a] <= NEAR_OFFSETS;
        let runs: Vec<&[usize]> = order.chunk_by(near).collect();
        let next = AtomicUsize::new(0);
        let read = || {
            let sorted = order.iter().map(|place| offsets[*place]).collect();
            let mut look = self.lookup().expecting(sorted);
            let mut found = Vec::with_capacity(offsets.len());
            while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                for place in *run {
                    let offset = offsets[*place];
                    let event = look.event(offset, |event| StoredEvent::of(offset, event))?;
                    found.push((*place, event));
                }
            }
            Ok::<_, ReadError>(found)
        };
        let mut found = if runs.len() <= SCATTERED_MIN {
            read()?
        } else {
            // Each lies in a block of its own, and unpacking those is nearly all of the work; events that are not sealed yet take none.
            std::thread::scope(|scope| {
                let second = scope.spawn(read);
                let first = read();
                let second = second
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                let mut found = first?;
                found.extend(second?);
                Ok::<_, ReadError>(found)
            })?
        };
        found.sort_unstable_by_key(|(place, _)| *place);
        Ok(found.into_iter().map(|(_, event)| event).collect())
    }

    /// Hands the events at `offsets` to `see`, with their places in `offsets`, without copying them. They come in
    /// offset order; offsets without an event are left out.
    pub fn visit(
        &self,
        offsets: &[Offset],
        mut see: impl FnMut(usize, Offset, &EventRecord<'_>),
    ) -> Result<(), ReadError> {
        let mut order: Vec<usize> = (0..offsets.len()).collect();
        order.sort_unstable_by_key(|place| offsets[*place]);
        let sorted = order.iter().map(|place| offsets[*place]).collect();
        let mut look = self.lookup().expecting(sorted);
        for place in order {
            let offset = offsets[place];
            look.event(offset, |event| see(place, offset, event))?;
        }
        Ok(())
    }

    /// Returns what finds single events.
    pub fn lookup(&self) -> Lookup {
        // The end first: files that come later hold nothing below it.
        let end = self.durable_end();
        Lookup::new(self.shared.files.pieces(), end, self.erased())
    }

    /// Reads on and on from `offset`.
    pub fn scan(&self, offset: Offset) -> Scan {
        Scan::new(self.clone(), offset)
    }
}
