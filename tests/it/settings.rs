use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use support::{ADMIN_TOKEN, Eye, Launch};
use tempfile::TempDir;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A data folder with an `eye.toml`.
fn folder(toml: &str) -> TempDir {
    let folder = TempDir::with_prefix("eye-test-").unwrap();
    fs::write(folder.path().join("eye.toml"), toml).unwrap();
    folder
}

/// The row of a setting in what `eye config --json` printed.
#[track_caller]
fn row(output: &Output, name: &str) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = printed["settings"].as_array().unwrap();
    let found = rows.iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}")).clone()
}

fn config(eye: &Eye, data: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["config", "--json", "--data", data.to_str().unwrap()];
    arguments.extend(more);
    eye.command_with(&[("EYE_QUERIES_MAX", "7")], arguments)
}

#[test]
fn a_running_service_says_which_settings_are_in_force_and_where_they_come_from() {
    let folder = folder("depth_max = 10\nquery_deadline = \"2m\"\nqueries_max = 5\n");
    let eye = Launch::new()
        .data(folder.path())
        .variable("EYE_QUERIES_MAX", "6")
        .argument("--depth-max=12")
        .start();
    // What the asker's own environment says is not what is in force.
    let shown = |name| row(&config(&eye, folder.path(), &[]), name);
    let file = folder.path().join("eye.toml");
    for (name, value, from, place) in [
        ("depth_max", 12, "flag", Some("--depth-max".to_owned())),
        (
            "queries_max",
            6,
            "environment",
            Some("EYE_QUERIES_MAX".to_owned()),
        ),
        (
            "query_deadline",
            120,
            "file",
            Some(format!("{}:2", file.display())),
        ),
        ("request_max_events", 10_000, "default", None),
    ] {
        let row = shown(name);
        assert_eq!(row["value"], value, "{row}");
        assert_eq!(row["from"], from, "{row}");
        assert_eq!(row["where"].as_str(), place.as_deref(), "{row}");
    }
    let secret = shown("admin_token");
    assert_eq!(
        (&secret["text"], &secret["from"]),
        (&"(set)".into(), &"environment".into())
    );
    let limits = eye
        .get("/limits")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .json();
    assert_eq!(limits["depth_max"]["value"], 12);

    // What would be in force after a restart with other flags.
    let checked = row(&config(&eye, folder.path(), &["--check"]), "queries_max");
    assert_eq!(checked["value"], 7);
    let tried = row(
        &config(&eye, folder.path(), &["--queries-max", "8"]),
        "queries_max",
    );
    assert_eq!(
        (&tried["value"], &tried["from"]),
        (&8.into(), &"flag".into())
    );
}

#[test]
fn settings_are_shown_to_admins_only() {
    let eye = Eye::start();
    let app = eye.application("shop");
    eye.get("/admin/settings")
        .token(&app.token)
        .send()
        .expect(403);
    eye.get("/admin/settings")
        .token(&eye.analyst())
        .send()
        .expect(403);
    let shown = eye
        .get("/admin/settings")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200);
    assert!(!shown.text().contains(ADMIN_TOKEN));
}

#[test]
fn a_mistyped_key_of_the_file_is_refused_with_its_line_and_a_guess() {
    let folder = folder("# ours\nread_wiat = 3\n");
    let refused = Launch::new().data(folder.path()).refused();
    assert_eq!(refused.status.code(), Some(3));
    let said = text(&refused.stderr);
    assert!(
        said.contains("eye.toml, line 2") && said.contains("Did you mean \"read_wait\"?"),
        "{said}"
    );
    assert!(!folder.path().join("log").exists(), "nothing was begun");
}

#[test]
fn a_file_anywhere_may_name_the_folder_and_hold_the_admin_token_if_nobody_else_can_read_it() {
    let elsewhere = TempDir::with_prefix("eye-test-").unwrap();
    let file = elsewhere.path().join("service.toml");
    let admin = "eye_a_InAFileInAFileInAFileInAFileInAFile00";
    fs::write(
        &file,
        format!("data = \"store\"\nadmin_token = \"{admin}\"\n"),
    )
    .unwrap();
    let eye = Eye::start();
    let check = || eye.command(["config", "--check", "--config", file.to_str().unwrap()]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = check();
    assert!(
        text(&refused.stderr).contains("chmod 600"),
        "{}",
        text(&refused.stderr)
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let shown = check();
    let shown = text(&shown.stdout) + &text(&shown.stderr);
    assert!(
        shown.contains(elsewhere.path().join("store").to_str().unwrap()),
        "{shown}"
    );
    assert!(!shown.contains(admin), "{shown}");
    // Every command finds the folder that the file names.
    let made = eye.command(["app", "create", "shop", "--config", file.to_str().unwrap()]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(elsewhere.path().join("store/log").is_dir());
}
