//! `/health/live` and `/health/ready`: whether it runs, and whether it can be used. No token.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use eye_log::LogHealth;
use serde_json::json;

use crate::operation::{Answer, Component, Field, Operation, Shape};
use crate::routes::json as answer;
use crate::state::AppState;

/// Every name that [`condition`] gives.
pub(crate) const CONDITIONS: [&str; 5] = ["ok", "recovering", "poisoned", "disk_full", "damaged"];

/// How the service is.
pub(crate) static HEALTH: Component = Component::object(
    "Health",
    &[
        Field::boolean("ready"),
        Field::one_of("state", &CONDITIONS),
        Field::whole("lag")
            .or_null()
            .about("null while the log is being opened."),
        Field::whole("indexed_through").or_null(),
        Field::whole("durable_end").or_null(),
        Field::text("detail"),
    ],
);

/// What [`live`] takes and answers.
pub(crate) static LIVE: Operation = Operation::open("Whether it runs").answers(&[Answer::json(
    200,
    "It does.",
    Shape::Object(&[Field::boolean("live")]),
)]);

/// Answers `GET /health/live`: 200 as long as it answers at all.
pub(crate) async fn live() -> Response {
    answer(StatusCode::OK, "{\"live\":true}")
}

/// What [`ready`] takes and answers.
pub(crate) static READY: Operation = Operation::health("Whether it can be used").answers(&[
    Answer::json(200, "It can.", Shape::Of(&HEALTH)),
    Answer::json(503, "It cannot.", Shape::Of(&HEALTH)),
]);

/// Answers `GET /health/ready`: 503 where sending fails until somebody does something. A full disk is 200, since
/// reading goes on and sending resumes by itself.
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    let (ready, name, detail) = condition(&state);
    let indexed_through = state.index().indexed_through();
    let durable_end = state.reader().durable_end();
    let body = json!({
        "ready": ready, "state": name, "lag": durable_end.saturating_sub(indexed_through),
        "indexed_through": indexed_through, "durable_end": durable_end, "detail": detail,
    });
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer(status, body.to_string())
}

/// Returns whether the service can be used, the name of its condition, and what to do.
pub(crate) fn condition(state: &AppState) -> (bool, &'static str, String) {
    match state.log().health() {
        LogHealth::Poisoned(cause) => (
            false,
            "poisoned",
            format!("A write failed: {cause}. Nothing is taken until a restart, and the service is about to stop for one."),
        ),
        LogHealth::DiskFull => (
            true,
            "disk_full",
            "The disk has less room than `disk_reserve` keeps. Make room and sending resumes by itself; reading goes on."
                .to_owned(),
        ),
        LogHealth::Ok if state.is_stopping() => {
            (false, "recovering", "The service is stopping.".to_owned())
        }
        LogHealth::Ok if !state.log().damage().is_empty() => {
            let damage = state.log().damage();
            (
                true,
                "damaged",
                format!(
                    "{} place(s) of the log are damaged, the first: {}. The rest is served; `eye log verify` lists all, \
                     `eye log repair` saves what can be saved.",
                    damage.len(),
                    damage[0]
                ),
            )
        }
        LogHealth::Ok => match state.index().status().trouble {
            Some(trouble) => (
                true,
                "damaged",
                format!("The index does not go on: {trouble}. Reading says `exact: false`."),
            ),
            None => (true, "ok", String::new()),
        },
    }
}
