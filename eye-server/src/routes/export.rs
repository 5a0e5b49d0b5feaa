//! `/export`: everything that matches, in the order of the log, as long as it may be.
//!
//! What must stay true: memory does not grow with what is exported, and an answer without its end was cut short.

mod csv;

use std::time::{Duration, Instant};

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use eye_log::Offset;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::auth::Identity;
use crate::cursor::{Cursor, Last};
use crate::error::Problem;
use crate::operation::{Answer, Field, Operation, Shape};
use crate::parameters::CURSOR;
use crate::question::{QUESTION, Question};
use crate::state::AppState;
use crate::stream::{Gone, Outlet, stream};
use crate::view::{self, View};
use crate::wire::write_event_line;
use csv::Columns;

/// Matches that are looked for at once.
const TOGETHER: usize = 2000;
/// Events that are in memory at once.
const READ_TOGETHER: usize = 32;
/// A piece of the answer ends behind the event that makes it this long. Bytes.
const PIECE_BYTES: usize = 256 << 10;
/// How long matches are looked for before those that were found are sent.
const PATIENCE: Duration = Duration::from_secs(1);
const X_EYE_COUNT: HeaderName = HeaderName::from_static("x-eye-count");
const X_EYE_SHA256: HeaderName = HeaderName::from_static("x-eye-sha256");

/// How events are written.
enum Format {
    Ndjson,
    Csv(Columns),
}

/// An export that is under way.
struct Export {
    question: Question,
    view: View,
    format: Format,
    /// Where to go on in the log.
    from: Offset,
    /// So many more, where somebody said how many.
    left: Option<u64>,
    count: u64,
    hash: Sha256,
}

/// What [`export`] takes and answers.
pub(crate) static EXPORT: Operation =
    Operation::reads("Everything that matches, in the order of the log, streamed")
        .shares(&QUESTION)
        .query(&[
            Field::one_of("format", &["ndjson", "csv"])
                .optional()
                .about("ndjson where it is not given."),
            Field::text("fields")
                .optional()
                .about("For CSV: columns, with commas between."),
            Field::boolean("raw")
                .optional()
                .about("For CSV: cells that look like formulas stay as they are."),
            Field::new("limit", Shape::From(1))
                .optional()
                .about("So many events; without it, all."),
            CURSOR.about("`next` of an export with a limit."),
        ])
        .answers(&[Answer::of(
            200,
            "An event a line, last a line {export: {count, sha256, as_of, \
             next, exact}}: without it the answer was cut short. CSV: \
             trailers X-Eye-Count and X-Eye-Sha256.",
            &[
                ("application/x-ndjson", Shape::Text),
                ("text/csv", Shape::Text),
            ],
        )]);

/// Answers `GET /export`.
pub(crate) async fn export(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let mut parameters = EXPORT.parameters(query.as_deref())?;
    let cursor = Cursor::resume("export", &mut parameters, state.store_id())?;
    let mut question = Question::of(&state, scope, &parameters)?;
    let from = match &cursor {
        Some(cursor) => {
            (question.from, question.to) = (cursor.from, cursor.to);
            match &cursor.last {
                Last::Event(_, _, offset) => offset.saturating_add(1),
                Last::Named(_) => 0,
            }
        }
        None => 0,
    };
    let left = parameters
        .take("limit")
        .map(|text| {
            let number = text.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| {
                Problem::parameter(
                    "limit",
                    "must be a number from 1 on; without it, everything is exported.",
                )
            })
        })
        .transpose()?;
    let format = match parameters.text("format") {
        None | Some("ndjson") => {
            for name in ["fields", "raw"] {
                if parameters.text(name).is_some() {
                    return Err(Problem::parameter(name, "is for format=csv."));
                }
            }
            Format::Ndjson
        }
        Some("csv") => Format::Csv(Columns::of(
            parameters.text("fields"),
            parameters.boolean("raw")?,
        )?),
        Some(_) => return Err(Problem::parameter("format", "must be ndjson or csv.")),
    };
    let kept = Cursor::kept(&parameters);
    // What everything is, is settled before the first byte.
    let view = view::read(&state, question.wanted, |_, view| Ok(view)).await?;
    let media_type = match &format {
        Format::Ndjson => "application/x-ndjson",
        Format::Csv(_) => "text/csv; charset=utf-8; header=present",
    };
    let with_trailers = matches!(format, Format::Csv(_));
    let export = Export {
        question,
        view,
        format,
        from,
        left,
        count: 0,
        hash: Sha256::new(),
    };
    let (outlet, body) = stream();
    tokio::spawn(async move {
        // Whoever is gone wants to know nothing more.
        let _ = run(state, export, kept, outlet).await;
    });
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if with_trailers {
        headers.insert(
            header::TRAILER,
            HeaderValue::from_static("X-Eye-Count, X-Eye-Sha256"),
        );
    }
    Ok(response)
}

