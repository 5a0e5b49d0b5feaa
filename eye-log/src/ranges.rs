//! A set of offsets, kept as the ranges it is made of.

use std::ops::Range;

use crate::offset::Offset;

/// A set of offsets as sorted half-open ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetRanges {
    ranges: Vec<Range<Offset>>,
}

impl OffsetRanges {
    /// Says whether `offset` is in the set.
    pub fn contains(&self, offset: Offset) -> bool {
        let behind = self.ranges.partition_point(|range| range.start <= offset);
        behind
            .checked_sub(1)
            .is_some_and(|place| offset < self.ranges[place].end)
    }

    /// Says whether any offset of `range` is in the set.
    pub fn touches(&self, range: &Range<Offset>) -> bool {
        let behind = self
            .ranges
            .partition_point(|other| other.end <= range.start);
        self.ranges
            .get(behind)
            .is_some_and(|other| other.start < range.end && range.start < range.end)
    }

    /// Adds the offsets of `range`.
    pub fn insert(&mut self, range: Range<Offset>) {
        if range.start >= range.end {
            return;
        }
        let first = self.ranges.partition_point(|other| other.end < range.start);
        let last = self
            .ranges
            .partition_point(|other| other.start <= range.end);
        let merged = self.ranges[first..last]
            .iter()
            .fold(range, |merged, other| {
                merged.start.min(other.start)..merged.end.max(other.end)
            });
        self.ranges.splice(first..last, [merged]);
    }

    /// Returns the ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range<Offset>> {
        self.ranges.iter().cloned()
    }

    /// Returns how many offsets are in the set.
    pub fn len(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Says whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl FromIterator<Range<Offset>> for OffsetRanges {
    fn from_iter<I: IntoIterator<Item = Range<Offset>>>(ranges: I) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        let mut set: OffsetRanges = [5..7, 1..2, 9..12].into_iter().collect();
        set.insert(2..5);
        set.insert(4..4);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1..7, 9..12]);
        assert_eq!(set.len(), 9);
        assert!(set.contains(1) && set.contains(6) && !set.contains(7) && !set.contains(8));
        assert!(set.touches(&(7..10)) && !set.touches(&(7..9)) && !set.touches(&(9..9)));
    }

    #[test]
    fn it_agrees_with_a_plain_set() {
        let mut set = OffsetRanges::default();
        let mut plain = std::collections::BTreeSet::new();
        let mut state = 7u64;
        for _ in 0..200 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let start = state >> 33 & 0xff;
            let end = start + (state >> 50 & 7);
            set.insert(start..end);
            plain.extend(start..end);
            for offset in 0..270 {
                assert_eq!(set.contains(offset), plain.contains(&offset));
            }
            assert_eq!(set.len(), plain.len() as u64);
        }
    }
}
