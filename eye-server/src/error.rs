//! What went wrong, as every client sees it: a [`Problem`] with a code of its own, what, where, and how to mend it.
//!
//! What must stay true: a `Problem` is the only way to answer a status of 400 or more, and every error of the crates
//! below is mapped here, one arm each.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use eye_index::SearchError;
use eye_index::search::parse::QueryError;
use eye_log::{AppendError, ChangeError, InvalidCode, InvalidEvent, QueueFull, ReadError};
use serde_json::{Map, Value, json};

use crate::operation::{Component, Field, Shape};

/// How soon to try again when a queue is full, seconds.
const RETRY_SOON: u64 = 1;
/// How soon to try again when somebody has to make room first, seconds.
const RETRY_LATER: u64 = 30;

/// Names the sort of a problem, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Code {
    MalformedJson,
    InvalidEvent,
    FutureTimestamp,
    SessionConflict,
    IdConflict,
    TooLarge,
    TooDeep,
    UnsupportedType,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    MethodNotAllowed,
    BadParameter,
    BadQuery,
    QueryBound,
    QueryTimeout,
    BadCursor,
    RuleViolation,
    RateLimited,
    Overloaded,
    DiskFull,
    Damaged,
    Recovering,
    Gone,
}

/// Every code there is, as clients see it.
const CODES: [&str; 25] = {
    let all = [
        Code::MalformedJson,
        Code::InvalidEvent,
        Code::FutureTimestamp,
        Code::SessionConflict,
        Code::IdConflict,
        Code::TooLarge,
        Code::TooDeep,
        Code::UnsupportedType,
        Code::Unauthorized,
        Code::Forbidden,
        Code::NotFound,
        Code::Conflict,
        Code::MethodNotAllowed,
        Code::BadParameter,
        Code::BadQuery,
        Code::QueryBound,
        Code::QueryTimeout,
        Code::BadCursor,
        Code::RuleViolation,
        Code::RateLimited,
        Code::Overloaded,
        Code::DiskFull,
        Code::Damaged,
        Code::Recovering,
        Code::Gone,
    ];
    let mut names = [""; 25];
    let mut at = 0;
    while at < names.len() {
        assert!(all[at] as usize == at, "in their order, none missing");
        names[at] = all[at].facts().0;
        at += 1;
    }
    assert!(Code::Gone as usize + 1 == names.len(), "the last one");
    names
};

impl Code {
    /// Returns the code's name, its usual status and its title.
    const fn facts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::MalformedJson => ("malformed_json", S::BAD_REQUEST, "The body is not JSON"),
            Self::InvalidEvent => ("invalid_event", S::BAD_REQUEST, "The event is not valid"),
            Self::FutureTimestamp => (
                "future_timestamp",
                S::BAD_REQUEST,
                "The event lies in the future",
            ),
            Self::SessionConflict => (
                "session_conflict",
                S::CONFLICT,
                "The session is another application's",
            ),
            Self::IdConflict => (
                "id_conflict",
                S::CONFLICT,
                "The id was used for another event",
            ),
            Self::TooLarge => ("too_large", S::PAYLOAD_TOO_LARGE, "Too large"),
            Self::TooDeep => ("too_deep", S::BAD_REQUEST, "Nested too deeply"),
            Self::UnsupportedType => (
                "unsupported_type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
            ),
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "A valid token is needed"),
            Self::Forbidden => ("forbidden", S::FORBIDDEN, "This token may not do that"),
            Self::NotFound => ("not_found", S::NOT_FOUND, "Not found"),
            Self::Conflict => ("conflict", S::CONFLICT, "That conflicts with what is there"),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                S::METHOD_NOT_ALLOWED,
                "Method not allowed",
            ),
            Self::BadParameter => ("bad_parameter", S::BAD_REQUEST, "A parameter is wrong"),
            Self::BadQuery => ("bad_query", S::BAD_REQUEST, "The query cannot be read"),
            Self::QueryBound => ("query_bound", S::BAD_REQUEST, "The query passes a bound"),
            Self::QueryTimeout => (
                "query_timeout",
                S::GATEWAY_TIMEOUT,
                "The query took too long",
            ),
            Self::BadCursor => ("bad_cursor", S::BAD_REQUEST, "The cursor cannot be used"),
            Self::RuleViolation => ("rule_violation", S::BAD_REQUEST, "The event breaks a rule"),
            Self::RateLimited => ("rate_limited", S::TOO_MANY_REQUESTS, "Too many requests"),
            Self::Overloaded => (
                "overloaded",
                S::SERVICE_UNAVAILABLE,
                "Too much to do at the moment",
            ),
            Self::DiskFull => ("disk_full", S::INSUFFICIENT_STORAGE, "The disk is full"),
            Self::Damaged => (
                "damaged",
                S::INTERNAL_SERVER_ERROR,
                "Stored bytes are damaged",
            ),
            Self::Recovering => ("recovering", S::SERVICE_UNAVAILABLE, "Not ready"),
            Self::Gone => ("gone", S::GONE, "Gone"),
        }
    }

    /// Returns the name as clients see it.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// Returns the status it is usually answered with.
    pub fn status(self) -> StatusCode {
        self.facts().1
    }
}

