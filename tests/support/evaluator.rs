//! Says whether an event matches a question by looking at its JSON: the judge of the query language. It takes questions
//! as trees, writes them as queries, and shares no code with the product; its rules are the contract's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;

use regex::Regex;

use crate::json_tree::{Tree, number_length};
use crate::scanner::{self, is_word_character, stands_alone};
use crate::time;

/// What is asked of an event.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `*`
    Everything,
    /// Every one holds; written with AND or with nothing between.
    All(Vec<Ask>),
    /// One of them holds.
    Any(Vec<Ask>),
    /// It does not hold; written `NOT`, or `-` where the flag says so.
    Not(Box<Ask>, bool),
    /// Text without quotes, whose words stand in a row within one string.
    Bare(String),
    /// Text in quotes, with so many words allowed between.
    Quoted(String, usize),
    /// Text with `*` and `?` in it, without quotes.
    Pattern(String),
    /// A word that is so many edits away at most.
    Fuzzy(String, usize),
    /// A field and what its value must be.
    Field(Field, Test),
}

/// A field of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// `category`, `name`, `application`
    Label(&'static str),
    /// `session_id`, `id`
    Id(&'static str),
    /// `offset`
    Offset,
    /// `timestamp`, `received_at`
    Time(&'static str),
    /// A path in `data`: keys as far as they are told apart, and whether `data.` is left out.
    Data(Vec<String>, bool),
}

/// What the value of a field must be.
#[derive(Clone, Debug)]
pub enum Test {
    /// `field:value`
    Is(Literal),
    /// `field==value`
    Exactly(Literal),
    /// `field:val*`
    Pattern(String),
    /// `field:*`
    Exists,
    /// `field:[10 TO 20}`; the flags say whether an end is inside.
    Range(Option<(Literal, bool)>, Option<(Literal, bool)>),
    /// `field:>10` (above) or `field:<10`, with or without `=`.
    Beyond {
        /// Whether it is `>`.
        above: bool,
        /// Whether the end is inside.
        inside: bool,
        /// What is compared with.
        end: Literal,
    },
    /// `field:IN [a, "b"]`
    In(Vec<Literal>),
    /// `field=~"regex"`
    Regex(String),
    /// `field:word~1`
    Fuzzy(String, usize),
    /// `field:"two words"~1`
    Near(String, usize),
}

/// A value as it is written.
#[derive(Clone, Debug)]
pub struct Literal {
    /// Its text.
    pub text: String,
    /// Whether it stands in quotes.
    pub quoted: bool,
}

/// An event as the evaluator sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `application`, as sent.
    pub application: String,
    /// `category`, trimmed.
    pub category: String,
    /// `name`, trimmed.
    pub name: String,
    /// `session_id` in lower case.
    pub session_id: String,
    /// `id` in lower case.
    pub id: String,
    /// Its place in the log.
    pub offset: u64,
    /// `timestamp`, as it goes out.
    pub timestamp: String,
    /// `received_at`, as it goes out.
    pub received_at: String,
    /// `data`
    pub data: Tree,
}

impl Ask {
    /// Says whether an event matches.
    pub fn holds(&self, event: &Seen) -> bool {
        match self {
            Ask::Everything => true,
            Ask::All(asks) => asks.iter().all(|ask| ask.holds(event)),
            Ask::Any(asks) => asks.iter().any(|ask| ask.holds(event)),
            Ask::Not(ask, _) => !ask.holds(event),
            Ask::Bare(text) => event.any_string(|string| in_a_row(&words(text), string, 0)),
            Ask::Quoted(text, between) => {
                event.any_string(|string| in_a_row(&words(text), string, *between))
            }
            Ask::Pattern(pattern) => event.any_string(|string| fits(pattern, string)),
            Ask::Fuzzy(word, edits) => event.any_string(|string| is_near(word, *edits, string)),
            Ask::Field(field, test) => field_holds(field, test, event),
        }
    }

    /// Returns the names of the constructs it is made of.
    pub fn constructs(&self) -> Vec<&'static str> {
        let inner = |asks: &[Ask]| asks.iter().flat_map(Ask::constructs).collect::<Vec<_>>();
        match self {
            Ask::Everything => vec!["everything"],
            Ask::All(asks) => [vec!["and"], inner(asks)].concat(),
            Ask::Any(asks) => [vec!["or"], inner(asks)].concat(),
            Ask::Not(ask, _) => [vec!["not"], ask.constructs()].concat(),
            Ask::Bare(text) if words(text).len() > 1 => vec!["bare phrase"],
            Ask::Bare(_) => vec!["word"],
            Ask::Quoted(_, 0) => vec!["phrase"],
            Ask::Quoted(..) => vec!["phrase with gaps"],
            Ask::Pattern(_) => vec!["pattern"],
            Ask::Fuzzy(..) => vec!["fuzzy word"],
            Ask::Field(field, test) => {
                let of = match field {
                    Field::Label(_) => "field: label",
                    Field::Id(_) => "field: id",
                    Field::Offset => "field: offset",
                    Field::Time(_) => "field: time",
                    Field::Data(..) => "field: path",
                };
                let kind = match test {
                    Test::Is(literal) if literal.quoted => "is, quoted",
                    Test::Is(_) => "is, unquoted",
                    Test::Exactly(_) => "exactly",
                    Test::Pattern(_) => "pattern on a field",
                    Test::Exists => "exists",
                    Test::Range(..) => "range",
                    Test::Beyond { .. } => "comparison",
                    Test::In(_) => "any of",
                    Test::Regex(_) => "regular expression",
                    Test::Fuzzy(..) => "fuzzy word in a field",
                    Test::Near(..) => "phrase with gaps in a field",
                };
                vec![of, kind]
            }
        }
    }

    /// Writes it as a query.
    pub fn written(&self) -> String {
        match self {
            Ask::Everything => "*".to_owned(),
            Ask::All(asks) => {
                // AND may be left out; which of the two is decided by what is asked, so that both come.
                let between = if asks.len() % 2 == 0 { " " } else { " AND " };
                self.joined(asks, between)
            }
            Ask::Any(asks) => self.joined(asks, " OR "),
            Ask::Not(ask, dash) => {
                let sign = if *dash { "-" } else { "NOT " };
                match ask.as_ref() {
                    Ask::All(_) | Ask::Any(_) | Ask::Not(..) => {
                        format!("{sign}({})", ask.written())
                    }
                    _ => format!("{sign}{}", ask.written()),
                }
            }
            Ask::Bare(text) => unquoted(text, ""),
            Ask::Quoted(text, 0) => quoted(text),
            Ask::Quoted(text, between) => format!("{}~{between}", quoted(text)),
            Ask::Pattern(pattern) => unquoted(pattern, "*?"),
            Ask::Fuzzy(word, edits) => format!("{}~{edits}", unquoted(word, "")),
            Ask::Field(field, test) => format!("{}{}", field.written(), test.written()),
        }
    }

    /// AND binds tighter than OR, so that only OR within AND, and what has no operator of its own, needs parentheses.
    fn joined(&self, asks: &[Ask], between: &str) -> String {
        let part = |ask: &Ask| match (self, ask) {
            (Ask::All(_), Ask::Any(_))
            | (Ask::All(_), Ask::All(_))
            | (Ask::Any(_), Ask::Any(_)) => {
                format!("({})", ask.written())
            }
            _ => ask.written(),
        };
        asks.iter().map(part).collect::<Vec<_>>().join(between)
    }
}

