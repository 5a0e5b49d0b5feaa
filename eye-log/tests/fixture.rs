//! Logs of each format version that are kept for ever: whatever comes later must read them as they were written.
//!
//! What must stay true: a folder in `fixtures` is written once and never again. A new version gets one of its own beside them.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use eye_log::format::FORMAT_VERSION;
use eye_log::format::frame::{Found, FrameHeader};
use eye_log::format::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use eye_log::record::{EventRecord, Record, RegistryRecord};
use eye_log::registry::RegistryChange;
use eye_log::storage::{Disk, Storage, StorageFile};
use eye_log::{
    Actor, ApplicationId, Batch, Change, EventDraft, EventRules, Exception, Log, LogConfig,
    NewToken, Receipt, TokenKind, TokenTerms, verify,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// The format versions of raw segments.
const RAW: [u32; 2] = [1, FORMAT_VERSION];
const RECORDS: &str = "expected.ndjson";
const FRAMES: &str = "frames.ndjson";

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(format!("v{version}"))
}

fn config() -> LogConfig {
    LogConfig {
        segment_max_bytes: 16 << 10,
        // However old the fixture is, its ids are remembered.
        idempotency_window: Duration::from_secs(10_000 * 365 * 24 * 3600),
        ..LogConfig::default()
    }
}

#[test]
fn the_fixtures_of_raw_segments_read_as_they_were_written() {
    RAW.into_iter().for_each(raw_segments_read_as_written);
}

fn raw_segments_read_as_written(version: u32) {
    let expected = lines(&fixture(version).join(RECORDS));
    let copy = copy_of_the_log(version);
    let before = segments_of(copy.path());

    let report = verify::verify(copy.path(), None, &mut |_, _| ()).unwrap();
    let events = expected.iter().filter(|line| line["kind"] == "event");
    assert_eq!(report.damage.len(), 0, "{report:?}");
    assert_eq!(
        (report.end, report.records, report.events),
        (
            expected.len() as u64,
            expected.len() as u64,
            events.count() as u64
        )
    );
    assert_eq!((report.torn_tail_bytes, report.segments), (0, before.len()));

    assert_eq!(
        frames_of(copy.path()),
        lines(&fixture(version).join(FRAMES))
    );
    let (log, report) = Log::open(copy.path(), config()).unwrap();
    assert_eq!((report.end, report.cut), (expected.len() as u64, None));
    assert_eq!(records_of(&log), expected);
    one_by_one_they_read_the_same(&log, &expected);
    log.close();
    drop(log);

    // By now all but the last segment are sealed files of version 2, and say the same. One of an older version is not
    // written on, and so is sealed, too.
    let report = verify::verify(copy.path(), None, &mut |_, _| ()).unwrap();
    assert_eq!(report.damage.len(), 0, "{report:?}");
    let active = usize::from(version == FORMAT_VERSION);
    assert_eq!(report.seals + active, before.len());
    let last = segments_of(copy.path()).into_values().next_back().unwrap();
    assert_eq!(
        SegmentHeader::decode(&last).unwrap().version,
        FORMAT_VERSION
    );
    let (log, _) = Log::open(copy.path(), config()).unwrap();
    assert_eq!(records_of(&log), expected);
    one_by_one_they_read_the_same(&log, &expected);
}

fn one_by_one_they_read_the_same(log: &Log, expected: &[Value]) {
    let offsets: Vec<u64> = (0..expected.len() as u64).rev().collect();
    let events = log.reader().read_many(&offsets).unwrap();
    for (event, expected) in events.iter().zip(expected.iter().rev()) {
        assert_eq!(event.is_some(), expected["kind"] == "event");
        if let Some(event) = event {
            assert_eq!(expected["offset"], event.offset);
            assert_eq!(expected["data"], event.data);
        }
    }
}

