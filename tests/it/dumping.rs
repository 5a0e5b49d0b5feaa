//! `eye log dump` shows every record, of a copy and beside a running server, and writes nothing.

use crate::recovery::{Sent, kill_from_outside, send_until_the_end};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::thread;
use support::events::Generator;
use support::{Eye, Launch, Random, json_text};

fn dump(eye: &Eye, data: &Path, arguments: &[&str]) -> Output {
    let mut line = vec!["log", "dump", "--data", data.to_str().unwrap()];
    line.extend(arguments);
    eye.command(line)
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn offsets(lines: &[Value]) -> Vec<u64> {
    lines
        .iter()
        .map(|line| line["offset"].as_u64().unwrap())
        .collect()
}

/// Every file of the log with its bytes; the lock's hold the process id.
fn files(log: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn every_record_is_a_line_and_events_come_as_they_were_sent() {
    let mut eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "64KiB")
        .start();
    let app = eye.application("website");
    let (sent, ids) = Generator::new(Random::announced(31), 5).lines(400);
    eye.store(&app, &sent);
    eye.analyst();

    let output = dump(&eye, eye.data(), &[]);
    let beside = lines(&output);
    assert_eq!(
        offsets(&beside),
        (0..beside.len() as u64).collect::<Vec<_>>()
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<_> = text
        .lines()
        .filter(|line| line.contains("\"kind\":\"event\""))
        .collect();
    assert_eq!(events.len(), sent.len());
    for ((line, sent), id) in events.iter().zip(&sent).zip(&ids) {
        let (line, sent) = (json_text::fields(line), json_text::fields(sent));
        assert_eq!(line["id"].trim_matches('"'), id);
        assert_eq!(line["data"], sent["data"]);
        assert_eq!(line["application"], "\"website\"");
    }
    for line in &beside {
        assert_eq!(
            line["kind"] == "event",
            line.get("session_id").is_some(),
            "{line}"
        );
        assert!(line["received_at"].is_string(), "{line}");
    }
    let kinds = |kind: &str| beside.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((kinds("application"), kinds("token")), (1, 2));

    // Ranges, by offset, by segment, by time.
    assert_eq!(
        offsets(&lines(&dump(
            &eye,
            eye.data(),
            &["--from", "10", "--to", "13"]
        ))),
        [10, 11, 12]
    );
    let stats = eye.command([
        "log",
        "stats",
        "--json",
        "--data",
        eye.data().to_str().unwrap(),
    ]);
    let stats: Value = serde_json::from_slice(&stats.stdout).unwrap();
    let second = &stats["segments"][1];
    let (base, end) = (
        second["base"].as_u64().unwrap(),
        second["end"].as_u64().unwrap(),
    );
    assert!(base > 0 && end > base, "{stats}");
    let of_second = lines(&dump(&eye, eye.data(), &["--segment", &base.to_string()]));
    assert_eq!(offsets(&of_second), (base..end).collect::<Vec<_>>());
    assert_eq!(
        dump(&eye, eye.data(), &["--segment", "3"]).status.code(),
        Some(2)
    );
    let last = beside.last().unwrap();
    let since = lines(&dump(
        &eye,
        eye.data(),
        &["--since", last["received_at"].as_str().unwrap()],
    ));
    let expected = beside
        .iter()
        .filter(|line| line["received_at"].as_str() >= last["received_at"].as_str());
    assert_eq!(since.len(), expected.count());
    assert!(lines(&dump(&eye, eye.data(), &["--since", "2100-01-01"])).is_empty());

    // The same of a copy, which stays as it is: torn tail, files and all.
    eye.kill();
    let copy = tempfile::tempdir().unwrap();
    let log = copy.path().join("log");
    std::fs::create_dir(&log).unwrap();
    for (name, bytes) in files(&eye.data().join("log")) {
        std::fs::write(log.join(name), bytes).unwrap();
    }
    let newest = files(&log)
        .into_keys()
        .filter(|name| name.ends_with(".seg"))
        .max()
        .unwrap();
    let mut bytes = std::fs::read(log.join(&newest)).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let torn = used.next_multiple_of(8);
    bytes.resize(bytes.len().max(torn + 64), 0);
    bytes[torn..torn + 14].copy_from_slice(b"torn tail here");
    std::fs::write(log.join(&newest), bytes).unwrap();
    let before = files(&log);
    let of_copy = dump(&eye, copy.path(), &[]);
    assert_eq!(lines(&of_copy), beside);
    assert!(
        of_copy.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&of_copy.stderr)
    );
    assert!(before == files(&log), "the copy was changed");
}

#[test]
fn a_log_that_is_being_written_is_dumped_without_a_gap() {
    let eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "256KiB")
        .start();
    let app = eye.application("website");
    let mut random = Random::announced(37);
    let mut senders: Vec<Generator> = (0..3)
        .map(|_| Generator::new(Random::new(random.bits()), 4))
        .collect();
    let sent: Mutex<Vec<Sent>> = Mutex::new(Vec::new());
    let acknowledged = || {
        let sent = sent.lock().unwrap();
        sent.iter()
            .filter(|batch| batch.acknowledged)
            .map(|batch| batch.ids.len())
            .sum::<usize>()
    };
    thread::scope(|scope| {
        for (number, generator) in senders.iter_mut().enumerate() {
            let (eye, app, sent) = (&eye, &app, &sent);
            scope.spawn(move || send_until_the_end(eye, app, generator, [1, 9, 90][number], sent));
        }
        for _ in 0..8 {
            let before = acknowledged();
            let dumped = lines(&dump(&eye, eye.data(), &[]));
            assert_eq!(
                offsets(&dumped),
                (0..dumped.len() as u64).collect::<Vec<_>>()
            );
            let events = dumped.iter().filter(|line| line["kind"] == "event").count();
            assert!(events >= before, "{events} of {before} acknowledged");
        }
        kill_from_outside(&eye);
    });
}

#[test]
fn a_folder_without_a_log_is_refused_and_not_made() {
    let eye = Eye::start();
    let folder = tempfile::tempdir().unwrap();
    let refused = dump(&eye, folder.path(), &[]);
    assert_eq!(refused.status.code(), Some(3));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(
        dump(&eye, &folder.path().join("nowhere"), &[])
            .status
            .code(),
        Some(3)
    );
    assert!(!folder.path().join("nowhere").exists());
}
