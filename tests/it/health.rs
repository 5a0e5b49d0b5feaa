//! The server says who you are, what the limits are and how it feels, and stops without losing an answer.

use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use support::{ADMIN_TOKEN, Answer, Connection, Eye, Launch, events, time};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";

#[test]
fn me_says_what_a_token_is() {
    let eye = Eye::start();
    let app = eye.application("website");
    let write_only = eye.token_of(&app, &json!({"scopes": ["write"]}));
    let analyst = eye.analyst();
    let me = |token: &str| eye.get("/me").token(token).send().expect(200).json();
    for (token, kind, application) in [
        (app.token.as_str(), "application", json!("website")),
        (&write_only, "application", json!("website")),
        (&analyst, "analyst", json!(null)),
        (ADMIN_TOKEN, "admin", json!(null)),
    ] {
        let answer = me(token);
        assert_eq!(
            (&answer["kind"], &answer["application"]),
            (&json!(kind), &application)
        );
        assert_eq!(answer.get("token"), None, "a token is shown once");
    }
    let scopes = |token: &str| {
        let mut scopes: Vec<String> = me(token)["scopes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|scope| scope.as_str().unwrap().to_owned())
            .collect();
        scopes.sort();
        scopes
    };
    assert_eq!(scopes(&app.token), ["read", "write"]);
    assert_eq!(scopes(&write_only), ["write"]);
    assert_eq!(scopes(&analyst), ["read"]);
}

#[test]
fn limits_are_told_with_their_units_and_settings() {
    let eye = Eye::start();
    let app = eye.application("website");
    let limits = eye
        .get("/limits")
        .token(&app.token)
        .send()
        .expect(200)
        .json();
    let limits = limits.as_object().unwrap();
    assert!(limits.len() >= 4, "{limits:?}");
    for (name, limit) in limits {
        assert!(
            // A limit of the format itself has no setting, and says so.
            limit["unit"].is_string()
                && (limit["setting"].is_string() || limit["setting"].is_null())
                && !limit["value"].is_null(),
            "{name}: {limit}"
        );
    }
    let values: Vec<u64> = limits
        .values()
        .filter_map(|limit| limit["value"].as_u64())
        .collect();
    for expected in [256 * 1024, 16 * 1024 * 1024, 10_000, 64] {
        assert!(
            values.contains(&expected),
            "no limit of {expected}: {limits:?}"
        );
    }
}

#[test]
fn health_needs_no_token() {
    let eye = Eye::start();
    eye.get("/health/live").send().expect(200);
    let ready = eye.get("/health/ready").send().expect(200).json();
    assert_eq!(
        (&ready["ready"], &ready["state"]),
        (&json!(true), &json!("ok"))
    );
    assert!(ready["lag"].is_number(), "{ready}");
}

#[test]
fn an_unknown_path_is_404_and_a_wrong_method_405() {
    let eye = Eye::start();
    let app = eye.application("website");
    for target in [
        "/nothing",
        "/events/a/b/c",
        "/EVENTS",
        "/%ff",
        "/sessions/x/nothing",
    ] {
        eye.get(target)
            .token(&app.token)
            .send()
            .problem(404, "not_found");
    }
    for (method, target, allowed) in [
        ("DELETE", "/events", "POST"),
        ("PUT", "/events", "GET"),
        ("POST", "/me", "GET"),
        ("POST", "/health/live", "GET"),
        ("DELETE", "/search", "GET"),
    ] {
        let answer = eye.request(method, target).token(&app.token).send();
        answer.problem(405, "method_not_allowed");
        let allow = answer.header("allow").expect("405 comes with Allow");
        assert!(
            allow.split(',').any(|method| method.trim() == allowed),
            "{method} {target}: Allow: {allow}"
        );
    }
}

#[test]
fn every_answer_has_a_request_id() {
    let eye = Eye::start();
    let app = eye.application("website");
    let mut seen = std::collections::BTreeSet::new();
    for request in [
        eye.get("/health/live"),
        eye.get("/nothing"),
        eye.get("/events"),
        eye.get("/events").token(&app.token),
        eye.post("/events")
            .token(&app.token)
            .json(&events::plain(SESSION)),
        eye.post("/events")
            .token(&app.token)
            .body("{", "application/json"),
        eye.request("DELETE", "/events").token(&app.token),
    ] {
        let answer = request.send();
        let id = answer
            .header("x-request-id")
            .unwrap_or_else(|| panic!("no X-Request-Id: {answer:?}"))
            .to_owned();
        if answer.status >= 400 {
            assert_eq!(answer.json()["request_id"], id);
        }
        assert!(seen.insert(id), "an id comes twice");
    }
}

#[test]
fn every_path_answers_with_and_without_a_trailing_slash() {
    let eye = Eye::start();
    let app = eye.application("website");
    let made = eye
        .post("/events/")
        .token(&app.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201)
        .json();
    let id = made["id"].as_str().unwrap();
    for path in [
        "/events",
        "/search",
        "/me",
        "/limits",
        "/health/live",
        "/health/ready",
        &format!("/events/{id}"),
        &format!("/sessions/{SESSION}"),
        &format!("/sessions/{SESSION}/events"),
    ] {
        let without = eye.get(path).token(&app.token).send().expect(200);
        let with = eye
            .get(&format!("{path}/"))
            .token(&app.token)
            .send()
            .expect(200);
        if !path.starts_with("/health") && path != "/search" {
            let told = |answer: Answer| {
                let mut told = answer.json();
                // Asking is a use.
                told.as_object_mut().unwrap().remove("last_used");
                told
            };
            assert_eq!(told(without), told(with), "{path}");
        }
    }
    eye.get("/events/?limit=1")
        .token(&app.token)
        .send()
        .expect(200);
    eye.post("/applications/")
        .token(ADMIN_TOKEN)
        .json(&json!({"name": "other"}))
        .send()
        .expect(201);
    eye.get("/applications/")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200);
}

