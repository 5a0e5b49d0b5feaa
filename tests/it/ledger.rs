use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::{ADMIN_TOKEN, App, Eye, Launch, Random, events, time};

fn ledger(eye: &Eye, token: &str, target: &str) -> Value {
    eye.get(target).token(token).send().expect(200).json()
}

fn count(row: &Value, name: &str) -> u64 {
    row[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {row}"))
}

/// Both sums of a row come out even.
#[track_caller]
fn assert_even(row: &Value) {
    let of = |names: &[&str]| names.iter().map(|name| count(row, name)).sum::<u64>();
    assert_eq!(
        count(row, "received"),
        of(&["stored", "duplicate", "rejected"]),
        "{row}"
    );
    let became = of(&["indexed", "pending", "erased", "expired", "lost"]);
    assert_eq!(count(row, "stored"), became, "{row}");
}

fn row_of(ledger: &Value, name: &str) -> Value {
    let rows = ledger["applications"].as_array().unwrap();
    let row = rows.iter().find(|row| row["application"] == name);
    row.unwrap_or_else(|| panic!("{name} in {ledger}")).clone()
}

#[track_caller]
fn assert_counts(eye: &Eye, name: &str, stored: u64, duplicate: u64, rejected: u64) {
    let all = ledger(eye, ADMIN_TOKEN, "/ledger");
    let row = row_of(&all, name);
    assert_even(&row);
    let found = ["stored", "duplicate", "rejected"].map(|kind| count(&row, kind));
    assert_eq!(found, [stored, duplicate, rejected], "{row}");
    assert_even(&all["total"]);
}

fn event(random: &mut Random, session: &str, size: usize) -> String {
    let mut event = events::plain(session);
    event["data"] = json!({ "filler": "x".repeat(size) });
    events::with_id(&event.to_string(), &random.uuid())
}

/// Sends events, some again and some that are refused; returns what became of them.
fn send_some(eye: &Eye, app: &App, random: &mut Random, session: &str) -> [u64; 3] {
    let lines: Vec<String> = (0..40).map(|_| event(random, session, 200)).collect();
    let mut sent = lines.clone();
    sent.extend_from_slice(&lines[..5]);
    sent.push("{}".to_owned());
    sent.push("nothing".to_owned());
    let post = || eye.post("/events").token(&app.token);
    post().ndjson(&sent).send().expect(207);
    // Of these nothing is stored, so that no frame tells of them.
    post().ndjson(&lines[..3]).send().expect(200);
    post().ndjson(&["{}", "[]"]).send().expect(400);
    post()
        .body(lines[0].clone(), "application/json")
        .send()
        .expect(200);
    post().body("{}", "application/json").send().expect(400);
    post().body("<a/>", "application/xml").send().expect(415);
    let bad = [lines[7].clone(), "{}".to_owned()];
    eye.post("/events?on_error=reject_all")
        .token(&app.token)
        .ndjson(&bad)
        .send()
        .expect(400);
    [40, 5 + 3 + 1, 2 + 2 + 1 + 1 + 2]
}

#[test]
fn what_became_of_everything_is_known_through_sealing_restarts_erasing_and_the_loss_of_the_index() {
    let mut eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "32KiB")
        .start();
    let (app, other) = (eye.application("shop"), eye.application("blog"));
    let mut random = Random::announced(77);
    let sessions = [random.uuid(), random.uuid()];
    let mut sums = [0; 3];
    for round in 0..20 {
        let became = send_some(&eye, &app, &mut random, &sessions[round % 2]);
        for (sum, count) in sums.iter_mut().zip(became) {
            *sum += count;
        }
        assert_counts(&eye, "shop", sums[0], sums[1], sums[2]);
        if round % 5 == 0 {
            // In a record by then.
            std::thread::sleep(Duration::from_millis(1_100));
        }
        if round == 12 {
            eye.restart();
        }
    }
    // A session of another application, and requests without a token.
    let theirs = events::plain(&sessions[0]).to_string();
    eye.post("/events")
        .token(&other.token)
        .body(theirs, "application/json")
        .send()
        .expect(409);
    eye.post("/events").json(&json!({})).send().expect(401);
    eye.post("/events")
        .token("eye_w_nothing")
        .json(&json!({}))
        .send()
        .expect(401);
    let check = |eye: &Eye, erased: u64| {
        assert_counts(eye, "shop", sums[0], sums[1], sums[2]);
        assert_counts(eye, "blog", 0, 0, 1);
        let all = ledger(eye, ADMIN_TOKEN, "/ledger");
        assert_eq!(count(&all, "unauthenticated_requests"), 2);
        assert_eq!(count(&row_of(&all, "shop"), "erased"), erased, "{all}");
        assert_eq!(
            count(&all["total"], "received"),
            sums.iter().sum::<u64>() + 1
        );
    };
    check(&eye, 0);
    // Hours are whole, and an hour that has not come has nothing.
    for (range, all) in [
        ("?from=now-1h", true),
        ("?from=now-2h&to=now", true),
        ("?from=now%2B2h", false),
        ("?to=2021-01-01", false),
    ] {
        let asked = ledger(&eye, ADMIN_TOKEN, &format!("/ledger{range}"));
        assert_even(&asked["total"]);
        assert_eq!(
            count(&row_of(&asked, "shop"), "stored") == sums[0],
            all,
            "{range}: {asked}"
        );
    }
    // An application sees itself.
    let own = ledger(&eye, &app.token, "/ledger");
    assert_eq!(own["applications"].as_array().unwrap().len(), 1);
    assert!(own["unauthenticated_requests"].is_null());
    assert_eq!(
        ledger(&eye, &app.token, "/ledger?application=blog")["applications"],
        json!([])
    );

    let path = format!("/sessions/{}", sessions[0]);
    eye.request("DELETE", &path)
        .token(ADMIN_TOKEN)
        .send()
        .expect(202);
    check(&eye, 400);
    let compact = json!({"kind": "compact"});
    let begun = eye
        .post("/admin/tasks")
        .token(ADMIN_TOKEN)
        .json(&compact)
        .send()
        .expect(202);
    let task = begun.header("location").unwrap().to_owned();
    let over = || eye.get(&task).token(ADMIN_TOKEN).send().expect(200).json()["state"] == "done";
    time::wait_until("compacting is over", Duration::from_secs(60), || {
        // Even while it is being compacted.
        assert_even(&ledger(&eye, ADMIN_TOKEN, "/ledger")["total"]);
        over()
    });
    check(&eye, 400);
    eye.stop();
    let verified = eye.command(["log", "verify", "--data", eye.data().to_str().unwrap()]);
    assert!(verified.status.success(), "{verified:?}");
    std::fs::remove_dir_all(eye.data().join("index")).unwrap();
    eye.restart();
    check(&eye, 400);
    eye.wait_until_indexed();
    let row = row_of(&ledger(&eye, ADMIN_TOKEN, "/ledger"), "shop");
    assert_eq!([count(&row, "indexed"), count(&row, "pending")], [400, 0]);
}

#[test]
fn the_sums_come_out_even_at_every_moment_while_events_come() {
    let eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "64KiB")
        .start();
    let app = eye.application("shop");
    let over = AtomicBool::new(false);
    let sums = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut random = Random::announced(78);
            let session = random.uuid();
            let mut sums = [0; 3];
            for _ in 0..40 {
                let became = send_some(&eye, &app, &mut random, &session);
                for (sum, count) in sums.iter_mut().zip(became) {
                    *sum += count;
                }
            }
            over.store(true, Ordering::Relaxed);
            sums
        });
        let mut last = 0;
        while !over.load(Ordering::Relaxed) {
            let total = ledger(&eye, ADMIN_TOKEN, "/ledger")["total"].clone();
            assert_even(&total);
            let stored = count(&total, "stored");
            assert!(stored >= last, "{stored} after {last}");
            last = stored;
        }
        sending.join().unwrap()
    });
    assert_counts(&eye, "shop", sums[0], sums[1], sums[2]);
}
