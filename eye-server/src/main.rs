//! The program `eye`: reads the command line, runs one command, answers with its exit status.

mod cli;
mod client;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run(cli::read())
}
