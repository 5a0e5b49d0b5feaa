//! Sealed files: header, blocks, footer, and whether the footer says what the records give.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::{Fields, Read, crc32, mix};
use super::manifest::Entry;
use super::records::{self, What};
use super::seals::{Change, Seal};
use super::{Files, Log};

/// A sealed file whose header and trailer hold.
struct Sealed<'a> {
    name: String,
    bytes: &'a [u8],
    store: [u8; 16],
    base: u64,
    end: u64,
    salt: u32,
    trailer: Trailer,
}

struct Trailer {
    blocks_end: usize,
    /// The figures from `events` on: five of 8 bytes.
    figures: [u64; 5],
    counts: [u32; 9],
    checksums: [u32; 9],
}

const ENTRY_BYTES: [usize; 9] = [64, 8, 20, 8, 64, 64, 80, 48, 64];

pub(crate) struct BlockEntry {
    pub(crate) first: u64,
    position: u64,
    bytes: u32,
    raw_bytes: u32,
    pub(crate) count: u32,
    pub(crate) gone: u32,
    pub(crate) hash: [u8; 32],
}

/// What the parts of the footer must say, gathered from the records.
struct Gathered {
    controls: Vec<u8>,
    ids: Vec<u64>,
    /// The sessions of the events that are there, and their owners.
    sessions: BTreeMap<[u8; 16], u32>,
    /// By hour and application: events that are there, and their bytes.
    ledger: BTreeMap<(u32, u32), [u64; 2]>,
    /// By hour and application: duplicates and rejected.
    refused: BTreeMap<(u32, u32), [u64; 2]>,
    gone: [u64; 4],
    events: u64,
    least: i64,
    greatest: i64,
}

/// Reads the file that the manifest names; returns one past its last offset.
pub(crate) fn read(files: &Files, entry: &Entry, store: [u8; 16], log: &mut Log) -> Read<u64> {
    let file = open(files, entry, store)?;
    let parts = parts(&file, log)?;
    let blocks = block_entries(&file, parts[0])?;
    let mut gathered = Gathered {
        controls: Vec::new(),
        ids: Vec::new(),
        sessions: BTreeMap::new(),
        ledger: BTreeMap::new(),
        refused: BTreeMap::new(),
        gone: [0; 4],
        events: 0,
        least: i64::MAX,
        greatest: i64::MIN,
    };
    let mut now = BTreeMap::new();
    let mut frame_times = Vec::new();
    for entry in &blocks {
        if entry.gone != 0 {
            let reason = usize::try_from(entry.gone).unwrap();
            gathered.gone[reason] += u64::from(entry.count);
            for offset in entry.first..entry.first + u64::from(entry.count) {
                let stub = [0, u8::try_from(reason).unwrap()];
                log.take(records::decode(&stub, offset, Some(0))?);
            }
            now.insert(entry.first, [0; 32]);
            continue;
        }
        let hash = block(&file, entry, &mut gathered, &mut frame_times, log)?;
        now.insert(entry.first, hash);
    }
    let file_gone: u64 = gathered.gone.iter().sum();
    check_parts(&file, &parts, &gathered, file_gone, log)?;
    check_figures(&file, &blocks, &gathered, &frame_times)?;
    let changes = changes(parts[7], &blocks, &now, &file.name)?;
    log.chain.changes.extend(changes);
    log.chain.seals.extend(seals(parts[6])?);
    log.chain.blocks.extend(blocks);
    log.sealed.push(file.name.clone());
    Ok(file.end)
}