impl From<InvalidCode> for Code {
    fn from(code: InvalidCode) -> Self {
        match code {
            InvalidCode::InvalidEvent => Self::InvalidEvent,
            InvalidCode::FutureTimestamp => Self::FutureTimestamp,
            InvalidCode::TooLarge => Self::TooLarge,
            InvalidCode::TooDeep => Self::TooDeep,
        }
    }
}

/// Messages by field.
pub type FieldErrors = BTreeMap<String, Vec<String>>;

/// One of many that was refused.
pub(crate) static REFUSED: Component = Component::object(
    "Refused",
    &[
        Field::whole("index"),
        Field::whole("line").optional(),
        Field::text("code"),
        Field::text("rejection").or_null(),
        Field::of("errors", &FIELD_ERRORS),
    ],
);

/// A mistake in a query.
pub(crate) static MISTAKE: Component = Component::object(
    "Mistake",
    &[
        Field::whole("position"),
        Field::whole("length"),
        Field::list("expected", &Shape::Text),
        Field::text("suggestion").optional().or_null(),
        Field::text("message"),
    ],
);

/// Messages by field, as they are answered.
pub(crate) static FIELD_ERRORS: Component =
    Component::new("FieldErrors", "", Shape::ByName(&Shape::List(&Shape::Text)));

/// A problem as it is answered.
pub(crate) static PROBLEM: Component = Component::object(
    "Problem",
    &[
        Field::text("type"),
        Field::text("title"),
        Field::whole("status"),
        Field::one_of("code", &CODES),
        Field::text("message"),
        Field::text("detail"),
        Field::text("request_id"),
        Field::new(
            "errors",
            Shape::Either(&[
                Shape::ByName(&Shape::List(&Shape::Either(&[
                    Shape::Text,
                    Shape::Of(&MISTAKE),
                ]))),
                Shape::List(&Shape::Of(&REFUSED)),
            ]),
        )
        .optional()
        .about("Messages by field; of a query, its mistakes; of many events, the refused ones."),
        Field::whole("line").optional(),
        Field::whole("column").optional(),
        Field::whole("limit").optional(),
        Field::whole("retry_after").optional(),
        Field::uuid("rejection")
            .optional()
            .about("As what it is kept."),
        Field::text("bound").optional(),
        Field::text("clause").optional(),
        Field::new("offsets", Shape::ListOf(&Shape::Whole, 2, 2))
            .optional()
            .about("The damaged range: first and end."),
        Field::whole("accepted").optional(),
        Field::whole("duplicates").optional(),
        Field::whole("rejected").optional(),
        Field::whole("first_offset").optional().or_null(),
        Field::whole("last_offset").optional().or_null(),
        Field::boolean("errors_truncated").optional(),
    ],
);

/// Holds an answer of status 400 or more. Becomes a response whose body is written by
/// `envelope`, which knows the request's id.
#[derive(Debug, Clone)]
pub struct Problem(Box<Fields>);

