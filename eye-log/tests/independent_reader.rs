//! A reader of the log written from `docs/log-format.md` alone, to show that the document is enough: std, zstd, BLAKE3,
//! JSON for what comes out, and nothing of ours. Its tests hold it against logs that were kept, and against new ones.
//!
//! What must stay true: when this and the document differ, one of them is fixed; the code is never looked up here.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

#[path = "independent_reader/bytes.rs"]
mod bytes;
#[path = "independent_reader/manifest.rs"]
mod manifest;
#[path = "independent_reader/raw.rs"]
mod raw;
#[path = "independent_reader/records.rs"]
mod records;
#[path = "independent_reader/sealed.rs"]
mod sealed;
#[path = "independent_reader/seals.rs"]
mod seals;

use bytes::{Read, crc32, hex, mix, uuid};
use records::{Decoded, What};

/// A folder: names and content.
type Files = BTreeMap<String, Vec<u8>>;

/// What a log says.
#[derive(Default)]
struct Log {
    records: Vec<Value>,
    /// Frames of raw segments.
    frames: Vec<Value>,
    /// Names of the sealed files.
    sealed: Vec<String>,
    /// Copies of the manifest that do not hold.
    unreadable: usize,
    /// Where the last segment was torn.
    torn: Option<usize>,
    /// Bytes of which the document says that they may hold anything.
    free: BTreeSet<(String, usize)>,
    /// What stands for the sessions in the tables so far, and their owners.
    owners: BTreeMap<[u8; 16], u32>,
    /// Erasures that were asked for and are not done.
    erasures: BTreeMap<[u8; 16], Vec<(u64, u64)>>,
    chain: seals::Chain,
    /// The hash of the last seal.
    head: Option<[u8; 32]>,
}

impl Log {
    fn take(&mut self, record: Decoded) {
        let offset = record.line["offset"].as_u64().unwrap();
        match record.what {
            What::Maintenance { blocks } => {
                self.chain.maintenance.insert(offset, blocks);
            }
            What::Erasure { id, ranges } if record.line["done"] == false => {
                self.erasures.insert(id, ranges);
            }
            What::Erasure { id, .. } => {
                self.erasures.remove(&id);
            }
            What::Event { .. } | What::Gone(_) | What::Other => {}
        }
        self.records.push(record.line);
    }

    /// What two reads of the same log must agree in.
    fn said(&self) -> impl PartialEq {
        (
            self.records.clone(),
            self.frames.clone(),
            self.sealed.clone(),
            self.unreadable,
            self.torn,
            self.head,
        )
    }
}

fn read_log(files: &Files) -> Read<Log> {
    let mut log = Log::default();
    let (manifest, unreadable) = manifest::read(files)?;
    log.unreadable = unreadable;
    let mut store = manifest.as_ref().map(|manifest| manifest.store);
    let (mut expected, mut durable_end) = (0, 0);
    if let Some(manifest) = &manifest {
        durable_end = manifest.durable_end;
        for entry in &manifest.files {
            expected = sealed::read(files, entry, manifest.store, &mut log)?;
        }
    }
    let sealed_end = expected;
    let raw: Vec<(&String, u64)> = files
        .keys()
        .filter_map(|name| raw::base_in_name(name).map(|base| (name, base)))
        .filter(|(_, base)| *base >= sealed_end)
        .collect();
    if raw.is_empty() && (manifest.is_some() || !files.is_empty()) {
        return Err(format!("damage: no segment of record {sealed_end}"));
    }
    for (place, (name, _)) in raw.iter().enumerate() {
        let (segment, of_store) = raw::segment_header(name, &files[*name])?;
        if segment.base != expected || *store.get_or_insert(of_store) != of_store {
            return Err(format!("{name}: damage: not the next segment"));
        }
        let next = raw.get(place + 1).map(|(_, base)| *base);
        expected = raw::read_segment(&segment, next, durable_end, &mut log)?;
    }
    let hashes = log.chain.verify(store.unwrap_or_default(), sealed_end)?;
    log.head = hashes.last().copied();
    Ok(log)
}

// ---- From here on tests. ----

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/v{version}"))
}

/// The format versions of raw segments.
const RAW: [u32; 2] = [1, 3];

#[test]
fn a_reader_made_from_the_document_alone_agrees_with_ours() {
    for version in RAW {
        let read = read_log(&files_of(&fixture(version).join("log"))).unwrap();
        assert_eq!(read.records, lines(version, "expected.ndjson"));
        assert_eq!(read.frames, lines(version, "frames.ndjson"));
        assert_eq!((read.sealed.len(), read.torn), (0, None));
    }
}

/// "What nothing checks" in the document is all that nothing checks.
#[test]
fn every_flipped_bit_is_noticed_unless_the_document_calls_it_free() {
    for version in RAW {
        flip_bits(&files_of(&fixture(version).join("log")), 31);
    }
}

