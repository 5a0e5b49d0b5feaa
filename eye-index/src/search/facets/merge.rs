//! Figures of a field, part by part and put together.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use foldhash::fast::FixedState;

use super::numbering::{Numberings, PartStrings};
use crate::bounds::Memory;
use crate::error::SearchError;
use crate::search::query::Number;

/// Beyond this, doubles skip integers.
pub(super) const EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;

/// A value of a field. Numbers are the same as queries have them: integers of 64 bits exactly, others by their nearest double.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FacetValue {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer within 64 bits.
    Integer(i128),
    /// Any other number.
    Double(Double),
    /// A string, as sent.
    Text(String),
}

/// A double in the order of its value. Never an integer that fits 64 bits and is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Double(u64);

impl Double {
    fn of(value: f64) -> Self {
        let bits = value.to_bits();
        // Ordered as unsigned integers: negative ones downwards, below the positive ones.
        Self(if bits >> 63 == 0 {
            bits | 1 << 63
        } else {
            !bits
        })
    }

    /// Returns the value; infinite where the number lies beyond the range of doubles.
    pub fn value(self) -> f64 {
        f64::from_bits(if self.0 >> 63 == 1 {
            self.0 & !(1 << 63)
        } else {
            !self.0
        })
    }
}

impl FacetValue {
    /// Returns a number of an event.
    pub(super) fn of_number(number: &Number) -> Self {
        match number.integer() {
            Some(integer) => Self::Integer(integer),
            None => Self::of_double(number.double()),
        }
    }

    /// Returns a double; one that is a whole number is the same as the integer.
    pub(super) fn of_double(value: f64) -> Self {
        if value.abs() < EXACT_DOUBLE && value.fract() == 0.0 {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole, and small")]
            return Self::Integer(value as i128);
        }
        Self::Double(Double::of(value))
    }

    /// Returns about how much memory it takes in a table of counts. Bytes.
    fn memory_bytes(&self) -> usize {
        // A table is half empty at worst.
        let text = if let Self::Text(text) = self {
            text.len()
        } else {
            0
        };
        2 * size_of::<(Self, u32)>() + text
    }

    fn kind(&self) -> usize {
        match self {
            Self::Text(_) => 0,
            Self::Integer(_) | Self::Double(_) => 1,
            Self::Bool(_) => 2,
            Self::Null => 3,
        }
    }
}

/// The names of the types of JSON that are counted, in the order of [`FieldFigures::types`].
pub const TYPES: [&str; 4] = ["string", "number", "boolean", "null"];

/// A field's figures over all matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFigures {
    /// Events that have a value other than null.
    pub present: u64,
    /// The other events.
    pub missing: u64,
    /// How many different values there are, null left out.
    pub distinct: u64,
    /// Whether all of them could be told apart. If not, `distinct` is the least that there are, and no values are named.
    pub distinct_exact: bool,
    /// The most frequent values with the events that have them; ties by value.
    pub values: Vec<(FacetValue, u64)>,
    /// How often other values are had, event by event.
    pub other: u64,
    /// Events with a value of each of [`TYPES`].
    pub types: [u64; 4],
    /// The earliest and the latest timestamp of an event that has it, unix microseconds, where that was asked for.
    pub seen: Option<(i64, i64)>,
}

pub(super) type Counts = HashMap<FacetValue, u32, FixedState>;

/// A field's figures in one part.
#[derive(Default)]
pub(super) struct PartFigures {
    /// The strings of its dictionary.
    pub(super) strings: Option<PartStrings>,
    /// What else there is.
    pub(super) others: Counts,
    /// Set where there were too many others to be told apart: at least so many.
    pub(super) least: Option<u64>,
    pub(super) present: u64,
    pub(super) types: [u64; 4],
    pub(super) seen: Option<(i64, i64)>,
}

