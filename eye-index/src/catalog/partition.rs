//! A partition: a share of the sessions, whose blocks of one segment are one entry of the database.
//!
//! What must stay true: which partition a session is in follows from the seed alone, so whoever knows one partition's entries
//! knows all that there is of its sessions.

use uuid::Uuid;

use super::Block;
use super::block::{push, take};

/// How many bits of a session's hash say its partition: a session's look-up passes over a 4,096th of the catalog.
const BITS: u32 = 12;
const SEED_CONTEXT: &str = "the-eye 2026 catalog partitions";

/// What decides which partition a session is in. Clients choose their sessions' ids, and must not choose the partitions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed([u8; 32]);

impl Seed {
    /// Returns a seed that nobody knows.
    pub(super) fn new() -> Self {
        Self(blake3::derive_key(SEED_CONTEXT, Uuid::new_v4().as_bytes()))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the partition that a session is in.
    pub(super) fn partition(&self, session: Uuid) -> Partition {
        let hash = blake3::keyed_hash(&self.0, session.as_bytes());
        let [first, second, ..] = *hash.as_bytes();
        Partition(u16::from_be_bytes([first, second]) >> (u16::BITS - BITS))
    }
}

/// A partition's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Partition(pub(super) u16);

/// Sessions with their blocks of one segment.
pub(super) type Sessions = Vec<(Uuid, Block)>;

/// Returns blocks of different sessions as bytes: for each the session's id, the length of what follows (LEB128), the block.
pub(super) fn encode<'b>(blocks: impl IntoIterator<Item = (Uuid, &'b Block)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (session, block) in blocks {
        let block = block.encode();
        out.extend_from_slice(session.as_bytes());
        push(&mut out, block.len() as u64);
        out.extend_from_slice(&block);
    }
    out
}

/// Reads blocks from bytes, one session after the other; `None`, and then an end, when the bytes are none.
pub(super) struct Blocks<'a>(pub(super) &'a [u8]);

impl<'a> Blocks<'a> {
    fn step(&mut self) -> Option<(Uuid, &'a [u8])> {
        let (id, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        let length = usize::try_from(take(&mut self.0)?).ok()?;
        let (block, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some((Uuid::from_bytes(*id), block))
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Option<(Uuid, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let step = self.step();
        if step.is_none() {
            self.0 = &[];
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use eye_log::ApplicationId;

    use super::*;
    use crate::catalog::Entry;

    #[test]
    fn sessions_come_back_with_their_blocks_and_cut_bytes_are_none() {
        let block = |offset| Block {
            application: ApplicationId(7),
            entries: vec![Entry {
                timestamp: -1,
                offset,
            }],
        };
        let blocks =
            [1, 300, u64::MAX].map(|offset| (Uuid::from_u128(offset.into()), block(offset)));
        let bytes = encode(blocks.iter().map(|(id, block)| (*id, block)));
        let read = Blocks(&bytes).map(|entry| {
            let (id, block) = entry.unwrap();
            (id, Block::decode(block).unwrap())
        });
        assert!(read.eq(blocks.iter().cloned()));
        let whole = [0, 1, 2, 3]
            .map(|count| encode(blocks.iter().take(count).map(|(id, block)| (*id, block))).len());
        for length in 0..bytes.len() {
            let cut = Blocks(&bytes[..length]).any(|entry| entry.is_none());
            assert_eq!(cut, !whole.contains(&length), "{length}");
        }
    }

    #[test]
    fn sessions_spread_over_all_partitions_by_the_seed() {
        let (seed, other) = (Seed::new(), Seed::new());
        let mut counts = vec![0; 1 << BITS];
        let mut same = 0;
        for id in 0..40_960 {
            let session = Uuid::from_u128(id);
            counts[usize::from(seed.partition(session).0)] += 1;
            same += usize::from(seed.partition(session) == other.partition(session));
        }
        // Ten on average; that one has none, or more than forty, happens once in tens of thousands of times.
        assert!(counts.iter().all(|count| *count <= 40));
        assert!(counts.iter().filter(|count| **count == 0).count() < 10);
        assert!(same < 100);
        let copy = Seed::from_bytes(seed.as_bytes()).unwrap();
        assert_eq!(copy.partition(Uuid::max()), seed.partition(Uuid::max()));
        assert!(Seed::from_bytes(&[0; 31]).is_none());
    }
}
