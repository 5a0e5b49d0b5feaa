//! What readers of sealed files keep decoded, within a bound.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache as Quick;

use crate::error::ReadError;
use crate::format::block::Block;
use crate::format::sealed_footer::BlockEntry;

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
    /// Returns the block at `place` of the file numbered `file`, made by `read` if it is not here.
    pub(crate) fn block(
        &self,
        file: u64,
        place: usize,
        read: impl FnOnce() -> Result<Block, ReadError>,
    ) -> Result<Arc<Block>, ReadError> {
        self.blocks
            .get_or_insert_with(&(file, place), || read().map(Arc::new))
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