impl PartFigures {
    /// Takes in an event with these different values.
    pub(super) fn push_event<'v>(
        &mut self,
        values: impl Iterator<Item = &'v FacetValue>,
        timestamp: Option<i64>,
        memory: &Memory,
    ) {
        let mut kinds = [false; 4];
        for value in values {
            kinds[value.kind()] = true;
            if *value != FacetValue::Null {
                self.push_other(value.clone(), 1, memory);
            }
        }
        self.count_event(kinds, timestamp);
    }

    /// Counts a value of so many events, unless there is no memory left to tell values apart.
    pub(super) fn push_other(&mut self, value: FacetValue, count: u32, memory: &Memory) {
        if self.least.is_some() {
            return;
        }
        if let Some(known) = self.others.get_mut(&value) {
            *known += count;
        } else if memory.take(value.memory_bytes()) {
            self.others.insert(value, count);
        } else {
            self.least = Some(self.others.len() as u64 + 1);
            self.others = Counts::default();
        }
    }

    /// Counts an event that has values of these kinds.
    pub(super) fn count_event(&mut self, kinds: [bool; 4], timestamp: Option<i64>) {
        for (types, kind) in self.types.iter_mut().zip(kinds) {
            *types += u64::from(kind);
        }
        if kinds[..3].contains(&true) {
            self.present += 1;
        }
        if let Some(timestamp) = timestamp.filter(|_| kinds.contains(&true)) {
            self.see(timestamp, timestamp);
        }
    }

    fn see(&mut self, first: i64, last: i64) {
        let (earliest, latest) = self.seen.unwrap_or((first, last));
        self.seen = Some((earliest.min(first), latest.max(last)));
    }
}

/// Puts the parts of a field, by name, together; `total` events match.
pub(super) fn merge(
    field: &str,
    parts: Vec<PartFigures>,
    total: u64,
    size: usize,
    numberings: &Numberings,
) -> Result<FieldFigures, SearchError> {
    let mut all = PartFigures::default();
    let mut texts: BTreeMap<String, u64> = BTreeMap::new();
    let mut others: BTreeMap<FacetValue, u64> = BTreeMap::new();
    let mut strings = Vec::new();
    for part in parts {
        all.least = all.least.max(part.least);
        all.present += part.present;
        for (sum, types) in all.types.iter_mut().zip(part.types) {
            *sum += types;
        }
        if let Some((first, last)) = part.seen {
            all.see(first, last);
        }
        for (value, count) in part.others {
            match value {
                FacetValue::Text(text) => *texts.entry(text).or_default() += u64::from(count),
                value => *others.entry(value).or_default() += u64::from(count),
            }
        }
        strings.extend(part.strings);
    }
    let mut top = Top {
        size,
        best: BinaryHeap::new(),
        distinct: 0,
        sum: 0,
    };
    for (value, count) in others {
        top.push(count, || value);
    }
    let mut see = |text: &[u8], count| {
        top.push(count, || {
            FacetValue::Text(String::from_utf8_lossy(text).into_owned())
        });
    };
    if !numberings.add_up(field, &strings, &texts, &mut see)? {
        each_text(&strings, texts, see)?;
    }
    let mut figures = FieldFigures {
        present: all.present,
        missing: total.saturating_sub(all.present),
        distinct: top.distinct,
        distinct_exact: all.least.is_none(),
        values: Vec::new(),
        other: top.sum,
        types: all.types,
        seen: all.seen,
    };
    if let Some(least) = all.least {
        figures.distinct = top.distinct.max(least);
        figures.other = all.present;
    } else {
        let mut values: Vec<_> = top.best.into_iter().map(|Reverse(one)| one).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        figures.values = values
            .into_iter()
            .map(|one| (one.value, one.count))
            .collect();
        figures.other -= figures.values.iter().map(|(_, count)| count).sum::<u64>();
    }
    Ok(figures)
}

/// A value with its count: the more frequent is greater, and of two alike the one whose value is smaller.
#[derive(PartialEq, Eq)]
struct Frequent {
    value: FacetValue,
    count: u64,
}

impl Ord for Frequent {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.count.cmp(&other.count)).then_with(|| other.value.cmp(&self.value))
    }
}

