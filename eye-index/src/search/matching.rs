//! Every match of a question, search segment by search segment: what figures are made of.

use std::sync::Arc;

use tantivy::index::InvertedIndexReader;
use tantivy::postings::{BlockSegmentPostings, TermInfo};
use tantivy::query::{AllScorer, EnableScoring, Scorer, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocId, SegmentReader, TERMINATED, Term};

use super::docsets::{SIEVED_TOGETHER, open_all};
use super::log_check::LogCheck;
use super::part::Part;
use super::plan::Plan;
use super::schema::Fields;
use super::threads;
use crate::error::SearchError;
use crate::page::SearchRequest;

/// Below so many documents a second thread costs more than it brings.
const ALONE_MAX_DOCS: u64 = 50_000;
/// How many documents are looked at together.
pub(crate) const TOGETHER: usize = 1024;

/// A question, planned, about parts.
pub(crate) struct Matching<'q> {
    pub(crate) parts: Vec<&'q Arc<Part>>,
    pub(crate) check: &'q LogCheck,
    plan: &'q Plan,
    weight: Box<dyn Weight>,
}

/// The matching documents of a part, ascending.
pub(crate) enum Docs {
    /// All of them, so many.
    All(u32),
    /// These.
    Some(Vec<DocId>),
}

impl Docs {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::All(count) => *count as usize,
            Self::Some(docs) => docs.len(),
        }
    }

    /// Hands them on in order, as many together as columns are best read in.
    pub(crate) fn together<E>(
        &self,
        mut see: impl FnMut(&[DocId]) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Some(docs) => docs.chunks(TOGETHER).try_for_each(see),
            Self::All(count) => {
                let mut together = Vec::with_capacity(TOGETHER);
                for start in (0..*count).step_by(TOGETHER) {
                    together.clear();
                    together.extend((start..*count).take(TOGETHER));
                    see(&together)?;
                }
                Ok(())
            }
        }
    }

    /// Hands them on in order.
    pub(crate) fn each(&self, mut see: impl FnMut(DocId)) {
        match self {
            Self::All(count) => (0..*count).for_each(see),
            Self::Some(docs) => docs.iter().for_each(|doc| see(*doc)),
        }
    }
}

impl<'q> Matching<'q> {
    pub(crate) fn new(
        parts: &'q [Arc<Part>],
        plan: &'q Plan,
        fields: &Fields,
        request: &SearchRequest,
        check: &'q LogCheck,
    ) -> Result<Self, SearchError> {
        let inside = |part: &&Arc<Part>| {
            let (earliest, latest) = part.times();
            part.first_offset() < request.as_of
                && request.from.is_none_or(|from| latest >= from)
                && request.to.is_none_or(|to| earliest < to)
        };
        Ok(Self {
            parts: parts.iter().filter(inside).collect(),
            check,
            plan,
            weight: plan
                .query()
                .weight(EnableScoring::disabled_from_schema(&fields.schema))?,
        })
    }

    /// Hands each part with its matching documents to `work`, on as many threads as there are processors, and returns what
    /// came of them, in the order of the parts. Parts without a match are left out.
    pub(crate) fn by_part<R: Send>(
        &self,
        work: impl Fn(&Arc<Part>, Docs) -> Result<R, SearchError> + Sync,
    ) -> Result<Vec<R>, SearchError> {
        let all: u64 = self.parts.iter().map(|part| u64::from(part.docs())).sum();
        let results = threads::map(self.parts.len(), all > ALONE_MAX_DOCS, |place| {
            let part = self.parts[place];
            let docs = self.docs(part)?;
            if docs.len() == 0 {
                return Ok(None);
            }
            work(part, docs).map(Some)
        })?;
        self.check.verdict()?;
        Ok(results.into_iter().flatten().collect())
    }

    fn docs(&self, part: &Part) -> Result<Docs, SearchError> {
        let sifted = !self.plan.filters.is_empty();
        let mut found = self.found(part)?;
        if !sifted && found.is_everything() {
            return Ok(Docs::All(part.docs()));
        }
        let mut docs = Vec::with_capacity(found.about_so_many());
        let mut sieve = open_all(&self.plan.filters, &part.reader)?;
        let (mut together, mut since) = (Vec::new(), 0);
        loop {
            let gathered = if sifted { &mut together } else { &mut docs };
            let before = gathered.len();
            let is_last = !found.add_some_to(gathered);
            since += gathered.len() - before;
            if is_last || since + Found::SOME > SIEVED_TOGETHER {
                if self.check.is_late() {
                    return Err(SearchError::Timeout);
                }
                if sifted {
                    sieve.keep(&mut together);
                    docs.append(&mut together);
                }
                since = 0;
            }
            if is_last {
                break;
            }
        }
        Ok(if docs.len() == part.docs() as usize {
            Docs::All(part.docs())
        } else {
            Docs::Some(docs)
        })
    }

    fn found(&self, part: &Part) -> Result<Found, SearchError> {
        if let Some(terms) = self.plan.terms(part)
            && let Some(postings) = only_postings(&terms, &part.reader)?
        {
            return Ok(Found::Term(Box::new(postings)));
        }
        Ok(Found::Other(self.weight.scorer(&part.reader, 1.0)?))
    }
}

/// Returns the postings of the only one of these terms that not every document has; `None` where there is not one such term.
fn only_postings(
    terms: &[&Term],
    reader: &SegmentReader,
) -> tantivy::Result<Option<BlockSegmentPostings>> {
    let mut only = None;
    for term in terms {
        let index = reader.inverted_index(term.field())?;
        let Some(info) = index.get_term_info(term)? else {
            return Ok(Some(BlockSegmentPostings::empty()));
        };
        if info.doc_freq < reader.max_doc() && only.replace((index, info)).is_some() {
            return Ok(None);
        }
    }
    let open = |(index, info): (Arc<InvertedIndexReader>, TermInfo)| {
        index.read_block_postings_from_terminfo(&info, IndexRecordOption::Basic)
    };
    Ok(only.map(open).transpose()?)
}

/// The documents that the leads of a plan find in a part.
enum Found {
    /// Those of one term, which are unpacked block by block: five times as fast as one by one.
    Term(Box<BlockSegmentPostings>),
    Other(Box<dyn Scorer>),
}

impl Found {
    /// So many are added at once at most: a block of tantivy's postings.
    const SOME: usize = 128;

    fn is_everything(&self) -> bool {
        match self {
            Self::Term(_) => false,
            Self::Other(scorer) => scorer.is::<AllScorer>(),
        }
    }

    fn about_so_many(&self) -> usize {
        (match self {
            Self::Term(postings) => postings.doc_freq(),
            Self::Other(scorer) => scorer.size_hint(),
        }) as usize
    }

    /// Adds the next documents. Returns false where there are none behind them.
    fn add_some_to(&mut self, docs: &mut Vec<DocId>) -> bool {
        match self {
            Self::Term(postings) => {
                docs.extend_from_slice(postings.docs());
                postings.advance();
                !postings.docs().is_empty()
            }
            Self::Other(scorer) => {
                let mut buffer = [0; COLLECT_BLOCK_BUFFER_LEN];
                let filled = scorer.fill_buffer(&mut buffer);
                docs.extend_from_slice(&buffer[..filled]);
                filled == buffer.len() && scorer.doc() != TERMINATED
            }
        }
    }
}
