//! What one request brings: its events, judged and encoded for the log, and the refused ones beside them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use eye_log::{ApplicationId, Batch, Event, EventRules, InvalidCode, InvalidEvent};
use serde_json::error::Category;
use uuid::Uuid;

use crate::config::Settings;
use crate::error::{Code, FieldErrors, Problem, plain};
use crate::schemas::RuleBook;
use crate::wire::{MediaType, Pieces, draft, pieces};

/// Holds the judged events of a request.
pub(crate) enum Parcel {
    /// One object, sent alone, and known to be good.
    One(Single),
    /// Any number, in an array or lines.
    Many {
        /// The good ones, encoded.
        batch: Batch,
        /// Which item of the request each of those was.
        items: Vec<usize>,
        /// What those break, by their place in the batch, that are good only if they were stored before.
        broken: BTreeMap<usize, FieldErrors>,
        /// The line of each item, for NDJSON.
        lines: Vec<usize>,
        /// The others.
        refused: Vec<Refused>,
    },
}

/// An event that was sent alone.
pub(crate) struct Single {
    /// The event, encoded.
    pub(crate) batch: Batch,
    /// The id the client brought.
    pub(crate) id: Option<Uuid>,
    /// What it breaks, where it is good only if it was stored before.
    pub(crate) broken: Option<FieldErrors>,
}

impl Parcel {
    /// Returns how many events the request brought.
    pub(crate) fn events(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many { items, refused, .. } => items.len() + refused.len(),
        }
    }
}

/// An item of a request that is not stored, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) index: usize,
    pub(crate) line: Option<usize>,
    pub(crate) code: Code,
    pub(crate) errors: FieldErrors,
    /// As what it is kept.
    pub(crate) rejection: Option<Uuid>,
}

/// What the events of a request are judged by.
pub(crate) struct Judge<'s> {
    application: ApplicationId,
    rules: EventRules,
    book: &'s RuleBook,
    events_max: usize,
}

impl<'s> Judge<'s> {
    /// Judges what is sent for `application` now.
    pub(crate) fn new(settings: &Settings, book: &'s RuleBook, application: ApplicationId) -> Self {
        Self {
            application,
            rules: rules(settings),
            book,
            events_max: settings.request_max_events,
        }
    }
}

/// Judges a body. Fails where nothing of it can be stored for the body's own sake, or where a single event is refused.
pub(crate) fn open(body: &[u8], media_type: MediaType, by: &Judge<'_>) -> Result<Parcel, Problem> {
    let application = by.application;
    // A record is about as long as the JSON it was made of, and what surrounds it.
    let room = body.len() + body.len() / 4;
    match pieces(body, media_type, by.events_max)? {
        Pieces::One(text) => one(text, by, None).map(Parcel::One),
        Pieces::Items(texts) => {
            let judged = texts.iter().map(|text| judge(text, by));
            Ok(many(application, room, Vec::new(), judged))
        }
        Pieces::Lines(lines) => {
            let judged = lines.iter().map(|(_, line)| match line {
                Ok(text) => judge(text, by),
                Err(error) => {
                    let column = error.valid_up_to() + 1;
                    Err(whole_event(
                        Code::MalformedJson,
                        format!("Not UTF-8 at column {column}."),
                    ))
                }
            });
            Ok(many(
                application,
                room,
                lines.iter().map(|(number, _)| *number).collect(),
                judged,
            ))
        }
    }
}

/// A body whose events are drafts and nothing more.
pub(crate) enum Parsed {
    /// One object, sent alone.
    One,
    /// Any number; the line of each.
    Many { lines: Vec<usize> },
}

impl Parsed {
    /// Returns how many events there are.
    pub(crate) fn events(&self) -> usize {
        match self {
            Self::One => 1,
            Self::Many { lines } => lines.len(),
        }
    }
}

/// Reads a body as far as drafts, without judging or encoding them.
pub(crate) fn parse_only(
    body: &[u8],
    media_type: MediaType,
    events_max: usize,
) -> Result<Parsed, Problem> {
    let read = |text: &str| match std::hint::black_box(draft(text)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Problem::malformed(&error, text)),
    };
    match pieces(body, media_type, events_max)? {
        Pieces::One(text) => {
            read(text)?;
            Ok(Parsed::One)
        }
        Pieces::Items(texts) => {
            for text in &texts {
                read(text)?;
            }
            Ok(Parsed::Many {
                lines: vec![0; texts.len()],
            })
        }
        Pieces::Lines(lines) => {
            for (_, line) in &lines {
                read(line.as_ref().copied().unwrap_or_default())?;
            }
            Ok(Parsed::Many {
                lines: lines.iter().map(|(number, _)| *number).collect(),
            })
        }
    }
}

