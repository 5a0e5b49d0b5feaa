//! Reads a log's folder from the first byte to the last and says what is wrong with it.
//!
//! What must stay true: it only reads, takes no lock, and works on a copy as well as beside a running server.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::error::{Damage, ReadError};
use crate::format::footer::Summary;
use crate::format::frame::Table;
use crate::format::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{file_name, payload};
use crate::offset::Offset;
use crate::record::Record;
use crate::recovery::trailer_of;
use crate::segment::Segment;
use crate::segment::walk::{Step, Walk};
use crate::storage::StorageFile;

/// What verifying found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// How many segments there are.
    pub segments: usize,
    /// How many events were read and found whole.
    pub events: u64,
    /// How many records, events among them.
    pub records: u64,
    /// How many bytes of frames.
    pub bytes: u64,
    /// One past the last record.
    pub end: Offset,
    /// Bytes at the end that belong to a write that was never acknowledged, or is going on.
    pub torn_tail_bytes: u64,
    /// What is damaged; empty in a sound log.
    pub damage: Vec<DamageReport>,
}

/// One damaged place.
#[derive(Debug, Clone, Serialize)]
pub struct DamageReport {
    /// The file, within the log's folder.
    pub file: String,
    /// The byte where it begins.
    pub position: u64,
    /// The first offset that cannot be read.
    pub first_offset: Offset,
    /// The last offset known to be lost.
    pub last_offset: Option<Offset>,
    /// What was found, and what was expected.
    pub what: String,
}

impl From<Damage> for DamageReport {
    fn from(damage: Damage) -> Self {
        let Damage {
            file,
            position,
            first_offset,
            last_offset,
            what,
        } = damage;
        Self {
            file,
            position,
            first_offset,
            last_offset,
            what,
        }
    }
}

/// A log in figures.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LogStats {
    /// The store's id; `None` in an empty folder.
    pub store_id: Option<Uuid>,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentStats>,
}

/// A segment in figures.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SegmentStats {
    /// The file's name.
    pub file: String,
    /// The offset of its first record.
    pub base: Offset,
    /// One past its last record.
    pub end: Offset,
    /// Bytes in use: header, frames and footer.
    pub bytes: u64,
    /// Bytes of the file, prepared room included.
    pub file_bytes: u64,
    /// How many of its records are events.
    pub events: u64,
    /// Arrival of its first record, unix microseconds.
    pub first_received_at: Option<i64>,
    /// Arrival of its last record, unix microseconds.
    pub last_received_at: Option<i64>,
    /// Whether it is sealed.
    pub sealed: bool,
}

