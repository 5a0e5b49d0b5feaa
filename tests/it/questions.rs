//! Thousands of drawn questions find what a reading of every event's JSON finds: on the tail, on sealed files, and after
//! a restart. `EYE_QUESTIONS` says how many; 10,000 are the full form.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use support::evaluator::{Ask, Field, Literal, Seen, Test, disagreement};
use support::events::Generator;
use support::json_text::fields;
use support::json_tree::Tree;
use support::scanner::{is_word_character, words};
use support::{Eye, Launch, Random, events, time};

/// How many questions are asked unless the environment says otherwise.
const QUESTIONS: usize = 1_000;

/// Values of `data` that are likely to be got wrong.
const ODD: &[&str] = &[
    "0",
    "-0",
    "1",
    "1.0",
    "10e-1",
    "-17",
    "2.5",
    "2.50",
    "1e400",
    "-1e400",
    "2e999",
    "1e-400",
    "9007199254740992",
    "9007199254740993",
    "9007199254740993.0",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    r#""""#,
    r#"" ""#,
    r#""true""#,
    r#""null""#,
    r#""1""#,
    r#""1.0""#,
    r#""00501""#,
    r#""---""#,
    r#""a/b""#,
    r#""A/B""#,
    r#""/a/b/""#,
    r#""/reviews/""#,
    r#""/reviews/solar energy""#,
    r#""/Reviews/""#,
    r#""foo_bar-9""#,
    r#""10.0.0.1""#,
    r#""a@b.example""#,
    r#""Stra\u00dfe""#,
    r#""STRASSE""#,
    r#""strasse 9""#,
    r#""\ud800x""#,
    r#""x\udc00""#,
    r#""nul\u0000nul""#,
    r#""\u0001""#,
    r#""line\nline""#,
    r#""tab\ttab""#,
    r#""quote\"quote""#,
    r#""back\\slash""#,
    r#""*""#,
    r#""?""#,
    r#""what?""#,
    r#""a*b""#,
    r#""東京""#,
    r#""東京タワー""#,
    r#""東 京""#,
    r#""iPhoneケース12個""#,
    r#""กรุงเทพ""#,
    r#""e\u0301te""#,
    r#""Été""#,
    r#""ÅNGSTRÖM""#,
    r#""й""#,
    r#""и""#,
    r#""Σίσυφος""#,
    r#""ΣΊΣΥΦΟΣ""#,
    r#""😀 smile""#,
    r#""x²""#,
    r#""½""#,
    r#"[1,"1",true,null,[2,["deep"]]]"#,
    r#"{"a":{"b":1},"a.b":2}"#,
    r#"{"a":{"b":null}}"#,
    r#"[{"k":1},{"k":"one"},{}]"#,
    r#"{"k":1,"k":"two","K":3}"#,
    r#"{"with space":"v","dot.ted":{"x.y":"z"},"ключ":"значение","":"empty"}"#,
    r#""red green blue red""#,
    r#""green blue""#,
    r#""late delivery of the late parcel""#,
    r#""AND""#,
    r#""or not""#,
];

const KEYS: &[&str] = &[
    "v", "w", "path", "a", "a.b", "name", "k", "K", "ünï", "deep",
];

struct Store {
    eye: Eye,
    analyst: String,
    seen: Vec<Seen>,
}

