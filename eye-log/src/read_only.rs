//! Opens a log to be read and nothing else: beside the process that has it, on a copy, on a medium that cannot be
//! written.
//!
//! What must stay true: it takes no lock and writes nothing. What opening would change (a torn tail, a missing footer)
//! is changed in memory alone.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::LogConfig;
use crate::error::OpenError;
use crate::log::Log;
use crate::reader::Reader;
use crate::registry::Registry;
use crate::storage::overlay::Overlay;

/// How often a folder that somebody else changes is tried to be read.
const ATTEMPTS: u32 = 8;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);

/// A log that is only read, as it was when it was opened. It ends behind the last whole frame found then; beside a
/// running server, the sync of its last frames may still be under way.
#[derive(Debug)]
pub struct ReadOnly {
    log: Log,
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
        // What opening says it has cut or sealed happens in memory, and would only alarm.
        let quiet = tracing::subscriber::NoSubscriber::default();
        let (log, _) = tracing::subscriber::with_default(quiet, || {
            let storage = Arc::new(Overlay::new(folder));
            Log::open_storage(storage, folder, LogConfig::default(), None)
        })?;
        Ok(Self { log })
    }

    /// Returns a reader. It sees nothing that came after the opening.
    pub fn reader(&self) -> Reader {
        self.log.reader()
    }

    /// Returns the applications and tokens as of the end.
    pub fn registry(&self) -> Arc<Registry> {
        self.log.registry()
    }
}
