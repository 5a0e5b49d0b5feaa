//! What a service says when it says no (`application/problem+json`), as lines for people.

use super::{Answer, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// A refusal with its reasons.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The status of the answer.
    #[serde(skip)]
    pub http_status: StatusCode,
    /// What went wrong, in a few words.
    pub title: String,
    /// What went wrong here, and how to mend it.
    pub detail: String,
    /// The same in one sentence.
    pub message: String,
    /// The reason as a word of the contract: `invalid_event`, `unauthorized`, …
    pub code: String,
    /// What the service calls this request in its logs.
    pub request_id: Option<String>,
    /// Under which id what was sent is kept.
    pub rejection: Option<Value>,
    /// After so many seconds it may go better.
    pub retry_after: Option<f64>,
    /// Per field what is wrong with it: texts, or objects for a query.
    pub errors: BTreeMap<String, Value>,
}

impl Problem {
    /// Reads the problem out of an answer; one that is no problem+json yields its status and the start of its text.
    pub fn of(answer: &Answer) -> Problem {
        let mut problem: Problem =
            serde_json::from_slice(&answer.body).unwrap_or_else(|_| Problem {
                detail: String::from_utf8_lossy(&answer.body)
                    .chars()
                    .take(200)
                    .collect::<String>()
                    .trim()
                    .to_owned(),
                ..Problem::default()
            });
        problem.http_status = answer.status;
        if problem.request_id.is_none() {
            let header = answer
                .headers
                .get("x-request-id")
                .and_then(|value| value.to_str().ok());
            problem.request_id = header.map(str::to_owned);
        }
        problem
    }

    /// Returns `field: message` for every message, in the order of the fields.
    pub fn field_lines(errors: &BTreeMap<String, Value>) -> Vec<String> {
        let mut lines = Vec::new();
        for (field, messages) in errors {
            let one = std::slice::from_ref(messages);
            for message in messages.as_array().map_or(one, Vec::as_slice) {
                let text = match message {
                    Value::String(text) => text.clone(),
                    other => other["message"]
                        .as_str()
                        .map_or_else(|| other.to_string(), str::to_owned),
                };
                lines.push(format!("{field}: {text}"));
            }
        }
        lines
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.http_status.canonical_reason().unwrap_or("refused");
        let title = if self.title.is_empty() {
            reason
        } else {
            &self.title
        };
        write!(f, "{title} ({})", self.http_status.as_u16())?;
        let detail = if self.detail.is_empty() {
            &self.message
        } else {
            &self.detail
        };
        if !detail.is_empty() && detail != title {
            write!(f, "\n  {detail}")?;
        }
        for line in Problem::field_lines(&self.errors) {
            write!(f, "\n  {line}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, "\n  request {id}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, HeaderMap};

    fn answer(status: u16, body: &'static str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        Answer {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn a_problem_is_printed_with_every_field_and_its_request() {
        let problem = Problem::of(&answer(
            400,
            r#"{"title":"Invalid event","status":400,"detail":"2 fields are wrong.","request_id":"r-1",
                "errors":{"name":["This field is required."],"data":["Not an object.","Too deep."]}}"#,
        ));
        assert_eq!(
            problem.to_string(),
            "Invalid event (400)\n  2 fields are wrong.\n  data: Not an object.\n  data: Too deep.\n  \
             name: This field is required.\n  request r-1"
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_document_still_says_something() {
        assert_eq!(
            Problem::of(&answer(502, "no upstream")).to_string(),
            "Bad Gateway (502)\n  no upstream"
        );
    }
}
