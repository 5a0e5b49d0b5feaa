//! A disk in memory that loses power, tears writes, fails, lies and fills up: for tests.
//!
//! What must stay true: it never does worse than a real disk may. What was synced stays; a name is there after a power
//! cut if it was synced, and may be if it was not; of what was written and not synced any sectors may be there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Storage, StorageFile};

#[cfg(test)]
mod tests;

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;
/// What the page cache writes as a whole.
const PAGE_BYTES: usize = 4096;
/// One sync in so many takes a while, in which others go on writing.
const SLOW_SYNC: u64 = 4;
const SLOW_SYNC_TAKES: Duration = Duration::from_millis(1);

/// Which of the unsynced bytes a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Those written first, up to some byte.
    Prefix,
    /// Any sectors of 512 bytes.
    Subset,
    /// Any pages of 4096 bytes.
    Pages,
}

impl Retention {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Prefix, Self::Subset, Self::Pages];

    /// What is kept or lost as a whole; `None` where bytes are.
    fn unit(self) -> Option<usize> {
        match self {
            Self::Prefix => None,
            Self::Subset => Some(SECTOR_BYTES),
            Self::Pages => Some(PAGE_BYTES),
        }
    }
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Faulty {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    files: Vec<Content>,
    /// Calls that change something, so far.
    calls: u64,
    power_goes_at: Option<u64>,
    fails_at: Option<u64>,
    /// The first sync that is this call or a later one lies.
    sync_lies_from: Option<u64>,
    /// The file whose next write is dropped.
    drops_next_write_of: Option<usize>,
    power_is_gone: bool,
    capacity: Option<u64>,
    writes_beside_syncs: u64,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(String, usize),
    Move(String, String, usize),
    Remove(String),
}

/// A file's bytes: as a process sees them, as the disk has them, and what is on the way.
#[derive(Debug, Default)]
struct Content {
    live: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    /// Whether a sync lied: what a process sees is more than the disk has or will get.
    pretends: bool,
    /// How often what was written was lost. Each handle is told once of each.
    losses: u64,
    /// How many syncs are going on.
    syncs: usize,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, written) => write(bytes, *at, written),
            Self::Resize(length) => bytes.resize(*length, 0),
        }
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, written: &[u8]) {
    if bytes.len() < at + written.len() {
        bytes.resize(at + written.len(), 0);
    }
    bytes[at..at + written.len()].copy_from_slice(written);
}

fn no_power() -> io::Error {
    io::Error::other("the power is gone")
}

fn failed() -> io::Error {
    io::Error::other("the disk failed")
}

impl State {
    /// Counts a call that changes something; says whether it is the one at which the power goes.
    fn call(&mut self) -> io::Result<bool> {
        if self.power_is_gone {
            return Err(no_power());
        }
        self.calls += 1;
        if self.fails_at == Some(self.calls) {
            return Err(failed());
        }
        if self.power_goes_at.is_some_and(|at| self.calls >= at) {
            self.power_is_gone = true;
            return Ok(true);
        }
        Ok(false)
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .map(|file| self.files[*file].live.len() as u64)
            .sum()
    }
}

/// A generator of random numbers that is the same everywhere (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }

    /// Returns true once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

impl Faulty {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many calls that change something there were.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Has the power go at the call with this number: what it does is torn, and nothing works any more.
    pub fn power_goes_at(&self, call: u64) {
        self.state().power_goes_at = Some(call);
    }

    /// Has one call fail, once.
    pub fn fails_at(&self, call: u64) {
        self.state().fails_at = Some(call);
    }

    /// Has the next sync fail while the page cache pretends that nothing happened: the bytes are still read, and never
    /// reach the disk (what Linux does).
    pub fn next_sync_lies(&self) {
        self.sync_lies_from(0);
    }

    /// Has the first sync that is the call with this number, or a later one, fail as [`Self::next_sync_lies`] says.
    pub fn sync_lies_from(&self, call: u64) {
        self.state().sync_lies_from = Some(call);
    }

    /// Loses what was written to a file and is not synced, as the system does when it finds out by itself that the disk fails: a
    /// process goes on reading it, and the next sync of each handle fails once.
    pub fn write_back_fails(&self, name: &str) {
        let mut state = self.state();
        if let Some(file) = state.names.get(name).copied() {
            state.files[file].lose_unsynced();
        }
    }

    /// Has the disk drop the next write to a file without a word: a process reads what it wrote, syncs succeed, and the disk
    /// never has it.
    pub fn drops_next_write_of(&self, name: &str) {
        let mut state = self.state();
        state.drops_next_write_of = state.names.get(name).copied();
    }