/// A sealed file of three merged segments, of which a session was erased, and then the rest of a segment.
#[test]
fn the_fixture_of_version_2_reads_as_it_was_written() {
    let expected = lines(&fixture(2).join(RECORDS));
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(2).join("log")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let head = std::fs::read_to_string(fixture(2).join("head")).unwrap();
    let report = verify::verify(copy.path(), None, &mut |_, _| ()).unwrap();
    assert_eq!(report.damage.len(), 0, "{report:?}");
    assert_eq!(
        (report.end, report.head.as_deref()),
        (expected.len() as u64, Some(head.trim()))
    );

    let (log, report) = Log::open(copy.path(), config()).unwrap();
    assert_eq!((report.end, report.cut), (expected.len() as u64, None));
    let events = |line: &&Value| line["kind"] == "event";
    let mut read = Vec::new();
    let mut scan = log.reader().scan(0);
    let mut see = |offset, record: Record<'_>| {
        if let Record::Event(event) = record {
            read.push(event_line(offset, &event));
        }
    };
    while scan.read(&mut see).unwrap() > 0 {}
    assert!(read.iter().eq(expected.iter().filter(events)));
    one_by_one_they_read_the_same(&log, &expected);
    for event in expected
        .iter()
        .filter(events)
        .filter(|line| !line["client"].is_null())
    {
        let application = u32::try_from(event["application"].as_u64().unwrap()).unwrap();
        let receipt = send(&log, again(Batch::new(ApplicationId(application)), event));
        assert!(matches!(
            receipt.exceptions[..],
            [(0, Exception::Duplicate { .. })]
        ));
    }
}

/// Session owners and ids come from the footers of the sealed segments and the frames of the active one.
#[test]
fn the_fixtures_of_raw_segments_still_know_sessions_ids_and_tokens() {
    RAW.into_iter().for_each(sessions_ids_and_tokens_are_known);
}

fn sessions_ids_and_tokens_are_known(version: u32) {
    let expected = lines(&fixture(version).join(RECORDS));
    let copy = copy_of_the_log(version);
    let (log, _) = Log::open(copy.path(), config()).unwrap();
    for event in expected.iter().filter(|line| line["kind"] == "event") {
        let application = u32::try_from(event["application"].as_u64().unwrap()).unwrap();
        let stranger = Batch::new(ApplicationId(application + 100));
        assert_eq!(
            send(&log, again(stranger, event)).exceptions[0].1,
            Exception::SessionConflict
        );
        if !event["client"].is_null() {
            let receipt = send(&log, again(Batch::new(ApplicationId(application)), event));
            let duplicate = Exception::Duplicate {
                offset: event["offset"].as_u64().unwrap(),
                id: event["id"].as_str().unwrap().parse().unwrap(),
            };
            assert_eq!(receipt.exceptions, [(0, duplicate)]);
        }
    }
    let registry = log.registry();
    let names: Vec<_> = registry
        .applications()
        .map(|application| (application.name.as_str(), application.active))
        .collect();
    assert_eq!(names, [("shop", true), ("Café Ω 日本", false)]);
    let mut kinds: Vec<_> = registry.tokens().map(|token| token.kind).collect();
    kinds.sort_by_key(|kind| format!("{kind:?}"));
    let of_application = |read, write| TokenKind::Application { read, write };
    assert_eq!(
        kinds,
        [
            TokenKind::Admin,
            TokenKind::Analyst,
            of_application(false, true),
            of_application(true, false),
            of_application(true, true)
        ],
        "the token that may do nothing was revoked"
    );
}

/// Adds an event to a batch as its client would send it again.
fn again(mut batch: Batch, event: &Value) -> Batch {
    let text = |field: &str| event[field].to_string();
    let timestamp = event["timestamp"].as_i64().unwrap();
    let timestamp = format!("\"{}\"", eye_log::format_timestamp(timestamp));
    let id = text("id");
    let key = event["client"]["key"].as_str().unwrap_or("");
    let draft = EventDraft {
        session_id: Some(&text("session_id")),
        category: Some(&text("category")),
        name: Some(&text("name")),
        data: event["data"].as_str(),
        timestamp: Some(&timestamp),
        id: (!event["client"].is_null()).then_some(&id),
        ..EventDraft::default()
    };
    let event = draft.validate(&rules()).unwrap();
    match key {
        "" => batch.push(&event),
        key => batch.push(&event.with_client_key(Cow::Borrowed(key)).unwrap()),
    }
    batch
}

