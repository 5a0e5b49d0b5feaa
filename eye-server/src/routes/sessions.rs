//! `/sessions/{id}`: a session, and its events in the order they occurred.

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use eye_index::{Hit, Needs, SessionSummary};
use eye_log::{Offset, StoredEvent};
use uuid::Uuid;

use crate::auth::{Identity, Scope};
use crate::cursor::{Cursor, Last};
use crate::error::Problem;
use crate::parameters::Parameters;
use crate::routes::json;
use crate::state::AppState;
use crate::view::{self, View, Wanted, event_json, write_events};
use crate::wire::{write_number, write_string, write_time, write_uuid};

/// How many events are in memory at once while a session's categories are counted.
const READ_AT_ONCE: usize = 1000;

/// Answers `GET /sessions/{id}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = Parameters::from_query(query.as_deref(), &["as_of", "stale"])?;
    let wanted = Wanted::of(&state, &parameters, Needs::Catalog)?;
    let id = session_id(id)?;
    let body = view::read(&state, wanted, move |state, view| {
        session_json(state, scope, id, view)
    })
    .await?;
    Ok(json(StatusCode::OK, body))
}

/// Answers `GET /sessions/{id}/events`.
pub(crate) async fn events(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let mut parameters =
        Parameters::from_query(query.as_deref(), &["limit", "cursor", "as_of", "stale"])?;
    let id = session_id(id)?;
    let list = format!("session {id}");
    let cursor = Cursor::resume(&list, &mut parameters, state.store_id())?;
    let limit = parameters.limit(1)?;
    let wanted = Wanted::of(&state, &parameters, Needs::Catalog)?;
    let body = view::read(&state, wanted, move |state, view| {
        find(state, scope, id, view)?;
        let hits = state.index().session_events(id, view.as_of)?;
        let after = cursor
            .and_then(|cursor| cursor.last.place())
            .map(|place| (place.timestamp, place.offset));
        let begin = after.map_or(0, |after| {
            hits.partition_point(|hit| (hit.timestamp, hit.offset) <= after)
        });
        let rest = &hits[begin..];
        let page = &rest[..rest.len().min(limit)];
        let next = page.last().filter(|_| page.len() < rest.len()).map(|last| {
            let last = Last::Event(Some(id), last.timestamp, last.offset);
            let kept = Cursor::kept(&parameters);
            Cursor {
                list,
                parameters: kept,
                as_of: view.as_of,
                from: None,
                to: None,
                count: false,
                last,
            }
            .encode(state.store_id())
        });
        let mut out = b"{\"events\":[".to_vec();
        write_events(&mut out, state, &offsets(page))?;
        out.push(b']');
        view.write_frame(&mut out, next.as_deref());
        out.push(b'}');
        Ok(out)
    })
    .await?;
    Ok(json(StatusCode::OK, body))
}

fn missing() -> Problem {
    Problem::not_found("A session of this id")
}

fn session_id(id: Result<Path<String>, PathRejection>) -> Result<Uuid, Problem> {
    id.ok()
        .and_then(|Path(id)| Uuid::try_parse(&id).ok())
        .ok_or_else(missing)
}

/// Another application's session is answered as if it were not there.
fn find(state: &AppState, scope: Scope, id: Uuid, view: View) -> Result<SessionSummary, Problem> {
    let session = state.index().session(id, view.as_of)?;
    session
        .filter(|session| session.count > 0 && scope.sees(session.application))
        .ok_or_else(|| view.missing("A session of this id"))
}

fn offsets(hits: &[Hit]) -> Vec<Offset> {
    hits.iter().map(|hit| hit.offset).collect()
}

fn session_json(state: &AppState, scope: Scope, id: Uuid, view: View) -> Result<Vec<u8>, Problem> {
    let session = find(state, scope, id, view)?;
    let hits = state.index().session_events(id, view.as_of)?;
    let mut categories: BTreeMap<String, u64> = BTreeMap::new();
    let mut entry: Option<StoredEvent> = None;
    let mut exit: Option<StoredEvent> = None;
    for some in hits.chunks(READ_AT_ONCE) {
        for event in state
            .reader()
            .read_many(&offsets(some))?
            .into_iter()
            .flatten()
        {
            *categories.entry(event.category.clone()).or_default() += 1;
            if entry.is_none() {
                entry = Some(event.clone());
            }
            exit = Some(event);
        }
    }
    let (Some(entry), Some(exit)) = (entry, exit) else {
        return Err(missing());
    };
    let registry = state.log().registry();
    let application = registry
        .application(session.application)
        .map_or("", |application| &application.name);

    let mut out = b"{\"id\":\"".to_vec();
    write_uuid(&mut out, id);
    out.extend_from_slice(b"\",\"application\":");
    write_string(&mut out, application);
    out.extend_from_slice(b",\"first\":");
    write_time(&mut out, session.first);
    out.extend_from_slice(b",\"last\":");
    write_time(&mut out, session.last);
    out.extend_from_slice(b",\"duration_ms\":");
    write_number(
        &mut out,
        (session.last - session.first).max(0).unsigned_abs() / 1000,
    );
    out.extend_from_slice(b",\"count\":");
    write_number(&mut out, session.count);
    out.extend_from_slice(b",\"categories\":{");
    for (at, (category, count)) in categories.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(&mut out, category);
        out.push(b':');
        write_number(&mut out, *count);
    }
    out.extend_from_slice(b"},\"entry\":");
    out.extend_from_slice(&event_json(state, &entry));
    out.extend_from_slice(b",\"exit\":");
    out.extend_from_slice(&event_json(state, &exit));
    out.extend_from_slice(b",\"as_of\":");
    write_number(&mut out, view.as_of);
    out.extend_from_slice(b",\"indexed_through\":");
    write_number(&mut out, view.through);
    out.extend_from_slice(if view.exact {
        b",\"exact\":true}"
    } else {
        b",\"exact\":false}"
    });
    Ok(out)
}
