//! One search segment of a shard, open for reading, with what newest-first needs to know of it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use eye_log::Offset;
use tantivy::columnar::{BytesColumn, Column, ColumnValues, ColumnarReader, DynamicColumn};
use tantivy::index::{SegmentComponent, SegmentId};
use tantivy::{DocId, Segment, SegmentReader};

use crate::error::IndexError;

/// Documents per block: what is looked through for rows.
pub(crate) const BLOCK_DOCS: u32 = 1024;
/// Documents per run: so few lie within one hour nine times out of ten, on a million events a month.
const RUN_DOCS: u32 = 128;

/// So many names of columns are kept open at most, if they are no longer than this. Questions make them up.
const OPENED_MAX: usize = 48;
const OPENED_NAME_MAX_BYTES: usize = 256;

/// The search segments that a question is asked of.
#[derive(Debug, Clone)]
pub(crate) struct Parts(Arc<[Arc<Part>]>);

impl Parts {
    /// Returns the one that `reader` reads. What it holds open need not be opened anew: that takes as long as a short answer.
    pub(crate) fn of(&self, reader: &SegmentReader) -> tantivy::Result<&Arc<Part>> {
        let part = self.iter().find(|part| part.id() == reader.segment_id());
        part.ok_or_else(|| {
            let what = "a search segment that the question is not asked of";
            tantivy::TantivyError::InternalError(what.to_owned())
        })
    }
}

impl FromIterator<Arc<Part>> for Parts {
    fn from_iter<I: IntoIterator<Item = Arc<Part>>>(parts: I) -> Self {
        Self(parts.into_iter().collect())
    }
}

impl std::ops::Deref for Parts {
    type Target = [Arc<Part>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A search segment.
pub(crate) struct Part {
    pub(crate) reader: SegmentReader,
    offsets: Arc<dyn ColumnValues<u64>>,
    timestamps: Arc<dyn ColumnValues<i64>>,
    sessions: Option<BytesColumn>,
    partial: Option<Column<u64>>,
    /// All columns, by the names they have in the file.
    columns: ColumnarReader,
    /// Those that filters asked for, by the names that readers of fast fields know them by.
    opened: Mutex<HashMap<String, Arc<[DynamicColumn]>>>,
    /// The times of every [`BLOCK_DOCS`] documents.
    blocks: TimeTable,
    /// The times of every [`RUN_DOCS`].
    runs: TimeTable,
    first_offset: Offset,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part")
            .field("id", &self.id())
            .field("docs", &self.docs())
            .finish_non_exhaustive()
    }
}

impl Part {
    pub(crate) fn open(segment: &Segment) -> Result<Self, IndexError> {
        let reader = SegmentReader::open(segment)?;
        let offsets = one_each(reader.fast_fields().u64("offset")?);
        let timestamps = one_each(reader.fast_fields().i64("timestamp")?);
        let sessions = reader.fast_fields().bytes("session")?;
        let partial = reader.fast_fields().u64("partial").ok();
        let file = segment
            .open_read(SegmentComponent::FastFields)
            .map_err(tantivy::TantivyError::from)?;
        let all_columns = ColumnarReader::open(file).map_err(tantivy::TantivyError::from)?;
        let docs = reader.max_doc();
        let mut runs = Vec::with_capacity(docs.div_ceil(RUN_DOCS) as usize);
        let mut values = [0; RUN_DOCS as usize];
        for start in (0..docs).step_by(RUN_DOCS as usize) {
            let values = &mut values[..(docs - start).min(RUN_DOCS) as usize];
            timestamps.get_range(u64::from(start), values);
            let earliest = values.iter().copied().min().unwrap_or(i64::MAX);
            runs.push((earliest, values.iter().copied().max().unwrap_or(i64::MIN)));
        }
        let runs_each = BLOCK_DOCS / RUN_DOCS;
        let blocks = runs.chunks(runs_each as usize).map(span).collect();
        let first_offset = if docs > 0 {
            offsets.get_val(0)
        } else {
            Offset::MAX
        };
        Ok(Self {
            reader,
            offsets,
            timestamps,
            sessions,
            partial: partial.filter(|column| column.values.num_vals() > 0),
            columns: all_columns,
            opened: Mutex::default(),
            blocks: TimeTable::new(BLOCK_DOCS, blocks),
            runs: TimeTable::new(RUN_DOCS, runs),
            first_offset,
        })
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.reader.segment_id()
    }

    pub(crate) fn docs(&self) -> u32 {
        self.reader.max_doc()
    }

    pub(crate) fn first_offset(&self) -> Offset {
        self.first_offset
    }

    pub(crate) fn offset(&self, doc: DocId) -> Offset {
        self.offsets.get_val(doc)
    }

