//! The ids that lines without one get: the same file sent again stores nothing new.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

/// Makes the ids of one file's lines for one application.
///
/// An id is a UUIDv8 (RFC 9562): its first ten bytes are those of SHA-256 over the application's name in UTF-8, a zero
/// byte and the 32 bytes of the content's SHA-256, with version and variant in their places, which leaves 74 bits of it;
/// the last six are the line's number, from 1, big end first. So neighbours differ in little, and the log packs them well
/// (docs/decisions/ids-of-lines.md).
#[derive(Debug, Clone)]
pub(crate) struct LineIds([u8; 16]);

/// Where the line's number begins in an id.
const LINE_AT: usize = 10;

impl LineIds {
    pub(crate) fn new(application: &str, content: &[u8; 32]) -> Self {
        let hash = Sha256::new()
            .chain_update(application)
            .chain_update([0])
            .chain_update(content)
            .finalize();
        let mut bytes = [0; 16];
        bytes[..LINE_AT].copy_from_slice(&hash[..LINE_AT]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        LineIds(bytes)
    }

    /// Returns the id of a line, counted from 1. No file has 2^48 lines.
    pub(crate) fn id_of(&self, line: u64) -> Uuid {
        let mut bytes = self.0;
        bytes[LINE_AT..].copy_from_slice(&line.to_be_bytes()[2..]);
        Uuid::from_bytes(bytes)
    }
}

/// Says what a line is, as far as its id is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An object with a top-level key `id`, whatever its value.
    WithId,
    /// An object without one.
    WithoutId,
    /// Anything else: left as it is for the service to refuse, with its line number.
    NoObject,
}

/// Looks at a line's top-level keys.
pub(crate) fn shape(line: &[u8]) -> Shape {
    let mut json = serde_json::Deserializer::from_slice(line);
    match (&mut json).deserialize_map(TopLevelKeys) {
        Ok(has_id) if json.end().is_ok() => {
            if has_id {
                Shape::WithId
            } else {
                Shape::WithoutId
            }
        }
        _ => Shape::NoObject,
    }
}

/// Appends a line of the shape `WithoutId` with an id in it; every other byte stays as it is.
pub(crate) fn append_with_id(line: &[u8], id: Uuid, into: &mut Vec<u8>) {
    // An object starts with its brace, after white space at most.
    let after_brace = line
        .iter()
        .position(|byte| *byte == b'{')
        .map_or(line.len(), |brace| brace + 1);
    let (start, rest) = line.split_at(after_brace);
    let is_empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    into.extend_from_slice(start);
    into.extend_from_slice(b"\"id\":\"");
    into.extend_from_slice(
        id.hyphenated()
            .encode_lower(&mut Uuid::encode_buffer())
            .as_bytes(),
    );
    into.extend_from_slice(if is_empty { b"\"" } else { b"\"," });
    into.extend_from_slice(rest);
}

/// Answers whether one of an object's keys is `id`, however it is escaped; reads over the values.
struct TopLevelKeys;

impl<'de> Visitor<'de> for TopLevelKeys {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(is_id) = map.next_key_seed(IsId)? {
            found |= is_id;
            map.next_value::<IgnoredAny>()?;
        }
        Ok(found)
    }
}

struct IsId;

impl<'de> DeserializeSeed<'de> for IsId {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for IsId {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == "id")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ids() -> LineIds {
        LineIds::new("shop", &[7; 32])
    }

    #[test]
    fn ids_carry_version_8_and_the_variant_and_stay_the_same() {
        for line in 1..200 {
            let id = ids().id_of(line);
            assert_eq!(id.get_version_num(), 8);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        }
        let mut hash = Sha256::new();
        hash.update(b"shop\0");
        hash.update([7; 32]);
        let expected = hash.finalize();
        let id = ids().id_of(0x0102_0304_0506);
        assert_eq!(id.as_bytes()[..6], expected[..6]);
        assert_eq!(id.as_bytes()[7], expected[7]);
        assert_eq!(id.as_bytes()[9], expected[9]);
        assert_eq!(id.as_bytes()[10..], [1, 2, 3, 4, 5, 6]);
        let id = ids().id_of(5);
        assert_ne!(LineIds::new("shop2", &[7; 32]).id_of(5), id);
        assert_ne!(LineIds::new("shop", &[8; 32]).id_of(5), id);
        assert_ne!(ids().id_of(6), id);
    }

    #[test]
    fn a_top_level_id_is_told_from_everything_that_looks_like_one() {
        let with = [
            r#"{"id":"x"}"#,
            r#"{"id":null}"#,
            r#"  {"a":1 , "id" : 5 }  "#,
            r#"{"\u0069d":"x"}"#,
            r#"{"i\u0064":1,"id":2}"#,
        ];
        let without = [
            "{}",
            " { } ",
            r#"{"data":{"id":"x"}}"#,
            r#"{"name":"\"id\":1"}"#,
            r#"{"a":[{"id":1}],"b":"id"}"#,
            r#"{"ID":1,"id ":2,"":3,"id\u0000":4}"#,
            r#"{"n":1e999999,"m":-0.00000000000000000000000000000001}"#,
            r#"{"s":"\ud800"}"#,
        ];
        let no_object = [
            "",
            "[]",
            "[{\"id\":1}]",
            "5",
            "\"id\"",
            "null",
            "{",
            "{\"a\":1",
            "{\"a\":1}}",
            "{a:1}",
            "{} {}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "\u{feff}{}",
        ];
        for line in with {
            assert_eq!(shape(line.as_bytes()), Shape::WithId, "{line}");
        }
        for line in without {
            assert_eq!(shape(line.as_bytes()), Shape::WithoutId, "{line}");
        }
        for line in no_object {
            assert_eq!(shape(line.as_bytes()), Shape::NoObject, "{line}");
        }
        assert_eq!(shape(b"{\"\xff\":1}"), Shape::NoObject);
        assert_eq!(shape(b"{\"a\":\"x\ny\"}"), Shape::NoObject);
    }

    #[test]
    fn data_nested_deep_does_not_overflow_the_stack() {
        let mut deep = b"{\"data\":".to_vec();
        deep.extend(std::iter::repeat_n(b'[', 1_000_000));
        deep.extend(std::iter::repeat_n(b']', 1_000_000));
        deep.push(b'}');
        assert_eq!(shape(&deep), Shape::WithoutId);
    }

    #[test]
    fn the_id_goes_behind_the_brace_and_nothing_else_changes() {
        let id = Uuid::nil();
        let with_id = |line: &str| {
            let mut out = Vec::new();
            append_with_id(line.as_bytes(), id, &mut out);
            let out = String::from_utf8(out).unwrap();
            assert_eq!(shape(out.as_bytes()), Shape::WithId, "{out}");
            out.replace(&id.to_string(), "ID")
        };
        assert_eq!(
            with_id(r#"{"n":1.10,"a":{}}"#),
            r#"{"id":"ID","n":1.10,"a":{}}"#
        );
        assert_eq!(with_id("{}"), r#"{"id":"ID"}"#);
        assert_eq!(with_id("\t{ }\r"), "\t{\"id\":\"ID\" }\r");
        assert_eq!(with_id(r#"  {  "a":"{"}"#), r#"  {"id":"ID",  "a":"{"}"#);
    }
}