/// Judges one event that is sent again, which gets `id` (JSON) where it brings none.
pub(crate) fn open_again(body: &[u8], by: &Judge<'_>, id: &str) -> Result<Single, Problem> {
    match pieces(body, MediaType::Json, by.events_max)? {
        Pieces::One(text) => one(text, by, Some(id)),
        Pieces::Items(_) | Pieces::Lines(_) => Err(Problem::new(
            Code::InvalidEvent,
            "This was refused as a whole request, and is not one event.",
        )
        .detail("Send its events to POST /events, or one event in the body of the retry.")),
    }
}

fn one(text: &str, by: &Judge<'_>, id: Option<&str>) -> Result<Single, Problem> {
    let application = by.application;
    let mut event = match draft(text) {
        Ok(mut draft) => {
            draft.id = draft.id.or(id);
            draft
                .validate(&by.rules)
                .map_err(|invalid| alone(invalid, &by.rules))?
        }
        Err(error) if error.classify() == Category::Data => {
            let (code, errors) = whole_event(
                Code::InvalidEvent,
                format!("Not an event: {}.", plain(&error)),
            );
            return Err(Problem::invalid(code, &errors));
        }
        Err(error) => return Err(Problem::malformed(&error, text)),
    };
    let broken = broken_rule(&mut event, by)
        .map_err(|broken| Problem::invalid(Code::RuleViolation, &broken))?;
    let mut batch = Batch::new(application);
    push(&mut batch, &event, broken.is_some());
    Ok(Single {
        batch,
        id: event.client_made_id(application),
        broken,
    })
}

/// Judges an event by the rules for its data. One that brings an id may have been stored before there was the rule that it breaks,
/// and then is a repeat: that is for the log to say, and what it breaks is returned.
fn broken_rule(event: &mut Event<'_>, by: &Judge<'_>) -> Result<Option<FieldErrors>, FieldErrors> {
    match by.book.judge(event, by.application) {
        Ok(()) => Ok(None),
        Err(broken) if event.client_made_id(by.application).is_some() => Ok(Some(broken)),
        Err(broken) => Err(broken),
    }
}

fn push(batch: &mut Batch, event: &Event<'_>, only_if_known: bool) {
    if only_if_known {
        batch.push_if_known(event);
    } else {
        batch.push(event);
    }
}

/// An event that was sent alone and is too large is answered as a request that is too large.
fn alone(invalid: InvalidEvent, rules: &EventRules) -> Problem {
    let problem = Problem::invalid(invalid.code.into(), &invalid.errors);
    match invalid.code {
        InvalidCode::TooLarge => problem
            .status(StatusCode::PAYLOAD_TOO_LARGE)
            .limit(rules.event_max_bytes),
        InvalidCode::TooDeep => problem.limit(rules.depth_max),
        InvalidCode::InvalidEvent | InvalidCode::FutureTimestamp => problem,
    }
}

fn many<'a>(
    application: ApplicationId,
    room: usize,
    lines: Vec<usize>,
    judged: impl Iterator<Item = Result<(Event<'a>, Option<FieldErrors>), (Code, FieldErrors)>>,
) -> Parcel {
    let mut batch = Batch::new(application);
    batch.reserve(room);
    let mut items = Vec::new();
    let mut broken = BTreeMap::new();
    let mut refused = Vec::new();
    for (index, event) in judged.enumerate() {
        match event {
            Ok((event, breaks)) => {
                push(&mut batch, &event, breaks.is_some());
                broken.extend(breaks.map(|breaks| (items.len(), breaks)));
                items.push(index);
            }
            Err((code, errors)) => refused.push(Refused {
                index,
                line: lines.get(index).copied(),
                code,
                errors,
                rejection: None,
            }),
        }
    }
    Parcel::Many {
        batch,
        items,
        broken,
        lines,
        refused,
    }
}

