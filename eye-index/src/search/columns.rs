//! Tests a field by its columns: the values of a search segment, kept apart from the events.
//!
//! What must stay true: an answer is "yes", "no", or "ask the log", and never a guess.

mod unpacked;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::columnar::{Cardinality, Column, ColumnType, DynamicColumn, StrColumn};
use tantivy::index::SegmentId;
use tantivy::{DocId, SegmentReader};

use super::docsets::{Filter, Price, Sieve};
use super::flatten::{LEFT_OUT_ROOT, NULL_ROOT, column_of};
use super::log_check::{LogCheck, Looker};
use super::matches::{
    bool_holds, double_within, doubles_of, field_holds, label_holds, null_holds, number_holds,
    string_holds,
};
use super::part::{Part, Parts};
use super::query::{Field, Scalar, Test};
pub(crate) use unpacked::Unpacked;

/// Beyond this, doubles skip integers.
const EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;

/// Lets documents pass whose field passes a test.
pub(crate) struct FieldFilter {
    field: Field,
    test: Arc<Test>,
    check: LogCheck,
    parts: Parts,
    opened: Mutex<HashMap<SegmentId, Arc<Columns>>>,
}

impl std::fmt::Debug for FieldFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FieldFilter")
            .field("field", &self.field)
            .field("test", &self.test)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Ask,
}

impl FieldFilter {
    pub(crate) fn new(field: Field, test: Test, check: LogCheck, parts: Parts) -> Self {
        Self {
            field,
            test: Arc::new(test),
            check,
            parts,
            opened: Mutex::default(),
        }
    }

    fn columns(&self, reader: &SegmentReader) -> tantivy::Result<Arc<Columns>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(columns) = opened.get(&reader.segment_id()) {
            return Ok(columns.clone());
        }
        let exists = matches!(*self.test, Test::Exists);
        let unpacked = &self.check.unpacked;
        let part = self.parts.of(reader)?;
        let columns = Arc::new(Columns::open(&self.field, exists, part, unpacked)?);
        opened.insert(reader.segment_id(), columns.clone());
        Ok(columns)
    }
}

impl Filter for FieldFilter {
    fn price(&self) -> Price {
        Price::Values
    }

    fn open(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Sieve>> {
        let columns = self.columns(reader)?;
        if columns.is_empty() {
            return Ok(Box::new(|_: DocId| false));
        }
        Ok(Box::new(FieldSieve {
            columns,
            part: self.parts.of(reader)?.clone(),
            field: self.field.clone(),
            test: self.test.clone(),
            check: self.check.clone(),
            looker: None,
            ords: Vec::new(),
        }))
    }
}

/// A [`FieldFilter`], opened in one search segment.
struct FieldSieve {
    columns: Arc<Columns>,
    part: Arc<Part>,
    field: Field,
    test: Arc<Test>,
    check: LogCheck,
    looker: Option<Looker>,
    ords: Vec<Option<u64>>,
}

impl Sieve for FieldSieve {
    fn passes(&mut self, doc: DocId) -> bool {
        match self.columns.answer(doc, &self.test) {
            Answer::Yes => true,
            Answer::No => false,
            Answer::Ask => {
                let looker = self.looker.get_or_insert_with(|| self.check.looker());
                looker.passes(self.part.offset(doc), |subject| {
                    field_holds(&self.field, &self.test, subject)
                })
            }
        }
    }

