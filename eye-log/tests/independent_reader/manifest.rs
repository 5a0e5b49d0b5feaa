//! The manifest: two copies, the newer one that holds counts.

use super::Files;
use super::bytes::{Fields, Read, crc32};

pub(crate) struct Manifest {
    sequence: u64,
    pub(crate) store: [u8; 16],
    pub(crate) durable_end: u64,
    pub(crate) files: Vec<Entry>,
}

pub(crate) struct Entry {
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) file_bytes: u64,
    pub(crate) generation: u32,
    pub(crate) trailer_checksum: u32,
}

/// Returns the copy that counts, none in a new log or in one from before there were manifests, and how many do not hold.
pub(crate) fn read(files: &Files) -> Read<(Option<Manifest>, usize)> {
    let copies: Vec<_> = ["manifest-0", "manifest-1"]
        .iter()
        .filter_map(|name| files.get(*name))
        .map(|bytes| copy(bytes))
        .collect();
    let there = copies.len();
    let unreadable = copies.iter().filter(|copy| copy.is_err()).count();
    let best = copies
        .into_iter()
        .flatten()
        .max_by_key(|copy| copy.sequence);
    let sealed = files.keys().any(|name| name.ends_with(".sealed"));
    let torn_when_new = there == 1 && files.contains_key("00000000000000000000.seg");
    if best.is_none() && (sealed || there > 0 && !torn_when_new) {
        return Err("damage: no manifest".to_owned());
    }
    Ok((best, unreadable))
}

fn copy(bytes: &[u8]) -> Read<Manifest> {
    let mut fields = Fields(bytes);
    let magic = fields.take(8)?;
    let (sequence, store, durable_end) = (fields.u64()?, fields.array()?, fields.u64()?);
    let count = fields.u32()? as usize;
    let content = bytes.len().checked_sub(4).ok_or("too short")?;
    let holds = magic == b"EYEMANI1"
        && bytes.len() == 48 + 40 * count + 4
        && Fields(&bytes[content..]).u32()? == crc32(0, &bytes[..content]);
    if !holds {
        return Err("no manifest".to_owned());
    }
    let (mut files, mut expected) = (Vec::new(), 0);
    for bytes in bytes[48..content].chunks(40) {
        let mut fields = Fields(bytes);
        let entry = Entry {
            base: fields.u64()?,
            end: fields.u64()?,
            file_bytes: fields.u64()?,
            generation: fields.u32()?,
            trailer_checksum: fields.u32()?,
        };
        if entry.base != expected || entry.end <= entry.base {
            return Err(format!("files do not go on at {expected}"));
        }
        expected = entry.end;
        files.push(entry);
    }
    Ok(Manifest {
        sequence,
        store,
        durable_end,
        files,
    })
}
