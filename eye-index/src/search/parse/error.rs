//! What is told about a mistake in a query.

use serde::Serialize;

use crate::search::query::Span;

/// A mistake in a query.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct QueryError {
    /// Says where it is, in Unicode scalar values from 0.
    pub position: usize,
    /// Says how long it is, in Unicode scalar values; 0 where something is missing.
    pub length: usize,
    /// Lists what could have stood there.
    pub expected: Vec<String>,
    /// Is what was probably meant, to be put in the place marked by `position` and `length`; empty where that should go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Explains it in a sentence or two.
    pub message: String,
}

impl QueryError {
    pub(super) fn new(span: Span, message: impl Into<String>) -> QueryError {
        let Span { position, length } = span;
        QueryError {
            position,
            length,
            expected: Vec::new(),
            suggestion: None,
            message: message.into(),
        }
    }

    pub(super) fn expecting<const N: usize>(mut self, expected: [&str; N]) -> QueryError {
        self.expected = expected.map(str::to_owned).into();
        self
    }

    pub(super) fn suggesting(mut self, suggestion: impl Into<String>) -> QueryError {
        self.suggestion = Some(suggestion.into());
        self
    }
}
