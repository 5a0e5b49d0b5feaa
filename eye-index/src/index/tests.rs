//! Stories of an index over a log on a real folder.
#![allow(clippy::unwrap_used)]

mod merging;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc;

use eye_log::{ApplicationId, Batch, EventDraft, EventRules, LogConfig};
use serde_json::{Value, json};

use super::*;
use crate::search::parse::parse;
use crate::search::part::BLOCK_DOCS;

struct Store {
    folder: tempfile::TempDir,
    log: Log,
    index: Index,
}

fn open(folder: tempfile::TempDir) -> Store {
    open_with(folder, 64 << 10)
}

fn open_with(folder: tempfile::TempDir, segment_max_bytes: u64) -> Store {
    open_merging(folder, segment_max_bytes, usize::MAX)
}

/// Merges the shards of so many neighbouring segments.
fn open_merging(
    folder: tempfile::TempDir,
    segment_max_bytes: u64,
    merge_neighbours: usize,
) -> Store {
    let config = LogConfig {
        segment_max_bytes,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(&folder.path().join("log"), config).unwrap();
    let config = IndexConfig {
        merge_neighbours,
        ..IndexConfig::default()
    };
    let index = Index::open(&folder.path().join("index"), &log, config).unwrap();
    Store { folder, log, index }
}

impl Store {
    fn send(&self, events: &[(u128, &str, &str, &str)]) {
        self.send_as(ApplicationId(0), events);
    }

    fn send_as(&self, application: ApplicationId, events: &[(u128, &str, &str, &str)]) {
        let mut batch = Batch::new(application);
        let rules = EventRules {
            now: i64::MAX / 2,
            future_tolerance: 0,
            default_offset_seconds: 0,
            event_max_bytes: 1 << 20,
            depth_max: 64,
        };
        for (session, name, timestamp, data) in events {
            let quoted = |text: &str| format!("\"{text}\"");
            let (session, name, timestamp) = (
                quoted(&Uuid::from_u128(*session).to_string()),
                quoted(name),
                quoted(timestamp),
            );
            let draft = EventDraft {
                session_id: Some(&session),
                category: Some("\"Page View\""),
                name: Some(&name),
                data: Some(data),
                timestamp: Some(&timestamp),
                ..EventDraft::default()
            };
            batch.push(&draft.validate(&rules).unwrap());
        }
        let (sender, receiver) = mpsc::channel();
        self.log
            .append(batch, move |receipt| sender.send(receipt).unwrap())
            .unwrap();
        assert_eq!(receiver.recv().unwrap().unwrap().stored, events.len());
    }

    fn request(&self, q: &str, order: Order, limit: usize) -> SearchRequest {
        let end = self.log.reader().durable_end();
        assert_eq!(
            self.index
                .wait_for(Needs::Both, end, Duration::from_secs(20)),
            end,
            "{:?}",
            self.index.status()
        );
        SearchRequest {
            order,
            ..SearchRequest::new(parse(q).unwrap(), self.log.registry(), end, limit)
        }
    }

    fn found(&self, q: &str) -> Vec<Offset> {
        let request = self.request(q, Order::NewestFirst, 1000);
        let mut offsets: Vec<_> = self
            .index
            .search(&request)
            .unwrap()
            .hits
            .iter()
            .map(|hit| hit.offset)
            .collect();
        assert_eq!(
            self.index.count(&request).unwrap(),
            offsets.len() as u64,
            "{q}"
        );
        offsets.sort_unstable();
        offsets
    }

    fn reopen(self) -> Store {
        self.index.close();
        self.log.close();
        let Store { folder, log, index } = self;
        drop((log, index));
        open(folder)
    }
}

#[test]
fn values_are_counted_the_same_with_numbers_and_without() {
    let store = open(tempfile::tempdir().unwrap());
    let registry = store.log.registry();
    let fields = ["path", "word", "name"].map(|name| FieldColumns::named(name, &registry));
    let fields = fields.map(Option::unwrap);
    let options = FacetOptions {
        size: 5,
        times: false,
    };
    let long = "x".repeat(100);
    // Room for the strings of all three fields, of some of them (so that they take turns), and of none.
    let bounds = [usize::MAX, 40_000, 20_000, 2_000, 0].map(Numberings::bounded);
    let mut counts: [std::collections::HashMap<String, u64>; 3] = Default::default();
    for round in 0..8u64 {
        let events: Vec<_> = (0..150u64)
            .map(|number| {
                let path = format!("/{}/{}", number % 7, (round * number) % 90);
                let word = format!("{long}{}", round * 150 + number);
                let name = format!("n{}", number % 3);
                for (counts, value) in counts.iter_mut().zip([&path, &word, &name]) {
                    *counts.entry(value.clone()).or_default() += 1;
                }
                (name, format!("{{\"path\":\"{path}\",\"word\":\"{word}\"}}"))
            })
            .collect();
        let events: Vec<_> = events
            .iter()
            .map(|(name, data)| (1, name.as_str(), "2021-01-01 00:00:00", data.as_str()))
            .collect();
        store.send(&events);
        let request = store.request("*", Order::NewestFirst, 0);
        let (total, told) = store.index.facets(&request, &fields, options).unwrap();
        assert_eq!(total, (round + 1) * 150);
        for (figures, counts) in told.iter().zip(&counts) {
            let mut expected: Vec<_> = counts.iter().collect();
            expected.sort_unstable_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
            let values = figures.values.iter().map(|(value, count)| match value {
                FacetValue::Text(text) => (text, count),
                _ => panic!("{value:?}"),
            });
            assert!(values.eq(expected.iter().copied().take(5)), "{figures:?}");
            assert_eq!(figures.distinct, counts.len() as u64);
        }
        for numberings in &bounds {
            for _ in 0..2 {
                let ask = |matching: &Matching<'_>| {
                    facets(matching, &fields, options, numberings).map(|(_, figures)| figures)
                };
                assert_eq!(store.index.matching(&request, ask).unwrap(), told);
            }
            assert!(numberings.is_bounded());
        }
    }
    assert_eq!(bounds.map(|one| one.numbered()), [3, 2, 1, 1, 0]);
    store.index.purge(vec![]).unwrap();
    assert_eq!(store.index.inner.numberings.numbered(), 0);
}

