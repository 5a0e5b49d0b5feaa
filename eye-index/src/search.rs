//! Asking: the words of a text, the query language, its parser, and the shards that answer.

pub mod aggs;
pub mod bare;
pub(crate) mod by_session;
pub mod chain;
mod collect;
mod columns;
mod directory;
mod docsets;
mod document;
mod expand;
pub mod facets;
mod flatten;
pub mod histogram;
mod log_check;
pub mod marks;
pub(crate) mod matches;
mod matching;
pub mod parse;
pub(crate) mod part;
mod plan;
pub mod query;
mod room;
mod schema;
pub(crate) mod score;
pub(crate) mod shard;
pub(crate) mod shards;
pub mod steps;
mod time;
pub mod watch;
pub mod words;

pub(crate) use collect::{collect, count, in_log_order};
pub(crate) use flatten::Flattener;
pub(crate) use log_check::LogCheck;
pub(crate) use matching::Matching;
pub(crate) use plan::plan;
pub(crate) use schema::Fields;
