//! Connections: accepting them, keeping their number and their pace within bounds, and letting them finish.
//!
//! What must stay true: a request that was read is answered, even while stopping; nothing new is accepted then. A
//! client that does nothing, or next to nothing, cannot keep a connection.

mod listener;
mod pace;
mod socket;
mod tls;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::middleware::from_fn_with_state;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::config::Settings;
use crate::envelope::{Wrapping, envelope};
use crate::error::{Code, Problem};
use crate::metrics::{Door, Metrics};
use listener::{Accepted, Stream};
pub(crate) use listener::{Listener, Peer, Place};
use pace::{Answering, Pace, Paced, Paces};
pub(crate) use socket::Socket;
use tls::greet;
pub(crate) use tls::{Tls, keep_current};

/// How long to wait when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections over the limit are told so at once; others are closed without a word.
const REFUSING_AT_ONCE: usize = 64;
/// The longest head of a request.
const HEAD_MAX_BYTES: usize = 64 << 10;

/// Keeps track of connections, and ends them.
pub(crate) struct Connections {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// Closed once every connection has dropped its sender.
    open: mpsc::Sender<()>,
    all_closed: mpsc::Receiver<()>,
}

/// What all connections share.
struct Shared {
    paces: Paces,
    requests_max: usize,
    metrics: Arc<Metrics>,
    /// A turn for each connection that `listen` may have.
    turns: Arc<Semaphore>,
    refusing: Arc<Semaphore>,
    refusal: Router,
}

impl Connections {
    /// Takes limits and paces from the settings.
    pub(crate) fn new(settings: &Settings, metrics: Arc<Metrics>) -> Self {
        let (open, all_closed) = mpsc::channel(1);
        let limit = settings.connections_max;
        let refusal = move || async move {
            let problem = Problem::new(
                Code::Overloaded,
                "There are as many connections as there may be.",
            )
            .detail("Keep connections and use them again; try this once more a little later.")
            .limit(limit)
            .retry_after(1);
            ([(header::CONNECTION, "close")], problem)
        };
        Self {
            shared: Arc::new(Shared {
                paces: Paces::of(settings),
                requests_max: settings.connection_requests_max,
                metrics,
                turns: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
                refusing: Arc::new(Semaphore::new(REFUSING_AT_ONCE)),
                refusal: Router::new()
                    .fallback(refusal)
                    .layer(from_fn_with_state(Wrapping::default(), envelope)),
            }),
            stop: watch::Sender::new(false),
            open,
            all_closed,
        }
    }

    /// Accepts on a listener until told to stop; the listener is handed back then.
    pub(crate) fn accept(
        &self,
        mut listener: Listener,
        door: Door,
        router: Router,
    ) -> JoinHandle<Listener> {
        let mut stop = self.stop.subscribe();
        let end = End {
            stop: self.stop.clone(),
            open: self.open.clone(),
        };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = told(&mut stop) => return listener,
                };
                match accepted {
                    Ok(Accepted { stream, peer, tls }) => {
                        let Some((turn, router)) = shared.let_in(door, &router) else {
                            continue;
                        };
                        let (shared, end) = (Arc::clone(&shared), end.clone());
                        tokio::spawn(async move {
                            let _turn = turn;
                            let _present = shared.metrics.connected(door);
                            let Some(acceptor) = tls else {
                                return shared.serve(stream, peer, router, end).await;
                            };
                            match greet(acceptor, stream, shared.paces.head).await {
                                Ok(stream) => {
                                    shared.serve(Box::new(stream), peer, router, end).await;
                                }
                                Err(error) => {
                                    tracing::debug!(%error, "a TLS handshake failed");
                                }
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection could be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
    }

    /// Stops accepting, and tells connections to end with the request they are at.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops, and returns once all connections are closed.
    pub(crate) async fn finish(mut self) {
        self.stop();
        drop(self.open);
        // Nothing is ever sent: this returns when the last sender is gone.
        let _ = self.all_closed.recv().await;
    }
}

/// What tells a connection to end, and is told that it has.
#[derive(Clone)]
struct End {
    stop: watch::Sender<bool>,
    open: mpsc::Sender<()>,
}

/// Waits until connections are told to end.
async fn told(stop: &mut watch::Receiver<bool>) {
    // Without a sender the service is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Shared {
    /// Returns a turn and what answers there: the routes, or, where too many are open, a refusal. Whoever looks after
    /// the service gets in at the other doors whatever happens at the first.
    fn let_in(
        &self,
        door: Door,
        router: &Router,
    ) -> Option<(Option<OwnedSemaphorePermit>, Router)> {
        if door != Door::Public {
            return Some((None, router.clone()));
        }
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Some((Some(turn), router.clone()));
        }
        self.metrics
            .connections_refused
            .fetch_add(1, Ordering::Relaxed);
        let turn = Arc::clone(&self.refusing).try_acquire_owned().ok()?;
        Some((Some(turn), self.refusal.clone()))
    }

    /// Answers the requests of one connection until it ends, is too slow, or is told to end.
    async fn serve(&self, stream: Box<dyn Stream>, peer: Peer, router: Router, end: End) {
        let pace = Arc::new(Pace::new(self.paces));
        let answer = |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let last = pace.begin_request() >= self.requests_max;
            let (router, pace) = (router.clone(), Arc::clone(&pace));
            async move {
                let Ok(mut response) = router.oneshot(request).await;
                if last {
                    let headers = response.headers_mut();
                    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| Answering::new(body, pace)))
            }
        };
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .max_header_size(HEAD_MAX_BYTES)
            // How long a head takes is looked at by `Pace`, which knows a slow client from an idle one.
            .header_read_timeout(None);
        let stream = TokioIo::new(Paced::new(stream, Arc::clone(&pace)));
        let connection = builder.serve_connection(stream, service_fn(answer));
        let mut connection = std::pin::pin!(connection);
        let mut stop = end.stop.subscribe();
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                    }
                    break;
                }
                why = pace.overdue() => {
                    tracing::debug!(why, "a connection was closed");
                    break;
                }
                () = told(&mut stop), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
        drop(end.open);
    }
}

#[cfg(test)]
mod tests;
