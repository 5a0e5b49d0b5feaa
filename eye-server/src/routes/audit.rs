//! `GET /admin/audit`: who changed what, newest first. Admins only.

use std::ops::ControlFlow;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::Value;

use crate::auth::Identity;
use crate::error::{Code, Problem};
use crate::operation::{Answer, Operation, Shape};
use crate::parameters::{CURSOR, LIMIT};
use crate::registrar::Page;
use crate::state::AppState;
use crate::view;
use crate::wire::{CHANGE, control_line};

/// What [`list`] takes and answers.
pub(crate) static LIST: Operation = Operation::reads(
    "Who changed what: registrations, tokens, limits, erasures and maintenance, newest first",
)
.query(&[LIMIT, CURSOR])
.answers(&[Answer::json(
    200,
    "The changes, as the log keeps them",
    Shape::Page("changes", &Shape::Of(&CHANGE)),
)]);

/// Answers `GET /admin/audit`: registrations, tokens, limits, erasures and maintenance as the log keeps them, each with the
/// token that acted and the request that asked.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    let parameters = LIST.parameters(query.as_deref())?;
    let (page, _) = Page::of(&state, "audit".to_owned(), parameters)?;
    let before = page.after().map_or(Ok(u64::MAX), |last| {
        last.parse().map_err(|_| {
            Problem::new(Code::BadCursor, "The cursor names no record.")
                .detail("Leave it out to begin with the newest change.")
        })
    })?;
    let inner = state.clone();
    let limit = page.limit();
    let (changes, more) = view::run(&state, move || {
        let registry = inner.log().registry();
        let mut changes: Vec<(u64, Value)> = Vec::new();
        let mut more = false;
        inner.reader().visit_controls(before, |offset, record| {
            if changes.len() == limit {
                more = true;
                return ControlFlow::Break(());
            }
            changes.extend(control_line(offset, record, &registry).map(|line| (offset, line)));
            ControlFlow::Continue(())
        })?;
        Ok((changes, more))
    })
    .await?;
    let last = changes
        .last()
        .filter(|_| more)
        .map(|(offset, _)| offset.to_string());
    let rows: Vec<Value> = changes.into_iter().map(|(_, line)| line).collect();
    Ok(page.answer(&state, "changes", &rows, last))
}
