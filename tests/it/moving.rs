use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use support::{ADMIN_TOKEN, Answer, Eye, binary};
use tempfile::TempDir;

/// The token that the clients of "Shop" have from the old service.
const OLD_TOKEN: &str = "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b";

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new("tests/fixtures/old-service");
    binary::workspace().join(folder).join(name)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An import into a server, with a folder of its own for positions.
struct Mover {
    eye: Eye,
    state: TempDir,
}

impl Mover {
    fn new() -> Mover {
        Mover {
            eye: Eye::start(),
            state: TempDir::with_prefix("eye-test-").unwrap(),
        }
    }

    fn import(&self, files: &[&Path], more: &[&str]) -> Output {
        let mut arguments = vec![
            "import",
            "old-service",
            "--data",
            self.eye.data().to_str().unwrap(),
        ];
        arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
        arguments.extend(more);
        let state = self.state.path().to_str().unwrap();
        self.eye
            .command_with(&[("XDG_STATE_HOME", state)], arguments)
    }

    /// Imports the fixture; returns what was printed as JSON.
    #[track_caller]
    fn import_fixture(&self, events: &str, more: &[&str]) -> (i32, Value, String) {
        let files = ["events.csv", "sessions.csv", "applications.csv"]
            .map(|name| fixture(if name == "events.csv" { events } else { name }));
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let mut arguments = vec!["--json"];
        arguments.extend(more);
        let output = self.import(&files, &arguments);
        let printed = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("nothing printed: {}", said(&output)));
        (output.status.code().unwrap(), printed, said(&output))
    }

    fn events(&self, token: &str) -> Answer {
        let answer = self
            .eye
            .get("/search")
            .query("q", "*")
            .query("order", "timestamp")
            .token(token)
            .send();
        answer.expect(200)
    }
}

