//! Answers that go on and on: made bit by bit, as fast as the client takes them.
//!
//! What must stay true: not more than a few pieces wait for a client, and whoever makes them stops when it is gone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Pieces that may wait for the client.
const WAITING: usize = 2;

/// Where the pieces of an answer are put.
pub(crate) struct Outlet(mpsc::Sender<io::Result<Frame<Bytes>>>);

/// Says that the client is gone.
pub(crate) struct Gone;

impl Outlet {
    /// Hands a piece to the client; waits while it is slow.
    pub(crate) async fn put(&self, piece: impl Into<Bytes>) -> Result<(), Gone> {
        self.0
            .send(Ok(Frame::data(piece.into())))
            .await
            .map_err(|_| Gone)
    }

    /// Ends the answer with fields of a trailer.
    pub(crate) async fn put_trailers(&self, trailers: HeaderMap) -> Result<(), Gone> {
        self.0
            .send(Ok(Frame::trailers(trailers)))
            .await
            .map_err(|_| Gone)
    }

    /// Breaks the answer off, so that the client sees that it is not whole.
    pub(crate) async fn break_off(&self, why: &str) {
        drop(self.0.send(Err(io::Error::other(why.to_owned()))).await);
    }

    /// Waits until the client is gone.
    pub(crate) async fn gone(&self) {
        self.0.closed().await;
    }
}

/// Returns an answer's body and where its pieces go. It ends when the outlet is dropped.
pub(crate) fn stream() -> (Outlet, Body) {
    let (outlet, pieces) = mpsc::channel(WAITING);
    (Outlet(outlet), Body::new(Pieces(pieces)))
}

struct Pieces(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context)
    }
}
