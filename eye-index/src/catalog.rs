//! The catalog of sessions: whose they are, when they began and ended, and where their events lie.
//!
//! What must stay true: one sled tree, because a batch is atomic within a tree only; the checkpoint is in
//! the last batch of what it covers. A session's events of one log segment are one posting block, written once, after
//! the segment has closed; the blocks of the active segment, and of those that wait to be written, are in memory and
//! grow back from the log. So sled never holds a key per event. Blocks beyond the checkpoint count for nothing: they
//! are written again, the same.

mod block;
mod partition;
mod store;
mod tail;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use eye_log::{ApplicationId, Offset, OffsetRanges};
use uuid::Uuid;

use crate::error::{IndexError, SearchError};
use crate::hidden::Hidden;
use crate::page::SessionSummary;
pub(crate) use block::Block;
use store::{Store, Writer};
use tail::Tail;

/// How long readers of an old generation are waited for. None takes longer than its deadline.
const READERS_PATIENCE: Duration = Duration::from_secs(300);

/// The catalog.
#[derive(Debug)]
pub struct Catalog {
    /// The index folder.
    folder: PathBuf,
    memory: RwLock<Memory>,
    store: RwLock<Arc<Store>>,
    /// Held by whoever writes blocks.
    writing: Mutex<Writing>,
}

#[derive(Debug)]
struct Memory {
    /// The active segment's blocks.
    tail: Tail,
    /// Closed segments' blocks until they are written, oldest first.
    closing: VecDeque<Arc<Tail>>,
}

#[derive(Debug, Default)]
struct Writing {
    /// The generation being made; what is written goes there too.
    next: Option<Arc<Store>>,
}

/// Where an event lies and when it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) timestamp: i64,
    pub(crate) offset: Offset,
}

impl Catalog {
    /// Opens the catalog in the index folder; one that cannot be opened is dropped and begun anew.
    pub(crate) fn open(folder: &Path) -> Result<Self, IndexError> {
        let store = Store::open(folder)?;
        let memory = Memory {
            tail: Tail::new(store.checkpoint()?),
            closing: VecDeque::new(),
        };
        Ok(Self {
            folder: folder.to_owned(),
            memory: RwLock::new(memory),
            store: RwLock::new(Arc::new(store)),
            writing: Mutex::default(),
        })
    }

    /// Removes the catalog from the index folder.
    pub(crate) fn remove(folder: &Path) -> Result<(), IndexError> {
        Store::remove_all(folder)
    }

