//! What the log counts while it runs, for whoever watches it.

use std::time::Duration;

use crate::histogram::{Counts, Histogram};
use crate::log::Log;
use crate::pieces::Piece;

/// The upper ends of ranges of sync times, microseconds: a fast disk syncs in 50 µs, a sick one takes seconds.
const SYNC_MICROS: &[u64] = &[
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];
const GROUP_RECORDS: &[u64] = &[
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 5_000, 20_000, 100_000,
];
const GROUP_BYTES: &[u64] = &[
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    16 << 20,
    64 << 20,
];

/// Counts groups that were written and synced.
#[derive(Debug)]
pub(crate) struct Groups {
    sync_micros: Histogram,
    records: Histogram,
    bytes: Histogram,
}

impl Groups {
    /// Counts one, of so many records and bytes, whose sync took so long.
    pub(crate) fn count(&self, took: Duration, records: u64, bytes: usize) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sync_micros.observe(micros);
        self.records.observe(records);
        self.bytes.observe(bytes as u64);
    }
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            sync_micros: Histogram::new(SYNC_MICROS),
            records: Histogram::new(GROUP_RECORDS),
            bytes: Histogram::new(GROUP_BYTES),
        }
    }
}

/// Figures of an open log at one moment.
#[derive(Debug, Clone)]
pub struct LogFigures {
    /// Segments that are not sealed yet, the active one included.
    pub raw_segments: usize,
    /// Sealed files.
    pub sealed_files: usize,
    /// What all of them take on the disk, bytes; what is filled ahead included.
    pub bytes: u64,
    /// Requests that wait for the writer.
    pub queue_requests: usize,
    /// Their records, bytes.
    pub queue_bytes: usize,
    /// What the file system has left for whoever is not root, bytes; `None` where it does not say.
    pub free_bytes: Option<u64>,
    /// How long syncs took, microseconds.
    pub sync_micros: Counts,
    /// How many records were synced at once.
    pub group_records: Counts,
    /// How many bytes were written and synced at once.
    pub group_bytes: Counts,
}

impl Log {
    /// Returns what the log has counted since it was opened, and what its files take now. Asks the file system.
    pub fn figures(&self) -> LogFigures {
        let shared = self.shared();
        let (mut raw_segments, mut sealed_files, mut bytes) = (0, 0, 0);
        for piece in shared.files.pieces().iter() {
            match piece {
                Piece::Raw(segment) => {
                    raw_segments += 1;
                    // A file whose length is not known now will say it at the next look.
                    bytes += segment.file.size().unwrap_or(0);
                }
                Piece::Sealed(file) => {
                    sealed_files += 1;
                    bytes += file.file_bytes;
                }
                Piece::Damaged(..) => sealed_files += 1,
            }
        }
        let (queue_requests, queue_bytes) = self.waiting();
        LogFigures {
            raw_segments,
            sealed_files,
            bytes,
            queue_requests,
            queue_bytes,
            free_bytes: shared.storage.free_bytes().ok(),
            sync_micros: shared.groups.sync_micros.counts(),
            group_records: shared.groups.records.counts(),
            group_bytes: shared.groups.bytes.counts(),
        }
    }
}