#[test]
fn strings_of_columns_are_the_same_kept_and_unpacked_anew() {
    let store = open(tempfile::tempdir().unwrap());
    for round in 0..4u64 {
        let data: Vec<String> = (0..400u64)
            .map(|number| {
                let path = format!("/{}/{}", number % 7, round * 70 + number % 150);
                let long = "x".repeat((number % 300) as usize);
                json!({"path": path, "long": format!("{long}{number}"), "few": number % 2 == 0})
                    .to_string()
            })
            .collect();
        let events = data
            .iter()
            .map(|data| (1, "n", "2021-01-01 00:00:00", data.as_str()));
        store.send(&events.collect::<Vec<_>>());
    }
    // Room for all columns, for some of them, so that they take turns, and for none; at last every dictionary is too large.
    let bounds = [
        (usize::MAX, u64::MAX),
        (40_000, u64::MAX),
        (4_000, u64::MAX),
        (0, u64::MAX),
        (usize::MAX, 0),
    ];
    let bounds = bounds.map(|(held, dictionary)| Unpacked::bounded(held, dictionary));
    assert_eq!(store.found("path:\"/3/3\"").len(), 1);
    let parts = store.index.inner.shards.parts();
    assert!(parts.len() > 1);
    for _ in 0..3 {
        for part in parts.iter() {
            for name in ["data.path", "data.long", "name"] {
                let column = part.reader.fast_fields().str(name).unwrap().unwrap();
                let all: Vec<(u64, String)> = (0..column.num_terms() as u64)
                    .map(|ord| {
                        let mut string = String::new();
                        assert!(column.ord_to_str(ord, &mut string).unwrap());
                        (ord, string)
                    })
                    .collect();
                for step in [1, 3, 127, 128, 200] {
                    let expected: Vec<_> = all.iter().rev().step_by(step).rev().cloned().collect();
                    let mut ords: Vec<u64> = expected.iter().map(|(ord, _)| *ord).collect();
                    // No dictionary has this one.
                    ords.push(all.len() as u64 + 3);
                    for unpacked in &bounds {
                        let mut told = Vec::new();
                        let see = |ord, string: &[u8]| {
                            told.push((ord, String::from_utf8(string.to_vec()).unwrap()));
                        };
                        unpacked.each(part.id(), name, &column, &ords, see).unwrap();
                        assert_eq!(told, expected, "{name} {step}");
                        unpacked.held_bytes();
                    }
                }
            }
        }
    }
    let held: Vec<usize> = bounds.iter().map(Unpacked::held_bytes).collect();
    assert!(held.is_sorted_by(|a, b| a >= b) && held[1] > 0, "{held:?}");
    assert!(held[0] > held[1] && held[3..] == [0, 0], "{held:?}");
    assert!(store.index.inner.unpacked.held_bytes() > 0);
    store.index.purge(vec![]).unwrap();
    assert_eq!(store.index.inner.unpacked.held_bytes(), 0);
}

