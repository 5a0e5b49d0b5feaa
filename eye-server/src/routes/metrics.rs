//! `/metrics`: what Prometheus reads.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

use crate::auth::Identity;
use crate::error::{Code, Problem};
use crate::metrics::{CONTENT_TYPE, page};
use crate::operation::{Answer, Operation, Shape};
use crate::state::AppState;

/// What [`for_admins`] takes and answers.
pub(crate) static FOR_ADMINS: Operation =
    Operation::reads("What Prometheus reads").answers(&[Answer::of(
        200,
        "Every metric, in the text format 0.0.4",
        &[("text/plain", Shape::Text)],
    )]);

/// Answers `GET /metrics` for admins.
pub(crate) async fn for_admins(
    state: State<AppState>,
    identity: Identity,
    query: RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    for_all(state, query).await
}

/// Answers `GET /metrics` on the listener that is for nothing else.
pub(crate) async fn for_all(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    FOR_ADMINS.parameters(query.as_deref())?;
    // Not with the queries: whoever watches wants to see, above all when these are too many.
    let written = tokio::task::spawn_blocking(move || page(&state)).await;
    let page = written.map_err(|error| {
        tracing::error!(%error, "the metrics could not be written");
        Problem::new(Code::Overloaded, "The metrics could not be written.").retry_after(1)
    })?;
    let mut response = page.into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}