fn judge<'a>(
    text: &'a str,
    by: &Judge<'_>,
) -> Result<(Event<'a>, Option<FieldErrors>), (Code, FieldErrors)> {
    let draft = draft(text).map_err(|error| match error.classify() {
        Category::Data => whole_event(
            Code::InvalidEvent,
            format!("Not an event: {}.", plain(&error)),
        ),
        Category::Io | Category::Syntax | Category::Eof => whole_event(
            Code::MalformedJson,
            format!(
                "Malformed JSON at column {}: {}.",
                error.column(),
                plain(&error)
            ),
        ),
    })?;
    let mut event = draft
        .validate(&by.rules)
        .map_err(|invalid| (invalid.code.into(), invalid.errors))?;
    let broken = broken_rule(&mut event, by).map_err(|broken| (Code::RuleViolation, broken))?;
    Ok((event, broken))
}

/// What is wrong with an event as a whole stands under this name.
fn whole_event(code: Code, message: String) -> (Code, FieldErrors) {
    (
        code,
        FieldErrors::from([("event".to_owned(), vec![message])]),
    )
}

fn rules(settings: &Settings) -> EventRules {
    EventRules {
        now: eye_log::now(),
        future_tolerance: i64::try_from(settings.future_tolerance.as_micros()).unwrap_or(i64::MAX),
        default_offset_seconds: settings.default_timezone.0,
        event_max_bytes: settings.event_max_bytes,
        depth_max: settings.depth_max,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = r#"{"session_id":"e2085be5-9137-4e4e-80b5-f1ffddc25423","category":"c","name":"n","timestamp":"2021-01-01 00:00:00","data":{"a":1}}"#;

    fn open_lines(body: &[u8]) -> (usize, Vec<(usize, Option<usize>, Code)>) {
        let parcel = open(
            body,
            MediaType::Ndjson,
            &Judge::new(&Settings::new("x"), &RuleBook::default(), ApplicationId(0)),
        )
        .unwrap();
        let Parcel::Many { batch, refused, .. } = parcel else {
            panic!()
        };
        (
            batch.len(),
            refused
                .iter()
                .map(|refused| (refused.index, refused.line, refused.code))
                .collect(),
        )
    }

    #[test]
    fn bad_lines_are_refused_by_themselves() {
        let deep = GOOD.replace("1}", &format!("{}{}}}", "[".repeat(70), "]".repeat(70)));
        let large = GOOD.replace("1}", &format!("\"{}\"}}", "x".repeat(300_000)));
        let future = GOOD.replace("2021", "9021");
        let mut body =
            format!("{GOOD}\n\n{{\"a\":\n{deep}\r\n{large}\n{future}\n[]\n").into_bytes();
        body.extend_from_slice(b"\"\xff\"\n");
        body.extend_from_slice(GOOD.as_bytes());
        assert_eq!(
            open_lines(&body),
            (
                2,
                vec![
                    (1, Some(3), Code::MalformedJson),
                    (2, Some(4), Code::TooDeep),
                    (3, Some(5), Code::TooLarge),
                    (4, Some(6), Code::FutureTimestamp),
                    (5, Some(7), Code::InvalidEvent),
                    (6, Some(8), Code::MalformedJson),
                ]
            )
        );
    }

    #[test]
    fn an_event_alone_that_is_too_large_is_413_with_the_limit() {
        let large = GOOD.replace("1}", &format!("\"{}\"}}", "x".repeat(300_000)));
        let refused = open(
            large.as_bytes(),
            MediaType::Json,
            &Judge::new(&Settings::new("x"), &RuleBook::default(), ApplicationId(0)),
        )
        .err()
        .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&refused.body("")).unwrap();
        assert_eq!(
            (&body["status"], &body["code"], &body["limit"]),
            (&413.into(), &"too_large".into(), &262_144.into())
        );
    }

    #[test]
    fn an_array_of_one_is_many() {
        let body = format!("[{GOOD}]");
        let parcel = open(
            body.as_bytes(),
            MediaType::Json,
            &Judge::new(&Settings::new("x"), &RuleBook::default(), ApplicationId(0)),
        )
        .unwrap();
        assert!(matches!(parcel, Parcel::Many { .. }));
        let parcel = open(
            GOOD.as_bytes(),
            MediaType::Json,
            &Judge::new(&Settings::new("x"), &RuleBook::default(), ApplicationId(0)),
        )
        .unwrap();
        assert!(matches!(parcel, Parcel::One(_)));
    }
}
