//! `/applications`: who sends. Admins only.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use eye_index::search::facets::{FacetOptions, FieldColumns};
use eye_index::{Needs, Order, SearchRequest};
use eye_log::{
    Application, Change, Changed, Ledger, Limits, Offset, TokenKind, TokenTerms, format_timestamp,
};
use serde_json::{Value, json};

use crate::auth::{self, Identity};
use crate::envelope::RequestId;
use crate::error::Problem;
use crate::listing;
use crate::operation::{Answer, Component, Field, Operation, Shape};
use crate::parameters::{CURSOR, LIMIT};
use crate::registrar::{Page, change};
use crate::routes::{json as answer, tokens};
use crate::state::AppState;
use crate::view;
use crate::wire::Object;

/// The longest name, in Unicode scalar values.
const NAME_MAX_CHARS: usize = 100;
/// The fields that set an application's limits.
const LIMITS: [&str; 3] = ["retention_days", "max_bytes", "rate"];
/// What `per_minute` is counted over, microseconds.
const MINUTE: i64 = 60_000_000;

/// An application with its figures.
pub(crate) static APPLICATION: Component = Component::object(
    "Application",
    &[
        Field::new("name", Shape::TextOf(1, NAME_MAX_CHARS)),
        Field::boolean("active"),
        Field::time("created_at"),
        Field::whole("retention_days").or_null(),
        Field::whole("max_bytes").or_null(),
        Field::whole("rate").or_null(),
        Field::whole("events"),
        Field::whole("sessions"),
        Field::boolean("sessions_exact").about(
            "Where it is false there are more sessions than are told apart, \
             and `sessions` is the least",
        ),
        Field::text("first").or_null(),
        Field::text("last").or_null(),
        Field::whole("per_minute"),
        Field::whole("rejected_24h").or_null(),
    ],
);

/// An application that was just registered.
pub(crate) static NEW_APPLICATION: Component = Component::object(
    "NewApplication",
    &[
        Field::text("name"),
        Field::boolean("active"),
        Field::text("token"),
        Field::uuid("token_id"),
        Field::time("created_at"),
    ],
);

/// What [`create`] takes and answers.
pub(crate) static CREATE: Operation =
    Operation::writes("Register an application with its first token")
        .fields(&[
            Field::text("name"),
            Field::new(
                "token",
                Shape::TextOf(auth::TAKEN_MIN_CHARS, auth::TAKEN_MAX_CHARS),
            )
            .optional()
            .about("A secret that clients have already; without it one is drawn."),
        ])
        .answers(&[Answer::json(
            201,
            "The token is shown this once.",
            Shape::Of(&NEW_APPLICATION),
        )])
        .problems(&[404, 409]);

/// Answers `POST /applications`: registers one with a first token, in one step. The token is drawn, or one
/// that its clients have already.
pub(crate) async fn create(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Result<Response, Problem> {
    identity.admin()?;
    CREATE.parameters(request.uri().query())?;
    let body = CREATE.object(&state, request.into_body()).await?;
    let name = body
        .text("name")?
        .ok_or_else(|| Problem::parameter("name", "This field is required."))?;
    let name = checked_name(name)?;
    let kind = TokenKind::Application {
        read: true,
        write: true,
    };
    let (secret, token) = match body.text("token")? {
        Some(secret) => auth::take_over(secret, kind, None, TokenTerms::default())?,
        None => auth::draw(kind, None, TokenTerms::default())?,
    };
    let token_id = token.id;
    let registering = Change::RegisterApplication {
        name,
        token: Some(token),
    };
    let Changed::Application(application) =
        change(&state, registering, identity.actor(&request_id)).await?
    else {
        return Err(tokens::unexpected());
    };
    let body = json!({
        "name": application.name, "active": application.active, "token": secret, "token_id": token_id,
        "created_at": format_timestamp(application.created_at),
    });
    Ok(with_secret(answer(StatusCode::CREATED, body.to_string())))
}

/// What [`list`] takes and answers.
pub(crate) static LIST: Operation = Operation::reads("List applications")
    .query(&[LIMIT, CURSOR])
    .answers(&[Answer::json(
        200,
        "A page of applications, by name.",
        Shape::Page("applications", &Shape::Of(&APPLICATION)),
    )]);

/// Answers `GET /applications`.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    let parameters = LIST.parameters(query.as_deref())?;
    let (page, _) = Page::of(&state, "applications".to_owned(), parameters)?;
    let rows = state
        .log()
        .registry()
        .applications()
        .map(|one| (one.name.clone(), one.clone()))
        .collect();
    let (applications, last) = page.cut(rows);
    let inner = state.clone();
    let figures = move || {
        let (as_of, day) = (seen(&inner), last_day(&inner));
        applications
            .iter()
            .map(|application| shape(&inner, application, as_of, day.as_ref()))
            .collect()
    };
    let rows: Vec<Value> = view::run(&state, figures).await?;
    Ok(page.answer(&state, "applications", &rows, last))
}

