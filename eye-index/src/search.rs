//! Asking: the words of a text, the query language, and its parser.

pub mod parse;
pub mod query;
mod time;
pub mod words;