fn open<'a>(files: &'a Files, entry: &Entry, store: [u8; 16]) -> Read<Sealed<'a>> {
    let name = format!(
        "{:020}-{:020}-{}.sealed",
        entry.base, entry.end, entry.generation
    );
    let damage = |what: &str| format!("{name}: damage: {what}");
    let bytes: &[u8] = files.get(&name).ok_or_else(|| damage("no such file"))?;
    let header = bytes.get(..4096).ok_or_else(|| damage("a short header"))?;
    if header[..8] != *b"EYELOG\r\n" || Fields(&header[4092..]).u32()? != crc32(0, &header[..4092])
    {
        return Err(damage("no header"));
    }
    let mut fields = Fields(&header[8..]);
    let version = fields.u32()?;
    fields.take(4)?;
    let of_store: [u8; 16] = fields.array()?;
    let base = fields.u64()?;
    fields.i64()?;
    let (salt, generation, end) = (fields.u32()?, fields.u32()?, fields.u64()?);
    if version != 2
        || of_store != store
        || (base, end, generation) != (entry.base, entry.end, entry.generation)
    {
        return Err(damage("the header of another file"));
    }
    let start = bytes
        .len()
        .checked_sub(256)
        .ok_or_else(|| damage("no trailer"))?;
    let trailer = &bytes[start..];
    let checksum = Fields(&trailer[252..]).u32()?;
    let mut fields = Fields(trailer);
    let holds = fields.take(8)? == b"EYESEAL2" && checksum == crc32(salt, &trailer[..252]);
    let range = (fields.u64()?, fields.u64()?);
    if !holds
        || range != (base, end)
        || checksum != entry.trailer_checksum
        || bytes.len() as u64 != entry.file_bytes
        || !(1..=1 << 22).contains(&(end - base))
    {
        return Err(damage("no trailer of this file"));
    }
    let blocks_end = usize::try_from(fields.u64()?).unwrap_or(usize::MAX);
    let mut figures = [0; 5];
    for figure in &mut figures {
        *figure = fields.u64()?;
    }
    let (mut counts, mut checksums) = ([0; 9], [0; 9]);
    for place in counts.iter_mut().chain(&mut checksums) {
        *place = fields.u32()?;
    }
    let trailer = Trailer {
        blocks_end,
        figures,
        counts,
        checksums,
    };
    Ok(Sealed {
        name,
        bytes,
        store,
        base,
        end,
        salt,
        trailer,
    })
}

fn parts<'a>(file: &Sealed<'a>, log: &mut Log) -> Read<Vec<&'a [u8]>> {
    let trailer_at = file.bytes.len() - 256;
    let mut at = file.trailer.blocks_end;
    let footer = file.bytes.get(at..trailer_at).ok_or("damage: no footer")?;
    let mut rest = Fields(footer);
    let mut parts = Vec::new();
    for (place, size) in ENTRY_BYTES.iter().enumerate() {
        let part = rest.take(file.trailer.counts[place] as usize * size)?;
        if file.trailer.checksums[place] != crc32(file.salt, part) {
            return Err(format!("{}: damage: part {place}", file.name));
        }
        at += part.len();
        parts.push(part);
    }
    if at.div_ceil(8) * 8 != trailer_at {
        return Err(format!("{}: damage: parts that do not add up", file.name));
    }
    log.free
        .extend((at..trailer_at).map(|position| (file.name.clone(), position)));
    Ok(parts)
}

fn block_entries(file: &Sealed<'_>, part: &[u8]) -> Read<Vec<BlockEntry>> {
    let (mut first, mut position) = (file.base, 4096);
    let mut entries = Vec::new();
    for bytes in part.chunks(64) {
        let mut fields = Fields(bytes);
        let entry = BlockEntry {
            first: fields.u64()?,
            position: fields.u64()?,
            bytes: fields.u32()?,
            raw_bytes: fields.u32()?,
            count: fields.u32()?,
            gone: fields.u32()?,
            hash: fields.array()?,
        };
        let none = entry.bytes == 0 && entry.raw_bytes == 0 && entry.hash == [0; 32];
        let sound = match entry.gone {
            0 => entry.position == position,
            1..=3 => none,
            _ => false,
        };
        if entry.first != first || !sound {
            return Err(format!("{}: damage: blocks at record {first}", file.name));
        }
        first += u64::from(entry.count);
        position = (position + u64::from(entry.bytes)).next_multiple_of(8);
        entries.push(entry);
    }
    if (first, position) != (file.end, file.trailer.blocks_end as u64) {
        return Err(format!(
            "{}: damage: blocks end at record {first}",
            file.name
        ));
    }
    Ok(entries)
}

