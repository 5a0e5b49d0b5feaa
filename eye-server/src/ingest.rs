//! Whether a request with events is let in: memory, the index's lag, the log's queue; and how its body is read.
//!
//! What must stay true: bytes that a request holds are charged before they are kept, and the charge is held until the
//! writer has answered, so that `memory_for_requests` bounds what all requests hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::StatusCode;
use eye_log::{Batch, Receipt};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use crate::config::Settings;
use crate::error::{Code, Problem};
use crate::state::AppState;

/// A request that holds no more than this is small.
const SMALL_BYTES: usize = 64 << 10;

/// Counts the bytes that requests hold, against a limit.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Arc<Used>);

#[derive(Debug)]
struct Used {
    bytes: AtomicUsize,
    limit: usize,
}

impl Memory {
    /// Allows `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Used {
            bytes: AtomicUsize::new(0),
            limit,
        }))
    }

    /// Returns an account with nothing on it.
    pub(crate) fn account(&self) -> Charge {
        Charge {
            used: Arc::clone(&self.0),
            bytes: 0,
        }
    }

    /// Returns how many bytes are held now.
    pub(crate) fn used(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

/// Holds some of the memory for requests; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    used: Arc<Used>,
    bytes: usize,
}

impl Charge {
    /// Takes `bytes` more, or says that there are none left.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let before = self.used.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Large requests leave an eighth to small ones, which they would crowd out.
        let alone = before == self.bytes;
        let reserve = if self.bytes.saturating_add(bytes) > SMALL_BYTES && !alone {
            self.used.limit / 8
        } else {
            0
        };
        if before.saturating_add(bytes) > self.used.limit - reserve {
            self.used.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Problem::new(
                Code::Overloaded,
                "Requests hold as much memory as they may.",
            )
            .detail("Send the same again a little later; sending it in smaller parts helps.")
            .limit(self.used.limit)
            .retry_after(1));
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.used.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Counts the events that are on their way to the log, which the index will not have either.
#[derive(Debug, Default)]
pub(crate) struct OnTheirWay(Arc<AtomicU64>);

impl OnTheirWay {
    /// Counts so many until what is returned is dropped; also returns how many there were before.
    pub(crate) fn add(&self, events: u64) -> (Counted, u64) {
        let before = self.0.fetch_add(events, Ordering::Relaxed);
        let all = Arc::clone(&self.0);
        (Counted { all, events }, before)
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Events that are counted.
pub(crate) struct Counted {
    all: Arc<AtomicU64>,
    events: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(self.events, Ordering::Relaxed);
    }
}

/// Fails while a request of so many bytes, where that is known, may not be sent: the service is stopping, or the index is too far
/// behind, what is on its way to the log counted in.
pub(crate) fn admit(state: &AppState, bytes: Option<usize>) -> Result<(), Problem> {
    if state.is_stopping() {
        return Err(Problem::new(Code::Overloaded, "The service is stopping.").retry_after(1));
    }
    let limit = state.settings().max_index_lag;
    let lag = state.new_lag() + state.on_their_way().now();
    if is_too_far_behind(lag, limit, bytes) {
        return Err(too_far_behind(limit));
    }
    Ok(())
}

fn too_far_behind(limit: usize) -> Problem {
    Problem::new(
        Code::Overloaded,
        "The index is too far behind to take more events.",
    )
    .detail("It catches up by itself; send the same again a little later.")
    .limit(limit)
    .retry_after(2)
}

/// Says whether the index is too far behind for a request: large ones leave an eighth to small ones here, too. One that does not say
/// how long it is counts as large.
fn is_too_far_behind(lag: u64, limit: usize, bytes: Option<usize>) -> bool {
    let is_small = bytes.is_some_and(|bytes| bytes <= SMALL_BYTES);
    let reserve = if is_small { 0 } else { limit / 8 };
    lag > (limit - reserve) as u64
}

/// Returns the answer to a request longer than it may be.
pub(crate) fn request_too_large(limit: usize) -> Problem {
    Problem::new(
        Code::TooLarge,
        format!("The request is longer than {limit} bytes."),
    )
    .detail("The limit counts the body after decompression. Send it in smaller parts.")
    .limit(limit)
}

/// A body that was not read to its end.
#[derive(Debug)]
pub(crate) struct Unread {
    /// Why not.
    pub(crate) problem: Problem,
    /// What came of it.
    pub(crate) begun: Vec<u8>,
}

impl From<Unread> for Problem {
    fn from(unread: Unread) -> Self {
        unread.problem
    }
}

/// Reads a body to its end, at most `limit` bytes. A body that comes in one piece is not copied.
pub(crate) async fn read_body(
    body: Body,
    limit: usize,
    settings: &Settings,
    charge: &mut Charge,
) -> Result<Bytes, Unread> {
    let (mut first, mut whole) = (None, Vec::new());
    match read_into(body, limit, settings, charge, (&mut first, &mut whole)).await {
        Ok(()) => Ok(first.unwrap_or_else(|| Bytes::from(whole))),
        Err(problem) => Err(Unread {
            problem,
            begun: first.map_or(whole, Vec::from),
        }),
    }
}

/// Reads a body into `first` as long as it is one piece, or else into `whole`.
async fn read_into(
    mut body: Body,
    limit: usize,
    settings: &Settings,
    charge: &mut Charge,
    (first, whole): (&mut Option<Bytes>, &mut Vec<u8>),
) -> Result<(), Problem> {
    let mut length = 0;
    let deadline = tokio::time::Instant::now() + settings.body_timeout;
    loop {
        let patience = (tokio::time::Instant::now() + settings.body_idle_timeout).min(deadline);
        let frame = tokio::time::timeout_at(patience, body.frame())
            .await
            .map_err(|_| {
                Problem::new(Code::MalformedJson, "The body did not arrive in time.")
                    .status(StatusCode::REQUEST_TIMEOUT)
            })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| {
            Problem::new(
                Code::MalformedJson,
                "The body ended before its length was reached.",
            )
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let room = limit - length;
        let too_long = data.len() > room;
        let data = data.slice(..data.len().min(room));
        length += data.len();
        charge.grow(data.len())?;
        match first.take() {
            None if whole.is_empty() => *first = Some(data),
            None => whole.extend_from_slice(&data),
            Some(before) => {
                // Room that nothing is written to takes no memory; growing step by step would copy what is there.
                let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
                whole.reserve(length.saturating_add(announced).min(limit));
                whole.extend_from_slice(&before);
                whole.extend_from_slice(&data);
            }
        }
        if too_long {
            return Err(request_too_large(limit));
        }
    }
    Ok(())
}

/// Hands a batch to the writer and waits until it is on the disk or refused. Fails where the index would fall too far behind with all
/// that is on its way: many large ones may have been let in when none of them was in the log yet.
pub(crate) async fn store(
    state: &AppState,
    batch: Batch,
    charge: Charge,
) -> Result<Receipt, Problem> {
    let events = batch.len() as u64;
    let (counted, before) = state.on_their_way().add(events);
    let (limit, lag) = (state.settings().max_index_lag, state.new_lag());
    // One that is alone was let in by what the index lacks.
    if before > 0 && is_too_far_behind(lag + before + events, limit, Some(batch.bytes())) {
        return Err(too_far_behind(limit));
    }
    let (answer, answered) = oneshot::channel();
    state.log().append(batch, move |receipt| {
        // The memory is free once the writer is done with it, even where the client has gone.
        drop((charge, counted));
        let _ = answer.send(receipt);
    })?;
    match answered.await {
        Ok(receipt) => {
            let receipt = receipt?;
            state.metrics().received(&receipt);
            Ok(receipt)
        }
        Err(_) => Err(Problem::new(Code::Recovering, "The log did not answer.").retry_after(1)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_given_back_when_a_request_is_over() {
        let memory = Memory::new(100);
        let mut one = memory.account();
        one.grow(60).unwrap();
        let mut other = memory.account();
        assert_eq!(other.grow(60).unwrap_err().code(), Code::Overloaded);
        assert_eq!(memory.used(), 60);
        drop(one);
        other.grow(100).unwrap();
        drop(other);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn large_requests_leave_room_to_small_ones() {
        let memory = Memory::new(80 * SMALL_BYTES);
        let mut large = memory.account();
        large.grow(69 * SMALL_BYTES).unwrap();
        let mut larger = memory.account();
        larger.grow(SMALL_BYTES).unwrap();
        assert_eq!(larger.grow(1).unwrap_err().code(), Code::Overloaded);
        let mut small = memory.account();
        small.grow(SMALL_BYTES).unwrap();
        assert_eq!(small.grow(1).unwrap_err().code(), Code::Overloaded);
        // One that is alone may have all: it may be as large as the memory is.
        drop((large, larger, small));
        memory.account().grow(80 * SMALL_BYTES).unwrap();
    }

    #[test]
    fn an_index_that_is_behind_leaves_room_to_small_requests() {
        let refused = |lag, bytes| is_too_far_behind(lag, 80, bytes);
        for large in [None, Some(SMALL_BYTES + 1)] {
            assert!(!refused(70, large) && refused(71, large));
        }
        assert!(!refused(80, Some(SMALL_BYTES)) && refused(81, Some(0)));
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused() {
        let settings = Settings::new("x");
        let memory = Memory::new(100);
        let body = read_body(Body::from("123456"), 6, &settings, &mut memory.account())
            .await
            .unwrap();
        assert_eq!(&body[..], b"123456");
        let refused = read_body(Body::from("1234567"), 6, &settings, &mut memory.account())
            .await
            .unwrap_err();
        assert_eq!(refused.problem.code(), Code::TooLarge);
        assert_eq!(memory.used(), 0);
    }
}
