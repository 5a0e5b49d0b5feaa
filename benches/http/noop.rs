//! The ceiling: the same HTTP, the same look-up of the token, the same reading and raw-JSON parsing of the body and the
//! same answer bytes as the real server, with one channel send in place of the log.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::{Sender, channel};

/// The argument that makes this program the no-op server.
pub(crate) const COMMAND: &str = "serve-noop";
const REQUEST_MAX_BYTES: usize = 16 * 1024 * 1024;
const QUEUE: usize = 1024;

/// An event as it was sent, each field still as text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft<'a> {
    #[serde(borrow)]
    session_id: &'a RawValue,
    #[serde(borrow)]
    category: &'a RawValue,
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl Draft<'_> {
    fn bytes(&self) -> usize {
        let fields = [
            self.session_id,
            self.category,
            self.name,
            self.data,
            self.timestamp,
        ];
        fields.iter().map(|field| field.get().len()).sum::<usize>()
            + self.id.map_or(0, |id| id.get().len())
    }
}

struct Shared {
    tokens: HashMap<[u8; 32], u32>,
    /// What would be written: application, body, events, bytes of the drafts.
    log: Sender<(u32, Bytes, u64, usize)>,
    next_offset: AtomicU64,
}

/// Serves until the process is ended; prints the address on standard output first.
pub(crate) fn serve(token: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (log, mut queue) = channel(QUEUE);
        tokio::spawn(async move { while queue.recv().await.is_some() {} });
        let tokens = HashMap::from([(Sha256::digest(token.as_bytes()).into(), 1)]);
        let shared = Arc::new(Shared {
            tokens,
            log,
            next_offset: AtomicU64::new(0),
        });
        let router = Router::new()
            .route("/events", post(send))
            .with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        println!(
            "{}",
            listener
                .local_addr()
                .expect("a bound socket has an address")
        );
        axum::serve(listener, router)
            .await
            .expect("serving goes on until the process is ended");
    });
}

async fn send(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Token "));
    let hash: Option<[u8; 32]> = token.map(|token| Sha256::digest(token.as_bytes()).into());
    let Some(&application) = hash.and_then(|hash| shared.tokens.get(&hash)) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let is_single = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == b"application/json");
    let Ok(body) = axum::body::to_bytes(body, REQUEST_MAX_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let (mut events, mut bytes) = (0, 0);
    let texts = body
        .split(|&byte| byte == b'\n')
        .filter(|text| !text.is_empty());
    for text in texts {
        let Ok(draft) = serde_json::from_slice::<Draft<'_>>(text) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        events += 1;
        bytes += draft.bytes();
    }
    if shared
        .log
        .send((application, body.clone(), events, bytes))
        .await
        .is_err()
    {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let first = shared.next_offset.fetch_add(events, Ordering::Relaxed);
    let request = uuid::Uuid::new_v4().to_string();
    let (status, answer) = if is_single {
        // As long as a server-made id is.
        (
            StatusCode::CREATED,
            format!(r#"{{"id":"{request}","offset":{first}}}"#),
        )
    } else {
        let last = (first + events).saturating_sub(1);
        let answer = format!(
            r#"{{"accepted":{events},"duplicates":0,"rejected":0,"first_offset":{first},"last_offset":{last},"errors":[],"errors_truncated":false}}"#
        );
        (StatusCode::OK, answer)
    };
    let headers = [
        ("content-type", "application/json"),
        ("x-request-id", request.as_str()),
        ("access-control-allow-origin", "*"),
    ];
    (status, headers, answer).into_response()
}
