//! `/admin/status`, `/admin/settings` and the schema of the API.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use eye_log::format_timestamp;
use eye_log::verify::stats;
use serde_json::json;

use crate::auth::Identity;
use crate::error::{Code, Problem};
use crate::parameters::Parameters;
use crate::routes::health::condition;
use crate::routes::json as answer;
use crate::state::AppState;
use crate::view;

/// The OpenAPI description, written by hand; a test holds it against the router.
pub(crate) const OPENAPI: &str = include_str!("../openapi.json");

/// Answers `GET /api/schema`.
pub(crate) async fn schema() -> Response {
    answer(StatusCode::OK, OPENAPI)
}

/// Answers `GET /admin/settings`: every setting in force and where it comes from.
pub(crate) async fn settings(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    Parameters::from_query(query.as_deref(), &[])?;
    let body = json!({"settings": state.settings().in_force()});
    Ok(answer(StatusCode::OK, body.to_string()))
}

/// Answers `GET /admin/status`.
pub(crate) async fn status(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    Parameters::from_query(query.as_deref(), &[])?;
    let (_, condition, detail) = condition(&state);
    let folder = state.settings().data.join("log");
    let log = view::run(&state, move || {
        stats(&folder).map_err(|error| {
            Problem::new(
                Code::Damaged,
                format!("The log's figures cannot be read: {error}."),
            )
            .detail("`eye log verify` says what can be read.")
        })
    })
    .await?;
    let index = state.index().status();
    let (bytes, events) = log
        .segments
        .iter()
        .fold((0, 0), |(bytes, events), segment| {
            (bytes + segment.bytes, events + segment.events)
        });
    let segments: Vec<_> = log
        .segments
        .iter()
        .map(|segment| {
            json!({
                "file": segment.file, "base": segment.base, "end": segment.end, "bytes": segment.bytes,
                "events": segment.events, "sealed": segment.sealed,
                "first_received_at": segment.first_received_at.map(format_timestamp),
                "last_received_at": segment.last_received_at.map(format_timestamp),
            })
        })
        .collect();
    let registry = state.log().registry();
    let indexed_through = state.index().indexed_through();
    let durable_end = state.reader().durable_end();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "store": state.store_id(),
        "started_at": format_timestamp(state.started_at()),
        "state": condition,
        "detail": detail,
        "applications": registry.applications().count(),
        "tokens": registry.tokens().count(),
        "log": {"durable_end": durable_end, "bytes": bytes, "events": events, "segments": segments},
        "index": {
            "indexed_through": indexed_through, "lag": durable_end.saturating_sub(indexed_through),
            "search_through": index.search_through, "catalog_through": index.catalog_through,
            "merging": index.sealing > 0, "sealing": index.sealing, "parts": index.parts, "events": index.events,
            "trouble": index.trouble,
        },
        "memory_for_requests": {"used": state.memory().used(), "limit": state.settings().memory_for_requests},
        "queries": {
            "running": state.queries_running(),
            "limit": state.settings().queries_max,
        },
    });
    Ok(answer(StatusCode::OK, body.to_string()))
}
