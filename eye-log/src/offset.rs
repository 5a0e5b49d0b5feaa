//! Offsets of records, and the durable end that says how far they are on the disk.
//!
//! What must stay true: the durable end only moves after the sync that covers it has returned.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The number of a record in the log: dense, starting at 0, never reused, public.
pub type Offset = u64;

/// One past the last synced record. Readers stop there; the indexer waits for it to move.
#[derive(Debug, Default)]
pub struct DurableEnd {
    end: AtomicU64,
    waiting: Mutex<()>,
    moved: Condvar,
}

impl DurableEnd {
    /// Starts at `end`, which recovery has found on the disk.
    pub(crate) fn new(end: Offset) -> Self {
        Self {
            end: AtomicU64::new(end),
            ..Self::default()
        }
    }

    /// Returns one past the last synced record.
    pub fn get(&self) -> Offset {
        self.end.load(Ordering::Acquire)
    }

    /// Publishes that everything below `end` is synced, and wakes whoever waits for it.
    pub(crate) fn advance(&self, end: Offset) {
        self.end.store(end, Ordering::Release);
        let _guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.moved.notify_all();
    }

    /// Blocks until the durable end lies beyond `offset`, somebody calls [`Self::wake`], or `patience` is over; returns
    /// where the end is then. It may return early; whoever waits looks again.
    pub fn wait_beyond(&self, offset: Offset, patience: Duration) -> Offset {
        let guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get() <= offset {
            drop(self.moved.wait_timeout(guard, patience));
        }
        self.get()
    }

    /// Wakes whoever waits although nothing moved, so that they can look at something else (a stop, a nudge).
    pub fn wake(&self) {
        let _guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.moved.notify_all();
    }
}
