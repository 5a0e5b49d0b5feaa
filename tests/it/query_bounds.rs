use serde_json::{Map, Value, json};
use support::{Eye, Launch, events};

const SESSION: &str = "e2085be5-9137-4e4e-80b5-f1ffddc25423";

/// So many events of so many fields each, no two of which have the same name.
fn events_of(count: usize, fields: usize) -> Vec<String> {
    let event = |number: usize| {
        let data: Map<String, Value> = (0..fields)
            .map(|field| (format!("f{number}x{field}"), json!("zebra")))
            .collect();
        let mut event = events::plain(SESSION);
        event["data"] = json!(data);
        event.to_string()
    };
    (0..count).map(event).collect()
}

#[test]
fn a_query_past_its_deadline_says_so_and_the_next_one_is_answered() {
    let mut eye = Eye::start();
    let app = eye.application("web");
    eye.store(&app, &events_of(3000, 10));
    eye.wait_until_indexed();
    eye.stop();
    let eye = Launch::new()
        .data(eye.data())
        .variable("EYE_QUERY_DEADLINE", "1ms")
        .start();
    // A thousand events are read from the log, and the word is looked for in each of their fields.
    let slow = eye
        .get("/search?q=zebra&limit=1000&highlight=true")
        .token(&app.token)
        .send();
    let problem = slow.problem(504, "query_timeout");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("query_deadline"),
        "{problem}"
    );
    eye.get("/me").token(&app.token).send().expect(200);
}

#[test]
fn an_answer_that_would_be_cut_is_an_error_that_names_its_bound() {
    let eye = Eye::start();
    let app = eye.application("web");
    eye.store(&app, &events_of(25, 100));
    let problem = eye
        .get("/facets")
        .token(&app.token)
        .send()
        .problem(400, "query_bound");
    assert_eq!(
        (&problem["bound"], &problem["limit"]),
        (&json!("facet_fields"), &json!(2000))
    );
}

/// So many events of a thousand words each, all different: `w0000000`, `w0000001`, …
fn events_of_words(count: usize) -> Vec<String> {
    let event = |number: usize| {
        let words: Vec<String> = (number * 1000..(number + 1) * 1000)
            .map(|word| format!("w{word:07}"))
            .collect();
        let mut event = events::plain(SESSION);
        event["data"] = json!({"text": words.join(" ")});
        event.to_string()
    };
    (0..count).map(event).collect()
}

#[test]
fn a_clause_stands_for_so_many_words_or_is_an_error_that_names_it() {
    let eye = Eye::start();
    let app = eye.application("web");
    eye.store(&app, &events_of_words(99));
    eye.wait_until_indexed();
    let count = |q: &str| {
        let answer = eye
            .get(&format!("/search?limit=0&count=true&q={q}"))
            .token(&app.token)
            .send();
        answer.expect(200).json()["count"].as_u64().unwrap()
    };
    assert_eq!(count("w*"), 99);
    eye.store(&app, &events_of_words(102)[99..]);
    // 102,000 words by now, whichever search segments they are in.
    for (q, clause) in [("w*", "w*"), ("page%20OR%20w?*", "w?*"), ("NOT%20w*", "w*")] {
        let problem = eye
            .get(&format!("/search?q={q}"))
            .token(&app.token)
            .send()
            .problem(400, "query_bound");
        assert_eq!(
            (&problem["bound"], &problem["limit"], &problem["clause"]),
            (&json!("query_terms"), &json!(100_000), &json!(clause))
        );
    }
    assert_eq!(count("w00*"), 100);
    // Another digit for the thousands, the ten or the hundred thousands; for the rest it is the same event.
    assert_eq!(count("w0000001~1"), 1 + 9 + 9 + 1);
    // What a field's own values answer needs no words.
    assert_eq!(count("text:w*"), 102);
    let limits = eye
        .get("/limits")
        .token(&app.token)
        .send()
        .expect(200)
        .json();
    assert_eq!(limits["query_terms"]["value"], 100_000);
}
