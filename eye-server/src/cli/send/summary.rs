//! What one run of `eye send` did.

use crate::{cli::figures, client::Problem};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How many refused lines are printed per file; beyond that they are counted.
pub(in crate::cli) const REFUSED_SHOWN_MAX: u64 = 1_000;

/// Adds up every file of a run.
#[derive(Debug)]
pub(in crate::cli) struct Summary {
    started: Instant,
    pub(in crate::cli) stored: u64,
    pub(in crate::cli) duplicates: u64,
    pub(in crate::cli) refused: u64,
    /// Lines that an earlier run had sent.
    pub(in crate::cli) sent_before: u64,
    /// Lines that an earlier run had sent in vain.
    pub(in crate::cli) refused_before: u64,
    refused_lines: Vec<Value>,
}

impl Summary {
    pub(in crate::cli) fn start() -> Self {
        Summary {
            started: Instant::now(),
            stored: 0,
            duplicates: 0,
            refused: 0,
            sent_before: 0,
            refused_before: 0,
            refused_lines: Vec::new(),
        }
    }

    /// Returns how many lines got their answer in this run.
    pub(in crate::cli) fn sent(&self) -> u64 {
        self.stored + self.duplicates + self.refused
    }

    /// Returns how many lines of these files were refused, in this run or an earlier one that it goes on with.
    pub(in crate::cli) fn refused_ever(&self) -> u64 {
        self.refused + self.refused_before
    }

    /// Keeps a refused line and returns it for people, a line per message.
    pub(in crate::cli) fn refuse(
        &mut self,
        file: &str,
        line: u64,
        code: &str,
        errors: &BTreeMap<String, Value>,
    ) -> String {
        self.refused_lines
            .push(json!({ "file": file, "line": line, "code": code, "errors": errors }));
        let messages = Problem::field_lines(errors);
        if messages.is_empty() {
            return format!(
                "{file}:{line}: {}",
                if code.is_empty() { "refused" } else { code }
            );
        }
        let lines: Vec<String> = messages
            .iter()
            .map(|message| format!("{file}:{line}: {message}"))
            .collect();
        lines.join("\n")
    }

    pub(in crate::cli) fn text(&self) -> String {
        self.text_after(self.started.elapsed())
    }

    fn text_after(&self, elapsed: Duration) -> String {
        let count = figures::count;
        let mut text = format!(
            "sent {} lines in {:.1} s ({}/s): {} stored, {} duplicates, {} refused",
            count(self.sent()),
            elapsed.as_secs_f64(),
            count(figures::per_second(self.sent(), elapsed)),
            count(self.stored),
            count(self.duplicates),
            count(self.refused),
        );
        if self.sent_before > 0 {
            text.push_str(&format!("; {} sent before", count(self.sent_before)));
        }
        if self.refused_before > 0 {
            text.push_str(&format!(", {} of them refused", count(self.refused_before)));
        }
        text
    }

    pub(in crate::cli) fn json(&self) -> Value {
        let elapsed = self.started.elapsed();
        json!({
            "sent": self.sent(),
            "stored": self.stored,
            "duplicates": self.duplicates,
            "refused": self.refused,
            "sent_before": self.sent_before,
            "refused_before": self.refused_before,
            "seconds": elapsed.as_secs_f64(),
            "per_second": figures::per_second(self.sent(), elapsed),
            "refused_lines": self.refused_lines,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_line_is_printed_once_per_message() {
        let mut summary = Summary::start();
        let mut errors = BTreeMap::new();
        errors.insert(
            "name".to_owned(),
            json!(["This field is required.", "Too short."]),
        );
        assert_eq!(
            summary.refuse("a.ndjson", 7, "invalid_event", &errors),
            "a.ndjson:7: name: This field is required.\na.ndjson:7: name: Too short."
        );
        assert_eq!(
            summary.refuse("a.ndjson", 8, "too_deep", &BTreeMap::new()),
            "a.ndjson:8: too_deep"
        );
        assert_eq!(summary.json()["refused_lines"][1]["line"], 8);
    }

    #[test]
    fn the_rate_is_of_this_run() {
        let summary = Summary {
            stored: 900,
            duplicates: 50,
            refused: 50,
            sent_before: 7000,
            ..Summary::start()
        };
        assert_eq!(
            summary.text_after(Duration::from_millis(500)),
            "sent 1,000 lines in 0.5 s (2,000/s): 900 stored, 50 duplicates, 50 refused; 7,000 sent before"
        );
    }
}
