//! Who may do what, and what everybody else is told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::{ADMIN_TOKEN, Eye, events, time};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";

#[test]
fn without_a_token_nothing_is_told() {
    let eye = Eye::start();
    let reading = [
        "/events",
        "/events/e2085be5-9137-4e4e-80b5-f1ffddc25423",
        "/sessions/e2085be5-9137-4e4e-80b5-f1ffddc25423",
        "/sessions/e2085be5-9137-4e4e-80b5-f1ffddc25423/events",
        "/search?q=x",
        "/me",
        "/applications",
    ];
    for target in reading {
        let answer = eye.get(target).send();
        answer.problem(401, "unauthorized");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Token"),
            "GET {target}"
        );
    }
    for target in ["/events", "/applications"] {
        let answer = eye.post(target).json(&events::plain(SESSION)).send();
        answer.problem(401, "unauthorized");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Token"),
            "POST {target}"
        );
    }
}

#[test]
fn an_unknown_token_is_told_no_more_than_no_token() {
    let eye = Eye::start();
    let app = eye.application("website");
    let unknown = format!("eye_s_{}", "A".repeat(40));
    let nearly = format!("{}x", app.token);
    let no_token = eye.get("/events").send().json();
    for authorization in [
        format!("Token {unknown}"),
        format!("Bearer {unknown}"),
        format!("Token {nearly}"),
        "Token".into(),
        "Token ".into(),
        "nonsense".into(),
        format!("Basic {}", STANDARD.encode("website:secret")),
        "Basic !!!".into(),
        format!("Digest {}", app.token),
    ] {
        for request in [
            eye.get("/events"),
            eye.post("/events").json(&events::plain(SESSION)),
        ] {
            let answer = request.header("Authorization", &authorization).send();
            let problem = answer.problem(401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Token"));
            for field in ["title", "message", "detail"] {
                assert_eq!(problem[field], no_token[field], "{authorization}");
            }
        }
    }
}

#[test]
fn a_token_comes_in_three_ways() {
    let eye = Eye::start();
    let app = eye.application("website");
    for authorization in [
        format!("Token {}", app.token),
        format!("token {}", app.token),
        format!("Bearer {}", app.token),
        format!("bearer {}", app.token),
        format!("Basic {}", STANDARD.encode(format!("{}:", app.token))),
        format!(
            "Basic {}",
            STANDARD.encode(format!("{}:ignored", app.token))
        ),
    ] {
        eye.post("/events")
            .header("Authorization", &authorization)
            .json(&events::plain(SESSION))
            .send()
            .expect(201);
        eye.get("/events")
            .header("Authorization", &authorization)
            .send()
            .expect(200);
    }
}

#[test]
fn a_write_only_token_sends_and_reads_nothing() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let write_only = eye.token_of(&app, &json!({"scopes": ["write"]}));
    assert!(write_only.starts_with("eye_w_"), "{write_only}");
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        let id = eye
            .post("/events")
            .token(&write_only)
            .json(&events::plain(SESSION))
            .send()
            .expect(201)
            .json()["id"]
            .clone();
        let id = id.as_str().unwrap();
        for target in [
            "/events".into(),
            format!("/events/{id}"),
            format!("/sessions/{SESSION}"),
            format!("/sessions/{SESSION}/events"),
            "/search?q=*".into(),
        ] {
            eye.get(&target)
                .token(&write_only)
                .send()
                .problem(403, "forbidden");
        }
        eye.get(&format!("/events/{id}"))
            .token(&app.token)
            .send()
            .expect(200);
    }
}

#[test]
fn only_a_write_only_token_may_come_in_the_address_and_only_when_sending() {
    let eye = Eye::start();
    let app = eye.application("website");
    let write_only = eye.token_of(&app, &json!({"scopes": ["write"]}));
    let analyst = eye.analyst();
    let event = events::plain(SESSION).to_string();
    // As a browser's sendBeacon does: text/plain and no header of one's own.
    eye.post("/events")
        .query("token", &write_only)
        .body(event.as_str(), "text/plain;charset=UTF-8")
        .send()
        .expect(201);
    for token in [
        app.token.as_str(),
        analyst.as_str(),
        ADMIN_TOKEN,
        "eye_w_unknown",
        "",
    ] {
        eye.post("/events")
            .query("token", token)
            .body(event.as_str(), "text/plain")
            .send()
            .problem(401, "unauthorized");
    }
    eye.get("/events")
        .query("token", &write_only)
        .send()
        .problem(401, "unauthorized");
    assert_eq!(eye.count(&app.token, "*"), 1);
}

