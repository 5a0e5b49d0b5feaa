//! Half an hour, in the full form, at 5,000 events a second with queries beside: what the first and the last minute take, and whether
//! memory and file descriptors stay flat.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use workload::process::{MemoryWatch, anonymous_bytes, cpu_seconds, open_files, sealed_files_open};
use workload::{Events, Load, RealServer, Report, setting};

const NAME: &str = "soak";
const RATE: f64 = 5_000.0;
const BATCH: usize = 10;
const CONNECTIONS: usize = 16;
const EVENTS: usize = 200_000;
/// Questions a second, in turns.
const PAUSE: Duration = Duration::from_millis(50);
const QUESTIONS: [&str; 6] = [
    "/search?q=solar&limit=20",
    "/search?q=%22page%20interaction%22%20AND%20name%3Apageview&limit=20",
    "/events?limit=20&category=media",
    "/search?q=data.path%3A%22%2Fvpn%2F%22&limit=20&count=true",
    "/facets?field=name&field=path&from=2021-01-30",
    "/histogram?interval=1h&q=name%3Asearch",
];

/// What a minute came to.
struct Slice {
    sending_p99: f64,
    memory: u64,
    files: usize,
    /// How many of them are sealed files of the log, which grow in number as the log does.
    sealed: usize,
    failures: u64,
    events: u64,
}

pub(crate) fn measure(report: &mut Report) {
    let length = setting("EYE_BENCH_SOAK_SECONDS", 240);
    let slices = (length / 60).max(4);
    let slice_length = Duration::from_secs_f64(length as f64 / slices as f64);
    let events = Arc::new(Events::of_the_environment(EVENTS));
    let server = RealServer::start(&[]);
    let process = server.eye.process_id();
    let memory = MemoryWatch::begin(process);
    let (over, now) = (AtomicBool::new(false), AtomicUsize::new(0));
    let asked: Mutex<Vec<(usize, f64)>> = Mutex::default();
    let (began, before) = (Instant::now(), cpu_seconds(process));
    let mut done: Vec<Slice> = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for target in QUESTIONS.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (slice, began) = (now.load(Ordering::Relaxed), Instant::now());
                let answer = server.eye.get(target).token(&server.app.token).send();
                assert_eq!(answer.status, 200, "{target}: {}", answer.text());
                let took = began.elapsed().as_secs_f64() * 1000.0;
                asked.lock().unwrap().push((slice, took));
                thread::sleep(PAUSE);
            }
        });
        for slice in 0..slices {
            now.store(slice, Ordering::Relaxed);
            let load = Load {
                address: server.eye.client().address(),
                token: server.app.token.clone(),
                batch: BATCH,
                connections: CONNECTIONS,
                rate: Some(RATE),
                duration: slice_length,
                requests_max: usize::MAX,
                comes_back: false,
            };
            let outcome = load.run(&events, &Arc::new(AtomicU64::new(0)));
            let one = Slice {
                sending_p99: outcome.latency_ms(0.99),
                memory: anonymous_bytes(process),
                files: open_files(process),
                sealed: sealed_files_open(process),
                failures: outcome.failures(),
                events: outcome.events,
            };
            eprintln!(
                "  {slice}: {} events, p99 {:.1} ms, RssAnon {:.0} MiB, {} files open, {} of them sealed",
                one.events,
                one.sending_p99,
                mebibytes(one.memory),
                one.files,
                one.sealed
            );
            done.push(one);
        }
        over.store(true, Ordering::Relaxed);
    });
    let seconds = began.elapsed().as_secs_f64();
    let asked = asked.into_inner().unwrap();
    let p99_of_asking = |slice: usize| {
        let mut took: Vec<f64> = asked
            .iter()
            .filter(|(of, _)| *of == slice)
            .map(|(_, took)| *took)
            .collect();
        took.sort_by(f64::total_cmp);
        took[took.len() * 99 / 100]
    };
    let total: u64 = done.iter().map(|slice| slice.events).sum();
    report.figure(NAME, "length", seconds, "s");
    report.figure(NAME, "acknowledged", total as f64 / seconds, "events/s");
    report.figure(NAME, "questions asked", asked.len() as f64, "");
    report.figure(
        NAME,
        "refused or broken",
        done.iter().map(|slice| slice.failures).sum::<u64>() as f64,
        "requests",
    );
    let cpu = (cpu_seconds(process) - before) / seconds;
    report.figure(NAME, "eye CPU", cpu, "of a processor");
    for (name, slice) in [("first", 0), ("middle", slices / 2), ("last", slices - 1)] {
        let one = &done[slice];
        let row = |what: &str| format!("{name} slice, {what}");
        report.figure(NAME, &row("p99 of sending"), one.sending_p99, "ms");
        report.figure(NAME, &row("p99 of asking"), p99_of_asking(slice), "ms");
        report.figure(NAME, &row("RssAnon"), mebibytes(one.memory), "MiB");
        report.figure(NAME, &row("files open"), one.files as f64, "");
        report.figure(NAME, &row("sealed files open"), one.sealed as f64, "");
    }
    report.figure(NAME, "peak RssAnon", mebibytes(memory.peak()), "MiB");
    // What was acknowledged is there, to the last event.
    server.eye.wait_until_indexed();
    assert_eq!(server.eye.count(&server.app.token, "*"), total);
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
