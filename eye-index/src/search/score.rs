//! Ranks matches by how well they fit: BM25 (Robertson, Zaragoza 2009) over the words that are asked for.
//!
//! What must stay true: a score depends on the event and on all shards together, not on the shard an event happens to be in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{Postings as _, SegmentPostings};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet as _, Term};

use super::marks::words_of;
use super::matching::Matching;
use super::part::Part;
use super::schema::Fields;
use crate::error::SearchError;
use crate::page::{Hit, SearchAnswer, SearchRequest};

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// A row: its score, and what ties go by. The greatest is best.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    score: f64,
    timestamp: i64,
    offset: u64,
}

impl Eq for Row {}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rest = |row: &Self| (row.timestamp, row.offset);
        self.score
            .total_cmp(&other.score)
            .then(rest(self).cmp(&rest(other)))
    }
}

/// Returns the best matches, best first; ties go to the newest.
pub(crate) fn best(
    matching: &Matching<'_>,
    parts: &[Arc<Part>],
    fields: &Fields,
    request: &SearchRequest,
) -> Result<SearchAnswer, SearchError> {
    let words = words_of(&request.query);
    let terms: Vec<Term> = words
        .iter()
        .map(|word| Term::from_field_text(fields.words, word))
        .collect();
    let weights = Weights::of(parts, fields, &terms)?;
    let found = matching.by_part(|part, docs| {
        let mut scorer = weights.open(part, fields, &terms)?;
        let mut best: BinaryHeap<Reverse<Row>> = BinaryHeap::new();
        docs.each(|doc| {
            let row = Row {
                score: scorer.score(doc),
                timestamp: part.timestamp(doc),
                offset: part.offset(doc),
            };
            if best.len() <= request.limit {
                best.push(Reverse(row));
            } else if best.peek().is_some_and(|worst| row > worst.0) {
                best.pop();
                best.push(Reverse(row));
            }
        });
        Ok(best.into_iter().map(|row| row.0).collect::<Vec<Row>>())
    })?;
    let mut rows: Vec<Row> = found.into_iter().flatten().collect();
    rows.sort_unstable_by(|a, b| b.cmp(a));
    let more = rows.len() > request.limit;
    rows.truncate(request.limit);
    let hits = rows.iter().map(|row| Hit {
        session: None,
        timestamp: row.timestamp,
        offset: row.offset,
    });
    Ok(SearchAnswer {
        hits: hits.collect(),
        scores: rows.iter().map(|row| row.score).collect(),
        more,
    })
}

/// What words weigh, and how long events are, over all shards.
struct Weights {
    /// By term: how much it tells.
    told: Vec<f64>,
    average_words: f64,
}

impl Weights {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn of(parts: &[Arc<Part>], fields: &Fields, terms: &[Term]) -> Result<Self, SearchError> {
        let (mut docs, mut words) = (0u64, 0u64);
        let mut holders = vec![0u64; terms.len()];
        for part in parts {
            let index = part.reader.inverted_index(fields.words)?;
            docs += u64::from(part.docs());
            words += index.total_num_tokens();
            for (holders, term) in holders.iter_mut().zip(terms) {
                *holders += u64::from(index.doc_freq(term).map_err(tantivy::TantivyError::from)?);
            }
        }
        let all = docs as f64;
        let told = holders.into_iter().map(|holders| {
            let holders = holders as f64;
            (1.0 + (all - holders + 0.5) / (holders + 0.5)).ln()
        });
        Ok(Self {
            told: told.collect(),
            average_words: (words as f64 / all.max(1.0)).max(1.0),
        })
    }

    fn open(&self, part: &Part, fields: &Fields, terms: &[Term]) -> Result<Scoring, SearchError> {
        let index = part.reader.inverted_index(fields.words)?;
        let mut postings = Vec::new();
        for (term, told) in terms.iter().zip(&self.told) {
            let found = index.read_postings(term, IndexRecordOption::WithFreqs);
            let found = found.map_err(tantivy::TantivyError::from)?;
            postings.extend(found.map(|found| (found, *told)));
        }
        Ok(Scoring {
            postings,
            lengths: part.reader.get_fieldnorms_reader(fields.words)?,
            average_words: self.average_words,
        })
    }
}

struct Scoring {
    postings: Vec<(SegmentPostings, f64)>,
    lengths: FieldNormReader,
    average_words: f64,
}

impl Scoring {
    /// Scores a document; they come in ascending order.
    fn score(&mut self, doc: DocId) -> f64 {
        let length = f64::from(self.lengths.fieldnorm(doc)) / self.average_words;
        let mut score = 0.0;
        for (postings, told) in &mut self.postings {
            if postings.doc() < doc {
                postings.seek(doc);
            }
            if postings.doc() == doc {
                let often = f64::from(postings.term_freq());
                score += *told * often * (K1 + 1.0) / (often + K1 * (1.0 - B + B * length));
            }
        }
        score
    }
}
