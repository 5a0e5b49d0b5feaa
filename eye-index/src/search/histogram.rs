//! Counts over time.

use super::facets::{FacetValue, FieldColumns, Values};
use super::matching::{Docs, Matching};
use super::part::Part;
use crate::error::SearchError;

/// How many documents are looked at together.
const TOGETHER: u32 = 1024;

/// Stretches of time, one behind the other: each from its own beginning to the next one's. Unix microseconds.
#[derive(Debug, Clone)]
pub struct Buckets {
    bounds: Vec<i64>,
    /// Where all are equally long, how long.
    width: Option<i64>,
}

impl Buckets {
    /// Takes the bounds: ascending, one more than there are buckets.
    pub fn new(bounds: Vec<i64>) -> Self {
        let mut widths = bounds.windows(2).map(|pair| pair[1] - pair[0]);
        let width = widths
            .next()
            .filter(|first| *first > 0 && widths.all(|width| width == *first));
        Self { bounds, width }
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    /// Returns the bounds.
    pub fn bounds(&self) -> &[i64] {
        &self.bounds
    }

    /// Returns the bucket of an instant, if it lies in one.
    fn of(&self, instant: i64) -> Option<usize> {
        let (first, last) = (*self.bounds.first()?, *self.bounds.last()?);
        if instant < first || instant >= last {
            return None;
        }
        match self.width {
            Some(width) => usize::try_from((instant - first) / width).ok(),
            None => self
                .bounds
                .partition_point(|bound| *bound <= instant)
                .checked_sub(1),
        }
    }
}

/// How many events lie in each bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Per bucket.
    pub counts: Vec<u64>,
    /// For each value asked for, and last for all others together, per bucket the events that have it.
    pub by: Vec<Vec<u64>>,
}

/// Counts the matches per bucket, split by `values` of a field if wanted. Matches outside of all buckets are not counted.
pub(crate) fn histogram(
    matching: &Matching<'_>,
    buckets: &Buckets,
    split: Option<(&FieldColumns, &[FacetValue])>,
) -> Result<Histogram, SearchError> {
    let rows = split.map_or(0, |(_, values)| values.len() + 1);
    let parts = matching.by_part(|part, docs| {
        let mut counts = vec![0u64; buckets.count()];
        each_bucket(part, &docs, buckets, |_, bucket| counts[bucket] += 1);
        let mut by = vec![vec![0u64; buckets.count()]; rows];
        if let Some((field, values)) = split {
            let mut found = Values::open(field, part, matching.check)?;
            let mut rows_of_doc = Vec::new();
            let mut slots = found.slots(values)?;
            each_bucket(part, &docs, buckets, |doc, bucket| {
                rows_of_doc.clear();
                found.slots_of(doc, &mut slots, &mut rows_of_doc);
                for row in &rows_of_doc {
                    by[*row][bucket] += 1;
                }
            });
        }
        Ok((counts, by))
    })?;
    let mut sum = Histogram {
        counts: vec![0; buckets.count()],
        by: vec![vec![0; buckets.count()]; rows],
    };
    for (counts, by) in parts {
        add(&mut sum.counts, &counts);
        for (sum, row) in sum.by.iter_mut().zip(&by) {
            add(sum, row);
        }
    }
    Ok(sum)
}

fn add(sum: &mut [u64], more: &[u64]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

/// Finds the bucket of every document that lies in one.
fn each_bucket(part: &Part, docs: &Docs, buckets: &Buckets, mut see: impl FnMut(u32, usize)) {
    let mut times = [0; TOGETHER as usize];
    let mut see_times = |docs: &mut dyn Iterator<Item = u32>, times: &[i64]| {
        for (doc, time) in docs.zip(times) {
            if let Some(bucket) = buckets.of(*time) {
                see(doc, bucket);
            }
        }
    };
    match docs {
        Docs::All(count) => {
            for start in (0..*count).step_by(TOGETHER as usize) {
                let end = start.saturating_add(TOGETHER).min(*count);
                let times = &mut times[..(end - start) as usize];
                part.timestamps().get_range(u64::from(start), times);
                see_times(&mut (start..end), times);
            }
        }
        Docs::Some(docs) => {
            for docs in docs.chunks(TOGETHER as usize) {
                let times = &mut times[..docs.len()];
                part.timestamps().get_vals(docs, times);
                see_times(&mut docs.iter().copied(), times);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_in_the_bucket_that_it_begins() {
        for bounds in [vec![-20, -10, 0, 10], vec![-20, -10, 0, 7, 10]] {
            let buckets = Buckets::new(bounds.clone());
            for instant in -25..15 {
                let expected = (0..buckets.count())
                    .find(|place| (bounds[*place]..bounds[place + 1]).contains(&instant));
                assert_eq!(buckets.of(instant), expected, "{instant} in {bounds:?}");
            }
        }
        assert_eq!(Buckets::new(Vec::new()).of(0), None);
        assert_eq!(Buckets::new(vec![5]).count(), 0);
    }
}
