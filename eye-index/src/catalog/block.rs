//! A posting block: a session's events within one log segment.

use eye_log::{ApplicationId, Offset};

use super::Entry;

/// The events of one session in one segment, in log order; never empty once stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) application: ApplicationId,
    pub(crate) entries: Vec<Entry>,
}

impl Block {
    /// Returns the block's bytes: application, count, then per event the steps of offset and timestamp from the one
    /// before, all as variable-length integers (LEB128, signed ones zigzag).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.entries.len() * 6);
        push(&mut out, u64::from(self.application.0));
        push(&mut out, self.entries.len() as u64);
        let (mut offset, mut timestamp) = (0u64, 0i64);
        for entry in &self.entries {
            push(&mut out, entry.offset.wrapping_sub(offset));
            let step = entry.timestamp.wrapping_sub(timestamp);
            push(&mut out, ((step << 1) ^ (step >> 63)).cast_unsigned());
            (offset, timestamp) = (entry.offset, entry.timestamp);
        }
        out
    }

    /// Reads a block; `None` when the bytes are none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let application = ApplicationId(u32::try_from(take(&mut rest)?).ok()?);
        let count = usize::try_from(take(&mut rest)?).ok()?;
        // Each event takes two bytes at least.
        let mut entries = Vec::with_capacity(count.min(bytes.len() / 2));
        let (mut offset, mut timestamp): (Offset, i64) = (0, 0);
        for _ in 0..count {
            offset = offset.wrapping_add(take(&mut rest)?);
            let step = take(&mut rest)?;
            timestamp =
                timestamp.wrapping_add((step >> 1).cast_signed() ^ -(step & 1).cast_signed());
            entries.push(Entry { timestamp, offset });
        }
        rest.is_empty().then_some(Self {
            application,
            entries,
        })
    }
}

pub(super) fn push(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_block_comes_back_as_it_was_and_cut_bytes_are_none() {
        let entries = [(0, 5), (1, -9), (u64::MAX, i64::MIN), (3, i64::MAX)]
            .map(|(offset, timestamp)| Entry { timestamp, offset })
            .to_vec();
        let block = Block {
            application: ApplicationId(u32::MAX),
            entries,
        };
        let bytes = block.encode();
        assert_eq!(Block::decode(&bytes).unwrap(), block);
        for length in 0..bytes.len() {
            assert!(Block::decode(&bytes[..length]).is_none());
        }
        assert!(Block::decode(&[0xff; 40]).is_none());
    }
}
