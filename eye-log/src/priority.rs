//! Lets other threads go first: sending and asking come before everything that is done beside them.

use thread_priority::unix::{set_thread_priority_and_policy, thread_native_id};
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

/// Stands for the scheduling policy below every nice value: only when nothing else wants to run.
pub const IDLE_POLICY: i32 = 20;

/// Lets other threads go first. Threads started from this one inherit it.
pub fn lower_priority(nice: i32) {
    if nice >= IDLE_POLICY {
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let outcome =
            set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
        if let Err(error) = outcome {
            tracing::warn!(?error, "cannot run a thread when idle only");
        }
    } else if let Err(error) =
        rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice)
    {
        tracing::warn!(%error, "cannot lower a thread's priority");
    }
}

/// Lets threads of this process whose names begin with `name` go behind others: those that a library starts and gives
/// no other hold of. What cannot be found or changed stays as it is.
pub fn lower_threads(name: &str, nice: i32) {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return;
    };
    for task in tasks.flatten() {
        let named = std::fs::read_to_string(task.path().join("comm"))
            .is_ok_and(|comm| comm.starts_with(name));
        let id = task.file_name().to_str().and_then(|id| id.parse().ok());
        if let Some(id) = id.and_then(rustix::thread::Pid::from_raw)
            && named
        {
            // It may have ended meanwhile.
            let _ = rustix::process::setpriority_process(Some(id), nice);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn threads_are_found_by_the_beginning_of_their_name() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let own = |id| rustix::process::getpriority_process(Some(id)).unwrap();
        let thread = std::thread::Builder::new()
            .name("low_one_0".to_owned())
            .spawn(move || {
                ready.send(rustix::thread::gettid()).unwrap();
                receiver.recv().unwrap();
            })
            .unwrap();
        let id = is_ready.recv().unwrap();
        let before = own(rustix::thread::gettid());
        lower_threads("low_one_", 17);
        assert_eq!(own(id), 17);
        assert_eq!(own(rustix::thread::gettid()), before);
        sender.send(()).unwrap();
        thread.join().unwrap();
    }
}