fn flip_bits(files: &Files, step: usize) {
    let sound = read_log(files).unwrap();
    let mut changed = files.clone();
    for (name, bytes) in files {
        // Every place of a structure is hit, since their sizes and this step have no common factor.
        for position in (0..bytes.len()).step_by(step) {
            let flip = |files: &mut Files| {
                files.get_mut(name).unwrap()[position] ^= 1 << (position % 8);
            };
            flip(&mut changed);
            let free = sound.free.contains(&(name.clone(), position));
            let unnoticed = read_log(&changed).is_ok_and(|read| read.said() == sound.said());
            assert_eq!(unnoticed, free, "{name}, byte {position}");
            flip(&mut changed);
        }
    }
}

fn open(folder: &Path) -> eye_log::Log {
    let config = eye_log::LogConfig {
        segment_max_bytes: 16 << 10,
        ..eye_log::LogConfig::default()
    };
    eye_log::Log::open(folder, config).unwrap().0
}

/// A copy of the log of version 3, whose closed segments opening seals.
fn sealed_copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files_of(&fixture(3).join("log")) {
        std::fs::write(copy.path().join(name), bytes).unwrap();
    }
    open(copy.path()).close();
    copy
}

#[test]
fn sealed_files_say_what_their_raw_segments_said() {
    let copy = sealed_copy();
    let files = files_of(copy.path());
    let read = read_log(&files).unwrap();
    assert_eq!(read.records, lines(3, "expected.ndjson"));
    assert_eq!((read.sealed.len(), read.chain.seals.len()), (2, 2));
    assert_eq!((read.torn, read.unreadable), (None, 0));
    flip_bits(&files, 31);

    // Either copy of the manifest is enough; none is damage, and so is a file that it names and that is not there.
    for name in ["manifest-0", "manifest-1"] {
        let mut fewer = files.clone();
        fewer.remove(name);
        assert_eq!(read_log(&fewer).unwrap().records, read.records);
        fewer.retain(|name, _| !name.starts_with("manifest"));
        assert!(read_log(&fewer).is_err());
    }
    for name in read.sealed {
        let mut fewer = files.clone();
        fewer.remove(&name);
        assert!(read_log(&fewer).is_err(), "{name}");
    }
}

/// Erases, in a copy of the log of version 3, the events of a session, and then everything that is left of a segment;
/// then the log goes on. `look` sees the log after each erasure with the offsets that are gone.
fn erase_in(copy: &Path, look: &mut dyn FnMut(&Log, &BTreeSet<u64>)) {
    let before = lines(3, "expected.ndjson");
    let log = open(copy);
    let session = before.iter().find_map(|line| line["session_id"].as_str());
    let session = session.unwrap();
    let of_session = before.iter().filter(|line| line["session_id"] == session);
    let mut gone = BTreeSet::new();
    for offsets in [
        of_session.map(offset_of).collect(),
        (40..60).collect::<Vec<u64>>(),
    ] {
        gone.extend(offsets.iter().copied());
        let request = eye_log::EraseRequest {
            id: ::uuid::Uuid::new_v4(),
            by: eye_log::Actor::default(),
            filter: log.erasure_filter("test"),
            sessions: vec![session.parse().unwrap()],
            ranges: offsets.iter().map(|offset| *offset..offset + 1).collect(),
        };
        let id = log.erase(request).unwrap().id;
        let hidden = read_beside(copy);
        let ranges = hidden.erasures.values().flatten();
        let lengths = ranges.map(|(first, end)| end - first);
        assert_eq!(lengths.sum::<u64>(), offsets.len() as u64);

        let what = eye_log::compaction::Compaction::default();
        log.compact(&what, &mut |_, _| true).unwrap();
        let certificate = "{}".to_owned();
        log.complete_erasure(id, eye_log::Actor::default(), certificate)
            .unwrap();
        let after = read_beside(copy);
        assert_eq!(after.erasures.len(), 0, "all are done");
        look(&after, &gone);
    }
    log.close();
}

