//! A page of events that somebody asked for, by `GET /events` or by search: read from parameters, answered as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use eye_index::search::marks::{Span, highlights};
use eye_index::search::parse::parse;
use eye_index::search::query::Clause;
use eye_index::{Needs, Order, Place, SearchRequest};
use eye_log::{ApplicationId, Offset, Registry, StoredEvent};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::Scope;
use crate::cursor::{Cursor, Last};
use crate::error::Problem;
use crate::explain::EXPLANATION;
use crate::operation::{Component, Field, Shape};
use crate::parameters::Parameters;
use crate::routes::search::aggregations::AGGREGATIONS;
use crate::state::AppState;
use crate::view::{View, Wanted, write_events_with};
use crate::wire::{EVENT, write_number, write_time};

/// How a list of events differs from others.
pub(crate) struct Kind {
    /// Its name in cursors, and what it has to be to take one.
    pub(crate) list: &'static str,
    /// The parameters that bound the time: inclusive, exclusive.
    pub(crate) times: (&'static str, &'static str),
    /// The orders it offers; the first where nobody said.
    pub(crate) orders: &'static [(&'static str, Order)],
    /// The smallest `limit`.
    pub(crate) limit_least: usize,
}

/// A page of events.
pub(crate) static EVENTS: Component = Component::object(
    "Events",
    &[
        Field::list("events", &Shape::Of(&EVENT)),
        Field::text("next").or_null(),
        Field::whole("as_of"),
        Field::whole("indexed_through"),
        Field::boolean("exact"),
        Field::whole("count").optional(),
        Field::text("from").optional().or_null(),
        Field::text("to").optional().or_null(),
        Field::whole("took_ms").optional(),
        Field::of("explain", &EXPLANATION).optional(),
        Field::of("aggs", &AGGREGATIONS).optional(),
        Field::whole("aggs_unseen")
            .optional()
            .about("Matches with values that the aggregations do not see, where there are any."),
    ],
);

/// A page somebody asked for.
pub(crate) struct Listing {
    pub(crate) wanted: Wanted,
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
    pub(crate) count: bool,
    list: &'static str,
    kept: BTreeMap<String, String>,
    query: Clause,
    registry: Arc<Registry>,
    deadline: Instant,
    application: Option<ApplicationId>,
    /// The filters name an application that is not there for this token: the list is empty.
    nothing: bool,
    category: Option<String>,
    name: Option<String>,
    session: Option<Uuid>,
    order: Order,
    after: Option<Place>,
    limit: usize,
}

impl Listing {
    /// Reads the parameters of a list.
    pub(crate) fn of(
        state: &AppState,
        scope: Scope,
        kind: &Kind,
        mut parameters: Parameters,
    ) -> Result<Self, Problem> {
        let cursor = Cursor::resume(kind.list, &mut parameters, state.store_id())?;
        let (now, zone) = (eye_log::now(), state.settings().default_timezone.0);
        let (from, to) = match &cursor {
            Some(cursor) => (cursor.from, cursor.to),
            None => (
                parameters.time(kind.times.0, now, zone)?,
                parameters.time(kind.times.1, now, zone)?,
            ),
        };
        let (application, nothing) = narrow(state, scope, parameters.text("application"));
        let order = order(kind, parameters.text("order"))?;
        Ok(Self {
            wanted: Wanted::of(state, &parameters, Needs::Search)?,
            from,
            to,
            count: parameters.boolean("count")?,
            list: kind.list,
            query: query(parameters.text("q"))?,
            registry: state.log().registry(),
            deadline: Instant::now() + state.settings().query_deadline,
            application,
            nothing,
            category: parameters.text("category").map(str::to_owned),
            name: parameters.text("name").map(str::to_owned),
            session: parameters.uuid("session_id")?,
            order,
            after: cursor.and_then(|cursor| cursor.last.place()),
            limit: parameters.limit(kind.limit_least)?,
            kept: Cursor::kept(&parameters),
        })
    }

    /// Returns whether nothing can match, since the filters name an application that is not there for this token.
    pub(crate) fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Returns what the index is asked.
    pub(crate) fn request(&self, as_of: Offset) -> SearchRequest {
        SearchRequest {
            query: self.query.clone(),
            registry: Arc::clone(&self.registry),
            deadline: Some(self.deadline),
            application: self.application,
            from: self.from,
            to: self.to,
            category: self.category.clone(),
            name: self.name.clone(),
            session: self.session,
            as_of,
            order: self.order,
            after: self.after,
            limit: self.limit,
        }
    }

