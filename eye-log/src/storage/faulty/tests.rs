//! A disk that is to break a log must itself do what it says: no more harm than announced, and no less.

#![allow(clippy::unwrap_used)]

use super::*;

const SEEDS: u64 = 200;

/// A disk with a synced file of 16 KiB of ones, and four unsynced writes of 4 KiB of twos over it.
fn overwritten() -> Faulty {
    let disk = Faulty::default();
    let file = disk.create("one").unwrap();
    file.write_at(&[1; 16384], 0).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    for number in 0..4 {
        file.write_at(&[2; 4096], number * 4096).unwrap();
    }
    disk
}

fn after_cut(seed: u64, retention: Retention) -> Vec<u8> {
    let disk = overwritten();
    disk.power_cut(seed, retention);
    disk.bytes("one").unwrap()
}

#[test]
fn what_was_synced_stays_in_every_mode() {
    for retention in Retention::ALL {
        for seed in 0..SEEDS {
            let disk = overwritten();
            disk.open("one").unwrap().sync().unwrap();
            disk.power_cut(seed, retention);
            assert_eq!(disk.bytes("one").unwrap(), [2; 16384]);
        }
    }
}

#[test]
fn a_prefix_is_cut_at_any_byte() {
    let kept: BTreeSet<usize> = (0..SEEDS)
        .map(|seed| {
            let bytes = after_cut(seed, Retention::Prefix);
            let kept = bytes.iter().take_while(|byte| **byte == 2).count();
            assert!(bytes[kept..].iter().all(|byte| *byte == 1), "seed {seed}");
            kept
        })
        .collect();
    assert!(kept.contains(&16384));
    assert!(kept.iter().any(|bytes| bytes % SECTOR_BYTES != 0));
    assert!(kept.len() > 50, "{kept:?}");
}

#[test]
fn a_subset_is_of_whole_units_with_holes() {
    for (retention, unit) in [
        (Retention::Subset, SECTOR_BYTES),
        (Retention::Pages, PAGE_BYTES),
    ] {
        let mut holes = 0;
        for seed in 0..SEEDS {
            let bytes = after_cut(seed, retention);
            let units: Vec<u8> = bytes.chunks(unit).map(|unit| unit[0]).collect();
            for (unit, first) in bytes.chunks(unit).zip(&units) {
                assert!(unit.iter().all(|byte| byte == first), "seed {seed}");
            }
            holes += usize::from(units.windows(2).any(|pair| pair == [1, 2]));
        }
        assert!(holes > 50, "{retention:?}: {holes}");
    }
}

#[test]
fn names_that_were_not_synced_may_be_kept_or_lost() {
    for retention in Retention::ALL {
        let (mut created, mut moved, mut removed) = ([0; 2], [0; 2], [0; 2]);
        for seed in 0..SEEDS {
            let disk = Faulty::default();
            for name in ["synced", "old", "gone"] {
                disk.create(name).unwrap();
            }
            disk.sync_names().unwrap();
            disk.create("new").unwrap();
            disk.rename("old", "moved").unwrap();
            disk.remove("gone").unwrap();
            disk.power_cut(seed, retention);
            let names = disk.list().unwrap();
            let there = |name: &str| names.iter().any(|other| other == name);
            assert!(there("synced"));
            assert!(there("old") != there("moved"), "a rename is whole");
            created[usize::from(there("new"))] += 1;
            moved[usize::from(there("moved"))] += 1;
            removed[usize::from(!there("gone"))] += 1;
            if retention == Retention::Prefix {
                // What came later is not there without what came before.
                assert!(there("new") || !there("moved"));
                assert!(there("moved") || there("gone"));
            }
        }
        for counts in [created, moved, removed] {
            assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
        }
    }
}

#[test]
fn a_sync_that_lies_is_seen_through_past_the_cache_only() {
    let disk = overwritten();
    let file = disk.open("one").unwrap();
    disk.next_sync_lies();
    file.sync().unwrap_err();
    // The next one says that all is well, and makes nothing durable.
    file.sync().unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [2]);
    disk.process_ends();
    disk.open_direct("one")
        .unwrap()
        .read_at(&mut byte, 0)
        .unwrap();
    assert_eq!(byte, [1]);
    disk.power_cut(0, Retention::Prefix);
    assert_eq!(disk.bytes("one").unwrap(), [1; 16384]);
}

