//! `/sessions/{id}`: a session, and its events in the order they occurred.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use eye_index::search::facets::{FacetOptions, FacetValue, FieldColumns};
use eye_index::{Hit, Needs, Order, Place, SearchRequest, SessionSummary};
use eye_log::Offset;
use uuid::Uuid;

use crate::auth::{Identity, Scope};
use crate::cursor::{Cursor, Last};
use crate::error::Problem;
use crate::listing::EVENTS;
use crate::listing::query;
use crate::operation::{Answer, Component, Field, Operation, Shape};
use crate::parameters::{COUNT, CURSOR, ID, LIMIT, LIMIT_OR_NONE};
use crate::question::{APPLICATION, AS_OF, FROM, Q, Question, STALE, TO};
use crate::routes::json;
use crate::state::AppState;
use crate::view::{self, View, Wanted, event_json, write_events};
use crate::wire::{EVENT, write_number, write_string, write_time, write_uuid};

/// Events that are looked through at once for sessions.
const LOOKED_THROUGH: usize = 1000;

/// What [`list`] takes and answers.
pub(crate) static LIST: Operation = Operation::reads("Sessions, newest last event first")
    .query(&[
        Q.about("What must hold of an event of the session."),
        FROM.about("An event from then on."),
        TO.about("An event before then."),
        APPLICATION,
        AS_OF,
        STALE,
        LIMIT_OR_NONE,
        CURSOR,
        COUNT.about("`true` counts all of them."),
    ])
    .answers(&[Answer::json(
        200,
        "A page of sessions",
        Shape::Framed(&[
            Field::list("sessions", &Shape::Of(&SESSION)),
            Field::whole("count").optional(),
            Field::text("next").or_null(),
        ]),
    )]);

/// Answers `GET /sessions`: newest last event first.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let mut parameters = LIST.parameters(query.as_deref())?;
    let cursor = Cursor::resume("sessions", &mut parameters, state.store_id())?;
    let mut question = Question::of(&state, scope, &parameters)?;
    question.wanted = question.wanted.of_both();
    if let Some(cursor) = &cursor {
        (question.from, question.to) = (cursor.from, cursor.to);
    }
    let limit = parameters.limit(0)?;
    let counted = parameters.boolean("count")?;
    let body = view::read(&state, question.wanted, move |state, view| {
        let after = cursor.and_then(|cursor| cursor.last.place());
        let filtered = parameters.text("q").is_some_and(|q| !q.trim().is_empty())
            || question.from.is_some()
            || question.to.is_some();
        let (mut count, mut page) = (0, Vec::new());
        if !question.nothing {
            let request = question.request(view.as_of);
            if filtered {
                let all = state.index().sessions_of(&request)?;
                count = all.len() as u64;
                page = sorted(state, all, after, limit + 1, view)?;
            } else {
                page = newest(state, &request, after, limit + 1, view)?;
                if counted {
                    let options = FacetOptions {
                        size: 0,
                        times: false,
                    };
                    let (_, figures) =
                        state
                            .index()
                            .facets(&request, &[FieldColumns::Session], options)?;
                    count = figures.first().map_or(0, |figures| figures.distinct);
                }
            }
        }
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| more).map(|(_, place)| {
            let last = Last::Event(place.session, place.timestamp, place.offset);
            Cursor {
                list: "sessions".to_owned(),
                parameters: Cursor::kept(&parameters),
                as_of: view.as_of,
                from: question.from,
                to: question.to,
                count: counted,
                last,
            }
            .encode(state.store_id())
        });
        let mut out = b"{\"sessions\":[".to_vec();
        for (at, (session, _)) in page.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_session(&mut out, state, session, view.as_of)?;
        }
        out.push(b']');
        view.write_frame(&mut out, next.as_deref());
        if counted {
            out.extend_from_slice(b",\"count\":");
            write_number(&mut out, count);
        }
        out.push(b'}');
        Ok(out)
    })
    .await?;
    Ok(json(StatusCode::OK, body))
}

/// A session, and its last event, by which it stands in the list.
type Row = (SessionSummary, Place);

fn row(state: &AppState, id: Uuid, as_of: Offset) -> Result<Option<Row>, Problem> {
    let Some(session) = state
        .index()
        .session(id, as_of)?
        .filter(|session| session.count > 0)
    else {
        return Ok(None);
    };
    let last = state.index().session_events(id, as_of)?.last().copied();
    Ok(last.map(|last| (session, last)))
}

/// Sessions, by their last events; ties by offset. Blocks.
fn sorted(
    state: &AppState,
    ids: Vec<Uuid>,
    after: Option<Place>,
    most: usize,
    view: View,
) -> Result<Vec<Row>, Problem> {
    let mut rows: Vec<Row> = Vec::new();
    let place = |place: &Place| (place.timestamp, place.offset);
    for id in ids {
        rows.extend(row(state, id, view.as_of)?);
    }
    if let Some(after) = after {
        rows.retain(|(_, last)| place(last) < place(&after));
    }
    rows.sort_unstable_by_key(|(_, last)| std::cmp::Reverse(place(last)));
    rows.truncate(most);
    Ok(rows)
}

/// Walks the events from the newest on: where one is the last of its session, the session's turn has come. Blocks.
fn newest(
    state: &AppState,
    request: &SearchRequest,
    mut after: Option<Place>,
    most: usize,
    view: View,
) -> Result<Vec<Row>, Problem> {
    let mut rows = Vec::new();
    let mut passed = HashSet::new();
    while rows.len() < most {
        let page = SearchRequest {
            after,
            limit: LOOKED_THROUGH,
            ..request.clone()
        };
        let found = state.index().search(&page)?;
        for hit in &found.hits {
            let session = state.index().session_of(hit.offset);
            let Some(id) = session.filter(|session| passed.insert(*session)) else {
                continue;
            };
            // One whose last event is newer was on an earlier page.
            if let Some((session, last)) = row(state, id, view.as_of)?
                && last.offset == hit.offset
            {
                rows.push((session, last));
                if rows.len() == most {
                    return Ok(rows);
                }
            }
        }
        after = found.hits.last().copied();
        if !found.more {
            break;
        }
    }
    Ok(rows)
}

