//! Decides whether an event matches, by looking at the event itself: what no index answers is answered here.
//!
//! What must stay true: it means what the indexes mean, so that it can stand in for any of them.

use std::cell::RefCell;
use std::ops::Bound;

use eye_log::json::{Token, Tokens, unescape};
use eye_log::record::EventRecord;
use eye_log::{Offset, Registry};

use super::query::{
    Clause, DataPath, Field, Fuzzy, Kind, Number, Part, Pattern, PatternOn, Scalar, Test, Value,
    WordTest,
};
use super::words::{fold, words};

/// An event and what a question about it needs besides.
pub(crate) struct Subject<'e> {
    pub(crate) offset: Offset,
    pub(crate) event: &'e EventRecord<'e>,
    pub(crate) registry: &'e Registry,
}

/// Says whether an event passes a whole query.
pub(crate) fn clause_holds(clause: &Clause, subject: &Subject<'_>) -> bool {
    match &clause.kind {
        Kind::All => true,
        Kind::And(clauses) => clauses.iter().all(|clause| clause_holds(clause, subject)),
        Kind::Or(clauses) => clauses.iter().any(|clause| clause_holds(clause, subject)),
        Kind::Not(clause) => !clause_holds(clause, subject),
        Kind::Word(test) => any_string(subject.event, |string| word_holds(test, string)),
        Kind::Phrase { words, slop } => {
            any_string(subject.event, |string| has_phrase(string, words, *slop))
        }
        Kind::Field { field, test } => field_holds(field, test, subject),
    }
}

/// Says whether an event passes a test on one field.
pub(crate) fn field_holds(field: &Field, test: &Test, subject: &Subject<'_>) -> bool {
    let event = subject.event;
    match field {
        Field::Category => label_holds(test, event.category),
        Field::Name => label_holds(test, event.name),
        Field::Application => subject
            .registry
            .application(event.application)
            .is_some_and(|application| label_holds(test, &application.name)),
        Field::SessionId => id_holds(test, event.session_id),
        Field::Id => id_holds(test, event.id),
        Field::Offset => match test {
            Test::Offset(range) => {
                within(&subject.offset, range.start.as_ref(), range.end.as_ref())
            }
            _ => matches!(test, Test::Exists),
        },
        Field::Timestamp => time_holds(test, event.timestamp),
        Field::ReceivedAt => time_holds(test, event.received_at),
        Field::Data(path) => data_holds(path, test, event.data),
    }
}

fn within<T: PartialOrd>(value: &T, start: Option<&T>, end: Option<&T>) -> bool {
    start.is_none_or(|start| value >= start) && end.is_none_or(|end| value < end)
}

fn time_holds(test: &Test, instant: i64) -> bool {
    match test {
        Test::Time(range) => within(&instant, range.start.as_ref(), range.end.as_ref()),
        _ => matches!(test, Test::Exists),
    }
}

fn id_holds(test: &Test, id: uuid::Uuid) -> bool {
    match test {
        Test::Id(wanted) => id == *wanted,
        Test::Pattern(pattern) => fits(&pattern.parts, &id.to_string()),
        Test::Exists => true,
        _ => false,
    }
}

/// A test on a built-in string, which as a whole is the value: `name:page` is not `page view`.
pub(crate) fn label_holds(test: &Test, label: &str) -> bool {
    match test {
        Test::Is(value) => fold(label) == value.folded(),
        Test::In(values) => values.iter().any(|value| fold(label) == value.folded()),
        other => string_holds(other, label),
    }
}

/// Says whether a string of `data` passes a test.
pub(crate) fn string_holds(test: &Test, string: &str) -> bool {
    match test {
        Test::Is(value) => is_or_contains(value, string),
        Test::In(values) => values.iter().any(|value| is_or_contains(value, string)),
        Test::Exactly(Scalar::Text(text)) => text == string,
        Test::Pattern(pattern) => pattern_holds(pattern, string),
        Test::Exists => true,
        Test::Range { lower, upper } => {
            let bound = |bound: &Bound<Scalar>| match bound {
                Bound::Included(Scalar::Text(text)) => Some(Bound::Included(text.clone())),
                Bound::Excluded(Scalar::Text(text)) => Some(Bound::Excluded(text.clone())),
                Bound::Unbounded => Some(Bound::Unbounded),
                _ => None,
            };
            // UTF-8 sorts as its code points do.
            match (bound(lower), bound(upper)) {
                (Some(lower), Some(upper)) => above(&lower, string) && below(&upper, string),
                _ => false,
            }
        }
        Test::Regex(expression) => regex_holds(expression, string),
        Test::Fuzzy(fuzzy) => words(string).iter().any(|word| near(word, fuzzy)),
        Test::Near { words, slop } => has_phrase(string, words, *slop),
        Test::Exactly(_) | Test::Id(_) | Test::Offset(_) | Test::Time(_) => false,
    }
}

