//! Sessions, what surrounds an event, funnels and sequences are what a plain walk through the events finds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use support::{ADMIN_TOKEN, App, Eye, Launch, Random, events, time};

/// 2021-03-05T00:00:00Z
const BEGINNING: i64 = 1_614_902_400_000_000;
const NAMES: [&str; 4] = ["view", "click", "pay", "leave"];

/// Says whether an event is one of those.
type Holds<'h> = &'h dyn Fn(&Value) -> bool;

/// A service with the events of two applications, one session of them erased.
struct Store {
    eye: Eye,
    apps: Vec<App>,
    analyst: String,
    /// As exported: in the order of the log.
    events: Vec<Value>,
    random: Random,
}

impl Store {
    fn new(seed: u64, count: usize) -> Self {
        let eye = Launch::new()
            .variable("EYE_SEGMENT_MAX_BYTES", "64KiB")
            .start();
        let apps = vec![eye.application("shop"), eye.application("blog")];
        let mut random = Random::announced(seed);
        let sessions: Vec<String> = (0..30).map(|_| random.uuid()).collect();
        for _ in 0..count / 50 {
            let mut lines = [Vec::new(), Vec::new()];
            for _ in 0..50 {
                let session = random.index(sessions.len());
                let line = line(&mut random, &sessions[session]);
                lines[session % 2].push(line);
            }
            for (app, lines) in apps.iter().zip(&lines) {
                eye.store(app, lines);
            }
        }
        eye.wait_until_indexed();
        let erase = eye.request("DELETE", &format!("/sessions/{}", sessions[4]));
        erase.token(ADMIN_TOKEN).send().expect(202);
        let analyst = eye.analyst();
        let exported = eye.get("/export").token(&analyst).send().expect(200).text();
        let mut events: Vec<Value> = exported
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        events.pop();
        assert!(
            events
                .iter()
                .all(|event| event["session_id"] != sessions[4])
        );
        Self {
            eye,
            apps,
            analyst,
            events,
            random,
        }
    }

    fn wait_until_sealed(&self) {
        let log = self.eye.data().join("log");
        time::wait_until("files are sealed", Duration::from_secs(60), || {
            let names = std::fs::read_dir(&log).unwrap();
            let sealed = names.filter(|name| {
                let path = name.as_ref().unwrap().path();
                path.extension().is_some_and(|suffix| suffix == "sealed")
            });
            sealed.count() >= 3
        });
    }

    /// The sessions that a token sees, each with its events in the order they occurred.
    fn sessions(&self, app: Option<&str>) -> BTreeMap<String, Vec<&Value>> {
        let mut sessions: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for event in &self.events {
            if app.is_none_or(|app| event["application"] == app) {
                let session = event["session_id"].as_str().unwrap().to_owned();
                sessions.entry(session).or_default().push(event);
            }
        }
        for events in sessions.values_mut() {
            events.sort_by_key(|event| place(event));
        }
        sessions
    }

    fn ask(&self, token: &str, path: &str, body: &Value) -> Value {
        self.eye
            .post(path)
            .token(token)
            .json(body)
            .send()
            .expect(200)
            .json()
    }
}

fn line(random: &mut Random, session: &str) -> String {
    let data = json!({"plan": *random.pick(&["free", "pro", "team"]), "n": random.below(5)});
    // Few instants, so that many events tie.
    json!({
        "session_id": session, "category": *random.pick(&["page", "form"]),
        "name": NAMES[random.index(NAMES.len())], "data": data,
        "timestamp": time::utc(BEGINNING + random.below(400) as i64 * 60_000_000),
    })
    .to_string()
}

fn micros(event: &Value) -> i64 {
    let text = event["timestamp"].as_str().unwrap();
    // All lie within some days of March 2021.
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let days = number(8..10) - 5;
    BEGINNING
        + ((days * 24 + number(11..13)) * 60 + number(14..16)) * 60_000_000
        + number(17..19) * 1_000_000
}