impl Field {
    fn written(&self) -> String {
        match self {
            Field::Label(name) | Field::Id(name) | Field::Time(name) => (*name).to_owned(),
            Field::Offset => "offset".to_owned(),
            Field::Data(keys, bare) => {
                let keys: Vec<String> = keys.iter().map(|key| unquoted(key, "")).collect();
                let path = keys.join(".");
                if *bare { path } else { format!("data.{path}") }
            }
        }
    }
}

impl Test {
    fn written(&self) -> String {
        match self {
            Test::Is(literal) => format!(":{}", literal.written()),
            Test::Exactly(literal) => format!("=={}", literal.written()),
            Test::Pattern(pattern) => format!(":{}", unquoted(pattern, "*?")),
            Test::Exists => ":*".to_owned(),
            Test::Range(lower, upper) => {
                let end = |end: &Option<(Literal, bool)>| {
                    end.as_ref()
                        .map_or("*".to_owned(), |(end, _)| end.written())
                };
                let inside = |end: &Option<(Literal, bool)>| end.as_ref().is_none_or(|end| end.1);
                format!(
                    ":{}{} TO {}{}",
                    if inside(lower) { '[' } else { '{' },
                    end(lower),
                    end(upper),
                    if inside(upper) { ']' } else { '}' },
                )
            }
            Test::Beyond { above, inside, end } => format!(
                ":{}{}{}",
                if *above { '>' } else { '<' },
                if *inside { "=" } else { "" },
                end.written()
            ),
            Test::In(literals) => {
                let each: Vec<String> = literals.iter().map(Literal::written).collect();
                format!(":IN [{}]", each.join(", "))
            }
            Test::Regex(expression) => format!("=~{}", quoted(expression)),
            Test::Fuzzy(word, edits) => format!(":{}~{edits}", unquoted(word, "")),
            Test::Near(text, between) => format!(":{}~{between}", quoted(text)),
        }
    }
}

