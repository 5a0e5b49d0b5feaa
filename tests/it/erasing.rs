//! What a person has forgotten is gone: from every answer at once, from every byte of every file after the compaction,
//! and the chain of seals still verifies.

use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{App, Eye, Launch, Random, events, percent_encoded, time};
use tantivy::columnar::{BytesColumn, ColumnarReader, DynamicColumn};
use tantivy::index::SegmentComponent;

/// Words that stand nowhere else.
const SECRET: &str = "Zwiebelkuchenrezept";
const OTHER: &str = "Grundsteinlegung";

fn send(eye: &Eye, app: &App, session: &str, name: &str, text: &str) -> Value {
    let mut event = events::plain(session);
    event["name"] = json!(name);
    event["data"] = json!({"text": text, "nested": {"word": text.to_lowercase()}});
    eye.post("/events")
        .token(&app.token)
        .json(&event)
        .send()
        .expect(201)
        .json()
}

/// Everything that can be read in a data folder: each file's bytes, the blocks of sealed files decompressed, and the
/// terms of every index. Names come with it.
fn everything(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.join("meta.json").is_file() {
                    all.push((format!("terms of {}", path.display()), terms(&path)));
                }
                folders.push(path);
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else {
                continue;
            };
            let name = path.display().to_string();
            if name.ends_with(".sealed") {
                all.push((format!("blocks of {name}"), blocks(&bytes)));
            }
            all.push((name, bytes));
        }
    }
    all
}

/// Decompresses every block of a sealed file, as `docs/log-format.md` says: 64 bytes of header, zstd behind it.
fn blocks(bytes: &[u8]) -> Vec<u8> {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut out) = (4096, Vec::new());
    while bytes.get(at..at + 4) == Some(b"EYEB") {
        let (stored, raw) = (number(at + 8), number(at + 12));
        let content = &bytes[at + 64..at + 64 + stored];
        match number(at + 32) {
            0 => out.extend_from_slice(content),
            _ => out.extend(zstd::bulk::decompress(content, raw).unwrap()),
        }
        at = (at + 64 + stored).next_multiple_of(8);
    }
    out
}

/// Lists every term of every field, and every value of the columns' dictionaries, which are compressed.
fn terms(folder: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    let index = tantivy::Index::open_in_dir(folder).unwrap();
    for segment in index.searchable_segments().unwrap() {
        let reader = tantivy::SegmentReader::open(&segment).unwrap();
        for (field, entry) in index.schema().fields() {
            if entry.is_indexed() {
                let inverted = reader.inverted_index(field).unwrap();
                let mut terms = inverted.terms().stream().unwrap();
                while terms.advance() {
                    out.extend_from_slice(terms.key());
                    out.push(b'\n');
                }
            }
        }
        let columns = segment.open_read(SegmentComponent::FastFields).unwrap();
        let columns = ColumnarReader::open(columns).unwrap();
        for (name, column) in columns.list_columns().unwrap() {
            out.extend_from_slice(name.as_bytes());
            let column = match column.open().unwrap() {
                DynamicColumn::Str(column) => BytesColumn::from(column),
                DynamicColumn::Bytes(column) => column,
                _ => continue,
            };
            let mut values = column.dictionary().stream().unwrap();
            while values.advance() {
                out.extend_from_slice(values.key());
                out.push(b'\n');
            }
        }
    }
    out
}

/// The names of what holds any of these, whatever the case.
fn holders(all: &[(String, Vec<u8>)], needles: &[Vec<u8>]) -> Vec<String> {
    let holds = |bytes: &[u8]| {
        let lower = bytes.to_ascii_lowercase();
        needles.iter().any(|needle| {
            let needle = needle.to_ascii_lowercase();
            lower.windows(needle.len()).any(|window| window == needle)
        })
    };
    all.iter()
        .filter(|(_, bytes)| holds(bytes))
        .map(|(name, _)| name.clone())
        .collect()
}

fn needles(session: &str) -> Vec<Vec<u8>> {
    let bytes = uuid::Uuid::parse_str(session).unwrap().as_bytes().to_vec();
    vec![
        SECRET.as_bytes().to_vec(),
        session.as_bytes().to_vec(),
        bytes,
    ]
}

