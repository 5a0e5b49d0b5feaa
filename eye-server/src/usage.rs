//! How tokens are used: when each was last seen, and whether it sends faster than its application's rate.
//!
//! What must stay true: nothing that is sent waits for a file, and nothing is kept of tokens that are gone. When a token was
//! last used is a convenience: it is noted to the minute in a file beside the log, and lost with it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use eye_log::Registry;
use uuid::Uuid;

use crate::error::{Code, Problem};

/// The file in the data folder.
const FILE: &str = "last-used.json";

/// What is known of the use of every token.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    file: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: HashMap<Uuid, i64>,
    /// There is something that the file does not say.
    unsaved: bool,
    allowances: HashMap<Uuid, Allowance>,
}

/// A bucket that fills at the token's rate up to one second's worth. A request may take more than is there, so that a
/// large batch passes at all, and those behind it wait until that is paid back.
#[derive(Debug)]
struct Allowance {
    events: f64,
    at: Instant,
}

impl Usage {
    /// Reads what was noted before; a file that cannot be read is as good as none.
    pub(crate) fn open(data: &Path) -> Self {
        let file = data.join(FILE);
        let last = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self {
            file,
            inner: Mutex::new(Inner {
                last,
                ..Inner::default()
            }),
        }
    }

    /// Notes that a token was used at `now`, unix microseconds.
    pub(crate) fn note(&self, token: Uuid, now: i64) {
        let mut inner = self.lock();
        inner.last.insert(token, now);
        inner.unsaved = true;
    }

    /// Returns when a token was last used, unix microseconds.
    pub(crate) fn last(&self, token: Uuid) -> Option<i64> {
        self.lock().last.get(&token).copied()
    }

    /// Takes `events` out of what a token may send at `rate` events a second, or says how long to wait.
    pub(crate) fn spend(&self, token: Uuid, rate: u32, events: usize) -> Result<(), Problem> {
        self.spend_at(token, rate, events, Instant::now())
            .map_err(|seconds| {
                Problem::new(
                    Code::RateLimited,
                    format!("This token may send {rate} events a second, and has sent more."),
                )
                .detail("Nothing of this request was stored. Send it again after `Retry-After`.")
                .retry_after(seconds)
            })
    }

    /// The same at a moment; the error is how many seconds to wait.
    fn spend_at(&self, token: Uuid, rate: u32, events: usize, now: Instant) -> Result<(), u64> {
        let rate = f64::from(rate.max(1));
        let mut inner = self.lock();
        let allowance = inner.allowances.entry(token).or_insert(Allowance {
            events: rate,
            at: now,
        });
        let since = now.saturating_duration_since(allowance.at).as_secs_f64();
        allowance.events = (allowance.events + since * rate).min(rate);
        allowance.at = now;
        if allowance.events < 1.0 {
            let seconds = ((1.0 - allowance.events) / rate).ceil();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive number of seconds, rounded up"
            )]
            return Err((seconds as u64).max(1));
        }
        #[expect(clippy::cast_precision_loss, reason = "a request has few events")]
        let events = events as f64;
        allowance.events -= events;
        Ok(())
    }

    /// Writes the file if it does not say everything. Leaves out tokens that are gone. Blocks.
    pub(crate) fn save(&self, registry: &Registry) -> io::Result<()> {
        let text = {
            let mut inner = self.lock();
            let known = |token: &Uuid| registry.token(*token).is_some();
            inner.allowances.retain(|token, _| known(token));
            if !std::mem::take(&mut inner.unsaved) {
                return Ok(());
            }
            inner.last.retain(|token, _| known(token));
            serde_json::to_vec(&inner.last)?
        };
        let new = self.file.with_extension("json.new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &self.file)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_rate_is_kept_over_time_and_a_large_batch_is_paid_back() {
        let (usage, token, start) = (Usage::default(), Uuid::from_u128(1), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        let send = |events, at| usage.spend_at(token, 10, events, at);
        for _ in 0..10 {
            send(1, after(0)).unwrap();
        }
        assert_eq!(send(1, after(0)), Err(1));
        assert_eq!(send(1, after(99)), Err(1));
        send(1, after(100)).unwrap();
        // A second's worth is the most that is saved up; a batch of more passes once, and is paid back.
        send(35, after(60_000)).unwrap();
        assert_eq!(send(1, after(60_000)), Err(3));
        assert_eq!(send(1, after(62_000)), Err(1));
        send(1, after(62_600)).unwrap();
        // Another token has its own.
        usage
            .spend_at(Uuid::from_u128(2), 10, 1, after(60_000))
            .unwrap();
    }

    #[test]
    fn what_is_not_known_any_more_is_forgotten_and_a_broken_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let usage = Usage::open(folder.path());
        usage.note(Uuid::from_u128(3), 5);
        assert_eq!(usage.last(Uuid::from_u128(3)), Some(5));
        usage.save(&Registry::default()).unwrap();
        assert_eq!(Usage::open(folder.path()).last(Uuid::from_u128(3)), None);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Usage::open(folder.path()).last(Uuid::from_u128(3)), None);
    }
}
