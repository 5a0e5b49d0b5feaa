//! `/admin/tasks`: maintenance beside the service. Admins only.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use eye_log::compaction::Compaction;
use eye_log::verify::verify;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::Identity;
use crate::caretaker;
use crate::envelope::RequestId;
use crate::error::{Code, Problem};
use crate::operation::{Answer, Field, Operation, Shape};
use crate::parameters::ID;
use crate::reindexing::reindex;
use crate::routes::json as answer;
use crate::state::AppState;
use crate::tasks::TASK;
use crate::tasks::{Pulse, Task};

/// What [`start`] takes and answers.
pub(crate) static START: Operation =
    Operation::acts("Start a piece of maintenance; they run one after the other")
        .fields(&[
            Field::one_of("kind", &["verify", "compact", "reindex"]),
            Field::boolean("dry_run").optional(),
            Field::boolean("confirm").optional(),
        ])
        .answers(&[Answer::json(202, "The task", Shape::Of(&TASK))])
        .problems(&[429]);

/// Answers `POST /admin/tasks {"kind"}`: 202 and the task.
pub(crate) async fn start(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    identity.admin()?;
    START.parameters(query.as_deref())?;
    let body = START.object(&state, body).await?;
    let folder = state.settings().data.join("log");
    let dry_run = body.boolean("dry_run")?.unwrap_or(false);
    let confirmed = body.boolean("confirm")?.unwrap_or(false);
    let task = match body.text("kind")? {
        Some("verify") => state
            .tasks()
            .start("verify", "bytes", move |pulse| verified(&folder, pulse)),
        Some("compact") => {
            let what = Compaction {
                seal_all: true,
                dry_run,
                confirmed,
                by: identity.actor(&request_id),
            };
            let inner = state.clone();
            state.tasks().start("compact", "bytes", move |pulse| {
                caretaker::compact(&inner, &what, pulse)
            })
        }
        Some("reindex") => {
            let inner = state.clone();
            state
                .tasks()
                .start("reindex", "records", move |pulse| reindex(&inner, pulse))
        }
        _ => {
            return Err(Problem::parameter(
                "kind",
                "must be \"verify\", \"compact\" or \"reindex\".",
            ));
        }
    };
    accepted(task)
}

/// Answers 202 and the task, or that too many wait.
pub(crate) fn accepted(task: Option<Arc<Task>>) -> Result<Response, Problem> {
    let task = task.ok_or_else(|| {
        Problem::new(Code::RateLimited, "Too many tasks wait for their turn.").retry_after(60)
    })?;
    let mut accepted = answer(StatusCode::ACCEPTED, task.shape().to_string());
    if let Ok(location) = HeaderValue::try_from(format!("/admin/tasks/{}", task.id)) {
        accepted.headers_mut().insert(header::LOCATION, location);
    }
    Ok(accepted)
}

/// What [`list`] takes and answers.
pub(crate) static LIST: Operation = Operation::reads("Maintenance of this process, newest first")
    .answers(&[Answer::json(
        200,
        "The tasks of this process, newest first.",
        Shape::Object(&[Field::list("tasks", &Shape::Of(&TASK))]),
    )]);

/// Answers `GET /admin/tasks`: those of this process, newest first.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    LIST.parameters(query.as_deref())?;
    let tasks: Vec<Value> = state
        .tasks()
        .list()
        .iter()
        .map(|task| task.shape())
        .collect();
    Ok(answer(
        StatusCode::OK,
        json!({ "tasks": tasks }).to_string(),
    ))
}

/// What [`one`] takes and answers.
pub(crate) static ONE: Operation = Operation::reads("How far a task is")
    .path(&[ID])
    .answers(&[Answer::json(200, "The task", Shape::Of(&TASK))]);

/// Answers `GET /admin/tasks/{id}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    ONE.parameters(query.as_deref())?;
    let task = named(&state, id)?;
    Ok(answer(StatusCode::OK, task.shape().to_string()))
}

/// What [`cancel`] takes and answers.
pub(crate) static CANCEL: Operation =
    Operation::acts("Ask a task to end")
        .path(&[ID])
        .answers(&[Answer::json(
            202,
            "The task, which may still need a while to end",
            Shape::Of(&TASK),
        )]);

/// Answers `DELETE /admin/tasks/{id}`: 202 and the task, which may still need a while to end.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    CANCEL.parameters(query.as_deref())?;
    let task = named(&state, id)?;
    task.cancel();
    Ok(answer(StatusCode::ACCEPTED, task.shape().to_string()))
}

fn named(state: &AppState, id: Result<Path<String>, PathRejection>) -> Result<Arc<Task>, Problem> {
    id.ok()
        .and_then(|Path(id)| Uuid::try_parse(&id).ok())
        .and_then(|id| state.tasks().get(id))
        .ok_or_else(|| Problem::not_found("A task of this id"))
}

/// Reads every byte of the log, as `eye log verify` does.
fn verified(folder: &std::path::Path, pulse: &Pulse) -> Result<Value, Problem> {
    let report = verify(folder, None, &mut |done, of| pulse.tell(done, of)).map_err(|error| {
        Problem::new(Code::Damaged, format!("The log cannot be read: {error}."))
    })?;
    let mut result = serde_json::to_value(&report).unwrap_or_default();
    result["ok"] = json!(report.damage.is_empty());
    Ok(result)
}
