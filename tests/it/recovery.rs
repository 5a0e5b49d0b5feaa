//! What was acknowledged survives kill -9, a torn tail and the loss of the index.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use support::events::Generator;
use support::{App, Eye, Random};

/// How often the server is killed; the full form sets `EYE_KILLS=20`.
pub(crate) fn kills() -> u64 {
    std::env::var("EYE_KILLS")
        .ok()
        .map_or(3, |kills| kills.parse().expect("EYE_KILLS is a number"))
}

/// What the senders know about a batch.
pub(crate) struct Sent {
    pub(crate) ids: Vec<String>,
    pub(crate) lines: Vec<String>,
    pub(crate) acknowledged: bool,
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let mut random = Random::announced(9);
    let sent: Mutex<Vec<Sent>> = Mutex::new(Vec::new());
    for round in 0..kills() {
        let mut senders: Vec<Generator> = (0..4)
            .map(|_| Generator::new(Random::new(random.bits()), 5))
            .collect();
        let patience = Duration::from_millis(50 + random.below(400));
        thread::scope(|scope| {
            for (number, generator) in senders.iter_mut().enumerate() {
                let (eye, app, sent) = (&eye, &app, &sent);
                // One sends single events, the others batches.
                let batch = [1, 7, 20, 200][number];
                scope.spawn(move || send_until_the_end(eye, app, generator, batch, sent));
            }
            // The delay is what is random here: at which instant the server dies. Nothing is being waited for.
            thread::sleep(patience);
            kill_from_outside(&eye);
        });
        eye.kill();
        eye.restart();
        let sent = sent.lock().unwrap();
        let acknowledged = sent.iter().filter(|batch| batch.acknowledged).count();
        eprintln!(
            "kill {round} after {patience:?}: {acknowledged} of {} requests acknowledged",
            sent.len()
        );
        look_for_losses(&eye, &app, &sent);
    }
    let mut sent = sent.into_inner().unwrap();
    assert!(
        sent.iter().any(|batch| batch.acknowledged),
        "nothing was acknowledged at all"
    );

    // A client that had no answer tries again: what was stored is a duplicate, what was lost is stored now.
    for batch in &mut sent {
        let answer = eye
            .post("/events")
            .token(&app.token)
            .ndjson(&batch.lines)
            .send()
            .expect(200)
            .json();
        let (accepted, duplicates) = (
            answer["accepted"].as_u64().unwrap(),
            answer["duplicates"].as_u64().unwrap(),
        );
        assert_eq!(accepted + duplicates, batch.ids.len() as u64);
        assert!(
            accepted == 0 || !batch.acknowledged,
            "an acknowledged event was stored again: {answer}"
        );
        batch.acknowledged = true;
    }
    look_for_losses(&eye, &app, &sent);
    let total: usize = sent.iter().map(|batch| batch.ids.len()).sum();
    assert_eq!(eye.count(&app.token, "*"), total as u64);
}

/// Sends batches until the server answers no more, and notes what became of each.
pub(crate) fn send_until_the_end(
    eye: &Eye,
    app: &App,
    generator: &mut Generator,
    batch: usize,
    sent: &Mutex<Vec<Sent>>,
) {
    loop {
        let (lines, ids) = generator.lines(batch);
        let answer = eye
            .post("/events")
            .token(&app.token)
            .ndjson(&lines)
            .try_send();
        let acknowledged = answer.as_ref().is_ok_and(|answer| answer.status == 200);
        sent.lock().unwrap().push(Sent {
            ids,
            lines,
            acknowledged,
        });
        match answer {
            Ok(answer) => drop(answer.expect(200)),
            Err(_) => break,
        }
    }
}

pub(crate) fn kill_from_outside(eye: &Eye) {
    let killed = std::process::Command::new("sh")
        .args(["-c", "kill -KILL \"$0\"", &eye.process_id().to_string()])
        .status();
    assert!(killed.unwrap().success());
}

