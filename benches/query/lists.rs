//! `GET /events`: 20 rows, by any filter, in any order.

use super::asking::{say, timed};
use super::questions::{Questions, quoted};
use support::{Eye, Request};
use workload::Report;

/// Names and values.
type Parameters = Vec<(&'static str, String)>;

const ORDERS: [&str; 3] = ["-session_id,-timestamp", "timestamp", "-timestamp"];

/// Asks for the first page of every list, filter by filter.
pub(crate) fn measure(
    section: &str,
    eye: &Eye,
    token: &str,
    questions: &Questions,
    report: &mut Report,
) {
    let labels = |field: &str| -> Vec<String> {
        let facets = eye.get("/facets").token(token).query("field", field);
        let values = facets.query("size", "50").send().expect(200).json();
        let values = values["fields"][0]["values"].as_array().unwrap().clone();
        let value = |value: &serde_json::Value| value["value"].as_str().unwrap().to_owned();
        values.iter().map(value).collect()
    };
    let one = |name: &'static str, values: Vec<String>| {
        let filters = values
            .into_iter()
            .map(|value| vec![(name, value)])
            .collect();
        (name, filters)
    };
    let times = questions.ranged.iter();
    let filters: Vec<(&str, Vec<Parameters>)> = vec![
        ("no filter", vec![Vec::new()]),
        one("session_id", questions.sessions.clone()),
        one("category", labels("category")),
        one("name", labels("name")),
        one("application", labels("application")),
        one(
            "timestamp_after",
            times.clone().map(|one| one.from.clone()).collect(),
        ),
        one(
            "timestamp_before",
            times.clone().map(|one| one.to.clone()).collect(),
        ),
        (
            "both times",
            times
                .clone()
                .map(|one| {
                    vec![
                        ("timestamp_after", one.from.clone()),
                        ("timestamp_before", one.to.clone()),
                    ]
                })
                .collect(),
        ),
        one(
            "q",
            questions.rare.iter().map(|word| quoted(word)).collect(),
        ),
        (
            "q, frequent",
            questions
                .frequent
                .iter()
                .map(|one| vec![("q", quoted(&one.word))])
                .collect(),
        ),
        (
            "q, a field",
            times
                .map(|one| vec![("q", format!("data.{}:{}", one.field, quoted(&one.value)))])
                .collect(),
        ),
    ];
    let (mut worst, mut where_worst) = (0.0, String::new());
    for (filter, each) in filters {
        for order in ORDERS {
            let requests: Vec<Request<'_>> = each
                .iter()
                .map(|parameters| {
                    let all = eye.get("/events").token(token).query("limit", "20");
                    let ordered = all.query("order", order);
                    parameters
                        .iter()
                        .fold(ordered, |request, (name, value)| request.query(name, value))
                })
                .collect();
            let figure = timed(&requests);
            let name = format!("/events, {filter}, {order}");
            say(section, &name, figure, report);
            if figure.p95 > worst {
                (worst, where_worst) = (figure.p95, name);
            }
        }
    }
    report.text(
        section,
        "slowest list",
        format!("p95 {worst:.2} ms: {where_worst}"),
    );
}
