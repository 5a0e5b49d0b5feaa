//! The rate that can go on for ever: the highest offered one at which an event is searchable within a second of its
//! acknowledgement, all the time. Found by steps, then held for `EYE_BENCH_SECONDS`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use workload::process::cpu_seconds;
use workload::{Events, Load, Outcome, RealServer, Report, setting};

const EVENTS: usize = 500_000;
const LAG_MAX_SECONDS: f64 = 1.0;
const STEP: Duration = Duration::from_secs(8);
/// An offered rate counts as taken when so much of it is answered.
const TAKEN_SHARE: f64 = 0.98;
const SAMPLING: Duration = Duration::from_millis(50);

/// How one rate went.
struct Trial {
    outcome: Outcome,
    lag_max_seconds: f64,
    cpu_us_per_event: f64,
}

impl Trial {
    fn is_sustained(&self, offered: f64, duration: Duration) -> bool {
        self.lag_max_seconds < LAG_MAX_SECONDS
            && self.outcome.failures() == 0
            && self.outcome.events as f64 >= offered * duration.as_secs_f64() * TAKEN_SHARE
    }
}

pub(crate) fn measure(report: &mut Report) {
    let events = Arc::new(Events::of_the_environment(EVENTS));
    let length = Duration::from_secs(setting("EYE_BENCH_SECONDS", 60) as u64);
    for (name, batch, connections, first) in [
        ("sustained, single events, 64 connections", 1, 64, 2_000.0),
        ("sustained, batches of 500, 8 connections", 500, 8, 8_000.0),
    ] {
        let mut rate = highest(&events, batch, connections, first);
        // What holds for seconds may not hold for minutes: go down until it does.
        let trial = loop {
            let trial = attempt(&events, batch, connections, rate, length);
            if trial.is_sustained(rate, length) || rate < 1.0 {
                break trial;
            }
            rate *= 0.9;
        };
        report.text(name, "events", events.name());
        report.text(name, "length", format!("{} s", length.as_secs()));
        report.figure(name, "offered", rate, "events/s");
        report.figure(name, "acknowledged", trial.outcome.rate(), "events/s");
        report.figure(name, "highest lag", trial.lag_max_seconds, "s");
        report.figure(name, "eye CPU", trial.cpu_us_per_event, "µs per event");
        report.figure(name, "eye p50", trial.outcome.latency_ms(0.5), "ms");
        report.figure(name, "eye p99", trial.outcome.latency_ms(0.99), "ms");
    }
}

/// The highest rate that goes well for a few seconds: up by half until one does not, then three halvings between.
fn highest(events: &Arc<Events>, batch: usize, connections: usize, first: f64) -> f64 {
    let goes_well =
        |rate: f64| attempt(events, batch, connections, rate, STEP).is_sustained(rate, STEP);
    let (mut good, mut bad) = (0.0, first);
    while goes_well(bad) {
        good = bad;
        bad *= 1.5;
    }
    for _ in 0..3 {
        let middle = (good + bad) / 2.0;
        if goes_well(middle) {
            good = middle
        } else {
            bad = middle
        }
    }
    if good > 0.0 { good } else { bad }
}

fn attempt(
    events: &Arc<Events>,
    batch: usize,
    connections: usize,
    rate: f64,
    duration: Duration,
) -> Trial {
    let server = RealServer::start(&[]);
    let load = Load {
        address: server.eye.client().address(),
        token: server.app.token.clone(),
        batch,
        connections,
        rate: Some(rate),
        duration,
        requests_max: usize::MAX,
        comes_back: false,
    };
    let (acknowledged, over) = (Arc::new(AtomicU64::new(0)), AtomicBool::new(false));
    let base = server.indexed_through();
    let before = cpu_seconds(server.eye.process_id());
    let (outcome, lag_max_seconds) = thread::scope(|scope| {
        let watch = scope.spawn(|| highest_lag(&server, base, &acknowledged, &over));
        let outcome = load.run(events, &acknowledged);
        over.store(true, Ordering::Relaxed);
        (outcome, watch.join().expect("the watch does not panic"))
    });
    let cpu_us_per_event =
        (cpu_seconds(server.eye.process_id()) - before) * 1e6 / outcome.events.max(1) as f64;
    eprintln!(
        "  offered {rate:.0}/s for {} s: {:.0}/s, lag up to {lag_max_seconds:.2} s, {:?}",
        duration.as_secs(),
        outcome.rate(),
        outcome.statuses
    );
    Trial {
        outcome,
        lag_max_seconds,
        cpu_us_per_event,
    }
}

/// The longest that an acknowledged event was not yet searchable, in seconds, looked at every 50 ms. `base` is where the log
/// ended before; only the load writes to it.
fn highest_lag(server: &RealServer, base: u64, acknowledged: &AtomicU64, over: &AtomicBool) -> f64 {
    // When so many records had been acknowledged, for those the index has not reached.
    let mut waiting: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut highest: f64 = 0.0;
    while !over.load(Ordering::Relaxed) {
        waiting.push_back((Instant::now(), base + acknowledged.load(Ordering::Relaxed)));
        let indexed = server.indexed_through();
        while waiting
            .front()
            .is_some_and(|&(_, records)| records <= indexed)
        {
            waiting.pop_front();
        }
        if let Some((since, _)) = waiting.front() {
            highest = highest.max(since.elapsed().as_secs_f64());
        }
        if highest > 5.0 * LAG_MAX_SECONDS {
            // It will not come back from there; the trial has failed and need not be watched.
            return highest;
        }
        thread::sleep(SAMPLING);
    }
    highest
}
