//! `POST /events`: from bytes to a receipt.

use axum::body::Bytes;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use eye_log::{ApplicationId, Receipt};
use uuid::Uuid;

use super::answer;
use super::parcel::{Parcel, Parsed, open, parse_only};
use crate::auth::identify;
use crate::error::{Code, Problem};
use crate::ingest::{Charge, admit, read_body, request_too_large, store};
use crate::parameters::Parameters;
use crate::state::AppState;
use crate::wire::{Encoding, MediaType};

/// Bodies longer than this are judged off the threads that serve connections.
const JUDGED_INLINE_MAX_BYTES: usize = 256 << 10;

/// A request that may send, read to its end.
struct Received {
    headers: HeaderMap,
    token: Uuid,
    application: ApplicationId,
    all_or_nothing: bool,
    media_type: MediaType,
    encoding: Option<Encoding>,
    body: Bytes,
    charge: Charge,
}

/// Finds out who sends what for whom, and reads it.
async fn receive(state: &AppState, request: Request) -> Result<Received, Problem> {
    let (parts, body) = request.into_parts();
    let (headers, query) = (parts.headers, parts.uri.query());
    let identity = identify(state, &headers, Parameters::token_in(query).as_deref())?;
    let parameters = Parameters::from_query(query, &["application", "on_error", "token"])?;
    let application = identity.sends_for(state, parameters.text("application"))?;
    let all_or_nothing = match parameters.text("on_error") {
        None => false,
        Some("reject_all") => true,
        Some(_) => return Err(Problem::parameter("on_error", "may only be `reject_all`.")),
    };
    let media_type = MediaType::of(&headers)?;
    let encoding = Encoding::of(&headers)?;
    let limit = state.settings().request_max_bytes;
    if content_length(&headers).is_some_and(|length| length > limit) {
        return Err(request_too_large(limit));
    }
    admit(state)?;

    let mut charge = state.memory().account();
    let body = read_body(body, limit, state.settings(), &mut charge).await?;
    Ok(Received {
        headers,
        token: identity.token,
        application,
        all_or_nothing,
        media_type,
        encoding,
        body,
        charge,
    })
}

/// Answers `POST /events`.
pub(crate) async fn send(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let Received {
        headers,
        token,
        application,
        all_or_nothing,
        media_type,
        encoding,
        body,
        charge,
    } = receive(&state, request)
        .await
        .inspect_err(|problem| state.metrics().refused(problem))?;
    let judged = if encoding.is_none() && body.len() <= JUDGED_INLINE_MAX_BYTES {
        judge(&state, &body, media_type, application, charge)
    } else {
        judge_aside(&state, body, encoding, media_type, application, charge).await
    };
    let (parcel, charge) = judged
        .and_then(|judged| {
            keep_to_rate(&state, token, application, judged.0.events())?;
            Ok(judged)
        })
        .inspect_err(|problem| state.metrics().refused(problem))?;
    let minimal = wants_minimal(&headers);
    match parcel {
        Parcel::One { batch, id } => {
            let receipt = store(&state, batch, charge).await?;
            answer::one(&receipt, id, minimal)
        }
        Parcel::Many {
            mut batch,
            items,
            lines,
            refused,
        } => {
            let sent = items.len() + refused.len();
            let summary = answer::Summary::new(sent, lines, refused);
            if batch.is_empty() || (all_or_nothing && summary.has_refused()) {
                state.metrics().rejected(sent as u64);
                return summary.answer(minimal, all_or_nothing);
            }
            if all_or_nothing {
                batch.all_or_nothing();
            }
            batch.note_refused(sent - items.len());
            let receipt = store(&state, batch, charge).await?;
            state.metrics().rejected((sent - items.len()) as u64);
            summary
                .with(&receipt, &items)
                .answer(minimal, all_or_nothing)
        }
    }
}

