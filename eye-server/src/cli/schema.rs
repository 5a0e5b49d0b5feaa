//! `eye schema`: rules for the data of events.

use super::table::{Align, Table};
use super::{Common, Failure, Outcome, figures, print, read_whole};
use crate::client::{Client, ClientError, MissingFolder, encoded};
use axum::http::Method;
use serde_json::{Value, json};

/// Set, show, list, try and remove rules for the data of events
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SchemaCommand {
    /// Set the rule for a type of event
    ///
    /// Events whose data breaks an enforced schema are refused and kept as rejections; after mending the schema,
    /// `eye rejections --reason rule_violation --retry` sends them again.
    #[command(
        after_help = "Examples:\n  eye schema check shop purchase purchase.json\n  \
                            eye schema set shop purchase purchase.json --mode warn\n  \
                            eye schema set shop purchase purchase.json --mode enforce --app web"
    )]
    Set {
        #[command(flatten)]
        target: Target,
        /// A file with a JSON Schema (2020-12) for `data`; `-` is standard input
        file: String,
        /// `enforce` refuses what breaks it, `warn` stores it and says so in its meta
        #[arg(long, value_parser = ["enforce", "warn"])]
        mode: String,
    },
    /// Show the rule for a type of event
    Get {
        #[command(flatten)]
        target: Target,
    },
    /// List the rules
    List,
    /// Try a schema on the newest events of a type; the exit status is 1 where some break it
    Check {
        #[command(flatten)]
        target: Target,
        /// A file with a JSON Schema (2020-12) for `data`; `-` is standard input
        file: String,
        /// On how many, 1 to 10000
        #[arg(long, value_name = "N", default_value_t = 1000)]
        last: u32,
    },
    /// Remove the rule for a type of event
    Delete {
        #[command(flatten)]
        target: Target,
    },
}

/// Which events.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Their category
    category: String,
    /// Their name
    name: String,
    /// Of this application only; its own rule is asked before the one for all
    #[arg(long, value_name = "APPLICATION")]
    app: Option<String>,
}

impl Target {
    fn path(&self, more: &str) -> String {
        let (category, name) = (encoded(&self.category), encoded(&self.name));
        let own = self.app.as_ref();
        let own = own.map_or(String::new(), |app| {
            format!("?application={}", encoded(app))
        });
        format!("/schemas/{category}/{name}{more}{own}")
    }
}

pub(crate) async fn run(command: &SchemaCommand, common: &Common) -> Result<Outcome, Failure> {
    // A file that is none is found out before the folder is opened.
    let schema = match command {
        SchemaCommand::Set { file, .. } | SchemaCommand::Check { file, .. } => Some(read(file)?),
        SchemaCommand::Get { .. } | SchemaCommand::List | SchemaCommand::Delete { .. } => None,
    };
    let client = common.client(MissingFolder::Refuse).await?;
    let asked = ask(command, schema, &client).await;
    client.close().await;
    let answer = asked?;
    if common.json {
        print(&answer.to_string())?;
    } else {
        tell(command, &answer)?;
    }
    Ok(match command {
        SchemaCommand::Check { .. } if answer["invalid"] != 0 => Outcome::No,
        _ => Outcome::Done,
    })
}

fn read(file: &str) -> Result<Value, Failure> {
    serde_json::from_slice(&read_whole(file)?)
        .map_err(|error| Failure::Usage(format!("{file} is not JSON: {error}")))
}

async fn ask(
    command: &SchemaCommand,
    schema: Option<Value>,
    client: &Client,
) -> Result<Value, ClientError> {
    match command {
        SchemaCommand::Set { target, mode, .. } => {
            let body = json!({"mode": mode, "schema": schema});
            client
                .call(Method::PUT, &target.path(""), Some(&body))
                .await?
                .json()
        }
        SchemaCommand::Get { target } => client.get(&target.path("")).await?.json(),
        SchemaCommand::List => Ok(json!({"schemas": client.list("/schemas", "schemas").await?})),
        SchemaCommand::Check { target, last, .. } => {
            let body = json!({"schema": schema, "last": last});
            let path = target.path("/check");
            client.call(Method::POST, &path, Some(&body)).await?.json()
        }
        SchemaCommand::Delete { target } => {
            client.call(Method::DELETE, &target.path(""), None).await?;
            Ok(json!({"removed": true}))
        }
    }
}

fn tell(command: &SchemaCommand, answer: &Value) -> Result<(), Failure> {
    let text = |value: &Value| value.as_str().unwrap_or("every").to_owned();
    match command {
        SchemaCommand::Set { .. } | SchemaCommand::Get { .. } => {
            print(&format!(
                "{} {} of {} application{}: {}, version {}, since {}",
                text(&answer["category"]),
                text(&answer["name"]),
                if answer["application"].is_null() {
                    "every"
                } else {
                    "the"
                },
                answer["application"]
                    .as_str()
                    .map_or(String::new(), |name| format!(" {name}")),
                text(&answer["mode"]),
                answer["version"],
                text(&answer["since"]),
            ))?;
            match command {
                SchemaCommand::Get { .. } => print(&format!("{:#}", answer["schema"])),
                _ => Ok(()),
            }
        }
        SchemaCommand::List => {
            let rows = answer["schemas"].as_array().cloned().unwrap_or_default();
            if rows.is_empty() {
                return print("no rule is set");
            }
            let mut table = Table::new(&[
                ("category", Align::Left),
                ("name", Align::Left),
                ("application", Align::Left),
                ("mode", Align::Left),
                ("version", Align::Right),
                ("since", Align::Left),
            ]);
            for row in &rows {
                table.push([
                    text(&row["category"]),
                    text(&row["name"]),
                    text(&row["application"]),
                    text(&row["mode"]),
                    row["version"].to_string(),
                    text(&row["since"]),
                ]);
            }
            table.print()
        }
        SchemaCommand::Check { .. } => {
            let number = |name: &str| figures::count(answer[name].as_u64().unwrap_or(0));
            let (checked, valid, invalid) = (number("checked"), number("valid"), number("invalid"));
            print(&format!(
                "{checked} checked: {valid} keep to it, {invalid} do not"
            ))?;
            for example in answer["examples"].as_array().into_iter().flatten() {
                for (path, messages) in example["errors"].as_object().into_iter().flatten() {
                    for message in messages.as_array().into_iter().flatten() {
                        print(&format!(
                            "{}  {path}: {}",
                            text(&example["id"]),
                            text(message)
                        ))?;
                    }
                }
            }
            Ok(())
        }
        SchemaCommand::Delete { .. } => print("removed"),
    }
}
