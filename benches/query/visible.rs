//! From the answer to an event until it is found, while others send 2,000 events a second.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use support::Random;
use workload::process::MemoryWatch;
use workload::{Events, Load, RealServer, Report, setting};

const NAME: &str = "visible";
const BACKGROUND: f64 = 2_000.0;
const BATCH: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// What `stale=ok` may lag behind.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends events with a word of their own, and looks for them.
pub(crate) fn measure(report: &mut Report) {
    let length = Duration::from_secs(setting("EYE_BENCH_SECONDS", 60) as u64);
    let server = RealServer::start(&[]);
    let events = Arc::new(Events::of_the_environment(setting(
        "EYE_BENCH_COUNT",
        1_000_000,
    )));
    let load = Load {
        address: server.eye.client().address(),
        token: server.app.token.clone(),
        batch: BATCH,
        connections: 8,
        rate: Some(BACKGROUND),
        duration: length,
        requests_max: usize::MAX,
        comes_back: false,
    };
    let memory = MemoryWatch::begin(server.eye.process_id());
    let background = std::thread::spawn(move || load.run(&events, &Arc::new(AtomicU64::new(0))));
    let mut random = Random::new(5);
    let (mut waited, mut stale, mut missed) = (Vec::new(), Vec::new(), 0u32);
    for number in 0.. {
        if background.is_finished() {
            break;
        }
        let word = format!("needle{:x}", random.bits());
        let event = serde_json::json!({
            "session_id": random.uuid(), "category": "probe", "name": "needle",
            "data": {"text": word}, "timestamp": "2021-01-31T00:00:00Z",
        });
        let send = server.eye.post("/events").token(&server.app.token);
        send.json(&event).send().expect(201);
        let ask = |stale: bool| {
            let search = server.eye.get("/search").token(&server.app.token);
            let search = search.query("q", &word).query("limit", "1");
            let search = if stale {
                search.query("stale", "ok")
            } else {
                search
            };
            let answer = search.send().expect(200).json();
            answer["events"].as_array().unwrap().len() == 1
        };
        let began = Instant::now();
        if number % 2 == 0 {
            missed += u32::from(!ask(false));
            waited.push(began.elapsed().as_secs_f64() * 1000.0);
        } else {
            while !ask(true) {
                assert!(began.elapsed() < PATIENCE, "not found with stale=ok");
                std::thread::sleep(Duration::from_millis(1));
            }
            stale.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        std::thread::sleep(PAUSE);
    }
    let outcome = background.join().unwrap();
    assert_eq!(outcome.failures(), 0, "{:?}", outcome.statuses);
    report.figure(NAME, "background", outcome.rate(), "events/s");
    report.figure(NAME, "asked by default", waited.len() as f64, "times");
    report.figure(NAME, "not there when asked", f64::from(missed), "times");
    for (name, mut took) in [("by default", waited), ("with stale=ok", stale)] {
        took.sort_by(f64::total_cmp);
        for (share, place) in [("p50", 50), ("p99", 99), ("most", 100)] {
            let at = (took.len() * place / 100).min(took.len() - 1);
            report.figure(NAME, &format!("{name}, {share}"), took[at], "ms");
        }
    }
    report.figure(
        NAME,
        "peak RssAnon",
        memory.peak() as f64 / f64::from(1 << 20),
        "MiB",
    );
    assert_eq!(missed, 0, "an acknowledged event was not found");
}
