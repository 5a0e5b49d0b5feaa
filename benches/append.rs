//! What the log costs by itself: appending into memory and on the disk, sealing, reading, verifying, opening, memory.
//!
//! ```text
//! EYE_BENCH_EVENTS=FILE cargo bench -p eye-benches --bench append             # everything
//! cargo bench -p eye-benches --bench append -- memory                         # one of: memory disk sealed open use
//! ```
//!
//! `EYE_BENCH_COUNT` (1,000,000) events; `EYE_BENCH_SEALED` names NDJSON files, with colons between, whose sealed size is
//! wanted; the disk is where the temporary folder is (`TMPDIR`).

// A bench that cannot go on stops with the reason; there is nobody to hand an error to.
#![allow(clippy::unwrap_used)]
// Sizes here are small, and random figures are cut on purpose.
#![allow(clippy::cast_possible_truncation)]

mod append {
    pub(crate) mod in_memory;
    pub(crate) mod memory_use;
    pub(crate) mod on_disk;
    pub(crate) mod opening;
    pub(crate) mod sealed;

    pub(crate) use super::{BATCH, Ids, batch_of, batches, median, onto_a_spare, send};
}

use append::{in_memory, memory_use, on_disk, opening, sealed};
use eye_log::storage::Storage;
use eye_log::{ApplicationId, Batch, EventDraft, EventRules, Log};
use serde_json::value::RawValue;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use workload::Events;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const BATCH: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, data, lines] = &arguments[..]
        && command == memory_use::COMMAND
    {
        return memory_use::run(Path::new(data), Path::new(lines));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing measured: run `cargo bench -p eye-benches --bench append`");
        return;
    }
    let wanted = |name: &str| {
        let mut named = arguments
            .iter()
            .filter(|argument| !argument.starts_with('-'))
            .peekable();
        named.peek().is_none() || named.any(|argument| argument == name)
    };
    let count = std::env::var("EYE_BENCH_COUNT").map_or(1_000_000, |text| text.parse().unwrap());
    if wanted("memory") || wanted("disk") {
        let events = Events::of_the_environment(count);
        println!(
            "{} events of {}, {} bytes",
            events.len(),
            events.name(),
            events.bytes()
        );
        if wanted("memory") {
            in_memory::measure(&events);
        }
        if wanted("disk") {
            on_disk::measure(&events);
        }
    }
    if wanted("sealed") {
        let files = std::env::var("EYE_BENCH_SEALED").unwrap_or_default();
        let mut files: Vec<String> = files
            .split(':')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        // Without files of real events, those of the other benches.
        let folder = tempfile::tempdir().unwrap();
        if files.is_empty() {
            let path = folder.path().join("events.ndjson");
            let events = Events::of_the_environment(count);
            std::fs::write(&path, events.lines(0..events.len())).unwrap();
            files.push(path.display().to_string());
        }
        files
            .iter()
            .for_each(|file| sealed::measure(Path::new(file)));
    }
    if wanted("open") {
        opening::measure();
    }
    if wanted("use") {
        memory_use::measure(count);
    }
}

/// Which ids the events bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// None: the server makes them.
    None,
    /// Those that `eye send` makes: the same for all lines of a file, but for the line's number.
    OfLines,
    /// Sixteen bytes that look random, as SDKs make them.
    Random,
}

impl Ids {
    fn name(self) -> &'static str {
        match self {
            Self::None => "without ids",
            Self::OfLines => "with the ids of eye send",
            Self::Random => "with random ids",
        }
    }

    fn of(self, number: u64) -> Option<uuid::Uuid> {
        let number = u128::from(number);
        match self {
            Self::None => None,
            Self::OfLines => Some(0x6a1f_93c2_77d0_8b4e_a51c << 48 | number),
            Self::Random => Some(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
        }
        .map(uuid::Uuid::from_u128)
    }
}

/// A line of the API's shape, borrowed.
#[derive(serde::Deserialize)]
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

/// Makes a batch of lines, of which the first has this number.
fn batch_of(lines: &[u8], ids: Ids, first: u64) -> Batch {
    let rules = EventRules {
        now: i64::MAX / 2,
        future_tolerance: 0,
        default_offset_seconds: 0,
        event_max_bytes: 1 << 20,
        depth_max: 64,
    };
    let mut batch = Batch::new(ApplicationId(0));
    for (number, line) in lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .enumerate()
    {
        let line: Line<'_> = serde_json::from_slice(line).unwrap();
        let id = ids.of(first + number as u64).map(|id| format!("\"{id}\""));
        let draft = EventDraft {
            session_id: Some(line.session_id.get()),
            category: Some(line.category.get()),
            name: Some(line.name.get()),
            data: Some(line.data.get()),
            timestamp: Some(line.timestamp.get()),
            id: id.as_deref(),
            ..EventDraft::default()
        };
        batch.push(&draft.validate(&rules).unwrap());
    }
    batch
}

fn batches(events: &Events, size: usize) -> Vec<Batch> {
    (0..events.len() / size)
        .map(|number| batch_of(events.batch(number, size), Ids::None, 0))
        .collect()
}

/// Sends batches, 16 on the way at a time, and waits for all answers. Returns the seconds it took.
fn send(log: &Log, batches: Vec<Batch>) -> f64 {
    let (sender, answers) = mpsc::channel();
    let began = Instant::now();
    let (mut sent, all) = (0usize, batches.len());
    let mut answered = 0;
    for batch in batches {
        let sender = sender.clone();
        log.append(batch, move |answer| {
            sender.send(answer.unwrap().stored).unwrap()
        })
        .unwrap();
        sent += 1;
        while sent - answered >= 16 {
            answers.recv().unwrap();
            answered += 1;
        }
    }
    while answered < all {
        answers.recv().unwrap();
        answered += 1;
    }
    began.elapsed().as_secs_f64()
}

/// Rolls until the active segment is a spare that was filled ahead, as it is in service: filling is the keeper's work, beside.
fn onto_a_spare(log: &Log, storage: &dyn Storage, events: &Events, segment_bytes: u64) {
    let filled = || storage.open("spare").and_then(|spare| spare.size());
    send(log, vec![batch_of(events.batch(0, BATCH), Ids::None, 0)]);
    log.roll().unwrap();
    while filled().unwrap_or(0) < segment_bytes {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    send(log, vec![batch_of(events.batch(1, BATCH), Ids::None, 0)]);
    log.roll().unwrap();
    // The next one is being filled; and what was closed is sealed.
    while filled().unwrap_or(0) < segment_bytes {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
