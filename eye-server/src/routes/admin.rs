//! `/admin/status`, `/admin/settings` and the schema of the API.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use eye_log::format_timestamp;
use eye_log::verify::stats;
use serde_json::json;

use crate::auth::Identity;
use crate::error::{Code, Problem};
use crate::operation::{Answer, Field, Operation, Shape};
use crate::router::OPENAPI;
use crate::routes::health::{CONDITIONS, condition};
use crate::routes::json as answer;
use crate::state::AppState;
use crate::view;

/// What [`schema`] takes and answers.
pub(crate) static SCHEMA: Operation = Operation::open("This description").answers(&[Answer::json(
    200,
    "This document.",
    Shape::Json,
)]);

/// Answers `GET /api/schema`.
pub(crate) async fn schema() -> Response {
    answer(StatusCode::OK, OPENAPI.as_str())
}

/// What [`settings`] takes and answers.
pub(crate) static SETTINGS: Operation =
    Operation::reads("Every setting in force, and where it comes from").answers(&[Answer::json(
        200,
        "The settings. `text` is the value as a person would write it; \
         secrets only say that they are set.",
        Shape::Object(&[Field::list(
            "settings",
            &Shape::Object(&[
                Field::text("name"),
                Field::new(
                    "value",
                    Shape::Either(&[
                        Shape::Any(&["string", "number", "boolean"]),
                        Shape::List(&Shape::Text),
                    ]),
                )
                .or_null(),
                Field::text("unit").or_null(),
                Field::text("text"),
                Field::one_of("from", &["default", "flag", "environment", "file"]),
                Field::text("where").or_null(),
            ]),
        )]),
    )]);

/// Answers `GET /admin/settings`: every setting in force and where it comes from.
pub(crate) async fn settings(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    SETTINGS.parameters(query.as_deref())?;
    let body = json!({"settings": state.settings().in_force()});
    Ok(answer(StatusCode::OK, body.to_string()))
}

/// What [`status`] takes and answers.
pub(crate) static STATUS: Operation =
    Operation::reads("Figures of the log and the index").answers(&[Answer::json(
        200,
        "How the service is.",
        Shape::Object(&[
            Field::text("version"),
            Field::uuid("store"),
            Field::time("started_at"),
            Field::one_of("state", &CONDITIONS),
            Field::text("detail"),
            Field::whole("applications"),
            Field::whole("tokens"),
            Field::new(
                "log",
                Shape::Object(&[
                    Field::whole("durable_end"),
                    Field::whole("bytes"),
                    Field::whole("events"),
                    Field::list(
                        "segments",
                        &Shape::Object(&[
                            Field::text("file"),
                            Field::whole("base"),
                            Field::whole("end"),
                            Field::whole("bytes"),
                            Field::whole("events"),
                            Field::boolean("sealed"),
                            Field::text("first_received_at").or_null(),
                            Field::text("last_received_at").or_null(),
                        ]),
                    ),
                ]),
            ),
            Field::new(
                "index",
                Shape::Object(&[
                    Field::whole("indexed_through"),
                    Field::whole("lag"),
                    Field::whole("search_through"),
                    Field::whole("catalog_through"),
                    Field::boolean("merging"),
                    Field::whole("sealing"),
                    Field::whole("parts"),
                    Field::whole("events"),
                    Field::text("trouble").or_null(),
                ]),
            ),
            Field::new(
                "memory_for_requests",
                Shape::Object(&[Field::whole("used"), Field::whole("limit")]),
            ),
            Field::new(
                "queries",
                Shape::Object(&[Field::whole("running"), Field::whole("limit")]),
            ),
        ]),
    )]);

/// Answers `GET /admin/status`.
pub(crate) async fn status(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    STATUS.parameters(query.as_deref())?;
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
