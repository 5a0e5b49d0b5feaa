//! Sending over HTTP: what it costs beside a server that stores nothing, how much can go on for ever, and how long it
//! takes until events can be searched. Ratios are of one run; DECISIONS.md says how the figures are quoted.
//!
//! `cargo bench -p eye-benches --bench http -- [burst|sustained|searchable|overload|soak|all] [--json]`
//!
//! | variable | default | |
//! | --- | --- | --- |
//! | `EYE_BENCH_EVENTS` | made from a seed | NDJSON of `web_events.py` |
//! | `EYE_BENCH_DATA` | the target folder | where the data folders are made; must be a real disk |
//! | `EYE_BENCH_ROUNDS` | 3 | rounds of the burst, alternating |
//! | `EYE_BENCH_BURST_SECONDS` | 10 | length of a burst |
//! | `EYE_BENCH_SECONDS` | 60 | length of the sustained run; the full form is 300 |
//! | `EYE_BENCH_COUNT` | 1,000,000 | events until searchable |
//! | `EYE_BENCH_OVERLOAD_SECONDS` | 30 | length of the overload |
//! | `EYE_BENCH_SOAK_SECONDS` | 240 | length of the soak; the full form is 1,800 |

// A bench that cannot go on stops with the reason; there is nobody to hand an error to.
#![allow(clippy::unwrap_used)]
// Sizes here are small, and random figures are cut on purpose.
#![allow(clippy::cast_possible_truncation)]

mod http {
    pub(crate) mod burst;
    pub(crate) mod noop;
    pub(crate) mod overload;
    pub(crate) mod searchable;
    pub(crate) mod soak;
    pub(crate) mod sustained;
}

use http::{burst, noop, overload, searchable, soak, sustained};
use workload::Report;

/// The same as the product's, as the no-op server lives in this program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|command| command == noop::COMMAND)
    {
        return noop::serve();
    }
    // `cargo bench` says `--bench`; `cargo test --benches` does not, and measures nothing.
    let wanted: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if wanted.is_empty() && !arguments.iter().any(|argument| argument == "--bench") {
        println!(
            "nothing measured: run `cargo bench -p eye-benches --bench http -- [burst|sustained|searchable|overload|soak|all] [--json]`"
        );
        return;
    }
    for name in &wanted {
        assert!(
            [
                "burst",
                "sustained",
                "searchable",
                "overload",
                "soak",
                "all"
            ]
            .contains(name),
            "no bench is called {name}"
        );
    }
    let asked_for =
        |name: &str| wanted.is_empty() || wanted.contains(&"all") || wanted.contains(&name);
    let mut report = Report::of_this_machine();
    if asked_for("burst") {
        burst::measure(&mut report);
    }
    if asked_for("sustained") {
        sustained::measure(&mut report);
    }
    if asked_for("searchable") {
        searchable::measure(&mut report);
    }
    if asked_for("overload") {
        overload::measure(&mut report);
    }
    if asked_for("soak") {
        soak::measure(&mut report);
    }
    report.print(arguments.iter().any(|argument| argument == "--json"));
}
