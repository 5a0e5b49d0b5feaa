//! Collects the first rows of an order without looking at everything.
//!
//! What must stay true: the rows are those that sorting all matches would put first. Documents are in log order and
//! the order asked for is by timestamp, so every block of documents keeps its earliest and latest timestamp; blocks
//! are visited best first, and the walk ends when no block left can hold a row better than the worst one kept.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use itertools::Itertools as _;
use tantivy::query::{EnableScoring, Scorer, Weight};
use tantivy::{DocId, DocSet as _, TERMINATED};

use super::docsets::{SIEVED_TOGETHER, Sieve, open_all};
use super::log_check::LogCheck;
use super::part::Part;
use super::plan::Plan;
use super::schema::Fields;
use crate::error::SearchError;
use crate::page::{Hit, Order, SearchAnswer, SearchRequest};

/// The first visit looks at so many blocks, every further one at [`GROWTH`] times as many. Of those that hold a match as many are read
/// first, and then each time [`READ_GROWTH`] times as many of them: reading costs more than looking whether there is anything to read.
const FIRST_BLOCKS: usize = 4;
const GROWTH: usize = 8;
const READ_GROWTH: usize = 4;
/// A search segment with so few matches is read whole when it is first visited.
const FEW_DOCS: u64 = 4096;
/// The deadline is looked at once in so many documents.
const DOCS_PER_LOOK: u32 = 4096;

/// Where a row stands: larger is better, whatever the order.
type Rank = (i64, u64);

fn rank(order: Order, timestamp: i64, offset: u64) -> Rank {
    match order {
        Order::OldestFirst => (!timestamp, !offset),
        Order::NewestFirst | Order::BySession | Order::BestFirst => (timestamp, offset),
    }
}

struct Block {
    part: usize,
    block: usize,
    /// The best timestamp rank a row in it can have.
    best: i64,
}

/// Returns a page of the matches in `parts`, by timestamp.
pub(crate) fn collect(
    parts: &[Arc<Part>],
    plan: &Plan,
    fields: &Fields,
    request: &SearchRequest,
    check: &LogCheck,
) -> Result<SearchAnswer, SearchError> {
    let order = request.order;
    let wanted = request.limit + 1;
    let after = request
        .after
        .map(|place| rank(order, place.timestamp, place.offset));
    let weight = plan
        .query()
        .weight(EnableScoring::disabled_from_schema(&fields.schema))?;
    let mut best: BinaryHeap<Reverse<Rank>> = BinaryHeap::with_capacity(wanted + 1);
    let mut keep = |part: &Part, doc: u32| {
        let row = rank(order, part.timestamp(doc), part.offset(doc));
        if after.is_none_or(|after| row < after) {
            if best.len() < wanted {
                best.push(Reverse(row));
            } else if best.peek().is_some_and(|worst| row > worst.0) {
                best.pop();
                best.push(Reverse(row));
            }
        }
        if best.len() < wanted {
            None
        } else {
            best.peek().map(|worst| worst.0)
        }
    };

    let mut ahead = blocks(parts, request, after);
    let mut finished = vec![false; parts.len()];
    let mut opened: Vec<Option<Box<dyn Scorer>>> = parts.iter().map(|_| None).collect();
    let mut worst: Option<Rank> = None;
    let mut take = FIRST_BLOCKS;
    // A block whose best timestamp ties with the worst row may hold a better offset.
    let done = |worst: Option<Rank>, next: &Block| {
        worst.is_some_and(|(timestamp, _)| timestamp > next.best)
    };
    loop {
        let unfinished = ahead.by_ref().filter(|block| !finished[block.part]);
        let mut visit: Vec<Block> = unfinished.take(take).collect();
        if visit.first().is_none_or(|next| done(worst, next)) {
            break;
        }
        if take > FIRST_BLOCKS {
            with_a_match(&mut visit, parts, weight.as_ref(), &mut opened, check)?;
        }
        take *= GROWTH;
        let (mut visit, mut walk) = (visit.as_mut_slice(), FIRST_BLOCKS);
        while visit.first().is_some_and(|next| !done(worst, next)) {
            if check.is_late() {
                return Err(SearchError::Timeout);
            }
            let together;
            (together, visit) = visit.split_at_mut(walk.min(visit.len()));
            walk *= READ_GROWTH;
            together.sort_unstable_by_key(|block| (block.part, block.block));
            for run in together.chunk_by(|a, b| a.part == b.part) {
                let index = run[0].part;
                if finished[index] {
                    continue;
                }
                let part = &parts[index];
                let mut docs = match opened[index].take() {
                    Some(docs) => docs,
                    None => weight.scorer(&part.reader, 1.0)?,
                };
                let mut sieve = open_all(&plan.filters, &part.reader)?;
                finished[index] = docs.cost() <= FEW_DOCS;
                let ranges: Vec<Range<DocId>> = if finished[index] {
                    std::iter::once(0..part.docs()).collect()
                } else {
                    let blocks = run.iter().map(|block| part.block_docs(block.block));
                    blocks.collect()
                };
                each_doc(docs.as_mut(), sieve.as_mut(), &ranges, check, |docs| {
                    for doc in docs {
                        worst = keep(part, *doc);
                    }
                })?;
            }
        }
    }
    check.verdict()?;
    let mut rows: Vec<Rank> = best.into_iter().map(|row| row.0).collect();
    rows.sort_unstable_by(|a, b| b.cmp(a));
    let more = rows.len() > request.limit;
    rows.truncate(request.limit);
    let hit = |(timestamp, offset): Rank| match order {
        Order::OldestFirst => Hit {
            session: None,
            timestamp: !timestamp,
            offset: !offset,
        },
        Order::NewestFirst | Order::BySession | Order::BestFirst => Hit {
            session: None,
            timestamp,
            offset,
        },
    };
    Ok(SearchAnswer::of(rows.into_iter().map(hit).collect(), more))
}

