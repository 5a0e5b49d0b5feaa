//! JSON's corners, in the spirit of JSONTestSuite: what must be taken and come back as it was, what must be refused
//! without harm, and what may go either way as long as the server lives.

use support::{App, Eye, json_text};

/// Values of JSON's grammar. Each is put into `data`.
const VALID: &[&str] = &[
    "0",
    "-0",
    "0.0",
    "-0.0",
    "1",
    "-1",
    "1e1",
    "1E1",
    "1e+1",
    "1e-1",
    "1.5e300",
    "0e0",
    "0e+1",
    "1e400",
    "-1e400",
    "1e-400",
    "123e65",
    "123456789012345678901234567890",
    "-9223372036854775809",
    "18446744073709551616",
    "0.00000000000000000000000000000000000000000000001",
    "1.000000000000000000000000000000000001",
    "9007199254740993",
    "true",
    "false",
    "null",
    "\"\"",
    "\" \"",
    "\"a\"",
    "\"\\\"\"",
    "\"\\\\\"",
    "\"\\/\"",
    "\"\\b\\f\\n\\r\\t\"",
    "\"\\u0000\"",
    "\"\\u0001\"",
    "\"\\u001f\"",
    "\"\\u0061\"",
    "\"\\u00E9\"",
    "\"\\ud83d\\ude00\"",
    "\"\\uD834\\uDD1E\"",
    "\"\\udbff\\udfff\"",
    "\"\\uFFFF\"",
    "\"\\uFDD0\"",
    "\"\\u200B\\u2064\\uFEFF\"",
    "\"\u{7f}\"",
    "\"\u{80}\"",
    "\"\u{2028}\u{2029}\"",
    "\"\u{feff}\"",
    "\"\u{10ffff}\"",
    "\"\u{fffe}\"",
    "\"💩\"",
    "\"👩‍👩‍👧‍👦\"",
    "\"الكل في المجمو عة\"",
    "\"田中さんにあげて下さい\"",
    "\"Ṱ̺̺̕o͞ ̷i̲̬͇̪͙n̝̗͕v̟̜̘̦͟o̶̙̰̠kè͚̮̺̪̹̱̤\"",
    "\"<script>alert(1)</script>\"",
    "\"'; DROP TABLE events; --\"",
    "\"$(touch /tmp/x)\"",
    "\"%s%n%x\"",
    "\"../../etc/passwd\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\"",
    "\"\\ude00\\ud83d\"",
    "\"\\ud800x\"",
    "\"\\ud800\\n\"",
    "\"\\ud800\\ud800\\udc00\"",
    "[]",
    "[[]]",
    "[[],[[]]]",
    "[ ]",
    "[1,2]",
    "[\t1\n,\r2 ]",
    "[null,1,\"1\",{}]",
    "{}",
    "{ }",
    "{\"\":0}",
    "{\"a\":1,\"a\":1}",
    "{\"a\":1,\"a\":2}",
    "{\"\\u0000\":1}",
    "{\"a\\u0000b\":1}",
    "{\"\\u0001\":1}",
    "{\"a.b\":1,\"a\":{\"b\":2}}",
    "{\"\\ud800\":1}",
    "{\"__proto__\":1}",
    "{\"session_id\":1,\"offset\":2}",
    "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}",
    "{\"💩\":[{\"💩\":\"💩\"}]}",
    "{\"a\" :\n 1 }",
];

