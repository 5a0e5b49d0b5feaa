//! A thousand sealed files: opening them, and the first new session and id, asked of all of them.

use super::{Ids, batch_of, median, send};
use eye_log::{Log, LogConfig};
use std::time::Instant;
use workload::Events;
use workload::process::raise_open_files;

const FILES: usize = 1000;

pub(crate) fn measure() {
    raise_open_files();
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_max_bytes: 64 << 10,
        ..LogConfig::default()
    };
    let events = Events::of_the_environment(50_000);
    let (log, _) = Log::open(folder.path(), config.clone()).unwrap();
    let mut round = 0u64;
    while log.reader().segment_bases().len() <= FILES {
        // The same events again are other ones: their ids differ.
        let lines = events.batch(round as usize % 500, 100);
        let batch = batch_of(lines, Ids::Random, round * 1_000_000);
        send(&log, vec![batch]);
        round += 1;
    }
    log.close();
    drop(log);
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let (log, report) = Log::open(folder.path(), config.clone()).unwrap();
        times.push(began.elapsed().as_secs_f64() * 1e3);
        assert!(report.segments > FILES, "{report:?}");
        log.close();
    }
    println!(
        "open: {FILES} sealed files in {:.0} ms (median of {}); asked: under 1000",
        median(&mut times),
        times.len()
    );
    let (log, _) = Log::open(folder.path(), config).unwrap();
    let batch = batch_of(b"{\"session_id\":\"00000000-0000-4000-8000-000000000001\",\"category\":\"c\",\"name\":\"n\",\"timestamp\":\"2021-01-01T00:00:00Z\",\"data\":{}}", Ids::Random, 7);
    let began = Instant::now();
    send(&log, vec![batch]);
    println!(
        "open: the first new session and id, asked of all files: {:.0} ms",
        began.elapsed().as_secs_f64() * 1e3
    );
}