fn place(event: &Value) -> (i64, u64) {
    (micros(event), event["offset"].as_u64().unwrap())
}

fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

fn check_session(told: &Value, events: &[&Value]) {
    let (first, last) = (events[0], events[events.len() - 1]);
    assert_eq!((&told["entry"], &told["exit"]), (first, last));
    assert_eq!(
        (&told["first"], &told["last"]),
        (&first["timestamp"], &last["timestamp"])
    );
    assert_eq!(told["duration_ms"], (micros(last) - micros(first)) / 1000);
    assert_eq!(told["count"], events.len());
    assert_eq!(told["application"], first["application"]);
    let mut categories = BTreeMap::<&str, u64>::new();
    for event in events {
        *categories
            .entry(event["category"].as_str().unwrap())
            .or_default() += 1;
    }
    assert_eq!(told["categories"], json!(categories));
}

fn check_sessions(store: &Store) {
    for (token, app) in [(&store.analyst, None), (&store.apps[1].token, Some("blog"))] {
        let sessions = store.sessions(app);
        let newest = |filter: Holds<'_>| {
            let mut those: Vec<_> = sessions
                .iter()
                .filter(|(_, events)| events.iter().any(|event| filter(event)))
                .collect();
            those.sort_by_key(|(_, events)| std::cmp::Reverse(place(events[events.len() - 1])));
            those
        };
        let noon = time::utc(BEGINNING + 200 * 60_000_000);
        let early = format!("to={noon}");
        let filters: [(&str, Holds<'_>); 4] = [
            ("", &|_| true),
            ("q=name:pay+plan:team+n:4", &|event| {
                event["name"] == "pay" && event["data"]["plan"] == "team" && event["data"]["n"] == 4
            }),
            (&early, &|event| {
                event["timestamp"].as_str().unwrap() < noon.as_str()
            }),
            ("q=nowhere", &|_| false),
        ];
        for (filter, holds) in filters {
            let expected = newest(holds);
            let mut told = Vec::new();
            let mut next = String::new();
            loop {
                let target = format!("/sessions?{filter}&limit=4&count=true{next}");
                let page = store
                    .eye
                    .get(&target)
                    .token(token)
                    .send()
                    .expect(200)
                    .json();
                assert_eq!(page["count"], expected.len(), "{filter}");
                told.extend(page["sessions"].as_array().unwrap().iter().cloned());
                match page["next"].as_str() {
                    Some(cursor) => next = format!("&cursor={cursor}"),
                    None => break,
                }
            }
            let ids: Vec<&str> = told.iter().map(id).collect();
            let expected_ids: Vec<&str> = expected.iter().map(|(id, _)| id.as_str()).collect();
            assert_eq!(ids, expected_ids, "{filter} {app:?}");
            for (told, (_, events)) in told.iter().zip(&expected) {
                check_session(told, events);
            }
        }
    }
}

fn check_context(store: &mut Store) {
    for _ in 0..10 {
        let event = store.events[store.random.index(store.events.len())].clone();
        let app = event["application"].as_str().unwrap();
        let mut all: Vec<&Value> = store
            .events
            .iter()
            .filter(|other| other["application"] == app)
            .collect();
        all.sort_by_key(|event| place(event));
        let of_session: Vec<&Value> = all
            .iter()
            .filter(|other| other["session_id"] == event["session_id"])
            .copied()
            .collect();
        for (scope, events) in [("", of_session), ("&scope=application", all)] {
            let target = format!("/events/{}/context?before=3&after=5{scope}", id(&event));
            let told = store
                .eye
                .get(&target)
                .token(&store.analyst)
                .send()
                .expect(200)
                .json();
            let at = events
                .iter()
                .position(|other| id(other) == id(&event))
                .unwrap();
            assert_eq!(told["event"], event);
            assert_eq!(told["before"], json!(events[at.saturating_sub(3)..at]));
            assert_eq!(
                told["after"],
                json!(events[at + 1..events.len().min(at + 6)])
            );
        }
    }
}

