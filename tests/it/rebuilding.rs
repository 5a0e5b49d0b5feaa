//! `eye index rebuild` makes the index anew beside the one that answers, and says what both count; `eye demo` shows itself.

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::events::Generator;
use support::{ADMIN_TOKEN, App, Client, Eye, Random, binary, time};

fn index(eye: &Eye, arguments: &[&str]) -> Output {
    let mut line = vec!["index"];
    line.extend(arguments);
    line.extend(["--data", eye.data().to_str().unwrap(), "--json"]);
    eye.command(line)
}

#[track_caller]
fn answer(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn filled() -> (Eye, App, App) {
    let eye = Eye::start();
    let (website, shop) = (eye.application("website"), eye.application("shop"));
    let (lines, _) = Generator::new(Random::announced(41), 7).lines(300);
    eye.store(&website, &lines);
    let (lines, _) = Generator::new(Random::announced(42), 3).lines(40);
    eye.store(&shop, &lines);
    (eye, website, shop)
}

/// What a scan of every event says: events and sessions.
fn counted(eye: &Eye, token: &str) -> (u64, u64) {
    let pages = eye.pages(|eye| eye.get("/events").token(token).query("limit", "1000"));
    let events: Vec<Value> = pages.iter().flat_map(|page| page.events()).collect();
    let sessions: std::collections::BTreeSet<&str> = events
        .iter()
        .map(|event| event["session_id"].as_str().unwrap())
        .collect();
    (events.len() as u64, sessions.len() as u64)
}

#[test]
fn an_application_says_how_many_events_and_sessions_it_has() {
    let (eye, website, shop) = filled();
    for app in [&website, &shop] {
        let shown = eye.get(&format!("/applications/{}", app.name));
        let shown = shown.token(ADMIN_TOKEN).send().expect(200).json();
        let (events, sessions) = counted(&eye, &app.token);
        assert_eq!(
            (&shown["events"], &shown["sessions"]),
            (&json!(events), &json!(sessions))
        );
        assert_eq!(shown["sessions_exact"], true);
    }
}

#[test]
fn the_index_is_made_anew_while_the_service_answers() {
    let (mut eye, website, shop) = filled();
    let scanned = [counted(&eye, &website.token), counted(&eye, &shop.token)];
    let total = counted(&eye, ADMIN_TOKEN);
    // What stood in the folder, right or wrong, is gone.
    let stale = eye.data().join("index/stale");
    std::fs::write(&stale, "").unwrap();
    let over = AtomicBool::new(false);
    let (report, answers) = std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut answers = 0;
            while !over.load(Ordering::Relaxed) {
                let request = eye.get("/search").token(&website.token).query("q", "*");
                let found = request.query("count", "true").send().expect(200).json();
                assert_eq!(found["count"], 300, "{found}");
                answers += 1;
            }
            answers
        });
        let rebuilt = index(&eye, &["rebuild"]);
        over.store(true, Ordering::Relaxed);
        (answer(&rebuilt), reads.join().unwrap())
    });
    assert!(answers > 0);
    assert!(!stale.exists());
    assert!(!eye.data().join("index.new").exists() && !eye.data().join("index.old").exists());
    assert_eq!(report["same"], true, "{report}");
    let both = |row: &Value| {
        ["events", "sessions"].map(|what| {
            assert_eq!(row[what]["old"], row[what]["new"], "{report}");
            row[what]["new"].as_u64().unwrap()
        })
    };
    assert_eq!(both(&report["total"]), <[u64; 2]>::from(total));
    for (app, scanned) in [&website, &shop].into_iter().zip(scanned) {
        let rows = report["applications"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == app.name).unwrap();
        assert_eq!(both(row), <[u64; 2]>::from(scanned));
    }

    // It goes on with what comes, and after a restart.
    let (later, _) = Generator::new(Random::announced(43), 2).lines(5);
    eye.store(&website, &later);
    assert_eq!(eye.count(&website.token, "*"), 305);
    let status = answer(&index(&eye, &["status"]));
    assert_eq!(
        (&status["lag"], &status["trouble"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(status["events"], total.0 + 5);
    eye.restart();
    assert_eq!(eye.count(&website.token, "*"), 305);
}

#[test]
fn the_index_of_a_stopped_service_is_made_anew_and_leftovers_go() {
    let (mut eye, website, _) = filled();
    let total = counted(&eye, ADMIN_TOKEN);
    eye.stop();
    // As a process leaves it that is killed between the two renames.
    let (index_folder, growing) = (eye.data().join("index"), eye.data().join("index.new"));
    std::fs::rename(&index_folder, eye.data().join("index.old")).unwrap();
    std::fs::create_dir(&growing).unwrap();
    std::fs::write(growing.join("half"), "").unwrap();
    let report = answer(&index(&eye, &["rebuild"]));
    assert_eq!(report["total"]["events"]["new"], total.0, "{report}");
    assert_eq!(report["total"]["sessions"]["new"], total.1, "{report}");
    assert!(index_folder.is_dir() && !growing.exists() && !eye.data().join("index.old").exists());
    eye.restart();
    assert_eq!(eye.count(&website.token, "*"), 300);
}

/// What lies in a folder.
fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_demo_shows_sample_events_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Command::new(binary::eye())
        .args(["demo", "--events", "1200", "--listen", "127.0.0.1:0"])
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let (mut url, mut token) = (String::new(), String::new());
    for line in lines.by_ref() {
        let line = line.unwrap();
        let after = |label: &str| {
            line.trim()
                .strip_prefix(label)
                .map(|rest| rest.trim().to_owned())
        };
        url = after("Look around:").unwrap_or(url);
        token = after("Admin token:").unwrap_or(token);
        if line.starts_with("listening on ") {
            break;
        }
    }
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let client = Client::new(address.parse().unwrap());
    let count = |q: &str| {
        let request = client.request("GET", "/search").token(&token).query("q", q);
        let request = request.query("count", "true").query("application", "shop");
        request.send().expect(200).json()["count"].as_u64().unwrap()
    };
    assert_eq!(count("*"), 1200);
    // What the demo says to ask finds something.
    for q in [
        "category:order",
        "name:search \"red shoes\"",
        "category:error data.status:>=500",
    ] {
        assert!(count(q) > 0, "{q}");
    }
    assert_eq!(entries(temporary.path()).len(), 1);
    let told = Command::new("kill").arg(demo.id().to_string()).status();
    assert!(told.unwrap().success());
    let mut status = None;
    time::wait_until("the demo ends", Duration::from_secs(30), || {
        status = demo.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
    assert_eq!(entries(temporary.path()), Vec::<String>::new());
}
