//! Guesses at built-in fields that were probably meant. A guess never changes what a query means: `nmae:x` asks for
//! `data.nmae`, and the guess is only shown.

use super::{Clause, Field, Kind, Span};

/// A field that looks like a built-in one, misspelt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misspelling {
    /// Says where its clause stands.
    pub span: Span,
    /// Is the name as asked for.
    pub field: String,
    /// Is the built-in field probably meant.
    pub meant: &'static str,
}

/// Lists every field of the query that is close to a built-in one, in the order written.
pub fn did_you_mean(clause: &Clause) -> Vec<Misspelling> {
    match &clause.kind {
        Kind::And(clauses) | Kind::Or(clauses) => clauses.iter().flat_map(did_you_mean).collect(),
        Kind::Not(inner) => did_you_mean(inner),
        Kind::Field {
            field: Field::Data(path),
            ..
        } if path.segments.len() == 1 => {
            let misspelling = |meant| Misspelling {
                span: clause.span,
                field: path.joined(),
                meant,
            };
            meant_field(&path.joined())
                .map(misspelling)
                .into_iter()
                .collect()
        }
        Kind::Field { .. } | Kind::All | Kind::Word(_) | Kind::Phrase { .. } => Vec::new(),
    }
}

/// Returns the built-in field that `name` may be a slip of: one edit away, or two in a long name.
pub(in crate::search) fn meant_field(name: &str) -> Option<&'static str> {
    // A path `data.name` is spelt as it should be.
    if Field::built_in(name).is_some() || name.len() > 20 {
        return None;
    }
    let lower = name.to_lowercase();
    let closest = |known: &&'static str| edits(&lower, known);
    let meant = Field::BUILT_IN
        .map(|(known, _)| known)
        .into_iter()
        .min_by_key(closest)?;
    // Every other two-letter key is one edit from `id`; only swapped letters and capitals are a slip there.
    let is_slip = match meant.len() {
        0..=2 => edits(&lower, meant) == 0 || lower.chars().rev().eq(meant.chars()),
        3..=5 => edits(&lower, meant) <= 1,
        _ => edits(&lower, meant) <= 2,
    };
    is_slip.then_some(meant)
}

/// Returns which of the `known` names `name` may be a slip of: at most two edits away, and less than half of it.
pub fn closest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let near = known
        .filter(|known| known.len().abs_diff(name.len()) <= 2 * 4)
        .map(|known| (edits(name, known), known))
        .filter(|(edits, _)| *edits <= 2 && 2 * edits < name.chars().count());
    near.min().map(|(_, known)| known)
}

/// Counts the letters to insert, drop, replace or swap with their neighbour (optimal string alignment).
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::search::parse::parse;

    #[test]
    fn a_slip_in_a_built_in_name_is_guessed() {
        for (written, meant) in [
            ("nmae", "name"),
            ("Name", "name"),
            ("names", "name"),
            ("ID", "id"),
            ("di", "id"),
            ("sesion_id", "session_id"),
            ("timstmap", "timestamp"),
            ("catgory", "category"),
            ("ofset", "offset"),
            ("recieved_at", "received_at"),
        ] {
            assert_eq!(meant_field(written), Some(meant), "{written}");
        }
    }

    #[test]
    fn ordinary_keys_are_left_alone() {
        for written in [
            "path", "page", "ip", "i", "price", "name", "time", "locale", "", "session",
        ] {
            assert_eq!(meant_field(written), None, "{written}");
        }
    }

    #[test]
    fn guesses_come_with_the_place_of_the_clause() {
        let clause = parse("a OR -(nmae:x data.price:1)").unwrap();
        let expected = Misspelling {
            span: Span {
                position: 7,
                length: 6,
            },
            field: "nmae".to_owned(),
            meant: "name",
        };
        assert_eq!(did_you_mean(&clause), [expected]);
    }
}
