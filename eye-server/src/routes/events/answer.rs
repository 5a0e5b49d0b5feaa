//! What a sender is told: one event's id and offset, or the summary of many.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use eye_log::{Exception, Offset, Receipt, server_made_id};
use serde_json::{Value, json};
use uuid::Uuid;

use super::parcel::Refused;
use crate::error::{Code, FieldErrors, Problem, REFUSED};
use crate::operation::{Component, Field, Shape};
use crate::routes::json as json_response;
use crate::wire::{write_number, write_uuid};

/// How many refused items are listed.
const ERRORS_MAX: usize = 1000;

/// What is said of one event that was sent alone.
pub(crate) static STORED: Component = Component::object(
    "Stored",
    &[
        Field::uuid("id"),
        Field::whole("offset"),
        Field::boolean("duplicate").optional(),
    ],
);

/// Answers one event sent alone; `broken` is what it breaks, where it was good only if it was stored before.
pub(crate) fn one(
    receipt: &Receipt,
    id: Option<Uuid>,
    broken: Option<FieldErrors>,
    minimal: bool,
) -> Result<Response, Problem> {
    if let Some((_, exception)) = receipt.exceptions.first() {
        if let Exception::Duplicate { offset, id } = *exception {
            return Ok(json_response(
                StatusCode::OK,
                id_and_offset(id, offset, b",\"duplicate\":true}"),
            ));
        }
        let (code, errors) = refusal(*exception, broken);
        return Err(Problem::invalid(code, &errors));
    }
    let Some(offset) = receipt.first_offset else {
        return Err(Problem::new(Code::Recovering, "The log gave no offset.").retry_after(1));
    };
    if minimal {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let id = id.unwrap_or_else(|| server_made_id(receipt.received_at, offset));
    Ok(json_response(
        StatusCode::CREATED,
        id_and_offset(id, offset, b"}"),
    ))
}

fn id_and_offset(id: Uuid, offset: Offset, end: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(b"{\"id\":\"");
    write_uuid(&mut out, id);
    out.extend_from_slice(b"\",\"offset\":");
    write_number(&mut out, offset);
    out.extend_from_slice(end);
    out
}

/// What the writer refused an event for, which breaks a rule where it is not known.
fn refusal(exception: Exception, broken: Option<FieldErrors>) -> (Code, FieldErrors) {
    let field = |name: &str, message: String| FieldErrors::from([(name.to_owned(), vec![message])]);
    match exception {
        Exception::SessionConflict => (
            Code::SessionConflict,
            field(
                "session_id",
                "Session belongs to another application.".to_owned(),
            ),
        ),
        Exception::IdConflict { offset } => {
            let message =
                format!("This id was used for an event with other content, at offset {offset}.");
            (Code::IdConflict, field("id", message))
        }
        Exception::Duplicate { offset, .. } => (
            Code::Conflict,
            field("id", format!("This event is stored, at offset {offset}.")),
        ),
        Exception::NotKnown => (Code::RuleViolation, broken.unwrap_or_default()),
        Exception::NotStored => (
            Code::Conflict,
            field("event", "Not stored, since another was refused.".to_owned()),
        ),
    }
}

/// What is said of many that were sent together.
pub(crate) static SUMMARY: Component = Component::object(
    "Summary",
    &[
        Field::whole("accepted"),
        Field::whole("duplicates"),
        Field::whole("rejected"),
        Field::whole("first_offset").or_null(),
        Field::whole("last_offset").or_null(),
        Field::list("errors", &Shape::Of(&REFUSED)),
        Field::boolean("errors_truncated"),
    ],
);

/// Counts what became of the items of a request.
pub(crate) struct Summary {
    sent: usize,
    accepted: usize,
    duplicates: usize,
    first_offset: Option<Offset>,
    lines: Vec<usize>,
    refused: Vec<Refused>,
}

impl Summary {
    /// Begins with the items that were refused before they came to the log.
    pub(crate) fn new(sent: usize, lines: Vec<usize>, refused: Vec<Refused>) -> Self {
        Self {
            sent,
            accepted: 0,
            duplicates: 0,
            first_offset: None,
            lines,
            refused,
        }
    }

    /// Returns whether an item was refused.
    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Returns the refused items, each with a place for what it is kept as.
    pub(crate) fn refused_mut(&mut self) -> &mut [Refused] {
        &mut self.refused
    }

    /// Adds what became of the others: `items` says which item each of them was, `broken` what those break that were good only if
    /// they were stored before.
    pub(crate) fn with(
        mut self,
        receipt: &Receipt,
        items: &[usize],
        mut broken: BTreeMap<usize, FieldErrors>,
    ) -> Self {
        self.accepted = receipt.stored;
        self.first_offset = receipt.first_offset;
        for (pushed, exception) in &receipt.exceptions {
            match exception {
                Exception::Duplicate { .. } => self.duplicates += 1,
                // Counted as rejected, but the reasons are those of the others.
                Exception::NotStored => {}
                Exception::SessionConflict | Exception::IdConflict { .. } | Exception::NotKnown => {
                    let index = items.get(*pushed).copied().unwrap_or(*pushed);
                    let (code, errors) = refusal(*exception, broken.remove(pushed));
                    self.refused.push(Refused {
                        index,
                        line: self.lines.get(index).copied(),
                        code,
                        errors,
                        rejection: None,
                    });
                }
            }
        }
        self.refused.sort_by_key(|refused| refused.index);
        self
    }

    /// Answers 200, 204, 207 or 400.
    pub(crate) fn answer(self, minimal: bool, all_or_nothing: bool) -> Result<Response, Problem> {
        let rejected = self.sent - self.accepted - self.duplicates;
        let last_offset = self
            .first_offset
            .map(|first| first + (self.accepted as u64).saturating_sub(1));
        let errors: Vec<Value> = self.refused.iter().take(ERRORS_MAX).map(entry).collect();
        let body = json!({
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": rejected,
            "first_offset": self.first_offset,
            "last_offset": last_offset,
            "errors": errors,
            "errors_truncated": self.refused.len() > ERRORS_MAX,
        });
        if rejected == 0 {
            if minimal && self.duplicates == 0 {
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
            return Ok(json_response(StatusCode::OK, body.to_string()));
        }
        if self.accepted + self.duplicates > 0 && !all_or_nothing {
            return Ok(json_response(StatusCode::MULTI_STATUS, body.to_string()));
        }
        Err(self.nothing_stored(body, all_or_nothing))
    }

    fn nothing_stored(&self, body: Value, all_or_nothing: bool) -> Problem {
        let first = self
            .refused
            .first()
            .map_or(Code::InvalidEvent, |refused| refused.code);
        let same = self.refused.iter().all(|refused| refused.code == first);
        let code = if same { first } else { Code::InvalidEvent };
        let detail = if all_or_nothing {
            format!(
                "{} of {} events were refused, and on_error=reject_all stores all or nothing.",
                self.refused.len(),
                self.sent
            )
        } else {
            format!("All {} events were refused; errors says why.", self.sent)
        };
        let mut problem = Problem::new(code, "No event was stored.")
            .status(StatusCode::BAD_REQUEST)
            .detail(detail);
        if let Value::Object(members) = body {
            for (name, value) in members {
                problem = problem.with(&name, value);
            }
        }
        problem
    }
}

fn entry(refused: &Refused) -> Value {
    let mut entry = json!({
        "index": refused.index, "code": refused.code.name(), "rejection": refused.rejection, "errors": refused.errors,
    });
    if let (Some(line), Some(entry)) = (refused.line, entry.as_object_mut()) {
        entry.insert("line".to_owned(), json!(line));
    }
    entry
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(index: usize) -> Refused {
        Refused {
            index,
            line: None,
            code: Code::InvalidEvent,
            errors: FieldErrors::new(),
            rejection: None,
        }
    }

    fn receipt(
        first_offset: Option<Offset>,
        stored: usize,
        exceptions: Vec<(usize, Exception)>,
    ) -> Receipt {
        Receipt {
            first_offset,
            stored,
            received_at: 0,
            exceptions,
        }
    }

    const DUPLICATE: Exception = Exception::Duplicate {
        offset: 3,
        id: Uuid::nil(),
    };

    #[test]
    fn the_status_says_how_many_were_stored() {
        let status = |sent, refused: Vec<Refused>, receipt: &Receipt, minimal| {
            let items: Vec<usize> = (refused.len()..sent).collect();
            match Summary::new(sent, vec![], refused)
                .with(receipt, &items, BTreeMap::new())
                .answer(minimal, false)
            {
                Ok(response) => response.status().as_u16(),
                Err(problem) => problem.into_response().status().as_u16(),
            }
        };
        let none = || receipt(None, 0, vec![]);
        assert_eq!(status(0, vec![], &none(), false), 200);
        assert_eq!(status(2, vec![], &receipt(Some(5), 2, vec![]), false), 200);
        assert_eq!(status(2, vec![], &receipt(Some(5), 2, vec![]), true), 204);
        assert_eq!(
            status(2, vec![], &receipt(Some(5), 1, vec![(1, DUPLICATE)]), true),
            200
        );
        assert_eq!(
            status(1, vec![], &receipt(None, 0, vec![(0, DUPLICATE)]), false),
            200
        );
        assert_eq!(
            status(2, vec![refused(0)], &receipt(Some(5), 1, vec![]), true),
            207
        );
        assert_eq!(
            status(
                2,
                vec![refused(0)],
                &receipt(None, 0, vec![(0, DUPLICATE)]),
                false
            ),
            207
        );
        assert_eq!(status(1, vec![refused(0)], &none(), false), 400);
        assert_eq!(
            status(
                1,
                vec![],
                &receipt(None, 0, vec![(0, Exception::SessionConflict)]),
                false
            ),
            400
        );
    }

    #[test]
    fn what_the_writer_refused_is_named_by_its_place_in_the_request() {
        let receipt = receipt(Some(9), 1, vec![(1, Exception::SessionConflict)]);
        let summary = Summary::new(4, vec![1, 2, 4, 7], vec![refused(2), refused(0)]).with(
            &receipt,
            &[1, 3],
            BTreeMap::new(),
        );
        let response = summary.answer(false, false).unwrap();
        assert_eq!(response.status(), 207);
    }

    #[tokio::test]
    async fn a_duplicate_is_told_as_such() {
        let answer = one(&receipt(None, 0, vec![(0, DUPLICATE)]), None, None, true).unwrap();
        assert_eq!(answer.status(), 200);
        let body = axum::body::to_bytes(answer.into_body(), 1000)
            .await
            .unwrap();
        assert_eq!(
            &body[..],
            b"{\"id\":\"00000000-0000-0000-0000-000000000000\",\"offset\":3,\"duplicate\":true}"
        );
    }
}
