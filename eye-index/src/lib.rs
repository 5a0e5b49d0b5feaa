//! What The Eye looks things up in: the catalog of sessions (sled) and the search shards (tantivy), grown from the log.
//!
//! What must stay true: everything here can be deleted and grows back. Indexes hold offsets and what they need to
//! match, sort and count, never copies of events; whoever wants the event reads it from the log.

mod asker;
pub mod bounds;
pub mod catalog;
mod checkpoint;
mod closing;
mod error;
mod hidden;
mod index;
mod indexer;
mod merging;
mod page;
mod progress;
mod purge;
mod rebuilding;
mod sealing;
pub mod search;

pub use asker::Asker;
pub use error::{IndexError, SearchError};
pub use index::{Index, IndexConfig, IndexStatus};
pub use page::{Hit, Order, Place, SearchAnswer, SearchRequest, SessionSummary};
pub use progress::Needs;
pub use purge::Purged;
