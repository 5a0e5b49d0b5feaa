//! A blocked Bloom filter: "surely not here", or "look". One 64-byte block answers, so that asking costs one read.

use std::ops::Range;

/// A block: 512 bits.
pub const FILTER_BLOCK_BYTES: usize = 64;
const BITS_PER_KEY: usize = 10;
const PROBES: u32 = 6;

/// Returns the hash by which the filter knows a session's key.
pub fn session_hash(key: &[u8; 16]) -> u64 {
    mix(super::u64_at(key, 0))
}

/// Returns the hash by which the filter knows what stands for an id.
pub fn id_hash(print: u64) -> u64 {
    mix(print)
}

/// Returns the filter over these hashes: whole blocks, none for no hash.
pub fn build(hashes: impl ExactSizeIterator<Item = u64>) -> Vec<u8> {
    let blocks = (hashes.len() * BITS_PER_KEY).div_ceil(FILTER_BLOCK_BYTES * 8);
    let mut filter = vec![0; blocks * FILTER_BLOCK_BYTES];
    let length = filter.len();
    for hash in hashes {
        let block = &mut filter[block_range(hash, length)];
        for bit in bits(hash) {
            block[bit / 8] |= 1 << (bit % 8);
        }
    }
    filter
}

/// Returns where in a filter of `length` bytes the block of a hash lies. `length` is at least one block.
pub fn block_range(hash: u64, length: usize) -> Range<usize> {
    let blocks = (length / FILTER_BLOCK_BYTES) as u64;
    // The upper half of a 128-bit product maps 64 bits onto the blocks evenly (Lemire, "fast range").
    let block = (u128::from(hash) * u128::from(blocks)) >> 64;
    let start = usize::try_from(block).unwrap_or(0) * FILTER_BLOCK_BYTES;
    start..start + FILTER_BLOCK_BYTES
}

/// Says whether a block may hold a hash. `false` is certain.
pub fn may_hold(block: &[u8], hash: u64) -> bool {
    bits(hash).all(|bit| {
        block
            .get(bit / 8)
            .is_some_and(|byte| byte & 1 << (bit % 8) != 0)
    })
}

/// The bits of a hash within its block: six times nine bits of the hash mixed once more, the lowest first.
fn bits(hash: u64) -> impl Iterator<Item = usize> {
    let spread = mix(hash ^ 0x9e37_79b9_7f4a_7c15);
    (0..PROBES).map(move |probe| usize::try_from(spread >> (probe * 9) & 511).unwrap_or(0))
}

/// The finisher of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_always_found_and_little_else() {
        let hashes: Vec<u64> = (0..10_000u64).map(id_hash).collect();
        let filter = build(hashes.iter().copied());
        assert_eq!(filter.len(), 196 * 64);
        let held = |hash| may_hold(&filter[block_range(hash, filter.len())], hash);
        assert!(hashes.iter().all(|hash| held(*hash)));
        let wrong = (10_000..110_000u64)
            .filter(|key| held(id_hash(*key)))
            .count();
        assert!(
            wrong < 2_500,
            "{wrong} of 100,000 found that were never put in"
        );
        assert!(build(std::iter::empty()).is_empty());
    }
}