#[test]
fn a_connection_serves_many_requests() {
    let eye = Eye::start();
    let app = eye.application("website");
    let mut connection = Connection::open(eye.client().address()).unwrap();
    for _ in 0..20 {
        let request = eye
            .post("/events")
            .token(&app.token)
            .json(&events::plain(SESSION));
        connection
            .exchange(&request.bytes(), false)
            .unwrap()
            .expect(201);
        // A refusal does not cost the connection either.
        let request = eye
            .post("/events")
            .token(&app.token)
            .body("{", "application/json");
        connection
            .exchange(&request.bytes(), false)
            .unwrap()
            .expect(400);
    }
    // A HEAD has the headers of its GET and no body.
    let head = eye.request("HEAD", "/health/live").send().expect(200);
    assert!(head.body.is_empty());
}

#[test]
fn stopping_answers_what_was_begun_and_takes_nothing_new() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let address = eye.client().address();
    // Asking for `100 Continue` tells when the server has the request in hand and waits for its body.
    let request = eye
        .post("/events")
        .token(&app.token)
        .header("Expect", "100-continue")
        .json(&events::plain(SESSION))
        .bytes();
    let body = request
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    let mut slow = Connection::open(address).unwrap();
    slow.write(&request[..body]).unwrap();
    slow.expect_continue().unwrap();
    slow.write(&request[body..body + 10]).unwrap();

    eye.terminate();
    time::wait_until(
        "the server stops listening",
        Duration::from_secs(20),
        || Connection::open(address).is_err(),
    );
    slow.write(&request[body + 10..]).unwrap();
    let answer = slow.answer(false).unwrap().expect(201).json();
    assert!(eye.wait().success());
    eye.kill();
    eye.restart();
    eye.get(&format!("/events/{}", answer["id"].as_str().unwrap()))
        .token(&app.token)
        .send()
        .expect(200);
}

#[test]
fn stopping_under_load_loses_no_answer() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let answered = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Ends when the server takes no more.
                while let Ok(answer) = eye
                    .post("/events")
                    .token(&app.token)
                    .json(&events::plain(SESSION))
                    .try_send()
                {
                    if answer.status == 503 {
                        break;
                    }
                    answer.expect(201);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        time::wait_until("events are being sent", Duration::from_secs(20), || {
            answered.load(Ordering::Relaxed) > 50
        });
        eye.terminate();
    });
    assert!(eye.wait().success(), "{}", eye.complaints());
    eye.kill();
    eye.restart();
    // Exactly the answered ones: a graceful stop leaves no request in doubt.
    assert_eq!(eye.count(&app.token, "*"), answered.load(Ordering::Relaxed));
}

#[test]
fn a_second_process_on_the_folder_is_told_of_the_first() {
    let eye = Eye::start();
    let app = eye.application("website");
    let second = Launch::new().data(eye.data()).refused();
    assert_eq!(second.status.code(), Some(3));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        said.contains(&eye.process_id().to_string()),
        "the error does not name process {}: {said}",
        eye.process_id()
    );
    assert!(!said.contains("panicked"), "{said}");
    eye.post("/events")
        .token(&app.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201);
}

#[test]
fn a_service_verifies_its_own_log_when_asked_from_afar() {
    let eye = Eye::start();
    let app = eye.application("website");
    eye.store(&app, &[events::plain(SESSION).to_string()]);
    let url = eye.url();
    let verify = |token: &str| {
        eye.command([
            "log", "verify", "--json", "--server", &url, "--token", token,
        ])
    };
    let verified = verify(support::ADMIN_TOKEN);
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(
        (&report["ok"], &report["events"]),
        (&json!(true), &json!(1)),
        "{report}"
    );
    assert_eq!(verify(&app.token).status.code(), Some(3));
}

#[test]
fn a_broken_request_harms_nobody_else() {
    let eye = Eye::start();
    let app = eye.application("website");
    for nonsense in [
        &b"\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"POST /events HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    ] {
        let mut connection = Connection::open(eye.client().address()).unwrap();
        connection.write(nonsense).unwrap();
        drop(connection);
    }
    eye.post("/events")
        .token(&app.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201);
    assert_eq!(eye.count(&app.token, "*"), 1);
}

#[test]
fn a_body_may_come_in_chunks() {
    let eye = Eye::start();
    let app = eye.application("website");
    let body = events::plain(SESSION).to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let request = format!(
        "POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Token {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        app.token,
        first.len(),
        second.len()
    );
    let mut connection = Connection::open(eye.client().address()).unwrap();
    connection
        .exchange(request.as_bytes(), false)
        .unwrap()
        .expect(201);
}
