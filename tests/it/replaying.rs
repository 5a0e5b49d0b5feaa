//! `eye replay` drives a log through another service, to standard output, and into the index, and repeats harmlessly.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};
use support::events::Generator;
use support::{ADMIN_TOKEN, App, Eye, Random, json_text, time};

fn replay(eye: &Eye, state: &Path, arguments: &[&str]) -> Output {
    let mut line = vec!["replay", "--data", eye.data().to_str().unwrap(), "--json"];
    line.extend(arguments);
    eye.command_with(&[("XDG_STATE_HOME", state.to_str().unwrap())], line)
}

#[track_caller]
fn counts(output: &Output) -> (u64, u64, u64) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| answer[name].as_u64().unwrap();
    (count("stored"), count("duplicates"), count("refused"))
}

/// Everything of an application's events that a replay keeps, by id, as text.
fn events_of(eye: &Eye, token: &str) -> BTreeMap<String, Vec<String>> {
    eye.wait_until_indexed();
    let pages = eye.pages(|eye| eye.get("/events").token(token).query("limit", "1000"));
    let kept = [
        "application",
        "session_id",
        "category",
        "name",
        "timestamp",
        "data",
    ];
    let events = pages.iter().flat_map(|page| page.raw_events());
    events
        .map(|event| {
            (
                event["id"].clone(),
                kept.map(|field| event[field].clone()).to_vec(),
            )
        })
        .collect()
}

fn filled() -> (Eye, App, App, usize) {
    let eye = Eye::start();
    let (website, shop) = (eye.application("website"), eye.application("shop"));
    let mut random = Random::announced(23);
    let (lines, _) = Generator::new(Random::new(random.bits()), 6).lines(300);
    eye.store(&website, &lines);
    let (others, _) = Generator::new(Random::new(random.bits()), 6).lines(40);
    // The server makes the ids of these.
    let others: Vec<String> = others
        .iter()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            event.as_object_mut().unwrap().remove("id");
            event.to_string()
        })
        .collect();
    eye.store(&shop, &others);
    let all = lines.len() + others.len();
    (eye, website, shop, all)
}

#[test]
fn another_service_gets_every_event_once_under_its_id() {
    let (source, website, _, all) = filled();
    let target = Eye::start();
    let state = tempfile::tempdir().unwrap();
    let (url, all) = (target.url(), all as u64);
    let to = ["--to", url.as_str(), "--token", ADMIN_TOKEN];
    assert_eq!(counts(&replay(&source, state.path(), &to)), (all, 0, 0));
    assert_eq!(
        events_of(&target, ADMIN_TOKEN),
        events_of(&source, ADMIN_TOKEN)
    );

    // Once more from the start: nothing is stored twice. Without --again it goes on, with what came since.
    let again: Vec<&str> = to.iter().copied().chain(["--again"]).collect();
    assert_eq!(counts(&replay(&source, state.path(), &again)), (0, all, 0));
    assert_eq!(counts(&replay(&source, state.path(), &to)), (0, 0, 0));
    let (later, _) = Generator::new(Random::announced(24), 2).lines(5);
    source.store(&website, &later);
    assert_eq!(counts(&replay(&source, state.path(), &to)), (5, 0, 0));
    assert_eq!(
        events_of(&target, ADMIN_TOKEN),
        events_of(&source, ADMIN_TOKEN)
    );

    // A part of it, for the one application of a token.
    let third = Eye::start();
    let there = third.application("website");
    let url = third.url();
    let part = [
        "--to",
        url.as_str(),
        "--token",
        there.token.as_str(),
        "--until",
        "103",
    ];
    let (stored, ..) = counts(&replay(&source, state.path(), &part));
    assert!((90..=103).contains(&stored), "{stored}");
    assert_eq!(third.count(&there.token, "*"), stored);
}

