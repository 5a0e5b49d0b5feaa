//! Counts what is in the blocks of a sealed file, to be compared with what its footer says.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use super::Footers;
use crate::error::Damage;
use crate::format::block::{Block, Room};
use crate::format::payload;
use crate::format::seal::Hash;
use crate::format::sealed_footer::{IdEntry, SessionEntry};
use crate::offset::Offset;
use crate::record::{MaintenanceRecord, Record};
use crate::registry::ApplicationId;
use crate::retention::hour_of;

/// So many sessions are remembered: most come up again soon, and the nearest caches hold them.
const OWNERS_KEPT: usize = 1 << 13;

/// What one thread keeps from stretch to stretch.
#[derive(Debug, Default)]
pub(super) struct Counting {
    bytes: Vec<u8>,
    room: Room,
    /// The file that the owners are of, by its first offset.
    base: Option<Offset>,
    owners: Owners,
}

/// Sessions met lately in a file, with their owner by the footer or, where that does not say, by the first event met. Each has
/// one place; whoever comes there later takes it.
#[derive(Debug, Default)]
struct Owners {
    places: Vec<Option<(Uuid, ApplicationId)>>,
    hasher: foldhash::quality::RandomState,
}

impl Owners {
    fn clear(&mut self) {
        self.places.clear();
        self.places.resize(OWNERS_KEPT, None);
    }

    /// Returns whose a session is; asks `find` if that is not remembered, and passes on why that failed.
    fn get<E>(
        &mut self,
        session: Uuid,
        find: impl FnOnce() -> Result<ApplicationId, E>,
    ) -> Result<ApplicationId, E> {
        let hash = self.hasher.hash_one(session.as_u128());
        // As many bits as there are places.
        let place = usize::try_from(hash >> (u64::BITS - OWNERS_KEPT.ilog2())).unwrap_or(0);
        match &mut self.places[place] {
            Some((kept, owner)) if *kept == session => Ok(*owner),
            other => Ok(other.insert((session, find()?)).1),
        }
    }
}

/// Ids summed up, in whatever order they come: a table and what it is about have the same ids if they have the same sum.
/// Chance makes two sums equal once in 2^64; the table's own checksum stands before this.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdSum {
    count: u64,
    sum: u64,
}

impl IdSum {
    pub(super) fn add(&mut self, entry: IdEntry) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(entry.mixed());
    }
}

/// What the blocks of a stretch came to.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) events: u64,
    pub(super) records: u64,
    pub(super) min_timestamp: Option<i64>,
    pub(super) max_timestamp: Option<i64>,
    pub(super) controls: Vec<Offset>,
    pub(super) ledger: BTreeMap<(u32, ApplicationId), (u64, u64)>,
    /// The hour and application counted now, its events and bytes.
    last_ledger: Option<((u32, ApplicationId), u64, u64)>,
    /// Events of requests in it that were there already, and that were refused.
    pub(super) came_to_nothing: (u64, u64),
    pub(super) ids: IdSum,
    pub(super) maintenance: Vec<(Offset, MaintenanceRecord)>,
    /// Hashes of the blocks as they are, by place.
    pub(super) hashes: Vec<(usize, Hash)>,
    pub(super) damage: Vec<Damage>,
}

