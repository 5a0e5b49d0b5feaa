//! The page that Prometheus reads (text format 0.0.4).

use std::fmt::Write as _;

use eye_log::Counts;

use super::families::{FAMILIES, Family, Kind};
use super::seen::Seen;
use crate::state::AppState;

/// The media type of the page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes every family with its samples. Blocks for what [`Seen::of`] asks.
pub(crate) fn page(state: &AppState) -> String {
    let seen = Seen::of(state);
    let mut text = String::with_capacity(32 << 10);
    for family in FAMILIES {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let (name, help) = (family.name, family.help);
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let mut samples = Samples {
            family,
            text: &mut text,
        };
        (family.samples)(&seen, &mut samples);
    }
    text
}

/// Takes the samples of one family.
pub(super) struct Samples<'a> {
    family: &'static Family,
    text: &'a mut String,
}

impl Samples<'_> {
    /// Writes one sample; `values` are those of the family's labels.
    pub(super) fn add(&mut self, values: &[&str], number: impl Into<Number>) {
        self.sample("", values, None, number.into());
    }

    /// Writes a histogram; a figure that was counted is divided by `unit`.
    pub(super) fn histogram(&mut self, values: &[&str], counts: &Counts, unit: f64) {
        let mut below = 0;
        for (place, count) in counts.counts.iter().enumerate() {
            below += count;
            let bound = counts.bounds.get(place);
            let bound = bound.map_or("+Inf".to_owned(), |bound| {
                (*bound as f64 / unit).to_string()
            });
            self.sample("_bucket", values, Some(&bound), below.into());
        }
        self.sample("_sum", values, None, (counts.sum as f64 / unit).into());
        self.sample("_count", values, None, below.into());
    }

    fn sample(&mut self, suffix: &str, values: &[&str], bound: Option<&str>, number: Number) {
        assert_eq!(
            values.len(),
            self.family.labels.len(),
            "{}: a value for each label",
            self.family.name
        );
        self.text.push_str(self.family.name);
        self.text.push_str(suffix);
        let labels = self.family.labels.iter().zip(values);
        let mut open = '{';
        for (label, value) in labels
            .map(|(label, value)| (*label, *value))
            .chain(bound.map(|bound| ("le", bound)))
        {
            // No value has a quote or a backslash: all are names of ours.
            let _ = write!(self.text, "{open}{label}=\"{value}\"");
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
        let _ = match number {
            Number::Whole(number) => writeln!(self.text, " {number}"),
            Number::Part(number) => writeln!(self.text, " {number}"),
        };
    }
}

/// What a sample says.
pub(super) enum Number {
    Whole(u64),
    Part(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<bool> for Number {
    fn from(yes: bool) -> Self {
        Self::Whole(u64::from(yes))
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::Whole(u64::try_from(number).unwrap_or(0))
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Part(number)
    }
}
