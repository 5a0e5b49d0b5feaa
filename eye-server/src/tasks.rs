//! Long pieces of maintenance, run one after the other beside the service: started, watched and cancelled by admins.
//!
//! What must stay true: a task that was asked to end says so only once its work has really ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eye_log::format_timestamp;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::error::{PROBLEM, Problem};
use crate::operation::{Component, Field, Shape};

/// How many tasks that are over are remembered.
const REMEMBERED_MAX: usize = 100;
/// How many may wait for their turn.
const QUEUED_MAX: usize = 20;

/// How often whoever waits for a task looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A task as it is answered.
pub(crate) static TASK: Component = Component::object(
    "Task",
    &[
        Field::uuid("id"),
        Field::one_of("kind", &["verify", "compact", "reindex", "retry"]),
        Field::one_of(
            "state",
            &["queued", "running", "done", "failed", "cancelled"],
        ),
        Field::whole("done"),
        Field::whole("total"),
        Field::text("unit"),
        Field::time("started"),
        Field::whole("eta_s").or_null(),
        Field::new("result", Shape::ByName(&Shape::Anything))
            .or_null()
            .about("What came of it, by its kind."),
        Field::of("error", &PROBLEM).or_null(),
    ],
);

/// The tasks of a running service. They are forgotten with it.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    all: Arc<Mutex<VecDeque<Arc<Task>>>>,
    /// Two at once would only take the disk from each other.
    turn: Arc<Semaphore>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            all: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

/// One task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: Uuid,
    kind: &'static str,
    unit: &'static str,
    asked_at: i64,
    pulse: Pulse,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Queued,
    Running { since: Instant },
    Done(Value),
    Failed(Value),
    Cancelled,
}

/// What a task's work tells how far it is with, and hears from that it should end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<Beat>);

#[derive(Debug, Default)]
struct Beat {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

impl Pulse {
    /// Tells how much is done, and of how much.
    pub(crate) fn tell(&self, done: u64, total: u64) {
        self.0.done.store(done, Ordering::Relaxed);
        self.0.total.store(total, Ordering::Relaxed);
    }

    /// Says whether the work should end as soon as it can.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }
}

impl Tasks {
    /// Puts a task in line. `work` blocks; it counts in `unit`s and returns its result. What it returns after
    /// it was cancelled is dropped. `None` when too many wait already.
    pub(crate) fn start(
        &self,
        kind: &'static str,
        unit: &'static str,
        work: impl FnOnce(&Pulse) -> Result<Value, Problem> + Send + 'static,
    ) -> Option<Arc<Task>> {
        let task = Arc::new(Task {
            id: Uuid::new_v4(),
            kind,
            unit,
            asked_at: eye_log::now(),
            pulse: Pulse::default(),
            state: Mutex::new(State::Queued),
        });
        {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = all.iter().filter(|task| !task.is_over()).count();
            if waiting > QUEUED_MAX {
                return None;
            }
            all.push_back(Arc::clone(&task));
            while all.len() > REMEMBERED_MAX {
                let Some(place) = all.iter().position(|task| task.is_over()) else {
                    break;
                };
                all.remove(place);
            }
        }
        let (turn, running) = (Arc::clone(&self.turn), Arc::clone(&task));
        tokio::spawn(async move {
            let Ok(_turn) = turn.acquire_owned().await else {
                return;
            };
            if !running.begin() {
                return;
            }
            let pulse = running.pulse.clone();
            let ended = tokio::task::spawn_blocking(move || work(&pulse)).await;
            running.end(ended);
        });
        Some(task)
    }

    /// Returns a task by its id.
    pub(crate) fn get(&self, id: Uuid) -> Option<Arc<Task>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|task| task.id == id).cloned()
    }

    /// Returns every task that is remembered, newest first.
    /// Says whether a task of a kind is at work.
    pub(crate) fn is_running(&self, kind: &str) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .any(|task| task.kind == kind && matches!(*task.state(), State::Running { .. }))
    }

    pub(crate) fn list(&self) -> Vec<Arc<Task>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().cloned().collect()
    }
}

