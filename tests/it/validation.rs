//! Wrong events are refused with every reason at once, in the words of the service this one replaces.

use serde_json::{Value, json};
use support::{Answer, App, Eye, events, time};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";
const FUTURE: &str = "Event timestamp cannot be dated in the future.";
const REQUIRED: &str = "This field is required.";

struct Desk {
    eye: Eye,
    app: App,
}

impl Desk {
    fn open() -> Desk {
        let eye = Eye::start();
        let app = eye.application("website");
        Desk { eye, app }
    }

    fn send(&self, event: &Value) -> Answer {
        self.eye
            .post("/events")
            .token(&self.app.token)
            .json(event)
            .send()
    }

    fn send_text(&self, text: &str) -> Answer {
        self.eye
            .post("/events")
            .token(&self.app.token)
            .body(text, "application/json")
            .send()
    }

    /// Sends the plain event with `field` set to `value`.
    fn with(&self, field: &str, value: Value) -> Answer {
        let mut event = events::plain(SESSION);
        event[field] = value;
        self.send(&event)
    }

    #[track_caller]
    fn refused(&self, field: &str, value: Value) {
        let shown = value.to_string();
        let problem = self.with(field, value).problem(400, "invalid_event");
        let fields: Vec<&String> = problem["errors"].as_object().unwrap().keys().collect();
        assert_eq!(fields, [field], "{field} = {shown:.100}: {problem}");
        assert!(
            problem["errors"][field][0]
                .as_str()
                .is_some_and(|message| !message.is_empty()),
            "{problem}"
        );
    }
}

#[test]
fn the_three_example_events_are_taken() {
    let desk = Desk::open();
    let example = |category: &str, name: &str, data: Value, timestamp: &str| json!({"session_id": SESSION, "category": category, "name": name, "data": data, "timestamp": timestamp});
    let (host, path) = ("www.consumeraffairs.com", "/");
    let examples = [
        example(
            "page interaction",
            "pageview",
            json!({"host": host, "path": path}),
            "2021-01-01 09:15:27.243860",
        ),
        example(
            "page interaction",
            "cta click",
            json!({"host": host, "path": path, "element": "chat bubble"}),
            "2021-01-01 09:15:27.243860",
        ),
        example(
            "form interaction",
            "submit",
            json!({"host": host, "path": path, "form": {"first_name": "John", "last_name": "Doe"}}),
            "2021-01-01 09:15:27.243860",
        ),
    ];
    for (number, event) in examples.iter().enumerate() {
        let answer = desk.send(event).expect(201).json();
        let id = answer["id"].as_str().unwrap();
        let stored = desk
            .eye
            .get(&format!("/events/{id}"))
            .token(&desk.app.token)
            .send()
            .expect(200)
            .json();
        for field in ["session_id", "category", "name", "data"] {
            assert_eq!(stored[field], event[field], "example {number}");
        }
        assert_eq!(stored["timestamp"], "2021-01-01T09:15:27.243860Z");
        assert_eq!(stored["application"], "website");
        assert_eq!(
            (&stored["id"], &stored["offset"]),
            (&answer["id"], &answer["offset"])
        );
        assert!(stored["received_at"].as_str().unwrap().ends_with('Z'));
    }
}

#[test]
fn a_timestamp_in_the_future_is_refused() {
    let desk = Desk::open();
    for future in [
        time::from_now(60),
        time::from_now(86_400),
        "9999-12-31T23:59:59Z".into(),
        "2999-01-01 00:00:00".into(),
    ] {
        let problem = desk
            .with("timestamp", json!(future))
            .problem(400, "future_timestamp");
        assert_eq!(
            problem["errors"],
            json!({"timestamp": [FUTURE]}),
            "{future}"
        );
    }
    // Clocks differ: up to five seconds are forgiven.
    desk.with("timestamp", json!(time::from_now(1))).expect(201);
    desk.with("timestamp", json!(time::from_now(-1)))
        .expect(201);
}

