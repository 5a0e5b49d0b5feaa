//! Sets of documents that tantivy has no query for: ranges, and those that filters let pass.

use std::ops::Range;
use std::sync::Arc;

use itertools::Itertools as _;
use tantivy::query::{EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED};

/// Makes, for one search segment, the documents of a question.
pub(crate) trait MakeDocs: Clone + Send + Sync + std::fmt::Debug + 'static {
    /// Returns a scorer over the matching documents of `reader`.
    fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>>;
}

/// A query made of a [`MakeDocs`].
#[derive(Debug, Clone)]
pub(crate) struct DocsQuery<M>(pub(crate) M);

impl<M: MakeDocs> Query for DocsQuery<M> {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(DocsWeight(self.0.clone())))
    }
}

struct DocsWeight<M>(M);

impl<M: MakeDocs> Weight for DocsWeight<M> {
    fn scorer(&self, reader: &SegmentReader, _: Score) -> tantivy::Result<Box<dyn Scorer>> {
        self.0.docs(reader)
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("matches", 1.0))
    }
}

/// So many documents are given to filters together at most.
pub(crate) const SIEVED_TOGETHER: usize = 32_768;

/// A test on documents of a search segment.
pub(crate) trait Sieve: Send {
    /// Says whether a document passes.
    fn passes(&mut self, doc: DocId) -> bool;

    /// Keeps the documents that pass, of many in ascending order.
    fn keep(&mut self, docs: &mut Vec<DocId>) {
        docs.retain(|doc| self.passes(*doc));
    }
}

impl<F: FnMut(DocId) -> bool + Send> Sieve for F {
    fn passes(&mut self, doc: DocId) -> bool {
        self(doc)
    }
}

/// Several tests as one.
struct All(Vec<Box<dyn Sieve>>);

impl Sieve for All {
    fn passes(&mut self, doc: DocId) -> bool {
        self.0.iter_mut().all(|sieve| sieve.passes(doc))
    }

    fn keep(&mut self, docs: &mut Vec<DocId>) {
        for sieve in &mut self.0 {
            sieve.keep(docs);
        }
    }
}

/// What a filter has to look at to judge a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Price {
    /// A number in a column.
    Number,
    /// The values of a field, which are unpacked.
    Values,
    /// The event itself, in the log.
    Event,
}

/// A test on documents that is applied to what other queries found.
pub(crate) trait Filter: Send + Sync + std::fmt::Debug + 'static {
    /// Returns what judging a document takes.
    fn price(&self) -> Price;

    /// Returns the test for the documents of `reader`.
    fn open(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Sieve>>;
}

/// Opens several filters as one, which asks the cheap ones first.
pub(crate) fn open_all(
    filters: &[Arc<dyn Filter>],
    reader: &SegmentReader,
) -> tantivy::Result<Box<dyn Sieve>> {
    let mut opened = Vec::with_capacity(filters.len());
    for filter in filters.iter().sorted_by_key(|filter| filter.price()) {
        opened.push(filter.open(reader)?);
    }
    Ok(match opened.len() {
        1 => opened.remove(0),
        _ => Box::new(All(opened)),
    })
}

/// The documents of a query that pass filters.
#[derive(Debug, Clone)]
pub(crate) struct Narrowed {
    pub(crate) query: Arc<dyn Query>,
    pub(crate) filters: Vec<Arc<dyn Filter>>,
}

impl MakeDocs for Narrowed {
    fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        let scoring = EnableScoring::disabled_from_schema(reader.schema());
        let docs = self.query.weight(scoring)?.scorer(reader, 1.0)?;
        let mut sieve = open_all(&self.filters, reader)?;
        Ok(Box::new(Checked::new(docs, move |doc| sieve.passes(doc))))
    }
}

/// The documents of a range.
pub(crate) struct RangeDocs {
    docs: Range<DocId>,
    doc: DocId,
}

impl RangeDocs {
    pub(crate) fn new(docs: Range<DocId>) -> Self {
        let doc = if docs.is_empty() {
            TERMINATED
        } else {
            docs.start
        };
        Self { docs, doc }
    }
}

impl DocSet for RangeDocs {
    fn advance(&mut self) -> DocId {
        self.seek(self.doc.saturating_add(1))
    }

    fn seek(&mut self, target: DocId) -> DocId {
        let target = target.max(self.docs.start);
        self.doc = if target < self.docs.end {
            target
        } else {
            TERMINATED
        };
        self.doc
    }

    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        self.docs.end.saturating_sub(self.docs.start)
    }
}

impl Scorer for RangeDocs {
    fn score(&mut self) -> Score {
        1.0
    }
}

/// The documents of a list, in ascending order.
pub(crate) struct ListedDocs {
    docs: Vec<DocId>,
    at: usize,
}

impl ListedDocs {
    pub(crate) fn new(docs: Vec<DocId>) -> Self {
        Self { docs, at: 0 }
    }
}

impl DocSet for ListedDocs {
    fn advance(&mut self) -> DocId {
        self.at += 1;
        self.doc()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        let ahead = self.docs.get(self.at..).unwrap_or_default();
        self.at += ahead.partition_point(|doc| *doc < target);
        self.doc()
    }

