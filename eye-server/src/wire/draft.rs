//! One event's JSON text into an [`EventDraft`]: six known fields as raw text, in one pass and without a tree.

use std::fmt;

use eye_log::EventDraft;
use eye_log::event::LABEL_MAX_CHARS;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::operation::{Component, Field as Named, Shape};

/// How many unknown or repeated names of one event are reported.
const NAMES_MAX: usize = 100;

/// An event as it is sent.
pub(crate) static EVENT_DRAFT: Component = Component::object(
    "EventDraft",
    &[
        Named::uuid("session_id"),
        Named::new("category", Shape::TextOf(1, LABEL_MAX_CHARS)),
        Named::new("name", Shape::TextOf(1, LABEL_MAX_CHARS)),
        Named::text("timestamp").about("RFC 3339, or YYYY-MM-DD HH:MM:SS[.ffffff]"),
        Named::new("data", Shape::Json).about("The application's own: any JSON object."),
        Named::uuid("id").optional(),
    ],
);

/// Reads the JSON text of one event. The error is of serde_json's category `Data` where the text is JSON, but no
/// object.
pub(crate) fn draft(text: &str) -> Result<EventDraft<'_>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let draft = deserializer.deserialize_map(Fields)?;
    deserializer.end()?;
    Ok(draft)
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = EventDraft<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventDraft<'de>, A::Error> {
        let mut draft = EventDraft::default();
        while let Some(name) = map.next_key_seed(Name)? {
            let value: &'de RawValue = map.next_value()?;
            let (field, name) = match name {
                Field::SessionId => (&mut draft.session_id, "session_id"),
                Field::Category => (&mut draft.category, "category"),
                Field::Name => (&mut draft.name, "name"),
                Field::Data => (&mut draft.data, "data"),
                Field::Timestamp => (&mut draft.timestamp, "timestamp"),
                Field::Id => (&mut draft.id, "id"),
                Field::Unknown(name) => {
                    note(&mut draft.unknown, name);
                    continue;
                }
            };
            if field.is_some() {
                note(&mut draft.repeated, name.to_owned());
            }
            *field = Some(value.get());
        }
        Ok(draft)
    }
}

fn note(names: &mut Vec<String>, name: String) {
    if names.len() < NAMES_MAX && !names.contains(&name) {
        names.push(name);
    }
}

enum Field {
    SessionId,
    Category,
    Name,
    Data,
    Timestamp,
    Id,
    Unknown(String),
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        Ok(match name {
            "session_id" => Field::SessionId,
            "category" => Field::Category,
            "name" => Field::Name,
            "data" => Field::Data,
            "timestamp" => Field::Timestamp,
            "id" => Field::Id,
            other => Field::Unknown(other.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use eye_log::{EventRules, InvalidCode};
    use serde_json::error::Category;

    use super::*;

    const FIELDS: &str = r#""session_id":"e2085be5-9137-4e4e-80b5-f1ffddc25423","category":"c","timestamp":"2021-01-01 00:00:00""#;

    fn rules() -> EventRules {
        EventRules {
            now: i64::MAX,
            future_tolerance: 0,
            default_offset_seconds: 0,
            event_max_bytes: 1 << 18,
            depth_max: 64,
        }
    }

    #[test]
    fn data_is_kept_to_the_last_digit() {
        let data = r#"{"b": 1.10, "a":1e400,"a" : -0, "x":"\ud800", "deep.key":[ 123456789012345678901234567890 ]}"#;
        let text = format!("{{{FIELDS},\"name\":\"n\", \"data\" : {data} }}");
        let draft = draft(&text).unwrap();
        assert_eq!(draft.data, Some(data));
        assert_eq!(draft.category, Some("\"c\""));
        assert!(draft.validate(&rules()).is_ok());
    }

    #[test]
    fn unknown_and_repeated_names_are_noted() {
        let draft = draft(r#"{"nmae":1,"data":{},"data":{"a":1},"nmae":2,"s\u0065ssion_id":"x","session_id":"y"}"#).unwrap();
        assert_eq!(draft.unknown, ["nmae"]);
        assert_eq!(draft.repeated, ["data", "session_id"]);
    }

    #[test]
    fn half_a_surrogate_is_refused_at_the_top() {
        let text = format!("{{{FIELDS},\"name\":\"\\ud800\",\"data\":{{}}}}");
        let refused = draft(&text).unwrap().validate(&rules()).unwrap_err();
        assert_eq!(refused.errors.keys().collect::<Vec<_>>(), ["name"]);
        // As a name it is no text at all.
        assert!(draft(r#"{"\ud800":1}"#).is_err());
    }

    #[test]
    fn any_depth_is_read_and_then_judged() {
        let data = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let text = format!("{{{FIELDS},\"name\":\"n\",\"data\":{data}}}");
        let refused = draft(&text).unwrap().validate(&rules()).unwrap_err();
        assert_eq!(refused.code, InvalidCode::TooDeep);
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        for text in ["1", "\"a\"", "[]", "null", "true"] {
            assert_eq!(
                draft(text).unwrap_err().classify(),
                Category::Data,
                "{text}"
            );
        }
        for text in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":01}",
            "{\"a\":1,}",
            "{'a':1}",
            "{\"a\":\"\t\"}",
            "{\"a\":nul}",
            "{} {}",
            "{\"a\":1e}",
            "{\"a\":\"\\x\"}",
        ] {
            assert_ne!(
                draft(text).unwrap_err().classify(),
                Category::Data,
                "{text}"
            );
        }
    }

    #[test]
    fn the_place_of_a_mistake_is_known() {
        let error = draft("{\n \"a\": 1,\n \"b\": tru }").unwrap_err();
        assert_eq!(error.line(), 3);
    }

    #[test]
    fn a_flood_of_unknown_names_is_cut() {
        let names: Vec<String> = (0..5000).map(|number| format!("\"n{number}\":1")).collect();
        assert_eq!(
            draft(&format!("{{{}}}", names.join(",")))
                .unwrap()
                .unknown
                .len(),
            NAMES_MAX
        );
    }
}
