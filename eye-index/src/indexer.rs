//! The thread that follows the log and grows the indexes from it.
//!
//! What must stay true: it applies every record once, in log order, to each projection, from where that projection
//! says it is; and it never stops because of what an event holds. It works at a lower priority: sending goes first.
//! What takes long when a segment closes is left to [`crate::closing`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eye_log::record::Record;
use eye_log::{ApplicationId, Offset, Reader, Scan};
use uuid::Uuid;

use crate::catalog::{Catalog, Entry};
use crate::closing::{CloseQueue, Closed};
use crate::error::IndexError;
use crate::index::IndexConfig;
use crate::progress::{Needs, Progress, Worker};
use crate::sealing::SealQueue;
use crate::search::Flattener;
use crate::search::shard::ShardWriter;
use crate::search::shards::Shards;
use eye_log::priority::lower_priority;

/// So many documents at most go into one commit; they are in memory until then.
const COMMIT_DOCS: usize = 32_000;
/// So far behind, commits are as large as they may be; nearer, they come as often as they should.
const FAR_BEHIND: u64 = 100_000;
/// How long the thread sleeps when there is nothing to do and nobody nudges it.
const IDLE: Duration = Duration::from_secs(1);

/// Everything the threads work with.
pub(crate) struct Indexer {
    pub(crate) reader: Reader,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) config: IndexConfig,
    pub(crate) closed: CloseQueue,
    pub(crate) to_seal: SealQueue,
}

impl Indexer {
    /// Works until it is told to stop; then everything applied is synced, but for what waits in the queues.
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
                    self.progress
                        .set_trouble(Worker::Indexer, Some(error.to_string()));
                    self.progress.pause(IDLE);
                    if self.progress.stopping() {
                        return false;
                    }
                }
            }
        }
    }

    /// Goes through the segments, oldest first, and stays at the active one.
    fn follow(&self) -> Result<(), IndexError> {
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
        if let Some(next) = self.next_base(base)
            && shard.view().end >= next
            && self.catalog.end() >= next
            && shard.is_sealed()
        {
            self.publish_catalog();
            self.publish_search();
            return Ok(Some(next));
        }
        // A closed segment's shard may be in other hands, which finish it, or finished; the active segment's never is.
        let writer = if shard.is_sealed() {
            None
        } else {
            shard.writer()?
        };
        if let Some(next) = self.next_base(base)
            && writer.is_none()
            && self.catalog.end() >= next
        {
            return Ok(Some(next));
        }
        let shard_end = writer.as_ref().map_or(Offset::MAX, ShardWriter::end);
        let mut segment = Segment {
            indexer: self,
            base,
            writer,
            flattener: Flattener::new(self.shards.fields().clone()),
            entries: Vec::new(),
            scan: self
                .reader
                .scan(shard_end.min(self.catalog.end()).max(base)),
            uncommitted_since: None,
        };
        let outcome = segment.follow();
        if outcome.is_err() && segment.writer.take().is_some() {
            // What the failed writer left is dropped; the shard goes on from its last commit.
            self.shards.reopen(base)?;
        }
        outcome
    }

    pub(crate) fn next_base(&self, base: Offset) -> Option<Offset> {
        let bases = self.reader.segment_bases();
        bases
            .get(bases.partition_point(|other| *other <= base))
            .copied()
    }

    /// Notes how far the shards can be searched without a gap.
    pub(crate) fn publish_search(&self) {
        let bases = self.reader.segment_bases();
        self.progress.publish_search(self.shards.through(&bases));
    }

    fn publish_catalog(&self) {
        self.progress.publish_catalog(self.catalog.end());
    }

    /// Brings a closed segment's shard up to `end`, whatever the catalog has. The last commit is left to the caller.
    /// Returns whether it got there: not where it is time to stop.
    pub(crate) fn fill_shard(
        &self,
        writer: &mut ShardWriter,
        end: Offset,
    ) -> Result<bool, IndexError> {
        let mut flattener = Flattener::new(self.shards.fields().clone());
        let mut scan = self.reader.scan(writer.end());
        while scan.next_offset() < end {
            if self.progress.stopping() {
                return Ok(false);
            }
            scan.read(|offset, record| {
                if let Record::Event(event) = record {
                    flattener.push(offset, &event);
                }
            })?;
            writer.add(flattener.take(), scan.next_offset())?;
            if writer.uncommitted() >= COMMIT_DOCS {
                writer.commit()?;
            }
        }
        Ok(true)
    }
}

