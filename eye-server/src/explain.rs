//! Why a search finds what it finds: hits per clause, and where nothing is found, which clause is to blame.

use std::collections::BTreeSet;

use eye_index::SearchRequest;
use eye_index::search::facets::{FacetOptions, FieldColumns};
use eye_index::search::parse::parse;
use eye_index::search::query::{Clause, Field, Kind, Span, Test, closest, did_you_mean};
use serde_json::{Value, json};

use crate::error::Problem;
use crate::operation::{Component, Field as Named, Shape};
use crate::state::AppState;

/// So many fields are looked at for one that nobody has.
const NEAR_MAX: usize = 20;

/// What is said of a query that is to be explained.
pub(crate) static EXPLANATION: Component = Component::object(
    "Explanation",
    &[
        Named::list(
            "clauses",
            &Shape::Object(&[
                Named::text("clause"),
                Named::whole("position"),
                Named::whole("hits"),
            ]),
        ),
        Named::text("killed_by").or_null(),
        Named::whole("outside_time_range"),
        Named::list(
            "unknown_fields",
            &Shape::Object(&[Named::text("field"), Named::text("did_you_mean").or_null()]),
        ),
        Named::list(
            "hints",
            &Shape::Object(&[
                Named::text("clause"),
                Named::text("instead"),
                Named::whole("hits"),
            ]),
        ),
    ],
);

/// Returns `{"clauses": [{"clause", "position", "hits"}], "killed_by", "outside_time_range", "unknown_fields": [{"field",
/// "did_you_mean"}], "hints"}` of a question. Clauses are those that all have to hold, each asked alone, with the same times and
/// filters. Blocks.
pub(crate) fn explain(state: &AppState, request: &SearchRequest) -> Result<Value, Problem> {
    let count = |query: Clause, timed: bool| -> Result<u64, Problem> {
        let request = SearchRequest {
            query,
            from: request.from.filter(|_| timed),
            to: request.to.filter(|_| timed),
            after: None,
            ..request.clone()
        };
        Ok(state.index().count(&request)?)
    };
    let clauses: Vec<&Clause> = match &request.query.kind {
        Kind::And(clauses) => clauses.iter().collect(),
        _ => vec![&request.query],
    };
    let mut told = Vec::new();
    for clause in &clauses {
        let hits = count((*clause).clone(), true)?;
        told.push((clause.to_string(), clause.span.position, hits));
    }
    let all = count(request.query.clone(), true)?;
    let outside = if request.from.is_some() || request.to.is_some() {
        count(request.query.clone(), false)?.saturating_sub(all)
    } else {
        0
    };
    let mut killed_by = None;
    if all == 0 {
        killed_by = told.iter().position(|(_, _, hits)| *hits == 0);
        for last in 2..=clauses.len() {
            if killed_by.is_some() {
                break;
            }
            // Each finds something; the one that leaves nothing of those before it.
            let together = Clause {
                kind: Kind::And(
                    clauses[..last]
                        .iter()
                        .map(|clause| (*clause).clone())
                        .collect(),
                ),
                span: Span::default(),
            };
            if count(together, true)? == 0 {
                killed_by = Some(last - 1);
            }
        }
    }
    let mut hints = Vec::new();
    for (clause, (text, _, hits)) in clauses.iter().zip(&told) {
        if let (0, Some(looser)) = (*hits, looser(clause)) {
            let hits = count(looser.clone(), true)?;
            if hits > 0 {
                hints.push(json!({"clause": text, "instead": looser.to_string(), "hits": hits}));
            }
        }
    }
    let rows: Vec<Value> = told
        .iter()
        .map(|(clause, position, hits)| json!({"clause": clause, "position": position, "hits": hits}))
        .collect();
    Ok(json!({
        "clauses": rows, "killed_by": killed_by.map(|place| told[place].0.clone()), "outside_time_range": outside,
        "unknown_fields": unknown_fields(state, request)?, "hints": hints,
    }))
}

/// Returns a clause that looks for the value within a label, where the clause looks for the whole label: `category:page` is not
/// `page interaction`.
fn looser(clause: &Clause) -> Option<Clause> {
    let Kind::Field {
        field,
        test: Test::Is(value),
    } = &clause.kind
    else {
        return None;
    };
    let name = match field {
        Field::Category => "category",
        Field::Name => "name",
        Field::Application => "application",
        _ => return None,
    };
    let plain = value
        .text
        .chars()
        .all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    parse(&format!("{name}:*{}*", value.text))
        .ok()
        .filter(|_| plain)
}

/// Lists the fields of the query that no event has, with what was probably meant.
fn unknown_fields(state: &AppState, request: &SearchRequest) -> Result<Vec<Value>, Problem> {
    let mut asked = BTreeSet::new();
    paths(&request.query, &mut asked);
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let everything = SearchRequest {
        query: parse("").map_err(|errors| Problem::bad_query(&errors))?,
        from: None,
        to: None,
        after: None,
        ..request.clone()
    };
    let all = state.index().paths(&everything, "")?;
    let slips = did_you_mean(&request.query);
    let mut unknown = Vec::new();
    for path in asked {
        // A path to an object is one, too.
        let below = format!("{path}.");
        let there = |known: &&String| **known == path || known.starts_with(&below);
        if !had(state, &everything, all.iter().filter(there))?.is_empty() {
            continue;
        }
        let built_in = slips
            .iter()
            .find(|slip| slip.field == path)
            .map(|slip| slip.meant.to_owned());
        let near = all
            .iter()
            .filter(|known| closest(&path, [known.as_str()].into_iter()).is_some());
        let near = had(state, &everything, near)?;
        let meant =
            built_in.or_else(|| closest(&path, near.iter().map(String::as_str)).map(str::to_owned));
        unknown.push(json!({"field": path, "did_you_mean": meant}));
    }
    Ok(unknown)
}

/// Returns those of the paths that a visible event has: that others have them is nobody's business.
fn had<'p>(
    state: &AppState,
    everything: &SearchRequest,
    paths: impl Iterator<Item = &'p String>,
) -> Result<Vec<String>, Problem> {
    let paths: Vec<String> = paths.take(NEAR_MAX).cloned().collect();
    let columns: Vec<FieldColumns> = paths.iter().cloned().map(FieldColumns::Data).collect();
    let options = FacetOptions {
        size: 0,
        times: false,
    };
    let (_, figures) = state.index().facets(everything, &columns, options)?;
    let there = paths.into_iter().zip(figures);
    Ok(there
        .filter(|(_, figures)| figures.types.iter().any(|count| *count > 0))
        .map(|(path, _)| path)
        .collect())
}

fn paths(clause: &Clause, found: &mut BTreeSet<String>) {
    match &clause.kind {
        Kind::And(clauses) | Kind::Or(clauses) => {
            clauses.iter().for_each(|clause| paths(clause, found))
        }
        Kind::Not(inner) => paths(inner, found),
        Kind::Field {
            field: Field::Data(path),
            ..
        } => drop(found.insert(path.joined())),
        _ => {}
    }
}
