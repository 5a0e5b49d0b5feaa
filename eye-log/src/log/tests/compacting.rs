//! Stories of merging, erasing and expiring.

use super::*;

fn compact(log: &Log) -> crate::compaction::CompactReport {
    log.compact(&crate::compaction::Compaction::default(), &mut |_, _| true)
        .unwrap()
}

#[test]
fn small_files_merge_and_nothing_is_lost_or_renumbered() {
    let folder = tempfile::tempdir().unwrap();
    let bases = rolled(folder.path());
    let before = no_damage(folder.path());
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    let expected = data_of(&log, 400);
    let report = compact(&log);
    assert_eq!(report.rewritten.len(), 1);
    assert_eq!(report.rewritten[0].from.len(), bases.len() - 1);
    assert_eq!(log.reader().sealed_files().len(), 1);
    assert_eq!(data_of(&log, 400), expected);
    assert_eq!(log.reader().segment_bases(), bases);
    assert_eq!(
        send(&log, 2, 7, None, "{}").exceptions[0].1,
        Exception::SessionConflict
    );
    drop(log);
    let after = no_damage(folder.path());
    assert_eq!((after.seals, after.head), (before.seals, before.head));
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(log.reader().segment_bases(), bases);
    assert_eq!(data_of(&log, 400), expected);
}

#[test]
fn what_was_erased_is_hidden_at_once_and_then_gone_and_the_chain_still_holds() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    let secret = "{\"secret\":\"Zwiebelkuchen\"}";
    let offset = send(&log, 1, 77, Some(5000), secret).first_offset.unwrap();
    // Session 3 has every fiftieth of the 400 events, over several files.
    let mut ranges: Vec<_> = (0..400u64)
        .filter(|at| at % 50 == 3)
        .map(|at| at..at + 1)
        .collect();
    ranges.push(offset..offset + 1);
    let gone: Vec<u64> = ranges.iter().map(|range| range.start).collect();
    let erasure = log
        .erase(crate::erasures::EraseRequest {
            id: Uuid::from_u128(1),
            by: Actor::default(),
            filter: log.erasure_filter("sessions 3 and 77"),
            sessions: vec![Uuid::from_u128(3), Uuid::from_u128(77)],
            ranges,
        })
        .unwrap();
    assert_eq!(erasure.events, 9);
    let check = |log: &Log| {
        let events = log
            .reader()
            .read_many(&(0..=offset).collect::<Vec<_>>())
            .unwrap();
        for (at, event) in events.iter().enumerate() {
            assert_eq!(event.is_none(), gone.contains(&(at as u64)), "{at}");
        }
    };
    check(&log);
    drop(log);
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    check(&log);
    let report = compact(&log);
    assert_eq!((report.erased, report.expired), (9, 0));
    assert_eq!(report.erasures[0].found, 0);
    assert!(!report.erasures[0].segments.is_empty());
    log.complete_erasure(
        Uuid::from_u128(1),
        Actor::default(),
        "{\"found\":0}".to_owned(),
    )
    .unwrap();
    assert!(log.reader().erased().is_empty());
    check(&log);
    // Its session still has its owner, and its id may be used again.
    assert_eq!(
        send(&log, 2, 77, None, "{}").exceptions[0].1,
        Exception::SessionConflict
    );
    assert_eq!(send(&log, 1, 77, Some(5000), "{\"n\":2}").stored, 1);
    drop(log);
    no_damage(folder.path());
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    check(&log);
    assert!(log.erasures()[0].certificate.is_some());
}

