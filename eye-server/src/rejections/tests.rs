#![allow(clippy::unwrap_used)]
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn refusal<'r>(
    application: u32,
    code: &'static str,
    body: &'r [u8],
    errors: &'r FieldErrors,
) -> Refusal<'r> {
    Refusal {
        application: ApplicationId(application),
        path: "/events",
        index: Some(3),
        code,
        errors,
        body,
        cut: false,
        user_agent: Some("curl/8"),
    }
}

fn errors() -> FieldErrors {
    FieldErrors::from([(
        "data".to_owned(),
        vec!["This field is required.".to_owned()],
    )])
}

fn open(folder: &Path, max_bytes: usize) -> Rejections {
    Rejections::open(folder, max_bytes, DAY).unwrap()
}

/// How many of an application are kept, and how many are not.
fn counts(rejections: &Rejections, application: u32) -> (u64, u64) {
    let counts = rejections.counts();
    let counts = counts.get(&ApplicationId(application)).copied();
    counts.map_or((0, 0), |counts| (counts.kept, counts.dropped))
}

#[test]
fn what_was_refused_is_there_byte_for_byte_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let rejections = open(folder.path(), 1 << 20);
    let body = b"{\"a\": \xff\x00 1}";
    let id = rejections
        .keep(refusal(1, "invalid_event", body, &errors()))
        .unwrap();
    rejections
        .keep(refusal(2, "malformed_json", b"{", &errors()))
        .unwrap();
    rejections.end_retry(id, Some(Err(("too_deep", &errors()))));
    drop(rejections);
    let rejections = open(folder.path(), 1 << 20);
    let kept = rejections.get(id).unwrap().unwrap();
    assert_eq!(kept.body, body);
    assert_eq!(
        (kept.refused.code.as_str(), kept.state, kept.truncated),
        ("too_deep", State::Open, false)
    );
    assert_eq!(
        (kept.refused.errors, kept.refused.index),
        (errors(), Some(3))
    );
    rejections.begin_retry(id).unwrap();
    assert_eq!(rejections.begin_retry(id), Err(CannotRetry::Busy));
    rejections.end_retry(id, Some(Ok(Uuid::from_u128(7))));
    assert_eq!(rejections.begin_retry(id), Err(CannotRetry::Retried));
    let filter = Filter {
        state: Some(State::Open),
        ..Filter::default()
    };
    let (open_ones, more) = rejections.list(&filter, u64::MAX, 10).unwrap();
    assert_eq!(
        (open_ones.len(), more, open_ones[0].refused.application),
        (1, false, 2)
    );
    let summary = rejections.summary(&Filter::default());
    assert_eq!(
        (summary.len(), summary[0].count, summary[0].code.as_str()),
        (1, 1, "malformed_json")
    );
    assert_eq!(
        rejections.get(id).unwrap().unwrap().event_id,
        Some(Uuid::from_u128(7))
    );
}

#[test]
fn what_is_too_long_to_be_kept_takes_nothing_behind_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let rejections = open(folder.path(), 64 << 20);
    let long = FieldErrors::from([("x".repeat(17 << 20), vec![String::new()])]);
    assert_eq!(
        rejections.keep(refusal(1, "invalid_event", b"{}", &long)),
        None
    );
    let id = rejections
        .keep(refusal(1, "invalid_event", b"{}", &errors()))
        .unwrap();
    rejections.sync();
    drop(rejections);
    let rejections = open(folder.path(), 64 << 20);
    assert!(rejections.get(id).unwrap().is_some());
    assert_eq!(counts(&rejections, 1), (1, 1));
}

#[test]
fn of_a_large_body_a_part_is_kept_with_its_length_and_hash() {
    let folder = tempfile::tempdir().unwrap();
    let rejections = open(folder.path(), 64 << 20);
    let body = vec![b'x'; WHOLE_MAX_BYTES + 1];
    let id = rejections
        .keep(refusal(1, "too_large", &body, &errors()))
        .unwrap();
    let kept = rejections.get(id).unwrap().unwrap();
    assert_eq!(
        (kept.body.len(), kept.refused.bytes, kept.truncated),
        (PART_BYTES, body.len() as u64, true)
    );
    assert_eq!(
        kept.refused.sha256.unwrap(),
        format!("{:x}", Sha256::digest(&body))
    );
}

