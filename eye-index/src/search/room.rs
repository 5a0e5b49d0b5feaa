//! Room for documents on their way to tantivy, whose own queue counts calls, not bytes.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many bytes may be on their way; a single batch may be larger.
const ROOM_BYTES: usize = 8 << 20;
/// Nobody waits longer: too much memory for a while is better than a standstill.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts the bytes on their way.
#[derive(Debug, Default)]
pub(crate) struct Room {
    used: Mutex<usize>,
    freed: Condvar,
}

/// Some bytes' place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Waits until there is room for `bytes`, and takes it.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Place {
        let deadline = Instant::now() + PATIENCE;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && *used + bytes > ROOM_BYTES {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            used = self
                .freed
                .wait_timeout(used, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *used += bytes;
        Place {
            room: self.clone(),
            bytes,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self
            .room
            .used
            .lock()
            .unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_batch_waits_for_the_ones_before_it_and_a_large_one_passes_alone() {
        let room = Arc::new(Room::default());
        let large = room.take(3 * ROOM_BYTES);
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = room.clone();
        let thread = std::thread::spawn(move || {
            let place = waiting.take(1);
            sender.send(()).unwrap();
            drop(place);
        });
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        drop(large);
        receiver.recv_timeout(Duration::from_secs(5)).unwrap();
        thread.join().unwrap();
        assert_eq!(*room.used.lock().unwrap(), 0);
    }
}