impl Literal {
    fn written(&self) -> String {
        if self.quoted {
            quoted(&self.text)
        } else {
            unquoted(&self.text, "")
        }
    }

    /// What it is besides text.
    fn other(&self) -> Option<Tree> {
        match self.text.as_str() {
            _ if self.quoted => None,
            "true" => Some(Tree::Bool(true)),
            "false" => Some(Tree::Bool(false)),
            "null" => Some(Tree::Null),
            text if !text.is_empty() && number_length(text) == text.len() => {
                Some(Tree::Number(text.to_owned()))
            }
            _ => None,
        }
    }
}

/// What was found out about a text is kept: thousands of questions are about the same ones.
#[derive(Default)]
struct Known {
    words: HashMap<String, Rc<Vec<String>>>,
    folded: HashMap<String, Rc<String>>,
    expressions: HashMap<String, Rc<Regex>>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

fn known<T>(
    of: fn(&mut Known) -> &mut HashMap<String, Rc<T>>,
    text: &str,
    find_out: impl FnOnce() -> T,
) -> Rc<T> {
    KNOWN.with_borrow_mut(|known| {
        let known = of(known);
        if let Some(found) = known.get(text) {
            return found.clone();
        }
        let found = Rc::new(find_out());
        known.insert(text.to_owned(), found.clone());
        found
    })
}

fn words(text: &str) -> Rc<Vec<String>> {
    known(|known| &mut known.words, text, || scanner::words(text))
}

fn fold(text: &str) -> Rc<String> {
    known(|known| &mut known.folded, text, || scanner::fold(text))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Every character that is not plainly part of a word is escaped, except those that are to mean something. Digits,
/// letters and the signs of numbers and times stay as they are, so that a number is still one.
fn unquoted(text: &str, meant: &str) -> String {
    let mut written = String::new();
    for (place, character) in text.chars().enumerate() {
        let number = number_length(text) == text.len() && matches!(character, '-' | '+' | '.');
        let inner = place > 0 && matches!(character, '-' | '_' | '/');
        if !(is_word_character(character) || meant.contains(character) || number || inner) {
            written.push('\\');
        }
        written.push(character);
    }
    // In capitals these would be operators.
    if ["AND", "OR", "NOT", "IN", "TO"].contains(&written.as_str()) {
        written.insert(0, '\\');
    }
    written
}

impl Seen {
    fn any_string(&self, holds: impl Fn(&str) -> bool) -> bool {
        holds(&self.category)
            || holds(&self.name)
            || self
                .data
                .leaves()
                .iter()
                .any(|(_, leaf)| matches!(leaf, Tree::Text(text) if holds(text)))
    }
}

fn field_holds(field: &Field, test: &Test, event: &Seen) -> bool {
    match field {
        Field::Label(name) => {
            let label = match *name {
                "category" => &event.category,
                "name" => &event.name,
                _ => &event.application,
            };
            // The whole value, not words of it.
            match test {
                Test::Is(literal) => fold(&literal.text) == fold(label),
                Test::In(each) => each.iter().any(|one| fold(&one.text) == fold(label)),
                _ => leaf_holds(test, &Tree::Text(label.clone())),
            }
        }
        Field::Id(name) => {
            let id = if *name == "id" {
                &event.id
            } else {
                &event.session_id
            };
            match test {
                Test::Exists => true,
                Test::Pattern(pattern) => glob(&pattern.to_lowercase(), id),
                Test::Is(literal) | Test::Exactly(literal) => literal.text.to_lowercase() == *id,
                Test::In(each) => each.iter().any(|one| one.text.to_lowercase() == *id),
                other => panic!("{other:?} is not asked of ids"),
            }
        }
        Field::Offset => ordered(test, |literal| {
            let offset: u64 = literal.text.parse().expect("an offset");
            event.offset.cmp(&offset)
        }),
        Field::Time(name) => {
            let instant = match *name {
                "timestamp" => &event.timestamp,
                _ => &event.received_at,
            };
            // As they go out, times sort as text; a date is all of its day.
            ordered(test, |literal| {
                if literal.text.len() == "2021-01-01".len() {
                    instant[..10].cmp(&literal.text)
                } else {
                    instant.cmp(&time::utc(time::microseconds(&literal.text)))
                }
            })
        }
        Field::Data(wanted, _) => event.data.leaves().iter().any(|(keys, leaf)| match test {
            Test::Exists => {
                **leaf != Tree::Null && above(keys).iter().any(|keys| is_path(wanted, keys))
            }
            _ => is_path(wanted, keys) && leaf_holds(test, leaf),
        }),
    }
}

/// Compares what has an order of its own; `compare` says how the event's value lies to a literal.
fn ordered(test: &Test, compare: impl Fn(&Literal) -> std::cmp::Ordering) -> bool {
    let is = |literal: &Literal| compare(literal).is_eq();
    let above = |end: &Literal, inside: bool| {
        let order = compare(end);
        order.is_gt() || (inside && order.is_eq())
    };
    let below = |end: &Literal, inside: bool| {
        let order = compare(end);
        order.is_lt() || (inside && order.is_eq())
    };
    match test {
        Test::Exists => true,
        Test::Is(literal) | Test::Exactly(literal) => is(literal),
        Test::In(each) => each.iter().any(is),
        Test::Range(lower, upper) => {
            lower
                .as_ref()
                .is_none_or(|(end, inside)| above(end, *inside))
                && upper
                    .as_ref()
                    .is_none_or(|(end, inside)| below(end, *inside))
        }
        Test::Beyond {
            above: true,
            inside,
            end,
        } => above(end, *inside),
        Test::Beyond { inside, end, .. } => below(end, *inside),
        other => panic!("{other:?} is not asked of what has an order of its own"),
    }
}

/// Returns every path that leads to something the keys lead to; a key with dots may be read as several.
fn above<'k>(keys: &[&'k str]) -> Vec<Vec<&'k str>> {
    let mut paths = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        let ends = key
            .match_indices('.')
            .map(|(dot, _)| dot)
            .chain([key.len()]);
        paths.extend(ends.map(|end| [&keys[..place], &[&key[..end]]].concat()));
    }
    paths
}

