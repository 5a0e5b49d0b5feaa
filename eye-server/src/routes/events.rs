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
use crate::listing::{Kind, Listing};
use crate::parameters::Parameters;
use crate::routes::json;
use crate::state::AppState;
use crate::view::{self, Wanted};

pub(crate) use parcel::{Judge, open_again};
pub(crate) use send::{Nowhere, send, send_to_nowhere};

/// Neighbours on each side where nobody said how many, and at most.
const CONTEXT: usize = 10;
const CONTEXT_MAX: usize = 100;

const LIST: Kind = Kind {
    list: "events",
    times: ("timestamp_after", "timestamp_before"),
    orders: &[
        ("-session_id,-timestamp", Order::BySession),
        ("timestamp", Order::OldestFirst),
        ("-timestamp", Order::NewestFirst),
    ],
    limit_least: 1,
};
const LIST_PARAMETERS: [&str; 12] = [
    "session_id",
    "category",
    "name",
    "timestamp_after",
    "timestamp_before",
    "application",
    "q",
    "limit",
    "cursor",
    "order",
    "as_of",
    "stale",
];

/// Answers `GET /events`.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = Parameters::from_query(query.as_deref(), &LIST_PARAMETERS)?;
    let listing = Listing::of(&state, scope, &LIST, parameters)?;
    let body = view::read(&state, listing.wanted, move |state, view| {
        let mut out = listing.write(state, view, false)?;
        out.push(b'}');
        Ok(out)
    })
    .await?;
    Ok(json(StatusCode::OK, body))
}

/// Answers `GET /events/{id}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = Parameters::from_query(query.as_deref(), &["as_of", "stale"])?;
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

/// Answers `GET /events/{id}/context`: its neighbours in time, in its session or its application.
pub(crate) async fn context(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let known = ["before", "after", "scope", "as_of", "stale"];
    let parameters = Parameters::from_query(query.as_deref(), &known)?;
    let around = |name| match parameters.text(name) {
        None => Ok(CONTEXT),
        Some(text) => text
            .parse()
            .ok()
            .filter(|count| *count <= CONTEXT_MAX)
            .ok_or_else(|| {
                Problem::parameter(name, format!("must be a number from 0 to {CONTEXT_MAX}."))
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
