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