/// What the document says of ids and content hashes, computed anew from the fixture's records.
#[test]
fn ids_and_content_hashes_are_made_as_the_document_says() {
    let namespace = Uuid::from_u128(0x6f0c_9a52_3d1e_4b57_8a4e_c1d2_77b0_95e3);
    let (mut made, mut keyed, mut brought) = (0, 0, 0);
    for event in lines(&fixture(1).join(RECORDS)) {
        if event["kind"] != "event" {
            continue;
        }
        let number = |field: &str| event[field].as_i64().unwrap();
        let id: Uuid = event["id"].as_str().unwrap().parse().unwrap();
        if event["client"].is_null() {
            let arrival = u128::try_from(number("received_at")).unwrap();
            let offset = u128::try_from(number("offset")).unwrap();
            let high = (arrival / 1000) << 16 | 7 << 12 | (arrival % 1000);
            assert_eq!(id.as_u128(), high << 64 | 2 << 62 | offset);
            made += 1;
            continue;
        }
        match event["client"]["key"].as_str().unwrap() {
            "" => brought += 1,
            key => {
                let application = u32::try_from(number("application")).unwrap();
                let name = [&application.to_le_bytes(), key.as_bytes()].concat();
                assert_eq!(id, Uuid::new_v5(&namespace, &name));
                keyed += 1;
            }
        }
        let session: Uuid = event["session_id"].as_str().unwrap().parse().unwrap();
        let mut hashed = session.as_bytes().to_vec();
        hashed.extend(number("timestamp").to_le_bytes());
        for field in ["category", "name"] {
            let text = event[field].as_str().unwrap();
            hashed.extend((text.len() as u64).to_le_bytes());
            hashed.extend(text.as_bytes());
        }
        let (mut quoted, mut escaped) = (false, false);
        for byte in event["data"].as_str().unwrap().bytes() {
            if quoted || !b" \t\n\r".contains(&byte) {
                hashed.push(byte);
            }
            quoted ^= byte == b'"' && !escaped;
            escaped = quoted && byte == b'\\' && !escaped;
        }
        let hash = blake3::hash(&hashed).to_hex();
        assert_eq!(event["client"]["content_hash"], hash[..32]);
    }
    assert!(made > 0 && keyed > 0 && brought > 0);
}

/// `cargo test -p eye-log --test fixture -- --ignored write_the_fixture`, once for each version of the format.
#[test]
#[ignore = "writes the fixture of a new format version, which is then kept for ever"]
fn write_the_fixture() {
    let target = fixture(FORMAT_VERSION);
    assert!(
        !target.exists(),
        "there is a fixture of version {FORMAT_VERSION}; it is never written again"
    );
    let folder = tempfile::tempdir().unwrap();
    let unsealed = || Arc::new(Unsealed(Disk::new(folder.path())));
    let (log, _) = Log::open_in(unsealed(), config()).unwrap();
    register(&log);
    first_events(&log);
    log.close();
    drop(log);
    // A second start, so that a frame without records stands between frames with some.
    let (log, report) = Log::open_in(unsealed(), config()).unwrap();
    assert_eq!(report.cut, None);
    more_events(&log);
    let records = records_of(&log);
    log.close();
    drop(log);

    let stats = verify::stats(folder.path()).unwrap();
    assert!(stats.segments.len() >= 3);
    std::fs::create_dir_all(target.join("log")).unwrap();
    for segment in &stats.segments {
        // Zeros behind the frames of the active segment mean the same as the end of the file.
        let used = usize::try_from(segment.bytes).unwrap();
        let bytes = std::fs::read(folder.path().join(&segment.file)).unwrap();
        assert!(bytes[used..].iter().all(|byte| *byte == 0));
        std::fs::write(target.join("log").join(&segment.file), &bytes[..used]).unwrap();
    }
    write_lines(&target.join(RECORDS), &records);
    write_lines(&target.join(FRAMES), &frames_of(folder.path()));
}

