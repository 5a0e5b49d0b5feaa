//! The tables of the old service, and the columns that are taken over.

use super::dump::Cells;
use std::fmt;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Applications,
    Sessions,
    Events,
}

impl Table {
    const ALL: [Table; 3] = [Table::Applications, Table::Sessions, Table::Events];

    /// Returns its columns, each with another name that it may have; those with `true` must be there.
    fn columns(self) -> &'static [(&'static str, &'static str, bool)] {
        match self {
            Table::Applications => &[
                ("id", "id", true),
                ("name", "name", true),
                ("token", "token", true),
                ("active", "is_active", false),
            ],
            Table::Sessions => &[("id", "id", true), ("application_id", "application", true)],
            Table::Events => &[
                ("id", "id", true),
                ("session_id", "session", true),
                ("category", "category", true),
                ("name", "name", true),
                ("data", "data", true),
                ("timestamp", "timestamp", true),
            ],
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Table::Applications => "applications",
            Table::Sessions => "sessions",
            Table::Events => "events",
        })
    }
}

/// Which columns of a file are whose.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) table: Table,
    /// The names in the file of the table's columns, in the table's order; empty for one that is not there.
    pub(super) names: Vec<String>,
    /// Where they stand.
    places: Vec<Option<usize>>,
    count: usize,
    /// What is not taken over.
    pub(super) left: Vec<String>,
}

impl Columns {
    /// Tells the table by its columns, which may come in any order and with others between them.
    pub(super) fn of(header: &[String]) -> Result<Self, String> {
        let place = |name: &str| header.iter().position(|have| have == name);
        let find = |table: Table| {
            let columns = table.columns().iter();
            let found =
                columns.map(|(name, other, must)| (place(name).or_else(|| place(other)), *must));
            found
                .map(|(place, must)| (place.is_some() || !must).then_some(place))
                .collect::<Option<Vec<_>>>()
        };
        // The most columns first: events have a name and an id, too.
        let found = Table::ALL
            .into_iter()
            .rev()
            .find_map(|table| Some((table, find(table)?)));
        let Some((table, places)) = found else {
            let expected = Table::ALL.map(|table| {
                let names: Vec<_> = table
                    .columns()
                    .iter()
                    .filter(|(_, _, must)| *must)
                    .map(|(name, _, _)| *name)
                    .collect();
                format!("{table}: {}", names.join(", "))
            });
            return Err(format!(
                "the columns {} are those of no table ({}); for CSV write them with \
                 \\copy … TO 'FILE' WITH (FORMAT csv, HEADER)",
                header.join(", "),
                expected.join("; ")
            ));
        };
        let names = places
            .iter()
            .map(|place| place.map_or_else(String::new, |place| header[place].clone()));
        let left = header
            .iter()
            .enumerate()
            .filter(|(place, _)| !places.contains(&Some(*place)))
            .map(|(_, name)| name.clone());
        Ok(Self {
            table,
            names: names.collect(),
            left: left.collect(),
            count: header.len(),
            places,
        })
    }

    /// Picks the cells out of the fields of a row of CSV. An empty field is none.
    pub(super) fn cells(&self, fields: &[&[u8]]) -> Result<Cells, String> {
        if fields.len() != self.count {
            return Err(format!(
                "The row has {} fields, and the header {}.",
                fields.len(),
                self.count
            ));
        }
        let cell = |place: &Option<usize>| {
            let field = place.map(|place| fields[place]).unwrap_or_default();
            let text =
                std::str::from_utf8(field).map_err(|_| "The row is not UTF-8.".to_owned())?;
            Ok((!text.is_empty()).then(|| text.to_owned()))
        };
        self.places.iter().map(cell).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn columns(header: &str) -> Result<Columns, String> {
        let names: Vec<String> = header.split(',').map(str::to_owned).collect();
        Columns::of(&names)
    }

    #[test]
    fn a_table_is_told_by_its_columns_in_any_order() {
        for (header, table, left) in [
            ("token,name,id", Table::Applications, vec![]),
            (
                "id,name,token,active,created",
                Table::Applications,
                vec!["created"],
            ),
            ("application_id,id", Table::Sessions, vec![]),
            ("id,application", Table::Sessions, vec![]),
            (
                "data,timestamp,name,category,session_id,id,seen",
                Table::Events,
                vec!["seen"],
            ),
        ] {
            let columns = columns(header).unwrap();
            assert_eq!(columns.table, table, "{header}");
            assert_eq!(columns.left, left, "{header}");
        }
        let refused = columns("id,name").unwrap_err();
        assert!(refused.contains("HEADER"), "{refused}");
    }

    #[test]
    fn cells_come_in_the_order_of_the_table() {
        let columns = columns("name,x,token,id").unwrap();
        let cells = columns.cells(&[b"shop", b"-", b"", b"7"]).unwrap();
        assert_eq!(
            cells,
            [Some("7".to_owned()), Some("shop".to_owned()), None, None]
        );
        assert!(columns.cells(&[b"shop"]).is_err());
        assert!(columns.cells(&[b"\xff", b"", b"", b""]).is_err());
    }
}
