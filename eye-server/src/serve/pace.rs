//! How slow a client may be: to send a head, between requests, and to take an answer.
//!
//! What must stay true: at every moment of a connection one of the bounds holds, or a handler works on a request; how
//! slowly a body may come is the handler's to say (`ingest::read_body`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::config::Settings;

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paces {
    /// From the first byte of a head to its last.
    pub(super) head: Duration,
    /// Between an answer and the next head.
    idle: Duration,
    /// Without a byte of an answer being taken.
    answer: Duration,
}

impl Paces {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            head: settings.header_timeout,
            idle: settings.keep_alive_timeout,
            answer: settings.answer_idle_timeout,
        }
    }
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request.
    Idle = 0,
    /// The rest of a head.
    Head = 1,
    /// A handler, or the client that takes its answer.
    Busy = 2,
}

/// Follows one connection.
#[derive(Debug)]
pub(super) struct Pace {
    paces: Paces,
    begun: Instant,
    /// The phase in two bits, above them when it began, milliseconds since `begun`.
    phase: AtomicU64,
    /// Since when a write waits, milliseconds since `begun` plus one; 0 while none does.
    stuck: AtomicU64,
    requests: AtomicUsize,
}

impl Pace {
    pub(super) fn new(paces: Paces) -> Self {
        Self {
            paces,
            begun: Instant::now(),
            phase: AtomicU64::new(Phase::Idle as u64),
            stuck: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
        }
    }

    /// Notes that a head was read; returns how many there were on this connection.
    pub(super) fn begin_request(&self) -> usize {
        self.enter(Phase::Busy, self.elapsed());
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Waits until the client was too slow; says at what. Looks a few times within the shortest bound.
    pub(super) async fn overdue(&self) -> &'static str {
        let shortest = self.paces.head.min(self.paces.idle).min(self.paces.answer);
        let nap = (shortest / 4).max(Duration::from_millis(10));
        loop {
            if let Some(why) = self.too_slow(self.elapsed()) {
                return why;
            }
            tokio::time::sleep(nap).await;
        }
    }

    /// Says what the client is too slow at, `now` milliseconds after the connection began.
    fn too_slow(&self, now: u64) -> Option<&'static str> {
        let bound = |bound: Duration| u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        let passed = |since: u64, most| now.saturating_sub(since) >= bound(most);
        let stuck = self.stuck.load(Ordering::Relaxed);
        if stuck > 0 && passed(stuck - 1, self.paces.answer) {
            return Some("an answer was not taken");
        }
        let (phase, since) = self.phase();
        match phase {
            Phase::Idle if passed(since, self.paces.idle) => Some("no request came"),
            Phase::Head if passed(since, self.paces.head) => Some("a head did not end"),
            _ => None,
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX >> 2)
    }

    fn phase(&self) -> (Phase, u64) {
        let packed = self.phase.load(Ordering::Relaxed);
        let phase = match packed & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        };
        (phase, packed >> 2)
    }

    fn enter(&self, phase: Phase, now: u64) {
        self.phase.store(now << 2 | phase as u64, Ordering::Relaxed);
    }

    /// Notes that bytes came.
    fn note_read(&self, now: u64) {
        if self.phase().0 == Phase::Idle {
            self.enter(Phase::Head, now);
        }
    }

    /// Notes that bytes went out, or have to wait.
    fn note_write(&self, is_ready: bool, now: u64) {
        if is_ready {
            self.stuck.store(0, Ordering::Relaxed);
        } else if self.stuck.load(Ordering::Relaxed) == 0 {
            self.stuck.store(now + 1, Ordering::Relaxed);
        }
    }
}

/// A stream whose reads and writes are noted.
pub(super) struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Arc<Pace>) -> Self {
        Self { stream, pace }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pace.note_read(self.pace.elapsed());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.pace
            .note_write(written.is_ready(), self.pace.elapsed());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.pace
            .note_write(flushed.is_ready(), self.pace.elapsed());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.pace.note_write(ended.is_ready(), self.pace.elapsed());
        ended
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.pace
            .note_write(written.is_ready(), self.pace.elapsed());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The body of an answer; when it is dropped the connection waits for the next request.
pub(super) struct Answering {
    body: Body,
    pace: Arc<Pace>,
}

impl Answering {
    pub(super) fn new(body: Body, pace: Arc<Pace>) -> Self {
        Self { body, pace }
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.pace.enter(Phase::Idle, self.pace.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(Paces {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            answer: Duration::from_secs(30),
        })
    }

    #[test]
    fn a_head_may_take_less_time_than_a_pause_between_requests() {
        let pace = pace();
        assert_eq!(pace.too_slow(74_999), None);
        pace.note_read(70_000);
        // More bytes of the same head gain it no time.
        pace.note_read(79_000);
        assert_eq!(pace.too_slow(79_999), None);
        assert_eq!(pace.too_slow(80_000), Some("a head did not end"));
        pace.enter(Phase::Busy, 80_000);
        assert_eq!(pace.too_slow(1_000_000), None);
        pace.enter(Phase::Idle, 1_000_000);
        assert_eq!(pace.too_slow(1_074_999), None);
        assert_eq!(pace.too_slow(1_075_000), Some("no request came"));
    }

    #[test]
    fn an_answer_that_nobody_takes_is_given_up() {
        let pace = pace();
        pace.begin_request();
        pace.note_write(false, 0);
        pace.note_write(false, 29_000);
        assert_eq!(pace.too_slow(29_999), None);
        pace.note_write(true, 29_999);
        pace.note_write(false, 40_000);
        assert_eq!(pace.too_slow(69_999), None);
        assert_eq!(pace.too_slow(70_000), Some("an answer was not taken"));
    }
}