/// Says whether the keys are the wanted ones, where a key with dots may be wanted as several.
fn is_path(wanted: &[String], keys: &[&str]) -> bool {
    match keys {
        [] => wanted.is_empty(),
        [first, others @ ..] => (1..=wanted.len())
            .any(|some| wanted[..some].join(".") == **first && is_path(&wanted[some..], others)),
    }
}

fn leaf_holds(test: &Test, leaf: &Tree) -> bool {
    match (test, leaf) {
        (Test::Exists, leaf) => *leaf != Tree::Null,
        (Test::Is(literal), Tree::Text(text)) => {
            fold(&literal.text) == fold(text) || in_a_row(&words(&literal.text), text, 0)
        }
        (Test::Is(literal), other) => literal.other().is_some_and(|wanted| same(&wanted, other)),
        (Test::In(each), leaf) => each
            .iter()
            .any(|one| leaf_holds(&Test::Is(one.clone()), leaf)),
        (Test::Exactly(literal), Tree::Text(text)) => literal.quoted && literal.text == *text,
        (Test::Exactly(literal), other) => {
            literal.other().is_some_and(|wanted| same(&wanted, other))
        }
        (Test::Pattern(pattern), Tree::Text(text)) => fits(pattern, text),
        (Test::Regex(expression), Tree::Text(text)) => {
            let whole = format!("(?s)^(?:{expression})$");
            known(
                |known| &mut known.expressions,
                &whole,
                || Regex::new(&whole).expect("an expression"),
            )
            .is_match(text)
        }
        (Test::Fuzzy(word, edits), Tree::Text(text)) => is_near(word, *edits, text),
        (Test::Near(wanted, between), Tree::Text(text)) => in_a_row(&words(wanted), text, *between),
        (Test::Range(lower, upper), leaf) => {
            let lower = lower.as_ref().is_none_or(|(end, inside)| {
                beyond(leaf, end).is_some_and(|order| order.is_gt() || (*inside && order.is_eq()))
            });
            let upper = upper.as_ref().is_none_or(|(end, inside)| {
                beyond(leaf, end).is_some_and(|order| order.is_lt() || (*inside && order.is_eq()))
            });
            lower && upper
        }
        (Test::Beyond { above, inside, end }, leaf) => beyond(leaf, end).is_some_and(|order| {
            (*inside && order.is_eq()) || if *above { order.is_gt() } else { order.is_lt() }
        }),
        _ => false,
    }
}

