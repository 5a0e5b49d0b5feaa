//! Collects the first rows of an order without looking at everything.
//!
//! What must stay true: the rows are those that sorting all matches would put first. Documents are in log order and
//! the order asked for is by timestamp, so every run and every block of documents keeps its earliest and latest timestamp; they
//! are visited best first, and the walk ends when no block left can hold a row better than the worst one kept.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use itertools::Itertools as _;
use tantivy::query::{EnableScoring, Scorer, Weight};
use tantivy::{DocId, DocSet as _, TERMINATED};

use super::docsets::{Price, SIEVED_TOGETHER, Sieve, open_all};
use super::log_check::LogCheck;
use super::part::{Part, TimeTable};
use super::plan::Plan;
use super::schema::Fields;
use super::threads;
use crate::error::SearchError;
use crate::page::{Hit, Order, SearchAnswer, SearchRequest};

/// So many runs are read first: segments may lie over one another in time, so that each has a little of what is best.
const FIRST_RUNS: usize = 32;
/// The next visit looks at so many blocks, a further one at [`GROWTH`] times as many. Of those that hold a match a few are read
/// first, and then each time [`READ_GROWTH`] times as many of them: reading costs more than looking whether there is anything to read.
const LOOK_BLOCKS: usize = 32;
const READ_BLOCKS: usize = 4;
const GROWTH: usize = 8;
const READ_GROWTH: usize = 4;
/// A search segment with so few matches is read whole when it is first visited.
const FEW_DOCS: u64 = 4096;
/// So many search segments are read by more than one thread, where values or events have to be looked at: for less, starting another
/// takes as long as it saves.
const SHARED_PARTS: usize = 8;
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

/// Documents in a row: a block, or a run of the first that are read.
struct Block {
    part: usize,
    docs: Range<DocId>,
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
    let after = request
        .after
        .map(|place| rank(order, place.timestamp, place.offset));
    let mut rows = Rows {
        order,
        after,
        wanted: request.limit + 1,
        best: BinaryHeap::new(),
    };
    let weight = plan
        .query()
        .weight(EnableScoring::disabled_from_schema(&fields.schema))?;
    let finished: Vec<AtomicBool> = parts.iter().map(|_| AtomicBool::new(false)).collect();
    let walk = Walk {
        parts,
        plan,
        weight: weight.as_ref(),
        check,
        opened: parts.iter().map(|_| Mutex::new(None)).collect(),
        finished: &finished,
    };
    let mut runs = blocks(parts, &finished, request, after, Part::runs);
    let mut first: Vec<Block> = runs.by_ref().take(FIRST_RUNS).collect();
    walk.read(&mut first, &[], &mut rows)?;
    let next = walk.next_of(&mut runs, 1);
    if next.first().is_some_and(|next| rows.may_hold(next)) {
        let mut ahead = blocks(parts, &finished, request, after, Part::blocks);
        let mut look = LOOK_BLOCKS;
        loop {
            let mut visit = walk.next_of(&mut ahead, look);
            if !visit.first().is_some_and(|next| rows.may_hold(next)) {
                break;
            }
            let looked_at = visit.len();
            walk.keep_those_with_a_match(&mut visit)?;
            let (mut left, mut read) = (visit.as_mut_slice(), READ_BLOCKS);
            while left.first().is_some_and(|next| rows.may_hold(next)) {
                let together;
                (together, left) = left.split_at_mut(read.min(left.len()));
                read *= READ_GROWTH;
                walk.read(together, &first, &mut rows)?;
            }
            // Segments that were read whole bring no more blocks.
            if visit.len() < looked_at || visit.iter().any(|block| !walk.has_finished(block.part)) {
                look *= GROWTH;
            }
        }
    }
    check.verdict()?;
    let mut rows: Vec<Rank> = rows.best.into_iter().map(|row| row.0).collect();
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

/// The best rows met so far.
struct Rows {
    order: Order,
    after: Option<Rank>,
    wanted: usize,
    best: BinaryHeap<Reverse<Rank>>,
}

impl Rows {
    /// Returns ones for the same question.
    fn anew(&self) -> Self {
        Self {
            best: BinaryHeap::new(),
            ..*self
        }
    }

