//! The command line: what can be typed, and the way from a command to its exit status.
//!
//! Answers go to standard output, everything said about the work (progress, hints, errors) to standard error.

mod app;
mod backup;
mod caret;
mod compact;
mod config;
mod demo;
mod erase;
mod export;
mod figures;
mod health;
mod import;
mod index;
mod log;
mod progress;
mod rejections;
mod replay;
mod schema;
mod search;
mod send;
mod serve;
mod session;
mod setting_flags;
mod table;
mod tail;
mod task;
mod token;
mod torture;

use crate::client::{Client, ClientError, MissingFolder, Target};
use clap::{Args, CommandFactory, Parser, Subcommand};
use eye_log::Senders;
use eye_server::config::{Given, LogFilter, LogFormat, data_folder};
use eye_server::{Settings, logging};
use std::{
    fmt,
    io::{self, Read as _, Write},
    path::PathBuf,
    process::ExitCode,
};

const EXAMPLES: &str = "\
Examples:
  eye serve                                     the service on ./eye-data, at 127.0.0.1:8001
  eye demo                                      sample events on a throw-away folder, to look around
  eye app create shop                           registers an application, prints its token once
  eye send events.ndjson.zst --app shop         sends a file; the same command resumes it
  eye search 'category:page AND data.ms>500'    the latest matching events
  eye search checkout --all | jq .data          every match as NDJSON
  eye log verify                                reads every byte of the log
  eye backup /backup/eye                        a checked copy of the log, beside the running service

Where a server runs on the folder, commands talk to it; where none runs, they work on the folder itself.
Exit status: 0 done, 1 the answer is no, 2 wrong usage, 3 failed.";

/// An event store: validated events in, answers out.
#[derive(Debug, Parser)]
#[command(name = "eye", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Holds the options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where")]
pub(crate) struct Common {
    /// The data folder [env: EYE_DATA] [default: ./eye-data]
    #[arg(long = "data", global = true, value_name = "DIR")]
    given_data: Option<PathBuf>,
    /// The data folder that this comes to.
    #[arg(skip)]
    data: PathBuf,
    /// The file with settings [env: EYE_CONFIG] [default: eye.toml in the data folder]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A running server instead of a folder, e.g. http://127.0.0.1:8001
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The token to use; not needed on a folder of your own
    #[arg(
        long,
        global = true,
        value_name = "T",
        env = "EYE_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Demo(demo::DemoArgs),
    Config(config::ConfigArgs),
    Health(health::HealthArgs),
    #[command(subcommand)]
    App(app::AppCommand),
    #[command(subcommand)]
    Token(token::TokenCommand),
    Send(send::SendArgs),
    #[command(subcommand)]
    Import(import::ImportCommand),
    Search(search::SearchArgs),
    Tail(tail::TailArgs),
    Session(session::SessionArgs),
    Export(export::ExportArgs),
    #[command(subcommand)]
    Index(index::IndexCommand),
    #[command(subcommand)]
    Log(log::LogCommand),
    Replay(replay::ReplayArgs),
    Compact(compact::CompactArgs),
    Erase(erase::EraseArgs),
    Rejections(rejections::RejectionsArgs),
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Torture(torture::TortureArgs),
}

/// Reads the command line; help, the version and wrong usage end the process here.
pub(crate) fn read() -> Cli {
    let mut cli = Cli::parse();
    // `EYE_TOKEN=` in a script or a unit file means that there is none.
    let given = |text: &String| !text.trim().is_empty();
    cli.common.token = cli.common.token.filter(given);
    cli.common.server = cli.common.server.filter(given);
    cli
}