/// Reads everything in `folder`; `progress` hears of bytes read and bytes there are. Errors are those of the system.
pub fn verify(folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> io::Result<VerifyReport> {
    let bases = bases(folder)?;
    let mut report = VerifyReport::default();
    let mut all = 0;
    for base in &bases {
        all += std::fs::metadata(folder.join(file_name::segment(*base)))?.len();
    }
    let mut done = 0;
    let mut store = None;
    for (place, base) in bases.iter().enumerate() {
        let next = bases.get(place + 1).copied();
        report.segments += 1;
        progress(done, all);
        match open(folder, *base)? {
            Err(damage) => {
                report.damage.push(damage.into());
                report.end = next.unwrap_or(report.end);
            }
            Ok(segment) => {
                if *store.get_or_insert(segment.header.store) != segment.header.store {
                    let what = format!("a segment of another store, {}", segment.header.store);
                    report.damage.push(segment.damage(0, *base, what).into());
                }
                if report.end != *base {
                    let what = format!("records {} to {} are in no segment", report.end, base - 1);
                    let damage = segment.damage(0, report.end, what);
                    report.damage.push(
                        Damage {
                            last_offset: Some(base - 1),
                            ..damage
                        }
                        .into(),
                    );
                }
                verify_segment(&segment, next, &mut report, &mut |bytes| {
                    progress(done + bytes, all)
                })?;
            }
        }
        done += std::fs::metadata(folder.join(file_name::segment(*base)))?.len();
    }
    progress(all, all);
    Ok(report)
}

/// Returns a log's figures, from the footers where there are some and from the frames elsewhere.
pub fn stats(folder: &Path) -> io::Result<LogStats> {
    let mut stats = LogStats {
        store_id: None,
        segments: Vec::new(),
    };
    for base in bases(folder)? {
        let segment = match open(folder, base)? {
            Ok(segment) => segment,
            Err(damage) => return Err(io::Error::new(io::ErrorKind::InvalidData, damage)),
        };
        let file_bytes = segment.file.size()?;
        stats.store_id.get_or_insert(segment.header.store);
        let trailer = trailer_of(&segment).map_err(as_io)?;
        let summary = match trailer {
            Some(trailer) => trailer.summary,
            None => walked(&segment, &mut |_| ()).map_err(as_io)?.0,
        };
        let any = summary.end > summary.base;
        stats.segments.push(SegmentStats {
            file: segment.name.clone(),
            base,
            end: summary.end,
            bytes: if trailer.is_some() {
                file_bytes
            } else {
                summary.frames_end
            },
            file_bytes,
            events: summary.events,
            first_received_at: any.then_some(summary.first_received_at),
            last_received_at: any.then_some(summary.last_received_at),
            sealed: trailer.is_some(),
        });
    }
    Ok(stats)
}

fn as_io(error: ReadError) -> io::Error {
    io::Error::other(error)
}

fn bases(folder: &Path) -> io::Result<Vec<Offset>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        bases.extend(entry?.file_name().to_str().and_then(file_name::base_of));
    }
    bases.sort_unstable();
    Ok(bases)
}

fn open(folder: &Path, base: Offset) -> io::Result<Result<Segment, Damage>> {
    let name = file_name::segment(base);
    let file = std::fs::File::open(folder.join(&name))?;
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
    let there = usize::try_from(file.metadata()?.len())
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    file.read_exact_at(&mut bytes[..there], 0)?;
    let damage = |what| Damage {
        file: name.clone(),
        position: 0,
        first_offset: base,
        last_offset: None,
        what,
    };
    Ok(match SegmentHeader::decode(&bytes[..there]) {
        Err(what) => Err(damage(what)),
        Ok(header) if header.base != base => Err(damage(format!(
            "its header says that it begins with record {}",
            header.base
        ))),
        Ok(header) => Ok(Segment::new(
            name,
            header,
            Arc::new(file) as Arc<dyn StorageFile>,
        )),
    })
}

/// Walks a segment's frames and adds up its summary; says how the walk ended, and where, if not at zeros.
fn walked(
    segment: &Segment,
    progress: &mut dyn FnMut(u64),
) -> Result<(Summary, u64, Option<String>), ReadError> {
    let mut walk = Walk::new(segment)?;
    let mut summary = Summary {
        base: segment.header.base,
        end: segment.header.base,
        frames_end: walk.position,
        min_timestamp: i64::MAX,
        max_timestamp: i64::MIN,
        last_frame: walk.previous,
        ..Summary::default()
    };
    let mut records = 0;
    let broken = loop {
        let stop = trailer_begins(segment, walk.position)?;
        if stop {
            break None;
        }
        match walk.step()? {
            Step::End => break None,
            Step::Broken(what) => break Some(what),
            Step::Frame(header, body) => {
                let table = Table::of(&header, body, segment.header.salt)
                    .expect("the walk checked the table");
                let mut undecodable = None;
                for (offset, range) in (header.first_offset..).zip(table.ranges()) {
                    match payload::decode(&body[range]) {
                        Ok(Record::Event(event)) => {
                            summary.events += 1;
                            summary.min_timestamp = summary.min_timestamp.min(event.timestamp);
                            summary.max_timestamp = summary.max_timestamp.max(event.timestamp);
                        }
                        Ok(Record::Registry(_)) => {}
                        Err(what) => undecodable = Some(format!("record {offset}: {what}")),
                    }
                    records += 1;
                }
                if header.count > 0 {
                    if summary.end == summary.base {
                        summary.first_received_at = header.appended_at;
                    }
                    summary.last_received_at = header.appended_at;
                }
                if undecodable.is_some() {
                    break undecodable;
                }
            }
        }
        summary.end = walk.next_offset;
        summary.frames_end = walk.position;
        summary.last_frame = walk.previous;
        progress(walk.position);
    };
    Ok((summary, records, broken))
}

