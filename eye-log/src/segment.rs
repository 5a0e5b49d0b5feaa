//! A raw segment: its header, where in it a record lies, and what it came to once it was closed.

pub(crate) mod walk;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::admission::Entries;
use crate::error::{Damage, ReadError};
use crate::format::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::offset::Offset;
use crate::storage::StorageFile;

/// Frames between two entries of the sparse index cover at least this many bytes.
const INDEX_STEP_BYTES: u64 = 16 << 10;

/// A raw segment, active or closed, as readers and the writer share it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn StorageFile>,
    /// Every 16 KiB or so: the first offset of a frame, and its position.
    index: RwLock<Vec<(Offset, u64)>>,
    closed: OnceLock<Closed>,
}

/// What a raw segment came to, in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The offset of its first record.
    pub(crate) base: Offset,
    /// One past its last record.
    pub(crate) end: Offset,
    /// Where its last frame ends.
    pub(crate) frames_end: u64,
    /// How many of its records are events.
    pub(crate) events: u64,
    /// Arrival of its last record, unix microseconds; 0 without one.
    pub(crate) last_received_at: i64,
    /// The header checksum of the last frame.
    pub(crate) last_frame: u32,
}

impl Summary {
    /// The figures of a segment that holds nothing yet.
    pub(crate) fn empty(header: &SegmentHeader) -> Self {
        Self {
            base: header.base,
            end: header.base,
            frames_end: SEGMENT_HEADER_BYTES as u64,
            events: 0,
            last_received_at: 0,
            last_frame: header.chain_start(),
        }
    }
}

/// What is known of a segment that no longer grows and waits to be sealed.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) summary: Summary,
    /// Whose sessions were first seen in it, and which ids clients used.
    pub(crate) entries: Entries,
}

impl Segment {
    pub(crate) fn new(name: String, header: SegmentHeader, file: Arc<dyn StorageFile>) -> Self {
        Self {
            name,
            header,
            file,
            index: RwLock::default(),
            closed: OnceLock::new(),
        }
    }

    /// Marks the segment as closed: a roll has begun the next one.
    pub(crate) fn close(&self, closed: Closed) {
        // Closed once: by the writer's roll, or by recovery.
        let _ = self.closed.set(closed);
    }

    /// Returns what the segment came to, once it is closed.
    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.closed.get()
    }

    /// Notes that a frame begins at `position`; keeps one in so many.
    pub(crate) fn note_frame(&self, first_offset: Offset, position: u64) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if index
            .last()
            .is_none_or(|(_, last)| position >= last + INDEX_STEP_BYTES)
        {
            index.push((first_offset, position));
        }
    }

    /// Returns the closest indexed frame at or before the one that holds `offset`.
    pub(crate) fn indexed_frame(&self, offset: Offset) -> Option<(Offset, u64)> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let behind = index.partition_point(|(first, _)| *first <= offset);
        index.get(behind.checked_sub(1)?).copied()
    }

    pub(crate) fn read(&self, position: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        self.read_into(&mut bytes, position)?;
        Ok(bytes)
    }

    pub(crate) fn read_into(&self, bytes: &mut [u8], position: u64) -> Result<(), ReadError> {
        self.file
            .read_at(bytes, position)
            .map_err(|error| ReadError::Io {
                file: self.name.clone(),
                message: error.to_string(),
            })
    }

    /// Reads at least `least` bytes, and up to `most` where the file goes on so far.
    pub(crate) fn read_ahead(
        &self,
        position: u64,
        least: usize,
        most: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let size = self.file.size().map_err(|error| ReadError::Io {
            file: self.name.clone(),
            message: error.to_string(),
        })?;
        let there = usize::try_from(size.saturating_sub(position))
            .unwrap_or(most)
            .min(most);
        self.read(position, there.max(least))
    }

    pub(crate) fn damage(
        &self,
        position: u64,
        first_offset: Offset,
        what: impl Into<String>,
    ) -> Damage {
        Damage {
            file: self.name.clone(),
            position,
            first_offset,
            last_offset: None,
            what: what.into(),
        }
    }
}
