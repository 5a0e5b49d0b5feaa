//! A body into the texts of its events: one object, an array, or a line each.

use std::fmt;
use std::str::Utf8Error;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Code, Problem};
use crate::wire::MediaType;

const BOM: &[u8] = "\u{feff}".as_bytes();

/// The texts of the events that a body brings.
pub(crate) enum Pieces<'a> {
    /// One object, sent alone.
    One(&'a str),
    /// Items of an array, known to be JSON.
    Items(Vec<&'a str>),
    /// Lines, of which nothing is known yet, each with its number from 1. Blank ones are left out, but counted.
    Lines(Vec<(usize, Result<&'a str, Utf8Error>)>),
}

/// Returns the body's text. UTF-8 is checked here, once.
pub(crate) fn text_of(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(without_mark(body)).map_err(|error| {
        let (line, column) = place(body, error.valid_up_to());
        Problem::malformed_at("the body is not UTF-8", line, column)
    })
}

/// Splits a body. Fails where nothing of it can be used: no UTF-8, no JSON, more than `events_max`, empty.
pub(crate) fn pieces(
    body: &[u8],
    media_type: MediaType,
    events_max: usize,
) -> Result<Pieces<'_>, Problem> {
    if media_type == MediaType::Ndjson {
        return lines(body, events_max);
    }
    let text = text_of(body)?;
    match text
        .bytes()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
    {
        None => Err(Problem::malformed_at("the body is empty", 1, 1)),
        Some(b'[') => items(text, events_max),
        Some(b'{') => Ok(Pieces::One(text)),
        Some(_) if media_type == MediaType::Unnamed => Err(Problem::new(
            Code::UnsupportedType,
            "The body has no content type of JSON and does not begin with { or [.",
        )
        .detail("Send application/json or application/x-ndjson.")),
        Some(_) => Ok(Pieces::One(text)),
    }
}

fn items(text: &str, events_max: usize) -> Result<Pieces<'_>, Problem> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_seq(Items { max: events_max });
    let (items, more) = read
        .and_then(|items| deserializer.end().map(|()| items))
        .map_err(|error| Problem::malformed(&error, text))?;
    if more > 0 {
        return Err(too_many(items.len() + more, events_max));
    }
    Ok(Pieces::Items(items))
}

/// Takes items as raw text up to a maximum, and counts the rest.
struct Items {
    max: usize,
}

impl<'de> Visitor<'de> for Items {
    type Value = (Vec<&'de str>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.max {
            match seq.next_element::<&'de RawValue>()? {
                Some(item) => items.push(item.get()),
                None => return Ok((items, 0)),
            }
        }
        let mut more = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            more += 1;
        }
        Ok((items, more))
    }
}

fn lines(body: &[u8], events_max: usize) -> Result<Pieces<'_>, Problem> {
    let body = without_mark(body);
    let blank = |line: &[u8]| line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    let mut lines = Vec::new();
    let mut count = 0;
    let text = std::str::from_utf8(body).ok();
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    let mut begin = 0;
    for (at, end) in ends.enumerate() {
        let line = &body[begin..end];
        if !blank(line) {
            count += 1;
            if count <= events_max {
                // Where the body is not UTF-8, some line is not: that line alone is refused.
                let text = text
                    .and_then(|text| text.get(begin..end))
                    .map_or_else(|| std::str::from_utf8(line), Ok);
                lines.push((at + 1, text));
            }
        }
        begin = end + 1;
    }
    if count > events_max {
        return Err(too_many(count, events_max));
    }
    Ok(Pieces::Lines(lines))
}

fn too_many(count: usize, limit: usize) -> Problem {
    Problem::new(
        Code::TooLarge,
        format!("The request holds {count} events; {limit} are allowed in one."),
    )
    .detail("Nothing of this request was stored. Send it in smaller parts.")
    .limit(limit)
}

/// A byte order mark in front is allowed and ignored, as RFC 8259 lets a reader do.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BOM).unwrap_or(body)
}

