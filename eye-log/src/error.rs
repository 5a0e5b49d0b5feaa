//! What can go wrong with the log, one variant per thing a caller can do differently about.

use std::io;
use std::path::PathBuf;

use crate::offset::Offset;

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder.
    #[error("{folder} is in use by process {holder}; stop it, or talk to it instead of opening the folder", folder = folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The other process, as it wrote itself into the lock file.
        holder: String,
    },
    /// The log holds bytes that were acknowledged and cannot be read. Nothing was changed.
    #[error(
        "{damage}. Nothing was changed. Restore the folder from a backup, or save what can be saved with `eye log repair`"
    )]
    Damaged {
        /// What and where.
        damage: Damage,
    },
    /// A setting is beyond what the format allows.
    #[error("{0}")]
    Setting(String),
    /// The system refused a file operation.
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being done: "reading", "creating", …
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Bytes that are not what they must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damage in {file} at byte {position}, where record {first_offset} was expected: {what}")]
pub struct Damage {
    /// The file, within the log's folder.
    pub file: String,
    /// The byte where it begins.
    pub position: u64,
    /// The first offset that cannot be read.
    pub first_offset: Offset,
    /// The last offset known to be lost; `None` when nothing behind the damage says where it ends.
    pub last_offset: Option<Offset>,
    /// What was found, and what was expected.
    pub what: String,
}

/// Why something could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The system refused to read.
    #[error("reading {file}: {message}")]
    Io {
        /// The file, within the log's folder.
        file: String,
        /// What the system said.
        message: String,
    },
}

/// Why a batch was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A write or sync failed before. Nothing is accepted until a restart has read the disk itself.
    #[error("the log stopped after a failed write: {0}")]
    Poisoned(String),
    /// The disk is full, or has less room than `LogConfig::disk_reserve`. Sending works again as soon as there is more.
    #[error("the disk is full")]
    DiskFull,
    /// The request holds more than one frame can.
    #[error(
        "{bytes} bytes of records in one request; at most {limit} bytes, and 100,000 records, fit into a frame"
    )]
    TooLarge {
        /// What the request came to.
        bytes: usize,
        /// What a frame holds at most.
        limit: usize,
    },
    /// The system refused to read what says whose a session is, or whether an id was there before. Nothing was stored;
    /// others may be.
    #[error("whose session it is, or whether it was here before, cannot be looked up: {0}")]
    Undecided(String),
    /// The log is closing or closed.
    #[error("the log is closed")]
    Closed,
}

/// Why a change to the registry was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another application has the name.
    #[error("an application of this name exists")]
    NameTaken,
    /// Another token has the same secret.
    #[error("a token with this secret exists")]
    TokenTaken,
    /// No application has this name or number.
    #[error("no application has this name")]
    UnknownApplication,
    /// No token has this id.
    #[error("no token has this id")]
    UnknownToken,
    /// There is no such rule.
    #[error("no rule is set for these events")]
    UnknownRule,
    /// There are as many rules as there may be.
    #[error("there are {limit} rules, the most there may be")]
    TooManyRules {
        /// How many.
        limit: usize,
    },
    /// It could not be stored.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// So much waits for the writer that it would be unfair to let more wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting to be stored")]
pub struct QueueFull;