/// Not JSON. Each is put where a value belongs.
const INVALID: &[&str] = &[
    "",
    " ",
    "01",
    "-01",
    "00",
    "-",
    "+1",
    ".5",
    "1.",
    "1.e1",
    "1e",
    "1e+",
    "1eE2",
    "0x1",
    "0e",
    "1_000",
    "1 000",
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "nul",
    "nulll",
    "True",
    "FALSE",
    "undefined",
    "'a'",
    "\"",
    "\"a",
    "a\"",
    "\"\\\"",
    "\"\\x00\"",
    "\"\\a\"",
    "\"\\u\"",
    "\"\\u12\"",
    "\"\\u12G4\"",
    "\"\\U0041\"",
    "\"\t\"",
    "\"\n\"",
    "\"\u{0}\"",
    "\"\u{1f}\"",
    "\"\\ud800\\u\"",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[,]",
    "[1,,2]",
    "[1 2]",
    "[1:2]",
    "[\"a\":1]",
    "[1}",
    "[[1]",
    "{",
    "}",
    "{1:1}",
    "{a:1}",
    "{'a':1}",
    "{\"a\"}",
    "{\"a\" 1}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{,\"a\":1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1,,\"b\":2}",
    "{\"a\":1]",
    "{\"a\"::1}",
    "{\"a\",1}",
    "{null:1}",
    "1/*a*/",
    "1//a",
    "#1",
    "\u{feff}1",
    "\u{a0}1",
    "\u{2060}1",
    "\u{c}1",
    "１",
    "\u{0}",
    "1\u{0}",
    "<null>",
    "*",
    "[*]",
    "$",
    "\\u0031",
    "⍂",
    "é",
];

fn event_with(value: &str) -> String {
    format!(
        r#"{{"session_id":"73faaead-e363-57a4-bb12-f6f6364f385e","category":"edge case","name":"value","timestamp":"2024-01-01 00:00:00","data":{{"value":{value}}}}}"#
    )
}

fn is_alive(eye: &Eye, app: &App) {
    eye.post("/events")
        .token(&app.token)
        .body(event_with("\"alive\""), "application/json")
        .send()
        .expect(201);
    eye.get("/search?q=alive&limit=1")
        .token(&app.token)
        .send()
        .expect(200);
}

#[test]
fn every_value_of_jsons_grammar_is_kept_as_it_was_written() {
    let mut eye = Eye::start();
    let app = eye.application("edges");
    let mut stored = Vec::new();
    for value in VALID {
        let answer = eye
            .post("/events")
            .token(&app.token)
            .body(event_with(value), "application/json")
            .send();
        assert_eq!(answer.status, 201, "{value}: {}", answer.text());
        stored.push((value, answer.json()["id"].as_str().unwrap().to_owned()));
    }
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        for (value, id) in &stored {
            let event = json_text::fields(
                &eye.get(&format!("/events/{id}"))
                    .token(&app.token)
                    .send()
                    .expect(200)
                    .text(),
            );
            let expected = json_text::compact(&format!("{{\"value\":{value}}}"));
            assert_eq!(json_text::compact(&event["data"]), expected);
        }
        // What is odd to index is counted like everything else.
        assert_eq!(eye.count(&app.token, "*"), VALID.len() as u64);
        assert_eq!(eye.count(&app.token, "name:value"), VALID.len() as u64);
        let listed = eye
            .get("/events?limit=1000")
            .token(&app.token)
            .send()
            .expect(200)
            .raw_events();
        assert_eq!(listed.len(), VALID.len());
        let searched = eye
            .get("/search?q=*&limit=1000")
            .token(&app.token)
            .send()
            .expect(200)
            .raw_events();
        assert_eq!(searched.len(), VALID.len());
    }
}

#[test]
fn what_is_no_json_is_refused_and_the_server_lives() {
    let eye = Eye::start();
    let app = eye.application("edges");
    for value in INVALID {
        let answer = eye
            .post("/events")
            .token(&app.token)
            .body(event_with(value), "application/json")
            .send();
        answer.problem(400, "malformed_json");
        // Within NDJSON it is one refused line; a value that holds an end of line makes two.
        let lines = format!("{}\n{}\n", event_with("1"), event_with(value));
        let answer = eye
            .post("/events")
            .token(&app.token)
            .body(lines, "application/x-ndjson")
            .send()
            .expect(207)
            .json();
        assert_eq!(answer["accepted"], 1, "{value:?}: {answer}");
        assert_eq!(
            (&answer["errors"][0]["index"], &answer["errors"][0]["code"]),
            (&1.into(), &"malformed_json".into()),
            "{value:?}"
        );
    }
    is_alive(&eye, &app);
    assert_eq!(eye.count(&app.token, "*"), INVALID.len() as u64 + 1);
}

