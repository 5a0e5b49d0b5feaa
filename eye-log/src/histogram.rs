//! Counts how often a figure fell into which range, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Sorts figures into ranges and counts them.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what lies beyond all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a [`Histogram`] had counted at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// The upper ends of the ranges, ascending; a figure equal to one belongs to it.
    pub bounds: &'static [u64],
    /// How many figures each range got; the last one is for those beyond all bounds.
    pub counts: Vec<u64>,
    /// All figures added up.
    pub sum: u64,
}

impl Histogram {
    /// Counts nothing yet. `bounds` are the upper ends of the ranges, ascending.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one figure.
    pub fn observe(&self, figure: u64) {
        let range = self.bounds.partition_point(|bound| *bound < figure);
        self.counts[range].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(figure, Ordering::Relaxed);
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            bounds: self.bounds,
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_on_a_bound_belongs_below_it() {
        let histogram = Histogram::new(&[10, 100]);
        for figure in [0, 10, 11, 100, 101, 5000] {
            histogram.observe(figure);
        }
        let counts = histogram.counts();
        assert_eq!((counts.counts, counts.sum), (vec![2, 2, 2], 5222));
    }
}
