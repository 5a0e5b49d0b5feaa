//! What the blocks of a sealed file say by themselves: of it the tables of a footer that is damaged are made again.

use std::collections::BTreeMap;

use super::SealedFile;
use crate::error::ReadError;
use crate::format::block::Block;
use crate::format::keys::Keys;
use crate::format::payload;
use crate::format::sealed_footer::{IdEntry, LedgerEntry, SessionEntry};
use crate::ledger;
use crate::offset::Offset;
use crate::record::Record;
use crate::registry::ApplicationId;
use crate::retention::hour_of;

/// The contents of blocks, block by block. What is gone says nothing any more of its session and its hour.
#[derive(Debug)]
pub(crate) struct Contents {
    base: Offset,
    keys: Keys,
    sessions: BTreeMap<[u8; 16], ApplicationId>,
    ids: Vec<IdEntry>,
    controls: Vec<Offset>,
    ledger: ledger::Entries,
    timestamps: Vec<i64>,
    /// Of the first and of the last frame.
    arrivals: Option<(i64, i64)>,
}

impl Contents {
    /// Starts with nothing, for a file that begins at `base`.
    pub(crate) fn new(base: Offset, keys: Keys) -> Self {
        Self {
            base,
            keys,
            sessions: BTreeMap::new(),
            ids: Vec::new(),
            controls: Vec::new(),
            ledger: BTreeMap::new(),
            timestamps: Vec::new(),
            arrivals: None,
        }
    }

    /// Takes in every block of a file that holds.
    pub(crate) fn take_in_file(&mut self, file: &SealedFile) -> Result<(), ReadError> {
        let list = file.blocks()?;
        for place in (0..list.len()).filter(|place| list[*place].gone.is_none()) {
            match file.read_block(&list, place) {
                Ok(block) => self.take_in(&block),
                Err(ReadError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes in a block.
    pub(crate) fn take_in(&mut self, block: &Block) {
        let mut frames = block.frames.iter().peekable();
        let mut frame = None;
        for (place, (offset, record)) in block.records().enumerate() {
            if let Some((_, next)) = frames.next_if(|(start, _)| *start == place) {
                frame = Some(*next);
                let first = self.arrivals.map_or(next.appended_at, |(first, _)| first);
                self.arrivals = Some((first, next.appended_at));
            }
            let Some(event) = payload::event_head(record) else {
                let record = payload::decode(record);
                if let Ok(Record::Tally(tally)) = &record {
                    let hour = hour_of(frame.map_or(0, |frame| frame.appended_at));
                    let whose = tally.application.unwrap_or(ledger::NOBODY);
                    let entry = ledger::entry_of(&mut self.ledger, hour, whose);
                    ledger::add_tally(entry, tally);
                }
                if !matches!(record, Ok(Record::Gone(_))) {
                    self.controls.push(offset);
                }
                continue;
            };
            self.timestamps.push(event.timestamp);
            self.sessions
                .entry(self.keys.session(event.session_id))
                .or_insert(event.application);
            self.ids.extend(event.client_made_id.map(|id| {
                let print = self.keys.id_print(event.application, id);
                IdEntry::new(print, offset - self.base)
            }));
            let hour = hour_of(frame.map_or(0, |frame| frame.appended_at));
            let entry = ledger::entry_of(&mut self.ledger, hour, event.application);
            entry.stored += 1;
            entry.bytes += record.len() as u64;
            // A frame is one request of one application: its counts go with its first event.
            if let Some(frame) = frame.as_mut() {
                entry.duplicates += u64::from(std::mem::take(&mut frame.duplicates));
                entry.rejected += u64::from(std::mem::take(&mut frame.rejected));
            }
        }
    }

    /// Returns the sessions of its events, with the application of the first of each, sorted.
    pub(crate) fn sessions(&self) -> Vec<SessionEntry> {
        self.sessions
            .iter()
            .map(|(key, application)| SessionEntry {
                key: *key,
                application: *application,
            })
            .collect()
    }

    /// Returns its ids, sorted.
    pub(crate) fn ids(&self) -> Vec<IdEntry> {
        let mut ids = self.ids.clone();
        ids.sort_unstable();
        ids
    }

    /// Returns the offsets of its records that are neither events nor gone.
    pub(crate) fn controls(&self) -> &[Offset] {
        &self.controls
    }

    /// Returns its ledger.
    pub(crate) fn ledger(&self) -> impl Iterator<Item = &LedgerEntry> {
        self.ledger.values()
    }

    /// Returns when the first and the last of its frames arrived.
    pub(crate) fn arrivals(&self) -> Option<(i64, i64)> {
        self.arrivals
    }

    /// Returns the timestamps of its events.
    pub(crate) fn timestamps(&self) -> &[i64] {
        &self.timestamps
    }
}
