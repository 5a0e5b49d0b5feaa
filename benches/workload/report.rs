//! Figures, as an aligned table for reading and as JSON for keeping.

use serde_json::{Map, Value, json};

/// The figures of a run, in the order they came.
#[derive(Debug)]
pub struct Report {
    rows: Vec<(String, String, Value, &'static str)>,
}

impl Report {
    /// Returns a report that says on what machine it was made.
    pub fn of_this_machine() -> Report {
        let mut report = Report { rows: Vec::new() };
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or("unknown")
            .trim_matches([' ', '\t', ':']);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        report.text("machine", "processor", format!("{model}, {cores} cores"));
        report
    }

    /// Adds a remark, and prints it at once so that one can watch.
    pub fn text(&mut self, section: &str, name: &str, text: impl Into<String>) {
        self.add(section, name, Value::String(text.into()), "");
    }

    /// Adds a figure with its unit.
    pub fn figure(&mut self, section: &str, name: &str, value: f64, unit: &'static str) {
        self.add(section, name, json!(value), unit);
    }

    fn add(&mut self, section: &str, name: &str, value: Value, unit: &'static str) {
        eprintln!("  {section}: {name} = {} {unit}", shown(&value));
        self.rows
            .push((section.to_owned(), name.to_owned(), value, unit));
    }

    /// Prints everything to standard output.
    pub fn print(&self, as_json: bool) {
        if as_json {
            let mut sections: Map<String, Value> = Map::new();
            for (section, name, value, unit) in &self.rows {
                let figures = sections.entry(section.clone()).or_insert_with(|| json!({}));
                figures[name] = if unit.is_empty() {
                    value.clone()
                } else {
                    json!({"value": value, "unit": unit})
                };
            }
            println!("{}", Value::Object(sections));
            return;
        }
        let width = |of: fn(&(String, String, Value, &'static str)) -> usize| {
            self.rows.iter().map(of).max().unwrap_or(0)
        };
        let (names, values) = (
            width(|row| row.1.chars().count()),
            width(|row| {
                if row.2.is_number() {
                    shown(&row.2).len()
                } else {
                    0
                }
            }),
        );
        let mut last = "";
        for (section, name, value, unit) in &self.rows {
            if section != last {
                println!("\n{section}");
                last = section;
            }
            println!("  {name:<names$}  {:>values$} {unit}", shown(value));
        }
    }
}

/// A number with as many digits as it deserves, thousands apart.
fn shown(value: &Value) -> String {
    let Some(number) = value.as_f64() else {
        return value.as_str().unwrap_or_default().to_owned();
    };
    if number.abs() < 100.0 {
        return format!("{number:.2}");
    }
    let digits = format!("{number:.0}");
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// The middle one of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