#[test]
fn with_strict_tolerance_a_second_ahead_is_too_much() {
    let eye = support::Launch::new()
        .variable("EYE_FUTURE_TOLERANCE", "0")
        .start();
    let app = eye.application("website");
    let mut event = events::plain(SESSION);
    event["timestamp"] = json!(time::from_now(2));
    eye.post("/events")
        .token(&app.token)
        .json(&event)
        .send()
        .problem(400, "future_timestamp");
}

#[test]
fn the_future_is_told_together_with_everything_else() {
    let desk = Desk::open();
    let event = json!({"session_id": "not a uuid", "category": "", "name": 7, "timestamp": "2999-01-01T00:00:00Z", "colour": "red"});
    let problem = desk.send(&event).problem(400, "invalid_event");
    let errors = problem["errors"].as_object().unwrap();
    let mut fields: Vec<&str> = errors.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "category",
            "colour",
            "data",
            "name",
            "session_id",
            "timestamp"
        ],
        "{problem}"
    );
    assert_eq!(errors["timestamp"], json!([FUTURE]));
    assert_eq!(errors["data"], json!([REQUIRED]));
    assert!(
        errors
            .values()
            .all(|messages| messages.as_array().is_some_and(|list| !list.is_empty())),
        "{problem}"
    );
}

#[test]
fn every_missing_field_is_named() {
    let desk = Desk::open();
    let problem = desk.send(&json!({})).problem(400, "invalid_event");
    let required = json!([REQUIRED]);
    let all = json!({"session_id": required, "category": required, "name": required, "data": required, "timestamp": required});
    assert_eq!(problem["errors"], all);
    for field in ["session_id", "category", "name", "data", "timestamp"] {
        let mut event = events::plain(SESSION);
        event.as_object_mut().unwrap().remove(field);
        let problem = desk.send(&event).problem(400, "invalid_event");
        assert_eq!(problem["errors"], json!({field: [REQUIRED]}));
    }
}

#[test]
fn a_typo_in_a_field_name_loses_no_data() {
    let desk = Desk::open();
    for unknown in [
        "Data",
        "sessionId",
        "user",
        "",
        "offset",
        "received_at",
        "application",
        "naïve",
    ] {
        let problem = desk.with(unknown, json!(1)).problem(400, "invalid_event");
        let message = problem["errors"][unknown][0]
            .as_str()
            .unwrap_or_else(|| panic!("{unknown:?} is not named: {problem}"));
        assert!(
            message.to_lowercase().contains("unknown field") && message.contains("data"),
            "{message}"
        );
    }
}

#[test]
fn fields_of_the_wrong_kind_are_refused_by_name() {
    let desk = Desk::open();
    for wrong in [
        json!(null),
        json!(1),
        json!(true),
        json!([]),
        json!("x"),
        json!("2021-01-01"),
    ] {
        desk.refused("session_id", wrong);
    }
    for text_field in ["category", "name"] {
        for wrong in [json!(null), json!(1), json!(false), json!([]), json!({})] {
            desk.refused(text_field, wrong);
        }
    }
    for wrong in [
        json!(null),
        json!(1),
        json!("{}"),
        json!([]),
        json!([{}]),
        json!(true),
    ] {
        desk.refused("data", wrong);
    }
    for wrong in [
        json!(null),
        json!(1_609_492_527),
        json!({}),
        json!("yesterday"),
        json!(""),
    ] {
        desk.refused("timestamp", wrong);
    }
    for wrong in [json!(1), json!({}), json!([])] {
        desk.refused("id", wrong);
    }
}

#[test]
fn category_and_name_have_1_to_100_characters_after_trimming() {
    let desk = Desk::open();
    for field in ["category", "name"] {
        for blank in ["", " ", "\t\n\r ", "\u{a0}\u{2003}"] {
            desk.refused(field, json!(blank));
        }
        desk.refused(field, json!("x".repeat(101)));
        desk.refused(field, json!("é".repeat(101)));
        for fits in [
            "x".repeat(100),
            "😀".repeat(100),
            format!("  {}  ", "é".repeat(100)),
        ] {
            let id = desk.with(field, json!(fits)).expect(201).json()["id"]
                .as_str()
                .unwrap()
                .to_owned();
            let stored = desk
                .eye
                .get(&format!("/events/{id}"))
                .token(&desk.app.token)
                .send()
                .expect(200)
                .json();
            assert_eq!(stored[field], fits.trim());
        }
    }
}

