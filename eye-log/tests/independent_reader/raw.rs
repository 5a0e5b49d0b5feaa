//! Raw segments: frames.

use serde_json::json;

use super::bytes::{Fields, Read, crc32};
use super::{Log, records};

/// A raw segment whose header holds.
pub(crate) struct Segment<'a> {
    name: &'a str,
    bytes: &'a [u8],
    pub(crate) base: u64,
    salt: u32,
}

pub(crate) fn base_in_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let all = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| all)
}

/// Checks a header; also returns the store.
pub(crate) fn segment_header<'a>(name: &'a str, bytes: &'a [u8]) -> Read<(Segment<'a>, [u8; 16])> {
    let header = bytes.get(..4096).ok_or("damage: a short segment header")?;
    let mut fields = Fields(header);
    let magic = fields.take(8)?;
    let version = fields.u32()?;
    fields.take(4)?;
    let store = fields.array()?;
    let base = fields.u64()?;
    fields.i64()?;
    let salt = fields.u32()?;
    fields.take(4040)?;
    let checksum = fields.u32()?;
    if magic != b"EYELOG\r\n" || checksum != crc32(0, &header[..4092]) {
        return Err(format!("{name}: damage: no segment header"));
    }
    if ![1, 3].contains(&version) || base_in_name(name) != Some(base) {
        return Err(format!("{name}: version {version}, base {base}"));
    }
    let segment = Segment {
        name,
        bytes,
        base,
        salt,
    };
    Ok((segment, store))
}

/// Reads a segment; returns one past its last offset. `next` is the base of the one behind, `durable_end` what the
/// manifest says.
pub(crate) fn read_segment(
    segment: &Segment<'_>,
    next: Option<u64>,
    durable_end: u64,
    log: &mut Log,
) -> Read<u64> {
    let mut at = 4096;
    let mut expected = segment.base;
    let mut previous = crc32(segment.salt, &segment.base.to_le_bytes());
    while next != Some(expected) {
        match frame(segment, at, expected, previous) {
            Some(frame) => {
                take_in(segment, at, &frame, log)?;
                previous = frame.checksum;
                expected += u64::from(frame.count);
                at += frame.stride();
            }
            None if next.is_some() || durable_end > expected => {
                return Err(format!(
                    "{}: damage at byte {at}: no frame of record {expected}",
                    segment.name
                ));
            }
            None => {
                log.torn = end_or_torn(segment, at, expected)?;
                return Ok(expected);
            }
        }
    }
    let behind = at..segment.bytes.len();
    log.free
        .extend(behind.map(|position| (segment.name.to_owned(), position)));
    Ok(expected)
}

/// Decides what stands where no frame does, at the end of the last segment.
fn end_or_torn(segment: &Segment<'_>, at: usize, expected: u64) -> Read<Option<usize>> {
    let rest = segment.bytes.get(at..).unwrap_or_default();
    if rest.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    for later in (at + 8..segment.bytes.len()).step_by(8) {
        if let Some(frame) = frame_header(segment, later)
            && frame.durable_end > expected
        {
            return Err(format!(
                "{}: damage at byte {at}: the frame at {later} says that record {expected} was there",
                segment.name
            ));
        }
    }
    Ok(Some(at))
}

struct Frame<'a> {
    checksum: u32,
    body_bytes: u32,
    count: u32,
    first_offset: u64,
    appended_at: i64,
    durable_end: u64,
    table_checksum: u32,
    previous: u32,
    duplicates: u32,
    rejected: u32,
    version: u32,
    records: Vec<&'a [u8]>,
}

impl Frame<'_> {
    fn stride(&self) -> usize {
        (64 + self.body_bytes as usize).div_ceil(8) * 8
    }
}

/// A header whose magic, checksum, version and caps hold.
fn frame_header<'a>(segment: &Segment<'a>, at: usize) -> Option<Frame<'a>> {
    let header = segment.bytes.get(at..at + 64)?;
    let mut fields = Fields(header);
    let magic = fields.take(4).ok()?;
    let frame = Frame {
        checksum: fields.u32().ok()?,
        body_bytes: fields.u32().ok()?,
        count: fields.u32().ok()?,
        first_offset: fields.u64().ok()?,
        appended_at: fields.i64().ok()?,
        durable_end: fields.u64().ok()?,
        table_checksum: fields.u32().ok()?,
        previous: fields.u32().ok()?,
        duplicates: fields.u32().ok()?,
        rejected: fields.u32().ok()?,
        version: fields.u32().ok()?,
        records: Vec::new(),
    };
    let holds = magic == b"EYEF"
        && frame.checksum == crc32(segment.salt, &header[8..])
        && [1, 2].contains(&frame.version)
        && frame.body_bytes <= 67_108_864
        && frame.count <= 100_000;
    holds.then_some(frame)
}

/// A whole frame that follows the one in front.
fn frame<'a>(segment: &Segment<'a>, at: usize, expected: u64, previous: u32) -> Option<Frame<'a>> {
    let mut frame = frame_header(segment, at)?;
    if frame.first_offset != expected || frame.previous != previous {
        return None;
    }
    let body = at + 64..at + 64 + frame.body_bytes as usize;
    let body = segment.bytes.get(body)?;
    let table = body.get(..frame.count as usize * 8)?;
    if crc32(segment.salt, table) != frame.table_checksum {
        return None;
    }
    let mut fields = Fields(table);
    let mut rest = Fields(&body[table.len()..]);
    let seed = [segment.salt, 0][frame.version as usize - 1];
    for _ in 0..frame.count {
        let (length, checksum) = (fields.u32().ok()?, fields.u32().ok()?);
        let record = rest.take(length as usize).ok()?;
        if crc32(seed, record) != checksum {
            return None;
        }
        frame.records.push(record);
    }
    rest.0.is_empty().then_some(frame)
}

fn take_in(segment: &Segment<'_>, at: usize, frame: &Frame<'_>, log: &mut Log) -> Read<()> {
    log.frames.push(json!({
        "file": segment.name,
        "position": at,
        "checksum": frame.checksum,
        "body_bytes": frame.body_bytes,
        "count": frame.count,
        "first_offset": frame.first_offset,
        "appended_at": frame.appended_at,
        "durable_end": frame.durable_end,
        "table_checksum": frame.table_checksum,
        "previous": frame.previous,
        "duplicates": frame.duplicates,
        "rejected": frame.rejected,
    }));
    let padding = at + 64 + frame.body_bytes as usize..at + frame.stride();
    log.free
        .extend(padding.map(|position| (segment.name.to_owned(), position)));
    for (offset, bytes) in (frame.first_offset..).zip(&frame.records) {
        let appended_at = (frame.version == 2).then_some(frame.appended_at);
        let record = records::decode(bytes, offset, appended_at)?;
        log.take(record);
    }
    Ok(())
}
