//! A server of one's own: the real binary on a throw-away folder, listening on a free port. Every `Eye` ends the process
//! it started, and nothing else, when it is dropped.

use crate::http::{Answer, Client, Request};
use crate::{binary, documented, time};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The admin's token of every server the tests start.
pub const ADMIN_TOKEN: &str = "eye_a_TestsOnlyTestsOnlyTestsOnlyTestsOnly00";

/// A start, a stop and a recovery must be over within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the server prints, on a line of its own, before the place it can be reached at.
const ANNOUNCEMENT: &str = "listening on ";

/// A running server and its folder.
#[derive(Debug)]
pub struct Eye {
    launch: Launch,
    // Dropped after the process has been ended.
    _folder: Option<TempDir>,
    running: Option<Running>,
    client: Client,
}

/// An application and the token made with it.
#[derive(Clone, Debug)]
pub struct App {
    /// The application's name.
    pub name: String,
    /// A token that may send and read.
    pub token: String,
}

impl Eye {
    /// Starts a server on a new folder and waits until it is ready.
    pub fn start() -> Eye {
        Launch::new().start()
    }

    /// Returns the data folder.
    pub fn data(&self) -> &Path {
        &self.launch.data
    }

    /// Returns the server's URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.client.address())
    }

    /// Returns the client of this server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the server's process id.
    pub fn process_id(&self) -> u32 {
        self.running.as_ref().expect("the server runs").child.id()
    }

    /// Begins a GET.
    pub fn get(&self, target: &str) -> Request<'_> {
        self.client.request("GET", target)
    }

    /// Begins a POST.
    pub fn post(&self, target: &str) -> Request<'_> {
        self.client.request("POST", target)
    }

    /// Begins a request of any method.
    pub fn request(&self, method: &str, target: &str) -> Request<'_> {
        self.client.request(method, target)
    }

    /// Registers an application as the admin and returns it with its token.
    #[track_caller]
    pub fn application(&self, name: &str) -> App {
        let made = self
            .post("/applications")
            .token(ADMIN_TOKEN)
            .json(&json!({"name": name}))
            .send()
            .expect(201)
            .json();
        assert_eq!(made["name"], name);
        App {
            name: name.to_owned(),
            token: made["token"]
                .as_str()
                .expect("a token is shown once")
                .to_owned(),
        }
    }

    /// Makes a token of an application (`{"scopes": ["write"]}`) and returns it.
    #[track_caller]
    pub fn token_of(&self, app: &App, wanted: &Value) -> String {
        let path = format!("/applications/{}/tokens", crate::percent_encoded(&app.name));
        let made = self
            .post(&path)
            .token(ADMIN_TOKEN)
            .json(wanted)
            .send()
            .expect(201)
            .json();
        made["token"]
            .as_str()
            .expect("a token is shown once")
            .to_owned()
    }

    /// Makes an analyst's token and returns it.
    #[track_caller]
    pub fn analyst(&self) -> String {
        let made = self
            .post("/tokens")
            .token(ADMIN_TOKEN)
            .json(&json!({"kind": "analyst"}))
            .send()
            .expect(201)
            .json();
        made["token"]
            .as_str()
            .expect("a token is shown once")
            .to_owned()
    }

    /// Sends events as NDJSON in requests of 500 and panics unless all are stored.
    #[track_caller]
    pub fn store<T: AsRef<str>>(&self, app: &App, lines: &[T]) {
        for lines in lines.chunks(500) {
            let answer = self
                .post("/events")
                .token(&app.token)
                .ndjson(lines)
                .send()
                .expect(200)
                .json();
            assert_eq!(answer["accepted"], lines.len(), "{answer}");
        }
    }

    /// Follows a list to its last page and returns every page. `first` makes the request without its cursor.
    #[track_caller]
    pub fn pages<'a>(&'a self, first: impl Fn(&'a Eye) -> Request<'a>) -> Vec<Answer> {
        let mut pages = vec![first(self).send().expect(200)];
        while let Some(cursor) = next_of(&pages[pages.len() - 1]) {
            pages.push(first(self).query("cursor", &cursor).send().expect(200));
            assert!(pages.len() < 100_000, "a list without an end");
        }
        pages
    }

    /// Returns the ids of everything that `q` finds, in the order of the answer.
    #[track_caller]
    pub fn ids_found(&self, token: &str, q: &str) -> Vec<String> {
        let pages = self.pages(|eye| {
            eye.get("/search")
                .token(token)
                .query("q", q)
                .query("limit", "1000")
        });
        pages
            .iter()
            .flat_map(Answer::raw_events)
            .map(|event| event["id"].trim_matches('"').to_owned())
            .collect()
    }

    /// Returns how many events `q` finds.
    #[track_caller]
    pub fn count(&self, token: &str, q: &str) -> u64 {
        let answer = self.count_answer(token, q);
        assert_eq!(answer["exact"], true, "{answer}");
        answer["count"].as_u64().expect("a count")
    }

    /// Counts what matches of what is indexed, while others may be sending; see [`Eye::wait_until_indexed`].
    #[track_caller]
    pub fn count_indexed(&self, token: &str, q: &str) -> u64 {
        let answer = self.count_answer(token, q);
        answer["count"].as_u64().expect("a count")
    }

    #[track_caller]
    fn count_answer(&self, token: &str, q: &str) -> serde_json::Value {
        let request = self
            .get("/search")
            .token(token)
            .query("q", q)
            .query("count", "true")
            .query("limit", "0");
        request.send().expect(200).json()
    }

    /// Returns a figure of `/metrics`, by its name and labels as they stand there.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let page = self
            .get("/metrics")
            .token(ADMIN_TOKEN)
            .send()
            .expect(200)
            .text();
        let figure = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let figure = figure.unwrap_or_else(|| panic!("no {name} in\n{page}"));
        figure.parse().expect("a figure")
    }

    /// Waits until everything acknowledged by now can be found, however busy the server is.
    #[track_caller]
    pub fn wait_until_indexed(&self) {
        let ready = || self.get("/health/ready").send().json();
        let end = ready()["durable_end"].as_u64().expect("a durable end");
        for _ in 0..1200 {
            if ready()["indexed_through"].as_u64().expect("an offset") >= end {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("not indexed to {end} within a minute: {}", ready());
    }

    /// Ends the server with SIGTERM and panics unless it ends well (status 0).
    #[track_caller]
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait();
        assert!(
            status.success(),
            "the server ended with {status}\n{}",
            self.complaints()
        );
        self.running = None;
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        signal(self.process_id(), "TERM");
    }

    /// Waits until the process has ended and returns its status.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.running.as_mut().expect("the server runs").child;
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("the server is our child") {
                return status;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "the server did not end within {PATIENCE:?}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the server with SIGKILL, at whatever it is doing.
    pub fn kill(&mut self) {
        self.running.as_mut().expect("the server runs").end();
        self.running = None;
    }

    /// Starts the server again on the same folder, on a new port; stops it first if it runs.
    #[track_caller]
    pub fn restart(&mut self) {
        if self.running.is_some() {
            self.stop();
        }
        let running = self.launch.run();
        self.client = self.launch.client(&running);
        self.running = Some(running);
        self.wait_until_ready();
    }

    /// Starts the server again on the same folder and the same port, so that clients find it where it was.
    #[track_caller]
    pub fn restart_on_the_same_port(&mut self) {
        self.launch.listen = self.client.address().to_string();
        self.restart();
    }

    /// Starts `eye` with these arguments beside this server and does not wait. Its standard error is the test's.
    pub fn spawn<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Child {
        self.spawn_with(&[], arguments)
    }

    /// Starts `eye` as [`Eye::spawn`] does, with these variables in its environment.
    pub fn spawn_with<S: Into<OsString>>(
        &self,
        variables: &[(&str, &str)],
        arguments: impl IntoIterator<Item = S>,
    ) -> Child {
        let mut command = clean_command();
        command
            .envs(variables.iter().copied())
            .args(arguments.into_iter().map(Into::into))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.spawn().expect("eye can be started")
    }

    /// Starts `eye` as [`Eye::spawn`] does; what it prints can be read.
    pub fn spawn_piped<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Child {
        let mut command = clean_command();
        command
            .args(arguments.into_iter().map(Into::into))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.spawn().expect("eye can be started")
    }

    /// Runs `eye` with these arguments to its end, beside this server, and returns what came of it.
    pub fn command<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        run_eye(arguments)
    }

    /// Runs `eye` as [`Eye::command`] does, with these variables in its environment.
    pub fn command_with<S: Into<OsString>>(
        &self,
        variables: &[(&str, &str)],
        arguments: impl IntoIterator<Item = S>,
    ) -> Output {
        run_eye_with(variables, arguments)
    }

    /// Returns what the server wrote to standard error so far.
    pub fn complaints(&self) -> String {
        self.running
            .as_ref()
            .map(|running| running.complaints.lock().unwrap().clone())
            .unwrap_or_default()
    }

    fn wait_until_ready(&mut self) {
        let began = Instant::now();
        loop {
            let answer = self.get("/health/ready").try_send();
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                if self.launch.documented {
                    documented::learn(&self.client);
                }
                return;
            }
            let ended = self
                .running
                .as_mut()
                .and_then(|running| running.child.try_wait().ok().flatten());
            if ended.is_some() || began.elapsed() > PATIENCE {
                panic!(
                    "never ready: {answer:?}, ended: {ended:?}\n{}",
                    self.complaints()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Eye {
    fn drop(&mut self) {
        if thread::panicking() && self.running.is_some() {
            eprintln!("--- the server's standard error ---\n{}", self.complaints());
        }
        if let Some(running) = &mut self.running {
            running.end();
        }
    }
}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Launch {
    data: PathBuf,
    listen: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    largest_file: Option<u64>,
    documented: bool,
}

impl Default for Launch {
    fn default() -> Self {
        Launch::new()
    }
}

impl Launch {
    /// Returns the plain start: a new folder, a free port, the tests' admin token.
    pub fn new() -> Launch {
        Launch {
            data: PathBuf::new(),
            listen: "127.0.0.1:0".into(),
            arguments: Vec::new(),
            largest_file: None,
            documented: true,
            environment: vec![
                ("EYE_ADMIN_TOKEN".into(), ADMIN_TOKEN.into()),
                // Tests run side by side on few cores: a read may have to wait longer than a user would like.
                ("EYE_READ_WAIT".into(), "30s".into()),
            ],
        }
    }

    /// Uses this data folder, which stays when the server is dropped.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Launch {
        self.data = folder.to_owned();
        self
    }

    /// Adds a variable to the server's environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Launch {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument to `eye serve`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Launch {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Lets no file of the server grow beyond so many bytes: a write beyond fails, and not as on a full disk (EFBIG).
    #[must_use]
    pub fn largest_file(mut self, bytes: u64) -> Launch {
        self.largest_file = Some(bytes);
        self
    }

    /// Takes answers as they come, for who measures: holding one against the document takes longer than giving most of them.
    #[must_use]
    pub fn undocumented(mut self) -> Launch {
        self.documented = false;
        self
    }

    /// Starts the server and waits until it is ready.
    pub fn start(mut self) -> Eye {
        let folder = self
            .data
            .as_os_str()
            .is_empty()
            .then(|| TempDir::with_prefix("eye-test-").expect("a temporary folder"));
        if let Some(folder) = &folder {
            self.data = folder.path().join("data");
        }
        let running = self.run();
        let client = self.client(&running);
        let mut eye = Eye {
            launch: self,
            _folder: folder,
            running: Some(running),
            client,
        };
        eye.wait_until_ready();
        eye
    }

    fn client(&self, running: &Running) -> Client {
        let client = Client::new(running.address());
        if self.documented {
            client.documented()
        } else {
            client
        }
    }

    /// Starts a server that listens where [`Client`] cannot reach it, on a data folder of the caller's.
    pub fn start_elsewhere(&self) -> Elsewhere {
        Elsewhere {
            running: self.run(),
        }
    }

    /// Starts a server that is expected to refuse, waits until it has ended, and returns what it said.
    pub fn refused(&self) -> Output {
        let mut child = self.command().spawn().expect("eye can be started");
        time::wait_until("the second server gives up", PATIENCE, || {
            child.try_wait().expect("our child").is_some()
        });
        child
            .wait_with_output()
            .expect("its last words can be read")
    }

    fn command(&self) -> Command {
        let mut command = self
            .largest_file
            .map_or_else(clean_command, clean_command_within);
        command
            .args(["serve", "--listen", &self.listen, "--data"])
            .arg(&self.data)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Listens there: `HOST:PORT` or `unix:PATH`.
    #[must_use]
    pub fn listen(mut self, listen: &str) -> Launch {
        listen.clone_into(&mut self.listen);
        self
    }

    fn run(&self) -> Running {
        let mut child = self.command().spawn().expect("eye can be started");
        let complaints = kept(child.stderr.take().expect("a pipe"));
        let announced = announced(child.stdout.take().expect("a pipe"));
        let mut running = Running {
            child,
            complaints,
            place: String::new(),
        };
        match announced.recv_timeout(PATIENCE) {
            Ok(place) => running.place = place,
            Err(why) => {
                running.end();
                let why = if why == RecvTimeoutError::Timeout {
                    "in time"
                } else {
                    "before it ended"
                };
                panic!(
                    "the server announced no place {why}\n{}",
                    running.complaints.lock().unwrap()
                );
            }
        }
        running
    }
}

/// A running server that speaks something else than plain HTTP over TCP. Ended when dropped.
#[derive(Debug)]
pub struct Elsewhere {
    running: Running,
}

impl Elsewhere {
    /// Returns where it says it can be reached.
    pub fn place(&self) -> &str {
        &self.running.place
    }

    /// Returns what it wrote to standard error so far.
    pub fn complaints(&self) -> String {
        self.running.complaints.lock().unwrap().clone()
    }

    /// Sends a signal, by its name without SIG.
    pub fn signal(&self, name: &str) {
        signal(self.running.child.id(), name);
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the server's standard error ---\n{}", self.complaints());
        }
        self.running.end();
    }
}

/// Sends a signal to a process of ours.
fn signal(process: u32, name: &str) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {process}")])
        .status();
    assert!(
        sent.expect("a shell can be started").success(),
        "SIG{name} reaches the server"
    );
}

/// Runs `eye` with these arguments and variables to its end and returns what came of it.
pub fn run_eye_with<S: Into<OsString>>(
    variables: &[(&str, &str)],
    arguments: impl IntoIterator<Item = S>,
) -> Output {
    clean_command()
        .envs(variables.iter().copied())
        .args(arguments.into_iter().map(Into::into))
        .stdin(Stdio::null())
        .output()
        .expect("eye can be started")
}

/// Runs `eye` with these arguments to its end and returns what came of it.
pub(crate) fn run_eye<S: Into<OsString>>(arguments: impl IntoIterator<Item = S>) -> Output {
    run_eye_with(&[], arguments)
}

/// Runs `eye` to its end as [`Eye::command`] does, with no file of it growing beyond so many bytes.
pub fn command_within<S: Into<OsString>>(
    bytes: u64,
    arguments: impl IntoIterator<Item = S>,
) -> Output {
    clean_command_within(bytes)
        .args(arguments.into_iter().map(Into::into))
        .stdin(Stdio::null())
        .output()
        .expect("eye can be started")
}

/// `eye` in a shell's limit for the size of files.
fn clean_command_within(bytes: u64) -> Command {
    let mut shell = cleaned(Command::new("sh"));
    // The signal that comes with such a failure would end the process; ignored, the write just fails.
    let limited = format!(
        "trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"",
        bytes / 512
    );
    shell.args(["-c", &limited]).arg(binary::eye());
    shell
}

/// `eye`, free of settings that the tester's own environment may hold.
fn clean_command() -> Command {
    cleaned(Command::new(binary::eye()))
}

fn cleaned(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EYE_") {
            command.env_remove(name);
        }
    }
    command
}

#[derive(Debug)]
struct Running {
    child: Child,
    complaints: Arc<Mutex<String>>,
    place: String,
}

impl Running {
    /// The address behind `http://`.
    fn address(&self) -> SocketAddr {
        let address = self.place.strip_prefix("http://");
        address
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("no address of plain HTTP: {:?}", self.place))
    }

    fn end(&mut self) {
        // Both fail only where the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a pipe for as long as it is open, so that the server never blocks on it, and keeps what came.
fn kept(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let kept = Arc::new(Mutex::new(String::new()));
    let writer = kept.clone();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            writer.lock().unwrap().push_str(&(line + "\n"));
        }
    });
    kept
}

/// Reads standard output for as long as it is open and reports the place once it is announced.
fn announced(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if let Some(place) = line.trim().strip_prefix(ANNOUNCEMENT) {
                // Nobody listens any more once the place is known.
                let _ = sender.send(place.to_owned());
            }
        }
    });
    receiver
}

fn next_of(page: &Answer) -> Option<String> {
    let next = crate::json_text::fields(&page.text());
    let next = next.get("next").expect("every list has `next`");
    serde_json::from_str::<Option<String>>(next).expect("a cursor is a string or null")
}
