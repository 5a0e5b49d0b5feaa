//! What the tests stand on: a running `eye`, a plain HTTP client, a scanner that finds words without the product's
//! help, and random events. Nothing here calls into the product's libraries: the tests see what a user sees.
//!
//! | room | what is in it |
//! | --- | --- |
//! | `binary` | where the `eye` that cargo built lies, and that it is not an old one |
//! | `eye` | a server of one's own on a throw-away folder: start, stop, kill, start again |
//! | `http` | requests and answers over a plain socket, bytes unchanged |
//! | `documented` | every answer held against the server's own document |
//! | `json_text` | JSON as text: fields and strings as they were written |
//! | `json_tree` | JSON as a tree that keeps repeated keys and digits |
//! | `evaluator` | whether an event matches a question, by looking at its JSON: the judge of the query language |
//! | `scanner` | which events hold a word or a phrase, found by looking at every one |
//! | `events` | events made from a seed, and the fixture |
//! | `random` | small random numbers that can be had again |
//! | `time` | times as the contract writes them |

// A test that cannot go on stops with the reason; there is nobody to hand an error to.
#![allow(clippy::unwrap_used)]
// Sizes here are small, and random figures are cut on purpose.
#![allow(clippy::cast_possible_truncation)]

pub mod binary;
mod documented;
pub mod evaluator;
pub mod events;
mod eye;
pub mod http;
pub mod json_text;
pub mod json_tree;
pub mod random;
pub mod scanner;
pub mod time;

pub use eye::{ADMIN_TOKEN, App, Elsewhere, Eye, Launch, command_within, run_eye_with};
pub use http::{Answer, Client, Connection, Request, percent_encoded};
pub use random::Random;
pub use scanner::Scanner;
