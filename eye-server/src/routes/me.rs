//! `/me` and `/limits`: what this token is, and what bounds it.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use crate::auth::Identity;
use crate::error::Problem;
use crate::operation::{Answer, Field, Operation, Shape};
use crate::routes::json as answer;
use crate::routes::tokens;
use crate::routes::tokens::TOKEN;
use crate::state::AppState;

/// What [`me`] takes and answers.
pub(crate) static ME: Operation = Operation::reads("What this token is, and the store's id")
    .answers(&[Answer::json(200, "The caller's token.", Shape::Of(&TOKEN))]);

/// Answers `GET /me`.
pub(crate) async fn me(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    ME.parameters(query.as_deref())?;
    let registry = state.log().registry();
    let mut body = match registry.token(identity.token) {
        Some(token) => tokens::shape(&state, &registry, token),
        None => tokens::shape_of_owner(),
    };
    if let Some(body) = body.as_object_mut() {
        body.insert("store".to_owned(), json!(state.store_id()));
    }
    Ok(answer(StatusCode::OK, body.to_string()))
}

/// What [`limits`] takes and answers.
pub(crate) static LIMITS: Operation =
    Operation::reads("Every limit in force").answers(&[Answer::json(
        200,
        "Every limit in force, by name.",
        Shape::ByName(&Shape::Object(&[
            Field::number("value"),
            Field::text("unit"),
            Field::text("setting").or_null(),
        ])),
    )]);

/// Answers `GET /limits`.
pub(crate) async fn limits(
    State(state): State<AppState>,
    _identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    LIMITS.parameters(query.as_deref())?;
    Ok(answer(
        StatusCode::OK,
        state.settings().limits().to_string(),
    ))
}
