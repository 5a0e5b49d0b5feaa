//! What figures are asked of: the events that a query, times and an application leave, without order or pages.

use std::sync::Arc;
use std::time::Instant;

use eye_index::search::query::Clause;
use eye_index::{Needs, SearchRequest};
use eye_log::{ApplicationId, Offset, Registry};

use crate::auth::Scope;
use crate::error::Problem;
use crate::listing::{narrow, query};
use crate::operation::{Field, Shape};
use crate::parameters::Parameters;
use crate::state::AppState;
use crate::view::Wanted;

/// The parameters that say which events.
pub(crate) const Q: Field = Field::text("q")
    .optional()
    .about("What must hold of the events; without it, nothing.");
pub(crate) const FROM: Field = Field::text("from")
    .optional()
    .about("From then on: RFC 3339, a date, now, or now-15m.");
pub(crate) const TO: Field = Field::text("to").optional().about("Before then.");
pub(crate) const APPLICATION: Field = Field::text("application")
    .optional()
    .about("Only this application's.");
pub(crate) const AS_OF: Field = Field::new("as_of", Shape::From(0))
    .optional()
    .about("The state up to this offset.");
pub(crate) const STALE: Field = Field::one_of("stale", &["ok"])
    .optional()
    .about("`ok`: never wait for the index.");
/// All of them.
pub(crate) const QUESTION: [Field; 6] = [Q, FROM, TO, APPLICATION, AS_OF, STALE];

/// Which events somebody asks about.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) wanted: Wanted,
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
    pub(crate) registry: Arc<Registry>,
    /// The filters name an application that is not there for this token: nothing matches.
    pub(crate) nothing: bool,
    query: Clause,
    deadline: Instant,
    application: Option<ApplicationId>,
}

impl Question {
    /// Reads [`Q`], [`FROM`], which is inclusive, [`TO`], which is not, [`APPLICATION`], [`AS_OF`] and [`STALE`].
    pub(crate) fn of(
        state: &AppState,
        scope: Scope,
        parameters: &Parameters,
    ) -> Result<Self, Problem> {
        let (now, zone) = (eye_log::now(), state.settings().default_timezone.0);
        let (application, nothing) = narrow(state, scope, parameters.text("application"));
        Ok(Self {
            wanted: Wanted::of(state, parameters, Needs::Search)?,
            from: parameters.time("from", now, zone)?,
            to: parameters.time("to", now, zone)?,
            registry: state.log().registry(),
            nothing,
            query: query(parameters.text("q"))?,
            deadline: Instant::now() + state.settings().query_deadline,
            application,
        })
    }

    /// Returns what the index is asked, for the events below `as_of`.
    pub(crate) fn request(&self, as_of: Offset) -> SearchRequest {
        SearchRequest {
            deadline: Some(self.deadline),
            application: self.application,
            from: self.from,
            to: self.to,
            ..SearchRequest::new(self.query.clone(), self.registry.clone(), as_of, 1)
        }
    }
}
