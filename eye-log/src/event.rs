//! From what a client sent to an event known to be good: the only judgement of an event's content.
//!
//! What must stay true: an [`Event`] only comes from [`EventDraft::validate`], so nobody checks it again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use uuid::Uuid;

use crate::ids::id_from_client_key;
use crate::json;
use crate::registry::ApplicationId;
use crate::time::parse_timestamp;

/// The longest category or name, in Unicode scalar values after trimming.
pub const LABEL_MAX_CHARS: usize = 100;
/// The longest id a client may bring, in bytes.
pub const CLIENT_ID_MAX_BYTES: usize = 255;

const REQUIRED: &str = "This field is required.";
const NULL: &str = "This field may not be null.";
const BLANK: &str = "This field may not be blank.";
const NOT_A_STRING: &str = "Not a valid string.";
const NOT_A_UUID: &str = "Must be a valid UUID.";
const NOT_AN_OBJECT: &str = "Must be a JSON object.";
const NOT_A_TIME: &str = "Datetime has wrong format. Use RFC 3339 (2021-01-01T09:15:27.243860Z) or YYYY-MM-DD HH:MM:SS[.ffffff].";
/// What a timestamp beyond the tolerance is refused with; the words of the service this one replaces.
pub const FUTURE: &str = "Event timestamp cannot be dated in the future.";

/// One event as a client sent it: the JSON text of each top-level field, `None` where it is absent.
#[derive(Debug, Default, Clone)]
pub struct EventDraft<'a> {
    /// JSON text of `session_id`.
    pub session_id: Option<&'a str>,
    /// JSON text of `category`.
    pub category: Option<&'a str>,
    /// JSON text of `name`.
    pub name: Option<&'a str>,
    /// JSON text of `data`.
    pub data: Option<&'a str>,
    /// JSON text of `timestamp`.
    pub timestamp: Option<&'a str>,
    /// JSON text of `id`.
    pub id: Option<&'a str>,
    /// Names of top-level fields that an event does not have.
    pub unknown: Vec<String>,
    /// Names of top-level fields that were given twice.
    pub repeated: Vec<String>,
}

/// What a draft is judged by.
#[derive(Debug, Clone, Copy)]
pub struct EventRules {
    /// The present instant, unix microseconds.
    pub now: i64,
    /// How far in the future a timestamp may lie, microseconds.
    pub future_tolerance: i64,
    /// Where naive timestamps are taken to be, seconds east of UTC.
    pub default_offset_seconds: i32,
    /// The longest `data`, bytes of its JSON text.
    pub event_max_bytes: usize,
    /// How deep `data` may nest.
    pub depth_max: usize,
}

/// Why an event was refused: the sort of mistake, and every wrong field with its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEvent {
    /// The sort of mistake.
    pub code: InvalidCode,
    /// Messages by field, every wrong field at once.
    pub errors: BTreeMap<String, Vec<String>>,
}

/// The sort of mistake an event was refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidCode {
    /// One or more fields are wrong.
    InvalidEvent,
    /// Nothing is wrong but that the timestamp lies in the future.
    FutureTimestamp,
    /// `data` is longer than an event may be.
    TooLarge,
    /// `data` nests deeper than allowed.
    TooDeep,
}

/// An event known to be good.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    pub(crate) session_id: Uuid,
    pub(crate) category: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
    pub(crate) timestamp: i64,
    pub(crate) data: &'a str,
    pub(crate) client_id: Option<ClientId<'a>>,
    pub(crate) meta: String,
}

/// The id a client brought.
#[derive(Debug, Clone)]
pub(crate) enum ClientId<'a> {
    Uuid(Uuid),
    Key(Cow<'a, str>),
}

