//! `/funnel` and `/sequences`: what happens in sessions, one step behind the other.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use eye_index::SearchRequest;
use eye_index::search::chain::{Chain, chain, sequence};
use eye_index::search::facets::{FacetValue, FieldColumns};
use eye_index::search::parse::parse;
use eye_index::search::query::Clause;
use eye_index::search::steps::{StepEvent, StepEvents};
use eye_log::Offset;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::auth::{Identity, Scope};
use crate::cursor::{Cursor, Last};
use crate::error::Problem;
use crate::operation::{Answer, Component, Field, Operation, Shape};
use crate::parameters::{CURSOR, LIMIT, Parameters, duration};
use crate::question::{APPLICATION, AS_OF, FROM, Question, STALE, TO};
use crate::routes::facets::{columns, framed, written};
use crate::routes::json as answer;
use crate::routes::sessions::SESSION;
use crate::routes::sessions::write_session;
use crate::state::AppState;
use crate::view::{self, View, event_json};
use crate::wire::{EVENT, Object, write_number, write_uuid};

const STEPS_LEAST: usize = 2;
const STEPS_MAX: usize = 20;
/// Values that a funnel is broken down by.
const BY_MAX: usize = 20;

/// The figures of a step.
pub(crate) static FUNNEL_STEP: Component = Component::new(
    "FunnelStep",
    "`median_ms` is the time from the step before; `dropped` got here and no further.",
    Shape::Object(&[
        Field::whole("index"),
        Field::text("q"),
        Field::whole("count"),
        Field::number("of_first"),
        Field::number("of_previous"),
        Field::whole("dropped"),
        Field::whole("median_ms").or_null(),
    ]),
);

/// A funnel somebody asked for.
struct Funnel {
    question: Question,
    texts: Vec<String>,
    steps: Vec<Clause>,
    within: i64,
    unit: Option<FieldColumns>,
    by: Option<FieldColumns>,
}

const STEPS: Field = Field::new("steps", Shape::ListOf(&Shape::Text, STEPS_LEAST, STEPS_MAX))
    .about("A query for each step, in their order.");
const WITHIN: Field =
    Field::text("within").about("From the first step on: a number with one of ms s m h d w.");
/// What all of these take.
const SHARED: [Field; 6] = [FROM, TO, APPLICATION, AS_OF, STALE, WITHIN];
const UNIT: Field = Field::text("unit")
    .optional()
    .about("session, or a field whose values are units.");
const BY: Field = Field::text("by")
    .optional()
    .about("A field of the first step by which everything is broken down.");

impl Funnel {
    fn of(state: &AppState, scope: Scope, body: &Object) -> Result<Self, Problem> {
        let texts: Vec<String> = body
            .texts("steps")?
            .unwrap_or_default()
            .into_iter()
            .map(str::to_owned)
            .collect();
        if !(STEPS_LEAST..=STEPS_MAX).contains(&texts.len()) {
            return Err(Problem::parameter(
                "steps",
                format!("must list {STEPS_LEAST} to {STEPS_MAX} queries, in their order."),
            ));
        }
        let steps = texts
            .iter()
            .enumerate()
            .map(|(place, text)| step(&format!("steps[{place}]"), text))
            .collect::<Result<_, _>>()?;
        let (question, within) = question_of(state, scope, body)?;
        let unit = match body.text("unit")? {
            None | Some("session") => None,
            Some(name) => Some(columns(&question, "unit", name)?),
        };
        let by = body
            .text("by")?
            .map(|name| columns(&question, "by", name))
            .transpose()?;
        Ok(Self {
            question,
            texts,
            steps,
            within,
            unit,
            by,
        })
    }