/// The work on one log segment.
struct Segment<'i> {
    indexer: &'i Indexer,
    base: Offset,
    /// `None` where somebody else has the shard.
    writer: Option<ShardWriter>,
    flattener: Flattener,
    entries: Vec<(Uuid, ApplicationId, Entry)>,
    scan: Scan,
    uncommitted_since: Option<Instant>,
}

impl Segment<'_> {
    fn follow(&mut self) -> Result<Option<Offset>, IndexError> {
        let Indexer {
            reader,
            progress,
            config,
            closed,
            ..
        } = self.indexer;
        loop {
            if progress.stopping() {
                if let Some(writer) = self.writer.take() {
                    writer.close()?;
                }
                return Ok(None);
            }
            let reached = self.scan.next_offset();
            if self.indexer.next_base(self.base) == Some(reached) {
                closed.wait_for_room();
                self.indexer.catalog.close_segment(reached);
                closed.push(Closed {
                    base: self.base,
                    end: reached,
                    writer: self.writer.take(),
                });
                return Ok(Some(reached));
            }
            if self.read()? > 0 {
                self.commit_in_passing()?;
                continue;
            }
            // At the durable end: wait for more, but not longer than what is not committed may wait.
            if self.is_behind_commit() {
                let since = self.uncommitted_since.get_or_insert_with(Instant::now);
                let due = since.elapsed() >= config.commit_interval;
                if due || self.is_wanted() {
                    self.commit()?;
                    continue;
                }
                reader
                    .durable()
                    .wait_beyond(reached, config.commit_interval / 4);
            } else {
                self.indexer.publish_catalog();
                self.indexer.publish_search();
                progress.set_trouble(Worker::Indexer, None);
                reader.durable().wait_beyond(reached, IDLE);
            }
        }
    }

    /// Commits, with more to be read, where somebody waits for what was read, or enough has gathered.
    fn commit_in_passing(&mut self) -> Result<(), IndexError> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let reached = self.scan.next_offset();
        let end = self.indexer.reader.durable_end();
        let nudged = self.is_wanted() && reached >= self.indexer.progress.wanted().min(end);
        let interval = self.indexer.config.commit_interval;
        let due = end.saturating_sub(reached) < FAR_BEHIND
            && self
                .uncommitted_since
                .is_some_and(|since| since.elapsed() >= interval);
        if nudged || due || writer.uncommitted() >= COMMIT_DOCS {
            self.commit()?;
        }
        Ok(())
    }

    /// Says whether somebody waits for a commit.
    fn is_wanted(&self) -> bool {
        let progress = &self.indexer.progress;
        progress.wanted() > progress.through(Needs::Search)
    }

    fn is_behind_commit(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| {
            writer.uncommitted() > 0 || writer.shard().view().end < writer.end()
        })
    }

    /// Reads a piece of the log and applies it. Returns how many records there were.
    fn read(&mut self) -> Result<usize, IndexError> {
        let already = self.writer.as_ref().map_or(Offset::MAX, ShardWriter::end);
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
            self.indexer.publish_catalog();
            self.entries.clear();
            if let Some(writer) = &mut self.writer
                && reached > already
            {
                writer.add(self.flattener.take(), reached)?;
                self.uncommitted_since.get_or_insert_with(Instant::now);
            }
        }
        Ok(count)
    }

    fn commit(&mut self) -> Result<(), IndexError> {
        let behind = self.is_behind_commit();
        if let Some(writer) = &mut self.writer
            && behind
        {
            writer.commit()?;
        }
        self.uncommitted_since = None;
        self.indexer.progress.set_trouble(Worker::Indexer, None);
        self.indexer.publish_search();
        Ok(())
    }
}
