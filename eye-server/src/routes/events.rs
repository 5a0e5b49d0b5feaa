//! `/events`: sending, listing, and one by its id.

pub(crate) mod answer;
mod parcel;
mod send;

use std::time::Instant;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use eye_index::{Needs, Order, Place, SearchRequest};
use eye_log::{StoredEvent, offset_of_server_made_id};
use uuid::Uuid;

use crate::auth::{Identity, Scope};
use crate::error::Problem;
use crate::listing::{EVENTS, Kind, Listing};
use crate::operation::{Answer, Field, Operation, Shape};
use crate::parameters::{CURSOR, ID, LIMIT};
use crate::question::{APPLICATION, AS_OF, Q, STALE};
use crate::routes::json;
use crate::state::AppState;
use crate::view::{self, Wanted};
use crate::wire::EVENT;

pub(crate) use parcel::{Judge, Single, open_again};
pub(crate) use send::{Nowhere, SEND, send, send_to_nowhere};

/// Neighbours on each side where nobody said how many, and at most.
const NEIGHBOURS: usize = 10;
const NEIGHBOURS_MAX: usize = 100;

const KIND: Kind = Kind {
    list: "events",
    times: ("timestamp_after", "timestamp_before"),
    orders: &[
        ("-session_id,-timestamp", Order::BySession),
        ("timestamp", Order::OldestFirst),
        ("-timestamp", Order::NewestFirst),
    ],
    limit_least: 1,
};

/// What [`list`] takes and answers.
pub(crate) static LIST: Operation = Operation::reads("List events")
    .query(&[
        Field::uuid("session_id")
            .optional()
            .about("Only of this session."),
        Field::text("category").optional().about("Exactly."),
        Field::text("name").optional().about("Exactly."),
        Field::text("timestamp_after")
            .optional()
            .about("Inclusive."),
        Field::text("timestamp_before")
            .optional()
            .about("Exclusive."),
        APPLICATION,
        Q,
        Field::one_of(
            "order",
            &["-session_id,-timestamp", "timestamp", "-timestamp"],
        )
        .optional()
        .about("`-session_id,-timestamp` where it is not given."),
        LIMIT,
        CURSOR,
        AS_OF,
        STALE,
    ])
    .answers(&[Answer::json(200, "A page of events.", Shape::Of(&EVENTS))]);

/// Answers `GET /events`.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = LIST.parameters(query.as_deref())?;
    let listing = Listing::of(&state, scope, &KIND, parameters)?;
    let body = view::read(&state, listing.wanted, move |state, view| {
        let mut out = listing.write(state, view, false)?;
        out.push(b'}');
        Ok(out)
    })
    .await?;
    Ok(json(StatusCode::OK, body))
}

/// What [`one`] takes and answers.
pub(crate) static ONE: Operation = Operation::reads("One event")
    .path(&[ID])
    .query(&[AS_OF, STALE])
    .answers(&[Answer::json(200, "The event.", Shape::Of(&EVENT))]);

/// Answers `GET /events/{id}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = ONE.parameters(query.as_deref())?;
    let wanted = Wanted::of(&state, &parameters, Needs::Search)?;
    let missing = || Problem::not_found("An event of this id");
    let id = id
        .ok()
        .and_then(|Path(id)| Uuid::try_parse(&id).ok())
        .ok_or_else(missing)?;
    let body = view::read(&state, wanted, move |state, view| {
        let event = find(state, scope, id, wanted.bound())?;
        let event = event.ok_or_else(|| view.missing("An event of this id"))?;
        Ok(view::event_json(state, &event))
    })
    .await?;
    Ok(json(StatusCode::OK, body))
}

