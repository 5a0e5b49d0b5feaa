use std::fs;
use std::path::Path;
use support::{Eye, binary, run_eye_with};
use tempfile::TempDir;

fn file(name: &str) -> String {
    let path = binary::workspace().join("docs/deploy").join(name);
    fs::read_to_string(path).unwrap()
}

/// Runs `eye config --check` in a folder of its own; panics unless all is well and nothing is unknown.
#[track_caller]
fn check(folder: &Path, variables: &[(&str, &str)], flags: &[String]) {
    let data = folder.join("data");
    let mut arguments = vec!["config".to_owned(), "--check".to_owned()];
    arguments.extend(flags.iter().cloned());
    if !flags.iter().any(|flag| flag == "--data") {
        arguments.extend(["--data".to_owned(), data.display().to_string()]);
    }
    let checked = run_eye_with(variables, arguments);
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(
        checked.status.success() && !said.contains("is no setting"),
        "{said}"
    );
}

#[test]
fn the_unit_starts_the_service_with_flags_that_there_are() {
    let folder = TempDir::with_prefix("eye-test-").unwrap();
    fs::write(folder.path().join("eye.toml"), "").unwrap();
    let unit = file("eye.service");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let mut words = start.split_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/eye"));
    assert_eq!(words.next(), Some("serve"));
    let flags: Vec<String> = words
        .map(|word| word.replace("/etc/eye", folder.path().to_str().unwrap()))
        .collect();
    assert!(flags.len() >= 4, "{flags:?}");
    check(folder.path(), &[], &flags);
    // Whoever stops it waits longer than the service may take.
    let seconds = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    assert!(seconds("TimeoutStopSec=") > 20);
}

#[test]
fn the_container_sets_variables_that_there_are() {
    let folder = TempDir::with_prefix("eye-test-").unwrap();
    let text = file("Dockerfile") + &file("compose.yaml");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names: Vec<&str> = words.filter(|word| word.starts_with("EYE_")).collect();
    assert!(names.len() >= 4, "{names:?}");
    let variables: Vec<(&str, &str)> = names
        .into_iter()
        .map(|name| match name {
            "EYE_ADMIN_TOKEN" => (name, "eye_a_0123456789012345678901234567890123456789"),
            "EYE_LISTEN" => (name, "0.0.0.0:8001"),
            "EYE_LOG" => (name, "info"),
            _ => (name, ""),
        })
        .collect();
    check(folder.path(), &variables, &[]);
    // Built with the oldest toolchain that the project promises.
    let manifest = fs::read_to_string(binary::workspace().join("Cargo.toml")).unwrap();
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap()
        .trim_matches('"');
    assert!(text.contains(&format!("FROM rust:{version}-")), "{version}");
}

#[test]
fn a_health_check_tells_a_ready_service_from_one_that_is_gone() {
    let mut eye = Eye::start();
    let data = eye.data().to_str().unwrap().to_owned();
    let health = || run_eye_with(&[], ["health", "--data", &data]);
    let ready = health();
    assert!(ready.status.success());
    assert_eq!(String::from_utf8_lossy(&ready.stdout), "ok\n");
    let afar = run_eye_with(&[], ["health", "--json", "--server", &eye.url()]);
    assert!(afar.status.success(), "it needs no token");
    eye.stop();
    let gone = health();
    assert_eq!(
        gone.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&gone.stderr)
    );
}