/// The way of a session through the steps: greedily from every beginning, the longest of them.
fn way<'e>(
    events: &[&'e Value],
    steps: &[Holds<'_>],
    within: i64,
    begins: Holds<'_>,
) -> Vec<&'e Value> {
    let mut best: Vec<&Value> = Vec::new();
    for (at, first) in events.iter().enumerate() {
        if !steps[0](first) || !begins(first) {
            continue;
        }
        let mut way = vec![*first];
        let mut rest = events[at + 1..].iter();
        for step in &steps[1..] {
            match rest.find(|event| step(event)) {
                Some(event) if micros(event) - micros(first) <= within => way.push(event),
                _ => break,
            }
        }
        if way.len() > best.len() {
            best = way;
        }
    }
    best
}

fn median_ms(mut times: Vec<i64>) -> Value {
    times.sort_unstable();
    match times.len() {
        0 => Value::Null,
        count => {
            let (low, high) = (times[(count - 1) / 2], times[count / 2]);
            json!((low + (high - low) / 2) / 1000)
        }
    }
}

fn check_steps(told: &Value, ways: &[&Vec<&Value>], steps: usize) {
    let count = |step: usize| ways.iter().filter(|way| way.len() > step).count();
    for step in 0..steps {
        let row = &told[step];
        assert_eq!(row["index"], step);
        assert_eq!(row["count"], count(step), "{told}");
        let next = if step + 1 < steps {
            count(step + 1)
        } else {
            count(step)
        };
        assert_eq!(row["dropped"], count(step) - next);
        let times = ways.iter().filter(|way| step > 0 && way.len() > step);
        let times = times
            .map(|way| micros(way[step]) - micros(way[step - 1]))
            .collect();
        assert_eq!(row["median_ms"], median_ms(times), "{step} {told}");
        let rate = |part: usize, all: usize| {
            if all == 0 {
                0.0
            } else {
                part as f64 / all as f64
            }
        };
        assert!((row["of_first"].as_f64().unwrap() - rate(count(step), count(0))).abs() < 1e-4);
    }
}