    fn keep(&mut self, docs: &mut Vec<DocId>) {
        let columns = self.columns.clone();
        for strings in &columns.strings {
            let ords = strings.column.ords();
            if ords.get_cardinality() == Cardinality::Multivalued {
                self.ords.clear();
                let all = docs.iter().flat_map(|doc| ords.values_for_doc(*doc));
                self.ords.extend(all.map(Some));
            } else {
                self.ords.resize(docs.len(), None);
                ords.first_vals(docs, &mut self.ords);
            }
            let found = self.ords.iter().flatten().copied();
            strings.judge_all(found, &self.test, columns.label);
            if columns.is_one_string_each() {
                let found = std::mem::take(&mut self.ords);
                let mut ords = found.iter().copied();
                docs.retain(|doc| match ords.next().flatten() {
                    Some(ord) => match strings.judged.of(ord) {
                        PASSES => true,
                        FAILS => false,
                        _ => self.passes(*doc),
                    },
                    None => false,
                });
                self.ords = found;
                return;
            }
        }
        docs.retain(|doc| self.passes(*doc));
    }
}

/// Says whether some document of a search segment has a value of the field that is in no column.
pub(super) fn has_values_left_out(field: &Field, part: &Part) -> tantivy::Result<bool> {
    let Field::Data(path) = field else {
        return Ok(false);
    };
    let (left_out, _) = column_of(Some(LEFT_OUT_ROOT), path);
    Ok(!part.opened(&left_out)?.is_empty() || part.partial().is_some())
}

/// The columns of one field in one search segment.
struct Columns {
    label: bool,
    /// Whether values of other paths are in the same columns.
    shared: bool,
    strings: Vec<Strings>,
    numbers: Vec<DynamicColumn>,
    bools: Vec<Column<bool>>,
    nulls: Option<Column<bool>>,
    /// For existence: everything at the path or below it.
    any: Vec<DynamicColumn>,
    /// Set for events with a value at the path that is in no column.
    left_out: Option<Column<bool>>,
    /// Set for events with paths that have no column.
    partial: Option<Column<u64>>,
}

struct Strings {
    segment: SegmentId,
    name: String,
    column: StrColumn,
    unpacked: Arc<Unpacked>,
    judged: Judgements,
}

/// What is known of the values of a dictionary, two bits each: a segment has thousands, and most are never asked for.
struct Judgements(Vec<AtomicU64>);

/// So many are in one number.
const JUDGED_TOGETHER: usize = 32;
const NOT_JUDGED: u64 = 0;
const PASSES: u64 = 1;
const FAILS: u64 = 2;
/// The dictionary does not give it: the log is asked.
const UNREADABLE: u64 = 3;

impl Columns {
    fn open(
        field: &Field,
        exists: bool,
        part: &Part,
        unpacked: &Arc<Unpacked>,
    ) -> tantivy::Result<Self> {
        let fast = part.reader.fast_fields();
        let strings = |name: &str, column: StrColumn| Strings {
            segment: part.id(),
            name: name.to_owned(),
            judged: Judgements::none_of(column.num_terms()),
            column,
            unpacked: unpacked.clone(),
        };
        let mut columns = Self {
            label: true,
            shared: false,
            strings: Vec::new(),
            numbers: Vec::new(),
            bools: Vec::new(),
            nulls: None,
            any: Vec::new(),
            left_out: None,
            partial: None,
        };
        let Field::Data(path) = field else {
            let name = if *field == Field::Category {
                "category"
            } else {
                "name"
            };
            let column = fast.str(name)?;
            columns
                .strings
                .extend(column.map(|column| strings(name, column)));
            return Ok(columns);
        };
        columns.label = false;
        let (name, shared) = column_of(None, path);
        columns.shared = shared;
        columns.partial = part.partial().cloned();
        let (left_out_name, _) = column_of(Some(LEFT_OUT_ROOT), path);
        if exists {
            for name in [&name, &left_out_name] {
                let here = fast.dynamic_column_handles(name)?;
                let below = fast.dynamic_subpath_column_handles(name)?;
                for handle in here.into_iter().chain(below) {
                    columns.any.push(handle.open()?);
                }
            }
            return Ok(columns);
        }
        for column in part.opened(&name)?.iter().cloned() {
            match column {
                DynamicColumn::Str(column) => columns.strings.push(strings(&name, column)),
                DynamicColumn::Bool(column) => columns.bools.push(column),
                column if column.column_type() != ColumnType::Bytes => columns.numbers.push(column),
                _ => {}
            }
        }
        let marks = |name: &str| -> tantivy::Result<Option<Column<bool>>> {
            let marks = part.opened(name)?;
            let mut marks = marks.iter().filter_map(|column| match column {
                DynamicColumn::Bool(column) => Some(column.clone()),
                _ => None,
            });
            Ok(marks.next_back())
        };
        columns.nulls = marks(&column_of(Some(NULL_ROOT), path).0)?;
        columns.left_out = marks(&left_out_name)?;
        Ok(columns)
    }