fn above(lower: &Bound<String>, string: &str) -> bool {
    match lower {
        Bound::Included(bound) => string >= bound.as_str(),
        Bound::Excluded(bound) => string > bound.as_str(),
        Bound::Unbounded => true,
    }
}

fn below(upper: &Bound<String>, string: &str) -> bool {
    match upper {
        Bound::Included(bound) => string <= bound.as_str(),
        Bound::Excluded(bound) => string < bound.as_str(),
        Bound::Unbounded => true,
    }
}

/// Says whether a whole string matches. The expression is read once per thread and question, not once per value.
fn regex_holds(expression: &str, string: &str) -> bool {
    thread_local! {
        static LAST: RefCell<Option<(String, regex::Regex)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(of, _)| of != expression) {
            *last = whole_regex(expression)
                .ok()
                .map(|regex| (expression.to_owned(), regex));
        }
        last.as_ref()
            .is_some_and(|(_, regex)| regex.is_match(string))
    })
}

/// Reads a regular expression that has to match a whole value.
pub(crate) fn whole_regex(expression: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{expression})$"))
        .dot_matches_new_line(true)
        .size_limit(1 << 20)
        .build()
}

fn is_or_contains(value: &Value, string: &str) -> bool {
    if fold(string) == value.folded() {
        return true;
    }
    let words = value.words();
    !words.is_empty() && has_phrase(string, &words, 0)
}

fn word_holds(test: &WordTest, string: &str) -> bool {
    match test {
        WordTest::Is(word) => words(string).contains(word),
        WordTest::Pattern(pattern) => pattern_holds(pattern, string),
        WordTest::Fuzzy(fuzzy) => words(string).iter().any(|word| near(word, fuzzy)),
    }
}

fn pattern_holds(pattern: &Pattern, string: &str) -> bool {
    match pattern.on {
        PatternOn::Word => words(string).iter().any(|word| fits(&pattern.parts, word)),
        PatternOn::Whole => fits(&pattern.parts, &fold(string)),
    }
}

