//! `/facets` and `/fields`: which values fields have, and which fields there are.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use eye_index::search::facets::{FacetOptions, FacetValue, FieldColumns, FieldFigures, TYPES};
use eye_log::{Offset, format_timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::auth::Identity;
use crate::error::Problem;
use crate::operation::{Answer, Field, Operation, Shape};
use crate::question::{QUESTION, Question};
use crate::routes::json as answer;
use crate::state::AppState;
use crate::view::{self, View};

/// Values of a field where nobody said how many, and at most.
const SIZE: usize = 10;
const SIZE_MAX: usize = 1000;
/// Fields that one request may name.
const NAMED_MAX: usize = 50;
/// Values that are shown as examples of a field.
const EXAMPLES: usize = 5;

/// What [`facets`] takes and answers.
pub(crate) static FACETS: Operation =
    Operation::reads("The most frequent values of fields, over all matches")
        .shares(&QUESTION)
        .query(&[
            Field::new("field", Shape::ListOf(&Shape::Text, 0, NAMED_MAX))
                .optional()
                .about("May be repeated, 50 times; without it every field of data is counted."),
            Field::new("size", Shape::Between(1, SIZE_MAX as i64))
                .optional()
                .about("Values of each field; 10 where it is not given."),
        ])
        .answers(&[Answer::json(
            200,
            "The fields in the order named",
            Shape::Framed(&[
                Field::whole("total"),
                Field::list(
                    "fields",
                    &Shape::Object(&[
                        Field::text("field"),
                        Field::whole("present"),
                        Field::whole("missing"),
                        Field::whole("distinct"),
                        Field::boolean("distinct_exact"),
                        Field::list(
                            "values",
                            &Shape::Object(&[
                                Field::new("value", Shape::Any(&["string", "number", "boolean"])),
                                Field::whole("count"),
                            ]),
                        ),
                        Field::whole("other"),
                    ]),
                ),
            ]),
        )]);

/// Answers `GET /facets`: the most frequent values of the fields named, or of every field, over all matches.
pub(crate) async fn facets(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let (parameters, named) = FACETS.parameters_with_list(query.as_deref(), "field")?;
    let size = match parameters.text("size") {
        None => SIZE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|size| (1..=SIZE_MAX).contains(size))
            .ok_or_else(|| {
                Problem::parameter("size", format!("must be a number from 1 to {SIZE_MAX}."))
            })?,
    };
    if named.len() > NAMED_MAX {
        return Err(Problem::parameter(
            "field",
            format!("may be given {NAMED_MAX} times; without it, every field is counted."),
        ));
    }
    let question = Question::of(&state, scope, &parameters)?;
    let columns = named
        .iter()
        .map(|name| columns(&question, "field", name))
        .collect::<Result<Vec<_>, _>>()?;
    let body = view::read(&state, question.wanted, move |state, view| {
        let options = FacetOptions { size, times: false };
        let (total, fields) = if named.is_empty() {
            everything(state, &question, view, "", options)?
        } else {
            let request = question.request(view.as_of);
            let (total, figures) = if question.nothing {
                (0, columns.iter().map(|_| none()).collect())
            } else {
                state.index().facets(&request, &columns, options)?
            };
            (total, named.into_iter().zip(figures).collect())
        };
        let fields: Vec<Value> = fields
            .iter()
            .map(|(name, figures)| {
                json!({
                    "field": name, "present": figures.present, "missing": figures.missing, "distinct": figures.distinct,
                    "distinct_exact": figures.distinct_exact, "values": values(figures), "other": figures.other,
                })
            })
            .collect();
        Ok(framed(view, json!({"total": total, "fields": fields})))
    })
    .await?;
    Ok(answer(StatusCode::OK, body))
}

/// What [`fields`] takes and answers.
pub(crate) static FIELDS: Operation = Operation::reads("Every path of data, by name")
    .shares(&QUESTION)
    .query(&[Field::text("prefix")
        .optional()
        .about("Only paths that begin so, for completion.")])
    .answers(&[Answer::json(
        200,
        "The fields, by name",
        Shape::Framed(&[
            Field::whole("total"),
            Field::list(
                "fields",
                &Shape::Object(&[
                    Field::text("field"),
                    Field::new(
                        "types",
                        Shape::Object(&[
                            Field::whole("string").optional(),
                            Field::whole("number").optional(),
                            Field::whole("boolean").optional(),
                            Field::whole("null").optional(),
                        ]),
                    ),
                    Field::number("share"),
                    Field::time("first_seen").or_null(),
                    Field::time("last_seen").or_null(),
                    Field::whole("distinct"),
                    Field::boolean("distinct_exact"),
                    Field::list("examples", &Shape::Any(&["string", "number", "boolean"])),
                ]),
            ),
        ]),
    )]);

