//! What figures say of many events is what a plain count of them says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use support::{ADMIN_TOKEN, App, Eye, Launch, Random, time};

/// 2021-03-05T00:00:00Z
const BEGINNING: i64 = 1_614_902_400_000_000;
const HOUR: i64 = 3_600_000_000;
const CATEGORIES: [&str; 3] = ["page", "form", "Café"];
const NAMES: [&str; 3] = ["view", "click", "other"];

/// An event as it was sent.
struct Sent {
    app: usize,
    session: String,
    timestamp: i64,
    category: &'static str,
    name: &'static str,
    data: Value,
}

/// A service with two applications whose events lie in sealed files and in the active segment, one session erased.
struct Store {
    eye: Eye,
    apps: Vec<App>,
    analyst: String,
    sent: Vec<Sent>,
}

impl Store {
    fn new(seed: u64, count: usize) -> Self {
        let eye = Launch::new()
            .variable("EYE_SEGMENT_MAX_BYTES", "128KiB")
            .start();
        let apps = vec![eye.application("shop"), eye.application("blog")];
        let mut random = Random::announced(seed);
        let sessions: Vec<(usize, String)> = (0..40).map(|n| (n % 2, random.uuid())).collect();
        let mut sent: Vec<Sent> = (0..count).map(|_| event(&mut random, &sessions)).collect();
        // Some come as they happen, hundreds within the same hour, and the rest late, in any order.
        for (place, one) in sent.iter_mut().take(count / 3).enumerate() {
            one.timestamp = BEGINNING
                + (20 + place as i64 / 400) * HOUR
                + random.below(3600) as i64 * 1_000_000;
        }
        for some in sent.chunks(100) {
            for (place, app) in apps.iter().enumerate() {
                let lines: Vec<String> = some
                    .iter()
                    .filter(|one| one.app == place)
                    .map(line)
                    .collect();
                eye.store(app, &lines);
            }
        }
        eye.wait_until_indexed();
        let erased = &sessions[3];
        let path = format!("/sessions/{}", erased.1);
        let erase = eye.request("DELETE", &path).token(ADMIN_TOKEN).send();
        erase.expect(202);
        sent.retain(|one| one.session != erased.1);
        let analyst = eye.analyst();
        Self {
            eye,
            apps,
            analyst,
            sent,
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

    fn get(&self, token: &str, target: &str) -> Value {
        self.eye.get(target).token(token).send().expect(200).json()
    }

    /// The events of an application, or of all, that a filter leaves.
    fn those<'s>(
        &'s self,
        app: Option<usize>,
        filter: impl Fn(&Sent) -> bool + 's,
    ) -> Vec<&'s Sent> {
        let seen = self
            .sent
            .iter()
            .filter(move |one| app.is_none_or(|app| one.app == app));
        seen.filter(|one| filter(one)).collect()
    }
}

fn event(random: &mut Random, sessions: &[(usize, String)]) -> Sent {
    let (app, session) = random.pick(sessions).clone();
    let mut data = Map::new();
    let path = format!("/page/{}", random.below(40).min(random.below(40)));
    data.insert("path".into(), path.into());
    if random.one_in(2) {
        data.insert("n".into(), json!(random.below(12)));
    }
    if random.one_in(2) {
        let mixed = [
            json!(1),
            json!(1.0),
            json!(2.5),
            json!("1"),
            json!(true),
            json!(null),
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_992_u64),
            json!(-3),
            json!(u64::MAX),
            json!(""),
        ];
        data.insert("mixed".into(), random.pick(&mixed).clone());
    }
    if random.one_in(3) {
        let tag = |random: &mut Random| json!(*random.pick(&["red", "green", "blue", "Straße"]));
        let tags = [tag(random), tag(random), json!([tag(random), 7])];
        data.insert("tags".into(), json!(tags));
    }
    if random.one_in(8) {
        // Too long for a column: the event's values all come from the log.
        let long = format!("alpha {}", "x".repeat(300 + random.index(3)));
        data.insert("long".into(), long.into());
    }
    if random.one_in(4) {
        data.insert(
            "deep".into(),
            json!({"er": {"n": random.below(3)}, "er.n": "dotted"}),
        );
    }
    Sent {
        app,
        session,
        timestamp: BEGINNING + (random.below(60 * 3600) * 1_000_000) as i64 / 7 * 7,
        category: CATEGORIES[random.index(3)],
        name: NAMES[random.index(3)],
        data: Value::Object(data),
    }
}