#[test]
fn clients_of_the_old_service_go_on_with_their_tokens_and_find_their_events() {
    let mover = Mover::new();
    let (status, printed, said) = mover.import_fixture("events.csv", &[]);
    assert_eq!(status, 1, "rows were refused: {said}");
    assert_eq!(
        (
            &printed["applications"],
            &printed["sessions"],
            &printed["stored"],
            &printed["refused"]
        ),
        (&json!(3), &json!(3), &json!(5), &json!(7)),
        "{said}"
    );
    // The way the old service's clients ask.
    let events = mover.events(OLD_TOKEN).raw_events();
    let seen: Vec<(&str, &str, &str)> = events
        .iter()
        .map(|event| {
            (
                &event["name"][..],
                &event["timestamp"][..],
                &event["data"][..],
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (
                "\"pageview\"",
                "\"2021-01-01T09:15:27.243860Z\"",
                r#"{"host": "www.example.com", "path": "/reviews/", "price": 10.50}"#
            ),
            (
                "\"cta click\"",
                "\"2021-01-01T09:16:27.243860Z\"",
                r#"{"element":"a \"quoted\", comma","host":"www.example.com"}"#
            ),
            (
                "\"submit\"",
                "\"2021-01-01T10:00:00.000000Z\"",
                r#"{"form": {"first_name": "Žofie", "big": 12345678901234567890}}"#
            ),
            (
                "\"pageview\"",
                "\"2021-01-02T00:00:00.000000Z\"",
                r#"{"last": true}"#
            ),
        ]
    );
    // And they send on, into the sessions they had.
    let mut next = support::events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423");
    next["name"] = json!("afterwards");
    mover
        .eye
        .post("/events")
        .token(OLD_TOKEN)
        .json(&next)
        .send()
        .expect(201);
    let stranger = mover.eye.application("stranger");
    let conflict = mover
        .eye
        .post("/events")
        .token(&stranger.token)
        .json(&next)
        .send();
    conflict.problem(409, "session_conflict");

    // What was switched off stays so, and keeps what it had.
    let reviews = mover
        .eye
        .get("/applications/Reviews%2C%20mobile")
        .token(ADMIN_TOKEN)
        .send();
    let reviews = reviews.expect(200).json();
    assert_eq!(
        (&reviews["active"], &reviews["events"]),
        (&json!(false), &json!(1))
    );
    let disabled = mover
        .eye
        .get("/me")
        .token("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")
        .send();
    disabled.expect(401);
    let one = mover
        .eye
        .get("/events/11111111-1111-4111-8111-111111111111")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .json();
    assert_eq!(one["timestamp"], "2021-01-01T10:00:00.000000Z");
    mover.eye.get("/me").token("tooshort").send().expect(401);
}

#[test]
fn refused_rows_are_named_with_their_lines_and_columns() {
    let mover = Mover::new();
    let (_, printed, said) = mover.import_fixture("events.csv", &[]);
    for expected in [
        "Short: its token cannot be taken over",
        "applications.csv: not taken over: created",
        "sessions.csv:5: application_id: No application that was imported has the id \"9\".",
        "sessions.csv:6: application_id",
        "sessions.csv:7: id: Not a valid UUID.",
        "events.csv:9: session_id: No session that was read has this id.",
        "events.csv:10: data: Not a JSON object.",
        "events.csv:11: category: This field is required.",
        "events.csv:12: timestamp:",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    assert!(!said.contains("tooshort"), "no token is repeated");
    assert_eq!(printed["refused_rows"].as_array().unwrap().len(), 7);
}

#[test]
fn importing_again_changes_nothing() {
    let mover = Mover::new();
    mover.import_fixture("events.csv", &[]);
    let before = mover.events(ADMIN_TOKEN).events();
    let tokens = || {
        let listed = mover
            .eye
            .get("/tokens")
            .token(ADMIN_TOKEN)
            .send()
            .expect(200)
            .json();
        listed["tokens"].as_array().unwrap().clone()
    };
    // A token that was taken back stays so.
    let old = tokens()
        .into_iter()
        .find(|token| token["application"] == "Shop")
        .unwrap();
    let path = format!("/tokens/{}", old["id"].as_str().unwrap());
    mover
        .eye
        .request("DELETE", &path)
        .token(ADMIN_TOKEN)
        .send()
        .expect(204);
    for more in [&[][..], &["--again"]] {
        let (status, printed, said) = mover.import_fixture("events.csv", more);
        assert_eq!(
            (status, &printed["stored"], &printed["applications"]),
            (1, &json!(0), &json!(0)),
            "{said}"
        );
        // One of the five is of an application that is disabled by now.
        let (duplicates, left_out) = if more.is_empty() { (0, 0) } else { (4, 1) };
        assert_eq!(
            (&printed["duplicates"], &printed["left_out"]),
            (&json!(duplicates), &json!(left_out)),
            "{said}"
        );
        assert_eq!(
            printed["refused"], 7,
            "what an earlier run refused still counts: {said}"
        );
    }
    assert_eq!(mover.events(ADMIN_TOKEN).events(), before);
    mover.eye.get("/me").token(OLD_TOKEN).send().expect(401);
    let left = tokens();
    assert_eq!(
        left.len(),
        1,
        "only that of the disabled application: {left:?}"
    );
}

#[test]
fn json_lines_and_packed_files_do_as_well() {
    let mover = Mover::new();
    let packed = mover.state.path().join("events.ndjson.zst");
    let plain = fs::read(fixture("events.ndjson")).unwrap();
    fs::write(&packed, zstd::encode_all(&plain[..], 3).unwrap()).unwrap();
    let output = mover.import(
        &[
            &fixture("applications.csv"),
            &fixture("sessions.csv"),
            &packed,
        ],
        &[],
    );
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let events = mover.events(OLD_TOKEN).raw_events();
    let data: Vec<&str> = events.iter().map(|event| &event["data"][..]).collect();
    assert_eq!(data, [r#"{"depth": 1.10}"#, r#"{"depth": 1e2}"#]);
}

#[test]
fn a_run_that_was_stopped_goes_on_where_it_was() {
    let mover = Mover::new();
    let folder = mover.state.path();
    let (applications, sessions, events) = (
        folder.join("applications.csv"),
        folder.join("sessions.csv"),
        folder.join("events.csv"),
    );
    fs::write(
        &applications,
        format!("id,name,token\n1,Shop,{OLD_TOKEN}\n"),
    )
    .unwrap();
    let session = "e2085be5-9137-4e4e-80b5-f1ffddc25423";
    fs::write(&sessions, format!("id,application_id\n{session},1\n")).unwrap();
    let count = 12_000;
    let mut rows = "id,session_id,category,name,data,timestamp\n".to_owned();
    for number in 0..count {
        rows.push_str(&format!(
            "{number},{session},c,n,\"{{\"\"n\"\":\n{number}}}\",2021-01-01 00:00:00+00\n"
        ));
    }
    // The file breaks off within a row, as a download may.
    let cut = rows[..rows.len() * 3 / 4].rfind("\"\"n\"\":").unwrap() + 8;
    let files = [&applications, &sessions, &events].map(PathBuf::as_path);
    fs::write(&events, &rows[..cut]).unwrap();
    let first = mover.import(&files, &["--json"]);
    assert_eq!(first.status.code(), Some(3), "{}", said(&first));
    assert!(said(&first).contains("never closed"), "{}", said(&first));
    let stored = mover.eye.count(ADMIN_TOKEN, "*");
    assert!((5_000..count).contains(&stored), "{stored}");
    // The same content again goes on behind what was stored …
    let again = mover.import(&files, &["--json"]);
    assert!(
        said(&again).contains("going on behind line"),
        "{}",
        said(&again)
    );
    assert_eq!(mover.eye.count(ADMIN_TOKEN, "*"), stored);
    // … and the whole file stores what is missing.
    fs::write(&events, &rows).unwrap();
    let whole = mover.import(&files, &["--json"]);
    assert!(whole.status.success(), "{}", said(&whole));
    assert_eq!(mover.eye.count(ADMIN_TOKEN, "*"), count);
    assert_eq!(mover.eye.count(OLD_TOKEN, "n:11999"), 1);
}

#[test]
fn a_file_that_is_of_no_table_is_refused_before_anything_is_done() {
    let mover = Mover::new();
    let file = mover.state.path().join("other.csv");
    fs::write(&file, "1,Shop,9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b\n").unwrap();
    let output = mover.import(&[&fixture("applications.csv"), &file], &[]);
    assert_eq!(output.status.code(), Some(3));
    let said = said(&output);
    assert!(said.contains("WITH (FORMAT csv, HEADER)"), "{said}");
    let listed = mover
        .eye
        .get("/applications")
        .token(ADMIN_TOKEN)
        .send()
        .expect(200)
        .json();
    assert_eq!(listed["applications"], json!([]));
}

#[test]
fn an_existing_token_is_taken_from_standard_input_and_never_shown() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let eye = Eye::start();
    let run = |arguments: &[&str], input: &str| {
        let mut child = Command::new(binary::eye())
            .args(arguments)
            .args(["--token-stdin", "--data", eye.data().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    let create = ["app", "create", "shop"];
    for wrong in ["", "\n", "tooshort\n", "has a space in the middle\n"] {
        let refused = run(&create, wrong);
        assert_eq!(
            refused.status.code(),
            Some(2),
            "{wrong:?}: {}",
            said(&refused)
        );
        assert!(wrong.trim().is_empty() || !said(&refused).contains(wrong.trim()));
    }
    let made = run(&create, &format!("{OLD_TOKEN}\n"));
    assert!(made.status.success(), "{}", said(&made));
    assert!(!String::from_utf8_lossy(&made.stdout).contains(OLD_TOKEN));
    let me = eye.get("/me").token(OLD_TOKEN).send().expect(200).json();
    assert_eq!(me["application"], "shop");
    // A secret is one token's only.
    let taken = run(&["app", "create", "other"], OLD_TOKEN);
    assert_eq!(taken.status.code(), Some(3), "{}", said(&taken));
    let second = run(
        &["token", "create", "--app", "shop"],
        "another-token-of-the-old-service",
    );
    assert!(second.status.success(), "{}", said(&second));
    eye.get("/me")
        .token("another-token-of-the-old-service")
        .send()
        .expect(200);
}