impl Store {
    fn new(random: &mut Random) -> Self {
        let eye = Launch::new()
            .variable("EYE_SEGMENT_MAX_BYTES", "64KiB")
            .start();
        let apps = [eye.application("Shop"), eye.application("the blög")];
        let mut lines = events::varied();
        lines.extend(Generator::new(Random::new(random.bits()), 30).lines(350).0);
        lines.extend((0..300).map(|_| odd(random)));
        let mut sent: BTreeMap<String, (usize, String)> = BTreeMap::new();
        let mut by_app = vec![Vec::new(); 2];
        for line in lines {
            let (id, session) = (random.uuid(), fields(&line)["session_id"].clone());
            let place = usize::from(session.as_bytes()[9] % 2 == 0);
            let line = if line.starts_with(r#"{"id""#) {
                line
            } else {
                events::with_id(&line, &id)
            };
            let id = fields(&line)["id"].trim_matches('"').to_owned();
            sent.insert(id, (place, line.clone()));
            by_app[place].push(line);
        }
        for (app, lines) in apps.iter().zip(&by_app) {
            for some in lines.chunks(40) {
                eye.store(app, some);
            }
        }
        let analyst = eye.analyst();
        let pages = eye.pages(|eye| {
            let all = eye.get("/events").token(&analyst);
            all.query("order", "timestamp").query("limit", "1000")
        });
        let seen: Vec<Seen> = pages
            .iter()
            .flat_map(support::Answer::raw_events)
            .map(|event| {
                let text = |name: &str| match Tree::read(&event[name]) {
                    Tree::Text(text) => text,
                    other => panic!("{name} is {other:?}"),
                };
                let (place, line) = &sent[&text("id")];
                let line = fields(line);
                // What was sent is what is judged; the answer only says what the server decided itself.
                let own = |name: &str| match Tree::read(&line[name]) {
                    Tree::Text(text) => text.trim().to_owned(),
                    other => panic!("{name} is {other:?}"),
                };
                Seen {
                    application: ["Shop", "the blög"][*place].to_owned(),
                    category: own("category"),
                    name: own("name"),
                    session_id: own("session_id").to_lowercase(),
                    id: text("id"),
                    offset: event["offset"].parse().unwrap(),
                    timestamp: text("timestamp"),
                    received_at: text("received_at"),
                    data: Tree::read(&line["data"]),
                }
            })
            .collect();
        assert_eq!(seen.len(), sent.len());
        Self { eye, analyst, seen }
    }

    /// Asks, and says in what the answer is not what a reading of every event finds. Returns how many match.
    fn ask(&self, ask: &Ask) -> Result<usize, String> {
        let q = ask.written();
        let answer = self
            .eye
            .get("/search")
            .token(&self.analyst)
            .query("q", &q)
            .query("count", "true")
            .query("limit", "1000")
            .send();
        if answer.status != 200 {
            return Err(format!("{q}\n{ask:?}\n{}", answer.text()));
        }
        let found = answer.raw_events();
        let ids: BTreeSet<&str> = found
            .iter()
            .map(|event| event["id"].trim_matches('"'))
            .collect();
        let expected = |seen: &&Seen| ask.holds(seen);
        let (mut missing, mut surplus, mut matching) = (Vec::new(), Vec::new(), 0);
        for seen in &self.seen {
            match (expected(&seen), ids.contains(seen.id.as_str())) {
                (true, false) => missing.push(seen),
                (false, true) => surplus.push(seen),
                _ => {}
            }
            matching += usize::from(expected(&seen));
        }
        let count = fields(&answer.text())["count"].parse::<usize>().unwrap();
        if missing.is_empty() && surplus.is_empty() && count == matching && found.len() == matching
        {
            return Ok(matching);
        }
        Err(format!(
            "{} expected, {count} counted, {} listed: {}",
            matching,
            found.len(),
            disagreement(ask, &missing, &surplus)
        ))
    }
}