/// How a value lies to the end of a range: numbers to numbers by nearest double, strings to text by code points.
fn beyond(leaf: &Tree, end: &Literal) -> Option<std::cmp::Ordering> {
    match (leaf, end.other()) {
        (Tree::Number(digits), Some(Tree::Number(other))) => {
            double(digits).partial_cmp(&double(&other))
        }
        (Tree::Text(text), None | Some(Tree::Bool(_) | Tree::Null)) => {
            Some(text.chars().cmp(end.text.chars()))
        }
        _ => None,
    }
}

fn double(digits: &str) -> f64 {
    digits.parse().expect("a number")
}

/// Whole numbers of 64 bits are the same only if every digit is; other numbers, if their nearest doubles are.
fn same(wanted: &Tree, other: &Tree) -> bool {
    match (wanted, other) {
        (Tree::Number(wanted), Tree::Number(other)) => {
            let whole = |digits: &str| {
                let number: Option<i128> = digits.parse().ok();
                number.filter(|number| {
                    i64::try_from(*number).is_ok() || u64::try_from(*number).is_ok()
                })
            };
            match (whole(wanted), whole(other)) {
                (Some(wanted), Some(other)) => wanted == other,
                _ => double(wanted) == double(other),
            }
        }
        _ => wanted == other,
    }
}

