//! What waits for the writer, bounded by count and bytes, and whether a group is on its way to the disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::admission::{Batch, Receipt};
use crate::config::LogConfig;
use crate::error::{AppendError, ChangeError, QueueFull};
use crate::offset::Offset;
use crate::record::Note;
use crate::registry::{Actor, Change, Changed};
use crate::senders::Senders;

/// A request of no more than this is small.
const SMALL_BYTES: usize = 64 << 10;

/// Of large requests so many bytes are taken at once, and one at least; small ones that come meanwhile go before the rest.
const TAKEN_BYTES: usize = 1 << 20;

/// So much of a large group's room is kept for the next one.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// So many requests, where they are small, make a group worth its sync.
const GATHERED_REQUESTS: usize = 128;

/// So long requests gather at most while their senders do not rest.
const GATHER_TIME: Duration = Duration::from_millis(1);

type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// Something that waits for the writer.
pub(crate) enum Request {
    Append(Batch, Reply<Result<Receipt, AppendError>>),
    Change(Change, Actor, Reply<Result<Changed, ChangeError>>),
    /// A record of what was done to the log, or asked to be.
    Note(Note, Reply<Result<Offset, AppendError>>),
    /// Closes the active segment, so that it gets sealed.
    Roll(Next, Reply<Result<(), AppendError>>),
}

/// What file the next segment gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The spare, if it is ready: much is sent.
    Spare,
    /// A small one, which grows with what is sent; a spare that is there goes.
    Small,
}

/// What waits, and what is on its way.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the group that is being synced is written. Not behind the lock, which every sender takes: the syncer would begin
    /// its sync the later.
    written: AtomicBool,
    /// Whether the writer waits for that.
    waits_for_written: AtomicBool,
    prepare_bytes: usize,
    write_ahead_bytes: usize,
    /// Who says when there is nothing to gather for.
    senders: Option<Senders>,
    gather_time: Duration,
}

#[derive(Default)]
struct State {
    small: VecDeque<Request>,
    /// With their bytes.
    large: VecDeque<(Request, usize)>,
    /// Of both.
    bytes: usize,
    closed: bool,
    /// Whether something that waits should not wait for more.
    urgent: bool,
    /// Whether a group is being written and synced.
    syncing: bool,
    /// The bytes of the last group, to be filled again.
    buffer: Vec<u8>,
}

impl State {
    /// Returns how many requests wait.
    fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    /// Says whether the writer should take what waits.
    fn is_worth_it(&self, prepare_bytes: usize) -> bool {
        self.len() > 0 && (!self.syncing || self.bytes >= prepare_bytes)
    }

    /// Says whether nothing is gained by letting more gather.
    fn is_gathered(&self, prepare_bytes: usize) -> bool {
        self.urgent || self.closed || self.len() >= GATHERED_REQUESTS || self.bytes >= prepare_bytes
    }

    /// Takes what is to be written next: whoever sends little does not wait for all that others sent before.
    fn take(&mut self) -> VecDeque<Request> {
        self.urgent = false;
        let mut taken = std::mem::take(&mut self.small);
        let mut bytes = 0;
        while bytes < TAKEN_BYTES
            && let Some((request, its_bytes)) = self.large.pop_front()
        {
            bytes += its_bytes;
            taken.push_back(request);
        }
        self.bytes = self.large.iter().map(|(_, bytes)| bytes).sum();
        taken
    }
}

impl Queue {
    /// Starts empty; see [`LogConfig::prepare_bytes`], [`LogConfig::write_ahead_bytes`] and [`LogConfig::senders`].
    pub(crate) fn new(config: &LogConfig) -> Arc<Self> {
        Self::gathering_for(GATHER_TIME, config)
    }

