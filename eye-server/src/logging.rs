//! What the process says about itself, on standard error.

use std::io::IsTerminal as _;

use crate::config::LogFilter;

/// Begins to log. Called once, when it is known what to say.
pub fn start(filter: &LogFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(filter.filter())
        .with_writer(std::io::stderr)
        // Colour codes are for eyes; in a file or a journal they are noise.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
