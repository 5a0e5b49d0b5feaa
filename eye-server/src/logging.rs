//! What the process says about itself, on standard error.

use std::io::IsTerminal as _;

use crate::config::{LogFilter, LogFormat};

/// Begins to log. Called once, when it is known what to say.
pub fn start(filter: &LogFilter, format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter.filter())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder
            // Colour codes are for eyes; in a file or a journal they are noise.
            .with_ansi(std::io::stderr().is_terminal())
            .init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .init(),
    }
}
