//! The catalog of sessions: whose they are, when they began and ended, and where their events lie.
//!
//! What must stay true: one sled tree, because a batch is atomic within a tree only; the checkpoint is in the batch of
//! the last batch of what it covers. A session's events of one log segment are one posting block, written once, after
//! the segment has closed; the blocks of the active segment, and of those that wait to be written, are in memory and
//! grow back from the log. So sled never holds a key per event. Blocks beyond the checkpoint count for nothing: they
//! are written again, the same.

mod block;
mod tail;

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use eye_log::{ApplicationId, Offset};
use uuid::Uuid;

use crate::checkpoint::sync_files;
use crate::error::{IndexError, SearchError};
use crate::page::SessionSummary;
pub(crate) use block::Block;
use tail::Tail;

const CHECKPOINT_KEY: &[u8] = b"c";
const SESSION_PREFIX: u8 = b's';
const CACHE_BYTES: u64 = 32 << 20;
/// So many blocks go into one sled batch: readers of the catalog wait while one is applied.
const BATCH_BLOCKS: usize = 1_000;

/// The catalog.
#[derive(Debug)]
pub struct Catalog {
    folder: PathBuf,
    db: sled::Db,
    memory: RwLock<Memory>,
}

#[derive(Debug)]
struct Memory {
    /// The active segment's blocks.
    tail: Tail,
    /// Closed segments' blocks until they are written, oldest first.
    closing: VecDeque<Arc<Tail>>,
}

/// Where an event lies and when it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) timestamp: i64,
    pub(crate) offset: Offset,
}

impl Catalog {
    /// Opens the catalog in `folder`; one that cannot be opened is dropped and begun anew.
    pub(crate) fn open(folder: &Path) -> Result<Self, IndexError> {
        let opened = match try_open(folder) {
            Ok(db) => Ok(db),
            Err(error) => {
                tracing::warn!(%error, "the catalog cannot be opened; it is built again from the log");
                std::fs::remove_dir_all(folder).map_err(IndexError::io("removing", folder))?;
                try_open(folder)
            }
        };
        let db = opened.map_err(IndexError::Catalog)?;
        let end = db
            .get(CHECKPOINT_KEY)?
            .and_then(|value| value.as_ref().try_into().ok().map(u64::from_be_bytes));
        let memory = RwLock::new(Memory {
            tail: Tail::new(end.unwrap_or(0)),
            closing: VecDeque::new(),
        });
        Ok(Self {
            folder: folder.to_owned(),
            db,
            memory,
        })
    }

    /// Returns one past the last offset it knows.
    pub(crate) fn end(&self) -> Offset {
        self.read().tail.end
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in events of the active segment, in log order; those it knows already are passed over.
    pub(crate) fn apply(&self, events: &[(Uuid, ApplicationId, Entry)], end: Offset) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        let known = memory.tail.end;
        for (session, application, entry) in
            events.iter().filter(|(_, _, entry)| entry.offset >= known)
        {
            memory.tail.push(*session, *application, *entry);
        }
        memory.tail.end = memory.tail.end.max(end);
    }

