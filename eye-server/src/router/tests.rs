//! The routes in process, over a store in a temporary folder.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::{OPENAPI, paths};
use crate::{App, Settings, open};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";

struct Service {
    app: App,
    router: Router,
    admin: Router,
    _folder: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

fn request(
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

impl Service {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut settings = Settings::new(folder.path());
        settings.admin_token = "preset".into();
        change(&mut settings);
        let app = open(&settings).await.unwrap();
        Self {
            router: app.router(),
            admin: app.router_as_owner(),
            app,
            _folder: folder,
        }
    }

    /// Registers an application, returns the header value of its token.
    async fn application(&self, name: &str) -> String {
        let answer = ask(
            &self.admin,
            request(
                "POST",
                "/applications",
                &[],
                json!({ "name": name }).to_string(),
            ),
        )
        .await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        format!("Token {}", answer.json()["token"].as_str().unwrap())
    }

    async fn send(&self, token: &str, body: impl Into<Body>) -> Answer {
        ask(
            &self.router,
            request("POST", "/events", &[("authorization", token)], body),
        )
        .await
    }

    async fn get(&self, token: &str, uri: &str) -> Answer {
        ask(
            &self.router,
            request("GET", uri, &[("authorization", token)], Body::empty()),
        )
        .await
    }
}

fn event(session: &str, name: &str, second: u32) -> String {
    format!(
        r#"{{"session_id":"{session}","category":"page","name":"{name}","timestamp":"2021-01-01 00:00:{second:02}","data":{{"n":1.10}}}}"#
    )
}

#[tokio::test]
async fn an_event_is_sent_and_found() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    let sent = service.send(&token, event(SESSION, "view", 1)).await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    let id = sent.json()["id"].as_str().unwrap().to_owned();
    let one = service.get(&token, &format!("/events/{id}/")).await;
    assert_eq!(one.status, 200);
    assert!(one.text.contains("\"data\":{\"n\":1.10}"), "{}", one.text);
    assert_eq!(one.json()["application"], "shop");
    for uri in [
        "/search?q=view&count=true",
        "/events?q=view",
        &format!("/events?session_id={SESSION}&timestamp_after=2021-01-01T00:00:01Z"),
    ] {
        let found = service.get(&token, uri).await;
        assert_eq!(found.json()["events"][0]["id"], id, "{uri}: {}", found.text);
        assert_eq!(found.json()["exact"], true);
        assert_eq!(found.json()["next"], Value::Null);
    }
    let searched = service
        .get(&token, "/search?q=view&count=true&limit=0&from=2021-01-01")
        .await
        .json();
    assert_eq!(
        (&searched["count"], &searched["events"], &searched["from"]),
        (&json!(1), &json!([]), &json!("2021-01-01T00:00:00.000000Z"))
    );
    let session = service
        .get(&token, &format!("/sessions/{SESSION}"))
        .await
        .json();
    assert_eq!(
        (
            &session["count"],
            &session["categories"],
            &session["entry"]["id"]
        ),
        (&json!(1), &json!({"page": 1}), &json!(id))
    );
}

#[tokio::test]
async fn nothing_is_told_without_a_token() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    for path in paths() {
        let public = ["/health", "/api", "/eye.js"];
        if path == "/" || public.iter().any(|public| path.starts_with(public)) {
            continue;
        }
        let path = path.replace(['{', '}'], "");
        for method in ["GET", "POST", "PATCH", "DELETE"] {
            let mut answers = Vec::new();
            for header in [
                None,
                Some("Token eye_s_unknown"),
                Some("Nonsense"),
                Some("Basic Og=="),
            ] {
                let headers: Vec<(&str, &str)> = header
                    .map(|value| ("authorization", value))
                    .into_iter()
                    .collect();
                let answer = ask(&service.router, request(method, &path, &headers, "{}")).await;
                if answer.status == 405 {
                    continue;
                }
                assert_eq!(answer.status, 401, "{method} {path}");
                assert_eq!(answer.headers["www-authenticate"], "Token");
                let mut body = answer.json();
                body["request_id"] = Value::Null;
                answers.push(body);
            }
            answers.dedup();
            assert!(answers.len() <= 1, "{method} {path}: {answers:?}");
        }
    }
    // A disabled application's token is as good as none.
    let disabled = ask(
        &service.admin,
        request("PATCH", "/applications/shop", &[], "{\"active\":false}"),
    )
    .await;
    assert_eq!(disabled.json()["active"], false);
    assert_eq!(
        service.send(&token, event(SESSION, "view", 1)).await.status,
        401
    );
    assert_eq!(
        service.get("Bearer preset", "/applications").await.status,
        200
    );
}

