//! A file of one table of the old service, CSV or NDJSON, row by row.

use super::csv::CsvRows;
use super::table::{Columns, Table};
use crate::cli::{
    Failure,
    send::{
        batch::Place,
        source::{Lines, Next, Source},
    },
};
use serde_json::{Map, Value, value::RawValue};
use std::collections::BTreeMap;
use std::io::{self, BufRead as _};
use std::path::Path;

/// A file, and which table it is of.
#[derive(Debug)]
pub(super) struct Dump {
    pub(super) source: Source,
    pub(super) name: String,
    pub(super) columns: Columns,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Ndjson,
}

/// The cells of a row, in the order of [`Table::columns`].
pub(super) type Cells = Vec<Option<String>>;

/// What was read.
pub(super) enum Row {
    /// The line it begins on, and its cells.
    Cells(u64, Cells),
    /// A row that is none; what follows can be read.
    Broken(u64, String),
    End,
}

impl Dump {
    /// Looks at a file: plain, gzip or zstd; CSV with a header, or NDJSON.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let failed = |why: String| Failure::Failed(format!("{name}: {why}"));
        let source = Source::of(path).map_err(|error| failed(error.to_string()))?;
        if !matches!(source, Source::File(_)) {
            return Err(Failure::Usage(format!(
                "{name}: only files can be imported: they are read more than once"
            )));
        }
        let mut content = source.open(0).map_err(|error| failed(error.to_string()))?;
        let start = content
            .fill_buf()
            .map_err(|error| failed(error.to_string()))?;
        let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
        let (format, names) = if first == Some(&b'{') {
            let mut lines = Lines::new(content, 0, 0, None);
            let mut line = Vec::new();
            lines
                .next(&mut line)
                .map_err(|error| failed(error.to_string()))?;
            let fields: Map<String, Value> = serde_json::from_slice(&line)
                .map_err(|error| failed(format!("line 1 is no JSON object: {error}")))?;
            (
                Format::Ndjson,
                fields.into_iter().map(|(name, _)| name).collect(),
            )
        } else {
            let mut rows = CsvRows::new(content, Place::default());
            rows.next().map_err(|error| failed(error.to_string()))?;
            (Format::Csv, header(&rows))
        };
        let columns = Columns::of(&names).map_err(failed)?;
        Ok(Self {
            source,
            columns,
            format,
            name,
        })
    }

    pub(super) fn table(&self) -> Table {
        self.columns.table
    }

    /// Reads rows from a place on; the start is where the first row is.
    pub(super) fn rows(&self, from: Place) -> io::Result<Rows<'_>> {
        let content = self.source.open(from.position)?;
        let reader = match self.format {
            Format::Ndjson => Reader::Lines(Lines::new(content, from.line, from.position, None)),
            Format::Csv => {
                let mut rows = CsvRows::new(content, from);
                if from.position == 0 {
                    rows.next()?;
                }
                Reader::Csv(rows)
            }
        };
        Ok(Rows {
            columns: &self.columns,
            reader,
            line: Vec::new(),
        })
    }
}

/// Reads the rows of a file.
pub(super) struct Rows<'a> {
    columns: &'a Columns,
    reader: Reader,
    line: Vec<u8>,
}

enum Reader {
    Csv(CsvRows),
    Lines(Lines),
}

impl Rows<'_> {
    /// Returns where the next row begins.
    pub(super) fn place(&self) -> Place {
        match &self.reader {
            Reader::Csv(rows) => rows.place,
            Reader::Lines(lines) => Place {
                line: lines.number,
                position: lines.position,
            },
        }
    }

    /// Reads the next row. An error means that nothing behind it can be read.
    pub(super) fn next(&mut self) -> io::Result<Row> {
        loop {
            let line = self.place().line + 1;
            let cells = match &mut self.reader {
                Reader::Csv(rows) => {
                    if !rows.next()? {
                        return Ok(Row::End);
                    }
                    let fields: Vec<&[u8]> = rows.fields().collect();
                    if fields == [b""] {
                        continue;
                    }
                    self.columns.cells(&fields)
                }
                Reader::Lines(lines) => match lines.next(&mut self.line)? {
                    Next::End => return Ok(Row::End),
                    Next::TooLong => Err("The line is longer than 16 MiB.".to_owned()),
                    Next::Line if self.line.trim_ascii().is_empty() => continue,
                    Next::Line => object(&self.line, self.columns),
                },
            };
            return Ok(cells.map_or_else(
                |why| Row::Broken(line, why),
                |cells| Row::Cells(line, cells),
            ));
        }
    }
}

fn header(rows: &CsvRows) -> Vec<String> {
    let names = rows.fields().map(|name| {
        let name = String::from_utf8_lossy(name);
        name.trim_start_matches('\u{feff}').trim().to_lowercase()
    });
    names.collect()
}

/// Reads the cells of a JSON object: strings as their text, everything else as it is written.
fn object(line: &[u8], columns: &Columns) -> Result<Cells, String> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(line)
        .map_err(|error| format!("This is no JSON object: {error}."))?;
    let cell = |name: &str| -> Result<Option<String>, String> {
        match fields.get(name).map(|value| value.get()) {
            None | Some("null") => Ok(None),
            Some(text) if text.starts_with('"') => serde_json::from_str(text)
                .map(Some)
                .map_err(|error| format!("{name}: {error}.")),
            Some(text) => Ok(Some(text.to_owned())),
        }
    };
    columns.names.iter().map(|name| cell(name)).collect()
}
