//! How far a long piece of work is: one line that changes on a terminal, a line every five seconds elsewhere.

use super::{
    figures, note,
    table::{cut, terminal_width},
};
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

const ON_A_TERMINAL: Duration = Duration::from_millis(100);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Tells a person on standard error how far some work is.
#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    terminal: bool,
    started: Instant,
    last_told: Instant,
    /// Where this run began; what was done in an earlier one says nothing about the rate of this one.
    first_done: u64,
    unit: Unit,
    line_is_open: bool,
}

/// Says what the work is measured in.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Bytes,
    Things(&'static str),
}

impl Unit {
    fn written(self, number: u64) -> String {
        match self {
            Unit::Bytes => figures::bytes(number),
            Unit::Things(name) => format!("{} {name}", figures::count(number)),
        }
    }
}

impl Progress {
    /// Starts the clock; `first_done` bytes were done before.
    pub(crate) fn new(label: &str, first_done: u64) -> Self {
        let now = Instant::now();
        Progress {
            label: label.to_owned(),
            terminal: io::stderr().is_terminal(),
            started: now,
            last_told: now,
            first_done,
            unit: Unit::Bytes,
            line_is_open: false,
        }
    }

    /// Starts the clock for work that is measured in `things` rather than bytes.
    pub(crate) fn counting(label: &str, things: &'static str) -> Self {
        let mut progress = Progress::new(label, 0);
        progress.unit = Unit::Things(things);
        progress
    }

    /// Tells of `done` bytes out of `total` (if it is known) and of a number of things done in this run, now and then.
    pub(crate) fn tick(&mut self, done: u64, total: Option<u64>, things: Option<(u64, &str)>) {
        let pause = if self.terminal {
            ON_A_TERMINAL
        } else {
            ELSEWHERE
        };
        if self.last_told.elapsed() < pause {
            return;
        }
        self.last_told = Instant::now();
        let text = line(
            &self.label,
            done,
            self.first_done,
            total,
            things,
            self.unit,
            self.started.elapsed(),
        );
        if self.terminal {
            // A line that wraps could not be taken back.
            let text = cut(&text, terminal_width().saturating_sub(1));
            // Clears to the end of the line, since the text before may have been longer.
            let _ = write!(io::stderr(), "\r{text}\x1b[K");
            let _ = io::stderr().flush();
            self.line_is_open = true;
        } else {
            note(&text);
        }
    }

    /// Says something without breaking the line that changes.
    pub(crate) fn note(&mut self, text: &str) {
        self.clear();
        note(text);
    }

    /// Takes the changing line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.line_is_open) {
            let _ = write!(io::stderr(), "\r\x1b[K");
            let _ = io::stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(
    label: &str,
    done: u64,
    first_done: u64,
    total: Option<u64>,
    things: Option<(u64, &str)>,
    unit: Unit,
    elapsed: Duration,
) -> String {
    let done_now = done.saturating_sub(first_done);
    let rate = figures::per_second(done_now, elapsed);
    let mut parts = vec![label.to_owned()];
    match total {
        Some(total) if total > 0 => {
            let percent = u128::from(done.min(total)) * 100 / u128::from(total);
            parts.push(format!("{percent:>3} % of {}", unit.written(total)));
        }
        _ => parts.push(unit.written(done)),
    }
    match things {
        Some((number, name)) => {
            let per_second = figures::count(figures::per_second(number, elapsed));
            parts.push(format!("{} {name}, {per_second}/s", figures::count(number)));
        }
        // Less than one a second tells less than the time left.
        None if rate == 0 && done_now > 0 => {}
        None => parts.push(format!("{}/s", unit.written(rate))),
    }
    if let Some(left) = total.map(|total| total.saturating_sub(done))
        && done_now > 0
    {
        // As long for each as it took so far: few may be done in a second.
        let seconds = elapsed.as_millis() * u128::from(left) / u128::from(done_now) / 1000;
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        parts.push(format!(
            "{} left",
            figures::duration(Duration::from_secs(seconds))
        ));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_and_the_time_left_count_from_where_this_run_began() {
        let ten_seconds = Duration::from_secs(10);
        assert_eq!(
            line(
                "a.ndjson",
                3_000_000,
                2_000_000,
                Some(4_000_000),
                Some((5_000, "events")),
                Unit::Bytes,
                ten_seconds
            ),
            "a.ndjson   75 % of 3.8 MiB  5,000 events, 500/s  10s left"
        );
        assert_eq!(
            line(
                "stdin",
                2048,
                0,
                None,
                None,
                Unit::Bytes,
                Duration::from_secs(1)
            ),
            "stdin  2.0 KiB  2.0 KiB/s"
        );
        let records = Unit::Things("records");
        assert_eq!(
            line("dumping", 50, 0, Some(200), None, records, ten_seconds),
            "dumping   25 % of 200 records  5 records/s  30s left"
        );
        let kills = Unit::Things("kills");
        assert_eq!(
            line("torturing", 4, 0, Some(10), None, kills, ten_seconds),
            "torturing   40 % of 10 kills  15s left"
        );
    }
}
