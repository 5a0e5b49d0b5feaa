//! A Bloom filter: "surely not here" in a few nanoseconds, so that new sessions do not read every footer.

/// Bits per entry; with five probes about one in a hundred strangers is taken for a resident.
const BITS_PER_ENTRY: usize = 10;
const PROBES: u64 = 5;
/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A filter over 128-bit keys of an application; described in `docs/log-format.md`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    bits: Vec<u8>,
}

impl Filter {
    /// Makes a filter with room for `entries`.
    pub(crate) fn with_room(entries: usize) -> Self {
        Self {
            bits: vec![0; (entries * BITS_PER_ENTRY).div_ceil(64) * 8],
        }
    }

    /// Takes a filter's bytes from a footer.
    pub(crate) fn from_bytes(bits: Vec<u8>) -> Self {
        Self { bits }
    }

    /// Returns the bytes that go into a footer.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bits
    }

    fn places(&self, key: u128) -> impl Iterator<Item = (usize, u8)> + use<> {
        let (high, low) = uuid::Uuid::from_u128(key).as_u64_pair();
        let low = mixed(low ^ mixed(high ^ GOLDEN));
        let high = mixed(low.wrapping_add(GOLDEN));
        let bits = self.bits.len() as u64 * 8;
        (0..PROBES).map(move |probe| {
            let bit = low
                .wrapping_add(probe.wrapping_mul(high | 1))
                .rotate_left(17)
                % bits.max(1);
            ((bit / 8) as usize, 1u8 << (bit % 8))
        })
    }

    /// Adds a key.
    pub(crate) fn insert(&mut self, key: u128) {
        for (byte, bit) in self.places(key) {
            self.bits[byte] |= bit;
        }
    }

    /// Says whether a key may be there. An empty filter holds nothing.
    pub(crate) fn may_hold(&self, key: u128) -> bool {
        !self.bits.is_empty()
            && self
                .places(key)
                .all(|(byte, bit)| self.bits[byte] & bit != 0)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residents_are_found_and_few_strangers_are() {
        let mut filter = Filter::with_room(10_000);
        for key in 0..10_000u128 {
            filter.insert(key);
        }
        assert!((0..10_000).all(|key| filter.may_hold(key)));
        let strangers = (10_000..110_000u128)
            .filter(|key| filter.may_hold(*key))
            .count();
        assert!(strangers < 3_000, "{strangers} of 100,000");
        assert!(!Filter::default().may_hold(1));
    }
}