fn line(one: &Sent) -> String {
    json!({
        "session_id": one.session, "category": one.category, "name": one.name, "data": one.data,
        "timestamp": time::utc(one.timestamp),
    })
    .to_string()
}

/// A value as text that tells values apart as the query language does: `1` and `1.0` are one number, `"1"` is another value.
fn known_as(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), ..) => integer.to_string(),
            (_, Some(integer), _) => integer.to_string(),
            (.., Some(double)) if double.fract() == 0.0 && double.abs() < 9e15 => {
                format!("{double}")
            }
            (.., Some(double)) => format!("{double:?}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// The different values that an event has at a path; arrays are passed through, a dot may be one in a key.
fn values(data: &Value, path: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    gather(data, path, &mut found);
    found
}

fn gather(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| gather(item, path, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                if let Some(rest) = path.strip_prefix(key.as_str()) {
                    match rest.strip_prefix('.') {
                        Some(rest) => gather(value, rest, found),
                        None if rest.is_empty() => gather(value, "", found),
                        None => {}
                    }
                }
            }
        }
        scalar if path.is_empty() => drop(found.insert(known_as(scalar))),
        _ => {}
    }
}

fn field_values(one: &Sent, field: &str, apps: &[App]) -> BTreeSet<String> {
    let text = |text: &str| BTreeSet::from([json!(text).to_string()]);
    match field {
        "category" => text(one.category),
        "name" => text(one.name),
        "session_id" => text(&one.session),
        "application" => text(&apps[one.app].name),
        path => values(&one.data, path),
    }
}

