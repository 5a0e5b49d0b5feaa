//! Events as rows of CSV (RFC 4180), for spreadsheets.

use eye_log::{StoredEvent, format_timestamp};
use serde_json::Value;

use crate::error::Problem;

/// The columns where nobody said which.
const DEFAULT: [&str; 9] = [
    "id",
    "offset",
    "application",
    "session_id",
    "category",
    "name",
    "timestamp",
    "received_at",
    "data",
];
/// Columns at most.
const COLUMNS_MAX: usize = 200;

/// The columns of an export.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    names: Vec<String>,
    /// Cells are written as they are, also where a spreadsheet would take them for formulas.
    raw: bool,
}

impl Columns {
    /// Reads `fields`, names with commas between.
    pub(super) fn of(fields: Option<&str>, raw: bool) -> Result<Self, Problem> {
        let names: Vec<String> = match fields {
            None => DEFAULT.map(str::to_owned).to_vec(),
            Some(fields) => fields
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect(),
        };
        if names.iter().any(String::is_empty) || names.len() > COLUMNS_MAX {
            return Err(Problem::parameter(
                "fields",
                format!(
                    "must be 1 to {COLUMNS_MAX} names with commas between: {}, or paths in data.",
                    DEFAULT.join(", ")
                ),
            ));
        }
        Ok(Self { names, raw })
    }

    /// Returns the first row, with the names.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut row = Vec::new();
        for (place, name) in self.names.iter().enumerate() {
            self.cell(&mut row, place, name);
        }
        row.extend_from_slice(b"\r\n");
        row
    }

    /// Appends an event's row.
    pub(super) fn write(&self, out: &mut Vec<u8>, event: &StoredEvent, application: &str) {
        let mut data: Option<Value> = None;
        for (place, name) in self.names.iter().enumerate() {
            let text = match name.as_str() {
                "id" => event.id.to_string(),
                "offset" => event.offset.to_string(),
                "application" => application.to_owned(),
                "session_id" => event.session_id.to_string(),
                "category" => event.category.clone(),
                "name" => event.name.clone(),
                "timestamp" => format_timestamp(event.timestamp),
                "received_at" => format_timestamp(event.received_at),
                "data" => event.data.clone(),
                path => {
                    let path = path.strip_prefix("data.").unwrap_or(path);
                    let data = data.get_or_insert_with(|| {
                        // What is beyond the range of doubles cannot be read; `data` has it as sent.
                        serde_json::from_str(&event.data).unwrap_or_default()
                    });
                    value_at(data, path).map_or_else(String::new, |value| match value {
                        Value::String(text) => text.clone(),
                        Value::Null => String::new(),
                        other => other.to_string(),
                    })
                }
            };
            self.cell(out, place, &text);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn cell(&self, out: &mut Vec<u8>, place: usize, text: &str) {
        if place > 0 {
            out.push(b',');
        }
        let formula = !self.raw && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let quoted = text.contains([',', '"', '\n', '\r']);
        if quoted {
            out.push(b'"');
        }
        if formula {
            out.push(b'\'');
        }
        for byte in text.bytes() {
            if byte == b'"' {
                out.push(b'"');
            }
            out.push(byte);
        }
        if quoted {
            out.push(b'"');
        }
    }
}

/// Returns the value at a path; keys may have dots, arrays are written whole.
fn value_at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let fields = value.as_object()?;
    if let Some(value) = fields.get(path) {
        return Some(value);
    }
    let mut dots = path.match_indices('.');
    dots.find_map(|(dot, _)| value_at(fields.get(&path[..dot])?, &path[dot + 1..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cells_are_quoted_and_kept_from_being_formulas() {
        let row = |raw: bool, names: &str| {
            let columns = Columns::of(Some(names), raw).unwrap();
            String::from_utf8(columns.head()).unwrap()
        };
        assert_eq!(row(false, "a b,=SUM(1),-1,@x"), "a b,'=SUM(1),'-1,'@x\r\n");
        assert_eq!(row(true, "=SUM(1)"), "=SUM(1)\r\n");
        assert_eq!(row(false, "say \"hi\"\n"), "\"say \"\"hi\"\"\"\r\n");
        for wrong in ["", ",", "a,,b"] {
            assert!(Columns::of(Some(wrong), false).is_err());
        }
        let data = serde_json::json!({"a": {"b.c": [1, 2]}, "a.x": null, "z": "t"});
        assert_eq!(value_at(&data, "a.b.c").unwrap().to_string(), "[1,2]");
        assert!(value_at(&data, "a.x").unwrap().is_null());
        assert_eq!(value_at(&data, "a.b"), None);
    }
}
