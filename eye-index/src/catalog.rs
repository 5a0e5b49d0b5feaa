//! The catalog of sessions: whose they are, when they began and ended, and where their events lie.
//!
//! What must stay true: one sled tree, because a batch is atomic within a tree only; the checkpoint is in the batch of
//! what it covers. A session's events of one log segment are one posting block, written once, when the segment closes;
//! the blocks of the active segment are in memory and grow back from the log. So sled never holds a key per event.

mod block;
mod tail;

use std::collections::BTreeMap;
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
    /// A closed segment's blocks while they are being written.
    closing: Option<Arc<Tail>>,
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
            closing: None,
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

    /// Says whether the blocks of a closed segment are still to be written.
    pub(crate) fn is_closing(&self) -> bool {
        self.read().closing.is_some()
    }

    /// Writes the blocks of the segment that ends at `end`, with the checkpoint, in one batch.
    pub(crate) fn close_segment(&self, end: Offset) -> Result<(), IndexError> {
        let closing = {
            let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
            match &memory.closing {
                // It could not be written the last time; nothing was applied behind it since.
                Some(closing) => closing.clone(),
                None => {
                    let mut tail = std::mem::replace(&mut memory.tail, Tail::new(end));
                    tail.end = end;
                    let closing = Arc::new(tail);
                    memory.closing = Some(closing.clone());
                    closing
                }
            }
        };
        let mut batch = sled::Batch::default();
        for (session, block) in &closing.sessions {
            batch.insert(key(*session, closing.base).as_slice(), block.encode());
        }
        batch.insert(CHECKPOINT_KEY, &closing.end.max(closing.base).to_be_bytes());
        self.db.apply_batch(batch)?;
        self.memory
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .closing = None;
        Ok(())
    }

    /// Returns a session's blocks, oldest first, as far as they lie below `as_of`.
    pub(crate) fn blocks(&self, session: Uuid, as_of: Offset) -> Result<Vec<Block>, SearchError> {
        let (newest, below) = {
            let memory = self.read();
            let closing = memory.closing.as_ref();
            let blocks: Vec<Block> = closing
                .and_then(|tail| tail.sessions.get(&session))
                .into_iter()
                .chain(memory.tail.sessions.get(&session))
                .cloned()
                .collect();
            // What is in memory counts, even if it has reached sled by now.
            (blocks, closing.map_or(memory.tail.base, |tail| tail.base))
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
            largest(&memory.tail.sessions).max(
                memory
                    .closing
                    .as_ref()
                    .and_then(|tail| largest(&tail.sessions)),
            )
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
        catalog.close_segment(4).unwrap();
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
    fn sessions_are_walked_downwards_over_memory_and_sled() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        catalog.apply(&[event(5, 0, 0), event(2, 0, 1)], 2);
        catalog.close_segment(2).unwrap();
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
