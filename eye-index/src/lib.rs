//! What The Eye looks things up in: the catalog and the search shards, grown from the log.

pub mod search;
