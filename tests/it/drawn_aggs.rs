//! Aggregations drawn from a seed: whatever is asked, the answer is an answer or says what is wrong, and shows nothing of others.
//!
//! 600 questions; the full form: `EYE_AGGS=40000 cargo test --workspace --test it drawn_aggs`.

use serde_json::{Map, Value, json};
use support::{ADMIN_TOKEN, Eye, Launch, Random};

/// Stands in every value of the other application, and of the session that was erased.
const SECRET: &str = "hushhush";

const FIELDS: [&str; 12] = [
    "category",
    "name",
    "application",
    "session_id",
    "timestamp",
    "offset",
    "n",
    "mixed",
    "data.tags",
    "deep.er",
    "secret",
    "nowhere",
];

fn event(random: &mut Random, session: &str, secret: bool) -> String {
    let mixed = [json!(1), json!("1"), json!(true), json!(null), json!(2.5)];
    let n = [
        json!(3),
        json!(0.25),
        json!(1e300),
        json!(-1e300),
        json!(u64::MAX),
    ];
    let label = |number: u64| match secret {
        true => format!("{SECRET}{number}"),
        false => format!("open{number}"),
    };
    let mut data = json!({
        "n": random.pick(&n), "mixed": random.pick(&mixed), "tags": ["red", label(random.below(5))],
        "deep": {"er": label(random.below(50))},
    });
    if secret {
        data["secret"] = json!(SECRET);
    }
    json!({
        "session_id": session, "category": label(random.below(5)), "name": label(random.below(9)), "data": data,
        "timestamp": format!("2021-01-{:02}T00:00:00Z", 1 + random.below(28)),
    })
    .to_string()
}

struct Drawing(Random);

impl Drawing {
    fn number(&mut self) -> Value {
        let odd = [
            json!(0),
            json!(-1),
            json!(1e-300),
            json!(1e300),
            json!(-1e300),
            json!(65_000),
            json!(u64::MAX),
            json!(i64::MIN),
            json!("1"),
            json!("x"),
            json!(null),
            json!([]),
        ];
        match self.0.one_in(2) {
            true => self.0.pick(&odd).clone(),
            false => json!(self.0.fraction() * 200.0 - 50.0),
        }
    }

    fn bounds(&mut self) -> Value {
        json!({"min": self.number(), "max": self.number()})
    }

    fn some<const N: usize>(&mut self, texts: [&str; N]) -> Value {
        json!(texts[self.0.index(N)])
    }

    /// A member's value, sound or not.
    fn member(&mut self, name: &str) -> Value {
        let few = self.0.index(4);
        match name {
            "field" => self.some(FIELDS),
            "missing" | "interval" | "sigma" => self.number(),
            "size" | "shard_size" => {
                let sizes = [
                    json!(0),
                    json!(1),
                    json!(10),
                    json!(65_000),
                    json!(u32::MAX),
                ];
                self.0.pick(&sizes).clone()
            }
            "min_doc_count" => {
                let counts = [json!(0), json!(1), json!(7), json!(u64::MAX)];
                self.0.pick(&counts).clone()
            }
            "hard_bounds" | "extended_bounds" => self.bounds(),
            "offset" => self.some(["1h", "-1d", "x", "99999999999999d"]),
            "fixed_interval" => self.some(["1d", "1h", "1ms", "0d", "-1d", "99999999999999999d"]),
            "keyed" => json!(self.0.one_in(2)),
            "percents" => json!((0..few).map(|_| self.number()).collect::<Vec<_>>()),
            "ranges" => {
                let range = |drawing: &mut Self| match drawing.0.index(3) {
                    0 => json!({"from": drawing.number()}),
                    1 => json!({"to": drawing.number()}),
                    _ => json!({"from": drawing.number(), "to": drawing.number()}),
                };
                json!((0..few).map(|_| range(self)).collect::<Vec<_>>())
            }
            "order" => {
                let by = self.some(["_key", "_count", "k0", "x"]);
                json!({by.as_str().unwrap(): self.some(["asc", "desc"])})
            }
            "include" | "exclude" => self.some([".*", "[", "(a|b){1000}", "h.*"]),
            "terms" => {
                let fields = (0..few).map(|_| json!({"field": self.some(FIELDS)}));
                json!(fields.collect::<Vec<_>>())
            }
            _ => {
                let source = |drawing: &mut Self, place: usize| {
                    let kind = drawing.some(["terms", "histogram", "date_histogram"]);
                    let how = match kind.as_str().unwrap() {
                        "terms" => json!({"field": drawing.some(FIELDS), "missing_bucket": true}),
                        "histogram" => {
                            json!({"field": drawing.some(FIELDS), "interval": drawing.number()})
                        }
                        _ => json!({"field": drawing.some(FIELDS), "fixed_interval": "1d"}),
                    };
                    json!({format!("s{place}"): {kind.as_str().unwrap(): how}})
                };
                json!(
                    (0..few)
                        .map(|place| source(self, place))
                        .collect::<Vec<_>>()
                )
            }
        }
    }

