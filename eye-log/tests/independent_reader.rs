//! A reader of the log written from `docs/log-format.md` alone, to show that the document is enough: std, JSON for
//! what comes out, and nothing of ours.
//!
//! What must stay true: when this and the document differ, one of them is fixed; the code is never looked up here.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

#[test]
fn a_reader_made_from_the_document_alone_agrees_with_ours() {
    let read = read_log(&files_of(&fixture().join("log"))).unwrap();
    assert_eq!(read.records, lines("expected.ndjson"));
    assert_eq!(read.frames, lines("frames.ndjson"));
    assert_eq!(read.sealed.len() + 1, read.segments, "all but the last one");
    assert_eq!(read.torn, None);
}

/// "What nothing checks" in the document is all that nothing checks.
#[test]
fn every_flipped_bit_is_noticed_unless_the_document_calls_it_free() {
    let files = files_of(&fixture().join("log"));
    let sound = read_log(&files).unwrap();
    for (name, bytes) in &files {
        // Every place of a structure is hit, since their sizes and this step have no common factor.
        for position in (0..bytes.len()).step_by(31) {
            let mut changed = files.clone();
            changed.get_mut(name).unwrap()[position] ^= 1 << (position % 8);
            let free = sound.free.contains(&(name.clone(), position));
            let unnoticed = read_log(&changed).is_ok_and(|read| read == sound);
            assert_eq!(unnoticed, free, "{name}, byte {position}");
        }
    }
}

#[test]
fn damage_and_a_torn_tail_are_told_apart() {
    let files = files_of(&fixture().join("log"));
    let sound = read_log(&files).unwrap();
    let (last, bytes) = files.last_key_value().unwrap();
    let starts: Vec<usize> = sound
        .frames
        .iter()
        .filter(|frame| frame["file"] == last.as_str())
        .map(|frame| usize::try_from(frame["position"].as_u64().unwrap()).unwrap())
        .collect();
    let (marker, records) = starts.split_last().unwrap();
    for start in records {
        let mut changed = files.clone();
        changed.get_mut(last).unwrap()[start + 70] ^= 1;
        let error = read_log(&changed).unwrap_err();
        assert!(error.contains("damage"), "{error}");
    }
    // The last frame alone may have been torn: no later one says that it was on the disk.
    let mut changed = files.clone();
    changed.get_mut(last).unwrap()[marker + 20] ^= 1;
    let read = read_log(&changed).unwrap();
    assert_eq!(read.torn, Some(*marker));
    assert_eq!(read.records, sound.records);
    // Zeros and the end of the file mean the same.
    let mut longer = files.clone();
    longer.get_mut(last).unwrap().resize(bytes.len() + 77, 0);
    assert_eq!(read_log(&longer).unwrap(), sound);
    // A segment in the middle is missing.
    let mut fewer = files.clone();
    fewer.remove(files.keys().nth(1).unwrap());
    assert!(read_log(&fewer).is_err());
}

#[test]
fn the_examples_of_the_document_hold_here_too() {
    assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
    assert_eq!(crc32(0x1234_5678, b"123456789"), 0x01f4_807b);
    assert_eq!(crc32(0x1234_5678, b""), 0x1234_5678);
    assert_eq!(crc32(0x1234_5678, &42u64.to_le_bytes()), 0xb7ef_7606);
    let session = 0xe208_5be5_9137_4e4e_80b5_f1ff_ddc2_5423;
    assert_eq!(filter_bits(session, 16), [115, 108, 102, 95, 89]);
    let id = id_filter_key(7, session);
    assert_eq!(filter_bits(id, 16), [15, 36, 56, 76, 97]);
}

fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect()
}

