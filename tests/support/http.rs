//! HTTP/1.1 over a plain socket. Requests go out exactly as written, answers come back exactly as sent, and nothing is
//! ever sent twice: a client that quietly tries again would hide what these tests look for.

use crate::{documented, json_text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

/// How long an answer may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends requests to one address and keeps its idle connections. May be shared between threads.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    idle: Mutex<Vec<Connection>>,
    /// Whether every answer has to be one that the service's document knows.
    documented: bool,
}

impl Client {
    /// Returns a client of `address`; it connects with the first request.
    pub fn new(address: SocketAddr) -> Client {
        Client {
            address,
            idle: Mutex::new(Vec::new()),
            documented: false,
        }
    }

    /// Holds every answer against the document of the service.
    #[must_use]
    pub fn documented(self) -> Client {
        Client {
            documented: true,
            ..self
        }
    }

    /// Returns the address that requests go to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins a request. `target` is the path, with its query if it has one, already encoded.
    pub fn request(&self, method: &str, target: &str) -> Request<'_> {
        Request {
            client: self,
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    fn connection(&self) -> io::Result<Connection> {
        while let Some(connection) = self.idle.lock().unwrap().pop() {
            if connection.is_open() {
                return Ok(connection);
            }
        }
        Connection::open(self.address)
    }
}

/// A request that is being put together.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    client: &'a Client,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request<'_> {
    /// Adds `Authorization: Token T`.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Token {token}"))
    }

    /// Adds a header as written.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a query parameter, percent-encoded.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        self.target.push(separator);
        self.target.push_str(&format!(
            "{}={}",
            percent_encoded(name),
            percent_encoded(value)
        ));
        self
    }

    /// Sets the body to a JSON value.
    #[must_use]
    pub fn json(self, value: &Value) -> Self {
        self.body(value.to_string(), "application/json")
    }

    /// Sets the body to these lines, as NDJSON.
    #[must_use]
    pub fn ndjson<T: AsRef<str>>(self, lines: &[T]) -> Self {
        let lines: String = lines
            .iter()
            .map(|line| format!("{}\n", line.as_ref()))
            .collect();
        self.body(lines, "application/x-ndjson")
    }

    /// Sets the body to these bytes; an empty `content_type` sends no such header.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>, content_type: &str) -> Self {
        self.body = Some(bytes.into());
        if content_type.is_empty() {
            self
        } else {
            self.header("Content-Type", content_type)
        }
    }

    /// Sends and returns the answer; panics where there is none.
    pub fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.target);
        self.try_send()
            .unwrap_or_else(|error| panic!("no answer to {what:.200}: {error}"))
    }

    /// Sends on an idle connection or a new one and returns the answer. Never sends twice.
    pub fn try_send(self) -> io::Result<Answer> {
        let mut connection = self.client.connection()?;
        let answer = connection.exchange(&self.bytes(), self.method == "HEAD")?;
        if self.client.documented {
            documented::check(&self.method, &self.target, &answer);
        }
        if !answer.closes {
            self.client.idle.lock().unwrap().push(connection);
        }
        Ok(answer)
    }

    /// Returns the request as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.client.address
        );
        for (name, value) in &self.headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// One connection, for tests that look at connections themselves.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `address`.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream: BufReader::new(stream),
        })
    }

    /// Writes a request's bytes and reads its answer. `head` says that the answer has no body whatever its headers say.
    pub fn exchange(&mut self, request: &[u8], head: bool) -> io::Result<Answer> {
        let written = self.write(request);
        // A server may refuse early and close while we still write; its answer is then there to be read.
        match self.answer(head) {
            Err(_) if written.is_err() => Err(written.unwrap_err()),
            answer => answer,
        }
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one answer.
    pub fn answer(&mut self, head: bool) -> io::Result<Answer> {
        loop {
            let (status, headers) = self.head()?;
            if (100..200).contains(&status) {
                continue;
            }
            let mut answer = Answer {
                status,
                headers,
                body: Vec::new(),
                closes: false,
            };
            let length = answer
                .header("content-length")
                .map(|length| length.parse::<u64>().map_err(broken));
            let chunked = answer
                .header("transfer-encoding")
                .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
            answer.closes = answer
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if head || status == 204 || status == 304 {
            } else if chunked {
                answer.body = self.chunks()?;
            } else if let Some(length) = length {
                answer.body = self.exactly(length?)?;
            } else {
                answer.closes = true;
                self.stream.read_to_end(&mut answer.body)?;
            }
            return Ok(answer);
        }
    }

    /// Reads `100 Continue`, which a server sends once it wants the body of a request with `Expect: 100-continue`.
    pub fn expect_continue(&mut self) -> io::Result<()> {
        match self.head()? {
            (100, _) => Ok(()),
            (status, _) => Err(broken(format!("{status} instead of 100"))),
        }
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| broken(format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| broken(format!("no header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection ended within a line",
            )),
        }
    }

    fn exactly(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let read = (&mut self.stream).take(length).read_to_end(&mut body)?;
        if read as u64 == length {
            Ok(body)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(broken)?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            self.line()?;
        }
    }

    fn is_open(&self) -> bool {
        let stream = self.stream.get_ref();
        let silent = stream.set_nonblocking(true).is_ok()
            && stream
                .peek(&mut [0])
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).is_ok() && silent
    }
}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    closes: bool,
}

impl Answer {
    /// Returns one that nobody sent.
    #[cfg(test)]
    pub(crate) fn of(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter();
        Answer {
            status,
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.as_bytes().to_vec(),
            closes: false,
        }
    }

    /// Returns a header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("an answer is UTF-8")
    }

    /// Returns the body as a JSON value. Numbers beyond a double make it panic; [`Answer::raw_events`] does not mind them.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "{} without JSON ({error}): {:.500}",
                self.status,
                self.text()
            )
        })
    }

    /// Panics unless the status is `status`; returns itself.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "answer: {:.2000}", body);
        self
    }

    /// Panics unless this is a problem of the contract's shape with this status and code; returns its JSON.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "answer: {:.2000}", body);
        let content_type = self.header("content-type").unwrap_or_default();
        assert!(
            content_type.starts_with("application/problem+json"),
            "content type {content_type:?} of {body}"
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for field in ["type", "title", "message", "detail", "request_id"] {
            assert!(problem[field].is_string(), "no {field} in {problem}");
        }
        problem
    }

    /// Returns the events of a list.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.json()["events"]
            .as_array()
            .unwrap_or_else(|| panic!("no events in {:.500}", self.text()))
            .clone()
    }

    /// Returns the events of a list, each field as the text it was written with.
    pub fn raw_events(&self) -> Vec<BTreeMap<String, String>> {
        let list = json_text::fields(&self.text());
        json_text::items(&list["events"])
            .iter()
            .map(|event| json_text::fields(event))
            .collect()
    }
}

/// Returns `text` with everything but unreserved characters (RFC 3986) as `%XX`.
pub fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn broken(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