    /// Says whether documents have at most one value here, a string.
    fn is_one_string_each(&self) -> bool {
        let [strings] = self.strings.as_slice() else {
            return false;
        };
        strings.column.ords().get_cardinality() != Cardinality::Multivalued
            && !self.shared
            && self.has_no_others()
    }

    /// Says whether no document of the segment can pass.
    fn is_empty(&self) -> bool {
        self.strings.is_empty() && self.has_no_others()
    }

    fn has_no_others(&self) -> bool {
        self.numbers.is_empty()
            && self.bools.is_empty()
            && self.nulls.is_none()
            && self.any.is_empty()
            && self.left_out.is_none()
            && self.partial.is_none()
    }

    fn answer(&self, doc: DocId, test: &Test) -> Answer {
        let found = self.answer_of_values(doc, test);
        match found {
            // The value may be another path's that is spelt alike.
            Answer::Yes if self.shared => Answer::Ask,
            Answer::No if self.is_incomplete(doc) => Answer::Ask,
            found => found,
        }
    }

    fn is_incomplete(&self, doc: DocId) -> bool {
        let partial = self.partial.as_ref();
        let left_out = self.left_out.as_ref();
        partial.is_some_and(|partial| partial.first(doc) == Some(1))
            || left_out.is_some_and(|left_out| left_out.first(doc).is_some())
    }

    fn answer_of_values(&self, doc: DocId, test: &Test) -> Answer {
        if self.any.iter().any(|column| has_value(column, doc)) {
            return Answer::Yes;
        }
        let mut found = Answer::No;
        for strings in &self.strings {
            match strings.answer(doc, test, self.label) {
                Answer::Yes => return Answer::Yes,
                Answer::Ask => found = Answer::Ask,
                Answer::No => {}
            }
        }
        if self.bools.iter().any(|column| {
            column
                .values_for_doc(doc)
                .any(|value| bool_holds(test, value))
        }) {
            return Answer::Yes;
        }
        if self
            .nulls
            .as_ref()
            .is_some_and(|column| column.first(doc).is_some())
            && null_holds(test)
        {
            return Answer::Yes;
        }
        for column in &self.numbers {
            match number_answer(column, doc, test) {
                Answer::Yes => return Answer::Yes,
                Answer::Ask => found = Answer::Ask,
                Answer::No => {}
            }
        }
        found
    }
}

impl Judgements {
    /// Returns what is known of so many values at first: nothing.
    fn none_of(values: usize) -> Self {
        let numbers = 0..values.div_ceil(JUDGED_TOGETHER);
        Self(numbers.map(|_| AtomicU64::new(0)).collect())
    }

    /// Returns the number that a value's judgement is in, and how far up.
    fn place(&self, ord: u64) -> Option<(&AtomicU64, usize)> {
        let ord = usize::try_from(ord).ok()?;
        let number = self.0.get(ord / JUDGED_TOGETHER)?;
        Some((number, ord % JUDGED_TOGETHER * 2))
    }

    fn of(&self, ord: u64) -> u64 {
        let place = self.place(ord);
        place.map_or(UNREADABLE, |(number, up)| {
            number.load(Ordering::Relaxed) >> up & 3
        })
    }

    /// Notes what is known of a value. Where two threads judge it they find the same, or one cannot read it, and both notes together
    /// say that.
    fn note(&self, ord: u64, judgement: u64) {
        if let Some((number, up)) = self.place(ord) {
            number.fetch_or(judgement << up, Ordering::Relaxed);
        }
    }
}

impl Strings {
    /// Judges values that were not yet. What cannot be read stays as it was.
    fn judge_all(&self, ords: impl Iterator<Item = u64>, test: &Test, label: bool) {
        let mut ords: Vec<u64> = ords
            .filter(|ord| self.judged.of(*ord) == NOT_JUDGED)
            .collect();
        ords.sort_unstable();
        ords.dedup();
        let judge = |ord, bytes: &[u8]| {
            if let Ok(value) = std::str::from_utf8(bytes) {
                self.judged.note(ord, judgement_of(test, value, label));
            }
        };
        // What this leaves out is not judged.
        let _ = self
            .unpacked
            .each(self.segment, &self.name, &self.column, &ords, judge);
    }