impl Event<'_> {
    /// Returns the session it belongs to.
    pub fn session_id(&self) -> Uuid {
        self.session_id
    }

    /// Returns its category.
    pub fn category(&self) -> &str {
        &self.category
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its data, a JSON object as it was sent.
    pub fn data(&self) -> &str {
        self.data
    }

    /// Says with JSON text how it came to be stored; that is kept beside its data and is no part of its content.
    pub fn set_meta(&mut self, meta: String) {
        self.meta = meta;
    }

    /// Returns the instant it happened, unix microseconds.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Returns the id it will have within `application`, if the client brought one.
    pub fn client_made_id(&self, application: ApplicationId) -> Option<Uuid> {
        self.client_id.as_ref().map(|id| match id {
            ClientId::Uuid(id) => *id,
            ClientId::Key(key) => id_from_client_key(application, key),
        })
    }

    pub(crate) fn content_hash(&self) -> [u8; 16] {
        content_hash(
            self.session_id,
            self.timestamp,
            &self.category,
            &self.name,
            self.data,
        )
    }
}

/// Returns 128 bits over what "same content" means: session, category, name, instant, and `data` without
/// insignificant white space.
pub(crate) fn content_hash(
    session_id: Uuid,
    timestamp: i64,
    category: &str,
    name: &str,
    data: &str,
) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(session_id.as_bytes());
    hasher.update(&timestamp.to_le_bytes());
    for label in [category, name] {
        hasher.update(&(label.len() as u64).to_le_bytes());
        hasher.update(label.as_bytes());
    }
    json::hash_without_space(data, &mut hasher);
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

impl<'a> EventDraft<'a> {
    /// Judges every field; returns the event, or every wrong field at once.
    pub fn validate(self, rules: &EventRules) -> Result<Event<'a>, InvalidEvent> {
        let mut wrong = Wrong::default();
        let session_id = wrong.take("session_id", required(self.session_id).and_then(uuid));
        let category = wrong.take("category", required(self.category).and_then(label));
        let name = wrong.take("name", required(self.name).and_then(label));
        let timestamp = wrong.take(
            "timestamp",
            required(self.timestamp).and_then(|text| instant(text, rules)),
        );
        let data = wrong.take(
            "data",
            required(self.data).and_then(|text| object(text, rules)),
        );
        let client_id = self.id.and_then(|text| wrong.take("id", client_id(text)));
        for field in self.unknown {
            wrong.add(
                field,
                InvalidCode::InvalidEvent,
                "Unknown field; put it in data.".to_owned(),
            );
        }
        for field in self.repeated {
            wrong.add(
                field,
                InvalidCode::InvalidEvent,
                "This field is given more than once.".to_owned(),
            );
        }
        match (session_id, category, name, timestamp, data) {
            (Some(session_id), Some(category), Some(name), Some(timestamp), Some(data))
                if wrong.errors.is_empty() =>
            {
                Ok(Event {
                    session_id,
                    category,
                    name,
                    timestamp,
                    data,
                    client_id,
                    meta: String::new(),
                })
            }
            _ => Err(wrong.into_invalid()),
        }
    }
}

type Judged<T> = Result<T, (InvalidCode, String)>;

#[derive(Default)]
struct Wrong {
    errors: BTreeMap<String, Vec<String>>,
    codes: Vec<InvalidCode>,
}

impl Wrong {
    fn add(&mut self, field: String, code: InvalidCode, message: String) {
        self.errors.entry(field).or_default().push(message);
        self.codes.push(code);
    }

    fn take<T>(&mut self, field: &str, judged: Judged<T>) -> Option<T> {
        judged
            .map_err(|(code, message)| self.add(field.to_owned(), code, message))
            .ok()
    }

    /// A mistake of a sort of its own is named so only where it is the only one.
    fn into_invalid(self) -> InvalidEvent {
        let code = match self.codes.as_slice() {
            [only] => *only,
            _ => InvalidCode::InvalidEvent,
        };
        InvalidEvent {
            code,
            errors: self.errors,
        }
    }
}

fn invalid<T>(message: impl Into<String>) -> Judged<T> {
    Err((InvalidCode::InvalidEvent, message.into()))
}

fn required(text: Option<&str>) -> Judged<&str> {
    match text {
        None => invalid(REQUIRED),
        Some("null") => invalid(NULL),
        Some(text) => Ok(text),
    }
}