#[tokio::test]
async fn kinds_of_tokens_may_do_different_things() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    let issued = ask(
        &service.admin,
        request(
            "POST",
            "/applications/shop/tokens",
            &[],
            "{\"scopes\":[\"write\"]}",
        ),
    )
    .await;
    let secret = issued.json()["token"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("eye_w_"));
    let write_only = format!("Token {secret}");
    assert_eq!(service.get(&write_only, "/events").await.status, 403);
    assert_eq!(
        service.get(&write_only, "/me").await.json()["scopes"],
        json!(["write"])
    );
    let beacon = ask(
        &service.router,
        request(
            "POST",
            &format!("/events?token={secret}"),
            &[],
            event(SESSION, "a", 1),
        ),
    )
    .await;
    assert_eq!(beacon.status, 201);
    let other = token.trim_start_matches("Token ");
    let refused = ask(
        &service.router,
        request(
            "POST",
            &format!("/events?token={other}"),
            &[],
            event(SESSION, "a", 1),
        ),
    )
    .await;
    assert_eq!(refused.status, 401);

    let analyst = ask(
        &service.admin,
        request("POST", "/tokens", &[], "{\"kind\":\"analyst\"}"),
    )
    .await
    .json();
    let analyst_token = format!("Token {}", analyst["token"].as_str().unwrap());
    assert_eq!(
        service
            .send(&analyst_token, event(SESSION, "a", 1))
            .await
            .status,
        403
    );
    assert_eq!(
        service.get(&analyst_token, "/events").await.json()["events"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        service
            .get(&analyst_token, "/events?application=nobody")
            .await
            .json()["events"],
        json!([])
    );
    assert_eq!(
        service.get(&analyst_token, "/applications").await.status,
        403
    );

    let admin = "Token preset";
    assert_eq!(
        service.send(admin, event(SESSION, "a", 1)).await.code(),
        "bad_parameter"
    );
    let by_admin = ask(
        &service.admin,
        request(
            "POST",
            "/events?application=shop",
            &[],
            event(SESSION, "a", 1),
        ),
    )
    .await;
    assert_eq!(by_admin.status, 201);
    let nobody = ask(
        &service.admin,
        request(
            "POST",
            "/events?application=nobody",
            &[],
            event(SESSION, "a", 1),
        ),
    )
    .await;
    assert_eq!(nobody.status, 404);

    let revoked = ask(
        &service.admin,
        request(
            "DELETE",
            &format!("/tokens/{}", analyst["id"].as_str().unwrap()),
            &[],
            "",
        ),
    )
    .await;
    assert_eq!(revoked.status, 204);
    assert_eq!(service.get(&analyst_token, "/events").await.status, 401);
    let listed = ask(&service.admin, request("GET", "/tokens", &[], "")).await;
    assert!(
        !listed.text.contains("eye_") && listed.json()["tokens"].as_array().unwrap().len() == 2,
        "{}",
        listed.text
    );
}