    /// Finds every unit's way through the steps, by unit. Blocks.
    fn chains(&self, state: &AppState, view: View) -> Result<(Vec<Chain>, StepEvents), Problem> {
        let events = gathered(
            state,
            &self.question,
            view,
            &self.steps,
            self.unit.as_ref(),
            self.within,
        )?;
        let begins = |event: &StepEvent| is_within(&self.question, event);
        let chains = events
            .units()
            .filter_map(|unit| chain(unit, self.steps.len(), self.within, begins))
            .collect();
        Ok((chains, events))
    }

    /// Returns the values of the field that the funnel is broken down by, of each chain's first event. Blocks.
    fn values(
        &self,
        state: &AppState,
        view: View,
        by: &FieldColumns,
        chains: &[Chain],
    ) -> Result<Vec<Vec<FacetValue>>, Problem> {
        let offsets: Vec<Offset> = chains.iter().map(|chain| chain.events[0].offset).collect();
        let request = self.question.request(view.as_of);
        Ok(state.index().values_at(&request, by, &offsets)?)
    }

    fn figures(&self, chains: &[&Chain]) -> Vec<Value> {
        let count = |step: usize| {
            chains
                .iter()
                .filter(|chain| chain.events.len() > step)
                .count()
        };
        let first = count(0);
        (0..self.steps.len())
            .map(|step| {
                let reached = count(step);
                let previous = if step == 0 { reached } else { count(step - 1) };
                let next = if step + 1 == self.steps.len() { reached } else { count(step + 1) };
                let mut times: Vec<i64> = chains
                    .iter()
                    .filter(|chain| step > 0 && chain.events.len() > step)
                    .map(|chain| chain.events[step].timestamp - chain.events[step - 1].timestamp)
                    .collect();
                json!({
                    "index": step, "q": self.texts[step], "count": reached, "of_first": rate(reached, first),
                    "of_previous": rate(reached, previous), "dropped": reached - next, "median_ms": median_ms(&mut times),
                })
            })
            .collect()
    }
}

/// What [`funnel`] takes and answers.
pub(crate) static FUNNEL: Operation =
    Operation::reads("How many sessions take some steps in their order")
        .shares(&SHARED)
        .fields(&[STEPS, UNIT, BY])
        .answers(&[Answer::json(
            200,
            "Each step",
            Shape::Framed(&[
                Field::whole("sessions"),
                Field::list("steps", &Shape::Of(&FUNNEL_STEP)),
                Field::list(
                    "by",
                    &Shape::Object(&[
                        Field::new("value", Shape::Any(&["string", "number", "boolean"])).or_null(),
                        Field::list("steps", &Shape::Of(&FUNNEL_STEP)),
                    ]),
                )
                .optional(),
                Field::whole("other_values")
                    .optional()
                    .about("So many other values are left out."),
            ]),
        )]);

/// Answers `POST /funnel`.
pub(crate) async fn funnel(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    FUNNEL.parameters(query.as_deref())?;
    let body = FUNNEL.object(&state, body).await?;
    let funnel = Funnel::of(&state, scope, &body)?;
    let body = view::read(&state, funnel.question.wanted, move |state, view| {
        let (chains, _) = funnel.chains(state, view)?;
        let all: Vec<&Chain> = chains.iter().collect();
        let mut fields = json!({"sessions": chains.len(), "steps": funnel.figures(&all)});
        if let Some(by) = &funnel.by {
            let values = funnel.values(state, view, by, &chains)?;
            let mut of_value: HashMap<FacetValue, Vec<&Chain>> = HashMap::new();
            for (chain, values) in chains.iter().zip(values) {
                // An event without a value is one more group.
                let values = if values.is_empty() { vec![FacetValue::Null] } else { values };
                for value in values {
                    of_value.entry(value).or_default().push(chain);
                }
            }
            let mut groups: Vec<_> = of_value.into_iter().collect();
            groups.sort_unstable_by(|a, b| (b.1.len(), &a.0).cmp(&(a.1.len(), &b.0)));
            let rest = groups.len().saturating_sub(BY_MAX);
            groups.truncate(BY_MAX);
            let groups: Vec<Value> = groups
                .iter()
                .map(|(value, chains)| json!({"value": written(value), "steps": funnel.figures(chains)}))
                .collect();
            fields["by"] = json!(groups);
            fields["other_values"] = json!(rest);
        }
        Ok(framed(view, fields))
    })
    .await?;
    Ok(answer(StatusCode::OK, body))
}

