//! The program `eye`: reads the command line, runs one command, answers with its exit status.

mod cli;
mod client;

use std::io::IsTerminal as _;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::read();
    let filter = tracing_subscriber::EnvFilter::try_from_env("EYE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(cli.log_level()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colour codes are for eyes; in a file or a journal they are noise.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    allow_many_files();
    cli::run(cli)
}

/// Raises how many files may be open to what the system allows this process. Every sealed file stays open, and every
/// connection is one; the usual 1,024 is for programs that still use `select`.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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
