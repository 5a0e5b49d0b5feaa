//! The values of a field in one part, document by document.

use std::sync::Arc;

use eye_log::{ApplicationId, Registry};
use tantivy::DocId;
use tantivy::columnar::{BytesColumn, Cardinality, Column, ColumnIndex, DynamicColumn};
use uuid::Uuid;

use super::each_value;
use super::merge::{EXACT_DOUBLE, FacetValue, PartFigures};
use super::numbering::PartStrings;
use crate::error::SearchError;
use crate::search::flatten::{LEFT_OUT_ROOT, NULL_ROOT, PATH_SEPARATOR};
use crate::search::log_check::{LogCheck, Looker};
use crate::search::matching::{Docs, TOGETHER};
use crate::search::part::Part;

/// Where one in so many documents is wanted, reading all between the first and the last is faster than one by one.
const DENSE: usize = 4;
/// With so few strings the same ones come again at once.
const FEW_STRINGS: usize = 256;
const LANES: usize = 4;

/// A field whose values can be counted.
#[derive(Debug, Clone)]
pub enum FieldColumns {
    /// `category` or `name`.
    Label(&'static str),
    /// `application`, with the names of all.
    Application(Arc<Registry>),
    /// `session_id`
    Session,
    /// A path in `data`, keys with dots between.
    Data(String),
}

impl FieldColumns {
    /// Returns the field of a name as queries have it; `None` for one whose values are different for every event.
    pub fn named(name: &str, registry: &Arc<Registry>) -> Option<Self> {
        Some(match name {
            "category" => Self::Label("category"),
            "name" => Self::Label("name"),
            "application" => Self::Application(registry.clone()),
            "session_id" => Self::Session,
            "id" | "offset" | "timestamp" | "received_at" => return None,
            path => Self::Data(path.strip_prefix("data.").unwrap_or(path).to_owned()),
        })
    }

    /// Returns the name, for people.
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Label(name) => name,
            Self::Application(_) => "application",
            Self::Session => "session_id",
            Self::Data(path) => path,
        }
    }

    /// Returns a name that no other field has.
    pub(super) fn column(&self) -> String {
        match self {
            Self::Data(path) => format!("data.{path}"),
            _ => self.label().to_owned(),
        }
    }

    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Self::Data(path) => Some(path),
            _ => None,
        }
    }
}

/// A field, opened in one part.
pub(crate) struct Values<'q> {
    field: &'q FieldColumns,
    part: &'q Arc<Part>,
    check: &'q LogCheck,
    looker: Option<Looker>,
    strings: Option<BytesColumn>,
    numbers: Vec<DynamicColumn>,
    bools: Option<Column<bool>>,
    nulls: Option<Column<bool>>,
    /// Set for events with a value at the path that is in no column.
    left_out: Option<Column<bool>>,
    /// Set for events with paths that have no column.
    partial: Option<Column<u64>>,
}

/// What a part's columns say, and which documents they cannot answer for.
pub(super) struct Counted {
    pub(super) figures: PartFigures,
    pub(super) asks: Vec<DocId>,
}

/// Counts the places in the dictionary that documents have, one at most each, in rows. Returns how many documents have one.
fn count_places(column: &BytesColumn, docs: &Docs, counts: &mut [u32]) -> u64 {
    let ords = column.ords();
    let mut tally = Tally::new(counts);
    let mut buffer = Vec::new();
    match docs {
        Docs::All(_) => {
            let rows = ords.values.num_vals();
            for start in (0..rows).step_by(TOGETHER) {
                buffer.resize(((rows - start) as usize).min(TOGETHER), 0);
                ords.values.get_range(u64::from(start), &mut buffer);
                tally.count(&buffer, |ord| ord);
            }
        }
        Docs::Some(docs) => {
            for docs in docs.chunks(TOGETHER) {
                let (first, end) = (docs[0], docs[docs.len() - 1] + 1);
                let rows = ords.index.docid_range_to_rowids(first..end);
                let span = (end - first) as usize;
                let all_have_one = rows.len() == span;
                if rows.is_empty() {
                    // None of them has a value.
                } else if all_have_one && span <= docs.len() * DENSE {
                    buffer.resize(span, 0);
                    ords.values.get_range(u64::from(rows.start), &mut buffer);
                    tally.count(docs, |doc| buffer[(doc - first) as usize]);
                } else if all_have_one {
                    buffer.resize(docs.len(), 0);
                    let found: Vec<u32> = docs.iter().map(|doc| doc - first + rows.start).collect();
                    ords.values.get_vals(&found, &mut buffer);
                    tally.count(&buffer, |ord| ord);
                } else {
                    let mut found = [None; TOGETHER];
                    ords.first_vals(docs, &mut found[..docs.len()]);
                    buffer.clear();
                    buffer.extend(found.iter().flatten());
                    tally.count(&buffer, |ord| ord);
                }
            }
        }
    }
    tally.close()
}

