//! How far the indexes are, and who waits for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eye_log::{Offset, Reader};

/// What a read needs the index for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The search shards: searching, counting, finding by id.
    Search,
    /// The catalog: sessions and their events.
    Catalog,
    /// Both of them: lists by session.
    Both,
}

/// Who can be kept from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worker {
    Indexer,
    Closing,
}

/// How far the indexes are. Each counts what all records below it are in; none ever goes back.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    search: AtomicU64,
    catalog: AtomicU64,
    /// Up to where somebody waits for the shards.
    wanted: AtomicU64,
    waiting: Mutex<()>,
    moved: Condvar,
    stop: AtomicBool,
    /// How many purges are under way.
    purging: AtomicU64,
    sealing: AtomicU64,
    trouble: Mutex<BTreeMap<Worker, String>>,
}

impl Progress {
    /// Returns one past the last record that can be found by reads with these needs.
    pub(crate) fn through(&self, needs: Needs) -> Offset {
        let search = || self.search.load(Ordering::Acquire);
        let catalog = || self.catalog.load(Ordering::Acquire);
        match needs {
            Needs::Search => search(),
            Needs::Catalog => catalog(),
            Needs::Both => search().min(catalog()),
        }
    }

    /// Notes how far the shards can be searched without a gap.
    pub(crate) fn publish_search(&self, through: Offset) {
        self.search.fetch_max(through, Ordering::AcqRel);
        self.notify();
    }

    /// Notes how far the catalog is.
    pub(crate) fn publish_catalog(&self, through: Offset) {
        if self.catalog.fetch_max(through, Ordering::AcqRel) < through {
            self.notify();
        }
    }

    fn notify(&self) {
        let _guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.moved.notify_all();
    }

    /// Returns up to where somebody waits for a commit.
    pub(crate) fn wanted(&self) -> Offset {
        self.wanted.load(Ordering::Acquire)
    }

    /// Blocks until everything below `end` can be found, or patience is over; returns how far it is.
    pub(crate) fn wait_for(
        &self,
        needs: Needs,
        end: Offset,
        patience: Duration,
        reader: &Reader,
    ) -> Offset {
        if self.through(needs) >= end || patience.is_zero() {
            return self.through(needs);
        }
        if needs != Needs::Catalog {
            self.wanted.fetch_max(end, Ordering::AcqRel);
        }
        reader.durable().wake();
        let deadline = Instant::now() + patience;
        let mut guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.through(needs) >= end || left.is_zero() || self.stopping() {
                return self.through(needs);
            }
            guard = self
                .moved
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub(crate) fn stop(&self, reader: &Reader) {
        self.stop.store(true, Ordering::Release);
        reader.durable().wake();
        self.notify();
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Notes that something is being purged until what is returned is dropped.
    pub(crate) fn purge(&self) -> Purging<'_> {
        self.purging.fetch_add(1, Ordering::AcqRel);
        Purging(self)
    }

    pub(crate) fn purging(&self) -> bool {
        self.purging.load(Ordering::Acquire) > 0
    }

    /// Sleeps, but not beyond a stop.
    pub(crate) fn pause(&self, length: Duration) {
        let deadline = Instant::now() + length;
        let mut guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.stopping() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            guard = self
                .moved
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Returns how many shards wait to be merged and sealed.
    pub(crate) fn sealing(&self) -> u64 {
        self.sealing.load(Ordering::Acquire)
    }

    pub(crate) fn sealing_begins(&self) {
        self.sealing.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn sealing_ends(&self) {
        self.sealing.fetch_sub(1, Ordering::AcqRel);
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, BTreeMap<Worker, String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what keeps the indexes from going on, if anything does.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.troubles().values().next().cloned()
    }

    /// Notes what keeps a worker from going on, or that nothing does.
    pub(crate) fn set_trouble(&self, worker: Worker, trouble: Option<String>) {
        let mut troubles = self.troubles();
        match trouble {
            Some(trouble) => troubles.insert(worker, trouble),
            None => troubles.remove(&worker),
        };
    }
}

/// Something is being purged.
pub(crate) struct Purging<'p>(&'p Progress);

impl Drop for Purging<'_> {
    fn drop(&mut self) {
        self.0.purging.fetch_sub(1, Ordering::AcqRel);
    }
}
