//! Every bit of a small log, flipped: noticed, or in bytes that `docs/log-format.md` lists as free; never served.
//!
//! The short form flips some bits. The full one: `EYE_BIT_STEP=1 cargo test --release -p eye-log --test crashes bits`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use eye_log::storage::Storage as _;
use eye_log::storage::faulty::Faulty;
use eye_log::{Log, StoredEvent, verify};

use crate::model::{Story, open};
use crate::number;

/// What a log says, when it opens.
#[derive(Debug, Default)]
struct Said {
    /// By offset: the event, none, or that it cannot be read.
    events: BTreeMap<u64, Result<Option<StoredEvent>, String>>,
    registry: String,
}

/// What came of a flip.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Noticed,
    Unnoticed,
}

fn say(log: &Log) -> Said {
    let reader = log.reader();
    let events = (0..reader.durable_end())
        .map(|offset| {
            let read = reader.read_many(&[offset]);
            let event = read.map(|events| events.into_iter().next().flatten());
            (offset, event.map_err(|error| error.to_string()))
        })
        .collect();
    let registry = log.registry();
    let applications: Vec<_> = registry.applications().collect();
    let tokens: Vec<_> = registry.tokens().collect();
    let registry = format!("{applications:?} {tokens:?}");
    Said { events, registry }
}

/// Opens a log with a flipped bit and holds what it says against what the sound one said. Panics over a lie.
fn judge(disk: &Faulty, expected: &Said, flip: &str) -> Verdict {
    let verified = verify::verify_in(disk, None, &mut |_, _| ()).unwrap();
    let mut noticed = !verified.damage.is_empty() || verified.torn_tail_bytes > 0;
    let Ok((log, report)) = open(disk) else {
        return Verdict::Noticed;
    };
    noticed |=
        report.cut.is_some() || !report.damage.is_empty() || !report.manifests_mended.is_empty();
    let said = say(&log);
    for (offset, event) in &expected.events {
        match (said.events.get(offset), event) {
            (Some(Err(_)), _) => noticed = true,
            // This log was closed in order, so all of it is known to be durable: nothing may be cut as torn.
            (shown, Ok(event)) => assert_eq!(
                shown.map(|shown| shown.as_ref().ok()),
                Some(Some(event)),
                "{flip}: offset {offset}"
            ),
            (_, Err(error)) => panic!("the sound log: {error}"),
        }
    }
    assert!(
        said.events.len() <= expected.events.len() || noticed,
        "{flip}: more records than there were"
    );
    assert_eq!(said.registry, expected.registry, "{flip}: who may do what");
    if noticed {
        Verdict::Noticed
    } else {
        Verdict::Unnoticed
    }
}

/// A closed log with raw segments, sealed files that were merged and rewritten, erased events, and manifests.
fn a_small_log() -> (Faulty, Said) {
    let disk = Faulty::default();
    Story::on(disk.clone(), 9).one_life();
    let (log, report) = open(&disk).unwrap();
    assert_eq!(report.damage, []);
    let expected = say(&log);
    assert!(
        expected
            .events
            .values()
            .any(|event| matches!(event, Ok(Some(_))))
    );
    log.close();
    (disk, expected)
}

fn names_of(disk: &Faulty) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| {
        name.ends_with(".seg") || name.ends_with(".sealed") || name.starts_with("manifest")
    });
    assert!(names.iter().any(|name| name.ends_with(".seg")));
    assert!(names.iter().any(|name| name.ends_with(".sealed")));
    assert!(
        names
            .iter()
            .filter(|name| name.starts_with("manifest"))
            .count()
            == 2
    );
    names
}