/// A folder in which no sealed file can be made.
#[derive(Debug)]
struct Unsealed(Disk);

impl Storage for Unsealed {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.0.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        if name == "sealing" {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.0.create(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

fn register(log: &Log) {
    let token = |number: u8, kind, application| NewToken {
        id: Uuid::from_u128(0x7000_0000_0000_4000_8000_0000_0000_0000 + u128::from(number)),
        kind,
        application,
        hash: [number; 32],
        terms: TokenTerms::default(),
    };
    let of_application = |read, write| TokenKind::Application { read, write };
    let owner = Actor::default();
    let admin = Actor {
        token: token(1, TokenKind::Admin, None).id,
        request: Uuid::from_u128(0x1234_5678_9abc_4def_8012_3456_789a_bcde),
    };
    let (shop, cafe) = (Some(ApplicationId(0)), Some(ApplicationId(1)));
    let cafe_name = || "Café Ω 日本".to_owned();
    let changes = [
        (owner, Change::IssueToken(token(1, TokenKind::Admin, None))),
        (
            admin,
            Change::RegisterApplication {
                name: "shop".to_owned(),
                token: Some(token(2, of_application(true, true), None)),
            },
        ),
        (
            admin,
            Change::RegisterApplication {
                name: cafe_name(),
                token: None,
            },
        ),
        (
            admin,
            Change::IssueToken(token(3, TokenKind::Analyst, None)),
        ),
        (
            admin,
            Change::IssueToken(token(4, of_application(false, true), shop)),
        ),
        (
            admin,
            Change::IssueToken(token(5, of_application(true, false), cafe)),
        ),
        (
            admin,
            Change::IssueToken(token(6, of_application(false, false), cafe)),
        ),
        (
            admin,
            Change::SetApplicationActive {
                name: cafe_name(),
                active: false,
            },
        ),
        (
            admin,
            Change::SetApplicationActive {
                name: cafe_name(),
                active: true,
            },
        ),
    ];
    for (actor, change) in changes {
        apply(log, change, actor);
    }
}

fn apply(log: &Log, change: Change, actor: Actor) {
    let (sender, receiver) = mpsc::channel();
    let reply = move |changed: Result<_, _>| sender.send(changed.map(|_| ())).unwrap();
    log.change(change, actor, reply).unwrap();
    receiver.recv().unwrap().unwrap();
}

fn first_events(log: &Log) {
    let one = |application, push: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new(ApplicationId(application));
        push(&mut batch);
        send(log, batch)
    };
    // One at a time, without ids: the edges of what an event may hold.
    for (session, time, category, name, data) in [
        (
            1,
            "2021-01-01 09:15:27.243860",
            "page interaction",
            "pageview",
            r#"{"host": "www.example.com", "path": "/"}"#,
        ),
        (1, "2021-01-01T10:15:28+01:00", "c", "n", "{}"),
        (
            2,
            "0001-01-01T00:00:00Z",
            "Straße",
            "Łódź 日本 😀",
            r#"{"größe":1e400,"a":-0.0,"a":123456789012345678901234567890}"#,
        ),
        (
            2,
            "9999-12-31T23:59:59.999999Z",
            "x",
            "é",
            "{ \"lone\" : \"\\ud800\",\n\t\"nul\":\"\\u0000\" , \"deep\":[[[{}]]]}",
        ),
        (
            3,
            "1969-12-31T23:59:59.999999Z",
            "before",
            "1970",
            r#"{"b":[true,false,null],"é":"\"\\ \/"}"#,
        ),
    ] {
        let receipt = one(0, &|batch| {
            push(batch, session, time, [category, name], data, Id::None);
        });
        assert_eq!(receipt.stored, 1);
    }
    // Ids of clients: UUIDs and other keys; the same one of two applications is two events.
    one(0, &|batch| {
        plain(batch, 10, "{\"n\":1}", Id::Uuid(0xa1));
        plain(batch, 10, "{\"n\":2}", Id::Key("order-1"));
        plain(batch, 11, "{\"n\":3}", Id::Key("ключ/日本 😀"));
    });
    one(1, &|batch| {
        plain(batch, 20, "{\"n\":1}", Id::Uuid(0xa1));
        plain(batch, 20, "{\"n\":2}", Id::Key("order-1"));
        plain(batch, 21, "{\"n\":3}", Id::None);
    });
    // One frame that counts what it does not hold: one duplicate, and four refused (two of them before).
    let receipt = one(0, &|batch| {
        plain(batch, 10, "{ \"n\" : 1 }", Id::Uuid(0xa1));
        plain(batch, 10, "{\"n\":99}", Id::Key("order-1"));
        plain(batch, 20, "{}", Id::None);
        plain(batch, 12, "{\"kept\":true}", Id::Key("x"));
        batch.note_refused(2);
    });
    assert_eq!((receipt.stored, receipt.exceptions.len()), (1, 3));
    let long = format!("{{\"text\":\"{}\"}}", "lang ".repeat(120));
    for number in 0..14u8 {
        one(u32::from(number % 2), &|batch| {
            plain(
                batch,
                30 + u128::from(number),
                &long,
                Id::Uuid(0xb0 + u128::from(number)),
            );
            plain(batch, 30 + u128::from(number), "{\"short\":1}", Id::None);
        });
    }
}

fn more_events(log: &Log) {
    let long = format!("{{\"text\":\"{}\"}}", "später ".repeat(90));
    for number in 0..3u128 {
        let mut batch = Batch::new(ApplicationId(0));
        for part in 0..4 {
            let key = format!("batch {number}, part {part}");
            plain(&mut batch, 60 + number, &long, Id::Key(&key));
        }
        // A session of an earlier segment goes on.
        plain(&mut batch, 1, "{\"again\":true}", Id::None);
        assert_eq!(send(log, batch).stored, 5);
    }
    let cafe = Change::SetApplicationActive {
        name: "Café Ω 日本".to_owned(),
        active: false,
    };
    apply(log, cafe, Actor::default());
    let idle = Change::RevokeToken {
        id: Uuid::from_u128(0x7000_0000_0000_4000_8000_0000_0000_0006),
    };
    apply(log, idle, Actor::default());
    let mut batch = Batch::new(ApplicationId(0));
    plain(&mut batch, 70, "{\"last\":true}", Id::Uuid(0xff));
    send(log, batch);
}

enum Id<'a> {
    None,
    Uuid(u128),
    Key(&'a str),
}

fn plain(batch: &mut Batch, session: u128, data: &str, id: Id<'_>) {
    let time = "2024-02-29 12:00:00.000001";
    push(batch, session, time, ["category", "name"], data, id);
}

fn push(
    batch: &mut Batch,
    session: u128,
    time: &str,
    [category, name]: [&str; 2],
    data: &str,
    id: Id<'_>,
) {
    let quoted = |text: &str| Value::from(text).to_string();
    let uuid = |number: u128| {
        let uuid = Uuid::from_u128(0xe208_5be5_9137_4e4e_80b5_0000_0000_0000 + number);
        format!("\"{uuid}\"")
    };
    let id_text = match id {
        Id::Uuid(number) => Some(uuid(number)),
        _ => None,
    };
    let draft = EventDraft {
        session_id: Some(&uuid(session)),
        category: Some(&quoted(category)),
        name: Some(&quoted(name)),
        data: Some(data),
        timestamp: Some(&quoted(time)),
        id: id_text.as_deref(),
        ..EventDraft::default()
    };
    let event = draft.validate(&rules()).unwrap();
    match id {
        Id::Key(key) => batch.push(&event.with_client_key(Cow::Borrowed(key)).unwrap()),
        _ => batch.push(&event),
    }
}

fn rules() -> EventRules {
    EventRules {
        now: i64::MAX,
        future_tolerance: 0,
        default_offset_seconds: 0,
        event_max_bytes: 1 << 18,
        depth_max: 64,
    }
}

fn send(log: &Log, batch: Batch) -> Receipt {
    let (sender, receiver) = mpsc::channel();
    log.append(batch, move |receipt| sender.send(receipt).unwrap())
        .unwrap();
    receiver.recv().unwrap().unwrap()
}

fn copy_of_the_log(version: u32) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in segments_of(&fixture(version).join("log")) {
        std::fs::write(copy.path().join(name), bytes).unwrap();
    }
    copy
}

/// The segment files of a folder, oldest first.
fn segments_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name.ends_with(".seg"))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn write_lines(path: &Path, values: &[Value]) {
    let text: String = values.iter().map(|value| format!("{value}\n")).collect();
    std::fs::write(path, text).unwrap();
}