/// Counts events by value, the most frequent first.
fn counted(events: &[&Sent], field: &str, apps: &[App]) -> (u64, Vec<(String, u64)>) {
    let (mut present, mut counts) = (0, BTreeMap::<String, u64>::new());
    for one in events {
        let mut values = field_values(one, field, apps);
        values.remove("null");
        present += u64::from(!values.is_empty());
        for value in values {
            *counts.entry(value).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    (present, counts)
}

const FIELDS: [&str; 11] = [
    "category",
    "name",
    "application",
    "session_id",
    "path",
    "n",
    "mixed",
    "tags",
    "long",
    "deep.er.n",
    "nowhere",
];

fn holds_alpha(one: &Sent) -> bool {
    one.data.get("long").is_some()
}

fn check_facets(store: &Store) {
    for (token, app) in [(&store.analyst, None), (&store.apps[0].token, Some(0))] {
        for q in ["", "alpha", "name:view"] {
            let filter = |one: &Sent| match q {
                "alpha" => holds_alpha(one),
                "name:view" => one.name == "view",
                _ => true,
            };
            let events = store.those(app, filter);
            let named: String = FIELDS
                .iter()
                .map(|field| format!("&field={field}"))
                .collect();
            let facets = store.get(token, &format!("/facets?q={q}&size=7{named}"));
            assert_eq!(facets["total"], events.len(), "{q}");
            for (field, facet) in FIELDS.iter().zip(facets["fields"].as_array().unwrap()) {
                let (present, counts) = counted(&events, field, &store.apps);
                assert_eq!(facet["field"], *field);
                assert_eq!(facet["present"], present, "{q} {field}: {facet}");
                assert_eq!(
                    facet["missing"],
                    events.len() as u64 - present,
                    "{q} {field}"
                );
                assert_eq!(
                    facet["distinct"],
                    counts.len(),
                    "{q} {field}: {facet} {counts:?}"
                );
                assert_eq!(facet["distinct_exact"], true);
                let told: Vec<(String, u64)> = facet["values"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|row| (known_as(&row["value"]), row["count"].as_u64().unwrap()))
                    .collect();
                assert_eq!(told.len(), counts.len().min(7));
                let expected: BTreeMap<_, _> = counts.iter().cloned().collect();
                for ((value, count), (_, ranked)) in told.iter().zip(&counts) {
                    assert_eq!(count, ranked, "{q} {field}: {told:?} {counts:?}");
                    assert_eq!(expected.get(value), Some(count), "{q} {field} {value}");
                }
                let all: u64 = counts.iter().map(|(_, count)| count).sum();
                let shown: u64 = told.iter().map(|(_, count)| count).sum();
                assert_eq!(facet["other"], all - shown, "{q} {field}");
            }
        }
    }
}

/// Buckets as `key → count`.
fn buckets(agg: &Value) -> BTreeMap<String, u64> {
    let rows = agg["buckets"].as_array().unwrap().iter();
    let key = |row: &Value| row["key_as_string"].as_str().map(str::to_owned);
    rows.map(|row| {
        let key = key(row).unwrap_or_else(|| known_as(&row["key"]));
        (key, row["doc_count"].as_u64().unwrap())
    })
    .collect()
}

fn check_aggs(store: &Store) {
    let aggs = json!({
        "by_category": {
            "terms": {"field": "category"},
            "aggs": {"n": {"stats": {"field": "data.n"}}, "paths": {"terms": {"field": "path", "size": 100}}},
        },
        "sessions": {"terms": {"field": "session_id", "size": 100}},
        "apps": {"terms": {"field": "application"}},
        "days": {"date_histogram": {"field": "timestamp", "fixed_interval": "1d"}},
        "tags": {"terms": {"field": "tags", "size": 20}},
        "deep": {"terms": {"field": "deep.er.n"}},
        "first": {"min": {"field": "timestamp"}},
        "offsets": {"value_count": {"field": "offset"}},
        "nowhere": {"sum": {"field": "no.such.field"}},
        "long": {"value_count": {"field": "data.long"}},
    });
    for (token, app) in [(&store.analyst, None), (&store.apps[0].token, Some(0))] {
        for q in ["*", "alpha", "name:view"] {
            let filter = |one: &Sent| match q {
                "alpha" => holds_alpha(one),
                "name:view" => one.name == "view",
                _ => true,
            };
            let events = store.those(app, filter);
            let asked = json!({"q": q, "limit": 0, "aggs": aggs});
            let answer = store.eye.post("/search").token(token).json(&asked).send();
            let answer = answer.expect(200).json();
            let told = &answer["aggs"];
            let counts = |field: &str| -> BTreeMap<String, u64> {
                counted(&events, field, &store.apps).1.into_iter().collect()
            };
            assert_eq!(buckets(&told["by_category"]), counts("category"), "{q}");
            assert_eq!(buckets(&told["sessions"]), counts("session_id"), "{q}");
            assert_eq!(buckets(&told["apps"]), counts("application"), "{q}");
            assert_eq!(told["by_category"]["doc_count_error_upper_bound"], 0);
            assert_eq!(told["offsets"]["value"], json!(events.len() as f64));
            assert_eq!(told["nowhere"]["value"], json!(0.0));
            let mut days = BTreeMap::<String, u64>::new();
            for one in &events {
                let midnight = one.timestamp.div_euclid(24 * HOUR) * 24 * HOUR;
                let day = time::utc(midnight)[..10].to_owned();
                *days.entry(day).or_default() += 1;
            }
            let told_days = buckets(&told["days"]);
            let told_days = told_days.into_iter().filter(|(_, count)| *count > 0);
            let told_days: BTreeMap<_, _> = told_days
                .map(|(day, count)| (day[..10].to_owned(), count))
                .collect();
            assert_eq!(told_days, days, "{q}");
            for row in told["by_category"]["buckets"].as_array().unwrap() {
                let within: Vec<&Sent> = events
                    .iter()
                    .copied()
                    .filter(|one| row["key"] == one.category)
                    .collect();
                let numbers: Vec<f64> = within
                    .iter()
                    .filter_map(|one| one.data["n"].as_f64())
                    .collect();
                assert_eq!(row["n"]["count"], numbers.len(), "{q}");
                assert_eq!(row["n"]["sum"], json!(numbers.iter().sum::<f64>()), "{q}");
                let paths: BTreeMap<String, u64> = counted(&within, "path", &store.apps)
                    .1
                    .into_iter()
                    .collect();
                assert_eq!(buckets(&row["paths"]), paths, "{q}");
            }
            // Too long for a column: not counted, and that is said.
            assert_eq!(told["long"]["value"], json!(0.0));
            let long = events.iter().filter(|one| holds_alpha(one)).count();
            let unseen = answer["aggs_unseen"].as_u64().unwrap_or(0);
            assert_eq!(unseen, long as u64, "{q}");
        }
    }
    // In a query string, too; and what is wrong says where.
    let found = store
        .eye
        .get("/search")
        .token(&store.analyst)
        .query("limit", "0");
    let found = found.query("aggs", r#"{"a":{"cardinality":{"field":"name"}}}"#);
    let found = found.send().expect(200).json();
    assert_eq!(found["aggs"]["a"]["value"], json!(3.0));
    assert!(found["aggs_unseen"].is_null(), "{found}");
    for (aggs, told) in [
        (r#"{"a""#, "must be JSON"),
        (
            r#"{"a":{"top_hits":{"size":1}}}"#,
            "aggs.a.top_hits is not available",
        ),
        // tantivy would list what stands in the dictionary: other applications' values, and what was erased.
        (
            r#"{"a":{"terms":{"field":"path","min_doc_count":0}}}"#,
            "min_doc_count must be at least 1",
        ),
        (
            r#"{"a":{"date_histogram":{"field":"timestamp","calendar_interval":"month"}}}"#,
            "only `fixed_interval` is supported",
        ),
    ] {
        let asked = store
            .eye
            .get("/search")
            .token(&store.analyst)
            .query("aggs", aggs);
        let problem = asked.send().problem(400, "bad_parameter");
        assert!(
            problem["errors"]["aggs"][0]
                .as_str()
                .unwrap()
                .contains(told),
            "{problem}"
        );
    }
    let many = json!({"limit": 0, "aggs": {"many": {"date_histogram": {"field": "timestamp", "fixed_interval": "1s", "min_doc_count": 0}}}});
    let bounded = store
        .eye
        .post("/search")
        .token(&store.analyst)
        .json(&many)
        .send();
    let problem = bounded.problem(400, "query_bound");
    assert_eq!(
        problem["limit"],
        if problem["bound"] == "aggs_buckets" {
            65_000
        } else {
            64 << 20
        }
    );
}

fn check_histogram(store: &Store) {
    let hours = |events: &[&Sent]| {
        let mut hours = BTreeMap::<i64, u64>::new();
        for one in events {
            *hours.entry(one.timestamp.div_euclid(HOUR)).or_default() += 1;
        }
        hours
    };
    for field in ["category", "mixed", "session_id", "path"] {
        let events = store.those(None, |_| true);
        let told = store.get(
            &store.analyst,
            &format!("/histogram?interval=1h&by={field}"),
        );
        let (_, counts) = counted(&events, field, &store.apps);
        let bars = told["buckets"].as_array().unwrap();
        assert_eq!(told["total"], events.len());
        let expected = hours(&events);
        let (first, last) = (
            expected.keys().next().unwrap(),
            expected.keys().last().unwrap(),
        );
        assert_eq!(bars.len() as i64, last - first + 1, "empty bars are there");
        let mut sums = BTreeMap::<String, u64>::new();
        for (place, bar) in bars.iter().enumerate() {
            let hour = first + place as i64;
            assert_eq!(bar["from"], time::utc(hour * HOUR));
            assert_eq!(bar["to"], time::utc((hour + 1) * HOUR));
            assert_eq!(
                bar["count"],
                expected.get(&hour).copied().unwrap_or(0),
                "{hour}"
            );
            let inside = |one: &&&Sent| one.timestamp.div_euclid(HOUR) == hour;
            let of_hour: Vec<&Sent> = events.iter().filter(inside).copied().collect();
            let (_, in_hour) = counted(&of_hour, field, &store.apps);
            for (value, count) in bar["by"].as_object().unwrap() {
                *sums.entry(value.clone()).or_default() += count.as_u64().unwrap();
                let quoted = json!(value).to_string();
                let spelt = |known: &&(String, u64)| known.0 == *value || known.0 == quoted;
                if value != "other" {
                    let known: u64 = in_hour.iter().filter(spelt).map(|(_, count)| count).sum();
                    assert!(
                        known >= count.as_u64().unwrap(),
                        "{field} {value} {bar} {in_hour:?}"
                    );
                }
            }
        }
        let all: u64 = counts.iter().map(|(_, count)| count).sum();
        let shown: u64 = sums
            .iter()
            .filter(|(value, _)| *value != "other")
            .map(|(_, sum)| sum)
            .sum();
        let top: u64 = counts.iter().take(20).map(|(_, count)| count).sum();
        assert_eq!(shown, top, "{field}: {sums:?} {counts:?}");
        if counts.len() <= 20 {
            assert_eq!(shown, all);
        } else {
            assert!(sums["other"] > 0 && sums["other"] <= all - top, "{field}");
        }
    }
    let (from, to) = (BEGINNING + 5 * HOUR, BEGINNING + 9 * HOUR + 1);
    let inside = store.those(Some(1), |one| {
        holds_alpha(one) && (from..to).contains(&one.timestamp)
    });
    let target = format!(
        "/histogram?q=alpha&interval=1d&tz=Europe/Berlin&from={}&to={}",
        time::utc(from),
        time::utc(to)
    );
    let told = store.get(&store.apps[1].token, &target);
    assert_eq!(
        (&told["total"], &told["tz"]),
        (&json!(inside.len()), &json!("Europe/Berlin"))
    );
    assert_eq!(told["buckets"].as_array().unwrap().len(), 1);
    assert_eq!(told["buckets"][0]["from"], "2021-03-04T23:00:00.000000Z");
}

fn check_fields(store: &Store) {
    let told = store.get(&store.apps[0].token, "/fields");
    let events = store.those(Some(0), |_| true);
    let names: Vec<&str> = told["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["field"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["deep.er.n", "long", "mixed", "n", "path", "tags"]);
    for field in told["fields"].as_array().unwrap() {
        let name = field["field"].as_str().unwrap();
        let has = |one: &&&Sent| !field_values(one, name, &store.apps).is_empty();
        let with: Vec<&Sent> = events.iter().filter(has).copied().collect();
        let (present, counts) = counted(&events, name, &store.apps);
        let share = field["share"].as_f64().unwrap();
        assert!(
            (share - present as f64 / events.len() as f64).abs() < 1e-4,
            "{field}"
        );
        let seen = with.iter().map(|one| one.timestamp);
        assert_eq!(
            field["first_seen"],
            time::utc(seen.clone().min().unwrap()),
            "{name}"
        );
        assert_eq!(field["last_seen"], time::utc(seen.max().unwrap()), "{name}");
        assert_eq!(field["distinct"], counts.len(), "{name}");
        let kind = |value: &str| match value.as_bytes()[0] {
            b'"' => "string",
            b't' | b'f' => "boolean",
            b'n' => "null",
            _ => "number",
        };
        let mut types = BTreeMap::<&str, u64>::new();
        for one in &with {
            let kinds: BTreeSet<&str> = field_values(one, name, &store.apps)
                .iter()
                .map(|value| kind(value))
                .collect();
            kinds
                .into_iter()
                .for_each(|kind| *types.entry(kind).or_default() += 1);
        }
        assert_eq!(field["types"], json!(types), "{name}");
        for example in field["examples"].as_array().unwrap() {
            assert!(
                counts.iter().any(|(value, _)| *value == known_as(example)),
                "{name} {example}"
            );
        }
    }
    let few = store.get(&store.analyst, "/fields?prefix=d");
    assert_eq!(few["fields"].as_array().unwrap().len(), 1);
}

#[test]
fn facets_histograms_and_fields_are_what_a_plain_count_says() {
    let store = Store::new(41, 3000);
    check_facets(&store);
    check_aggs(&store);
    check_histogram(&store);
    store.wait_until_sealed();
    check_facets(&store);
    check_aggs(&store);
    check_histogram(&store);
    check_fields(&store);
}

#[test]
fn wrong_questions_for_figures_are_told_what_is_wrong() {
    let eye = Eye::start();
    let app = eye.application("shop");
    let empty = eye
        .get("/histogram")
        .token(&app.token)
        .send()
        .expect(200)
        .json();
    assert_eq!(
        (&empty["total"], &empty["buckets"]),
        (&json!(0), &json!([]))
    );
    let facets = eye
        .get("/facets?field=path")
        .token(&app.token)
        .send()
        .expect(200)
        .json();
    assert_eq!(facets["fields"][0]["distinct"], 0);
    for (target, parameter) in [
        ("/histogram?interval=1y", "interval"),
        (
            "/histogram?interval=1s&from=2001-01-01&to=2021-01-01",
            "interval",
        ),
        ("/histogram?tz=Europe/Nowhere", "tz"),
        ("/histogram?by=timestamp", "by"),
        ("/facets?field=offset", "field"),
        ("/facets?size=0", "size"),
        ("/facets?size=1001", "size"),
        ("/fields?cursor=x", "cursor"),
    ] {
        let problem = eye
            .get(target)
            .token(&app.token)
            .send()
            .problem(400, "bad_parameter");
        assert!(
            problem["errors"][parameter].is_array(),
            "{target}: {problem}"
        );
    }
    let write_only = eye.token_of(&app, &json!({"scopes": ["write"]}));
    for target in ["/histogram", "/facets", "/fields"] {
        eye.get(target)
            .token(&write_only)
            .send()
            .problem(403, "forbidden");
        eye.get(target).send().problem(401, "unauthorized");
    }
    let nobodys = eye
        .get("/facets?application=other")
        .token(&app.token)
        .send();
    assert_eq!(nobodys.expect(200).json()["total"], 0);
}
