//! The append-only log of The Eye: validated events and registry changes in checksummed segment files.
//!
//! The log is the truth. What it acknowledged is on the disk; what it cannot read it names. It knows nothing of
//! HTTP, of the catalog or of search: whoever uses it appends batches, reads from an offset, asks for the durable
//! end and waits for it to move.
//!
//! The bytes are described once, in [`format`].

mod admission;
mod appender;
pub mod backup;
mod cache;
pub mod compaction;
pub mod config;
mod disk_floor;
mod erasures;
pub mod error;
pub mod event;
mod figures;
mod files;
pub mod format;
mod group;
mod histogram;
pub mod ids;
pub mod json;
mod keeper;
mod ledger;
mod log;
mod maintenance;
pub mod offset;
mod pieces;
pub mod priority;
mod queue;
mod ranges;
mod read_only;
mod reader;
pub mod record;
mod recovery;
pub mod registry;
pub mod repair;
mod retention;
mod scrub;
mod sealed;
pub mod sealing;
mod segment;
mod senders;
pub mod storage;
mod syncer;
mod time;
pub mod verify;
mod writer;

pub use admission::{Batch, Exception, Receipt};
pub use config::LogConfig;
pub use erasures::{EraseRequest, Erasure};
pub use error::{AppendError, ChangeError, OpenError, QueueFull, ReadError};
pub use event::{Event, EventDraft, EventRules, InvalidCode, InvalidEvent};
pub use figures::LogFigures;
pub use files::SealedInfo;
pub use histogram::{Counts, Histogram};
pub use ids::{offset_of_server_made_id, server_made_id};
pub use ledger::{Balance, Ledger};
pub use log::{Log, LogHealth};
pub use offset::{DurableEnd, Offset};
pub use ranges::OffsetRanges;
pub use read_only::ReadOnly;
pub use reader::{Lookup, Reader, Scan, StoredEvent};
pub use record::Reason;
pub use recovery::{Cut, OpenReport};
pub use registry::{
    Actor, Application, ApplicationId, Change, Changed, Limits, NewToken, Registry, Rule, RuleMode,
    RuleTarget, Rules, Token, TokenKind, TokenTerms,
};
pub use scrub::ScrubReport;
pub use senders::Senders;
pub use time::{format_timestamp, now, parse_timestamp};