    /// Sets how many bytes fit, all files together; `None` for any number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Returns how many bytes the files have, all together.
    pub fn used_bytes(&self) -> u64 {
        self.state().used()
    }

    /// Returns how many writes went to a file while it was being synced; that sync does not cover them.
    pub fn writes_beside_syncs(&self) -> u64 {
        self.state().writes_beside_syncs
    }

    /// Says whether the power went.
    pub fn power_is_gone(&self) -> bool {
        self.state().power_is_gone
    }

    /// Cuts the power and brings it back: only what the disk has is left.
    pub fn power_cut(&self, seed: u64, retention: Retention) {
        let mut dice = Dice::new(seed);
        let mut state = self.state();
        let changes = std::mem::take(&mut state.name_changes);
        let kept = match retention {
            Retention::Prefix => dice.below(changes.len() as u64 + 1),
            Retention::Subset | Retention::Pages => u64::MAX,
        };
        for (number, change) in (0u64..).zip(changes) {
            if number >= kept || (retention != Retention::Prefix && dice.one_in(2)) {
                continue;
            }
            match change {
                NameChange::Set(name, file) => {
                    state.synced_names.insert(name, file);
                }
                NameChange::Move(from, to, file) => {
                    state.synced_names.remove(&from);
                    state.synced_names.insert(to, file);
                }
                NameChange::Remove(name) => {
                    state.synced_names.remove(&name);
                }
            }
        }
        state.names = state.synced_names.clone();
        let named: BTreeSet<usize> = state.names.values().copied().collect();
        for (number, file) in state.files.iter_mut().enumerate() {
            if named.contains(&number) {
                file.cut(&mut dice, retention);
            } else {
                // Nobody can open it any more, and a disk that lives through many crashes has many of these.
                *file = Content::default();
            }
        }
        state.power_is_gone = false;
        state.power_goes_at = None;
        state.fails_at = None;
        state.sync_lies_from = None;
    }

    /// Ends the process but not the power: everything written is still there.
    pub fn process_ends(&self) {
        let mut state = self.state();
        state.power_is_gone = false;
        state.power_goes_at = None;
        state.fails_at = None;
        state.sync_lies_from = None;
    }

    /// Returns a file's bytes as a process sees them.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let file = *state.names.get(name)?;
        Some(state.files[file].live.clone())
    }

    /// Puts a file's bytes in place, on the disk too: for copies, and for damage.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(Content {
            live: bytes.clone(),
            synced: bytes,
            ..Content::default()
        });
        state.names.insert(name.to_owned(), file);
        state.synced_names.insert(name.to_owned(), file);
    }

    /// Returns a disk with the same files, all of them synced.
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        let names: Vec<String> = self.state().names.keys().cloned().collect();
        for name in names {
            if let Some(bytes) = self.bytes(&name) {
                copy.put(&name, bytes);
            }
        }
        copy
    }
}

impl Content {
    /// Writes as far as a process can see.
    fn take_in(&mut self, at: usize, bytes: &[u8]) {
        write(&mut self.live, at, bytes);
        self.unsynced.push(Change::Write(at, bytes.to_vec()));
    }

    fn lose_unsynced(&mut self) {
        self.unsynced.clear();
        self.pretends = true;
        self.losses += 1;
    }

    fn cut(&mut self, dice: &mut Dice, retention: Retention) {
        if self.unsynced.is_empty() && !self.pretends {
            return;
        }
        let changes = std::mem::take(&mut self.unsynced);
        match retention.unit() {
            None => self.keep_prefix(dice, &changes),
            Some(unit) => self.keep_subset(dice, &changes, unit),
        }
        self.live.clone_from(&self.synced);
        self.pretends = false;
    }

    /// Keeps the changes before some byte of one of them.
    fn keep_prefix(&mut self, dice: &mut Dice, changes: &[Change]) {
        let whole = usize::try_from(dice.below(changes.len() as u64 + 1)).unwrap_or(0);
        for change in &changes[..whole] {
            change.apply(&mut self.synced);
        }
        if let Some(Change::Write(at, bytes)) = changes.get(whole) {
            let kept = usize::try_from(dice.below(bytes.len() as u64 + 1)).unwrap_or(0);
            write(&mut self.synced, *at, &bytes[..kept]);
        }
    }

    /// Keeps any units of `unit` bytes. They are those of the file, not of the write.
    fn keep_subset(&mut self, dice: &mut Dice, changes: &[Change], unit: usize) {
        for change in changes {
            let Change::Write(at, bytes) = change else {
                if dice.one_in(2) {
                    change.apply(&mut self.synced);
                }
                continue;
            };
            let mut from = 0;
            while from < bytes.len() {
                let to = (from + unit - (at + from) % unit).min(bytes.len());
                if dice.one_in(2) {
                    write(&mut self.synced, at + from, &bytes[from..to]);
                }
                from = to;
            }
        }
    }

