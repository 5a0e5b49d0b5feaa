//! Events for the tests: a fixture written by hand, and as many as one likes made from a seed.

use crate::{Random, time};
use serde_json::{Value, json};

/// 2021-01-01T00:00:00Z in microseconds.
const BEGINNING: i64 = 1_609_459_200_000_000;

/// Returns the lines of `tests/fixtures/varied.ndjson`: one event each of everything that is likely to be got wrong (scripts,
/// folding, numbers, nesting, escapes, ties in time, white space).
pub fn varied() -> Vec<String> {
    include_str!("../fixtures/varied.ndjson")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Returns an event with everything required and nothing else.
pub fn plain(session: &str) -> Value {
    json!({
        "session_id": session,
        "category": "page interaction",
        "name": "pageview",
        "data": {"host": "www.consumeraffairs.com", "path": "/"},
        "timestamp": "2021-01-01 09:15:27.243860",
    })
}

/// Returns `line` with an id of its own, put in as text so that the rest stays as it was.
pub fn with_id(line: &str, id: &str) -> String {
    let fields = line
        .trim_start()
        .strip_prefix('{')
        .expect("an event is an object");
    format!("{{\"id\":\"{id}\",{fields}")
}

/// Words from which strings are made, frequent ones first.
const VOCABULARY: &[&str] = &[
    "the",
    "and",
    "to",
    "delivery",
    "late",
    "refund",
    "order",
    "solar",
    "energy",
    "review",
    "warranty",
    "Café",
    "naïve",
    "Straße",
    "Überfall",
    "ŁÓDŹ",
    "東京",
    "京都",
    "検索",
    "กรุงเทพ",
    "Привет",
    "ёлка",
    "Σίσυφος",
    "안녕",
    "नमस्ते",
    "مرحبا",
    "foo_bar",
    "a@b.example",
    "10.0.0.1",
    "page-view",
    "x²",
    "2021",
    "007",
    "AND",
    "NOT",
    "don't",
    "e\u{301}te\u{301}",
    "😀",
    "zymurgy",
    "quixotic",
];

/// Makes events from a seed: few sessions, many ties in time, strings of a small vocabulary whose words are frequent or rare,
/// now and then nested.
#[derive(Debug)]
pub struct Generator {
    random: Random,
    sessions: Vec<String>,
    made: i64,
}

impl Generator {
    /// Returns a generator of events of `sessions` sessions.
    pub fn new(mut random: Random, sessions: usize) -> Generator {
        let sessions = (0..sessions).map(|_| random.uuid()).collect();
        Generator {
            random,
            sessions,
            made: 0,
        }
    }

    /// Returns the next `count` events, each a line with an id of its own, and those ids.
    pub fn lines(&mut self, count: usize) -> (Vec<String>, Vec<String>) {
        (0..count)
            .map(|_| {
                let event = self.event();
                let id = self.random.uuid();
                (with_id(&event.to_string(), &id), id)
            })
            .unzip()
    }

    /// Returns the next event.
    pub fn event(&mut self) -> Value {
        self.made += 1;
        // Time goes on by whole seconds, rarely, so that ties are many; now and then an event comes in late.
        let late = if self.random.one_in(20) {
            -3_600_000_000 * (1 + i64::from(self.random.one_in(2)))
        } else {
            0
        };
        let timestamp = BEGINNING + self.made / 7 * 1_000_000 + late;
        let session = self.random.index(self.sessions.len());
        let mut data = serde_json::Map::new();
        data.insert("text".into(), self.text(12).into());
        data.insert("n".into(), self.random.below(100).into());
        if self.random.one_in(2) {
            data.insert(
                "tags".into(),
                json!([self.text(2), self.text(2), self.random.below(10), null]),
            );
        }
        if self.random.one_in(3) {
            data.insert(
                "form".into(),
                json!({"late": self.text(3), "inner": {"the": self.text(4), "ok": true}}),
            );
        }
        json!({
            "session_id": self.sessions[session],
            "category": *self.random.pick(&["page interaction", "form interaction", "Café", "検索"]),
            "name": *self.random.pick(&["pageview", "cta click", "submit", "late delivery"]),
            "data": data,
            "timestamp": time::utc(timestamp),
        })
    }

    fn text(&mut self, words_max: u64) -> String {
        let count = 1 + self.random.below(words_max);
        let words: Vec<&str> = (0..count)
            .map(|_| {
                // The square makes the first words of the list frequent and the last ones rare.
                let fraction = self.random.fraction();
                VOCABULARY[((fraction * fraction) * VOCABULARY.len() as f64) as usize]
            })
            .collect();
        words.join(if self.random.one_in(5) { ", " } else { " " })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scanner, json_text};

    #[test]
    fn the_fixture_and_the_made_events_can_be_read_by_the_tests_own_means() {
        let varied = varied();
        let with_ids: Vec<String> = varied.iter().map(|line| with_id(line, "an id")).collect();
        assert!(
            with_ids
                .iter()
                .all(|line| json_text::fields(line)["id"] == "\"an id\"")
        );
        let scanner = Scanner::of(&with_ids);
        assert_eq!(scanner.len(), varied.len());
        assert_eq!(scanner.holding("late delivery").len(), 2);
        assert!(
            scanner
                .words()
                .iter()
                .filter(|word| !word.is_ascii())
                .count()
                > 50
        );

        let (lines, ids) = Generator::new(Random::new(1), 5).lines(500);
        assert_eq!((lines.len(), ids.len()), (500, 500));
        let scanner = Scanner::of(&lines);
        assert!(scanner.holding("the").len() > 100 && scanner.holding("quixotic").len() < 100);
        assert!(!scanner.holding("quixotic").is_empty());
    }
}
