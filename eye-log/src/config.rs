//! What can be set about a log. The format's own caps bound every setting.

use std::time::Duration;

use crate::format;
use crate::senders::Senders;

/// Settings of a log; [`Default`] is what a server uses.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// A segment rolls when the next frame would make its file larger than this. Bytes.
    pub segment_max_bytes: u64,
    /// How much may wait for the writer before appends are refused. Bytes of encoded records.
    pub queue_max_bytes: usize,
    /// How many requests may wait for the writer.
    pub queue_max_requests: usize,
    /// How much goes into one write and one sync at most. Bytes.
    pub group_max_bytes: usize,
    /// From so much on, the next group is prepared while the last one is synced: less is prepared faster than a thread wakes up.
    /// Bytes.
    pub prepare_bytes: usize,
    /// From so much on, what was prepared is written while the last group is synced: writing less at a time costs more than it
    /// saves. Bytes.
    pub write_ahead_bytes: usize,
    /// Who sends, where they say when they rest: until then, for a millisecond at most, what is small gathers. Otherwise a
    /// group begins with the first request that waits.
    pub senders: Option<Senders>,
    /// How long, by arrival, an id that a client made is remembered. Older repeats are stored anew.
    pub idempotency_window: Duration,
    /// While the file system has less free than this, batches are refused with [`crate::AppendError::DiskFull`]. Bytes;
    /// 0 keeps no reserve.
    pub disk_reserve: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_max_bytes: 128 << 20,
            queue_max_bytes: 64 << 20,
            queue_max_requests: 100_000,
            group_max_bytes: 16 << 20,
            prepare_bytes: 64 << 10,
            write_ahead_bytes: 1 << 20,
            senders: None,
            idempotency_window: Duration::from_secs(30 * 24 * 3600),
            // The server sets its own; a log in memory or on a small test disk has none to spare.
            disk_reserve: 0,
        }
    }
}

impl LogConfig {
    /// Returns what is wrong with the settings, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(format::SEGMENT_MIN_BYTES..=format::SEGMENT_MAX_BYTES)
            .contains(&self.segment_max_bytes)
        {
            return Err(format!(
                "segment_max_bytes is {}; the format allows {} to {}",
                self.segment_max_bytes,
                format::SEGMENT_MIN_BYTES,
                format::SEGMENT_MAX_BYTES
            ));
        }
        Ok(())
    }
}