#[test]
fn figures_of_a_value_in_a_range_of_time_are_of_the_events_in_it() {
    let store = open_with(tempfile::tempdir().unwrap(), 1 << 20);
    let start = "2021-01-01T00:00:00Z"
        .parse::<chrono::DateTime<chrono::Utc>>()
        .unwrap();
    let at = |second: usize| start + chrono::Duration::seconds(i64::try_from(second).unwrap());
    // In order, and then in none.
    let second = |number: usize| {
        if number < 600 {
            number
        } else {
            number * 7919 % 700
        }
    };
    let value = |number: usize| number * 31 % 90;
    let events: Vec<(String, String)> = (0..1200)
        .map(|number| {
            let data = json!({"path": format!("/{}", value(number))});
            (at(second(number)).to_rfc3339(), data.to_string())
        })
        .collect();
    let sent = events
        .iter()
        .map(|(time, data)| (1, "a", time.as_str(), data.as_str()));
    store.send(&sent.collect::<Vec<_>>());
    let registry = store.log.registry();
    let fields = [FieldColumns::named("name", &registry).unwrap()];
    let options = FacetOptions {
        size: 5,
        times: false,
    };
    // Runs of 128 begin and end at some of these.
    let seconds = [0, 1, 126, 127, 128, 129, 255, 256, 300, 599, 600, 699, 700];
    for wanted in [
        None,
        Some(0),
        Some(1),
        Some(31),
        Some(32),
        Some(63),
        Some(64),
        Some(89),
    ] {
        let q = wanted.map_or("*".to_owned(), |wanted| format!("path:\"/{wanted}\""));
        let request = store.request(&q, Order::NewestFirst, 2000);
        for (from, to) in seconds
            .into_iter()
            .flat_map(|from| seconds.map(|to| (from, to)))
        {
            let request = SearchRequest {
                from: Some(at(from).timestamp_micros()),
                to: Some(at(to).timestamp_micros()),
                ..request.clone()
            };
            let inside = (0..events.len())
                .filter(|number| (from..to).contains(&second(*number)))
                .filter(|number| wanted.is_none_or(|wanted| wanted == value(*number)));
            let expected = inside.count();
            let (total, _) = store.index.facets(&request, &fields, options).unwrap();
            assert_eq!(total, expected as u64, "{q} {from} {to}");
            let hits = store.index.search(&request).unwrap().hits;
            assert_eq!(hits.len(), expected, "{q} {from} {to}");
        }
    }
}