#[test]
fn a_power_cut_shows_what_a_lie_hid() {
    let disk = overwritten();
    disk.next_sync_lies();
    disk.open("one").unwrap().sync().unwrap_err();
    disk.power_cut(0, Retention::Pages);
    assert_eq!(disk.bytes("one").unwrap(), [1; 16384]);
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = Faulty::default();
    let file = disk.create("one").unwrap();
    disk.set_capacity(Some(1000));
    file.write_at(&[1; 900], 0).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 100);
    let full = file.write_at(&[2; 300], 900).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.size().unwrap(), 1000);
    assert_eq!(disk.used_bytes(), 1000);
    // Writing over what is there needs no room.
    file.write_at(&[3; 1000], 0).unwrap();
}

#[test]
fn every_kind_of_call_can_fail_once_and_is_counted() {
    type Call = fn(&Faulty, &dyn StorageFile) -> io::Result<()>;
    let calls: [Call; 7] = [
        |_, file| file.write_at(&[1; 8], 0),
        |_, file| file.sync(),
        |_, file| file.set_size(3),
        |disk, _| disk.sync_names(),
        |disk, _| disk.create("two").map(drop),
        |disk, _| disk.rename("one", "three"),
        |disk, _| disk.remove("one"),
    ];
    for (number, call) in calls.iter().enumerate() {
        let disk = Faulty::default();
        let file = disk.create("one").unwrap();
        assert_eq!(disk.calls(), 1);
        disk.fails_at(2);
        call(&disk, file.as_ref()).unwrap_err();
        assert_eq!(disk.calls(), 2, "call {number}");
        call(&disk, file.as_ref()).unwrap();
        assert_eq!(disk.calls(), 3, "call {number}");
    }
}

#[test]
fn nothing_works_from_the_call_on_at_which_the_power_goes() {
    let disk = Faulty::default();
    let file = disk.create("one").unwrap();
    file.write_at(&[1; 4096], 0).unwrap();
    disk.power_goes_at(3);
    file.sync().unwrap_err();
    assert!(disk.power_is_gone());
    file.write_at(&[2; 8], 0).unwrap_err();
    file.read_at(&mut [0], 0).unwrap_err();
    disk.list().unwrap_err();
    disk.open("one").unwrap_err();
    assert_eq!(disk.calls(), 3);
    disk.power_cut(0, Retention::Prefix);
    disk.create("two").unwrap();
}

#[test]
fn a_write_that_fails_may_have_written_some_of_it() {
    let disk = Faulty::default();
    let file = disk.create("one").unwrap();
    disk.fails_at(2);
    file.write_at(&[1; 100], 0).unwrap_err();
    assert_eq!(disk.bytes("one").unwrap(), [1; 50]);
}

#[test]
fn every_handle_is_told_once_that_what_was_written_is_lost() {
    let disk = Faulty::default();
    let file = disk.create("one").unwrap();
    file.write_at(&[1; 100], 0).unwrap();
    file.sync().unwrap();
    let before = disk.open("one").unwrap();
    file.write_at(&[2; 100], 0).unwrap();
    disk.write_back_fails("one");
    let after = disk.open("one").unwrap();
    assert_eq!(disk.bytes("one").unwrap(), [2; 100], "the cache pretends");
    for handle in [&file, &before] {
        handle.sync().unwrap_err();
        handle.sync().unwrap();
    }
    after.sync().unwrap();
    disk.open_direct("one").unwrap();
    assert_eq!(disk.bytes("one").unwrap(), [1; 100]);
}

#[test]
fn a_dropped_write_is_seen_until_the_disk_is_asked() {
    let disk = Faulty::default();
    let file = disk.create("one").unwrap();
    file.write_at(&[1; 100], 0).unwrap();
    disk.drops_next_write_of("one");
    disk.create("two").unwrap().write_at(&[3; 9], 0).unwrap();
    file.write_at(&[2; 100], 100).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.bytes("one").unwrap()[100..], [2; 100]);
    let mut read = [7; 200];
    let direct = disk.open_direct("one").unwrap();
    direct.read_at(&mut read, 0).unwrap();
    assert_eq!(
        (read[..100] == [1; 100], read[100..] == [0; 100]),
        (true, true)
    );
}
