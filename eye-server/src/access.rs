//! What is noted of every request: counts, and a line in the log.
//!
//! What must stay true: a line names the pattern of a path and never the path, its query or anything that was sent, so
//! that no token and nothing of an event gets into a log.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use crate::config::AccessLog;
use crate::envelope::X_REQUEST_ID;
use crate::metrics::Present;
use crate::serve::Peer;
use crate::state::AppState;

/// Wraps every route, outside of everything else.
pub(crate) async fn note(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let metrics = state.metrics();
    let matched = request.extensions().get::<MatchedPath>();
    let route = metrics.route(matched.map(MatchedPath::as_str));
    let method = request.method().clone();
    let peer = request.extensions().get::<Peer>();
    let proxies = &state.settings().trusted_proxies;
    let client = peer.and_then(|peer| proxies.client(*peer, request.headers()));
    let present = Present::new(&metrics.in_flight);
    let response = next.run(request).await;
    drop(present);
    let status = response.status();
    metrics.answered(route, &method, status, begun.elapsed());
    let answer = Answer {
        request_id: response.headers().get(X_REQUEST_ID).cloned(),
        state,
        method,
        route,
        status,
        begun,
        client,
    };
    match response.body().size_hint().exact() {
        Some(bytes) => {
            answer.note(bytes);
            response
        }
        None => response.map(|body| {
            Body::new(Counted {
                body,
                bytes: 0,
                answer,
            })
        }),
    }
}

/// An answer on its way.
struct Answer {
    state: AppState,
    method: Method,
    route: &'static str,
    status: StatusCode,
    begun: Instant,
    client: Option<IpAddr>,
    request_id: Option<HeaderValue>,
}

impl Answer {
    /// Notes it, once it is known how long it is.
    fn note(&self, bytes: u64) {
        self.state.metrics().sent(bytes);
        let wanted = match self.state.settings().access_log {
            AccessLog::All => true,
            AccessLog::Errors => self.status.as_u16() >= 400,
            AccessLog::Off => false,
        };
        if wanted {
            let request = self.request_id.as_ref();
            tracing::info!(
                target: "eye::access",
                method = %self.method,
                route = self.route,
                status = self.status.as_u16(),
                ms = milliseconds(self.begun.elapsed()),
                bytes,
                client = %self.client.map_or_else(|| "-".to_owned(), |client| client.to_string()),
                request = request.and_then(|id| id.to_str().ok()).unwrap_or("-"),
                "answered"
            );
        }
    }
}

/// Rounds to microseconds.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A body whose length shows only once it has gone out, whole or cut short.
struct Counted {
    body: Body,
    bytes: u64,
    answer: Answer,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.answer.note(self.bytes);
    }
}