#[test]
fn every_flipped_bit_is_noticed_or_free() {
    let (sound, expected) = a_small_log();
    let names = names_of(&sound);
    let step = number("EYE_BIT_STEP", 1009);
    let threads = number("EYE_THREADS", 2);
    let (flipped, free) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (sound, expected, names) = (&sound, &expected, &names);
            let (flipped, free) = (&flipped, &free);
            scope.spawn(move || {
                for name in names {
                    let bytes = sound.bytes(name).unwrap();
                    let free_bytes = free_bytes(name, &bytes);
                    let bits = (thread * step..bytes.len() as u64 * 8)
                        .step_by(usize::try_from(threads * step).unwrap());
                    for bit in bits {
                        let at = usize::try_from(bit / 8).unwrap();
                        let disk = sound.copy();
                        let mut changed = bytes.clone();
                        changed[at] ^= 1 << (bit % 8);
                        disk.put(name, changed);
                        let flip = format!(
                            "{name} of {} bytes, byte {at}, bit {}",
                            bytes.len(),
                            bit % 8
                        );
                        if judge(&disk, expected, &flip) == Verdict::Unnoticed {
                            let listed = free_bytes.iter().any(|range| range.contains(&at));
                            assert!(listed, "{flip}: not noticed");
                            free.fetch_add(1, Ordering::Relaxed);
                        }
                        flipped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    println!("{flipped:?} bits flipped, {free:?} of them free");
    assert!(flipped.into_inner() > 100);
}

/// Puts a file in place of one whose first bit is another: its header does not hold, so it cannot be opened.
fn damage_sealed(disk: &Faulty, name: &str) {
    let mut bytes = disk.bytes(name).unwrap();
    bytes[0] ^= 1;
    disk.put(name, bytes);
}

fn sealed_of(disk: &Faulty) -> Vec<String> {
    let mut names = names_of(disk);
    names.retain(|name| name.ends_with(".sealed"));
    names.sort();
    names
}

/// A damaged sealed file may hold the record that takes a token back, or the first that registers an application. A log
/// that opens without knowing them gives rights that were taken, and numbers applications anew from 0, so that a new
/// one gets the events of an old one.
#[test]
fn a_damaged_file_never_changes_who_may_do_what() {
    let (sound, expected) = a_small_log();
    for name in sealed_of(&sound) {
        let disk = sound.copy();
        damage_sealed(&disk, &name);
        if let Ok((log, report)) = open(&disk) {
            assert!(!report.damage.is_empty());
            assert_eq!(say(&log).registry, expected.registry, "{name}");
        }
    }
}

/// The same for what was asked to be erased and is not gone yet: the event stands in a sound file, the request in a
/// damaged one.
#[test]
fn a_damaged_file_never_brings_back_what_was_erased() {
    let disk = Faulty::default();
    let mut story = Story::on(disk.clone(), 9);
    story.send_some(4);
    story.roll_and_close();
    story.erase();
    story.roll_and_close();
    let (log, report) = open(&disk).unwrap();
    assert_eq!(report.damage, []);
    let sound = say(&log);
    let erased = log.reader().erased();
    assert!(!erased.is_empty(), "something is hidden");
    log.close();
    let names = sealed_of(&disk);
    assert_eq!(names.len(), 2, "{names:?}");
    damage_sealed(&disk, &names[1]);
    if let Ok((log, _)) = open(&disk) {
        let said = say(&log);
        for (offset, event) in sound.events {
            if event == Ok(None) {
                let shown = said
                    .events
                    .get(&offset)
                    .and_then(|shown| shown.as_ref().ok());
                assert!(!matches!(shown, Some(Some(_))), "offset {offset} is back");
            }
        }
    }
}

/// Returns the bytes of a file that the document lists as free.
fn free_bytes(name: &str, bytes: &[u8]) -> Vec<Range<usize>> {
    if name.ends_with(".seg") {
        return padding(bytes, b"EYEF");
    }
    if !name.ends_with(".sealed") {
        return Vec::new();
    }
    let mut free = padding(bytes, b"EYEB");
    // Between the last part of the footer and the trailer. The parts' entry sizes, as the document has them.
    let trailer = bytes.len() - 256;
    let sizes = [64, 8, 20, 8, 64, 64, 80, 48, 64];
    let parts: usize = (0..9)
        .map(|part| sizes[part] * u32_at(bytes, trailer + 72 + part * 4))
        .sum();
    let blocks_end = usize::try_from(u64::from_le_bytes(
        bytes[trailer + 24..trailer + 32].try_into().unwrap(),
    ))
    .unwrap();
    assert!(trailer - (blocks_end + parts) < 8);
    free.push(blocks_end + parts..trailer);
    free
}

/// Up to seven bytes behind each frame or block, all of which begin with `magic`.
fn padding(bytes: &[u8], magic: &[u8; 4]) -> Vec<Range<usize>> {
    let mut padding = Vec::new();
    let mut at = 4096;
    while bytes.get(at..at + 4) == Some(magic) {
        let end = at + 64 + u32_at(bytes, at + 8);
        at = end.next_multiple_of(8);
        padding.push(end..at);
    }
    assert!(!padding.is_empty());
    padding
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}
