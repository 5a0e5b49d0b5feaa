//! `DELETE /sessions/{id}`, `/erasures`: what a person may demand to be forgotten.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use eye_index::{Needs, SearchRequest};
use eye_log::{EraseRequest, Erasure, Offset, TokenKind, format_timestamp};
use serde_json::{Value, json};
use std::time::Instant;
use uuid::Uuid;

use crate::auth::{Identity, Scope};
use crate::envelope::RequestId;
use crate::error::{Code, Problem};
use crate::listing::query;
use crate::operation::{Answer, Component, Field, Operation, Shape};
use crate::parameters::{CURSOR, ID, LIMIT, Parameters};
use crate::question::Q;
use crate::registrar::Page;
use crate::routes::json as answer;
use crate::state::AppState;
use crate::view::{self, Wanted};

/// How many events one erasure takes at most; more are several erasures.
const EVENTS_MAX: usize = 5_000_000;

/// An erasure as it is answered.
pub(crate) static ERASURE: Component = Component::object(
    "Erasure",
    &[
        Field::uuid("id"),
        Field::one_of("state", &["hidden", "compacting", "done"]),
        Field::time("requested_at"),
        Field::uuid("by").or_null(),
        Field::new("filter", Shape::Object(&[Field::text("hash")])),
        Field::whole("sessions"),
        Field::whole("events"),
        Field::new(
            "certificate",
            Shape::Object(&[
                Field::list(
                    "segments",
                    &Shape::Object(&[
                        Field::whole("base_offset"),
                        Field::text("before").or_null(),
                        Field::text("after").or_null(),
                    ]),
                ),
                Field::time("checked_at"),
                Field::whole("found"),
                Field::text("sha256"),
            ]),
        )
        .optional(),
    ],
);

/// What is to be forgotten.
enum What {
    Sessions(Vec<Uuid>),
    Query(String),
}

/// What [`session`] takes and answers.
pub(crate) static SESSION: Operation = Operation::writes(
    "Erase a session: hidden at once, gone from every byte after the next compaction",
)
.path(&[ID])
.answers(&[Answer::json(
    202,
    "The erasure; Location names it.",
    Shape::Of(&ERASURE),
)])
.problems(&[504]);

/// Answers `DELETE /sessions/{id}`: 202 and the erasure.
pub(crate) async fn session(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    SESSION.parameters(query.as_deref())?;
    let id = id
        .ok()
        .and_then(|Path(id)| Uuid::try_parse(&id).ok())
        .ok_or_else(|| Problem::not_found("A session of this id"))?;
    erase(&state, &identity, &request_id, What::Sessions(vec![id])).await
}

/// What [`create`] takes and answers.
pub(crate) static CREATE: Operation =
    Operation::writes("Erase sessions, or the events that a query finds now")
        .fields(&[
            Field::new("session_ids", Shape::ListOf(&Shape::Uuid, 1, usize::MAX)).optional(),
            Q.about("The events that it finds now."),
        ])
        .answers(&[Answer::json(
            202,
            "The erasure; Location names it.",
            Shape::Of(&ERASURE),
        )])
        .problems(&[404, 504]);

/// Answers `POST /erasures {"session_ids" | "q"}`: 202 and the erasure.
pub(crate) async fn create(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    may_erase(&identity)?;
    CREATE.parameters(query.as_deref())?;
    let body = CREATE.object(&state, body).await?;
    let what = match (body.texts("session_ids")?, body.text("q")?) {
        (Some(ids), None) if !ids.is_empty() => {
            let ids: Result<Vec<Uuid>, Problem> = ids
                .iter()
                .map(|id| {
                    Uuid::try_parse(id).map_err(|_| {
                        Problem::parameter("session_ids", format!("{id:?} is no UUID."))
                    })
                })
                .collect();
            What::Sessions(ids?)
        }
        (None, Some(q)) if !q.trim().is_empty() => What::Query(q.to_owned()),
        _ => {
            return Err(Problem::parameter(
                "session_ids",
                "Either a list of session ids, or a query in `q`, is required.",
            ));
        }
    };
    erase(&state, &identity, &request_id, what).await
}