    fn add(&mut self, part: &Part, doc: DocId) {
        let row = rank(self.order, part.timestamp(doc), part.offset(doc));
        if self.after.is_none_or(|after| row < after) {
            self.push(row);
        }
    }

    fn push(&mut self, row: Rank) {
        if self.best.len() < self.wanted {
            self.best.push(Reverse(row));
        } else if self.best.peek().is_some_and(|worst| row > worst.0) {
            self.best.pop();
            self.best.push(Reverse(row));
        }
    }

    /// Returns whether a row in a block can be better than the worst one kept: also with the same timestamp, whose offset may be.
    fn may_hold(&self, block: &Block) -> bool {
        let worst = self.best.peek().filter(|_| self.best.len() == self.wanted);
        worst.is_none_or(|worst| block.best >= worst.0.0)
    }
}

/// The search segments while rows are looked for in them.
struct Walk<'q> {
    parts: &'q [Arc<Part>],
    plan: &'q Plan,
    weight: &'q dyn Weight,
    check: &'q LogCheck,
    /// What was opened to look at and is not read yet.
    opened: Vec<Mutex<Option<Box<dyn Scorer>>>>,
    /// Those that were read whole.
    finished: &'q [AtomicBool],
}

impl Walk<'_> {
    /// Says whether so many segments are worth more than one thread.
    fn are_shared(&self, parts: usize) -> bool {
        let mut filters = self.plan.filters.iter();
        parts >= SHARED_PARTS && filters.any(|filter| filter.price() >= Price::Values)
    }

    fn has_finished(&self, part: usize) -> bool {
        self.finished[part].load(Ordering::Relaxed)
    }

    /// Returns so many blocks more, without those of segments that were read whole.
    fn next_of(&self, ahead: &mut impl Iterator<Item = Block>, count: usize) -> Vec<Block> {
        let unfinished = ahead.filter(|block| !self.has_finished(block.part));
        unfinished.take(count).collect()
    }

    /// Returns what was opened of a segment, or opens it.
    fn scorer(&self, part: usize) -> Result<Box<dyn Scorer>, SearchError> {
        if self.check.is_late() {
            return Err(SearchError::Timeout);
        }
        let opened = self.keeping(part).take();
        opened.map_or_else(
            || Ok(self.weight.scorer(&self.parts[part].reader, 1.0)?),
            Ok,
        )
    }

    fn keeping(&self, part: usize) -> MutexGuard<'_, Option<Box<dyn Scorer>>> {
        let opened = self.opened[part].lock();
        opened.unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the rows of blocks, without those of documents that were `read` before. Sorts the blocks by where they lie.
    fn read(
        &self,
        blocks: &mut [Block],
        read: &[Block],
        rows: &mut Rows,
    ) -> Result<(), SearchError> {
        blocks.sort_unstable_by_key(|block| (block.part, block.docs.start));
        let of_parts: Vec<&[Block]> = blocks
            .chunk_by(|a, b| a.part == b.part)
            .filter(|blocks| !self.has_finished(blocks[0].part))
            .collect();
        let shared = self.are_shared(of_parts.len());
        let found = threads::map(of_parts.len(), shared, |place| {
            let mut found = rows.anew();
            self.read_of_part(of_parts[place], read, &mut found)?;
            Ok(found.best)
        })?;
        for Reverse(row) in found.into_iter().flatten() {
            rows.push(row);
        }
        Ok(())
    }

    /// Adds the rows of blocks of one segment.
    fn read_of_part(
        &self,
        blocks: &[Block],
        read: &[Block],
        rows: &mut Rows,
    ) -> Result<(), SearchError> {
        let index = blocks[0].part;
        let part = &self.parts[index];
        let mut docs = self.scorer(index)?;
        let mut sieve = open_all(&self.plan.filters, &part.reader)?;
        let is_whole = docs.cost() <= FEW_DOCS;
        self.finished[index].store(is_whole, Ordering::Relaxed);
        let ranges = if is_whole {
            without(std::iter::once(0..part.docs()), read, index)
        } else {
            without(blocks.iter().map(|block| block.docs.clone()), read, index)
        };
        each_doc(docs.as_mut(), sieve.as_mut(), &ranges, self.check, |docs| {
            for doc in docs {
                rows.add(part, *doc);
            }
        })
    }

    /// Keeps the blocks that hold a match, before filters, in their order: that is found out much sooner than all of their matches are.
    /// Those of segments with few matches are kept too: such a segment is read whole, by what was opened here.
    fn keep_those_with_a_match(&self, blocks: &mut Vec<Block>) -> Result<(), SearchError> {
        let mut by_part: Vec<usize> = (0..blocks.len()).collect();
        by_part.sort_unstable_by_key(|place| (blocks[*place].part, blocks[*place].docs.start));
        let of_parts: Vec<&[usize]> = by_part
            .chunk_by(|a, b| blocks[*a].part == blocks[*b].part)
            .collect();
        let shared = self.are_shared(of_parts.len());
        let found = threads::map(of_parts.len(), shared, |place| {
            let index = blocks[of_parts[place][0]].part;
            let mut docs = self.scorer(index)?;
            if docs.cost() <= FEW_DOCS {
                *self.keeping(index) = Some(docs);
                return Ok(vec![true; of_parts[place].len()]);
            }
            let has = |place: &usize| {
                let range = &blocks[*place].docs;
                if docs.doc() < range.start {
                    docs.seek(range.start);
                }
                docs.doc() < range.end
            };
            Ok(of_parts[place].iter().map(has).collect())
        })?;
        let mut have = vec![false; blocks.len()];
        for (place, has) in by_part.iter().zip(found.into_iter().flatten()) {
            have[*place] = has;
        }
        let mut have = have.into_iter();
        blocks.retain(|_| have.next().unwrap_or(true));
        Ok(())
    }
}