#[tokio::test]
async fn a_session_belongs_to_one_application() {
    let service = Service::new().await;
    let (shop, forum) = (
        service.application("shop").await,
        service.application("forum").await,
    );
    let sent = service.send(&shop, event(SESSION, "a", 1)).await.json();
    let refused = service.send(&forum, event(SESSION, "a", 1)).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (409, "session_conflict")
    );
    assert_eq!(
        refused.json()["errors"]["session_id"][0],
        "Session belongs to another application."
    );
    assert_eq!(
        service
            .get(&forum, &format!("/sessions/{SESSION}"))
            .await
            .status,
        404
    );
    assert_eq!(
        service
            .get(&forum, &format!("/sessions/{SESSION}/events"))
            .await
            .status,
        404
    );
    assert_eq!(
        service
            .get(&forum, &format!("/events/{}", sent["id"].as_str().unwrap()))
            .await
            .status,
        404
    );
    assert_eq!(
        service
            .get(&forum, &format!("/events?session_id={SESSION}"))
            .await
            .json()["events"],
        json!([])
    );
    assert_eq!(
        service.get(&forum, "/events?application=shop").await.json()["events"],
        json!([])
    );
    let taken = ask(
        &service.admin,
        request("POST", "/applications", &[], "{\"name\":\" shop \"}"),
    )
    .await;
    assert_eq!(
        (taken.status.as_u16(), taken.code().as_str()),
        (409, "conflict")
    );
}

#[tokio::test]
async fn many_events_are_summed_up() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    let body = format!(
        "[{},{{}},{}]",
        event(SESSION, "a", 1),
        event(SESSION, "b", 2)
    );
    let some = service.send(&token, body.clone()).await;
    assert_eq!(some.status, 207);
    let summary = some.json();
    assert_eq!(
        (
            &summary["accepted"],
            &summary["rejected"],
            &summary["duplicates"]
        ),
        (&json!(2), &json!(1), &json!(0))
    );
    assert_eq!(summary["errors"][0]["index"], 1);
    assert_eq!(
        summary["errors"][0]["errors"]["data"][0],
        "This field is required."
    );
    assert_eq!(
        summary["last_offset"].as_u64().unwrap(),
        summary["first_offset"].as_u64().unwrap() + 1
    );

    let all = ask(
        &service.router,
        request(
            "POST",
            "/events?on_error=reject_all",
            &[("authorization", &token)],
            body,
        ),
    )
    .await;
    assert_eq!(
        (all.status.as_u16(), all.json()["accepted"].clone()),
        (400, json!(0))
    );
    assert_eq!(all.json()["rejected"], 3);

    let minimal = [
        ("authorization", token.as_str()),
        ("prefer", "return=minimal"),
        ("content-type", "application/x-ndjson"),
    ];
    let lines = format!("{}\n\n{}\n", event(SESSION, "c", 3), event(SESSION, "d", 4));
    let none = ask(&service.router, request("POST", "/events", &minimal, lines)).await;
    assert_eq!((none.status.as_u16(), none.text.as_str()), (204, ""));
    let empty = service.send(&token, "[]").await;
    assert_eq!(
        (empty.status.as_u16(), empty.json()["accepted"].clone()),
        (200, json!(0))
    );
}