/// What [`one`] takes and answers.
pub(crate) static ONE: Operation = Operation::reads("How far an erasure is, and its certificate")
    .path(&[ID])
    .answers(&[Answer::json(200, "The erasure.", Shape::Of(&ERASURE))]);

/// Answers `GET /erasures/{id}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    may_erase(&identity)?;
    ONE.parameters(query.as_deref())?;
    let missing = || Problem::not_found("An erasure of this id");
    let id = id
        .ok()
        .and_then(|Path(id)| Uuid::try_parse(&id).ok())
        .ok_or_else(missing)?;
    let erasure = visible(&state, &identity).find(|erasure| erasure.id == id);
    let erasure = erasure.ok_or_else(missing)?;
    Ok(answer(StatusCode::OK, shape(&state, &erasure).to_string()))
}

/// What [`list`] takes and answers.
pub(crate) static LIST: Operation = Operation::reads("What was asked to be erased")
    .query(&[LIMIT, CURSOR])
    .answers(&[Answer::json(
        200,
        "A page of erasures.",
        Shape::Page("erasures", &Shape::Of(&ERASURE)),
    )]);

/// Answers `GET /erasures`.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    may_erase(&identity)?;
    let parameters = LIST.parameters(query.as_deref())?;
    let (page, _) = Page::of(&state, "erasures".to_owned(), parameters)?;
    let rows = visible(&state, &identity)
        .map(|erasure| {
            let key = format!("{:020} {}", erasure.requested_at, erasure.id);
            (key, shape(&state, &erasure))
        })
        .collect();
    let (rows, last) = page.cut(rows);
    Ok(page.answer(&state, "erasures", &rows, last))
}

/// Admins see every erasure; an application those that its own tokens asked for.
fn visible(state: &AppState, identity: &Identity) -> impl Iterator<Item = Erasure> {
    let registry = state.log().registry();
    let (everything, own) = (identity.kind == TokenKind::Admin, identity.application);
    state.log().erasures().into_iter().filter(move |erasure| {
        everything
            || registry
                .token(erasure.by)
                .is_some_and(|token| token.application.is_some() && token.application == own)
    })
}

/// Returns whose events a token may erase.
fn may_erase(identity: &Identity) -> Result<Scope, Problem> {
    match (identity.kind, identity.application) {
        (TokenKind::Admin, _) => Ok(Scope::Everything),
        (
            TokenKind::Application {
                read: true,
                write: true,
            },
            Some(own),
        ) => Ok(Scope::Own(own)),
        _ => Err(Problem::new(
            Code::Forbidden,
            "Erasing needs an admin token, or one of the application with the scopes read and write.",
        )),
    }
}