#[test]
fn few_columns_are_kept_open_however_many_are_asked_for() {
    let store = open(tempfile::tempdir().unwrap());
    store.send(&[(1, "n", "2021-01-01 00:00:00", r#"{"path": "/a", "n": 1}"#)]);
    assert_eq!(store.found("path:\"/a\"").len(), 1);
    let parts = store.index.inner.shards.parts();
    let part = &parts[0];
    let before = part.names_opened();
    assert!(before > 0);
    let long = format!("data.{}", "x".repeat(1 << 16));
    assert_eq!(part.opened(&long).unwrap().len(), 0);
    assert_eq!(part.names_opened(), before);
    for number in 0..1000 {
        let absent = part.opened(&format!("data.absent{number}")).unwrap();
        assert!(absent.is_empty());
        let here = ["data.path", "data.n"].map(|name| part.opened(name).unwrap().len());
        assert_eq!(here, [1, 1]);
    }
    assert!(part.names_opened() < 100);
}

#[test]
fn figures_of_a_word_are_of_what_had_arrived_from_one_application() {
    let store = open_with(tempfile::tempdir().unwrap(), 32 << 10);
    // Everywhere, in half of the stretches, in some events of each, in most events of one application, and in none.
    let words = ["every", "stretch", "some", "most", "never"];
    let mut stored: Vec<(ApplicationId, &str, Vec<&str>)> = Vec::new();
    for stretch in 0..12 {
        let application = ApplicationId(stretch % 3 / 2);
        let events: Vec<_> = (0..97)
            .map(|number| {
                let has = [
                    true,
                    stretch % 2 == 0,
                    number % 5 == 1,
                    application.0 == 1 && number % 10 > 0,
                    false,
                ];
                let has = words.iter().zip(has).filter(|(_, has)| *has);
                let had: Vec<&str> = has.map(|(word, _)| *word).collect();
                (["a", "b", "c"][number % 3], had)
            })
            .collect();
        let data: Vec<String> = (events.iter())
            .map(|(_, words)| json!({"text": words.join(" ")}).to_string())
            .collect();
        let sent: Vec<_> = (events.iter().zip(&data))
            .map(|((name, _), data)| {
                let session = u128::from(application.0) + 1;
                (session, *name, "2021-01-01 00:00:00", data.as_str())
            })
            .collect();
        store.send_as(application, &sent);
        stored.extend(
            events
                .into_iter()
                .map(|(name, has)| (application, name, has)),
        );
    }
    let registry = store.log.registry();
    let fields = [FieldColumns::named("name", &registry).unwrap()];
    let options = FacetOptions {
        size: 5,
        times: false,
    };
    let request = store.request("*", Order::OldestFirst, 2000);
    let hits = store.index.search(&request).unwrap().hits;
    let offsets: Vec<Offset> = hits.iter().map(|hit| hit.offset).collect();
    assert_eq!(offsets.len(), stored.len());
    let arrived = [0, 1, 96, 97, 98, 300, 582, 1000, offsets.len() - 1];
    for q in [
        "every",
        "stretch",
        "some",
        "most",
        "never",
        "every some",
        "stretch most",
        "some most",
    ] {
        for application in [None, Some(ApplicationId(0)), Some(ApplicationId(1))] {
            for arrived in arrived.map(Some).into_iter().chain([None]) {
                let request = SearchRequest {
                    application,
                    as_of: arrived.map_or(Offset::MAX, |place| offsets[place]),
                    ..store.request(q, Order::NewestFirst, 0)
                };
                let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
                for (of, name, has) in &stored[..arrived.unwrap_or(offsets.len())] {
                    let wanted = q.split(' ').all(|word| has.contains(&word));
                    if wanted && application.is_none_or(|wanted| wanted == *of) {
                        *expected.entry(name).or_default() += 1;
                    }
                }
                let (total, told) = store.index.facets(&request, &fields, options).unwrap();
                let told: BTreeMap<&str, u64> = (told[0].values.iter())
                    .map(|(value, count)| match value {
                        FacetValue::Text(text) => (text.as_str(), *count),
                        _ => panic!("{value:?}"),
                    })
                    .collect();
                assert_eq!(told, expected, "{q} {application:?} {arrived:?}");
                assert_eq!(total, expected.values().sum::<u64>());
            }
        }
    }
}

#[test]
fn values_of_matches_near_and_far_apart_are_counted_where_others_have_none_or_others() {
    type Matches = fn(usize) -> bool;
    let store = open(tempfile::tempdir().unwrap());
    let registry = store.log.registry();
    // A word says how far apart its matches are.
    let words: [(&str, Matches); 6] = [
        ("lone", |number| number == 100),
        ("near", |number| {
            (40..360).contains(&number) && number % 2 == 0
        }),
        ("far", |number| {
            (40..360).contains(&number) && number % 9 == 0
        }),
        ("across", |number| number % 2 == 0),
        ("before", |number| number < 25),
        ("all", |_| true),
    ];
    // Few strings, and more than are counted side by side.
    let fields = [("few", 5), ("many", 280)];
    let columns = fields.map(|(name, _)| FieldColumns::named(name, &registry).unwrap());
    let long = "x".repeat(300);
    // Events from 30 to 370 have values, now and then other ones than a string, and one that is in no column.
    let values = |name: &str, strings: usize, number: usize| {
        let string = format!("v{:03}", number * 7 % strings);
        match number % 50 {
            _ if !(30..370).contains(&number) => json!([]),
            31 if name == "few" => json!(null),
            32 if name == "few" => json!(7),
            33 if name == "few" => json!(true),
            34 if name == "few" => json!([string, 7]),
            49 if name == "few" => json!([string, long]),
            _ => json!(string),
        }
    };
    let data: Vec<String> = (0..400)
        .map(|number| {
            let said = words.iter().filter(|(_, has)| has(number));
            let said: Vec<&str> = said.map(|(word, _)| *word).collect();
            let [few, many] = fields.map(|(name, strings)| values(name, strings, number));
            json!({"text": said.join(" "), "few": few, "many": many}).to_string()
        })
        .collect();
    let events: Vec<_> = data
        .iter()
        .map(|data| (1, "a", "2021-01-01 00:00:00", data.as_str()))
        .collect();
    store.send(&events);
    for ((word, has), times) in words
        .into_iter()
        .flat_map(|word| [(word, false), (word, true)])
    {
        let request = store.request(word, Order::NewestFirst, 0);
        let options = FacetOptions { size: 1000, times };
        let (total, told) = store.index.facets(&request, &columns, options).unwrap();
        let matches: Vec<usize> = (0..400).filter(|number| has(*number)).collect();
        assert_eq!(total, matches.len() as u64, "{word}");
        for ((name, strings), figures) in fields.iter().zip(told) {
            let mut expected = BTreeMap::<String, u64>::new();
            let mut present = 0;
            for number in &matches {
                let values = match values(name, *strings, *number) {
                    Value::Array(values) => values,
                    Value::Null => Vec::new(),
                    value => vec![value],
                };
                present += u64::from(!values.is_empty());
                for value in values {
                    *expected.entry(value.to_string()).or_default() += 1;
                }
            }
            assert_eq!(figures.present, present, "{word} {name}");
            let told = figures.values.into_iter().map(|(value, count)| {
                let value = match value {
                    FacetValue::Text(text) => json!(text),
                    FacetValue::Integer(number) => json!(i64::try_from(number).unwrap()),
                    FacetValue::Bool(value) => json!(value),
                    other => panic!("{other:?}"),
                };
                (value.to_string(), count)
            });
            assert_eq!(told.collect::<BTreeMap<_, _>>(), expected, "{word} {name}");
        }
    }
}

#[test]
fn first_rows_are_found_wherever_their_blocks_lie() {
    first_rows_are_found(64 << 20);
}

#[test]
fn first_rows_are_found_in_segments_that_are_shared_out() {
    // Some 4,500 events each: too many to be read whole once they are merged.
    let store = first_rows_are_found(570 << 10);
    assert!(store.index.inner.shards.parts().len() >= 8);
}

/// Asks for the first rows of many events in segments of so many bytes.
fn first_rows_are_found(segment_max_bytes: u64) -> Store {
    type Matches = fn(usize, usize) -> bool;
    const BLOCKS: usize = 40;
    let store = open_with(tempfile::tempdir().unwrap(), segment_max_bytes);
    let docs = BLOCK_DOCS as usize;
    // Blocks in an order of their own, and within one backwards; some instants are those of two events.
    let rank = |number: usize| number / docs * 7 % BLOCKS;
    let second = |number: usize| rank(number) * docs + (docs - number % docs) / 2;
    let start = "2021-01-01T00:00:00Z"
        .parse::<chrono::DateTime<chrono::Utc>>()
        .unwrap();
    let at =
        |number: usize| start + chrono::Duration::seconds(i64::try_from(second(number)).unwrap());
    let words: [(&str, Matches); 4] = [
        ("spread", |number, _| number % 3 == 0),
        ("old", |_, rank| rank < 8),
        ("new", |_, rank| rank > 15),
        ("rare", |number, _| number % 4001 == 0),
    ];
    let data: Vec<(String, String)> = (0..BLOCKS * docs)
        .map(|number| {
            let said = words.iter().filter(|(_, has)| has(number, rank(number)));
            let said: Vec<&str> = said.map(|(word, _)| *word).collect();
            let data = json!({"text": said.join(" "), "n": number % 500});
            (at(number).to_rfc3339(), data.to_string())
        })
        .collect();
    let events: Vec<_> = data
        .iter()
        .map(|(time, data)| (1, "a", time.as_str(), data.as_str()))
        .collect();
    events.chunks(500).for_each(|events| store.send(events));
    let narrowed = words.map(|(word, _)| format!("{word} n:7"));
    let plain = words.map(|(word, _)| word.to_owned());
    for (query, order) in narrowed
        .iter()
        .chain(&plain)
        .chain(&["n:7".to_owned()])
        .flat_map(|query| [Order::NewestFirst, Order::OldestFirst].map(|order| (query, order)))
    {
        let word = words.iter().find(|(word, _)| query.starts_with(word));
        let has = |number| word.is_none_or(|(_, has)| has(number, rank(number)));
        let mut expected: Vec<(usize, u64)> = (0..BLOCKS * docs)
            .filter(|number| has(*number))
            .filter(|number| !query.ends_with("n:7") || number % 500 == 7)
            .map(|number| (second(number), number as u64))
            .collect();
        expected.sort_unstable();
        if order == Order::NewestFirst {
            expected.reverse();
        }
        let mut request = store.request(query, order, 20);
        for page in expected.chunks(20).take(4) {
            let answer = store.index.search(&request).unwrap();
            let offsets: Vec<u64> = answer.hits.iter().map(|hit| hit.offset).collect();
            let wanted: Vec<u64> = page.iter().map(|(_, offset)| *offset).collect();
            assert_eq!(offsets, wanted, "{query} {order:?}");
            let last = answer.hits.last().unwrap();
            request.after = Some(Place {
                session: None,
                timestamp: last.timestamp,
                offset: last.offset,
            });
        }
    }
    store
}

/// Every block is as good as the others by its times: offsets decide, also between what is read first and what is left.
#[test]
fn of_one_instant_the_last_stored_is_newest_and_the_first_oldest() {
    let store = open(tempfile::tempdir().unwrap());
    let event = (1, "a", "2021-01-01 00:00:00", r#"{"text":"same"}"#);
    store.send(&vec![event; 6_000]);
    for query in ["same", "*"] {
        let oldest: Vec<u64> = (0..20).collect();
        let newest: Vec<u64> = (5_980..6_000).rev().collect();
        for (order, wanted) in [(Order::OldestFirst, oldest), (Order::NewestFirst, newest)] {
            let request = store.request(query, order, 20);
            let answer = store.index.search(&request).unwrap();
            let offsets: Vec<u64> = answer.hits.iter().map(|hit| hit.offset).collect();
            assert_eq!(offsets, wanted, "{query} {order:?}");
        }
    }
}

/// A pattern over whole values reads events: only those that lie within the range of time, which here leaves out an unreadable one.
#[test]
fn events_outside_a_range_of_time_are_not_read_to_judge_them() {
    let store = open(tempfile::tempdir().unwrap());
    store.send(&[(1, "a", "2021-01-01 00:00:00", r#"{"text":"bad x/y"}"#)]);
    store.send(&[(1, "a", "2021-02-01 00:00:00", r#"{"text":"good x/y"}"#)]);
    let mut request = store.request("*x/y*", Order::NewestFirst, 20);
    assert_eq!(store.index.count(&request).unwrap(), 2);
    let damaged = std::fs::read_dir(store.folder.path().join("log")).unwrap();
    let damaged = damaged
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).ok()?;
            let at = bytes.windows(7).position(|some| some == b"bad x/y")?;
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(b"B", at as u64).unwrap();
            Some(())
        })
        .count();
    assert_eq!(damaged, 1);
    assert!(store.index.count(&request).is_err());
    request.from = Some(
        "2021-01-15T00:00:00Z"
            .parse::<chrono::DateTime<chrono::Utc>>()
            .unwrap()
            .timestamp_micros(),
    );
    assert_eq!(store.index.count(&request).unwrap(), 1);
}

#[test]
fn what_was_stored_is_found_at_once_by_words_fields_and_times() {
    let store = open(tempfile::tempdir().unwrap());
    store.send(&[
        (
            1,
            "a",
            "2021-01-01 00:00:00",
            r#"{"path":"/Reviews/","price":10.5,"n":9007199254740993,"x":null}"#,
        ),
        (
            1,
            "b",
            "2021-01-02 00:00:00",
            r#"{"path":"/about","note":"late delivery","tags":["of","Café"],"f":0.5}"#,
        ),
        (
            2,
            "a",
            "2021-01-03 00:00:00",
            r#"{"a.b":1,"a":{"b":2,"c":{"d":"deep value"}},"ok":true,"n":9007199254740992,"f":3}"#,
        ),
    ]);
    let long = "z".repeat(400);
    store.send(&[(
        3,
        "long",
        "2021-01-04 00:00:00",
        &format!("{{\"text\":\"{long} end\",\"e\":1e400,\"s\":\"\\ud800\"}}"),
    )]);
    for (q, expected) in [
        ("*", vec![0, 1, 2, 3]),
        ("late", vec![1]),
        ("\"late delivery\"", vec![1]),
        ("\"delivery of\"", vec![]),
        ("\"late delivery\"~2", vec![1]),
        ("cafe", vec![1]),
        ("path:\"/reviews/\"", vec![0]),
        ("path==\"/reviews/\"", vec![]),
        ("path==\"/Reviews/\"", vec![0]),
        ("path:/*", vec![0, 1]),
        ("name:A", vec![0, 2]),
        ("category:page", vec![]),
        ("category:\"page view\"", vec![0, 1, 2, 3]),
        ("price:10.5", vec![0]),
        ("price:>10", vec![0]),
        ("n:9007199254740993", vec![0]),
        ("n:9007199254740992", vec![2]),
        ("x:null", vec![0]),
        ("x:*", vec![]),
        ("a.b:1", vec![2]),
        ("a\\.b:1", vec![2]),
        ("a\\.b:2", vec![]),
        ("a:*", vec![2]),
        ("a.c.d:value", vec![2]),
        ("ok:true", vec![2]),
        ("f:[0 TO 1]", vec![1]),
        ("tags:of", vec![1]),
        ("text:end", vec![3]),
        ("text:*", vec![3]),
        ("e:>1", vec![3]),
        ("NOT name:a", vec![1, 3]),
        ("late OR price:10.5", vec![0, 1]),
        ("name:a -late", vec![0, 2]),
        ("timestamp:2021-01-02", vec![1]),
        ("timestamp:>2021-01-02", vec![2, 3]),
        ("deliv*", vec![1]),
        ("delivry~1", vec![1]),
        ("offset:>=2", vec![2, 3]),
        (
            "session_id:00000000-0000-0000-0000-000000000001",
            vec![0, 1],
        ),
    ] {
        assert_eq!(store.found(q), expected, "{q}");
    }
}

#[test]
fn answers_stay_the_same_over_segments_restarts_and_a_removed_index() {
    let mut store = open(tempfile::tempdir().unwrap());
    let mut all = Vec::new();
    for number in 0..600u32 {
        // Timestamps jump about, with ties.
        let day = (number * 7919) % 28 + 1;
        let timestamp = format!("2021-01-{day:02} 00:00:00");
        let data = format!("{{\"n\":{number},\"pad\":\"{}\"}}", "pad ".repeat(60));
        store.send(&[(
            u128::from(number % 13),
            if number % 3 == 0 { "three" } else { "other" },
            &timestamp,
            &data,
        )]);
        all.push((day, u64::from(number), number % 13));
    }
    assert!(store.log.reader().segment_bases().len() > 3);
    let check = |store: &Store| {
        let threes: Vec<u64> = (0..600).filter(|number| number % 3 == 0).collect();
        assert_eq!(store.found("three"), threes);
        assert_eq!(store.found("n:599"), [599]);
        for order in [Order::NewestFirst, Order::OldestFirst, Order::BySession] {
            let mut expected = all.clone();
            match order {
                Order::NewestFirst => {
                    expected.sort_by_key(|(day, offset, _)| std::cmp::Reverse((*day, *offset)))
                }
                Order::OldestFirst => expected.sort_by_key(|(day, offset, _)| (*day, *offset)),
                Order::BySession | Order::BestFirst => {
                    expected.sort_by_key(|(day, offset, session)| {
                        std::cmp::Reverse((*session, *day, *offset))
                    });
                }
            }
            let mut request = store.request("*", order, 37);
            let mut paged = Vec::new();
            loop {
                let answer = store.index.search(&request).unwrap();
                paged.extend(answer.hits.iter().map(|hit| hit.offset));
                request.after = answer.hits.last().copied();
                if !answer.more {
                    break;
                }
            }
            assert_eq!(
                paged,
                expected.iter().map(|row| row.1).collect::<Vec<_>>(),
                "{order:?}"
            );
        }
        let session = store
            .index
            .session(Uuid::from_u128(5), 600)
            .unwrap()
            .unwrap();
        assert_eq!(
            session.count,
            all.iter().filter(|row| row.2 == 5).count() as u64
        );
    };
    check(&store);
    store = store.reopen();
    check(&store);
    store.index.close();
    store.log.close();
    let Store { folder, log, index } = store;
    drop((log, index));
    let mut folder = folder;
    for part in ["", "shards", "catalog"] {
        std::fs::remove_dir_all(folder.path().join("index").join(part)).unwrap();
        let store = open(folder);
        check(&store);
        store.index.close();
        store.log.close();
        folder = store.folder;
    }
}

#[test]
fn a_read_waits_for_no_longer_than_a_commit_takes_while_events_keep_coming() {
    let store = open(tempfile::tempdir().unwrap());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                store.send(&[(1, "a", "2021-01-01 00:00:00", "{}")]);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut waits = Vec::new();
        for _ in 0..20 {
            let end = store.log.reader().durable_end();
            let began = std::time::Instant::now();
            let reached = store
                .index
                .wait_for(Needs::Search, end, Duration::from_secs(10));
            assert!(reached >= end);
            waits.push(began.elapsed());
            std::thread::sleep(Duration::from_millis(25));
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        // Far below the second that the indexer sleeps when nobody nudges it.
        waits.sort();
        assert!(waits[10] < Duration::from_millis(500), "{waits:?}");
    });
}
