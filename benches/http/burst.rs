//! A burst of ten seconds, the real server and the no-op in turns: how much of the ceiling is left once every answer
//! waits for the disk. Expected: at least 0.6 for single events at 256 connections, 0.3 for batches of 500 at 8.

use super::noop::NoopServer;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use workload::process::cpu_seconds;
use workload::{Events, Load, Outcome, RealServer, Report, median, setting};

/// As many different events as a burst uses; then they come again.
const EVENTS: usize = 200_000;
/// In a burst the indexer stands back as far as it can, and may fall behind as far as it likes; how far is quoted.
const SETTINGS: [(&str, &str); 2] = [
    ("EYE_INDEXER_NICE", "20"),
    ("EYE_MAX_INDEX_LAG", "1000000000"),
];
const WARM_UP: Duration = Duration::from_secs(1);

/// One run of one server.
struct Run {
    rate: f64,
    cpu_us_per_event: f64,
    p50_ms: f64,
    p99_ms: f64,
    lag: f64,
}

pub(crate) fn measure(report: &mut Report) {
    let events = Arc::new(Events::of_the_environment(EVENTS));
    for (name, batch, connections) in [
        ("burst, single events, 256 connections", 1, 256),
        ("burst, batches of 500, 8 connections", 500, 8),
    ] {
        let rounds = setting("EYE_BENCH_ROUNDS", 3);
        let (mut real, mut noop) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            // Whoever comes second may find a warmer or a hotter machine: they take turns at that too.
            if round % 2 == 0 {
                noop.push(noop_run(&events, batch, connections));
                real.push(real_run(&events, batch, connections));
            } else {
                real.push(real_run(&events, batch, connections));
                noop.push(noop_run(&events, batch, connections));
            }
        }
        let of = |runs: &[Run], figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
        report.text(name, "events", events.name());
        report.text(
            name,
            "rounds",
            format!("{rounds} of {} s, medians", seconds().as_secs()),
        );
        for (server, runs) in [("eye", &real), ("no-op", &noop)] {
            report.figure(
                name,
                &format!("{server} rate"),
                of(runs, |run| run.rate),
                "events/s",
            );
            report.figure(
                name,
                &format!("{server} CPU"),
                of(runs, |run| run.cpu_us_per_event),
                "µs per event",
            );
            report.figure(
                name,
                &format!("{server} p50"),
                of(runs, |run| run.p50_ms),
                "ms",
            );
            report.figure(
                name,
                &format!("{server} p99"),
                of(runs, |run| run.p99_ms),
                "ms",
            );
        }
        report.figure(
            name,
            "ratio",
            of(&real, |run| run.rate) / of(&noop, |run| run.rate),
            "of the no-op",
        );
        let per_round = real
            .iter()
            .zip(&noop)
            .map(|(real, noop)| real.rate / noop.rate)
            .collect();
        report.figure(
            name,
            "ratio, median of the rounds",
            median(per_round),
            "of the no-op",
        );
        report.figure(name, "lag left behind", of(&real, |run| run.lag), "records");
    }
}

fn seconds() -> Duration {
    Duration::from_secs(setting("EYE_BENCH_BURST_SECONDS", 10) as u64)
}

fn noop_run(events: &Arc<Events>, batch: usize, connections: usize) -> Run {
    let server = NoopServer::start();
    let load = Load {
        address: server.address,
        token: server.token.clone(),
        batch,
        connections,
        rate: None,
        duration: seconds(),
        requests_max: usize::MAX,
        comes_back: false,
    };
    run(&load, events, server.process_id(), || 0.0)
}

fn real_run(events: &Arc<Events>, batch: usize, connections: usize) -> Run {
    let server = RealServer::start(&SETTINGS);
    let load = Load {
        address: server.eye.client().address(),
        token: server.app.token.clone(),
        batch,
        connections,
        rate: None,
        duration: seconds(),
        requests_max: usize::MAX,
        comes_back: false,
    };
    run(&load, events, server.eye.process_id(), || server.lag())
}

fn run(load: &Load, events: &Arc<Events>, process: u32, lag: impl Fn() -> f64) -> Run {
    Load {
        duration: WARM_UP,
        ..load.clone()
    }
    .run(events, &Arc::new(AtomicU64::new(0)));
    let before = cpu_seconds(process);
    let outcome: Outcome = load.run(events, &Arc::new(AtomicU64::new(0)));
    let lag = lag();
    assert_eq!(
        outcome.failures(),
        0,
        "refused or broken: {:?}",
        outcome.statuses
    );
    Run {
        rate: outcome.rate(),
        cpu_us_per_event: (cpu_seconds(process) - before) * 1e6 / outcome.events as f64,
        p50_ms: outcome.latency_ms(0.5),
        p99_ms: outcome.latency_ms(0.99),
        lag,
    }
}
