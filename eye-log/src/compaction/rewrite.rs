//! Writes one file from several, without what has to go.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compaction::plan::Unit;
use crate::error::ReadError;
use crate::format::block::{BLOCK_HEADER_BYTES, Block, BlockBuilder, BlockHeader, Effort};
use crate::format::file_name::SealedName;
use crate::format::payload;
use crate::format::seal::{Hash, Seal};
use crate::format::sealed_footer::{BlockEntry, ChangeEntry, IdEntry, Part};
use crate::log::Shared;
use crate::offset::Offset;
use crate::ranges::OffsetRanges;
use crate::record::{BlockChange, Reason, Record};
use crate::registry::ApplicationId;
use crate::retention::{Cutoffs, hour_of};
use crate::sealed::SealedFile;
use crate::sealing::{NO_BLOCK, SealError, SealedWriter};

/// A file written up to its footer.
pub(super) struct Rewritten<'s> {
    writer: SealedWriter<'s>,
    /// Blocks that changed now, by first offset, with why.
    changed: BTreeMap<Offset, (BlockChange, Reason)>,
    pub(super) expired: u64,
    pub(super) erased: u64,
    /// The offsets of all of them.
    pub(super) gone: OffsetRanges,
}

/// A block whose events are all gone, kept back until it is known whether its whole seal is.
struct Emptied {
    header: [u8; BLOCK_HEADER_BYTES],
    stored: Vec<u8>,
    entry: BlockEntry,
    reason: Reason,
}

/// Says whether an event goes, and why.
fn verdict(
    offset: Offset,
    application: ApplicationId,
    arrived: i64,
    hidden: &OffsetRanges,
    cutoffs: &Cutoffs,
) -> Option<Reason> {
    if hidden.contains(offset) {
        return Some(Reason::Erased);
    }
    let expired = cutoffs
        .get(&application)
        .is_some_and(|hour| hour_of(arrived) < *hour);
    expired.then_some(Reason::Expired)
}

/// Counts what would go: expired and erased events.
pub(super) fn count(
    unit: &Unit,
    hidden: &OffsetRanges,
    cutoffs: &Cutoffs,
) -> Result<(u64, u64), ReadError> {
    let (mut expired, mut erased) = (0, 0);
    if !unit.loses {
        return Ok((0, 0));
    }
    for file in &unit.files {
        let list = file.blocks()?;
        for place in (0..list.len()).filter(|place| list[*place].gone.is_none()) {
            let block = file.read_block(&list, place)?;
            for (offset, record) in block.records() {
                let Some(event) = payload::event_head(record) else {
                    continue;
                };
                let arrived = block.arrived_at(offset);
                match verdict(offset, event.application, arrived, hidden, cutoffs) {
                    Some(Reason::Erased) => erased += 1,
                    Some(_) => expired += 1,
                    None => {}
                }
            }
        }
    }
    Ok((expired, erased))
}

/// Writes the blocks of a unit's new file; `None` when `on`, which hears of bytes done, says to stop.
pub(super) fn rewrite<'s>(
    shared: &'s Shared,
    unit: &Unit,
    hidden: &OffsetRanges,
    cutoffs: &Cutoffs,
    on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Rewritten<'s>>, SealError> {
    let (first, last) = (&unit.files[0], &unit.files[unit.files.len() - 1]);
    let generations = unit.files.iter().map(|file| file.header.generation);
    let name = SealedName {
        base: first.header.base,
        end: last.header.end,
        generation: generations.max().unwrap_or(0) + 1,
    };
    let mut rewritten = Rewritten {
        writer: begun(shared, unit, name)?,
        changed: BTreeMap::new(),
        expired: 0,
        erased: 0,
        gone: OffsetRanges::default(),
    };
    rewritten.writer.summary.first_received_at = first.trailer.summary.first_received_at;
    rewritten.writer.summary.last_received_at = last.trailer.summary.last_received_at;
    let mut done = 0;
    for file in &unit.files {
        let mut gone = OffsetRanges::default();
        for seal in file.seals()? {
            let go_on = rewritten.copy_seal(
                file,
                &seal,
                unit.loses,
                hidden,
                cutoffs,
                &mut gone,
                &mut |more| on(done + more),
            )?;
            if !go_on {
                return Ok(None);
            }
        }
        rewritten.copy_tables(file, &gone, unit.loses)?;
        for range in gone.iter() {
            rewritten.gone.insert(range);
        }
        done += file.file_bytes;
    }
    rewritten.writer.footer.sessions.sort_unstable();
    rewritten
        .writer
        .footer
        .sessions
        .dedup_by_key(|entry| entry.key);
    Ok(Some(rewritten))
}