/// Reads a block's records; returns its hash.
fn block(
    file: &Sealed<'_>,
    entry: &BlockEntry,
    gathered: &mut Gathered,
    frame_times: &mut Vec<i64>,
    log: &mut Log,
) -> Read<[u8; 32]> {
    let damage = |what: &str| {
        format!(
            "{}: damage: block of record {}: {what}",
            file.name, entry.first
        )
    };
    let start = usize::try_from(entry.position).unwrap();
    let end = start + entry.bytes as usize;
    let bytes = file
        .bytes
        .get(start..end)
        .ok_or_else(|| damage("cut short"))?;
    log.free
        .extend((end..end.next_multiple_of(8)).map(|position| (file.name.clone(), position)));
    let header = bytes.get(..64).ok_or_else(|| damage("cut short"))?;
    let mut fields = Fields(header);
    let magic = fields.take(4)?;
    if magic != b"EYEB" || fields.u32()? != crc32(file.salt, &header[8..]) {
        return Err(damage("no header"));
    }
    let (stored_bytes, raw_bytes) = (fields.u32()?, fields.u32()?);
    let (count, frames, first) = (fields.u32()?, fields.u32()?, fields.u64()?);
    let (codec, checksum) = (fields.u32()?, fields.u32()?);
    let stored = &bytes[64..];
    if (first, count, raw_bytes) != (entry.first, entry.count, entry.raw_bytes)
        || stored.len() != stored_bytes as usize
        || stored_bytes > raw_bytes
        || raw_bytes > 69_908_864
        || !(1..=100_000).contains(&count)
        || frames > count
        || crc32(file.salt, stored) != checksum
    {
        return Err(damage("not the one that is listed"));
    }
    let raw = match codec {
        0 => stored.to_vec(),
        1 => zstd::bulk::decompress(stored, raw_bytes as usize)
            .map_err(|error| damage(&error.to_string()))?,
        other => return Err(damage(&format!("codec {other}"))),
    };
    if raw.len() != raw_bytes as usize {
        return Err(damage("another length"));
    }
    let mut tables = Fields(&raw);
    let mut parts = Vec::new();
    for place in 0..frames {
        let (count, duplicates, rejected) = (tables.u32()?, tables.u32()?, tables.u32()?);
        let goes_on = tables.u32()? & 1 == 1;
        if count == 0 || goes_on && (place > 0 || duplicates > 0 || rejected > 0) {
            return Err(damage("frames"));
        }
        parts.push((
            count,
            [u64::from(duplicates), u64::from(rejected)],
            tables.i64()?,
        ));
    }
    let mut lengths = Vec::new();
    for _ in 0..count {
        lengths.push(tables.u32()? as usize);
    }
    let mut lengths = lengths.into_iter();
    let mut offset = first;
    for (count, refused, appended_at) in parts {
        let hour = u32::try_from(appended_at.div_euclid(3_600_000_000).max(0)).unwrap();
        frame_times.push(appended_at);
        let mut refused = Some(refused);
        for length in lengths.by_ref().take(count as usize) {
            let bytes = tables.take(length)?;
            let record = records::decode(bytes, offset, Some(appended_at))?;
            match &record.what {
                What::Event {
                    application,
                    id,
                    session,
                    timestamp,
                    client,
                } => {
                    let key = (hour, *application);
                    let kept = gathered.ledger.entry(key).or_default();
                    kept[0] += 1;
                    kept[1] += bytes.len() as u64;
                    if let Some(refused) = refused.take() {
                        let sum = gathered.refused.entry(key).or_default();
                        sum[0] += refused[0];
                        sum[1] += refused[1];
                    }
                    gathered.sessions.insert(*session, *application);
                    if *client {
                        let print = print_of_id(&file.store, *application, id);
                        gathered.ids.push(print << 22 | (offset - file.base));
                    }
                    gathered.events += 1;
                    gathered.least = gathered.least.min(*timestamp);
                    gathered.greatest = gathered.greatest.max(*timestamp);
                }
                What::Gone(reason) => gathered.gone[usize::from(*reason)] += 1,
                _ => gathered.controls.extend(offset.to_le_bytes()),
            }
            log.take(record);
            offset += 1;
        }
    }
    if !tables.0.is_empty() || offset != first + u64::from(count) {
        return Err(damage("its tables do not add up"));
    }
    let mut hashed = first.to_le_bytes().to_vec();
    hashed.extend(&raw);
    Ok(*blake3::hash(&hashed).as_bytes())
}