#[test]
fn a_replay_that_was_stopped_goes_on_where_it_was() {
    let (source, _, _, all) = filled();
    let target = Eye::start();
    let state = tempfile::tempdir().unwrap();
    let url = target.url();
    let data = source.data().to_str().unwrap();
    let slow = [
        "replay",
        "--data",
        data,
        "--to",
        &url,
        "--token",
        ADMIN_TOKEN,
        "--rate",
        "100/s",
    ];
    let mut running =
        source.spawn_with(&[("XDG_STATE_HOME", state.path().to_str().unwrap())], slow);
    let stored = || target.count_indexed(ADMIN_TOKEN, "*");
    time::wait_until("some are there", Duration::from_secs(60), || stored() > 30);
    let stopped = std::process::Command::new("kill")
        .args(["-TERM", &running.id().to_string()])
        .status();
    assert!(stopped.unwrap().success());
    assert_eq!(running.wait().unwrap().code(), Some(3));
    target.wait_until_indexed();
    let before = stored();
    assert!(before < all as u64, "stopped too late to tell");
    let rest = replay(
        &source,
        state.path(),
        &["--to", &url, "--token", ADMIN_TOKEN],
    );
    assert_eq!(counts(&rest), (all as u64 - before, 0, 0));
    assert_eq!(
        events_of(&target, ADMIN_TOKEN),
        events_of(&source, ADMIN_TOKEN)
    );
}

#[test]
fn a_log_is_not_replayed_into_itself() {
    let (source, ..) = filled();
    let state = tempfile::tempdir().unwrap();
    let url = source.url();
    let refused = replay(
        &source,
        state.path(),
        &["--to", &url, "--token", ADMIN_TOKEN],
    );
    assert_eq!(
        refused.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
}

#[test]
fn standard_output_gets_what_can_be_sent_at_the_pace_asked_for() {
    let (source, website, ..) = filled();
    let state = tempfile::tempdir().unwrap();
    let output = replay(&source, state.path(), &["--app", "website"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 300);
    let target = Eye::start();
    let there = target.application("website");
    target.store(&there, &lines);
    assert_eq!(
        events_of(&target, &there.token),
        events_of(&source, &website.token)
    );

    let started = Instant::now();
    let slow = replay(&source, state.path(), &["--app", "shop", "--rate", "40/s"]);
    assert!(slow.status.success());
    assert_eq!(String::from_utf8(slow.stdout).unwrap().lines().count(), 40);
    // The last of 40 events is due after 39/40 s; they go out together with what is due up to 200 ms later.
    assert!(
        started.elapsed() >= Duration::from_millis(750),
        "{:?}",
        started.elapsed()
    );
    let wrong = replay(&source, state.path(), &["--rate", "fast"]);
    assert_eq!(wrong.status.code(), Some(2));
    for line in lines {
        assert!(!json_text::fields(line).contains_key("offset"));
    }
}

#[test]
fn the_index_is_made_anew_once_the_server_is_stopped() {
    let (mut source, website, _, _) = filled();
    let state = tempfile::tempdir().unwrap();
    let busy = replay(&source, state.path(), &["--into", "index"]);
    assert_eq!(busy.status.code(), Some(3));
    let said = String::from_utf8_lossy(&busy.stderr);
    assert!(
        said.contains("stop that server") && said.contains(&source.process_id().to_string()),
        "{said}"
    );
    assert_eq!(source.count(&website.token, "*"), 300);
    source.stop();
    // What stood in the index, right or wrong, is gone.
    let stale = source.data().join("index/stale");
    std::fs::write(&stale, "").unwrap();
    let made = replay(&source, state.path(), &["--into", "index"]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let answer: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert!(!stale.exists());
    source.restart();
    let ready = source.get("/health/ready").send().expect(200).json();
    assert_eq!(ready["durable_end"], answer["records"], "{ready}");
    assert_eq!(source.count(&website.token, "*"), 300);
    let range = replay(&source, state.path(), &["--into", "index", "--from", "3"]);
    assert_eq!(range.status.code(), Some(2));
}