    fn answer(&self, doc: DocId, test: &Test, label: bool) -> Answer {
        let mut found = Answer::No;
        for ord in self.column.term_ords(doc) {
            if self.judged.of(ord) == NOT_JUDGED {
                self.judge_all(std::iter::once(ord), test, label);
                if self.judged.of(ord) == NOT_JUDGED {
                    self.judged.note(ord, UNREADABLE);
                }
            }
            match self.judged.of(ord) {
                PASSES => return Answer::Yes,
                FAILS => {}
                _ => found = Answer::Ask,
            }
        }
        found
    }
}

fn judgement_of(test: &Test, value: &str, label: bool) -> u64 {
    let holds = if label {
        label_holds(test, value)
    } else {
        string_holds(test, value)
    };
    if holds { PASSES } else { FAILS }
}

fn has_value(column: &DynamicColumn, doc: DocId) -> bool {
    !matches!(column.column_index().value_row_ids(doc), range if range.is_empty())
}

fn number_answer(column: &DynamicColumn, doc: DocId, test: &Test) -> Answer {
    let any = |mut answers: Box<dyn Iterator<Item = Answer> + '_>| {
        let mut found = Answer::No;
        for answer in answers.by_ref() {
            match answer {
                Answer::Yes => return Answer::Yes,
                Answer::Ask => found = Answer::Ask,
                Answer::No => {}
            }
        }
        found
    };
    match column {
        DynamicColumn::I64(column) => any(Box::new(
            column
                .values_for_doc(doc)
                .map(|value| exact(test, value.into())),
        )),
        DynamicColumn::U64(column) => any(Box::new(
            column
                .values_for_doc(doc)
                .map(|value| exact(test, value.into())),
        )),
        DynamicColumn::F64(column) => any(Box::new(
            column.values_for_doc(doc).map(|value| rounded(test, value)),
        )),
        _ => Answer::No,
    }
}

fn exact(test: &Test, value: i128) -> Answer {
    if number_holds(test, &value.to_string()) {
        Answer::Yes
    } else {
        Answer::No
    }
}

/// A column that holds any double holds its integers as doubles too, so large ones may have been others.
fn rounded(test: &Test, value: f64) -> Answer {
    let same = |wanted: &Scalar| match wanted {
        Scalar::Number(number) if number.double() == value => {
            if value.abs() >= EXACT_DOUBLE {
                Answer::Ask
            } else {
                Answer::Yes
            }
        }
        _ => Answer::No,
    };
    match test {
        Test::Is(wanted) => wanted.literal().as_ref().map_or(Answer::No, same),
        Test::In(values) => values
            .iter()
            .filter_map(|wanted| wanted.literal())
            .map(|wanted| same(&wanted))
            .find(|answer| *answer != Answer::No)
            .unwrap_or(Answer::No),
        Test::Exactly(scalar) => same(scalar),
        Test::Range { lower, upper } => match doubles_of(lower, upper) {
            Some((lower, upper)) if double_within(value, lower, upper) => Answer::Yes,
            _ => Answer::No,
        },
        _ => Answer::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_value_is_known_of_no_other() {
        for values in [1, 31, 32, 33, 100] {
            let judged = Judgements::none_of(values);
            let judgement = |ord: u64| ord % 3 + 1;
            for ord in 0..values as u64 {
                assert_eq!(judged.of(ord), NOT_JUDGED);
                for _ in 0..2 {
                    judged.note(ord, judgement(ord));
                }
                assert!((0..=ord).all(|ord| judged.of(ord) == judgement(ord)));
            }
            // What no dictionary of so many has is not known.
            assert_eq!(judged.of(values as u64 + 64), UNREADABLE);
        }
    }
}
