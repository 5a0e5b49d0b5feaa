//! Exports hold everything there is, and tails what comes, without a gap that is not told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::events::Generator;
use support::{ADMIN_TOKEN, App, Eye, Launch, Random, events, time};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";

/// A service with two applications whose events lie in several files.
fn filled(count: usize) -> (Eye, Vec<App>) {
    let eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "128KiB")
        .start();
    let apps = vec![eye.application("shop"), eye.application("blog")];
    for (place, app) in apps.iter().enumerate() {
        let (lines, _) = Generator::new(Random::announced(50 + place as u64), 9).lines(count);
        lines.chunks(200).for_each(|some| eye.store(app, some));
    }
    eye.wait_until_indexed();
    (eye, apps)
}

/// Splits an export into its lines and its end, and checks count and hash.
fn checked(body: &str) -> (Vec<Value>, Value) {
    let (events, end) = match body.trim_end_matches('\n').rsplit_once('\n') {
        Some((events, end)) => (format!("{events}\n"), end),
        None => (String::new(), body.trim_end()),
    };
    let end: Value = serde_json::from_str(end).unwrap();
    let hash = Sha256::digest(events.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(end["export"]["sha256"], hash);
    assert_eq!(end["export"]["count"], events.lines().count());
    let events = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (events.collect(), end["export"].clone())
}

fn export(eye: &Eye, token: &str, parameters: &str) -> (Vec<Value>, Value) {
    let answer = eye
        .get(&format!("/export{parameters}"))
        .token(token)
        .send()
        .expect(200);
    checked(&answer.text())
}

#[test]
fn an_export_of_everything_is_the_log() {
    let (eye, apps) = filled(1500);
    let analyst = eye.analyst();
    let (all, end) = export(&eye, &analyst, "");
    assert!(end["next"].is_null() && end["exact"] == true);
    // What the log says, read without the service and its index.
    let data = eye.data().to_str().unwrap();
    let dumped = eye.command(["log", "dump", "--data", data]);
    let dumped = String::from_utf8(dumped.stdout).unwrap();
    let dumped: Vec<Value> = dumped
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["kind"] == "event")
        .map(|mut event| {
            event.as_object_mut().unwrap().remove("kind");
            event
        })
        .collect();
    assert_eq!(all, dumped);
    assert_eq!(all.len(), 3000);
    let (own, _) = export(&eye, &apps[1].token, "");
    let of_own: Vec<&Value> = all
        .iter()
        .filter(|event| event["application"] == "blog")
        .collect();
    assert_eq!(own.iter().collect::<Vec<_>>(), of_own);
    assert_eq!(export(&eye, &apps[1].token, "?application=shop").0.len(), 0);
}