fn records_of(log: &Log) -> Vec<Value> {
    let mut records = Vec::new();
    let mut scan = log.reader().scan(0);
    let mut see = |offset, record: Record<'_>| {
        records.push(match record {
            Record::Event(event) => event_line(offset, &event),
            Record::Registry(record) => registry_line(offset, &record),
            other => panic!("{other:?}"),
        });
    };
    while scan.read(&mut see).unwrap() > 0 {}
    records
}

fn event_line(offset: u64, event: &EventRecord<'_>) -> Value {
    json!({
        "offset": offset,
        "kind": "event",
        "id": event.id,
        "received_at": event.received_at,
        "application": event.application.0,
        "session_id": event.session_id,
        "timestamp": event.timestamp,
        "client": event.client.map(|client| json!({
            "key": client.key,
            "content_hash": hex(&event.content_hash()),
        })),
        "category": event.category,
        "name": event.name,
        "meta": event.meta,
        "data": event.data,
    })
}

fn registry_line(offset: u64, record: &RegistryRecord) -> Value {
    let change = match &record.change {
        RegistryChange::Registered { application, name } => {
            json!({"registered": {"application": application.0, "name": name}})
        }
        RegistryChange::SetActive {
            application,
            active,
        } => json!({"set_active": {"application": application.0, "active": active}}),
        RegistryChange::Issued(issued) => json!({"issued": {
            "token": issued.token,
            "token_kind": match issued.kind {
                TokenKind::Admin => "admin".to_owned(),
                TokenKind::Analyst => "analyst".to_owned(),
                TokenKind::Application { read, write } => {
                    format!("application, read {read}, write {write}")
                }
            },
            "application": issued.application.map(|application| application.0),
            "hash": hex(&issued.hash),
        }}),
        RegistryChange::SetLimits { .. } => panic!("version 1 knew no limits"),
        RegistryChange::RuleSet { .. } | RegistryChange::RuleRemoved { .. } => {
            panic!("version 1 knew no rules")
        }
        RegistryChange::Revoked { token } => json!({"revoked": {"token": token}}),
    };
    json!({
        "offset": offset,
        "kind": "registry",
        "at": record.at,
        "by": record.by,
        "request": record.request,
        "change": change,
    })
}

/// The headers of all frames.
fn frames_of(folder: &Path) -> Vec<Value> {
    let mut frames = Vec::new();
    for (name, bytes) in segments_of(folder) {
        let salt = SegmentHeader::decode(&bytes).unwrap().salt;
        let mut at = SEGMENT_HEADER_BYTES;
        while let Some(Found::Frame(header, checksum)) = bytes
            .get(at..)
            .map(|bytes| FrameHeader::decode(bytes, salt))
        {
            frames.push(json!({
                "file": name,
                "position": at,
                "checksum": checksum,
                "body_bytes": header.body_bytes,
                "count": header.count,
                "first_offset": header.first_offset,
                "appended_at": header.appended_at,
                "durable_end": header.durable_end,
                "table_checksum": header.table_checksum,
                "previous": header.previous,
                "duplicates": header.duplicates,
                "rejected": header.rejected,
            }));
            at += header.stride();
        }
    }
    frames
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
