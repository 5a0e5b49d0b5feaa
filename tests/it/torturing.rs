//! `eye torture` kills a writer over and over and finds everything that was acknowledged; and it can say that something
//! is lost.

use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};
use support::binary::eye;

#[test]
fn a_disk_that_keeps_what_was_acknowledged_is_told_from_one_that_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let tortured = Command::new(eye())
        .args(["torture", "--cycles", "3", "--json", "--data", data])
        .output()
        .unwrap();
    assert!(tortured.status.success(), "{tortured:?}");
    let report: Value = serde_json::from_slice(&tortured.stdout).unwrap();
    assert_eq!(report["cycles"], 3);
    assert_eq!(report["wrong"].as_array().unwrap().len(), 0);
    assert!(report["sync_ms"]["p50"].as_f64().unwrap() > 0.0);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "it cleans up"
    );

    let empty = folder.path().join("log");
    let mut check = Command::new(eye())
        .args(["torture", "--check", empty.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(b"1 0 0 1\n").unwrap();
    let checked = check.wait_with_output().unwrap();
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
}