/// Says whether the frames end at `position` because the footer begins there.
fn trailer_begins(segment: &Segment, position: u64) -> Result<bool, ReadError> {
    Ok(segment
        .sealed()
        .is_some_and(|summary| summary.frames_end == position))
}

fn verify_segment(
    segment: &Segment,
    next: Option<Offset>,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let trailer = trailer_of(segment).map_err(as_io)?;
    if let Some(trailer) = &trailer {
        segment.set_sealed(trailer.summary);
    }
    let (summary, records, broken) = walked(segment, progress).map_err(as_io)?;
    report.events += summary.events;
    report.records += records;
    report.bytes += summary.frames_end - SEGMENT_HEADER_BYTES as u64;
    report.end = summary.end;
    let (position, expected) = (summary.frames_end, summary.end);
    if let Some(trailer) = &trailer {
        if next.is_none() {
            let what = "this segment was closed, but the one that follows it is missing";
            report
                .damage
                .push(segment.damage(position, expected, what).into());
        }
        if let Some(what) = broken {
            let damage = segment.damage(position, expected, what);
            let last_offset = trailer.summary.end.checked_sub(1);
            report.damage.push(
                Damage {
                    last_offset,
                    ..damage
                }
                .into(),
            );
            report.end = trailer.summary.end;
        } else if trailer.summary != summary {
            let what = format!(
                "the footer says {:?}, the frames say {summary:?}",
                trailer.summary
            );
            report
                .damage
                .push(segment.damage(position, expected, what).into());
        }
        let layout = trailer.layout();
        let parts = [
            layout.index,
            layout.controls,
            layout.sessions,
            layout.ids,
            layout.session_filter,
            layout.id_filter,
        ];
        for (place, (at, length)) in parts.into_iter().enumerate() {
            let part = segment.read(at, length).map_err(as_io)?;
            if !trailer.holds(place, &part, segment.header.salt) {
                let what = "a part of the footer does not match its checksum";
                report
                    .damage
                    .push(segment.damage(at, segment.header.base, what).into());
            }
        }
        return Ok(());
    }
    match next {
        // Closed by a roll, its footer not written yet.
        Some(next) if next == summary.end => {}
        Some(next) => {
            let what = format!(
                "{}, but the next segment begins with record {next}",
                broken.unwrap_or("zeros".into())
            );
            let damage = segment.damage(position, expected, what);
            report.damage.push(
                Damage {
                    last_offset: Some(next - 1),
                    ..damage
                }
                .into(),
            );
            report.end = next;
        }
        None => verify_tail(segment, position, expected, broken, report).map_err(as_io)?,
    }
    Ok(())
}

/// Judges what stands behind the last whole frame of the log, as recovery would.
fn verify_tail(
    segment: &Segment,
    position: u64,
    expected: Offset,
    broken: Option<String>,
    report: &mut VerifyReport,
) -> Result<(), ReadError> {
    let mut walk = Walk::new(segment)?;
    walk.position = position;
    let Some(set) = walk.bytes_set()? else {
        return Ok(());
    };
    if let Some((at, durable_end)) = walk.later_frame_says_durable(expected)? {
        let found = broken.unwrap_or("zeros".into());
        let what = format!(
            "{found}, but the frame at byte {at} says that everything below record {durable_end} was on the disk"
        );
        let damage = segment.damage(position, expected, what);
        report.damage.push(
            Damage {
                last_offset: Some(durable_end - 1),
                ..damage
            }
            .into(),
        );
        return Ok(());
    }
    report.torn_tail_bytes = set.end - position;
    Ok(())
}
