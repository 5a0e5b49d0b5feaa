use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::{ADMIN_TOKEN, Answer, App, Eye, Launch, events, time};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";

fn send(eye: &Eye, app: &App, body: impl Into<Vec<u8>>, kind: &str) -> Answer {
    eye.post("/events")
        .token(&app.token)
        .body(body, kind)
        .send()
}

fn list(eye: &Eye, token: &str, target: &str) -> Vec<Value> {
    let answer = eye.get(target).token(token).send().expect(200).json();
    answer["rejections"].as_array().unwrap().clone()
}

fn one(eye: &Eye, app: &App, id: &Value) -> Value {
    let path = format!("/rejections/{}", id.as_str().unwrap());
    eye.get(&path).token(&app.token).send().expect(200).json()
}

fn retry(eye: &Eye, app: &App, id: &Value, body: Option<&Value>) -> Answer {
    let path = format!("/rejections/{}/retry", id.as_str().unwrap());
    let request = eye.post(&path).token(&app.token);
    match body {
        Some(body) => request.json(body).send(),
        None => request.send(),
    }
}

/// The bytes that a rejection keeps.
fn bytes(rejection: &Value) -> Vec<u8> {
    match (&rejection["body"], &rejection["body_base64"]) {
        (Value::String(text), Value::Null) => text.clone().into_bytes(),
        (Value::Null, Value::String(text)) => STANDARD.decode(text).unwrap(),
        other => panic!("a body in two forms, or in none: {other:?}"),
    }
}

#[test]
fn everything_that_is_refused_is_kept_as_it_was_sent_with_its_reasons() {
    let mut eye = Eye::start();
    let app = eye.application("shop");
    let good = events::plain(SESSION).to_string();
    let packed = {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"{\"no\": 1}").unwrap();
        packed.finish().unwrap()
    };
    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(17 << 20));
    let cases = [
        (
            b"{\"category\": 5}".to_vec(),
            "application/json",
            400,
            "invalid_event",
        ),
        (
            b"{\"a\": \xff".to_vec(),
            "application/json",
            400,
            "malformed_json",
        ),
        (
            b"<event/>".to_vec(),
            "application/xml",
            415,
            "unsupported_type",
        ),
        (large.into_bytes(), "application/json", 413, "too_large"),
    ];
    let mut ids = Vec::new();
    for (body, kind, status, code) in cases {
        let problem = send(&eye, &app, body.clone(), kind).problem(status, code);
        let rejection = one(&eye, &app, &problem["rejection"]);
        let kept = &body[..body.len().min(64 << 10)];
        assert!(bytes(&rejection) == kept, "{code}: {rejection:.300}");
        assert_eq!(
            (&rejection["code"], &rejection["state"]),
            (&json!(code), &json!("open"))
        );
        assert_eq!(rejection["application"], "shop");
        assert_eq!(rejection["path"], "/events");
        ids.push(problem["rejection"].clone());
    }
    // What was packed is kept unpacked: as the event that it is.
    let request = eye
        .post("/events")
        .token(&app.token)
        .header("content-encoding", "gzip");
    let problem = request
        .body(packed, "application/json")
        .send()
        .problem(400, "invalid_event");
    let rejection = one(&eye, &app, &problem["rejection"]);
    assert_eq!(rejection["body"], "{\"no\": 1}");
    assert_eq!(rejection["errors"], problem["errors"]);
    let paths = rejection["paths"].as_array().unwrap();
    assert!(
        paths.contains(&json!("/session_id")) && paths.contains(&json!("/no")),
        "{paths:?}"
    );
    // Items of a batch, each by itself; a session of another application; an id with other content.
    let other = eye.application("other");
    send(&eye, &other, good.clone(), "application/json").expect(201);
    let mine = events::plain("11111111-1111-4111-8111-111111111111").to_string();
    let bad = "{\"session_id\": \"x\" }";
    let lines = format!("{mine}\n\n{bad}\r\n{good}\n{{\n");
    let summary = send(&eye, &app, lines, "application/x-ndjson")
        .expect(207)
        .json();
    let errors = summary["errors"].as_array().unwrap();
    let kept: Vec<(Value, Value, String)> = errors
        .iter()
        .map(|error| {
            let rejection = one(&eye, &app, &error["rejection"]);
            let body = rejection["body"].as_str().unwrap().to_owned();
            (rejection["index"].clone(), rejection["code"].clone(), body)
        })
        .collect();
    let item = |index: u64, code: &str, body: &str| (json!(index), json!(code), body.to_owned());
    assert_eq!(
        kept,
        [
            item(1, "invalid_event", &format!("{bad}\r")),
            item(2, "session_conflict", &good),
            item(3, "malformed_json", "{"),
        ]
    );
    let array = format!("[{bad},{mine}]");
    let summary = send(&eye, &app, array, "application/json")
        .expect(207)
        .json();
    assert_eq!(
        one(&eye, &app, &summary["errors"][0]["rejection"])["body"],
        bad
    );
    send(&eye, &app, good.clone(), "application/json").problem(409, "session_conflict");

    let mut all = list(&eye, &app.token, "/rejections");
    assert_eq!(all.len(), 10);
    assert_eq!(all[9]["id"], ids[0]);
    assert!(
        all.iter().all(|one| one["body"].is_null()),
        "a list has no bodies"
    );
    for (target, count) in [
        ("/rejections?reason=session_conflict", 2),
        ("/rejections?reason=nothing", 0),
        ("/rejections?from=now-1h", 10),
        ("/rejections?to=now-1h", 0),
        ("/rejections?application=shop&limit=3", 3),
        ("/rejections?application=other", 0),
    ] {
        assert_eq!(list(&eye, ADMIN_TOKEN, target).len(), count, "{target}");
    }
    let mut pages = eye.pages(|eye| eye.get("/rejections?limit=3").token(&app.token));
    assert_eq!(pages.len(), 4);
    let paged: Vec<Value> = pages
        .drain(..)
        .flat_map(|page| page.json()["rejections"].as_array().unwrap().clone())
        .collect();
    assert_eq!(paged, all);
    let summary = eye
        .get("/rejections?summary=true")
        .token(&app.token)
        .send()
        .expect(200)
        .json();
    let counts = summary["summary"].as_array().unwrap();
    assert_eq!(
        counts
            .iter()
            .map(|row| row["count"].as_u64().unwrap())
            .sum::<u64>(),
        10
    );
    // They survive a restart, and what nobody sent for an application is kept by nobody.
    eye.post("/events").json(&json!({})).send().expect(401);
    eye.restart();
    all.retain(|one| one["id"].is_string());
    assert_eq!(list(&eye, &app.token, "/rejections"), all);
    eye.get("/rejections?reson=x")
        .token(&app.token)
        .send()
        .problem(400, "bad_parameter");
}