pub(crate) fn print_of_session(store: &[u8; 16], session: &[u8; 16]) -> [u8; 16] {
    let key = blake3::derive_key("the-eye 2026 session owners", store);
    Fields(blake3::keyed_hash(&key, session).as_bytes())
        .array()
        .unwrap()
}

pub(crate) fn print_of_id(store: &[u8; 16], application: u32, id: &[u8; 16]) -> u64 {
    let key = blake3::derive_key("the-eye 2026 client ids", store);
    let (words, _) = key.as_chunks::<8>();
    let key = [words[0], words[1]].map(u64::from_le_bytes);
    let mut hashed = [&application.to_le_bytes()[..], id].concat();
    hashed.extend([0, 0, 0, 20]);
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in hashed.as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*word);
        v[3] ^= word;
        sip_round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..3 {
        sip_round(&mut v);
    }
    (v[0] ^ v[1] ^ v[2] ^ v[3]) >> 22
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

pub(crate) fn filter_of(hashes: &[u64]) -> Vec<u8> {
    let blocks = (10 * hashes.len()).div_ceil(512);
    let mut filter = vec![0; 64 * blocks];
    for hash in hashes {
        let (start, bits) = filter_place(*hash, blocks as u64);
        for bit in bits {
            filter[start + bit / 8] |= 1 << (bit % 8);
        }
    }
    filter
}

/// Where the block of a hash begins, and its bits.
pub(crate) fn filter_place(hash: u64, blocks: u64) -> (usize, [usize; 6]) {
    let block = (u128::from(hash) * u128::from(blocks)) >> 64;
    let spread = mix(hash ^ 0x9e37_79b9_7f4a_7c15);
    let bits =
        [0, 1, 2, 3, 4, 5].map(|probe| usize::try_from(spread >> (9 * probe) & 511).unwrap());
    (usize::try_from(block).unwrap() * 64, bits)
}

/// Compares parts 1 to 5 and 8 with the records. What events say that are gone cannot be compared.
fn check_parts(
    file: &Sealed<'_>,
    parts: &[&[u8]],
    gathered: &Gathered,
    gone: u64,
    log: &mut Log,
) -> Read<()> {
    let wrong = |place: usize| {
        Err(format!(
            "{}: part {place} is not what the records give",
            file.name
        ))
    };
    if parts[1] != gathered.controls {
        return wrong(1);
    }
    let mut sessions = BTreeMap::new();
    let mut keys = Vec::new();
    for entry in parts[2].chunks(20) {
        let mut fields = Fields(entry);
        let key: [u8; 16] = fields.array()?;
        keys.push(key);
        sessions.insert(key, fields.u32()?);
    }
    // A session is listed where its first event was. Where events are gone, it may be listed for one of them.
    let mut here = 0;
    for (session, owner) in &gathered.sessions {
        let key = print_of_session(&file.store, session);
        let earlier = log.owners.get(&key);
        here += u64::from(earlier.is_none());
        if earlier.or(sessions.get(&key)) != Some(owner) {
            return wrong(2);
        }
    }
    let twice = keys.iter().any(|key| log.owners.contains_key(key));
    if twice || sessions.len() != keys.len() || !keys.is_sorted() || keys.len() as u64 > here + gone
    {
        return wrong(2);
    }
    let mut ids = gathered.ids.clone();
    ids.sort_unstable();
    let expected: Vec<u8> = ids.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    if parts[3] != expected {
        return wrong(3);
    }
    let hashes: Vec<u64> = keys
        .iter()
        .map(|key| mix(Fields(key).u64().unwrap()))
        .collect();
    if parts[4] != filter_of(&hashes) {
        return wrong(4);
    }
    let hashes: Vec<u64> = ids.iter().map(|entry| mix(entry >> 22)).collect();
    if parts[5] != filter_of(&hashes) {
        return wrong(5);
    }
    let mut before = None;
    let (mut kept, mut sums) = (BTreeMap::new(), [0; 4]);
    for entry in parts[8].chunks(64) {
        let mut fields = Fields(entry);
        let key = (fields.u32()?, fields.u32()?);
        let [stored, duplicates, rejected, erased, expired, lost, bytes] = {
            let mut counts = [0; 7];
            for count in &mut counts {
                *count = fields.u64()?;
            }
            counts
        };
        let there = stored - erased - expired - lost;
        if there > 0 {
            kept.insert(key, [there, bytes]);
        }
        let refused = gathered.refused.get(&key).copied().unwrap_or_default();
        let all_there = there == stored && refused != [duplicates, rejected];
        if before >= Some(key) || there == 0 && bytes != 0 || gone == 0 && all_there {
            return wrong(8);
        }
        before = Some(key);
        for (sum, count) in sums[1..].iter_mut().zip([erased, expired, lost]) {
            *sum += count;
        }
    }
    if kept != gathered.ledger || sums != gathered.gone {
        return wrong(8);
    }
    log.owners.extend(sessions);
    Ok(())
}