impl Task {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is over.
    pub(crate) async fn ended(&self) {
        while !self.is_over() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn is_over(&self) -> bool {
        !matches!(*self.state(), State::Queued | State::Running { .. })
    }

    /// Returns whether its turn finds it still wanted.
    fn begin(&self) -> bool {
        let mut state = self.state();
        if self.pulse.is_cancelled() {
            *state = State::Cancelled;
            return false;
        }
        *state = State::Running {
            since: Instant::now(),
        };
        true
    }

    fn end(&self, ended: Result<Result<Value, Problem>, tokio::task::JoinError>) {
        let failed = |problem: &Problem| {
            let problem = problem.body(&self.id.to_string());
            State::Failed(serde_json::from_slice(&problem).unwrap_or_default())
        };
        let state = match ended {
            _ if self.pulse.is_cancelled() => State::Cancelled,
            Ok(Ok(result)) => State::Done(result),
            Ok(Err(problem)) => failed(&problem),
            Err(error) => {
                tracing::error!(kind = self.kind, %error, "a task stopped on a mistake of this service");
                State::Failed(
                    json!({"title": "The task stopped on a mistake of this service", "status": 500}),
                )
            }
        };
        *self.state() = state;
    }

    /// Asks it to end: at once while it waits for its turn, as soon as it can while it runs. One that is over stays as it
    /// ended.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        match *state {
            State::Queued => {
                self.pulse.0.cancelled.store(true, Ordering::Relaxed);
                *state = State::Cancelled;
            }
            State::Running { .. } => self.pulse.0.cancelled.store(true, Ordering::Relaxed),
            State::Done(_) | State::Failed(_) | State::Cancelled => {}
        }
    }

    /// Returns `{"id", "kind", "state", "done", "total", "unit", "started", "eta_s", "result", "error"}`.
    pub(crate) fn shape(&self) -> Value {
        let done = self.pulse.0.done.load(Ordering::Relaxed);
        let total = self.pulse.0.total.load(Ordering::Relaxed);
        let (state, eta, result, error) = match &*self.state() {
            State::Queued => ("queued", None, Value::Null, Value::Null),
            State::Running { since } => (
                "running",
                eta(done, total, since.elapsed()),
                Value::Null,
                Value::Null,
            ),
            State::Done(result) => ("done", None, result.clone(), Value::Null),
            State::Failed(problem) => ("failed", None, Value::Null, problem.clone()),
            State::Cancelled => ("cancelled", None, Value::Null, Value::Null),
        };
        json!({
            "id": self.id, "kind": self.kind, "state": state, "done": done, "total": total, "unit": self.unit,
            "started": format_timestamp(self.asked_at), "eta_s": eta, "result": result, "error": error,
        })
    }
}

/// Returns the seconds that are left at the pace so far; nothing before there is one.
fn eta(done: u64, total: u64, elapsed: Duration) -> Option<u64> {
    let left = u128::from(total.checked_sub(done)?);
    let seconds = left * elapsed.as_millis() / u128::from(done).max(1) / 1000;
    (done > 0).then(|| u64::try_from(seconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;
    use crate::error::Code;

    async fn over(task: &Task) -> Value {
        while !task.is_over() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        task.shape()
    }

    #[tokio::test]
    async fn tasks_run_one_after_the_other_and_say_how_they_ended() {
        let tasks = Tasks::default();
        let (go, wait) = mpsc::channel::<()>();
        let first = tasks
            .start("verify", "bytes", move |pulse| {
                pulse.tell(3, 4);
                let _ = wait.recv();
                Ok(json!({"ok": true}))
            })
            .unwrap();
        let second = tasks
            .start("verify", "bytes", |_| {
                Err(Problem::new(Code::Damaged, "It is broken."))
            })
            .unwrap();
        while first.shape()["done"] != 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(
            (&first.shape()["state"], &second.shape()["state"]),
            (&json!("running"), &json!("queued"))
        );
        go.send(()).unwrap();
        assert_eq!(over(&first).await["result"]["ok"], true);
        let failed = over(&second).await;
        assert_eq!(
            (&failed["state"], &failed["error"]["code"]),
            (&json!("failed"), &json!("damaged"))
        );
        assert_eq!(tasks.list().len(), 2);
    }

    #[tokio::test]
    async fn a_cancelled_task_is_over_when_its_work_is() {
        let tasks = Tasks::default();
        let (ended, wait) = mpsc::channel();
        let running = tasks
            .start("verify", "bytes", move |pulse| {
                pulse.tell(1, 2);
                while !pulse.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                ended.send(()).unwrap();
                Ok(Value::Null)
            })
            .unwrap();
        let queued = tasks
            .start("verify", "bytes", |_| panic!("was cancelled before"))
            .unwrap();
        while running.shape()["done"] != 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        queued.cancel();
        assert_eq!(queued.shape()["state"], "cancelled");
        running.cancel();
        assert_eq!(over(&running).await["state"], "cancelled");
        wait.try_recv().unwrap();
        assert_eq!(tasks.get(running.id).unwrap().id, running.id);
    }

    #[test]
    fn the_time_left_is_what_the_pace_so_far_says() {
        assert_eq!(eta(0, 10, Duration::from_secs(1)), None);
        assert_eq!(eta(25, 100, Duration::from_secs(10)), Some(30));
    }
}
