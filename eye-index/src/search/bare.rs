//! Bare tantivy with the shards' own schema: the ceiling that benches compare with, and a way to see what each field
//! costs.

use std::path::Path;
use std::sync::Arc;

use eye_log::Offset;
use eye_log::record::EventRecord;

use super::flatten::Flattener;
use super::schema::Fields;
use super::shard::{Shard, ShardWriter};
use crate::error::IndexError;

/// So many documents are handed over at once.
const BATCH: usize = 2_000;

/// Writes events into one search index and does nothing else: no log, no catalog, no readers.
pub struct BareTantivy {
    writer: ShardWriter,
    flattener: Flattener,
    waiting: usize,
    end: Offset,
}

impl BareTantivy {
    /// Begins an index in `folder`, whose documents have no values in the fields of `without`.
    pub fn create(folder: &Path, without: &[&str]) -> Result<Self, IndexError> {
        let fields = Arc::new(Fields::new());
        let without = without
            .iter()
            .filter_map(|name| fields.schema.get_field(name).ok())
            .collect();
        let flattener = Flattener::new(fields.clone()).without(without);
        let writer = Shard::open(folder, (0, 0), &fields, false)?.writer()?;
        let writer = writer.expect("a new shard has no other writer");
        Ok(Self {
            writer,
            flattener,
            waiting: 0,
            end: 0,
        })
    }

    /// Adds an event; offsets come in order.
    pub fn push(&mut self, offset: Offset, event: &EventRecord<'_>) -> Result<(), IndexError> {
        self.flattener.push(offset, event);
        self.end = offset + 1;
        self.waiting += 1;
        if self.waiting == BATCH {
            self.hand_over()
        } else {
            Ok(())
        }
    }

    fn hand_over(&mut self) -> Result<(), IndexError> {
        self.waiting = 0;
        self.writer.add(self.flattener.take(), self.end)
    }

    /// Makes everything added findable.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        self.hand_over()?;
        self.writer.commit()
    }

    /// Merges everything into one search segment and syncs it.
    pub fn seal(mut self) -> Result<(), IndexError> {
        self.hand_over()?;
        self.writer.seal().map(drop)
    }
}