/// What [`sessions`] takes and answers.
pub(crate) static SESSIONS: Operation = Operation::reads("The sessions behind a bar of a funnel")
    .shares(&SHARED)
    .fields(&[
        STEPS,
        UNIT,
        BY,
        Field::new("step", Shape::From(0)),
        Field::one_of("outcome", &["reached", "dropped"]),
        Field::new("by_value", Shape::Any(&["string", "number", "boolean"])).optional(),
        LIMIT,
        CURSOR,
    ])
    .answers(&[Answer::json(
        200,
        "By their first steps",
        Shape::Page("sessions", &Shape::Of(&SESSION)),
    )]);

/// Answers `POST /funnel/sessions`: the sessions behind a bar.
pub(crate) async fn sessions(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    SESSIONS.parameters(query.as_deref())?;
    let mut body = SESSIONS.object(&state, body).await?;
    let page = Page::take(&state, "funnel", &mut body)?;
    let funnel = Funnel::of(&state, scope, &body)?;
    if funnel.unit.is_some() {
        return Err(Problem::parameter(
            "unit",
            "Only a funnel of sessions has sessions behind its bars; leave it out.",
        ));
    }
    let last = funnel.steps.len() - 1;
    let step = match body.number("step", 0)?.flatten() {
        Some(step) => usize::try_from(step).unwrap_or(usize::MAX),
        None => return Err(Problem::parameter("step", "This field is required.")),
    };
    if step > last {
        return Err(Problem::parameter(
            "step",
            format!("must be a step, 0 to {last}."),
        ));
    }
    let dropped = match body.text("outcome")? {
        Some("reached") => false,
        Some("dropped") => true,
        _ => return Err(Problem::parameter("outcome", "must be reached or dropped.")),
    };
    let by_value = body.value("by_value").cloned();
    if by_value.is_some() && funnel.by.is_none() {
        return Err(Problem::parameter(
            "by_value",
            "needs `by`, the field that has it.",
        ));
    }
    let body = view::read(
        &state,
        page.wanted(funnel.question.wanted).of_both(),
        move |state, view| {
            let (mut chains, _) = funnel.chains(state, view)?;
            if let (Some(by), Some(wanted)) = (&funnel.by, &by_value) {
                let values = funnel.values(state, view, by, &chains)?;
                let has = |values: &[FacetValue]| match wanted {
                    Value::Null => values.is_empty(),
                    wanted => values.iter().any(|value| written(value) == *wanted),
                };
                let mut keep = values.iter().map(|values| has(values));
                chains.retain(|_| keep.next().unwrap_or(false));
            }
            chains.retain(|chain| {
                let reached = chain.events.len() - 1;
                if dropped {
                    reached == step && step < last
                } else {
                    reached >= step
                }
            });
            let (rows, next) = page.cut(state, view, chains, |chain| chain.events[0]);
            let mut out = b"{\"sessions\":[".to_vec();
            for (at, chain) in rows.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                let id = Uuid::from_u128(chain.events[0].unit);
                let session = state.index().session(id, view.as_of)?;
                let session = session.ok_or_else(|| view.missing("A session of the funnel"))?;
                write_session(&mut out, state, &session, view.as_of)?;
            }
            out.push(b']');
            view.write_frame(&mut out, next.as_deref());
            out.push(b'}');
            Ok(out)
        },
    )
    .await?;
    Ok(answer(StatusCode::OK, body))
}

