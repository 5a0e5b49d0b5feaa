//! The words of the index that a pattern or a misspelt word stands for, and the documents that have one of them.
//!
//! What must stay true: a clause stands for so many different words at most, over all search segments; beyond that it is
//! answered with an error, never with a part.

use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::FixedState;
use tantivy::query::{BitSetDocSet, ConstScorer, EmptyScorer, Scorer};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, SegmentReader};
use tantivy_fst::Automaton;

use super::docsets::{MakeDocs, RangeDocs};
use super::log_check::LogCheck;
use crate::bounds::QUERY_TERMS;
use crate::error::SearchError;

/// How often the deadline is looked at. Words.
const WORDS_PER_LOOK: usize = 1024;

/// What becomes of a clause that stands for too many words.
#[derive(Debug, Clone)]
pub(super) enum Beyond {
    /// The question fails, naming this clause.
    Refuse(Arc<str>),
    /// Every document may match: a filter tells them apart.
    Everything,
}

/// The documents with a word that an automaton accepts.
pub(super) struct Expanded<A> {
    field: Field,
    automaton: Arc<A>,
    beyond: Beyond,
    check: LogCheck,
    /// The words met so far, in whichever search segment, by their hashes.
    met: Arc<Mutex<HashSet<u64, FixedState>>>,
}

impl<A> Expanded<A> {
    pub(super) fn new(field: Field, automaton: A, beyond: Beyond, check: LogCheck) -> Self {
        Self {
            field,
            automaton: Arc::new(automaton),
            beyond,
            check,
            met: Arc::default(),
        }
    }

    /// Notes the words of a search segment; says whether there are too many now.
    fn note(&self, words: &[u64]) -> bool {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        for word in words {
            if met.len() > QUERY_TERMS.value {
                break;
            }
            met.insert(*word);
        }
        met.len() > QUERY_TERMS.value
    }
}

impl<A> Clone for Expanded<A> {
    fn clone(&self) -> Self {
        Self {
            field: self.field,
            automaton: self.automaton.clone(),
            beyond: self.beyond.clone(),
            check: self.check.clone(),
            met: self.met.clone(),
        }
    }
}

impl<A> std::fmt::Debug for Expanded<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expanded")
            .field("beyond", &self.beyond)
            .finish_non_exhaustive()
    }
}

impl<A> MakeDocs for Expanded<A>
where
    A: Automaton + Send + Sync + 'static,
    A::State: Clone,
{
    fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        let index = reader.inverted_index(self.field)?;
        let mut words = index.terms().search(&*self.automaton).into_stream()?;
        let mut docs = BitSet::with_max_value(reader.max_doc());
        let mut hashes = Vec::new();
        while words.advance() {
            hashes.push(FixedState::default().hash_one(words.key()));
            if hashes.len() > QUERY_TERMS.value {
                break;
            }
            if hashes.len().is_multiple_of(WORDS_PER_LOOK) && self.check.is_late() {
                // The verdict is that the time is over.
                return Ok(Box::new(EmptyScorer));
            }
            let mut blocks =
                index.read_block_postings_from_terminfo(words.value(), IndexRecordOption::Basic)?;
            while !blocks.docs().is_empty() {
                for doc in blocks.docs() {
                    docs.insert(*doc);
                }
                blocks.advance();
            }
        }
        if !self.note(&hashes) {
            let docs = BitSetDocSet::from(docs);
            return Ok(Box::new(ConstScorer::new(docs, 1.0)));
        }
        Ok(match &self.beyond {
            Beyond::Everything => Box::new(RangeDocs::new(0..reader.max_doc())),
            Beyond::Refuse(clause) => {
                self.check.fail(SearchError::Bound {
                    bound: &QUERY_TERMS,
                    clause: clause.to_string(),
                });
                Box::new(EmptyScorer)
            }
        })
    }
}
