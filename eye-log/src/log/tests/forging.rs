//! Footers that were written anew, with checksums that hold, to say something else than the blocks do: whoever can write a file
//! can do that, and verifying has to notice.

use std::sync::Arc;

use super::*;
use crate::files::MANIFESTS;
use crate::format::file_name::SealedName;
use crate::format::manifest::Manifest;
use crate::format::sealed_footer::{Footer, IdEntry, LedgerEntry, Summary};
use crate::sealed::{SealedFile, SealedShared};
use crate::storage::Disk;

/// A closed log whose first sealed file has everything that a footer can list.
fn log_of_all(folder: &Path) {
    let (log, _) = Log::open(folder, small()).unwrap();
    let name = "shop".to_owned();
    change(&log, Change::RegisterApplication { name, token: None }).unwrap();
    for number in 0..400u128 {
        let data = format!("{{\"x\":\"{}\"}}", "y".repeat(300));
        let owner = u32::try_from(number % 2).unwrap();
        let mut batch = Batch::new(ApplicationId(owner));
        push(&mut batch, number % 50, Some(1000 + number), &data);
        if number % 9 == 0 {
            // Known already, in a request that stores another.
            push(&mut batch, number % 50, Some(1000 + number), &data);
        }
        append(&log, batch).unwrap();
    }
    log.close();
}

/// Writes the footer of the first sealed file anew, and the manifest that names it.
fn forge(folder: &Path, change: impl Fn(&mut Footer, &mut Summary)) {
    let path = |name: &str| folder.join(name);
    let mut manifests = MANIFESTS.map(|name| {
        let bytes = std::fs::read(path(name)).unwrap();
        Manifest::decode(&bytes).unwrap()
    });
    let entry = manifests[0].files[0];
    let name = SealedName {
        base: entry.base,
        end: entry.end,
        generation: entry.generation,
    };
    let storage = Disk::read_only(folder);
    let file = SealedFile::open(&storage, &name, Arc::new(SealedShared::default())).unwrap();
    let mut summary = file.trailer.summary;
    let mut footer = Footer {
        blocks: file.blocks().unwrap().to_vec(),
        controls: file.controls().unwrap(),
        sessions: file.session_entries().unwrap(),
        ids: file.with_ids(|ids| ids.collect::<Vec<IdEntry>>()).unwrap(),
        seals: file.seals().unwrap(),
        changes: file.changes().unwrap(),
        ledger: file.ledger().unwrap(),
    };
    change(&mut footer, &mut summary);
    let path = path(&name.to_string());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(usize::try_from(file.trailer.summary.blocks_end).unwrap());
    let (salt, blocks_end) = (file.header.salt, bytes.len());
    let mut push = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    footer.write(&summary, salt, &mut push).unwrap();
    assert!(bytes.len() > blocks_end);
    std::fs::write(&path, &bytes).unwrap();
    let forged = SealedFile::open(&storage, &name, Arc::new(SealedShared::default())).unwrap();
    for (manifest, name) in manifests.iter_mut().zip(MANIFESTS) {
        manifest.files[0].trailer_checksum = forged.trailer.checksum;
        manifest.files[0].file_bytes = bytes.len() as u64;
        std::fs::write(folder.join(name), manifest.encode()).unwrap();
    }
}

#[test]
fn a_footer_that_says_something_else_than_its_blocks_is_noticed() {
    type Forgery = fn(&mut Footer, &mut Summary);
    fn ledger(footer: &mut Footer) -> &mut LedgerEntry {
        let mut entries = footer.ledger.iter_mut();
        entries
            .find(|entry| entry.duplicates > 0 && entry.stored > 0)
            .unwrap()
    }
    let forgeries: [(&str, Forgery); 18] = [
        ("", |_, _| ()),
        ("another owner of its session", |footer, _| {
            footer.sessions[7].application = ApplicationId(footer.sessions[7].application.0 ^ 1);
        }),
        ("no footer lists its session", |footer, _| {
            footer.sessions.remove(20);
        }),
        ("sessions are not sorted", |footer, _| {
            footer.sessions.swap(3, 4)
        }),
        ("does not list the ids of the events", |footer, _| {
            footer.ids.remove(11);
        }),
        ("does not list the ids of the events", |footer, _| {
            let last = footer.ids.last().copied().unwrap();
            footer.ids.push(last);
        }),
        ("ids are not sorted", |footer, _| footer.ids.swap(5, 6)),
        ("does not list the control records", |footer, _| {
            footer.controls.clear()
        }),
        ("ledger does not add up to the events", |footer, _| {
            ledger(footer).stored += 1
        }),
        ("ledger does not add up to the events", |footer, _| {
            ledger(footer).bytes -= 1
        }),
        ("ledger does not add up to the events", |footer, _| {
            ledger(footer).erased += 1
        }),
        ("add up to what came to nothing", |footer, _| {
            ledger(footer).duplicates += 1
        }),
        ("add up to what came to nothing", |footer, _| {
            ledger(footer).rejected += 1
        }),
        ("the footer counts", |_, summary| summary.events += 1),
        ("the footer's times", |_, summary| {
            summary.min_timestamp -= 1
        }),
        ("the footer's times", |_, summary| {
            summary.max_timestamp += 1
        }),
        ("block's hash is not the one in the footer", |footer, _| {
            footer.blocks[0].hash[31] ^= 1;
        }),
        ("the seal of records", |footer, _| {
            footer.seals[0].root[0] ^= 1
        }),
    ];
    let original = tempfile::tempdir().unwrap();
    log_of_all(original.path());
    no_damage(original.path());
    for (place, (expected, forgery)) in forgeries.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(original.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        forge(folder.path(), forgery);
        let damage = verified(folder.path()).damage;
        if expected.is_empty() {
            assert_eq!(damage, [], "what was written anew as it was");
        } else {
            let told = damage.iter().any(|damage| damage.what.contains(expected));
            assert!(told, "forgery {place}: {expected} is not among {damage:?}");
        }
    }
}
