//! The questions: words, phrases, values and sessions drawn from the events with a fixed seed, sorted by how often the
//! store says that they occur.

use super::asking::Figure;
use super::sets::Set;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{Eye, Random, scanner};

/// How many of each kind are asked.
pub(crate) const EACH: usize = 50;
/// So many draws have to be enough.
const DRAWS_MAX: usize = 20_000;

/// A value of a field, in a tenth of the events' time.
#[derive(Debug, Clone)]
pub(crate) struct Ranged {
    pub(crate) field: &'static str,
    pub(crate) value: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

/// A word that many events have, with the field whose values they are counted by.
#[derive(Debug, Clone)]
pub(crate) struct Frequent {
    pub(crate) word: String,
    pub(crate) field: &'static str,
}

/// What is asked.
pub(crate) struct Questions {
    /// Words of 2 to 50 events.
    pub(crate) rare: Vec<String>,
    /// Words of at least a hundredth of a set.
    pub(crate) frequent: Vec<Frequent>,
    /// Two or three words in a row, of 20 to 5,000 events.
    pub(crate) phrases: Vec<String>,
    pub(crate) ranged: Vec<Ranged>,
    pub(crate) sessions: Vec<String>,
}

impl Questions {
    /// Draws them from sets that are in the store already.
    pub(crate) fn draw(eye: &Eye, token: &str, sets: &[Set]) -> Questions {
        let mut random = Random::new(11);
        let mut all = Questions {
            rare: Vec::new(),
            frequent: Vec::new(),
            phrases: Vec::new(),
            ranged: Vec::new(),
            sessions: Vec::new(),
        };
        let mut asked = BTreeSet::new();
        for draw in 0..DRAWS_MAX {
            if all.is_complete() {
                break;
            }
            // Every set in turn.
            let set = &sets[draw % sets.len()];
            let event = event_of(set, random.index(set.events.len()));
            all.take_words(eye, token, set, &event, &mut random, &mut asked);
            all.take_value(eye, token, set, &event, &mut random, &mut asked);
            let session = event["session_id"].as_str().unwrap().to_owned();
            if all.sessions.len() < EACH && asked.insert(session.clone()) {
                all.sessions.push(session);
            }
        }
        assert!(all.is_complete(), "the events hold too few words");
        all
    }

    fn is_complete(&self) -> bool {
        [
            self.rare.len(),
            self.frequent.len(),
            self.phrases.len(),
            self.ranged.len(),
            self.sessions.len(),
        ]
        .iter()
        .all(|count| *count >= EACH)
    }

    fn take_words(
        &mut self,
        eye: &Eye,
        token: &str,
        set: &Set,
        event: &Value,
        random: &mut Random,
        asked: &mut BTreeSet<String>,
    ) {
        let mut strings = Vec::new();
        strings_of(&event["data"], &mut strings);
        if strings.is_empty() {
            return;
        }
        let words = scanner::words(random.pick::<String>(&strings));
        if words.is_empty() {
            return;
        }
        let start = random.index(words.len());
        let word = &words[start];
        if (self.rare.len() < EACH || self.frequent.len() < EACH) && asked.insert(word.clone()) {
            let count = eye.count(token, &quoted(word));
            if (2..=50).contains(&count) && self.rare.len() < EACH {
                self.rare.push(word.clone());
            } else if count >= set.events.len() as u64 / 100 && self.frequent.len() < EACH {
                self.frequent.push(Frequent {
                    word: word.clone(),
                    field: set.field,
                });
            }
        }
        let length = (2 + random.index(2)).min(words.len() - start);
        let phrase = words[start..start + length].join(" ");
        if length > 1 && self.phrases.len() < EACH && asked.insert(phrase.clone()) {
            let count = eye.count(token, &quoted(&phrase));
            if (20..=5_000).contains(&count) {
                self.phrases.push(phrase);
            }
        }
    }

    fn take_value(
        &mut self,
        eye: &Eye,
        token: &str,
        set: &Set,
        event: &Value,
        random: &mut Random,
        asked: &mut BTreeSet<String>,
    ) {
        let mut value = &event["data"];
        for key in set.field.split('.') {
            value = &value[key];
        }
        let Some(value) = value.as_str().filter(|value| !value.contains(['"', '\\'])) else {
            return;
        };
        if self.ranged.len() >= EACH || !asked.insert(format!("{}={value}", set.field)) {
            return;
        }
        let count = eye.count(token, &format!("data.{}:{}", set.field, quoted(value)));
        if count < 20 {
            return;
        }
        // Sets are in the order of time.
        let tenth = set.events.len() / 10;
        let start = random.index(set.events.len() - tenth);
        self.ranged.push(Ranged {
            field: set.field,
            value: value.to_owned(),
            from: time_of(&event_of(set, start)),
            to: time_of(&event_of(set, start + tenth)),
        });
    }

    /// Returns questions and figures for `benches/peers`.
    pub(crate) fn json(&self, figures: &[(&'static str, Figure)]) -> Value {
        let figures: serde_json::Map<String, Value> = figures
            .iter()
            .map(|(name, figure)| {
                let row = json!({"p50": figure.p50, "p95": figure.p95, "hits": figure.hits});
                ((*name).to_owned(), row)
            })
            .collect();
        json!({
            "rare": self.rare, "phrases": self.phrases, "sessions": self.sessions, "figures": figures,
            "frequent": self.frequent.iter().map(|one| json!({"word": one.word, "field": one.field})).collect::<Vec<_>>(),
            "ranged": self.ranged.iter().map(|one| json!({
                "field": one.field, "value": one.value, "from": one.from, "to": one.to,
            })).collect::<Vec<_>>(),
        })
    }
}

/// Returns a word or a phrase as a query.
pub(crate) fn quoted(words: &str) -> String {
    format!("\"{words}\"")
}

fn event_of(set: &Set, number: usize) -> Value {
    serde_json::from_slice(set.events.lines(number..number + 1)).unwrap()
}

/// Returns when an event happened, as parameters have it.
fn time_of(event: &Value) -> String {
    let time = event["timestamp"].as_str().unwrap().replace(' ', "T");
    if time.ends_with('Z') || time[10..].contains(['+', '-']) {
        time
    } else {
        format!("{time}Z")
    }
}

fn strings_of(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(string) => found.push(string.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings_of(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| strings_of(value, found)),
        _ => {}
    }
}