/// The characters of a JSON string. A lone surrogate has none, so it is no string here.
fn string(text: &str) -> Judged<Cow<'_, str>> {
    if !text.starts_with('"') {
        return invalid(NOT_A_STRING);
    }
    let inner = &text[1..text.len().saturating_sub(1).max(1)];
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    match serde_json::from_str::<String>(text) {
        Ok(string) => Ok(Cow::Owned(string)),
        Err(_) => {
            invalid("Not a valid string: it holds half of a surrogate pair (\\ud800 to \\udfff).")
        }
    }
}

fn label(text: &str) -> Judged<Cow<'_, str>> {
    let string = match string(text)? {
        Cow::Borrowed(string) => Cow::Borrowed(string.trim()),
        Cow::Owned(string) => Cow::Owned(string.trim().to_owned()),
    };
    if string.is_empty() {
        return invalid(BLANK);
    }
    if string.len() > LABEL_MAX_CHARS && string.chars().count() > LABEL_MAX_CHARS {
        return invalid(format!(
            "Ensure this field has no more than {LABEL_MAX_CHARS} characters."
        ));
    }
    Ok(string)
}

fn uuid(text: &str) -> Judged<Uuid> {
    // A UUID is written plainly, not as a JSON string with escapes, a URN or in braces.
    string(text)
        .ok()
        .filter(|string| matches!(string.len(), 32 | 36))
        .and_then(|string| Uuid::try_parse(&string).ok())
        .map_or_else(|| invalid(NOT_A_UUID), Ok)
}

fn instant(text: &str, rules: &EventRules) -> Judged<i64> {
    let Some(instant) = string(text)
        .ok()
        .and_then(|text| parse_timestamp(text.trim(), rules.default_offset_seconds))
    else {
        return invalid(NOT_A_TIME);
    };
    if instant > rules.now.saturating_add(rules.future_tolerance) {
        return Err((InvalidCode::FutureTimestamp, FUTURE.to_owned()));
    }
    Ok(instant)
}

fn object<'a>(text: &'a str, rules: &EventRules) -> Judged<&'a str> {
    if !text.starts_with('{') {
        return invalid(NOT_AN_OBJECT);
    }
    if text.len() > rules.event_max_bytes {
        let message = format!(
            "{} bytes of data; an event may have {}.",
            text.len(),
            rules.event_max_bytes
        );
        return Err((InvalidCode::TooLarge, message));
    }
    if json::deeper_than(text, rules.depth_max) {
        let message = format!(
            "Nested {} levels deep; {} are allowed.",
            json::depth(text),
            rules.depth_max
        );
        return Err((InvalidCode::TooDeep, message));
    }
    Ok(text)
}

fn client_id(text: &str) -> Judged<ClientId<'_>> {
    if text == "null" {
        return invalid(NULL);
    }
    // The native API takes UUIDs; the collection endpoints make keys of whatever their SDKs bring.
    uuid(text).map(ClientId::Uuid)
}

impl<'a> Event<'a> {
    /// Returns the event with `key` (1 to 255 bytes, the id as an SDK sent it) as its client id: a UUID is the id
    /// itself, anything else gives one derived from the application and the key.
    pub fn with_client_key(mut self, key: Cow<'a, str>) -> Option<Self> {
        if key.is_empty() || key.len() > CLIENT_ID_MAX_BYTES {
            return None;
        }
        let id = Some(&key)
            .filter(|key| key.len() == 36)
            .and_then(|key| Uuid::try_parse(key).ok());
        self.client_id = Some(id.map_or(ClientId::Key(key), ClientId::Uuid));
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rules() -> EventRules {
        EventRules {
            now: parse_timestamp("2021-01-02 00:00:00", 0).unwrap(),
            future_tolerance: 5_000_000,
            default_offset_seconds: 0,
            event_max_bytes: 1000,
            depth_max: 4,
        }
    }

    fn draft() -> EventDraft<'static> {
        EventDraft {
            session_id: Some("\"E2085BE5-9137-4e4e-80b5-f1ffddc25423\""),
            category: Some("\" page interaction \""),
            name: Some("\"caf\\u00e9\""),
            data: Some("{\"path\": \"/\"}"),
            timestamp: Some("\"2021-01-01 09:15:27.243860\""),
            ..EventDraft::default()
        }
    }

