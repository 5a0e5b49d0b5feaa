//! Asking, over HTTP with one client, of a store that is warm, sealed and merged: the eight questions that the peers were
//! asked, lists in every order, and how soon an event can be found.
//!
//! `cargo bench -p eye-benches --bench query -- [web|real|grow|shuffled|visible] [--json]`
//!
//! | part | what it asks of |
//! | --- | --- |
//! | `web` | a million web events |
//! | `real` | the sets of `EYE_BENCH_SETS` together |
//! | `grow` | a million made events, then ten times as many, of ten seeds: the same questions of both |
//! | `shuffled` | web events that arrive in an order that has nothing to do with when they happened |
//! | `visible` | a store to which 2,000 events a second are sent: from the answer to an event until it is found |
//!
//! | variable | default | |
//! | --- | --- | --- |
//! | `EYE_BENCH_EVENTS` | made from a seed | NDJSON of `web_events.py` |
//! | `EYE_BENCH_COUNT` | 1,000,000 | how many of them |
//! | `EYE_BENCH_SETS` | | a folder with `traces.ndjson`, `k8slogs.ndjson`, `irc.ndjson`, `gharchive.ndjson` |
//! | `EYE_BENCH_QUESTIONS` | | where the questions and their figures are written, for `benches/peers` |
//! | `EYE_BENCH_DATA` | the target folder | where the data folders are made; must be a real disk |
//! | `EYE_BENCH_SECONDS` | 60 | how long `visible` goes on |

// A bench that cannot go on stops with the reason; there is nobody to hand an error to.
#![allow(clippy::unwrap_used)]
// Sizes here are small, and random figures are cut on purpose.
#![allow(clippy::cast_possible_truncation)]

mod query {
    pub(crate) mod asking;
    pub(crate) mod lists;
    pub(crate) mod questions;
    pub(crate) mod sets;
    pub(crate) mod visible;
}

use query::questions::Questions;
use query::sets::Set;
use query::{asking, lists, sets, visible};
use support::Random;
use workload::{Events, RealServer, Report, setting};

const PARTS: [&str; 5] = ["web", "real", "grow", "shuffled", "visible"];
const USAGE: &str =
    "`cargo bench -p eye-benches --bench query -- [web|real|grow|shuffled|visible] [--json]`";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    // `cargo bench` says `--bench`; `cargo test --benches` does not, and measures nothing.
    if wanted.is_empty() && !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing measured: run {USAGE}");
        return;
    }
    for name in &wanted {
        assert!(PARTS.contains(name), "no part is called {name}: {USAGE}");
    }
    let asked_for = |name: &str| wanted.is_empty() || wanted.contains(&name);
    let count = setting("EYE_BENCH_COUNT", 1_000_000);
    let mut report = Report::of_this_machine();
    if asked_for("web") {
        let set = Set::web(Events::of_the_environment(count));
        ask_of("web", vec![set], &mut report);
    }
    if asked_for("real") {
        match std::env::var("EYE_BENCH_SETS") {
            Ok(folder) => ask_of("real", Set::real(folder.as_ref()), &mut report),
            Err(_) => report.text("real", "not shown", "EYE_BENCH_SETS names no folder"),
        }
    }
    if asked_for("grow") {
        grow(count, &mut report);
    }
    if asked_for("shuffled") {
        let events = Events::of_the_environment(count);
        let set = Set::web(events.shuffled(&mut Random::new(7)));
        ask_of("shuffled", vec![set], &mut report);
    }
    if asked_for("visible") {
        visible::measure(&mut report);
    }
    report.print(arguments.iter().any(|argument| argument == "--json"));
}

/// Fills a store with these sets and asks everything of it.
fn ask_of(section: &str, sets: Vec<Set>, report: &mut Report) {
    let server = RealServer::start(&[]);
    let analyst = server.eye.analyst();
    for set in &sets {
        sets::send(&server, set);
    }
    sets::settle(section, &server, &sets, report);
    let questions = Questions::draw(&server.eye, &analyst, &sets);
    let figures = asking::measure(section, &server.eye, &analyst, &questions, report);
    lists::measure(section, &server.eye, &analyst, &questions, report);
    sets::say_memory(section, &server, report);
    if let Some(path) = std::env::var_os("EYE_BENCH_QUESTIONS") {
        std::fs::write(path, questions.json(&figures).to_string()).unwrap();
    }
}

/// Asks the same questions of a store and of one ten times as large.
fn grow(count: usize, report: &mut Report) {
    let server = RealServer::start(&[]);
    let analyst = server.eye.analyst();
    let first = [Set::web(Events::made(count, 42))];
    sets::send(&server, &first[0]);
    sets::settle("one", &server, &first, report);
    let questions = Questions::draw(&server.eye, &analyst, &first);
    let before = asking::measure("one", &server.eye, &analyst, &questions, report);
    for seed in 43..52 {
        sets::send(&server, &Set::web(Events::made(count, seed)));
    }
    sets::settle("ten", &server, &[], report);
    let after = asking::measure("ten", &server.eye, &analyst, &questions, report);
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let times = after.p50 / before.p50;
        report.figure("ten times as many", name, times, "times the p50");
    }
    sets::say_memory("ten", &server, report);
}