#[test]
fn an_erased_session_is_in_no_answer_at_once_and_in_no_byte_after_the_compaction() {
    let mut eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "64KiB")
        .variable("EYE_DISK_RESERVE", "0")
        .start();
    let app = eye.application("shop");
    let mut random = Random::announced(11);
    let (forgotten, kept) = (random.uuid(), random.uuid());
    let filler = "Lorem ipsum dolor sit amet, consetetur sadipscing elitr. ".repeat(8);
    for round in 0..60 {
        send(
            &eye,
            &app,
            &forgotten,
            "secret",
            &format!("{SECRET} {round} {filler}"),
        );
        for number in 0..4 {
            send(
                &eye,
                &app,
                &kept,
                "plain",
                &format!("{OTHER} {round} {number} {filler}"),
            );
        }
    }
    let last = send(&eye, &app, &forgotten, "secret", SECRET);
    let id = last["id"].as_str().unwrap().to_owned();
    eye.wait_until_indexed();
    assert_eq!(eye.count(&app.token, SECRET), 61);
    // A control: before, it is found in the log and in the index by the same look.
    let mut control = Vec::new();
    time::wait_until("a segment is sealed", Duration::from_secs(30), || {
        control = holders(&everything(eye.data()), &needles(&forgotten));
        control.iter().any(|name| name.starts_with("blocks of"))
    });
    assert!(
        control.iter().any(|name| name.ends_with(".seg")),
        "{control:?}"
    );
    assert!(
        control.iter().any(|name| name.starts_with("terms of")),
        "{control:?}"
    );

    let erasure = eye
        .request("DELETE", &format!("/sessions/{forgotten}"))
        .token(&app.token)
        .send()
        .expect(202);
    let location = erasure.header("location").unwrap().to_owned();
    let erasure = erasure.json();
    assert_eq!(
        (&erasure["state"], &erasure["events"]),
        (&json!("hidden"), &json!(61))
    );
    let hidden = |eye: &Eye| {
        assert_eq!(eye.count(&app.token, SECRET), 0);
        assert_eq!(eye.count(&app.token, OTHER), 240);
        for target in [format!("/sessions/{forgotten}"), format!("/events/{id}")] {
            eye.get(&target)
                .token(&app.token)
                .send()
                .problem(404, "not_found");
        }
        let list = eye
            .get("/events")
            .query("session_id", &forgotten)
            .token(&app.token)
            .send();
        assert_eq!(list.expect(200).events().len(), 0);
        let q = percent_encoded(&format!("session:{forgotten}"));
        assert_eq!(
            eye.get(&format!("/search?q={q}&count=true"))
                .token(&app.token)
                .send()
                .json()["count"],
            0
        );
    };
    hidden(&eye);
    // Asking again is the same erasure.
    let again = eye
        .request("DELETE", &format!("/sessions/{forgotten}"))
        .token(&app.token)
        .send();
    assert_eq!(again.expect(202).json()["id"], erasure["id"]);
    eye.kill();
    eye.restart();
    hidden(&eye);

    let compacted = eye.command(["compact", "--json", "--data", eye.data().to_str().unwrap()]);
    assert!(compacted.status.success(), "{compacted:?}");
    let report: Value = serde_json::from_slice(&compacted.stdout).unwrap();
    assert_eq!(report["erased"], 61, "{report}");
    let done = eye
        .get(&location)
        .token(&app.token)
        .send()
        .expect(200)
        .json();
    assert_eq!(done["state"], "done");
    assert_eq!(done["certificate"]["found"], 0);
    assert!(
        !done["certificate"]["segments"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    hidden(&eye);
    let left = holders(&everything(eye.data()), &needles(&forgotten));
    assert_eq!(left, Vec::<String>::new());
    assert!(!holders(&everything(eye.data()), &[OTHER.as_bytes().to_vec()]).is_empty());
    let verified = eye.command([
        "log",
        "verify",
        "--json",
        "--data",
        eye.data().to_str().unwrap(),
    ]);
    assert!(verified.status.success(), "{verified:?}");
    // The session still has its owner; what it sends now is new.
    let other = eye.application("blog");
    let event = events::plain(&forgotten);
    eye.post("/events")
        .token(&other.token)
        .json(&event)
        .send()
        .problem(409, "session_conflict");
    send(&eye, &app, &forgotten, "again", "hello");
    eye.get(&format!("/sessions/{forgotten}"))
        .token(&app.token)
        .send()
        .expect(200);
    eye.stop();
    eye.restart();
    assert_eq!(eye.count(&app.token, SECRET), 0);
    assert_eq!(eye.count(&app.token, OTHER), 240);
}

#[test]
fn what_a_query_finds_is_erased_by_itself_within_the_deadline() {
    let eye = Launch::new()
        .variable("EYE_ERASURE_DEADLINE", "1")
        .variable("EYE_DISK_RESERVE", "0")
        .start();
    let app = eye.application("shop");
    let other = eye.application("blog");
    let mut random = Random::announced(12);
    let (one, two) = (random.uuid(), random.uuid());
    send(&eye, &app, &one, "secret", SECRET);
    send(&eye, &app, &one, "plain", OTHER);
    send(&eye, &other, &two, "secret", SECRET);
    let body = json!({ "q": SECRET });
    let write_only = eye.token_of(&app, &json!({"scopes": ["write"]}));
    eye.post("/erasures")
        .token(&write_only)
        .json(&body)
        .send()
        .problem(403, "forbidden");
    eye.post("/erasures")
        .token(&app.token)
        .json(&json!({}))
        .send()
        .problem(400, "bad_parameter");
    let erasure = eye
        .post("/erasures")
        .token(&app.token)
        .json(&body)
        .send()
        .expect(202)
        .json();
    assert_eq!(
        erasure["events"], 1,
        "another application's events are not for it to erase"
    );
    let target = format!("/erasures/{}", erasure["id"].as_str().unwrap());
    eye.get(&target)
        .token(&other.token)
        .send()
        .problem(404, "not_found");
    let began = Instant::now();
    loop {
        let now = eye.get(&target).token(&app.token).send().expect(200).json();
        if now["state"] == "done" {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{now}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(eye.count(&app.token, SECRET), 0);
    assert_eq!(eye.count(&app.token, OTHER), 1);
    assert_eq!(eye.count(&other.token, SECRET), 1);
}

#[test]
fn retention_takes_the_events_and_leaves_names_owners_and_the_chain() {
    let mut eye = Launch::new()
        .variable("EYE_SEGMENT_MAX_BYTES", "64KiB")
        .variable("EYE_DISK_RESERVE", "0")
        .start();
    let app = eye.application("shop");
    let mut random = Random::announced(13);
    let session = random.uuid();
    let filler = "x".repeat(400);
    for number in 0..300 {
        send(
            &eye,
            &app,
            &session,
            "n",
            &format!("{OTHER} {number} {filler}"),
        );
    }
    let data = eye.data().to_str().unwrap().to_owned();
    let set = eye.command(["app", "set", "shop", "--max-bytes", "0", "--data", &data]);
    assert!(set.status.success(), "{set:?}");
    let would = eye.command(["compact", "--dry-run", "--json", "--data", &data]);
    assert!(would.status.success(), "{would:?}");
    assert!(
        eye.count(&app.token, OTHER) == 300,
        "a dry run changes nothing"
    );
    let compacted = eye.command(["compact", "--json", "--data", &data]);
    let report: Value = serde_json::from_slice(&compacted.stdout).unwrap();
    assert_eq!(report["expired"], 300, "{compacted:?}");
    assert_eq!(eye.count(&app.token, OTHER), 0);
    eye.stop();
    std::fs::remove_dir_all(eye.data().join("index")).unwrap();
    eye.restart();
    eye.wait_until_indexed();
    assert_eq!(eye.count(&app.token, OTHER), 0);
    let other = eye.application("blog");
    eye.post("/events")
        .token(&other.token)
        .json(&events::plain(&session))
        .send()
        .problem(409, "session_conflict");
    assert_eq!(
        eye.get("/me").token(&app.token).send().expect(200).json()["application"],
        "shop"
    );
    let verified = eye.command(["log", "verify", "--data", &data]);
    assert!(verified.status.success(), "{verified:?}");
}
