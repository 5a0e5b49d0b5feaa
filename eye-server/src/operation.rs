//! What a route takes and answers, said once: requests are read by it, and the OpenAPI document is made of it.
//!
//! What must stay true: a route has no handler without an operation, and what an operation does not name is refused.

mod document;
mod shape;

use axum::body::Body;

use crate::error::Problem;
use crate::parameters::Parameters;
use crate::state::AppState;
use crate::wire::Object;

pub(crate) use document::document;
pub(crate) use shape::{Component, Field, Shape};

/// One method of one path.
pub(crate) struct Operation {
    summary: &'static str,
    kind: Kind,
    path: &'static [Field],
    /// What others take too, in the query string, or in the body where that has fields.
    shared: &'static [Field],
    query: &'static [Field],
    headers: &'static [Field],
    body: Option<Content>,
    answers: &'static [Answer],
    /// Statuses of problems beside those that come with everything above.
    problems: &'static [u16],
}

/// What an operation does to the service, which says how it can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Answers whoever asks, without a token.
    Open,
    /// Says itself whatever it answers.
    Health,
    /// Looks things up, within the deadline of queries.
    Reads,
    /// Appends to the log.
    Writes,
    /// Does something in this process only.
    Acts,
}

/// What the body of a request is.
enum Content {
    /// The fields of a JSON object, each known by name.
    Fields(&'static [Field]),
    /// Something else, by media type.
    Of {
        required: bool,
        about: &'static str,
        forms: &'static [(&'static str, Shape)],
    },
}

/// What is answered with a status that is no problem.
pub(crate) struct Answer {
    status: u16,
    about: &'static str,
    /// By media type; none where there is no body.
    forms: Forms,
}

enum Forms {
    None,
    Json(Shape),
    Of(&'static [(&'static str, Shape)]),
}

impl Answer {
    /// Returns one with a JSON body.
    pub(crate) const fn json(status: u16, about: &'static str, shape: Shape) -> Self {
        let forms = Forms::Json(shape);
        Self {
            status,
            about,
            forms,
        }
    }

    /// Returns one with bodies of other media types.
    pub(crate) const fn of(
        status: u16,
        about: &'static str,
        forms: &'static [(&'static str, Shape)],
    ) -> Self {
        let forms = Forms::Of(forms);
        Self {
            status,
            about,
            forms,
        }
    }

    /// Returns one without a body.
    pub(crate) const fn empty(status: u16, about: &'static str) -> Self {
        let forms = Forms::None;
        Self {
            status,
            about,
            forms,
        }
    }
}

impl Operation {
    const fn new(kind: Kind, summary: &'static str) -> Self {
        Self {
            summary,
            kind,
            path: &[],
            shared: &[],
            query: &[],
            headers: &[],
            body: None,
            answers: &[],
            problems: &[],
        }
    }

    /// Returns one that needs no token.
    pub(crate) const fn open(summary: &'static str) -> Self {
        Self::new(Kind::Open, summary)
    }

    /// Returns one that needs no token and answers the same shape whatever is wrong.
    pub(crate) const fn health(summary: &'static str) -> Self {
        Self::new(Kind::Health, summary)
    }

    /// Returns one that looks things up.
    pub(crate) const fn reads(summary: &'static str) -> Self {
        Self::new(Kind::Reads, summary)
    }

    /// Returns one that appends to the log.
    pub(crate) const fn writes(summary: &'static str) -> Self {
        Self::new(Kind::Writes, summary)
    }

    /// Returns one that does something in this process only.
    pub(crate) const fn acts(summary: &'static str) -> Self {
        Self::new(Kind::Acts, summary)
    }

    /// Names the parts of the path that stand for something.
    pub(crate) const fn path(self, path: &'static [Field]) -> Self {
        Self { path, ..self }
    }

    /// Names what it takes as others do: parameters of the query string, or fields of the body where that has fields.
    pub(crate) const fn shares(self, shared: &'static [Field]) -> Self {
        Self { shared, ..self }
    }

    /// Names the parameters of the query string that are its own.
    pub(crate) const fn query(self, query: &'static [Field]) -> Self {
        Self { query, ..self }
    }

    /// Names the headers that are listened to.
    pub(crate) const fn headers(self, headers: &'static [Field]) -> Self {
        Self { headers, ..self }
    }

    /// Names the fields of the body that are its own: a JSON object. What is not required may be null, too.
    pub(crate) const fn fields(self, fields: &'static [Field]) -> Self {
        let body = Some(Content::Fields(fields));
        Self { body, ..self }
    }

    /// Says what else the body is, by media type.
    pub(crate) const fn body(
        self,
        required: bool,
        about: &'static str,
        forms: &'static [(&'static str, Shape)],
    ) -> Self {
        let body = Some(Content::Of {
            required,
            about,
            forms,
        });
        Self { body, ..self }
    }

    /// Says what is answered where all is well.
    pub(crate) const fn answers(self, answers: &'static [Answer]) -> Self {
        Self { answers, ..self }
    }

    /// Adds problems to those that come with the kind (a token, the deadline, the disk), with a body and with a path.
    pub(crate) const fn problems(self, problems: &'static [u16]) -> Self {
        Self { problems, ..self }
    }

    /// Reads a query string. A parameter that is not named here, or that is given twice, is refused.
    pub(crate) fn parameters(&self, query: Option<&str>) -> Result<Parameters, Problem> {
        Parameters::from_query(query, &self.in_query())
    }

    /// Does the same where the parameter `list` may be given again and again; also returns its values, in order.
    pub(crate) fn parameters_with_list(
        &self,
        query: Option<&str>,
        list: &str,
    ) -> Result<(Parameters, Vec<String>), Problem> {
        Parameters::with_list(query, &self.in_query(), list)
    }

    /// Reads the body of a request; an empty one counts as `{}`. A field that is not named here is refused.
    pub(crate) async fn object(&self, state: &AppState, body: Body) -> Result<Object, Problem> {
        Object::read(state, body, &self.in_body()).await
    }

    /// Returns the parameters of the query string.
    fn in_query(&self) -> [&'static [Field]; 2] {
        match self.body {
            Some(Content::Fields(_)) => [&[], self.query],
            _ => [self.shared, self.query],
        }
    }

    /// Returns the fields of the body.
    fn in_body(&self) -> [&'static [Field]; 2] {
        match self.body {
            Some(Content::Fields(fields)) => [self.shared, fields],
            _ => [&[], &[]],
        }
    }
}
