//! What was erased leaves no trace in any file of the index folder. Compressed and prefix-coded files are listed term
//! by term and value by value; everything is searched byte by byte, too.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use eye_log::Offset;
use eye_log::compaction::Compaction;
use eye_log::{Actor, ApplicationId, Batch, EraseRequest, EventDraft, EventRules, Log, LogConfig};
use tantivy::columnar::{ColumnarReader, DynamicColumn};
use tantivy::directory::MmapDirectory;
use tantivy::index::SegmentComponent;
use uuid::Uuid;

use crate::search::parse::parse;
use crate::{Index, IndexConfig, Needs, Order, Purged, SearchRequest};

const SECRET_SESSION: Uuid = Uuid::from_u128(0x5ec2_e75e_5510_4a6b_8c1d_77aa_0102_0304);
const SECRET_ID: Uuid = Uuid::from_u128(0x1d1d_5ec2_e700_4abc_9def_0123_4567_89ab);
const SECRET_WORD: &str = "zwiebelkuchen";
const SECRET_NUMBER: u64 = 8_374_659_283_746;

struct Store {
    folder: tempfile::TempDir,
    log: Log,
    index: Index,
}

fn open(folder: tempfile::TempDir) -> Store {
    open_merging(folder, usize::MAX)
}

/// Merges the shards of so many neighbouring segments.
fn open_merging(folder: tempfile::TempDir, merge_neighbours: usize) -> Store {
    let config = LogConfig {
        segment_max_bytes: 64 << 10,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(&folder.path().join("log"), config).unwrap();
    let config = IndexConfig {
        merge_neighbours,
        ..IndexConfig::default()
    };
    let index = Index::open(&folder.path().join("index"), &log, config).unwrap();
    Store { folder, log, index }
}

impl Store {
    fn send(&self, session: Uuid, id: Option<Uuid>, data: &str) -> Offset {
        let rules = EventRules {
            now: i64::MAX / 2,
            future_tolerance: 0,
            default_offset_seconds: 0,
            event_max_bytes: 1 << 20,
            depth_max: 64,
        };
        let (session, id) = (format!("\"{session}\""), id.map(|id| format!("\"{id}\"")));
        let draft = EventDraft {
            session_id: Some(&session),
            category: Some("\"page\""),
            name: Some("\"view\""),
            data: Some(data),
            timestamp: Some("\"2021-01-01 00:00:00\""),
            id: id.as_deref(),
            ..EventDraft::default()
        };
        let mut batch = Batch::new(ApplicationId(0));
        batch.push(&draft.validate(&rules).unwrap());
        let (sender, receiver) = mpsc::channel();
        self.log
            .append(batch, move |receipt| sender.send(receipt).unwrap())
            .unwrap();
        receiver.recv().unwrap().unwrap().first_offset.unwrap()
    }

    /// Sends about twenty segments' worth, with the secret session's events spread over them; returns where those are.
    fn fill(&self) -> Vec<Offset> {
        let mut secrets = Vec::new();
        for number in 0..2000u32 {
            let pad = "pad ".repeat(100);
            if number % 250 == 3 {
                let data = format!(
                    "{{\"cake\":\"Zwiebelkuchen\",\"n\":{SECRET_NUMBER},\"pad\":\"{pad}\"}}"
                );
                let id = secrets.is_empty().then_some(SECRET_ID);
                secrets.push(self.send(SECRET_SESSION, id, &data));
            } else {
                let data = format!("{{\"cake\":\"Apfelkuchen\",\"n\":{number},\"pad\":\"{pad}\"}}");
                self.send(Uuid::from_u128(u128::from(number % 17) << 64), None, &data);
            }
        }
        assert!(self.log.reader().segment_bases().len() > 10);
        secrets
    }

    fn caught_up(&self) -> Offset {
        let end = self.log.reader().durable_end();
        let reached = self
            .index
            .wait_for(Needs::Both, end, Duration::from_secs(60));
        assert_eq!(reached, end, "{:?}", self.index.status());
        end
    }

    fn request(&self, q: &str, order: Order) -> SearchRequest {
        SearchRequest {
            order,
            ..SearchRequest::new(
                parse(q).unwrap(),
                self.log.registry(),
                self.caught_up(),
                5000,
            )
        }
    }

    /// Asks every read there is; returns how many of the secret session's events each of them shows, and how many
    /// events there are in all.
    fn shown(&self) -> (BTreeSet<usize>, u64) {
        let mut shown = BTreeSet::new();
        for order in [Order::NewestFirst, Order::OldestFirst, Order::BySession] {
            for q in [
                SECRET_WORD.to_owned(),
                format!("n:{SECRET_NUMBER}"),
                format!("session_id:{SECRET_SESSION}"),
            ] {
                let request = self.request(&q, order);
                shown.insert(self.index.search(&request).unwrap().hits.len());
                shown.insert(usize::try_from(self.index.count(&request).unwrap()).unwrap());
            }
            let mut request = self.request("cake:*", order);
            request.session = Some(SECRET_SESSION);
            shown.insert(self.index.search(&request).unwrap().hits.len());
        }
        let listed = self.request("*", Order::BySession);
        let listed = self.index.search(&listed).unwrap().hits;
        shown.insert(
            listed
                .iter()
                .filter(|hit| hit.session == Some(SECRET_SESSION))
                .count(),
        );
        let end = self.caught_up();
        shown.insert(
            self.index
                .session_events(SECRET_SESSION, end)
                .unwrap()
                .len(),
        );
        let session = self.index.session(SECRET_SESSION, end).unwrap();
        shown.insert(session.map_or(0, |session| usize::try_from(session.count).unwrap()));
        let all = self
            .index
            .count(&self.request("*", Order::NewestFirst))
            .unwrap();
        assert_eq!(self.index.status().events, all);
        assert_eq!(listed.len() as u64, all);
        (shown, all)
    }

    fn ids_shown(&self) -> usize {
        let end = self.caught_up();
        self.index
            .event_offsets_of_id(SECRET_ID, end)
            .unwrap()
            .len()
    }

    /// Waits until no more shards than this are left.
    fn wait_for_shards(&self, most: usize) {
        let shards = self.folder.path().join("index/shards");
        for _ in 0..600 {
            if std::fs::read_dir(&shards).unwrap().count() <= most {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("more than {most} shards are left");
    }

    fn close(self) -> tempfile::TempDir {
        while self.index.status().sealing > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.index.close();
        self.log.close();
        let Self { folder, log, index } = self;
        drop((index, log));
        folder
    }

    fn erase(&self, offsets: &[Offset]) -> Vec<Range<Offset>> {
        let ranges: Vec<_> = offsets.iter().map(|offset| *offset..offset + 1).collect();
        let request = EraseRequest {
            id: Uuid::from_u128(7),
            by: Actor::default(),
            filter: self.log.erasure_filter("a session"),
            sessions: vec![SECRET_SESSION],
            ranges: ranges.clone(),
        };
        self.log.erase(request).unwrap();
        ranges
    }

    fn compact(&self) {
        let what = Compaction {
            seal_all: true,
            ..Compaction::default()
        };
        self.log.compact(&what, &mut |_, _| true).unwrap();
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Returns which kinds of places of an index folder know of which secret.
fn traces(folder: &Path) -> BTreeSet<String> {
    let needles: [(&str, &[u8]); 4] = [
        ("session", SECRET_SESSION.as_bytes()),
        ("id", SECRET_ID.as_bytes()),
        ("word", SECRET_WORD.as_bytes()),
        ("value", b"Zwiebelkuchen"),
    ];
    let mut found = BTreeSet::new();
    let mut look = |place: &str, bytes: &[u8]| {
        for (name, needle) in needles {
            if holds(bytes, needle) {
                found.insert(format!("{name} in {place}"));
            }
        }
    };
    for file in files(folder) {
        let ending = file
            .extension()
            .map_or_else(String::new, |ending| ending.to_string_lossy().into_owned());
        look(
            &format!("the bytes of a file {ending}"),
            &std::fs::read(&file).unwrap(),
        );
    }
    let mut numbers = false;
    for shard in std::fs::read_dir(folder.join("shards")).unwrap() {
        let directory = MmapDirectory::open(shard.unwrap().path()).unwrap();
        let index = tantivy::Index::open(directory).unwrap();
        for segment in index.searchable_segments().unwrap() {
            let reader = tantivy::SegmentReader::open(&segment).unwrap();
            for (field, entry) in index
                .schema()
                .fields()
                .filter(|(_, entry)| entry.is_indexed())
            {
                let terms = reader.inverted_index(field).unwrap();
                let mut stream = terms.terms().stream().unwrap();
                while stream.advance() {
                    look(&format!("the terms of {}", entry.name()), stream.key());
                }
            }
            let file = segment.open_read(SegmentComponent::FastFields).unwrap();
            let columns = ColumnarReader::open(file).unwrap();
            for (name, handle) in columns.list_columns().unwrap() {
                look("a column's name", name.as_bytes());
                match handle.open().unwrap() {
                    DynamicColumn::Str(column) => {
                        let dictionary = column.dictionary();
                        for ord in 0..dictionary.num_terms() as u64 {
                            let mut term = Vec::new();
                            dictionary.ord_to_term(ord, &mut term).unwrap();
                            look("a column of strings", &term);
                        }
                    }
                    DynamicColumn::Bytes(column) => {
                        let dictionary = column.dictionary();
                        for ord in 0..dictionary.num_terms() as u64 {
                            let mut term = Vec::new();
                            dictionary.ord_to_term(ord, &mut term).unwrap();
                            look("a column of bytes", &term);
                        }
                    }
                    DynamicColumn::I64(column) => {
                        numbers |= column
                            .values
                            .iter()
                            .any(|value| value == SECRET_NUMBER as i64);
                    }
                    DynamicColumn::U64(column) => {
                        numbers |= column.values.iter().any(|value| value == SECRET_NUMBER);
                    }
                    DynamicColumn::F64(column) => {
                        numbers |= column
                            .values
                            .iter()
                            .any(|value| value == SECRET_NUMBER as f64);
                    }
                    _ => {}
                }
            }
        }
    }
    for catalog in std::fs::read_dir(folder).unwrap() {
        let path = catalog.unwrap().path();
        if path.is_dir()
            && path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("catalog")
        {
            for pair in sled::open(&path).unwrap().iter() {
                let (key, value) = pair.unwrap();
                look("the catalog", &key);
                look("the catalog", &value);
            }
        }
    }
    if numbers {
        found.insert("the number in a column".to_owned());
    }
    found
}

#[test]
fn what_is_erased_vanishes_at_once_and_after_a_purge_leaves_no_trace() {
    let mut store = open(tempfile::tempdir().unwrap());
    let secrets = store.fill();
    assert_eq!(store.shown(), (BTreeSet::from([8]), 2000));
    assert_eq!(store.ids_shown(), 1);
    let folder = store.close();
    // Whoever looks has to find what is there.
    let before = traces(&folder.path().join("index"));
    for place in [
        "session in a column of bytes",
        "session in the catalog",
        "session in the bytes of a file ",
        "id in the terms of id",
        "word in the terms of words",
        "value in a column of strings",
        "the number in a column",
    ] {
        assert!(before.contains(place), "{place}: {before:?}");
    }

    store = open(folder);
    let ranges = store.erase(&secrets);
    // Before anything was rewritten.
    assert_eq!(store.shown(), (BTreeSet::from([0]), 1992));
    assert_eq!(store.ids_shown(), 0);
    store.compact();
    let purged = store.index.purge(ranges).unwrap();
    assert!(
        purged.shards > 4 && purged.shards < purged.segments,
        "{purged:?}"
    );
    store
        .log
        .complete_erasure(Uuid::from_u128(7), Actor::default(), "{}".to_owned())
        .unwrap();
    assert!(store.log.reader().erased().is_empty());
    assert_eq!(store.shown(), (BTreeSet::from([0]), 1992));
    let folder = store.close();
    assert_eq!(traces(&folder.path().join("index")), BTreeSet::new());
    assert_eq!(
        std::fs::read_dir(folder.path().join("index/shards"))
            .unwrap()
            .count(),
        purged.segments,
        "one folder a segment"
    );
    // What a purge leaves that was broken off.
    let index = folder.path().join("index");
    for left in [
        "catalog",
        "catalog-9",
        "shards/00000000000000000000-9",
        "shards/00000000000000000000",
    ] {
        let left = index.join(left);
        if !left.exists() {
            std::fs::create_dir(&left).unwrap();
            std::fs::write(left.join("left"), SECRET_SESSION.as_bytes()).unwrap();
        }
    }
    let store = open(folder);
    assert_eq!(store.shown(), (BTreeSet::from([0]), 1992));
    assert_eq!(store.ids_shown(), 0);
    assert_eq!(traces(&store.close().path().join("index")), BTreeSet::new());
}

#[test]
fn what_was_set_as_erased_is_hidden_and_comes_back_when_it_is_not() {
    let store = open(tempfile::tempdir().unwrap());
    let secrets = store.fill();
    store.caught_up();
    let ranges = |offsets: &[Offset]| offsets.iter().map(|offset| *offset..offset + 1).collect();
    store.index.set_erased(ranges(&secrets[1..]));
    assert_eq!(store.shown(), (BTreeSet::from([1]), 1993));
    let end = store.caught_up();
    store.index.set_erased(std::iter::once(0..end).collect());
    assert_eq!(store.shown(), (BTreeSet::from([0]), 0));
    store.index.set_erased(Vec::new());
    assert_eq!(store.shown(), (BTreeSet::from([8]), 2000));
    assert_eq!(store.index.purge(Vec::new()).unwrap(), Purged::default());
    let last = end - 1;
    assert!(
        store
            .index
            .purge(std::iter::once(last..end).collect())
            .is_err(),
        "a segment still being written"
    );
}

#[test]
fn reads_and_indexing_go_on_while_something_is_purged() {
    let store = open(tempfile::tempdir().unwrap());
    let secrets = store.fill();
    store.caught_up();
    let ranges = store.erase(&secrets);
    store.compact();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            store.index.purge(ranges).unwrap();
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut sent = 0;
        let other = Uuid::from_u128(16 << 64);
        let before = store
            .index
            .session(other, store.caught_up())
            .unwrap()
            .unwrap()
            .count;
        while !done.load(std::sync::atomic::Ordering::Acquire) || sent == 0 {
            for _ in 0..50 {
                store.send(
                    other,
                    None,
                    &format!("{{\"pad\":\"{}\"}}", "pad ".repeat(100)),
                );
                sent += 1;
            }
            let (shown, all) = store.shown();
            assert_eq!((shown, all), (BTreeSet::from([0]), 1992 + sent));
            let session = store
                .index
                .session(other, store.caught_up())
                .unwrap()
                .unwrap();
            assert_eq!(session.count, before + sent);
        }
    });
    let folder = store.close();
    assert_eq!(traces(&folder.path().join("index")), BTreeSet::new());
}

/// A shard that has several segments is made anew as a whole, once.
#[test]
fn what_is_erased_leaves_no_trace_in_merged_shards() {
    let mut store = open_merging(tempfile::tempdir().unwrap(), 4);
    let secrets = store.fill();
    store.caught_up();
    let segments = store.log.reader().segment_bases().len();
    store.wait_for_shards(segments / 3);
    assert_eq!(store.shown(), (BTreeSet::from([8]), 2000));
    let ranges = store.erase(&secrets);
    store.compact();
    // What a merge left that could not remove it.
    let left = store
        .folder
        .path()
        .join("index/shards/00000000000000000000-9");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("left"), SECRET_SESSION.as_bytes()).unwrap();
    let purged = store.index.purge(ranges).unwrap();
    assert!(!left.exists());
    assert!(
        purged.shards > 0 && purged.shards <= segments / 3,
        "{purged:?}"
    );
    assert_eq!(store.shown(), (BTreeSet::from([0]), 1992));
    let folder = store.close();
    assert_eq!(traces(&folder.path().join("index")), BTreeSet::new());
    store = open_merging(folder, 4);
    assert_eq!(store.shown(), (BTreeSet::from([0]), 1992));
}