#[derive(Debug, Clone)]
struct Fields {
    code: Code,
    status: StatusCode,
    message: String,
    detail: Option<String>,
    errors: Option<Value>,
    retry_after: Option<u64>,
    /// Further members: line, column, limit, bound, clause, offsets, and the summary of a batch.
    more: Map<String, Value>,
}

impl Problem {
    /// Makes a problem of a sort with one sentence on what is wrong.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Fields {
            code,
            status: code.status(),
            message: message.into(),
            detail: None,
            errors: None,
            retry_after: None,
            more: Map::new(),
        }))
    }

    /// Says how to mend it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Answers with another status than the code's usual one.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// Gives the messages of each wrong field.
    #[must_use]
    pub fn errors(mut self, errors: &FieldErrors) -> Self {
        self.0.errors = Some(json!(errors));
        self
    }

    /// Gives one message for one field.
    #[must_use]
    pub fn field(self, field: &str, message: &str) -> Self {
        self.errors(&FieldErrors::from([(
            field.to_owned(),
            vec![message.to_owned()],
        )]))
    }

    /// Says where in the body it is, both counted from 1.
    #[must_use]
    pub fn at(self, line: usize, column: usize) -> Self {
        self.with("line", json!(line)).with("column", json!(column))
    }

    /// Names the limit that was passed.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        self.with("limit", json!(limit))
    }

    /// Says after how many seconds to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.more.insert(name.to_owned(), value);
        self
    }

    /// Returns the status it is answered with.
    pub fn answered(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the messages by field; what is wrong with the request as a whole stands under `body`.
    pub fn field_errors(&self) -> FieldErrors {
        let fields = self.0.errors.clone();
        fields
            .and_then(|errors| serde_json::from_value(errors).ok())
            .unwrap_or_else(|| {
                FieldErrors::from([("body".to_owned(), vec![self.0.message.clone()])])
            })
    }

    /// Returns the sort of problem.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Returns the answer to a token that is missing, unknown, revoked or disabled: the same for each.
    pub fn unauthorized() -> Self {
        Self::new(Code::Unauthorized, "No valid token was given.")
            .detail("Send a token as `Authorization: Token …`, `Authorization: Bearer …`, or the user name of HTTP Basic.")
    }

    /// Returns the answer for what is not there, or not there for this token.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("{what} was not found."))
    }

    /// Returns the answer to a parameter with a wrong value.
    pub fn parameter(name: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(Code::BadParameter, format!("{name}: {message}")).field(name, &message)
    }

    /// Returns the answer to a `q` that cannot be read.
    pub fn bad_query(errors: &[QueryError]) -> Self {
        Self::bad_query_in("q", errors)
    }

    /// Returns the answer to a query that cannot be read and that stands in the field `name`.
    pub fn bad_query_in(name: &str, errors: &[QueryError]) -> Self {
        let message = errors
            .first()
            .map_or("The query cannot be read.", |error| &error.message);
        let mut problem = Self::new(Code::BadQuery, message);
        problem.0.errors = Some(json!({ name: errors }));
        problem
    }

    /// Returns the answer to a `text` that is not JSON, where `error` says.
    pub fn malformed(error: &serde_json::Error, text: &str) -> Self {
        let (line, column) = place(error, text);
        Self::malformed_at(&plain(error), line, column)
    }

    /// Returns the answer to text that is not JSON, with the place in the body.
    pub fn malformed_at(what: &str, line: usize, column: usize) -> Self {
        Self::new(Code::MalformedJson, format!("Malformed JSON at line {line}, column {column}: {what}."))
            .detail("Nothing of this request was stored. Send one JSON object, an array of them, or application/x-ndjson.")
            .at(line, column)
    }

    /// Returns the answer to an event refused by itself.
    pub fn invalid(code: Code, errors: &FieldErrors) -> Self {
        let all: Vec<String> = errors
            .iter()
            .take(8)
            .map(|(field, messages)| format!("{field}: {}", messages.join(" ")))
            .collect();
        Self::new(code, "The event was not stored.")
            .detail(all.join(" "))
            .errors(errors)
    }

    /// Returns the answer to a query whose time is over.
    pub fn query_timeout() -> Self {
        Self::new(
            Code::QueryTimeout,
            "The query took longer than a query may.",
        )
        .detail("Narrow it by time, application or a rarer word. GET /limits has query_deadline.")
    }

    /// Returns the bytes of the body for a request of this id.
    pub(crate) fn body(&self, request_id: &str) -> Vec<u8> {
        let (name, _, title) = self.0.code.facts();
        let fields = &self.0;
        let mut body = json!({
            "type": format!("urn:eye:problem:{name}"),
            "title": title,
            "status": fields.status.as_u16(),
            "code": name,
            "message": fields.message,
            "detail": fields.detail.as_ref().unwrap_or(&fields.message),
            "request_id": request_id,
        });
        if let Some(body) = body.as_object_mut() {
            if let Some(errors) = &fields.errors {
                body.insert("errors".to_owned(), errors.clone());
            }
            if let Some(seconds) = fields.retry_after {
                body.insert("retry_after".to_owned(), json!(seconds));
            }
            body.extend(fields.more.clone());
        }
        body.to_string().into_bytes()
    }
}

