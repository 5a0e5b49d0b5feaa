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
    cli::run(cli)
}
