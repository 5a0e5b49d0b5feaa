//! One search segment of a shard, open for reading, with what newest-first needs to know of it.

use std::ops::Range;
use std::sync::Arc;

use eye_log::Offset;
use tantivy::columnar::{BytesColumn, ColumnValues, ColumnarReader};
use tantivy::index::{SegmentComponent, SegmentId};
use tantivy::{DocId, Segment, SegmentReader};

use super::schema::Fields;
use crate::error::IndexError;

/// Documents per block of the time table.
pub(crate) const BLOCK_DOCS: u32 = 1024;

/// A search segment.
pub(crate) struct Part {
    pub(crate) reader: SegmentReader,
    offsets: Arc<dyn ColumnValues<u64>>,
    timestamps: Arc<dyn ColumnValues<i64>>,
    sessions: Option<BytesColumn>,
    /// All columns, by the names they have in the file.
    columns: ColumnarReader,
    /// Earliest and latest timestamp of every [`BLOCK_DOCS`] documents.
    blocks: Vec<(i64, i64)>,
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
    pub(crate) fn open(segment: &Segment, fields: &Fields) -> Result<Self, IndexError> {
        let reader = SegmentReader::open(segment)?;
        let columns = reader.fast_fields();
        let name = |field| fields.schema.get_field_name(field);
        let offsets = columns.column_first_or_default::<u64>(name(fields.offset))?;
        let timestamps = columns.column_first_or_default::<i64>(name(fields.timestamp))?;
        let sessions = columns.bytes(name(fields.session))?;
        let file = segment
            .open_read(SegmentComponent::FastFields)
            .map_err(tantivy::TantivyError::from)?;
        let all_columns = ColumnarReader::open(file).map_err(tantivy::TantivyError::from)?;
        let docs = reader.max_doc();
        let mut blocks = Vec::with_capacity((docs / BLOCK_DOCS) as usize + 1);
        let mut values = vec![0; BLOCK_DOCS as usize];
        for start in (0..docs).step_by(BLOCK_DOCS as usize) {
            let values = &mut values[..(docs - start).min(BLOCK_DOCS) as usize];
            timestamps.get_range(u64::from(start), values);
            let earliest = values.iter().copied().min().unwrap_or(i64::MAX);
            blocks.push((earliest, values.iter().copied().max().unwrap_or(i64::MIN)));
        }
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
            columns: all_columns,
            blocks,
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

    /// Returns all columns, by the names they have in the file.
    pub(crate) fn columns(&self) -> &ColumnarReader {
        &self.columns
    }

    /// Returns the earliest and the latest timestamp.
    pub(crate) fn times(&self) -> (i64, i64) {
        let earliest = self.blocks.iter().map(|block| block.0).min();
        let latest = self.blocks.iter().map(|block| block.1).max();
        (earliest.unwrap_or(i64::MAX), latest.unwrap_or(i64::MIN))
    }

    /// Returns the session of a document.
    pub(crate) fn session(&self, doc: DocId) -> Option<uuid::Uuid> {
        let column = self.sessions.as_ref()?;
        let ord = column.term_ords(doc).next()?;
        let mut bytes = Vec::with_capacity(16);
        column.ord_to_bytes(ord, &mut bytes).ok()?;
        uuid::Uuid::from_slice(&bytes).ok()
    }

    /// Returns the earliest and latest timestamp of each block.
    pub(crate) fn blocks(&self) -> &[(i64, i64)] {
        &self.blocks
    }

    /// Returns the documents of a block.
    pub(crate) fn block_docs(&self, block: usize) -> Range<DocId> {
        let start = u32::try_from(block)
            .unwrap_or(u32::MAX)
            .saturating_mul(BLOCK_DOCS);
        start..start.saturating_add(BLOCK_DOCS).min(self.docs())
    }
}
