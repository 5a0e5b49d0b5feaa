//! A small client of The Eye: requests over HTTP, HTTPS or the socket in a data folder, answers as the contract has them
//! (`docs/http-api.md`), refusals as lines for people. The command line uses it for everything.
//!
//! ```no_run
//! use eye_client::{Client, ClientError};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), ClientError> {
//! let client = Client::of_server("http://127.0.0.1:8001")?.with_token("eye_w_…")?;
//! let sent = client
//!     .send(&[json!({
//!         "session_id": "e2085be5-9137-4e4e-80b5-f1ffddc25423", "category": "page interaction", "name": "pageview",
//!         "data": {"path": "/"}, "timestamp": "2021-01-01T09:15:27Z",
//!         "id": "1c3f4c9e-6a3f-4b8e-9f0d-0f7a1d2c3b4a",
//!     })])
//!     .await?;
//! println!("{} stored, {} known already", sent.accepted, sent.duplicates);
//! for event in client.list("/events?limit=1000", "events").await? {
//!     println!("{}", event["name"]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A request that may have reached the server is never repeated here. Whoever gives events an `id` of their own may send them
//! again after [`ClientError::Lost`]: what is in the log already is a duplicate, and no harm.

mod problem;
mod tls;
mod wire;

pub use hyper::body::Bytes;
pub use hyper::{HeaderMap, Method, StatusCode, header};
pub use problem::Problem;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderValue;
use hyper::{Request, Response};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use wire::{Address, Wire};

/// The body of an answer that may go on and on.
pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;
type Answering = Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;
type Handler = Box<dyn Fn(Request<Full<Bytes>>) -> Answering + Send + Sync>;

/// Sends requests to one service and reads its answers. One connection is kept between requests; one request at a time goes out
/// on it.
pub struct Client {
    door: Door,
    authorization: Option<HeaderValue>,
    place: String,
}

enum Door {
    Wire(Wire),
    Handler(Handler),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Returns a client of the server at `http://HOST:PORT` or `https://HOST[:PORT]`, with a path in front if need be. Nothing is
    /// sent yet. Fails where this is no such address.
    pub fn of_server(address: &str) -> Result<Self, ClientError> {
        let address = Address::parse_http(address).map_err(ClientError::Usage)?;
        Ok(Self::of_wire(Wire::new(address)))
    }

    /// Returns a client of the server that listens on a Unix socket (`eye.sock` in its data folder): whoever may open it is
    /// admin.
    pub fn of_socket(path: impl Into<PathBuf>) -> Self {
        Self::of_wire(Wire::new(Address::Unix(path.into())))
    }

    fn of_wire(wire: Wire) -> Self {
        Client {
            place: wire.place(),
            door: Door::Wire(wire),
            authorization: None,
        }
    }

