//! Lists are filtered, ordered and paged without a gap, and show what was stored, byte for byte.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::events::Generator;
use support::{App, Eye, Random, events, json_text};

/// What a list is compared by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    session: String,
    timestamp: String,
    offset: u64,
    id: String,
}

fn row(event: &Value) -> Row {
    let text = |name: &str| {
        event[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {event}"))
            .to_owned()
    };
    Row {
        session: text("session_id"),
        timestamp: text("timestamp"),
        offset: event["offset"].as_u64().unwrap(),
        id: text("id"),
    }
}

fn rows(eye: &Eye, app: &App, target: &str, limit: usize) -> Vec<Row> {
    let pages = eye.pages(|eye| {
        eye.get(target)
            .token(&app.token)
            .query("limit", &limit.to_string())
    });
    pages
        .iter()
        .flat_map(|page| page.events())
        .map(|event| row(&event))
        .collect()
}

/// An application with 1,000 random events of 30 sessions, with many ties in time.
fn populated() -> (Eye, App, Vec<Row>) {
    let eye = Eye::start();
    let app = eye.application("website");
    let (lines, _) = Generator::new(Random::announced(1_001), 30).lines(1_000);
    eye.store(&app, &lines);
    let all = rows(&eye, &app, "/events", 1_000);
    assert_eq!(all.len(), 1_000);
    (eye, app, all)
}

fn sorted<K: Ord>(rows: &[Row], key: impl FnMut(&Row) -> K) -> Vec<Row> {
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(key);
    sorted
}

#[test]
fn the_default_order_is_descending_by_session_and_then_time() {
    let (eye, app, all) = populated();
    let mut expected = sorted(&all, |row| {
        (row.session.clone(), row.timestamp.clone(), row.offset)
    });
    expected.reverse();
    assert_eq!(all, expected);
    assert_eq!(
        rows(&eye, &app, "/events?order=-session_id,-timestamp", 333),
        expected
    );
}

#[test]
fn other_orders_go_by_time_and_ties_by_offset() {
    let (eye, app, all) = populated();
    let mut expected = sorted(&all, |row| (row.timestamp.clone(), row.offset));
    assert_eq!(rows(&eye, &app, "/events?order=timestamp", 77), expected);
    expected.reverse();
    assert_eq!(rows(&eye, &app, "/events?order=-timestamp", 77), expected);
}

#[test]
fn filters_show_what_they_say_and_nothing_else() {
    let (eye, app, _) = populated();
    let pages = eye.pages(|eye| eye.get("/events?limit=1000").token(&app.token));
    let all: Vec<Value> = pages.iter().flat_map(|page| page.events()).collect();
    let session = all[500]["session_id"].as_str().unwrap();
    let middle = sorted(&all.iter().map(row).collect::<Vec<_>>(), |row| {
        row.timestamp.clone()
    })[500]
        .timestamp
        .clone();
    type Keeps<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let is = |field: &'static str, value: &'static str| -> Keeps<'static> {
        Box::new(move |event| event[field] == value)
    };
    let after = |event: &Value| event["timestamp"].as_str().unwrap() >= middle.as_str();
    let cases: Vec<(Vec<(&str, &str)>, Keeps<'_>)> = vec![
        (
            vec![("session_id", session)],
            Box::new(|event| event["session_id"] == session),
        ),
        (vec![("category", "Café")], is("category", "Café")),
        (vec![("category", "cafe")], is("category", "cafe")),
        (vec![("name", "late delivery")], is("name", "late delivery")),
        (vec![("name", "late")], is("name", "late")),
        (vec![("timestamp_after", &middle)], Box::new(after)),
        (
            vec![("timestamp_before", &middle)],
            Box::new(|event| !after(event)),
        ),
        (
            vec![("timestamp_after", &middle), ("timestamp_before", &middle)],
            Box::new(|_| false),
        ),
        (
            vec![
                ("category", "検索"),
                ("name", "submit"),
                ("timestamp_after", &middle),
            ],
            Box::new(|event| {
                event["category"] == "検索" && event["name"] == "submit" && after(event)
            }),
        ),
        (
            vec![("q", "zymurgy"), ("name", "submit")],
            Box::new(|event| {
                event["name"] == "submit" && event["data"].to_string().contains("zymurgy")
            }),
        ),
        (vec![("application", "website")], Box::new(|_| true)),
        (vec![("application", "another")], Box::new(|_| false)),
        (
            vec![("session_id", "6d5b1f6e-0b43-4f0c-8a6e-3f3d2c1b0a99")],
            Box::new(|_| false),
        ),
    ];
    for (filters, keeps) in cases {
        let listed = eye.pages(|eye| {
            filters.iter().fold(
                eye.get("/events?limit=1000").token(&app.token),
                |request, (name, value)| request.query(name, value),
            )
        });
        let listed: Vec<Value> = listed.iter().flat_map(|page| page.events()).collect();
        let expected: Vec<Value> = all.iter().filter(|event| keeps(event)).cloned().collect();
        assert_eq!(listed.len(), expected.len(), "{filters:?}");
        assert_eq!(listed, expected, "{filters:?}");
    }
}

