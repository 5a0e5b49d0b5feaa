//! Looks an event up in the log, where the columns cannot tell whether it matches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use eye_log::{Lookup, Offset, Reader, Registry};

use super::columns::Unpacked;
use super::matches::Subject;
use crate::asker::Asker;
use crate::bounds::Memory;
use crate::error::SearchError;

/// What looking costs may not exceed, and what went wrong, shared by all parts of one question.
#[derive(Debug, Clone)]
pub(crate) struct LogCheck {
    reader: Reader,
    pub(crate) registry: Arc<Registry>,
    deadline: Option<Instant>,
    asker: Asker,
    pub(crate) memory: Memory,
    pub(crate) unpacked: Arc<Unpacked>,
    failure: Arc<Mutex<Option<SearchError>>>,
}

impl LogCheck {
    pub(crate) fn new(
        reader: Reader,
        registry: Arc<Registry>,
        deadline: Option<Instant>,
        unpacked: Arc<Unpacked>,
    ) -> Self {
        Self {
            reader,
            registry,
            deadline,
            asker: Asker::current(),
            memory: Memory::default(),
            unpacked,
            failure: Arc::default(),
        }
    }

    /// Returns what went wrong since the question was asked; to be called before its answer is believed.
    pub(crate) fn verdict(&self) -> Result<(), SearchError> {
        if self.is_late() {
            return Err(SearchError::Timeout);
        }
        match self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Says whether the answer is no longer wanted.
    pub(crate) fn is_late(&self) -> bool {
        let over = |deadline| Instant::now() > deadline;
        self.asker.has_gone() || self.deadline.is_some_and(over)
    }

    /// Returns the log.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns something that looks events up one after the other.
    pub(crate) fn looker(&self) -> Looker {
        Looker {
            lookup: self.reader.lookup(),
            check: self.clone(),
            failed: false,
        }
    }

    /// Notes why the answer cannot be believed. The first reason counts.
    pub(crate) fn fail(&self, error: SearchError) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }
}

/// Looks events up.
pub(crate) struct Looker {
    lookup: Lookup,
    check: LogCheck,
    failed: bool,
}

impl Looker {
    /// Says whether the event at `offset` passes. After a failure nothing does, and [`LogCheck::verdict`] says why.
    pub(crate) fn passes(
        &mut self,
        offset: Offset,
        holds: impl FnOnce(&Subject<'_>) -> bool,
    ) -> bool {
        if self.failed {
            return false;
        }
        if self.check.is_late() {
            self.failed = true;
            self.check.fail(SearchError::Timeout);
            return false;
        }
        let registry = &self.check.registry;
        match self.lookup.event(offset, |event| {
            holds(&Subject {
                offset,
                event,
                registry,
            })
        }) {
            Ok(passes) => passes.unwrap_or(false),
            Err(error) => {
                self.failed = true;
                self.check.fail(error.into());
                false
            }
        }
    }
}