/// Every acknowledged event is there, as it was sent; batches are whole or absent; no offset comes twice.
pub(crate) fn look_for_losses(eye: &Eye, app: &App, sent: &[Sent]) {
    // Somebody else may be sending as fast as the server takes it.
    eye.wait_until_indexed();
    let mut stored: BTreeMap<String, Value> = BTreeMap::new();
    let mut offsets = BTreeSet::new();
    for page in eye.pages(|eye| {
        eye.get("/events?limit=1000&order=timestamp")
            .token(&app.token)
    }) {
        for event in page.events() {
            assert!(
                offsets.insert(event["offset"].as_u64().unwrap()),
                "an offset comes twice: {event}"
            );
            let id = event["id"].as_str().unwrap().to_owned();
            assert!(stored.insert(id, event).is_none(), "an event comes twice");
        }
    }
    let mut known = 0;
    for batch in sent {
        let there = batch
            .ids
            .iter()
            .filter(|id| stored.contains_key(*id))
            .count();
        if batch.acknowledged {
            assert_eq!(
                there,
                batch.ids.len(),
                "of an acknowledged batch {there} of {} are there",
                batch.ids.len()
            );
        }
        assert!(
            there == 0 || there == batch.ids.len(),
            "half a batch: {there} of {}",
            batch.ids.len()
        );
        known += there;
        for (id, line) in batch.ids.iter().zip(&batch.lines) {
            if let Some(event) = stored.get(id) {
                let sent: Value = serde_json::from_str(line).unwrap();
                for field in ["session_id", "category", "name", "data"] {
                    assert_eq!(event[field], sent[field], "event {id}");
                }
            }
        }
    }
    assert_eq!(known, stored.len(), "there are events that nobody sent");
    // The search knows what the list knows.
    assert_eq!(eye.count_indexed(&app.token, "*"), stored.len() as u64);
}

/// A server that was killed after these events, one request each, and what it answered.
fn killed_with(count: usize) -> (Eye, App, Vec<Value>) {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let mut generator = Generator::new(Random::announced(31), 5);
    let answers = (0..count)
        .map(|_| {
            eye.post("/events")
                .token(&app.token)
                .json(&generator.event())
                .send()
                .expect(201)
                .json()
        })
        .collect();
    eye.kill();
    (eye, app, answers)
}

/// The segment being written to: the last one in `DATA/log` that holds anything. Also where its contents end.
fn active_segment(eye: &Eye) -> (PathBuf, u64) {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(eye.data().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    segments
        .into_iter()
        .rev()
        .find_map(|path| {
            // Space is set aside as zeros; a frame does not end with many of them.
            let bytes = std::fs::read(&path).unwrap();
            let end = bytes.iter().rposition(|&byte| byte != 0)? + 1;
            Some((path, end as u64))
        })
        .expect("the log has a segment")
}

fn overwrite(path: &PathBuf, position: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(position)).unwrap();
    file.write_all(bytes).unwrap();
}

/// The first `count` events are there, a new one can be sent, and its offset is nobody else's.
#[track_caller]
fn all_is_well_up_to(eye: &mut Eye, app: &App, answers: &[Value], count: usize) {
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        for answer in &answers[..count] {
            let target = format!("/events/{}", answer["id"].as_str().unwrap());
            assert_eq!(
                eye.get(&target).token(&app.token).send().expect(200).json()["offset"],
                answer["offset"]
            );
        }
        let event = Generator::new(Random::new(u64::from(restarted)), 1).event();
        let new = eye
            .post("/events")
            .token(&app.token)
            .json(&event)
            .send()
            .expect(201)
            .json();
        assert!(
            answers[..count]
                .iter()
                .all(|answer| answer["offset"] != new["offset"]),
            "an offset comes twice"
        );
        eye.get(&format!("/events/{}", new["id"].as_str().unwrap()))
            .token(&app.token)
            .send()
            .expect(200);
        assert_eq!(
            eye.count(&app.token, "*"),
            eye.pages(|eye| eye.get("/events?limit=1000").token(&app.token))
                .iter()
                .map(|page| page.events().len() as u64)
                .sum::<u64>()
        );
    }
}

#[test]
fn garbage_behind_the_last_frame_is_cut_off() {
    // What a power cut may leave: a part of a frame that was never acknowledged.
    for garbage in [&[0xff; 1][..], &[0x5a; 300], &[1; 5_000]] {
        let (mut eye, app, answers) = killed_with(20);
        let (segment, end) = active_segment(&eye);
        overwrite(&segment, end, garbage);
        eye.restart();
        all_is_well_up_to(&mut eye, &app, &answers, answers.len());
    }
}

#[test]
fn a_half_written_last_frame_is_cut_off() {
    for missing in [1, 10, 40] {
        let (mut eye, app, answers) = killed_with(20);
        let (segment, end) = active_segment(&eye);
        // The file keeps its length, as it does where space is set aside beforehand.
        overwrite(&segment, end - missing, &vec![0; missing as usize]);
        eye.restart();
        all_is_well_up_to(&mut eye, &app, &answers, answers.len() - 1);
    }
}

#[test]
fn a_segment_that_ends_in_the_middle_of_a_frame_is_cut_off() {
    let (mut eye, app, answers) = killed_with(20);
    let (segment, end) = active_segment(&eye);
    File::options()
        .write(true)
        .open(segment)
        .unwrap()
        .set_len(end - 15)
        .unwrap();
    eye.restart();
    all_is_well_up_to(&mut eye, &app, &answers, answers.len() - 1);
}

/// `eye log verify --json` on the folder of a server that does not run.
fn verify(eye: &Eye) -> std::process::Output {
    eye.command([
        "log",
        "verify",
        "--json",
        "--data",
        eye.data().to_str().unwrap(),
    ])
}

