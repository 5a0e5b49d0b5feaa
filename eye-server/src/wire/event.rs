//! A stored event as JSON, written by hand around the `data` it was sent with.

use std::borrow::Cow;

use eye_log::json::push_without_space;
use eye_log::{StoredEvent, format_timestamp};

use crate::operation::{Component, Field, Shape};

/// An event as it is answered.
pub(crate) static EVENT: Component = Component::object(
    "Event",
    &[
        Field::uuid("id"),
        Field::whole("offset"),
        Field::text("application"),
        Field::uuid("session_id"),
        Field::text("category"),
        Field::text("name"),
        Field::time("timestamp"),
        Field::time("received_at"),
        Field::new("data", Shape::Json).about("The application's own: any JSON object."),
        Field::text("client_id").optional(),
        Field::new("meta", Shape::Json)
            .optional()
            .about("What the service noted of its arrival."),
        Field::number("score")
            .optional()
            .about("With `order=-score`."),
        Field::new(
            "highlight",
            Shape::ByName(&Shape::List(&Shape::Object(&[
                Field::whole("start"),
                Field::whole("end"),
            ]))),
        )
        .optional()
        .about("With `highlight=true`: by path, where in the string."),
    ],
);

/// Appends an event: `{"id", "offset", "application", "session_id", "category", "name", "timestamp", "received_at",
/// "data"}`, with `client_id` and `meta` where there are any.
pub(crate) fn write_event(out: &mut Vec<u8>, event: &StoredEvent, application: &str) {
    out.extend_from_slice(b"{\"id\":\"");
    write_uuid(out, event.id);
    out.extend_from_slice(b"\",\"offset\":");
    write_number(out, event.offset);
    out.extend_from_slice(b",\"application\":");
    write_string(out, application);
    out.extend_from_slice(b",\"session_id\":\"");
    write_uuid(out, event.session_id);
    out.extend_from_slice(b"\",\"category\":");
    write_string(out, &event.category);
    out.extend_from_slice(b",\"name\":");
    write_string(out, &event.name);
    out.extend_from_slice(b",\"timestamp\":");
    write_time(out, event.timestamp);
    out.extend_from_slice(b",\"received_at\":");
    write_time(out, event.received_at);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(event.data.as_bytes());
    if let Some(client_id) = &event.client_id {
        out.extend_from_slice(b",\"client_id\":");
        write_string(out, client_id);
    }
    if let Some(meta) = &event.meta {
        out.extend_from_slice(b",\"meta\":");
        out.extend_from_slice(meta.as_bytes());
    }
    out.push(b'}');
}

/// Appends an event as [`write_event`] does, without line breaks: `data` may have come with some.
pub(crate) fn write_event_line(out: &mut Vec<u8>, event: &mut StoredEvent, application: &str) {
    if event.data.contains(['\n', '\r']) {
        event.data = on_one_line(&event.data).into_owned();
    }
    write_event(out, event, application);
}

/// Appends a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing text into memory has nothing to fail of.
    let _ = serde_json::to_writer(out, text);
}

/// Appends an instant as a JSON string, `"2021-01-01T09:15:27.243860Z"`.
pub(crate) fn write_time(out: &mut Vec<u8>, instant: i64) {
    out.push(b'"');
    out.extend_from_slice(format_timestamp(instant).as_bytes());
    out.push(b'"');
}

/// Appends a number.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    let _ = serde_json::to_writer(out, &number);
}

/// Appends a UUID in lower case, without quotes.
pub(crate) fn write_uuid(out: &mut Vec<u8>, id: uuid::Uuid) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
}

/// Returns JSON text without line breaks, for formats of one event a line: the only breaks that JSON text can hold
/// are insignificant, and all insignificant white space goes with them.
pub fn on_one_line(json: &str) -> Cow<'_, str> {
    if !json.contains(['\n', '\r']) {
        return Cow::Borrowed(json);
    }
    let mut line = Vec::with_capacity(json.len());
    push_without_space(json, &mut line);
    String::from_utf8(line).map_or(Cow::Borrowed(json), Cow::Owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use eye_log::ApplicationId;
    use uuid::Uuid;

    use super::*;

    fn event(data: &str) -> StoredEvent {
        StoredEvent {
            offset: 7,
            id: Uuid::from_u128(1),
            application: ApplicationId(0),
            session_id: Uuid::from_u128(2),
            category: "a \"b\"".into(),
            name: "n\n".into(),
            timestamp: 1_609_492_527_243_860,
            received_at: 1_609_492_527_243_861,
            data: data.into(),
            meta: None,
            client_id: None,
        }
    }

    #[test]
    fn data_goes_out_as_it_came() {
        let data = r#"{ "b":1.10,"b" : 1e400, "s":"\ud800\u0041" }"#;
        let mut out = Vec::new();
        write_event(&mut out, &event(data), "iOS app");
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            format!(
                "{{\"id\":\"00000000-0000-0000-0000-000000000001\",\"offset\":7,\"application\":\"iOS app\",\
                 \"session_id\":\"00000000-0000-0000-0000-000000000002\",\"category\":\"a \\\"b\\\"\",\"name\":\"n\\n\",\
                 \"timestamp\":\"2021-01-01T09:15:27.243860Z\",\"received_at\":\"2021-01-01T09:15:27.243861Z\",\"data\":{data}}}"
            )
        );
    }

    #[test]
    fn what_only_some_events_have_comes_last() {
        let mut out = Vec::new();
        write_event(
            &mut out,
            &StoredEvent {
                client_id: Some("k".into()),
                meta: Some("{\"p\":1}".into()),
                ..event("{}")
            },
            "a",
        );
        assert!(
            String::from_utf8(out)
                .unwrap()
                .ends_with(",\"data\":{},\"client_id\":\"k\",\"meta\":{\"p\":1}}")
        );
    }

    #[test]
    fn one_line_keeps_everything_but_white_space() {
        let text = "{\n \"a:,\": [ 1.0 ,\r\n -2e5, [], {} , {\"x\":null}],\n\"b{\" : \"x\\n , y\", \"c\":[true,false,\"[\",\"\"]}";
        let line = on_one_line(text);
        assert_eq!(
            line,
            "{\"a:,\":[1.0,-2e5,[],{},{\"x\":null}],\"b{\":\"x\\n , y\",\"c\":[true,false,\"[\",\"\"]}"
        );
        assert!(matches!(on_one_line("{ }"), Cow::Borrowed("{ }")));
    }
}
