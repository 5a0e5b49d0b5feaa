//! The log on a disk that loses power, tears, fails, lies and fills up, against a model of what was acknowledged.
//!
//! The short form runs with the other tests. The full one: `EYE_CRASHES=100000 cargo test --release -p eye-log --test
//! crashes`, with `EYE_SEED=N` to repeat a run.

#![allow(clippy::unwrap_used)]

mod model;

use eye_log::storage::faulty::{Dice, Faulty, Retention};
use eye_log::verify;
use model::{Story, config, open};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Whatever happens, what was acknowledged is there, whole and once; what was not is there whole or not at all.
#[test]
fn nothing_acknowledged_is_lost_whatever_the_disk_does() {
    let seed = number("EYE_SEED", 20_261_124);
    let crashes = number("EYE_CRASHES", 300);
    println!("EYE_SEED={seed} EYE_CRASHES={crashes}");
    let mut done = 0;
    let mut story_seed = seed;
    while done < crashes {
        story_seed += 1;
        let mut story = Story::new(story_seed);
        // A log that lives through some crashes, then a new one.
        for _ in 0..40.min(crashes - done) {
            story.live_and_crash();
            done += 1;
        }
    }
}

/// The power goes at every single call of a life that rolls, seals, merges, expires, erases and closes.
#[test]
fn a_crash_at_every_call_of_the_disk_loses_nothing() {
    let whole = Faulty::default();
    let mut story = Story::on(whole.clone(), 7);
    story.one_life();
    let calls = whole.calls();
    assert!(calls > 100, "{calls}");
    let step = number("EYE_CALL_STEP", 3);
    println!("{calls} calls, every {step}th");
    let mut call = 1;
    while call <= calls {
        for seed in 0..2 {
            let disk = Faulty::default();
            let mut story = Story::on(disk.clone(), 7);
            disk.power_goes_at(call);
            story.one_life();
            let retention = if seed == 0 {
                Retention::Prefix
            } else {
                Retention::Subset
            };
            disk.power_cut(call * 2 + seed, retention);
            story.check(&format!("power went at call {call}, {retention:?}"));
            // Opening after a crash may crash as well.
            let first = disk.calls();
            disk.power_goes_at(first + 1 + call % 5);
            drop(open(&disk));
            disk.power_cut(call * 2 + seed + 1, retention);
            story.check(&format!(
                "power went at call {call} and while opening, {retention:?}"
            ));
        }
        call += step;
    }
}

/// A single failed call never loses what was acknowledged, nor is it forgotten: the log says so and stops, or goes on.
#[test]
fn a_failure_of_every_call_of_the_disk_loses_nothing() {
    let whole = Faulty::default();
    Story::on(whole.clone(), 8).one_life();
    let calls = whole.calls();
    let step = number("EYE_CALL_STEP", 3);
    let mut call = 1;
    while call <= calls {
        let disk = Faulty::default();
        let mut story = Story::on(disk.clone(), 8);
        disk.fails_at(call);
        story.one_life();
        disk.process_ends();
        story.check(&format!("call {call} failed"));
        call += step;
    }
}

/// After a sync that failed, the page cache shows bytes that the disk does not have. They must not be believed.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_not_believed() {
    for seed in 0..number("EYE_LIES", 40) {
        let disk = Faulty::default();
        let mut story = Story::on(disk.clone(), 1000 + seed);
        story.send_some(5);
        disk.next_sync_lies();
        story.send_some(5);
        story.close();
        // The process ends and starts again; the machine does not.
        disk.process_ends();
        story.check(&format!("after a sync that lied, seed {seed}"));
        story.send_some(5);
        story.close();
        disk.power_cut(seed, Retention::Prefix);
        story.check("after a power cut on top");
    }
}

/// A full disk refuses, tears nothing, and takes again as soon as there is room.
#[test]
fn a_full_disk_refuses_and_goes_on() {
    for seed in 0..number("EYE_FULL", 40) {
        let disk = Faulty::default();
        let mut story = Story::on(disk.clone(), 2000 + seed);
        story.send_some(10);
        disk.set_capacity(Some(40_000 + seed * 777));
        for _ in 0..60 {
            story.send_some(1);
        }
        disk.set_capacity(None);
        let before = story.acknowledged();
        story.send_some(3);
        assert!(
            story.acknowledged() > before,
            "seed {seed}: sending goes on"
        );
        story.close();
        disk.power_cut(seed, Retention::Subset);
        story.check(&format!("full disk, seed {seed}"));
    }
}

/// Every bit of a small log, flipped: each flip is noticed, or lies where the document says that bytes are free; and an
/// event that was altered is never shown.
#[test]
fn every_flipped_bit_is_noticed_or_free() {
    let disk = Faulty::default();
    let mut story = Story::on(disk.clone(), 9);
    story.one_life();
    let expected = model::events_of(&open(&disk).unwrap().0);
    let sound = disk.copy();
    let names: Vec<String> = {
        use eye_log::storage::Storage as _;
        let mut names = sound.list().unwrap();
        names.retain(|name| {
            name.ends_with(".seg") || name.ends_with(".sealed") || name.starts_with("manifest")
        });
        names
    };
    assert!(names.iter().any(|name| name.ends_with(".sealed")));
    let step = usize::try_from(number("EYE_BIT_STEP", 1009)).unwrap();
    let (mut flipped, mut free) = (0, 0);
    for name in &names {
        let bytes = sound.bytes(name).unwrap();
        for bit in (0..bytes.len() * 8).step_by(step) {
            let disk = sound.copy();
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            disk.put(name, changed);
            flipped += 1;
            let verified = verify::verify_in(&disk, None, &mut |_, _| ()).unwrap();
            let noticed_by_verify = !verified.damage.is_empty() || verified.torn_tail_bytes > 0;
            let noticed = match open(&disk) {
                Err(_) => true,
                Ok((log, report)) => {
                    let read = model::events_or_errors(&log);
                    for (offset, event) in &read {
                        if let Ok(event) = event {
                            assert_eq!(
                                event.as_ref(),
                                expected.get(offset),
                                "{name}, bit {bit}, offset {offset}"
                            );
                        }
                    }
                    let errors = read.values().any(Result::is_err);
                    errors
                        || report.cut.is_some()
                        || !report.damage.is_empty()
                        || !report.manifests_mended.is_empty()
                }
            };
            if !noticed && !noticed_by_verify {
                assert!(
                    model::is_free(name, &bytes, bit / 8),
                    "{name}: bit {bit} of {} was not noticed",
                    bytes.len() * 8
                );
                free += 1;
            }
        }
    }
    println!("{flipped} bits flipped, {free} of them free");
    let _ = (Dice::new(0), config());
}