#[test]
fn the_bound_holds_and_what_falls_out_of_it_is_counted_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let bound = 256 << 10;
    let mut rejections = open(folder.path(), bound);
    for number in 0..2_000u32 {
        rejections
            .keep(refusal(number % 2, "invalid_event", b"{}", &errors()))
            .unwrap();
        if number == 1_500 {
            drop(rejections);
            rejections = open(folder.path(), bound);
        }
    }
    let on_disk: u64 = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(on_disk <= bound as u64, "{on_disk} bytes");
    for restarted in [false, true] {
        if restarted {
            drop(rejections);
            rejections = open(folder.path(), bound);
        }
        for (kept, dropped) in [0, 1].map(|own| counts(&rejections, own)) {
            assert!((90..=128).contains(&kept), "{kept} kept");
            assert_eq!(kept + dropped, 1_000);
        }
    }
}

#[test]
fn pages_go_on_where_the_last_one_ended_while_more_come() {
    let folder = tempfile::tempdir().unwrap();
    let rejections = open(folder.path(), 1 << 20);
    let keep = |number: usize| {
        let body = number.to_string();
        rejections
            .keep(refusal(1, "invalid_event", body.as_bytes(), &errors()))
            .unwrap()
    };
    let ids: Vec<Uuid> = (0..250).map(keep).collect();
    let (mut before, mut seen) = (u64::MAX, Vec::new());
    loop {
        let (page, more) = rejections.list(&Filter::default(), before, 30).unwrap();
        seen.extend(page.iter().map(|one| one.refused.id));
        before = page.last().unwrap().number;
        keep(1_000);
        if !more {
            break;
        }
    }
    seen.reverse();
    assert_eq!(seen, ids);
}

#[test]
fn of_an_erased_session_no_byte_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let rejections = open(folder.path(), 1 << 20);
    let (gone, stays) = (Uuid::new_v4(), Uuid::new_v4());
    for number in 0..300 {
        let session = if number % 3 == 0 { gone } else { stays };
        let text = if number % 2 == 0 {
            session.to_string().to_uppercase()
        } else {
            session.simple().to_string()
        };
        let body = format!("{{\"session_id\":\"{text}\"}}");
        let id = rejections
            .keep(refusal(1, "invalid_event", body.as_bytes(), &errors()))
            .unwrap();
        rejections.end_retry(id, Some(Err(("too_deep", &errors()))));
    }
    let anywhere = |session: Uuid| {
        std::fs::read_dir(folder.path()).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            file::holds(&path, &session.to_string())
                || file::holds(&path, &session.simple().to_string())
        })
    };
    assert!(anywhere(gone) && anywhere(stays));
    assert_eq!(
        rejections.purge(&[gone], Some(ApplicationId(2))).unwrap(),
        0
    );
    assert_eq!(rejections.purge(&[gone], None).unwrap(), 100);
    assert!(!anywhere(gone) && anywhere(stays));
    let (left, _) = rejections
        .list(&Filter::default(), u64::MAX, 1_000)
        .unwrap();
    assert_eq!(left.len(), 200);
    assert!(left.iter().all(|one| one.refused.code == "too_deep"));
    rejections
        .keep(refusal(1, "invalid_event", b"{}", &errors()))
        .unwrap();
    drop(rejections);
    assert_eq!(counts(&open(folder.path(), 1 << 20), 1), (201, 0));
}

#[test]
fn a_torn_record_takes_nothing_before_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let rejections = open(folder.path(), 1 << 20);
    for _ in 0..10 {
        rejections
            .keep(refusal(1, "invalid_event", b"{}", &errors()))
            .unwrap();
    }
    drop(rejections);
    let path = std::fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let whole = std::fs::read(&path).unwrap();
    for cut in [1, whole.len() / 20, 12] {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let rejections = open(folder.path(), 1 << 20);
        assert_eq!(counts(&rejections, 1), (9, 0));
        rejections
            .keep(refusal(1, "invalid_event", b"{}", &errors()))
            .unwrap();
        drop(rejections);
        assert_eq!(counts(&open(folder.path(), 1 << 20), 1), (10, 0));
        std::fs::write(&path, &whole).unwrap();
    }
}