/// What [`sequences`] takes and answers.
pub(crate) static SEQUENCES: Operation =
    Operation::reads("Sessions that had one thing, then another, and perhaps not a third between")
        .shares(&SHARED)
        .fields(&[
            Field::text("first"),
            Field::text("then"),
            Field::text("without").optional(),
            LIMIT,
            CURSOR,
        ])
        .answers(&[Answer::json(
            200,
            "The earliest pair of each session",
            Shape::Framed(&[
                Field::whole("count"),
                Field::list(
                    "matches",
                    &Shape::Object(&[
                        Field::uuid("session"),
                        Field::of("first", &EVENT),
                        Field::of("then", &EVENT),
                        Field::whole("gap_ms"),
                    ]),
                ),
                Field::text("next").or_null(),
            ]),
        )]);

/// Answers `POST /sequences`: sessions that had one thing, then another, and perhaps not a third between.
pub(crate) async fn sequences(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    SEQUENCES.parameters(query.as_deref())?;
    let mut body = SEQUENCES.object(&state, body).await?;
    let page = Page::take(&state, "sequences", &mut body)?;
    let mut steps = Vec::new();
    for name in ["first", "then"] {
        let text = body
            .text(name)?
            .ok_or_else(|| Problem::parameter(name, "This field is required."))?;
        steps.push(step(name, text)?);
    }
    if let Some(text) = body.text("without")? {
        steps.push(step("without", text)?);
    }
    let (question, within) = question_of(&state, scope, &body)?;
    let body = view::read(&state, page.wanted(question.wanted), move |state, view| {
        let events = gathered(state, &question, view, &steps, None, within)?;
        let begins = |event: &StepEvent| is_within(&question, event);
        let pairs: Vec<(StepEvent, StepEvent)> = events
            .units()
            .filter_map(|unit| sequence(unit, within, begins))
            .collect();
        let count = pairs.len() as u64;
        let (rows, next) = page.cut(state, view, pairs, |pair| pair.0);
        let mut out = b"{\"count\":".to_vec();
        write_number(&mut out, count);
        out.extend_from_slice(b",\"matches\":[");
        let mut first_row = true;
        for (first, then) in rows {
            let events = state.reader().read_many(&[first.offset, then.offset])?;
            let [Some(one), Some(two)] = events.as_slice() else {
                // Erased a moment ago.
                continue;
            };
            if !std::mem::take(&mut first_row) {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"session\":\"");
            write_uuid(&mut out, Uuid::from_u128(first.unit));
            out.extend_from_slice(b"\",\"first\":");
            out.extend_from_slice(&event_json(state, one));
            out.extend_from_slice(b",\"then\":");
            out.extend_from_slice(&event_json(state, two));
            out.extend_from_slice(b",\"gap_ms\":");
            write_number(
                &mut out,
                (then.timestamp - first.timestamp).max(0).unsigned_abs() / 1000,
            );
            out.push(b'}');
        }
        out.push(b']');
        view.write_frame(&mut out, next.as_deref());
        out.push(b'}');
        Ok(out)
    })
    .await?;
    Ok(answer(StatusCode::OK, body))
}

/// A page of what is found anew for every page, the same each time.
struct Page {
    list: &'static str,
    parameters: Parameters,
    cursor: Option<Cursor>,
    limit: usize,
}

impl Page {
    /// Takes `limit` and `cursor` out of a body. A cursor brings the state it was made in; the rest of the body has to come again.
    fn take(state: &AppState, list: &'static str, body: &mut Object) -> Result<Self, Problem> {
        let mut fields = Map::new();
        let mut kept = Map::new();
        for (name, value) in body.fields() {
            match name.as_str() {
                "limit" | "cursor" | "as_of" | "stale" => {
                    drop(fields.insert(name.clone(), value.clone()))
                }
                // Compared as text, so that a cursor of another question is known.
                _ => drop(kept.insert(name.clone(), value.clone())),
            }
        }
        fields.insert(
            "body".to_owned(),
            Value::String(Value::Object(kept).to_string()),
        );
        let mut parameters = Parameters::from_fields(fields)?;
        let cursor = Cursor::resume(list, &mut parameters, state.store_id())?;
        if let Some(cursor) = &cursor {
            body.put("as_of", json!(cursor.as_of));
        }
        Ok(Self {
            list,
            limit: parameters.limit(1)?,
            parameters,
            cursor,
        })
    }

