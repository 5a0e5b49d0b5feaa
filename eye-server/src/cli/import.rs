//! `eye import`: what another service holds, brought over.

mod applications;
mod csv;
mod dump;
mod events;
mod sessions;
mod table;

use super::send::{
    self,
    batch::Place,
    position::{self, PositionFile},
    summary::{REFUSED_SHOWN_MAX, Summary},
};
use super::{Common, Failure, Outcome, figures, note, print};
use crate::client::{Client, MissingFolder};
use applications::Applications;
use dump::Dump;
use events::Events;
use serde_json::{Value, json};
use sessions::Sessions;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use table::Table;
use tokio::sync::watch;

/// Bring over what another service holds
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ImportCommand {
    /// Applications with their tokens, sessions and events of the service that this one replaces
    ///
    /// Reads files of its tables, CSV with a header (as PostgreSQL's \copy writes it) or NDJSON, plain, gzip or zstd;
    /// which table a file is of is told by its columns. Applications are registered with their tokens, so that clients
    /// only need the new address. Events keep their ids, so that importing again stores nothing twice, and a run that
    /// was stopped goes on where it was when the same command is run again. Refused rows are printed to standard error
    /// as FILE:LINE: column: message; the exit status is then 1. docs/migration.md tells the whole story.
    #[command(
        after_help = "Example:\n  eye import old-service applications.csv sessions.csv events.csv.gz --data /srv/eye"
    )]
    OldService(OldServiceArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct OldServiceArgs {
    /// Files of the tables; those of applications and sessions are needed with every file of events
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Begin every file of events from its start although an earlier run got further
    #[arg(long)]
    again: bool,
}

pub(crate) async fn run(command: &ImportCommand, common: &Common) -> Result<Outcome, Failure> {
    let ImportCommand::OldService(args) = command;
    let dumps: Vec<Dump> = args
        .files
        .iter()
        .map(|file| Dump::open(file))
        .collect::<Result<_, _>>()?;
    for dump in &dumps {
        note(&format!("{}: {}", dump.name, dump.table()));
        if !dump.columns.left.is_empty() {
            let left = dump.columns.left.join(", ");
            note(&format!("{}: not taken over: {left}", dump.name));
        }
    }
    let (stopper, stop) = watch::channel(false);
    tokio::spawn(send::stop_on_signals(stopper));
    let client = common.client(MissingFolder::Make).await?;
    let mut import = Import {
        summary: Summary::start(),
        refusals: Refusals::default(),
        registered: 0,
        sessions: 0,
    };
    let result = import.all(&client, &dumps, args.again, &stop).await;
    client.close().await;
    if result.is_ok() || import.summary.sent() > 0 {
        print(&import.text(common.json))?;
    }
    result?;
    Ok(if import.refusals.all > 0 {
        Outcome::No
    } else {
        Outcome::Done
    })
}

/// What one run has done.
struct Import {
    summary: Summary,
    refusals: Refusals,
    registered: u64,
    sessions: usize,
}

impl Import {
    async fn all(
        &mut self,
        client: &Client,
        dumps: &[Dump],
        again: bool,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        let me = send::who_am_i(client, &send::patience(true)).await?;
        let store = me["store"].as_str().unwrap_or(client.place()).to_owned();
        let applications = Applications::register(client, dumps, &mut self.refusals).await?;
        self.registered = applications.registered;
        let sessions = Sessions::read(dumps, &applications, &mut self.refusals)?;
        self.sessions = sessions.len();
        for dump in dumps.iter().filter(|dump| dump.table() == Table::Events) {
            let survey = Events::survey(dump)?;
            let kept = position::folder().map(|folder| {
                PositionFile::new(&folder, &store, "import old-service", &survey.sha256)
            });
            let found = kept
                .as_ref()
                .filter(|_| !again)
                .and_then(|kept| kept.load(survey.bytes));
            let mut from = Place::default();
            if let Some(position) = found {
                let name = &dump.name;
                let line = figures::count(position.line);
                note(&format!(
                    "{name}: going on behind line {line}, where the run of {} ended; --again begins from the start",
                    position.saved_at
                ));
                self.refusals.before(name, position.refused);
                self.summary.sent_before += position.line;
                from = Place {
                    line: position.line,
                    position: position.position,
                };
            }
            let mut events = Events {
                client,
                dump,
                applications: &applications,
                sessions: &sessions,
                stop: stop.clone(),
                kept,
            };
            events
                .send(from, survey.bytes, &mut self.summary, &mut self.refusals)
                .await?;
        }
        applications.finish(client).await
    }

    fn text(&self, in_json: bool) -> String {
        let (stored, duplicates, refused) = (
            self.summary.stored,
            self.summary.duplicates,
            self.refusals.all,
        );
        if in_json {
            return json!({
                "applications": self.registered, "sessions": self.sessions, "stored": stored,
                "duplicates": duplicates, "left_out": self.refusals.left_out, "refused": refused, "refused_rows": self.refusals.rows,
            })
            .to_string();
        }
        let count = figures::count;
        format!(
            "{} applications registered, {} sessions read; events: {} stored, {} duplicates, {} left out; {} rows refused",
            count(self.registered),
            count(self.sessions as u64),
            count(stored),
            count(duplicates),
            count(self.refusals.left_out),
            count(refused),
        )
    }
}

/// Rows that were refused, with their lines; the first ones are shown.
#[derive(Debug, Default)]
struct Refusals {
    all: u64,
    /// Events of applications that are disabled here.
    left_out: u64,
    by_file: BTreeMap<String, u64>,
    rows: Vec<Value>,
}

impl Refusals {
    /// Notes a row that was refused here.
    fn note(&mut self, file: &str, line: u64, column: &str, why: &str) {
        let errors = BTreeMap::from([(column.to_owned(), json!([why]))]);
        self.add(file, line, "invalid_row", &errors);
    }

    /// Notes a row that was refused, by column.
    fn add(&mut self, file: &str, line: u64, code: &str, errors: &BTreeMap<String, Value>) {
        self.all += 1;
        *self.by_file.entry(file.to_owned()).or_default() += 1;
        if self.rows.len() as u64 >= REFUSED_SHOWN_MAX {
            return;
        }
        self.rows
            .push(json!({"file": file, "line": line, "code": code, "errors": errors}));
        for message in crate::client::Problem::field_lines(errors) {
            note(&format!(
                "{file}:{line}: {}",
                super::table::harmless(&message)
            ));
        }
    }

    /// Counts rows of which nothing else is known.
    fn count(&mut self, more: u64) {
        self.all += more;
    }

    /// Counts what an earlier run had refused of a file.
    fn before(&mut self, file: &str, refused: u64) {
        self.all += refused;
        *self.by_file.entry(file.to_owned()).or_default() += refused;
    }

    /// Returns how many rows of a file were refused.
    fn of(&self, file: &str) -> u64 {
        self.by_file.get(file).copied().unwrap_or(0)
    }
}

impl Dump {
    /// Returns the failure to read the file.
    fn unread(&self, error: &io::Error) -> Failure {
        Failure::Failed(format!("{}: {error}", self.name))
    }
}