#[test]
fn an_export_holds_what_a_search_finds_and_goes_on_where_it_ended() {
    let (eye, apps) = filled(800);
    let q = "late -name:submit";
    let mut found = eye.ids_found(&apps[0].token, q);
    let (exported, _) = export(&eye, &apps[0].token, "?q=late+-name:submit");
    let id = |event: &Value| event["id"].as_str().unwrap().to_owned();
    let mut ids: Vec<String> = exported.iter().map(id).collect();
    assert!(ids.len() > 20);
    let mut parts = Vec::new();
    let mut next = String::new();
    loop {
        let (part, end) = export(
            &eye,
            &apps[0].token,
            &format!("?q=late+-name:submit&limit=7{next}"),
        );
        assert!(part.len() <= 7);
        parts.extend(part.iter().map(id));
        // What comes meanwhile is in no later part.
        eye.post("/events")
            .token(&apps[0].token)
            .json(&events::plain(SESSION))
            .send()
            .expect(201);
        match end["next"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(parts, ids);
    ids.sort();
    found.sort();
    assert_eq!(ids, found);
}

#[test]
fn an_export_as_csv_is_safe_to_open() {
    let eye = Eye::start();
    let app = eye.application("shop");
    let mut event = events::plain(SESSION);
    event["data"] =
        json!({"a": {"b": "=cmd|' /C calc'!A0"}, "text": "one, \"two\"\nthree", "n": 1.50});
    eye.post("/events")
        .token(&app.token)
        .json(&event)
        .send()
        .expect(201);
    let target = "/export?format=csv&fields=name,a.b,text,n,missing";
    let told = eye.get(target).token(&app.token).send().expect(200).text();
    assert_eq!(
        told,
        "name,a.b,text,n,missing\r\npageview,'=cmd|' /C calc'!A0,\"one, \"\"two\"\"\nthree\",1.5,\r\n"
    );
    let raw = eye
        .get(&format!("{target}&raw=true"))
        .token(&app.token)
        .send()
        .expect(200)
        .text();
    assert!(raw.contains("pageview,=cmd"));
    for (target, parameter) in [
        ("/export?format=xml", "format"),
        ("/export?fields=a", "fields"),
        ("/export?format=csv&fields=a,,b", "fields"),
        ("/export?limit=0", "limit"),
        ("/export?order=timestamp", "order"),
    ] {
        let problem = eye
            .get(target)
            .token(&app.token)
            .send()
            .problem(400, "bad_parameter");
        assert!(problem["errors"][parameter].is_array(), "{problem}");
    }
    eye.get("/export?q=(")
        .token(&app.token)
        .send()
        .problem(400, "bad_query");
}

/// An open tail, read line by line.
struct Tail {
    lines: BufReader<TcpStream>,
    status: u16,
}

/// Something that a tail says: id, kind, data.
type Said = (Option<u64>, String, Value);

impl Tail {
    fn open(eye: &Eye, token: &str, target: &str, last: Option<u64>) -> Self {
        let mut stream = TcpStream::connect(eye.client().address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let last = last.map_or_else(String::new, |last| format!("Last-Event-ID: {last}\r\n"));
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: eye\r\nAuthorization: Token {token}\r\n{last}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        while line.trim() != "" {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        Self { lines, status }
    }

    /// Returns the next thing said; comments and the lengths of chunks are passed over.
    fn next(&mut self) -> Option<Said> {
        let (mut id, mut kind, mut data) = (None, None, None);
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            let line = line.trim_end();
            // The chunk that ends the answer.
            if line == "0" {
                return None;
            }
            if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.parse().unwrap());
            } else if let Some(text) = line.strip_prefix("event: ") {
                kind = Some(text.to_owned());
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = Some(serde_json::from_str(text).unwrap());
            } else if line.is_empty()
                && let (Some(kind), Some(data)) = (kind.take(), data.take())
            {
                return Some((id, kind, data));
            }
        }
    }
}

#[test]
fn a_tail_says_what_comes_and_goes_on_without_a_gap() {
    let (mut eye, apps) = filled(50);
    let mut tail = Tail::open(&eye, &apps[0].token, "/tail?q=late", None);
    assert_eq!(tail.status, 200);
    let send = |eye: &Eye, app: &App, text: &str| {
        let mut event = events::plain(SESSION);
        event["session_id"] = json!(if app.name == "shop" {
            SESSION.to_owned()
        } else {
            SESSION.replace('e', "f")
        });
        event["data"] = json!({ "text": text });
        // A body of several lines, to be said in one.
        let body = serde_json::to_string_pretty(&event).unwrap();
        let sent = eye
            .post("/events")
            .token(&app.token)
            .body(body, "application/json")
            .send();
        sent.expect(201).json()["offset"].as_u64().unwrap()
    };
    let first = send(&eye, &apps[0], "late 1");
    send(&eye, &apps[1], "late of another application");
    send(&eye, &apps[0], "early");
    let second = send(&eye, &apps[0], "LATE 2");
    for offset in [first, second] {
        let (id, kind, data) = tail.next().unwrap();
        assert_eq!((id, kind.as_str()), (Some(offset), "event"));
        assert_eq!(data["offset"], offset);
        assert_eq!(
            data["data"]["text"].as_str().unwrap().to_lowercase()[..4],
            *"late"
        );
    }
    // From an id on, and from the very beginning: what a search finds.
    let mut again = Tail::open(&eye, &apps[0].token, "/tail?q=late", Some(first));
    assert_eq!(again.next().unwrap().0, Some(second));
    let mut whole = Tail::open(&eye, &apps[0].token, "/tail?q=late&from=0", None);
    let all = eye.count(&apps[0].token, "late");
    let offsets: Vec<u64> = (0..all).map(|_| whole.next().unwrap().0.unwrap()).collect();
    assert!(offsets.is_sorted() && offsets.ends_with(&[first, second]));

    // An erased session is a gap that is told.
    let erase = eye.request("DELETE", &format!("/sessions/{SESSION}"));
    erase.token(ADMIN_TOKEN).send().expect(202);
    let mut gaps = Tail::open(&eye, &apps[0].token, "/tail", Some(first - 1));
    let mut told = BTreeMap::new();
    while told.len() < 2 {
        let (_, kind, data) = gaps.next().unwrap();
        if kind == "gap" {
            told.insert(data["from"].as_u64().unwrap(), data);
        }
    }
    assert_eq!(
        told[&first],
        json!({"from": first, "to": first + 1, "reason": "erased"})
    );

    // A stop ends them, and says so.
    eye.stop();
    let mut last = None;
    while let Some(said) = tail.next() {
        last = Some(said);
    }
    let (_, kind, data) = last.unwrap();
    assert_eq!(
        (kind.as_str(), &data["reason"]),
        ("end", &json!("stopping"))
    );
}

#[test]
fn a_tail_ends_with_its_token_and_only_so_many_are_open() {
    let eye = Launch::new().variable("EYE_TAILS_MAX", "2").start();
    let app = eye.application("shop");
    let path = format!("/applications/{}/tokens", app.name);
    let made = eye
        .post(&path)
        .token(ADMIN_TOKEN)
        .json(&json!({}))
        .send()
        .expect(201)
        .json();
    let mut one = Tail::open(&eye, made["token"].as_str().unwrap(), "/tail", None);
    let two = Tail::open(&eye, &app.token, "/tail", None);
    assert_eq!((one.status, two.status), (200, 200));
    eye.get("/tail")
        .token(&app.token)
        .send()
        .problem(503, "overloaded");
    let revoke = eye.request(
        "DELETE",
        &format!("/tokens/{}", made["id"].as_str().unwrap()),
    );
    revoke.token(ADMIN_TOKEN).send().expect(204);
    let (_, kind, data) = one.next().unwrap();
    assert_eq!((kind.as_str(), &data["reason"]), ("end", &json!("revoked")));
    assert!(one.next().is_none());
    drop(two);
    time::wait_until("the places are free", Duration::from_secs(30), || {
        Tail::open(&eye, &app.token, "/tail", None).status == 200
    });
    for (target, parameter) in [("/tail?from=999999", "from"), ("/tail?limit=3", "limit")] {
        let problem = eye
            .get(target)
            .token(&app.token)
            .send()
            .problem(400, "bad_parameter");
        assert!(problem["errors"][parameter].is_array(), "{problem}");
    }
}

#[test]
fn the_command_line_exports_a_whole_file_or_none() {
    let (eye, apps) = filled(600);
    let data = eye.data().to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("late.ndjson");
    let path = file.to_str().unwrap();
    let arguments = [
        "export",
        "late",
        "--app",
        "shop",
        "--to-file",
        path,
        "--json",
        "--data",
        data,
    ];
    let done = eye.command(arguments);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    let written = std::fs::read_to_string(&file).unwrap();
    let (expected, end) = export(&eye, &apps[0].token, "?q=late");
    let lines: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, expected);
    assert_eq!(
        (&told["events"], &told["sha256"]),
        (&end["count"], &end["sha256"])
    );
    assert_eq!(
        eye.command(arguments).status.code(),
        Some(2),
        "the file is there already"
    );
    let wrong = eye.command(["export", "late (", "--data", data]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains('^'));
    let csv = eye.command(["export", "--csv", "name,n", "--data", data]);
    assert_eq!(
        String::from_utf8_lossy(&csv.stdout).lines().count(),
        1 + 1200
    );
    // Without a server, from the folder itself.
    let mut eye = eye;
    eye.stop();
    let data = eye.data().to_str().unwrap();
    let offline = eye.command(["export", "late", "--app", "shop", "--data", data]);
    assert_eq!(String::from_utf8(offline.stdout).unwrap(), written);
}

