//! A thousand shards: opening them, and a rare word asked of all of them, beside the same events once neighbours are merged.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use eye_index::search::parse::parse;
use eye_index::{Index, IndexConfig, Needs, SearchRequest};
use workload::Events;
use workload::process::raise_open_files;
use workload::report::median;

use super::{Store, batch};

const SHARDS: usize = 1_000;
/// A word of so many events is rare.
const RARE: std::ops::RangeInclusive<usize> = 2..=50;
const WORDS: usize = 50;
const ROUNDS: usize = 4;
const OPENINGS: usize = 5;

/// Fills a log of a thousand segments, whose shards nobody merges; opens them and asks; then lets them be merged and does it
/// again.
pub(crate) fn measure(events: &Events) {
    const SIZE: usize = 50;
    raise_open_files();
    let store = Store::of_segments((events.bytes() / SHARDS) as u64);
    let apart = IndexConfig {
        merge_neighbours: usize::MAX,
        ..IndexConfig::default()
    };
    let index = Index::open(&store.index_folder(), &store.log, apart.clone()).unwrap();
    for number in 0..events.len() / SIZE {
        let (sender, receiver) = std::sync::mpsc::channel();
        let done = move |receipt: Result<_, _>| sender.send(receipt.is_ok()).unwrap();
        store.log.append(batch(events, number, SIZE), done).unwrap();
        assert!(receiver.recv().unwrap());
    }
    let end = store.log.reader().durable_end();
    while index.through(Needs::Both) < end || index.status().sealing > 0 {
        index.wait_for(Needs::Both, end, Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(50));
    }
    index.close();
    drop(index);
    let words = rare_words(events);
    open_and_ask("apart", &store, apart.clone(), &words);
    let index = Index::open(&store.index_folder(), &store.log, IndexConfig::default()).unwrap();
    let (mut parts, mut since) = (index.status().parts, Instant::now());
    // Merging says nothing of its end: nothing has changed for a while then.
    while since.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(200));
        let now = index.status().parts;
        if now != parts {
            (parts, since) = (now, Instant::now());
        }
    }
    index.close();
    drop(index);
    open_and_ask("merged", &store, apart, &words);
    store.log.close();
}

fn open_and_ask(name: &str, store: &Store, config: IndexConfig, words: &[String]) {
    let folder = store.index_folder();
    let shards = std::fs::read_dir(folder.join("shards")).unwrap().count();
    let mut opened = Vec::new();
    for _ in 0..OPENINGS {
        let began = Instant::now();
        let index = Index::open(&folder, &store.log, config.clone()).unwrap();
        opened.push(began.elapsed().as_secs_f64() * 1e3);
        index.close();
    }
    let index = Index::open(&folder, &store.log, config).unwrap();
    let took = ask(&index, store, words);
    println!(
        "shards, {name}: {shards} folders, {} segments: opened in {:.0} ms (median of {}); newest 20 of a rare word p50 {:.2}, p95 {:.2} ms",
        index.status().parts,
        median(opened),
        OPENINGS,
        took[took.len() / 2],
        took[took.len() * 95 / 100],
    );
    index.close();
}

/// Asks for each word a few times, the first time uncounted; milliseconds in order.
fn ask(index: &Index, store: &Store, words: &[String]) -> Vec<f64> {
    let mut took = Vec::new();
    for round in 0..=ROUNDS {
        for word in words {
            let request = SearchRequest::new(
                parse(word).unwrap(),
                store.log.registry(),
                store.log.reader().durable_end(),
                20,
            );
            let began = Instant::now();
            let answer = index.search(&request).unwrap();
            let milliseconds = began.elapsed().as_secs_f64() * 1e3;
            assert!(!answer.hits.is_empty(), "{word} is in the events");
            if round > 0 {
                took.push(milliseconds);
            }
        }
    }
    took.sort_by(f64::total_cmp);
    took
}

/// Words of few events, spread over all there are.
fn rare_words(events: &Events) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let text = std::str::from_utf8(events.lines(0..events.len())).unwrap();
    for line in text.lines() {
        let data = line.find("\"data\"").map_or("", |at| &line[at..]);
        for word in data.split(|c: char| !c.is_ascii_alphanumeric()) {
            if word.len() > 4 && word.bytes().all(|byte| byte.is_ascii_lowercase()) {
                *counts.entry(word).or_default() += 1;
            }
        }
    }
    let mut rare: Vec<&str> = counts
        .iter()
        .filter_map(|(word, count)| RARE.contains(count).then_some(*word))
        .collect();
    rare.sort_unstable();
    let step = (rare.len() / WORDS).max(1);
    rare.iter()
        .step_by(step)
        .map(|word| (*word).to_owned())
        .collect()
}
