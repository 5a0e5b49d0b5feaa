//! The indexes of a store: opened beside its log, grown by a thread of their own, asked by many.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eye_log::{Log, Offset, Reader, SealedInfo};
use uuid::Uuid;

use crate::bounds::FILTERED_SESSIONS;
use crate::catalog::Catalog;
use crate::checkpoint::{Checkpoint, Trust};
use crate::closing::{self, CloseQueue};
use crate::error::{IndexError, SearchError};
use crate::hidden::{Erased, Hidden};
use crate::indexer::Indexer;
use crate::page::{Hit, Order, Place, SearchAnswer, SearchRequest, SessionSummary};
use crate::progress::Needs;
use crate::purge::Purged;
use crate::rebuilding;
use crate::sealing::SealQueue;
use crate::search::aggs::{Aggregated, Aggs, aggregate};
use crate::search::by_session::by_session;
use crate::search::facets::{
    FacetOptions, FacetValue, FieldColumns, FieldFigures, Numberings, Values, facets, paths,
};
use crate::search::histogram::{Buckets, Histogram, histogram};
use crate::search::part::Part;
use crate::search::query::{Clause, Field, Kind, Span, Test};
use crate::search::score::best;
use crate::search::shards::Shards;
use crate::search::steps::StepEvents;
use crate::search::{Fields, LogCheck, Matching, Unpacked, collect, count, in_log_order, plan};
use eye_log::priority::lower_priority;

/// So many events with one id are looked for at most.
const SAME_ID_MAX: usize = 100_000;

/// How far purging stands back.
const PURGE_NICE: i32 = 10;

/// Settings of the indexes.
#[derive(Debug, Clone)]
pub struct IndexConfig {
    /// How long an event waits at most, with the indexer keeping up, before it can be found without asking for it.
    pub commit_interval: Duration,
    /// The indexer's nice value, 0 to 19; 20 lets it run only when nothing else does. Sending goes first; the further
    /// the indexer stands back, the longer reads wait on a busy machine.
    pub nice: i32,
    /// So many shards of neighbouring segments are merged into one, at least, when nothing else wants to run: every question looks
    /// at every shard, and merging writes everything in them again.
    pub merge_neighbours: usize,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(300),
            nice: 5,
            merge_neighbours: 8,
        }
    }
}

/// The indexes. Clones are the same ones.
#[derive(Clone)]
pub struct Index {
    inner: Arc<Inner>,
}

struct Inner {
    reader: Reader,
    catalog: Arc<Catalog>,
    shards: Arc<Shards>,
    indexer: Arc<Indexer>,
    checkpoint: Checkpoint,
    erased: Erased,
    numberings: Numberings,
    unpacked: Arc<Unpacked>,
    /// Held while something is purged.
    purging: Mutex<()>,
    /// They say whether they left everything synced. Each gets its work from the one before.
    threads: Mutex<Option<[JoinHandle<bool>; 4]>>,
}