/// Parts documents, in order, into those that are not among `others` and those that are. The first are `None` where that is all of them.
fn without(docs: &Docs, others: &[DocId]) -> (Option<Docs>, Docs) {
    if others.is_empty() {
        return (None, Docs::Some(Vec::new()));
    }
    let (mut plain, mut among) = (Vec::with_capacity(docs.len()), Vec::new());
    let mut ahead = others.iter().copied().peekable();
    docs.each(|doc| {
        while ahead.next_if(|other| *other < doc).is_some() {}
        let is_other = ahead.peek() == Some(&doc);
        if is_other { &mut among } else { &mut plain }.push(doc);
    });
    (Some(Docs::Some(plain)), Docs::Some(among))
}

/// Counts of places in a dictionary. A few are counted several times over side by side, since a counter that was just written is slow
/// to be read.
struct Tally<'c> {
    counts: &'c mut [u32],
    beside: Option<Box<[[u32; FEW_STRINGS]; LANES]>>,
    counted: u64,
}

impl<'c> Tally<'c> {
    fn new(counts: &'c mut [u32]) -> Self {
        let few = counts.len() <= FEW_STRINGS;
        Self {
            counts,
            beside: few.then(|| Box::new([[0; FEW_STRINGS]; LANES])),
            counted: 0,
        }
    }

    /// Counts the place that each of these has.
    fn count<T: Copy>(&mut self, of: &[T], place: impl Fn(T) -> u64) {
        self.counted += of.len() as u64;
        let Some(beside) = &mut self.beside else {
            for one in of {
                self.counts[usize::try_from(place(*one)).unwrap_or(usize::MAX)] += 1;
            }
            return;
        };
        // One byte holds them; looking whether it does would take as long as counting.
        let byte = |one: T| usize::from(place(one).to_le_bytes()[0]);
        let (rows, rest) = of.as_chunks::<LANES>();
        for row in rows {
            for lane in 0..LANES {
                beside[lane][byte(row[lane])] += 1;
            }
        }
        for one in rest {
            beside[0][byte(*one)] += 1;
        }
    }

    /// Adds up what was counted, and returns how much. Panics, as counting does, at a place that the dictionary does not have.
    fn close(self) -> u64 {
        for beside in self.beside.iter().flat_map(|beside| beside.iter()) {
            let beyond = beside.iter().skip(self.counts.len());
            assert_eq!(beyond.sum::<u32>(), 0, "places that the dictionary lacks");
            for (count, more) in self.counts.iter_mut().zip(beside) {
                *count += more;
            }
        }
        self.counted
    }
}

/// Rows that values are counted in.
pub(crate) struct Slots<'v> {
    values: &'v [FacetValue],
    /// Of every string in the dictionary.
    of_strings: Vec<usize>,
    found: Vec<FacetValue>,
}

