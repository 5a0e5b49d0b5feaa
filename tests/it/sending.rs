//! Every way to send, every answer to it, and retries that change nothing.

use serde_json::{Value, json};
use std::io::Write;
use support::{Answer, App, Eye, Random, events, json_text};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";
const ID: &str = "0b1f7f0e-52a5-4f0e-9d0a-7f6d5c4b3a21";

fn send(eye: &Eye, app: &App, body: &Value) -> Answer {
    eye.post("/events").token(&app.token).json(body).send()
}

fn numbered(n: u64) -> Value {
    let mut event = events::plain(SESSION);
    event["data"] = json!({"n": n});
    event
}

#[test]
fn one_event_is_answered_with_its_id_and_offset() {
    let eye = Eye::start();
    let app = eye.application("website");
    let first = send(&eye, &app, &numbered(1)).expect(201).json();
    let second = send(&eye, &app, &numbered(2)).expect(201).json();
    let fields: Vec<&String> = first.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["id", "offset"]);
    assert!(second["offset"].as_u64().unwrap() > first["offset"].as_u64().unwrap());
    // A server-made id is a UUIDv7 in lower case.
    let id = first["id"].as_str().unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "{id}");
    assert_eq!(id, id.to_lowercase());
    assert_ne!(first["id"], second["id"]);
}

#[test]
fn who_prefers_little_gets_nothing_but_the_promise() {
    let eye = Eye::start();
    let app = eye.application("website");
    let minimal = |body: &Value| {
        eye.post("/events")
            .token(&app.token)
            .header("Prefer", "return=minimal")
            .json(body)
            .send()
    };
    let answer = minimal(&numbered(1)).expect(204);
    assert!(answer.body.is_empty());
    assert_eq!(answer.header("content-type"), None);
    minimal(&json!([numbered(2), numbered(3)])).expect(204);
    // Only where all were stored.
    let answer = minimal(&json!([numbered(4), {"session_id": SESSION}]))
        .expect(207)
        .json();
    assert_eq!(answer["rejected"], 1);
    minimal(&json!({})).problem(400, "invalid_event");
    assert_eq!(eye.count(&app.token, "*"), 4);
}

#[test]
fn an_array_is_stored_in_its_order_with_dense_offsets() {
    let eye = Eye::start();
    let app = eye.application("website");
    let batch: Vec<Value> = (0..50).map(numbered).collect();
    let answer = send(&eye, &app, &json!(batch)).expect(200).json();
    let (first, last) = (
        answer["first_offset"].as_u64().unwrap(),
        answer["last_offset"].as_u64().unwrap(),
    );
    let expected = json!({"accepted": 50, "duplicates": 0, "rejected": 0, "first_offset": first, "last_offset": last, "errors": [], "errors_truncated": false});
    assert_eq!(answer, expected);
    assert_eq!(last - first, 49);
    let stored = eye
        .get("/events?order=timestamp")
        .token(&app.token)
        .send()
        .expect(200)
        .events();
    for (n, event) in stored.iter().enumerate() {
        assert_eq!(
            (&event["data"]["n"], &event["offset"]),
            (&json!(n), &json!(first + n as u64))
        );
    }
    // An array of one is still an array, and of none too.
    assert_eq!(
        send(&eye, &app, &json!([numbered(50)])).expect(200).json()["accepted"],
        1
    );
    let none = send(&eye, &app, &json!([])).expect(200).json();
    let zeros = json!({"accepted": 0, "duplicates": 0, "rejected": 0, "first_offset": null, "last_offset": null, "errors": [], "errors_truncated": false});
    assert_eq!(none, zeros);
}

