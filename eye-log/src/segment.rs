//! One log file: its header, and where in it a record lies.

pub(crate) mod sealer;
pub(crate) mod walk;

use std::io::ErrorKind;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::error::{Damage, ReadError};
use crate::format::footer::Summary;
use crate::format::segment_header::SegmentHeader;
use crate::offset::Offset;
use crate::storage::StorageFile;

/// Frames between two entries of the sparse index cover at least this many bytes.
const INDEX_STEP_BYTES: u64 = 16 << 10;

/// A segment, active or sealed, as readers and the writer share it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn StorageFile>,
    /// Every 16 KiB or so: the first offset of a frame, and its position.
    index: RwLock<Vec<(Offset, u64)>>,
    sealed: OnceLock<Summary>,
}

impl Segment {
    pub(crate) fn new(name: String, header: SegmentHeader, file: Arc<dyn StorageFile>) -> Self {
        Self {
            name,
            header,
            file,
            index: RwLock::default(),
            sealed: OnceLock::new(),
        }
    }

    pub(crate) fn sealed_with(self, summary: Summary, index: Vec<(Offset, u64)>) -> Self {
        Self {
            index: RwLock::new(index),
            sealed: OnceLock::from(summary),
            ..self
        }
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

    pub(crate) fn index(&self) -> Vec<(Offset, u64)> {
        self.index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Marks the segment as sealed: its footer is on the disk.
    pub(crate) fn set_sealed(&self, summary: Summary) {
        let _ = self.sealed.set(summary);
    }

    /// Returns the footer's summary once there is one.
    pub(crate) fn sealed(&self) -> Option<&Summary> {
        self.sealed.get()
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

    /// Reads at least `least` bytes, and up to `most` where the file goes on so far. The file may be cut behind the
    /// frames, by sealing, while this looks.
    pub(crate) fn read_ahead(
        &self,
        position: u64,
        least: usize,
        most: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let failed = |error: std::io::Error| ReadError::Io {
            file: self.name.clone(),
            message: error.to_string(),
        };
        loop {
            let size = self.file.size().map_err(failed)?;
            let there = usize::try_from(size.saturating_sub(position))
                .unwrap_or(most)
                .min(most);
            let mut bytes = vec![0; there.max(least)];
            match self.file.read_at(&mut bytes, position) {
                Ok(()) => return Ok(bytes),
                Err(error)
                    if error.kind() == ErrorKind::UnexpectedEof
                        && self.file.size().map_err(failed)? < size => {}
                Err(error) => return Err(failed(error)),
            }
        }
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
