//! The files a log is made of, in offset order, as readers and the writer see them at one instant.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Damage, ReadError};
use crate::offset::Offset;
use crate::sealed::SealedFile;
use crate::segment::Segment;

/// One file of the log.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// A raw segment: the active one, or one that waits to be sealed.
    Raw(Arc<Segment>),
    /// A sealed file.
    Sealed(Arc<SealedFile>),
    /// A sealed file that cannot be opened: reading its range is an error, the rest serves on.
    Damaged(Range<Offset>, Arc<Damage>),
}

impl Piece {
    /// Returns the offset of its first record.
    pub(crate) fn base(&self) -> Offset {
        match self {
            Self::Raw(segment) => segment.header.base,
            Self::Sealed(file) => file.header.base,
            Self::Damaged(range, _) => range.start,
        }
    }
}

/// All files, in order. A snapshot: files that were replaced stay readable through it.
pub(crate) type Pieces = Arc<Vec<Piece>>;

/// Returns the place of the file that holds `offset`.
pub(crate) fn holding(pieces: &[Piece], offset: Offset) -> Result<usize, ReadError> {
    let behind = pieces.partition_point(|piece| piece.base() <= offset);
    behind.checked_sub(1).ok_or_else(|| {
        ReadError::Damaged(Damage {
            file: "the log".to_owned(),
            position: 0,
            first_offset: offset,
            last_offset: None,
            what: "no file holds this record".to_owned(),
        })
    })
}