    fn doc(&self) -> DocId {
        self.docs.get(self.at).copied().unwrap_or(TERMINATED)
    }

    fn size_hint(&self) -> u32 {
        u32::try_from(self.docs.len() - self.at.min(self.docs.len())).unwrap_or(u32::MAX)
    }
}

impl Scorer for ListedDocs {
    fn score(&mut self) -> Score {
        1.0
    }
}

/// The documents of another set that pass a check.
pub(crate) struct Checked<D, C> {
    inner: D,
    check: C,
    doc: DocId,
}

impl<D: DocSet, C: FnMut(DocId) -> bool> Checked<D, C> {
    /// Stands on the first document that passes.
    pub(crate) fn new(inner: D, check: C) -> Self {
        let mut checked = Self {
            inner,
            check,
            doc: 0,
        };
        checked.settle();
        checked
    }

    fn settle(&mut self) -> DocId {
        let mut doc = self.inner.doc();
        while doc != TERMINATED && !(self.check)(doc) {
            doc = self.inner.advance();
        }
        self.doc = doc;
        doc
    }
}

impl<D: DocSet, C: FnMut(DocId) -> bool + Send> DocSet for Checked<D, C> {
    fn advance(&mut self) -> DocId {
        if self.doc == TERMINATED {
            return TERMINATED;
        }
        self.inner.advance();
        self.settle()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc >= target {
            return self.doc;
        }
        if self.inner.doc() < target {
            self.inner.seek(target);
        }
        self.settle()
    }

    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        self.inner.size_hint()
    }

    /// Checking costs more than walking: other sets should lead.
    fn cost(&self) -> u64 {
        self.inner.cost().saturating_mul(4)
    }
}

impl<D: DocSet + 'static, C: FnMut(DocId) -> bool + Send + 'static> Scorer for Checked<D, C> {
    fn score(&mut self) -> Score {
        1.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;

    fn evens(range: Range<DocId>) -> Checked<RangeDocs, impl FnMut(DocId) -> bool + Send> {
        Checked::new(RangeDocs::new(range), |doc| doc % 2 == 0)
    }

    #[test]
    fn a_list_walks_and_seeks_over_what_is_in_it() {
        let mut docs = ListedDocs::new(vec![3, 5, 9, 12]);
        assert_eq!((docs.doc(), docs.size_hint()), (3, 4));
        assert_eq!(docs.seek(3), 3);
        assert_eq!(docs.advance(), 5);
        assert_eq!(docs.seek(10), 12);
        assert_eq!(docs.advance(), TERMINATED);
        assert_eq!((docs.advance(), docs.size_hint()), (TERMINATED, 0));
        assert_eq!(ListedDocs::new(Vec::new()).doc(), TERMINATED);
    }

    #[test]
    fn a_checked_range_walks_and_seeks_over_what_passes() {
        let mut docs = evens(3..10);
        assert_eq!(docs.doc(), 4);
        assert_eq!(docs.advance(), 6);
        assert_eq!(docs.seek(7), 8);
        assert_eq!(docs.seek(8), 8);
        assert_eq!(docs.advance(), TERMINATED);
        assert_eq!(docs.advance(), TERMINATED);
        assert_eq!(evens(5..5).doc(), TERMINATED);
        assert_eq!(evens(5..6).doc(), TERMINATED);
    }

    /// Writes down what it was asked.
    #[derive(Debug)]
    struct Asked(Price, Arc<Mutex<Vec<(Price, DocId)>>>);

    impl Filter for Asked {
        fn price(&self) -> Price {
            self.0
        }

        fn open(&self, _: &SegmentReader) -> tantivy::Result<Box<dyn Sieve>> {
            let (price, asked) = (self.0, self.1.clone());
            Ok(Box::new(move |doc: DocId| {
                asked.lock().unwrap().push((price, doc));
                doc != 3 || price != Price::Number
            }))
        }
    }

    #[test]
    fn what_costs_more_is_asked_of_what_cheaper_filters_leave() {
        let index = tantivy::Index::create_in_ram(tantivy::schema::Schema::builder().build());
        let mut writer = index.writer_with_num_threads(1, 15_000_000).unwrap();
        writer
            .add_document(tantivy::TantivyDocument::new())
            .unwrap();
        writer.commit().unwrap();
        let searcher = index.reader().unwrap().searcher();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let prices = [Price::Event, Price::Number, Price::Values];
        let filters = prices.map(|price| Arc::new(Asked(price, asked.clone())) as Arc<dyn Filter>);
        let mut all = open_all(&filters, searcher.segment_reader(0)).unwrap();
        let mut docs = vec![2, 3];
        all.keep(&mut docs);
        assert_eq!(docs, [2]);
        let expected = [
            (Price::Number, 2),
            (Price::Number, 3),
            (Price::Values, 2),
            (Price::Event, 2),
        ];
        assert_eq!(*asked.lock().unwrap(), expected);
    }
}