/// Returns the blocks that may hold rows, best first. Each segment keeps its own in order, so that as many are looked at as are taken.
fn blocks<'p>(
    parts: &'p [Arc<Part>],
    request: &SearchRequest,
    after: Option<Rank>,
) -> impl Iterator<Item = Block> + use<'p> {
    let (from, to, as_of) = (request.from, request.to, request.as_of);
    let newest_first = request.order != Order::OldestFirst;
    let of_part = move |(part, it): (usize, &'p Arc<Part>)| {
        it.blocks(newest_first)
            .filter(move |(_, (earliest, latest))| {
                from.is_none_or(|from| *latest >= from) && to.is_none_or(|to| *earliest < to)
            })
            .map(move |(block, (earliest, latest))| {
                let (best, least) = if newest_first {
                    (latest, earliest)
                } else {
                    (!earliest, !latest)
                };
                (Block { part, block, best }, least)
            })
            .filter(move |(_, least)| after.is_none_or(|(timestamp, _)| *least <= timestamp))
            .map(|(block, _)| block)
    };
    parts
        .iter()
        .enumerate()
        .filter(move |(_, part)| part.first_offset() < as_of)
        .map(of_part)
        .kmerge_by(|a, b| (a.best, a.part, a.block) > (b.best, b.part, b.block))
}

/// Leaves the blocks that hold a match, before filters, in their order: that is found out much sooner than all of their matches are. Those of
/// segments with few matches are left too: such a segment is read whole, by what was opened here.
fn with_a_match(
    blocks: &mut Vec<Block>,
    parts: &[Arc<Part>],
    weight: &dyn Weight,
    opened: &mut [Option<Box<dyn Scorer>>],
    check: &LogCheck,
) -> Result<(), SearchError> {
    let mut by_part: Vec<usize> = (0..blocks.len()).collect();
    by_part.sort_unstable_by_key(|place| (blocks[*place].part, blocks[*place].block));
    let mut have = vec![false; blocks.len()];
    for run in by_part.chunk_by(|a, b| blocks[*a].part == blocks[*b].part) {
        if check.is_late() {
            return Err(SearchError::Timeout);
        }
        let index = blocks[run[0]].part;
        let part = &parts[index];
        let mut docs = match opened[index].take() {
            Some(docs) => docs,
            None => weight.scorer(&part.reader, 1.0)?,
        };
        let few = docs.cost() <= FEW_DOCS;
        for place in run {
            if few {
                have[*place] = true;
                continue;
            }
            let range = part.block_docs(blocks[*place].block);
            if docs.doc() < range.start {
                docs.seek(range.start);
            }
            have[*place] = docs.doc() < range.end;
        }
        opened[index] = few.then_some(docs);
    }
    let mut have = have.into_iter();
    blocks.retain(|_| have.next().unwrap_or(true));
    Ok(())
}