#[tokio::test]
async fn an_id_makes_sending_again_harmless() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    let id = "6f0c9a52-3d1e-4b57-8a4e-c1d277b095e3";
    let with_id =
        event(SESSION, "a", 1).replace("{\"session_id", &format!("{{\"id\":\"{id}\",\"session_id"));
    let first = service.send(&token, with_id.clone()).await;
    assert_eq!(
        (first.status.as_u16(), first.json()["id"].clone()),
        (201, json!(id))
    );
    let again = service.send(&token, with_id.clone()).await;
    assert_eq!(
        (again.status.as_u16(), again.json()["duplicate"].clone()),
        (200, json!(true))
    );
    assert_eq!(again.json()["offset"], first.json()["offset"]);
    let other = service.send(&token, with_id.replace("1.10", "1.2")).await;
    assert_eq!(
        (other.status.as_u16(), other.code().as_str()),
        (409, "id_conflict")
    );
    assert_eq!(
        service.get(&token, &format!("/events/{id}")).await.status,
        200
    );
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    let lines: Vec<String> = (0..25)
        .map(|n| event(SESSION, &format!("n{n}"), n / 5))
        .collect();
    assert_eq!(
        service
            .send(&token, format!("[{}]", lines.join(",")))
            .await
            .status,
        200
    );
    let lists = [
        "/events?",
        "/events?order=timestamp&",
        "/search?q=page&order=-timestamp&count=true&",
        &format!("/sessions/{SESSION}/events?"),
    ];
    for list in lists {
        let whole = service
            .get(&token, &format!("{list}limit=1000"))
            .await
            .json();
        let mut offsets = Vec::new();
        let mut uri = format!("{list}limit=7");
        loop {
            let page = service.get(&token, &uri).await.json();
            offsets.extend(
                page["events"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|event| event["offset"].clone()),
            );
            assert_eq!(page["as_of"], whole["as_of"]);
            assert_eq!(page["count"], whole["count"]);
            // What arrives meanwhile is not on later pages.
            service.send(&token, event(SESSION, "page", 30)).await;
            match page["next"].as_str() {
                Some(next) => {
                    uri = format!("{}cursor={next}&limit=7", &list[..=list.find('?').unwrap()])
                }
                None => break,
            }
        }
        let expected: Vec<Value> = whole["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["offset"].clone())
            .collect();
        assert_eq!(offsets, expected, "{list}");
    }
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    for (uri, code) in [
        ("/events?limit=0", "bad_parameter"),
        ("/events?limit=1001", "bad_parameter"),
        ("/events?catgory=a", "bad_parameter"),
        ("/events?order=name", "bad_parameter"),
        ("/events?session_id=5", "bad_parameter"),
        ("/events?timestamp_after=soon", "bad_parameter"),
        ("/events?as_of=99999999", "bad_parameter"),
        ("/events?cursor=abc", "bad_cursor"),
        ("/search?order=score", "bad_parameter"),
        ("/events?order=-score", "bad_parameter"),
        ("/search?highlight=yes", "bad_parameter"),
        ("/search?q=nme:", "bad_query"),
        ("/me?x=1", "bad_parameter"),
    ] {
        let answer = service.get(&token, uri).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, code),
            "{uri}: {}",
            answer.text
        );
    }
    let aggs = ask(
        &service.router,
        request(
            "POST",
            "/search",
            &[("authorization", &token)],
            "{\"aggs\":{\"a\":{\"avg\":5}}}",
        ),
    )
    .await;
    assert_eq!(aggs.code(), "bad_parameter");
    let posted = ask(
        &service.router,
        request(
            "POST",
            "/search/",
            &[("authorization", &token)],
            "{\"q\":\"\",\"limit\":5}",
        ),
    )
    .await;
    assert_eq!(posted.status, 200, "{}", posted.text);
}

#[tokio::test]
async fn bodies_that_cannot_be_used_are_told_apart() {
    let service = Service::with(|settings| settings.request_max_bytes = 2000).await;
    let token = service.application("shop").await;
    let send = |headers: &[(&str, &str)], body: Vec<u8>| {
        let mut all = vec![("authorization", token.as_str())];
        all.extend_from_slice(headers);
        let request = request("POST", "/events", &all, body);
        let router = service.router.clone();
        async move {
            let answer = ask(&router, request).await;
            (answer.status.as_u16(), answer.code())
        }
    };
    let told = |status: u16, code: &str| (status, code.to_owned());
    let json = ("content-type", "application/json");
    assert_eq!(
        send(&[json], b"{\"a\":".to_vec()).await,
        told(400, "malformed_json")
    );
    assert_eq!(send(&[json], Vec::new()).await, told(400, "malformed_json"));
    assert_eq!(
        send(&[json], b"5".to_vec()).await,
        told(400, "invalid_event")
    );
    assert_eq!(
        send(&[json], vec![b' '; 2001]).await,
        told(413, "too_large")
    );
    assert_eq!(
        send(&[("content-type", "text/html")], b"{}".to_vec()).await,
        told(415, "unsupported_type")
    );
    assert_eq!(
        send(&[json, ("content-encoding", "lzma")], b"{}".to_vec()).await,
        told(415, "unsupported_type")
    );
    assert_eq!(
        send(&[json, ("content-encoding", "gzip")], b"{}".to_vec()).await,
        told(400, "malformed_json")
    );
    let bomb = zstd::stream::encode_all(&vec![b' '; 1 << 20][..], 3).unwrap();
    assert_eq!(
        send(&[json, ("content-encoding", "zstd")], bomb).await,
        told(413, "too_large")
    );
    let future = event(SESSION, "a", 1).replace("2021", "2999");
    assert_eq!(
        send(&[json], future.into_bytes()).await,
        told(400, "future_timestamp")
    );
    let packed = zstd::stream::encode_all(event(SESSION, "a", 1).as_bytes(), 3).unwrap();
    assert_eq!(
        send(&[json, ("content-encoding", "zstd")], packed).await,
        told(201, "")
    );
}

