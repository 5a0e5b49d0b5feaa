//! Whether somebody still waits for an answer.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says to the threads that work on a question that whoever asked has gone.
#[derive(Debug, Clone, Default)]
pub struct Asker(Arc<AtomicBool>);

thread_local! {
    static NOW: RefCell<Asker> = RefCell::default();
}

impl Asker {
    /// Returns who asked for what this thread works on; somebody who never goes where nobody said so.
    pub fn current() -> Self {
        NOW.with_borrow(Clone::clone)
    }

    /// Runs `work` for this asker: questions to an index that it begins on this thread end as if their time were over
    /// soon after the asker has gone.
    pub fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Puts back who it was before, also where the work panics.
        struct Before(Asker);
        impl Drop for Before {
            fn drop(&mut self) {
                NOW.set(self.0.clone());
            }
        }
        let _before = Before(NOW.replace(self.clone()));
        work()
    }

    /// Notes that the asker has gone.
    pub fn leave(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Says whether the asker has gone.
    pub fn has_gone(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
