//! What every answer wears: a request id, the body of a problem, open CORS on sending, strictness for browsers; and what every refused body
//! gets: it is read for a while, so that the answer arrives.

use std::fmt::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::config::{Origins, Settings};
use crate::error::{Code, Problem};
use crate::state::AppState;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id taken over from a client.
const CLIENT_REQUEST_ID_MAX_CHARS: usize = 128;
/// How long a refused body is read before the answer: a client that is still writing would not see it otherwise.
const REFUSED_BODY_READ_TIME: Duration = Duration::from_secs(5);

/// Names a request, in its answer and in the log of changes.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// Takes over the client's, if it is sane, or makes one.
    fn of(headers: &HeaderMap) -> Self {
        let sane = |value: &&HeaderValue| {
            (1..=CLIENT_REQUEST_ID_MAX_CHARS).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        match headers.get(X_REQUEST_ID).filter(sane) {
            Some(value) => Self(value.clone()),
            None => Self::new(),
        }
    }

    /// Makes one: a UUIDv8 of a random number per process and a counter, which costs no system call per request.
    fn new() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let process = PROCESS.get_or_init(|| Uuid::new_v4().as_u64_pair().0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&process.to_be_bytes());
        bytes[8..].copy_from_slice(&count.to_be_bytes());
        let id = uuid::Builder::from_custom_bytes(bytes).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let text = id.hyphenated().encode_lower(&mut text);
        Self(HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-")))
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap_or("-")
    }

    /// Returns the id as a UUID; a client's that is none gives the UUIDv5 of its text.
    pub(crate) fn id(&self) -> Uuid {
        Uuid::try_parse(self.text())
            .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, self.0.as_bytes()))
    }
}

/// What answers are wrapped by. Without settings, which not every answer has, a mebibyte is read, and no page is trusted.
#[derive(Debug, Clone)]
pub(crate) struct Wrapping {
    /// Whose pages may read the answers.
    trusted: Arc<Origins>,
    /// How much of a refused body is read at most.
    refused_max_bytes: usize,
}

impl Wrapping {
    /// Returns what a service with these settings wraps by. As much of a refused body is read as a request may have.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            trusted: Arc::new(settings.cors_origins.clone()),
            refused_max_bytes: settings.request_max_bytes,
        }
    }
}

impl Default for Wrapping {
    fn default() -> Self {
        Self {
            trusted: Arc::default(),
            refused_max_bytes: 1 << 20,
        }
    }
}

/// Wraps every route.
pub(crate) async fn envelope(
    State(wrapping): State<Wrapping>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = RequestId::of(request.headers());
    let origin = cross_origin(&request, &wrapping.trusted);
    let expects = request.headers().contains_key(header::EXPECT);
    request.extensions_mut().insert(id.clone());
    let left = if request.body().is_end_stream() {
        None
    } else {
        Some(keep_body(&mut request))
    };

    // At the level of errors, so that whatever is logged within says which request it was.
    let span = tracing::error_span!("request", id = id.text());
    let mut response = next.run(request).instrument(span).await;
    if response.status().as_u16() >= 400 {
        if let Some(left) = left {
            // Who waits to be told to send will not send what is refused.
            let most = if expects {
                0
            } else {
                wrapping.refused_max_bytes
            };
            if !read_on(&left, most).await {
                // What is still to come would be taken for the next request, so the connection ends; a client that is not told
                // sends its next request on it.
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        write_problem(&mut response, &id);
    }
    if let Some(origin) = origin {
        allow_origin(response.headers_mut(), origin);
    }
    response.headers_mut().insert(X_REQUEST_ID, id.0);
    keep_browsers_strict(response.headers_mut());
    response
}

/// Tells browsers to believe the media type, to show no answer inside of another page, to run no script in one but the
/// service's own, and to tell nobody where they came from: an address may hold a search.
fn keep_browsers_strict(headers: &mut HeaderMap) {
    const DATA: &str = "default-src 'none'; frame-ancestors 'none'";
    const PAGE: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    let media_type = headers.get(header::CONTENT_TYPE);
    let is_page =
        media_type.is_some_and(|media_type| media_type.as_bytes().starts_with(b"text/html"));
    let policy = HeaderValue::from_static(if is_page { PAGE } else { DATA });
    // A page that needs to say more has said it.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(policy);
}

/// Answers a method that a path does not have; axum adds `Allow`. OPTIONS is had by every path.
pub(crate) async fn other_method(State(state): State<AppState>, request: Request) -> Response {
    if request.method() != Method::OPTIONS {
        let message = format!(
            "{} does not take {}.",
            request.uri().path(),
            request.method()
        );
        return Problem::new(Code::MethodNotAllowed, message)
            .detail("The header Allow lists what it takes.")
            .into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    if let Some(asked) =
        asked.filter(|_| cross_origin(&request, &state.settings().cors_origins).is_some())
    {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, asked.clone());
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("86400"),
        );
        if let Some(wanted) = request
            .headers()
            .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }
    response
}

/// Answers a path that is not there.
pub(crate) async fn unknown_path(request: Request) -> Problem {
    Problem::not_found(&format!("{:?}", request.uri().path()))
        .detail("GET /api/schema lists every path.")
}

/// Whether browsers may send there from any page.
fn is_open(path: &str) -> bool {
    path.trim_end_matches('/') == "/events"
}

fn asks_to_post(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCESS_CONTROL_REQUEST_METHOD)
        .is_some_and(|method| method == "POST")
}

