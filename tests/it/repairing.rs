//! A file that a disk has damaged: found without being asked for, named, served around, and repaired on demand.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use support::events::Generator;
use support::{App, Eye, Launch, Random, time};

/// Starts a service whose log lies in several sealed files, and returns it with the ids sent.
fn sealed() -> (Eye, App, BTreeSet<String>) {
    let mut eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "64KiB")
        .variable("EYE_SCRUB_INTERVAL", "1s")
        .start();
    let app = eye.application("website");
    let (lines, ids) = Generator::new(Random::announced(23), 5).lines(1500);
    for some in lines.chunks(60) {
        eye.store(&app, some);
    }
    eye.wait_until_indexed();
    time::wait_until("files are sealed", Duration::from_secs(30), || {
        sealed_files(&eye).len() >= 4
    });
    eye.stop();
    (eye, app, ids.into_iter().collect())
}

fn sealed_files(eye: &Eye) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(eye.data().join("log")).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "sealed"))
        .collect();
    files.sort();
    files
}

/// Where the first block's content begins, a little behind the file's header and the block's.
const IN_FIRST_BLOCK: usize = 4096 + 300;
/// A sealed file that holds events alone.
const EVENTS_ALONE: usize = 1;

/// Flips a bit of a sealed file at each of the positions that `positions` picks from its length.
fn damage(eye: &Eye, file: usize, positions: impl Fn(usize) -> Vec<usize>) -> String {
    let file = &sealed_files(eye)[file];
    let mut bytes = std::fs::read(file).unwrap();
    for at in positions(bytes.len()) {
        bytes[at] ^= 1;
    }
    std::fs::write(file, bytes).unwrap();
    file.file_name().unwrap().to_str().unwrap().to_owned()
}

/// In the trailer, without which nothing in the footer can be believed.
fn in_trailer(length: usize) -> usize {
    length - 100
}

fn command(eye: &Eye, arguments: &[&str]) -> Output {
    let data = eye.data().to_str().unwrap();
    eye.command([arguments, &["--data", data]].concat())
}

fn json(output: &Output) -> Value {
    let complaint = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"))
}

/// Repairs the log and looks that exactly the ranges that it named are gone. Returns how many records these have.
fn repair_and_look(eye: &mut Eye, app: &App, sent: &BTreeSet<String>, file: &str) -> u64 {
    let repaired = command(eye, &["log", "repair", "--json"]);
    let report = json(&repaired);
    let lost: u64 = report["lost"]
        .as_array()
        .unwrap()
        .iter()
        .map(|range| range[1].as_u64().unwrap() - range[0].as_u64().unwrap())
        .sum();
    let status = if lost > 0 { 1 } else { 0 };
    assert_eq!(repaired.status.code(), Some(status), "{report}");
    let aside = report["kept_aside"][0].as_str().unwrap();
    assert!(aside.ends_with(file) && eye.data().join("log").join(aside).is_file());
    let verified = command(eye, &["log", "verify", "--json"]);
    assert_eq!(verified.status.code(), Some(0), "{}", json(&verified));
    let again = command(eye, &["log", "repair"]);
    assert_eq!(again.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing was changed"));

    eye.restart();
    eye.wait_until_indexed();
    let found: BTreeSet<String> = eye.ids_found(&app.token, "*").into_iter().collect();
    assert!(found.is_subset(sent));
    assert_eq!(found.len() as u64 + lost, sent.len() as u64);
    assert_eq!(eye.get("/health/ready").send().json()["state"], "ok");
    let (lines, _) = Generator::new(Random::announced(24), 5).lines(10);
    eye.store(app, &lines);
    lost
}

#[test]
fn a_damaged_block_is_found_by_the_scrub_and_saved_around() {
    let (mut eye, app, sent) = sealed();
    let file = damage(&eye, EVENTS_ALONE, |_| vec![IN_FIRST_BLOCK]);
    eye.restart();
    time::wait_until("the scrub has found it", Duration::from_secs(60), || {
        eye.get("/health/ready").send().expect(200).json()["state"] == "damaged"
    });
    let (lines, more) = Generator::new(Random::announced(25), 5).lines(1);
    let answer = eye.post("/events").token(&app.token).ndjson(&lines).send();
    assert_eq!(answer.status, 200, "sending goes on");
    eye.stop();
    let verified = command(&eye, &["log", "verify", "--json"]);
    assert_eq!(verified.status.code(), Some(1));
    assert_eq!(json(&verified)["damage"][0]["file"], file);
    let sent = sent.into_iter().chain(more).collect();
    assert!(repair_and_look(&mut eye, &app, &sent, &file) > 0);
}

#[test]
fn a_file_without_a_footer_is_served_around_and_saved_from_its_blocks() {
    let (mut eye, app, sent) = sealed();
    let file = damage(&eye, EVENTS_ALONE, |length| vec![in_trailer(length)]);
    eye.restart();
    assert_eq!(
        eye.get("/health/ready").send().expect(200).json()["state"],
        "damaged"
    );
    let refused = eye
        .get("/search")
        .token(&app.token)
        .query("limit", "1000")
        .query("order", "timestamp")
        .send();
    let problem = refused.problem(500, "damaged");
    assert!(problem["offsets"][0].is_u64(), "{problem}");
    eye.stop();
    assert_eq!(repair_and_look(&mut eye, &app, &sent, &file), 0);
}

#[test]
fn of_a_file_without_a_footer_only_the_block_that_is_damaged_too_is_lost() {
    let (mut eye, app, sent) = sealed();
    let file = damage(&eye, EVENTS_ALONE, |length| {
        vec![IN_FIRST_BLOCK, in_trailer(length)]
    });
    assert!(repair_and_look(&mut eye, &app, &sent, &file) > 0);
}

#[test]
fn a_file_that_may_hold_revocations_keeps_the_log_shut_until_it_is_repaired() {
    let (mut eye, app, sent) = sealed();
    let file = damage(&eye, 0, |length| vec![IN_FIRST_BLOCK, in_trailer(length)]);
    let refused = Launch::new().data(eye.data()).refused();
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("eye log repair"), "{said}");
    assert!(said.contains(&file), "{said}");
    let repaired = command(&eye, &["log", "repair", "--json"]);
    let report = json(&repaired);
    assert!(report["unnamed"][0].as_str().unwrap().starts_with("lost-0"));
    // Its token went with the block, and a new application is not given its events.
    eye.restart();
    eye.wait_until_indexed();
    eye.get("/events").token(&app.token).send().expect(401);
    let other = eye.application("another");
    assert_eq!(eye.count(&other.token, "*"), 0);
    let analyst = eye.analyst();
    let there = eye.count(&analyst, "*");
    assert!(there > 0 && there < sent.len() as u64, "{there}");
}
