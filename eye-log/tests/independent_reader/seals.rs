//! The chain of seals, and why blocks are not as they were sealed.

use std::collections::BTreeMap;

use super::bytes::Read;
use super::sealed::BlockEntry;

/// What all sealed files and all records say about the chain.
#[derive(Default)]
pub(crate) struct Chain {
    pub(crate) seals: Vec<Seal>,
    pub(crate) blocks: Vec<BlockEntry>,
    pub(crate) changes: Vec<Change>,
    /// What maintenance records name, by their offset.
    pub(crate) maintenance: BTreeMap<u64, Vec<Step>>,
}

/// The first offset of a block, its hash before and after.
pub(crate) type Step = (u64, [u8; 32], [u8; 32]);

pub(crate) struct Seal {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) root: [u8; 32],
    pub(crate) previous: [u8; 32],
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Change {
    pub(crate) first: u64,
    pub(crate) sealed: [u8; 32],
    pub(crate) now: [u8; 32],
    pub(crate) why: u64,
}

impl Chain {
    /// Verifies the chain, as far as the offset `sealed_end`; returns the hashes of the seals.
    pub(crate) fn verify(&self, store: [u8; 16], sealed_end: u64) -> Read<Vec<[u8; 32]>> {
        let (mut expected, mut previous) = (0, [0; 32]);
        let mut hashes = Vec::new();
        let mut behind_a_lost_one = false;
        for seal in &self.seals {
            let follows = seal.previous == previous || behind_a_lost_one;
            if !follows || seal.first != expected || seal.end <= seal.first {
                return Err(format!("the chain breaks at record {expected}"));
            }
            behind_a_lost_one = seal.root == [0; 32];
            let range = seal.first..seal.end;
            let mut hashed = Vec::new();
            let mut gone = false;
            for entry in self
                .blocks
                .iter()
                .filter(|entry| range.contains(&entry.first))
            {
                gone |= entry.gone != 0;
                hashed.extend(entry.hash);
                if entry.first + u64::from(entry.count) > seal.end {
                    return Err(format!(
                        "the block of record {} is in two seals",
                        entry.first
                    ));
                }
            }
            if !gone && !behind_a_lost_one && *blake3::hash(&hashed).as_bytes() != seal.root {
                return Err(format!(
                    "the seal of record {expected} is not that of its blocks"
                ));
            }
            let whole = [b"eye seal v1", &store[..], &seal.bytes].concat();
            previous = *blake3::hash(&whole).as_bytes();
            hashes.push(previous);
            expected = seal.end;
        }
        if expected != sealed_end {
            return Err(format!("the seals end with record {expected}"));
        }
        let unlawful = self.changes.iter().find(|change| !self.is_lawful(change));
        unlawful.map_or(Ok(hashes), |change| {
            Err(format!(
                "nothing says why the block of record {} changed",
                change.first
            ))
        })
    }

    fn is_lawful(&self, change: &Change) -> bool {
        let named = self.maintenance.get(&change.why);
        let mut named = named
            .into_iter()
            .flatten()
            .filter(|block| block.0 == change.first);
        if change.now == [0; 32] {
            return named.any(|block| block.2 == [0; 32]);
        }
        // All hashes that records lead to, in any order: a change that was cut off leaves a record too many.
        let steps: Vec<_> = self
            .maintenance
            .values()
            .flatten()
            .filter(|block| block.0 == change.first)
            .collect();
        let mut reached = vec![change.sealed];
        let mut place = 0;
        while let Some(hash) = reached.get(place).copied() {
            place += 1;
            for step in steps.iter().filter(|step| step.1 == hash) {
                if !reached.contains(&step.2) {
                    reached.push(step.2);
                }
            }
        }
        named.any(|block| block.2 == change.now && reached.contains(&block.1))
    }
}
