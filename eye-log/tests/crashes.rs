//! The log on a disk that loses power, tears, fails, lies and fills up, against a model of what was acknowledged.
//!
//! The short form runs with the other tests. The full one: `EYE_CRASHES=100000 cargo test --release -p eye-log --test
//! crashes`, with `EYE_SEED=N` to repeat a run.

#![allow(clippy::unwrap_used)]

mod bits;
mod model;

use std::sync::atomic::{AtomicU64, Ordering};

use eye_log::storage::faulty::{Faulty, Retention};
use model::{Story, open};

/// How many crashes one log lives through.
const CRASHES_OF_A_STORY: u64 = 20;
/// How often a long run says how far it is.
const TOLD_EACH: u64 = 5000;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Whatever happens, what was acknowledged is there, whole and once; what was not is there whole or not at all.
/// `EYE_CRASHES` counts only power cuts in the midst of a call; other ends come on top.
#[test]
fn nothing_acknowledged_is_lost_whatever_the_disk_does() {
    let seed = number("EYE_SEED", 20_261_124);
    let crashes = number("EYE_CRASHES", 300);
    println!("EYE_SEED={seed} EYE_CRASHES={crashes}");
    let (next, crashed, others) = (AtomicU64::new(seed), AtomicU64::new(0), AtomicU64::new(0));
    let beside = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..number("EYE_THREADS", 2) {
            scope.spawn(|| {
                while crashed.load(Ordering::Relaxed) < crashes {
                    // A log that lives through some crashes, then a new one.
                    let disk = Faulty::default();
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let mut story = Story::on(disk.clone(), seed);
                    for _ in 0..CRASHES_OF_A_STORY {
                        if !story.live_and_crash() {
                            others.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        let cut = crashed.fetch_add(1, Ordering::Relaxed) + 1;
                        if cut.is_multiple_of(TOLD_EACH) {
                            println!("{cut} of {crashes} power cuts");
                        }
                    }
                    beside.fetch_add(disk.writes_beside_syncs(), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{crashed:?} power cuts in the midst of a call, {others:?} other ends");
    println!("{beside:?} writes while the group before was synced");
    assert!(crashed.into_inner() >= crashes);
    assert!(beside.into_inner() > 0, "no group was written ahead");
}

/// The power goes at every single call of a life that rolls, seals, merges, expires, erases and closes; then at calls of
/// the opening that follows. The full form (`EYE_CALL_STEP=1 EYE_CALL_SEEDS=5 EYE_OPENING=1`) tries every call of that,
/// too.
#[test]
fn a_crash_at_every_call_of_the_disk_loses_nothing() {
    let whole = Faulty::default();
    Story::on(whole.clone(), 7).one_life();
    let calls = whole.calls();
    assert!(calls > 100, "{calls}");
    let step = number("EYE_CALL_STEP", 3);
    let seeds = number("EYE_CALL_SEEDS", 1);
    let every_call_of_opening = number("EYE_OPENING", 0) > 0;
    let mut crashes = 0;
    let mut call = 1;
    while call <= calls {
        for (seed, retention) in (0..seeds).flat_map(|seed| Retention::ALL.map(|one| (seed, one))) {
            let disk = Faulty::default();
            let mut story = Story::on(disk.clone(), 7);
            disk.power_goes_at(call);
            story.one_life();
            let cut_seed = call * 100 + seed;
            disk.power_cut(cut_seed, retention);
            let when = format!("power went at call {call}, seed {cut_seed}, {retention:?}");
            crashes += 1;
            // Opening after a crash may crash as well.
            let after_crash = disk.copy();
            let mut opening = 1 + call % 5;
            if every_call_of_opening {
                opening = 1;
            }
            loop {
                let again = after_crash.copy();
                again.power_goes_at(opening);
                // Whether it opened before the power went says nothing; what is on the disk does.
                drop(open(&again));
                let went = again.power_is_gone();
                again.power_cut(cut_seed + opening, retention);
                story
                    .clone_on(again)
                    .check(&format!("{when}, then at call {opening} of opening"));
                crashes += 1;
                opening += 1;
                if !went || !every_call_of_opening {
                    break;
                }
            }
            story.check(&when);
        }
        call += step;
    }
    println!("{calls} calls, every {step}th: {crashes} crashes");
}

/// The process is killed at every call, the next one opens what it left in the page cache and goes on for a while, and
/// only then the power goes. What the second process acknowledged rests on what the first had not synced.
#[test]
fn a_kill_at_every_call_and_a_power_cut_later_lose_nothing() {
    let whole = Faulty::default();
    Story::on(whole.clone(), 7).one_life();
    let calls = whole.calls();
    let step = usize::try_from(number("EYE_CALL_STEP", 3)).unwrap();
    let seeds = number("EYE_CALL_SEEDS", 1);
    let mut cuts = 0;
    for call in (1..=calls).step_by(step) {
        for (seed, retention) in (0..seeds).flat_map(|seed| Retention::ALL.map(|one| (seed, one))) {
            let disk = Faulty::default();
            let mut story = Story::on(disk.clone(), 7);
            disk.power_goes_at(call);
            story.one_life();
            disk.process_ends();
            story.send_some(2);
            // The second process does not get to close in order, either.
            disk.power_goes_at(disk.calls() + 1);
            story.close();
            disk.power_cut(call * 100 + seed, retention);
            story.check(&format!(
                "killed at call {call}, then a power cut, seed {}, {retention:?}",
                call * 100 + seed
            ));
            cuts += 1;
        }
    }
    println!("{calls} calls, every {step}th: {cuts} kills and power cuts");
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

/// The same for each sync of a life: of segments, sealed files and manifests. The process ends and another one goes on
/// for a while with what it finds, on the same machine; then the power goes. Some processes end right after the lie, before
/// they can write again what it took.
#[test]
fn a_lie_of_every_sync_loses_nothing() {
    let whole = Faulty::default();
    Story::on(whole.clone(), 7).one_life();
    let calls = whole.calls();
    let step = usize::try_from(number("EYE_CALL_STEP", 3)).unwrap();
    let mut lies = 0;
    for call in (1..=calls).step_by(step) {
        for (retention, at_once) in Retention::ALL
            .into_iter()
            .flat_map(|one| [(one, false), (one, true)])
        {
            let disk = Faulty::default();
            let mut story = Story::on(disk.clone(), 7);
            disk.sync_lies_from(call);
            if at_once {
                disk.power_goes_at(call + 1);
            }
            story.one_life();
            disk.process_ends();
            story.send_some(2);
            disk.power_goes_at(disk.calls() + 1);
            story.close();
            disk.power_cut(call, retention);
            story.check(&format!(
                "the sync at call {call} lied, {retention:?}, at once: {at_once}"
            ));
            lies += 1;
        }
    }
    println!("{calls} calls, every {step}th: {lies} lies");
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
