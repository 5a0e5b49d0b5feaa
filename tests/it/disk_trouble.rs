//! What an operator is told, and what goes on, when the disk is full or fails.

use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use support::{ADMIN_TOKEN, Eye, Launch, events, time};

const SESSION: &str = "6a5d9c1e-3b0f-4a55-9d6c-0e7a8b9c1d2e";

#[test]
fn a_failed_write_is_answered_reported_and_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let limited = Launch::new().data(&data).largest_file(8 << 20);
    let mut eye = limited.start();
    let app = eye.application("website");
    let text = "x".repeat(200_000);
    let mut acknowledged = Vec::new();
    let refused = loop {
        let mut event = events::plain(SESSION);
        event["data"] = json!({ "text": text, "number": acknowledged.len() });
        let answer = eye.post("/events").token(&app.token).json(&event).send();
        if answer.status != 201 {
            break answer;
        }
        acknowledged.push(answer.json()["id"].as_str().unwrap().to_owned());
        assert!(acknowledged.len() < 200, "no write ever failed");
    };
    let failed = Instant::now();
    refused.expect(503);
    let health = eye.get("/health/ready").send().expect(503).json();
    assert_eq!(health["state"], "poisoned", "{health}");
    let status = eye.wait();
    assert!(
        failed.elapsed() < Duration::from_secs(5),
        "{status} after {:?}",
        failed.elapsed()
    );
    assert_eq!(status.code(), Some(3), "{}", eye.complaints());
    time::wait_until("the last words arrive", Duration::from_secs(5), || {
        eye.complaints()
            .contains("eye: the log stopped after a failed write")
    });
    assert!(
        !eye.complaints().contains("panicked"),
        "{}",
        eye.complaints()
    );
    // A log of lines without colour codes: standard error is no terminal here.
    assert!(!eye.complaints().contains('\u{1b}'), "{}", eye.complaints());
    eye.kill();

    let again = Launch::new().data(&data).start();
    assert!(!acknowledged.is_empty());
    for id in &acknowledged {
        again
            .get(&format!("/events/{id}"))
            .token(&app.token)
            .send()
            .expect(200);
    }
    again
        .post("/events")
        .token(&app.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201);
}

#[test]
fn sending_to_a_folder_gives_up_at_once_when_a_write_fails() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut eye = Launch::new().data(&data).start();
    let app = eye.application("website");
    eye.stop();
    let text = "x".repeat(200_000);
    let lines = (0..100).map(|number| {
        let mut event = events::plain(SESSION);
        event["data"] = json!({ "text": text, "number": number });
        format!("{event}\n")
    });
    let file = folder.path().join("events.ndjson");
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    let began = Instant::now();
    let (data, file) = (data.to_str().unwrap(), file.to_str().unwrap());
    let sent = support::command_within(
        8 << 20,
        ["send", file, "--app", &app.name, "--again", "--data", data],
    );
    let said = String::from_utf8_lossy(&sent.stderr);
    assert_eq!(sent.status.code(), Some(3), "{said}");
    assert!(said.contains("stopped after a failed write"), "{said}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    // With room again, the whole file goes in.
    let again = eye.command(["send", file, "--app", &app.name, "--again", "--data", data]);
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
}

#[test]
fn below_the_reserve_sending_stops_and_everything_else_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut roomy = Launch::new()
        .data(&data)
        .variable("EYE_DISK_RESERVE", "0")
        .start();
    let app = roomy.application("website");
    roomy
        .post("/events")
        .token(&app.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201);
    roomy.stop();

    let mut full = Launch::new()
        .data(&data)
        .variable("EYE_DISK_RESERVE", "1000000GiB")
        .start();
    let limits = full
        .get("/limits")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .json();
    assert_eq!(
        limits["disk_reserve"]["value"],
        1_000_000_u64 << 30,
        "{limits}"
    );
    let refused = full
        .post("/events")
        .token(&app.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(507);
    assert_eq!(refused.json()["code"], "disk_full");
    assert!(refused.header("retry-after").is_some());
    let health = full.get("/health/ready").send().expect(200).json();
    assert_eq!(
        (&health["state"], &health["ready"]),
        (&json!("disk_full"), &json!(true)),
        "{health}"
    );
    // Reading, and what an operator does to make room, go on.
    assert_eq!(full.count(&app.token, "*"), 1);
    full.token_of(&app, &json!({"scopes": ["read"]}));
    full.stop();

    let roomy = Launch::new()
        .data(&data)
        .variable("EYE_DISK_RESERVE", "0")
        .start();
    roomy
        .post("/events")
        .token(&app.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201);
    assert_eq!(roomy.count(&app.token, "*"), 2);
}

#[test]
fn the_folder_is_the_owners_alone() {
    let eye = Eye::start();
    eye.application("website");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let log = eye.data().join("log");
    assert_eq!((mode(eye.data()), mode(&log)), (0o700, 0o700));
    let files: Vec<_> = std::fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_mistyped_variable_is_named_and_a_weak_admin_token_refused() {
    let eye = Launch::new().variable("EYE_DISK_RESERV", "1GiB").start();
    let said = eye.complaints();
    assert!(said.contains("EYE_DISK_RESERVE"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let weak = Launch::new()
        .data(folder.path())
        .variable("EYE_ADMIN_TOKEN", "change-me")
        .refused();
    assert_eq!(weak.status.code(), Some(3));
    let said = String::from_utf8_lossy(&weak.stderr);
    assert!(
        said.contains("EYE_ADMIN_TOKEN") && !said.contains("change-me"),
        "{said}"
    );
}