    fn wanted(&self, wanted: view::Wanted) -> view::Wanted {
        if self.cursor.is_some() {
            wanted.going_on()
        } else {
            wanted
        }
    }

    /// Cuts the page out of all rows, which stand by their first events.
    fn cut<R>(
        &self,
        state: &AppState,
        view: View,
        mut rows: Vec<R>,
        first: impl Fn(&R) -> StepEvent,
    ) -> (Vec<R>, Option<String>) {
        let key = |row: &R| {
            let first = first(row);
            (first.timestamp, first.offset)
        };
        rows.sort_unstable_by_key(key);
        if let Some(place) = self.cursor.as_ref().and_then(|cursor| cursor.last.place()) {
            rows.retain(|row| key(row) > (place.timestamp, place.offset));
        }
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows.last().filter(|_| more).map(|row| {
            let (timestamp, offset) = key(row);
            Cursor {
                list: self.list.to_owned(),
                parameters: Cursor::kept(&self.parameters),
                as_of: view.as_of,
                from: None,
                to: None,
                count: false,
                last: Last::Event(None, timestamp, offset),
            }
            .encode(state.store_id())
        });
        (rows, next)
    }
}

/// Reads a step's query; its mistakes are told under its own name.
fn step(name: &str, text: &str) -> Result<Clause, Problem> {
    parse(text).map_err(|errors| Problem::bad_query_in(name, &errors))
}

/// Reads what all of these have: which events, and within which time from the first.
fn question_of(state: &AppState, scope: Scope, body: &Object) -> Result<(Question, i64), Problem> {
    let within = body
        .text("within")?
        .ok_or_else(|| Problem::parameter("within", "This field is required."))?;
    let within = duration(within).ok_or_else(|| {
        Problem::parameter(
            "within",
            "must be a number with one of ms s m h d w, like 30m.",
        )
    })?;
    let mut fields = Map::new();
    for (name, value) in body.fields() {
        if SHARED
            .iter()
            .any(|field| field.name == name && name != WITHIN.name)
        {
            fields.insert(name.clone(), value.clone());
        }
    }
    let question = Question::of(state, scope, &Parameters::from_fields(fields)?)?;
    Ok((question, within))
}

/// Gathers the events of all steps. `from` and `to` bound the first one only, so later ones are looked for as long as the window
/// may last. Blocks.
fn gathered(
    state: &AppState,
    question: &Question,
    view: View,
    steps: &[Clause],
    unit: Option<&FieldColumns>,
    within: i64,
) -> Result<StepEvents, Problem> {
    if question.nothing {
        return Ok(StepEvents::default());
    }
    let request = SearchRequest {
        to: question.to.map(|to| to.saturating_add(within)),
        ..question.request(view.as_of)
    };
    Ok(state.index().steps(&request, steps, unit)?)
}

fn is_within(question: &Question, event: &StepEvent) -> bool {
    question.from.is_none_or(|from| event.timestamp >= from)
        && question.to.is_none_or(|to| event.timestamp < to)
}

/// Returns which part of `all` that is, to four digits.
fn rate(part: usize, all: usize) -> f64 {
    if all == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "it is rounded anyway")]
    let rate = part as f64 / all as f64;
    (rate * 10_000.0).round() / 10_000.0
}

/// Returns the median of times in microseconds, in milliseconds; of an even number the mean of the two in the middle.
fn median_ms(times: &mut [i64]) -> Option<i64> {
    if times.is_empty() {
        return None;
    }
    times.sort_unstable();
    let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
    Some((low + (high - low) / 2) / 1000)
}