    /// Returns a client whose requests are answered within this process: by the service's own router, or by a test. `place` names
    /// it for people.
    pub fn of_handler<A>(
        place: impl Into<String>,
        handler: impl Fn(Request<Full<Bytes>>) -> A + Send + Sync + 'static,
    ) -> Self
    where
        A: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        Client {
            door: Door::Handler(Box::new(move |request| Box::pin(handler(request)))),
            authorization: None,
            place: place.into(),
        }
    }

    /// Sends every request under this token. Fails where no token could look like that.
    pub fn with_token(mut self, token: &str) -> Result<Self, ClientError> {
        let mut value = HeaderValue::try_from(format!("Token {}", token.trim())).map_err(|_| {
            ClientError::Usage("the token holds characters that no token has".to_owned())
        })?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Returns the name of the service for people: an address, a socket's path or a folder.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Says whether requests go out under a token.
    pub fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// Connects ahead of the first request, to see whether anybody listens. Errors are those of connecting.
    pub async fn connect_now(&self) -> io::Result<()> {
        match &self.door {
            Door::Wire(wire) => wire.connect_now().await,
            Door::Handler(_) => Ok(()),
        }
    }

    /// Sends one request and reads the whole answer, whatever its status. `path_and_query` is encoded already, see [`encoded`].
    ///
    /// A connection that the server closed meanwhile is opened again where not a byte of the request went out.
    pub async fn request(
        &self,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let headers = self.authorized(headers);
        let handler = match &self.door {
            Door::Wire(wire) => return wire.request(method, path_and_query, headers, body).await,
            Door::Handler(handler) => handler,
        };
        let request = prepared(method, path_and_query, headers, body)?;
        let (parts, body) = handler(request).await.into_parts();
        let mut rest = Streamed {
            place: self.place.clone(),
            body,
        };
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: rest.whole().await?,
        })
    }

    /// Gets a path; an answer of 400 and above is an error.
    pub async fn get(&self, path_and_query: &str) -> Result<Answer, ClientError> {
        self.request(Method::GET, path_and_query, HeaderMap::new(), Bytes::new())
            .await?
            .or_problem()
    }

    /// Sends a JSON value, or nothing; an answer of 400 and above is an error.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        value: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let mut headers = HeaderMap::new();
        let mut body = Bytes::new();
        if let Some(value) = value {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            body = value.to_string().into();
        }
        self.request(method, path, headers, body)
            .await?
            .or_problem()
    }

    /// Sends events in one request (`POST /events`, NDJSON). What is counted as accepted is on the disk when this returns; what
    /// was refused is in [`Sent::errors`], and kept by the service. An answer of 400 and above is an error: nothing was stored.
    pub async fn send(&self, events: &[Value]) -> Result<Sent, ClientError> {
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        );
        self.request(Method::POST, "/events", headers, lines.into())
            .await?
            .or_problem()?
            .json()
    }

    /// Gets every page of a list and returns all rows; `key` is the list's name in the answer (`events`, `sessions`, …).
    pub async fn list(&self, path: &str, key: &str) -> Result<Vec<Value>, ClientError> {
        let mut rows = Vec::new();
        let mut page = path.to_owned();
        loop {
            let mut answer: Value = self.get(&page).await?.json()?;
            let list = match &mut answer {
                Value::Array(list) => std::mem::take(list),
                other => match other.get_mut(key).map(Value::take) {
                    Some(Value::Array(list)) => list,
                    _ => {
                        return Err(ClientError::Garbled(format!(
                            "{path} answered without a list of {key}"
                        )));
                    }
                },
            };
            rows.extend(list);
            match answer.get("next").and_then(Value::as_str) {
                // A cursor keeps the query; parameters beside it have to be the same, so they are.
                Some(cursor) => {
                    let separator = if path.contains('?') { '&' } else { '?' };
                    page = format!("{path}{separator}cursor={}", encoded(cursor));
                }
                None => return Ok(rows),
            }
        }
    }

    /// Gets a path whose answer goes on and on (`/tail`, `/export`), on a connection of its own; an answer of 400 and above is an
    /// error.
    pub async fn open_stream(
        &self,
        path_and_query: &str,
        headers: HeaderMap,
    ) -> Result<Streamed, ClientError> {
        let headers = self.authorized(headers);
        let response = match &self.door {
            Door::Wire(wire) => wire.open_stream(path_and_query, headers).await?,
            Door::Handler(handler) => {
                handler(prepared(
                    Method::GET,
                    path_and_query,
                    headers,
                    Bytes::new(),
                )?)
                .await
            }
        };
        let (parts, body) = response.into_parts();
        let mut streamed = Streamed {
            place: self.place.clone(),
            body,
        };
        if parts.status.as_u16() >= 400 {
            let answer = Answer {
                status: parts.status,
                headers: parts.headers,
                body: streamed.whole().await?,
            };
            answer.or_problem()?;
        }
        Ok(streamed)
    }

    fn authorized(&self, mut headers: HeaderMap) -> HeaderMap {
        if let Some(value) = &self.authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        headers
    }
}

/// Puts a request together.
fn prepared(
    method: Method,
    path_and_query: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, ClientError> {
    let mut request = Request::builder()
        .method(method)
        .uri(path_and_query)
        .body(Full::new(body))
        .map_err(|error| ClientError::Usage(format!("{path_and_query} is no path: {error}")))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// An answer that goes on and on.
pub struct Streamed {
    place: String,
    body: AnswerBody,
}

impl fmt::Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Streamed {
    /// Returns the next piece; `None` at the end. A connection that breaks is [`ClientError::Lost`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Lost {
                        place: self.place.clone(),
                        cause: error.to_string(),
                        may_have_arrived: true,
                    });
                }
            }
        }
    }

    async fn whole(&mut self) -> Result<Bytes, ClientError> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }
}

/// What a service answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Returns the answer if its status is below 400, else the problem it tells of.
    pub fn or_problem(self) -> Result<Answer, ClientError> {
        if self.status.is_client_error() || self.status.is_server_error() {
            return Err(ClientError::Refused(Box::new(Problem::of(&self))));
        }
        Ok(self)
    }

    /// Reads the body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            ClientError::Garbled(format!(
                "the answer ({}) was not understood: {error}",
                self.status
            ))
        })
    }
}

/// What became of events that were sent: accepted + duplicates + rejected is how many there were.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Sent {
    /// Newly stored, and on the disk.
    pub accepted: u64,
    /// There already, with the same id and content.
    pub duplicates: u64,
    /// Refused; kept by the service as rejections.
    pub rejected: u64,
    /// The offset of the first one stored.
    pub first_offset: Option<u64>,
    /// The offset of the last one stored.
    pub last_offset: Option<u64>,
    /// Why the first 1,000 of the refused ones were.
    pub errors: Vec<Refusal>,
}