/// What [`one`] takes and answers.
pub(crate) static ONE: Operation = Operation::reads("One session")
    .path(&[ID])
    .query(&[AS_OF, STALE])
    .answers(&[Answer::json(200, "The session.", Shape::Of(&SESSION_NOW))]);

/// Answers `GET /sessions/{id}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = ONE.parameters(query.as_deref())?;
    // Its categories are counted by the search index.
    let wanted = Wanted::of(&state, &parameters, Needs::Both)?;
    let id = session_id(id)?;
    let body = view::read(&state, wanted, move |state, view| {
        session_json(state, scope, id, view)
    })
    .await?;
    Ok(json(StatusCode::OK, body))
}

/// What [`events`] takes and answers.
pub(crate) static EVENTS_OF: Operation =
    Operation::reads("A session's events in the order they occurred")
        .path(&[ID])
        .query(&[LIMIT, CURSOR, AS_OF, STALE])
        .answers(&[Answer::json(200, "A page of events.", Shape::Of(&EVENTS))]);

/// Answers `GET /sessions/{id}/events`.
pub(crate) async fn events(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let mut parameters = EVENTS_OF.parameters(query.as_deref())?;
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

fn session_id(id: Result<Path<String>, PathRejection>) -> Result<Uuid, Problem> {
    id.ok()
        .and_then(|Path(id)| Uuid::try_parse(&id).ok())
        .ok_or_else(|| Problem::not_found("A session of this id"))
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

const FIELDS: [Field; 9] = [
    Field::uuid("id"),
    Field::text("application"),
    Field::time("first"),
    Field::time("last"),
    Field::whole("duration_ms"),
    Field::whole("count"),
    Field::new("categories", Shape::ByName(&Shape::Whole)),
    Field::of("entry", &EVENT),
    Field::of("exit", &EVENT),
];
/// A session in a list.
pub(crate) static SESSION: Component = Component::object("Session", &FIELDS);

/// A session by itself.
pub(crate) static SESSION_NOW: Component = Component::new("SessionNow", "", Shape::Framed(&FIELDS));

/// Writes a session with its first and last event. Blocks.
pub(crate) fn write_session(
    out: &mut Vec<u8>,
    state: &AppState,
    session: &SessionSummary,
    as_of: Offset,
) -> Result<(), Problem> {
    let hits = state.index().session_events(session.id, as_of)?;
    let edges: Vec<Offset> = [hits.first(), hits.last()]
        .into_iter()
        .flatten()
        .map(|hit| hit.offset)
        .collect();
    let events = state.reader().read_many(&edges)?;
    let [Some(entry), Some(exit)] = events.as_slice() else {
        return Err(Problem::not_found("A session of this id"));
    };
    let registry = state.log().registry();
    let application = registry
        .application(session.application)
        .map_or("", |application| &application.name);
    out.extend_from_slice(b"{\"id\":\"");
    write_uuid(out, session.id);
    out.extend_from_slice(b"\",\"application\":");
    write_string(out, application);
    out.extend_from_slice(b",\"first\":");
    write_time(out, session.first);
    out.extend_from_slice(b",\"last\":");
    write_time(out, session.last);
    out.extend_from_slice(b",\"duration_ms\":");
    write_number(
        out,
        (session.last - session.first).max(0).unsigned_abs() / 1000,
    );
    out.extend_from_slice(b",\"count\":");
    write_number(out, session.count);
    out.extend_from_slice(b",\"categories\":{");
    for (at, (category, count)) in categories(state, session, as_of)?.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, category);
        out.push(b':');
        write_number(out, *count);
    }
    out.extend_from_slice(b"},\"entry\":");
    out.extend_from_slice(&event_json(state, entry));
    out.extend_from_slice(b",\"exit\":");
    out.extend_from_slice(&event_json(state, exit));
    out.push(b'}');
    Ok(())
}

/// Counts a session's events by category, without reading them.
fn categories(
    state: &AppState,
    session: &SessionSummary,
    as_of: Offset,
) -> Result<BTreeMap<String, u64>, Problem> {
    let request = SearchRequest {
        query: query(None)?,
        registry: state.log().registry(),
        application: None,
        from: None,
        to: None,
        category: None,
        name: None,
        session: Some(session.id),
        as_of,
        order: Order::NewestFirst,
        after: None,
        limit: 1,
        deadline: Some(Instant::now() + state.settings().query_deadline),
    };
    let options = FacetOptions {
        size: usize::MAX,
        times: false,
    };
    let (_, figures) =
        state
            .index()
            .facets(&request, &[FieldColumns::Label("category")], options)?;
    let values = figures.into_iter().flat_map(|figures| figures.values);
    Ok(values
        .filter_map(|(value, count)| match value {
            FacetValue::Text(category) => Some((category, count)),
            _ => None,
        })
        .collect())
}

fn session_json(state: &AppState, scope: Scope, id: Uuid, view: View) -> Result<Vec<u8>, Problem> {
    let session = find(state, scope, id, view)?;
    let mut out = Vec::new();
    write_session(&mut out, state, &session, view.as_of)?;
    out.pop();
    view.write_end(&mut out);
    Ok(out)
}