fn lines(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture().join(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

// ---- The reader. From here on there is nothing but the document. ----

type Read<T> = Result<T, String>;

/// What a log says.
#[derive(Debug, Default, PartialEq)]
struct Log {
    segments: usize,
    records: Vec<Value>,
    frames: Vec<Value>,
    sealed: Vec<String>,
    /// Where the last segment was torn.
    torn: Option<usize>,
    /// Bytes of which the document says that they may hold anything.
    free: BTreeSet<(String, usize)>,
    /// Sessions of the segments so far.
    sessions: BTreeSet<[u8; 16]>,
}

/// What a footer is made of, gathered from the frames.
#[derive(Default)]
struct Gathered {
    index: Vec<(u64, u64)>,
    registry: Vec<u64>,
    sessions: BTreeMap<[u8; 16], u32>,
    ids: BTreeMap<(u32, [u8; 16]), (u64, [u8; 16])>,
    events: u64,
    first_received_at: i64,
    last_received_at: i64,
    timestamps: Option<(i64, i64)>,
}

struct Segment<'a> {
    name: &'a str,
    bytes: &'a [u8],
    base: u64,
    salt: u32,
}

fn read_log(files: &BTreeMap<String, Vec<u8>>) -> Read<Log> {
    let mut log = Log::default();
    let segments: Vec<(&String, &Vec<u8>)> = files
        .iter()
        .filter(|(name, _)| base_in_name(name).is_some())
        .collect();
    let (mut expected, mut store) = (0, None);
    for (place, (name, bytes)) in segments.iter().enumerate() {
        let (segment, of_store) = segment_header(name, bytes)?;
        if segment.base != expected || *store.get_or_insert(of_store) != of_store {
            return Err(format!("{name}: damage: not the next segment"));
        }
        let next = segments
            .get(place + 1)
            .and_then(|(name, _)| base_in_name(name));
        expected = read_segment(&segment, next, &mut log)?;
        log.segments += 1;
    }
    Ok(log)
}

fn base_in_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let all = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| all)
}

fn segment_header<'a>(name: &'a str, bytes: &'a [u8]) -> Read<(Segment<'a>, [u8; 16])> {
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
    if version != 1 || base_in_name(name) != Some(base) {
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

/// Reads a segment; returns one past its last offset.
fn read_segment(segment: &Segment<'_>, next: Option<u64>, log: &mut Log) -> Read<u64> {
    let sealed = sealed(segment, next)?;
    let frames_end = sealed.as_ref().map(|trailer| trailer.frames_end);
    let mut gathered = Gathered::default();
    let mut at = 4096;
    let mut expected = segment.base;
    let mut previous = crc32(segment.salt, &segment.base.to_le_bytes());
    loop {
        let ends = match frames_end {
            Some(end) => at == end,
            None => next == Some(expected),
        };
        if ends {
            break;
        }
        match frame(segment, at, expected, previous) {
            Some(frame) => {
                take_in(segment, at, &frame, &mut gathered, log)?;
                previous = frame.checksum;
                expected += u64::from(frame.count);
                at += frame.stride();
            }
            None if frames_end.is_some() || next.is_some() => {
                return Err(format!(
                    "{}: damage at byte {at}: no frame of record {expected}",
                    segment.name
                ));
            }
            None => {
                log.torn = end_or_torn(segment, at, expected)?;
                break;
            }
        }
    }
    if let Some(trailer) = sealed {
        let summary = summary(segment, trailer.frames_end, previous, expected, &gathered);
        check_footer(segment, &trailer, &summary, &gathered, log)?;
        log.sealed.push(segment.name.to_owned());
    }
    log.sessions.extend(gathered.sessions.into_keys());
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
        records: Vec::new(),
    };
    let version = fields.u32().ok()?;
    let holds = magic == b"EYEF"
        && frame.checksum == crc32(segment.salt, &header[8..])
        && version == 1
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
    for _ in 0..frame.count {
        let (length, checksum) = (fields.u32().ok()?, fields.u32().ok()?);
        let record = rest.take(length as usize).ok()?;
        if crc32(segment.salt, record) != checksum {
            return None;
        }
        frame.records.push(record);
    }
    rest.0.is_empty().then_some(frame)
}

fn take_in(
    segment: &Segment<'_>,
    at: usize,
    frame: &Frame<'_>,
    gathered: &mut Gathered,
    log: &mut Log,
) -> Read<()> {
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
    if frame.count > 0 {
        if frame.first_offset == segment.base {
            gathered.first_received_at = frame.appended_at;
        }
        gathered.last_received_at = frame.appended_at;
        let position = at as u64;
        if gathered
            .index
            .last()
            .is_none_or(|(_, last)| position >= last + 16_384)
        {
            gathered.index.push((frame.first_offset, position));
        }
    }
    for (offset, record) in (frame.first_offset..).zip(&frame.records) {
        let mut fields = Fields(record);
        let line = match (fields.u8()?, fields.u8()?) {
            (1, 1) => event(&mut fields, offset, gathered, log)?,
            (2, 1) => {
                gathered.registry.push(offset);
                registry(&mut fields, offset)?
            }
            (kind, version) => {
                return Err(format!("a record of kind {kind}, version {version}"));
            }
        };
        if !fields.0.is_empty() {
            return Err(format!("record {offset} has bytes behind its last field"));
        }
        log.records.push(line);
    }
    Ok(())
}

fn event(fields: &mut Fields<'_>, offset: u64, gathered: &mut Gathered, log: &Log) -> Read<Value> {
    let id = fields.array()?;
    let received_at = fields.i64()?;
    let application = fields.u32()?;
    let session = fields.array()?;
    let timestamp = fields.i64()?;
    let client = match fields.is_there()? {
        true => Some((fields.string()?, fields.array::<16>()?)),
        false => None,
    };
    gathered.events += 1;
    let (least, greatest) = gathered.timestamps.unwrap_or((timestamp, timestamp));
    gathered.timestamps = Some((least.min(timestamp), greatest.max(timestamp)));
    if !log.sessions.contains(&session) {
        gathered.sessions.entry(session).or_insert(application);
    }
    if let Some((_, content_hash)) = client {
        gathered
            .ids
            .insert((application, id), (offset, content_hash));
    }
    Ok(json!({
        "offset": offset,
        "kind": "event",
        "id": uuid(&id),
        "received_at": received_at,
        "application": application,
        "session_id": uuid(&session),
        "timestamp": timestamp,
        "client": client.map(|(key, content_hash)| json!({
            "key": key,
            "content_hash": hex(&content_hash),
        })),
        "category": fields.string()?,
        "name": fields.string()?,
        "meta": fields.string()?,
        "data": fields.string()?,
    }))
}

fn registry(fields: &mut Fields<'_>, offset: u64) -> Read<Value> {
    let at = fields.i64()?;
    let by = fields.array()?;
    let request = fields.array()?;
    let change = match fields.u32()? {
        0 => json!({"registered": {"application": fields.u32()?, "name": fields.string()?}}),
        1 => json!({"set_active": {"application": fields.u32()?, "active": fields.is_there()?}}),
        2 => {
            let token = fields.array()?;
            let kind = fields.u8()?;
            let application = match fields.is_there()? {
                true => Some(fields.u32()?),
                false => None,
            };
            let hash = fields.array::<32>()?;
            let kind = match kind {
                0 => "admin".to_owned(),
                1 => "analyst".to_owned(),
                4..=7 => {
                    let (read, write) = (kind & 1 != 0, kind & 2 != 0);
                    format!("application, read {read}, write {write}")
                }
                _ => return Err(format!("a token of kind {kind}")),
            };
            json!({"issued": {
                "token": uuid(&token),
                "token_kind": kind,
                "application": application,
                "hash": hex(&hash),
            }})
        }
        3 => json!({"revoked": {"token": uuid(&fields.array()?)}}),
        other => return Err(format!("a change of number {other}")),
    };
    Ok(json!({
        "offset": offset,
        "kind": "registry",
        "at": at,
        "by": uuid(&by),
        "request": uuid(&request),
        "change": change,
    }))
}

struct Trailer<'a> {
    bytes: &'a [u8],
    frames_end: usize,
    parts_end: usize,
    parts: Vec<&'a [u8]>,
}