    /// Ends the active segment at `end`: its blocks wait to be written, and the next segment's begin. Returns at once;
    /// does nothing when the segment was ended before.
    pub(crate) fn close_segment(&self, end: Offset) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        if memory.tail.base < end {
            let mut tail = std::mem::replace(&mut memory.tail, Tail::new(end));
            tail.end = end;
            memory.closing.push_back(Arc::new(tail));
        }
    }

    /// Returns how many closed segments' blocks wait to be written.
    #[cfg(test)]
    pub(crate) fn closing(&self) -> usize {
        self.read().closing.len()
    }

    /// Writes the blocks of the oldest closed segment, with the checkpoint in the last batch; they stay readable in
    /// memory until then. Returns whether there was one. Only one thread writes.
    pub(crate) fn write_closed(&self) -> Result<bool, IndexError> {
        let Some(closing) = self.read().closing.front().cloned() else {
            return Ok(false);
        };
        let mut batch = sled::Batch::default();
        let mut blocks = 0;
        for (session, block) in &closing.sessions {
            batch.insert(key(*session, closing.base).as_slice(), block.encode());
            blocks += 1;
            if blocks == BATCH_BLOCKS {
                self.db.apply_batch(std::mem::take(&mut batch))?;
                blocks = 0;
            }
        }
        batch.insert(CHECKPOINT_KEY, &closing.end.to_be_bytes());
        self.db.apply_batch(batch)?;
        self.memory
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .closing
            .pop_front();
        Ok(true)
    }

    /// Returns a session's blocks, oldest first, as far as they lie below `as_of`.
    pub(crate) fn blocks(&self, session: Uuid, as_of: Offset) -> Result<Vec<Block>, SearchError> {
        let (newest, below) = {
            let memory = self.read();
            let tails = || {
                let closing = memory.closing.iter().map(Arc::as_ref);
                closing.chain([&memory.tail])
            };
            let blocks: Vec<Block> = tails()
                .filter_map(|tail| tail.sessions.get(&session))
                .cloned()
                .collect();
            // What is in memory counts, even if it has reached sled by now.
            let below = tails().next().map_or(0, |oldest| oldest.base);
            (blocks, below)
        };
        let mut blocks = Vec::new();
        for pair in self.db.range(key(session, 0)..key(session, below)) {
            let (_, value) = pair?;
            blocks.push(Block::decode(&value).ok_or_else(unreadable)?);
        }
        blocks.extend(newest);
        blocks.retain(|block| {
            block
                .entries
                .first()
                .is_some_and(|entry| entry.offset < as_of)
        });
        if let Some(last) = blocks.last_mut() {
            last.entries.retain(|entry| entry.offset < as_of);
        }
        Ok(blocks)
    }

    /// Returns a session in figures, as of an offset.
    pub(crate) fn session(
        &self,
        session: Uuid,
        as_of: Offset,
    ) -> Result<Option<SessionSummary>, SearchError> {
        let blocks = self.blocks(session, as_of)?;
        let Some(application) = blocks.first().map(|block| block.application) else {
            return Ok(None);
        };
        let times = || {
            blocks
                .iter()
                .flat_map(|block| &block.entries)
                .map(|entry| entry.timestamp)
        };
        Ok(Some(SessionSummary {
            id: session,
            application,
            first: times().min().unwrap_or_default(),
            last: times().max().unwrap_or_default(),
            count: blocks.iter().map(|block| block.entries.len() as u64).sum(),
        }))
    }

    /// Returns the largest session id at or below `most` (below it, if `exclusive`), and its owner.
    pub(crate) fn session_at_or_below(
        &self,
        most: Uuid,
        exclusive: bool,
    ) -> Result<Option<Uuid>, SearchError> {
        let in_memory = {
            let memory = self.read();
            let largest = |sessions: &BTreeMap<Uuid, Block>| {
                let below = if exclusive {
                    sessions.range(..most).next_back()
                } else {
                    sessions.range(..=most).next_back()
                };
                below.map(|(session, _)| *session)
            };
            let closing = memory.closing.iter().map(|tail| largest(&tail.sessions));
            closing.max().flatten().max(largest(&memory.tail.sessions))
        };
        let end = if exclusive {
            key(most, 0)
        } else {
            key(most, Offset::MAX)
        };
        let stored = self
            .db
            .range([SESSION_PREFIX].as_slice()..end.as_slice())
            .next_back()
            .transpose()?;
        let stored = stored.and_then(|(key, _)| Uuid::from_slice(key.get(1..17)?).ok());
        Ok(in_memory.max(stored))
    }

    /// Syncs everything written.
    pub(crate) fn sync(&self) -> Result<(), IndexError> {
        // sled's flush is no fsync on Linux, so its files are synced from outside.
        self.db.flush()?;
        sync_files(&self.folder)?;
        let blobs = self.folder.join("blobs");
        if blobs.is_dir() {
            sync_files(&blobs)
        } else {
            Ok(())
        }
    }
}

fn unreadable() -> SearchError {
    SearchError::Index(
        "a posting block of the catalog cannot be read; remove the index folder and restart"
            .to_owned(),
    )
}

fn try_open(folder: &Path) -> Result<sled::Db, String> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    // sled 0.34 panics on some damage that it should report.
    match std::panic::catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(_) => Err("sled panicked while opening it".to_owned()),
    }
}