/// How the indexes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexStatus {
    /// One past the last record that can be found by every read.
    pub indexed_through: Offset,
    /// One past the last record that can be searched for.
    pub search_through: Offset,
    /// One past the last record that sessions know of.
    pub catalog_through: Offset,
    /// How many shards wait to be merged and sealed.
    pub sealing: u64,
    /// How many search segments there are.
    pub parts: usize,
    /// How many events can be found.
    pub events: u64,
    /// What keeps the indexer from going on.
    pub trouble: Option<String>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("progress", &self.inner.indexer.progress)
            .finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the indexes in `folder`, which belong to `log`. What cannot be trusted is removed and grows back; that
    /// goes on after this returns.
    pub fn open(folder: &Path, log: &Log, config: IndexConfig) -> Result<Self, IndexError> {
        let reader = log.reader();
        let shards = folder.join("shards");
        std::fs::create_dir_all(folder).map_err(IndexError::io("making", folder))?;
        let (checkpoint, trust) = Checkpoint::open(folder, log.store_id())?;
        if trust == Trust::Nothing {
            remove(&shards)?;
        }
        if trust != Trust::Everything {
            Catalog::remove(folder)?;
        }
        let mut catalog = Catalog::open(folder)?;
        let bases = reader.segment_bases();
        if !bases.contains(&catalog.end()) {
            // Its checkpoint is the beginning of a segment, or it is not this log's catalog.
            drop(catalog);
            Catalog::remove(folder)?;
            catalog = Catalog::open(folder)?;
        }
        let ends = bases.iter().copied().skip(1).chain([reader.durable_end()]);
        let ends: Vec<(Offset, Offset)> = bases.iter().copied().zip(ends).collect();
        let shards = Shards::open(
            &shards,
            Arc::new(Fields::new()),
            &ends,
            trust == Trust::Everything,
        )?;
        // Only now is there nothing left that must not be trusted.
        checkpoint.mark_open()?;
        let (catalog, shards) = (Arc::new(catalog), Arc::new(shards));
        let indexer = Indexer {
            reader: reader.clone(),
            catalog: catalog.clone(),
            shards: shards.clone(),
            progress: Arc::default(),
            config,
            closed: CloseQueue::default(),
            to_seal: SealQueue::default(),
        };
        let inner = Inner {
            reader,
            catalog,
            shards,
            indexer: Arc::new(indexer),
            checkpoint,
            erased: Erased::default(),
            numberings: Numberings::default(),
            unpacked: Arc::default(),
            purging: Mutex::default(),
            threads: Mutex::default(),
        };
        let threads = inner
            .start()
            .map_err(IndexError::io("starting a thread for", folder))?;
        *inner.threads.lock().unwrap_or_else(PoisonError::into_inner) = Some(threads);
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Returns one past the last record that every read can find.
    pub fn indexed_through(&self) -> Offset {
        self.through(Needs::Both)
    }

    /// Returns one past the last record that reads with these needs can find.
    pub fn through(&self, needs: Needs) -> Offset {
        self.inner.indexer.progress.through(needs)
    }

    /// Blocks until reads with these needs can find everything below `end`, or `patience` is over; returns how far it
    /// is.
    pub fn wait_for(&self, needs: Needs, end: Offset, patience: Duration) -> Offset {
        self.inner
            .indexer
            .progress
            .wait_for(needs, end, patience, &self.inner.reader)
    }

    /// Returns how the indexes are.
    pub fn status(&self) -> IndexStatus {
        let parts = self.inner.shards.parts();
        let progress = &self.inner.indexer.progress;
        let hidden = self.hidden().ranges();
        let found = |part: &Part| {
            let gone: u32 = hidden.iter().map(|range| part.docs_within(&range)).sum();
            u64::from(part.docs().saturating_sub(gone))
        };
        IndexStatus {
            indexed_through: progress.through(Needs::Both),
            search_through: progress.through(Needs::Search),
            catalog_through: progress.through(Needs::Catalog),
            sealing: progress.sealing(),
            parts: parts.len(),
            events: parts.iter().map(|part| found(part)).sum(),
            trouble: progress.trouble(),
        }
    }

    /// Returns a page of the matches, in any order. Blocks.
    pub fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, SearchError> {
        let (check, parts) = (self.check(request), self.inner.shards.parts());
        let fields = self.inner.shards.fields();
        let plan = plan(request, fields, &check, &self.hidden(), &parts)?;
        let matching = || Matching::new(&parts, &plan, fields, request, &check);
        match request.order {
            Order::BestFirst => best(&matching()?, &parts, fields, request),
            Order::BySession => by_session(&matching()?, request),
            Order::NewestFirst | Order::OldestFirst => {
                collect(&parts, &plan, fields, request, &check)
            }
        }
    }

    /// Counts the matches, all of them. Blocks.
    pub fn count(&self, request: &SearchRequest) -> Result<u64, SearchError> {
        let (check, parts) = (self.check(request), self.inner.shards.parts());
        let fields = self.inner.shards.fields();
        let plan = plan(request, fields, &check, &self.hidden(), &parts)?;
        count(&parts, &plan, fields, request, &check)
    }

    /// Returns the offsets of matches in log order, from `from` on: `most` at most, or those that were found within `patience`. Also
    /// returns from where to go on; `None` when there is nothing behind. Blocks.
    pub fn in_log_order(
        &self,
        request: &SearchRequest,
        from: Offset,
        most: usize,
        patience: Duration,
    ) -> Result<(Vec<Offset>, Option<Offset>), SearchError> {
        let (check, parts) = (self.check(request), self.inner.shards.parts());
        let fields = self.inner.shards.fields();
        let plan = plan(request, fields, &check, &self.hidden(), &parts)?;
        let part = (from, most, Instant::now() + patience);
        in_log_order(&parts, &plan, fields, part, &check)
    }

    /// Gathers the events that match any of the steps, by unit (sessions, or the values of a field), timestamp and offset. Of
    /// `request` everything holds for all steps but the query. Blocks.
    pub fn steps(
        &self,
        request: &SearchRequest,
        steps: &[Clause],
        unit: Option<&FieldColumns>,
    ) -> Result<StepEvents, SearchError> {
        let mut all = StepEvents::default();
        for (place, query) in steps.iter().enumerate() {
            let request = SearchRequest {
                query: query.clone(),
                ..request.clone()
            };
            self.matching(&request, |matching| all.push_step(place, matching, unit))?;
        }
        all.sort();
        Ok(all)
    }

    /// Returns the values of a field that the events at these offsets have. Blocks.
    pub fn values_at(
        &self,
        request: &SearchRequest,
        field: &FieldColumns,
        offsets: &[Offset],
    ) -> Result<Vec<Vec<FacetValue>>, SearchError> {
        let (check, parts) = (self.check(request), self.inner.shards.parts());
        let mut values = vec![Vec::new(); offsets.len()];
        let mut order: Vec<usize> = (0..offsets.len()).collect();
        order.sort_unstable_by_key(|place| offsets[*place]);
        let part_of = |offset: Offset| {
            let behind = parts.partition_point(|part| part.first_offset() <= offset);
            behind.checked_sub(1)
        };
        for run in order.chunk_by(|a, b| part_of(offsets[*a]) == part_of(offsets[*b])) {
            let Some(part) = part_of(offsets[run[0]]).and_then(|place| parts.get(place)) else {
                continue;
            };
            let mut opened = Values::open(field, part, &check)?;
            for place in run {
                let doc = part.first_doc_from(offsets[*place]);
                if doc < part.docs() && part.offset(doc) == offsets[*place] {
                    opened.values_of(doc, &mut values[*place]);
                }
            }
        }
        check.verdict()?;
        Ok(values)
    }

    /// Returns the sessions of the matches, in no order; fails where there are more than [`FILTERED_SESSIONS`]. Blocks.
    pub fn sessions_of(&self, request: &SearchRequest) -> Result<Vec<Uuid>, SearchError> {
        let found = self.matching(request, |matching| {
            matching.by_part(|part, docs| {
                let Some(column) = part.sessions() else {
                    return Ok(Vec::new());
                };
                let mut there = vec![false; column.num_terms()];
                docs.each(|doc| {
                    let ord = column
                        .ords()
                        .first(doc)
                        .and_then(|ord| usize::try_from(ord).ok());
                    if let Some(there) = ord.and_then(|ord| there.get_mut(ord)) {
                        *there = true;
                    }
                });
                let (mut ids, mut bytes) = (Vec::new(), Vec::new());
                for (ord, _) in there.iter().enumerate().filter(|(_, there)| **there) {
                    if column.ord_to_bytes(ord as u64, &mut bytes)? {
                        ids.extend(Uuid::from_slice(&bytes).ok());
                    }
                }
                Ok(ids)
            })
        })?;
        let mut sessions: Vec<Uuid> = found.into_iter().flatten().collect();
        sessions.sort_unstable();
        sessions.dedup();
        if sessions.len() > FILTERED_SESSIONS.value {
            return Err(SearchError::Bound {
                bound: &FILTERED_SESSIONS,
                clause: request.query.to_string(),
            });
        }
        Ok(sessions)
    }

    /// Returns the session of the event at an offset, if the search index has it. Blocks.
    pub fn session_of(&self, offset: Offset) -> Option<Uuid> {
        let parts = self.inner.shards.parts();
        let behind = parts.partition_point(|part| part.first_offset() <= offset);
        let part = parts.get(behind.checked_sub(1)?)?;
        let doc = part.first_doc_from(offset);
        (doc < part.docs() && part.offset(doc) == offset).then(|| part.session(doc))?
    }

    /// Counts the matches per bucket of time; with a field and values of it, also those that have each of the values, and last
    /// those that have another one. Blocks.
    pub fn histogram(
        &self,
        request: &SearchRequest,
        buckets: &Buckets,
        split: Option<(&FieldColumns, &[FacetValue])>,
    ) -> Result<Histogram, SearchError> {
        self.matching(request, |matching| histogram(matching, buckets, split))
    }

    /// Counts the values of fields over every match. Returns how many match, and each field's figures. Blocks.
    pub fn facets(
        &self,
        request: &SearchRequest,
        fields: &[FieldColumns],
        options: FacetOptions,
    ) -> Result<(u64, Vec<FieldFigures>), SearchError> {
        let numberings = &self.inner.numberings;
        self.matching(request, |matching| {
            facets(matching, fields, options, numberings)
        })
    }

    /// Aggregates every match. Blocks.
    pub fn aggregate(
        &self,
        request: &SearchRequest,
        aggs: &Aggs,
    ) -> Result<Aggregated, SearchError> {
        self.matching(request, |matching| aggregate(matching, aggs))
    }

    /// Lists the paths of `data` that begin with `prefix` and that events around the matches have, by name: those without a
    /// match among them have figures of zero. Blocks.
    pub fn paths(&self, request: &SearchRequest, prefix: &str) -> Result<Vec<String>, SearchError> {
        self.matching(request, |matching| paths(matching, prefix))
    }

    fn matching<R>(
        &self,
        request: &SearchRequest,
        ask: impl FnOnce(&Matching<'_>) -> Result<R, SearchError>,
    ) -> Result<R, SearchError> {
        let (check, parts) = (self.check(request), self.inner.shards.parts());
        let fields = self.inner.shards.fields();
        let plan = plan(request, fields, &check, &self.hidden(), &parts)?;
        ask(&Matching::new(&parts, &plan, fields, request, &check)?)
    }

    fn check(&self, request: &SearchRequest) -> LogCheck {
        LogCheck::new(
            self.inner.reader.clone(),
            request.registry.clone(),
            request.deadline,
            self.inner.unpacked.clone(),
        )
    }

    /// Returns a session in figures, as of an offset; `None` when there is none. Blocks.
    pub fn session(
        &self,
        session: Uuid,
        as_of: Offset,
    ) -> Result<Option<SessionSummary>, SearchError> {
        self.inner.catalog.session(session, as_of, &self.hidden())
    }

    /// Returns a session's events by timestamp, then offset. Blocks.
    pub fn session_events(&self, session: Uuid, as_of: Offset) -> Result<Vec<Hit>, SearchError> {
        let blocks = self.inner.catalog.blocks(session, as_of, &self.hidden())?;
        let entries = blocks.iter().flat_map(|block| &block.entries);
        let mut hits: Vec<Hit> = entries
            .map(|entry| Place {
                session: Some(session),
                timestamp: entry.timestamp,
                offset: entry.offset,
            })
            .collect();
        hits.sort_unstable_by_key(|hit| (hit.timestamp, hit.offset));
        Ok(hits)
    }

    /// Returns where events with an id lie, newest first; clients may have used the same id in several applications.
    /// Blocks.
    pub fn event_offsets_of_id(&self, id: Uuid, as_of: Offset) -> Result<Vec<Offset>, SearchError> {
        let query = Clause {
            kind: Kind::Field {
                field: Field::Id,
                test: Test::Id(id),
            },
            span: Span::default(),
        };
        let request = SearchRequest::new(query, Arc::default(), as_of, SAME_ID_MAX);
        let mut offsets: Vec<Offset> = self
            .search(&request)?
            .hits
            .iter()
            .map(|hit| hit.offset)
            .collect();
        offsets.sort_unstable_by(|a, b| b.cmp(a));
        Ok(offsets)
    }

    /// Hides the events at `ranges` from every read that begins from now on, beside those that the log hides. Replaces
    /// what was set before; kept in memory only.
    pub fn set_erased(&self, ranges: Vec<Range<Offset>>) {
        self.inner.erased.set(ranges.into_iter().collect());
    }

    /// Returns those files of the log of which the indexes hold other events than the log does: something went from the
    /// log and not from here. Files that are not indexed yet do not count.
    pub fn disagrees(&self, files: &[SealedInfo]) -> Vec<SealedInfo> {
        let parts = self.inner.shards.parts();
        let through = self.through(Needs::Search);
        let differs = |file: &&SealedInfo| {
            let inside = parts
                .iter()
                .filter(|part| (file.base..file.end).contains(&part.first_offset()));
            let indexed: u64 = inside.map(|part| u64::from(part.docs())).sum();
            file.end <= through && indexed != file.events
        };
        files.iter().filter(differs).cloned().collect()
    }

    fn hidden(&self) -> Hidden {
        Hidden::now(&self.inner.reader, &self.inner.erased)
    }

    /// Makes anew, from the log, whatever of the indexes knows of events at `ranges`, so that no byte of them is left
    /// in any file. To be called once the log has let go of them, and again if it fails: nothing else remembers what
    /// was left. They are to stay hidden until this returns. Reads and indexing go on meanwhile. Blocks for as long as
    /// that takes; what is made is synced.
    pub fn purge(&self, ranges: Vec<Range<Offset>>) -> Result<Purged, IndexError> {
        let _alone = self
            .inner
            .purging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (indexer, gone) = (&self.inner.indexer, ranges.into_iter().collect());
        // A thread of its own, since a thread that has stood back cannot come forward again.
        let worked = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                lower_priority(PURGE_NICE);
                indexer.purge(&gone)
            });
            work.join()
        });
        self.inner.numberings.forget();
        self.inner.unpacked.forget();
        worked.unwrap_or_else(|_| Err(IndexError::Shard("purging panicked".to_owned())))
    }

    /// Stops indexing and syncs everything. Closing twice is harmless.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn start(&self) -> std::io::Result<[JoinHandle<bool>; 4]> {
        let (indexer, sealer) = (self.indexer.clone(), self.indexer.clone());
        Ok([
            std::thread::Builder::new()
                .name("eye-indexer".to_owned())
                .spawn(move || indexer.run())?,
            rebuilding::start(self.indexer.clone())?,
            closing::start(self.indexer.clone())?,
            std::thread::Builder::new()
                .name("eye-shards".to_owned())
                .spawn(move || sealer.to_seal.run(&sealer))?,
        ])
    }

    fn close(&self) {
        let threads = self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some([indexer, rebuilder, closer, sealer]) = threads else {
            return;
        };
        self.indexer.progress.stop(&self.reader);
        // A thread that panicked has synced nothing.
        let indexed = indexer.join().unwrap_or(false);
        let rebuilt = rebuilder.join().unwrap_or(false);
        self.indexer.closed.close();
        let closed = closer.join().unwrap_or(false);
        self.indexer.to_seal.close();
        let sealed = sealer.join().unwrap_or(false);
        // It was told to stop, too.
        let _purged = self.purging.lock().unwrap_or_else(PoisonError::into_inner);
        if !(indexed && rebuilt && closed && sealed) {
            tracing::warn!(
                "not everything in the index could be synced; it is checked at the next start"
            );
            return;
        }
        let synced = self
            .catalog
            .sync()
            .and_then(|()| self.checkpoint.mark_clean());
        if let Err(error) = synced {
            tracing::warn!(%error, "the indexes could not be synced; they are checked at the next start");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn remove(folder: &Path) -> Result<(), IndexError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(IndexError::io("removing", folder)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
