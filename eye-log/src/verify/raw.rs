//! Verifies raw segments, frame by frame.

use std::io;

use crate::error::{Damage, ReadError};
use crate::format::frame::Table;
use crate::format::payload;
use crate::offset::Offset;
use crate::record::Record;
use crate::segment::Segment;
use crate::segment::walk::{Step, Walk};
use crate::verify::chain::Chain;
use crate::verify::{VerifyReport, as_io};

/// Walks a segment, of which `next` follows; `progress` hears how far it is.
pub(super) fn verify(
    segment: &Segment,
    next: Option<Offset>,
    report: &mut VerifyReport,
    chain: &mut Chain,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut walk = Walk::new(segment).map_err(as_io)?;
    let broken = loop {
        let (position, first) = (walk.position, walk.next_offset);
        if next == Some(first) {
            // The next segment goes on from here; what follows says nothing.
            break None;
        }
        match walk.step().map_err(as_io)? {
            Step::End => break Some("zeros".to_owned()),
            Step::Broken(what) => break Some(what),
            Step::Frame(header, body) => {
                let table = Table::of(&header, body, segment.header.salt)
                    .expect("the walk checked the table");
                for (offset, range) in (header.first_offset..).zip(table.ranges()) {
                    report.records += 1;
                    match payload::decode(&body[range]) {
                        Ok(Record::Event(_)) => report.events += 1,
                        Ok(Record::Maintenance(record)) => chain.record(offset, &record),
                        Ok(_) => {}
                        Err(what) => {
                            let what = format!("record {offset}: {what}");
                            let damage = segment.damage(position, offset, what);
                            report.damage.push(damage.into());
                        }
                    }
                }
            }
        }
        progress(walk.position);
    };
    report.bytes += walk.position;
    report.end = walk.next_offset;
    let Some(what) = broken else {
        return Ok(());
    };
    if let Some(next) = next {
        let what = format!("{what}, but the next segment begins with record {next}");
        let damage = Damage {
            last_offset: Some(next - 1),
            ..segment.damage(walk.position, walk.next_offset, what)
        };
        report.damage.push(damage.into());
        report.end = next;
        return Ok(());
    }
    tail(segment, &mut walk, &what, report).map_err(as_io)
}

/// Judges what stands behind the last whole frame of the log, as opening would.
fn tail(
    segment: &Segment,
    walk: &mut Walk<'_>,
    found: &str,
    report: &mut VerifyReport,
) -> Result<(), ReadError> {
    let (position, expected) = (walk.position, walk.next_offset);
    let Some(set) = walk.bytes_set()? else {
        return Ok(());
    };
    if let Some((at, durable_end)) = walk.later_frame_says_durable(expected)? {
        let what = format!(
            "{found}, but the frame at byte {at} says that everything below record {durable_end} was on the disk"
        );
        let damage = Damage {
            last_offset: Some(durable_end - 1),
            ..segment.damage(position, expected, what)
        };
        report.damage.push(damage.into());
        return Ok(());
    }
    report.torn_tail_bytes = set.end - position;
    Ok(())
}
