//! `/tail`: events as they come, as server-sent events.
//!
//! What must stay true: an event is sent only once it is synced, none is left out without a `gap` that says so, and a client that
//! is slow costs no memory: what it has not taken is in the log.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use eye_index::search::watch::Watch;
use eye_log::record::Record;
use eye_log::{Offset, Reason, StoredEvent};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::auth::{Identity, identify};
use crate::error::{Code, Problem};
use crate::listing::{narrow, query};
use crate::operation::{Answer, Field, Operation, Shape};
use crate::question::{APPLICATION, Q};
use crate::state::AppState;
use crate::stream::{Gone, Outlet, stream};
use crate::wire::write_event_line;

/// How long nothing may be said.
const SILENCE: Duration = Duration::from_secs(15);
/// How often a quiet log is looked at for a stop, and a token for its end.
const LOOK: Duration = Duration::from_millis(500);
/// A piece of the answer ends behind the event that makes it this long. Bytes.
const PIECE_BYTES: usize = 256 << 10;
/// How far a tail that was at the end once may fall behind before it is told what it misses. Records.
const BEHIND_MAX: Offset = 1_000_000;

/// A tail that is open.
struct Tail {
    watch: Watch,
    /// The filters name an application that is not there for this token: nothing matches.
    nothing: bool,
    next: Offset,
    /// It has been at the end: what comes is new.
    live: bool,
    /// Records in a row that are gone, and why.
    gap: Option<(Offset, Offset, Reason)>,
    _open: OwnedSemaphorePermit,
}

/// What [`tail`] takes and answers.
pub(crate) static TAIL: Operation = Operation::reads("Events as they come, as server-sent events")
    .query(&[
        Q,
        APPLICATION,
        Field::whole("from")
            .optional()
            .about("From this offset on; without it, what comes from now on."),
    ])
    .headers(&[Field::text("Last-Event-ID")
        .optional()
        .about("Goes on behind this offset.")])
    .answers(&[Answer::of(
        200,
        "`event` with an Event, `gap` with {from, to, reason}, `end` \
         with {reason}; a comment every 15 seconds",
        &[("text/event-stream", Shape::Text)],
    )])
    .problems(&[404]);

/// Answers `GET /tail`.
pub(crate) async fn tail(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(parameters): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = TAIL.parameters(parameters.as_deref())?;
    let end = state.reader().durable_end();
    let from = match headers.get("last-event-id") {
        Some(last) => {
            let last = last
                .to_str()
                .ok()
                .and_then(|last| last.trim().parse::<Offset>().ok());
            let last = last.ok_or_else(|| {
                Problem::parameter(
                    "Last-Event-ID",
                    "must be an offset, the `id` of an event of a tail.",
                )
            })?;
            Some(last.saturating_add(1))
        }
        None => parameters.offset("from")?,
    };
    if from.is_some_and(|from| from > end) {
        return Err(Problem::parameter(
            "from",
            format!("lies beyond the end of the log, which is {end}."),
        ));
    }
    let (application, nothing) = narrow(&state, scope, parameters.text("application"));
    let open = Arc::clone(state.tails()).try_acquire_owned().map_err(|_| {
        Problem::new(
            Code::Overloaded,
            "As many tails are open as there may be (tails_max).",
        )
        .retry_after(1)
    })?;
    let tail = Tail {
        watch: Watch {
            query: query(parameters.text("q"))?,
            application,
        },
        nothing,
        next: from.unwrap_or(end),
        live: from.is_none(),
        gap: None,
        _open: open,
    };
    let (outlet, body) = stream();
    tokio::spawn(async move {
        let gone = outlet.gone();
        tokio::select! {
            _ = run(&state, tail, &identity, &headers, &outlet) => {}
            () = gone => {}
        }
    });
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather answers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

async fn run(
    state: &AppState,
    mut tail: Tail,
    identity: &Identity,
    headers: &HeaderMap,
    outlet: &Outlet,
) -> Result<(), Gone> {
    outlet.put(": the tail is open\n\n").await?;
    let mut said = Instant::now();
    loop {
        if state.is_stopping() {
            return end(outlet, "stopping").await;
        }
        if identify(state, headers, None).ok().as_ref() != Some(identity) {
            return end(outlet, "revoked").await;
        }
        let inner = state.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let end = inner.reader().durable().wait_beyond(tail.next, LOOK);
            let piece = if end > tail.next {
                tail.read(&inner, end)
            } else {
                tail.live = true;
                Ok(Vec::new())
            };
            (tail, piece)
        });
        let Ok((back, piece)) = looking.await else {
            return end(outlet, "failed").await;
        };
        tail = back;
        match piece {
            Ok(piece) if piece.is_empty() => {
                if said.elapsed() >= SILENCE {
                    outlet.put(": still here\n\n").await?;
                    said = Instant::now();
                }
            }
            Ok(piece) => {
                outlet.put(piece).await?;
                said = Instant::now();
            }
            Err(problem) => {
                tracing::warn!(?problem, "a tail ended");
                return end(outlet, "damaged").await;
            }
        }
    }
}

async fn end(outlet: &Outlet, reason: &str) -> Result<(), Gone> {
    let data = json!({ "reason": reason });
    outlet.put(format!("event: end\ndata: {data}\n\n")).await
}

impl Tail {
    /// Writes the events from `next` on that match, up to a piece's length or `end`. Blocks.
    fn read(&mut self, state: &AppState, end: Offset) -> Result<Vec<u8>, Problem> {
        let mut piece = Vec::new();
        if self.live && end - self.next > BEHIND_MAX {
            write_gap(&mut piece, self.next, end, "slow");
            self.next = end;
            return Ok(piece);
        }
        let registry = state.log().registry();
        let mut scan = state.reader().scan(self.next);
        while piece.len() < PIECE_BYTES && scan.next_offset() < end {
            let read = scan.read(|offset, record| match record {
                Record::Event(event) => {
                    self.close_gap(&mut piece);
                    if self.nothing || !self.watch.holds(offset, &event, &registry) {
                        return;
                    }
                    let application = registry.application(event.application);
                    let name = application.map_or("", |application| &application.name);
                    piece.extend_from_slice(
                        format!("id: {offset}\nevent: event\ndata: ").as_bytes(),
                    );
                    write_event_line(&mut piece, &mut StoredEvent::of(offset, &event), name);
                    piece.extend_from_slice(b"\n\n");
                }
                Record::Gone(reason) => match &mut self.gap {
                    Some((_, end, same)) if *same == reason && *end == offset => *end = offset + 1,
                    _ => {
                        self.close_gap(&mut piece);
                        self.gap = Some((offset, offset + 1, reason));
                    }
                },
                _ => self.close_gap(&mut piece),
            })?;
            if read == 0 {
                break;
            }
        }
        self.close_gap(&mut piece);
        self.next = scan.next_offset();
        Ok(piece)
    }

    /// Tells of the records that are gone, once there is one behind them that is not.
    fn close_gap(&mut self, piece: &mut Vec<u8>) {
        if let Some((from, to, reason)) = self.gap.take() {
            let reason = match reason {
                Reason::Erased => "erased",
                Reason::Expired => "expired",
                Reason::Lost => "lost",
            };
            write_gap(piece, from, to, reason);
        }
    }
}

/// Appends a gap; a client that goes on from its `id` goes on behind it.
fn write_gap(out: &mut Vec<u8>, from: Offset, to: Offset, reason: &str) {
    let data = json!({"from": from, "to": to, "reason": reason});
    out.extend_from_slice(format!("id: {}\nevent: gap\ndata: {data}\n\n", to - 1).as_bytes());
}