impl Counting {
    /// Reads a stretch of blocks in one go and counts what is in them.
    pub(super) fn count(
        &mut self,
        footer: &Footers,
        range: Range<usize>,
        done: &AtomicU64,
    ) -> io::Result<Counted> {
        let file = &footer.file;
        if self.base != Some(file.header.base) {
            self.base = Some(file.header.base);
            self.owners.clear();
        }
        let entries = &footer.list[range.clone()];
        let there = || entries.iter().filter(|entry| entry.gone.is_none());
        let start = there().map(|entry| entry.position).min().unwrap_or(0);
        let end = there()
            .map(|entry| entry.position + u64::from(entry.bytes))
            .max()
            .unwrap_or(0);
        let length = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        self.bytes.resize(length, 0);
        file.opened()?.read_at(&mut self.bytes, start)?;
        done.fetch_add(length as u64, Ordering::Relaxed);
        let mut counted = Counted::default();
        for (place, entry) in range.zip(entries) {
            counted.records += u64::from(entry.count);
            if entry.gone.is_some() {
                counted.hashes.push((place, [0; 32]));
                continue;
            }
            let at = usize::try_from(entry.position - start).unwrap_or(usize::MAX);
            let bytes = &self.bytes[at..at + entry.bytes as usize];
            let room = std::mem::take(&mut self.room);
            let decoded = Block::decode_hashed_into(bytes, file.header.salt, room);
            let problem = match decoded {
                Err(what) => Some(what),
                Ok((block, _))
                    if (block.first, block.count()) != (entry.first, entry.count as usize) =>
                {
                    Some("another block than the footer names".to_owned())
                }
                Ok((block, hash)) => {
                    counted.hashes.push((place, hash));
                    let problem = counted.block(footer, &mut self.owners, &block).err();
                    self.room = block.into_room();
                    problem
                }
            };
            counted.damage.extend(problem.map(|what| Damage {
                file: file.name.clone(),
                position: entry.position,
                first_offset: entry.first,
                last_offset: Some(entry.end() - 1),
                what,
            }));
        }
        Ok(counted)
    }
}

impl Counted {
    /// Counts a block's records, and compares them with the footer's tables. What a record holds is covered by the
    /// block's hash; only records that are no events are decoded.
    fn block(
        &mut self,
        footer: &Footers,
        owners: &mut Owners,
        block: &Block,
    ) -> Result<(), String> {
        for (_, part) in &block.frames {
            self.came_to_nothing.0 += u64::from(part.duplicates);
            self.came_to_nothing.1 += u64::from(part.rejected);
        }
        let mut parts = block.frames.iter();
        let (mut hour, mut part_ends) = (0, 0);
        for (place, (offset, bytes)) in block.records().enumerate() {
            if place == part_ends
                && let Some((start, part)) = parts.next()
            {
                hour = hour_of(part.appended_at);
                part_ends = start + part.count as usize;
            }
            let Some(event) = payload::event_head(bytes) else {
                match payload::decode(bytes).map_err(|what| format!("record {offset}: {what}"))? {
                    Record::Gone(_) => {}
                    Record::Maintenance(record) => {
                        self.controls.push(offset);
                        self.maintenance.push((offset, record));
                    }
                    Record::Tally(tally) => {
                        self.controls.push(offset);
                        self.came_to_nothing.0 += tally.duplicates;
                        self.came_to_nothing.1 += tally.rejected + tally.unauthenticated;
                    }
                    _ => self.controls.push(offset),
                }
                continue;
            };
            self.events += 1;
            let timestamp = event.timestamp;
            self.min_timestamp = Some(self.min_timestamp.map_or(timestamp, |t| t.min(timestamp)));
            self.max_timestamp = Some(self.max_timestamp.map_or(timestamp, |t| t.max(timestamp)));
            let key = (hour, event.application);
            if self.last_ledger.is_none_or(|(last, _, _)| last != key) {
                self.note_ledger();
                self.last_ledger = Some((key, 0, 0));
            }
            if let Some((_, events, sum)) = &mut self.last_ledger {
                *events += 1;
                *sum += bytes.len() as u64;
            }
            let owner = owners.get(event.session_id, || {
                let listed = footer.owner(&footer.keys.session(event.session_id));
                listed
                    .or(footer.misses_some.then_some(event.application))
                    .ok_or_else(|| format!("record {offset}: no footer lists its session"))
            })?;
            if owner != event.application {
                return Err(format!(
                    "record {offset}: the footer names another owner of its session"
                ));
            }
            if let Some(id) = event.client_made_id {
                let print = footer.keys.id_print(event.application, id);
                let relative = offset - footer.file.header.base;
                self.ids.add(IdEntry::new(print, relative));
            }
        }
        self.note_ledger();
        Ok(())
    }