/// Hands on the documents of ascending ranges that pass, many together.
fn each_doc(
    docs: &mut dyn Scorer,
    sieve: &mut dyn Sieve,
    ranges: &[Range<DocId>],
    check: &LogCheck,
    mut see: impl FnMut(&[DocId]),
) -> Result<(), SearchError> {
    let mut together = Vec::new();
    for range in ranges {
        let mut doc = docs.doc();
        if doc < range.start {
            doc = docs.seek(range.start);
        }
        while doc < range.end {
            together.push(doc);
            if together.len() == SIEVED_TOGETHER {
                sieve.keep(&mut together);
                see(&together);
                together.clear();
                if check.is_late() {
                    return Err(SearchError::Timeout);
                }
            }
            doc = docs.advance();
        }
    }
    sieve.keep(&mut together);
    see(&together);
    Ok(())
}

/// Counts the matches.
pub(crate) fn count(
    parts: &[Arc<Part>],
    plan: &Plan,
    fields: &Fields,
    request: &SearchRequest,
    check: &LogCheck,
) -> Result<u64, SearchError> {
    let weight = plan
        .query()
        .weight(EnableScoring::disabled_from_schema(&fields.schema))?;
    let mut count = 0;
    for part in parts
        .iter()
        .filter(|part| part.first_offset() < request.as_of)
    {
        if check.is_late() {
            return Err(SearchError::Timeout);
        }
        if plan.filters.is_empty() {
            count += u64::from(weight.count(&part.reader)?);
            continue;
        }
        let mut docs = weight.scorer(&part.reader, 1.0)?;
        let mut sieve = open_all(&plan.filters, &part.reader)?;
        let all = 0..part.docs();
        each_doc(docs.as_mut(), sieve.as_mut(), &[all], check, |docs| {
            count += docs.len() as u64;
        })?;
    }
    check.verdict()?;
    Ok(count)
}

/// Returns the offsets of matches in log order, from `from` on: `most` at most, or those that were found before `until`. Also returns
/// from where to go on; `None` when there is nothing behind.
pub(crate) fn in_log_order(
    parts: &[Arc<Part>],
    plan: &Plan,
    fields: &Fields,
    (from, most, until): (u64, usize, Instant),
    check: &LogCheck,
) -> Result<(Vec<u64>, Option<u64>), SearchError> {
    let weight = plan
        .query()
        .weight(EnableScoring::disabled_from_schema(&fields.schema))?;
    let mut offsets = Vec::new();
    for part in parts.iter().filter(|part| part.last_offset() >= from) {
        let mut docs = weight.scorer(&part.reader, 1.0)?;
        let mut sieve = open_all(&plan.filters, &part.reader)?;
        let first = part.first_doc_from(from);
        let mut doc = docs.doc();
        if doc < first {
            doc = docs.seek(first);
        }
        let mut looked = 0u32;
        while doc != TERMINATED {
            looked = looked.wrapping_add(1);
            let due = looked.is_multiple_of(DOCS_PER_LOOK) && Instant::now() > until;
            if offsets.len() == most || due {
                check.verdict()?;
                return Ok((offsets, Some(part.offset(doc))));
            }
            if sieve.passes(doc) {
                offsets.push(part.offset(doc));
            }
            doc = docs.advance();
        }
    }
    check.verdict()?;
    Ok((offsets, None))
}
