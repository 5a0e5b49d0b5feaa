//! What readers of sealed files keep decoded, within a bound.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache as Quick;

use crate::error::ReadError;
use crate::format::block::Block;
use crate::format::sealed_footer::BlockEntry;
use crate::offset::Offset;

/// Bytes of decoded blocks and block lists, over all files.
const CACHE_BYTES: u64 = 16 << 20;
/// About how many things that is.
const CACHE_ITEMS: usize = 256;

/// Decoded parts of sealed files.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Quick<(u64, usize), Arc<Block>, Bytes>,
    lists: Quick<u64, Arc<Vec<BlockEntry>>, Bytes>,
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
            blocks: Quick::with_weighter(CACHE_ITEMS, CACHE_BYTES * 3 / 4, Bytes),
            lists: Quick::with_weighter(CACHE_ITEMS, CACHE_BYTES / 4, Bytes),
        }
    }
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::format::block::{BlockBuilder, Effort, FramePart};
    use crate::record::Reason;

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
