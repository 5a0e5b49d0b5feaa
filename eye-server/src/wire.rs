//! The JSON shapes of the API: drafts in, events out.
//!
//! What must stay true: `data` is never parsed into a tree nor written anew; it goes out as the text it came as.

mod body;
mod control;
mod draft;
mod encoding;
mod event;
mod media_type;
mod object;

pub(crate) use body::{Pieces, pieces, text_of};
pub(crate) use control::CHANGE;
pub use control::control_line;
pub(crate) use draft::{EVENT_DRAFT, draft};
pub(crate) use encoding::Encoding;
pub use event::on_one_line;
pub(crate) use event::{
    EVENT, write_event, write_event_line, write_number, write_string, write_time, write_uuid,
};
pub(crate) use media_type::MediaType;
pub(crate) use object::Object;