#[test]
fn the_command_line_follows_events_across_a_restart() {
    let (mut eye, apps) = filled(50);
    let data = eye.data().to_str().unwrap().to_owned();
    let mut child = eye.spawn_piped(["tail", "beacon", "--limit", "3", "--data", &data]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let send = |eye: &Eye, number: u64| {
        let mut event = events::plain(SESSION);
        event["data"] = json!({"text": "a beacon", "number": number});
        eye.post("/events")
            .token(&apps[0].token)
            .json(&event)
            .send()
            .expect(201);
    };
    // Until the tail is open nothing of this is new to it.
    time::wait_until("the tail is open", Duration::from_secs(30), || {
        eye.metric("eye_connections_open{door=\"owner\"}") >= 1.0
    });
    std::thread::sleep(Duration::from_secs(1));
    send(&eye, 1);
    let number =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["data"]["number"].as_u64();
    assert_eq!(number(&lines.next().unwrap().unwrap()), Some(1));
    eye.restart();
    send(&eye, 2);
    send(&eye, 3);
    assert_eq!(number(&lines.next().unwrap().unwrap()), Some(2));
    assert_eq!(number(&lines.next().unwrap().unwrap()), Some(3));
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_command_line_shows_a_session() {
    let (eye, apps) = filled(200);
    let data = eye.data().to_str().unwrap();
    let page = eye
        .get("/sessions?limit=1")
        .token(&apps[0].token)
        .send()
        .expect(200)
        .json();
    let id = page["sessions"][0]["id"].as_str().unwrap();
    let events = eye
        .get(&format!("/sessions/{id}/events?limit=1000"))
        .token(&apps[0].token)
        .send();
    let events = events.expect(200).json()["events"].clone();
    let shown = eye.command(["session", id, "--data", data]);
    let lines = String::from_utf8(shown.stdout).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json!(lines), events);
    let whole = eye.command(["session", id, "--json", "--data", data]);
    let whole: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!(
        (&whole["session"]["count"], &whole["events"]),
        (&json!(lines.len()), &events)
    );
    let unknown = eye.command(["session", SESSION, "--data", data]);
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");
}
