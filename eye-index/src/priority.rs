//! Lets other threads go first: sending and asking come before indexing.

use thread_priority::unix::{set_thread_priority_and_policy, thread_native_id};
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

/// Stands for the scheduling policy below every nice value: only when nothing else wants to run.
pub(crate) const IDLE_POLICY: i32 = 20;

/// Lets other threads go first. Threads started from this one inherit it.
pub(crate) fn lower_priority(nice: i32) {
    if nice >= IDLE_POLICY {
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let outcome =
            set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
        if let Err(error) = outcome {
            tracing::warn!(?error, "cannot run the indexer when idle only");
        }
    } else if let Err(error) =
        rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice)
    {
        tracing::warn!(%error, "cannot lower the indexer's priority");
    }
}
