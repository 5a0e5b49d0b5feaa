//! What The Eye promises its users, tried through its public doors. This file is the table of contents.

// A test that cannot go on stops with the reason; there is nobody to hand an error to.
#![allow(clippy::unwrap_used)]
// Sizes here are small, and random figures are cut on purpose.
#![allow(clippy::cast_possible_truncation)]

/// Names are unique, tokens are shown once, a disabled application is locked out and loses nothing.
mod applications;
/// A backup taken under load holds everything acknowledged before it, and comes back; nothing is written over.
mod backups;
/// Slow clients, too many clients, and what every answer tells browsers.
mod connections;
/// The unit, the container and their health check start what there is, with settings that there are.
mod deploying;
/// What an operator is told, and what goes on, when the disk is full or fails.
mod disk_trouble;
/// The commands in the documents work as they are written.
mod documents;
/// Whatever aggregation is asked for, the service lives and shows nothing of others.
mod drawn_aggs;
/// `eye log dump` shows every record, of a copy and beside a running server, and writes nothing.
mod dumping;
/// JSON's corners: what must be taken and come back as it was, what must be refused without harm.
mod edge_cases;
/// What was erased or has expired is in no answer and in no byte, and the chain of seals still verifies.
mod erasing;
/// Counts over time, of values and of fields are what a plain count says.
mod figures;
/// The server says who you are, what the limits are and how it feels, and stops without losing an answer.
mod health;
/// Every route, asked with every kind of token.
mod isolation;
/// Everything that was sent is accounted for, at every moment.
mod ledger;
/// TLS whose certificate is renewed, sockets to listen on, proxies, and what the log says of a request.
mod listening;
/// The old service's clients find their applications, tokens, sessions and events here.
mod moving;
/// What browsers get: the page that tries the API, the client for other pages.
mod pages;
/// A query past its deadline, and an answer that would be cut, are errors that say so.
mod query_bounds;
/// Thousands of drawn questions find what a reading of every event's JSON finds.
mod questions;
/// Lists are filtered, ordered and paged without a gap, and show what was stored, byte for byte.
mod reading;
/// The proofs on real data; they need a folder of it.
mod real_data;
/// `eye index rebuild` beside the service, and `eye demo`.
mod rebuilding;
/// What was acknowledged survives kill -9, a torn tail and the loss of the index.
mod recovery;
/// What is refused is kept as it was sent, bounded, erased with its session, and sent again once it can be.
mod rejecting;
/// A damaged file is found, named, served around and repaired, and takes no revocation back.
mod repairing;
/// `eye replay` drives a log through another service, to standard output, and into the index, and repeats harmlessly.
mod replaying;
/// Rules for data: enforced or warned of, tried before they are set, and what they refused sent again.
mod rules;
/// A search finds what a plain scan finds, in every script, newest first.
mod searching;
/// Every way to send, every answer to it, and retries that change nothing.
mod sending;
/// A session id belongs to the first application that used it, for ever.
mod sessions_have_one_owner;
/// Settings come from flags, the environment and a file, and the service says which from where.
mod settings;
/// Sessions, funnels and sequences are what a plain walk finds.
mod steps;
/// Exports hold everything there is, tails what comes.
mod streaming;
/// Who may do what, and what everybody else is told.
mod tokens;
/// `eye torture` finds what was acknowledged after every kill, and says when something is lost.
mod torturing;
/// Wrong events are refused with every reason at once, in the old service's words.
mod validation;
/// What the service counts is what the document lists, and says nothing of what it was sent.
mod watching;