#[test]
fn every_beginning_of_an_event_is_refused() {
    let eye = Eye::start();
    let app = eye.application("edges");
    let event = event_with(r#"["é\u00e9",{"a":-1.5e+3,"b":[true,null]}]"#);
    for (end, _) in event.char_indices() {
        eye.post("/events")
            .token(&app.token)
            .body(&event[..end], "application/json")
            .send()
            .problem(400, "malformed_json");
    }
    for rest in ["}", "]", ",", "{}", "x", "\u{0}", "\u{feff}"] {
        eye.post("/events")
            .token(&app.token)
            .body(event.clone() + rest, "application/json")
            .send()
            .problem(400, "malformed_json");
    }
    is_alive(&eye, &app);
}

#[test]
fn invalid_utf_8_is_refused_and_the_server_lives() {
    let eye = Eye::start();
    let app = eye.application("edges");
    for bytes in [
        &[0xff][..],
        &[0xc0, 0xaf],
        &[0xe5],
        &[0xed, 0xa0, 0x80],
        &[0xf4, 0x90, 0x80, 0x80],
        &[0xf8, 0x88, 0x80, 0x80, 0x80],
        &[0x80],
        &[0xc3],
    ] {
        let event = event_with("\"@\"");
        let (before, after) = event.split_once('@').unwrap();
        let body = [before.as_bytes(), bytes, after.as_bytes()].concat();
        let answer = eye
            .post("/events")
            .token(&app.token)
            .body(body.clone(), "application/json")
            .send();
        assert_eq!(answer.status, 400, "{bytes:x?}: {}", answer.text());
        let lines = [event_with("1").as_bytes(), b"\n", &body, b"\n"].concat();
        let answer = eye
            .post("/events")
            .token(&app.token)
            .body(lines, "application/x-ndjson")
            .send()
            .expect(207)
            .json();
        assert_eq!(answer["rejected"], 1, "{bytes:x?}: {answer}");
    }
    // UTF-16 and UTF-32 are not UTF-8 either.
    for wide in [
        event_with("1")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<u8>>(),
        event_with("1")
            .chars()
            .flat_map(|c| u32::from(c).to_be_bytes())
            .collect(),
    ] {
        let answer = eye
            .post("/events")
            .token(&app.token)
            .body(wide, "application/json")
            .send();
        assert_eq!(answer.status, 400);
    }
    is_alive(&eye, &app);
}

#[test]
fn what_may_go_either_way_crashes_nothing() {
    let eye = Eye::start();
    let app = eye.application("edges");
    let deep_arrays = "[".repeat(500) + &"]".repeat(500);
    let deep_objects = "{\"a\":".repeat(100_000);
    let many_keys = format!(
        "{{{}}}",
        (0..5_000)
            .map(|n| format!("\"k{n}\":{n}"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let long_number = "1".repeat(50_000);
    let long_exponent = format!("1e{}", "9".repeat(10_000));
    let long_word = format!("\"{}\"", "x".repeat(100_000));
    let long_key = format!("{{\"{}\":1}}", "k".repeat(100_000));
    let marks = format!("\"a{}\"", "\u{301}".repeat(50_000));
    let many_strings = format!("[{}]", vec!["\"a\""; 50_000].join(","));
    for value in [
        deep_arrays,
        deep_objects,
        many_keys,
        long_number,
        long_exponent,
        long_word,
        long_key,
        marks,
        many_strings,
    ] {
        let answer = eye
            .post("/events")
            .token(&app.token)
            .body(event_with(&value), "application/json")
            .send();
        assert!(
            matches!(answer.status, 201 | 400 | 413),
            "{}: {}",
            answer.status,
            answer.text()
        );
    }
    let bom = [b"\xef\xbb\xbf", event_with("1").as_bytes()].concat();
    let answer = eye
        .post("/events")
        .token(&app.token)
        .body(bom, "application/json")
        .send();
    assert!(matches!(answer.status, 201 | 400), "{}", answer.text());
    is_alive(&eye, &app);
    // Whatever was taken can be read, counted and listed.
    let listed = eye
        .get("/events?limit=1000")
        .token(&app.token)
        .send()
        .expect(200)
        .raw_events();
    assert_eq!(eye.count(&app.token, "*"), listed.len() as u64);
}
