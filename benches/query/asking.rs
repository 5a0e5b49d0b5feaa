//! Asks each question so many times, one after the other on one connection, and says how long the answers took.

use super::questions::{Questions, quoted};
use std::time::Instant;
use support::{Eye, Request};
use workload::Report;

/// Rounds over all questions of a kind; a first one, to warm up, is not counted.
const ROUNDS: usize = 4;

/// How long a kind of question took, in milliseconds, and how many hits it had at the median.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) hits: u64,
}

/// Asks the eight questions, and the bare request beside them. Returns the eight.
pub(crate) fn measure<'e>(
    section: &str,
    eye: &'e Eye,
    token: &str,
    questions: &Questions,
    report: &mut Report,
) -> Vec<(&'static str, Figure)> {
    let search = |q: &str| {
        eye.get("/search")
            .token(token)
            .query("q", q)
            .query("limit", "20")
    };
    let facets = |field: &str| {
        eye.get("/facets")
            .token(token)
            .query("field", field)
            .query("size", "10")
    };
    let frequent = |build: &dyn Fn(&str, &str) -> Request<'e>| {
        let each = questions.frequent.iter();
        timed(
            &each
                .map(|one| build(&quoted(&one.word), one.field))
                .collect::<Vec<_>>(),
        )
    };
    let words = |words: &[String]| {
        timed(
            &words
                .iter()
                .map(|word| search(&quoted(word)))
                .collect::<Vec<_>>(),
        )
    };
    let interval = interval_of(eye, token);
    let ranged: Vec<Request<'_>> = questions
        .ranged
        .iter()
        .map(|one| {
            search(&format!("data.{}:{}", one.field, quoted(&one.value)))
                .query("from", &one.from)
                .query("to", &one.to)
        })
        .collect();
    let sessions: Vec<Request<'_>> = questions
        .sessions
        .iter()
        .map(|id| eye.get(&format!("/sessions/{id}/events")).token(token))
        .collect();
    let bare: Vec<Request<'_>> = (0..50).map(|_| eye.get("/me").token(token)).collect();
    let figures = vec![
        ("q1 rare word, newest 20", words(&questions.rare)),
        ("q2 frequent word, newest 20", frequent(&|q, _| search(q))),
        ("q3 phrase, newest 20", words(&questions.phrases)),
        ("q4 field and time range, newest 20", timed(&ranged)),
        ("q5 a session in order", timed(&sessions)),
        (
            "q6 histogram by hour of a frequent word",
            frequent(&|q, _| {
                eye.get("/histogram")
                    .token(token)
                    .query("q", q)
                    .query("interval", interval)
            }),
        ),
        (
            "q7 top ten values, of a frequent word",
            frequent(&|q, field| facets(field).query("q", q)),
        ),
        (
            "q8 count by name, of a frequent word",
            frequent(&|q, _| facets("name").query("q", q)),
        ),
        ("q7 of everything", frequent(&|_, field| facets(field))),
        ("q8 of everything", frequent(&|_, _| facets("name"))),
    ];
    say(section, "bare request (/me)", timed(&bare), report);
    if interval != "1h" {
        report.text(
            section,
            "q6",
            format!("by {interval}: there are too many hours"),
        );
    }
    for (name, figure) in &figures {
        say(section, name, *figure, report);
    }
    figures
}

/// Returns the shortest interval, from an hour on, of which a histogram of everything has bars for.
fn interval_of(eye: &Eye, token: &str) -> &'static str {
    let fits = |interval: &&str| {
        let histogram = eye.get("/histogram").token(token);
        histogram.query("interval", interval).send().status == 200
    };
    ["1h", "1d", "1w"].into_iter().find(fits).unwrap_or("auto")
}

/// Adds a figure to the report.
pub(crate) fn say(section: &str, name: &str, figure: Figure, report: &mut Report) {
    report.text(
        section,
        name,
        format!("p50 {:.2} / p95 {:.2} ms", figure.p50, figure.p95),
    );
}

/// Sends the requests in turn, several rounds of them.
pub(crate) fn timed(requests: &[Request<'_>]) -> Figure {
    let (mut took, mut sizes) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for request in requests {
            let began = Instant::now();
            let answer = request.clone().send();
            let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
            assert_eq!(answer.status, 200, "{}", answer.text());
            if round > 0 {
                took.push(milliseconds);
            } else {
                let answer = answer.json();
                let rows = answer["events"].as_array().map_or(0, Vec::len) as u64;
                sizes.push(answer["total"].as_u64().unwrap_or(rows));
            }
        }
    }
    took.sort_by(f64::total_cmp);
    sizes.sort_unstable();
    Figure {
        p50: took[took.len() / 2],
        p95: took[took.len() * 95 / 100],
        hits: sizes[sizes.len() / 2],
    }
}
