//! The JSON object in the body of a small request: to register something, or to ask.

use axum::body::Body;
use serde_json::{Map, Value};

use crate::error::{Code, Problem};
use crate::ingest::read_body;
use crate::operation::Field;
use crate::parameters::{guess, names};
use crate::state::AppState;
use crate::wire::text_of;

/// The longest such body.
const OBJECT_MAX_BYTES: usize = 1 << 20;

/// Holds the fields of a body whose names are all known.
#[derive(Debug)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    /// Reads a body; an empty one counts as `{}`. A field that is not among `known` is refused with a guess.
    pub(crate) async fn read(
        state: &AppState,
        body: Body,
        known: &[&[Field]],
    ) -> Result<Self, Problem> {
        let mut charge = state.memory().account();
        let body = read_body(body, OBJECT_MAX_BYTES, state.settings(), &mut charge).await?;
        Self::parse(&body, known)
    }

    fn parse(body: &[u8], known: &[&[Field]]) -> Result<Self, Problem> {
        let text = text_of(body)?;
        if text.is_empty() {
            return Ok(Self(Map::new()));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| Problem::malformed(&error, text))?;
        let Value::Object(fields) = value else {
            return Err(Problem::new(
                Code::BadParameter,
                "The body has to be a JSON object.",
            ));
        };
        let known = names(known);
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Problem::parameter(
                name,
                format!("unknown field.{}", guess(name, &known)),
            )),
            None => Ok(Self(fields)),
        }
    }

    /// Returns all fields.
    pub(crate) fn into_fields(self) -> Map<String, Value> {
        self.0
    }

    /// Returns all fields, to be read.
    pub(crate) fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Sets a field.
    pub(crate) fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Returns a field, whatever it is.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Returns whether a field is there and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// Returns a string, if it is there.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Problem::parameter(name, "Not a valid string.")),
        }
    }

    /// Says whether any of these fields is there, null or not.
    pub(crate) fn names_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.contains_key(*name))
    }

    /// Returns a whole number of at least `least`, if the field is there; null is `Some(None)`.
    pub(crate) fn number(&self, name: &str, least: u64) -> Result<Option<Option<u64>>, Problem> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => match value.as_u64().filter(|number| *number >= least) {
                Some(number) => Ok(Some(Some(number))),
                None => Err(Problem::parameter(
                    name,
                    format!("Must be a whole number of at least {least}, or null."),
                )),
            },
        }
    }

    /// Returns true or false, if it is there.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(boolean)) => Ok(Some(*boolean)),
            Some(_) => Err(Problem::parameter(name, "Must be true or false.")),
        }
    }

    /// Returns a list of strings, if it is there.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<&str>>, Problem> {
        let wrong = || Problem::parameter(name, "Must be a list of strings.");
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().ok_or_else(wrong))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn unknown_fields_are_refused_with_a_guess() {
        let refused =
            Object::parse(b"{\"naem\":1}", &[&["name", "active"].map(Field::text)]).unwrap_err();
        let body: Value = serde_json::from_slice(&refused.body("")).unwrap();
        assert!(body["message"].as_str().unwrap().contains("name"), "{body}");
    }

    #[test]
    fn fields_have_types() {
        let object = Object::parse(
            b"{\"a\":\"x\",\"b\":true,\"c\":[\"y\"],\"d\":[1]}",
            &[&["a", "b", "c", "d", "e"].map(Field::text)],
        )
        .unwrap();
        assert_eq!(object.text("a").unwrap(), Some("x"));
        assert_eq!(object.boolean("b").unwrap(), Some(true));
        assert_eq!(object.texts("c").unwrap(), Some(vec!["y"]));
        assert!(
            object.texts("d").is_err() && object.text("b").is_err() && object.boolean("a").is_err()
        );
        assert_eq!(object.text("e").unwrap(), None);
        // Blanks alone are no JSON, as in every other body.
        assert!(Object::parse(b"", &[]).is_ok());
        for blank in [&b"\x0b"[..], b"\r", b" \n"] {
            assert!(Object::parse(blank, &[]).is_err());
        }
        assert_eq!(
            Object::parse(b"{", &[]).unwrap_err().code(),
            Code::MalformedJson
        );
        assert_eq!(
            Object::parse(b"[]", &[]).unwrap_err().code(),
            Code::BadParameter
        );
    }
}
