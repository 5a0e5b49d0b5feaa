//! How much memory the log takes, whatever its size: a process of its own that opens a large log, reads it in every way,
//! and appends events with ids of their clients through several segments while these are sealed.

use super::{BATCH, Ids, batch_of, send};
use eye_log::record::Record;
use eye_log::{Log, LogConfig, verify};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use workload::Events;
use workload::process::{MemoryWatch, anonymous_bytes};

/// What this program is called with to be that process.
pub(crate) const COMMAND: &str = "--use-memory";

/// Makes a log and has the other process use it.
pub(crate) fn measure(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (data, lines) = (
        folder.path().join("log"),
        folder.path().join("events.ndjson"),
    );
    {
        let events = Events::of_the_environment(count);
        std::fs::write(&lines, events.lines(0..events.len())).unwrap();
        let (log, _) = Log::open(&data, LogConfig::default()).unwrap();
        for number in 0..count / BATCH {
            let first = (number * BATCH) as u64;
            let batch = batch_of(events.batch(number, BATCH), Ids::Random, first);
            send(&log, vec![batch]);
        }
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([COMMAND, data.to_str().unwrap(), lines.to_str().unwrap()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Uses the log in `data`, and says how much memory that took.
pub(crate) fn run(data: &Path, lines: &Path) {
    let id = std::process::id();
    let told = |what: &str, work: &mut dyn FnMut()| {
        let watch = MemoryWatch::begin(id);
        work();
        println!(
            "memory use: {what}: at most {:.0} MB anonymous; asked: under 64 MiB (67 MB)",
            watch.peak().max(anonymous_bytes(id)) as f64 / 1e6
        );
    };
    let mut opened = None;
    told("opening", &mut || {
        opened = Some(Log::open(data, LogConfig::default()).unwrap().0);
    });
    let log = opened.unwrap();
    let end = log.reader().durable_end();
    told(
        &format!("100,000 random reads among {end} records"),
        &mut || {
            let mut look = log.reader().lookup();
            let mut state = 1u64;
            for _ in 0..100_000 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                look.event(state % end, |_| ()).unwrap();
            }
        },
    );
    told("a full scan", &mut || {
        let (mut scan, mut bytes) = (log.reader().scan(0), 0);
        let mut see = |_, record: Record<'_>| {
            if let Record::Event(event) = record {
                bytes += event.data.len();
            }
        };
        while scan.read(&mut see).unwrap() > 0 {}
        assert!(bytes > 0);
    });
    told("verifying", &mut || {
        let report = verify::verify(data, None, &mut |_, _| ()).unwrap();
        assert_eq!(report.damage.len(), 0);
    });
    told("sending all of it again under other ids", &mut || {
        let mut lines = BufReader::new(File::open(lines).unwrap());
        let mut number = 0u64;
        loop {
            let mut text = Vec::new();
            for _ in 0..BATCH {
                lines.read_until(b'\n', &mut text).unwrap();
            }
            if text.is_empty() {
                break;
            }
            send(&log, vec![batch_of(&text, Ids::Random, (1 << 40) + number)]);
            number += BATCH as u64;
        }
    });
    told("merging", &mut || {
        log.compact(&Default::default(), &mut |_, _| true).unwrap();
    });
    log.close();
}