/// What [`one`] takes and answers.
pub(crate) static ONE: Operation = Operation::reads("One application")
    .path(&[Field::text("name").about("Its name.")])
    .answers(&[Answer::json(
        200,
        "The application.",
        Shape::Of(&APPLICATION),
    )]);

/// Answers `GET /applications/{name}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    identity: Identity,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    ONE.parameters(query.as_deref())?;
    let application = named(&state, name)?;
    let inner = state.clone();
    let body = view::run(&state, move || shape_now(&inner, &application)).await?;
    Ok(answer(StatusCode::OK, body.to_string()))
}

/// What [`update`] takes and answers.
pub(crate) static UPDATE: Operation =
    Operation::writes("Disable or enable it, or set what it may keep")
        .path(&[Field::text("name").about("Its name.")])
        .fields(&[
            Field::boolean("active").optional(),
            Field::new("retention_days", Shape::From(1)).optional(),
            Field::new("max_bytes", Shape::From(0)).optional(),
            Field::new("rate", Shape::From(1)).optional(),
        ])
        .answers(&[Answer::json(
            200,
            "The application.",
            Shape::Of(&APPLICATION),
        )]);

/// Answers `PATCH /applications/{name}`: disables or enables it, or sets its limits.
pub(crate) async fn update(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    identity.admin()?;
    UPDATE.parameters(query.as_deref())?;
    let application = named(&state, name)?;
    let body = UPDATE.object(&state, body).await?;
    let limits = limits(&body, application.limits)?;
    let active = body.boolean("active")?;
    if active.is_none() && limits == application.limits && !body.names_any(&LIMITS) {
        return Err(Problem::parameter(
            "active",
            "Nothing to change: give `active`, `retention_days`, `max_bytes` or `rate`.",
        ));
    }
    let actor = identity.actor(&request_id);
    let mut application = application;
    let changes = [
        active.map(|active| Change::SetApplicationActive {
            name: application.name.clone(),
            active,
        }),
        (limits != application.limits).then(|| Change::SetLimits {
            name: application.name.clone(),
            limits,
        }),
    ];
    for changing in changes.into_iter().flatten() {
        let Changed::Application(changed) = change(&state, changing, actor).await? else {
            return Err(tokens::unexpected());
        };
        application = changed;
    }
    let inner = state.clone();
    let body = view::run(&state, move || shape_now(&inner, &application)).await?;
    Ok(answer(StatusCode::OK, body.to_string()))
}

/// Reads the limits a body sets; null takes a limit away, and what is not named stays.
fn limits(body: &Object, now: Limits) -> Result<Limits, Problem> {
    let narrow = |name: &str, value: Option<u64>| {
        value
            .map(|value| {
                u32::try_from(value)
                    .map_err(|_| Problem::parameter(name, "is too large; null is no limit."))
            })
            .transpose()
    };
    Ok(Limits {
        retention_days: match body.number("retention_days", 1)? {
            Some(days) => narrow("retention_days", days)?,
            None => now.retention_days,
        },
        max_bytes: body.number("max_bytes", 0)?.unwrap_or(now.max_bytes),
        rate: match body.number("rate", 1)? {
            Some(rate) => narrow("rate", rate)?,
            None => now.rate,
        },
    })
}

