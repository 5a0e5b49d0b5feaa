use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use support::{ADMIN_TOKEN, Eye, binary};
use tempfile::TempDir;

/// Documents with commands, each run by a test below.
const RUN: [&str; 3] = ["README.md", "docs/migration.md", "docs/operations.md"];

/// What the shell knows before a document's commands: `eye` is the program that was built, and `eye serve` goes on in
/// the background until another one starts or the document ends.
const SHELL: &str = r#"
set -euo pipefail
service=
stop_service() {
    [ -z "$service" ] && return
    kill "$service" && wait "$service"
    service=
}
start_service() {
    command eye serve "$@" >serve.out 2>serve.err &
    service=$!
    local data=$EYE_DATA
    [ "${1:-}" = --data ] && data=$2
    for _ in $(seq 200); do
        command eye health --data "$data" >/dev/null 2>&1 && return
        sleep 0.05
    done
    cat serve.err >&2
    return 1
}
eye() {
    case "$*" in
    serve*) stop_service; shift; start_service "$@" ;;
    # Whoever is told to do this with no service running has stopped it.
    "replay --into"* | "log repair"*) stop_service; command eye "$@"; start_service --data "$EYE_DATA" ;;
    *) command eye "$@" ;;
    esac
}
trap 'kill $service 2>/dev/null || true' EXIT
"#;

/// A block of commands and where it stands.
struct Block {
    line: usize,
    text: String,
    /// Why it is not run, if it is not.
    not_run: Option<String>,
}

/// Returns the blocks of a document that are fenced as `sh`.
fn blocks(document: &str) -> Vec<Block> {
    let path = binary::workspace().join(document);
    let text = fs::read_to_string(&path).unwrap();
    let (mut blocks, mut not_run): (Vec<Block>, _) = (Vec::new(), None);
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim();
        if open {
            let block = blocks.last_mut().unwrap();
            if bare == "```" {
                open = false;
            } else {
                block.text.push_str(bare_of_indent(line));
                block.text.push('\n');
            }
        } else if bare == "```sh" {
            open = true;
            blocks.push(Block {
                line: number + 1,
                text: String::new(),
                not_run: not_run.take(),
            });
        } else if let Some(why) = bare.strip_prefix("<!-- not run: ") {
            not_run = Some(why.trim_end_matches(" -->").to_owned());
        } else if !bare.is_empty() {
            not_run = None;
        }
    }
    blocks
}

