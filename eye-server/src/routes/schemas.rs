//! `/schemas`: rules for the data of events, and trying one on those that are there. Admins only.

use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use eye_index::{Needs, Order, Place, SearchRequest};
use eye_log::event::LABEL_MAX_CHARS;
use eye_log::{Change, Changed, Registry, Rule, RuleMode, RuleTarget, format_timestamp};
use serde_json::{Value, json};

use crate::auth::Identity;
use crate::envelope::RequestId;
use crate::error::{FIELD_ERRORS, Problem};
use crate::listing::every_event;
use crate::operation::{Answer, Component, Field, Operation, Shape};
use crate::parameters::{CURSOR, LIMIT, Parameters};
use crate::question::APPLICATION;
use crate::registrar::{Page, change};
use crate::routes::applications::named;
use crate::routes::json as respond;
use crate::routes::tokens::{name_of, unexpected};
use crate::schemas::{SCHEMA_MAX_BYTES, Schema};
use crate::state::AppState;
use crate::view::{self, Wanted};
use crate::wire::Object;

/// How many events a schema is tried on where nothing is said, and at most.
const LAST: u64 = 1000;
const LAST_MAX: u64 = 10_000;
/// Events read at once.
const CHUNK: usize = 500;
/// So many events that break a schema are shown.
const EXAMPLES_MAX: usize = 10;

const OF_TYPE: [Field; 2] = [
    Field::text("category").about("The events' category, percent-encoded."),
    Field::text("name").about("The events' name, percent-encoded."),
];
const ITS_APPLICATION: Field = APPLICATION.about("The rule of this application only.");

/// A rule as it is answered.
pub(crate) static RULE: Component = Component::object(
    "Rule",
    &[
        Field::text("category"),
        Field::text("name"),
        Field::text("application")
            .or_null()
            .about("Null for every application that has no rule of its own for the type."),
        Field::one_of("mode", &["enforce", "warn"]),
        Field::of("schema", &JSON_SCHEMA),
        Field::whole("version").about("How often it was set since there was none."),
        Field::time("since"),
    ],
);

/// What is a schema.
pub(crate) static JSON_SCHEMA: Component = Component::new(
    "JsonSchema",
    "A JSON Schema (2020-12) for `data`, at most 64 KiB; it refers to nothing outside itself.",
    Shape::Any(&["object", "boolean"]),
);

type Named = Result<Path<(String, String)>, PathRejection>;

/// What [`list`] takes and answers.
pub(crate) static LIST: Operation = Operation::reads("List the rules for data")
    .query(&[LIMIT, CURSOR])
    .answers(&[Answer::json(
        200,
        "A page of rules.",
        Shape::Page("schemas", &Shape::Of(&RULE)),
    )]);

/// Answers `GET /schemas`: all of them, by category, name and application.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    let parameters = LIST.parameters(query.as_deref())?;
    let (page, _) = Page::of(&state, "schemas".to_owned(), parameters)?;
    let registry = state.log().registry();
    let rows = registry.rules().values().map(|rule| {
        let target = &rule.target;
        let application = target
            .application
            .map_or(0, |application| u64::from(application.0) + 1);
        let key = format!(
            "{}\u{1}{}\u{1}{application:010}",
            target.category, target.name
        );
        (key, shape(&registry, rule))
    });
    let (rows, last) = page.cut(rows.collect());
    Ok(page.answer(&state, "schemas", &rows, last))
}

/// What [`one`] takes and answers.
pub(crate) static ONE: Operation = Operation::reads("The rule for the data of a type of event")
    .path(&OF_TYPE)
    .query(&[ITS_APPLICATION])
    .answers(&[Answer::json(200, "The rule.", Shape::Of(&RULE))]);

/// Answers `GET /schemas/{category}/{name}`: the rule for all applications, or with `application` the one of its own.
pub(crate) async fn one(
    State(state): State<AppState>,
    identity: Identity,
    path: Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    let parameters = ONE.parameters(query.as_deref())?;
    let target = target(&state, path, &parameters)?;
    let registry = state.log().registry();
    let rule = registry.rules().get(&target).ok_or_else(missing)?;
    Ok(respond(StatusCode::OK, shape(&registry, rule).to_string()))
}

