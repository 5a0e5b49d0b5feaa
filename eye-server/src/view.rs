//! What a read sees: the state up to an offset, how far the index is, and whether that is everything.
//!
//! What must stay true: the durable end is taken before anything else, so that a read sees every event acknowledged
//! before it began, or says `exact: false`.

use std::sync::Arc;
use std::time::Duration;

use eye_index::{Asker, Needs};
use eye_log::{Offset, ReadError, StoredEvent};

use crate::error::{Code, Problem};
use crate::metrics::QueryEnd;
use crate::parameters::Parameters;
use crate::state::AppState;
use crate::wire::{write_event, write_number, write_string};

/// What a read was asked to see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The durable end when the request came.
    end: Offset,
    /// The offset asked for, if any; never beyond `end`.
    as_of: Option<Offset>,
    /// How long to wait for the index.
    patience: Duration,
    /// Whether what the index has is enough.
    stale: bool,
    /// Whether this goes on with a list that saw everything below `as_of`.
    goes_on: bool,
    /// Which index has to be there.
    needs: Needs,
}

impl Wanted {
    /// Reads `as_of` and `stale`.
    pub(crate) fn of(
        state: &AppState,
        parameters: &Parameters,
        needs: Needs,
    ) -> Result<Self, Problem> {
        let end = state.reader().durable_end();
        let as_of = parameters.offset("as_of")?;
        if as_of.is_some_and(|as_of| as_of > end) {
            return Err(Problem::parameter(
                "as_of",
                format!("lies beyond the end of the log, which is {end}."),
            ));
        }
        let stale = parameters.stale()?;
        let patience = if stale {
            Duration::ZERO
        } else {
            state.settings().read_wait
        };
        let goes_on = parameters.text("cursor").is_some();
        Ok(Self {
            end,
            as_of,
            patience,
            stale,
            goes_on,
            needs,
        })
    }

    /// Returns the same for what needs both indexes.
    pub(crate) fn of_both(self) -> Self {
        Self {
            needs: Needs::Both,
            ..self
        }
    }

    /// Returns the same for a further page of a list that saw everything below `as_of`.
    pub(crate) fn going_on(self) -> Self {
        Self {
            goes_on: true,
            ..self
        }
    }

    /// Returns one past the last record that may be shown, for reads that need no index to find it.
    pub(crate) fn bound(self) -> Offset {
        self.as_of.unwrap_or(self.end)
    }

    /// Waits for the index, if need be.
    fn view(self, state: &AppState) -> View {
        let wanted = self.bound();
        let mut through = state.index().through(self.needs);
        if through < wanted && !self.patience.is_zero() {
            through = state.index().wait_for(self.needs, wanted, self.patience);
        }
        let exact = through >= wanted;
        let as_of = if exact {
            wanted
        } else {
            // What a cursor pins is never more than was seen, or rows would be skipped.
            wanted.min(through)
        };
        View {
            as_of,
            through,
            exact,
            stale: self.stale,
        }
    }
}

/// What a read sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// One past the last record it may show.
    pub(crate) as_of: Offset,
    /// One past the last record the index had when it was asked.
    pub(crate) through: Offset,
    /// Whether it saw everything below `as_of`, and everything acknowledged before it began.
    pub(crate) exact: bool,
    /// Whether the asker takes what the index has.
    stale: bool,
}

impl View {
    /// Returns the answer for something that was not found: that it is not there, or, where not everything could be
    /// looked at and that was not said to be enough, that nobody can say yet.
    pub(crate) fn missing(&self, what: &str) -> Problem {
        if self.exact {
            return Problem::not_found(what);
        }
        if self.stale {
            return Problem::not_found(what).detail(format!(
                "{what} was not found below offset {}, which is as far as the index has got; without `stale=ok` it is waited for.",
                self.through
            ));
        }
        Problem::new(Code::Recovering, format!("{what} was not found yet."))
            .detail("The index lags behind the log; ask again a little later.")
            .retry_after(1)
    }

    /// Appends `,"as_of":…,"indexed_through":…,"exact":…}`.
    pub(crate) fn write_end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"as_of\":");
        write_number(out, self.as_of);
        out.extend_from_slice(b",\"indexed_through\":");
        write_number(out, self.through);
        out.extend_from_slice(if self.exact {
            b",\"exact\":true}"
        } else {
            b",\"exact\":false}"
        });
    }

    /// Appends `,"next":…,"as_of":…,"indexed_through":…,"exact":…`.
    pub(crate) fn write_frame(&self, out: &mut Vec<u8>, next: Option<&str>) {
        out.extend_from_slice(b",\"next\":");
        match next {
            Some(next) => write_string(out, next),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"as_of\":");
        write_number(out, self.as_of);
        out.extend_from_slice(b",\"indexed_through\":");
        write_number(out, self.through);
        out.extend_from_slice(if self.exact {
            b",\"exact\":true"
        } else {
            b",\"exact\":false"
        });
    }
}