/// Line and column, from 1, of a byte.
fn place(body: &[u8], at: usize) -> (usize, usize) {
    let before = &body[..at.min(body.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before
        .iter()
        .rev()
        .take_while(|byte| **byte != b'\n')
        .count()
        + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(body: &[u8], media_type: MediaType) -> serde_json::Value {
        let problem = pieces(body, media_type, 3).err().unwrap();
        serde_json::from_slice(&problem.body("")).unwrap()
    }

    #[test]
    fn an_array_is_split_into_items() {
        let Pieces::Items(items) =
            pieces(b" [ {\"a\":1} , 2,\n[3] ] ", MediaType::Json, 3).unwrap()
        else {
            panic!()
        };
        assert_eq!(items, ["{\"a\":1}", "2", "[3]"]);
        let Pieces::Items(none) = pieces(b"[]", MediaType::Json, 3).unwrap() else {
            panic!()
        };
        assert!(none.is_empty());
    }

    #[test]
    fn an_array_that_is_no_json_says_where_in_the_body() {
        let problem = refused(b"[\n {\"a\":1},\n {\"a\" 2}\n]", MediaType::Json);
        assert_eq!(problem["code"], "malformed_json");
        assert_eq!(
            (&problem["line"], &problem["column"]),
            (&3.into(), &7.into())
        );
        for body in [&b"[1,]"[..], b"[1", b"[1 2]", b"[1] 2", b"[1,2,3,4 5]"] {
            assert_eq!(refused(body, MediaType::Json)["code"], "malformed_json");
        }
    }

    #[test]
    fn too_many_events_are_counted() {
        assert_eq!(
            refused(b"[1,2,3,4,5]", MediaType::Json)["code"],
            "too_large"
        );
        let problem = refused(b"1\n2\n3\n4\n", MediaType::Ndjson);
        assert_eq!(
            (&problem["code"], &problem["limit"]),
            (&"too_large".into(), &3.into())
        );
    }

    #[test]
    fn blank_lines_are_skipped_and_counted() {
        let Pieces::Lines(lines) = pieces(b"\n{}\r\n  \t\n{ }\n", MediaType::Ndjson, 3).unwrap()
        else {
            panic!()
        };
        let lines: Vec<_> = lines
            .into_iter()
            .map(|(number, line)| (number, line.unwrap().trim_end()))
            .collect();
        assert_eq!(lines, [(2, "{}"), (4, "{ }")]);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_refused_alone() {
        let Pieces::Lines(lines) = pieces(b"{}\n\xff\n{}", MediaType::Ndjson, 3).unwrap() else {
            panic!()
        };
        let good: Vec<bool> = lines.iter().map(|(_, line)| line.is_ok()).collect();
        assert_eq!(good, [true, false, true]);
    }

    #[test]
    fn a_body_that_is_not_utf8_says_where() {
        let problem = refused(b"{\n\"a\": \"\xff\"}", MediaType::Json);
        assert_eq!(
            (&problem["code"], &problem["line"], &problem["column"]),
            (&"malformed_json".into(), &2.into(), &7.into())
        );
    }

    #[test]
    fn an_empty_body_is_malformed_and_a_mark_in_front_is_ignored() {
        for body in [&b""[..], b" \r\n", BOM] {
            assert_eq!(refused(body, MediaType::Json)["code"], "malformed_json");
        }
        assert!(matches!(
            pieces("\u{feff}{}".as_bytes(), MediaType::Json, 3),
            Ok(Pieces::One("{}"))
        ));
    }

    #[test]
    fn a_body_without_a_type_must_look_like_json() {
        assert!(matches!(
            pieces(b" {}", MediaType::Unnamed, 3),
            Ok(Pieces::One(_))
        ));
        assert_eq!(
            refused(b"a=b", MediaType::Unnamed)["code"],
            "unsupported_type"
        );
    }
}
