//! Events as aligned, coloured columns.

use crate::cli::table::{Align, Paint, Style, cut, harmless, padded, terminal_width};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

const APPLICATION_MAX: usize = 16;
const CATEGORY_MAX: usize = 18;
const NAME_MAX: usize = 28;
/// Room for data even where the other columns fill a narrow terminal.
const DATA_MIN: usize = 20;
const GAP: &str = "  ";

/// Lays out pages of events; the widths of the first page stay, so that later pages line up with it.
#[derive(Debug, Default)]
pub(in crate::cli) struct Rows {
    widths: Option<[usize; 4]>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shown<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    application: Cow<'a, str>,
    #[serde(borrow)]
    category: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl Rows {
    pub(in crate::cli) fn render(&mut self, events: &[Box<RawValue>]) -> String {
        self.render_for(events, Style::of_stdout(), terminal_width())
    }

    fn render_for(&mut self, events: &[Box<RawValue>], style: Style, terminal: usize) -> String {
        let cells: Vec<[String; 5]> = events.iter().map(|event| cells(event, terminal)).collect();
        let widths = *self.widths.get_or_insert_with(|| {
            let widest = |column: usize| {
                cells
                    .iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            };
            [widest(0), widest(1), widest(2), widest(3)]
        });
        let room = terminal
            .saturating_sub(widths.iter().sum::<usize>() + 4 * GAP.len())
            .max(DATA_MIN);
        let paints = [
            Paint::Faint,
            Paint::Application,
            Paint::Category,
            Paint::Bold,
        ];
        let mut out = String::new();
        for row in &cells {
            for ((cell, width), paint) in row.iter().zip(widths).zip(paints) {
                out.push_str(&style.paint(paint, &padded(cell, width, Align::Left)));
                out.push_str(GAP);
            }
            out.push_str(&cut(&row[4], room));
            out.push('\n');
        }
        out
    }
}

fn cells(event: &RawValue, terminal: usize) -> [String; 5] {
    let shown: Shown<'_> = serde_json::from_str(event.get()).unwrap_or_default();
    let cell = |text: &str, width: usize| harmless(&cut(text, width)).into_owned();
    [
        cell(&shown.timestamp, 40),
        cell(&shown.application, APPLICATION_MAX),
        cell(&shown.category, CATEGORY_MAX),
        cell(&shown.name, NAME_MAX),
        cell(
            &shown
                .data
                .map_or("", RawValue::get)
                .replace(['\n', '\r', '\t'], " "),
            terminal.max(DATA_MIN),
        ),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_line_up_and_data_is_cut_to_the_screen() {
        let events: Vec<Box<RawValue>> = serde_json::from_str(
            r#"[{"timestamp":"T1","application":"shop","category":"page","name":"view","data":{"path":"/a/long/way/to/go"}},
                {"timestamp":"T2","application":"s","category":"a \"b\"","name":"\u001b[2J","data":{}}]"#,
        )
        .unwrap();
        assert_eq!(
            Rows::default().render_for(&events, Style::Plain, 46),
            "T1  shop  page   view  {\"path\":\"/a/long/way/t…\nT2  s     a \"b\"  \u{fffd}[2J  {}\n"
        );
    }
}