impl<'q> Values<'q> {
    pub(crate) fn open(
        field: &'q FieldColumns,
        part: &'q Arc<Part>,
        check: &'q LogCheck,
    ) -> Result<Self, SearchError> {
        let mut values = Self {
            field,
            part,
            check,
            looker: None,
            strings: None,
            numbers: Vec::new(),
            bools: None,
            nulls: None,
            left_out: None,
            partial: None,
        };
        let fast = part.reader.fast_fields();
        let path = match field {
            FieldColumns::Label(name) => {
                values.strings = fast.str(name)?.map(BytesColumn::from);
                return Ok(values);
            }
            FieldColumns::Application(_) => {
                values
                    .numbers
                    .push(DynamicColumn::U64(fast.u64("application")?));
                return Ok(values);
            }
            FieldColumns::Session => {
                values.strings = part.sessions().cloned();
                return Ok(values);
            }
            FieldColumns::Data(path) => path.replace('.', PATH_SEPARATOR.encode_utf8(&mut [0; 4])),
        };
        let name = format!("data{PATH_SEPARATOR}{path}");
        for handle in part.columns().read_columns(&name)? {
            match handle.open()? {
                DynamicColumn::Str(column) => values.strings = Some(column.into()),
                DynamicColumn::Bool(column) => values.bools = Some(column),
                column if column.is_numerical() => values.numbers.push(column),
                _ => {}
            }
        }
        let marks = |root: &str| -> tantivy::Result<Option<Column<bool>>> {
            let name = format!("data{PATH_SEPARATOR}{root}{PATH_SEPARATOR}{path}");
            let mut marks = None;
            for handle in part.columns().read_columns(&name)? {
                if let DynamicColumn::Bool(column) = handle.open()? {
                    marks = Some(column);
                }
            }
            Ok(marks)
        };
        values.nulls = marks(NULL_ROOT)?;
        values.left_out = marks(LEFT_OUT_ROOT)?;
        let partial = part.partial().filter(|column| column.max_value() > 0);
        values.partial = partial.cloned();
        Ok(values)
    }

    /// Returns how much memory counting takes for the strings of the dictionary. Bytes.
    pub(super) fn counters_bytes(&self) -> usize {
        self.strings.as_ref().map_or(0, BytesColumn::num_terms) * size_of::<u32>()
    }

    /// Counts the values of these documents.
    pub(super) fn count(&mut self, part: &Part, docs: &Docs, times: bool) -> Counted {
        let mut counted = Counted {
            figures: PartFigures::default(),
            asks: Vec::new(),
        };
        let mut strings = vec![0u32; self.strings.as_ref().map_or(0, BytesColumn::num_terms)];
        let others = if times {
            None
        } else {
            self.others(docs.len() / 2)
        };
        match others {
            None => self.count_each(part, docs, times, &mut strings, &mut counted),
            Some(others) => {
                let (plain, others) = without(docs, &others);
                if let Some(column) = &self.strings {
                    let docs = plain.as_ref().unwrap_or(docs);
                    let present = count_places(column, docs, &mut strings);
                    counted.figures.present = present;
                    counted.figures.types[0] = present;
                }
                self.count_each(part, &others, times, &mut strings, &mut counted);
            }
        }
        let strings = self.strings.clone().map(|column| PartStrings {
            part: self.part.clone(),
            column,
            counts: strings,
        });
        match self.field {
            // Session ids are bytes in the dictionary; as text they sort the same.
            FieldColumns::Session => {
                let mut bytes = Vec::new();
                for (ord, count) in strings
                    .iter()
                    .flat_map(|strings| strings.counts.iter().enumerate())
                {
                    if *count > 0
                        && let Some(PartStrings { column, .. }) = &strings
                        && column.ord_to_bytes(ord as u64, &mut bytes).unwrap_or(false)
                        && let Ok(session) = Uuid::from_slice(&bytes)
                    {
                        let value = FacetValue::Text(session.to_string());
                        counted
                            .figures
                            .push_other(value, *count, &self.check.memory);
                    }
                }
            }
            _ => counted.figures.strings = strings,
        }
        counted
    }

