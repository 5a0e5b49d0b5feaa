//! Makes documents of events: every string goes into the words, every value into the column of its path.
//!
//! What must stay true: it never fails, whatever an accepted event holds. A value that does not fit into a column is marked
//! at its path, and the log is asked for it. A path without a column makes the event partial: it is found by its words and
//! built-in fields as ever, and by any of its `data` fields after a look at the log.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use eye_log::Offset;
use eye_log::json::{Token, Tokens, unescape};
use eye_log::record::EventRecord;

use super::document::{Arena, EventDocument, Leaf, LeafValue};
use super::query::DataPath;
use super::room::Room;
use super::schema::{Fields, STRING_SEPARATOR};

/// Longer strings are no column values; where an event has one is marked ([`LEFT_OUT_ROOT`]).
pub(crate) const COLUMN_VALUE_MAX_BYTES: usize = 256;
/// Longer paths have no column.
const PATH_MAX_BYTES: usize = 512;
/// A shard has columns for so many paths; events with others are partial.
pub(crate) const SHARD_PATHS_MAX: usize = 10_000;
/// Stands between the keys of a path in a column's name, as tantivy has it.
pub(crate) const PATH_SEPARATOR: char = '\u{1}';
/// The root of the columns that say where a value is null; no key of an event is spelt so.
pub(crate) const NULL_ROOT: &str = "\u{2}null";
/// The root of the columns that say where an event has a value that is in no column.
pub(crate) const LEFT_OUT_ROOT: &str = "\u{2}out";

/// Collects the documents of a batch.
#[derive(Debug)]
pub(crate) struct Flattener {
    fields: Arc<Fields>,
    text: String,
    leaves: Vec<Leaf>,
    documents: Vec<Pending>,
    /// Columns of the shard being written, and where their names stand in the batch that used them last.
    columns: HashMap<String, (u64, Range<u32>)>,
    batch: u64,
    column_names: String,
    path: String,
    /// Where each open object or array began within `path`.
    open: Vec<usize>,
    scratch: String,
    without: Vec<tantivy::schema::Field>,
    room: Arc<Room>,
}

#[derive(Debug)]
struct Pending {
    offset: u64,
    timestamp: i64,
    application: u32,
    session: [u8; 16],
    id: Option<[u8; 16]>,
    category: Range<u32>,
    name: Range<u32>,
    words: Range<u32>,
    leaves: Range<u32>,
    partial: bool,
}

impl Flattener {
    pub(crate) fn new(fields: Arc<Fields>) -> Self {
        Self {
            fields,
            text: String::new(),
            leaves: Vec::new(),
            documents: Vec::new(),
            columns: HashMap::new(),
            batch: 0,
            column_names: String::new(),
            path: String::new(),
            open: Vec::new(),
            scratch: String::new(),
            without: Vec::new(),
            room: Arc::default(),
        }
    }

    /// Leaves the values of fields out, to measure what they cost.
    pub(crate) fn without(self, without: Vec<tantivy::schema::Field>) -> Self {
        Self { without, ..self }
    }

    /// Adds an event.
    pub(crate) fn push(&mut self, offset: Offset, event: &EventRecord<'_>) {
        let words_start = self.at();
        let category = self.push_string(event.category);
        let name = self.push_string(event.name);
        let leaves_start = self.leaves.len();
        let partial = self.push_data(event.data);
        let leaf_at = |at: usize| u32::try_from(at).expect("a batch holds fewer than 2^32 values");
        let leaves = leaf_at(leaves_start)..leaf_at(self.leaves.len());
        let words = words_start..self.at();
        self.documents.push(Pending {
            offset,
            timestamp: event.timestamp,
            application: event.application.0,
            session: event.session_id.into_bytes(),
            id: event.client.is_some().then(|| event.id.into_bytes()),
            category,
            name,
            words,
            leaves,
            partial,
        });
    }

    /// Returns the documents collected, in the order of their offsets. Blocks while too much is on its way already.
    pub(crate) fn take(&mut self) -> Vec<EventDocument> {
        let text = std::mem::take(&mut self.text);
        let leaves = std::mem::take(&mut self.leaves);
        // The next batch is probably as large.
        self.text.reserve(text.len());
        self.leaves.reserve(leaves.len());
        let paths = std::mem::take(&mut self.column_names);
        let bytes = text.capacity()
            + leaves.capacity() * size_of::<Leaf>()
            + self.documents.len() * size_of::<EventDocument>();
        let place = self.room.take(bytes);
        self.batch += 1;
        let arena = Arc::new(Arena {
            fields: self.fields.clone(),
            text,
            paths,
            leaves,
            without: self.without.clone(),
            _place: place,
        });
        let document = |pending: Pending| EventDocument {
            arena: arena.clone(),
            offset: pending.offset,
            timestamp: pending.timestamp,
            application: pending.application,
            session: pending.session,
            id: pending.id,
            category: pending.category,
            name: pending.name,
            words: pending.words,
            leaves: pending.leaves,
            partial: pending.partial,
        };
        self.documents.drain(..).map(document).collect()
    }

    fn at(&self) -> u32 {
        u32::try_from(self.text.len()).expect("a batch holds less than 4 GiB of text")
    }

    /// Adds a string to the words; returns where it stands.
    fn push_string(&mut self, string: &str) -> Range<u32> {
        let start = self.at();
        if string.contains(STRING_SEPARATOR) {
            // A control character separates words anyway.
            self.text.extend(
                string
                    .chars()
                    .map(|c| if c == STRING_SEPARATOR { ' ' } else { c }),
            );
        } else {
            self.text.push_str(string);
        }
        let end = self.at();
        self.text.push(STRING_SEPARATOR);
        start..end
    }