    pub(crate) fn last_offset(&self) -> Offset {
        self.docs()
            .checked_sub(1)
            .map_or(0, |last| self.offset(last))
    }

    /// Returns the first document at an offset or behind it.
    pub(crate) fn first_doc_from(&self, offset: Offset) -> DocId {
        let (mut low, mut high) = (0, self.docs());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.offset(middle) < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Returns how many documents lie within a range of offsets.
    pub(crate) fn docs_within(&self, range: &Range<Offset>) -> u32 {
        (self.first_doc_from(range.end)).saturating_sub(self.first_doc_from(range.start))
    }

    pub(crate) fn timestamp(&self, doc: DocId) -> i64 {
        self.timestamps.get_val(doc)
    }

    pub(crate) fn timestamps(&self) -> &Arc<dyn ColumnValues<i64>> {
        &self.timestamps
    }

    /// Returns the column of sessions, whose dictionary has them in order.
    pub(crate) fn sessions(&self) -> Option<&BytesColumn> {
        self.sessions.as_ref()
    }

    /// Returns the column that is 1 for events with paths that have no column, where there are any.
    pub(crate) fn partial(&self) -> Option<&Column<u64>> {
        self.partial.as_ref()
    }

    /// Returns all columns, by the names they have in the file.
    pub(crate) fn columns(&self) -> &ColumnarReader {
        &self.columns
    }

    /// Returns the columns of a name, as readers of fast fields know it, and keeps them open: finding and opening those of one field
    /// takes as long as judging the documents of a short answer.
    pub(crate) fn opened(&self, name: &str) -> tantivy::Result<Arc<[DynamicColumn]>> {
        let known = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(columns) = known().get(name) {
            return Ok(columns.clone());
        }
        let handles = self.reader.fast_fields().dynamic_column_handles(name)?;
        let columns: Result<Arc<[_]>, _> = handles.iter().map(|handle| handle.open()).collect();
        let columns = columns?;
        if name.len() <= OPENED_NAME_MAX_BYTES {
            let mut known = known();
            if known.len() == OPENED_MAX {
                known.clear();
            }
            known.insert(name.to_owned(), columns.clone());
        }
        Ok(columns)
    }

    /// Returns the earliest and the latest timestamp.
    pub(crate) fn times(&self) -> (i64, i64) {
        span(&self.blocks.times)
    }

    /// Returns the first document behind the run of a document, and the run's earliest and latest timestamp.
    pub(crate) fn run_of(&self, doc: DocId) -> (DocId, (i64, i64)) {
        let run = doc / RUN_DOCS;
        let times = self.runs.times.get(run as usize);
        (
            (run + 1).saturating_mul(RUN_DOCS),
            times.copied().unwrap_or((i64::MIN, i64::MAX)),
        )
    }

    /// Returns the session of a document.
    pub(crate) fn session(&self, doc: DocId) -> Option<uuid::Uuid> {
        let column = self.sessions.as_ref()?;
        let ord = column.term_ords(doc).next()?;
        let mut bytes = Vec::with_capacity(16);
        column.ord_to_bytes(ord, &mut bytes).ok()?;
        uuid::Uuid::from_slice(&bytes).ok()
    }

    /// Returns the earliest and latest timestamps of all blocks.
    pub(crate) fn blocks(&self) -> &TimeTable {
        &self.blocks
    }

    /// Returns the earliest and latest timestamps of all runs: there is a whole number of them in every block.
    pub(crate) fn runs(&self) -> &TimeTable {
        &self.runs
    }
}

#[cfg(test)]
impl Part {
    /// Returns how many names of columns are kept open.
    pub(crate) fn names_opened(&self) -> usize {
        self.opened.lock().expect("nothing panics with it").len()
    }
}

/// The earliest and latest timestamp of every so many documents.
pub(crate) struct TimeTable {
    docs_each: u32,
    times: Vec<(i64, i64)>,
    newest_first: BestFirst,
    oldest_first: BestFirst,
}

/// The entries of a table, best first for who asks for the newest or for the oldest. Of equal ones the last comes first.
struct BestFirst {
    entries: Vec<u32>,
    /// Of each entry and those before it the earliest timestamp, or the latest one where the oldest come first.
    reached: Vec<i64>,
}

impl TimeTable {
    fn new(docs_each: u32, times: Vec<(i64, i64)>) -> Self {
        let of = |entry: u32| times[entry as usize];
        let mut newest: Vec<u32> = (0..).take(times.len()).collect();
        let mut oldest = newest.clone();
        newest.sort_unstable_by_key(|entry| Reverse((of(*entry).1, *entry)));
        oldest.sort_unstable_by_key(|entry| (of(*entry).0, Reverse(*entry)));
        let mut earliest: Vec<i64> = newest.iter().map(|entry| of(*entry).0).collect();
        let mut latest: Vec<i64> = oldest.iter().map(|entry| of(*entry).1).collect();
        for at in 1..times.len() {
            earliest[at] = earliest[at].min(earliest[at - 1]);
            latest[at] = latest[at].max(latest[at - 1]);
        }
        Self {
            docs_each,
            times,
            newest_first: BestFirst {
                entries: newest,
                reached: earliest,
            },
            oldest_first: BestFirst {
                entries: oldest,
                reached: latest,
            },
        }
    }