    /// Returns one past the last offset it knows.
    pub(crate) fn end(&self) -> Offset {
        self.read().tail.end
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> std::sync::RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> Arc<Store> {
        self.store
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in events of the active segment, in log order; those it knows already are passed over.
    pub(crate) fn apply(&self, events: &[(Uuid, ApplicationId, Entry)], end: Offset) {
        let mut memory = self.change();
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
        let mut memory = self.change();
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
    /// memory until then. Returns whether there was one.
    pub(crate) fn write_closed(&self) -> Result<bool, IndexError> {
        let mut writing = self.writing();
        let Some(closing) = self.read().closing.front().cloned() else {
            return Ok(false);
        };
        let blocks = || closing.sessions.iter().map(|(id, block)| (*id, block));
        self.store().write(closing.base, blocks(), closing.end)?;
        if let Some(next) = writing.next.take() {
            // A new generation that cannot be written is given up; this one goes on.
            match next.write(closing.base, blocks(), closing.end) {
                Ok(()) => writing.next = Some(next),
                Err(error) => tracing::warn!(%error, "the catalog's rewriting is given up"),
            }
        }
        self.change().closing.pop_front();
        Ok(true)
    }

    /// Writes everything but the events at `gone` to a database of its own, exchanges it for the one in use, and
    /// removes that. Reads and writes go on meanwhile. Fails without a change when `stop` says so.
    pub(crate) fn rewrite_without(
        &self,
        gone: &OffsetRanges,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), IndexError> {
        let (old, next, written) = {
            let mut writing = self.writing();
            self.forget(gone);
            let old = self.store();
            let written = old.checkpoint()?;
            let next = Arc::new(old.create_next(&self.folder)?);
            // What is written from here on goes to both.
            writing.next = Some(next.clone());
            (old, next, written)
        };
        let outcome = copy(&old, &next, written, gone, stop).and_then(|()| self.exchange(&next));
        if let Err(error) = outcome {
            self.writing().next = None;
            discard(next)?;
            return Err(error);
        }
        drop(next);
        discard(old)
    }

    fn exchange(&self, next: &Arc<Store>) -> Result<(), IndexError> {
        let mut writing = self.writing();
        if writing.next.is_none() {
            return Err(IndexError::Catalog(
                "its new generation could not be written".to_owned(),
            ));
        }
        let checkpoint = self.store().checkpoint()?;
        Writer::new(next).finish(Some(checkpoint))?;
        next.sync()?;
        next.make_current(&self.folder)?;
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        writing.next = None;
        Ok(())
    }

    /// Drops events from memory. To be called by whoever holds the right to write.
    fn forget(&self, gone: &OffsetRanges) {
        let mut memory = self.change();
        for tail in &mut memory.closing {
            if gone.touches(&(tail.base..tail.end)) {
                Arc::make_mut(tail).forget(gone);
            }
        }
        if gone.touches(&(memory.tail.base..memory.tail.end)) {
            memory.tail.forget(gone);
        }
    }

    /// Returns a session's blocks, oldest first, as far as they lie below `as_of`, without what is hidden; none of them
    /// is empty.
    pub(crate) fn blocks(
        &self,
        session: Uuid,
        as_of: Offset,
        hidden: &Hidden,
    ) -> Result<Vec<Block>, SearchError> {
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
            // What is in memory counts, even if it has reached the database by now.
            let below = tails().next().map_or(0, |oldest| oldest.base);
            (blocks, below)
        };
        let mut blocks = Vec::new();
        for block in self.store().blocks(session, below) {
            blocks.push(block?);
        }
        blocks.extend(newest);
        let unhidden = hidden.is_empty();
        for block in &mut blocks {
            block.entries.retain(|entry| {
                entry.offset < as_of && (unhidden || !hidden.contains(entry.offset))
            });
        }
        blocks.retain(|block| !block.entries.is_empty());
        Ok(blocks)
    }

    /// Returns a session in figures, as of an offset.
    pub(crate) fn session(
        &self,
        session: Uuid,
        as_of: Offset,
        hidden: &Hidden,
    ) -> Result<Option<SessionSummary>, SearchError> {
        let blocks = self.blocks(session, as_of, hidden)?;
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

    /// Syncs everything written.
    pub(crate) fn sync(&self) -> Result<(), IndexError> {
        self.store().sync()
    }
}

/// Copies the blocks of segments below `written`, without the events at `gone`.
fn copy(
    old: &Store,
    next: &Store,
    written: Offset,
    gone: &OffsetRanges,
    stop: &dyn Fn() -> bool,
) -> Result<(), IndexError> {
    let mut writer = Writer::new(next);
    for entry in old.all() {
        let (partition, base, mut blocks) = entry?;
        if stop() {
            return Err(IndexError::Catalog(
                "stopped while it was rewritten".to_owned(),
            ));
        }
        if base >= written {
            continue;
        }
        blocks.retain_mut(|(_, block)| {
            block.entries.retain(|entry| !gone.contains(entry.offset));
            !block.entries.is_empty()
        });
        if !blocks.is_empty() {
            writer.push(
                partition,
                base,
                blocks.iter().map(|(id, block)| (*id, block)),
            )?;
        }
    }
    writer.finish(None)
}

/// Removes a generation once nobody reads it any more.
fn discard(mut store: Arc<Store>) -> Result<(), IndexError> {
    let began = Instant::now();
    loop {
        store = match Arc::try_unwrap(store) {
            Ok(store) => return store.remove(),
            Err(store) => store,
        };
        if began.elapsed() > READERS_PATIENCE {
            return Err(IndexError::Catalog(
                "a generation that counts no more is still being read; it goes at the next start"
                    .to_owned(),
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    // Counts here are small.
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::catalog::store::BATCH_BLOCKS;

    fn event(session: u128, timestamp: i64, offset: Offset) -> (Uuid, ApplicationId, Entry) {
        (
            Uuid::from_u128(session),
            ApplicationId(3),
            Entry { timestamp, offset },
        )
    }

    fn offsets(catalog: &Catalog, session: u128, as_of: Offset) -> Vec<Offset> {
        let blocks = catalog
            .blocks(Uuid::from_u128(session), as_of, &Hidden::nothing())
            .unwrap();
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
            let session = catalog
                .session(Uuid::from_u128(1), 100, &Hidden::nothing())
                .unwrap()
                .unwrap();
            assert_eq!((session.first, session.last, session.count), (-7, 50, 3));
            assert!(
                catalog
                    .session(Uuid::from_u128(9), 100, &Hidden::nothing())
                    .unwrap()
                    .is_none()
            );
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
        let store = catalog.store();
        let mut writer = Writer::new(&store);
        let session = Uuid::from_u128(1);
        let blocks = std::iter::once((session, &block));
        writer.push(store.partition(session), 2, blocks).unwrap();
        writer.finish(None).unwrap();
        // Closing does not wait for all of sled's threads; on a busy machine this came back without its first segment.
        store.sync().unwrap();
        drop(store);
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
    fn a_rewritten_catalog_is_the_same_without_what_is_gone_and_takes_the_old_ones_place() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        catalog.apply(&[event(1, 0, 0), event(2, 0, 1), event(1, 0, 2)], 3);
        catalog.close_segment(3);
        catalog.write_closed().unwrap();
        catalog.apply(&[event(2, 0, 3), event(1, 0, 4)], 5);
        catalog.close_segment(5);
        catalog.apply(&[event(3, 0, 5)], 6);
        let gone: OffsetRanges = [0..1, 1..2, 3..4].into_iter().collect();
        // Hidden first, and then really gone.
        let hidden = Hidden::of(gone.iter());
        let seen = |catalog: &Catalog, hidden: &Hidden| -> Vec<usize> {
            (1..=3)
                .map(|id| catalog.session(Uuid::from_u128(id), 100, hidden).unwrap())
                .map(|session| session.map_or(0, |session| session.count as usize))
                .collect()
        };
        assert_eq!(seen(&catalog, &Hidden::nothing()), [3, 2, 1]);
        assert_eq!(seen(&catalog, &hidden), [2, 0, 1]);
        assert!(catalog.rewrite_without(&gone, &|| true).is_err());
        assert_eq!(offsets(&catalog, 1, 100), [0, 2, 4]);
        catalog.rewrite_without(&gone, &|| false).unwrap();
        let check = |catalog: &Catalog| {
            assert_eq!(seen(catalog, &Hidden::nothing()), [2, 0, 1]);
            assert_eq!(offsets(catalog, 1, 100), [2, 4]);
        };
        check(&catalog);
        assert!(catalog.write_closed().unwrap());
        check(&catalog);
        drop(catalog);
        assert!(!folder.path().join("catalog").exists());
        let catalog = Catalog::open(folder.path()).unwrap();
        assert_eq!(catalog.end(), 5);
        catalog.apply(&[event(3, 0, 5)], 6);
        check(&catalog);
    }

    #[test]
    fn what_closes_while_the_catalog_is_rewritten_is_in_both() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        catalog.apply(&[event(1, 0, 0), event(2, 0, 1)], 2);
        catalog.close_segment(2);
        catalog.write_closed().unwrap();
        let closed = std::cell::Cell::new(false);
        let meanwhile = || {
            if !closed.replace(true) {
                catalog.apply(&[event(1, 0, 2)], 3);
                catalog.close_segment(3);
                assert!(catalog.write_closed().unwrap());
                assert_eq!(offsets(&catalog, 1, 100), [0, 2]);
            }
            false
        };
        let gone: OffsetRanges = std::iter::once(1..2).collect();
        catalog.rewrite_without(&gone, &meanwhile).unwrap();
        assert_eq!(offsets(&catalog, 1, 100), [0, 2]);
        assert!(offsets(&catalog, 2, 100).is_empty());
        drop(catalog);
        let catalog = Catalog::open(folder.path()).unwrap();
        assert_eq!(catalog.end(), 3);
        assert_eq!(offsets(&catalog, 1, 100), [0, 2]);
    }
}