fn check_funnels(store: &Store) {
    let steps: [Holds<'_>; 3] = [
        &|event| event["name"] == "view",
        &|event| event["name"] == "click" || event["name"] == "view",
        &|event| event["name"] == "pay" && event["data"]["plan"] != "free",
    ];
    let q = json!([
        "name:view",
        "name:click OR name:view",
        "name:pay -plan:free"
    ]);
    let (from, to) = (BEGINNING + 50 * 60_000_000, BEGINNING + 300 * 60_000_000);
    let inside = |event: &Value| (from..to).contains(&micros(event));
    for (token, app) in [(&store.analyst, None), (&store.apps[0].token, Some("shop"))] {
        let sessions = store.sessions(app);
        for (within, minutes) in [("3m", 3), ("40m", 40), ("1d", 24 * 60)] {
            for bounded in [false, true] {
                let mut body = json!({"steps": q, "within": within, "by": "plan"});
                if bounded {
                    body["from"] = json!(time::utc(from));
                    body["to"] = json!(time::utc(to));
                }
                let begins = |event: &Value| !bounded || inside(event);
                let mut ways: Vec<Vec<&Value>> = sessions
                    .values()
                    .map(|events| way(events, &steps, minutes * 60_000_000, &begins))
                    .filter(|way| !way.is_empty())
                    .collect();
                let told = store.ask(token, "/funnel", &body);
                assert_eq!(told["sessions"], ways.len());
                check_steps(&told["steps"], &ways.iter().collect::<Vec<_>>(), 3);
                let groups = told["by"].as_array().unwrap();
                assert_eq!(groups.len(), 3);
                for group in groups {
                    let of_plan: Vec<&Vec<&Value>> = ways
                        .iter()
                        .filter(|way| way[0]["data"]["plan"] == group["value"])
                        .collect();
                    check_steps(&group["steps"], &of_plan, 3);
                }
                // The sessions behind a bar, page by page.
                ways.sort_by_key(|way| place(way[0]));
                for (outcome, plan) in [
                    ("reached", None),
                    ("dropped", None),
                    ("reached", Some("pro")),
                ] {
                    let expected: Vec<&str> = ways
                        .iter()
                        .filter(|way| {
                            if outcome == "reached" {
                                way.len() > 1
                            } else {
                                way.len() == 2
                            }
                        })
                        .filter(|way| plan.is_none_or(|plan| way[0]["data"]["plan"] == plan))
                        .map(|way| way[0]["session_id"].as_str().unwrap())
                        .collect();
                    let mut asked = body.clone();
                    asked["step"] = json!(1);
                    asked["outcome"] = json!(outcome);
                    asked["limit"] = json!(4);
                    if let Some(plan) = plan {
                        asked["by_value"] = json!(plan);
                    }
                    let mut told = Vec::new();
                    loop {
                        let page = store.ask(token, "/funnel/sessions", &asked);
                        for session in page["sessions"].as_array().unwrap() {
                            check_session(session, &sessions[id(session)]);
                            told.push(id(session).to_owned());
                        }
                        match page["next"].as_str() {
                            Some(next) => asked["cursor"] = json!(next),
                            None => break,
                        }
                    }
                    assert_eq!(told, expected, "{outcome} {plan:?}");
                }
            }
        }
    }
    // By the values of a field instead of sessions.
    let mut units = BTreeMap::<u64, Vec<&Value>>::new();
    for event in &store.events {
        units
            .entry(event["data"]["n"].as_u64().unwrap())
            .or_default()
            .push(event);
    }
    units
        .values_mut()
        .for_each(|events| events.sort_by_key(|event| place(event)));
    let ways: Vec<Vec<&Value>> = units
        .values()
        .map(|events| way(events, &steps, 180_000_000, &|_| true))
        .filter(|way| !way.is_empty())
        .collect();
    let body = json!({"steps": q, "within": "3m", "unit": "n"});
    let told = store.ask(&store.analyst, "/funnel", &body);
    assert_eq!(told["sessions"], ways.len());
    check_steps(&told["steps"], &ways.iter().collect::<Vec<_>>(), 3);
}

fn check_sequences(store: &Store) {
    for (within, minutes) in [("2m", 2), ("1h", 60)] {
        for without in [false, true] {
            let mut expected = Vec::new();
            for events in store.sessions(None).into_values() {
                'first: for (at, first) in events.iter().enumerate() {
                    if first["name"] != "view" {
                        continue;
                    }
                    for then in &events[at + 1..] {
                        if micros(then) - micros(first) > minutes * 60_000_000 {
                            break;
                        }
                        if then["name"] == "pay" {
                            expected.push((place(first), *first, *then));
                            break 'first;
                        }
                        if without && then["name"] == "leave" {
                            break;
                        }
                    }
                }
            }
            expected.sort_by_key(|(place, ..)| *place);
            let mut body =
                json!({"first": "name:view", "then": "name:pay", "within": within, "limit": 6});
            if without {
                body["without"] = json!("name:leave");
            }
            let mut told = Vec::new();
            loop {
                let page = store.ask(&store.analyst, "/sequences", &body);
                assert_eq!(page["count"], expected.len());
                told.extend(page["matches"].as_array().unwrap().iter().cloned());
                match page["next"].as_str() {
                    Some(next) => body["cursor"] = json!(next),
                    None => break,
                }
            }
            assert_eq!(told.len(), expected.len());
            for (told, (_, first, then)) in told.iter().zip(expected) {
                assert_eq!((&told["first"], &told["then"]), (first, then));
                assert_eq!(told["session"], first["session_id"]);
                assert_eq!(told["gap_ms"], (micros(then) - micros(first)) / 1000);
            }
        }
    }
}

