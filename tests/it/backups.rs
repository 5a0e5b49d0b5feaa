//! A backup taken under load holds everything acknowledged before it, and comes back; nothing is written over.

use crate::recovery::{Sent, send_until_the_end};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use support::events::Generator;
use support::{Eye, Launch, Random, events, time};

const SESSION: &str = "6a5d9c1e-3b0f-4a55-9d6c-0e7a8b9c1d2e";

fn backup(eye: &Eye, to: &Path) -> Output {
    let (data, to) = (eye.data().to_str().unwrap(), to.to_str().unwrap());
    eye.command(["backup", to, "--json", "--data", data])
}

fn restore(eye: &Eye, from: &Path, data: &Path) -> Output {
    eye.command([
        "restore",
        from.to_str().unwrap(),
        "--json",
        "--data",
        data.to_str().unwrap(),
    ])
}

#[track_caller]
fn answer(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn what_was_acknowledged_before_a_backup_is_in_it() {
    let mut eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "256KiB")
        .start();
    let app = eye.application("website");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let sent: Mutex<Vec<Sent>> = Mutex::new(Vec::new());
    let mut random = Random::announced(17);
    let mut senders: Vec<Generator> = (0..3)
        .map(|_| Generator::new(Random::new(random.bits()), 5))
        .collect();
    let acknowledged = || {
        let sent = sent.lock().unwrap();
        let batches = sent.iter().filter(|batch| batch.acknowledged);
        batches
            .flat_map(|batch| batch.ids.clone())
            .collect::<BTreeSet<String>>()
    };
    thread::scope(|scope| {
        for (number, generator) in senders.iter_mut().enumerate() {
            let (eye, app, sent) = (&eye, &app, &sent);
            scope
                .spawn(move || send_until_the_end(eye, app, generator, [1, 20, 200][number], sent));
        }
        // Several into the same folder, while segments roll; each must hold what came before it.
        for round in 0..3 {
            let before = acknowledged().len();
            time::wait_until("more is sent", Duration::from_secs(60), || {
                acknowledged().len() > before + 500
            });
            let before = acknowledged();
            let report = answer(&backup(&eye, &copy));
            assert!(
                report["events"].as_u64().unwrap() >= before.len() as u64,
                "{round}: {report}"
            );
            let data = folder.path().join(format!("restored-{round}"));
            answer(&restore(&eye, &copy, &data));
            let back = Launch::new().data(&data).start();
            back.wait_until_indexed();
            let found: BTreeSet<String> = back.ids_found(&app.token, "*").into_iter().collect();
            let lost: Vec<_> = before.difference(&found).collect();
            assert!(
                lost.is_empty(),
                "{round}: {} of {} are not in the backup",
                lost.len(),
                before.len()
            );
        }
        crate::recovery::kill_from_outside(&eye);
    });
    eye.kill();
    // Of a folder that nobody serves, after a crash: the same.
    let before = acknowledged();
    let report = answer(&backup(&eye, &copy));
    assert!(
        report["events"].as_u64().unwrap() >= before.len() as u64,
        "{report}"
    );
    let verified = eye.command(["log", "verify", "--json", "--data", copy.to_str().unwrap()]);
    assert_eq!(answer(&verified)["events"], report["events"]);
}

#[test]
fn a_backup_that_is_cut_off_is_whole_or_refused_and_the_next_one_mends_it() {
    let eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "64KiB")
        .start();
    let app = eye.application("website");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let mut random = Random::announced(41);
    let mut generator = Generator::new(Random::new(random.bits()), 5);
    // How many events the last backup that ended well held.
    let mut finished = 0;
    for round in 0..12 {
        let (lines, _) = generator.lines(300);
        eye.store(&app, &lines);
        let (data, to) = (eye.data().to_str().unwrap(), copy.to_str().unwrap());
        let mut process = eye.spawn(["backup", to, "--data", data]);
        // The instant of the end is what is random here.
        thread::sleep(Duration::from_micros(random.below(40_000)));
        process.kill().unwrap();
        if process.wait().unwrap().success() {
            finished = (round + 1) * 300;
        }
        let back = folder.path().join(format!("back-{round}"));
        let restored = restore(&eye, &copy, &back);
        if restored.status.success() {
            let events = answer(&restored)["events"].as_u64().unwrap();
            assert!(
                events >= finished && events.is_multiple_of(300),
                "{events} of {finished}"
            );
        } else {
            assert_eq!(restored.status.code(), Some(3), "{restored:?}");
            assert!(!back.join("log").exists());
            assert!(
                finished == 0 || copy.join("unfinished").exists(),
                "{restored:?}"
            );
        }
        if round % 3 == 2 {
            let report = answer(&backup(&eye, &copy));
            finished = (round + 1) * 300;
            assert_eq!(report["events"], finished, "{report}");
        }
    }
}

#[test]
fn nothing_is_written_over() {
    let eye = Eye::start();
    let app = eye.application("website");
    eye.store(&app, &[events::plain(SESSION).to_string()]);
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    answer(&backup(&eye, &copy));

    refused(&restore(&eye, &copy, eye.data()), "is not empty");
    refused(
        &restore(&eye, folder.path(), &folder.path().join("new")),
        "no backup",
    );
    assert!(!folder.path().join("new").exists());
    refused(&backup(&eye, eye.data()), "into the data folder itself");
    let other = Eye::start();
    other.application("shop");
    refused(&backup(&other, &copy), "another store");

    // A folder restored from an older backup must not shorten a newer one.
    let older = folder.path().join("older");
    answer(&restore(&eye, &copy, &older));
    eye.store(&app, &[events::plain(SESSION).to_string()]);
    answer(&backup(&eye, &copy));
    let older = Launch::new().data(&older).start();
    refused(&backup(&older, &copy), "goes further");

    // What cannot be trusted is not brought back.
    std::fs::write(copy.join("unfinished"), "").unwrap();
    refused(
        &restore(&eye, &copy, &folder.path().join("back")),
        "was not finished",
    );
    answer(&backup(&eye, &copy));
    answer(&restore(&eye, &copy, &folder.path().join("back")));
}

#[test]
fn a_damaged_log_is_named_and_its_last_backup_can_be_told_from_a_whole_one() {
    let mut eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "64KiB")
        .start();
    let app = eye.application("website");
    let (lines, _) = Generator::new(Random::announced(5), 3).lines(600);
    eye.store(&app, &lines);
    eye.stop();
    // The largest file that is no longer written to.
    let mut files: Vec<_> = std::fs::read_dir(eye.data().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|suffix| suffix == "seg" || suffix == "sealed")
        })
        .collect();
    files.sort();
    files.pop();
    let file = files
        .iter()
        .max_by_key(|file| file.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(file).unwrap();
    bytes[9000] ^= 1;
    std::fs::write(file, bytes).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let damaged = backup(&eye, copy.path());
    assert_eq!(
        damaged.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&damaged.stderr)
    );
    let said: Value = serde_json::from_slice(&damaged.stdout).unwrap();
    assert_eq!(said["ok"], json!(false));
    assert_eq!(
        said["damage"][0]["file"],
        file.file_name().unwrap().to_str().unwrap(),
        "{said}"
    );
    let back = tempfile::tempdir().unwrap();
    assert_eq!(
        restore(&eye, copy.path(), back.path()).status.code(),
        Some(3)
    );
    assert!(!back.path().join("log").exists());
}
