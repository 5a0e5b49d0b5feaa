use serde_json::json;
use std::collections::BTreeMap;
use support::{ADMIN_TOKEN, Client, Eye, Launch, events};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";

/// The samples of a page, by name and labels.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, number) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), number.parse().unwrap())
        })
        .collect()
}

#[test]
fn metrics_are_those_the_document_lists() {
    let eye = Eye::start();
    let answer = eye.get("/metrics").token(ADMIN_TOKEN).send().expect(200);
    let media_type = answer.header("content-type").unwrap();
    assert!(
        media_type.starts_with("text/plain; version=0.0.4"),
        "{media_type}"
    );
    let page = answer.text();
    let told: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let document = include_str!("../../docs/operations.md");
    let (_, table) = document.split_once("| metric | kind |").unwrap();
    let listed: Vec<(&str, &str)> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`'), cells[2])
        })
        .collect();
    assert!(listed.len() > 30);
    assert_eq!(told, listed);
}

#[test]
fn metrics_follow_what_is_sent_and_asked_and_hold_nothing_of_it() {
    let eye = Eye::start();
    let app = eye.application("website");
    let mut event = events::plain(SESSION);
    event["id"] = json!("0b5dd7c5-2ea4-4d5c-9d65-7d4f1f0f7a01");
    event["name"] = json!("peculiar");
    let send = |event: &serde_json::Value| eye.post("/events").token(&app.token).json(event).send();
    send(&event).expect(201);
    send(&event).expect(200);
    send(&json!({"name": "peculiar"})).expect(400);
    eye.post("/events")
        .token(&app.token)
        .ndjson(&[events::plain(SESSION).to_string(), "{\"peculiar".to_owned()])
        .send()
        .expect(207);
    eye.count(&app.token, "peculiar");
    eye.get("/peculiar/path?token=peculiar").send().expect(404);
    let page = eye
        .get("/metrics")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .text();
    assert!(
        !page.contains("peculiar") && !page.contains("website"),
        "{page}"
    );
    let seen = samples(&page);
    for (name, number) in [
        ("eye_ready", 1.0),
        ("eye_condition{state=\"ok\"}", 1.0),
        ("eye_condition{state=\"poisoned\"}", 0.0),
        ("eye_events_total{outcome=\"stored\"}", 2.0),
        ("eye_events_total{outcome=\"duplicate\"}", 1.0),
        ("eye_events_total{outcome=\"rejected\"}", 2.0),
        (
            "eye_http_requests_total{method=\"POST\",route=\"/events\",status=\"201\"}",
            1.0,
        ),
        (
            "eye_http_requests_total{method=\"POST\",route=\"/events\",status=\"207\"}",
            1.0,
        ),
        (
            "eye_http_requests_total{method=\"POST\",route=\"/events\",status=\"400\"}",
            1.0,
        ),
        (
            "eye_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}",
            1.0,
        ),
        (
            "eye_http_request_duration_seconds_count{method=\"POST\",route=\"/events\"}",
            4.0,
        ),
        (
            "eye_http_request_duration_seconds_bucket{method=\"POST\",route=\"/events\",le=\"+Inf\"}",
            4.0,
        ),
        ("eye_queries_total{end=\"done\"}", 1.0),
        ("eye_http_requests_in_flight", 1.0),
        ("eye_index_lag_records", 0.0),
        ("eye_index_events", 2.0),
        ("eye_log_damaged_places", 0.0),
        ("eye_log_segments{kind=\"raw\"}", 1.0),
        ("eye_erasures_open", 0.0),
    ] {
        assert_eq!(seen.get(name), Some(&number), "{name}\n{page}");
    }
    for name in [
        "eye_log_sync_seconds_count",
        "eye_log_group_records_sum",
        "eye_log_durable_end",
        "eye_log_bytes",
        "eye_disk_free_bytes",
        "eye_memory_anonymous_bytes",
        "eye_cpu_seconds_total",
        "eye_open_files",
        "eye_connections_open{door=\"public\"}",
    ] {
        assert!(seen[name] > 0.0, "{name}");
    }
}

#[test]
fn an_erasure_counts_as_open_until_its_bytes_are_gone() {
    let eye = Eye::start();
    let app = eye.application("website");
    eye.store(&app, &[events::plain(SESSION).to_string()]);
    eye.request("DELETE", &format!("/sessions/{SESSION}"))
        .token(ADMIN_TOKEN)
        .send()
        .expect(202);
    assert_eq!(eye.metric("eye_erasures_open"), 1.0);
    let compacted = eye.command(["compact", "--data", eye.data().to_str().unwrap()]);
    assert!(compacted.status.success());
    assert_eq!(eye.metric("eye_erasures_open"), 0.0);
    assert_eq!(eye.metric("eye_erasure_age_seconds"), 0.0);
}

#[test]
fn metrics_are_for_admins_and_for_whoever_reaches_a_listener_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let eye = Launch::new()
        .data(folder.path())
        .argument(&format!("--metrics-listen={address}"))
        .start();
    let app = eye.application("website");
    eye.get("/metrics").send().expect(401);
    eye.get("/metrics").token(&app.token).send().expect(403);
    eye.get("/metrics").token(&eye.analyst()).send().expect(403);
    let apart = Client::new(address);
    let page = apart.request("GET", "/metrics").send().expect(200).text();
    assert!(samples(&page)["eye_connections_accepted_total{door=\"metrics\"}"] >= 1.0);
    apart.request("GET", "/health/ready").send().expect(200);
    apart.request("GET", "/events").send().expect(404);
}
