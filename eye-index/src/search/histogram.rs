//! Counts over time.

use tantivy::DocId;

use super::facets::{FacetValue, FieldColumns, Values};
use super::matching::{Docs, Matching};
use super::part::Part;
use crate::error::SearchError;

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
        each_bucket(matching, part, &docs, buckets, |docs, bucket| {
            counts[bucket] += docs.len() as u64;
        })?;
        let mut by = vec![vec![0u64; buckets.count()]; rows];
        if let Some((field, values)) = split {
            let mut found = Values::open(field, part, matching.check)?;
            let mut rows_of_doc = Vec::new();
            let mut slots = found.slots(values)?;
            each_bucket(matching, part, &docs, buckets, |docs, bucket| {
                for doc in docs {
                    rows_of_doc.clear();
                    found.slots_of(*doc, &mut slots, &mut rows_of_doc);
                    for row in &rows_of_doc {
                        by[*row][bucket] += 1;
                    }
                }
            })?;
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

/// Hands on the documents that lie in a bucket: together, without a look at their times, where all of a run do.
fn each_bucket(
    matching: &Matching<'_>,
    part: &Part,
    docs: &Docs,
    buckets: &Buckets,
    mut see: impl FnMut(&[DocId], usize),
) -> Result<(), SearchError> {
    let mut times = Vec::new();
    docs.together(|mut docs| {
        if matching.check.is_late() {
            return Err(SearchError::Timeout);
        }
        while let Some(first) = docs.first() {
            let (end, (earliest, latest)) = part.run_of(*first);
            let of_run = docs.iter().position(|doc| *doc >= end);
            let (of_run, behind) = docs.split_at(of_run.unwrap_or(docs.len()));
            docs = behind;
            match (buckets.of(earliest), buckets.of(latest)) {
                (Some(one), Some(other)) if one == other => see(of_run, one),
                _ => {
                    times.resize(of_run.len(), 0);
                    part.timestamps().get_vals(of_run, &mut times);
                    for (doc, time) in of_run.iter().zip(&times) {
                        if let Some(bucket) = buckets.of(*time) {
                            see(std::slice::from_ref(doc), bucket);
                        }
                    }
                }
            }
        }
        Ok(())
    })
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