async fn erase(
    state: &AppState,
    identity: &Identity,
    request_id: &RequestId,
    what: What,
) -> Result<Response, Problem> {
    let scope = may_erase(identity)?;
    let (actor, identity) = (identity.actor(request_id), *identity);
    // Complete, whatever it takes: what the index has not seen yet would stay.
    let wanted = Wanted::of(state, &Parameters::default(), Needs::Both)?;
    let erasure = view::read(state, wanted, move |state, view| {
        if !view.exact {
            return Err(view.missing("Everything to be erased"));
        }
        let (filter, sessions, offsets) = match what {
            What::Sessions(mut sessions) => {
                sessions.sort_unstable();
                sessions.dedup();
                let filter = format!("sessions {sessions:?}");
                let mut offsets = Vec::new();
                for session in &sessions {
                    let found = state.index().session(*session, view.as_of)?;
                    if found.is_some_and(|found| found.count > 0 && scope.sees(found.application)) {
                        let hits = state.index().session_events(*session, view.as_of)?;
                        offsets.extend(hits.iter().map(|hit| hit.offset));
                    }
                }
                (filter, sessions, offsets)
            }
            What::Query(q) => {
                let offsets = matching(state, scope, &q, view.as_of)?;
                (format!("q {scope:?} {q}"), Vec::new(), offsets)
            }
        };
        let filter = state.log().erasure_filter(&filter);
        if offsets.is_empty() {
            // The same request again is the same erasure, for whoever may see that.
            let same = visible(state, &identity)
                .filter(|erasure| erasure.filter == filter)
                .last();
            let same = same.ok_or_else(|| view.missing("Anything to be erased"))?;
            forget_rejections(state, scope, &sessions)?;
            return Ok(same);
        }
        // Before it is in the log: what the log keeps of an erasure does not say which session it was.
        forget_rejections(state, scope, &sessions)?;
        let erasure = state
            .log()
            .erase(EraseRequest {
                id: Uuid::new_v4(),
                by: actor,
                filter,
                sessions,
                ranges: offsets.iter().map(|offset| *offset..offset + 1).collect(),
            })
            .map_err(Problem::from)?;
        Ok(erasure)
    })
    .await?;
    let mut accepted = answer(StatusCode::ACCEPTED, shape(state, &erasure).to_string());
    if let Ok(location) = HeaderValue::try_from(format!("/erasures/{}", erasure.id)) {
        accepted.headers_mut().insert(header::LOCATION, location);
    }
    Ok(accepted)
}

/// Removes the rejections that name an erased session, as far as they may be seen.
fn forget_rejections(state: &AppState, scope: Scope, sessions: &[Uuid]) -> Result<(), Problem> {
    let own = match scope {
        Scope::Own(own) => Some(own),
        Scope::Everything => None,
    };
    let purged = state.rejections().purge(sessions, own);
    purged.map(|_| ()).map_err(|error| {
        tracing::error!(%error, "rejections that name an erased session could not be removed");
        Problem::new(Code::Damaged, format!("The rejections could not be searched: {error}."))
            .detail("Nothing was erased. The folder rejections/ may be removed while nothing runs, if nothing in it is needed.")
    })
}

/// Returns the offsets of the events that match a query, below the end at the request.
fn matching(
    state: &AppState,
    scope: Scope,
    q: &str,
    as_of: Offset,
) -> Result<Vec<Offset>, Problem> {
    let registry = state.log().registry();
    let request = SearchRequest {
        application: match scope {
            Scope::Everything => None,
            Scope::Own(own) => Some(own),
        },
        deadline: Some(Instant::now() + state.settings().query_deadline),
        ..SearchRequest::new(query(Some(q))?, registry, as_of, EVENTS_MAX)
    };
    let found = state.index().search(&request)?;
    if found.more {
        return Err(Problem::new(
            Code::QueryBound,
            format!(
                "More than {EVENTS_MAX} events match; erase them in parts, by time for instance."
            ),
        ));
    }
    Ok(found.hits.iter().map(|hit| hit.offset).collect())
}

fn shape(state: &AppState, erasure: &Erasure) -> Value {
    let certificate: Option<Value> = erasure
        .certificate
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    let compacting = state.tasks().is_running("compact");
    let condition = match (&erasure.certificate, compacting) {
        (Some(_), _) => "done",
        (None, true) => "compacting",
        (None, false) => "hidden",
    };
    let mut shape = json!({
        "id": erasure.id, "state": condition, "requested_at": format_timestamp(erasure.requested_at),
        "by": (!erasure.by.is_nil()).then_some(erasure.by),
        // What was asked for is not kept in clear; the hash tells the same request from another.
        "filter": {"hash": Uuid::from_bytes(erasure.filter).simple().to_string()},
        "sessions": erasure.sessions, "events": erasure.events,
    });
    if let Some(certificate) = certificate {
        shape["certificate"] = certificate;
    }
    shape
}
