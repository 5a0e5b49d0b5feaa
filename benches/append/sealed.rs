//! Sealed files: how large, and how fast they are read, one by one, all of them, and to be verified.

use super::{BATCH, Ids, batch_of, median, send};
use eye_log::record::Record;
use eye_log::{Batch, Log, LogConfig, Reader, verify};
use std::path::Path;
use std::time::{Duration, Instant};

const READS: usize = 20_000;
const SCANS: usize = 3;
const VERIFICATIONS: usize = 5;

/// Seals a file of events, with each kind of ids, and reads it back in every way.
pub(crate) fn measure(path: &Path) {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    for ids in [Ids::OfLines, Ids::None, Ids::Random] {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), LogConfig::default()).unwrap();
        let mut number = 0;
        let many: Vec<Batch> = lines
            .chunks(BATCH)
            .map(|lines| {
                let batch = batch_of(&lines.concat(), ids, number);
                number += lines.len() as u64;
                batch
            })
            .collect();
        send(&log, many);
        let began = Instant::now();
        log.roll().unwrap();
        while log.reader().segment_bases().len() - 1 > log.reader().sealed_files().len() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let sealing = began.elapsed().as_secs_f64();
        let files: u64 = log
            .reader()
            .sealed_files()
            .iter()
            .map(|file| file.bytes)
            .sum();
        println!(
            "sealed: {}, {}: {} events, {} bytes plain, {files} sealed: {:.3} of plain, {:.1} bytes an event; the last segment took {sealing:.2} s",
            path.file_name().unwrap().to_string_lossy(),
            ids.name(),
            lines.len(),
            text.len(),
            files as f64 / text.len() as f64,
            files as f64 / lines.len() as f64
        );
        scan(&log.reader(), text.len());
        single_reads(&log.reader());
        log.close();
        drop(log);
        verification(folder.path(), text.len());
    }
}

/// A full scan, warm: how much JSON comes out of it on one core.
fn scan(reader: &Reader, plain: usize) {
    let mut rates = Vec::new();
    for _ in 0..SCANS {
        let (began, mut json) = (Instant::now(), 0usize);
        let mut scan = reader.scan(0);
        while scan
            .read(|_, record| {
                if let Record::Event(event) = record {
                    json += std::hint::black_box(event.data).len();
                }
            })
            .unwrap()
            > 0
        {}
        assert!(json > 0);
        rates.push(plain as f64 / began.elapsed().as_secs_f64() / 1e6);
    }
    println!(
        "  scan: {:.0} MB/s of plain NDJSON on one core (median of {SCANS}); asked: 400",
        median(&mut rates)
    );
}

/// Single reads at random, warm.
fn single_reads(reader: &Reader) {
    let end = reader.durable_end();
    let mut state = 88_172_645_463_325_252u64;
    let mut times = Vec::new();
    for _ in 0..READS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let began = Instant::now();
        assert!(reader.read_many(&[state % end]).unwrap()[0].is_some());
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "  random read: {:.0} µs median, {:.0} µs p99; asked: under 200",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
}

fn verification(folder: &Path, plain: usize) {
    let (mut times, mut bytes) = (Vec::new(), 0);
    for _ in 0..VERIFICATIONS {
        let began = Instant::now();
        let report = verify::verify(folder, None, &mut |_, _| ()).unwrap();
        times.push(began.elapsed().as_secs_f64());
        assert_eq!(report.damage.len(), 0);
        bytes = report.bytes;
    }
    let took = median(&mut times);
    println!(
        "  verify: {:.0} MB/s of file bytes ({bytes} bytes in {took:.3} s, median of {VERIFICATIONS}), {:.0} MB/s of plain NDJSON; asked: 500 of file bytes",
        bytes as f64 / took / 1e6,
        plain as f64 / took / 1e6
    );
}