#[test]
fn damage_among_the_acknowledged_is_never_cut_off_in_silence() {
    let (eye, _, _) = killed_with(20);
    let (segment, end) = active_segment(&eye);
    let bytes = std::fs::read(&segment).unwrap();
    let middle = end / 2;
    overwrite(
        &segment,
        middle,
        &bytes[middle as usize..middle as usize + 8]
            .iter()
            .map(|byte| !byte)
            .collect::<Vec<u8>>(),
    );
    let report = verify(&eye);
    assert_eq!(
        report.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&report.stderr)
    );
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["ok"], false, "{report}");
    let damage = &report["damage"][0];
    assert!(
        damage["file"].as_str().unwrap().ends_with(".seg")
            && damage["position"].is_u64()
            && damage["first_offset"].is_u64(),
        "{report}"
    );
}

#[test]
fn a_sound_log_verifies_after_every_kind_of_end() {
    let (mut eye, _, _) = killed_with(20);
    let is_sound = |eye: &Eye| {
        let report = verify(eye);
        assert!(
            report.status.success(),
            "{}",
            String::from_utf8_lossy(&report.stderr)
        );
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!(
            (&report["ok"], &report["events"], &report["damage"]),
            (&json!(true), &json!(20), &json!([]))
        );
    };
    is_sound(&eye);
    eye.restart();
    eye.stop();
    is_sound(&eye);
}

#[test]
fn without_its_index_the_server_gives_the_same_answers() {
    let mut eye = Eye::start();
    let apps = [eye.application("one"), eye.application("two")];
    let mut generators = [
        Generator::new(Random::announced(55), 10),
        Generator::new(Random::announced(56), 10),
    ];
    for _ in 0..3 {
        for (app, generator) in apps.iter().zip(&mut generators) {
            eye.store(app, &generator.lines(200).0);
        }
    }
    let sessions: BTreeSet<String> = eye
        .get("/events?limit=1000")
        .token(&apps[0].token)
        .send()
        .events()
        .iter()
        .map(|event| event["session_id"].as_str().unwrap().to_owned())
        .collect();
    let mut targets: Vec<String> = [
        "/events?limit=1000",
        "/events?order=timestamp&limit=1000",
        "/events?category=Caf%C3%A9&name=submit",
        "/search?q=late&count=true&limit=1000",
        "/search?q=%22late%20delivery%22&count=true",
        "/search?q=category:cafe%20NOT%20refund&count=true",
        "/search?q=zymurgy",
        "/search?q=data.n:7&count=true",
    ]
    .map(str::to_owned)
    .to_vec();
    targets.extend(sessions.iter().flat_map(|session| {
        [
            format!("/sessions/{session}"),
            format!("/sessions/{session}/events"),
        ]
    }));
    let ask = |eye: &Eye| -> Vec<Value> {
        let answers = targets.iter().flat_map(|target| {
            apps.iter()
                .map(move |app| eye.get(target).token(&app.token).send())
        });
        answers
            .map(|answer| {
                let mut answer = answer.json();
                // How long it took, and which request it was, may differ.
                answer.as_object_mut().unwrap().retain(|name, _| {
                    !["took_ms", "next", "as_of", "indexed_through", "request_id"]
                        .contains(&name.as_str())
                });
                answer
            })
            .collect()
    };
    let before = ask(&eye);
    for killed in [false, true] {
        if killed {
            eye.kill();
        } else {
            eye.stop();
        }
        let index = eye.data().join("index");
        assert!(index.is_dir(), "the index lies in DATA/index");
        std::fs::remove_dir_all(index).unwrap();
        eye.restart();
        let after = ask(&eye);
        for ((before, after), target) in before
            .iter()
            .zip(&after)
            .zip(targets.iter().flat_map(|target| [target; 2]))
        {
            assert_eq!(before, after, "{target}, killed: {killed}");
        }
    }
}

#[test]
fn sending_goes_on_while_the_index_grows_back() {
    let mut eye = Eye::start();
    let app = eye.application("website");
    let (lines, ids) = Generator::new(Random::announced(57), 10).lines(1_000);
    eye.store(&app, &lines);
    eye.stop();
    std::fs::remove_dir_all(eye.data().join("index")).unwrap();
    eye.restart();
    // Ids and owners are the log's business: the retry is known at once.
    let again = eye
        .post("/events")
        .token(&app.token)
        .ndjson(&lines)
        .send()
        .expect(200)
        .json();
    assert_eq!(again["duplicates"], ids.len());
    let other = eye.application("other");
    eye.post("/events")
        .token(&other.token)
        .body(lines[0].as_str(), "application/json")
        .send()
        .problem(409, "session_conflict");
    assert_eq!(eye.count(&app.token, "*"), 1_000);
}