/// An event whose data is made of odd values under few keys.
fn odd(random: &mut Random) -> String {
    let mut data = Vec::new();
    for _ in 0..1 + random.below(5) {
        let mut value = (*random.pick(ODD)).to_owned();
        if random.one_in(4) {
            value = format!("[{value},{}]", random.pick(ODD));
        }
        if random.one_in(5) {
            value = format!(r#"{{"{}":{value}}}"#, random.pick(KEYS));
        }
        if random.one_in(25) {
            // Too long for a column, and words longer than 255 bytes.
            value = format!(r#""{} tail""#, "lang".repeat(40 + random.index(60)));
        }
        data.push(format!(r#""{}":{value}"#, random.pick(KEYS)));
    }
    let session = [
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
    ];
    format!(
        r#"{{"session_id":"{}","category":"{}","name":"{}","data":{{{}}},"timestamp":"{}"}}"#,
        random.pick(&session),
        random.pick(&[
            "page interaction",
            "PAGE",
            "page",
            "Café",
            "東京",
            "-",
            "true",
            "5"
        ]),
        random.pick(&[
            "submit",
            "Submit form",
            "submit-form",
            "x²",
            "null",
            "東京タワー"
        ]),
        data.join(","),
        time::utc(
            1_609_459_200_000_000
                + (random.below(72) * 3_600_000_000) as i64
                + random.below(3) as i64
        ),
    )
}

/// Draws questions about what there is.
struct Drawer<'s> {
    random: Random,
    seen: &'s [Seen],
    /// Keys that lead to a value, and the value.
    values: Vec<(Vec<String>, Tree)>,
    /// Every string, wherever it is.
    strings: Vec<String>,
}

impl<'s> Drawer<'s> {
    fn new(seed: u64, seen: &'s [Seen]) -> Self {
        let mut values = Vec::new();
        let mut strings = Vec::new();
        for event in seen {
            strings.extend([event.category.clone(), event.name.clone()]);
            for (keys, leaf) in event.data.leaves() {
                if let Tree::Text(text) = leaf {
                    strings.push(text.clone());
                }
                let keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
                values.push((keys, leaf.clone()));
            }
        }
        Self {
            random: Random::announced(seed),
            seen,
            values,
            strings,
        }
    }

    fn ask(&mut self, depth: u32) -> Ask {
        if depth == 0 || self.random.one_in(2) {
            return self.simple();
        }
        let several = |drawer: &mut Self| {
            let count = 2 + drawer.random.index(2);
            (0..count).map(|_| drawer.ask(depth - 1)).collect()
        };
        match self.random.below(5) {
            0 | 1 => Ask::All(several(self)),
            2 | 3 => Ask::Any(several(self)),
            _ => Ask::Not(Box::new(self.ask(depth - 1)), self.random.one_in(2)),
        }
    }

    fn simple(&mut self) -> Ask {
        match self.random.below(26) {
            0 => Ask::Everything,
            1..=3 => Ask::Bare(self.word()),
            4 | 5 => Ask::Bare(self.row(&["-", "_", ".", "/", "@", "--"])),
            6 | 7 => Ask::Quoted(self.row(&[" ", ", ", "-"]), 0),
            8 => {
                let (row, between) = self.row_with_gaps();
                Ask::Quoted(row, between)
            }
            9 | 10 => Ask::Pattern(self.pattern(false)),
            11 => {
                let (word, edits) = self.misspelt();
                Ask::Fuzzy(word, edits)
            }
            12..=14 => self.on_a_label(),
            15 => self.on_an_id(),
            16 => self.on_offsets(),
            17 => self.on_times(),
            _ => self.on_a_path(),
        }
    }

    fn string(&mut self) -> String {
        self.random.pick(&self.strings).clone()
    }

    fn event(&mut self) -> &'s Seen {
        &self.seen[self.random.index(self.seen.len())]
    }

    /// A word that is somewhere, in any case.
    fn word(&mut self) -> String {
        loop {
            let string = self.string();
            let found = words(&string);
            if !found.is_empty() {
                let word = self.random.pick(&found).clone();
                return self.cased(word);
            }
        }
    }

    fn cased(&mut self, text: String) -> String {
        match self.random.below(4) {
            0 => text.to_uppercase(),
            _ => text,
        }
    }

    /// Neighbouring words of a string, or now and then of two.
    fn row(&mut self, between: &[&str]) -> String {
        loop {
            let mut found = words(&self.string());
            if self.random.one_in(6) {
                found.extend(words(&self.string()));
            }
            if found.len() < 2 {
                continue;
            }
            let start = self.random.index(found.len() - 1);
            let end = (start + 2 + self.random.index(2)).min(found.len());
            let between = *self.random.pick(between);
            return self.cased(found[start..end].join(between));
        }
    }

    fn row_with_gaps(&mut self) -> (String, usize) {
        let found = words(&self.string());
        let start = self.random.index(found.len().max(1));
        let step = 1 + self.random.index(3);
        let some: Vec<String> = found
            .into_iter()
            .skip(start)
            .step_by(step)
            .take(3)
            .collect();
        if some.is_empty() {
            return (self.word(), 1);
        }
        (some.join(" "), self.random.index(5))
    }

    /// A word with edits, and how many are allowed; not always enough.
    fn misspelt(&mut self) -> (String, usize) {
        loop {
            let mut letters: Vec<char> = self.word().chars().collect();
            if letters.len() < 3 || letters.len() > 60 {
                continue;
            }
            for _ in 0..self.random.index(3) {
                let at = self.random.index(letters.len() - 1);
                match self.random.below(4) {
                    0 => letters.swap(at, at + 1),
                    1 => drop(letters.remove(at)),
                    2 => letters.insert(at, 'x'),
                    _ => letters[at] = 'q',
                }
            }
            let word: String = letters.into_iter().collect();
            if words(&word).len() == 1 && words(&word)[0].chars().count() > 2 {
                return (word, 1 + self.random.index(2));
            }
        }
    }

    /// A word or a whole value with holes in it.
    fn pattern(&mut self, whole: bool) -> String {
        loop {
            let whole = whole || self.random.one_in(4);
            let text = if whole { self.string() } else { self.word() };
            let characters: Vec<char> = text.chars().filter(|c| !matches!(c, '*' | '?')).collect();
            if characters.is_empty() || characters.len() > 80 {
                continue;
            }
            let mut pattern: Vec<char> = characters.clone();
            match self.random.below(4) {
                0 => {
                    pattern.truncate(1 + self.random.index(pattern.len()));
                    pattern.push('*');
                }
                1 => {
                    pattern.drain(..self.random.index(pattern.len()));
                    pattern.insert(0, '*');
                }
                2 => {
                    let at = self.random.index(pattern.len());
                    pattern[at] = '?';
                }
                _ => {
                    let at = self.random.index(pattern.len());
                    pattern[at] = '*';
                    if self.random.one_in(2) {
                        pattern.push('*');
                    }
                }
            }
            let pattern: String = pattern.into_iter().collect();
            // Nothing but `*` asks whether the field is there; a bare pattern of holes alone is no question anybody has.
            if pattern
                .chars()
                .any(|c| is_word_character(c) || !matches!(c, '*' | '?'))
            {
                return pattern;
            }
        }
    }

    fn on_a_label(&mut self) -> Ask {
        let name = *self.random.pick(&["category", "name", "application"]);
        let event = self.event();
        let label = match name {
            "category" => event.category.clone(),
            "name" => event.name.clone(),
            _ => event.application.clone(),
        };
        let test = self.text_test(&label);
        Ask::Field(Field::Label(name), test)
    }

    fn on_an_id(&mut self) -> Ask {
        let event = self.event();
        let (name, id) = *self
            .random
            .pick(&[("id", &event.id), ("session_id", &event.session_id)]);
        let test = match self.random.below(5) {
            0 => Test::Exists,
            1 => Test::Pattern(format!("{}*", &id[..1 + self.random.index(35)])),
            2 => Test::In(vec![
                Literal {
                    text: id.clone(),
                    quoted: true,
                },
                Literal {
                    text: self.event().id.clone(),
                    quoted: false,
                },
            ]),
            _ => Test::Is(Literal {
                text: self.cased(id.clone()),
                quoted: self.random.one_in(2),
            }),
        };
        Ask::Field(Field::Id(name), test)
    }

    fn on_offsets(&mut self) -> Ask {
        let mut one = |drawer: &mut Self| Literal {
            text: drawer.event().offset.to_string(),
            quoted: false,
        };
        let test = self.ordered(&mut one);
        Ask::Field(Field::Offset, test)
    }

    fn on_times(&mut self) -> Ask {
        let name = *self.random.pick(&["timestamp", "received_at"]);
        let mut one = |drawer: &mut Self| {
            let event = drawer.event();
            let instant = match name {
                "timestamp" => &event.timestamp,
                _ => &event.received_at,
            };
            let text = match drawer.random.below(3) {
                0 => instant[..10].to_owned(),
                1 => instant.clone(),
                _ => format!("{}Z", &instant[..19]),
            };
            Literal {
                text,
                quoted: drawer.random.one_in(2),
            }
        };
        let test = self.ordered(&mut one);
        Ask::Field(Field::Time(name), test)
    }

    fn ordered(&mut self, one: &mut dyn FnMut(&mut Self) -> Literal) -> Test {
        match self.random.below(8) {
            0 => Test::Exists,
            1 | 2 => Test::Is(one(self)),
            3 => Test::In(vec![one(self), one(self)]),
            4 | 5 => self.beyond(one),
            _ => self.range(one),
        }
    }

    fn beyond(&mut self, one: &mut dyn FnMut(&mut Self) -> Literal) -> Test {
        Test::Beyond {
            above: self.random.one_in(2),
            inside: self.random.one_in(2),
            end: one(self),
        }
    }

    /// A range of which an end may be open; the lower end is not always the lower one.
    fn range(&mut self, one: &mut dyn FnMut(&mut Self) -> Literal) -> Test {
        let inside = [self.random.one_in(2), self.random.one_in(2)];
        let lower = Some((one(self), inside[0]));
        let upper = Some((one(self), inside[1]));
        match self.random.below(4) {
            0 => Test::Range(lower, None),
            1 => Test::Range(None, upper),
            _ => Test::Range(lower, upper),
        }
    }

    fn on_a_path(&mut self) -> Ask {
        let (keys, leaf) = loop {
            let (keys, leaf) = self.random.pick(&self.values).clone();
            // An empty key cannot be written.
            if keys.iter().all(|key| !key.is_empty()) {
                break (keys, leaf);
            }
        };
        let test = match &leaf {
            _ if self.random.one_in(8) => Test::Exists,
            Tree::Text(text) => self.text_test(text),
            Tree::Number(digits) => self.number_test(digits),
            other => {
                let text = match other {
                    Tree::Bool(value) => value.to_string(),
                    _ => "null".to_owned(),
                };
                let literal = Literal {
                    text,
                    quoted: self.random.one_in(4),
                };
                match self.random.below(3) {
                    0 => Test::Is(literal),
                    1 => Test::Exactly(literal),
                    _ => Test::In(vec![literal, self.literal()]),
                }
            }
        };
        let keys = self.path(keys, matches!(test, Test::Exists));
        let built_in = [
            "category",
            "name",
            "session_id",
            "id",
            "application",
            "offset",
            "timestamp",
            "received_at",
        ];
        let plain = keys[0].chars().all(char::is_alphabetic) && keys[0] != "data";
        let bare = plain && !built_in.contains(&keys[0].as_str()) && self.random.one_in(2);
        Ask::Field(Field::Data(keys, bare), test)
    }

    /// The keys as a query may tell them apart: one that holds a dot whole or in two. Now and then only the first of them, or
    /// not quite.
    fn path(&mut self, keys: Vec<String>, exists: bool) -> Vec<String> {
        let keep = if exists && self.random.one_in(3) {
            1
        } else {
            keys.len()
        };
        let mut path = Vec::new();
        for key in keys.into_iter().take(keep) {
            let parts: Vec<String> = key.split('.').map(str::to_owned).collect();
            if self.random.one_in(2) && parts.iter().all(|part| !part.is_empty()) {
                path.extend(parts);
            } else {
                path.push(key);
            }
        }
        if path.len() == 2 && self.random.one_in(6) {
            path = vec![path.join(".")];
        }
        if self.random.one_in(25) {
            path.push("a".to_owned());
        }
        path
    }

    /// A value that is somewhere, as it may be written.
    fn literal(&mut self) -> Literal {
        let (_, leaf) = self.random.pick(&self.values).clone();
        let text = match leaf {
            Tree::Text(text) => text,
            Tree::Number(digits) => digits,
            Tree::Bool(value) => value.to_string(),
            _ => "null".to_owned(),
        };
        self.writable(text)
    }

    /// In quotes wherever it would be empty without them.
    fn writable(&mut self, text: String) -> Literal {
        let quoted = text.is_empty() || self.random.one_in(2);
        Literal { text, quoted }
    }

    fn text_test(&mut self, text: &str) -> Test {
        let part = |drawer: &mut Self| {
            let found = words(text);
            if found.is_empty() {
                return text.to_owned();
            }
            let start = drawer.random.index(found.len());
            let end = (start + 1 + drawer.random.index(3)).min(found.len());
            found[start..end].join(" ")
        };
        match self.random.below(20) {
            0..=3 => {
                let text = self.cased(text.to_owned());
                Test::Is(self.writable(text))
            }
            4 | 5 => {
                let some = part(self);
                Test::Is(self.writable(some))
            }
            6 | 7 => Test::Exactly(Literal {
                text: text.to_owned(),
                quoted: true,
            }),
            8..=10 => Test::Pattern(self.pattern(true)),
            11 | 12 => Test::In(vec![
                self.literal(),
                self.writable(text.to_owned()),
                self.literal(),
            ]),
            13 | 14 => {
                let mut one = |drawer: &mut Self| {
                    let mut text = drawer.string();
                    text = text.chars().take(4).collect();
                    Literal { text, quoted: true }
                };
                if self.random.one_in(2) {
                    self.beyond(&mut one)
                } else {
                    self.range(&mut one)
                }
            }
            15 | 16 => Test::Regex(self.expression(text)),
            17 => {
                let (word, edits) = self.misspelt();
                Test::Fuzzy(word, edits)
            }
            _ => {
                let (row, between) = self.row_with_gaps();
                match words(text).len() {
                    0 => Test::Near(row, between),
                    _ => Test::Near(part(self), between),
                }
            }
        }
    }

    fn expression(&mut self, text: &str) -> String {
        let some: String = text.chars().take(3).collect();
        let some = regex::escape(&some);
        match self.random.below(5) {
            0 => format!("{some}.*"),
            1 => format!("({some}|re).+"),
            2 => format!(".*{some}"),
            3 => "[a-z/ ]+".to_owned(),
            _ => regex::escape(text),
        }
    }

    fn number_test(&mut self, digits: &str) -> Test {
        let mut one = |drawer: &mut Self| loop {
            if let (_, Tree::Number(digits)) = drawer.random.pick(&drawer.values) {
                return Literal {
                    text: digits.clone(),
                    quoted: false,
                };
            }
        };
        let itself = Literal {
            text: digits.to_owned(),
            quoted: self.random.one_in(8),
        };
        match self.random.below(6) {
            0 | 1 => Test::Is(itself),
            2 => Test::Exactly(itself),
            3 => Test::In(vec![one(self), itself]),
            4 => self.beyond(&mut one),
            _ => self.range(&mut one),
        }
    }
}

#[test]
fn drawn_questions_find_what_a_reading_of_every_event_finds() {
    let count: usize = std::env::var("EYE_QUESTIONS").map_or(QUESTIONS, |text| {
        text.parse().expect("EYE_QUESTIONS is a number")
    });
    let mut random = Random::announced(4_711);
    let mut store = Store::new(&mut random);
    let seen = store.seen.clone();
    let mut drawer = Drawer::new(random.bits(), &seen);
    let (mut with_hits, mut with_few, mut wrong) = (0, 0, Vec::new());
    let mut constructs: BTreeMap<&str, usize> = BTreeMap::new();
    for place in 0..count {
        if place == count / 3 {
            wait_until_sealed(&store.eye);
        }
        if place == count / 3 * 2 {
            store.eye.restart();
        }
        let ask = drawer.ask(2);
        for construct in ask.constructs() {
            *constructs.entry(construct).or_default() += 1;
        }
        match store.ask(&ask) {
            Ok(found) => {
                with_hits += usize::from(found > 0);
                with_few += usize::from((2..=20).contains(&found));
            }
            Err(message) => wrong.push(format!("question {place}: {message}")),
        }
        assert!(wrong.len() < 10, "{}", wrong.join("\n"));
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    eprintln!("{count} questions, {with_hits} with hits, {with_few} with 2 to 20; {constructs:?}");
    assert!(with_hits * 2 >= count, "{with_hits} of {count} have hits");
    assert!(
        with_few * 20 >= count,
        "{with_few} of {count} have 2 to 20 hits"
    );
    for (construct, times) in constructs {
        // 200 times in ten thousand.
        assert!(
            times * 50 >= count,
            "{construct} only {times} times in {count}"
        );
    }
}

fn wait_until_sealed(eye: &Eye) {
    let log = eye.data().join("log");
    time::wait_until("files are sealed", Duration::from_secs(60), || {
        let names = std::fs::read_dir(&log).unwrap();
        let sealed = names.filter(|name| {
            let path = name.as_ref().unwrap().path();
            path.extension().is_some_and(|suffix| suffix == "sealed")
        });
        sealed.count() >= 2
    });
}
