//! The proofs on real data. They need a folder with the sets of `shared/data`, decompressed, in `EYE_DATA_SETS`, and are
//! run by `tests/real_data.sh`, which says what to expect. `small_…` needs `small.ndjson` alone.

use crate::recovery::{Sent, kill_from_outside, kills, look_for_losses, send_until_the_end};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use support::events::Generator;
use support::{ADMIN_TOKEN, App, Eye, Random, Scanner, json_text, time};

const SEED: u64 = 20_210_101;
/// Of the words drawn at least so many are not plain ASCII.
const FOREIGN_WORDS: usize = 20;
/// Longer lists are compared by their number alone.
const COMPARED_HITS_MAX: usize = 1_000;

fn file(name: &str) -> PathBuf {
    let folder = std::env::var_os("EYE_DATA_SETS")
        .expect("EYE_DATA_SETS names the folder with the data sets");
    let path = Path::new(&folder).join(name);
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

fn lines_of(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect()
}

/// The lines of a file that may hold anything but ends of line.
fn raw_lines_of(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// A set that is in the server: its application, its lines, and the scanner's view of them.
struct Set {
    app: App,
    lines: Vec<String>,
    scanner: Scanner,
}

impl Set {
    /// Sends a file with `eye send` as an application of its own.
    fn send(eye: &Eye, name: &str) -> Set {
        let path = file(&format!("{name}.ndjson"));
        let app = eye.application(name);
        let sent = eye.command(send_arguments(eye, &app, &path));
        assert!(
            sent.status.success(),
            "eye send {name}: {}",
            String::from_utf8_lossy(&sent.stderr)
        );
        let lines = lines_of(&path);
        let scanner = Scanner::of(&lines);
        assert_eq!(
            eye.count_in(&app, "*"),
            lines.len() as u64,
            "events of {name}"
        );
        eprintln!(
            "{name}: {} events, {} different words",
            lines.len(),
            scanner.words().len()
        );
        Set {
            app,
            lines,
            scanner,
        }
    }

    /// Compares a phrase with the scan: how often, and for short lists exactly which events.
    fn agrees_on(&self, eye: &Eye, phrase: &str) -> u64 {
        let q = format!("\"{phrase}\"");
        let expected = self.scanner.holding(phrase);
        let name = &self.app.name;
        assert_eq!(
            eye.count_in(&self.app, &q),
            expected.len() as u64,
            "{phrase:?} in {name}"
        );
        if expected.len() <= COMPARED_HITS_MAX {
            let page = eye
                .get("/search?limit=1000")
                .token(&self.app.token)
                .query("q", &q)
                .send()
                .expect(200);
            let mut found: Vec<String> = page
                .raw_events()
                .iter()
                .map(|event| json_text::compact(&event["data"]))
                .collect();
            let mut scanned: Vec<String> = expected
                .iter()
                .map(|&event| json_text::compact(&json_text::fields(&self.lines[event])["data"]))
                .collect();
            found.sort();
            scanned.sort();
            assert_eq!(found, scanned, "the events with {phrase:?} in {name}");
        }
        expected.len() as u64
    }
}

/// What the proofs ask of a server beside what every test asks.
trait Asks {
    fn count_in(&self, app: &App, q: &str) -> u64;
}

impl Asks for Eye {
    /// Counts as the admin, narrowed to one application.
    fn count_in(&self, app: &App, q: &str) -> u64 {
        let mut count = 0;
        // Right after a large file the index may lag; the answer then says so, and is asked for again.
        time::wait_until("the index keeps up", Duration::from_secs(600), || {
            let request = self
                .get("/search?count=true&limit=0")
                .token(ADMIN_TOKEN)
                .query("application", &app.name);
            let answer = request.query("q", q).send().expect(200).json();
            count = answer["count"].as_u64().unwrap();
            answer["exact"] == true
        });
        count
    }
}

fn send_arguments(eye: &Eye, app: &App, path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap().to_owned();
    [
        "send",
        "--server",
        &eye.url(),
        "--token",
        ADMIN_TOKEN,
        "--app",
        &app.name,
        &path,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The same in some hundred batches, so that a kill finds it at work whatever the size of the file.
fn send_in_small_batches(eye: &Eye, app: &App, path: &Path, lines: usize) -> Vec<String> {
    let mut arguments = send_arguments(eye, app, path);
    arguments.extend([
        "--batch".to_owned(),
        (lines / 250).clamp(10, 5000).to_string(),
    ]);
    arguments
}

/// A word or phrase and the place of the set it was drawn from.
type Drawn = (usize, String);

/// Words and phrases of the sets, drawn with a fixed seed: half of the words as they occur, half as the dictionary has
/// them, so that frequent and rare ones are there, and some that are not ASCII.
fn drawn(sets: &[Set], words: usize, phrases: usize) -> (Vec<Drawn>, Vec<Drawn>) {
    let mut random = Random::announced(SEED);
    let mut drawn_words = BTreeSet::new();
    let foreign: Vec<(usize, &String)> = sets
        .iter()
        .enumerate()
        .flat_map(|(set, of)| {
            of.scanner
                .words()
                .iter()
                .filter(|word| !word.is_ascii())
                .map(move |word| (set, word))
        })
        .collect();
    let foreign_wanted = (FOREIGN_WORDS + FOREIGN_WORDS / 2).min(foreign.len());
    while drawn_words.len() < foreign_wanted {
        let (set, word) = random.pick(&foreign);
        drawn_words.insert((*set, (*word).clone()));
    }
    while drawn_words.len() < words {
        let set = random.index(sets.len());
        let scanner = &sets[set].scanner;
        let word = if random.one_in(2) {
            random.pick(scanner.words()).clone()
        } else {
            let event = scanner.strings(random.index(scanner.len()));
            let string = random.pick(&event);
            if string.is_empty() {
                continue;
            }
            (*random.pick(string)).to_owned()
        };
        drawn_words.insert((set, word));
    }
    let mut drawn_phrases = BTreeSet::new();
    while drawn_phrases.len() < phrases {
        let set = random.index(sets.len());
        let event = sets[set]
            .scanner
            .strings(random.index(sets[set].scanner.len()));
        let string = random.pick(&event);
        if string.len() >= 2 {
            let start = random.index(string.len() - 1);
            let end = string.len().min(start + 2 + random.index(3));
            drawn_phrases.insert((set, string[start..end].join(" ")));
        }
    }
    (
        drawn_words.into_iter().collect(),
        drawn_phrases.into_iter().collect(),
    )
}

/// Sends the sets, compares counts, words and phrases with the scan, removes the index and compares again.
fn sets_are_found_as_a_scan_finds_them(names: &[&str], words: usize, phrases: usize) {
    let mut eye = Eye::start();
    let sets: Vec<Set> = names.iter().map(|name| Set::send(&eye, name)).collect();
    let (words, phrases) = drawn(&sets, words, phrases);
    let foreign = words.iter().filter(|(_, word)| !word.is_ascii()).count();
    assert!(
        foreign >= FOREIGN_WORDS,
        "only {foreign} of the words are not ASCII"
    );
    let compare = |eye: &Eye| {
        let hits = |drawn: &[Drawn]| -> u64 {
            drawn
                .iter()
                .map(|(set, phrase)| sets[*set].agrees_on(eye, phrase))
                .sum()
        };
        eprintln!(
            "{} words ({foreign} not ASCII) with {} hits and {} phrases with {} hits: as the scan finds them",
            words.len(),
            hits(&words),
            phrases.len(),
            hits(&phrases)
        );
    };
    compare(&eye);

    // Sending a file again stores nothing.
    let again = eye.command(send_arguments(
        &eye,
        &sets[0].app,
        &file(&format!("{}.ndjson", names[0])),
    ));
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );

    eye.stop();
    fs::remove_dir_all(eye.data().join("index")).unwrap();
    eye.restart();
    for set in &sets {
        assert_eq!(
            eye.count_in(&set.app, "*"),
            set.lines.len() as u64,
            "{} without its old index",
            set.app.name
        );
    }
    compare(&eye);
    everything_is_whole(&eye, &sets[0].app, &sets[0].lines);
}

/// What of an event was sent, as a number to compare by.
fn fingerprint(category: &str, name: &str, session: &str, data: &str) -> u64 {
    let text = |json: &str| -> String { serde_json::from_str(json).unwrap() };
    let mut hasher = DefaultHasher::new();
    (
        text(category).trim(),
        text(name).trim(),
        text(session).to_lowercase(),
        json_text::compact(data),
    )
        .hash(&mut hasher);
    hasher.finish()
}

/// The application holds these lines, each once and unchanged, and no offset comes twice.
fn everything_is_whole(eye: &Eye, app: &App, lines: &[String]) {
    let mut missing: HashMap<u64, i64> = HashMap::new();
    for line in lines {
        let fields = json_text::fields(line);
        *missing
            .entry(fingerprint(
                &fields["category"],
                &fields["name"],
                &fields["session_id"],
                &fields["data"],
            ))
            .or_default() += 1;
    }
    let mut offsets = BTreeSet::new();
    for page in eye.pages(|eye| {
        eye.get("/events?limit=1000&order=timestamp")
            .token(&app.token)
    }) {
        for event in page.raw_events() {
            assert!(
                offsets.insert(event["offset"].parse::<u64>().unwrap()),
                "offset {} comes twice",
                event["offset"]
            );
            *missing
                .entry(fingerprint(
                    &event["category"],
                    &event["name"],
                    &event["session_id"],
                    &event["data"],
                ))
                .or_default() -= 1;
        }
    }
    assert_eq!(offsets.len(), lines.len(), "events of {}", app.name);
    let wrong = missing.values().filter(|&&balance| balance != 0).count();
    assert_eq!(
        wrong, 0,
        "{wrong} events of {} are not as they were sent",
        app.name
    );
}

/// `eye send` of a file while the server is killed again and again, with a sender beside it that knows what was answered.
fn nothing_acknowledged_is_lost_however_often_the_server_is_killed(path: &Path, kills: u64) {
    let scratch = tempfile::tempdir().unwrap();
    let original = lines_of(path);
    let mut eye = Eye::start();
    let beside = eye.application("beside");
    let mut random = Random::announced(SEED + 1);
    let sent: Mutex<Vec<Sent>> = Mutex::new(Vec::new());
    let mut passes: Vec<Pass> = Vec::new();
    let mut killed = 0;
    while killed < kills {
        assert!(
            (passes.len() as u64) < 10 + 3 * kills,
            "the sending is over before any kill comes"
        );
        let pass = Pass::prepare(&eye, scratch.path(), &original, passes.len());
        let mut sender = eye.spawn(send_in_small_batches(
            &eye,
            &pass.app,
            &pass.path,
            original.len(),
        ));
        let mut finished = false;
        while killed < kills && !finished {
            let mut generator = Generator::new(Random::new(random.bits()), 5);
            let before = eye.count_in(&pass.app, "*");
            let began = Instant::now();
            let mut gets_on = false;
            thread::scope(|scope| {
                scope.spawn(|| send_until_the_end(&eye, &beside, &mut generator, 20, &sent));
                while !gets_on && !finished && began.elapsed() < Duration::from_secs(120) {
                    match sender.try_wait().unwrap() {
                        Some(status) if status.success() => finished = true,
                        // It has given up on the server that was killed. Started again it takes up where it was.
                        Some(_) => {
                            sender = eye.spawn(send_in_small_batches(
                                &eye,
                                &pass.app,
                                &pass.path,
                                original.len(),
                            ))
                        }
                        None => gets_on = eye.count_in(&pass.app, "*") > before,
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                // The instant is what is random here; nothing is being waited for.
                thread::sleep(Duration::from_millis(random.below(150)));
                kill_from_outside(&eye);
            });
            assert!(gets_on || finished, "`eye send` stores nothing more");
            eye.kill();
            eye.restart_on_the_same_port();
            killed += u64::from(!finished);
            let sent = sent.lock().unwrap();
            let acknowledged = sent.iter().filter(|batch| batch.acknowledged).count();
            let stored = eye.count_in(&pass.app, "*");
            eprintln!(
                "kill {killed}: {stored} of {} stored, {acknowledged} requests acknowledged beside it",
                original.len()
            );
            look_for_losses(&eye, &beside, &sent);
        }
        // Whether it still runs or not: below a new one must be able to finish the file.
        let _ = sender.kill();
        let _ = sender.wait();
        passes.push(pass);
    }
    for pass in &passes {
        let resumed = eye.command(send_arguments(&eye, &pass.app, &pass.path));
        assert!(
            resumed.status.success(),
            "{}",
            String::from_utf8_lossy(&resumed.stderr)
        );
        assert_eq!(
            eye.count_in(&pass.app, "*"),
            original.len() as u64,
            "{}",
            pass.app.name
        );
        everything_is_whole(&eye, &pass.app, &lines_of(&pass.path));
    }
    look_for_losses(&eye, &beside, &sent.lock().unwrap());
    eye.stop();
    let verified = eye.command([
        "log",
        "verify",
        "--json",
        "--data",
        eye.data().to_str().unwrap(),
    ]);
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
}

/// One sending of the file. A session belongs to one application, so every pass has sessions of its own.
struct Pass {
    app: App,
    path: PathBuf,
}

impl Pass {
    fn prepare(eye: &Eye, folder: &Path, original: &[String], number: usize) -> Pass {
        let marker = "\"session_id\":\"";
        let lines: String = original
            .iter()
            .map(|line| {
                let start = line
                    .find(marker)
                    .expect("the data sets write session_id without spaces")
                    + marker.len();
                format!("{}{number:02x}{}\n", &line[..start], &line[start + 2..])
            })
            .collect();
        let path = folder.join(format!("pass-{number}.ndjson"));
        fs::write(&path, lines).unwrap();
        Pass {
            app: eye.application(&format!("pass {number}")),
            path,
        }
    }
}

#[test]
#[ignore = "needs EYE_DATA_SETS, a folder with accesslog.ndjson, irc.ndjson and waves.ndjson (tests/real_data.sh)"]
fn full_three_sets_are_found_as_a_scan_finds_them() {
    sets_are_found_as_a_scan_finds_them(&["accesslog", "irc", "waves"], 200, 50);
}

#[test]
#[ignore = "needs EYE_DATA_SETS, a folder with irc.ndjson (tests/real_data.sh)"]
fn full_nothing_acknowledged_is_lost_in_twenty_kills() {
    nothing_acknowledged_is_lost_however_often_the_server_is_killed(&file("irc.ndjson"), 20);
}

#[test]
#[ignore = "needs EYE_DATA_SETS, a folder with small.ndjson (tests/real_data.sh --small)"]
fn small_set_is_found_as_a_scan_finds_it() {
    sets_are_found_as_a_scan_finds_them(&["small"], 60, 20);
}

#[test]
#[ignore = "needs EYE_DATA_SETS, a folder with small.ndjson (tests/real_data.sh --small)"]
fn small_set_survives_kills() {
    nothing_acknowledged_is_lost_however_often_the_server_is_killed(&file("small.ndjson"), kills());
}

#[test]
#[ignore = "needs EYE_DATA_SETS, a folder with edge_valid.ndjson (tests/real_data.sh)"]
fn full_every_valid_edge_comes_back_as_it_was_sent() {
    let mut eye = Eye::start();
    let app = eye.application("edge");
    let lines = lines_of(&file("edge_valid.ndjson"));
    let ids: Vec<String> = lines
        .iter()
        .map(|line| {
            let answer = eye
                .post("/events")
                .token(&app.token)
                .body(line.as_str(), "application/json")
                .send();
            assert_eq!(answer.status, 201, "{line}: {}", answer.text());
            answer.json()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    for restarted in [false, true] {
        if restarted {
            eye.restart();
        }
        for (line, id) in lines.iter().zip(&ids) {
            let stored = eye
                .get(&format!("/events/{id}"))
                .token(&app.token)
                .send()
                .expect(200)
                .text();
            assert_eq!(
                json_text::compact(&json_text::fields(&stored)["data"]),
                json_text::compact(&json_text::fields(line)["data"])
            );
        }
        everything_is_whole(&eye, &app, &lines);
    }
    eprintln!("{} valid edges came back as they were sent", lines.len());
}

#[test]
#[ignore = "needs EYE_DATA_SETS, a folder with edge_invalid.ndjson, edge_invalid.b64 and edge_either.ndjson (tests/real_data.sh)"]
fn full_invalid_edges_are_refused_and_crash_nothing() {
    let eye = Eye::start();
    let app = eye.application("edge");
    let post = |body: &[u8], content_type: &str| {
        eye.post("/events")
            .token(&app.token)
            .body(body, content_type)
            .send()
    };
    let invalid = raw_lines_of(&file("edge_invalid.ndjson"));
    for line in &invalid {
        let answer = post(line, "application/json");
        assert_eq!(
            answer.status,
            400,
            "{:.200}: {}",
            String::from_utf8_lossy(line),
            answer.text()
        );
        assert!(answer.json()["code"].is_string());
    }
    // As one line of NDJSON each is refused as well.
    for line in &invalid {
        assert_eq!(
            post(line, "application/x-ndjson").status,
            400,
            "{:.200}",
            String::from_utf8_lossy(line)
        );
    }
    let bodies = raw_lines_of(&file("edge_invalid.b64"));
    for line in &bodies {
        let line = String::from_utf8(line.clone()).unwrap();
        let (name, body) = line.split_once('\t').unwrap();
        let answer = post(&STANDARD.decode(body).unwrap(), "application/json");
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
    }
    assert_eq!(eye.count_in(&app, "*"), 0);

    let either = raw_lines_of(&file("edge_either.ndjson"));
    let mut taken = 0;
    for line in &either {
        let answer = post(line, "application/json");
        assert!(
            matches!(answer.status, 201 | 400),
            "{}: {:.200}",
            answer.status,
            String::from_utf8_lossy(line)
        );
        taken += u64::from(answer.status == 201);
    }
    assert_eq!(eye.count_in(&app, "*"), taken);
    let listed = eye
        .get("/events?limit=1000")
        .token(&app.token)
        .send()
        .expect(200)
        .raw_events();
    assert_eq!(listed.len() as u64, taken);
    eprintln!(
        "{} invalid lines and {} invalid bodies refused; of {} doubtful ones {taken} taken",
        invalid.len(),
        bodies.len(),
        either.len()
    );
}