#[tokio::test]
async fn no_memory_is_left_for_requests() {
    let service = Service::with(|settings| settings.memory_for_requests = 100).await;
    let answer = ask(
        &service.admin,
        request("POST", "/applications", &[], "{\"name\":\"shop\"}"),
    )
    .await;
    let token = format!("Token {}", answer.json()["token"].as_str().unwrap());
    let refused = service.send(&token, event(SESSION, "a", 1)).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (503, "overloaded")
    );
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn what_is_not_there_is_told_as_a_problem() {
    let service = Service::new().await;
    let missing = service.get("Token preset", "/nothing").await;
    assert_eq!(
        (missing.status.as_u16(), missing.code().as_str()),
        (404, "not_found")
    );
    assert_eq!(missing.headers["content-type"], "application/problem+json");
    assert_eq!(
        missing.json()["request_id"].as_str().unwrap(),
        missing.headers["x-request-id"]
    );
    let wrong = ask(&service.router, request("PUT", "/events/", &[], "")).await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.code().as_str()),
        (405, "method_not_allowed")
    );
    assert_eq!(wrong.headers["allow"], "POST,GET,HEAD");
    let head = ask(&service.router, request("HEAD", "/health/live", &[], "")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    assert_eq!(service.get("Token preset", "/events/%ff").await.status, 404);
}

#[tokio::test]
async fn request_ids_are_taken_over_where_they_are_sane() {
    let service = Service::new().await;
    let long = "x".repeat(129);
    for (sent, taken) in [
        ("my-request-7", true),
        (long.as_str(), false),
        ("a b", false),
    ] {
        let answer = ask(
            &service.router,
            request("GET", "/health/live", &[("x-request-id", sent)], ""),
        )
        .await;
        assert_eq!(answer.headers["x-request-id"] == sent, taken, "{sent}");
    }
    let made = ask(&service.router, request("GET", "/", &[], "")).await;
    assert!(uuid::Uuid::try_parse(made.headers["x-request-id"].to_str().unwrap()).is_ok());
}

#[tokio::test]
async fn any_page_may_send() {
    let service = Service::new().await;
    let asked = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization, content-type",
        ),
    ];
    let preflight = ask(&service.router, request("OPTIONS", "/events", &asked, "")).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.headers["access-control-allow-origin"],
        "https://shop.example"
    );
    assert_eq!(
        preflight.headers["access-control-allow-credentials"],
        "true"
    );
    assert_eq!(
        preflight.headers["access-control-allow-headers"],
        "authorization, content-type"
    );
    let refused = ask(
        &service.router,
        request("POST", "/events", &asked[..1], "{}"),
    )
    .await;
    assert_eq!(
        (
            refused.status.as_u16(),
            &refused.headers["access-control-allow-origin"]
        ),
        (401, &"https://shop.example".parse().unwrap())
    );
    let reading = ask(&service.router, request("GET", "/events", &asked[..1], "")).await;
    assert!(!reading.headers.contains_key("access-control-allow-origin"));
    let elsewhere = ask(&service.router, request("OPTIONS", "/search", &asked, "")).await;
    assert!(
        !elsewhere
            .headers
            .contains_key("access-control-allow-origin")
    );
}