const PART_ENTRY_BYTES: [usize; 6] = [16, 8, 20, 44, 1, 1];

/// The trailer, if the segment counts as sealed.
fn sealed<'a>(segment: &Segment<'a>, next: Option<u64>) -> Read<Option<Trailer<'a>>> {
    let bytes = segment.bytes;
    let Some(start) = bytes.len().checked_sub(160) else {
        return Ok(None);
    };
    let trailer = &bytes[start..];
    let mut fields = Fields(trailer);
    let magic = fields.take(8)?;
    let (base, end) = (fields.u64()?, fields.u64()?);
    let frames_end = usize::try_from(fields.u64()?).unwrap_or(usize::MAX);
    let holds = magic == b"EYEFOOT1"
        && Fields(&trailer[156..]).u32()? == crc32(segment.salt, &trailer[..156])
        && base == segment.base
        && next.is_none_or(|next| next == end);
    if !holds {
        return Ok(None);
    }
    let (mut counts, mut checksums) = (Fields(&trailer[80..104]), Fields(&trailer[104..128]));
    let mut rest = Fields(bytes.get(frames_end..start).ok_or("damage: no footer")?);
    let (mut parts, mut parts_end) = (Vec::new(), frames_end);
    for size in PART_ENTRY_BYTES {
        let part = rest.take(counts.u32()? as usize * size)?;
        if checksums.u32()? != crc32(segment.salt, part) {
            return Err(format!("{}: damage: a part of the footer", segment.name));
        }
        parts_end += part.len();
        parts.push(part);
    }
    let fits = parts_end.div_ceil(8) * 8 == start;
    Ok(fits.then_some(Trailer {
        bytes: trailer,
        frames_end,
        parts_end,
        parts,
    }))
}

