//! A search finds what a plain scan finds, in every script, newest first.

use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use support::events::Generator;
use support::{App, Eye, Random, Scanner, events, percent_encoded};

/// A server with events and the same events before the scanner.
struct Library {
    eye: Eye,
    app: App,
    ids: Vec<String>,
    place_of: HashMap<String, usize>,
    scanner: Scanner,
}

impl Library {
    fn of(lines: Vec<String>, ids: Vec<String>) -> Library {
        let eye = Eye::start();
        let app = eye.application("library");
        eye.store(&app, &lines);
        let scanner = Scanner::of(&lines);
        let place_of = ids.iter().cloned().zip(0..).collect();
        Library {
            eye,
            app,
            ids,
            place_of,
            scanner,
        }
    }

    fn of_the_fixture() -> Library {
        let mut random = Random::announced(42);
        let ids: Vec<String> = events::varied().iter().map(|_| random.uuid()).collect();
        let lines = events::varied()
            .iter()
            .zip(&ids)
            .map(|(line, id)| events::with_id(line, id))
            .collect();
        Library::of(lines, ids)
    }

    /// Returns the events found, by their places.
    #[track_caller]
    fn found(&self, q: &str) -> BTreeSet<usize> {
        let ids = self.eye.ids_found(&self.app.token, q);
        let found: BTreeSet<usize> = ids
            .iter()
            .map(|id| *self.place_of.get(id).expect("an id that was sent"))
            .collect();
        assert_eq!(found.len(), ids.len(), "{q} finds an event twice");
        assert_eq!(
            self.eye.count(&self.app.token, q),
            ids.len() as u64,
            "count of {q}"
        );
        found
    }

    fn scanned(&self, phrase: &str) -> BTreeSet<usize> {
        self.scanner.holding(phrase).into_iter().collect()
    }

    /// Compares the search with the scan, the phrase in quotes and, where that means the same, bare.
    #[track_caller]
    fn agrees_on(&self, phrase: &str) {
        let expected = self.scanned(phrase);
        assert_eq!(
            self.found(&quoted(phrase)),
            expected,
            "{phrase:?} in quotes"
        );
        let is_operator = ["AND", "OR", "NOT", "IN", "TO"].contains(&phrase);
        if phrase.chars().all(char::is_alphanumeric) && !is_operator {
            // Long lists take long to read; for them the number will do.
            if expected.len() <= 100 {
                assert_eq!(self.found(phrase), expected, "{phrase:?} bare");
            }
            assert_eq!(
                self.eye.count(&self.app.token, phrase),
                expected.len() as u64,
                "{phrase:?} bare"
            );
        }
    }
}