/// Blocks within a list are indented; what they hold may be, too.
fn bare_of_indent(line: &str) -> &str {
    line.strip_prefix("   ").unwrap_or(line)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Runs a document's commands, one after the other in one shell, in a folder of their own; `prepare` fills it, and
/// `first` is run before them.
#[track_caller]
fn run(document: &str, prepare: impl FnOnce(&Path), first: &str, variables: &[(&str, &str)]) {
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    let root = TempDir::with_prefix("eye-test-").unwrap();
    for folder in ["srv", "backup", "etc/eye", "work", "state"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    prepare(root.path());
    let place = root.path().to_str().unwrap();
    let (port, tls_port) = (free_port().to_string(), free_port().to_string());
    let mut script = SHELL.to_owned() + first;
    let mut count = 0;
    for block in blocks(document)
        .iter()
        .filter(|block| block.not_run.is_none())
    {
        if block.text.contains("curl") && !has_curl {
            eprintln!("not shown: no curl for {document}:{}", block.line);
            continue;
        }
        let text = block
            .text
            .replace("/srv/", &format!("{place}/srv/"))
            .replace("/backup/", &format!("{place}/backup/"))
            .replace("/etc/eye/", &format!("{place}/etc/eye/"))
            .replace("0.0.0.0:8443", &format!("127.0.0.1:{tls_port}"))
            .replace(":8001", &format!(":{port}"));
        script += &format!("echo '== {document}:{}' >&2\n{text}\n", block.line);
        count += 1;
    }
    assert!(count > 0, "{document} has no commands to be run");
    let path = format!(
        "{}:{}",
        binary::eye().parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let listen = format!("127.0.0.1:{port}");
    let ran = Command::new("bash")
        .arg("-c")
        .arg(&script)
        .current_dir(root.path().join("work"))
        .envs([
            ("PATH", &path[..]),
            ("EYE_DATA", root.path().join("srv/eye").to_str().unwrap()),
            ("EYE_LISTEN", &listen),
            ("EYE_ADMIN_TOKEN", ADMIN_TOKEN),
            ("EYE", &format!("http://{listen}")),
            (
                "XDG_STATE_HOME",
                root.path().join("state").to_str().unwrap(),
            ),
        ])
        .envs(variables.iter().copied())
        .output()
        .expect("bash can be started");
    assert!(
        ran.status.success(),
        "{}\n{}\n{}",
        ran.status,
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn the_commands_of_the_readme_work() {
    let first = "command eye app create shop --token-stdin --data \"$EYE_DATA\" <<< \"$TOKEN\"\neye serve\n";
    let token = "the-token-that-the-welcome-made";
    run("README.md", |_| {}, first, &[("TOKEN", token)]);
}

#[test]
fn the_move_from_the_old_service_can_be_rehearsed_as_it_is_told() {
    let session = "e2085be5-9137-4e4e-80b5-f1ffddc25423";
    let prepare = |root: &Path| {
        let write = |name: &str, text: &str| fs::write(root.join("work").join(name), text).unwrap();
        write("old-token", "a-token-of-the-old-service\n");
        write(
            "applications.csv",
            "id,name,token,active\n1,website,9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b,t\n",
        );
        write("sessions.csv", &format!("id,application_id\n{session},1\n"));
        write(
            "events.csv",
            &format!(
                "id,session_id,category,name,data,timestamp\n\
                 7,{session},page interaction,pageview,\"{{\"\"path\"\": \"\"/\"\"}}\",2021-01-01 09:15:27.24386+00\n"
            ),
        );
    };
    run("docs/migration.md", prepare, "eye serve\n", &[]);
}

#[test]
fn the_commands_for_operating_it_work() {
    let prepare = |root: &Path| {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let etc = root.join("etc/eye");
        fs::write(etc.join("tls.crt"), cert.pem()).unwrap();
        fs::write(etc.join("tls.key"), signing_key.serialize_pem()).unwrap();
        fs::write(etc.join("eye.toml"), "read_wait = \"250ms\"\n").unwrap();
        let to_be_erased = support::events::plain("6f3c1c1e-8f0b-4a57-9d8b-0d7f1f2b3c4d");
        let stays = support::events::plain("e2085be5-9137-4e4e-80b5-f1ffddc25423");
        let mut found = stays.clone();
        found["data"]["user"] = "alice@example.com".into();
        let lines = format!("{to_be_erased}\n{found}\n{stays}\n");
        fs::write(root.join("work/events.ndjson"), lines).unwrap();
    };
    let other = Eye::start();
    let first = "command eye app create shop\ncommand eye send events.ndjson --app shop\n";
    let variables = [("OTHER", &other.url()[..]), ("OTHER_TOKEN", ADMIN_TOKEN)];
    run("docs/operations.md", prepare, first, &variables);
    // What was erased was not replayed.
    assert_eq!(other.count(ADMIN_TOKEN, "*"), 1);
}

#[test]
fn no_document_has_commands_that_nobody_runs() {
    let mut documents = vec!["README.md".to_owned()];
    for entry in fs::read_dir(binary::workspace().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            documents.push(format!("docs/{name}"));
        }
    }
    let mut with_commands = BTreeSet::new();
    for document in &documents {
        for block in blocks(document) {
            match block.not_run {
                None => {
                    with_commands.insert(document.as_str());
                }
                Some(why) => assert!(
                    why.len() > 10,
                    "{document}:{}: why is it not run?",
                    block.line
                ),
            }
        }
    }
    assert_eq!(with_commands, BTreeSet::from(RUN));
}
