//! An event as tantivy sees it: borrowed from one arena per batch, so that no tree and few allocations are made.

use std::ops::Range;
use std::sync::Arc;

use tantivy::schema::Field;
use tantivy::schema::document::{Document, ReferenceValue, ReferenceValueLeaf, Value};

use super::room::Place;
use super::schema::Fields;

/// Everything the documents of a batch refer to.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) fields: Arc<Fields>,
    /// Strings of events, joined.
    pub(crate) text: String,
    /// Names of columns.
    pub(crate) paths: String,
    pub(crate) leaves: Vec<Leaf>,
    /// Fields whose values are left out, to measure what they cost; empty in earnest.
    pub(crate) without: Vec<Field>,
    /// Its place in memory, given back with the last document.
    pub(crate) _place: Place,
}

/// A value of `data` and its path.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) path: Range<u32>,
    pub(crate) value: LeafValue,
}

#[derive(Debug, Clone)]
pub(crate) enum LeafValue {
    Text(Range<u32>),
    Signed(i64),
    Unsigned(u64),
    Double(f64),
    Bool(bool),
}

/// One event.
#[derive(Debug)]
pub(crate) struct EventDocument {
    pub(crate) arena: Arc<Arena>,
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) application: u32,
    pub(crate) session: [u8; 16],
    /// The id, if the client made it.
    pub(crate) id: Option<[u8; 16]>,
    pub(crate) category: Range<u32>,
    pub(crate) name: Range<u32>,
    /// Category, name and the strings of `data`, joined.
    pub(crate) words: Range<u32>,
    pub(crate) leaves: Range<u32>,
    pub(crate) partial: bool,
}

impl Arena {
    pub(crate) fn text(&self, range: &Range<u32>) -> &str {
        &self.text[range.start as usize..range.end as usize]
    }
}

/// A value of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FieldValue<'a> {
    Text(&'a str),
    Signed(i64),
    Unsigned(u64),
    Double(f64),
    Bool(bool),
    Bytes(&'a [u8]),
    Data(&'a EventDocument),
}

impl Document for EventDocument {
    type Value<'a> = FieldValue<'a>;
    type FieldsValuesIter<'a> = FieldValues<'a>;

    fn iter_fields_and_values(&self) -> FieldValues<'_> {
        FieldValues {
            document: self,
            next: 0,
        }
    }
}

/// The fields of a document, one after the other.
pub(crate) struct FieldValues<'a> {
    document: &'a EventDocument,
    next: u8,
}

impl<'a> Iterator for FieldValues<'a> {
    type Item = (Field, FieldValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let document = self.document;
        let arena = document.arena.as_ref();
        let fields = &arena.fields;
        loop {
            let step = self.next;
            self.next += 1;
            let value = match step {
                0 => (fields.offset, FieldValue::Unsigned(document.offset)),
                1 => (fields.timestamp, FieldValue::Signed(document.timestamp)),
                2 => (
                    fields.application,
                    FieldValue::Unsigned(u64::from(document.application)),
                ),
                3 => (fields.session, FieldValue::Bytes(&document.session)),
                4 => (
                    fields.category,
                    FieldValue::Text(arena.text(&document.category)),
                ),
                5 => (fields.name, FieldValue::Text(arena.text(&document.name))),
                6 => (fields.words, FieldValue::Text(arena.text(&document.words))),
                7 => (fields.data, FieldValue::Data(document)),
                8 => match &document.id {
                    Some(id) => (fields.id, FieldValue::Bytes(id)),
                    None => continue,
                },
                9 if document.partial => (fields.partial, FieldValue::Unsigned(1)),
                _ => return None,
            };
            if !arena.without.contains(&value.0) {
                return Some(value);
            }
        }
    }
}

impl<'a> Value<'a> for FieldValue<'a> {
    type ArrayIter = std::iter::Empty<Self>;
    type ObjectIter = Leaves<'a>;

    fn as_value(&self) -> ReferenceValue<'a, Self> {
        ReferenceValue::Leaf(match *self {
            Self::Text(text) => ReferenceValueLeaf::Str(text),
            Self::Signed(number) => ReferenceValueLeaf::I64(number),
            Self::Unsigned(number) => ReferenceValueLeaf::U64(number),
            Self::Double(number) => ReferenceValueLeaf::F64(number),
            Self::Bool(value) => ReferenceValueLeaf::Bool(value),
            Self::Bytes(bytes) => ReferenceValueLeaf::Bytes(bytes),
            Self::Data(document) => {
                return ReferenceValue::Object(Leaves {
                    document,
                    next: document.leaves.start,
                });
            }
        })
    }
}

/// The values of `data`, flattened: whole paths as keys.
pub(crate) struct Leaves<'a> {
    document: &'a EventDocument,
    next: u32,
}

impl<'a> Iterator for Leaves<'a> {
    type Item = (&'a str, FieldValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.document.leaves.end {
            return None;
        }
        let arena = self.document.arena.as_ref();
        let leaf = &arena.leaves[self.next as usize];
        self.next += 1;
        let value = match &leaf.value {
            LeafValue::Text(range) => FieldValue::Text(arena.text(range)),
            LeafValue::Signed(number) => FieldValue::Signed(*number),
            LeafValue::Unsigned(number) => FieldValue::Unsigned(*number),
            LeafValue::Double(number) => FieldValue::Double(*number),
            LeafValue::Bool(value) => FieldValue::Bool(*value),
        };
        let path = &arena.paths[leaf.path.start as usize..leaf.path.end as usize];
        Some((path, value))
    }
}