#[test]
fn ndjson_is_taken_line_by_line() {
    let eye = Eye::start();
    let app = eye.application("website");
    let ndjson = |body: String| {
        eye.post("/events")
            .token(&app.token)
            .body(body, "application/x-ndjson")
            .send()
    };
    let [a, b] = [numbered(1).to_string(), numbered(2).to_string()];
    assert_eq!(
        ndjson(format!("{a}\n{b}\n")).expect(200).json()["accepted"],
        2
    );
    // Windows' line ends, no end of line at the end, empty lines between.
    assert_eq!(
        ndjson(format!("{a}\r\n\n{b}")).expect(200).json()["accepted"],
        2
    );
    assert_eq!(ndjson(String::new()).expect(200).json()["accepted"], 0);

    let answer = ndjson(format!("{a}\n\n{{broken\n{{}}\n{b}\n"))
        .expect(207)
        .json();
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(2), &json!(2))
    );
    let errors = answer["errors"].as_array().unwrap();
    let places: Vec<_> = errors
        .iter()
        .map(|error| {
            (
                error["index"].as_u64().unwrap(),
                error["line"].as_u64().unwrap(),
                error["code"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(places, [(1, 3, "malformed_json"), (2, 4, "invalid_event")]);
    assert_eq!(
        errors[1]["errors"]["data"],
        json!(["This field is required."])
    );

    let answer = ndjson("{broken\n[]\n".into()).expect(400).json();
    assert_eq!(
        (
            &answer["accepted"],
            &answer["rejected"],
            &answer["first_offset"]
        ),
        (&json!(0), &json!(2), &Value::Null)
    );
}

#[test]
fn of_many_the_valid_are_stored_and_the_others_named() {
    let eye = Eye::start();
    let app = eye.application("website");
    let mut future = numbered(2);
    future["timestamp"] = json!("2999-01-01T00:00:00Z");
    let answer = send(
        &eye,
        &app,
        &json!([numbered(0), {"name": 1}, future, 17, numbered(4)]),
    )
    .expect(207)
    .json();
    assert_eq!(
        (
            &answer["accepted"],
            &answer["duplicates"],
            &answer["rejected"]
        ),
        (&json!(2), &json!(0), &json!(3))
    );
    let errors = answer["errors"].as_array().unwrap();
    let places: Vec<_> = errors
        .iter()
        .map(|error| {
            (
                error["index"].as_u64().unwrap(),
                error["code"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            (1, "invalid_event"),
            (2, "future_timestamp"),
            (3, "invalid_event")
        ]
    );
    assert_eq!(
        errors[1]["errors"],
        json!({"timestamp": ["Event timestamp cannot be dated in the future."]})
    );
    let (first, last) = (
        answer["first_offset"].as_u64().unwrap(),
        answer["last_offset"].as_u64().unwrap(),
    );
    assert_eq!(last - first, 1);

    let none = send(&eye, &app, &json!([{}, {}])).expect(400).json();
    assert_eq!(
        (&none["accepted"], &none["rejected"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(eye.count(&app.token, "*"), 2);
}

#[test]
fn of_very_many_errors_the_first_thousand_are_told() {
    let eye = Eye::start();
    let app = eye.application("website");
    let answer = send(&eye, &app, &json!(vec![json!({}); 1_001]))
        .expect(400)
        .json();
    assert_eq!(
        (&answer["rejected"], &answer["errors_truncated"]),
        (&json!(1_001), &json!(true))
    );
    assert_eq!(answer["errors"].as_array().unwrap().len(), 1_000);
}

#[test]
fn an_unparsable_array_stores_nothing() {
    let eye = Eye::start();
    let app = eye.application("website");
    let body = format!("[{},\n{},\n oops]", numbered(1), numbered(2));
    let answer = eye
        .post("/events")
        .token(&app.token)
        .body(body, "application/json")
        .send();
    assert_eq!(answer.problem(400, "malformed_json")["line"], 3);
    assert_eq!(eye.count(&app.token, "*"), 0);
}

#[test]
fn all_or_nothing_on_request() {
    let eye = Eye::start();
    let app = eye.application("website");
    let all = |body: &Value| {
        eye.post("/events?on_error=reject_all")
            .token(&app.token)
            .json(body)
            .send()
    };
    let answer = all(&json!([numbered(0), {}, numbered(2)]))
        .expect(400)
        .json();
    assert_eq!(answer["accepted"], 0, "{answer}");
    assert!(
        answer["errors"]
            .as_array()
            .unwrap()
            .iter()
            .any(|error| error["index"] == 1),
        "{answer}"
    );
    assert_eq!(eye.count(&app.token, "*"), 0);
    assert_eq!(
        all(&json!([numbered(0), numbered(2)])).expect(200).json()["accepted"],
        2
    );
    // A session of another application spoils the request as well, though only the writer can know it.
    let other = eye.application("other");
    let mine = events::plain("6d5b1f6e-0b43-4f0c-8a6e-3f3d2c1b0a99");
    let spoiled = eye
        .post("/events?on_error=reject_all")
        .token(&other.token)
        .json(&json!([mine, numbered(1)]))
        .send();
    assert_eq!(spoiled.expect(400).json()["accepted"], 0);
    assert_eq!(eye.count(&other.token, "*"), 0);
    eye.post("/events?on_error=ignore")
        .token(&app.token)
        .json(&numbered(1))
        .send()
        .problem(400, "bad_parameter");
}

#[test]
fn bodies_come_compressed_in_four_ways() {
    let eye = Eye::start();
    let app = eye.application("website");
    let lines: String = (0..100).map(|n| format!("{}\n", numbered(n))).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(lines.as_bytes()).unwrap();
    let mut br = Vec::new();
    brotli::BrotliCompress(
        &mut lines.as_bytes(),
        &mut br,
        &brotli::enc::BrotliEncoderParams::default(),
    )
    .unwrap();
    let bodies = [
        ("gzip", gzip.finish().unwrap()),
        ("deflate", deflate.finish().unwrap()),
        ("zstd", zstd::encode_all(lines.as_bytes(), 1).unwrap()),
        ("br", br),
        ("identity", lines.clone().into_bytes()),
    ];
    for (encoding, body) in bodies {
        let post = |body: &[u8]| {
            eye.post("/events")
                .token(&app.token)
                .header("Content-Encoding", encoding)
                .body(body, "application/x-ndjson")
                .send()
        };
        assert_eq!(
            post(&body).expect(200).json()["accepted"],
            100,
            "{encoding}"
        );
        if encoding != "identity" {
            let cut = post(&body[..body.len() / 2]);
            assert_eq!(cut.status, 400, "cut {encoding}: {}", cut.text());
            assert_eq!(post(b"not compressed at all").status, 400, "{encoding}");
        }
    }
    // Small on the wire, larger than a request may be.
    let bomb = zstd::encode_all(&vec![b' '; 20 * 1024 * 1024][..], 1).unwrap();
    let answer = eye
        .post("/events")
        .token(&app.token)
        .header("Content-Encoding", "zstd")
        .body(bomb, "application/json")
        .send();
    answer.problem(413, "too_large");
}

#[test]
fn a_retry_with_an_id_stores_nothing_twice() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let mut event = numbered(1);
    event["id"] = json!(ID);
    let first = send(&eye, &app, &event).expect(201).json();
    assert_eq!(first["id"], ID);
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        let again = send(&eye, &app, &event).expect(200).json();
        assert_eq!(
            again,
            json!({"id": ID, "offset": first["offset"], "duplicate": true})
        );
        event["id"] = json!(ID.to_uppercase());
        assert_eq!(
            send(&eye, &app, &event).expect(200).json()["duplicate"],
            true
        );
        let batch = send(&eye, &app, &json!([event, event])).expect(200).json();
        assert_eq!(
            (
                &batch["accepted"],
                &batch["duplicates"],
                &batch["first_offset"]
            ),
            (&json!(0), &json!(2), &Value::Null)
        );
    }
    assert_eq!(eye.count(&app.token, "*"), 1);
}

#[test]
fn what_means_the_same_is_the_same() {
    let eye = Eye::start();
    let app = eye.application("website");
    let post = |text: String| {
        eye.post("/events")
            .token(&app.token)
            .body(text, "application/json")
            .send()
    };
    let event = |session: &str, name: &str, timestamp: &str, data: &str| {
        format!(
            r#"{{"id":"{ID}","session_id":"{session}","category":"c","name":"{name}","timestamp":"{timestamp}","data":{data}}}"#
        )
    };
    post(event(
        SESSION,
        "n",
        "2021-01-01T09:15:27.243860Z",
        r#"{"a":[1,2],"b":"x y"}"#,
    ))
    .expect(201);
    for same in [
        event(
            SESSION,
            "n",
            "2021-01-01 09:15:27.243860",
            r#"{"a":[1,2],"b":"x y"}"#,
        ),
        event(
            SESSION,
            "n",
            "2021-01-01T10:15:27.243860+01:00",
            "{ \"a\" : [ 1 ,\n2 ] ,\t\"b\":\"x y\" }",
        ),
        event(
            &SESSION.to_uppercase(),
            "  n ",
            "2021-01-01T09:15:27.243860Z",
            r#"{"a":[1,2],"b":"x y"}"#,
        ),
    ] {
        assert_eq!(
            post(same.clone()).expect(200).json()["duplicate"],
            true,
            "{same}"
        );
    }
    for different in [
        event(
            SESSION,
            "N",
            "2021-01-01T09:15:27.243860Z",
            r#"{"a":[1,2],"b":"x y"}"#,
        ),
        event(
            SESSION,
            "n",
            "2021-01-01T09:15:27.243861Z",
            r#"{"a":[1,2],"b":"x y"}"#,
        ),
        event(
            SESSION,
            "n",
            "2021-01-01T09:15:27.243860Z",
            r#"{"a":[1,2],"b":"x  y"}"#,
        ),
        event(
            SESSION,
            "n",
            "2021-01-01T09:15:27.243860Z",
            r#"{"a":[1,2.0],"b":"x y"}"#,
        ),
        event(
            SESSION,
            "n",
            "2021-01-01T09:15:27.243860Z",
            r#"{"b":"x y","a":[1,2]}"#,
        ),
        event(
            "6d5b1f6e-0b43-4f0c-8a6e-3f3d2c1b0a99",
            "n",
            "2021-01-01T09:15:27.243860Z",
            r#"{"a":[1,2],"b":"x y"}"#,
        ),
    ] {
        post(different).problem(409, "id_conflict");
    }
    assert_eq!(eye.count(&app.token, "*"), 1);
}

#[test]
fn of_two_items_with_one_id_the_second_is_the_duplicate() {
    let eye = Eye::start();
    let app = eye.application("website");
    let (mut one, mut other) = (numbered(1), numbered(2));
    (one["id"], other["id"]) = (json!(ID), json!(ID));
    let answer = send(&eye, &app, &json!([one, one, numbered(3)]))
        .expect(200)
        .json();
    assert_eq!(
        (&answer["accepted"], &answer["duplicates"]),
        (&json!(2), &json!(1))
    );
    let answer = send(&eye, &app, &json!([one, other])).expect(207).json();
    assert_eq!(
        (
            &answer["accepted"],
            &answer["duplicates"],
            &answer["rejected"]
        ),
        (&json!(0), &json!(1), &json!(1))
    );
    assert_eq!(
        (&answer["errors"][0]["index"], &answer["errors"][0]["code"]),
        (&json!(1), &json!("id_conflict"))
    );
}

#[test]
fn ids_are_each_applications_own() {
    let eye = Eye::start();
    let (one, two) = (eye.application("one"), eye.application("two"));
    let mut event = numbered(1);
    event["id"] = json!(ID);
    send(&eye, &one, &event).expect(201);
    event["session_id"] = json!("6d5b1f6e-0b43-4f0c-8a6e-3f3d2c1b0a99");
    send(&eye, &two, &event).expect(201);
    for app in [&one, &two] {
        let stored = eye
            .get(&format!("/events/{ID}"))
            .token(&app.token)
            .send()
            .expect(200)
            .json();
        assert_eq!(stored["application"], app.name);
    }
}

#[test]
fn the_same_id_sent_by_many_at_once_is_stored_once() {
    let eye = Eye::start();
    let app = eye.application("website");
    let mut random = Random::announced(99);
    for round in 0..30 {
        let mut event = numbered(round);
        event["id"] = json!(random.uuid());
        let barrier = std::sync::Barrier::new(4);
        let race = || {
            barrier.wait();
            send(&eye, &app, &event).status
        };
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 200, 201], "round {round}");
    }
    assert_eq!(eye.count(&app.token, "*"), 30);
}

#[test]
fn data_is_kept_as_it_was_sent() {
    let eye = Eye::start();
    let app = eye.application("website");
    for line in events::varied() {
        let sent = json_text::fields(&line);
        let answer = eye
            .post("/events")
            .token(&app.token)
            .body(line.as_str(), "application/json")
            .send()
            .expect(201)
            .json();
        let stored = eye
            .get(&format!("/events/{}", answer["id"].as_str().unwrap()))
            .token(&app.token)
            .send()
            .expect(200);
        let stored = json_text::fields(&stored.text());
        assert_eq!(
            json_text::compact(&stored["data"]),
            json_text::compact(&sent["data"]),
            "{line}"
        );
    }
}

#[test]
fn a_beacon_may_come_from_any_page() {
    let eye = Eye::start();
    let app = eye.application("website");
    let preflight = eye
        .request("OPTIONS", "/events")
        .header("Origin", "https://www.example.com")
        .header("Access-Control-Request-Method", "POST")
        .header(
            "Access-Control-Request-Headers",
            "authorization,content-type",
        )
        .send();
    assert!(matches!(preflight.status, 200 | 204), "{preflight:?}");
    // Mirrored, not `*`: browsers refuse `*` for requests that carry credentials.
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://www.example.com")
    );
    assert_eq!(
        preflight.header("access-control-allow-credentials"),
        Some("true")
    );
    let allowed = preflight
        .header("access-control-allow-headers")
        .unwrap_or_default()
        .to_lowercase();
    assert!(
        allowed == "*" || allowed.contains("authorization") && allowed.contains("content-type"),
        "{allowed}"
    );
    let sent = eye
        .post("/events")
        .token(&app.token)
        .header("Origin", "https://www.example.com")
        .json(&numbered(1))
        .send();
    assert_eq!(
        sent.expect(201).header("access-control-allow-origin"),
        Some("https://www.example.com")
    );
}
