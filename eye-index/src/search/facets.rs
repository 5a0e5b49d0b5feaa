//! What values a field has, and how often: over every match, not a sample.
//!
//! What must stay true: a count is of events, exact, or not said. Values come from the columns; of an event that has one of
//! the field elsewhere all of the field come from the log. Strings that fit in a bounded memory are numbered; more of
//! them are merged in the order of the dictionaries, so that a million need no memory of their own.

mod merge;
mod numbering;
mod values;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use eye_log::json::{Token, Tokens, unescape};
use eye_log::record::EventRecord;
use tantivy::DocId;

use super::flatten::{LEFT_OUT_ROOT, NULL_ROOT, PATH_SEPARATOR};
use super::matching::Matching;
use super::part::Part;
use super::query::Number;
use crate::bounds::{FACET_FIELDS, QUERY_MEMORY};
use crate::error::SearchError;
pub use merge::{Double, FacetValue, FieldFigures, TYPES};
use merge::{PartFigures, merge};
pub(crate) use numbering::Numberings;
pub use values::FieldColumns;
pub(crate) use values::Values;

/// What is wanted of a field.
#[derive(Debug, Clone, Copy)]
pub struct FacetOptions {
    /// So many of its most frequent values.
    pub size: usize,
    /// Whether when it was first and last seen is wanted.
    pub times: bool,
}

/// Counts the values of these fields over every match. Fields are named as queries name them.
pub(crate) fn facets(
    matching: &Matching<'_>,
    fields: &[FieldColumns],
    options: FacetOptions,
    numberings: &Numberings,
) -> Result<(u64, Vec<FieldFigures>), SearchError> {
    let parts = matching.by_part(|part, docs| {
        let mut figures = Vec::with_capacity(fields.len());
        let mut asks: BTreeMap<DocId, BTreeSet<usize>> = BTreeMap::new();
        for (place, field) in fields.iter().enumerate() {
            let mut values = Values::open(field, part, matching.check)?;
            if !matching.check.memory.take(values.counters_bytes()) {
                return Err(SearchError::Bound {
                    bound: &QUERY_MEMORY,
                    clause: field.label().to_owned(),
                });
            }
            let counted = values.count(part, &docs, options.times);
            if matching.check.is_late() {
                return Err(SearchError::Timeout);
            }
            for doc in counted.asks {
                asks.entry(doc).or_default().insert(place);
            }
            figures.push(counted.figures);
        }
        from_the_log(matching, part, fields, &asks, options.times, &mut figures)?;
        Ok((docs.len() as u64, figures))
    })?;
    let total = parts.iter().map(|(docs, _)| docs).sum();
    let mut by_field: Vec<Vec<PartFigures>> = fields.iter().map(|_| Vec::new()).collect();
    for (_, figures) in parts {
        for (field, figures) in by_field.iter_mut().zip(figures) {
            field.push(figures);
        }
    }
    let figures = by_field
        .into_iter()
        .zip(fields)
        .map(|(parts, field)| {
            matching.check.verdict()?;
            merge(&field.column(), parts, total, options.size, numberings)
        })
        .collect::<Result<_, _>>()?;
    Ok((total, figures))
}

/// Lists every path of `data` that the matches have, and others of their parts, by name as queries have it, of those that begin
/// with `prefix`. Events with values that have no place in the columns are read.
pub(crate) fn paths(matching: &Matching<'_>, prefix: &str) -> Result<Vec<String>, SearchError> {
    let root = format!("data{PATH_SEPARATOR}");
    let marks = [NULL_ROOT, LEFT_OUT_ROOT].map(|mark| format!("{root}{mark}{PATH_SEPARATOR}"));
    let parts = matching.by_part(|part, docs| {
        let mut names = BTreeSet::new();
        for (column, _) in part.columns().list_columns()? {
            let marked = marks.iter().find_map(|mark| column.strip_prefix(mark));
            if let Some(path) = marked.or_else(|| column.strip_prefix(&root)) {
                let name = path.replace(PATH_SEPARATOR, ".");
                if name.starts_with(prefix) {
                    names.insert(name);
                }
            }
        }
        let Some(partial) = part.partial().filter(|column| column.max_value() > 0) else {
            return Ok(names);
        };
        let mut looker = matching.check.looker();
        docs.each(|doc| {
            if partial.first(doc) == Some(1) {
                looker.passes(part.offset(doc), |subject| {
                    each_value(subject.event, |path, _| {
                        if names.len() <= FACET_FIELDS.value
                            && path.starts_with(prefix)
                            && !names.contains(path)
                        {
                            names.insert(path.to_owned());
                        }
                    });
                    true
                });
            }
        });
        Ok(names)
    })?;
    let names: BTreeSet<String> = parts.into_iter().flatten().collect();
    if names.len() > FACET_FIELDS.value {
        return Err(SearchError::Bound {
            bound: &FACET_FIELDS,
            clause: "every field".to_owned(),
        });
    }
    Ok(names.into_iter().collect())
}

/// Counts the values of the documents that the columns could not answer for.
fn from_the_log(
    matching: &Matching<'_>,
    part: &Part,
    fields: &[FieldColumns],
    asks: &BTreeMap<DocId, BTreeSet<usize>>,
    times: bool,
    figures: &mut [PartFigures],
) -> Result<(), SearchError> {
    if asks.is_empty() {
        return Ok(());
    }
    let places: HashMap<&str, usize> = fields
        .iter()
        .enumerate()
        .filter_map(|(place, field)| Some((field.path()?, place)))
        .collect();
    let mut looker = matching.check.looker();
    for (doc, wanted) in asks {
        let mut found: Vec<(usize, FacetValue)> = Vec::new();
        looker.passes(part.offset(*doc), |subject| {
            each_value(subject.event, |path, value| {
                if let Some(place) = places.get(path).filter(|place| wanted.contains(place)) {
                    found.push((*place, value));
                }
            });
            true
        });
        found.sort_unstable();
        found.dedup();
        let timestamp = times.then(|| part.timestamp(*doc));
        for values in found.chunk_by(|a, b| a.0 == b.0) {
            figures[values[0].0].push_event(
                values.iter().map(|(_, value)| value),
                timestamp,
                &matching.check.memory,
            );
        }
    }
    matching.check.verdict()
}

/// Hands every value of `data` to `see`, with its path as queries name it: keys with dots between, arrays passed through.
fn each_value(event: &EventRecord<'_>, mut see: impl FnMut(&str, FacetValue)) {
    let mut path = String::new();
    // For each open object or array, how much of the path leads to it.
    let mut open: Vec<usize> = Vec::new();
    let mut scratch = String::new();
    for token in Tokens::new(event.data) {
        let value = match token {
            Token::ObjectStart | Token::ArrayStart => {
                open.push(path.len());
                continue;
            }
            Token::ObjectEnd | Token::ArrayEnd => {
                path.truncate(open.pop().unwrap_or(0));
                continue;
            }
            Token::Key(raw) => {
                path.truncate(open.last().copied().unwrap_or(0));
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(unescape(raw, &mut scratch));
                continue;
            }
            Token::String(raw) => FacetValue::Text(unescape(raw, &mut scratch).to_owned()),
            Token::Number(digits) => match Number::parse(digits) {
                Some(number) => FacetValue::of_number(&number),
                None => continue,
            },
            Token::Bool(value) => FacetValue::Bool(value),
            Token::Null => FacetValue::Null,
        };
        see(&path, value);
    }
}