/// Runs blocking work that reads: after the index has caught up, on a bounded number of threads, within the deadline.
pub(crate) async fn read<T: Send + 'static>(
    state: &AppState,
    wanted: Wanted,
    work: impl FnOnce(&AppState, View) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let inner = state.clone();
    run(state, move || {
        let view = wanted.view(&inner);
        if wanted.goes_on && !view.exact {
            return Err(view.missing("The next page"));
        }
        work(&inner, view)
    })
    .await
}

/// Runs blocking work on a bounded number of threads, within the deadline.
pub(crate) async fn run<T: Send + 'static>(
    state: &AppState,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let begun = tokio::time::Instant::now();
    let ended = run_in_turn(state, begun + state.settings().query_deadline, work).await;
    let end = match &ended {
        Ok(_) => QueryEnd::Done,
        Err(problem) => match problem.code() {
            Code::QueryTimeout => QueryEnd::Timeout,
            Code::Overloaded => QueryEnd::Overloaded,
            code if code.status().is_server_error() => QueryEnd::Failed,
            _ => QueryEnd::Refused,
        },
    };
    state.metrics().queried(end, begun.elapsed());
    ended
}

/// Whoever waits for an answer; gone when dropped.
struct Waiting(Asker);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.leave();
    }
}

async fn run_in_turn<T: Send + 'static>(
    state: &AppState,
    deadline: tokio::time::Instant,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let permit =
        tokio::time::timeout_at(deadline, Arc::clone(state.queries()).acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        return Err(
            Problem::new(Code::Overloaded, "Too many queries are running.")
                .detail("Ask again a little later.")
                .retry_after(1),
        );
    };
    let span = tracing::Span::current();
    let asker = Asker::default();
    // Dropped where the client goes before it is answered, or the deadline has passed.
    let _waiting = Waiting(asker.clone());
    let working = tokio::task::spawn_blocking(move || {
        let _request = span.entered();
        // Held until the work is over, even where nobody waits for it any more.
        let _permit = permit;
        asker.work(work)
    });
    match tokio::time::timeout_at(deadline, working).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            tracing::error!(%error, "a query stopped");
            Err(Problem::new(
                Code::Damaged,
                "The query stopped on a mistake of this service.",
            )
            .detail("Its log says more; please report it."))
        }
        Err(_) => Err(Problem::query_timeout()),
    }
}

/// Appends the events at these offsets, with commas between; offsets that hold no event any more are left out.
pub(crate) fn write_events(
    out: &mut Vec<u8>,
    state: &AppState,
    offsets: &[Offset],
) -> Result<(), ReadError> {
    write_events_with(out, state, offsets, &mut |_, _, _| ())
}

/// The same, where `more` appends further members to each, given its place among the offsets.
pub(crate) fn write_events_with(
    out: &mut Vec<u8>,
    state: &AppState,
    offsets: &[Offset],
    more: &mut dyn FnMut(&mut Vec<u8>, usize, &StoredEvent),
) -> Result<(), ReadError> {
    let registry = state.log().registry();
    let mut first = true;
    let events = state.reader().read_many(offsets)?;
    for (place, event) in events.iter().enumerate() {
        let Some(event) = event else {
            continue;
        };
        if !first {
            out.push(b',');
        }
        first = false;
        write_event(
            out,
            event,
            registry
                .application(event.application)
                .map_or("", |application| &application.name),
        );
        // Into the object, before its end.
        out.pop();
        more(out, place, event);
        out.push(b'}');
    }
    Ok(())
}

/// Returns one event as JSON.
pub(crate) fn event_json(state: &AppState, event: &StoredEvent) -> Vec<u8> {
    let registry = state.log().registry();
    let mut out = Vec::with_capacity(event.data.len() + 400);
    write_event(
        &mut out,
        event,
        registry
            .application(event.application)
            .map_or("", |application| &application.name),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_found_yet_is_not_found_for_who_takes_what_there_is() {
        let told = |exact, stale| {
            let view = View {
                as_of: 7,
                through: 7,
                exact,
                stale,
            };
            view.missing("A thing").code()
        };
        assert_eq!(told(true, false), Code::NotFound);
        assert_eq!(told(true, true), Code::NotFound);
        assert_eq!(told(false, true), Code::NotFound);
        assert_eq!(told(false, false), Code::Recovering, "it may be there");
    }
}