    /// Counts the values of documents one by one.
    fn count_each(
        &self,
        part: &Part,
        docs: &Docs,
        times: bool,
        strings: &mut [u32],
        counted: &mut Counted,
    ) {
        let (mut ords, mut found) = (Vec::new(), Vec::new());
        docs.each(|doc| {
            if self.must_ask(doc) {
                counted.asks.push(doc);
                return;
            }
            let mut kinds = [false; 4];
            if let Some(column) = &self.strings {
                ords.clear();
                ords.extend(column.term_ords(doc));
                ords.sort_unstable();
                ords.dedup();
                kinds[0] = !ords.is_empty();
                for ord in &ords {
                    strings[usize::try_from(*ord).unwrap_or(usize::MAX)] += 1;
                }
            }
            found.clear();
            self.push_others(doc, &mut found);
            found.sort_unstable();
            found.dedup();
            for value in found.drain(..) {
                match &value {
                    FacetValue::Text(_) => kinds[0] = true,
                    FacetValue::Integer(_) | FacetValue::Double(_) => kinds[1] = true,
                    FacetValue::Bool(_) => kinds[2] = true,
                    FacetValue::Null => kinds[3] = true,
                }
                if value != FacetValue::Null {
                    counted.figures.push_other(value, 1, &self.check.memory);
                }
            }
            let timestamp = times.then(|| part.timestamp(doc));
            counted.figures.count_event(kinds, timestamp);
        });
    }

    /// Returns the documents that may have anything but one string of the dictionary, in order; `None` where that is better found out for
    /// each document, as they are more than `most`.
    fn others(&self, most: usize) -> Option<Vec<DocId>> {
        let many =
            |column: &BytesColumn| column.ords().get_cardinality() == Cardinality::Multivalued;
        if self.strings.as_ref().is_some_and(many) {
            return None;
        }
        let numbers = self.numbers.iter().map(DynamicColumn::column_index);
        let marks = [&self.bools, &self.nulls, &self.left_out].into_iter();
        let marks = marks.flatten().map(|column| &column.index);
        let partial = self.partial.iter().map(|column| &column.index);
        let mut others = Vec::new();
        for index in numbers.chain(marks).chain(partial) {
            let documents: &mut dyn Iterator<Item = DocId> = match index {
                ColumnIndex::Empty { .. } => continue,
                ColumnIndex::Full => return None,
                ColumnIndex::Optional(index) => &mut index.iter_non_null_docs(),
                ColumnIndex::Multivalued(index) => &mut index.iter_non_null_docs(),
            };
            others.extend(documents.take(most + 1 - others.len()));
            if others.len() > most {
                return None;
            }
        }
        others.sort_unstable();
        others.dedup();
        Some(others)
    }

    /// Says whether the columns do not hold all values of a document, or not as they were sent.
    fn must_ask(&self, doc: DocId) -> bool {
        let partial = self
            .partial
            .as_ref()
            .is_some_and(|partial| partial.first(doc) == Some(1))
            || self
                .left_out
                .as_ref()
                .is_some_and(|left_out| left_out.first(doc).is_some());
        // A column that holds any double holds its integers as doubles too.
        partial
            || self.numbers.iter().any(|column| match column {
                DynamicColumn::F64(column) => column
                    .values_for_doc(doc)
                    .any(|value| value.abs() >= EXACT_DOUBLE),
                _ => false,
            })
    }

    /// Adds the values of a document that are no strings of a dictionary.
    fn push_others(&self, doc: DocId, found: &mut Vec<FacetValue>) {
        if let FieldColumns::Application(registry) = self.field {
            for column in &self.numbers {
                if let DynamicColumn::U64(column) = column {
                    found.extend(column.values_for_doc(doc).map(|number| {
                        let id = ApplicationId(u32::try_from(number).unwrap_or(u32::MAX));
                        let known = registry.application(id);
                        FacetValue::Text(known.map_or_else(String::new, |known| known.name.clone()))
                    }));
                }
            }
            return;
        }
        for column in &self.numbers {
            match column {
                DynamicColumn::I64(column) => found.extend(
                    column
                        .values_for_doc(doc)
                        .map(|value| FacetValue::Integer(value.into())),
                ),
                DynamicColumn::U64(column) => found.extend(
                    column
                        .values_for_doc(doc)
                        .map(|value| FacetValue::Integer(value.into())),
                ),
                DynamicColumn::F64(column) => {
                    found.extend(column.values_for_doc(doc).map(FacetValue::of_double));
                }
                _ => {}
            }
        }
        if let Some(column) = &self.bools {
            found.extend(column.values_for_doc(doc).map(FacetValue::Bool));
        }
        if self
            .nulls
            .as_ref()
            .is_some_and(|column| column.first(doc).is_some())
        {
            found.push(FacetValue::Null);
        }
    }