#[test]
fn an_analyst_reads_everything_and_sends_nothing() {
    let eye = Eye::start();
    let (one, two) = (eye.application("one"), eye.application("two"));
    let analyst = eye.analyst();
    assert!(analyst.starts_with("eye_r_"), "{analyst}");
    let other_session = "6d5b1f6e-0b43-4f0c-8a6e-3f3d2c1b0a99";
    eye.post("/events")
        .token(&one.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201);
    eye.post("/events")
        .token(&two.token)
        .json(&events::plain(other_session))
        .send()
        .expect(201);

    assert_eq!(
        eye.get("/events")
            .token(&analyst)
            .send()
            .expect(200)
            .events()
            .len(),
        2
    );
    let narrowed = eye
        .get("/events")
        .token(&analyst)
        .query("application", "two")
        .send()
        .expect(200)
        .events();
    assert_eq!(narrowed.len(), 1);
    assert_eq!(narrowed[0]["session_id"], other_session);
    eye.post("/events")
        .token(&analyst)
        .json(&events::plain(SESSION))
        .send()
        .problem(403, "forbidden");
    eye.post("/events")
        .token(&analyst)
        .query("application", "one")
        .json(&events::plain(SESSION))
        .send()
        .problem(403, "forbidden");
}

#[test]
fn another_applications_events_are_as_if_they_were_not_there() {
    let eye = Eye::start();
    let (mine, other) = (eye.application("mine"), eye.application("other"));
    let theirs = eye
        .post("/events")
        .token(&other.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201)
        .json();
    let id = theirs["id"].as_str().unwrap();
    for target in [
        format!("/events/{id}"),
        format!("/sessions/{SESSION}"),
        format!("/sessions/{SESSION}/events"),
    ] {
        eye.get(&target).token(&other.token).send().expect(200);
        eye.get(&target)
            .token(&mine.token)
            .send()
            .problem(404, "not_found");
    }
    for target in [
        format!("/events?session_id={SESSION}"),
        "/events?application=other".into(),
        "/search?q=*".into(),
        "/search?q=*&application=other".into(),
        format!("/search?q=session_id:{SESSION}"),
    ] {
        assert_eq!(
            eye.get(&target)
                .token(&mine.token)
                .send()
                .expect(200)
                .events()
                .len(),
            0,
            "{target}"
        );
    }
    assert_eq!(eye.count(&mine.token, "*"), 0);
    assert_eq!(eye.count(&other.token, "*"), 1);
}

#[test]
fn a_revoked_token_is_locked_out_at_once() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let made = eye
        .post("/applications/website/tokens")
        .token(ADMIN_TOKEN)
        .json(&json!({"scopes": ["write", "read"]}))
        .send();
    let made = made.expect(201).json();
    let (token, id) = (
        made["token"].as_str().unwrap().to_owned(),
        made["id"].as_str().unwrap().to_owned(),
    );
    eye.get("/events").token(&token).send().expect(200);
    let revoked = eye
        .request("DELETE", &format!("/tokens/{id}"))
        .token(ADMIN_TOKEN)
        .send();
    assert!(matches!(revoked.status, 200 | 204), "{revoked:?}");
    eye.get("/events")
        .token(&token)
        .send()
        .problem(401, "unauthorized");
    eye.restart();
    eye.get("/events")
        .token(&token)
        .send()
        .problem(401, "unauthorized");
    eye.get("/events").token(&app.token).send().expect(200);
}

#[test]
fn no_secret_is_kept_on_the_disk_or_listed() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    eye.post("/events")
        .token(&app.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201);
    let listed = eye
        .get("/applications/website/tokens")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .text();
    let secret = &app.token[app.token.len() - 20..];
    assert!(!listed.contains(secret), "{listed}");
    eye.stop();
    let mut files = vec![eye.data().to_owned()];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            read += 1;
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a token", path.display());
        }
    }
    assert!(read > 0, "no file in {}", eye.data().display());
}