fn quoted(phrase: &str) -> String {
    format!("\"{}\"", phrase.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn every_word_of_the_fixture_is_found_where_a_scan_finds_it() {
    let mut library = Library::of_the_fixture();
    assert!(
        library.scanner.words().len() > 200,
        "the fixture has {} words",
        library.scanner.words().len()
    );
    for word in library.scanner.words().to_vec() {
        library.agrees_on(&word);
    }
    library.eye.restart();
    for word in library.scanner.words().iter().step_by(9) {
        library.agrees_on(word);
    }
}

#[test]
fn every_pair_of_neighbours_in_the_fixture_is_found_as_a_phrase() {
    let library = Library::of_the_fixture();
    let mut phrases = BTreeSet::new();
    for event in 0..library.scanner.len() {
        for string in library.scanner.strings(event) {
            phrases.extend(string.windows(2).map(|pair| pair.join(" ")));
            phrases.extend(string.windows(4).map(|row| row.join(" ")));
        }
    }
    assert!(phrases.len() > 100);
    for phrase in phrases {
        library.agrees_on(&phrase);
    }
}

#[test]
fn two_thousand_random_events_are_searched_like_they_are_scanned() {
    let (lines, ids) = Generator::new(Random::announced(2_000), 40).lines(2_000);
    let mut library = Library::of(lines, ids);
    let mut random = Random::announced(2_001);
    let phrases: Vec<String> = (0..60)
        .map(|_| {
            let event = library.scanner.strings(random.index(library.scanner.len()));
            let string = random.pick(&event);
            let start = random.index(string.len().max(1));
            string[start..string.len().min(start + 2 + random.index(3))].join(" ")
        })
        .filter(|phrase| !phrase.is_empty())
        .collect();
    for restarted in [false, true] {
        if restarted {
            library.eye.restart();
        }
        for word in library.scanner.words().to_vec() {
            library.agrees_on(&word);
        }
        for phrase in &phrases {
            library.agrees_on(phrase);
        }
    }
}

#[test]
fn case_is_folded_and_accents_on_latin_letters() {
    let library = Library::of_the_fixture();
    for (asked, same) in [
        ("cafe", "Café"),
        ("CAFÉ", "cafe"),
        ("cafe\u{301}", "cafe"),
        ("brulee", "brûlée"),
        ("naive", "naïve"),
        ("Hauptstraße", "HAUPTSTRASSE"),
        ("lodz", "Łódź"),
        ("aero", "Ærø"),
        ("thing", "þing"),
        ("dakovo", "Đakovo"),
        ("istanbul", "İstanbul"),
        ("isi", "ısı"),
        ("ЁЛКА", "ёлка"),
        ("σίσυφοσ", "ΣΊΣΥΦΟΣ"),
    ] {
        assert!(!library.found(asked).is_empty(), "{asked} finds nothing");
        assert_eq!(
            library.found(asked),
            library.found(same),
            "{asked} and {same}"
        );
        library.agrees_on(asked);
    }
    // Nothing else folds: Cyrillic ё is not е, й is not и, Greek accents stay, ﬁ is a letter of its own.
    for asked in ["елка", "иод", "σισυφοσ", "fine"] {
        assert!(library.found(asked).is_empty(), "{asked}");
    }
}

#[test]
fn a_phrase_never_crosses_two_strings_and_keys_are_not_words() {
    let library = Library::of_the_fixture();
    for (phrase, count) in [
        ("late delivery", 2),
        ("delivery late", 1),
        ("Late Delivery Refund", 1),
        ("green blue", 0),
        ("red green", 1),
        ("green", 1),
        ("to be that", 1),
        ("be that", 1),
        ("that be", 0),
        ("subject", 0),
        ("first_name", 0),
        ("chat bubble", 1),
        ("東京", 1),
        ("京東", 0),
        ("夜景", 1),
        ("foo bar 9", 1),
    ] {
        let found = library.found(&quoted(phrase)).len();
        let scanned = library.scanned(phrase).len();
        assert_eq!((found, scanned), (count, count), "{phrase}");
    }
}

#[test]
fn characters_of_scripts_without_spaces_are_words_and_a_run_of_them_is_a_phrase() {
    let library = Library::of_the_fixture();
    for run in [
        "東京タワー",
        "東京",
        "京",
        "夜景はきれい",
        "ケース12個",
        "ส่งช้า",
        "กรุงเทพ",
        "ສະບາຍ",
    ] {
        assert!(!library.found(run).is_empty(), "{run}");
        assert_eq!(library.found(run), library.scanned(run), "{run}");
    }
    assert!(library.found("京東").is_empty());
}

#[test]
fn a_bare_word_with_punctuation_is_the_phrase_of_its_words() {
    let library = Library::of_the_fixture();
    for word in [
        "foo_bar-9",
        "jane.doe@example.com",
        "10.0.0.1",
        "550e8400-e29b-41d4-a716-446655440000",
        "www.consumeraffairs.com",
        "1.2.3",
    ] {
        assert_eq!(library.found(word), library.scanned(word), "{word}");
        assert!(!library.found(word).is_empty(), "{word}");
    }
}

#[test]
fn words_combine_with_and_or_and_not() {
    let (lines, ids) = Generator::new(Random::announced(77), 20).lines(400);
    let library = Library::of(lines, ids);
    let all: BTreeSet<usize> = (0..library.ids.len()).collect();
    let [late, refund, solar] = ["late", "refund", "solar"].map(|word| library.scanned(word));
    let both: BTreeSet<usize> = late.intersection(&refund).copied().collect();
    let either: BTreeSet<usize> = late.union(&refund).copied().collect();
    let without: BTreeSet<usize> = late.difference(&refund).copied().collect();
    let not_late: BTreeSet<usize> = all.difference(&late).copied().collect();
    assert!(!both.is_empty() && !without.is_empty() && !not_late.is_empty());
    for (q, expected) in [
        ("late refund", &both),
        ("late AND refund", &both),
        ("(late) (refund)", &both),
        ("late OR refund", &either),
        ("late NOT refund", &without),
        ("late -refund", &without),
        ("late AND NOT refund", &without),
        ("NOT late", &not_late),
        ("-late", &not_late),
        ("*", &all),
        ("", &all),
        ("late OR NOT late", &all),
    ] {
        assert_eq!(&library.found(q), expected, "{q}");
    }
    // AND binds tighter than OR, NOT tighter than AND.
    let solar_or_both: BTreeSet<usize> = solar.union(&both).copied().collect();
    assert_eq!(library.found("solar OR late refund"), solar_or_both);
    let in_parentheses: BTreeSet<usize> = solar
        .union(&late)
        .copied()
        .collect::<BTreeSet<_>>()
        .intersection(&refund)
        .copied()
        .collect();
    assert_eq!(library.found("(solar OR late) refund"), in_parentheses);
    // In small letters they are words like any other.
    assert_eq!(
        library.found("late and refund"),
        both.intersection(&library.scanned("and"))
            .copied()
            .collect()
    );
}

#[test]
fn fields_are_searched_by_value() {
    let library = Library::of_the_fixture();
    for (q, count) in [
        ("name:pageview", 1),
        ("name:PAGEVIEW", 1),
        ("name:page", 0),
        ("category:\"page interaction\"", 2),
        ("category:page", 0),
        ("category:cafe", 3),
        ("data.path:\"/\"", 3),
        ("path:\"/reviews/solar-energy/\"", 1),
        ("data.form.first_name:john", 1),
        ("form.last_name:Doe", 1),
        ("data.items.sku:A1", 1),
        ("items.sku:b2", 1),
        ("data.zip:00501", 1),
        ("data.code:500", 1),
        ("code_text:500", 1),
        ("data.code:\"500\"", 0),
        ("items.gift:true", 1),
        ("data.null:null", 1),
        ("data.subject:\"late delivery\"", 2),
        ("data.tags:late", 1),
        ("session_id:e2085be5-9137-4e4e-80b5-f1ffddc25423", 3),
        ("session_id:E2085BE5-9137-4E4E-80B5-F1FFDDC25423", 3),
        ("application:library", 43),
        ("data.no_such_field:1", 0),
        ("data.form.first_name:*", 1),
        ("data.結果:3", 1),
        ("data.a.b.c.d:deep", 1),
        ("data.a\\.b:\"dotted key\"", 1),
        ("data.k:\"first value\"", 1),
        ("data.k:\"second value\"", 1),
        ("name:kinds NOT data.zero:0", 1),
        ("data.max_i64:9223372036854775807", 1),
        ("data.max_i64:9223372036854775806", 0),
        ("data.max_u64:18446744073709551615", 1),
        ("data.float:3.14", 1),
        ("data.trailing:1.5", 1),
        ("data.stars:>4", 1),
        ("data.stars:>=5", 1),
        ("data.stars:[5 TO 6}", 1),
        ("data.stars:>5", 0),
    ] {
        assert_eq!(library.found(q).len(), count, "{q}");
    }
    assert_eq!(
        library.found(&format!("id:{}", library.ids[7])),
        BTreeSet::from([7])
    );
}

#[test]
fn a_time_range_includes_its_beginning_and_excludes_its_end() {
    let library = Library::of_the_fixture();
    let count = |from: &str, to: &str| {
        let mut request = library
            .eye
            .get("/search?q=*&count=true&limit=0")
            .token(&library.app.token);
        for (name, value) in [("from", from), ("to", to)] {
            if !value.is_empty() {
                request = request.query(name, value);
            }
        }
        let answer = request.send().expect(200).json();
        for (name, value) in [("from", from), ("to", to)] {
            if value.is_empty() {
                assert_eq!(answer[name], Value::Null);
            }
        }
        answer["count"].as_u64().unwrap()
    };
    assert_eq!(
        count("2021-01-01T09:15:27.243860Z", "2021-01-01T09:15:27.243861Z"),
        3
    );
    assert_eq!(
        count("2021-01-01T09:15:27.243861Z", "2021-01-01T10:00:00Z"),
        0
    );
    assert_eq!(
        count("2021-01-01T10:00:00Z", "2021-01-01T10:00:00.000001Z"),
        3
    );
    assert_eq!(count("", "1970-01-01T00:00:00Z"), 2);
    assert_eq!(count("2021-06-15T12:30:45.123456Z", ""), 3);
    assert_eq!(count("now-7d", ""), 0);
    assert_eq!(count("", "now-7d"), 43);
    assert_eq!(library.found("timestamp:>=2021-06-15").len(), 3);
    assert_eq!(library.found("timestamp:2021-01-01").len(), 6);
    library
        .eye
        .get("/search?q=*&from=whenever")
        .token(&library.app.token)
        .send()
        .problem(400, "bad_parameter");
}

#[test]
fn the_newest_come_first_and_ties_go_by_offset() {
    let (lines, ids) = Generator::new(Random::announced(88), 20).lines(1_500);
    let library = Library::of(lines, ids);
    for q in ["*", "the", "late", "\"the and\" OR zymurgy"] {
        for (order, descending) in [("", true), ("-timestamp", true), ("timestamp", false)] {
            let pages = library.eye.pages(|eye| {
                let request = eye
                    .get("/search?limit=97")
                    .token(&library.app.token)
                    .query("q", q);
                if order.is_empty() {
                    request
                } else {
                    request.query("order", order)
                }
            });
            let keys: Vec<(String, u64)> = pages
                .iter()
                .flat_map(|page| page.events())
                .map(|event| {
                    (
                        event["timestamp"].as_str().unwrap().to_owned(),
                        event["offset"].as_u64().unwrap(),
                    )
                })
                .collect();
            let mut expected = keys.clone();
            expected.sort();
            expected.dedup();
            if descending {
                expected.reverse();
            }
            assert_eq!(keys, expected, "{q} by {order:?}");
            assert_eq!(
                keys.len() as u64,
                library.eye.count(&library.app.token, q),
                "{q}"
            );
        }
    }
}

#[test]
fn a_count_is_exact_and_the_same_on_every_page() {
    let (lines, ids) = Generator::new(Random::announced(89), 20).lines(700);
    let library = Library::of(lines, ids);
    let expected = library.scanned("the").len();
    let pages = library.eye.pages(|eye| {
        eye.get("/search?q=the&count=true&limit=50")
            .token(&library.app.token)
    });
    assert_eq!(pages.len(), expected.div_ceil(50));
    for page in &pages {
        assert_eq!(page.json()["count"], expected);
    }
    let uncounted = library
        .eye
        .get("/search?q=the")
        .token(&library.app.token)
        .send()
        .expect(200)
        .json();
    assert_eq!(uncounted.get("count"), None);
    assert!(uncounted["took_ms"].is_number(), "{uncounted}");
    let nothing = library
        .eye
        .get("/search?q=nosuchword&count=true&limit=0")
        .token(&library.app.token)
        .send()
        .expect(200)
        .json();
    assert_eq!(
        (&nothing["count"], &nothing["events"], &nothing["next"]),
        (&json!(0), &json!([]), &Value::Null)
    );
}

#[test]
fn a_search_may_be_posted() {
    let library = Library::of_the_fixture();
    let get = library
        .eye
        .get("/search?q=delivery&limit=2&count=true")
        .token(&library.app.token)
        .send()
        .expect(200)
        .json();
    let post = library
        .eye
        .post("/search")
        .token(&library.app.token)
        .json(&json!({"q": "delivery", "limit": 2, "count": true}))
        .send()
        .expect(200)
        .json();
    for field in ["events", "count", "as_of", "exact"] {
        assert_eq!(get[field], post[field], "{field}");
    }
    library
        .eye
        .post("/search")
        .token(&library.app.token)
        .json(&json!({"q": "x", "limt": 2}))
        .send()
        .problem(400, "bad_parameter");
    library
        .eye
        .post("/search")
        .token(&library.app.token)
        .body("{", "application/json")
        .send()
        .problem(400, "malformed_json");
}

#[test]
fn a_mistake_in_a_query_is_pointed_at() {
    let library = Library::of_the_fixture();
    for q in [
        "(late",
        "\"late",
        "late)",
        "data.n:>",
        "é AND",
        "OR late",
        "NOT",
        "data.n:[1 TO",
        "é (é)) é",
    ] {
        let problem = library
            .eye
            .get("/search")
            .token(&library.app.token)
            .query("q", q)
            .send()
            .problem(400, "bad_query");
        let error = &problem["errors"]["q"][0];
        assert!(
            error["message"].is_string()
                && error["expected"].is_array()
                && error["length"].is_u64(),
            "{problem}"
        );
        // Positions count characters, not bytes.
        let position = error["position"].as_u64().unwrap();
        assert!(
            position <= q.chars().count() as u64,
            "{q}: position {position}"
        );
        if let Some(too_many) = q.find("))").map(|_| 5).or((q == "late)").then_some(4)) {
            assert_eq!(position, too_many, "{q}: {problem}");
        }
    }
    library
        .eye
        .get("/events")
        .token(&library.app.token)
        .query("q", "(late")
        .send()
        .problem(400, "bad_query");
}

#[test]
fn applications_search_their_own_events_and_analysts_narrow() {
    let eye = Eye::start();
    let (one, two) = (eye.application("one"), eye.application("two"));
    let analyst = eye.analyst();
    let mut random = Random::announced(1);
    for app in [&one, &two] {
        eye.store(
            app,
            &Generator::new(Random::new(random.bits()), 5).lines(100).0,
        );
    }
    assert_eq!(eye.count(&one.token, "*"), 100);
    assert_eq!(eye.count(&analyst, "*"), 200);
    assert_eq!(eye.count(&analyst, "application:one"), 100);
    let narrowed = eye
        .get("/search?q=the&application=two&count=true&limit=0")
        .token(&analyst)
        .send()
        .expect(200)
        .json()["count"]
        .clone();
    assert_eq!(narrowed, eye.count(&two.token, "the"));
    assert_eq!(
        eye.count(&one.token, "the") + eye.count(&two.token, "the"),
        eye.count(&analyst, "the")
    );
}

#[test]
fn a_search_explains_which_clause_leaves_nothing() {
    let eye = Eye::start();
    let app = eye.application("website");
    let session = "e2085be5-9137-4e4e-80b5-f1ffddc25423";
    let lines: Vec<String> = (0..6)
        .map(|number| {
            let mut event = events::plain(session);
            event["category"] = json!("page interaction");
            event["name"] = json!(if number < 4 { "pageview" } else { "click" });
            event["data"] = json!({"path": format!("/{number}"), "user": {"plan": "pro"}});
            event["timestamp"] = json!(format!("2021-01-0{}T00:00:00Z", number + 1));
            event.to_string()
        })
        .collect();
    eye.store(&app, &lines);
    let explain = |q: &str, more: &str| {
        let target = format!(
            "/search?explain=true&limit=0&q={}{more}",
            percent_encoded(q)
        );
        eye.get(&target).token(&app.token).send().expect(200).json()["explain"].clone()
    };
    let told = explain("name:pageview pat:/1 interaction", "");
    assert_eq!(told["killed_by"], "data.pat:/1");
    let hits: Vec<u64> = told["clauses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|clause| clause["hits"].as_u64().unwrap())
        .collect();
    assert_eq!(hits, [4, 0, 6]);
    assert_eq!(told["clauses"][1]["position"], 14);
    assert_eq!(
        told["unknown_fields"],
        json!([{"field": "pat", "did_you_mean": "path"}])
    );
    // Each finds something, together nothing.
    let told = explain("name:click path:/1", "");
    assert_eq!(told["killed_by"], "data.path:/1");
    assert_eq!(told["unknown_fields"], json!([]));
    let told = explain("category:page", "");
    assert_eq!(told["hints"][0]["instead"], "category:*page*");
    assert_eq!(told["hints"][0]["hits"], 6);
    let told = explain("name:pageview", "&from=2021-01-03");
    assert_eq!(
        (&told["outside_time_range"], &told["killed_by"]),
        (&json!(2), &json!(null))
    );
    assert_eq!(
        explain("user:* nmae:x", "")["unknown_fields"],
        json!([{"field": "nmae", "did_you_mean": "name"}])
    );
    let other = eye.application("other");
    let told = eye
        .get("/search?explain=true&limit=0&q=pageview+pat:x")
        .token(&other.token)
        .send()
        .expect(200)
        .json();
    assert_eq!(told["explain"]["clauses"][0]["hits"], 0);
    // Which fields another application's events have is not told.
    assert_eq!(
        told["explain"]["unknown_fields"],
        json!([{"field": "pat", "did_you_mean": null}])
    );
}

/// Sends texts as events of their own and returns the texts found, with what else the answer says of each.
fn found_in_order(eye: &Eye, app: &App, target: &str) -> Vec<(String, Value)> {
    let answer = eye.get(target).token(&app.token).send().expect(200).json();
    let events = answer["events"].as_array().unwrap();
    let text = |event: &Value| event["data"]["text"].as_str().unwrap().to_owned();
    events
        .iter()
        .map(|event| (text(event), event.clone()))
        .collect()
}

#[test]
fn what_fits_best_comes_first_whichever_file_it_is_in() {
    let mut eye = support::Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "16KiB")
        .start();
    let app = eye.application("library");
    let event = |day: usize, text: &str| {
        let mut event = events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423");
        event["timestamp"] = json!(format!("2021-01-{:02}T00:00:00Z", 1 + day % 28));
        event["data"] = json!({ "text": text });
        event.to_string()
    };
    let mut lines = Vec::new();
    for day in 0..200 {
        // Frequent, rare, both, often, and in a long text; each of them over and over, so that it is in every file.
        let long = format!("walrus {}", "word ".repeat(60));
        let text = [
            "common",
            "common walrus",
            "walrus",
            "walrus walrus",
            long.trim(),
            "common common",
        ][day % 6];
        lines.push(event(day, text));
    }
    for some in lines.chunks(20) {
        eye.store(&app, some);
    }
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        let found = found_in_order(&eye, &app, "/search?q=walrus&order=-score&limit=1000");
        let mut order: Vec<&str> = found
            .iter()
            .map(|(text, _)| &text[..text.len().min(13)])
            .collect();
        order.dedup();
        assert_eq!(
            order,
            ["walrus walrus", "walrus", "common walrus", "walrus word w"]
        );
        assert_eq!(found.len() as u64, eye.count(&app.token, "walrus"));
        let score = |place: usize| found[place].1["score"].as_f64().unwrap();
        for place in 1..found.len() {
            assert!(score(place) <= score(place - 1));
            if found[place].0 == found[place - 1].0 {
                // The same text has the same score wherever it lies; then the newest comes first.
                assert!((score(place) - score(place - 1)).abs() < 1e-9);
                let time = |place: usize| found[place].1["timestamp"].as_str().unwrap();
                assert!(time(place) <= time(place - 1));
            }
        }
        // A rare word tells more than a frequent one.
        let found = found_in_order(
            &eye,
            &app,
            "/search?q=walrus%20OR%20common&order=-score&limit=200",
        );
        assert_eq!(found[0].0, "common walrus");
        let best = found_in_order(&eye, &app, "/search?q=walrus&order=-score&limit=3");
        assert!(best.iter().all(|(text, _)| text == "walrus walrus"));
    }
    let answer = eye
        .get("/search?q=walrus&order=-score&limit=3")
        .token(&app.token)
        .send();
    assert_eq!(answer.expect(200).json()["next"], Value::Null);
    let plain = found_in_order(&eye, &app, "/search?q=walrus&limit=3");
    assert!(
        plain
            .iter()
            .all(|(_, event)| event["score"].is_null() && event["highlight"].is_null())
    );
}

#[test]
fn highlights_say_where_in_which_string() {
    let eye = Eye::start();
    let app = eye.application("library");
    let mut event = events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423");
    event["data"] = json!({"text": "Ångström, the late Café", "tags": ["x", "too late"], "n": 5, "a.b": {"c": "late"}});
    eye.store(&app, &[event.to_string()]);
    let asked = |q: &str| {
        let target = format!("/search?highlight=true&q={}", percent_encoded(q));
        let answer = eye.get(&target).token(&app.token).send().expect(200).json();
        answer["events"][0]["highlight"].clone()
    };
    assert_eq!(
        asked("late"),
        json!({
            "data.text": [{"start": 14, "end": 18}],
            "data.tags[1]": [{"start": 4, "end": 8}],
            "data.a\\.b.c": [{"start": 0, "end": 4}],
        })
    );
    assert_eq!(
        asked("\"late cafe\""),
        json!({"data.text": [{"start": 14, "end": 23}]})
    );
    assert_eq!(
        asked("text:angstrom"),
        json!({"data.text": [{"start": 0, "end": 8}]})
    );
    assert_eq!(
        asked("category:page*"),
        json!({"category": [{"start": 0, "end": 4}]})
    );
    assert_eq!(asked("n:5 -nothing"), json!({}));
    // By POST as well.
    let body = json!({"q": "late", "highlight": true, "order": "-score"});
    let answer = eye
        .post("/search")
        .token(&app.token)
        .json(&body)
        .send()
        .expect(200)
        .json();
    assert_eq!(
        answer["events"][0]["highlight"]["data.text"][0]["start"],
        14
    );
    assert!(answer["events"][0]["score"].as_f64().unwrap() > 0.0);
    eye.get("/search?highlight=maybe")
        .token(&app.token)
        .send()
        .problem(400, "bad_parameter");
}
