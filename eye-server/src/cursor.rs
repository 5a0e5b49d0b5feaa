//! Where a list goes on: everything about it but the page's size, opaque to clients.
//!
//! What must stay true: a cursor pins what its list saw (`as_of`, resolved times, query, order), so that no row is
//! skipped or repeated. It grants nothing: what a token may see is decided anew for every page.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eye_index::Place;
use eye_log::Offset;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::{Code, Problem};
use crate::parameters::Parameters;

/// How much of the SHA-256 goes along, against garbling; nothing secret depends on it.
const CHECK_BYTES: usize = 6;
/// The parameters of a page, not of the list.
const OF_THE_PAGE: [&str; 4] = ["cursor", "limit", "stale", "count"];

/// Says which list, as of when, and behind which row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// The list: "events", "search", or "session" with its id.
    #[serde(rename = "k")]
    pub(crate) list: String,
    /// The parameters as sent, without the page's own.
    #[serde(rename = "p")]
    pub(crate) parameters: BTreeMap<String, String>,
    #[serde(rename = "a")]
    pub(crate) as_of: Offset,
    #[serde(rename = "f")]
    pub(crate) from: Option<i64>,
    #[serde(rename = "t")]
    pub(crate) to: Option<i64>,
    /// Whether `count=true` was asked for, so that every page counts.
    #[serde(rename = "c")]
    pub(crate) count: bool,
    /// The last row of the page before.
    #[serde(rename = "l")]
    pub(crate) last: Last,
}

/// A row of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Last {
    /// An event.
    #[serde(rename = "e")]
    Event(Option<Uuid>, i64, Offset),
    /// Something with a number or a name of its own.
    #[serde(rename = "n")]
    Named(String),
}

impl Last {
    /// Returns the row as a place in an ordered list of events.
    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Self::Event(session, timestamp, offset) => Some(Place {
                session: *session,
                timestamp: *timestamp,
                offset: *offset,
            }),
            Self::Named(_) => None,
        }
    }
}

impl Cursor {
    /// Writes it for clients of this store.
    pub(crate) fn encode(&self, store: Uuid) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut bytes = check(store, &json).to_vec();
        bytes.extend_from_slice(&json);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(text: &str, store: Uuid) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (claimed, json) = bytes.split_at_checked(CHECK_BYTES)?;
        if claimed != check(store, json) {
            return None;
        }
        serde_json::from_slice(json).ok()
    }

    /// Takes the cursor out of the parameters, if there is one, and completes them with what it holds. Other
    /// parameters beside it have to be the same as the list's own.
    pub(crate) fn resume(
        list: &str,
        parameters: &mut Parameters,
        store: Uuid,
    ) -> Result<Option<Self>, Problem> {
        let Some(text) = parameters.take("cursor") else {
            return Ok(None);
        };
        let bad = |message: &str| {
            Problem::new(Code::BadCursor, message)
                .detail("Take `next` of an answer of this list as it is, or leave the cursor out to begin anew.")
                .field("cursor", message)
        };
        let cursor =
            Self::decode(&text, store).ok_or_else(|| bad("The cursor is none of this service."))?;
        if cursor.list != list {
            return Err(bad("The cursor belongs to another list."));
        }
        for (name, value) in parameters.as_map() {
            let same = match name.as_str() {
                name if OF_THE_PAGE.contains(&name) => true,
                "as_of" => value.parse() == Ok(cursor.as_of),
                name => cursor.parameters.get(name) == Some(value),
            };
            if !same {
                return Err(bad(&format!(
                    "The cursor belongs to another query: {name} differs."
                )));
            }
        }
        for (name, value) in &cursor.parameters {
            parameters.put(name, value.clone());
        }
        parameters.put("as_of", cursor.as_of.to_string());
        if cursor.count && parameters.text("count").is_none() {
            parameters.put("count", "true".to_owned());
        }
        Ok(Some(cursor))
    }

    /// Returns the parameters that a cursor of their list keeps.
    pub(crate) fn kept(parameters: &Parameters) -> BTreeMap<String, String> {
        let mut kept = parameters.as_map().clone();
        kept.retain(|name, _| name != "as_of" && !OF_THE_PAGE.contains(&name.as_str()));
        kept
    }
}

fn check(store: Uuid, json: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Sha256::new()
        .chain_update(store.as_bytes())
        .chain_update(json)
        .finalize();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::operation::Field;

    const STORE: Uuid = Uuid::from_u128(9);

    fn cursor() -> Cursor {
        Cursor {
            list: "search".into(),
            parameters: BTreeMap::from([
                ("q".to_owned(), "a b".to_owned()),
                ("from".to_owned(), "now-1h".to_owned()),
            ]),
            as_of: 77,
            from: Some(-5),
            to: None,
            count: true,
            last: Last::Event(Some(Uuid::from_u128(3)), -1, 70),
        }
    }

    fn resume(list: &str, query: &str) -> Result<(Cursor, Parameters), Code> {
        let known = ["q", "from", "limit", "cursor", "as_of", "stale", "count"].map(Field::text);
        let mut parameters = Parameters::from_query(Some(query), &[&known]).unwrap();
        let resumed =
            Cursor::resume(list, &mut parameters, STORE).map_err(|problem| problem.code())?;
        Ok((resumed.unwrap(), parameters))
    }

    #[test]
    fn a_cursor_brings_its_query_along() {
        let (resumed, parameters) = resume(
            "search",
            &format!("cursor={}&limit=5", cursor().encode(STORE)),
        )
        .unwrap();
        assert_eq!(resumed, cursor());
        assert_eq!(parameters.text("q"), Some("a b"));
        assert_eq!(parameters.text("as_of"), Some("77"));
        assert_eq!(parameters.text("count"), Some("true"));
        assert_eq!(Cursor::kept(&parameters), cursor().parameters);
    }

    #[test]
    fn the_same_parameters_may_stand_beside_it() {
        let text = cursor().encode(STORE);
        assert!(
            resume(
                "search",
                &format!("cursor={text}&q=a+b&as_of=77&count=false")
            )
            .is_ok()
        );
        for other in ["q=a", "as_of=78", "from=now-2h"] {
            assert_eq!(
                resume("search", &format!("cursor={text}&{other}")).unwrap_err(),
                Code::BadCursor,
                "{other}"
            );
        }
    }

    #[test]
    fn foreign_and_garbled_cursors_are_refused() {
        let text = cursor().encode(STORE);
        let mut garbled = text.clone().into_bytes();
        garbled[12] = if garbled[12] == b'A' { b'B' } else { b'A' };
        let foreign = cursor().encode(Uuid::from_u128(8));
        for wrong in [
            "",
            "x",
            "%20",
            &String::from_utf8(garbled).unwrap(),
            &foreign,
            &text[..text.len() - 1],
        ] {
            assert_eq!(
                resume("search", &format!("cursor={wrong}")).unwrap_err(),
                Code::BadCursor,
                "{wrong}"
            );
        }
        assert_eq!(
            resume("events", &format!("cursor={text}")).unwrap_err(),
            Code::BadCursor
        );
    }
}
