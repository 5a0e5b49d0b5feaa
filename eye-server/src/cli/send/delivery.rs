//! One batch and what the service says to it: counted, told to wait, too large, or no.

mod retry_after;

use super::batch::Batch;
use crate::client::{Answer, Client, ClientError, Problem};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use retry_after::wait_of;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// How long a request that is under way may take to be answered after Ctrl-C.
const GRACE: Duration = Duration::from_secs(10);

/// Says how long to go on trying.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Patience {
    /// Whether to try again at all.
    pub(in crate::cli) retry: bool,
    /// Without any progress.
    pub(in crate::cli) without_progress: Duration,
    /// Without a connection.
    pub(in crate::cli) without_connection: Duration,
}

/// Delivers batches to one service, one after the other.
pub(in crate::cli) struct Delivery<'a> {
    pub(in crate::cli) client: &'a Client,
    /// The path with its query.
    pub(in crate::cli) path: String,
    pub(in crate::cli) patience: Patience,
    /// Becomes true when the person wants to stop.
    pub(in crate::cli) stop: watch::Receiver<bool>,
}

/// Says what became of a batch.
#[derive(Debug)]
pub(in crate::cli) enum Delivered {
    Counted(Verdict),
    /// Nothing of it was stored: the request is beyond the service's limits.
    TooLarge(Box<Problem>),
}

/// Counts what the service did with a batch.
#[derive(Debug, Default, Deserialize, PartialEq)]
pub(in crate::cli) struct Verdict {
    pub(in crate::cli) accepted: u64,
    pub(in crate::cli) duplicates: u64,
    pub(in crate::cli) rejected: u64,
    #[serde(default)]
    pub(in crate::cli) errors: Vec<Refused>,
}

impl Verdict {
    /// Counts the one line of a request as refused for the reasons of a problem.
    pub(in crate::cli) fn of_one_refused(problem: Problem) -> Verdict {
        let mut errors = problem.errors;
        if errors.is_empty() {
            let text = if problem.detail.is_empty() {
                problem.title
            } else {
                problem.detail
            };
            errors.insert("event".to_owned(), Value::String(text));
        }
        let refused = Refused {
            index: 0,
            code: problem.code,
            errors,
        };
        Verdict {
            rejected: 1,
            errors: vec![refused],
            ..Verdict::default()
        }
    }
}

/// Is one event that was refused.
#[derive(Debug, Default, Deserialize, PartialEq)]
pub(in crate::cli) struct Refused {
    /// Among the lines of the request, from 0.
    pub(in crate::cli) index: usize,
    #[serde(default)]
    pub(in crate::cli) code: String,
    #[serde(default)]
    pub(in crate::cli) errors: BTreeMap<String, Value>,
}

/// Says why a batch was not delivered.
#[derive(Debug)]
pub(in crate::cli) enum Undelivered {
    Stopped,
    Failed(ClientError),
    /// The service went on telling to wait.
    OutOfPatience(String),
}

/// What is told while a batch is being delivered.
pub(in crate::cli) enum Step<'b> {
    /// Why nothing goes on at the moment.
    Waits(&'b str),
    /// A part of the batch, or all of it, was answered for good.
    Counted(&'b Batch, &'b Verdict),
}