/// Reads a log beside its writer: where a file has gone meanwhile, it begins again.
fn read_beside(folder: &Path) -> Log {
    let mut tries = 0;
    loop {
        match try_files_of(folder)
            .map_err(|error| error.to_string())
            .and_then(|files| read_log(&files))
        {
            Ok(log) => return log,
            Err(error) if tries == 100 => panic!("{error}"),
            Err(_) => tries += 1,
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn what_was_erased_is_gone_and_the_chain_still_verifies() {
    let copy = sealed_copy();
    let before = read_log(&files_of(copy.path())).unwrap();
    erase_in(copy.path(), &mut |after, gone| {
        for (line, was) in after.records.iter().zip(&before.records) {
            match gone.contains(&offset_of(was)) {
                true => assert_eq!(
                    (&line["kind"], &line["reason"]),
                    (&"gone".into(), &1.into())
                ),
                false => assert_eq!(line, was),
            }
        }
        let kept: Vec<_> = after.chain.seals.iter().map(|seal| &seal.bytes).collect();
        let seals: Vec<_> = before.chain.seals.iter().map(|seal| &seal.bytes).collect();
        assert!(kept.starts_with(&seals), "seals are made once");
        assert!(!after.chain.changes.is_empty());
    });
    let read = read_log(&files_of(copy.path())).unwrap();
    let ranges = read.chain.blocks.iter().filter(|entry| entry.gone == 1);
    let ranges: Vec<_> = ranges.map(|entry| (entry.first, entry.count)).collect();
    assert_eq!(ranges, [(40, 20)], "a whole seal");
}

/// Sealed files whose footers were damaged, written anew from their blocks alone: all is there but the seals.
#[test]
fn a_repaired_log_reads_as_it_was_written() {
    let copy = sealed_copy();
    for (name, mut bytes) in files_of(copy.path()) {
        if name.ends_with(".sealed") {
            let trailer = bytes.len() - 100;
            bytes[trailer] ^= 1;
            std::fs::write(copy.path().join(name), bytes).unwrap();
        }
    }
    assert!(read_log(&files_of(copy.path())).is_err());
    let report = eye_log::repair::repair(copy.path(), &mut |_| ()).unwrap();
    assert_eq!(report.lost, []);
    let mut files = files_of(copy.path());
    files.retain(|name, _| !name.starts_with("damaged-"));
    let read = read_log(&files).unwrap();
    let expected = lines(3, "expected.ndjson");
    assert_eq!(read.records[..expected.len()], expected);
    assert!(read.chain.seals.iter().all(|seal| seal.root == [0; 32]));
}

#[test]
fn the_fixture_of_version_2_reads_as_it_was_written() {
    let files = files_of(&fixture(2).join("log"));
    let read = read_log(&files).unwrap();
    assert_eq!(read.records, lines(2, "expected.ndjson"));
    let head = std::fs::read_to_string(fixture(2).join("head")).unwrap();
    assert_eq!(hex(&read.head.unwrap()), head.trim());
    flip_bits(&files, 13);
}

/// Written once, and never again: what comes later gets a folder of its own.
#[test]
#[ignore = "writes fixtures/v2 where there is none"]
fn write_the_fixture_of_version_2() {
    let copy = sealed_copy();
    erase_in(copy.path(), &mut |_, _| ());
    std::fs::create_dir(fixture(2)).unwrap();
    std::fs::create_dir(fixture(2).join("log")).unwrap();
    let files = files_of(copy.path());
    let read = read_log(&files).unwrap();
    for (name, bytes) in files {
        std::fs::write(fixture(2).join("log").join(name), bytes).unwrap();
    }
    let lines: String = read
        .records
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(fixture(2).join("expected.ndjson"), lines).unwrap();
    let head = format!("{}\n", hex(&read.head.unwrap()));
    std::fs::write(fixture(2).join("head"), head).unwrap();
}

fn offset_of(line: &Value) -> u64 {
    line["offset"].as_u64().unwrap()
}

#[test]
fn damage_and_a_torn_tail_are_told_apart() {
    RAW.into_iter().for_each(told_apart);
}

fn told_apart(version: u32) {
    let files = files_of(&fixture(version).join("log"));
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
        let error = read_log(&changed).err().unwrap();
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
    assert!(read_log(&longer).unwrap().said() == sound.said());
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
    let store = 0x0123_4567_89ab_4def_8123_4567_89ab_cdef_u128.to_be_bytes();
    let session = 0xe208_5be5_9137_4e4e_80b5_f1ff_ddc2_5423_u128.to_be_bytes();
    let key = sealed::print_of_session(&store, &session);
    let print = sealed::print_of_id(&store, 7, &session);
    assert_eq!(hex(&key), "7bd11ff07d59e76fdf1ffd129fa9ef3a");
    assert_eq!(format!("{print:011x}"), "3718d7a6631");
    let of_key = mix(bytes::Fields(&key).u64().unwrap());
    let session_place = (256, [139, 275, 324, 335, 340, 459]);
    let id_place = (512, [202, 336, 356, 375, 484, 505]);
    let sorted = |(start, mut bits): (usize, [usize; 6])| {
        bits.sort_unstable();
        (start, bits)
    };
    assert_eq!(sorted(sealed::filter_place(of_key, 10)), session_place);
    assert_eq!(sorted(sealed::filter_place(mix(print), 10)), id_place);
    let made = records::server_made_id(1_609_492_527_243_860, 77);
    assert_eq!(uuid(&made), "0176bd3a-f88b-735c-8000-00000000004d");
    let hash = records::content_hash(&session, 1_609_492_527_243_860, "c", "é", "{\"a\": 1}");
    assert_eq!(hex(&hash), "1bfcd59785bdfb8a3a5cd81a0d6f8000");
}

fn files_of(folder: &Path) -> Files {
    try_files_of(folder).unwrap()
}

/// The files that may be part of the log.
fn try_files_of(folder: &Path) -> std::io::Result<Files> {
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".seg") || name.ends_with(".sealed") || name.starts_with("manifest-") {
            files.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(files)
}

fn lines(version: u32, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture(version).join(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
