//! The log and the indexes alone, in one process: how long acknowledged events are not yet searchable while segments
//! roll, how much memory indexing takes, how fast an index grows back, and a thousand shards.
//!
//! `cargo bench -p eye-benches --bench lag -- [steady|behind|shards]`
//!
//! | variable | default | |
//! | --- | --- | --- |
//! | `EYE_BENCH_EVENTS` | made from a seed | NDJSON of `web_events.py` |
//! | `EYE_BENCH_COUNT` | 300,000 | events in memory; sent again and again |
//! | `EYE_BENCH_RATE` | 20,000 | events/s of `steady` |
//! | `EYE_BENCH_SECONDS` | 60 | length of `steady` |
//! | `EYE_BENCH_SEGMENT_MB` | 32 | bytes of a log segment; smaller than in earnest, so that many roll |
//!
//! `behind` appends `EYE_BENCH_COUNT` events as fast as the log takes them, waits for the index, removes it, and lets
//! it grow back. `shards` has a thousand segments of whatever size that takes. Memory is this process's, without the
//! events that wait to be sent.

// A bench that cannot go on stops with the reason; there is nobody to hand an error to.
#![allow(clippy::unwrap_used)]
#![allow(clippy::cast_precision_loss, reason = "figures to be read")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

mod lag {
    pub(crate) mod shards;

    pub(crate) use super::{Store, batch};
}

use eye_index::{Index, IndexConfig, Needs};
use eye_log::{ApplicationId, Batch, EventDraft, EventRules, Log, LogConfig};
use lag::shards;
use serde::Deserialize;
use serde_json::value::RawValue;
use workload::Events;
use workload::process::{MemoryWatch, anonymous_bytes, bytes_on_disk, cpu_seconds};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    session_id: &'a RawValue,
    #[serde(borrow)]
    category: &'a RawValue,
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    timestamp: &'a RawValue,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!(
            "nothing measured: run `cargo bench -p eye-benches --bench lag -- [steady|behind|shards]`"
        );
        return;
    }
    let wanted = |name: &str| arguments.iter().any(|argument| argument == name);
    let all = !["steady", "behind", "shards"].into_iter().any(wanted);
    let events = Events::of_the_environment(setting("EYE_BENCH_COUNT", 300_000));
    println!("{} events of {}", events.len(), events.name());
    if all || wanted("steady") {
        steady(&events);
    }
    if all || wanted("behind") {
        behind(&events);
    }
    if all || wanted("shards") {
        shards::measure(&events);
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Events are sent again under other sessions, as new ones would be.
fn batch(events: &Events, number: usize, size: usize) -> Batch {
    let mut batch = Batch::new(ApplicationId(0));
    let rules = EventRules {
        now: i64::MAX / 2,
        future_tolerance: 0,
        default_offset_seconds: 0,
        event_max_bytes: 1 << 20,
        depth_max: 64,
    };
    let round = number / (events.len() / size).max(1);
    for line in events.batch(number, size).split(|byte| *byte == b'\n') {
        if line.is_empty() {
            continue;
        }
        let line: Line<'_> = serde_json::from_slice(line).unwrap();
        let session = line.session_id.get();
        let session = format!("\"{round:04x}{}", &session[5..]);
        let draft = EventDraft {
            session_id: Some(&session),
            category: Some(line.category.get()),
            name: Some(line.name.get()),
            data: Some(line.data.get()),
            timestamp: Some(line.timestamp.get()),
            ..EventDraft::default()
        };
        batch.push(&draft.validate(&rules).unwrap());
    }
    batch
}

struct Store {
    folder: tempfile::TempDir,
    log: Log,
}

impl Store {
    fn new() -> Self {
        Self::of_segments((setting("EYE_BENCH_SEGMENT_MB", 32) as u64) << 20)
    }

    fn of_segments(segment_max_bytes: u64) -> Self {
        let beside = std::env::current_exe().unwrap();
        let beside = beside.parent().unwrap();
        let folder = tempfile::TempDir::with_prefix_in("eye-bench-", beside).unwrap();
        let config = LogConfig {
            segment_max_bytes,
            ..LogConfig::default()
        };
        let (log, _) = Log::open(&folder.path().join("log"), config).unwrap();
        Self { folder, log }
    }

    fn index_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("index")
    }

    fn index(&self) -> Index {
        Index::open(&self.index_folder(), &self.log, IndexConfig::default()).unwrap()
    }
}