/// Fails if the token has sent more than its application's rate allows.
fn keep_to_rate(
    state: &AppState,
    token: Uuid,
    application: ApplicationId,
    events: usize,
) -> Result<(), Problem> {
    let registry = state.log().registry();
    let limits = registry.application(application).map(|known| known.limits);
    match limits.and_then(|limits| limits.rate) {
        Some(rate) => state.usage().spend(token, rate, events),
        None => Ok(()),
    }
}

/// Where a request goes that is not stored, to measure what storing costs.
pub(crate) type Nowhere = tokio::sync::mpsc::Sender<Bytes>;

/// Answers `POST /events` as if everything had been stored: the same way in, the same parse of the raw JSON, the same
/// answer, and one message to nowhere in place of the log. The ceiling that benches compare with.
pub(crate) async fn send_to_nowhere(
    State(state): State<AppState>,
    Extension(nowhere): Extension<Nowhere>,
    request: Request,
) -> Result<Response, Problem> {
    let received = receive(&state, request).await?;
    let (parsed, body) = (
        parse_only(
            &received.body,
            received.media_type,
            state.settings().request_max_events,
        )?,
        received.body,
    );
    let minimal = wants_minimal(&received.headers);
    if nowhere.send(body).await.is_err() {
        return Err(Problem::new(Code::Overloaded, "Nobody listens."));
    }
    let receipt = Receipt {
        first_offset: Some(0),
        stored: parsed.events(),
        received_at: eye_log::now(),
        exceptions: Vec::new(),
    };
    match parsed {
        Parsed::One => answer::one(&receipt, None, minimal),
        Parsed::Many { lines } => {
            let items: Vec<usize> = (0..lines.len()).collect();
            answer::Summary::new(items.len(), lines, Vec::new())
                .with(&receipt, &items)
                .answer(minimal, false)
        }
    }
}

/// Judges a body and charges what its events come to for the log.
fn judge(
    state: &AppState,
    body: &[u8],
    media_type: MediaType,
    application: ApplicationId,
    mut charge: Charge,
) -> Result<(Parcel, Charge), Problem> {
    let parcel = open(body, media_type, application, state.settings())?;
    let (Parcel::One { batch, .. } | Parcel::Many { batch, .. }) = &parcel;
    charge.grow(batch.bytes())?;
    Ok((parcel, charge))
}

/// The same for a large or packed body, on a thread where it holds nobody up.
async fn judge_aside(
    state: &AppState,
    body: Bytes,
    encoding: Option<Encoding>,
    media_type: MediaType,
    application: ApplicationId,
    mut charge: Charge,
) -> Result<(Parcel, Charge), Problem> {
    let stopped = |_| Problem::new(Code::Recovering, "The service is stopping.").retry_after(1);
    let turn = state
        .large_bodies()
        .clone()
        .acquire_owned()
        .await
        .map_err(|_| stopped(()))?;
    let (state, span) = (state.clone(), tracing::Span::current());
    let judging = tokio::task::spawn_blocking(move || {
        let (_turn, _request) = (turn, span.entered());
        let body = match encoding {
            Some(encoding) => {
                encoding.unpack(&body, state.settings().request_max_bytes, &mut charge)?
            }
            None => body,
        };
        judge(&state, &body, media_type, application, charge)
    });
    judging.await.map_err(|error| {
        tracing::error!(%error, "judging a body stopped");
        stopped(())
    })?
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Whether `Prefer` holds `return=minimal` (RFC 7240).
fn wants_minimal(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value.split([',', ';']).any(|preference| {
                let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
                name.trim().eq_ignore_ascii_case("return")
                    && value
                        .trim()
                        .trim_matches('"')
                        .eq_ignore_ascii_case("minimal")
            })
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_preference_may_stand_among_others() {
        for (value, expected) in [
            ("return=minimal", true),
            ("respond-async, Return=\"minimal\"", true),
            ("return=minimal; foo=bar", true),
            ("return=representation", false),
            ("minimal", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", value.parse().unwrap());
            assert_eq!(wants_minimal(&headers), expected, "{value}");
        }
    }
}