#[test]
fn what_happens_in_sessions_is_what_a_plain_walk_finds() {
    let mut store = Store::new(61, 2000);
    check_sessions(&store);
    check_funnels(&store);
    store.wait_until_sealed();
    check_sessions(&store);
    check_context(&mut store);
    check_funnels(&store);
    check_sequences(&store);
}

#[test]
fn what_comes_while_sessions_are_paged_is_on_no_page() {
    let store = Store::new(62, 300);
    let expected = store.sessions(Some("shop")).len();
    let (mut told, mut next) = (Vec::new(), String::new());
    loop {
        let target = format!("/sessions?limit=2{next}");
        let page = store
            .eye
            .get(&target)
            .token(&store.apps[0].token)
            .send()
            .expect(200)
            .json();
        for session in page["sessions"].as_array().unwrap() {
            told.push(id(session).to_owned());
            // The session goes on, and another begins.
            let mut event = events::plain(id(session));
            let app = &store.apps[0].token;
            store
                .eye
                .post("/events")
                .token(app)
                .json(&event)
                .send()
                .expect(201);
            event["session_id"] = json!(format!("00000000-0000-4000-8000-{:012}", told.len()));
            store
                .eye
                .post("/events")
                .token(app)
                .json(&event)
                .send()
                .expect(201);
        }
        match page["next"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(told.len(), expected);
    told.sort();
    told.dedup();
    assert_eq!(told.len(), expected);
}

#[test]
fn wrong_questions_about_steps_are_told_what_is_wrong() {
    let eye = Eye::start();
    let app = eye.application("shop");
    let steps = json!(["a", "b"]);
    for (path, body, field) in [
        ("/funnel", json!({"within": "1h"}), "steps"),
        ("/funnel", json!({"steps": ["a"], "within": "1h"}), "steps"),
        (
            "/funnel",
            json!({"steps": vec!["a"; 21], "within": "1h"}),
            "steps",
        ),
        ("/funnel", json!({"steps": steps}), "within"),
        (
            "/funnel",
            json!({"steps": steps, "within": "soon"}),
            "within",
        ),
        (
            "/funnel",
            json!({"steps": steps, "within": "1h", "by": "offset"}),
            "by",
        ),
        (
            "/funnel",
            json!({"steps": steps, "within": "1h", "stpes": []}),
            "stpes",
        ),
        (
            "/funnel/sessions",
            json!({"steps": steps, "within": "1h", "outcome": "reached"}),
            "step",
        ),
        (
            "/funnel/sessions",
            json!({"steps": steps, "within": "1h", "outcome": "reached", "step": 2}),
            "step",
        ),
        (
            "/funnel/sessions",
            json!({"steps": steps, "within": "1h", "step": 0, "outcome": "x"}),
            "outcome",
        ),
        ("/sequences", json!({"first": "a", "within": "1h"}), "then"),
        ("/sequences", json!({"first": "a", "then": "b"}), "within"),
    ] {
        let problem = eye
            .post(path)
            .token(&app.token)
            .json(&body)
            .send()
            .problem(400, "bad_parameter");
        assert!(problem["errors"][field].is_array(), "{body}: {problem}");
    }
    let body = json!({"steps": ["a", "b ("], "within": "1h"});
    let problem = eye
        .post("/funnel")
        .token(&app.token)
        .json(&body)
        .send()
        .problem(400, "bad_query");
    assert!(
        problem["errors"]["steps[1]"][0]["position"].is_u64(),
        "{problem}"
    );
    let nothing = json!({"steps": steps, "within": "1h"});
    let told = eye
        .post("/funnel")
        .token(&app.token)
        .json(&nothing)
        .send()
        .expect(200)
        .json();
    assert_eq!(
        (&told["sessions"], &told["steps"][0]["median_ms"]),
        (&json!(0), &Value::Null)
    );
    let unknown = eye
        .get("/events/e2085be5-9137-4e4e-80b5-f1ffddc25423/context")
        .token(&app.token)
        .send();
    unknown.problem(404, "not_found");
}