/// Line and column, from 1. serde_json puts a mistake at the end of a line in column 0 of the next one.
fn place(error: &serde_json::Error, text: &str) -> (usize, usize) {
    match (error.line(), error.column()) {
        (line @ 2.., 0) => {
            let before = text.split('\n').nth(line - 2).unwrap_or_default();
            (line - 1, before.len() + 1)
        }
        (line, column) => (line.max(1), column.max(1)),
    }
}

/// What serde_json says without the place, which stands in fields of its own.
pub(crate) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Token"));
        }
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<InvalidEvent> for Problem {
    fn from(invalid: InvalidEvent) -> Self {
        Self::invalid(invalid.code.into(), &invalid.errors)
    }
}

impl From<QueueFull> for Problem {
    fn from(_: QueueFull) -> Self {
        Self::new(Code::Overloaded, "Too much is waiting to be stored.").retry_after(RETRY_SOON)
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Poisoned(cause) => {
                tracing::error!(%cause, "the log takes nothing until a restart");
                Self::new(Code::Recovering, "The log stopped after a failed write and takes nothing until a restart.")
                    .detail("Reading goes on. The operator finds the cause in the service's own log; restart it once the disk is well.")
                    .retry_after(RETRY_LATER)
            }
            AppendError::DiskFull => Self::new(Code::DiskFull, "There is no room on the disk for more events.")
                .detail("Nothing of this request was stored. Reading goes on, and sending resumes by itself once there is room.")
                .retry_after(RETRY_LATER),
            AppendError::TooLarge { bytes, limit } => Self::new(
                Code::TooLarge,
                format!("The request comes to {bytes} bytes of records; at most {limit} fit into one."),
            )
            .detail("Send it in smaller parts.")
            .limit(limit),
            AppendError::Undecided(cause) => {
                tracing::error!(%cause, "a request was not stored");
                Self::new(Code::Recovering, "The disk did not let the service read what it had to know first.")
                    .detail("Nothing of this request was stored. The operator finds the cause in the service's own log.")
                    .retry_after(RETRY_LATER)
            }
            AppendError::Closed => {
                Self::new(Code::Overloaded, "The service is stopping.").retry_after(RETRY_SOON)
            }
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NameTaken => Self::new(Code::Conflict, "An application of this name exists.")
                .detail("Names are never used twice. Choose another, or issue a token for the one that is there.")
                .field("name", "An application of this name exists."),
            ChangeError::TokenTaken => Self::new(Code::Conflict, "A token with this secret exists.")
                .detail("A secret is one token's only. GET /tokens lists them, without their secrets.")
                .field("token", "A token with this secret exists."),
            ChangeError::UnknownApplication => Self::not_found("An application of this name"),
            ChangeError::UnknownToken => Self::not_found("A token of this id"),
            ChangeError::UnknownRule => Self::not_found("A rule for these events"),
            ChangeError::TooManyRules { limit } => Self::new(
                Code::Conflict,
                format!("There are {limit} rules, the most there may be."),
            )
            .detail("Remove one first: GET /schemas lists them.")
            .limit(limit),
            ChangeError::Append(error) => error.into(),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        tracing::error!(%error, "the log could not be read");
        match error {
            ReadError::Damaged(damage) => {
                let end = damage.last_offset.unwrap_or(damage.first_offset).saturating_add(1);
                damaged(damage.first_offset, end, &damage.to_string())
            }
            ReadError::Io { file, message } => {
                Self::new(Code::Damaged, format!("Reading {file} failed: {message}."))
                    .detail("The system refused to read a file of the log. `eye log verify` says what can be read.")
            }
        }
    }
}

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Bound { bound, clause } => Self::new(
                Code::QueryBound,
                format!(
                    "{clause}: passes the bound {} of {} {}.",
                    bound.name, bound.value, bound.unit
                ),
            )
            .detail("Make the clause more specific.")
            .with("bound", json!(bound.name))
            .with("limit", json!(bound.value))
            .with("clause", json!(clause)),
            SearchError::BadAggs(what) => Self::parameter("aggs", what),
            SearchError::BadRegex {
                clause,
                span,
                message,
            } => Self::bad_query(&[QueryError {
                position: span.position,
                length: span.length,
                expected: Vec::new(),
                suggestion: None,
                message: format!("{clause}: {message}"),
            }]),
            SearchError::Timeout => Self::query_timeout(),
            SearchError::Log(error) => error.into(),
            SearchError::Index(what) => {
                tracing::error!(%what, "the index could not be read");
                Self::new(
                    Code::Damaged,
                    format!("The index could not be read: {what}."),
                )
                .detail("The index can be deleted while nothing runs; it grows back from the log.")
            }
        }
    }
}