    /// Gives each of `values` a row, and one behind them to all others.
    pub(crate) fn slots<'v>(&self, values: &'v [FacetValue]) -> Result<Slots<'v>, SearchError> {
        let mut of_strings = Vec::new();
        if let (Some(column), false) = (&self.strings, matches!(self.field, FieldColumns::Session))
        {
            of_strings = vec![values.len(); column.num_terms()];
            for (row, value) in values.iter().enumerate() {
                if let FacetValue::Text(text) = value
                    && let Some(ord) = column.dictionary().term_ord(text.as_bytes())?
                    && let Some(slot) = usize::try_from(ord)
                        .ok()
                        .and_then(|ord| of_strings.get_mut(ord))
                {
                    *slot = row;
                }
            }
        }
        Ok(Slots {
            values,
            of_strings,
            found: Vec::new(),
        })
    }

    /// Adds the different values of a document.
    pub(crate) fn values_of(&mut self, doc: DocId, found: &mut Vec<FacetValue>) {
        if self.must_ask(doc) {
            let offset = self.part.offset(doc);
            let wanted = self.field.path().unwrap_or_default();
            let looker = self.looker.get_or_insert_with(|| self.check.looker());
            looker.passes(offset, |subject| {
                each_value(subject.event, |path, value| {
                    if path == wanted {
                        found.push(value);
                    }
                });
                true
            });
        } else {
            if let Some(column) = &self.strings {
                let mut bytes = Vec::new();
                for ord in column.term_ords(doc) {
                    if !column.ord_to_bytes(ord, &mut bytes).unwrap_or(false) {
                        continue;
                    }
                    let session = Uuid::from_slice(&bytes)
                        .ok()
                        .filter(|_| matches!(self.field, FieldColumns::Session));
                    found.push(FacetValue::Text(session.map_or_else(
                        || String::from_utf8_lossy(&bytes).into_owned(),
                        |session| session.to_string(),
                    )));
                }
            }
            self.push_others(doc, found);
        }
        found.sort_unstable();
        found.dedup();
    }

    /// Adds the rows of a document's values, each once.
    pub(crate) fn slots_of(&mut self, doc: DocId, slots: &mut Slots<'_>, rows: &mut Vec<usize>) {
        let mut found = std::mem::take(&mut slots.found);
        found.clear();
        if slots.of_strings.is_empty() || self.must_ask(doc) {
            self.values_of(doc, &mut found);
        } else {
            if let Some(column) = &self.strings {
                let row = |ord: u64| slots.of_strings.get(usize::try_from(ord).ok()?).copied();
                rows.extend(column.term_ords(doc).filter_map(row));
            }
            self.push_others(doc, &mut found);
        }
        for value in found.iter().filter(|value| **value != FacetValue::Null) {
            let row = slots.values.iter().position(|known| known == value);
            rows.push(row.unwrap_or(slots.values.len()));
        }
        rows.sort_unstable();
        rows.dedup();
        slots.found = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_places_and_many_are_tallied_to_the_last() {
        for strings in [3, 256, 257, 1000] {
            let mut counts = vec![0; strings];
            let mut expected = counts.clone();
            let mut tally = Tally::new(&mut counts);
            for events in [0, 1, 4, 6, 1023] {
                let places: Vec<usize> = (0..events).map(|at| at * at % strings).collect();
                for place in &places {
                    expected[*place] += 1;
                }
                tally.count(&places, |place| place as u64);
            }
            assert_eq!(tally.close(), 1034);
            assert_eq!(counts, expected);
        }
    }

    #[test]
    #[should_panic(expected = "places that the dictionary lacks")]
    fn a_place_that_the_dictionary_lacks_is_not_passed_over() {
        let mut counts = [0; 3];
        let mut tally = Tally::new(&mut counts);
        tally.count(&[0, 2, 9], |place| place);
        tally.close();
    }
}
