//! `POST /events`: from bytes to a receipt.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use eye_log::{ApplicationId, LogHealth, Receipt};
use serde_json::json;
use uuid::Uuid;

use super::answer::{self, Summary};
use super::parcel::{Judge, Parcel, Parsed, Single, open, parse_only};
use crate::auth::identify;
use crate::error::{Code, FieldErrors, Problem};
use crate::ingest::{Charge, Unread, admit, read_body, request_too_large, store};
use crate::operation::{Answer, Field, Operation, Shape};
use crate::parameters::Parameters;
use crate::question::APPLICATION;
use crate::rejections::Refusal;
use crate::routes::events::answer::STORED;
use crate::routes::events::answer::SUMMARY;
use crate::state::AppState;
use crate::wire::{EVENT_DRAFT, Encoding, MediaType, Pieces, pieces};

/// So many refused items are kept at once where the request is served; they are a write to the page cache each.
const KEPT_INLINE_MAX: usize = 16;
/// How much is read and kept of a body that is refused whatever it says.
const KEPT_UNREAD_BYTES: usize = 64 << 10;
/// How long that may take.
const KEPT_UNREAD_TIME: Duration = Duration::from_secs(2);

/// Bodies longer than this are judged off the threads that serve connections.
const JUDGED_INLINE_MAX_BYTES: usize = 256 << 10;

/// Who sends, and for whom.
struct Sender {
    token: Uuid,
    application: ApplicationId,
    path: String,
    headers: HeaderMap,
}

impl Sender {
    /// Counts a request that is refused as a whole, keeps what it brought (`cut` where not all of it was read), and says as what.
    fn refuse(&self, state: &AppState, problem: Problem, body: &[u8], cut: bool) -> Problem {
        state.metrics().refused(&problem);
        if !is_kept(problem.answered()) {
            return problem;
        }
        state.log().count_refused(Some(self.application), 0, 1);
        self.keep_whole(state, problem, body, cut)
    }

    /// Keeps what a request brought that is refused as a whole, and says as what.
    fn keep_whole(&self, state: &AppState, problem: Problem, body: &[u8], cut: bool) -> Problem {
        let errors = problem.field_errors();
        match self.keep(state, None, problem.code(), &errors, (body, cut)) {
            Some(id) => problem.with("rejection", json!(id)),
            None => problem,
        }
    }

    /// Keeps the refused items of a body, and notes as what; many of them off the threads that serve connections.
    async fn keep_items(
        self,
        state: &AppState,
        body: Bytes,
        media_type: MediaType,
        mut summary: Summary,
    ) -> Result<Summary, Problem> {
        let count = summary.refused_mut().len();
        if count == 0 {
            return Ok(summary);
        }
        let state = state.clone();
        let keeping = move || {
            let events_max = state.settings().request_max_events;
            let texts = Texts::of_body(&body, media_type, events_max);
            for item in summary.refused_mut() {
                let (index, errors) = (Some(item.index), &item.errors);
                let text = texts.as_ref().and_then(|texts| texts.of(item.index));
                item.rejection = text
                    .and_then(|text| self.keep(&state, index, item.code, errors, (text, false)));
            }
            summary
        };
        if count <= KEPT_INLINE_MAX {
            return Ok(keeping());
        }
        tokio::task::spawn_blocking(keeping).await.map_err(|error| {
            tracing::error!(%error, "keeping rejections stopped");
            Problem::new(Code::Recovering, "The service is stopping.").retry_after(1)
        })
    }

    fn keep(
        &self,
        state: &AppState,
        index: Option<usize>,
        code: Code,
        errors: &FieldErrors,
        (body, cut): (&[u8], bool),
    ) -> Option<Uuid> {
        // The reserve is for what gives room back.
        if state.log().health() == LogHealth::DiskFull {
            state.rejections().count_only(self.application);
            return None;
        }
        let user_agent = self.headers.get(header::USER_AGENT);
        state.rejections().keep(Refusal {
            application: self.application,
            path: &self.path,
            index,
            code: code.name(),
            errors,
            body,
            cut,
            user_agent: user_agent.and_then(|name| name.to_str().ok()),
        })
    }
}

/// Whether what was answered with this is kept; the others may be sent again as they are, or were never looked at.
fn is_kept(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
    )
}

