//! Several parts of a question at once.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::error::SearchError;

/// Asking the system takes a tenth of a short answer's time.
static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, NonZero::get));

/// Does `work` for every number below `count`, on as many threads as there are processors or, not `shared`, on this one, and returns what
/// came of it in order.
pub(crate) fn map<R: Send>(
    count: usize,
    shared: bool,
    work: impl Fn(usize) -> Result<R, SearchError> + Sync,
) -> Result<Vec<R>, SearchError> {
    let threads = if shared { PROCESSORS.min(count) } else { 1 };
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    let turn = || -> Result<(), SearchError> {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= count {
                return Ok(());
            }
            let result = work(place)?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((place, result));
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(turn)).collect();
        let mine = turn();
        let theirs = others.into_iter().map(|other| {
            other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        theirs.fold(mine, Result::and)
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
