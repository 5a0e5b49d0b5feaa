//! A log in figures, from the footers where there are some and from the frames elsewhere.

use std::io;
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use crate::format::frame::Table;
use crate::format::payload;
use crate::offset::Offset;
use crate::segment::Segment;
use crate::segment::walk::{Step, Walk};
use crate::storage::Disk;
use crate::verify::chain::hexadecimal;
use crate::verify::{as_io, open};

/// A log in figures.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LogStats {
    /// The store's id; `None` in an empty folder.
    pub store_id: Option<Uuid>,
    /// The hash of the last seal, in hexadecimal: to be noted outside.
    pub head: Option<String>,
    /// Its files, oldest first.
    pub segments: Vec<SegmentStats>,
}

/// A file in figures.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SegmentStats {
    /// The file's name.
    pub file: String,
    /// The offset of its first record.
    pub base: Offset,
    /// One past its last record.
    pub end: Offset,
    /// Bytes in use: header, frames or blocks, and footer.
    pub bytes: u64,
    /// Bytes of the file, prepared room included.
    pub file_bytes: u64,
    /// Bytes of its records before compression.
    pub record_bytes: u64,
    /// How many of its records are events that are still there.
    pub events: u64,
    /// Events that were erased, or expired, or were lost.
    pub gone: u64,
    /// Arrival of its first record, unix microseconds.
    pub first_received_at: Option<i64>,
    /// Arrival of its last record, unix microseconds.
    pub last_received_at: Option<i64>,
    /// The least timestamp of its events, unix microseconds.
    pub first_timestamp: Option<i64>,
    /// The greatest.
    pub last_timestamp: Option<i64>,
    /// Whether it is sealed.
    pub sealed: bool,
    /// How often its range was rewritten.
    pub generation: u32,
    /// The hash of its last seal, in hexadecimal.
    pub seal: Option<String>,
}

/// Returns a log's figures. Reads footers, and raw segments whole; takes no lock.
pub fn stats(folder: &Path) -> io::Result<LogStats> {
    let opened = open(&Disk::read_only(folder))?;
    if let Some(damage) = opened.damage.into_iter().next() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, damage));
    }
    let mut stats = LogStats::default();
    for file in &opened.sealed {
        stats.store_id = Some(file.header.store);
        let summary = &file.trailer.summary;
        let ledger = file.ledger().map_err(as_io)?;
        let seals = file.seals().map_err(as_io)?;
        let seal = seals
            .last()
            .map(|seal| hexadecimal(&seal.hash(file.header.store)));
        stats.head.clone_from(&seal);
        stats.segments.push(SegmentStats {
            file: file.name.clone(),
            base: summary.base,
            end: summary.end,
            bytes: file.file_bytes,
            file_bytes: file.file_bytes,
            record_bytes: ledger.iter().map(|entry| entry.bytes).sum(),
            events: summary.events,
            gone: ledger.iter().map(|entry| entry.stored - entry.kept()).sum(),
            first_received_at: Some(summary.first_received_at),
            last_received_at: Some(summary.last_received_at),
            first_timestamp: (summary.events > 0).then_some(summary.min_timestamp),
            last_timestamp: (summary.events > 0).then_some(summary.max_timestamp),
            sealed: true,
            generation: file.header.generation,
            seal,
        });
    }
    for (place, segment) in opened.raw.iter().enumerate() {
        stats.store_id = Some(segment.header.store);
        let next = opened.raw.get(place + 1).map(|next| next.header.base);
        stats.segments.push(raw(segment, next)?);
    }
    Ok(stats)
}

fn raw(segment: &Segment, next: Option<Offset>) -> io::Result<SegmentStats> {
    let mut walk = Walk::new(segment).map_err(as_io)?;
    let mut stats = SegmentStats {
        file: segment.name.clone(),
        base: segment.header.base,
        file_bytes: segment.file.size()?,
        ..SegmentStats::default()
    };
    while next != Some(walk.next_offset) {
        let Step::Frame(header, body) = walk.step().map_err(as_io)? else {
            break;
        };
        let table =
            Table::of(&header, body, segment.header.salt).expect("the walk checked the table");
        if header.count == 0 {
            continue;
        }
        stats.first_received_at.get_or_insert(header.appended_at);
        stats.last_received_at = Some(header.appended_at);
        for range in table.ranges() {
            let record = &body[range];
            if let Some(event) = payload::event_head(record) {
                stats.events += 1;
                stats.record_bytes += record.len() as u64;
                let timestamp = event.timestamp;
                let first = stats.first_timestamp.get_or_insert(timestamp);
                *first = (*first).min(timestamp);
                stats.last_timestamp = stats.last_timestamp.max(Some(timestamp));
            }
        }
    }
    stats.end = walk.next_offset;
    stats.bytes = walk.position;
    Ok(stats)
}