/// Returns the application that a path names.
pub(crate) fn named(
    state: &AppState,
    name: Result<Path<String>, PathRejection>,
) -> Result<Application, Problem> {
    let missing = || Problem::not_found("An application of this name");
    let Ok(Path(name)) = name else {
        return Err(missing());
    };
    state
        .log()
        .registry()
        .application_named(&name)
        .cloned()
        .ok_or_else(missing)
}

/// A secret must not stay in any cache between here and the reader.
pub(crate) fn with_secret(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn checked_name(name: &str) -> Result<String, Problem> {
    let name = name.trim();
    let wrong = |message: &str| Err(Problem::parameter("name", message));
    match name.chars().count() {
        0 => wrong("This field may not be blank."),
        count if count > NAME_MAX_CHARS => {
            wrong("Ensure this field has no more than 100 characters.")
        }
        _ if name.chars().any(char::is_control) => wrong("Control characters are not allowed."),
        _ => Ok(name.to_owned()),
    }
}

/// Waits for the index as reads do; returns how far it is.
fn seen(state: &AppState) -> Offset {
    let end = state.reader().durable_end();
    let through = state
        .index()
        .wait_for(Needs::Search, end, state.settings().read_wait);
    through.min(end)
}

/// Counts what arrived in the last 24 hours, the one that is begun included; nothing where a file of the log is damaged. Blocks.
fn last_day(state: &AppState) -> Option<Ledger> {
    let hour = u32::try_from(eye_log::now().div_euclid(60 * MINUTE)).unwrap_or(0);
    let hours = hour.saturating_sub(23)..u32::MAX;
    let counted = state.reader().ledger(hours);
    counted
        .inspect_err(|error| tracing::warn!(%error, "what was refused lately cannot be counted"))
        .ok()
}

/// Returns the shape of an application as it is now. Blocks.
fn shape_now(state: &AppState, application: &Application) -> Result<Value, Problem> {
    shape(state, application, seen(state), last_day(state).as_ref())
}

/// Returns the shape of an application, with what the index knows of its events. Blocks.
fn shape(
    state: &AppState,
    application: &Application,
    as_of: Offset,
    day: Option<&Ledger>,
) -> Result<Value, Problem> {
    let now = eye_log::now();
    let all = listing::every_event(state, Some(application.id), as_of)?;
    let index = state.index();
    let options = FacetOptions {
        size: 0,
        times: false,
    };
    let (events, figures) = index.facets(&all, &[FieldColumns::Session], options)?;
    let (sessions, sessions_exact) = figures.first().map_or((0, true), |figures| {
        (figures.distinct, figures.distinct_exact)
    });
    let time_of_first = |request: &SearchRequest| -> Result<Option<String>, Problem> {
        Ok(index
            .search(request)?
            .hits
            .first()
            .map(|hit| format_timestamp(hit.timestamp)))
    };
    let (mut first, mut last, mut per_minute) = (None, None, 0);
    if events > 0 {
        first = time_of_first(&all)?;
        last = time_of_first(&SearchRequest {
            order: Order::NewestFirst,
            ..all.clone()
        })?;
        per_minute = index.count(&SearchRequest {
            from: Some(now - MINUTE),
            to: Some(now),
            ..all
        })?;
    }
    let rejected = day.map(|day| {
        let balance = day.applications.get(&application.id);
        balance.map_or(0, |balance| balance.rejected)
    });
    Ok(json!({
        "name": application.name, "active": application.active, "created_at": format_timestamp(application.created_at),
        "retention_days": application.limits.retention_days, "max_bytes": application.limits.max_bytes,
        "rate": application.limits.rate,
        "events": events, "sessions": sessions, "sessions_exact": sessions_exact, "first": first, "last": last, "per_minute": per_minute,
        "rejected_24h": rejected,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(checked_name("  iOS app ").unwrap(), "iOS app");
        assert!(checked_name(&"é".repeat(100)).is_ok());
        for wrong in ["", "  ", "a\nb", &"é".repeat(101)] {
            assert!(checked_name(wrong).is_err(), "{wrong}");
        }
    }
}
