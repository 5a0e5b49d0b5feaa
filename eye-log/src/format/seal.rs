//! Seals: what a range of records was when it was first sealed, each naming the one before.
//!
//! What must stay true: a seal is made once and copied for ever into whichever file holds its range.

use uuid::Uuid;

use super::{bytes_at, u64_at};
use crate::offset::Offset;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// What a range of records was when it was first sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The offset of the first record.
    pub first: Offset,
    /// One past the last record.
    pub end: Offset,
    /// BLAKE3 over the hashes of the blocks as first sealed, in order.
    pub root: Hash,
    /// The hash of the seal before.
    pub previous: Hash,
}

impl Seal {
    /// Bytes of a seal in a footer.
    pub const BYTES: usize = 80;
    /// What the first seal of a store names as the one before.
    pub const BEFORE_THE_FIRST: Hash = [0; 32];

    /// Returns the seal's hash, which the next one names.
    pub fn hash(&self, store: Uuid) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"eye seal v1");
        hasher.update(store.as_bytes());
        hasher.update(&self.encode());
        *hasher.finalize().as_bytes()
    }

    /// Says whether the seal stands in for one that was lost to damage: its root is zeros, and it attests nothing.
    pub fn is_lost(&self) -> bool {
        self.root == [0; 32]
    }

    /// Returns the root over the hashes of blocks, in order.
    pub fn root_of<'h>(blocks: impl Iterator<Item = &'h Hash>) -> Hash {
        let mut hasher = blake3::Hasher::new();
        for block in blocks {
            hasher.update(block);
        }
        *hasher.finalize().as_bytes()
    }

    /// Returns the seal's bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..8].copy_from_slice(&self.first.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.end.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.root);
        bytes[48..80].copy_from_slice(&self.previous);
        bytes
    }

    /// Reads a footer's seals.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, String> {
        let (entries, rest) = bytes.as_chunks::<{ Self::BYTES }>();
        if !rest.is_empty() {
            return Err("seals of a broken length".to_owned());
        }
        Ok(entries
            .iter()
            .map(|entry| Self {
                first: u64_at(entry, 0),
                end: u64_at(entry, 8),
                root: bytes_at(entry, 16),
                previous: bytes_at(entry, 48),
            })
            .collect())
    }
}