fn steady(events: &Events) {
    const SIZE: usize = 100;
    let rate = setting("EYE_BENCH_RATE", 20_000);
    let length = Duration::from_secs(setting("EYE_BENCH_SECONDS", 60) as u64);
    let store = Store::new();
    let index = store.index();
    let process = std::process::id();
    let base = anonymous_bytes(process);
    let memory = MemoryWatch::begin(process);
    let (over, acknowledged) = (AtomicBool::new(false), Arc::new(AtomicU64::new(0)));
    let (cpu, began) = (cpu_seconds(process), Instant::now());
    let (sent, lags) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&index, &acknowledged, &over));
        let mut number = 0;
        while began.elapsed() < length {
            let due = rate * usize::try_from(began.elapsed().as_millis()).unwrap_or(usize::MAX)
                / (1000 * SIZE);
            while number < due {
                let acknowledged = acknowledged.clone();
                let sent = batch(events, number, SIZE);
                store
                    .log
                    .append(sent, move |receipt| {
                        let receipt = receipt.unwrap();
                        let end = receipt.first_offset.unwrap() + receipt.stored as u64;
                        acknowledged.fetch_max(end, Ordering::Relaxed);
                    })
                    .unwrap();
                number += 1;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        over.store(true, Ordering::Relaxed);
        (number * SIZE, watch.join().unwrap())
    });
    let highest = lags.iter().copied().fold(0.0, f64::max);
    let above = lags.iter().filter(|lag| **lag > 1.0).count();
    println!(
        "steady: {:.0} events/s for {} s over {} segments: lag up to {highest:.2} s, above a second {:.1} % of the time; {:.1} µs of CPU an event; {} MB more anonymous memory at most",
        sent as f64 / began.elapsed().as_secs_f64(),
        length.as_secs(),
        store.log.reader().segment_bases().len(),
        above as f64 * 100.0 / lags.len() as f64,
        (cpu_seconds(process) - cpu) * 1e6 / sent as f64,
        memory.peak().saturating_sub(base) >> 20,
    );
    index.close();
    store.log.close();
}

/// Looks every 5 ms for how long the oldest acknowledged event that cannot be found has waited, seconds.
fn watch(index: &Index, acknowledged: &AtomicU64, over: &AtomicBool) -> Vec<f64> {
    let mut waiting: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut lags = Vec::new();
    while !over.load(Ordering::Relaxed) {
        waiting.push_back((Instant::now(), acknowledged.load(Ordering::Relaxed)));
        let through = index.through(Needs::Both);
        while waiting.front().is_some_and(|(_, end)| *end <= through) {
            waiting.pop_front();
        }
        let since = waiting
            .front()
            .map_or(0.0, |(at, _)| at.elapsed().as_secs_f64());
        lags.push(since);
        std::thread::sleep(Duration::from_millis(5));
    }
    lags
}

fn behind(events: &Events) {
    const SIZE: usize = 1_000;
    let store = Store::new();
    let process = std::process::id();
    let base = anonymous_bytes(process);
    let index = store.index();
    let memory = MemoryWatch::begin(process);
    let (cpu, began) = (cpu_seconds(process), Instant::now());
    let (sender, receiver) = mpsc::channel();
    for number in 0..events.len() / SIZE {
        let sender = sender.clone();
        let sent = batch(events, number, SIZE);
        let done = move |receipt: Result<_, _>| {
            sender.send(receipt.is_ok()).unwrap();
        };
        store.log.append(sent, done).unwrap();
        assert!(receiver.recv().unwrap());
    }
    let count = events.len() as f64;
    println!(
        "behind: taken at {:.0}/s",
        count / began.elapsed().as_secs_f64()
    );
    finish(
        &store,
        &index,
        began,
        cpu,
        memory.peak().saturating_sub(base),
        count,
    );
    index.close();
    drop(index);
    let folder = store.index_folder();
    std::fs::remove_dir_all(&folder).unwrap();
    let memory = MemoryWatch::begin(process);
    let (cpu, began) = (cpu_seconds(process), Instant::now());
    let index = store.index();
    print!("again, from the log: ");
    finish(&store, &index, began, cpu, 0, count);
    println!("  {} MB at most", memory.peak().saturating_sub(base) >> 20);
    index.close();
    store.log.close();
}

fn finish(store: &Store, index: &Index, began: Instant, cpu: f64, taking: u64, count: f64) {
    let process = std::process::id();
    let memory = MemoryWatch::begin(process);
    let before = anonymous_bytes(process);
    let end = store.log.reader().durable_end();
    while index.through(Needs::Both) < end {
        index.wait_for(Needs::Both, end, Duration::from_secs(1));
    }
    let seconds = began.elapsed().as_secs_f64();
    let used = cpu_seconds(process) - cpu;
    while index.status().sealing > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    println!(
        "searchable at {:.0}/s, {:.1} µs of CPU an event, {:.1} until merged after {:.1} s; anonymous memory {} MB more while taking, {} MB at the end of it, up to {} MB in all; {:.0} bytes an event",
        count / seconds,
        used * 1e6 / count,
        (cpu_seconds(process) - cpu) * 1e6 / count,
        began.elapsed().as_secs_f64(),
        taking >> 20,
        before >> 20,
        memory.peak() >> 20,
        bytes_on_disk(Path::new(&store.index_folder())) as f64 / count,
    );
}