/// What [`set`] takes and answers.
pub(crate) static SET: Operation =
    Operation::writes("Set the rule for the data of a type of event")
        .path(&OF_TYPE)
        .query(&[ITS_APPLICATION])
        .fields(&[
            Field::one_of("mode", &["enforce", "warn"])
                .about("`enforce` refuses what breaks it, `warn` stores it and says so in `meta`."),
            Field::of("schema", &JSON_SCHEMA),
        ])
        .answers(&[
            Answer::json(200, "It took the place of another.", Shape::Of(&RULE)),
            Answer::json(201, "There was none before.", Shape::Of(&RULE)),
        ])
        .problems(&[409]);

/// Answers `PUT /schemas/{category}/{name}`: 201 where there was none, 200 where it takes the place of one.
pub(crate) async fn set(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    path: Named,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    identity.admin()?;
    let parameters = SET.parameters(query.as_deref())?;
    let target = target(&state, path, &parameters)?;
    let body = SET.object(&state, body).await?;
    let mode = match body.text("mode")? {
        Some("enforce") => RuleMode::Enforce,
        Some("warn") => RuleMode::Warn,
        _ => {
            let message = "must be \"enforce\", which refuses what breaks the schema, or \"warn\", which stores and marks it.";
            return Err(Problem::parameter("mode", message));
        }
    };
    let (_, schema) = schema_of(&body)?;
    let setting = Change::SetRule {
        target,
        mode,
        schema,
    };
    let Changed::Rule(rule) = change(&state, setting, identity.actor(&request_id)).await? else {
        return Err(unexpected());
    };
    let status = if rule.version == 1 {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let registry = state.log().registry();
    Ok(respond(status, shape(&registry, &rule).to_string()))
}

/// What [`remove`] takes and answers.
pub(crate) static REMOVE: Operation = Operation::writes("Remove the rule for a type of event")
    .path(&OF_TYPE)
    .query(&[ITS_APPLICATION])
    .answers(&[Answer::empty(204, "Done.")]);

/// Answers `DELETE /schemas/{category}/{name}`.
pub(crate) async fn remove(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    path: Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    let parameters = REMOVE.parameters(query.as_deref())?;
    let target = target(&state, path, &parameters)?;
    let removing = Change::RemoveRule { target };
    change(&state, removing, identity.actor(&request_id)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What [`check`] takes and answers.
pub(crate) static CHECK: Operation =
    Operation::reads("Try a schema on the newest events of a type")
        .path(&OF_TYPE)
        .query(&[ITS_APPLICATION])
        .fields(&[
            Field::of("schema", &JSON_SCHEMA),
            Field::new("last", Shape::Between(1, LAST_MAX.cast_signed()))
                .optional()
                .about("On how many; 1000 where it is not given."),
        ])
        .answers(&[Answer::json(
            200,
            "What they would be told; at most ten examples.",
            Shape::Object(&[
                Field::whole("checked"),
                Field::whole("valid"),
                Field::whole("invalid"),
                Field::list(
                    "examples",
                    &Shape::Object(&[Field::uuid("id"), Field::of("errors", &FIELD_ERRORS)]),
                ),
            ]),
        )]);

/// Answers `POST /schemas/{category}/{name}/check`: what the newest events of this type would be told.
pub(crate) async fn check(
    State(state): State<AppState>,
    identity: Identity,
    path: Named,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    identity.admin()?;
    let parameters = CHECK.parameters(query.as_deref())?;
    let target = target(&state, path, &parameters)?;
    let body = CHECK.object(&state, body).await?;
    let (schema, _) = schema_of(&body)?;
    let last = body.number("last", 1)?.flatten().unwrap_or(LAST);
    if last > LAST_MAX {
        let message = format!("must be at most {LAST_MAX}.");
        return Err(Problem::parameter("last", message)
            .limit(usize::try_from(LAST_MAX).unwrap_or(usize::MAX)));
    }
    let mut left = usize::try_from(last).unwrap_or(usize::MAX);
    let wanted = Wanted::of(&state, &Parameters::default(), Needs::Search)?;
    let answer = view::read(&state, wanted, move |state, view| {
        let (mut checked, mut invalid) = (0u64, 0u64);
        let mut examples = Vec::new();
        let mut after = None;
        let deadline = Instant::now() + state.settings().query_deadline;
        while left > 0 {
            let limit = left.min(CHUNK);
            let request = SearchRequest {
                deadline: Some(deadline),
                category: Some(target.category.clone()),
                name: Some(target.name.clone()),
                order: Order::NewestFirst,
                after,
                limit,
                ..every_event(state, target.application, view.as_of)?
            };
            let hits = state.index().search(&request)?.hits;
            let offsets: Vec<u64> = hits.iter().map(|hit| hit.offset).collect();
            for event in state.reader().read_many(&offsets)?.into_iter().flatten() {
                if Instant::now() > deadline {
                    return Err(Problem::query_timeout());
                }
                checked += 1;
                let broken = schema.judge(&event.data);
                if broken.is_empty() {
                    continue;
                }
                invalid += 1;
                if examples.len() < EXAMPLES_MAX {
                    examples.push(json!({"id": event.id, "errors": broken}));
                }
            }
            let Some(last) = hits.last().filter(|_| hits.len() == limit) else {
                break;
            };
            after = Some(Place {
                session: None,
                timestamp: last.timestamp,
                offset: last.offset,
            });
            left -= limit;
        }
        Ok(json!({"checked": checked, "valid": checked - invalid, "invalid": invalid, "examples": examples}))
    })
    .await?;
    Ok(respond(StatusCode::OK, answer.to_string()))
}

fn missing() -> Problem {
    Problem::not_found("A rule for these events")
        .detail("A rule for these events was not found. GET /schemas lists the rules there are. One for a single application is named with application=NAME.")
}

/// Reads which events a rule is for.
fn target(state: &AppState, path: Named, parameters: &Parameters) -> Result<RuleTarget, Problem> {
    let Ok(Path((category, name))) = path else {
        return Err(missing());
    };
    let label = |field: &str, text: &str| match text.trim() {
        "" => Err(Problem::parameter(field, "May not be blank.")),
        text if text.chars().count() > LABEL_MAX_CHARS => {
            let message =
                format!("Ensure this field has no more than {LABEL_MAX_CHARS} characters.");
            Err(Problem::parameter(field, message))
        }
        text => Ok(text.to_owned()),
    };
    let application = match parameters.text("application") {
        None => None,
        Some(name) => Some(named(state, Ok(Path(name.to_owned())))?.id),
    };
    Ok(RuleTarget {
        category: label("category", &category)?,
        name: label("name", &name)?,
        application,
    })
}

/// Reads the schema of a body; returns it as JSON text too.
fn schema_of(body: &Object) -> Result<(Schema, String), Problem> {
    let Some(value) = body.value("schema") else {
        return Err(Problem::parameter(
            "schema",
            "This field is required: a JSON Schema (2020-12) for data.",
        ));
    };
    let text = value.to_string();
    if text.len() > SCHEMA_MAX_BYTES {
        let message = format!("is longer than {SCHEMA_MAX_BYTES} bytes.");
        return Err(Problem::parameter("schema", message).limit(SCHEMA_MAX_BYTES));
    }
    match Schema::read(value) {
        Ok(schema) => Ok((schema, text)),
        Err(message) => Err(Problem::parameter("schema", message)),
    }
}

fn shape(registry: &Registry, rule: &Rule) -> Value {
    let schema: Value = serde_json::from_str(&rule.schema).unwrap_or(Value::Null);
    json!({
        "category": rule.target.category, "name": rule.target.name,
        "application": name_of(registry, rule.target.application), "mode": rule.mode.name(), "schema": schema,
        "version": rule.version, "since": format_timestamp(rule.since),
    })
}
