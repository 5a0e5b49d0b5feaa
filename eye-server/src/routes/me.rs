//! `/me` and `/limits`: what this token is, and what bounds it.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use crate::auth::Identity;
use crate::error::Problem;
use crate::parameters::Parameters;
use crate::routes::json as answer;
use crate::routes::tokens;
use crate::state::AppState;

/// Answers `GET /me`.
pub(crate) async fn me(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Parameters::from_query(query.as_deref(), &[])?;
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

/// Answers `GET /limits`.
pub(crate) async fn limits(
    State(state): State<AppState>,
    _identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Parameters::from_query(query.as_deref(), &[])?;
    Ok(answer(
        StatusCode::OK,
        state.settings().limits().to_string(),
    ))
}
