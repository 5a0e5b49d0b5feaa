//! Writes and syncs one group after the other, beside the writer, which prepares the next one meanwhile.
//!
//! What must stay true: one group at a time is synced, in the order of offsets; nothing is answered before the sync
//! that covers it; after a failure nothing more is begun to be written. Of the group behind some may be written already: no
//! frame of it says that anything of this one is durable.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::error::AppendError;
use crate::group::Group;
use crate::log::Shared;
use crate::queue::Queue;
use crate::registry::Registry;

/// What is called once a group is synced, or with the reason why it is not.
pub(crate) type Answer = Box<dyn FnOnce(Option<AppendError>) + Send>;

/// A group, and what follows once it is on the disk.
pub(crate) struct Job {
    /// What is to be synced; `None` where the answers only wait for the groups before.
    pub(crate) group: Option<Group>,
    /// Who waits.
    pub(crate) answers: Vec<Answer>,
    /// Applications and tokens as the group leaves them, where it changes them.
    pub(crate) registry: Option<Registry>,
}

/// Starts the thread. It ends when nobody can hand it a job any more; after each it tells the queue.
pub(crate) fn start(
    shared: Arc<Shared>,
    queue: Arc<Queue>,
) -> std::io::Result<(Sender<Job>, JoinHandle<()>)> {
    let (sender, jobs) = channel();
    let thread = std::thread::Builder::new()
        .name("eye-syncer".to_owned())
        .spawn(move || run(&shared, &queue, &jobs))?;
    Ok((sender, thread))
}

fn run(shared: &Shared, queue: &Queue, jobs: &Receiver<Job>) {
    for job in jobs {
        // Also where an answer panics: the writer must not wait for ever. Before the answers the next group would go with fewer
        // requests: those who are answered send the next ones.
        let _done = Done(queue);
        let failed = shared.poisoned().map(AppendError::Poisoned).or_else(|| {
            job.group
                .and_then(|group| store(shared, queue, group).err())
        });
        if failed.is_none()
            && let Some(registry) = job.registry
        {
            shared.publish(registry);
        }
        for answer in job.answers {
            answer(failed.clone());
        }
    }
}

/// Writes a group and syncs it; publishes the durable end.
fn store(shared: &Shared, queue: &Queue, group: Group) -> Result<(), AppendError> {
    let stored = group.write().and_then(|()| {
        queue.note_written();
        let begun = Instant::now();
        group.segment.file.sync().map(|()| begun.elapsed())
    });
    match stored {
        Ok(took) => {
            let records = group.end - shared.durable.get();
            let bytes = group.ahead + group.bytes.len();
            shared.groups.count(took, records, bytes);
        }
        Err(error) => {
            let message = format!("writing {}: {error}", group.segment.name);
            shared.poison(&message);
            return Err(AppendError::Poisoned(message));
        }
    }
    shared.note_room();
    shared.durable.advance(group.end);
    queue.give_back(group.bytes.into_buffer());
    Ok(())
}

struct Done<'q>(&'q Queue);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.note_synced();
    }
}
