//! Changes to applications and tokens, handed to the log and waited for; and pages of what the registry holds.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::Response;
use eye_log::{Actor, Change, Changed};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::cursor::{Cursor, Last};
use crate::error::{Code, Problem};
use crate::parameters::Parameters;
use crate::routes;
use crate::state::AppState;

/// Makes a change durable and returns what it led to.
pub(crate) async fn change(
    state: &AppState,
    change: Change,
    by: Actor,
) -> Result<Changed, Problem> {
    let (answer, answered) = oneshot::channel();
    state.log().change(change, by, move |changed| {
        let _ = answer.send(changed);
    })?;
    match answered.await {
        Ok(changed) => Ok(changed?),
        Err(_) => Err(Problem::new(Code::Recovering, "The log did not answer.").retry_after(1)),
    }
}

/// Says which rows of a list ordered by a text key are on a page, and what follows it.
pub(crate) struct Page {
    list: String,
    /// What narrows the list, for its cursors.
    kept: BTreeMap<String, String>,
    after: Option<String>,
    limit: usize,
}

impl Page {
    /// Reads `limit` and `cursor`; whatever else there is narrows the list, and a cursor holds it.
    pub(crate) fn of(
        state: &AppState,
        list: String,
        mut parameters: Parameters,
    ) -> Result<(Self, Parameters), Problem> {
        let cursor = Cursor::resume(&list, &mut parameters, state.store_id())?;
        let after = cursor.and_then(|cursor| match cursor.last {
            Last::Named(name) => Some(name),
            Last::Event(..) => None,
        });
        let page = Self {
            list,
            kept: Cursor::kept(&parameters),
            after,
            limit: parameters.limit(1)?,
        };
        Ok((page, parameters))
    }

    /// Returns the key of the row in front of the page.
    pub(crate) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Returns how many rows it has at most.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Cuts the page out of all rows, which come with their keys.
    pub(crate) fn cut<T>(&self, mut rows: Vec<(String, T)>) -> (Vec<T>, Option<String>) {
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        rows.retain(|(key, _)| self.after.as_ref().is_none_or(|after| key > after));
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let last = rows.last().map(|(key, _)| key.clone()).filter(|_| more);
        (rows.into_iter().map(|(_, row)| row).collect(), last)
    }

    /// Answers `{name: rows, "next", "as_of", "indexed_through", "exact"}`. The registry is always exact.
    pub(crate) fn answer(
        &self,
        state: &AppState,
        name: &str,
        rows: &[Value],
        last: Option<String>,
    ) -> Response {
        let end = state.reader().durable_end();
        let next = last.map(|last| {
            Cursor {
                list: self.list.clone(),
                parameters: self.kept.clone(),
                as_of: end,
                from: None,
                to: None,
                count: false,
                last: Last::Named(last),
            }
            .encode(state.store_id())
        });
        let body = json!({
            name: rows, "next": next, "as_of": end, "indexed_through": state.index().indexed_through(), "exact": true,
        });
        routes::json(StatusCode::OK, body.to_string())
    }
}
