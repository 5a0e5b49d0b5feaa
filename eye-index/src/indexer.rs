//! The thread that follows the log and grows the indexes from it.
//!
//! What must stay true: it applies every record once, in log order, to each projection, from where that projection
//! says it is; and it never stops because of what an event holds. It works at a lower priority: sending goes first.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eye_log::record::Record;
use eye_log::{ApplicationId, Offset, Reader, Scan};
use thread_priority::unix::{set_thread_priority_and_policy, thread_native_id};
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use uuid::Uuid;

use crate::catalog::{Catalog, Entry};
use crate::error::IndexError;
use crate::index::IndexConfig;
use crate::search::Flattener;
use crate::search::shard::ShardWriter;
use crate::search::shards::Shards;

/// While the log runs ahead, so many documents go into one commit.
const COMMIT_DOCS: usize = 64_000;
/// How long the thread sleeps when there is nothing to do and nobody nudges it.
const IDLE: Duration = Duration::from_secs(1);
/// Shards that may wait to be sealed while the indexer is behind; a waiting one costs memory and files.
const UNSEALED_MAX: usize = 4;
/// The indexer counts as behind from so many records on.
const BEHIND: u64 = 20_000;

/// How far the indexes are, and who waits for them.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// One past the last record that is in all of them.
    through: AtomicU64,
    /// Up to where somebody waits.
    wanted: AtomicU64,
    waiting: Mutex<()>,
    moved: Condvar,
    stop: AtomicBool,
    sealing: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Progress {
    pub(crate) fn through(&self) -> Offset {
        self.through.load(Ordering::Acquire)
    }

    fn publish(&self, through: Offset) {
        self.through.store(through, Ordering::Release);
        let _guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.moved.notify_all();
    }

    /// Blocks until everything below `end` can be found, or patience is over; returns how far it is.
    pub(crate) fn wait_for(&self, end: Offset, patience: Duration, reader: &Reader) -> Offset {
        if self.through() >= end || patience.is_zero() {
            return self.through();
        }
        self.wanted.fetch_max(end, Ordering::AcqRel);
        reader.durable().wake();
        let deadline = Instant::now() + patience;
        let mut guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.through() >= end || left.is_zero() || self.stopping() {
                return self.through();
            }
            guard = self
                .moved
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub(crate) fn stop(&self, reader: &Reader) {
        self.stop.store(true, Ordering::Release);
        reader.durable().wake();
        let _guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.moved.notify_all();
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Returns how many shards wait to be merged and sealed.
    pub(crate) fn sealing(&self) -> u64 {
        self.sealing.load(Ordering::Acquire)
    }

    /// Returns what keeps the indexer from going on, if anything does.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// Everything the thread works with.
pub(crate) struct Indexer {
    pub(crate) reader: Reader,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) config: IndexConfig,
    pub(crate) to_seal: Arc<SealQueue>,
}

impl Indexer {
    /// Works until it is told to stop; then everything applied is synced.
    /// Returns whether it is.
    pub(crate) fn run(&self) -> bool {
        lower_priority(self.config.nice);
        loop {
            // sled and tantivy panic where they should report.
            let followed = catch_unwind(AssertUnwindSafe(|| self.follow()));
            let followed = followed
                .unwrap_or_else(|_| Err(IndexError::Shard("the indexer panicked".to_owned())));
            match followed {
                Ok(()) => return true,
                Err(error) => {
                    tracing::error!(%error, "indexing stands still; trying again");
                    self.progress.set_trouble(Some(error.to_string()));
                    if self.progress.stopping() {
                        return false;
                    }
                    std::thread::sleep(IDLE);
                }
            }
        }
    }

    /// Goes through the segments, oldest first, and stays at the active one.
    fn follow(&self) -> Result<(), IndexError> {
        if self.catalog.is_closing() {
            // What could not be written before an error is written first.
            self.catalog.close_segment(self.catalog.end())?;
        }
        let mut base = self.reader.segment_bases().first().copied();
        while let Some(segment) = base {
            match self.segment(segment)? {
                Some(next) => base = Some(next),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Brings both projections to the end of the segment at `base`; returns where the next one begins, or `None` when
    /// it is time to stop.
    fn segment(&self, base: Offset) -> Result<Option<Offset>, IndexError> {
        let shard = self.shards.get(base)?;
        let done = shard.view().end;
        if let Some(next) = self.next_base(base)
            && done >= next
            && self.catalog.end() >= next
            && shard.is_sealed()
        {
            self.progress.publish(self.progress.through().max(next));
            return Ok(Some(next));
        }
        let outcome = Segment {
            indexer: self,
            base,
            writer: shard.writer()?,
            flattener: Flattener::new(self.shards.fields().clone()),
            entries: Vec::new(),
            scan: self.reader.scan(done.min(self.catalog.end()).max(base)),
            uncommitted_since: None,
        }
        .follow();
        if outcome.is_err() {
            // What the failed writer left is dropped; the shard goes on from its last commit.
            self.shards.reopen(base)?;
        }
        outcome
    }

    fn next_base(&self, base: Offset) -> Option<Offset> {
        self.reader
            .segment_bases()
            .into_iter()
            .find(|other| *other > base)
    }
}

/// The work on one log segment.
struct Segment<'i> {
    indexer: &'i Indexer,
    base: Offset,
    writer: ShardWriter,
    flattener: Flattener,
    entries: Vec<(Uuid, ApplicationId, Entry)>,
    scan: Scan,
    uncommitted_since: Option<Instant>,
}

impl Segment<'_> {
    fn follow(mut self) -> Result<Option<Offset>, IndexError> {
        let Indexer {
            reader,
            catalog,
            progress,
            config,
            ..
        } = self.indexer;
        loop {
            if progress.stopping() {
                self.writer.close()?;
                return Ok(None);
            }
            let next = self.scan.next_offset();
            if self.indexer.next_base(self.base) == Some(next) {
                self.commit()?;
                if catalog.end() <= next {
                    catalog.close_segment(next)?;
                }
                self.indexer.to_seal.push(self.writer, progress);
                return Ok(Some(next));
            }
            if self.read()? > 0 {
                let wanted = progress.wanted.load(Ordering::Acquire);
                let reached = self.scan.next_offset();
                let nudged =
                    wanted > progress.through() && reached >= wanted.min(reader.durable_end());
                if nudged || self.writer.uncommitted() >= COMMIT_DOCS {
                    self.commit()?;
                }
                continue;
            }
            // At the durable end: wait for more, but not longer than what is not committed may wait.
            let reached = self.scan.next_offset();
            let wanted = progress.wanted.load(Ordering::Acquire);
            if self.is_behind_commit(reached) {
                let due = self
                    .uncommitted_since
                    .get_or_insert_with(Instant::now)
                    .elapsed()
                    >= config.commit_interval;
                if wanted > progress.through() || due {
                    self.commit()?;
                    continue;
                }
                reader
                    .durable()
                    .wait_beyond(reached, config.commit_interval / 4);
            } else {
                if progress.through() < reached {
                    progress.publish(reached);
                }
                progress.set_trouble(None);
                reader.durable().wait_beyond(reached, IDLE);
            }
        }
    }

    fn is_behind_commit(&self, reached: Offset) -> bool {
        self.writer.uncommitted() > 0 || self.writer.shard().view().end < reached
    }

    /// Reads a piece of the log and applies it. Returns how many records there were.
    fn read(&mut self) -> Result<usize, IndexError> {
        let already = self.writer.end();
        let (flattener, entries) = (&mut self.flattener, &mut self.entries);
        let count = self.scan.read(|offset, record| {
            let Record::Event(event) = record else { return };
            if offset >= already {
                flattener.push(offset, &event);
            }
            let entry = Entry {
                timestamp: event.timestamp,
                offset,
            };
            entries.push((event.session_id, event.application, entry));
        })?;
        if count > 0 {
            let reached = self.scan.next_offset();
            self.indexer.catalog.apply(&self.entries, reached);
            self.entries.clear();
            if reached > already {
                self.writer.add(self.flattener.take(), reached)?;
                self.uncommitted_since.get_or_insert_with(Instant::now);
            }
        }
        Ok(count)
    }

    fn commit(&mut self) -> Result<(), IndexError> {
        if self.is_behind_commit(self.writer.end()) {
            self.writer.commit()?;
        }
        self.uncommitted_since = None;
        let through = self.writer.end().min(self.indexer.catalog.end());
        self.indexer.progress.set_trouble(None);
        self.indexer
            .progress
            .publish(through.max(self.indexer.progress.through()));
        Ok(())
    }
}

/// Shards that are complete and wait to be merged and sealed, beside the indexer.
#[derive(Default)]
pub(crate) struct SealQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    writers: VecDeque<ShardWriter>,
    closed: bool,
}

impl SealQueue {
    fn push(&self, writer: ShardWriter, progress: &Progress) {
        progress.sealing.fetch_add(1, Ordering::AcqRel);
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .writers
            .push_back(writer);
        self.changed.notify_all();
    }

    /// Lets the sealing thread end.
    pub(crate) fn close(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.changed.notify_all();
    }

    /// Seals what comes, when the indexer is not behind. At the end, what was not sealed is synced as it is.
    /// Returns whether everything was sealed or synced.
    pub(crate) fn run(&self, progress: &Progress, reader: &Reader) -> bool {
        lower_priority(IDLE_POLICY);
        let mut synced = true;
        loop {
            let writer = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                loop {
                    if waiting.closed && waiting.writers.is_empty() {
                        return synced;
                    }
                    let behind = reader.durable_end().saturating_sub(progress.through()) > BEHIND;
                    let pressed = waiting.closed || waiting.writers.len() > UNSEALED_MAX;
                    if !waiting.writers.is_empty() && (!behind || pressed) {
                        break;
                    }
                    let pause = Duration::from_millis(100);
                    waiting = self
                        .changed
                        .wait_timeout(waiting, pause)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                let closed = waiting.closed;
                waiting.writers.pop_front().map(|writer| (writer, closed))
            };
            let Some((writer, closed)) = writer else {
                continue;
            };
            let work = || {
                if closed {
                    writer.close()
                } else {
                    writer.seal().map(drop)
                }
            };
            let outcome = catch_unwind(AssertUnwindSafe(work));
            let outcome =
                outcome.unwrap_or_else(|_| Err(IndexError::Shard("sealing panicked".to_owned())));
            if let Err(error) = outcome {
                synced = false;
                // The shard stays as its last commit has it, and is sealed after the next start.
                tracing::warn!(%error, "cannot seal a search shard");
            }
            progress.sealing.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Stands for the scheduling policy below every nice value: only when nothing else wants to run.
const IDLE_POLICY: i32 = 20;

/// Lets other threads go first. Threads started from this one inherit it.
fn lower_priority(nice: i32) {
    if nice >= IDLE_POLICY {
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let outcome =
            set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
        if let Err(error) = outcome {
            tracing::warn!(?error, "cannot run the indexer when idle only");
        }
    } else if let Err(error) =
        rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice)
    {
        tracing::warn!(%error, "cannot lower the indexer's priority");
    }
}
