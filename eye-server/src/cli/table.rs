//! Aligned columns for a terminal. Whatever an event holds, it cannot steer the terminal.

use super::{Failure, unprinted};
use std::{
    borrow::Cow,
    env,
    io::{self, IsTerminal, Write},
};

const GAP: &str = "  ";

/// Says on which side a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Collects rows and prints them with each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[(&'static str, Align)]) -> Self {
        Table {
            heads: heads.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; it has as many cells as the table has columns.
    pub(crate) fn push<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.heads.len(), "a row has one cell per column");
        self.rows.push(
            cells
                .iter()
                .map(|cell| harmless(cell).into_owned())
                .collect(),
        );
    }

    /// Prints heads and rows to standard output, the heads bold on a terminal.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(self.render(Style::of_stdout()).as_bytes())
            .and_then(|()| out.flush())
            .map_err(unprinted)
    }

    fn render(&self, style: Style) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells
                .chain([self.heads[column].0.chars().count()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for ((cell, (_, align)), width) in cells.zip(&self.heads).zip(&widths) {
                if !line.is_empty() {
                    line.push_str(GAP);
                }
                line.push_str(&padded(cell, *width, *align));
            }
            line.trim_end().to_owned()
        };
        let mut out = style.paint(
            Paint::Bold,
            &line(&mut self.heads.iter().map(|(head, _)| *head)),
        );
        out.push('\n');
        for row in &self.rows {
            out.push_str(&line(&mut row.iter().map(String::as_str)));
            out.push('\n');
        }
        out
    }
}

/// Fills a cell with blanks up to a width in characters.
pub(crate) fn padded(cell: &str, width: usize, align: Align) -> String {
    match align {
        Align::Left => format!("{cell:<width$}"),
        Align::Right => format!("{cell:>width$}"),
    }
}

/// Cuts a text to a width in characters; what is cut shows as `…`.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return Cow::Borrowed(text);
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    Cow::Owned(out)
}

/// Replaces every control character and every mark that turns the direction of writing, so that data cannot clear the
/// screen, change its colours or pose as another line.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    fn harms(c: char) -> bool {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }
    if !text.contains(harms) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|c| if harms(c) { '\u{fffd}' } else { c })
            .collect(),
    )
}

/// Says whether colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Coloured,
}

/// Names what a colour is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Paint {
    Bold,
    Faint,
    Application,
    Category,
}

impl Style {
    /// Returns colours for a terminal, unless `NO_COLOR` (no-color.org) is set or the terminal is dumb.
    pub(crate) fn of_stdout() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stdout().is_terminal() && !refused && !dumb {
            Style::Coloured
        } else {
            Style::Plain
        }
    }

    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match (self, paint) {
            (Style::Plain, _) => return text.to_owned(),
            (_, Paint::Bold) => "1",
            (_, Paint::Faint) => "2",
            (_, Paint::Application) => "36",
            (_, Paint::Category) => "32",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Returns the width of the terminal in characters; 100 where there is none.
pub(crate) fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("name", Align::Left), ("events", Align::Right)]);
        table.push(["a".to_owned(), "5".to_owned()]);
        table.push(["größer".to_owned(), "12,000".to_owned()]);
        assert_eq!(
            table.render(Style::Plain),
            "name    events\na            5\ngrößer  12,000\n"
        );
    }

    #[test]
    fn data_cannot_steer_the_terminal() {
        assert_eq!(
            harmless("a\x1b[2Jb\nc\u{9b}d\u{202e}"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}"
        );
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("äöüß", 4), "äöüß");
    }
}
