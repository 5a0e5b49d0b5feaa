//! `eye.toml`: one setting a line, by the names of the table.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::TABLE;
use crate::parameters::guess;

/// The name that is looked for in the data folder.
pub(super) const NAME: &str = "eye.toml";

/// What a file says, every name of which is a setting's.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    entries: Vec<Entry>,
}

/// One line of it.
pub(super) struct Entry {
    name: String,
    pub(super) text: String,
    pub(super) line: usize,
}

impl ConfigFile {
    /// Reads a file that must be there.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("reading the settings in {shown}: {error}"))?;
        let entries =
            entries(&text).map_err(|(line, why)| format!("{shown}, line {line}: {why}"))?;
        let secrets = TABLE.iter().filter(|setting| setting.is_secret());
        for secret in secrets {
            if entries.iter().any(|entry| entry.name == secret.name) && is_open(path) {
                return Err(format!(
                    "{shown} holds {} and may be read by others: chmod 600 {shown}",
                    secret.name
                ));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            entries,
        })
    }

    /// Reads a file, if it is there.
    pub(super) fn read_if_there(path: &Path) -> Result<Option<Self>, String> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            _ => Self::read(path).map(Some),
        }
    }

    /// Returns what it says about a setting.
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Returns a path as it is meant: one that is not absolute begins where the file lies.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// Whether others than the owner may read it. What cannot be looked at is not held against anybody.
fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & 0o077 != 0)
}

/// Returns the entries of a text, or the first line that is wrong and why.
fn entries(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let line_at = |position: usize| {
        let before = text.get(..position).unwrap_or(text);
        before.matches('\n').count() + 1
    };
    let table = DeTable::parse(text).map_err(|error| {
        let position = error.span().map_or(0, |span| span.start);
        (line_at(position), error.message().to_owned())
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_at(key.span().start);
        let name = key.get_ref().as_ref();
        if !TABLE.iter().any(|setting| setting.name == name) {
            let known: Vec<_> = TABLE.iter().map(|setting| setting.name).collect();
            return Err((
                line,
                format!("{name:?} is no setting.{}", guess(name, &known)),
            ));
        }
        let text = written(value.get_ref()).map_err(|why| (line, format!("{name} {why}")))?;
        let name = name.to_owned();
        entries.push(Entry { name, text, line });
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

/// Returns a value as the environment would hold it.
fn written(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.trim().to_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(yes) => Ok(yes.to_string()),
        DeValue::Array(items) => {
            let items: Result<Vec<_>, _> =
                items.iter().map(|item| written(item.get_ref())).collect();
            Ok(items?.join(","))
        }
        DeValue::Integer(_) => Err("is no decimal number".to_owned()),
        DeValue::Datetime(_) | DeValue::Table(_) => Err(format!(
            "is a {}; write a text or a number",
            value.type_str()
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_texts_and_lists_are_read_as_the_environment_would_hold_them() {
        let text = "# where\nlisten = \" 0.0.0.0:80 \"\nmax_index_lag = 2_000\nread_wait = 0.25\n";
        let read: Vec<_> = entries(text)
            .unwrap()
            .into_iter()
            .map(|entry| (entry.name, entry.text, entry.line))
            .collect();
        let expected = [
            ("listen", "0.0.0.0:80", 2),
            ("max_index_lag", "2000", 3),
            ("read_wait", "0.25", 4),
        ];
        assert_eq!(
            read,
            expected.map(|(name, text, line)| (name.to_owned(), text.to_owned(), line))
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, why) in [
            ("\nlisen = \"x\"", 2, "Did you mean \"listen\"?"),
            ("listen = ", 1, "value"),
            ("[server]\nlisten = \"x\"", 1, "\"server\" is no setting"),
            ("depth_max = 0x10", 1, "decimal"),
            ("depth_max = 2020-01-01", 1, "datetime"),
        ] {
            let (at, said) = entries(text).err().unwrap();
            assert_eq!(at, line, "{text}: {said}");
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