    /// What reading past the page cache finds: written pages reach the disk first, those that lie do not.
    fn on_disk(&self) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.unsynced {
            change.apply(&mut bytes);
        }
        bytes
    }
}

impl Storage for Faulty {
    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.power_is_gone {
            return Err(no_power());
        }
        Ok(state.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let state = self.state();
        if state.power_is_gone {
            return Err(no_power());
        }
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            file,
            told: AtomicU64::new(state.files[file].losses),
        }))
    }

    fn open_direct(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        {
            let mut state = self.state();
            if state.power_is_gone {
                return Err(no_power());
            }
            let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            // Clean pages are dropped from the cache: from now on everybody reads what the disk has.
            if state.files[file].pretends {
                let on_disk = state.files[file].on_disk();
                state.files[file].live = on_disk;
                state.files[file].pretends = false;
            }
        }
        self.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        if state.call()? {
            return Err(no_power());
        }
        let file = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name.to_owned(), file);
        state
            .name_changes
            .push(NameChange::Set(name.to_owned(), file));
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            file,
            told: AtomicU64::new(0),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let power_goes = state.call()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        state
            .name_changes
            .push(NameChange::Move(from.to_owned(), to.to_owned(), file));
        if power_goes { Err(no_power()) } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let power_goes = state.call()?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.name_changes.push(NameChange::Remove(name.to_owned()));
        if power_goes { Err(no_power()) } else { Ok(()) }
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.call()? {
            return Err(no_power());
        }
        state.synced_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: Faulty,
    file: usize,
    /// Of how many of the file's losses this handle knows.
    told: AtomicU64,
}

fn place(position: u64) -> usize {
    usize::try_from(position).expect("a disk in memory is smaller than memory")
}

impl StorageFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let state = self.disk.state();
        if state.power_is_gone {
            return Err(no_power());
        }
        let at = place(position);
        let bytes = state.files[self.file]
            .live
            .get(at..at + buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let at = place(position);
        let power_goes = match state.call() {
            Ok(power_goes) => power_goes,
            Err(error) => {
                // A write that fails may have written some of it.
                if !state.power_is_gone {
                    state.files[self.file].take_in(at, &bytes[..bytes.len() / 2]);
                }
                return Err(error);
            }
        };
        if state.files[self.file].syncs > 0 {
            state.writes_beside_syncs += 1;
        }
        let grows = (at + bytes.len()).saturating_sub(state.files[self.file].live.len()) as u64;
        let room = state
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        // A full disk takes what fits and refuses the rest.
        let fits = if grows > room {
            bytes.len() - usize::try_from((grows - room).min(bytes.len() as u64)).unwrap_or(0)
        } else {
            bytes.len()
        };
        let dropped = &mut state.drops_next_write_of;
        if dropped.take_if(|file| *file == self.file).is_some() {
            let file = &mut state.files[self.file];
            write(&mut file.live, at, &bytes[..fits]);
            file.unsynced.push(Change::Write(at, vec![0; fits]));
            file.pretends = true;
        } else {
            state.files[self.file].take_in(at, &bytes[..fits]);
        }
        if power_goes {
            return Err(no_power());
        }
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.call()? {
            return Err(no_power());
        }
        let calls = state.calls;
        let lies = state
            .sync_lies_from
            .take_if(|from| *from <= calls)
            .is_some();
        let file = &mut state.files[self.file];
        if lies {
            file.lose_unsynced();
        }
        if self.told.swap(file.losses, Ordering::Relaxed) != file.losses {
            return Err(failed());
        }
        let mut covered = file.unsynced.len();
        if calls.is_multiple_of(SLOW_SYNC) {
            file.syncs += 1;
            drop(state);
            std::thread::sleep(SLOW_SYNC_TAKES);
            state = self.disk.state();
            let file = &mut state.files[self.file];
            file.syncs -= 1;
            covered = covered.min(file.unsynced.len());
            if state.power_is_gone {
                return Err(no_power());
            }
        }
        let file = &mut state.files[self.file];
        for change in file.unsynced.drain(..covered) {
            change.apply(&mut file.synced);
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.state();
        if state.power_is_gone {
            return Err(no_power());
        }
        Ok(state.files[self.file].live.len() as u64)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let power_goes = state.call()?;
        let file = &mut state.files[self.file];
        file.live.resize(place(bytes), 0);
        file.unsynced.push(Change::Resize(place(bytes)));
        if power_goes { Err(no_power()) } else { Ok(()) }
    }
}