#[test]
fn timestamps_are_read_with_and_without_an_offset() {
    let desk = Desk::open();
    for (sent, instant) in [
        ("2021-01-01 09:15:27.243860", "2021-01-01T09:15:27.243860Z"),
        ("2021-01-01T09:15:27.243860", "2021-01-01T09:15:27.243860Z"),
        ("2021-01-01 09:15:27", "2021-01-01T09:15:27.000000Z"),
        ("2021-01-01T09:15:27.2", "2021-01-01T09:15:27.200000Z"),
        ("2021-01-01T09:15:27Z", "2021-01-01T09:15:27.000000Z"),
        ("2021-01-01t09:15:27z", "2021-01-01T09:15:27.000000Z"),
        (
            "2021-01-01T10:15:27.243860+01:00",
            "2021-01-01T09:15:27.243860Z",
        ),
        ("2021-01-01T01:45:27-07:30", "2021-01-01T09:15:27.000000Z"),
        (
            "2021-01-01T09:15:27.243860999Z",
            "2021-01-01T09:15:27.243860Z",
        ),
        ("2020-02-29T00:00:00Z", "2020-02-29T00:00:00.000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
    ] {
        let id = desk.with("timestamp", json!(sent)).expect(201).json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let stored = desk
            .eye
            .get(&format!("/events/{id}"))
            .token(&desk.app.token)
            .send()
            .expect(200)
            .json();
        assert_eq!(stored["timestamp"], instant, "sent as {sent}");
    }
    for wrong in [
        "2021-02-29T00:00:00Z",
        "2021-13-01T00:00:00Z",
        "2021-00-01T00:00:00Z",
        "2021-01-32T00:00:00Z",
        "2021-01-01T24:00:00Z",
        "2021-01-01T00:60:00Z",
        "2021-01-01T00:00:00+25:00",
        "2021-01-01T00:00:00.Z",
        "2021-1-1T00:00:00Z",
        "2021-01-01",
        "2021-01-01T00:00Z",
        "0000-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        " 2021-01-01T00:00:00Zx",
        "２０２１-01-01T00:00:00Z",
    ] {
        desk.refused("timestamp", json!(wrong));
    }
}

#[test]
fn malformed_json_is_refused_with_line_and_column() {
    let desk = Desk::open();
    let problem = desk
        .send_text("{\n  \"session_id\": oops\n}")
        .problem(400, "malformed_json");
    assert_eq!(problem["line"], 2, "{problem}");
    let column = problem["column"].as_u64().unwrap();
    assert!((17..=19).contains(&column), "column {column}");
    for malformed in [
        "",
        " ",
        "{",
        "[",
        "{]",
        "nul",
        "{\"a\":1,}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":1}}",
        "[{}",
        "{\"a\":\"\u{1}\"}",
    ] {
        let problem = desk.send_text(malformed).problem(400, "malformed_json");
        assert!(
            problem["line"].is_u64() && problem["column"].is_u64(),
            "{malformed:?}: {problem}"
        );
    }
}

