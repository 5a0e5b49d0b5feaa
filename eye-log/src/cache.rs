//! What readers of sealed files keep decoded and open, within a bound.

use std::hash::Hash;
use std::io;
use std::sync::Arc;

use quick_cache::sync::{Cache as Quick, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter, Weighter};

use crate::error::ReadError;
use crate::format::block::Block;
use crate::format::sealed_footer::BlockEntry;
use crate::offset::Offset;
use crate::storage::StorageFile;

/// Bytes of decoded blocks, over all files.
const BLOCKS_BYTES: u64 = 6 << 20;
/// Bytes of block lists, over all files. The longest list, of a file of a gigabyte, takes two thirds of it.
const LISTS_BYTES: u64 = 6 << 20;
/// About how many things that is.
const CACHE_ITEMS: usize = 256;
/// How many files stay open after they were read. Opening one again takes some microseconds, reading a block of it seventy.
const OPEN_FILES: u64 = 16;
/// Into so many parts, each with its own lock and its own share of the bytes, the blocks are divided; what is larger than a share
/// is not kept at all. Without a number there are four for each processor.
const BLOCKS_SHARDS: usize = 4;

/// Decoded parts of sealed files, and the files last read.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Quick<(u64, usize), Arc<Block>, Bytes>,
    lists: Quick<u64, Arc<Vec<BlockEntry>>, Bytes>,
    files: Quick<u64, Arc<dyn StorageFile>, UnitWeighter>,
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<(u64, usize), Arc<Block>> for Bytes {
    fn weight(&self, _: &(u64, usize), block: &Arc<Block>) -> u64 {
        block.memory_bytes() as u64
    }
}

impl Weighter<u64, Arc<Vec<BlockEntry>>> for Bytes {
    fn weight(&self, _: &u64, list: &Arc<Vec<BlockEntry>>) -> u64 {
        (list.len() * size_of::<BlockEntry>()) as u64 + 64
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            blocks: bounded(BLOCKS_BYTES, BLOCKS_SHARDS, Bytes),
            lists: bounded(LISTS_BYTES, 1, Bytes),
            files: bounded(OPEN_FILES, 1, UnitWeighter),
        }
    }
}

fn bounded<K: Eq + Hash, V: Clone, W: Weighter<K, V> + Clone>(
    capacity: u64,
    shards: usize,
    weighter: W,
) -> Quick<K, V, W> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity(CACHE_ITEMS)
        .weight_capacity(capacity)
        .shards(shards)
        .build()
        .expect("both capacities are given");
    Quick::with_options(
        options,
        weighter,
        DefaultHashBuilder::default(),
        DefaultLifecycle::default(),
    )
}

impl Cache {
    /// Returns the block at `place` of the file numbered `file` with its records up to `last`, made by `read` if that is not here.
    /// `read` is told up to which record: a block that is here and asked for further on is read to its end, so that it is not read
    /// again for each record.
    pub(crate) fn block(
        &self,
        file: u64,
        place: usize,
        last: Offset,
        read: impl FnOnce(Offset) -> Result<Block, ReadError>,
    ) -> Result<Arc<Block>, ReadError> {
        let last = match self.blocks.get(&(file, place)) {
            Some(block) if block.holds(last) => return Ok(block),
            Some(_) => Offset::MAX,
            None => last,
        };
        let block = Arc::new(read(last)?);
        self.blocks.insert((file, place), block.clone());
        Ok(block)
    }

    /// Returns the list of a file's blocks, made by `read` if it is not here.
    pub(crate) fn list(
        &self,
        file: u64,
        read: impl FnOnce() -> Result<Vec<BlockEntry>, ReadError>,
    ) -> Result<Arc<Vec<BlockEntry>>, ReadError> {
        self.lists
            .get_or_insert_with(&file, || read().map(Arc::new))
    }

    /// Returns the file numbered `file`, opened by `open` if it is not here.
    pub(crate) fn file(
        &self,
        file: u64,
        open: impl FnOnce() -> io::Result<Arc<dyn StorageFile>>,
    ) -> io::Result<Arc<dyn StorageFile>> {
        self.files.get_or_insert_with(&file, open)
    }

    /// Lets go of a file.
    pub(crate) fn close(&self, file: u64) {
        self.files.remove(&file);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::format::block::{BlockBuilder, Effort, FramePart};
    use crate::record::Reason;

    #[test]
    fn the_longest_list_is_kept_beside_others() {
        let cache = Cache::default();
        let entry = BlockEntry {
            first: 0,
            position: 0,
            bytes: 0,
            raw_bytes: 0,
            count: 1,
            gone: None,
            hash: [0; 32],
        };
        // A gigabyte of blocks that are packed eight times, and some of a segment each.
        let lengths = [8 << 13, 1_000, 1_000, 1_000, 8 << 11];
        for round in 0..5 {
            for (file, length) in lengths.iter().enumerate() {
                let mut read = false;
                let list = cache.list(file as u64, || {
                    read = true;
                    Ok(vec![entry; *length])
                });
                assert_eq!(list.unwrap().len(), *length);
                assert!(round == 0 || !read, "file {file} in round {round}");
            }
        }
    }

    #[test]
    fn a_block_asked_for_again_further_on_is_read_to_its_end() {
        let mut builder = BlockBuilder::new(0, Effort::Quick).unwrap();
        builder.begin_frame(FramePart {
            count: 0,
            duplicates: 0,
            rejected: 0,
            goes_on: false,
            appended_at: 0,
        });
        // Long enough to be unpacked in parts.
        let mut number = 1_u64;
        let mut text = String::new();
        while !builder.is_full() {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.clear();
            (0..40).for_each(|place| {
                text.push_str(if number >> place & 1 == 1 {
                    "one "
                } else {
                    "two"
                })
            });
            builder.push(text.as_bytes());
        }
        builder.push_gone(Reason::Erased);
        let encoded = builder.finish(1, false).unwrap();
        let end = u64::from(encoded.count);
        let bytes = [&encoded.header, encoded.stored].concat();
        let cache = Cache::default();
        let mut reads = Vec::new();
        let mut ask = |offset| {
            let block = cache.block(7, 3, offset, |last| {
                reads.push(last);
                Ok(Block::decode_through(&bytes, 1, last).unwrap())
            });
            assert!(block.unwrap().holds(offset));
        };
        for offset in [5, 0, 5, end / 2, end - 1, 6] {
            ask(offset);
        }
        assert_eq!(reads, [5, Offset::MAX]);
    }
}