fn check_figures(
    file: &Sealed<'_>,
    blocks: &[BlockEntry],
    gathered: &Gathered,
    frame_times: &[i64],
) -> Read<()> {
    let [events, first, last, least, greatest] = file.trailer.figures;
    let instants = (first.cast_signed(), last.cast_signed());
    let times = (least.cast_signed(), greatest.cast_signed());
    let is_there = |entry: Option<&BlockEntry>| entry.is_some_and(|entry| entry.gone == 0);
    let begins = !is_there(blocks.first()) || frame_times.first() == Some(&instants.0);
    let ends = !is_there(blocks.last()) || frame_times.last() == Some(&instants.1);
    if events != gathered.events || times != (gathered.least, gathered.greatest) || !begins || !ends
    {
        return Err(format!(
            "{}: the trailer is not what the records give",
            file.name
        ));
    }
    Ok(())
}

fn seals(part: &[u8]) -> Read<Vec<Seal>> {
    let one = |bytes: &[u8]| {
        let mut fields = Fields(bytes);
        Ok(Seal {
            first: fields.u64()?,
            end: fields.u64()?,
            root: fields.array()?,
            previous: fields.array()?,
            bytes: bytes.to_vec(),
        })
    };
    part.chunks(80).map(one).collect()
}

/// Reads part 7, and compares every block's hash with the one it must have now.
fn changes(
    part: &[u8],
    blocks: &[BlockEntry],
    now: &BTreeMap<u64, [u8; 32]>,
    name: &str,
) -> Read<Vec<Change>> {
    let mut changed: BTreeMap<u64, ([u8; 32], u64)> = BTreeMap::new();
    for bytes in part.chunks(48) {
        let mut fields = Fields(bytes);
        let first = fields.u64()?;
        if changed
            .last_key_value()
            .is_some_and(|(last, _)| *last >= first)
        {
            return Err(format!("{name}: changes out of order"));
        }
        changed.insert(first, (fields.array()?, fields.u64()?));
    }
    let known: BTreeSet<u64> = blocks.iter().map(|entry| entry.first).collect();
    if let Some(first) = changed.keys().find(|first| !known.contains(first)) {
        return Err(format!("{name}: a change of no block, {first}"));
    }
    let mut changes = Vec::new();
    for entry in blocks {
        let change = changed.get(&entry.first);
        let expected = change.map_or(entry.hash, |(hash, _)| *hash);
        if now[&entry.first] != expected || entry.gone != 0 && change.is_none() {
            return Err(format!(
                "{name}: damage: hash of the block of record {}",
                entry.first
            ));
        }
        changes.extend(change.map(|(hash, why)| Change {
            first: entry.first,
            sealed: entry.hash,
            now: *hash,
            why: *why,
        }));
    }
    Ok(changes)
}