    /// Writes `{"events":[…],"next":…,…,"count"?:…`, without the closing brace; with highlights where they are wanted. Blocks.
    pub(crate) fn write(
        &self,
        state: &AppState,
        view: View,
        highlight: bool,
    ) -> Result<Vec<u8>, Problem> {
        let mut out = b"{\"events\":[".to_vec();
        let mut next = None;
        if !self.nothing && self.limit > 0 {
            let request = self.request(view.as_of);
            let answer = state.index().search(&request)?;
            let offsets: Vec<Offset> = answer.hits.iter().map(|hit| hit.offset).collect();
            let mut more = |out: &mut Vec<u8>, place: usize, event: &StoredEvent| {
                if let Some(score) = answer.scores.get(place) {
                    out.extend_from_slice(format!(",\"score\":{score:.6}").as_bytes());
                }
                if highlight {
                    let spans = highlights(&self.query, event);
                    out.extend_from_slice(b",\"highlight\":");
                    out.extend_from_slice(shape_of(spans).to_string().as_bytes());
                }
            };
            write_events_with(&mut out, state, &offsets, &mut more)?;
            // Rows by score are the best ones, and there is no going on behind them.
            let goes_on = answer.more && self.order != Order::BestFirst;
            if let Some(last) = answer.hits.last().filter(|_| goes_on) {
                let last = Last::Event(last.session, last.timestamp, last.offset);
                next = Some(self.cursor(view, last).encode(state.store_id()));
            }
        }
        out.push(b']');
        view.write_frame(&mut out, next.as_deref());
        if self.count {
            // The whole list is counted, whichever page this is.
            let request = SearchRequest {
                after: None,
                ..self.request(view.as_of)
            };
            let count = if self.nothing {
                0
            } else {
                state.index().count(&request)?
            };
            out.extend_from_slice(b",\"count\":");
            write_number(&mut out, count);
        }
        Ok(out)
    }

    fn cursor(&self, view: View, last: Last) -> Cursor {
        Cursor {
            list: self.list.to_owned(),
            parameters: self.kept.clone(),
            as_of: view.as_of,
            from: self.from,
            to: self.to,
            count: self.count,
            last,
        }
    }

    /// Appends `,"from":…,"to":…` as they were resolved.
    pub(crate) fn write_times(&self, out: &mut Vec<u8>) {
        for (name, time) in [(&b",\"from\":"[..], self.from), (b",\"to\":", self.to)] {
            out.extend_from_slice(name);
            match time {
                Some(time) => write_time(out, time),
                None => out.extend_from_slice(b"null"),
            }
        }
    }
}

/// Returns highlights as `{path: [{"start", "end"}]}`.
fn shape_of(spans: BTreeMap<String, Vec<Span>>) -> Value {
    let each = |span: Span| json!({"start": span.start, "end": span.end});
    let shapes = spans.into_iter().map(|(path, spans)| {
        let spans: Vec<Value> = spans.into_iter().map(each).collect();
        (path, Value::Array(spans))
    });
    Value::Object(shapes.collect())
}

/// Returns the application to look in, and whether there is nothing to be seen there.
pub(crate) fn narrow(
    state: &AppState,
    scope: Scope,
    named: Option<&str>,
) -> (Option<ApplicationId>, bool) {
    let own = match scope {
        Scope::Everything => None,
        Scope::Own(own) => Some(own),
    };
    let Some(name) = named else {
        return (own, false);
    };
    let named = state
        .log()
        .registry()
        .application_named(name)
        .map(|application| application.id);
    match named {
        Some(named) if scope.sees(named) => (Some(named), false),
        _ => (own, true),
    }
}

/// Reads a `q`; none matches everything.
pub(crate) fn query(q: Option<&str>) -> Result<Clause, Problem> {
    parse(q.unwrap_or_default()).map_err(|errors| Problem::bad_query(&errors))
}

fn order(kind: &Kind, given: Option<&str>) -> Result<Order, Problem> {
    let Some(given) = given else {
        return Ok(kind.orders[0].1);
    };
    if let Some((_, order)) = kind.orders.iter().find(|(name, _)| *name == given) {
        return Ok(*order);
    }
    let names: Vec<&str> = kind.orders.iter().map(|(name, _)| *name).collect();
    let message = format!("must be one of {}.", names.join(" and "));
    Err(Problem::parameter("order", message))
}

/// Asks for every event, or every one of an application; one hit, the oldest.
pub(crate) fn every_event(
    state: &AppState,
    application: Option<ApplicationId>,
    as_of: Offset,
) -> Result<SearchRequest, Problem> {
    Ok(SearchRequest {
        deadline: Some(Instant::now() + state.settings().query_deadline),
        application,
        order: Order::OldestFirst,
        ..SearchRequest::new(query(None)?, state.log().registry(), as_of, 1)
    })
}