    /// Walks `data`; returns whether something of it has no place in the columns.
    fn push_data(&mut self, data: &str) -> bool {
        let mut partial = false;
        self.path.clear();
        self.open.clear();
        let mut scratch = std::mem::take(&mut self.scratch);
        for token in Tokens::new(data) {
            match token {
                Token::ObjectStart => self.open.push(self.path.len()),
                Token::ArrayStart => self.open.push(self.path.len()),
                Token::ObjectEnd | Token::ArrayEnd => {
                    let start = self.open.pop().unwrap_or(0);
                    self.path.truncate(start);
                }
                Token::Key(raw) => {
                    let start = self.open.last().copied().unwrap_or(0);
                    self.path.truncate(start);
                    let key = unescape(raw, &mut scratch);
                    // An empty key has no name as a column: the log is asked about such events.
                    partial |= key.is_empty();
                    push_key(
                        &mut self.path,
                        if key.is_empty() { "\u{fffd}" } else { key },
                    );
                }
                Token::String(raw) => {
                    let string = unescape(raw, &mut scratch);
                    let changed = string.contains(STRING_SEPARATOR);
                    let range = self.push_string(string);
                    let fits = string.len() <= COLUMN_VALUE_MAX_BYTES && !changed;
                    partial |= !if fits {
                        self.push_leaf(LeafValue::Text(range))
                    } else {
                        self.push_marked(LEFT_OUT_ROOT)
                    };
                }
                Token::Number(digits) => partial |= !self.push_number(digits),
                Token::Bool(value) => partial |= !self.push_leaf(LeafValue::Bool(value)),
                Token::Null => partial |= !self.push_marked(NULL_ROOT),
            }
        }
        self.scratch = scratch;
        partial
    }

    /// Puts a value into the column of the current path; returns whether there is one.
    fn push_leaf(&mut self, value: LeafValue) -> bool {
        if self.path.len() > PATH_MAX_BYTES || self.path.is_empty() {
            return false;
        }
        let Some(path) = self.column() else {
            return false;
        };
        self.leaves.push(Leaf { path, value });
        true
    }

    fn push_number(&mut self, digits: &str) -> bool {
        match number(digits) {
            Some(number) => self.push_leaf(number),
            None => self.push_marked(LEFT_OUT_ROOT),
        }
    }

    /// Marks the current path: null, or with a value that is left out.
    fn push_marked(&mut self, root: &str) -> bool {
        let path = self.path.clone();
        self.path = format!("{root}{PATH_SEPARATOR}{path}");
        let pushed = !path.is_empty() && self.push_leaf(LeafValue::Bool(true));
        self.path = path;
        pushed
    }

    /// Returns where the name of the current path's column stands; `None` when the shard has as many as it may have.
    fn column(&mut self) -> Option<Range<u32>> {
        let room = self.columns.len() < SHARD_PATHS_MAX;
        if let Some((batch, range)) = self.columns.get_mut(&self.path) {
            if *batch != self.batch {
                *range = named(&mut self.column_names, &self.path);
                *batch = self.batch;
            }
            return Some(range.clone());
        }
        if !room {
            return None;
        }
        let range = named(&mut self.column_names, &self.path);
        self.columns
            .insert(self.path.clone(), (self.batch, range.clone()));
        Some(range)
    }
}

fn named(names: &mut String, path: &str) -> Range<u32> {
    let at = |names: &String| {
        u32::try_from(names.len()).expect("a batch holds less than 4 GiB of names")
    };
    let start = at(names);
    names.push_str(path);
    start..at(names)
}

/// Appends a key to a path. A dot in a key is as good as a level; control characters have a meaning in columns' names,
/// so they become U+FFFD there. A look at the log tells such keys apart.
fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push(PATH_SEPARATOR);
    }
    if key.bytes().any(|byte| byte < 0x20 || byte == b'.') {
        path.extend(key.chars().map(column_char));
    } else {
        path.push_str(key);
    }
}

fn column_char(c: char) -> char {
    match c {
        '.' => PATH_SEPARATOR,
        '\0'..='\u{1f}' => '\u{fffd}',
        other => other,
    }
}

/// Returns the name to ask tantivy for the column of a path, below `root` if given, and whether the column may hold
/// values of other paths too.
pub(crate) fn column_of(root: Option<&str>, path: &DataPath) -> (String, bool) {
    let mut name = "data".to_owned();
    for key in root
        .into_iter()
        .map(str::to_owned)
        .chain(path.joined().split('.').map(str::to_owned))
    {
        name.push('.');
        let control = root != Some(key.as_str());
        for c in key.chars() {
            if c == '\\' {
                name.push('\\');
            }
            name.push(if control { column_char(c) } else { c });
        }
    }
    let shared = path
        .segments
        .iter()
        .any(|segment| segment.contains(['.', '\u{fffd}']) || segment.chars().any(|c| c < ' '));
    (name, shared)
}

/// Returns a number as columns hold it; `None` where it has no double.
fn number(digits: &str) -> Option<LeafValue> {
    if let Ok(number) = digits.parse::<i64>() {
        return Some(LeafValue::Signed(number));
    }
    if let Ok(number) = digits.parse::<u64>() {
        return Some(LeafValue::Unsigned(number));
    }
    digits.parse().ok().map(LeafValue::Double)
}