#[test]
fn a_rejection_is_sent_again_once_it_can_be_and_stored_once() {
    let eye = Eye::start();
    let app = eye.application("shop");
    let mut event = events::plain(SESSION);
    event["timestamp"] = json!(time::from_now(7));
    let refused = send(&eye, &app, event.to_string(), "application/json");
    let early = refused.problem(400, "future_timestamp")["rejection"].clone();
    // Not yet: the same rejection, with what is wrong now.
    let again = retry(&eye, &app, &early, None).problem(400, "future_timestamp");
    assert_eq!(again["rejection"], early);
    assert_eq!(list(&eye, &app.token, "/rejections").len(), 1);
    std::thread::sleep(Duration::from_millis(2_500));
    let stored = retry(&eye, &app, &early, None).expect(201).json();
    // It brought no id, and got its rejection's.
    assert_eq!(stored["id"], early);
    retry(&eye, &app, &early, None).problem(409, "conflict");
    let rejection = one(&eye, &app, &early);
    assert_eq!(
        (&rejection["state"], &rejection["event_id"]),
        (&json!("retried"), &early)
    );
    let path = format!("/events/{}", early.as_str().unwrap());
    eye.get(&path).token(&app.token).send().expect(200);

    // Corrected in the request; a body that is no event changes the reasons.
    let refused = send(&eye, &app, "{\"category\":1}", "application/json");
    let wrong = refused.problem(400, "invalid_event")["rejection"].clone();
    retry(&eye, &app, &wrong, Some(&json!([1]))).problem(400, "invalid_event");
    let corrected = events::plain(SESSION);
    let stored = retry(&eye, &app, &wrong, Some(&corrected))
        .expect(201)
        .json();
    assert_eq!(stored["id"], wrong);
    assert_eq!(
        list(&eye, &app.token, "/rejections?state=open"),
        Vec::<Value>::new()
    );
    assert_eq!(eye.count(&app.token, "*"), 2);
    // Of a request that was too large only the beginning is there.
    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(17 << 20));
    let large = send(&eye, &app, large, "application/json").problem(413, "too_large");
    retry(&eye, &app, &large["rejection"], None).problem(400, "too_large");
    // Another application's is not there.
    let other = eye.application("other");
    retry(&eye, &other, &wrong, None).problem(404, "not_found");
}