#[test]
fn what_expired_is_gone_and_shells_keep_owners_registry_and_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    for name in ["a", "b"] {
        let name = name.to_owned();
        change(&log, Change::RegisterApplication { name, token: None }).unwrap();
    }
    for number in 0..400u128 {
        let data = format!("{{\"n\":{number},\"x\":\"{}\"}}", "y".repeat(300));
        send(
            &log,
            u32::from(number % 40 == 0),
            number,
            Some(7000 + number),
            &data,
        );
    }
    let limits = crate::registry::Limits {
        max_bytes: Some(0),
        ..Default::default()
    };
    let name = "a".to_owned();
    change(&log, Change::SetLimits { name, limits }).unwrap();
    log.roll().unwrap();
    let what = crate::compaction::Compaction {
        seal_all: true,
        confirmed: true,
        ..Default::default()
    };
    let dry = crate::compaction::Compaction {
        dry_run: true,
        ..what.clone()
    };
    let would = log.compact(&dry, &mut |_, _| true).unwrap();
    // The bytes limit works in whole hours: everything of "a" goes, nothing of "b" does.
    let report = log.compact(&what, &mut |_, _| true).unwrap();
    assert_eq!(report.expired, 390);
    assert!(would.expired <= 390 && report.bytes_after < report.bytes_before / 2);
    let left = data_of(&log, 410).len();
    assert_eq!(left, 10);
    assert_eq!(
        send(&log, 1, 5, None, "{}").exceptions[0].1,
        Exception::SessionConflict
    );
    drop(log);
    no_damage(folder.path());
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(log.registry().applications().count(), 2);
    assert_eq!(data_of(&log, 410).len(), 10);
    // Expiring the rest drops whole seals.
    let name = "b".to_owned();
    change(&log, Change::SetLimits { name, limits }).unwrap();
    log.compact(&what, &mut |_, _| true).unwrap();
    assert_eq!(data_of(&log, 410).len(), 0);
    drop(log);
    no_damage(folder.path());
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(data_of(&log, 410).len(), 0);
    let mut scan = log.reader().scan(0);
    let mut seen = 0;
    while scan
        .read(|offset, _| assert_eq!(offset, seen_next(&mut seen)))
        .unwrap()
        > 0
    {}
    assert_eq!(seen, log.reader().durable_end());
}

/// Erases one event, without compacting.
fn erase(log: &Log, offset: Offset) {
    log.erase(crate::erasures::EraseRequest {
        id: Uuid::from_u128(u128::from(offset) + 1),
        by: Actor::default(),
        filter: [0; 16],
        sessions: Vec::new(),
        ranges: std::iter::once(offset..offset + 1).collect(),
    })
    .unwrap();
}

/// An erased id may be used again. While the erased event still lies in the same sealed file as the new one, the new one
/// must be found behind it: it used to be stored over and over, and verifying missed the erased one's id.
#[test]
fn an_erased_id_is_stored_anew_once_although_both_lie_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(send(&log, 1, 1, Some(5), "{}").first_offset, Some(0));
    erase(&log, 0);
    let anew = send(&log, 1, 1, Some(5), "{}").first_offset.unwrap();
    let known = |log: &Log| {
        let again = send(log, 1, 1, Some(5), "{}");
        assert!(
            matches!(again.exceptions[..], [(0, Exception::Duplicate { offset, .. })] if offset == anew),
            "{again:?}"
        );
    };
    known(&log);
    log.roll().unwrap();
    drop(log);
    no_damage(folder.path());
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(log.reader().sealed_files().len(), 1);
    known(&log);
    compact(&log);
    known(&log);
    drop(log);
    no_damage(folder.path());
}

#[test]
fn who_compacts_for_good_gets_back_what_was_only_prepared_and_much_sending_prepares_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_max_bytes: 8 << 20,
        ..LogConfig::default()
    };
    let whole = config.segment_max_bytes;
    let (log, _) = Log::open(folder.path(), config).unwrap();
    let send_half = || {
        let data = format!("{{\"x\":\"{}\"}}", "y".repeat(100_000));
        for number in 0..50 {
            send(&log, 0, number, None, &data);
        }
    };
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).map_or(0, |it| it.len());
    let active = || {
        let base = log.reader().segment_bases().pop().unwrap();
        size(&crate::format::file_name::segment(base))
    };
    let until_spare_is = |bytes: u64| {
        let begun = std::time::Instant::now();
        while size(crate::appender::SPARE) != bytes {
            assert!(begun.elapsed().as_secs() < 60, "the spare is another");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    assert_eq!(size(crate::appender::SPARE), 0);
    send_half();
    until_spare_is(whole);
    log.roll().unwrap();
    until_spare_is(whole);
    send(&log, 0, 0, None, "{}");
    assert_eq!(active(), whole);
    let what = crate::compaction::Compaction {
        seal_all: true,
        confirmed: true,
        ..Default::default()
    };
    log.compact(&what, &mut |_, _| true).unwrap();
    until_spare_is(0);
    assert!(active() <= whole / 4, "{}", active());
    send_half();
    until_spare_is(whole);
    assert_eq!(data_of(&log, 101).len(), 101);
    drop(log);
    no_damage(folder.path());
}