    /// A kind with the members it must have, and some that it may have.
    fn agg(&mut self, depth: usize) -> Value {
        let kinds: [(&str, &[&str], &[&str]); 10] = [
            ("avg", &["field"], &["missing"]),
            ("stats", &["field"], &["missing"]),
            ("extended_stats", &["field"], &["sigma"]),
            ("cardinality", &["field"], &["missing"]),
            ("percentiles", &["field"], &["percents", "keyed"]),
            (
                "terms",
                &["field"],
                &[
                    "size",
                    "shard_size",
                    "min_doc_count",
                    "order",
                    "missing",
                    "include",
                    "exclude",
                ],
            ),
            (
                "multi_terms",
                &["terms"],
                &["size", "min_doc_count", "order"],
            ),
            ("range", &["field", "ranges"], &["keyed"]),
            (
                "histogram",
                &["field", "interval"],
                &[
                    "offset",
                    "min_doc_count",
                    "hard_bounds",
                    "extended_bounds",
                    "keyed",
                ],
            ),
            ("composite", &["sources"], &["size"]),
        ];
        let (mut kind, mut needs, mut may) = kinds[self.0.index(kinds.len())];
        let mut members = Map::new();
        if self.0.one_in(8) {
            (kind, needs) = ("date_histogram", &["fixed_interval"]);
            may = &[
                "offset",
                "min_doc_count",
                "hard_bounds",
                "extended_bounds",
                "keyed",
            ];
            members.insert("field".to_owned(), json!("timestamp"));
        }
        for name in needs {
            members.insert((*name).to_owned(), self.member(name));
        }
        if self.0.one_in(2) {
            let name = may[self.0.index(may.len())];
            members.insert(name.to_owned(), self.member(name));
        }
        let mut agg = Map::new();
        agg.insert(kind.to_owned(), Value::Object(members));
        if depth < 4 && self.0.one_in(3) {
            agg.insert("aggs".to_owned(), json!({"k0": self.agg(depth + 1)}));
        }
        Value::Object(agg)
    }
}

fn store(seed: u64) -> (Eye, String) {
    let eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "128KiB")
        .start();
    let (shop, blog) = (eye.application("shop"), eye.application("blog"));
    let mut random = Random::new(seed);
    let sessions: Vec<String> = (0..50).map(|_| random.uuid()).collect();
    let (erased, of_blog) = (random.uuid(), random.uuid());
    for _ in 0..12 {
        let mut lines: Vec<String> = (0..90)
            .map(|_| {
                let session = random.pick::<String>(&sessions).clone();
                event(&mut random, &session, false)
            })
            .collect();
        lines.push(event(&mut random, &erased, true));
        eye.store(&shop, &lines);
        let lines: Vec<String> = (0..30)
            .map(|_| event(&mut random, &of_blog, true))
            .collect();
        eye.store(&blog, &lines);
    }
    eye.wait_until_indexed();
    let erase = eye.request("DELETE", &format!("/sessions/{erased}"));
    erase.token(ADMIN_TOKEN).send().expect(202);
    (eye, shop.token)
}

#[test]
fn no_aggregation_stops_the_service_or_shows_what_is_anothers() {
    let count: u64 = std::env::var("EYE_AGGS").map_or(600, |text| text.parse().unwrap());
    let mut drawing = Drawing(Random::announced(20_261_128));
    let (eye, token) = store(3);
    // What would list a dictionary.
    for field in FIELDS {
        for kind in ["terms", "multi_terms"] {
            let mut agg = match kind {
                "terms" => json!({"field": field}),
                _ => json!({"terms": [{"field": field}, {"field": "name"}]}),
            };
            agg["size"] = json!(10_000);
            agg["min_doc_count"] = json!(0);
            let asked = json!({"limit": 0, "aggs": {"a": {kind: agg}}});
            let answer = eye.post("/search").token(&token).json(&asked).send();
            assert!(
                !answer.text().contains(SECRET),
                "{asked}\n{}",
                answer.text()
            );
        }
    }
    let (mut answered, mut told) = (0, 0);
    for _ in 0..count {
        let mut aggs = Map::new();
        for place in 0..=drawing.0.index(2) {
            aggs.insert(format!("k{place}"), drawing.agg(1));
        }
        let q = drawing.some(["*", "red", "nosuchword"]);
        let asked = json!({"q": q, "limit": 0, "aggs": aggs});
        let answer = eye.post("/search").token(&token).json(&asked).send();
        let text = answer.text();
        assert!(!text.contains(SECRET), "{asked}\n{text}");
        match answer.status {
            200 => answered += 1,
            400 => told += 1,
            status => panic!("{status}: {asked}\n{text}"),
        }
    }
    // Neither all sound nor all refused.
    assert!(
        answered > count / 5 && told > count / 5,
        "{answered} answered, {told} refused"
    );
}
