//! How little room the disk may have left before sending is refused.
//!
//! What must stay true: the reserve is for work that gives room back (erasing, compacting, sealing) and for the
//! records that ask for it; only batches of events are refused. It opens again by itself.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::storage::Storage;

/// The file system is asked again after so long …
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// … or after so many bytes of batches let in, whichever comes first.
const LOOK_AFTER_BYTES: u64 = 16 << 20;

/// Says whether the disk has less room than is to be kept in reserve.
#[derive(Debug)]
pub(crate) struct DiskFloor {
    /// Bytes; 0 lets everything in without asking.
    reserve: u64,
    last: Mutex<Look>,
}

/// What the file system said when it was last asked.
#[derive(Debug, Default)]
struct Look {
    at: Option<Instant>,
    bytes_since: u64,
    below: bool,
}

impl DiskFloor {
    /// Keeps `reserve` bytes free; 0 keeps none.
    pub(crate) fn new(reserve: u64) -> Self {
        Self {
            reserve,
            last: Mutex::default(),
        }
    }

    /// Says whether a batch of `bytes` has to be refused. Asks the file system every 500 ms at most, or after 16 MiB.
    pub(crate) fn refuses(&self, storage: &dyn Storage, bytes: usize) -> bool {
        if self.reserve == 0 {
            return false;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.bytes_since = last.bytes_since.saturating_add(bytes as u64);
        let fresh = last.at.is_some_and(|at| at.elapsed() < LOOK_AFTER);
        if !fresh || last.bytes_since > LOOK_AFTER_BYTES {
            let before = last.below;
            let below = match storage.free_bytes() {
                Ok(free) => free < self.reserve,
                // Not knowing is no reason to refuse: a disk that is really full shows when room is prepared.
                Err(error) => {
                    tracing::debug!(%error, "the file system does not say how much room it has");
                    false
                }
            };
            *last = Look {
                at: Some(Instant::now()),
                bytes_since: 0,
                below,
            };
            if below != before {
                tell(below, self.reserve);
            }
        }
        last.below
    }

    /// Says whether batches are refused now, for the health report.
    pub(crate) fn is_reached(&self, storage: &dyn Storage) -> bool {
        self.refuses(storage, 0)
    }
}

fn tell(below: bool, reserve: u64) {
    if below {
        tracing::warn!(
            reserve,
            "the disk has less room than the reserve: no events are taken until there is more"
        );
    } else {
        tracing::info!(reserve, "the disk has room again: events are taken");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::*;
    use crate::storage::StorageFile;

    /// A disk that holds nothing and says how much room it has.
    #[derive(Debug)]
    struct Room {
        free: AtomicU64,
        asked: AtomicUsize,
    }

    impl Storage for Room {
        fn list(&self) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }
        fn open(&self, _: &str) -> io::Result<Arc<dyn StorageFile>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn create(&self, _: &str) -> io::Result<Arc<dyn StorageFile>> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            Ok(())
        }
        fn remove(&self, _: &str) -> io::Result<()> {
            Ok(())
        }
        fn sync_names(&self) -> io::Result<()> {
            Ok(())
        }
        fn free_bytes(&self) -> io::Result<u64> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok(self.free.load(Ordering::Relaxed))
        }
    }

    fn room(free: u64) -> Room {
        Room {
            free: AtomicU64::new(free),
            asked: AtomicUsize::new(0),
        }
    }

    #[test]
    fn it_closes_below_the_reserve_and_opens_again_by_itself() {
        let (disk, floor) = (room(100), DiskFloor::new(100));
        assert!(!floor.refuses(&disk, 1));
        disk.free.store(99, Ordering::Relaxed);
        // Nobody looks so soon, unless much was let in.
        assert!(!floor.refuses(&disk, 1));
        assert!(floor.refuses(&disk, 17 << 20));
        disk.free.store(100, Ordering::Relaxed);
        assert!(floor.refuses(&disk, 1));
        std::thread::sleep(LOOK_AFTER);
        assert!(!floor.is_reached(&disk));
        assert_eq!(disk.asked.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn without_a_reserve_nobody_is_asked() {
        let (disk, floor) = (room(0), DiskFloor::new(0));
        assert!(!floor.refuses(&disk, 1 << 30));
        assert_eq!(disk.asked.load(Ordering::Relaxed), 0);
    }
}
