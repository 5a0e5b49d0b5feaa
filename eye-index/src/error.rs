//! What can go wrong with the indexes.

use std::path::PathBuf;

use eye_log::ReadError;

use crate::bounds::Bound;

/// Why the indexes could not be opened or kept.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The system refused a file operation.
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The catalog failed.
    #[error("the catalog: {0}")]
    Catalog(String),
    /// A search shard failed.
    #[error("a search shard: {0}")]
    Shard(String),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
}

impl IndexError {
    pub(crate) fn io(
        doing: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        Self::Catalog(error.to_string())
    }
}

impl From<tantivy::TantivyError> for IndexError {
    fn from(error: tantivy::TantivyError) -> Self {
        use tantivy::TantivyError::{IoError, OpenReadError, OpenWriteError};
        use tantivy::directory::error::OpenReadError as Unreadable;
        let system = |source: &std::io::Error| Self::Io {
            doing: "using a file of",
            path: "a search shard".into(),
            source: std::io::Error::new(source.kind(), source.to_string()),
        };
        match &error {
            IoError(source) if source.kind() != std::io::ErrorKind::InvalidData => {
                return system(source);
            }
            OpenReadError(Unreadable::IoError { io_error, .. }) => return system(io_error),
            OpenWriteError(tantivy::directory::error::OpenWriteError::IoError {
                io_error, ..
            }) => {
                return system(io_error);
            }
            _ => {}
        }
        Self::Shard(error.to_string())
    }
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The question would cost more than a question may.
    #[error("{clause} passes the bound {} of {} {}", .bound.name, .bound.value, .bound.unit)]
    Bound {
        /// Which bound.
        bound: &'static Bound,
        /// The part of the query that passes it.
        clause: String,
    },
    /// A regular expression cannot be read.
    #[error("{clause}: {message}")]
    BadRegex {
        /// The part of the query.
        clause: String,
        /// Where it stands, Unicode scalar values from 0, and how long it is.
        span: search::query::Span,
        /// What is wrong with it.
        message: String,
    },
    /// Aggregations cannot be done.
    #[error("aggs: {0}")]
    BadAggs(String),
    /// The time for this question is over.
    #[error("the query took longer than it may")]
    Timeout,
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The indexes failed.
    #[error("the index failed: {0}")]
    Index(String),
}

use crate::search;

impl From<tantivy::TantivyError> for SearchError {
    fn from(error: tantivy::TantivyError) -> Self {
        Self::Index(error.to_string())
    }
}

impl From<IndexError> for SearchError {
    fn from(error: IndexError) -> Self {
        Self::Index(error.to_string())
    }
}

impl From<sled::Error> for SearchError {
    fn from(error: sled::Error) -> Self {
        Self::Index(error.to_string())
    }
}

impl From<std::io::Error> for SearchError {
    fn from(error: std::io::Error) -> Self {
        Self::Index(error.to_string())
    }
}