/// The items of a body as they were sent.
enum Texts<'b> {
    Items(Vec<&'b str>),
    Lines(Vec<&'b [u8]>),
}

impl<'b> Texts<'b> {
    fn of_body(body: &'b [u8], media_type: MediaType, events_max: usize) -> Option<Self> {
        match pieces(body, media_type, events_max).ok()? {
            Pieces::One(text) => Some(Self::Items(vec![text])),
            Pieces::Items(texts) => Some(Self::Items(texts)),
            Pieces::Lines(lines) => {
                // Those that are no UTF-8 have no text; the lines are found as they were numbered.
                let all: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
                let line = |number: usize| all.get(number - 1).copied().unwrap_or_default();
                let lines = lines.iter().map(|(number, _)| line(*number));
                Some(Self::Lines(lines.collect()))
            }
        }
    }

    fn of(&self, index: usize) -> Option<&'b [u8]> {
        match self {
            Self::Items(texts) => texts.get(index).map(|text| text.as_bytes()),
            Self::Lines(lines) => lines.get(index).copied(),
        }
    }
}

/// A request that may send, read to its end.
struct Received {
    sender: Sender,
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
    let identity = identify(state, &headers, Parameters::token_in(query).as_deref());
    let identity = identity.inspect_err(|problem| {
        if problem.code() == Code::Unauthorized {
            state.log().count_refused(None, 0, 1);
        }
    })?;
    let parameters = SEND.parameters(query);
    if let (Err(problem), None) = (&parameters, identity.application) {
        return Err(problem.clone());
    }
    let named = parameters.as_ref().ok();
    let named = named.and_then(|parameters| parameters.text("application"));
    let sender = Sender {
        token: identity.token,
        application: identity.sends_for(state, named)?,
        path: parts.uri.path().to_owned(),
        headers,
    };
    let limit = state.settings().request_max_bytes;
    let (all_or_nothing, media_type, encoding) =
        match parameters.and_then(|parameters| announced(&parameters, &sender.headers, limit)) {
            Ok(announced) => announced,
            Err(problem) => return Err(refuse_unread(state, &sender, problem, body).await),
        };
    admit(state, content_length(&sender.headers))?;

    let mut charge = state.memory().account();
    match read_body(body, limit, state.settings(), &mut charge).await {
        Ok(body) => Ok(Received {
            sender,
            all_or_nothing,
            media_type,
            encoding,
            body,
            charge,
        }),
        // Of a body that did not come to its end for another reason nobody knows what it was to be.
        Err(Unread { problem, begun }) if problem.code() == Code::TooLarge => {
            Err(sender.refuse(state, problem, &begun, true))
        }
        Err(Unread { problem, .. }) => Err(problem),
    }
}

/// Says what a request announces before its body, or why it cannot be taken.
fn announced(
    parameters: &Parameters,
    headers: &HeaderMap,
    limit: usize,
) -> Result<(bool, MediaType, Option<Encoding>), Problem> {
    let all_or_nothing = match parameters.text("on_error") {
        None => false,
        Some("reject_all") => true,
        Some(_) => return Err(Problem::parameter("on_error", "may only be `reject_all`.")),
    };
    let media_type = MediaType::of(headers)?;
    let encoding = Encoding::of(headers)?;
    if content_length(headers).is_some_and(|length| length > limit) {
        return Err(request_too_large(limit));
    }
    Ok((all_or_nothing, media_type, encoding))
}

/// Reads what will be kept of a body that is refused whatever it says.
async fn refuse_unread(state: &AppState, sender: &Sender, problem: Problem, body: Body) -> Problem {
    let mut charge = state.memory().account();
    let read = read_body(body, KEPT_UNREAD_BYTES, state.settings(), &mut charge);
    let (begun, cut) = match tokio::time::timeout(KEPT_UNREAD_TIME, read).await {
        Ok(Ok(body)) => (Vec::from(body), false),
        Ok(Err(unread)) => (unread.begun, true),
        Err(_) => (Vec::new(), true),
    };
    sender.refuse(state, problem, &begun, cut)
}

/// What [`send`] takes and answers.
pub(crate) static SEND: Operation = Operation::writes(
    "Send one event, an array, or NDJSON. An answer of 200, 201, \
     204 or 207 means that what was accepted is on the disk, synced.",
)
.query(&[
    APPLICATION.about("For admins: for which application."),
    Field::one_of("on_error", &["reject_all"])
        .optional()
        .about("`reject_all`: store all or nothing."),
    Field::text("token")
        .optional()
        .about("A write-only token, where no header can be set."),
])
.headers(&[Field::text("Prefer")
    .optional()
    .about("`return=minimal`: 204 and no body.")])