/// Why an event was refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// Its place among those sent, from 0.
    pub index: u64,
    /// The reason as a word of the contract: `invalid_event`, `session_conflict`, …
    pub code: String,
    /// What is wrong, field by field.
    pub errors: BTreeMap<String, Value>,
}

/// Why there is no answer to work with.
#[derive(Debug)]
pub enum ClientError {
    /// The address, the path or the token cannot be right.
    Usage(String),
    /// What is to be opened is there and cannot be used: a socket that is another user's, a data folder that is locked.
    Unusable(String),
    /// Nobody listens there; the request has not been sent.
    NoServer {
        /// Where.
        place: String,
        /// What the system said.
        cause: String,
    },
    /// The connection broke before the answer was whole.
    Lost {
        /// With whom.
        place: String,
        /// What is known of it.
        cause: String,
        /// Whether the request may have reached the server.
        may_have_arrived: bool,
    },
    /// The service said no.
    Refused(Box<Problem>),
    /// The service answered something else than the contract says.
    Garbled(String),
}

impl Error for ClientError {}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Usage(text) | ClientError::Unusable(text) | ClientError::Garbled(text) => {
                f.write_str(text)
            }
            ClientError::NoServer { place, cause } => write!(
                f,
                "no server answers on {place} ({cause}); start one with `eye serve`, or leave --server out to work \
                 on the folder given with --data"
            ),
            ClientError::Lost { place, cause, .. } => {
                write!(
                    f,
                    "the connection to {place} was lost before the answer came ({cause})"
                )
            }
            ClientError::Refused(problem) => problem.fmt(f),
        }
    }
}

/// Percent-encodes a text for one segment of a path or one value of a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A client whose requests are noted and answered with these, in turn.
    fn answering(answers: Vec<(u16, &'static str)>) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (noted, answers) = (asked.clone(), Mutex::new(answers.into_iter()));
        let client = Client::of_handler("the test", move |request| {
            let what = format!("{} {}", request.method(), request.uri());
            let token = request.headers().get(header::AUTHORIZATION).cloned();
            noted.lock().unwrap().push(match token {
                Some(token) => format!("{what} {}", token.to_str().unwrap()),
                None => what,
            });
            let (status, body) = answers.lock().unwrap().next().unwrap();
            let body = Full::new(Bytes::from_static(body.as_bytes()));
            let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            async move { response }
        });
        (client, asked)
    }

    #[test]
    fn a_query_survives_its_encoding() {
        assert_eq!(
            encoded("category:page AND a+b/ü"),
            "category%3Apage%20AND%20a%2Bb%2F%C3%BC"
        );
    }

    #[tokio::test]
    async fn every_page_of_a_list_is_asked_for_under_the_token() {
        let (client, asked) = answering(vec![
            (200, r#"{"events":[1,2],"next":"a b"}"#),
            (200, r#"{"events":[3],"next":null}"#),
        ]);
        let client = client.with_token(" t ").unwrap();
        let rows = client.list("/events?limit=2", "events").await.unwrap();
        assert_eq!(rows, [1, 2, 3]);
        assert_eq!(
            *asked.lock().unwrap(),
            [
                "GET /events?limit=2 Token t",
                "GET /events?limit=2&cursor=a%20b Token t"
            ]
        );
    }

    #[tokio::test]
    async fn what_became_of_events_is_told_and_a_refusal_is_an_error() {
        let (client, _) = answering(vec![
            (
                207,
                r#"{"accepted":1,"duplicates":0,"rejected":1,"first_offset":7,"last_offset":7,
                    "errors":[{"index":1,"code":"invalid_event","errors":{"data":["This field is required."]}}]}"#,
            ),
            (401, r#"{"title":"No token","code":"unauthorized"}"#),
            (200, "nonsense"),
        ]);
        let sent = client.send(&[Value::Null, Value::Null]).await.unwrap();
        assert_eq!(
            (sent.accepted, sent.rejected, sent.first_offset),
            (1, 1, Some(7))
        );
        assert_eq!(
            (sent.errors[0].index, sent.errors[0].code.as_str()),
            (1, "invalid_event")
        );
        let refused = client.send(&[]).await.unwrap_err();
        assert!(
            matches!(&refused, ClientError::Refused(problem) if problem.code == "unauthorized")
        );
        let garbled = client
            .get("/me")
            .await
            .unwrap()
            .json::<Value>()
            .unwrap_err();
        assert!(matches!(garbled, ClientError::Garbled(_)), "{garbled}");
    }

    #[test]
    fn an_address_or_a_token_that_cannot_be_is_said_at_once() {
        assert!(Client::of_server("127.0.0.1:8001").is_err());
        let client = Client::of_server("http://127.0.0.1:8001").unwrap();
        assert_eq!(client.place(), "http://127.0.0.1:8001");
        assert!(client.with_token("a\nb").is_err());
    }
}