#[test]
fn all_of_a_reason_are_sent_again_by_a_task() {
    let eye = Eye::start();
    let app = eye.application("shop");
    for number in 0..30 {
        let mut event = events::plain(SESSION);
        event["timestamp"] = json!(time::from_now(if number < 20 { 6 } else { 86_400 }));
        event["data"] = json!({ "number": number });
        send(&eye, &app, event.to_string(), "application/json").problem(400, "future_timestamp");
    }
    send(&eye, &app, "{}", "application/json").problem(400, "invalid_event");
    std::thread::sleep(Duration::from_millis(1_500));
    eye.post("/rejections/retry")
        .token(&app.token)
        .send()
        .problem(400, "bad_parameter");
    let begun = eye
        .post("/rejections/retry?reason=future_timestamp")
        .token(&app.token)
        .send();
    let path = begun.expect(202).header("location").unwrap().to_owned();
    let task = || eye.get(&path).token(ADMIN_TOKEN).send().expect(200).json();
    time::wait_until("the task is over", Duration::from_secs(20), || {
        task()["state"] == "done"
    });
    assert_eq!(
        task()["result"],
        json!({"stored": 20, "duplicates": 0, "rejected": 10})
    );
    assert_eq!(eye.count(&app.token, "*"), 20);
    assert_eq!(
        list(
            &eye,
            &app.token,
            "/rejections?state=open&reason=future_timestamp"
        )
        .len(),
        10
    );
    assert_eq!(list(&eye, &app.token, "/rejections?state=open").len(), 11);
}

#[test]
fn an_erased_session_is_in_no_rejection_and_in_no_byte_of_their_files() {
    let eye = Eye::start();
    let (app, other) = (eye.application("shop"), eye.application("other"));
    send(
        &eye,
        &app,
        events::plain(SESSION).to_string(),
        "application/json",
    )
    .expect(201);
    let naming = format!(
        "{{\"session_id\":\"{}\",\"category\":1}}",
        SESSION.to_uppercase()
    );
    let gone = send(&eye, &app, naming.clone(), "application/json").problem(400, "invalid_event");
    let theirs = send(&eye, &other, naming, "application/json").problem(400, "invalid_event");
    send(&eye, &app, "{\"category\":1}", "application/json").problem(400, "invalid_event");
    let files_name_it = || {
        std::fs::read_dir(eye.data().join("rejections"))
            .unwrap()
            .any(|entry| {
                let bytes = std::fs::read(entry.unwrap().path())
                    .unwrap()
                    .to_ascii_lowercase();
                bytes
                    .windows(SESSION.len())
                    .any(|window| window == SESSION.as_bytes())
            })
    };
    assert!(files_name_it());
    // What is not erased takes no rejection along.
    let unknown = "/sessions/00000000-0000-4000-8000-000000000000";
    let naming_it = "{\"session_id\":\"00000000-0000-4000-8000-000000000000\"}";
    send(&eye, &app, naming_it, "application/json").problem(400, "invalid_event");
    let answer = eye.request("DELETE", unknown).token(&app.token).send();
    answer.problem(404, "not_found");
    assert_eq!(list(&eye, &app.token, "/rejections").len(), 3);
    let path = format!("/sessions/{SESSION}");
    let erase = |token: &str| eye.request("DELETE", &path).token(token).send();
    // An application erases its own rejections, not another's.
    erase(&app.token).expect(202);
    assert_eq!(list(&eye, &app.token, "/rejections").len(), 2);
    assert_eq!(list(&eye, &other.token, "/rejections").len(), 1);
    let missing = format!("/rejections/{}", gone["rejection"].as_str().unwrap());
    eye.get(&missing)
        .token(&app.token)
        .send()
        .problem(404, "not_found");
    erase(ADMIN_TOKEN).expect(202);
    let missing = format!("/rejections/{}", theirs["rejection"].as_str().unwrap());
    eye.get(&missing)
        .token(&other.token)
        .send()
        .problem(404, "not_found");
    assert!(!files_name_it());
}