/// Says whether words stand in a string in this order, with so many others between the first and the last at most.
fn in_a_row(wanted: &[String], string: &str, between: usize) -> bool {
    let there = words(string);
    let Some((first, others)) = wanted.split_first() else {
        return false;
    };
    there.iter().enumerate().any(|(start, word)| {
        if word != first {
            return false;
        }
        // The nearest next one is never worse than one further on.
        let mut last = start;
        for other in others {
            match there[last + 1..].iter().position(|word| word == other) {
                Some(skipped) => last += skipped + 1,
                None => return false,
            }
        }
        last - start - others.len() <= between
    })
}

/// Says whether a string, or a word of it, fits a pattern.
fn fits(pattern: &str, string: &str) -> bool {
    let is_hole = |character: char| matches!(character, '*' | '?');
    let texts: Vec<char> = pattern.chars().filter(|c| !is_hole(*c)).collect();
    let inner = pattern.trim_matches('*');
    if texts
        .iter()
        .all(|c| stands_alone(*c) && is_word_character(*c))
        && !inner.contains(is_hole)
        && !inner.is_empty()
    {
        // Of a script whose characters are words, a run is a phrase.
        return in_a_row(&words(inner), string, 0);
    }
    let folded: String = pattern.split_inclusive(is_hole).map(folded_part).collect();
    if texts
        .iter()
        .all(|c| is_word_character(*c) && !stands_alone(*c))
    {
        words(string).iter().any(|word| glob(&folded, word))
    } else {
        glob(&folded, &fold(string))
    }
}

/// Folds the text of a pattern before a hole, and leaves the hole.
fn folded_part(part: &str) -> String {
    match part.char_indices().last() {
        Some((end, hole @ ('*' | '?'))) => format!("{}{hole}", fold(&part[..end])),
        _ => fold(part).to_string(),
    }
}

/// Says whether the whole text fits a pattern of `*` and `?`.
fn glob(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // Which beginnings of the text fit the pattern so far.
    let mut fit = vec![false; text.len() + 1];
    fit[0] = true;
    for sign in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        for end in 0..=text.len() {
            next[end] = match sign {
                '*' => fit[end] || (end > 0 && next[end - 1]),
                '?' => end > 0 && fit[end - 1],
                letter => end > 0 && fit[end - 1] && text[end - 1] == letter,
            };
        }
        fit = next;
    }
    fit[text.len()]
}

/// Says whether a string has a word so few edits away: a character more, less or another, or two neighbours swapped.
fn is_near(wanted: &str, edits: usize, string: &str) -> bool {
    let wanted: Vec<char> = words(wanted)[0].chars().collect();
    words(string).iter().any(|word| {
        let word: Vec<char> = word.chars().collect();
        word.len().abs_diff(wanted.len()) <= edits && distance(&wanted, &word, edits)
    })
}

fn distance(a: &[char], b: &[char], edits: usize) -> bool {
    match (a, b) {
        (_, _) if a == b => true,
        (_, _) if edits == 0 => false,
        ([first, a @ ..], [other, b @ ..]) if first == other => distance(a, b, edits),
        _ => {
            (!a.is_empty() && distance(&a[1..], b, edits - 1))
                || (!b.is_empty() && distance(a, &b[1..], edits - 1))
                || (!a.is_empty() && !b.is_empty() && distance(&a[1..], &b[1..], edits - 1))
                || matches!((a, b), ([a1, a2, a @ ..], [b1, b2, b @ ..])
                    if a1 == b2 && a2 == b1 && distance(a, b, edits - 1))
        }
    }
}