/// Answers `GET /fields`: every path of `data`, with its types, how many events have it, and examples.
pub(crate) async fn fields(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = FIELDS.parameters(query.as_deref())?;
    let question = Question::of(&state, scope, &parameters)?;
    let prefix = parameters.text("prefix").unwrap_or_default().to_owned();
    let prefix = prefix.strip_prefix("data.").unwrap_or(&prefix).to_owned();
    let body = view::read(&state, question.wanted, move |state, view| {
        let options = FacetOptions {
            size: EXAMPLES,
            times: true,
        };
        let (total, fields) = everything(state, &question, view, &prefix, options)?;
        let fields: Vec<Value> = fields
            .iter()
            .map(|(name, figures)| {
                let (first, last) = figures.seen.unzip();
                let types: Map<String, Value> = TYPES
                    .iter()
                    .zip(figures.types)
                    .filter(|(_, count)| *count > 0)
                    .map(|(name, count)| ((*name).to_owned(), json!(count)))
                    .collect();
                let examples: Vec<Value> =
                    figures.values.iter().map(|(value, _)| written(value)).collect();
                json!({
                    "field": name, "types": types, "share": share(figures.present, total),
                    "first_seen": first.map(format_timestamp), "last_seen": last.map(format_timestamp),
                    "distinct": figures.distinct, "distinct_exact": figures.distinct_exact, "examples": examples,
                })
            })
            .collect();
        Ok(framed(view, json!({"total": total, "fields": fields})))
    })
    .await?;
    Ok(answer(StatusCode::OK, body))
}

/// Returns the columns of a field that a parameter names.
pub(crate) fn columns(
    question: &Question,
    parameter: &str,
    name: &str,
) -> Result<FieldColumns, Problem> {
    FieldColumns::named(name, &question.registry).ok_or_else(|| {
        Problem::parameter(
            parameter,
            format!(
                "{name} is another one for every event; name category, name, application, session_id or a path in data."
            ),
        )
    })
}

/// Counts every field of `data` that a match has, by name. Blocks.
fn everything(
    state: &AppState,
    question: &Question,
    view: View,
    prefix: &str,
    options: FacetOptions,
) -> Result<(u64, Vec<(String, FieldFigures)>), Problem> {
    if question.nothing {
        return Ok((0, Vec::new()));
    }
    let request = question.request(view.as_of);
    let names = state.index().paths(&request, prefix)?;
    let columns: Vec<FieldColumns> = names.iter().cloned().map(FieldColumns::Data).collect();
    let (total, figures) = state.index().facets(&request, &columns, options)?;
    let named =
        names.into_iter().map(
            |name| match FieldColumns::named(&name, &question.registry) {
                Some(FieldColumns::Data(_)) => name,
                // Spelt like a field of every event.
                _ => format!("data.{name}"),
            },
        );
    // Other applications' fields have no match here.
    let there = named
        .zip(figures)
        .filter(|(_, figures)| figures.types.iter().any(|count| *count > 0));
    Ok((total, there.collect()))
}

fn none() -> FieldFigures {
    FieldFigures {
        present: 0,
        missing: 0,
        distinct: 0,
        distinct_exact: true,
        values: Vec::new(),
        other: 0,
        types: [0; 4],
        seen: None,
    }
}

fn values(figures: &FieldFigures) -> Vec<Value> {
    let row = |(value, count): &(FacetValue, u64)| json!({"value": written(value), "count": count});
    figures.values.iter().map(row).collect()
}

/// Returns a value as JSON. A number beyond the range of doubles, which many readers of JSON refuse, is a string.
pub(crate) fn written(value: &FacetValue) -> Value {
    match value {
        FacetValue::Null => Value::Null,
        FacetValue::Bool(value) => json!(value),
        FacetValue::Integer(value) => i64::try_from(*value)
            .map(|value| json!(value))
            .or_else(|_| u64::try_from(*value).map(|value| json!(value)))
            .unwrap_or_else(|_| json!(value.to_string())),
        FacetValue::Double(value) => {
            let value = value.value();
            serde_json::Number::from_f64(value)
                .map_or_else(|| json!(value.to_string()), Value::Number)
        }
        FacetValue::Text(text) => json!(text),
    }
}

/// Returns which part of `all` that is, to four digits.
fn share(part: u64, all: u64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "it is rounded anyway")]
    let share = part as f64 / all as f64;
    (share * 10_000.0).round() / 10_000.0
}

/// Returns `{…, "as_of", "indexed_through", "exact"}`.
pub(crate) fn framed(view: View, body: impl Serialize) -> String {
    #[derive(Serialize)]
    struct Framed<B> {
        #[serde(flatten)]
        body: B,
        as_of: Offset,
        indexed_through: Offset,
        exact: bool,
    }
    let framed = Framed {
        body,
        as_of: view.as_of,
        indexed_through: view.through,
        exact: view.exact,
    };
    serde_json::to_string(&framed).expect("figures always encode")
}
