//! Opens a log to be read and nothing else: beside the process that has it, on a copy, on a medium that cannot be
//! written.
//!
//! What must stay true: it takes no lock and writes nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::OpenError;
use crate::log::Shared;
use crate::reader::Reader;
use crate::recovery::{self, Mode, OpenReport};
use crate::registry::Registry;
use crate::sealed::SealedShared;
use crate::storage::Disk;

/// How often a folder that somebody else changes is tried to be read.
const ATTEMPTS: u32 = 8;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);

/// A log that is only read, as it was when it was opened. It ends behind the last whole frame found then; beside a
/// running server, the sync of its last frames may still be under way.
#[derive(Debug)]
pub struct ReadOnly {
    shared: Arc<Shared>,
    report: OpenReport,
}

impl ReadOnly {
    /// Opens the log in `folder`.
    ///
    /// A folder in use changes while it is read: a frame half written, a file replaced in between. So what looks like
    /// damage, or a file that is gone, is looked at again a few times before it is an error.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        if !folder.is_dir() {
            return Err(OpenError::Io {
                doing: "reading",
                path: folder.to_owned(),
                source: io::ErrorKind::NotFound.into(),
            });
        }
        let mut attempt = 1;
        loop {
            match Self::open_once(folder) {
                Err(OpenError::Damaged { .. } | OpenError::Io { .. }) if attempt < ATTEMPTS => {
                    attempt += 1;
                    std::thread::sleep(BETWEEN_ATTEMPTS);
                }
                opened => return opened,
            }
        }
    }

    fn open_once(folder: &Path) -> Result<Self, OpenError> {
        let storage = Arc::new(Disk::read_only(folder));
        let sealed = Arc::new(SealedShared::default());
        let mut found = recovery::recover(storage.as_ref(), &sealed, 0, Mode::Read)
            .map_err(|failed| failed.within(folder))?;
        let report = std::mem::take(&mut found.report);
        let (shared, _) = Shared::new(storage, sealed, found, &report, 0);
        Ok(Self {
            shared: Arc::new(shared),
            report,
        })
    }

    /// Returns what opening found: a torn tail is left out of what is read, and damaged files are named.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Returns a reader. It sees nothing that came after the opening.
    pub fn reader(&self) -> Reader {
        Reader {
            shared: self.shared.clone(),
        }
    }

    /// Returns the applications and tokens as of the end.
    pub fn registry(&self) -> Arc<Registry> {
        self.shared.registry()
    }
}