impl Delivery<'_> {
    /// Delivers a batch, in halves of halves where the service finds it too large.
    pub(in crate::cli) async fn deliver_parts(
        &mut self,
        batch: Batch,
        follow: &mut dyn FnMut(Step<'_>),
    ) -> Result<(), Undelivered> {
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            let delivered = self
                .deliver(&batch, &mut |why| follow(Step::Waits(why)))
                .await?;
            let verdict = match delivered {
                Delivered::Counted(verdict) => verdict,
                Delivered::TooLarge(_) if batch.len() > 1 => {
                    let (first, second) = batch.halves();
                    waiting.extend([second, first]);
                    continue;
                }
                Delivered::TooLarge(problem) => Verdict::of_one_refused(*problem),
            };
            follow(Step::Counted(&batch, &verdict));
        }
        Ok(())
    }

    /// Sends a batch until it is answered for good; says through `tell` what it waits for.
    pub(in crate::cli) async fn deliver(
        &mut self,
        batch: &Batch,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Delivered, Undelivered> {
        let begun = Instant::now();
        let mut lost_since: Option<Instant> = None;
        let mut backoff = FIRST_BACKOFF;
        let mut told = String::new();
        let mut tell_once = |text: String| {
            if told != text {
                tell(&text);
                told = text;
            }
        };
        loop {
            let wait = match self.exchange(batch).await? {
                Ok(answer) => {
                    lost_since = None;
                    backoff = FIRST_BACKOFF;
                    match judge(&answer, batch.len()) {
                        Judgement::Counted(verdict) => return Ok(Delivered::Counted(verdict)),
                        Judgement::TooLarge(problem) => return Ok(Delivered::TooLarge(problem)),
                        Judgement::Refused(error) => return Err(Undelivered::Failed(error)),
                        Judgement::Wait { wait, reason } => {
                            if let Some(cause) = self.client.stopped_log() {
                                return Err(Undelivered::Failed(ClientError::Unusable(format!(
                                    "the log stopped after a failed write: {cause}"
                                ))));
                            }
                            if !self.patience.retry
                                || begun.elapsed() + wait > self.patience.without_progress
                            {
                                return Err(Undelivered::OutOfPatience(reason));
                            }
                            tell_once(format!("{reason}; trying again until it takes events"));
                            wait
                        }
                    }
                }
                Err(error) => {
                    let since = *lost_since.get_or_insert_with(Instant::now);
                    let (arrived, cause) = match &error {
                        ClientError::NoServer { .. } => (false, error.to_string()),
                        ClientError::Lost {
                            may_have_arrived, ..
                        } => (*may_have_arrived, error.to_string()),
                        _ => return Err(Undelivered::Failed(error)),
                    };
                    let out_of_patience = since.elapsed() + backoff
                        > self.patience.without_connection
                        || begun.elapsed() + backoff > self.patience.without_progress;
                    if !self.patience.retry || out_of_patience {
                        return Err(Undelivered::Failed(error));
                    }
                    if arrived && !batch.has_ids {
                        tell_once(format!(
                            "{cause}; sending lines up to {} again: they carry no ids, so some may be stored twice",
                            batch.end.line
                        ));
                    } else {
                        tell_once(format!("{cause}; connecting again"));
                    }
                    let wait = backoff;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                    wait
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = stopped(&mut self.stop) => return Err(Undelivered::Stopped),
            }
        }
    }

    /// Sends one request. One that is under way when the person wants to stop still gets its answer if it comes soon,
    /// so that the position is right.
    async fn exchange(
        &mut self,
        batch: &Batch,
    ) -> Result<Result<Answer, ClientError>, Undelivered> {
        if *self.stop.borrow() {
            return Err(Undelivered::Stopped);
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        );
        let request = self
            .client
            .request(Method::POST, &self.path, headers, batch.body.clone());
        tokio::pin!(request);
        tokio::select! {
            answer = &mut request => Ok(answer),
            () = stopped(&mut self.stop) => timeout(GRACE, request).await.map_err(|_| Undelivered::Stopped),
        }
    }
}

/// Waits until the person wants to stop.
pub(in crate::cli) async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could want to stop.
        std::future::pending::<()>().await;
    }
}

#[derive(Debug)]
enum Judgement {
    Counted(Verdict),
    TooLarge(Box<Problem>),
    Wait { wait: Duration, reason: String },
    Refused(ClientError),
}