/// Writes what was asked with what went wrong, for the message of a failed test.
pub fn disagreement(ask: &Ask, missing: &[&Seen], surplus: &[&Seen]) -> String {
    let mut message = format!("{}\n{ask:?}\n", ask.written());
    for (what, events) in [
        ("not found", missing),
        ("found, and should not be", surplus),
    ] {
        for event in events.iter().take(3) {
            let _ = writeln!(message, "{what}: {event:?}");
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(data: &str) -> Seen {
        Seen {
            application: "Shop".to_owned(),
            category: "Page view".to_owned(),
            name: "x".to_owned(),
            session_id: "e2085be5-9137-4e4e-80b5-f1ffddc25423".to_owned(),
            id: "0aa0c0de-1111-4222-8333-444455556666".to_owned(),
            offset: 7,
            timestamp: "2021-01-02T00:00:00.000000Z".to_owned(),
            received_at: "2026-01-01T00:00:00.000000Z".to_owned(),
            data: Tree::read(data),
        }
    }

    fn plain(text: &str) -> Literal {
        Literal {
            text: text.to_owned(),
            quoted: false,
        }
    }

    fn data(path: &[&str], test: Test) -> Ask {
        let keys = path.iter().map(|key| (*key).to_owned()).collect();
        Ask::Field(Field::Data(keys, false), test)
    }

    #[test]
    fn the_examples_of_the_contract_hold_and_are_written_as_there() {
        let event = seen(
            r#"{"path":"/reviews/solar","price":10.5,"items":[{"sku":"A1"},{"sku":null}],"a.b":1,"t":"foo_bar-9 Café","o":{"e":{}}}"#,
        );
        for (ask, written, holds) in [
            (Ask::Bare("cafe".into()), "cafe", true),
            (Ask::Bare("bar".into()), "bar", true),
            (Ask::Bare("bar-9".into()), "bar-9", true),
            (Ask::Bare("sku".into()), "sku", false),
            (Ask::Pattern("re*w?".into()), "re*w?", true),
            (Ask::Pattern("/reviews/*".into()), "\\/reviews/*", true),
            (Ask::Fuzzy("cefa".into(), 1), "cefa~1", false),
            (Ask::Fuzzy("caef".into(), 1), "caef~1", true),
            (Ask::Quoted("foo 9".into(), 1), "\"foo 9\"~1", true),
            (Ask::Quoted("foo 9".into(), 0), "\"foo 9\"", false),
            (Ask::Not(Box::new(Ask::Bare("x".into())), true), "-x", false),
            (
                Ask::Field(Field::Label("category"), Test::Is(plain("page"))),
                "category:page",
                false,
            ),
            (
                Ask::Field(Field::Label("category"), Test::Pattern("pa*".into())),
                "category:pa*",
                true,
            ),
            (data(&["a", "b"], Test::Is(plain("1"))), "data.a.b:1", true),
            (
                data(&["a.b"], Test::Is(plain("1.0"))),
                "data.a\\.b:1.0",
                true,
            ),
            (data(&["a.b"], Test::Exists), "data.a\\.b:*", true),
            (data(&["o"], Test::Exists), "data.o:*", false),
            (data(&["items"], Test::Exists), "data.items:*", true),
            (
                data(&["items", "sku"], Test::Is(plain("null"))),
                "data.items.sku:null",
                true,
            ),
            (
                data(&["price"], Test::Range(Some((plain("10.5"), false)), None)),
                "data.price:{10.5 TO *]",
                false,
            ),
            (
                data(
                    &["price"],
                    Test::Beyond {
                        above: true,
                        inside: true,
                        end: plain("10.5"),
                    },
                ),
                "data.price:>=10.5",
                true,
            ),
        ] {
            assert_eq!(ask.written(), written);
            assert_eq!(ask.holds(&event), holds, "{written}");
        }
    }

    #[test]
    fn numbers_are_exact_within_64_bits_and_doubles_beyond() {
        let number = |digits: &str| Tree::Number(digits.to_owned());
        assert!(!same(
            &number("9007199254740993"),
            &number("9007199254740992")
        ));
        assert!(same(
            &number("9007199254740993.0"),
            &number("9007199254740992")
        ));
        assert!(same(&number("1e400"), &number("2e999")));
        assert!(same(
            &number("18446744073709551616"),
            &number("18446744073709551615")
        ));
    }
}
