//! Decides of one event after the other, as they come, whether it matches.

use std::sync::Arc;

use eye_log::record::EventRecord;
use eye_log::{ApplicationId, Offset, Registry};

use super::matches::{Subject, clause_holds};
use super::query::Clause;

/// Which events somebody waits for.
#[derive(Debug, Clone)]
pub struct Watch {
    /// What must hold of them.
    pub query: Clause,
    /// Only this application's.
    pub application: Option<ApplicationId>,
}

impl Watch {
    /// Says whether an event is one of them, exactly as a search would find it. `registry` knows the names of applications.
    pub fn holds(&self, offset: Offset, event: &EventRecord<'_>, registry: &Arc<Registry>) -> bool {
        let own = self.application.is_none_or(|own| own == event.application);
        own && clause_holds(
            &self.query,
            &Subject {
                offset,
                event,
                registry,
            },
        )
    }
}