#[tokio::test]
async fn every_method_in_the_document_is_answered_and_no_other() {
    let service = Service::new().await;
    let schema = ask(&service.router, request("GET", "/api/schema", &[], ""))
        .await
        .json();
    for (path, methods) in schema["paths"].as_object().unwrap() {
        let answer = ask(
            &service.router,
            request("OPTIONS", &path.replace(['{', '}'], ""), &[], ""),
        )
        .await;
        let mut allowed: BTreeSet<String> = answer.headers["allow"]
            .to_str()
            .unwrap()
            .split(',')
            .map(str::to_lowercase)
            .collect();
        allowed.remove("head");
        let methods: BTreeSet<String> = methods.as_object().unwrap().keys().cloned().collect();
        assert_eq!(methods, allowed, "{path}");
    }
}

/// Large requests that were let in together must not take what is left to small ones.
#[tokio::test]
async fn what_is_on_its_way_to_the_log_counts_like_what_the_index_lacks() {
    let service = Service::with(|settings| settings.max_index_lag = 800).await;
    let token = service.application("shop").await;
    let filling = "x".repeat(70 << 10);
    let large = event(SESSION, "a", 1).replace("1.10", &format!("\"{filling}\""));
    let small = event(SESSION, "a", 1);
    let send = async |body: &String| {
        // What does not say how long it is counts as large.
        let length = body.len().to_string();
        let headers = [
            ("authorization", token.as_str()),
            ("content-length", &length),
        ];
        let request = request("POST", "/events", &headers, body.clone());
        ask(&service.router, request).await
    };
    let held = |events| service.app.state.on_their_way().add(events).0;
    let on_its_way = held(600);
    assert_eq!(send(&large).await.status, 201);
    // So many at once would come to more than large ones may.
    let filling = format!("\"{}\"", "x".repeat(600));
    let many: Vec<String> = (0..150).map(|_| small.replace("1.10", &filling)).collect();
    let many = format!("[{}]", many.join(","));
    assert_eq!(send(&many).await.status, 503);
    let one_more = held(101);
    let refused = send(&large).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (503, "overloaded")
    );
    assert_eq!(send(&small).await.status, 201);
    let even_more = held(100);
    assert_eq!(send(&small).await.status, 503);
    drop((on_its_way, one_more, even_more));
    assert_eq!(send(&many).await.status, 200);
    assert_eq!(send(&large).await.status, 201);
    assert_eq!(send(&small).await.status, 201);
}

#[tokio::test]
async fn figures_are_there_for_admins() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    service.send(&token, event(SESSION, "a", 1)).await;
    // A read waits for the index.
    service.get(&token, "/search?limit=0").await;
    let status = service.get("Token preset", "/admin/status").await.json();
    assert_eq!(status["index"]["merging"], false);
    assert_eq!(
        status["log"]["durable_end"],
        status["index"]["indexed_through"]
    );
    assert_eq!(service.get(&token, "/admin/status").await.status, 403);
    let ready = service.get(&token, "/health/ready").await.json();
    assert_eq!(
        (&ready["ready"], &ready["state"], &ready["lag"]),
        (&json!(true), &json!("ok"), &json!(0))
    );
    let me = service.get(&token, "/me").await.json();
    assert_eq!(
        (&me["kind"], &me["application"], &me["scopes"]),
        (
            &json!("application"),
            &json!("shop"),
            &json!(["write", "read"])
        )
    );
    assert_eq!(me["store"], status["store"]);
    assert_eq!(
        service.get(&token, "/limits").await.json()["event_max_bytes"]["value"],
        262_144
    );
    let shop = service
        .get("Token preset", "/applications/shop")
        .await
        .json();
    assert_eq!(
        (&shop["events"], &shop["first"]),
        (&json!(1), &json!("2021-01-01T00:00:01.000000Z"))
    );
}