#[test]
fn a_client_that_is_always_refused_does_not_fill_the_disk() {
    let eye = Launch::new()
        .variable("EYE_REJECTIONS_MAX_BYTES", "256KiB")
        .start();
    let app = eye.application("shop");
    let line = format!("{{\"category\":\"{}\"}}\n", "x".repeat(500));
    for _ in 0..5 {
        send(&eye, &app, line.repeat(400), "application/x-ndjson").expect(400);
    }
    let kept: u64 = std::fs::read_dir(eye.data().join("rejections"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(kept <= 256 << 10, "{kept} bytes");
    let left = list(&eye, &app.token, "/rejections?limit=1000").len();
    assert!((100..300).contains(&left), "{left} left");
}

#[test]
fn the_command_lists_shows_and_retries() {
    let eye = Eye::start();
    let app = eye.application("shop");
    let mut early = events::plain(SESSION);
    early["timestamp"] = json!(time::from_now(6));
    let refused = send(&eye, &app, early.to_string(), "application/json");
    let id = refused.problem(400, "future_timestamp")["rejection"].clone();
    let id = id.as_str().unwrap();
    send(&eye, &app, "{\"category\":1}", "application/json").problem(400, "invalid_event");
    let data = eye.data().to_str().unwrap().to_owned();
    let said = |arguments: &[&str]| {
        let all = [&["rejections"], arguments, &["--data", &data]].concat();
        let output = eye.command(all);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {said} {:?}",
            output.stderr
        );
        said
    };
    let listed = said(&[]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains(id) && listed.contains("cannot be dated in the future"));
    assert!(!said(&["--reason", "invalid_event"]).contains(id));
    assert!(said(&["--summary"]).contains("future_timestamp"));
    let shown = said(&[id]);
    assert!(
        shown.contains("future_timestamp of shop") && shown.contains(SESSION),
        "{shown}"
    );
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(said(&[id, "--retry"]).contains(&format!("stored as event {id}")));
    assert!(said(&["--state", "retried", "--json"]).contains(id));
    assert!(
        said(&["--reason", "invalid_event", "--retry"])
            .contains("0 stored, 0 stored before, 1 refused again")
    );
}

#[test]
fn the_command_sends_a_corrected_event() {
    let eye = Eye::start();
    let app = eye.application("shop");
    let refused = send(&eye, &app, "{\"category\":1}", "application/json");
    let id = refused.problem(400, "invalid_event")["rejection"].clone();
    let id = id.as_str().unwrap();
    let file = eye.data().parent().unwrap().join("mended.json");
    let (name, data) = (file.to_str().unwrap(), eye.data().to_str().unwrap());
    let retried = |more: &[&str]| {
        let output = eye.command([&["rejections", "--data", data], more].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let with = [id, "--retry", "--with", name];
    let (status, said) = retried(&with);
    assert!(status == Some(3) && said.contains(name), "no file: {said}");
    std::fs::write(&file, " \n").unwrap();
    let (status, said) = retried(&with);
    assert!(status == Some(2) && said.contains("is empty"), "{said}");
    std::fs::write(&file, "{\"category\":2}").unwrap();
    let (status, said) = retried(&with);
    assert!(status == Some(2) && said.contains("session_id"), "{said}");
    std::fs::write(&file, events::plain(SESSION).to_string()).unwrap();
    for alone in [&[id, "--with", name][..], &["--retry", "--with", name]] {
        assert_eq!(retried(alone).0, Some(2), "{alone:?}");
    }
    let (status, said) = retried(&with);
    assert!(
        status == Some(0) && said.contains(&format!("stored as event {id}")),
        "{said}"
    );
    let stored = eye.get(&format!("/events/{id}")).token(&app.token).send();
    assert_eq!(
        stored.expect(200).json()["data"],
        events::plain(SESSION)["data"]
    );
    let (status, said) = retried(&with);
    assert!(status == Some(3) && said.contains("409"), "{said}");
}