    /// Returns the documents of every entry that may hold timestamps at `from` or later and before `to`, and their earliest and latest
    /// timestamp: those with the latest ones first, or those with the earliest. The last documents may be more than there are.
    pub(crate) fn best_first(
        &self,
        newest_first: bool,
        from: Option<i64>,
        to: Option<i64>,
    ) -> impl Iterator<Item = (Range<DocId>, (i64, i64))> + use<'_> {
        let times = |entry: &u32| self.times[*entry as usize];
        let starts = move |earliest: i64| to.is_none_or(|to| earliest < to);
        let lasts = move |latest: i64| from.is_none_or(|from| latest >= from);
        let BestFirst { entries, reached } = if newest_first {
            &self.newest_first
        } else {
            &self.oldest_first
        };
        // What lies wholly on the other side of the range comes before all that does not, and what is past it behind.
        let (first, end) = if newest_first {
            (
                reached.partition_point(|earliest| !starts(*earliest)),
                entries.partition_point(|entry| lasts(times(entry).1)),
            )
        } else {
            (
                reached.partition_point(|latest| !lasts(*latest)),
                entries.partition_point(|entry| starts(times(entry).0)),
            )
        };
        let within = entries.get(first..end).unwrap_or_default();
        within.iter().filter_map(move |entry| {
            let (earliest, latest) = self.times[*entry as usize];
            let start = entry.saturating_mul(self.docs_each);
            let docs = start..start.saturating_add(self.docs_each);
            (starts(earliest) && lasts(latest)).then_some((docs, (earliest, latest)))
        })
    }
}

fn span(times: &[(i64, i64)]) -> (i64, i64) {
    let earliest = times.iter().map(|times| times.0).min();
    let latest = times.iter().map(|times| times.1).max();
    (earliest.unwrap_or(i64::MAX), latest.unwrap_or(i64::MIN))
}

/// Every document has one, so that its number is the value's place; a file that says otherwise is not taken at its word.
fn one_each<T>(column: Column<T>) -> Arc<dyn ColumnValues<T>>
where
    T: PartialOrd + Copy + std::fmt::Debug + Default + Send + Sync + 'static,
{
    if column.get_cardinality().is_full() {
        column.values
    } else {
        column.first_or_default_col(T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_within_a_range_come_best_first_and_no_others() {
        // Near their order, far from it, and all alike.
        let tables: [fn(i64) -> (i64, i64); 3] = [
            |at| (at * 10 - at % 7 * 4, at * 10 + at % 3 * 9),
            |at| (at * 7919 % 300, at * 7919 % 300 + at % 50),
            |_| (150, 150),
        ];
        for (number, times) in tables.into_iter().enumerate() {
            for entries in [0, 1, 2, 40] {
                let times: Vec<(i64, i64)> = (0..entries).map(times).collect();
                let table = TimeTable::new(10, times.clone());
                for (from, to) in [-1, 0, 90, 150, 151, 230, 420]
                    .into_iter()
                    .flat_map(|from| [(from, 100), (from, 151), (from, 300), (from, 999)])
                {
                    for (from, to) in [
                        (None, None),
                        (Some(from), None),
                        (None, Some(to)),
                        (Some(from), Some(to)),
                    ] {
                        let inside = |(earliest, latest): (i64, i64)| {
                            from.is_none_or(|from| latest >= from)
                                && to.is_none_or(|to| earliest < to)
                        };
                        let mut expected: Vec<usize> = (0..times.len())
                            .filter(|entry| inside(times[*entry]))
                            .collect();
                        for newest_first in [true, false] {
                            if newest_first {
                                expected.sort_by_key(|entry| Reverse((times[*entry].1, *entry)));
                            } else {
                                expected.sort_by_key(|entry| (times[*entry].0, Reverse(*entry)));
                            }
                            let told: Vec<_> = table.best_first(newest_first, from, to).collect();
                            let expected = expected.iter().map(|entry| {
                                let start = u32::try_from(*entry).unwrap_or(u32::MAX) * 10;
                                (start..start + 10, times[*entry])
                            });
                            let expected: Vec<_> = expected.collect();
                            assert_eq!(told, expected, "{number} {entries} {from:?} {to:?}");
                        }
                    }
                }
            }
        }
    }
}
