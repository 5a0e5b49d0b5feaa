//! What of a query can be pointed at in an event: the words, patterns and values that it asks for, and where they stand.

use std::collections::BTreeMap;
use std::ops::Range;

use eye_log::StoredEvent;
use eye_log::json::{Token, Tokens, unescape};

use super::matches::{fits, label_holds, near, path_reaches, string_holds};
use super::query::{Clause, Field, Fuzzy, Kind, Pattern, PatternOn, Scalar, Test, WordTest};
use super::words::{for_each_word, words};

/// Where something that was asked for stands in a string: Unicode scalar values from 0.
pub type Span = Range<usize>;

/// Something that a query asks for, and in which field, if in one.
#[derive(Debug)]
pub(super) struct Mark<'q> {
    field: Option<&'q Field>,
    what: What<'q>,
}

#[derive(Debug)]
enum What<'q> {
    /// These words in this order, with so many others between at most.
    Words(Vec<String>, usize),
    Pattern(&'q Pattern),
    Fuzzy(&'q Fuzzy),
    /// The value as a whole, where it passes.
    Whole(&'q Test),
}

/// Returns what a query asks for; what it leaves out cannot be pointed at.
pub(super) fn marks(query: &Clause) -> Vec<Mark<'_>> {
    let mut marks = Vec::new();
    gather(query, &mut marks);
    marks
}

fn gather<'q>(clause: &'q Clause, marks: &mut Vec<Mark<'q>>) {
    let mut add = |field, what| marks.push(Mark { field, what });
    match &clause.kind {
        Kind::And(inner) | Kind::Or(inner) => inner.iter().for_each(|inner| gather(inner, marks)),
        Kind::Word(WordTest::Is(word)) => add(None, What::Words(vec![word.clone()], 0)),
        Kind::Word(WordTest::Pattern(pattern)) => add(None, What::Pattern(pattern)),
        Kind::Word(WordTest::Fuzzy(fuzzy)) => add(None, What::Fuzzy(fuzzy)),
        Kind::Phrase { words, slop } => add(None, What::Words(words.clone(), *slop as usize)),
        Kind::Field { field, test } => {
            if !matches!(field, Field::Category | Field::Name | Field::Data(_)) {
                return;
            }
            let inner = matches!(field, Field::Data(_));
            let field = Some(field);
            match test {
                // A value may also contain it as words.
                Test::Is(value) if inner && !value.words().is_empty() => {
                    add(field, What::Words(value.words(), 0));
                }
                Test::In(values) if inner => {
                    for value in values.iter().filter(|value| !value.words().is_empty()) {
                        add(field, What::Words(value.words(), 0));
                    }
                }
                Test::Near { words, slop } => {
                    add(field, What::Words(words.clone(), *slop as usize))
                }
                Test::Pattern(pattern) => add(field, What::Pattern(pattern)),
                Test::Fuzzy(fuzzy) => add(field, What::Fuzzy(fuzzy)),
                test @ (Test::Is(_)
                | Test::In(_)
                | Test::Exactly(Scalar::Text(_))
                | Test::Regex(_)) => {
                    add(field, What::Whole(test));
                }
                _ => {}
            }
        }
        Kind::All | Kind::Not(_) => {}
    }
}