/// Returns ascending ranges of the documents of a segment without those of the blocks in `read`, which ascend too.
fn without(
    ranges: impl Iterator<Item = Range<DocId>>,
    read: &[Block],
    part: usize,
) -> Vec<Range<DocId>> {
    let read: Vec<&Range<DocId>> = read
        .iter()
        .filter(|block| block.part == part)
        .map(|block| &block.docs)
        .collect();
    let mut left = Vec::new();
    for range in ranges {
        let mut start = range.start;
        for hole in read.iter().filter(|hole| range.contains(&hole.start)) {
            left.push(start..hole.start);
            start = hole.end;
        }
        left.push(start..range.end);
    }
    left.retain(|range| !range.is_empty());
    left
}

/// Returns the blocks of a table that may hold rows, best first. Each segment keeps its own in order, so that as many are looked at as
/// are taken; of one that is finished no more come but the one that is next already.
fn blocks<'p>(
    parts: &'p [Arc<Part>],
    finished: &'p [AtomicBool],
    request: &SearchRequest,
    after: Option<Rank>,
    table: fn(&Part) -> &TimeTable,
) -> impl Iterator<Item = Block> + use<'p> {
    let (from, to, as_of) = (request.from, request.to, request.as_of);
    let newest_first = request.order != Order::OldestFirst;
    let of_part = move |(part, it): (usize, &'p Arc<Part>)| {
        table(it)
            .best_first(newest_first, from, to)
            .take_while(move |_| !finished[part].load(Ordering::Relaxed))
            .map(move |(docs, (earliest, latest))| {
                let (best, least) = if newest_first {
                    (latest, earliest)
                } else {
                    (!earliest, !latest)
                };
                (Block { part, docs, best }, least)
            })
            .filter(move |(_, least)| after.is_none_or(|(timestamp, _)| *least <= timestamp))
            .map(|(block, _)| block)
    };
    let rank = |block: &Block| (block.best, block.part, block.docs.start);
    parts
        .iter()
        .enumerate()
        .filter(move |(_, part)| part.first_offset() < as_of)
        .map(of_part)
        .kmerge_by(move |a, b| rank(a) > rank(b))
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