    fn gathering_for(gather_time: Duration, config: &LogConfig) -> Arc<Self> {
        let queue = Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            written: AtomicBool::new(false),
            waits_for_written: AtomicBool::new(false),
            prepare_bytes: config.prepare_bytes,
            write_ahead_bytes: config.write_ahead_bytes,
            senders: config.senders.clone(),
            gather_time,
        });
        if let Some(senders) = &queue.senders {
            senders.belong_to(Arc::downgrade(&queue));
        }
        queue
    }

    /// Puts a request in line; hands it back when the line is too long or closed.
    pub(crate) fn push(
        &self,
        request: Request,
        bytes: usize,
        config: &LogConfig,
    ) -> Result<(), Box<(Request, Refused)>> {
        let mut state = self.state();
        if state.closed {
            return Err(Box::new((request, Refused::Closed)));
        }
        let too_many = state.len() >= config.queue_max_requests;
        let is_large = bytes > SMALL_BYTES;
        // Large requests leave an eighth to small ones, which they would crowd out.
        let reserve = if is_large {
            config.queue_max_bytes / 8
        } else {
            0
        };
        let most = config.queue_max_bytes - reserve;
        if too_many || (state.bytes > 0 && state.bytes + bytes > most) {
            return Err(Box::new((request, Refused::Full(QueueFull))));
        }
        let before = self.wakes(&state);
        state.bytes += bytes;
        if is_large {
            state.large.push_back((request, bytes));
        } else {
            state.small.push_back(request);
        }
        if let Some(senders) = &self.senders {
            senders.wait_for(true);
        }
        if before != self.wakes(&state) {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Puts a request in line whatever its length: for what the log asks of itself.
    pub(crate) fn push_unbounded(&self, request: Request) {
        let mut state = self.state();
        if state.closed {
            // Dropping the request drops its answer's channel, which says that the log is closed.
            return;
        }
        state.small.push_back(request);
        state.urgent = true;
        self.changed.notify_one();
    }

    /// Notes that one of those who send has nothing more for now.
    pub(crate) fn note_rest(&self) {
        let mut state = self.state();
        if let Some(senders) = &self.senders {
            senders.wait_for(false);
        }
        if state.len() > 0 && !state.urgent {
            state.urgent = true;
            if !state.syncing {
                self.changed.notify_one();
            }
        }
    }

    /// What the writer may wait for of what waits: that it is worth taking, and that it has gathered.
    fn wakes(&self, state: &State) -> (bool, bool) {
        let gathered = self.senders.is_none() || state.is_gathered(self.prepare_bytes);
        let worth_it = state.is_worth_it(self.prepare_bytes);
        (worth_it, worth_it && gathered)
    }

    /// Returns how many requests wait, and their bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.state();
        (state.len(), state.bytes)
    }

    /// Lets nothing more in; what waits is still written.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// Waits for what the writer has to do next. While a group is being synced, requests wait until they are worth waking
    /// up for; after it they gather while their senders are at it. What the writer has `prepared` comes first; without anything to do returns after `patience`.
    pub(crate) fn take(&self, prepared: Prepared, patience: Option<Duration>) -> Taken {
        let until = patience.map(|patience| Instant::now() + patience);
        let (ready, much) = (prepared.group, prepared.bytes >= self.write_ahead_bytes);
        let mut state = self.state();
        loop {
            self.waits_for_written.store(much, Ordering::SeqCst);
            if ready && !state.syncing {
                return Taken::Synced;
            }
            // Looked at after it was said that it is waited for, so that one of the two sees the other.
            if much && self.written.load(Ordering::SeqCst) {
                return Taken::Written;
            }
            if state.is_worth_it(self.prepare_bytes) {
                return Taken::Some(self.gathered(state).take());
            }
            if state.closed && !ready && !state.syncing {
                return Taken::Closed;
            }
            state = match until.filter(|_| !ready && !state.syncing) {
                None => wait(&self.changed, state),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Taken::Idle;
                    }
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Waits until nothing is being synced, and notes that something is from now on. Returns a buffer for the next
    /// group.
    pub(crate) fn begin_sync(&self) -> Vec<u8> {
        let mut state = self.when_synced();
        state.syncing = true;
        self.written.store(false, Ordering::SeqCst);
        std::mem::take(&mut state.buffer)
    }

    /// Waits until nothing is being synced.
    pub(crate) fn wait_synced(&self) {
        drop(self.when_synced());
    }

    /// Notes that the group that is being synced is written.
    pub(crate) fn note_written(&self) {
        self.written.store(true, Ordering::SeqCst);
        if self.waits_for_written.load(Ordering::SeqCst) {
            // Who holds the lock has looked before, and waits before anybody else gets it.
            drop(self.state());
            self.changed.notify_one();
        }
    }

    /// Notes that nothing is being synced any more.
    pub(crate) fn note_synced(&self) {
        self.written.store(false, Ordering::SeqCst);
        self.state().syncing = false;
        self.changed.notify_one();
    }

    /// Takes the bytes of a group back once they are on the disk.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT_BYTES);
        self.state().buffer = buffer;
    }

    /// Waits until what waits has gathered: until its senders rest, until it is much, or until it has waited for long enough.
    fn gathered<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let Some(senders) = &self.senders else {
            return state;
        };
        let until = Instant::now() + self.gather_time;
        while !state.is_gathered(self.prepare_bytes) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        senders.wait_for(false);
        state
    }

    fn when_synced(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.syncing {
            state = wait(&self.changed, state);
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'s>(changed: &Condvar, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
    changed.wait(state).unwrap_or_else(PoisonError::into_inner)
}

/// Why a request is not in line.
pub(crate) enum Refused {
    Full(QueueFull),
    Closed,
}

/// What the writer has prepared and not handed over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prepared {
    /// Whether there is a group, or somebody to be answered.
    pub(crate) group: bool,
    /// How many of its bytes are not written.
    pub(crate) bytes: usize,
}

/// What the writer has to do next.
pub(crate) enum Taken {
    /// Requests came.
    Some(VecDeque<Request>),
    /// What is prepared can be handed over.
    Synced,
    /// The group before is written and being synced: what is prepared, which is much, can be written meanwhile.
    Written,
    /// Nothing came for a while.
    Idle,
    /// Nothing comes any more.
    Closed,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PREPARE_BYTES: usize = 64 << 10;

    fn config() -> LogConfig {
        LogConfig {
            prepare_bytes: PREPARE_BYTES,
            write_ahead_bytes: PREPARE_BYTES,
            ..LogConfig::default()
        }
    }

    fn queue() -> Arc<Queue> {
        Queue::new(&config())
    }

    /// A queue whose requests gather for so long, and who sends to it.
    fn gathering(time: Duration) -> (Arc<Queue>, Senders) {
        let senders = Senders::default();
        let config = LogConfig {
            senders: Some(senders.clone()),
            ..config()
        };
        (Queue::gathering_for(time, &config), senders)
    }

    fn push(queue: &Queue, bytes: usize) {
        let request = Request::Roll(Next::Spare, Box::new(|_| ()));
        let pushed = queue.push(request, bytes, &LogConfig::default());
        assert!(pushed.is_ok());
    }

    fn take(queue: &Queue, group: bool) -> Taken {
        let prepared = Prepared { group, bytes: 1 };
        queue.take(prepared, Some(Duration::from_millis(1)))
    }

    #[test]
    fn while_a_group_is_synced_only_much_is_worth_waking_up_for() {
        let queue = queue();
        drop(queue.begin_sync());
        push(&queue, PREPARE_BYTES);
        assert!(matches!(take(&queue, false), Taken::Some(requests) if requests.len() == 1));
        push(&queue, 1);
        std::thread::scope(|scope| {
            let little = scope.spawn(|| queue.take(Prepared::default(), None));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!little.is_finished(), "taken while a group is synced");
            queue.note_synced();
            assert!(matches!(little.join().unwrap(), Taken::Some(_)));
        });
    }

    #[test]
    fn large_requests_leave_room_to_small_ones() {
        let queue = queue();
        let config = LogConfig {
            queue_max_bytes: 80 * SMALL_BYTES,
            ..LogConfig::default()
        };
        let push = |bytes| {
            let request = Request::Roll(Next::Spare, Box::new(|_| ()));
            queue.push(request, bytes, &config).is_ok()
        };
        assert!(push(70 * SMALL_BYTES));
        assert!(!push(2 * SMALL_BYTES));
        assert!(push(SMALL_BYTES));
        assert!((0..9).all(|_| push(SMALL_BYTES)));
        assert!(!push(1));
    }

    #[test]
    fn small_requests_go_before_the_large_ones_that_wait() {
        let queue = queue();
        let lengths = || match take(&queue, false) {
            Taken::Some(requests) => (requests.len(), queue.waiting()),
            _ => panic!("nothing taken"),
        };
        let large = TAKEN_BYTES / 2 + 1;
        (0..3).for_each(|_| push(&queue, large));
        assert_eq!(lengths(), (2, (1, large)));
        (0..3).for_each(|_| push(&queue, large));
        push(&queue, 7);
        push(&queue, SMALL_BYTES);
        assert_eq!(queue.waiting(), (6, 4 * large + 7 + SMALL_BYTES));
        assert_eq!(lengths(), (4, (2, 2 * large)));
        push(&queue, 3 * TAKEN_BYTES);
        assert_eq!(lengths(), (2, (1, 3 * TAKEN_BYTES)));
        push(&queue, 1);
        assert_eq!(lengths(), (2, (0, 0)));
        assert!(matches!(take(&queue, false), Taken::Idle));
    }

    #[test]
    fn a_group_that_is_ready_goes_before_what_waits() {
        let queue = queue();
        push(&queue, 1);
        assert!(matches!(take(&queue, true), Taken::Synced));
        assert!(matches!(take(&queue, false), Taken::Some(_)));
        assert!(matches!(take(&queue, false), Taken::Idle));
        queue.close();
        assert!(matches!(take(&queue, true), Taken::Synced));
        assert!(matches!(take(&queue, false), Taken::Closed));
    }

    #[test]
    fn the_writer_wakes_up_when_small_requests_come_to_much() {
        let queue = queue();
        drop(queue.begin_sync());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| queue.take(Prepared::default(), None));
            for _ in 0..16 {
                push(&queue, PREPARE_BYTES / 16);
            }
            assert!(matches!(writer.join().unwrap(), Taken::Some(_)));
        });
    }

    #[test]
    fn much_is_written_while_the_group_before_is_synced_and_little_waits() {
        let queue = queue();
        drop(queue.begin_sync());
        let prepared = |bytes| Prepared { group: true, bytes };
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| queue.take(prepared(PREPARE_BYTES), None));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!writer.is_finished(), "while the group before is written");
            queue.note_written();
            assert!(matches!(writer.join().unwrap(), Taken::Written));
            let writer = scope.spawn(|| queue.take(prepared(PREPARE_BYTES - 1), None));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!writer.is_finished(), "little is written with the rest");
            queue.note_synced();
            assert!(matches!(writer.join().unwrap(), Taken::Synced));
        });
        drop(queue.begin_sync());
        push(&queue, PREPARE_BYTES);
        assert!(matches!(
            queue.take(prepared(PREPARE_BYTES), None),
            Taken::Some(_)
        ));
    }

    /// Takes on another thread while `meanwhile` goes on; returns how many requests it got.
    fn gathered(queue: &Queue, meanwhile: impl FnOnce()) -> usize {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| queue.take(Prepared::default(), None));
            meanwhile();
            match writer.join().unwrap() {
                Taken::Some(requests) => requests.len(),
                _ => panic!("nothing taken"),
            }
        })
    }

    /// So long that a test which waits for it does not end.
    const FOR_EVER: Duration = Duration::from_secs(100_000);

    #[test]
    fn requests_gather_until_it_is_enough() {
        let (queue, senders) = gathering(FOR_EVER);
        let small = |count| (0..count).for_each(|_| push(&queue, 1));
        let until = |enough: &dyn Fn()| {
            let got = gathered(&queue, || {
                small(3);
                enough();
            });
            assert_eq!(queue.waiting(), (0, 0), "some was taken too early");
            got
        };
        assert_eq!(until(&|| senders.note_rest()), 3);
        assert_eq!(until(&|| small(GATHERED_REQUESTS - 3)), GATHERED_REQUESTS);
        assert_eq!(until(&|| push(&queue, PREPARE_BYTES)), 4);
        let own = || queue.push_unbounded(Request::Roll(Next::Spare, Box::new(|_| ())));
        assert_eq!(until(&own), 4);
        // Who rested while a group was synced need not be waited for after it.
        drop(queue.begin_sync());
        small(1);
        senders.note_rest();
        queue.note_synced();
        assert_eq!(gathered(&queue, || ()), 1);
        assert_eq!(until(&|| queue.close()), 3);
    }

    #[test]
    fn requests_gather_for_so_long_and_no_longer() {
        let time = Duration::from_millis(30);
        let (queue, _senders) = gathering(time);
        let begun = Instant::now();
        push(&queue, 1);
        assert_eq!(gathered(&queue, || ()), 1);
        assert!(begun.elapsed() >= time);
    }

    #[test]
    fn those_who_rest_call_for_nothing_where_nothing_waits() {
        let (queue, senders) = gathering(FOR_EVER);
        senders.note_rest();
        queue.note_rest();
        assert!(!queue.state().urgent);
        drop(queue);
        senders.note_rest();
    }
}