fn damaged(first: u64, end: u64, what: &str) -> Problem {
    Problem::new(
        Code::Damaged,
        format!("Stored bytes that were needed are damaged: {what}."),
    )
    .detail("`eye log verify` lists all damage; restore the folder from a backup.")
    .with("offsets", json!([first, end]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_problem_has_every_member() {
        let problem = Problem::new(Code::TooLarge, "Too much.")
            .limit(5)
            .retry_after(2)
            .at(3, 4)
            .field("data", "Too much.");
        let body: Value = serde_json::from_slice(&problem.body("r1")).unwrap();
        for (member, value) in [
            ("type", json!("urn:eye:problem:too_large")),
            ("title", json!("Too large")),
            ("status", json!(413)),
            ("code", json!("too_large")),
            ("message", json!("Too much.")),
            ("detail", json!("Too much.")),
            ("request_id", json!("r1")),
            ("limit", json!(5)),
            ("retry_after", json!(2)),
            ("line", json!(3)),
            ("column", json!(4)),
            ("errors", json!({"data": ["Too much."]})),
        ] {
            assert_eq!(body[member], value, "{member}");
        }
    }

    #[test]
    fn a_mistake_at_the_end_of_a_line_is_on_that_line() {
        let text = "{\n \"a\": tru\n}";
        let error = serde_json::from_str::<Value>(text).unwrap_err();
        assert_eq!(place(&error, text), (2, 10));
    }

    #[test]
    fn every_401_says_how_to_authenticate() {
        let response = Problem::unauthorized().into_response();
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Token");
    }

    #[test]
    fn a_wrong_query_says_where() {
        let error = QueryError {
            position: 4,
            length: 2,
            expected: vec!["a value".into()],
            suggestion: Some("name:".into()),
            message: "What?".into(),
        };
        let body: Value = serde_json::from_slice(&Problem::bad_query(&[error]).body("")).unwrap();
        assert_eq!(body["code"], "bad_query");
        assert_eq!(body["errors"]["q"][0]["position"], 4);
        assert_eq!(body["errors"]["q"][0]["suggestion"], "name:");
    }
}
