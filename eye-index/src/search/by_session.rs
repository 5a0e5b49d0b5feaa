//! Lists matches by session, the last ids first, as the old service does by default.
//!
//! What must stay true: a search segment's dictionary of sessions is in the order of their bytes, so its numbers can be compared
//! where ids would have to be; only of the rows that are shown are ids looked up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use eye_log::Offset;
use tantivy::columnar::BytesColumn;
use uuid::Uuid;

use super::matching::Matching;
use super::part::Part;
use crate::error::SearchError;
use crate::page::{Hit, Place, SearchAnswer, SearchRequest};

/// A row within a search segment: the number of its session, and what ties go by.
type Row = (u64, i64, Offset);

/// Returns a page of matches by session, timestamp and offset, all downwards, behind `request.after`.
pub(crate) fn by_session(
    matching: &Matching<'_>,
    request: &SearchRequest,
) -> Result<SearchAnswer, SearchError> {
    let found = matching.by_part(|part, docs| {
        let Some(sessions) = part.sessions() else {
            return Ok(Vec::new());
        };
        let below = Below::of(request.after.as_ref(), sessions)?;
        // One more than is shown, to know whether there are more.
        let mut best: BinaryHeap<Reverse<Row>> = BinaryHeap::with_capacity(request.limit + 2);
        let mut numbers = Vec::new();
        docs.together(|docs| {
            if matching.check.is_late() {
                return Err(SearchError::Timeout);
            }
            numbers.resize(docs.len(), None);
            sessions.ords().first_vals(docs, &mut numbers);
            for (doc, session) in docs.iter().zip(&numbers) {
                let Some(session) = *session else {
                    continue;
                };
                let full = best.len() > request.limit;
                let least = best.peek().map(|row| row.0).filter(|_| full);
                // Times and offsets are looked at only where sessions leave it open.
                if least.is_some_and(|least| session < least.0) || session > below.session {
                    continue;
                }
                let row = (session, part.timestamp(*doc), part.offset(*doc));
                if least.is_none_or(|least| row > least) && below.has(row) {
                    best.push(Reverse(row));
                    if full {
                        best.pop();
                    }
                }
            }
            Ok(())
        })?;
        named(part, sessions, best)
    })?;
    let mut hits: Vec<Hit> = found.into_iter().flatten().collect();
    hits.sort_unstable_by_key(|hit| Reverse((hit.session, hit.timestamp, hit.offset)));
    let more = hits.len() > request.limit;
    hits.truncate(request.limit);
    Ok(SearchAnswer::of(hits, more))
}

/// The rows that a page may show: those behind the last one of the page before.
struct Below {
    /// No session has a greater number.
    session: u64,
    /// Set where the row before is of the session of that number.
    place: Option<(i64, Offset)>,
}

impl Below {
    fn of(after: Option<&Place>, sessions: &BytesColumn) -> Result<Self, SearchError> {
        let Some((id, place)) = after.and_then(|after| Some((after.session?, after))) else {
            return Ok(Self {
                session: u64::MAX,
                place: None,
            });
        };
        if let Some(session) = sessions.dictionary().term_ord(id.as_bytes())? {
            let place = Some((place.timestamp, place.offset));
            return Ok(Self { session, place });
        }
        // Not in this segment: the row (0, …) of the number that follows stands for it.
        let (mut low, mut high) = (0, sessions.num_terms() as u64);
        let mut bytes = Vec::new();
        while low < high {
            let middle = low + (high - low) / 2;
            sessions.ord_to_bytes(middle, &mut bytes)?;
            if bytes.as_slice() < id.as_bytes().as_slice() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(Self {
            session: low,
            place: Some((i64::MIN, 0)),
        })
    }

    fn has(&self, (session, timestamp, offset): Row) -> bool {
        session < self.session || self.place.is_none_or(|place| (timestamp, offset) < place)
    }
}

/// Looks the sessions' ids up.
fn named(
    part: &Part,
    sessions: &BytesColumn,
    rows: BinaryHeap<Reverse<Row>>,
) -> Result<Vec<Hit>, SearchError> {
    let mut bytes = Vec::new();
    let mut hits = Vec::with_capacity(rows.len());
    for Reverse((session, timestamp, offset)) in rows {
        let known = sessions.ord_to_bytes(session, &mut bytes)?;
        let id = Uuid::from_slice(&bytes).ok().filter(|_| known);
        let id = id.ok_or_else(|| {
            SearchError::Index(format!("a session of {part:?} has no id in its dictionary"))
        })?;
        hits.push(Hit {
            session: Some(id),
            timestamp,
            offset,
        });
    }
    Ok(hits)
}
