//! The active segment's blocks, in memory.

use std::collections::BTreeMap;

use eye_log::{ApplicationId, Offset, OffsetRanges};
use uuid::Uuid;

use super::{Block, Entry};

/// The blocks of the segment that begins at `base`, as far as `end`.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    pub(super) base: Offset,
    pub(super) end: Offset,
    pub(super) sessions: BTreeMap<Uuid, Block>,
}

impl Tail {
    pub(super) fn new(base: Offset) -> Self {
        Self {
            base,
            end: base,
            sessions: BTreeMap::new(),
        }
    }

    pub(super) fn push(&mut self, session: Uuid, application: ApplicationId, entry: Entry) {
        let block = self.sessions.entry(session).or_insert_with(|| Block {
            application,
            entries: Vec::new(),
        });
        block.entries.push(entry);
    }

    /// Drops events.
    pub(super) fn forget(&mut self, gone: &OffsetRanges) {
        self.sessions.retain(|_, block| {
            block.entries.retain(|entry| !gone.contains(entry.offset));
            !block.entries.is_empty()
        });
    }
}
