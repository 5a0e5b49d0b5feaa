//! What the stores are filled with, and what they weigh once they are.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use workload::process::{anonymous_bytes, bytes_on_disk, cpu_seconds};
use workload::{Events, Load, RealServer, Report};

const BATCH: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(3_600);
const POLLING: Duration = Duration::from_millis(100);

/// Events of one source.
pub(crate) struct Set {
    pub(crate) events: Arc<Events>,
    /// A field of `data` with many values, each of which many events have.
    pub(crate) field: &'static str,
}

impl Set {
    /// Web events.
    pub(crate) fn web(events: Events) -> Set {
        Set {
            events: Arc::new(events),
            field: "path",
        }
    }

    /// The large sets of real events in a folder.
    pub(crate) fn real(folder: &Path) -> Vec<Set> {
        let sets = [
            ("traces", "pod"),
            ("k8slogs", "kubernetes.pod"),
            ("irc", "nick"),
            ("gharchive", "repo.name"),
        ];
        let read = |(name, field): (&str, &'static str)| Set {
            events: Arc::new(Events::of_file(
                &folder.join(name).with_extension("ndjson"),
                usize::MAX,
            )),
            field,
        };
        sets.into_iter().map(read).collect()
    }
}

/// Sends a set, in batches on two connections. All are one application: some sets share their sessions.
pub(crate) fn send(server: &RealServer, set: &Set) {
    let load = Load {
        address: server.eye.client().address(),
        token: server.app.token.clone(),
        batch: BATCH,
        connections: 2,
        rate: None,
        duration: PATIENCE,
        requests_max: set.events.len().div_ceil(BATCH),
        comes_back: true,
    };
    let outcome = load.run(&set.events, &Arc::new(AtomicU64::new(0)));
    assert_eq!(outcome.failures(), 0, "{:?}", outcome.statuses);
}

/// Waits until everything is sealed and merged, and says what it weighs.
pub(crate) fn settle(section: &str, server: &RealServer, sets: &[Set], report: &mut Report) {
    let began = Instant::now();
    server.eye.wait_until_indexed();
    let data = server.eye.data().as_os_str();
    let compacted = server
        .eye
        .command(["compact".as_ref(), "--data".as_ref(), data]);
    assert!(compacted.status.success(), "{compacted:?}");
    // What is sealed last is merged last; nobody is busy once no processor time goes by.
    let process = server.eye.process_id();
    loop {
        let before = cpu_seconds(process);
        std::thread::sleep(POLLING * 20);
        if server.is_merging() == Some(false) && cpu_seconds(process) - before < 0.1 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it is not merged");
    }
    let events: usize = sets.iter().map(|set| set.events.len()).sum();
    let bytes: usize = sets.iter().map(|set| set.events.bytes()).sum();
    if events > 0 {
        report.figure(section, "events", events as f64, "");
        for folder in ["log", "index"] {
            let size = bytes_on_disk(&server.eye.data().join(folder)) as f64;
            report.figure(
                section,
                &format!("{folder}, sealed and merged"),
                size / events as f64,
                "bytes per event",
            );
            report.figure(
                section,
                &format!("{folder}, of the plain text"),
                size / bytes as f64,
                "",
            );
        }
    }
    report.figure(section, "settled after", began.elapsed().as_secs_f64(), "s");
    report.figure(
        section,
        "RssAnon, idle",
        anonymous_bytes(process) as f64 / f64::from(1 << 20),
        "MiB",
    );
}

/// Says what the server holds after all the questions.
pub(crate) fn say_memory(section: &str, server: &RealServer, report: &mut Report) {
    let bytes = anonymous_bytes(server.eye.process_id());
    report.figure(
        section,
        "RssAnon after the questions",
        bytes as f64 / f64::from(1 << 20),
        "MiB",
    );
}