fn key(session: Uuid, base: Offset) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.push(SESSION_PREFIX);
    key.extend_from_slice(session.as_bytes());
    key.extend_from_slice(&base.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(session: u128, timestamp: i64, offset: Offset) -> (Uuid, ApplicationId, Entry) {
        (
            Uuid::from_u128(session),
            ApplicationId(3),
            Entry { timestamp, offset },
        )
    }

    fn offsets(catalog: &Catalog, session: u128, as_of: Offset) -> Vec<Offset> {
        let blocks = catalog.blocks(Uuid::from_u128(session), as_of).unwrap();
        blocks
            .iter()
            .flat_map(|block| &block.entries)
            .map(|entry| entry.offset)
            .collect()
    }

    #[test]
    fn a_session_is_whole_across_segments_restarts_and_as_of_any_offset() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        catalog.apply(&[event(1, 50, 0), event(2, 10, 1), event(1, -7, 3)], 4);
        catalog.close_segment(4);
        catalog.apply(&[event(1, 20, 4)], 5);
        let check = |catalog: &Catalog| {
            assert_eq!(offsets(catalog, 1, 100), [0, 3, 4]);
            assert_eq!(offsets(catalog, 1, 4), [0, 3]);
            assert_eq!(offsets(catalog, 1, 1), [0]);
            assert!(offsets(catalog, 1, 0).is_empty());
            let session = catalog.session(Uuid::from_u128(1), 100).unwrap().unwrap();
            assert_eq!((session.first, session.last, session.count), (-7, 50, 3));
            assert!(catalog.session(Uuid::from_u128(9), 100).unwrap().is_none());
        };
        check(&catalog);
        assert!(catalog.write_closed().unwrap());
        assert!(!catalog.write_closed().unwrap());
        check(&catalog);
        drop(catalog);
        let catalog = Catalog::open(folder.path()).unwrap();
        assert_eq!(
            catalog.end(),
            4,
            "the active segment's part grows back from the log"
        );
        catalog.apply(&[event(1, -7, 3), event(1, 20, 4)], 5);
        check(&catalog);
    }

    #[test]
    fn closed_segments_are_whole_before_while_and_after_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        // More blocks than a batch holds, in each of two closed segments, and an active one.
        let sessions = BATCH_BLOCKS as u128 + 500;
        let mut end = 0;
        for _ in 0..3 {
            let events: Vec<_> = (0..sessions)
                .zip(end..)
                .map(|(session, offset)| event(session, 0, offset))
                .collect();
            end += events.len() as u64;
            catalog.apply(&events, end);
            if end <= 2 * sessions as u64 {
                catalog.close_segment(end);
                catalog.close_segment(end);
            }
        }
        let per = sessions as u64;
        let check = |catalog: &Catalog| {
            for session in [0, 1, sessions - 1] {
                let first = session as u64;
                let all = [first, first + per, first + 2 * per];
                assert_eq!(offsets(catalog, session, end), all);
                assert_eq!(offsets(catalog, session, 2 * per), all[..2]);
            }
        };
        for left in [2, 1, 0] {
            assert_eq!(catalog.closing(), left);
            check(&catalog);
            assert_eq!(catalog.write_closed().unwrap(), left > 0);
        }
        check(&catalog);
    }

    #[test]
    fn blocks_written_beyond_the_checkpoint_count_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        catalog.apply(&[event(1, 50, 0)], 2);
        catalog.close_segment(2);
        catalog.write_closed().unwrap();
        // The first batch of the next segment, and then the process ended.
        let block = Block {
            application: ApplicationId(3),
            entries: vec![event(1, 60, 2).2],
        };
        let torn = key(Uuid::from_u128(1), 2);
        catalog.db.insert(torn, block.encode()).unwrap();
        drop(catalog);
        let catalog = Catalog::open(folder.path()).unwrap();
        assert_eq!(catalog.end(), 2);
        assert_eq!(offsets(&catalog, 1, 100), [0]);
        catalog.apply(&[event(1, 60, 2), event(1, 70, 3)], 4);
        catalog.close_segment(4);
        catalog.write_closed().unwrap();
        assert_eq!(offsets(&catalog, 1, 100), [0, 2, 3]);
    }

    #[test]
    fn sessions_are_walked_downwards_over_memory_and_sled() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        catalog.apply(&[event(5, 0, 0), event(2, 0, 1)], 2);
        catalog.close_segment(2);
        catalog.write_closed().unwrap();
        catalog.apply(&[event(3, 0, 2), event(5, 0, 3)], 4);
        let mut walked = Vec::new();
        let mut next = catalog.session_at_or_below(Uuid::max(), false).unwrap();
        while let Some(session) = next {
            walked.push(session.as_u128());
            next = catalog.session_at_or_below(session, true).unwrap();
        }
        assert_eq!(walked, [5, 3, 2]);
    }
}