#[tokio::test]
async fn the_log_is_verified_beside_the_service() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    service.send(&token, event(SESSION, "a", 1)).await;
    let start = |kind: &str| {
        let headers = [("authorization", "Token preset")];
        request(
            "POST",
            "/admin/tasks",
            &headers,
            json!({ "kind": kind }).to_string(),
        )
    };
    let started = ask(&service.router, start("verify")).await;
    assert_eq!(started.status, 202, "{}", started.text);
    let path = started.headers["location"].to_str().unwrap().to_owned();
    let task = loop {
        let task = service.get("Token preset", &path).await.json();
        if !matches!(task["state"].as_str(), Some("queued" | "running")) {
            break task;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(
        (&task["state"], &task["result"]["ok"]),
        (&json!("done"), &json!(true)),
        "{task}"
    );
    assert_eq!(
        (&task["result"]["events"], &task["done"]),
        (&json!(1), &task["total"])
    );
    assert_eq!(
        service.get("Token preset", "/admin/tasks").await.json()["tasks"][0],
        task
    );
    assert_eq!(ask(&service.router, start("tidy")).await.status, 400);
    assert_eq!(service.get(&token, &path).await.status, 403);
    assert_eq!(
        service.get("Token preset", "/admin/tasks/x").await.status,
        404
    );
}

#[tokio::test]
async fn a_closed_store_takes_nothing() {
    let service = Service::new().await;
    let token = service.application("shop").await;
    service.app.close().await;
    let refused = service.send(&token, event(SESSION, "a", 1)).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (503, "overloaded")
    );
}

/// The document says exactly what comes: every status by number, and of every shape of ours every field.
#[test]
fn the_document_is_strict() {
    fn walk(value: &Value, path: &str, loose: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let kind = fields.get("type");
                let object = |kind: &Value| {
                    kind == "object"
                        || kind
                            .as_array()
                            .is_some_and(|all| all.contains(&"object".into()))
                };
                // A schema, not a field that is called `type`.
                let is_object = kind.is_some_and(object) && !path.ends_with("/properties");
                let named = fields.get("additionalProperties");
                let strict = named.is_some_and(|more| {
                    *more == Value::Bool(false)
                        || more.as_object().is_some_and(|shape| !shape.is_empty())
                });
                if is_object && !strict {
                    loose.push(path.to_owned());
                }
                for (name, inner) in fields {
                    walk(inner, &format!("{path}/{name}"), loose);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, path, loose)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&OPENAPI).unwrap();
    let mut loose = Vec::new();
    walk(&document, "", &mut loose);
    // What Elasticsearch lets an aggregation say, what is the application's own, what was noted of its arrival, what are
    // schemas themselves, and what comes of a task, by its kind.
    assert_eq!(
        loose,
        [
            "/components/schemas/AggregationBody",
            "/components/schemas/Event/properties/data",
            "/components/schemas/Event/properties/meta",
            "/components/schemas/EventDraft/properties/data",
            "/components/schemas/JsonSchema",
            "/components/schemas/Task/properties/result",
            "/paths/~api~schema/get/responses/200/content/application~json/schema",
        ]
        .map(|path| path
            .replace("~api~schema", "/api/schema")
            .replace("application~json", "application/json"))
    );
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(status.parse::<u16>().is_ok(), "{method} {path}: {status}");
                let refers = response["$ref"] == "#/components/responses/Problem";
                assert_eq!(
                    refers,
                    status.parse::<u16>().unwrap() >= 400 && path != "/health/ready",
                    "{method} {path}: {status}"
                );
            }
        }
    }
}

/// A question whose client has gone takes nobody's turn any longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_ends_soon_after_its_asker_has_gone() {
    let service = Service::new().await;
    let state = service.app.state.clone();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (told, was_told) = tokio::sync::oneshot::channel();
    let asking = tokio::spawn(async move {
        let inner = state.clone();
        crate::view::run(&state, move || {
            let end = inner.reader().durable_end();
            let question = crate::listing::every_event(&inner, None, end)?;
            let ask = || inner.index().search(&question);
            let answered = ask().is_ok();
            begun.send(()).unwrap();
            let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while !eye_index::Asker::current().has_gone() && std::time::Instant::now() < patience {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let ended = matches!(ask(), Err(eye_index::SearchError::Timeout));
            told.send((answered, ended)).unwrap();
            Ok(())
        })
        .await
    });
    has_begun.await.unwrap();
    asking.abort();
    assert_eq!(was_told.await.unwrap(), (true, true));
    // The thread that worked on it works for others again.
    assert!(!eye_index::Asker::current().has_gone());
}