#[test]
fn a_token_with_an_end_is_locked_out_at_its_end() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let path = format!("/applications/{}/tokens", app.name);
    let issue =
        |eye: &Eye, body: &serde_json::Value| eye.post(&path).token(ADMIN_TOKEN).json(body).send();
    for wrong in ["now", "now-1h", "2001-01-01", "soon", "now+9999999999999w"] {
        let refused = issue(&eye, &json!({"expires_at": wrong}));
        let problem = refused.problem(400, "bad_parameter");
        assert!(problem["errors"]["expires_at"].is_array(), "{problem}");
    }
    let made = issue(&eye, &json!({"expires_at": "now+2s"}))
        .expect(201)
        .json();
    let token = made["token"].as_str().unwrap();
    assert!(made["expires_at"].is_string(), "{made}");
    eye.get("/me").token(token).send().expect(200);
    eye.restart();
    time::wait_until("the token ends", std::time::Duration::from_secs(30), || {
        eye.get("/me").token(token).send().status == 401
    });
    let later = issue(&eye, &json!({"expires_at": "2999-01-01T00:00:00+01:00"}))
        .expect(201)
        .json();
    assert_eq!(later["expires_at"], "2998-12-31T23:00:00.000000Z");
}

#[test]
fn a_token_for_pages_of_some_origins_is_refused_elsewhere() {
    let eye = Eye::start();
    let app = eye.application("website");
    for wrong in [
        "shop.example",
        "https://shop.example/",
        "https://a@shop.example",
        "ftp://x",
        "",
    ] {
        let path = format!("/applications/{}/tokens", app.name);
        let body = json!({"origins": [wrong]});
        let refused = eye.post(&path).token(ADMIN_TOKEN).json(&body).send();
        refused.problem(400, "bad_parameter");
    }
    let token = eye.token_of(
        &app,
        &json!({"scopes": ["write"], "origins": ["https://Shop.example:8443"]}),
    );
    let send = |origin: Option<&str>, in_query: bool| {
        let target = if in_query {
            format!("/events?token={token}")
        } else {
            "/events".to_owned()
        };
        let mut request = eye.post(&target).json(&events::plain(SESSION));
        if !in_query {
            request = request.token(&token);
        }
        match origin {
            Some(origin) => request.header("Origin", origin).send(),
            None => request.send(),
        }
    };
    for in_query in [false, true] {
        send(Some("https://shop.example:8443"), in_query).expect(201);
        for elsewhere in [
            None,
            Some("https://shop.example"),
            Some("https://evil.example:8443"),
            Some("null"),
        ] {
            send(elsewhere, in_query).problem(403, "forbidden");
        }
    }
    let me = eye
        .get("/tokens")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .text();
    assert!(me.contains("https://shop.example:8443"), "{me}");
}

#[test]
fn when_a_token_was_last_used_is_known_across_a_restart() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let of_app = |eye: &Eye| {
        let path = format!("/applications/{}/tokens", app.name);
        let listed = eye.get(&path).token(ADMIN_TOKEN).send().expect(200).json();
        listed["tokens"][0]["last_used"].clone()
    };
    assert!(of_app(&eye).is_null());
    eye.post("/events")
        .token(&app.token)
        .json(&events::plain(SESSION))
        .send()
        .expect(201);
    let used = of_app(&eye);
    assert!(used.is_string());
    eye.restart();
    assert_eq!(of_app(&eye), used);
    let me = eye.get("/me").token(&app.token).send().expect(200).json();
    assert!(me["last_used"].as_str() > used.as_str(), "{me}");
}

#[test]
fn a_token_that_sends_too_fast_is_told_when_to_go_on() {
    let eye = Eye::start();
    let app = eye.application("website");
    let limit = |rate: serde_json::Value| {
        let path = format!("/applications/{}", app.name);
        let patch = eye.request("PATCH", &path).token(ADMIN_TOKEN);
        patch.json(&json!({ "rate": rate })).send().expect(200);
    };
    let send = |token: &str, count: usize| {
        let batch: Vec<_> = (0..count).map(|_| events::plain(SESSION)).collect();
        eye.post("/events").token(token).json(&json!(batch)).send()
    };
    limit(json!(5));
    // More than a second's worth passes once, and is paid back.
    send(&app.token, 600).expect(200);
    let refused = send(&app.token, 1);
    let problem = refused.problem(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((100..=120).contains(&wait), "{wait}");
    assert_eq!(problem["retry_after"], wait);
    // Another token of the application has a rate of its own, and reading is not bounded by it.
    send(&eye.token_of(&app, &json!({})), 1).expect(200);
    assert_eq!(eye.count(&app.token, "*"), 601);
    limit(json!(null));
    send(&app.token, 1).expect(200);
}