/// Begins the new file, with room for the tables of the old ones.
fn begun<'s>(
    shared: &'s Shared,
    unit: &Unit,
    name: SealedName,
) -> std::io::Result<SealedWriter<'s>> {
    let mut writer = SealedWriter::begin(shared, name)?;
    let count = |part| unit.files.iter().map(|file| file.trailer.count(part)).sum();
    writer.footer.ids.reserve_exact(count(Part::Ids));
    writer.footer.sessions.reserve_exact(count(Part::Sessions));
    writer.footer.blocks.reserve_exact(count(Part::Blocks));
    Ok(writer)
}

impl Rewritten<'_> {
    /// Copies the blocks of one seal. Returns whether to go on.
    #[expect(
        clippy::too_many_arguments,
        reason = "one walk, and all it needs to know"
    )]
    fn copy_seal(
        &mut self,
        file: &Arc<SealedFile>,
        seal: &Seal,
        loses: bool,
        hidden: &OffsetRanges,
        cutoffs: &Cutoffs,
        gone: &mut OffsetRanges,
        on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, SealError> {
        let list = file.blocks()?;
        let changes = file.changes()?;
        let now_of = |entry: &BlockEntry| {
            let place = changes.binary_search_by_key(&entry.first, |change| change.first);
            place.map_or(entry.hash, |place| changes[place].hash)
        };
        // As long as all blocks are empty of events and of anything else, for one reason, they may go altogether.
        let mut emptied: Option<Vec<Emptied>> = loses.then(Vec::new);
        for (place, entry) in list.iter().enumerate() {
            if !(seal.first..seal.end).contains(&entry.first) {
                continue;
            }
            if !on(entry.position) {
                return Ok(false);
            }
            let known = changes.binary_search_by_key(&entry.first, |change| change.first);
            if let Ok(known) = known {
                self.writer.footer.changes.push(changes[known]);
            }
            if entry.gone.is_some() {
                self.writer.footer.blocks.push(BlockEntry {
                    position: 0,
                    ..*entry
                });
                return Ok(true);
            }
            if !loses {
                self.copy_block(file, entry)?;
                continue;
            }
            let block = file.read_block(&list, place)?;
            let (builder, went, empty) = self.without(&block, hidden, cutoffs, gone)?;
            let Some(mut builder) = builder else {
                // Nothing of it goes; it is empty only if it was before.
                match (empty, &mut emptied) {
                    (Some(reason), Some(kept)) => kept.push(self.as_is(file, entry, reason)?),
                    _ => {
                        self.flush(&mut emptied)?;
                        self.copy_block(file, entry)?;
                    }
                }
                continue;
            };
            let encoded = builder.finish(self.writer.header.salt, false)?;
            let change = BlockChange {
                first: entry.first,
                old: now_of(entry),
                new: encoded.hash,
            };
            self.changed.insert(entry.first, (change, went));
            let kept = Emptied {
                header: encoded.header,
                stored: encoded.stored.to_vec(),
                entry: BlockEntry {
                    raw_bytes: encoded.raw_bytes,
                    ..*entry
                },
                reason: went,
            };
            match (empty, &mut emptied) {
                (Some(_), Some(all)) => all.push(kept),
                _ => {
                    self.flush(&mut emptied)?;
                    self.writer
                        .push_block(&kept.header, &kept.stored, kept.entry)?;
                }
            }
        }
        self.end_of_seal(seal, emptied)?;
        Ok(true)
    }

    /// Writes the empty blocks that were kept back: something of their seal stays.
    fn flush(&mut self, emptied: &mut Option<Vec<Emptied>>) -> Result<(), SealError> {
        for block in emptied.take().into_iter().flatten() {
            self.writer
                .push_block(&block.header, &block.stored, block.entry)?;
        }
        Ok(())
    }

    /// Puts one range in the place of a seal's blocks if all of them are empty for one reason.
    fn end_of_seal(
        &mut self,
        seal: &Seal,
        mut emptied: Option<Vec<Emptied>>,
    ) -> Result<(), SealError> {
        let whole = emptied.as_ref().is_some_and(|blocks| {
            let same = blocks.windows(2).all(|two| two[0].reason == two[1].reason);
            // A block that was emptied earlier has no change of its own now, and stays as it is.
            let all_now = blocks
                .iter()
                .all(|block| self.changed.contains_key(&block.entry.first));
            same && all_now && !blocks.is_empty()
        });
        if !whole {
            return self.flush(&mut emptied);
        }
        let blocks = emptied.unwrap_or_default();
        for block in &blocks {
            if let Some((change, _)) = self.changed.get_mut(&block.entry.first) {
                change.new = NO_BLOCK;
            }
            self.writer
                .footer
                .changes
                .retain(|change| change.first != block.entry.first);
        }
        let count =
            u32::try_from(seal.end - seal.first).expect("a seal covers at most 2^22 records");
        self.writer.footer.blocks.push(BlockEntry {
            first: seal.first,
            position: 0,
            bytes: 0,
            raw_bytes: 0,
            count,
            gone: Some(blocks[0].reason),
            hash: NO_BLOCK,
        });
        Ok(())
    }

    /// Copies a block's bytes, checked, with a header for this file.
    fn copy_block(&mut self, file: &SealedFile, entry: &BlockEntry) -> Result<(), SealError> {
        let (header, stored) = self.moved(file, entry)?;
        self.writer.push_block(&header, &stored, *entry)?;
        Ok(())
    }

    fn as_is(
        &self,
        file: &SealedFile,
        entry: &BlockEntry,
        reason: Reason,
    ) -> Result<Emptied, SealError> {
        let (header, stored) = self.moved(file, entry)?;
        Ok(Emptied {
            header,
            stored,
            entry: *entry,
            reason,
        })
    }

    fn moved(
        &self,
        file: &SealedFile,
        entry: &BlockEntry,
    ) -> Result<([u8; BLOCK_HEADER_BYTES], Vec<u8>), SealError> {
        let mut bytes = file.read_bytes(entry.position, entry.bytes as usize)?;
        let header = BlockHeader::decode(&bytes, file.header.salt)
            .map_err(|what| file.damage(entry.first, what))?;
        let stored = bytes.split_off(BLOCK_HEADER_BYTES.min(bytes.len()));
        if !header.holds(&stored, file.header.salt) || header.first != entry.first {
            let what = "the block's content does not match its checksum";
            return Err(file.damage(entry.first, what).into());
        }
        Ok((header.moved(&stored, self.writer.header.salt), stored))
    }

    /// Builds a block anew without the events that go; no builder if none does. Also says why they go, and for what
    /// reason the block is left without events and other records, if it is.
    fn without(
        &mut self,
        block: &Block,
        hidden: &OffsetRanges,
        cutoffs: &Cutoffs,
        gone: &mut OffsetRanges,
    ) -> Result<(Option<BlockBuilder>, Reason, Option<Reason>), SealError> {
        let mut builder = BlockBuilder::new(block.first, Effort::Thorough)?;
        let (mut why, mut any, mut stays) = (Reason::Expired, false, false);
        let mut last_gone = None;
        let mut frames = block.frames.iter().peekable();
        for (place, (offset, record)) in block.records().enumerate() {
            if let Some((_, frame)) = frames.next_if(|(start, _)| *start == place) {
                builder.begin_frame(*frame);
            }
            let decoded = payload::decode(record).map_err(|what| {
                SealError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, what))
            })?;
            let event = match decoded {
                Record::Gone(reason) => {
                    last_gone = Some(reason);
                    builder.push_gone(reason);
                    continue;
                }
                Record::Event(event) => event,
                _ => {
                    stays = true;
                    builder.push(record);
                    continue;
                }
            };
            let arrived = block.arrived_at(offset);
            let Some(reason) = verdict(offset, event.application, arrived, hidden, cutoffs) else {
                stays = true;
                self.writer.count_event(event.timestamp);
                builder.push(record);
                continue;
            };
            builder.push_gone(reason);
            gone.insert(offset..offset + 1);
            let entry = self.writer.ledger(arrived, event.application);
            // The rest of this entry is copied from the file afterwards, and the bytes with it.
            entry.bytes = entry.bytes.wrapping_sub(record.len() as u64);
            if reason == Reason::Erased {
                entry.erased += 1;
                self.erased += 1;
                why = Reason::Erased;
            } else {
                entry.expired += 1;
                self.expired += 1;
            }
            last_gone = Some(reason);
            any = true;
        }
        let empty = last_gone.filter(|_| !stays);
        Ok((any.then_some(builder), why, empty))
    }

    /// Copies what the footer of a file says, without the ids of events that went.
    fn copy_tables(
        &mut self,
        file: &SealedFile,
        gone: &OffsetRanges,
        loses: bool,
    ) -> Result<(), SealError> {
        let shift = file.header.base - self.writer.header.base;
        file.with_ids(|table| {
            let kept = table
                .filter(|entry| !gone.contains(file.header.base + entry.relative()))
                .map(|entry| IdEntry::new(entry.print(), entry.relative() + shift));
            self.writer.footer.ids.extend(kept);
        })?;
        self.writer.footer.sessions.extend(file.session_entries()?);
        self.writer.footer.controls.extend(file.controls()?);
        self.writer.footer.seals.extend(file.seals()?);
        for entry in file.ledger()? {
            let sum = self.writer.ledger_of_hour(entry.hour, entry.application);
            sum.stored += entry.stored;
            sum.duplicates += entry.duplicates;
            sum.rejected += entry.rejected;
            sum.erased += entry.erased;
            sum.expired += entry.expired;
            sum.lost += entry.lost;
            sum.bytes = sum.bytes.wrapping_add(entry.bytes);
        }
        if !loses {
            let (of_file, of_all) = (&file.trailer.summary, &mut self.writer.summary);
            of_all.events += of_file.events;
            of_all.min_timestamp = of_all.min_timestamp.min(of_file.min_timestamp);
            of_all.max_timestamp = of_all.max_timestamp.max(of_file.max_timestamp);
        }
        Ok(())
    }

    /// Returns the blocks that changed for a reason, in order.
    pub(super) fn take_changes(&self, reason: Reason) -> Vec<BlockChange> {
        self.changed
            .values()
            .filter(|(_, why)| *why == reason)
            .map(|(change, _)| *change)
            .collect()
    }

    /// Notes that the record at `why` says why these blocks changed.
    pub(super) fn say_why(&mut self, blocks: &[BlockChange], why: Offset) {
        let changes = &mut self.writer.footer.changes;
        let listed: std::collections::HashSet<Offset> = self
            .writer
            .footer
            .blocks
            .iter()
            .map(|entry| entry.first)
            .collect();
        for block in blocks {
            changes.retain(|change| change.first != block.first);
            // Of a range without a block only the beginning is listed.
            if listed.contains(&block.first) {
                changes.push(ChangeEntry {
                    first: block.first,
                    hash: block.new,
                    why,
                });
            }
        }
    }

    /// Returns a hash over the blocks of a file as they are, before and after.
    pub(super) fn roots(&self, file: &SealedFile) -> Result<(Hash, Hash), ReadError> {
        let list = file.blocks()?;
        let changes = file.changes()?;
        let before: Vec<Hash> = list
            .iter()
            .map(|entry| {
                let place = changes.binary_search_by_key(&entry.first, |change| change.first);
                place.map_or(entry.hash, |place| changes[place].hash)
            })
            .collect();
        let after: Vec<Hash> = list
            .iter()
            .zip(&before)
            .map(|(entry, before)| {
                self.changed
                    .get(&entry.first)
                    .map_or(*before, |(change, _)| change.new)
            })
            .collect();
        Ok((Seal::root_of(before.iter()), Seal::root_of(after.iter())))
    }

    /// Ends the file and gives it its name.
    pub(super) fn finish(mut self) -> Result<SealedFile, SealError> {
        self.writer
            .footer
            .changes
            .sort_unstable_by_key(|change| change.first);
        self.writer.finish()
    }
}
