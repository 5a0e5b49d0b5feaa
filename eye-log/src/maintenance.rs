//! One at a time rewrites files: sealing and compaction.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Somebody's turn, for as long as this is held.
pub(crate) type Turn<'m> = MutexGuard<'m, ()>;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    turn: Mutex<()>,
    /// How many wait for their turn that somebody waits for.
    wanted: AtomicUsize,
}

impl Maintenance {
    /// Waits for the turn to seal, which stops where the turn [is wanted](Self::is_wanted).
    pub(crate) fn begin_sealing(&self) -> Turn<'_> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn to do what an operator waits for.
    pub(crate) fn begin(&self) -> Turn<'_> {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        let turn = self.begin_sealing();
        self.wanted.fetch_sub(1, Ordering::Relaxed);
        turn
    }

    /// Says whether somebody waits who should not wait long.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }
}