async fn run(
    state: AppState,
    mut export: Export,
    kept: std::collections::BTreeMap<String, String>,
    outlet: Outlet,
) -> Result<(), Gone> {
    if let Format::Csv(columns) = &export.format {
        let head = columns.head();
        export.hash.update(&head);
        outlet.put(head).await?;
    }
    let mut last = None;
    let mut goes_on = !export.question.nothing;
    while goes_on && export.left != Some(0) {
        let looking = {
            let request = eye_index::SearchRequest {
                deadline: Some(Instant::now() + state.settings().query_deadline),
                ..export.question.request(export.view.as_of)
            };
            let most = export.left.map_or(TOGETHER, |left| {
                usize::try_from(left).unwrap_or(TOGETHER).min(TOGETHER)
            });
            let (inner, from) = (state.clone(), export.from);
            view::run(&state, move || {
                Ok(inner.index().in_log_order(&request, from, most, PATIENCE)?)
            })
        };
        let (offsets, next) = match looking.await {
            Ok(found) => found,
            Err(problem) => {
                tracing::warn!(?problem, "an export was broken off");
                outlet.break_off("the export was broken off").await;
                return Err(Gone);
            }
        };
        if let Some(offset) = offsets.last() {
            last = Some(*offset);
        }
        let mut rest = offsets.as_slice();
        while !rest.is_empty() {
            let some = rest.to_vec();
            let inner = state.clone();
            let writing = view::run(&state, move || {
                let piece = piece(&inner, &mut export, &some);
                piece.map(|(piece, taken)| (piece, taken, export))
            });
            match writing.await {
                Ok((piece, taken, back)) => {
                    export = back;
                    rest = &rest[taken..];
                    outlet.put(piece).await?;
                }
                Err(problem) => {
                    tracing::warn!(?problem, "an export was broken off");
                    outlet.break_off("the export was broken off").await;
                    return Err(Gone);
                }
            }
        }
        export.left = export
            .left
            .map(|left| left - (offsets.len() as u64).min(left));
        goes_on = next.is_some();
        export.from = next.unwrap_or(export.from);
        if state.is_stopping() {
            outlet.break_off("the service is stopping").await;
            return Err(Gone);
        }
    }
    let next = last.filter(|_| goes_on).map(|offset| {
        Cursor {
            list: "export".to_owned(),
            parameters: kept,
            as_of: export.view.as_of,
            from: export.question.from,
            to: export.question.to,
            count: false,
            last: Last::Event(None, 0, offset),
        }
        .encode(state.store_id())
    });
    let hash = hex(&export.hash.finalize());
    match export.format {
        Format::Ndjson => {
            let end = json!({"export": {
                "count": export.count, "sha256": hash, "as_of": export.view.as_of, "next": next,
                "exact": export.view.exact,
            }});
            outlet.put(format!("{end}\n")).await
        }
        Format::Csv(_) => {
            let mut trailers = HeaderMap::new();
            trailers.insert(X_EYE_COUNT, HeaderValue::from(export.count));
            if let Ok(hash) = HeaderValue::try_from(hash) {
                trailers.insert(X_EYE_SHA256, hash);
            }
            outlet.put_trailers(trailers).await
        }
    }
}

/// Writes events until the piece is long enough; returns it, and how many of the offsets it has taken. Blocks.
fn piece(
    state: &AppState,
    export: &mut Export,
    offsets: &[Offset],
) -> Result<(Vec<u8>, usize), Problem> {
    let registry = state.log().registry();
    let (mut piece, mut taken) = (Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4), 0);
    for some in offsets.chunks(READ_TOGETHER) {
        for mut event in state.reader().read_many(some)?.into_iter().flatten() {
            let application = registry.application(event.application);
            let application = application.map_or("", |application| &application.name);
            match &export.format {
                Format::Ndjson => {
                    write_event_line(&mut piece, &mut event, application);
                    piece.push(b'\n');
                }
                Format::Csv(columns) => columns.write(&mut piece, &event, application),
            }
            export.count += 1;
        }
        taken += some.len();
        if piece.len() >= PIECE_BYTES {
            break;
        }
    }
    export.hash.update(&piece);
    Ok((piece, taken))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