/// Runs the command and says with the exit status what came of it.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let Some(command) = cli.command else {
        // A closed standard output is no reason to complain about help nobody reads.
        let _ = Cli::command().print_help();
        return ExitCode::SUCCESS;
    };
    let senders = Senders::default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park({
            let senders = senders.clone();
            move || senders.note_rest()
        })
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            note(&format!("eye: cannot start: {error}"));
            return ExitCode::from(3);
        }
    };
    let mut common = cli.common;
    let result = runtime.block_on(async {
        common.data = data_folder(&common.given(Vec::new())).map_err(Failure::Usage)?;
        if !matches!(command, Command::Serve(_) | Command::Demo(_)) {
            let filter = LogFilter::of_a_command().map_err(Failure::Usage)?;
            prepare(&filter, LogFormat::Text);
        }
        match command {
            Command::Serve(args) => serve::run(args, &common, senders).await,
            Command::Demo(args) => demo::run(&args, &common, senders).await,
            Command::Health(_) => health::run(&common).await,
            Command::Config(args) => config::run(args, &common).await,
            Command::App(command) => app::run(&command, &common).await,
            Command::Token(command) => token::run(&command, &common).await,
            Command::Send(args) => send::run(&args, &common).await,
            Command::Import(command) => import::run(&command, &common).await,
            Command::Search(args) => search::run(&args, &common).await,
            Command::Index(command) => index::run(&command, &common).await,
            Command::Tail(args) => tail::run(&args, &common).await,
            Command::Session(args) => session::run(&args, &common).await,
            Command::Export(args) => export::run(&args, &common).await,
            Command::Log(command) => log::run(&command, &common).await,
            Command::Replay(args) => replay::run(&args, &common).await,
            Command::Compact(args) => compact::run(&args, &common).await,
            Command::Erase(args) => erase::run(&args, &common).await,
            Command::Rejections(args) => rejections::run(&args, &common).await,
            Command::Schema(command) => schema::run(&command, &common).await,
            Command::Backup(args) => backup::backup(&args, &common),
            Command::Torture(args) => torture::run(args, &common).await,
            Command::Restore(args) => backup::restore(&args, &common),
        }
    });
    // A thread that waits for standard input would hold up the end for ever.
    runtime.shutdown_background();
    match result {
        Ok(Outcome::Done) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(Failure::Usage(text)) => {
            note(&format!("eye: {text}"));
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            note(&format!("eye: {text}"));
            ExitCode::from(3)
        }
    }
}

/// Begins to log, and raises how many files may be open to what the system allows this process: every connection is one,
/// and so is every sealed file that is looked at beside a running service; the usual 1,024 is for programs that still use
/// `select`.
fn prepare(filter: &LogFilter, format: LogFormat) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    logging::start(filter, format);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if current < maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "no more files can be opened than the {current:?} allowed at the start");
    }
}

/// Says how a command ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The work is done and the answer is no: damage found, lines refused, nothing matched.
    No,
}

/// Says why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    Usage(String),
    Failed(String),
    /// Whoever read standard output has gone (`eye search … | head`): an end, not an error.
    ReaderGone,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Failed(text) => f.write_str(text),
            Failure::ReaderGone => f.write_str("nobody reads the output any more"),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Usage(text) => Failure::Usage(text.clone()),
            ClientError::Refused(problem) if problem.http_status.as_u16() == 400 => {
                Failure::Usage(error.to_string())
            }
            _ => Failure::Failed(error.to_string()),
        }
    }
}

/// Wraps a failed write to standard output.
fn unprinted(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::Failed(format!("cannot write to standard output: {error}")),
    }
}

/// Returns what a file holds; `-` is standard input.
fn read_whole(file: &str) -> Result<Vec<u8>, Failure> {
    let mut whole = Vec::new();
    let read = match file {
        "-" => io::stdin().read_to_end(&mut whole).map(|_| whole),
        _ => std::fs::read(file),
    };
    read.map_err(|error| Failure::Failed(format!("{file}: {error}")))
}

/// Prints one answer, with a line feed, to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(unprinted)
}

/// Says something to the person, on standard error; if nobody can hear it, that is no error.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

impl Common {
    async fn client(&self, missing_folder: MissingFolder) -> Result<Client, Failure> {
        Ok(Client::open(&self.target(missing_folder)).await?)
    }

    /// Returns the server of the command line, or the one that runs on the folder, if one does.
    async fn running(&self) -> Result<Option<Client>, Failure> {
        Ok(Client::of_running(&self.target(MissingFolder::Refuse)).await?)
    }

    fn target(&self, missing_folder: MissingFolder) -> Target {
        Target {
            data: self.data.clone(),
            config: self.config.clone(),
            server: self.server.clone(),
            token: self.token.clone(),
            missing_folder,
        }
    }

    /// Returns what the command line says about settings; `flags` are those of the command itself.
    fn given(&self, flags: Vec<(&'static str, String)>) -> Given {
        Given {
            // An empty name, as in a script, means that none is given.
            data: self
                .given_data
                .clone()
                .filter(|data| !data.as_os_str().is_empty()),
            config: self.config.clone(),
            flags,
        }
    }

    /// Returns the settings that are in force here.
    fn settings(&self, flags: Vec<(&'static str, String)>) -> Result<Settings, Failure> {
        Settings::load(&self.given(flags)).map_err(Failure::Failed)
    }

    /// Refuses `--server` where only a folder will do.
    fn folder_only(&self, command: &str) -> Result<(), Failure> {
        match &self.server {
            Some(_) => Err(Failure::Usage(format!(
                "`eye {command}` works on a folder (--data), not over --server"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