    #[test]
    fn a_good_event_is_trimmed_and_its_escapes_are_read() {
        let event = draft().validate(&rules()).unwrap();
        assert_eq!(event.category, "page interaction");
        assert_eq!(event.name, "café");
        assert_eq!(
            event.session_id.to_string(),
            "e2085be5-9137-4e4e-80b5-f1ffddc25423"
        );
        assert_eq!(event.data, "{\"path\": \"/\"}");
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let wrong = EventDraft {
            session_id: Some("5"),
            category: Some("\"  \""),
            name: None,
            data: Some("[]"),
            timestamp: Some("\"2031-01-01 00:00:00\""),
            id: Some("\"x\""),
            unknown: vec!["nmae".into()],
            repeated: vec![],
        };
        let refused = wrong.validate(&rules()).unwrap_err();
        assert_eq!(refused.code, InvalidCode::InvalidEvent);
        let fields: Vec<_> = refused.errors.keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            [
                "category",
                "data",
                "id",
                "name",
                "nmae",
                "session_id",
                "timestamp"
            ]
        );
        assert_eq!(refused.errors["timestamp"], [FUTURE]);
        assert_eq!(refused.errors["name"], [REQUIRED]);
    }

    #[test]
    fn a_future_time_alone_has_a_code_of_its_own() {
        let event = EventDraft {
            timestamp: Some("\"2021-01-02T00:00:06Z\""),
            ..draft()
        };
        assert_eq!(
            event.validate(&rules()).unwrap_err().code,
            InvalidCode::FutureTimestamp
        );
        let event = EventDraft {
            timestamp: Some("\"2021-01-02T00:00:05Z\""),
            ..draft()
        };
        assert!(event.validate(&rules()).is_ok());
    }

    #[test]
    fn a_hundred_characters_are_counted_not_bytes() {
        let long = format!("\"{}\"", "é".repeat(100));
        assert!(
            EventDraft {
                name: Some(&long),
                ..draft()
            }
            .validate(&rules())
            .is_ok()
        );
        let longer = format!("\"{}\"", "é".repeat(101));
        assert!(
            EventDraft {
                name: Some(&longer),
                ..draft()
            }
            .validate(&rules())
            .is_err()
        );
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = EventDraft {
            data: Some("{\"a\":{\"a\":{\"a\":{\"a\":1}}}}"),
            ..draft()
        };
        assert!(deep.validate(&rules()).is_ok());
        let deeper = EventDraft {
            data: Some("{\"a\":{\"a\":{\"a\":{\"a\":[]}}}}"),
            ..draft()
        };
        assert_eq!(
            deeper.validate(&rules()).unwrap_err().code,
            InvalidCode::TooDeep
        );
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
        let large = EventDraft {
            data: Some(&long),
            ..draft()
        };
        assert_eq!(
            large.validate(&rules()).unwrap_err().code,
            InvalidCode::TooLarge
        );
    }

    #[test]
    fn half_a_surrogate_is_refused_in_a_name_and_accepted_in_data() {
        assert!(
            EventDraft {
                name: Some("\"\\ud800\""),
                ..draft()
            }
            .validate(&rules())
            .is_err()
        );
        assert!(
            EventDraft {
                data: Some("{\"a\":\"\\ud800\"}"),
                ..draft()
            }
            .validate(&rules())
            .is_ok()
        );
    }

    #[test]
    fn the_same_content_spaced_differently_hashes_the_same() {
        let one = draft().validate(&rules()).unwrap();
        let other = EventDraft {
            data: Some("{ \"path\":\"/\" }"),
            ..draft()
        }
        .validate(&rules())
        .unwrap();
        assert_eq!(one.content_hash(), other.content_hash());
        let third = EventDraft {
            data: Some("{\"path\":\"/ \"}"),
            ..draft()
        }
        .validate(&rules())
        .unwrap();
        assert_ne!(one.content_hash(), third.content_hash());
    }
}