#[test]
fn time_bounds_are_inclusive_after_and_exclusive_before() {
    let eye = Eye::start();
    let app = eye.application("website");
    eye.post("/events")
        .token(&app.token)
        .json(&events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423"))
        .send()
        .expect(201);
    for (target, found) in [
        ("/events?timestamp_after=2021-01-01T09:15:27.243860Z", 1),
        ("/events?timestamp_after=2021-01-01T09:15:27.243861Z", 0),
        ("/events?timestamp_before=2021-01-01T09:15:27.243860Z", 0),
        ("/events?timestamp_before=2021-01-01T09:15:27.243861Z", 1),
        ("/events?timestamp_after=2021-01-01%2009:15:27.243860", 1),
        // A + that nobody encoded arrives as a space.
        (
            "/events?timestamp_after=2021-01-01T10:15:27.243860+01:00",
            1,
        ),
        (
            "/events?timestamp_after=2021-01-01T10:15:27.243861+01:00",
            0,
        ),
        (
            "/events?timestamp_after=2021-01-01T10:15:27.243860%2B01:00",
            1,
        ),
    ] {
        assert_eq!(
            eye.get(target)
                .token(&app.token)
                .send()
                .expect(200)
                .events()
                .len(),
            found,
            "{target}"
        );
    }
    for wrong in ["yesterday", "", "2021-13-01T00:00:00Z"] {
        eye.get("/events")
            .token(&app.token)
            .query("timestamp_after", wrong)
            .send()
            .problem(400, "bad_parameter");
    }
}

#[test]
fn a_limit_out_of_range_is_refused_and_not_clamped() {
    let (eye, app, _) = populated();
    for wrong in ["0", "1001", "-1", "ten", "", "1.5", "99999999999999999999"] {
        eye.get("/events")
            .token(&app.token)
            .query("limit", wrong)
            .send()
            .problem(400, "bad_parameter");
    }
    assert_eq!(
        eye.get("/events")
            .token(&app.token)
            .send()
            .expect(200)
            .events()
            .len(),
        100
    );
    assert_eq!(
        eye.get("/events?limit=1")
            .token(&app.token)
            .send()
            .expect(200)
            .events()
            .len(),
        1
    );
    assert_eq!(
        eye.get("/events?limit=1000")
            .token(&app.token)
            .send()
            .expect(200)
            .events()
            .len(),
        1_000
    );
    eye.get("/events?order=name")
        .token(&app.token)
        .send()
        .problem(400, "bad_parameter");
}

#[test]
fn an_unknown_parameter_is_refused_with_a_guess() {
    let eye = Eye::start();
    let app = eye.application("website");
    for (target, meant) in [
        ("/events?sesion_id=1", "session_id"),
        ("/events?timestamp_befor=x", "timestamp_before"),
        ("/search?q=x&limt=1", "limit"),
    ] {
        let answer = eye.get(target).token(&app.token).send();
        answer.problem(400, "bad_parameter");
        assert!(answer.text().contains(meant), "{target}: {}", answer.text());
    }
    eye.get("/events?colour=red")
        .token(&app.token)
        .send()
        .problem(400, "bad_parameter");
    eye.post("/events?colour=red")
        .token(&app.token)
        .json(&events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423"))
        .send()
        .problem(400, "bad_parameter");
    assert_eq!(eye.count(&app.token, "*"), 0);
}

#[test]
fn pages_neither_skip_nor_repeat_while_events_arrive() {
    let (eye, app, _) = populated();
    let mut more = Generator::new(Random::announced(1_002), 10);
    for target in [
        "/events",
        "/events?order=timestamp",
        "/events?order=-timestamp",
        "/search?q=*",
        "/search?q=*&order=timestamp",
        "/events?category=Caf%C3%A9",
    ] {
        let expected: Vec<Row> = rows(&eye, &app, target, 1_000);
        let mut seen = Vec::new();
        let mut cursor: Option<String> = None;
        let mut as_of = None;
        loop {
            let mut request = eye.get(target).token(&app.token).query("limit", "7");
            if let Some(cursor) = &cursor {
                request = request.query("cursor", cursor);
            }
            let page = request.send().expect(200).json();
            let page_as_of = page["as_of"].as_u64().unwrap();
            assert_eq!(
                *as_of.get_or_insert(page_as_of),
                page_as_of,
                "a cursor pins `as_of`"
            );
            seen.extend(page["events"].as_array().unwrap().iter().map(row));
            match page["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
            // Late ones, ties and new ones arrive between any two pages.
            eye.store(&app, &more.lines(2).0);
        }
        assert_eq!(seen, expected, "{target}");
    }
}

#[test]
fn the_state_of_an_earlier_moment_can_be_asked_for_again() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let mut generator = Generator::new(Random::announced(5), 3);
    eye.store(&app, &generator.lines(20).0);
    let before = eye
        .get("/events")
        .token(&app.token)
        .send()
        .expect(200)
        .json();
    eye.store(&app, &generator.lines(20).0);
    assert_eq!(
        eye.get("/events")
            .token(&app.token)
            .send()
            .expect(200)
            .events()
            .len(),
        40
    );
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        for target in ["/events", "/search?q=*&order=timestamp"] {
            let again = eye
                .get(target)
                .token(&app.token)
                .query("as_of", &before["as_of"].to_string())
                .send()
                .expect(200)
                .json();
            assert_eq!(again["as_of"], before["as_of"]);
            let ids = |list: &Value| {
                list["events"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|event| event["id"].to_string())
                    .collect::<BTreeSet<_>>()
            };
            assert_eq!(ids(&again), ids(&before), "{target}");
        }
    }
}

#[test]
fn a_cursor_belongs_to_its_query() {
    let (eye, app, _) = populated();
    let cursor_of = |target: &str| {
        eye.get(target).token(&app.token).send().expect(200).json()["next"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let cursor = cursor_of("/events?limit=5&category=Caf%C3%A9");
    for target in [
        "/events?limit=5&category=other",
        "/events?limit=5&category=Caf%C3%A9&order=timestamp",
        "/search?q=late&limit=5",
    ] {
        let problem = eye
            .get(target)
            .token(&app.token)
            .query("cursor", &cursor)
            .send()
            .expect(400)
            .json();
        assert!(
            matches!(
                problem["code"].as_str(),
                Some("bad_cursor" | "bad_parameter")
            ),
            "{target}: {problem}"
        );
    }
    for garbage in ["x", "AAAA", &cursor[1..], &format!("{cursor}A")] {
        eye.get("/events?limit=5&category=Caf%C3%A9")
            .token(&app.token)
            .query("cursor", garbage)
            .send()
            .problem(400, "bad_cursor");
    }
    // Alone it is enough: it keeps its query.
    let with = eye
        .get("/events?limit=5&category=Caf%C3%A9")
        .token(&app.token)
        .query("cursor", &cursor)
        .send()
        .expect(200);
    let alone = eye
        .get("/events?limit=5")
        .token(&app.token)
        .query("cursor", &cursor)
        .send()
        .expect(200);
    assert_eq!(with.events(), alone.events());
}

#[test]
fn a_cursor_survives_a_restart() {
    let (mut eye, app, all) = populated();
    let first = eye
        .get("/events?limit=400")
        .token(&app.token)
        .send()
        .expect(200)
        .json();
    eye.restart();
    let second = eye
        .get("/events?limit=1000")
        .token(&app.token)
        .query("cursor", first["next"].as_str().unwrap())
        .send()
        .expect(200);
    assert_eq!(
        second.events().iter().map(row).collect::<Vec<_>>(),
        all[400..]
    );
}

#[test]
fn every_event_comes_back_as_it_was_sent() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let mut random = Random::announced(3);
    let sent: BTreeMap<String, String> = events::varied()
        .into_iter()
        .map(|line| {
            let id = random.uuid();
            (id.clone(), events::with_id(&line, &id))
        })
        .collect();
    eye.store(&app, &sent.values().collect::<Vec<_>>());
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        for target in ["/events", "/events?order=timestamp", "/search?q=*"] {
            let listed = eye
                .get(target)
                .token(&app.token)
                .send()
                .expect(200)
                .raw_events();
            assert_eq!(listed.len(), sent.len(), "{target}");
            for event in listed {
                let line = json_text::fields(&sent[event["id"].trim_matches('"')]);
                assert_eq!(
                    json_text::compact(&event["data"]),
                    json_text::compact(&line["data"])
                );
                let text = |fields: &BTreeMap<String, String>, name: &str| -> String {
                    serde_json::from_str(&fields[name]).unwrap()
                };
                for name in ["category", "name"] {
                    assert_eq!(text(&event, name), text(&line, name).trim());
                }
                assert_eq!(
                    text(&event, "session_id"),
                    text(&line, "session_id").to_lowercase()
                );
            }
        }
    }
}

#[test]
fn a_read_sees_every_event_acknowledged_before_it_began() {
    let eye = Eye::start();
    let app = eye.application("website");
    let mut random = Random::announced(300);
    for round in 0..300 {
        let session = random.uuid();
        let mut event = events::plain(&session);
        event["data"] = json!({"note": format!("the marker{round}x is here")});
        let id = eye
            .post("/events")
            .token(&app.token)
            .json(&event)
            .send()
            .expect(201)
            .json()["id"]
            .clone();
        let answer = match round % 4 {
            0 => eye
                .get("/search")
                .token(&app.token)
                .query("q", &format!("marker{round}x"))
                .send(),
            1 => eye
                .get("/events")
                .token(&app.token)
                .query("session_id", &session)
                .send(),
            2 => eye
                .get(&format!("/sessions/{session}/events"))
                .token(&app.token)
                .send(),
            _ => eye
                .get("/search")
                .token(&app.token)
                .query("q", &format!("session_id:{session}"))
                .send(),
        };
        let list = answer.expect(200).json();
        assert_eq!(list["exact"], true, "round {round}: {list}");
        assert_eq!(
            list["events"].as_array().unwrap().len(),
            1,
            "round {round}: {list}"
        );
        assert_eq!(list["events"][0]["id"], id, "round {round}");
        assert!(
            list["indexed_through"].as_u64() > list["events"][0]["offset"].as_u64(),
            "{list}"
        );
        let one = eye
            .get(&format!("/events/{}", id.as_str().unwrap()))
            .token(&app.token)
            .send()
            .expect(200)
            .json();
        assert_eq!(one, list["events"][0]);
    }
}

#[test]
fn an_unknown_event_or_session_is_404() {
    let eye = Eye::start();
    let app = eye.application("website");
    let id = eye
        .post("/events")
        .token(&app.token)
        .json(&events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423"))
        .send()
        .expect(201)
        .json()["id"]
        .clone();
    let id = id.as_str().unwrap();
    // In capitals it is the same id.
    eye.get(&format!("/events/{}", id.to_uppercase()))
        .token(&app.token)
        .send()
        .expect(200);
    let altered = format!("{}{}", &id[..35], if id.ends_with('0') { '1' } else { '0' });
    for target in [
        format!("/events/{altered}"),
        "/events/00000000-0000-0000-0000-000000000000".into(),
        "/events/ffffffff-ffff-7fff-bfff-ffffffffffff".into(),
        "/events/nonsense".into(),
        "/sessions/6d5b1f6e-0b43-4f0c-8a6e-3f3d2c1b0a99".into(),
        "/sessions/6d5b1f6e-0b43-4f0c-8a6e-3f3d2c1b0a99/events".into(),
        "/sessions/nonsense".into(),
    ] {
        eye.get(&target)
            .token(&app.token)
            .send()
            .problem(404, "not_found");
    }
}

#[test]
fn a_session_sums_up_its_events_in_the_order_they_occurred() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let session = "e2085be5-9137-4e4e-80b5-f1ffddc25423";
    let event = |category: &str, n: u64, timestamp: &str| {
        json!({"session_id": session, "category": category, "name": "step", "data": {"n": n}, "timestamp": timestamp}).to_string()
    };
    // Sent out of order, over several requests, with a tie.
    eye.store(
        &app,
        &[
            event("page", 2, "2021-01-01T10:00:05Z"),
            event("page", 3, "2021-01-01T10:00:05Z"),
        ],
    );
    eye.store(&app, &[event("form", 4, "2021-01-01T10:01:00.5Z")]);
    eye.store(&app, &[event("page", 1, "2021-01-01T09:59:59Z")]);
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        let list = eye
            .get(&format!("/sessions/{session}/events"))
            .token(&app.token)
            .send()
            .expect(200);
        let order: Vec<u64> = list
            .events()
            .iter()
            .map(|event| event["data"]["n"].as_u64().unwrap())
            .collect();
        assert_eq!(order, [1, 2, 3, 4]);
        let summary = eye
            .get(&format!("/sessions/{}", session.to_uppercase()))
            .token(&app.token)
            .send()
            .expect(200)
            .json();
        assert_eq!(
            (&summary["id"], &summary["application"]),
            (&json!(session), &json!("website"))
        );
        assert_eq!(
            (&summary["first"], &summary["last"]),
            (
                &json!("2021-01-01T09:59:59.000000Z"),
                &json!("2021-01-01T10:01:00.500000Z")
            )
        );
        assert_eq!(
            (&summary["count"], &summary["duration_ms"]),
            (&json!(4), &json!(61_500))
        );
        assert_eq!(summary["categories"], json!({"page": 3, "form": 1}));
        assert_eq!(
            (
                &summary["entry"]["data"]["n"],
                &summary["exit"]["data"]["n"]
            ),
            (&json!(1), &json!(4))
        );
    }
}