/// The trailer's first 76 bytes, as they must be.
fn summary(
    segment: &Segment<'_>,
    frames_end: usize,
    last_frame: u32,
    end: u64,
    gathered: &Gathered,
) -> Vec<u8> {
    let (least, greatest) = gathered.timestamps.unwrap_or((i64::MAX, i64::MIN));
    let numbers = [segment.base, end, frames_end as u64, gathered.events];
    let instants = [
        gathered.first_received_at,
        gathered.last_received_at,
        least,
        greatest,
    ];
    let mut bytes = b"EYEFOOT1".to_vec();
    bytes.extend(numbers.map(u64::to_le_bytes).concat());
    bytes.extend(instants.map(i64::to_le_bytes).concat());
    bytes.extend(last_frame.to_le_bytes());
    bytes
}

/// Everything in a footer can be computed from the frames again.
fn check_footer(
    segment: &Segment<'_>,
    trailer: &Trailer<'_>,
    summary: &[u8],
    gathered: &Gathered,
    log: &mut Log,
) -> Read<()> {
    let mut parts: [Vec<u8>; 6] = Default::default();
    for (offset, position) in &gathered.index {
        parts[0].extend(offset.to_le_bytes());
        parts[0].extend(position.to_le_bytes());
    }
    for offset in &gathered.registry {
        parts[1].extend(offset.to_le_bytes());
    }
    parts[4] = vec![0; (10 * gathered.sessions.len()).div_ceil(64) * 8];
    for (session, application) in &gathered.sessions {
        parts[2].extend(session);
        parts[2].extend(application.to_le_bytes());
        set_bits(&mut parts[4], u128::from_be_bytes(*session));
    }
    parts[5] = vec![0; (10 * gathered.ids.len()).div_ceil(64) * 8];
    for ((application, id), (offset, content_hash)) in &gathered.ids {
        parts[3].extend(application.to_be_bytes());
        parts[3].extend(id);
        parts[3].extend(offset.to_le_bytes());
        parts[3].extend(content_hash);
        let key = id_filter_key(*application, u128::from_be_bytes(*id));
        set_bits(&mut parts[5], key);
    }
    for (number, (part, expected)) in trailer.parts.iter().zip(&parts).enumerate() {
        if part != expected {
            return Err(format!(
                "{}: part {number} of the footer is not what the frames give",
                segment.name
            ));
        }
    }
    if trailer.bytes[..76] != *summary {
        return Err(format!(
            "{}: the trailer is not what the frames give",
            segment.name
        ));
    }
    let padding = trailer.parts_end..segment.bytes.len() - 160;
    log.free
        .extend(padding.map(|position| (segment.name.to_owned(), position)));
    Ok(())
}

fn set_bits(filter: &mut [u8], key: u128) {
    for bit in filter_bits(key, filter.len()) {
        filter[bit / 8] |= 1 << (bit % 8);
    }
}

fn id_filter_key(application: u32, id: u128) -> u128 {
    id.wrapping_add(u128::from(application).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn filter_bits(key: u128, filter_bytes: usize) -> [usize; 5] {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    fn mix(mut x: u64) -> u64 {
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }
    let half = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap();
    let low = mix(half(key) ^ mix(half(key >> 64) ^ GOLDEN));
    let high = mix(low.wrapping_add(GOLDEN));
    [0u64, 1, 2, 3, 4].map(|probe| {
        let bit = low
            .wrapping_add(probe.wrapping_mul(high | 1))
            .rotate_left(17)
            % (8 * filter_bytes as u64);
        usize::try_from(bit).unwrap()
    })
}

/// Takes fields off the front of bytes; fewer bytes than a field has are an error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Read<&'a [u8]> {
        let (front, rest) = self
            .0
            .split_at_checked(bytes)
            .ok_or("damage: a field beyond the end")?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        Ok(self.take(N)?.try_into().unwrap())
    }

    fn u8(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Read<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A boolean, or the first byte of an optional.
    fn is_there(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("{other} is no boolean")),
        }
    }

    fn string(&mut self) -> Read<String> {
        let length = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned).map_err(|error| error.to_string())
    }
}

fn crc32(seed: u32, data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let checksum = data.iter().fold(!seed, |c, byte| {
        let [low, ..] = c.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ c >> 8
    });
    !checksum
}

/// What eight steps make of each byte.
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0u32;
    while byte < 256 {
        let (mut c, mut step) = (byte, 0);
        while step < 8 {
            c = if c & 1 == 1 {
                c >> 1 ^ 0xedb8_8320
            } else {
                c >> 1
            };
            step += 1;
        }
        table[byte as usize] = c;
        byte += 1;
    }
    table
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn uuid(bytes: &[u8; 16]) -> String {
    let digits = hex(bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &digits[range]);
    parts.join("-")
}