/// Returns the words that a query asks for, each once.
pub(super) fn words_of(query: &Clause) -> Vec<String> {
    let mut all = Vec::new();
    for mark in marks(query) {
        match mark.what {
            What::Words(words, _) => all.extend(words),
            What::Whole(Test::Is(value)) => all.extend(value.words()),
            What::Whole(Test::Exactly(Scalar::Text(text))) => all.extend(words(text)),
            What::Whole(_) | What::Pattern(_) | What::Fuzzy(_) => {}
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Returns where in an event stands what a query asks for, by the path of the string: `category`, `name`, `data.a.b`, with
/// the place of an item in brackets behind an array (`data.tags[1]`) and a dot of a key as `\.`.
pub fn highlights(query: &Clause, event: &StoredEvent) -> BTreeMap<String, Vec<Span>> {
    let marks = marks(query);
    let mut found = BTreeMap::new();
    let mut note = |path: &str, spans: Vec<Span>| {
        if !spans.is_empty() {
            found.insert(path.to_owned(), spans);
        }
    };
    note(
        "category",
        spans_in(&marks, &event.category, &|field| *field == Field::Category),
    );
    note(
        "name",
        spans_in(&marks, &event.name, &|field| *field == Field::Name),
    );
    each_string(&event.data, &mut |path, keys, string| {
        let is_of = |field: &Field| match field {
            Field::Data(wanted) => path_reaches(&wanted.segments, keys, false),
            _ => false,
        };
        note(path, spans_in(&marks, string, &is_of));
    });
    found
}

/// Hands every string of `data` to `see` with its path and its keys.
fn each_string(data: &str, see: &mut dyn FnMut(&str, &[String], &str)) {
    // What is open: the next place in an array, or nothing for an object; and how long path and keys are before it.
    let mut open: Vec<(Option<usize>, usize, usize)> = Vec::new();
    let (mut path, mut keys) = ("data".to_owned(), Vec::<String>::new());
    let mut scratch = String::new();
    for token in Tokens::new(data) {
        if matches!(token, Token::ObjectEnd | Token::ArrayEnd) {
            if let Some((_, path_length, keys_length)) = open.pop() {
                path.truncate(path_length);
                keys.truncate(keys_length);
            }
            continue;
        }
        if let Some((place, path_length, keys_length)) = open.last_mut() {
            if let Token::Key(raw) = token {
                path.truncate(*path_length);
                keys.truncate(*keys_length);
                let key = unescape(raw, &mut scratch);
                path.push('.');
                path.push_str(&key.replace('\\', "\\\\").replace('.', "\\."));
                keys.push(key.to_owned());
                continue;
            }
            if let Some(place) = place {
                path.truncate(*path_length);
                path.push_str(&format!("[{place}]"));
                *place += 1;
            }
        }
        match token {
            Token::ObjectStart => open.push((None, path.len(), keys.len())),
            Token::ArrayStart => open.push((Some(0), path.len(), keys.len())),
            Token::String(raw) => see(&path, &keys, unescape(raw, &mut scratch)),
            _ => {}
        }
    }
}

/// Returns where in a string the marks stand that may, in order, without overlaps.
fn spans_in(marks: &[Mark<'_>], string: &str, is_of: &dyn Fn(&Field) -> bool) -> Vec<Span> {
    let theirs = marks.iter().filter(|mark| mark.field.is_none_or(is_of));
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut broken: Option<Vec<(String, Range<usize>)>> = None;
    for mark in theirs {
        let broken = broken.get_or_insert_with(|| {
            let mut all = Vec::new();
            for_each_word(string, &mut String::new(), &mut |word, place| {
                all.push((word.to_owned(), place));
            });
            all
        });
        let whole = || (!string.is_empty()).then_some(0..string.len());
        let mut each = |passes: &dyn Fn(&str) -> bool| {
            let passing = broken.iter().filter(|(word, _)| passes(word));
            spans.extend(passing.map(|(_, place)| place.clone()));
        };
        match &mark.what {
            What::Words(wanted, between) => rows(wanted, *between, broken, &mut spans),
            What::Fuzzy(fuzzy) => each(&|word| near(word, fuzzy)),
            What::Pattern(pattern) if pattern.on == PatternOn::Word => {
                each(&|word| fits(&pattern.parts, word));
            }
            What::Pattern(pattern) => {
                let passes = string_holds(&Test::Pattern((*pattern).clone()), string);
                spans.extend(whole().filter(|_| passes));
            }
            What::Whole(test) => {
                let label = matches!(mark.field, Some(Field::Category | Field::Name));
                let passes = if label {
                    label_holds(test, string)
                } else {
                    string_holds(test, string)
                };
                spans.extend(whole().filter(|_| passes));
            }
        }
    }
    in_characters(spans, string)
}

/// Adds every row of the wanted words: one span where they are neighbours, one a word where others stand between.
fn rows(
    wanted: &[String],
    between: usize,
    there: &[(String, Range<usize>)],
    spans: &mut Vec<Range<usize>>,
) {
    let Some((first, others)) = wanted.split_first() else {
        return;
    };
    for start in (0..there.len()).filter(|start| there[*start].0 == *first) {
        let mut places = vec![start];
        for other in others {
            let last = places[places.len() - 1];
            let next = there[last + 1..].iter().position(|(word, _)| word == other);
            match next {
                Some(skipped) => places.push(last + 1 + skipped),
                None => break,
            }
        }
        let last = places[places.len() - 1];
        if places.len() < wanted.len() || last - start - others.len() > between {
            continue;
        }
        if last - start == others.len() {
            spans.push(there[start].1.start..there[last].1.end);
        } else {
            spans.extend(places.iter().map(|place| there[*place].1.clone()));
        }
    }
}

/// Sorts and joins spans of bytes, and counts them in characters.
fn in_characters(mut spans: Vec<Range<usize>>, string: &str) -> Vec<Span> {
    spans.sort_unstable_by_key(|span| (span.start, span.end));
    let mut joined: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => joined.push(span),
        }
    }
    let (mut at, mut counted) = (0, 0);
    let mut characters = |byte: usize| {
        counted += string[at..byte].chars().count();
        at = byte;
        counted
    };
    joined
        .into_iter()
        .map(|span| characters(span.start)..characters(span.end))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    // They are spans, and none of them is meant to be counted out.
    #![allow(clippy::single_range_in_vec_init)]
    use super::*;
    use crate::search::parse::parse;
    use uuid::Uuid;

    fn marked(q: &str, data: &str) -> Vec<(String, Vec<Span>)> {
        let event = StoredEvent {
            offset: 0,
            id: Uuid::nil(),
            application: eye_log::ApplicationId(0),
            session_id: Uuid::nil(),
            category: "Late Café".to_owned(),
            name: "page view".to_owned(),
            timestamp: 0,
            received_at: 0,
            data: data.to_owned(),
            meta: None,
            client_id: None,
        };
        let query = parse(q).unwrap();
        highlights(&query, &event).into_iter().collect()
    }

    fn at(path: &str, spans: &[Span]) -> (String, Vec<Span>) {
        (path.to_owned(), spans.to_vec())
    }

    #[test]
    fn what_was_asked_for_is_pointed_at_where_it_stands() {
        let data = r#"{"text":"é late delivery, LATE","a":{"b.c":["x","so late"]},"n":5,"d":"delivery of a late parcel"}"#;
        assert_eq!(
            marked("late", data),
            [
                at("category", &[0..4]),
                at("data.a.b\\.c[1]", &[3..7]),
                at("data.d", &[14..18]),
                at("data.text", &[2..6, 17..21]),
            ]
        );
        assert_eq!(
            marked("\"late delivery\"", data),
            [at("data.text", &[2..15])]
        );
        assert_eq!(
            marked("\"delivery parcel\"~3", data),
            [at("data.d", &[0..8, 19..25])]
        );
        assert_eq!(marked("d:late", data), [at("data.d", &[14..18])]);
        assert_eq!(
            marked("a.b.c:x -late", data),
            [at("data.a.b\\.c[0]", &[0..1])]
        );
        assert_eq!(marked("cafe", data), [at("category", &[5..9])]);
        assert_eq!(
            marked("category:\"late cafe\"", data),
            [at("category", &[0..9])]
        );
        assert_eq!(
            marked("parc* delivry~1", data),
            [at("data.d", &[0..8, 19..25]), at("data.text", &[7..15])]
        );
        assert_eq!(marked("d:*of*", data), [at("data.d", &[9..11])]);
        assert_eq!(marked("d=~\"del.*\"", data), [at("data.d", &[0..25])]);
        assert_eq!(marked("n:5 OR *", data), []);
    }

    #[test]
    fn spans_that_overlap_are_one() {
        let data = r#"{"t":"red green blue"}"#;
        assert_eq!(
            marked("\"red green\" \"green blue\" green", data),
            [at("data.t", &[0..14])]
        );
    }
}