/// Reads an answer to `lines` lines.
fn judge(answer: &Answer, lines: usize) -> Judgement {
    let status = answer.status.as_u16();
    if let Ok(verdict) = serde_json::from_slice::<Verdict>(&answer.body)
        && matches!(status, 200 | 207 | 400 | 409)
    {
        return Judgement::Counted(verdict);
    }
    let sent = lines as u64;
    match status {
        201 | 204 => Judgement::Counted(Verdict {
            accepted: sent,
            ..Verdict::default()
        }),
        200 => match serde_json::from_slice::<Value>(&answer.body) {
            Ok(one) if lines == 1 && one["duplicate"] == true => Judgement::Counted(Verdict {
                duplicates: 1,
                ..Verdict::default()
            }),
            _ => Judgement::Refused(ClientError::Garbled(
                "the answer to a batch was not understood".to_owned(),
            )),
        },
        413 => Judgement::TooLarge(Box::new(Problem::of(answer))),
        429 | 502 | 503 | 504 | 507 => {
            let problem = Problem::of(answer);
            let why = if problem.detail.is_empty() {
                problem.title.clone()
            } else {
                problem.detail.clone()
            };
            let why = if why.is_empty() {
                "it said nothing more".to_owned()
            } else {
                why
            };
            let reason = match status {
                429 => format!("the token's rate is used up (429): {why}"),
                507 => format!("the service's disk is full (507): {why}"),
                _ => format!("the service takes no events for now ({status}): {why}"),
            };
            Judgement::Wait {
                wait: wait_of(answer, problem.retry_after),
                reason,
            }
        }
        _ => {
            let problem = Problem::of(answer);
            if lines == 1 && is_about_the_event(&problem) {
                return Judgement::Counted(Verdict::of_one_refused(problem));
            }
            Judgement::Refused(ClientError::Refused(Box::new(problem)))
        }
    }
}

/// Tells a refused event from a refused request where both come as a problem: a single line may be answered like a
/// single event.
fn is_about_the_event(problem: &Problem) -> bool {
    const OF_EVENTS: [&str; 8] = [
        "malformed_json",
        "invalid_event",
        "future_timestamp",
        "session_conflict",
        "id_conflict",
        "too_large",
        "too_deep",
        "rule_violation",
    ];
    OF_EVENTS.contains(&problem.code.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::{body::Bytes, http::StatusCode};

    fn answer(status: u16, body: &'static str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn counted(status: u16, body: &'static str, lines: usize) -> (u64, u64, u64) {
        match judge(&answer(status, body), lines) {
            Judgement::Counted(verdict) => (verdict.accepted, verdict.duplicates, verdict.rejected),
            other => panic!("{status} {body}: {other:?}"),
        }
    }

    #[test]
    fn every_shape_of_a_counted_answer_is_understood() {
        assert_eq!(
            counted(
                200,
                r#"{"accepted":2,"duplicates":1,"rejected":0,"errors":[]}"#,
                3
            ),
            (2, 1, 0)
        );
        assert_eq!(
            counted(
                207,
                r#"{"accepted":1,"duplicates":0,"rejected":1,"errors":[{"index":1}]}"#,
                2
            ),
            (1, 0, 1)
        );
        assert_eq!(
            counted(400, r#"{"accepted":0,"duplicates":0,"rejected":2}"#, 2),
            (0, 0, 2)
        );
        assert_eq!(counted(201, r#"{"id":"x","offset":4}"#, 1), (1, 0, 0));
        assert_eq!(
            counted(200, r#"{"id":"x","offset":4,"duplicate":true}"#, 1),
            (0, 1, 0)
        );
        assert_eq!(counted(204, "", 7), (7, 0, 0));
        assert_eq!(
            counted(
                409,
                r#"{"code":"session_conflict","title":"t","errors":{}}"#,
                1
            ),
            (0, 0, 1)
        );
    }

    #[test]
    fn a_refused_request_is_no_refused_event() {
        for (status, body, lines) in [
            (
                400,
                r#"{"code":"bad_parameter","errors":{"application":["Unknown."]}}"#,
                1,
            ),
            (400, r#"{"code":"malformed_json"}"#, 2),
            (401, r#"{"code":"unauthorized"}"#, 1),
            (500, "", 1),
            (200, "<html>", 1),
        ] {
            assert!(
                matches!(judge(&answer(status, body), lines), Judgement::Refused(_)),
                "{status} {body}"
            );
        }
        assert!(matches!(judge(&answer(413, ""), 2), Judgement::TooLarge(_)));
        for status in [429, 503, 507] {
            assert!(
                matches!(judge(&answer(status, ""), 2), Judgement::Wait { .. }),
                "{status}"
            );
        }
    }
}