.body(
    true,
    "",
    &[
        (
            "application/json",
            Shape::Either(&[
                Shape::Of(&EVENT_DRAFT),
                Shape::List(&Shape::Of(&EVENT_DRAFT)),
            ]),
        ),
        ("application/x-ndjson", Shape::Text),
        ("text/plain", Shape::Text),
    ],
)
.answers(&[
    Answer::json(
        200,
        "A duplicate of one event, or many all stored or known.",
        Shape::Either(&[Shape::Of(&STORED), Shape::Of(&SUMMARY)]),
    ),
    Answer::json(201, "Stored.", Shape::Of(&STORED)),
    Answer::empty(204, "Stored; nothing else was asked for."),
    Answer::json(207, "Some were refused.", Shape::Of(&SUMMARY)),
])
.problems(&[404, 409, 415, 429]);

/// Answers `POST /events`.
pub(crate) async fn send(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let Received {
        sender,
        all_or_nothing,
        media_type,
        encoding,
        body,
        charge,
    } = receive(&state, request).await?;
    let application = sender.application;
    let judged = if encoding.is_none() && body.len() <= JUDGED_INLINE_MAX_BYTES {
        match judge(&state, &body, media_type, application, charge) {
            Ok((parcel, charge)) => Ok((parcel, charge, body)),
            Err(problem) => Err((problem, body)),
        }
    } else {
        judge_aside(&state, body, encoding, media_type, application, charge).await
    };
    let (parcel, charge, body) =
        judged.map_err(|(problem, body)| sender.refuse(&state, problem, &body, false))?;
    keep_to_rate(&state, sender.token, application, parcel.events())?;
    let minimal = wants_minimal(&sender.headers);
    match parcel {
        Parcel::One(single) => {
            let receipt = store(&state, single.batch, charge)
                .await
                .map_err(|problem| sender.refuse(&state, problem, &body, false))?;
            // The writer has counted it.
            answer::one(&receipt, single.id, single.broken, minimal)
                .map_err(|problem| sender.keep_whole(&state, problem, &body, false))
        }
        Parcel::Many {
            mut batch,
            items,
            broken,
            lines,
            refused,
        } => {
            let sent = items.len() + refused.len();
            let summary = Summary::new(sent, lines, refused);
            if batch.is_empty() || (all_or_nothing && summary.has_refused()) {
                state.metrics().rejected(sent as u64);
                state.log().count_refused(Some(application), 0, sent as u64);
                let kept = sender.keep_items(&state, body, media_type, summary).await?;
                return kept.answer(minimal, all_or_nothing);
            }
            if all_or_nothing {
                batch.all_or_nothing();
            }
            batch.note_refused(sent - items.len());
            let receipt = store(&state, batch, charge)
                .await
                .map_err(|problem| sender.refuse(&state, problem, &body, false))?;
            state.metrics().rejected((sent - items.len()) as u64);
            let summary = summary.with(&receipt, &items, broken);
            let kept = sender.keep_items(&state, body, media_type, summary).await?;
            kept.answer(minimal, all_or_nothing)
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
    let minimal = wants_minimal(&received.sender.headers);
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
        Parsed::One => answer::one(&receipt, None, None, minimal),
        Parsed::Many { lines } => {
            let items: Vec<usize> = (0..lines.len()).collect();
            Summary::new(items.len(), lines, Vec::new())
                .with(&receipt, &items, BTreeMap::new())
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
    let book = state.rule_book();
    let judge = Judge::new(state.settings(), &book, application);
    let parcel = open(body, media_type, &judge)?;
    let (Parcel::One(Single { batch, .. }) | Parcel::Many { batch, .. }) = &parcel;
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
) -> Result<(Parcel, Charge, Bytes), (Problem, Bytes)> {
    let stopped = || {
        let problem = Problem::new(Code::Recovering, "The service is stopping.");
        (problem.retry_after(1), Bytes::new())
    };
    let turn = state.large_bodies().clone().acquire_owned().await;
    let turn = turn.map_err(|_| stopped())?;
    let (state, span) = (state.clone(), tracing::Span::current());
    let judging = tokio::task::spawn_blocking(move || {
        let (_turn, _request) = (turn, span.entered());
        let limit = state.settings().request_max_bytes;
        let body = match encoding.map(|encoding| encoding.unpack(&body, limit, &mut charge)) {
            Some(Ok(unpacked)) => unpacked,
            // As it was sent.
            Some(Err(problem)) => return Err((problem, body)),
            None => body,
        };
        match judge(&state, &body, media_type, application, charge) {
            Ok((parcel, charge)) => Ok((parcel, charge, body)),
            Err(problem) => Err((problem, body)),
        }
    });
    judging.await.map_err(|error| {
        tracing::error!(%error, "judging a body stopped");
        stopped()
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