    /// Adds up what was counted for one hour and application.
    fn note_ledger(&mut self) {
        if let Some((key, events, bytes)) = self.last_ledger.take() {
            let entry = self.ledger.entry(key).or_default();
            entry.0 += events;
            entry.1 += bytes;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.records += other.records;
        self.min_timestamp = [self.min_timestamp, other.min_timestamp]
            .into_iter()
            .flatten()
            .min();
        self.max_timestamp = self.max_timestamp.max(other.max_timestamp);
        self.controls.extend(other.controls);
        for (key, (events, bytes)) in other.ledger {
            let entry = self.ledger.entry(key).or_default();
            entry.0 += events;
            entry.1 += bytes;
        }
        self.came_to_nothing.0 += other.came_to_nothing.0;
        self.came_to_nothing.1 += other.came_to_nothing.1;
        self.ids.count += other.ids.count;
        self.ids.sum = self.ids.sum.wrapping_add(other.ids.sum);
        self.maintenance.extend(other.maintenance);
        self.hashes.extend(other.hashes);
        self.damage.extend(other.damage);
    }
}

impl Footers<'_> {
    /// Returns who owns the session that `key` stands for: it is in the table of the file that saw it first, this one or an
    /// earlier one.
    fn owner(&self, key: &[u8; 16]) -> Option<ApplicationId> {
        let earlier = self.earlier.iter().rev();
        // A table that cannot be read is damage, and told as that.
        let mut found = earlier.filter_map(|file| file.owner(key).ok().flatten());
        owner_in(&self.sessions, key).or_else(|| found.next())
    }
}

/// Looks a session up in a sorted table. What stands for sessions is spread evenly: the first guess is near.
fn owner_in(table: &[SessionEntry], key: &[u8; 16]) -> Option<ApplicationId> {
    let first = u64::from_be_bytes(key[..8].try_into().expect("eight bytes"));
    let guess = (u128::from(first) * table.len() as u128) >> u64::BITS;
    let guess = usize::try_from(guess).unwrap_or(0);
    let (mut low, mut high, mut step) = (guess, guess, 16);
    while low > 0 && table[low - 1].key >= *key {
        low = low.saturating_sub(step);
        step *= 4;
    }
    while high < table.len() && table[high].key < *key {
        high = (high + step).min(table.len());
        step *= 4;
    }
    let place = low + table[low..high].partition_point(|entry| entry.key < *key);
    table
        .get(place)
        .filter(|entry| entry.key == *key)
        .map(|entry| entry.application)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_keeps_its_owner_whoever_takes_its_place() {
        let mut owners = Owners::default();
        owners.clear();
        let owner = |number: usize| ApplicationId(u32::try_from(number % 7).unwrap_or(0));
        let session = |number: usize| Uuid::from_u128(number as u128);
        assert_eq!(
            owners.get(session(0), || Err("not found")),
            Err("not found")
        );
        for number in (0..3 * OWNERS_KEPT).chain(0..100) {
            let found = owners.get(session(number), || Ok::<_, ()>(owner(number)));
            assert_eq!(found, Ok(owner(number)));
            let again = owners.get(session(number), || Err("asked for twice"));
            assert_eq!(again, Ok(owner(number)));
        }
        assert_eq!(owners.places.len(), OWNERS_KEPT);
        owners.clear();
        assert_eq!(
            owners.get(session(99), || Ok::<_, ()>(ApplicationId(9))),
            Ok(ApplicationId(9))
        );
    }

    #[test]
    fn a_session_is_found_wherever_it_stands() {
        let key = |number: u64| {
            let mut key = [0; 16];
            // Evenly spread, all in the first half, or all alike in front.
            key[..8].copy_from_slice(&number.to_be_bytes());
            key
        };
        for spread in [u64::MAX / 1000, u64::MAX / 2000, 1] {
            let table: Vec<SessionEntry> = (0..1000u32)
                .map(|number| SessionEntry {
                    key: key(u64::from(number) * spread),
                    application: ApplicationId(number),
                })
                .collect();
            for entry in &table {
                assert_eq!(owner_in(&table, &entry.key), Some(entry.application));
            }
            assert_eq!(
                owner_in(&table, &key(1001 * spread.min(u64::MAX / 2000))),
                None
            );
            assert_eq!(owner_in(&table, &[0xff; 16]), None);
        }
        assert_eq!(owner_in(&[], &key(5)), None);
    }
}
