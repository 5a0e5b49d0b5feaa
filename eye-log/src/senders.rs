//! What whoever sends to a log lets it know: that nothing more is on its way for now.
//!
//! A disk that syncs in a tenth of a millisecond makes groups of four single events, and then more is spent on groups than on events
//! (`docs/decisions/groups-gather.md`). A log that hears when its senders rest lets requests gather until then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::queue::Queue;

/// The senders of one log, shared between them and it: see [`crate::LogConfig::senders`].
#[derive(Debug, Clone, Default)]
pub struct Senders(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether requests may wait for the senders to rest. It only spares most of those who say so the queue's lock, and
    /// who has just sent sees it: nothing hangs on when others do.
    waited_for: AtomicBool,
    queue: OnceLock<Weak<Queue>>,
}

impl Senders {
    /// Notes that the calling thread has nothing more to send for now: what gathered is written. To be called by each thread
    /// that sends, whenever it is about to wait; cheap where nothing gathers.
    pub fn note_rest(&self) {
        if self.0.waited_for.load(Ordering::Relaxed)
            && let Some(queue) = self.0.queue.get().and_then(Weak::upgrade)
        {
            queue.note_rest();
        }
    }

    /// Says whose queue it is. The first one's it stays.
    pub(crate) fn belong_to(&self, queue: Weak<Queue>) {
        let _ = self.0.queue.set(queue);
    }

    pub(crate) fn wait_for(&self, waited_for: bool) {
        self.0.waited_for.store(waited_for, Ordering::Relaxed);
    }
}