#[test]
fn a_body_that_is_no_event_is_refused() {
    let desk = Desk::open();
    for body in ["1", "\"text\"", "null", "true"] {
        let answer = desk.send_text(body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    // Invalid UTF-8 within a string.
    let mut body = events::plain(SESSION).to_string().into_bytes();
    let position = body.iter().position(|&byte| byte == b'w').unwrap();
    body[position] = 0xff;
    let answer = desk
        .eye
        .post("/events")
        .token(&desk.app.token)
        .body(body, "application/json")
        .send();
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[test]
fn a_field_given_twice_is_refused_by_name() {
    let desk = Desk::open();
    let event = events::plain(SESSION).to_string();
    for (field, second) in [
        ("name", "\"other\""),
        ("data", "{}"),
        ("session_id", "\"e2085be5-9137-4e4e-80b5-f1ffddc25423\""),
    ] {
        let twice = format!("{{\"{field}\":{second},{}", &event[1..]);
        let problem = desk.send_text(&twice).expect(400).json();
        assert!(problem["errors"][field][0].is_string(), "{problem}");
    }
    // The same name behind an escape is the same name.
    let escaped = format!("{{\"n\\u0061me\":\"x\",{}", &event[1..]);
    assert!(desk.send_text(&escaped).expect(400).json()["errors"]["name"][0].is_string());
    // Within data every key is kept.
    desk.send_text(&event.replace("\"path\":\"/\"", "\"path\":\"/\",\"path\":\"/again\""))
        .expect(201);
}

#[test]
fn a_lone_surrogate_at_the_top_level_is_refused() {
    let desk = Desk::open();
    let event = events::plain(SESSION).to_string();
    for field in ["pageview", "page interaction"] {
        let answer = desk.send_text(&event.replace(field, "half \\ud800 pair"));
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    desk.send_text(&event.replace("\"path\":\"/\"", "\"path\":\"half \\ud800 pair\""))
        .expect(201);
}

#[test]
fn json_is_taken_to_its_depth_and_no_further() {
    let desk = Desk::open();
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let event = |depth| {
        events::plain(SESSION).to_string().replace(
            "{\"host\":\"www.consumeraffairs.com\",\"path\":\"/\"}",
            &nested(depth),
        )
    };
    desk.send_text(&event(50)).expect(201);
    for depth in [70, 1_000, 100_000] {
        let answer = desk.send_text(&event(depth));
        assert_eq!(
            answer.problem(400, "too_deep")["limit"],
            64,
            "depth {depth}"
        );
    }
    let batch = format!("{}\n{}\n", event(1), event(1_000));
    let answer = desk
        .eye
        .post("/events")
        .token(&desk.app.token)
        .body(batch, "application/x-ndjson")
        .send()
        .expect(207)
        .json();
    assert_eq!(answer["errors"][0]["code"], "too_deep");
    desk.send_text(&"[".repeat(1_000_000)).expect(400);
}

#[test]
fn too_large_is_413_and_names_the_limit() {
    let desk = Desk::open();
    let event = |bytes: usize| {
        let mut event = events::plain(SESSION);
        event["data"] = json!({"text": "x".repeat(bytes)});
        event
    };
    desk.send(&event(200 * 1024)).expect(201);
    assert_eq!(
        desk.send(&event(300 * 1024)).problem(413, "too_large")["limit"],
        256 * 1024
    );

    // Within a batch it is one refused item.
    let batch = json!([event(1), event(300 * 1024), event(2)]);
    let answer = desk.send(&batch).expect(207).json();
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        (&answer["errors"][0]["index"], &answer["errors"][0]["code"]),
        (&json!(1), &json!("too_large"))
    );

    let huge = vec![b' '; 17 * 1024 * 1024];
    let answer = desk
        .eye
        .post("/events")
        .token(&desk.app.token)
        .body(huge, "application/json")
        .send();
    assert_eq!(answer.problem(413, "too_large")["limit"], 16 * 1024 * 1024);

    let many = vec![events::plain(SESSION).to_string(); 10_001];
    let answer = desk
        .eye
        .post("/events")
        .token(&desk.app.token)
        .ndjson(&many)
        .send();
    assert_eq!(answer.problem(413, "too_large")["limit"], 10_000);
    assert_eq!(desk.eye.count(&desk.app.token, "*"), 3);
}

#[test]
fn a_wrong_media_type_is_415() {
    let desk = Desk::open();
    let event = events::plain(SESSION).to_string();
    let post = |content_type: &str, body: &str| {
        desk.eye
            .post("/events")
            .token(&desk.app.token)
            .body(body, content_type)
            .send()
    };
    for wrong in [
        "application/xml",
        "image/png",
        "multipart/form-data; boundary=x",
        "nonsense",
    ] {
        post(wrong, &event).problem(415, "unsupported_type");
    }
    post("application/x-www-form-urlencoded", "a=b").problem(415, "unsupported_type");
    for right in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "",
    ] {
        post(right, &event).expect(201);
    }
    let answer = desk
        .eye
        .post("/events")
        .token(&desk.app.token)
        .header("Content-Encoding", "lzma")
        .body(event, "application/json")
        .send();
    answer.problem(415, "unsupported_type");
}
