//! What the benches send and how they look at it: web events, a lean load client, and a process seen from outside.
//!
//! | room | what is in it |
//! | --- | --- |
//! | `source` | the events to send: a file where `EYE_BENCH_EVENTS` names one, else made from a seed |
//! | `web_events` | events in the shape and proportions of `shared/bench/web_events.py` |
//! | `load` | requests over N connections, as fast as they are answered or at a rate |
//! | `process` | CPU and memory of another process |
//! | `server` | the product, started as the tests start it |
//! | `report` | the figures, for reading and for keeping |

// A bench that cannot go on stops with the reason; there is nobody to hand an error to.
#![allow(clippy::unwrap_used)]
// Sizes here are small, and random figures are cut on purpose.
#![allow(clippy::cast_possible_truncation)]

pub mod load;
pub mod process;
pub mod report;
pub mod server;
pub mod source;
mod web_events;

pub use load::{Load, Outcome};
pub use report::{Report, median};
pub use server::RealServer;
pub use source::Events;

/// Returns a number from the environment, or the default.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        text.replace(['_', ','], "")
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}
