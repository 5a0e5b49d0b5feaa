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
use crate::search::{Fields, LogCheck, Matching, collect, count, in_log_order, plan};
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
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(300),
            nice: 5,
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
        let request = SearchRequest {
            query: Clause {
                kind: Kind::Field {
                    field: Field::Id,
                    test: Test::Id(id),
                },
                span: Span::default(),
            },
            registry: Arc::default(),
            application: None,
            from: None,
            to: None,
            category: None,
            name: None,
            session: None,
            as_of,
            order: Order::NewestFirst,
            after: None,
            limit: SAME_ID_MAX,
            deadline: None,
        };
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
                .spawn(move || sealer.to_seal.run(&sealer.progress, &sealer.reader))?,
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::sync::mpsc;

    use eye_log::{ApplicationId, Batch, EventDraft, EventRules, LogConfig};
    use serde_json::{Value, json};

    use super::*;
    use crate::search::parse::parse;
    use crate::search::part::BLOCK_DOCS;

    struct Store {
        folder: tempfile::TempDir,
        log: Log,
        index: Index,
    }

    fn open(folder: tempfile::TempDir) -> Store {
        open_with(folder, 64 << 10)
    }

    fn open_with(folder: tempfile::TempDir, segment_max_bytes: u64) -> Store {
        let config = LogConfig {
            segment_max_bytes,
            ..LogConfig::default()
        };
        let (log, _) = Log::open(&folder.path().join("log"), config).unwrap();
        let index =
            Index::open(&folder.path().join("index"), &log, IndexConfig::default()).unwrap();
        Store { folder, log, index }
    }

    impl Store {
        fn send(&self, events: &[(u128, &str, &str, &str)]) {
            let mut batch = Batch::new(ApplicationId(0));
            let rules = EventRules {
                now: i64::MAX / 2,
                future_tolerance: 0,
                default_offset_seconds: 0,
                event_max_bytes: 1 << 20,
                depth_max: 64,
            };
            for (session, name, timestamp, data) in events {
                let quoted = |text: &str| format!("\"{text}\"");
                let (session, name, timestamp) = (
                    quoted(&Uuid::from_u128(*session).to_string()),
                    quoted(name),
                    quoted(timestamp),
                );
                let draft = EventDraft {
                    session_id: Some(&session),
                    category: Some("\"Page View\""),
                    name: Some(&name),
                    data: Some(data),
                    timestamp: Some(&timestamp),
                    ..EventDraft::default()
                };
                batch.push(&draft.validate(&rules).unwrap());
            }
            let (sender, receiver) = mpsc::channel();
            self.log
                .append(batch, move |receipt| sender.send(receipt).unwrap())
                .unwrap();
            assert_eq!(receiver.recv().unwrap().unwrap().stored, events.len());
        }

        fn request(&self, q: &str, order: Order, limit: usize) -> SearchRequest {
            let end = self.log.reader().durable_end();
            assert_eq!(
                self.index
                    .wait_for(Needs::Both, end, Duration::from_secs(20)),
                end,
                "{:?}",
                self.index.status()
            );
            SearchRequest {
                query: parse(q).unwrap(),
                registry: self.log.registry(),
                application: None,
                from: None,
                to: None,
                category: None,
                name: None,
                session: None,
                as_of: end,
                order,
                after: None,
                limit,
                deadline: None,
            }
        }

        fn found(&self, q: &str) -> Vec<Offset> {
            let request = self.request(q, Order::NewestFirst, 1000);
            let mut offsets: Vec<_> = self
                .index
                .search(&request)
                .unwrap()
                .hits
                .iter()
                .map(|hit| hit.offset)
                .collect();
            assert_eq!(
                self.index.count(&request).unwrap(),
                offsets.len() as u64,
                "{q}"
            );
            offsets.sort_unstable();
            offsets
        }

        fn reopen(self) -> Store {
            self.index.close();
            self.log.close();
            let Store { folder, log, index } = self;
            drop((log, index));
            open(folder)
        }
    }

    #[test]
    fn values_are_counted_the_same_with_numbers_and_without() {
        let store = open(tempfile::tempdir().unwrap());
        let registry = store.log.registry();
        let fields = ["path", "word", "name"].map(|name| FieldColumns::named(name, &registry));
        let fields = fields.map(Option::unwrap);
        let options = FacetOptions {
            size: 5,
            times: false,
        };
        let long = "x".repeat(100);
        // Room for the strings of all three fields, of some of them (so that they take turns), and of none.
        let bounds = [usize::MAX, 40_000, 20_000, 2_000, 0].map(Numberings::bounded);
        let mut counts: [std::collections::HashMap<String, u64>; 3] = Default::default();
        for round in 0..8u64 {
            let events: Vec<_> = (0..150u64)
                .map(|number| {
                    let path = format!("/{}/{}", number % 7, (round * number) % 90);
                    let word = format!("{long}{}", round * 150 + number);
                    let name = format!("n{}", number % 3);
                    for (counts, value) in counts.iter_mut().zip([&path, &word, &name]) {
                        *counts.entry(value.clone()).or_default() += 1;
                    }
                    (name, format!("{{\"path\":\"{path}\",\"word\":\"{word}\"}}"))
                })
                .collect();
            let events: Vec<_> = events
                .iter()
                .map(|(name, data)| (1, name.as_str(), "2021-01-01 00:00:00", data.as_str()))
                .collect();
            store.send(&events);
            let request = store.request("*", Order::NewestFirst, 0);
            let (total, told) = store.index.facets(&request, &fields, options).unwrap();
            assert_eq!(total, (round + 1) * 150);
            for (figures, counts) in told.iter().zip(&counts) {
                let mut expected: Vec<_> = counts.iter().collect();
                expected.sort_unstable_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
                let values = figures.values.iter().map(|(value, count)| match value {
                    FacetValue::Text(text) => (text, count),
                    _ => panic!("{value:?}"),
                });
                assert!(values.eq(expected.iter().copied().take(5)), "{figures:?}");
                assert_eq!(figures.distinct, counts.len() as u64);
            }
            for numberings in &bounds {
                for _ in 0..2 {
                    let ask = |matching: &Matching<'_>| {
                        facets(matching, &fields, options, numberings).map(|(_, figures)| figures)
                    };
                    assert_eq!(store.index.matching(&request, ask).unwrap(), told);
                }
                assert!(numberings.is_bounded());
            }
        }
        assert_eq!(bounds.map(|one| one.numbered()), [3, 2, 1, 1, 0]);
        store.index.purge(vec![]).unwrap();
        assert_eq!(store.index.inner.numberings.numbered(), 0);
    }

    #[test]
    fn values_of_matches_near_and_far_apart_are_counted_where_others_have_none_or_others() {
        type Matches = fn(usize) -> bool;
        let store = open(tempfile::tempdir().unwrap());
        let registry = store.log.registry();
        // A word says how far apart its matches are.
        let words: [(&str, Matches); 6] = [
            ("lone", |number| number == 100),
            ("near", |number| {
                (40..360).contains(&number) && number % 2 == 0
            }),
            ("far", |number| {
                (40..360).contains(&number) && number % 9 == 0
            }),
            ("across", |number| number % 2 == 0),
            ("before", |number| number < 25),
            ("all", |_| true),
        ];
        // Few strings, and more than are counted side by side.
        let fields = [("few", 5), ("many", 280)];
        let columns = fields.map(|(name, _)| FieldColumns::named(name, &registry).unwrap());
        let long = "x".repeat(300);
        // Events from 30 to 370 have values, now and then other ones than a string, and one that is in no column.
        let values = |name: &str, strings: usize, number: usize| {
            let string = format!("v{:03}", number * 7 % strings);
            match number % 50 {
                _ if !(30..370).contains(&number) => json!([]),
                31 if name == "few" => json!(null),
                32 if name == "few" => json!(7),
                33 if name == "few" => json!(true),
                34 if name == "few" => json!([string, 7]),
                49 if name == "few" => json!([string, long]),
                _ => json!(string),
            }
        };
        let data: Vec<String> = (0..400)
            .map(|number| {
                let said = words.iter().filter(|(_, has)| has(number));
                let said: Vec<&str> = said.map(|(word, _)| *word).collect();
                let [few, many] = fields.map(|(name, strings)| values(name, strings, number));
                json!({"text": said.join(" "), "few": few, "many": many}).to_string()
            })
            .collect();
        let events: Vec<_> = data
            .iter()
            .map(|data| (1, "a", "2021-01-01 00:00:00", data.as_str()))
            .collect();
        store.send(&events);
        for ((word, has), times) in words
            .into_iter()
            .flat_map(|word| [(word, false), (word, true)])
        {
            let request = store.request(word, Order::NewestFirst, 0);
            let options = FacetOptions { size: 1000, times };
            let (total, told) = store.index.facets(&request, &columns, options).unwrap();
            let matches: Vec<usize> = (0..400).filter(|number| has(*number)).collect();
            assert_eq!(total, matches.len() as u64, "{word}");
            for ((name, strings), figures) in fields.iter().zip(told) {
                let mut expected = BTreeMap::<String, u64>::new();
                let mut present = 0;
                for number in &matches {
                    let values = match values(name, *strings, *number) {
                        Value::Array(values) => values,
                        Value::Null => Vec::new(),
                        value => vec![value],
                    };
                    present += u64::from(!values.is_empty());
                    for value in values {
                        *expected.entry(value.to_string()).or_default() += 1;
                    }
                }
                assert_eq!(figures.present, present, "{word} {name}");
                let told = figures.values.into_iter().map(|(value, count)| {
                    let value = match value {
                        FacetValue::Text(text) => json!(text),
                        FacetValue::Integer(number) => json!(i64::try_from(number).unwrap()),
                        FacetValue::Bool(value) => json!(value),
                        other => panic!("{other:?}"),
                    };
                    (value.to_string(), count)
                });
                assert_eq!(told.collect::<BTreeMap<_, _>>(), expected, "{word} {name}");
            }
        }
    }

    #[test]
    fn first_rows_are_found_wherever_their_blocks_lie() {
        type Matches = fn(usize, usize) -> bool;
        const BLOCKS: usize = 24;
        let store = open_with(tempfile::tempdir().unwrap(), 64 << 20);
        let docs = BLOCK_DOCS as usize;
        // Blocks in an order of their own, and within one backwards; some instants are those of two events.
        let rank = |number: usize| number / docs * 7 % BLOCKS;
        let second = |number: usize| rank(number) * docs + (docs - number % docs) / 2;
        let start = "2021-01-01T00:00:00Z"
            .parse::<chrono::DateTime<chrono::Utc>>()
            .unwrap();
        let at = |number: usize| {
            start + chrono::Duration::seconds(i64::try_from(second(number)).unwrap())
        };
        let words: [(&str, Matches); 4] = [
            ("spread", |number, _| number % 3 == 0),
            ("old", |_, rank| rank < 8),
            ("new", |_, rank| rank > 15),
            ("rare", |number, _| number % 4001 == 0),
        ];
        let data: Vec<(String, String)> = (0..BLOCKS * docs)
            .map(|number| {
                let said = words.iter().filter(|(_, has)| has(number, rank(number)));
                let said: Vec<&str> = said.map(|(word, _)| *word).collect();
                let data = json!({"text": said.join(" "), "n": number % 500});
                (at(number).to_rfc3339(), data.to_string())
            })
            .collect();
        let events: Vec<_> = data
            .iter()
            .map(|(time, data)| (1, "a", time.as_str(), data.as_str()))
            .collect();
        store.send(&events);
        let narrowed = words.map(|(word, _)| format!("{word} n:7"));
        let plain = words.map(|(word, _)| word.to_owned());
        for (query, order) in narrowed
            .iter()
            .chain(&plain)
            .flat_map(|query| [Order::NewestFirst, Order::OldestFirst].map(|order| (query, order)))
        {
            let (_, has) = words
                .iter()
                .find(|(word, _)| query.starts_with(word))
                .unwrap();
            let mut expected: Vec<(usize, u64)> = (0..BLOCKS * docs)
                .filter(|number| has(*number, rank(*number)))
                .filter(|number| !query.ends_with("n:7") || number % 500 == 7)
                .map(|number| (second(number), number as u64))
                .collect();
            expected.sort_unstable();
            if order == Order::NewestFirst {
                expected.reverse();
            }
            let mut request = store.request(query, order, 20);
            for page in expected.chunks(20).take(4) {
                let answer = store.index.search(&request).unwrap();
                let offsets: Vec<u64> = answer.hits.iter().map(|hit| hit.offset).collect();
                let wanted: Vec<u64> = page.iter().map(|(_, offset)| *offset).collect();
                assert_eq!(offsets, wanted, "{query} {order:?}");
                let last = answer.hits.last().unwrap();
                request.after = Some(Place {
                    session: None,
                    timestamp: last.timestamp,
                    offset: last.offset,
                });
            }
        }
    }

    #[test]
    fn what_was_stored_is_found_at_once_by_words_fields_and_times() {
        let store = open(tempfile::tempdir().unwrap());
        store.send(&[
            (1, "a", "2021-01-01 00:00:00", r#"{"path":"/Reviews/","price":10.5,"n":9007199254740993,"x":null}"#),
            (1, "b", "2021-01-02 00:00:00", r#"{"path":"/about","note":"late delivery","tags":["of","Café"],"f":0.5}"#),
            (2, "a", "2021-01-03 00:00:00", r#"{"a.b":1,"a":{"b":2,"c":{"d":"deep value"}},"ok":true,"n":9007199254740992,"f":3}"#),
        ]);
        let long = "z".repeat(400);
        store.send(&[(
            3,
            "long",
            "2021-01-04 00:00:00",
            &format!("{{\"text\":\"{long} end\",\"e\":1e400,\"s\":\"\\ud800\"}}"),
        )]);
        for (q, expected) in [
            ("*", vec![0, 1, 2, 3]),
            ("late", vec![1]),
            ("\"late delivery\"", vec![1]),
            ("\"delivery of\"", vec![]),
            ("\"late delivery\"~2", vec![1]),
            ("cafe", vec![1]),
            ("path:\"/reviews/\"", vec![0]),
            ("path==\"/reviews/\"", vec![]),
            ("path==\"/Reviews/\"", vec![0]),
            ("path:/*", vec![0, 1]),
            ("name:A", vec![0, 2]),
            ("category:page", vec![]),
            ("category:\"page view\"", vec![0, 1, 2, 3]),
            ("price:10.5", vec![0]),
            ("price:>10", vec![0]),
            ("n:9007199254740993", vec![0]),
            ("n:9007199254740992", vec![2]),
            ("x:null", vec![0]),
            ("x:*", vec![]),
            ("a.b:1", vec![2]),
            ("a\\.b:1", vec![2]),
            ("a\\.b:2", vec![]),
            ("a:*", vec![2]),
            ("a.c.d:value", vec![2]),
            ("ok:true", vec![2]),
            ("f:[0 TO 1]", vec![1]),
            ("tags:of", vec![1]),
            ("text:end", vec![3]),
            ("text:*", vec![3]),
            ("e:>1", vec![3]),
            ("NOT name:a", vec![1, 3]),
            ("late OR price:10.5", vec![0, 1]),
            ("name:a -late", vec![0, 2]),
            ("timestamp:2021-01-02", vec![1]),
            ("timestamp:>2021-01-02", vec![2, 3]),
            ("deliv*", vec![1]),
            ("delivry~1", vec![1]),
            ("offset:>=2", vec![2, 3]),
            (
                "session_id:00000000-0000-0000-0000-000000000001",
                vec![0, 1],
            ),
        ] {
            assert_eq!(store.found(q), expected, "{q}");
        }
    }

    #[test]
    fn answers_stay_the_same_over_segments_restarts_and_a_removed_index() {
        let mut store = open(tempfile::tempdir().unwrap());
        let mut all = Vec::new();
        for number in 0..600u32 {
            // Timestamps jump about, with ties.
            let day = (number * 7919) % 28 + 1;
            let timestamp = format!("2021-01-{day:02} 00:00:00");
            let data = format!("{{\"n\":{number},\"pad\":\"{}\"}}", "pad ".repeat(60));
            store.send(&[(
                u128::from(number % 13),
                if number % 3 == 0 { "three" } else { "other" },
                &timestamp,
                &data,
            )]);
            all.push((day, u64::from(number), number % 13));
        }
        assert!(store.log.reader().segment_bases().len() > 3);
        let check = |store: &Store| {
            let threes: Vec<u64> = (0..600).filter(|number| number % 3 == 0).collect();
            assert_eq!(store.found("three"), threes);
            assert_eq!(store.found("n:599"), [599]);
            for order in [Order::NewestFirst, Order::OldestFirst, Order::BySession] {
                let mut expected = all.clone();
                match order {
                    Order::NewestFirst => {
                        expected.sort_by_key(|(day, offset, _)| std::cmp::Reverse((*day, *offset)))
                    }
                    Order::OldestFirst => expected.sort_by_key(|(day, offset, _)| (*day, *offset)),
                    Order::BySession | Order::BestFirst => {
                        expected.sort_by_key(|(day, offset, session)| {
                            std::cmp::Reverse((*session, *day, *offset))
                        });
                    }
                }
                let mut request = store.request("*", order, 37);
                let mut paged = Vec::new();
                loop {
                    let answer = store.index.search(&request).unwrap();
                    paged.extend(answer.hits.iter().map(|hit| hit.offset));
                    request.after = answer.hits.last().copied();
                    if !answer.more {
                        break;
                    }
                }
                assert_eq!(
                    paged,
                    expected.iter().map(|row| row.1).collect::<Vec<_>>(),
                    "{order:?}"
                );
            }
            let session = store
                .index
                .session(Uuid::from_u128(5), 600)
                .unwrap()
                .unwrap();
            assert_eq!(
                session.count,
                all.iter().filter(|row| row.2 == 5).count() as u64
            );
        };
        check(&store);
        store = store.reopen();
        check(&store);
        store.index.close();
        store.log.close();
        let Store { folder, log, index } = store;
        drop((log, index));
        let mut folder = folder;
        for part in ["", "shards", "catalog"] {
            std::fs::remove_dir_all(folder.path().join("index").join(part)).unwrap();
            let store = open(folder);
            check(&store);
            store.index.close();
            store.log.close();
            folder = store.folder;
        }
    }

    #[test]
    fn a_read_waits_for_no_longer_than_a_commit_takes_while_events_keep_coming() {
        let store = open(tempfile::tempdir().unwrap());
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    store.send(&[(1, "a", "2021-01-01 00:00:00", "{}")]);
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            let mut waits = Vec::new();
            for _ in 0..20 {
                let end = store.log.reader().durable_end();
                let began = std::time::Instant::now();
                let reached = store
                    .index
                    .wait_for(Needs::Search, end, Duration::from_secs(10));
                assert!(reached >= end);
                waits.push(began.elapsed());
                std::thread::sleep(Duration::from_millis(25));
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            // Far below the second that the indexer sleeps when nobody nudges it.
            waits.sort();
            assert!(waits[10] < Duration::from_millis(500), "{waits:?}");
        });
    }
}
