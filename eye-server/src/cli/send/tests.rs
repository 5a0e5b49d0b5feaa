//! The whole loop of `eye send` against a stand-in for the service that counts, refuses, tells to wait and hangs up.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::client::Target;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{Response, StatusCode, Uri},
    routing::{get, post},
};
use serde_json::json;
use std::{
    collections::{HashSet, VecDeque},
    fs,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

/// What the stand-in does with a request instead of taking it.
#[derive(Clone, Copy)]
enum Mood {
    Take,
    Say(u16, &'static str),
    /// Takes it, then asks the sender to stop, as Ctrl-C would.
    TakeAndStop,
}

#[derive(Default)]
struct Taken {
    moods: VecDeque<Mood>,
    requests: usize,
    lines_per_request: Vec<usize>,
    /// Every stored line, in the order of arrival, without its id.
    stored: Vec<String>,
    ids: HashSet<String>,
    queries: HashSet<String>,
    request_lines_max: Option<usize>,
    stopper: Option<watch::Sender<bool>>,
}

type Shared = Arc<Mutex<Taken>>;

fn service(taken: &Shared) -> Router {
    Router::new()
        .route(
            "/me",
            get(|| async {
                r#"{"store":"11111111-2222-3333-4444-555555555555","application":null}"#
            }),
        )
        .route("/events", post(take))
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(taken))
}

async fn take(State(taken): State<Shared>, uri: Uri, body: Bytes) -> Response<Body> {
    let answer = |status: u16, body: String| {
        Response::builder()
            .status(status)
            .body(Body::from(body))
            .unwrap()
    };
    let mut taken = taken.lock().unwrap();
    taken.requests += 1;
    taken.queries.insert(uri.query().unwrap_or("").to_owned());
    match taken.moods.pop_front().unwrap_or(Mood::Take) {
        Mood::Take => {}
        Mood::Say(status, retry_after) => {
            let response = Response::builder()
                .status(status)
                .header("retry-after", retry_after);
            return response
                .body(Body::from(r#"{"title":"Busy","detail":"come back"}"#))
                .unwrap();
        }
        Mood::TakeAndStop => {
            let _ = taken.stopper.as_ref().unwrap().send(true);
        }
    }
    let text = std::str::from_utf8(&body).unwrap();
    let lines = text.lines().count();
    if taken.request_lines_max.is_some_and(|max| lines > max) {
        return answer(
            413,
            json!({"code": "too_large", "title": "Too large", "limit": 3}).to_string(),
        );
    }
    taken.lines_per_request.push(lines);
    let (mut accepted, mut duplicates, mut errors) = (0, 0, Vec::new());
    for (index, line) in text.lines().enumerate() {
        match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(mut event)) => match event.remove("id").map(|id| id.to_string()) {
                Some(id) if !taken.ids.insert(id.clone()) => duplicates += 1,
                _ => {
                    accepted += 1;
                    taken.stored.push(Value::Object(event).to_string());
                }
            },
            _ => errors.push(json!({"index": index, "code": "malformed_json", "errors": {"event": ["Not JSON."]}})),
        }
    }
    let status = if errors.is_empty() {
        200
    } else if accepted + duplicates > 0 {
        207
    } else {
        400
    };
    let rejected = errors.len();
    answer(
        status,
        json!({"accepted": accepted, "duplicates": duplicates, "rejected": rejected, "errors": errors}).to_string(),
    )
}

/// Is one test's service, files and positions.
struct Stage {
    temp: tempfile::TempDir,
    taken: Shared,
    plan: Plan,
}

impl Stage {
    fn new(moods: &[Mood]) -> Stage {
        let temp = tempfile::tempdir().unwrap();
        let plan = Plan {
            application: Some("my shop".to_owned()),
            again: false,
            batch_lines: 10,
            positions: Some(temp.path().join("positions")),
            patience: Patience {
                retry: true,
                without_progress: Duration::from_secs(20),
                without_connection: Duration::from_secs(10),
            },
        };
        let taken = Taken {
            moods: moods.iter().copied().collect(),
            ..Taken::default()
        };
        Stage {
            temp,
            taken: Arc::new(Mutex::new(taken)),
            plan,
        }
    }

    fn file(&self, text: &str) -> Source {
        let path = self.temp.path().join("events.ndjson");
        fs::write(&path, text).unwrap();
        Source::of(&path).unwrap()
    }

    async fn send(&self, source: &Source) -> (Result<(), Failure>, Summary) {
        self.send_through(&Client::of_router(service(&self.taken)), source)
            .await
    }

    async fn send_through(
        &self,
        client: &Client,
        source: &Source,
    ) -> (Result<(), Failure>, Summary) {
        let (stopper, stop) = watch::channel(false);
        self.taken.lock().unwrap().stopper = Some(stopper);
        let mut summary = Summary::start();
        let result = send_all(
            client,
            std::slice::from_ref(source),
            &self.plan,
            stop,
            &mut summary,
        )
        .await;
        (result, summary)
    }

    fn positions(&self) -> Vec<Value> {
        let Ok(folder) = fs::read_dir(self.temp.path().join("positions")) else {
            return Vec::new();
        };
        folder
            .map(|file| serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap())
            .collect()
    }

    fn stored(&self) -> Vec<String> {
        self.taken.lock().unwrap().stored.clone()
    }
}

fn events(count: usize) -> (String, Vec<String>) {
    let lines: Vec<String> = (0..count)
        .map(|number| format!("{{\"n\":{number}}}"))
        .collect();
    (lines.join("\n") + "\n", lines)
}

fn counts(summary: &Summary) -> (u64, u64, u64) {
    (summary.stored, summary.duplicates, summary.refused)
}

#[tokio::test]
async fn a_file_is_sent_in_order_and_the_second_time_not_at_all() {
    let stage = Stage::new(&[]);
    let (text, lines) = events(95);
    let file = stage.file(&text);
    let (result, summary) = stage.send(&file).await;
    result.unwrap();
    assert_eq!(counts(&summary), (95, 0, 0));
    assert_eq!(stage.stored(), lines);
    assert_eq!(
        stage.taken.lock().unwrap().lines_per_request,
        [10, 10, 10, 10, 10, 10, 10, 10, 10, 5]
    );
    assert_eq!(
        stage.taken.lock().unwrap().queries,
        HashSet::from(["application=my%20shop".to_owned()])
    );
    assert_eq!(stage.positions()[0]["line"], 95);

    let (result, summary) = stage.send(&file).await;
    result.unwrap();
    assert_eq!((summary.sent(), summary.sent_before), (0, 95));
    assert_eq!(stage.taken.lock().unwrap().requests, 10);
}

#[tokio::test]
async fn without_its_position_a_file_sent_again_is_all_duplicates() {
    let mut stage = Stage::new(&[]);
    stage.plan.positions = None;
    let file = stage.file(&events(25).0);
    stage.send(&file).await.0.unwrap();
    let (result, summary) = stage.send(&file).await;
    result.unwrap();
    assert_eq!(counts(&summary), (0, 25, 0));
}

#[tokio::test]
async fn again_means_as_new_events() {
    let mut stage = Stage::new(&[]);
    let file = stage.file(&events(25).0);
    stage.send(&file).await.0.unwrap();
    stage.plan.again = true;
    let (result, summary) = stage.send(&file).await;
    result.unwrap();
    assert_eq!(counts(&summary), (25, 0, 0));
    assert_eq!(stage.taken.lock().unwrap().ids.len(), 25);
}

#[tokio::test]
async fn a_busy_service_gets_the_same_batch_until_it_takes_it() {
    let moods = [
        Mood::Take,
        Mood::Say(503, "0"),
        Mood::Say(429, "0"),
        Mood::Say(507, "0"),
        Mood::Take,
    ];
    let stage = Stage::new(&moods);
    let (text, lines) = events(30);
    let (result, summary) = stage.send(&stage.file(&text)).await;
    result.unwrap();
    assert_eq!(counts(&summary), (30, 0, 0));
    assert_eq!(stage.stored(), lines);
    assert_eq!(stage.taken.lock().unwrap().requests, 6);
}

#[tokio::test]
async fn patience_ends_and_the_next_run_goes_on() {
    let mut stage = Stage::new(&[Mood::Take, Mood::Take, Mood::Say(503, "3600")]);
    let (text, lines) = events(35);
    let file = stage.file(&text);
    let (result, summary) = stage.send(&file).await;
    let message = result.unwrap_err().to_string();
    assert!(message.contains("(503): come back"), "{message}");
    assert!(
        message.contains("20 lines")
            && message.contains("up to line 20; run the same command again"),
        "{message}"
    );
    assert_eq!(counts(&summary), (20, 0, 0));
    assert_eq!(stage.positions()[0]["line"], 20);

    stage.plan.patience.retry = false;
    let (result, summary) = stage.send(&file).await;
    result.unwrap();
    assert_eq!((counts(&summary), summary.sent_before), ((15, 0, 0), 20));
    assert_eq!(stage.stored(), lines);
}

#[tokio::test]
async fn refused_lines_keep_their_numbers_in_the_file() {
    let mut stage = Stage::new(&[]);
    stage.plan.batch_lines = 3;
    let file = stage.file("{\"n\":1}\n\nbroken\n{\"n\":2}\n{\"n\":3}\n[]\n\n\n");
    let (result, summary) = stage.send(&file).await;
    result.unwrap();
    assert_eq!(counts(&summary), (3, 0, 2));
    let lines: Vec<Value> = summary.json()["refused_lines"].as_array().unwrap().clone();
    assert_eq!(
        lines
            .iter()
            .map(|line| line["line"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [3, 6]
    );

    let (result, summary) = stage.send(&file).await;
    result.unwrap();
    assert_eq!(
        (summary.sent(), summary.refused_ever()),
        (0, 2),
        "the file still has refused lines"
    );
}

#[tokio::test]
async fn a_request_too_large_is_sent_in_parts_and_in_order() {
    let stage = Stage::new(&[]);
    stage.taken.lock().unwrap().request_lines_max = Some(3);
    let (text, lines) = events(25);
    let (result, summary) = stage.send(&stage.file(&text)).await;
    result.unwrap();
    assert_eq!(counts(&summary), (25, 0, 0));
    assert_eq!(stage.stored(), lines);
}

#[tokio::test]
async fn a_single_event_too_large_is_a_refused_line() {
    let mut stage = Stage::new(&[]);
    stage.plan.batch_lines = 1;
    stage.taken.lock().unwrap().request_lines_max = Some(0);
    let (result, summary) = stage.send(&stage.file(&events(2).0)).await;
    result.unwrap();
    assert_eq!(counts(&summary), (0, 0, 2));
}

#[tokio::test]
async fn stopping_keeps_what_was_acknowledged() {
    let stage = Stage::new(&[Mood::Take, Mood::TakeAndStop]);
    let (text, lines) = events(50);
    let file = stage.file(&text);
    let (result, summary) = stage.send(&file).await;
    let message = result.unwrap_err().to_string();
    assert!(
        message.starts_with("stopped") && message.contains("line 20; run the same command again"),
        "{message}"
    );
    assert_eq!(counts(&summary), (20, 0, 0));
    let (result, summary) = stage.send(&file).await;
    result.unwrap();
    assert_eq!(counts(&summary), (30, 0, 0));
    assert_eq!(stage.stored(), lines);
}

#[tokio::test]
async fn a_position_file_is_believed() {
    let stage = Stage::new(&[]);
    let file = stage.file(&events(30).0);
    let Source::File(path) = &file else {
        panic!("a file is a file")
    };
    let found = source::survey(path, &mut |_, _| true).unwrap().unwrap();
    let folder = stage.plan.positions.clone().unwrap();
    let saved = position::PositionFile::new(
        &folder,
        "11111111-2222-3333-4444-555555555555",
        "my shop",
        &found.sha256,
    );
    let position = 2 * u64::try_from("{\"n\":0}\n".len()).unwrap();
    saved
        .save(&position::Position {
            line: 2,
            position,
            of: found.bytes,
            ..Default::default()
        })
        .unwrap();
    let (result, summary) = stage.send(&file).await;
    result.unwrap();
    assert_eq!((counts(&summary), summary.sent_before), ((28, 0, 0), 2));
    assert_eq!(stage.stored()[0], "{\"n\":2}");
    // The ids count lines from the start of the file, wherever a run begins.
    let third = line_id::LineIds::new("my shop", &found.sha256).id_of(3);
    assert!(
        stage
            .taken
            .lock()
            .unwrap()
            .ids
            .contains(&format!("\"{third}\""))
    );
}

#[tokio::test]
async fn positions_that_cannot_be_kept_do_not_stop_the_sending() {
    let mut stage = Stage::new(&[]);
    stage.plan.positions = Some(PathBuf::from("/dev/null/eye"));
    let (result, summary) = stage.send(&stage.file(&events(25).0)).await;
    result.unwrap();
    assert_eq!(counts(&summary), (25, 0, 0));
}

#[tokio::test]
async fn a_file_can_be_empty() {
    let stage = Stage::new(&[]);
    let (result, summary) = stage.send(&stage.file("\n\n")).await;
    result.unwrap();
    assert_eq!(
        (summary.sent(), stage.taken.lock().unwrap().requests),
        (0, 0)
    );
    assert_eq!(stage.send(&stage.file("")).await.1.sent(), 0);
}

#[tokio::test]
async fn an_unknown_token_is_said_before_anything_is_sent() {
    let stage = Stage::new(&[]);
    let body = r#"{"title":"Unauthorized"}"#;
    let router = Router::new().route(
        "/me",
        get(move || async move { (StatusCode::UNAUTHORIZED, body) }),
    );
    let (result, _) = stage
        .send_through(&Client::of_router(router), &stage.file(&events(2).0))
        .await;
    assert_eq!(result.unwrap_err().to_string(), "Unauthorized (401)");
}

#[tokio::test]
async fn a_service_that_is_starting_is_waited_for() {
    let stage = Stage::new(&[]);
    let asked = Arc::new(Mutex::new(0));
    let router = Router::new()
        .route(
            "/me",
            get(move || async move {
                let mut asked = asked.lock().unwrap();
                *asked += 1;
                if *asked == 1 {
                    (StatusCode::SERVICE_UNAVAILABLE, "")
                } else {
                    (StatusCode::OK, "{}")
                }
            }),
        )
        .route("/events", post(take))
        .with_state(Arc::clone(&stage.taken));
    let (result, summary) = stage
        .send_through(&Client::of_router(router), &stage.file(&events(2).0))
        .await;
    result.unwrap();
    assert_eq!(summary.stored, 2);
}

/// Serves the stand-in behind a door that cuts off some connections: those whose numbers are in `cut`, after `bytes`.
async fn behind_a_bad_line(
    router: Router,
    cut: &'static [usize],
    bytes: usize,
) -> (String, [tokio::task::JoinHandle<()>; 2]) {
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inner_address = inner.local_addr().unwrap();
    let server = tokio::spawn(async move {
        axum::serve(inner, router).await.unwrap();
    });
    let outer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", outer.local_addr().unwrap());
    let door = tokio::spawn(async move {
        for number in 0.. {
            let (mut client, _) = outer.accept().await.unwrap();
            let mut service = TcpStream::connect(inner_address).await.unwrap();
            tokio::spawn(async move {
                if cut.contains(&number) {
                    // Passes on what comes, and no answer after the first so many bytes.
                    let (mut from_client, mut to_client) = client.split();
                    let (from_service, mut to_service) = service.split();
                    let mut answers = from_service.take(bytes as u64);
                    tokio::select! {
                        _ = tokio::io::copy(&mut from_client, &mut to_service) => {}
                        _ = tokio::io::copy(&mut answers, &mut to_client) => {}
                    }
                } else {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut service).await;
                }
            });
        }
    });
    (address, [server, door])
}

async fn open(address: &str) -> Client {
    let target = Target {
        config: None,
        data: Path::new("/nonexistent").to_owned(),
        server: Some(address.to_owned()),
        token: None,
        missing_folder: MissingFolder::Refuse,
    };
    Client::open(&target).await.unwrap()
}

#[tokio::test]
async fn a_dropped_connection_loses_nothing_and_doubles_nothing() {
    let stage = Stage::new(&[]);
    // The first connection breaks within the answer to the third batch or so: that one is stored, but nobody heard.
    let (address, tasks) = behind_a_bad_line(service(&stage.taken), &[0, 1], 700).await;
    let client = open(&address).await;
    let (text, lines) = events(100);
    let (result, summary) = stage.send_through(&client, &stage.file(&text)).await;
    result.unwrap();
    assert_eq!(summary.sent(), 100);
    assert!(
        summary.duplicates > 0,
        "a batch was stored without an answer: {summary:?}"
    );
    assert_eq!(stage.stored(), lines);
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_server_that_is_gone_for_good_ends_the_run_with_a_way_to_go_on() {
    let mut stage = Stage::new(&[]);
    stage.plan.patience.without_connection = Duration::from_millis(600);
    let (address, tasks) = behind_a_bad_line(service(&stage.taken), &[0], 700).await;
    let client = open(&address).await;
    tasks[1].abort();
    let (result, _) = stage
        .send_through(&client, &stage.file(&events(100).0))
        .await;
    let message = result.unwrap_err().to_string();
    assert!(
        message.starts_with("no server answers on http://127.0.0.1:"),
        "{message}"
    );
    tasks[0].abort();
}

#[tokio::test]
async fn lines_come_in_while_a_batch_is_under_way_and_a_slow_pipe_is_not_held_up() {
    let stage = Stage::new(&[]);
    let pipe = stage.temp.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let source = Source::of(&pipe).unwrap();
    assert_eq!(source, Source::Pipe(pipe.clone()));
    let taken = Arc::clone(&stage.taken);
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut pipe = fs::OpenOptions::new().write(true).open(pipe).unwrap();
        pipe.write_all(b"{\"n\":0}\n").unwrap();
        let begun = Instant::now();
        while taken.lock().unwrap().stored.is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "the first line waited for a full batch"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        pipe.write_all(b"{\"n\":1}\n{\"n\":2}").unwrap();
    });
    let (result, summary) = stage.send(&source).await;
    result.unwrap();
    writer.join().unwrap();
    assert_eq!(counts(&summary), (3, 0, 0));
    assert!(
        stage.taken.lock().unwrap().ids.is_empty(),
        "a pipe gets no made-up ids"
    );
    assert!(stage.positions().is_empty());
}
