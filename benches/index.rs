//! What indexing costs with bare tantivy and the shards' own schema: the ceiling of "from first byte to searchable",
//! and what each field costs in CPU and in bytes. Expected: words with positions cost most, the columns of `data` next,
//! the built-in fields little.
//!
//! `cargo bench -p eye-benches --bench index`. `EYE_BENCH_EVENTS` names an NDJSON file (made from a seed otherwise),
//! `EYE_BENCH_COUNT` how many events of it (300,000).

// A bench that cannot go on stops with the reason; there is nobody to hand an error to.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use eye_index::search::bare::BareTantivy;
use eye_log::ApplicationId;
use eye_log::record::EventRecord;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;
use workload::Events;
use workload::process::cpu_seconds;

#[derive(Deserialize)]
struct Line {
    session_id: Uuid,
    category: String,
    name: String,
    data: Box<RawValue>,
    timestamp: String,
}

/// What a run of one choice of fields came to.
struct Run {
    cpu_us: f64,
    rate: f64,
    committed_bytes: f64,
    merged_bytes: f64,
    merge_cpu_us: f64,
    by_ending: BTreeMap<String, u64>,
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("nothing measured: run `cargo bench -p eye-benches --bench index`");
        return;
    }
    let count = std::env::var("EYE_BENCH_COUNT").map_or(300_000, |count| count.parse().unwrap());
    let source = Events::of_the_environment(count);
    let lines: Vec<(Line, i64)> = (0..count)
        .map(|index| {
            let line: Line = serde_json::from_slice(source.lines(index..index + 1)).unwrap();
            let timestamp = eye_log::parse_timestamp(&line.timestamp, 0).unwrap();
            (line, timestamp)
        })
        .collect();
    println!("{count} events of {}", source.name());
    println!(
        "{:<28} {:>8} {:>10} {:>12} {:>12} {:>10}",
        "fields", "CPU µs", "events/s", "bytes", "merged", "merge µs"
    );
    let all = [
        "words",
        "data",
        "offset",
        "timestamp",
        "application",
        "session",
        "category",
        "name",
    ];
    let mut choices: Vec<(String, Vec<&str>)> = vec![("all (the ceiling)".to_owned(), vec![])];
    for field in all {
        choices.push((format!("all but {field}"), vec![field]));
    }
    choices.push((
        "words alone".to_owned(),
        all.into_iter().filter(|field| *field != "words").collect(),
    ));
    choices.push((
        "columns of data alone".to_owned(),
        all.into_iter().filter(|field| *field != "data").collect(),
    ));
    let mut whole = None;
    for (name, without) in &choices {
        let run = measure(&lines, without);
        println!(
            "{name:<28} {:>8.2} {:>10.0} {:>12.1} {:>12.1} {:>10.2}",
            run.cpu_us, run.rate, run.committed_bytes, run.merged_bytes, run.merge_cpu_us
        );
        whole.get_or_insert(run.by_ending);
    }
    println!("bytes per event by file, merged, all fields:");
    for (ending, bytes) in whole.unwrap_or_default() {
        println!("  {ending:<12} {:>8.1}", per_event(bytes, count));
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures to be read")]
fn per_event(sum: u64, count: usize) -> f64 {
    sum as f64 / count as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures to be read")]
fn measure(lines: &[(Line, i64)], without: &[&str]) -> Run {
    let count = lines.len();
    let beside = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    let folder = tempfile::TempDir::with_prefix_in("eye-bench-", beside).unwrap();
    let cpu = || cpu_seconds(std::process::id());
    let (cpu_before, started) = (cpu(), Instant::now());
    let mut index = BareTantivy::create(folder.path(), without).unwrap();
    for (offset, (line, timestamp)) in (0..).zip(lines) {
        let event = EventRecord {
            id: Uuid::nil(),
            received_at: *timestamp,
            application: ApplicationId(0),
            session_id: line.session_id,
            timestamp: *timestamp,
            client: None,
            category: &line.category,
            name: &line.name,
            meta: "",
            data: line.data.get(),
        };
        index.push(offset, &event).unwrap();
    }
    index.commit().unwrap();
    let (seconds, used) = (started.elapsed().as_secs_f64(), cpu() - cpu_before);
    let committed: u64 = files(folder.path()).values().sum();
    let before_merge = cpu();
    index.seal().unwrap();
    let merging = cpu() - before_merge;
    let by_ending = files(folder.path());
    Run {
        cpu_us: used * 1e6 / count as f64,
        rate: count as f64 / seconds,
        committed_bytes: per_event(committed, count),
        merged_bytes: per_event(by_ending.values().sum(), count),
        merge_cpu_us: merging * 1e6 / count as f64,
        by_ending,
    }
}

/// Bytes of the files below a folder, by their ending.
fn files(folder: &Path) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for (ending, bytes) in files(&path) {
                *sizes.entry(ending).or_default() += bytes;
            }
        } else {
            let ending = path.extension().map_or_else(
                || "other".to_owned(),
                |ending| ending.to_string_lossy().into_owned(),
            );
            *sizes.entry(ending).or_default() += path.metadata().unwrap().len();
        }
    }
    sizes
}
