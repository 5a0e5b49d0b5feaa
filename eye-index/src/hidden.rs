//! What no read shows: events whose erasure was asked for, from then until no index knows of them any more.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use eye_log::{Offset, OffsetRanges, Reader};

/// Offsets that somebody set to be hidden; exchanged as a whole.
#[derive(Debug, Default)]
pub(crate) struct Erased(RwLock<Arc<OffsetRanges>>);

impl Erased {
    pub(crate) fn get(&self) -> Arc<OffsetRanges> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set(&self, ranges: OffsetRanges) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ranges);
    }
}

/// The offsets that a read must not show, as of when it began.
#[derive(Debug, Clone)]
pub(crate) struct Hidden {
    /// What the log hides, and what was set.
    sets: [Arc<OffsetRanges>; 2],
}

impl Hidden {
    pub(crate) fn now(reader: &Reader, erased: &Erased) -> Self {
        Self {
            sets: [reader.erased(), erased.get()],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sets.iter().all(|set| set.is_empty())
    }

    pub(crate) fn contains(&self, offset: Offset) -> bool {
        self.sets.iter().any(|set| set.contains(offset))
    }

    pub(crate) fn touches(&self, range: &Range<Offset>) -> bool {
        self.sets.iter().any(|set| set.touches(range))
    }

    /// Returns all of them as one set.
    pub(crate) fn ranges(&self) -> OffsetRanges {
        self.sets.iter().flat_map(|set| set.iter()).collect()
    }
}

#[cfg(test)]
impl Hidden {
    pub(crate) fn nothing() -> Self {
        Self::of([])
    }

    pub(crate) fn of(ranges: impl IntoIterator<Item = Range<Offset>>) -> Self {
        Self {
            sets: [Arc::new(ranges.into_iter().collect()), Arc::default()],
        }
    }
}