/// Says whether text fits a pattern: the usual walk with one place to fall back to.
pub(super) fn fits(parts: &[Part], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut units: Vec<Option<Option<char>>> = Vec::new();
    for part in parts {
        match part {
            Part::Text(literal) => units.extend(literal.chars().map(|c| Some(Some(c)))),
            Part::One => units.push(Some(None)),
            Part::Many => units.push(None),
        }
    }
    let (mut at, mut unit) = (0, 0);
    let mut fall_back: Option<(usize, usize)> = None;
    while at < text.len() {
        match units.get(unit) {
            Some(None) => {
                fall_back = Some((unit, at));
                unit += 1;
            }
            Some(Some(wanted)) if wanted.is_none_or(|wanted| wanted == text[at]) => {
                at += 1;
                unit += 1;
            }
            _ => match fall_back {
                Some((many, from)) => {
                    fall_back = Some((many, from + 1));
                    (unit, at) = (many + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    units[unit..].iter().all(Option::is_none)
}

/// Says whether the words stand in `string` in this order with at most `slop` others between the first and the last.
fn has_phrase(string: &str, wanted: &[String], slop: u32) -> bool {
    let found = words(string);
    let Some(first) = wanted.first() else {
        return false;
    };
    let span = wanted.len() + slop as usize;
    (0..found.len())
        .filter(|start| found[*start] == *first)
        .any(|start| {
            let mut rest = found[start + 1..].iter().take(span - 1);
            wanted[1..]
                .iter()
                .all(|word| rest.any(|other| other == word))
        })
}

/// Says whether a word is at most so many edits away (Levenshtein, characters; neighbours swapped count as one).
pub(super) fn near(word: &str, fuzzy: &Fuzzy) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (word.chars().collect(), fuzzy.word.chars().collect());
    let most = usize::from(fuzzy.distance);
    if a.len().abs_diff(b.len()) > most {
        return false;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()] <= most
}

/// Says whether a number passes a test, compared as the query language says: integers within 64 bits exactly, the rest
/// as nearest doubles.
pub(crate) fn number_holds(test: &Test, digits: &str) -> bool {
    match test {
        Test::Is(value) => value
            .literal()
            .is_some_and(|literal| same_number(&literal, digits)),
        Test::In(values) => values.iter().any(|value| {
            value
                .literal()
                .is_some_and(|literal| same_number(&literal, digits))
        }),
        Test::Exactly(scalar) => same_number(scalar, digits),
        Test::Exists => true,
        Test::Range { lower, upper } => {
            let Some(number) = Number::parse(digits) else {
                return false;
            };
            doubles_of(lower, upper)
                .is_some_and(|(lower, upper)| double_within(number.double(), lower, upper))
        }
        _ => false,
    }
}

/// Returns the ends of a range of numbers as doubles; `None` for a range of something else.
pub(crate) fn doubles_of(
    lower: &Bound<Scalar>,
    upper: &Bound<Scalar>,
) -> Option<(Bound<f64>, Bound<f64>)> {
    let double = |bound: &Bound<Scalar>| match bound {
        Bound::Included(Scalar::Number(number)) => Some(Bound::Included(number.double())),
        Bound::Excluded(Scalar::Number(number)) => Some(Bound::Excluded(number.double())),
        Bound::Unbounded => Some(Bound::Unbounded),
        _ => None,
    };
    Some((double(lower)?, double(upper)?))
}

pub(crate) fn double_within(value: f64, lower: Bound<f64>, upper: Bound<f64>) -> bool {
    let above = match lower {
        Bound::Included(bound) => value >= bound,
        Bound::Excluded(bound) => value > bound,
        Bound::Unbounded => true,
    };
    above
        && match upper {
            Bound::Included(bound) => value <= bound,
            Bound::Excluded(bound) => value < bound,
            Bound::Unbounded => true,
        }
}

fn same_number(scalar: &Scalar, digits: &str) -> bool {
    let (Scalar::Number(wanted), Some(number)) = (scalar, Number::parse(digits)) else {
        return false;
    };
    match (wanted.integer(), number.integer()) {
        (Some(wanted), Some(number)) => wanted == number,
        _ => wanted.double() == number.double(),
    }
}

pub(crate) fn bool_holds(test: &Test, value: bool) -> bool {
    let is = |scalar: &Scalar| *scalar == Scalar::Bool(value);
    match test {
        Test::Is(wanted) => wanted.literal().as_ref().is_some_and(is),
        Test::In(values) => values
            .iter()
            .any(|wanted| wanted.literal().as_ref().is_some_and(is)),
        Test::Exactly(scalar) => is(scalar),
        Test::Exists => true,
        _ => false,
    }
}

pub(crate) fn null_holds(test: &Test) -> bool {
    match test {
        Test::Is(wanted) => wanted.literal() == Some(Scalar::Null),
        Test::In(values) => values
            .iter()
            .any(|wanted| wanted.literal() == Some(Scalar::Null)),
        Test::Exactly(scalar) => *scalar == Scalar::Null,
        _ => false,
    }
}

fn any_string(event: &EventRecord<'_>, mut holds: impl FnMut(&str) -> bool) -> bool {
    if holds(event.category) || holds(event.name) {
        return true;
    }
    let mut scratch = String::new();
    Tokens::new(event.data).any(|token| match token {
        Token::String(raw) => holds(unescape(raw, &mut scratch)),
        _ => false,
    })
}

/// Walks `data` and tests every value whose path is the wanted one. Arrays are passed through.
fn data_holds(wanted: &DataPath, test: &Test, data: &str) -> bool {
    let mut keys: Vec<String> = Vec::new();
    // For each open object or array, how many keys lead to it.
    let mut open: Vec<usize> = Vec::new();
    let mut scratch = String::new();
    let exists = matches!(test, Test::Exists);
    for token in Tokens::new(data) {
        let holds = match token {
            Token::ObjectStart | Token::ArrayStart => {
                open.push(keys.len());
                continue;
            }
            Token::ObjectEnd | Token::ArrayEnd => {
                let depth = open.pop().unwrap_or(0);
                keys.truncate(depth);
                continue;
            }
            Token::Key(raw) => {
                keys.truncate(open.last().copied().unwrap_or(0));
                keys.push(unescape(raw, &mut scratch).to_owned());
                continue;
            }
            // A path to an object holds when anything that is not null is under it.
            Token::Null if exists => false,
            _ if exists => path_reaches(&wanted.segments, &keys, true),
            _ if !path_reaches(&wanted.segments, &keys, false) => false,
            Token::String(raw) => string_holds(test, unescape(raw, &mut scratch)),
            Token::Number(digits) => number_holds(test, digits),
            Token::Bool(value) => bool_holds(test, value),
            Token::Null => null_holds(test),
        };
        if holds {
            return true;
        }
    }
    false
}

/// Says whether the wanted path is made of `keys` (or, with `prefix`, leads to something above them): each key may take up
/// several of the wanted segments, joined with the dots it holds.
pub(super) fn path_reaches(wanted: &[String], keys: &[String], prefix: bool) -> bool {
    if wanted.is_empty() {
        return prefix || keys.is_empty();
    }
    let Some((key, rest)) = keys.split_first() else {
        return false;
    };
    let mut joined = String::new();
    for (taken, segment) in wanted.iter().enumerate() {
        if taken > 0 {
            joined.push('.');
        }
        joined.push_str(segment);
        if joined == *key && path_reaches(&wanted[taken + 1..], rest, prefix) {
            return true;
        }
        if joined.len() > key.len() {
            return false;
        }
    }
    // Who cannot tell `a.b` from `b` under `a` finds the first also by `a:*`.
    prefix
        && key
            .strip_prefix(joined.as_str())
            .is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use eye_log::ApplicationId;
    use uuid::Uuid;

    use super::*;
    use crate::search::parse::parse;

    fn holds(q: &str, data: &str) -> bool {
        let event = EventRecord {
            id: Uuid::from_u128(1),
            received_at: 0,
            application: ApplicationId(0),
            session_id: Uuid::from_u128(2),
            timestamp: 0,
            client: None,
            category: "page interaction",
            name: "Pageview",
            meta: "",
            data,
        };
        let registry = Registry::default();
        clause_holds(
            &parse(q).unwrap(),
            &Subject {
                offset: 7,
                event: &event,
                registry: &registry,
            },
        )
    }

    #[test]
    fn words_and_phrases_stay_within_one_string() {
        let data = r#"{"a":["late delivery","of a Café"],"n":5}"#;
        for q in [
            "late",
            "\"late delivery\"",
            "cafe",
            "pageview",
            "\"page interaction\"",
            "late AND cafe",
            "-x",
            "deliver*",
            "delivry~1",
        ] {
            assert!(holds(q, data), "{q}");
        }
        for q in [
            "\"delivery of\"",
            "5",
            "a.b",
            "\"delivery late\"",
            "x",
            "NOT late",
            "\"interaction pageview\"",
        ] {
            assert!(!holds(q, data), "{q}");
        }
        assert!(holds("\"late of\"~1", r#"{"a":"late delivery of"}"#));
        assert!(!holds("\"late of\"", r#"{"a":"late delivery of"}"#));
    }

    #[test]
    fn fields_compare_as_the_language_says() {
        let data = r#"{"path":"/Reviews/","price":10.50,"n":9007199254740993,"ok":true,"x":null,"e":{},"a.b":1,"a":{"b":[2,{"c":"d"}]},"t":"b"}"#;
        for q in [
            "path:\"/reviews/\"",
            "path:reviews",
            "data.path==\"/Reviews/\"",
            "price:10.5",
            "price==10.5",
            "n:9007199254740993",
            "ok:true",
            "x:null",
            "a.b:1",
            "a.b:2",
            "a\\.b:1",
            "a.b.c:d",
            "a:*",
            "price:>10",
            "price:[10 TO 11}",
            "t:>\"a\"",
            "path:/rev*",
            "path:IN [\"x\", \"/reviews/\"]",
            "name:pageview",
            "offset:>=7",
            "path=~\"/R.*s/\"",
        ] {
            assert!(holds(q, data), "{q}");
        }
        for q in [
            "path==\"/reviews/\"",
            "price:\"10.5\"",
            "n:9007199254740992",
            "ok:\"true\"",
            "x:*",
            "e:*",
            "a\\.b:2",
            "name:page",
            "price:>10.5",
            "price:>\"1\"",
            "t:>0",
            "offset:<7",
            "path=~\"R.*\"",
            "missing:*",
        ] {
            assert!(!holds(q, data), "{q}");
        }
    }
}
