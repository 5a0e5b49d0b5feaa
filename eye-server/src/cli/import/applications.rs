//! The old service's applications, registered with the tokens that their clients use.
//!
//! What must stay true: an application that is here already stays as it is, so that importing again brings back no token
//! that was revoked since; and a disabled application's token is at no moment accepted.

use super::Refusals;
use super::dump::{Cells, Dump, Row};
use super::table::Table;
use crate::cli::{Failure, note};
use crate::client::{Client, ClientError, Problem, encoded};
use axum::http::Method;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Applications by their ids in the old service.
#[derive(Debug, Default)]
pub(super) struct Applications {
    all: Vec<Application>,
    by_id: HashMap<String, u32>,
    pub(super) registered: u64,
}

/// An application of the old service, as it is here.
#[derive(Debug)]
pub(super) struct Application {
    pub(super) name: String,
    /// Whether events can be stored for it.
    pub(super) takes_events: bool,
    /// It is disabled in the old service; once its events are here it is here, too, and gets its token, if it has one.
    unfinished: Option<Option<String>>,
}

/// What is wrong with a row.
enum Wrong {
    Cell(&'static str, &'static str),
    Refused(Box<Problem>),
}

impl Applications {
    /// Registers every application that is not here yet.
    pub(super) async fn register(
        client: &Client,
        dumps: &[Dump],
        refusals: &mut Refusals,
    ) -> Result<Self, Failure> {
        let mut applications = Self::default();
        for dump in dumps
            .iter()
            .filter(|dump| dump.table() == Table::Applications)
        {
            let unread = |error| dump.unread(&error);
            let mut rows = dump.rows(Default::default()).map_err(unread)?;
            loop {
                match rows.next().map_err(unread)? {
                    Row::End => break,
                    Row::Broken(line, why) => refusals.note(&dump.name, line, "row", &why),
                    Row::Cells(line, cells) => match applications.one(client, &cells).await? {
                        Ok(()) => {}
                        Err(Wrong::Cell(column, why)) => {
                            refusals.note(&dump.name, line, column, why);
                        }
                        Err(Wrong::Refused(problem)) => {
                            refusals.add(&dump.name, line, &problem.code, &problem.errors);
                        }
                    },
                }
            }
        }
        Ok(applications)
    }

    async fn one(&mut self, client: &Client, cells: &Cells) -> Result<Result<(), Wrong>, Failure> {
        let [Some(id), Some(name), token, active] = cells.as_slice() else {
            return Ok(Err(Wrong::Cell("name", "An id and a name are needed.")));
        };
        let Some(active) = truth(active.as_deref()) else {
            return Ok(Err(Wrong::Cell("active", "Neither t nor f.")));
        };
        let name = name.trim();
        let mut taken = token.as_deref();
        // One that is to be disabled gets its token when it is.
        let mut refused = register(client, name, taken.filter(|_| active)).await?;
        if let Some(problem) = refused.take_if(|problem| problem.errors.contains_key("token")) {
            let why = Problem::field_lines(&problem.errors).join("; ");
            note(&format!("{name}: its token cannot be taken over: {why}"));
            taken = None;
            refused = register(client, name, None).await?;
        }
        let (takes_events, unfinished) = match refused {
            None => {
                self.registered += 1;
                if taken.is_none() {
                    note(&format!(
                        "{name}: `eye token create --app` makes a token that its clients can use"
                    ));
                }
                (true, (!active).then(|| taken.map(str::to_owned)))
            }
            Some(problem) if problem.http_status.as_u16() == 409 => {
                let is_active = is_active(client, name).await?;
                note(&match (is_active, active) {
                    (true, false) => {
                        format!("{name}: is here already, and active, which it is not in the file")
                    }
                    (true, true) => format!("{name}: is here already, and stays as it is"),
                    (false, _) => format!(
                        "{name}: is disabled here, so its events are left out; enable it and import again with --again"
                    ),
                });
                (is_active, None)
            }
            Some(problem) => return Ok(Err(Wrong::Refused(problem))),
        };
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.by_id.insert(id.clone(), number);
        self.all.push(Application {
            name: name.to_owned(),
            takes_events,
            unfinished,
        });
        Ok(Ok(()))
    }

    /// Disables what was disabled in the old service, now that its events are here, and then takes its token over.
    pub(super) async fn finish(self, client: &Client) -> Result<(), Failure> {
        for application in self.all {
            let Some(token) = application.unfinished else {
                continue;
            };
            let path = format!("/applications/{}", encoded(&application.name));
            let disabled = json!({"active": false});
            client.call(Method::PATCH, &path, Some(&disabled)).await?;
            let Some(token) = token else { continue };
            let issued = json!({ "token": token });
            let path = format!("{path}/tokens");
            match client.call(Method::POST, &path, Some(&issued)).await {
                Ok(_) => {}
                Err(ClientError::Refused(problem)) => {
                    let (name, why) = (application.name, Problem::field_lines(&problem.errors));
                    note(&format!(
                        "{name}: its token cannot be taken over: {}",
                        why.join("; ")
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Returns the number of an application by its id in the old service.
    pub(super) fn number(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// Returns an application by its number.
    pub(super) fn get(&self, number: u32) -> &Application {
        &self.all[usize::try_from(number).unwrap_or(usize::MAX)]
    }
}

/// Registers an application; returns why it was refused, if it was. Without a token to take over it has none.
async fn register(
    client: &Client,
    name: &str,
    token: Option<&str>,
) -> Result<Option<Box<Problem>>, Failure> {
    let mut body = json!({ "name": name });
    if let Some(token) = token {
        body["token"] = token.into();
    }
    let answer = client
        .call(Method::POST, "/applications", Some(&body))
        .await;
    match answer {
        Ok(answer) => {
            let registered: Value = answer.json()?;
            if token.is_none()
                && let Some(drawn) = registered["token_id"].as_str()
            {
                // Nobody gets to see this one.
                let path = format!("/tokens/{}", encoded(drawn));
                client.call(Method::DELETE, &path, None).await?;
            }
            Ok(None)
        }
        Err(ClientError::Refused(problem)) if matches!(problem.http_status.as_u16(), 400 | 409) => {
            Ok(Some(problem))
        }
        Err(error) => Err(error.into()),
    }
}

async fn is_active(client: &Client, name: &str) -> Result<bool, Failure> {
    let path = format!("/applications/{}", encoded(name));
    let application: Value = client.get(&path).await?.json()?;
    Ok(application["active"] == json!(true))
}

/// Reads a boolean as PostgreSQL or JSON write it; one that is not there is true.
fn truth(text: Option<&str>) -> Option<bool> {
    match text {
        None | Some("t" | "true" | "True" | "1") => Some(true),
        Some("f" | "false" | "False" | "0") => Some(false),
        Some(_) => None,
    }
}