/// What [`context`] takes and answers.
pub(crate) static CONTEXT: Operation = Operation::reads("An event and its neighbours in time")
    .path(&[ID])
    .query(&[
        Field::new("before", Shape::Between(0, NEIGHBOURS_MAX as i64))
            .optional()
            .about("Neighbours before it; 10 where it is not given."),
        Field::new("after", Shape::Between(0, NEIGHBOURS_MAX as i64))
            .optional()
            .about("Neighbours behind it; 10 where it is not given."),
        Field::one_of("scope", &["session", "application"])
            .optional()
            .about("In its session, or in its application."),
        AS_OF,
        STALE,
    ])
    .answers(&[Answer::json(
        200,
        "Oldest first throughout",
        Shape::Framed(&[
            Field::list("before", &Shape::Of(&EVENT)),
            Field::of("event", &EVENT),
            Field::list("after", &Shape::Of(&EVENT)),
        ]),
    )]);

/// Answers `GET /events/{id}/context`: its neighbours in time, in its session or its application.
pub(crate) async fn context(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = CONTEXT.parameters(query.as_deref())?;
    let around = |name| match parameters.text(name) {
        None => Ok(NEIGHBOURS),
        Some(text) => text
            .parse()
            .ok()
            .filter(|count| *count <= NEIGHBOURS_MAX)
            .ok_or_else(|| {
                Problem::parameter(
                    name,
                    format!("must be a number from 0 to {NEIGHBOURS_MAX}."),
                )
            }),
    };
    let (before, after) = (around("before")?, around("after")?);
    let whole_application = match parameters.text("scope") {
        None | Some("session") => false,
        Some("application") => true,
        Some(_) => {
            return Err(Problem::parameter(
                "scope",
                "must be session or application.",
            ));
        }
    };
    let wanted = Wanted::of(&state, &parameters, Needs::Search)?;
    let id = id
        .ok()
        .and_then(|Path(id)| Uuid::try_parse(&id).ok())
        .ok_or_else(|| Problem::not_found("An event of this id"))?;
    let body = view::read(&state, wanted, move |state, view| {
        let event = find(state, scope, id, wanted.bound())?;
        let event = event.ok_or_else(|| view.missing("An event of this id"))?;
        let neighbours = |order, limit| -> Result<Vec<u64>, Problem> {
            let request = SearchRequest {
                query: crate::listing::query(None)?,
                registry: state.log().registry(),
                application: Some(event.application),
                from: None,
                to: None,
                category: None,
                name: None,
                session: (!whole_application).then_some(event.session_id),
                as_of: view.as_of,
                order,
                after: Some(Place {
                    session: None,
                    timestamp: event.timestamp,
                    offset: event.offset,
                }),
                limit,
                deadline: Some(Instant::now() + state.settings().query_deadline),
            };
            Ok(state
                .index()
                .search(&request)?
                .hits
                .iter()
                .map(|hit| hit.offset)
                .collect())
        };
        let mut earlier = neighbours(Order::NewestFirst, before)?;
        earlier.reverse();
        let later = neighbours(Order::OldestFirst, after)?;
        let mut out = b"{\"before\":[".to_vec();
        view::write_events(&mut out, state, &earlier)?;
        out.extend_from_slice(b"],\"event\":");
        out.extend_from_slice(&view::event_json(state, &event));
        out.extend_from_slice(b",\"after\":[");
        view::write_events(&mut out, state, &later)?;
        out.extend_from_slice(b"]");
        view.write_end(&mut out);
        Ok(out)
    })
    .await?;
    Ok(json(StatusCode::OK, body))
}

/// The newest event of this id that may be seen. Two applications may have used the same id.
fn find(
    state: &AppState,
    scope: Scope,
    id: Uuid,
    as_of: u64,
) -> Result<Option<StoredEvent>, Problem> {
    // Any UUIDv7 may be a client's, so the index is asked even where the bits name an offset.
    let mut offsets = state.index().event_offsets_of_id(id, as_of)?;
    offsets.extend(offset_of_server_made_id(id));
    offsets.retain(|offset| *offset < as_of);
    offsets.sort_unstable_by(|a, b| b.cmp(a));
    offsets.dedup();
    let events = state.reader().read_many(&offsets)?;
    Ok(events
        .into_iter()
        .flatten()
        .find(|event| event.id == id && scope.sees(event.application)))
}
