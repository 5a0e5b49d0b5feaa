//! From first byte to searchable: a million events by `POST /events` in batches of 5,000 on two connections, until the
//! index has reached the end. Expected: at most 35 µs of the server's CPU an event and at least 30,000 events/s.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};
use workload::process::{MemoryWatch, bytes_on_disk, cpu_seconds};
use workload::{Events, Load, RealServer, Report, setting};

const NAME: &str = "first byte to searchable";
const BATCH: usize = 5_000;
const CONNECTIONS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(1_800);
const POLLING: Duration = Duration::from_millis(20);

pub(crate) fn measure(report: &mut Report) {
    let count = setting("EYE_BENCH_COUNT", 1_000_000);
    assert_eq!(
        count % BATCH,
        0,
        "EYE_BENCH_COUNT is sent in batches of {BATCH}"
    );
    let events = Arc::new(Events::of_the_environment(count));
    let server = RealServer::start(&[]);
    let process = server.eye.process_id();
    let base = server.indexed_through();
    let memory = MemoryWatch::begin(process);
    let (began, before) = (Instant::now(), cpu_seconds(process));
    let load = Load {
        address: server.eye.client().address(),
        token: server.app.token.clone(),
        batch: BATCH,
        connections: CONNECTIONS,
        rate: None,
        duration: PATIENCE,
        requests_max: count / BATCH,
        comes_back: false,
    };
    let outcome = load.run(&events, &Arc::new(AtomicU64::new(0)));
    assert_eq!(
        outcome.failures(),
        0,
        "refused or broken: {:?}",
        outcome.statuses
    );
    assert_eq!(outcome.events, count as u64);
    let acknowledged = began.elapsed().as_secs_f64();
    wait("the index reaches the end", || {
        server.indexed_through() >= base + count as u64
    });
    let (searchable, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(process) - before);
    let peak = memory.peak();
    // Counted before anything is quoted: what is not found was not made searchable.
    assert_eq!(server.eye.count(&server.app.token, "*"), count as u64);

    let (log, index) = (
        server.eye.data().join("log"),
        server.eye.data().join("index"),
    );
    let each = count as f64;
    report.text(
        NAME,
        "events",
        format!("{} ({count}, {} bytes)", events.name(), events.bytes()),
    );
    report.figure(NAME, "acknowledged", each / acknowledged, "events/s");
    report.figure(NAME, "searchable", each / searchable, "events/s");
    report.figure(
        NAME,
        "eye CPU",
        cpu * 1e6 / each,
        "s per million = µs per event",
    );
    report.figure(NAME, "peak RssAnon", peak as f64 / 1e6, "MB");
    report.figure(
        NAME,
        "log on disk",
        bytes_on_disk(&log) as f64 / each,
        "bytes per event",
    );
    report.figure(
        NAME,
        "index on disk",
        bytes_on_disk(&index) as f64 / each,
        "bytes per event",
    );
    report.figure(
        NAME,
        "of the plain text",
        (bytes_on_disk(&log) + bytes_on_disk(&index)) as f64 / events.bytes() as f64,
        "",
    );

    if server.is_merging().is_none() {
        report.text(
            NAME,
            "until merged",
            "not shown: /admin/status has no index.merging",
        );
        return;
    }
    wait("the index is merged", || server.is_merging() == Some(false));
    report.figure(NAME, "until merged", began.elapsed().as_secs_f64(), "s");
    report.figure(
        NAME,
        "eye CPU until merged",
        (cpu_seconds(process) - before) * 1e6 / each,
        "s per million = µs per event",
    );
    report.figure(
        NAME,
        "index on disk, merged",
        bytes_on_disk(&index) as f64 / each,
        "bytes per event",
    );
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain: {what}"
        );
        thread::sleep(POLLING);
    }
}
