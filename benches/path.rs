//! What sending costs inside the process: batches of 500 through the service's own router, without a socket, into a folder
//! in memory; CPU time by thread. Under valgrind it is what counts instructions:
//!
//! ```text
//! cargo bench -p eye-benches --bench path
//! valgrind --tool=callgrind --callgrind-out-file=path.out target/release/deps/path-… --bench   # EYE_BENCH_COUNT=20000
//! callgrind_annotate --inclusive=yes path.out
//! ```
//!
//! `EYE_BENCH_COUNT` (100,000) and `EYE_BENCH_EVENTS` as for `http`; `EYE_BENCH_BATCH` (500; 1 sends single events);
//! `EYE_BENCH_DATA` (`/dev/shm`) is where the folder is made.

// A bench that cannot go on stops with the reason; there is nobody to hand an error to.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Instant;

use axum::body::Body;
use axum::http::Request;
use tower::ServiceExt as _;
use workload::Events;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("nothing measured: run `cargo bench -p eye-benches --bench path`");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::spawn(send()).await.unwrap() });
}

async fn send() {
    let events = Events::of_the_environment(setting("EYE_BENCH_COUNT", 100_000));
    let batch = setting("EYE_BENCH_BATCH", 500);
    let data = std::env::var_os("EYE_BENCH_DATA").unwrap_or_else(|| "/dev/shm".into());
    let folder = tempfile::TempDir::with_prefix_in("eye-path-", data).unwrap();
    let mut settings = eye_server::Settings::new(folder.path());
    settings.indexer_nice = 20;
    settings.max_index_lag = 1_000_000_000;
    let app = eye_server::open(&settings).await.unwrap();
    let router = app.router_as_owner();
    let register = Request::post("/applications")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"name":"bench"}"#))
        .unwrap();
    let answer = router.clone().oneshot(register).await.unwrap();
    assert_eq!(answer.status(), 201);

    let media_type = if batch == 1 {
        "application/json"
    } else {
        "application/x-ndjson"
    };
    let before = cpu_by_thread();
    let began = Instant::now();
    for number in 0..events.len() / batch {
        let request = Request::post("/events?application=bench")
            .header("content-type", media_type)
            .body(Body::from(events.batch(number, batch).to_vec()))
            .unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }
    let seconds = began.elapsed().as_secs_f64();
    let count = (events.len() / batch * batch) as f64;
    println!(
        "{count} events of {}, batches of {batch}: {:.2} µs each by the clock",
        events.name(),
        seconds * 1e6 / count
    );
    for (thread, cpu) in cpu_by_thread() {
        let used = cpu - before.get(&thread).copied().unwrap_or(0.0);
        println!(
            "{thread:>16} {:8.3} µs of CPU per event",
            used * 1e6 / count
        );
    }
    app.close().await;
}

/// Seconds of CPU by thread name, from the scheduler's own count of nanoseconds.
fn cpu_by_thread() -> BTreeMap<String, f64> {
    let mut used = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
        let nanoseconds: f64 = read("schedstat")
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0);
        *used.entry(read("comm").trim().to_owned()).or_default() += nanoseconds / 1e9;
    }
    used
}