/// The origin that has to be allowed for the answer to reach its page.
fn cross_origin(request: &Request, trusted: &Origins) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    let is_trusted = |text: &str| trusted.0.iter().any(|one| one.eq_ignore_ascii_case(text));
    if origin.to_str().is_ok_and(is_trusted) {
        return Some(origin.clone());
    }
    let sends = request.method() == Method::POST
        || (request.method() == Method::OPTIONS && asks_to_post(request.headers()));
    (sends && is_open(request.uri().path())).then(|| origin.clone())
}

fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    // sendBeacon sends credentials always; tokens travel in headers or the query, so cookies mean nothing here.
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("x-request-id, retry-after, location"),
    );
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// Writes the body of an answer of 400 or more, unless it is a report (`/health/ready`) that has its own.
fn write_problem(response: &mut Response, id: &RequestId) {
    let is_report = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|media_type| media_type == "application/json");
    if is_report && response.extensions().get::<Problem>().is_none() {
        return;
    }
    let problem = response
        .extensions_mut()
        .remove::<Problem>()
        .unwrap_or_else(|| {
            // Only axum itself answers so, for a path it cannot read.
            let status = response.status();
            let mut message = String::new();
            let _ = write!(message, "The request cannot be read: {status}.");
            Problem::new(Code::BadParameter, message).status(status)
        });
    let body = Bytes::from(problem.body(id.text()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
}

type Left = Arc<Mutex<Body>>;

/// Puts the body where it outlives a handler that does not read it.
fn keep_body(request: &mut Request) -> Left {
    let body = std::mem::take(request.body_mut());
    let left = Arc::new(Mutex::new(body));
    *request.body_mut() = Body::new(Shared(Arc::clone(&left)));
    left
}

/// Reads on for so many bytes at most, and says whether that was all of the body.
async fn read_on(left: &Left, most: usize) -> bool {
    let mut body = std::mem::take(&mut *left.lock().unwrap_or_else(PoisonError::into_inner));
    let reading = async {
        let mut bytes = 0;
        while !body.is_end_stream() {
            if bytes >= most {
                return false;
            }
            match body.frame().await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => return false,
                None => break,
            }
        }
        true
    };
    // A client that is slower than this has gone or waits for the answer.
    tokio::time::timeout(REFUSED_BODY_READ_TIME, reading)
        .await
        .unwrap_or(false)
}

/// Reads a body that is kept elsewhere.
struct Shared(Left);

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_end_stream()
    }
}