impl PartialOrd for Frequent {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The most frequent of the values seen.
struct Top {
    size: usize,
    best: BinaryHeap<Reverse<Frequent>>,
    distinct: u64,
    sum: u64,
}

impl Top {
    /// Takes in a value, which is made only where it may be among the most frequent.
    fn push(&mut self, count: u64, value: impl FnOnce() -> FacetValue) {
        self.distinct += 1;
        self.sum += count;
        if self.best.len() < self.size {
            let value = value();
            self.best.push(Reverse(Frequent { value, count }));
        } else if let Some(mut worst) = self.best.peek_mut()
            && count >= worst.0.count
        {
            let value = value();
            let one = Frequent { value, count };
            if one > worst.0 {
                *worst = Reverse(one);
            }
        }
    }
}

/// Hands every string of the dictionaries that was counted to `see`, once, with how often it was counted in all of them and in
/// `more`.
fn each_text(
    parts: &[PartStrings],
    more: BTreeMap<String, u64>,
    mut see: impl FnMut(&[u8], u64),
) -> Result<(), SearchError> {
    let mut streams = Vec::with_capacity(parts.len());
    // The next string of each stream; the smallest comes first.
    let mut heads: BinaryHeap<Reverse<(Vec<u8>, usize, u64)>> = BinaryHeap::new();
    for part in parts {
        streams.push((part.column.dictionary().stream()?, &part.counts));
    }
    let mut more = more.into_iter();
    let rest = streams.len();
    let mut advance = |place: usize, heads: &mut BinaryHeap<_>| {
        if place == rest {
            if let Some((text, count)) = more.next() {
                heads.push(Reverse((text.into_bytes(), place, count)));
            }
            return;
        }
        let (stream, counts) = &mut streams[place];
        while stream.advance() {
            let ord = usize::try_from(stream.term_ord()).unwrap_or(usize::MAX);
            if let Some(count) = counts.get(ord).filter(|count| **count > 0) {
                heads.push(Reverse((stream.key().to_vec(), place, u64::from(*count))));
                return;
            }
        }
    };
    (0..=rest).for_each(|place| advance(place, &mut heads));
    let mut current: Option<(Vec<u8>, u64)> = None;
    while let Some(Reverse((bytes, place, count))) = heads.pop() {
        advance(place, &mut heads);
        match &mut current {
            Some((same, sum)) if *same == bytes => *sum += count,
            _ => {
                if let Some((bytes, count)) = current.replace((bytes, count)) {
                    see(&bytes, count);
                }
            }
        }
    }
    if let Some((bytes, count)) = current {
        see(&bytes, count);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_one_value_however_they_are_written() {
        let value = |text: &str| FacetValue::of_number(&Number::parse(text).expect("a number"));
        assert_eq!(value("5"), value("5.0"));
        assert_eq!(value("-0"), value("0.0"));
        assert_eq!(value("5e2"), FacetValue::Integer(500));
        assert_eq!(
            value("18446744073709551615"),
            FacetValue::Integer(u64::MAX.into())
        );
        assert_ne!(value("9007199254740993"), value("9007199254740992"));
        assert_eq!(value("1e400"), value("2e400"));
        let mut doubles: Vec<f64> = vec![1.5, -1.5, 0.25, -1e300, 1e300, f64::INFINITY, -0.1];
        let mut ordered: Vec<Double> = doubles.iter().map(|value| Double::of(*value)).collect();
        ordered.sort_unstable();
        doubles.sort_unstable_by(f64::total_cmp);
        let back: Vec<f64> = ordered.into_iter().map(Double::value).collect();
        assert_eq!(back, doubles);
    }

    #[test]
    fn values_beyond_the_memory_are_not_told_apart_and_that_is_said() {
        let memory = Memory::default();
        let mut part = PartFigures::default();
        let long = "x".repeat(1 << 20);
        for number in 0..70 {
            part.push_other(FacetValue::Text(format!("{number}{long}")), 1, &memory);
            part.count_event([true, false, false, false], None);
        }
        let figures =
            merge("path", vec![part], 100, 3, &Numberings::default()).expect("memory alone");
        assert!(!figures.distinct_exact && figures.values.is_empty());
        assert!(
            (60..=70).contains(&figures.distinct),
            "{}",
            figures.distinct
        );
        assert_eq!(
            (figures.present, figures.missing, figures.other),
            (70, 30, 70)
        );
    }

    #[test]
    fn the_most_frequent_come_first_and_ties_go_by_value() {
        let mut part = PartFigures::default();
        for (text, count) in [("b", 3), ("a", 3), ("c", 9), ("d", 1)] {
            part.others.insert(FacetValue::Text(text.to_owned()), count);
        }
        part.others.insert(FacetValue::Integer(7), 2);
        part.present = 18;
        let figures =
            merge("path", vec![part], 20, 3, &Numberings::default()).expect("memory alone");
        let names: Vec<_> = figures
            .values
            .iter()
            .map(|(value, count)| (value.clone(), *count))
            .collect();
        let text = |text: &str| FacetValue::Text(text.to_owned());
        assert_eq!(names, [(text("c"), 9), (text("a"), 3), (text("b"), 3)]);
        assert_eq!(
            (figures.distinct, figures.other, figures.missing),
            (5, 3, 2)
        );
    }
}
