//! `/histogram`: how many events over time.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use eye_index::search::facets::{FacetOptions, FacetValue, FieldColumns};
use eye_index::search::histogram::{Buckets, Histogram};
use eye_index::{Order, SearchRequest};
use eye_log::format_timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::auth::Identity;
use crate::calendar::{Interval, Zone};
use crate::error::Problem;
use crate::operation::{Answer, Field, Operation, Shape};
use crate::question::{QUESTION, Question};
use crate::routes::facets::{columns, framed, written};
use crate::routes::json as answer;
use crate::state::AppState;
use crate::view::{self, View};

/// Bars at most.
const BARS_MAX: usize = 10_000;
/// Values that bars are split by; the rest is `other`.
const SPLIT_MAX: usize = 20;
const OTHER: &str = "other";

/// What [`histogram`] takes and answers.
pub(crate) static HISTOGRAM: Operation = Operation::reads("Count events over time")
    .shares(&QUESTION)
    .query(&[
        Field::text("interval")
            .optional()
            .about("`auto` (about 60 bars), or a number with one of s m h d w M."),
        Field::text("tz").optional().about(
            "Where days begin: a name of the IANA, or an offset. UTC where it is not given.",
        ),
        Field::text("by")
            .optional()
            .about("Splits every bar by the top 20 values of this field; the rest is `other`."),
    ])
    .answers(&[Answer::json(
        200,
        "The bars, empty ones included",
        Shape::Framed(&[
            Field::text("interval"),
            Field::text("tz"),
            Field::whole("total"),
            Field::list(
                "buckets",
                &Shape::Object(&[
                    Field::time("from"),
                    Field::time("to"),
                    Field::whole("count"),
                    Field::new("by", Shape::ByName(&Shape::Whole)).optional(),
                ]),
            ),
        ]),
    )]);

/// Answers `GET /histogram`.
pub(crate) async fn histogram(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = HISTOGRAM.parameters(query.as_deref())?;
    let interval = match parameters.text("interval") {
        None | Some("auto") => None,
        Some(text) => Some(Interval::parse(text).ok_or_else(|| {
            let message =
                "must be `auto`, or a number with one of s m h d w M, like 5m, 1h, 1d, 1w, 1M.";
            Problem::parameter("interval", message)
        })?),
    };
    let zone = parameters.text("tz").unwrap_or("UTC");
    let zone = Zone::parse(zone).ok_or_else(|| {
        Problem::parameter(
            "tz",
            "must be the name of a time zone, like Europe/Berlin, or an offset, like +02:00.",
        )
    })?;
    let question = Question::of(&state, scope, &parameters)?;
    let by = parameters
        .text("by")
        .map(|name| columns(&question, "by", name))
        .transpose()?;
    let body = view::read(&state, question.wanted, move |state, view| {
        let bars = bars(state, &question, view, interval, zone)?;
        let Some((interval, buckets)) = bars else {
            let interval = interval.unwrap_or(Interval::Days(1));
            return Ok(body(
                view,
                interval,
                zone,
                &Buckets::new(Vec::new()),
                &Histogram::default(),
                None,
            ));
        };
        let request = question.request(view.as_of);
        let values = by
            .as_ref()
            .map(|field| most_frequent(state, &request, field))
            .transpose()?;
        let split = by.as_ref().zip(values.as_deref());
        let counted = state.index().histogram(&request, &buckets, split)?;
        Ok(body(
            view,
            interval,
            zone,
            &buckets,
            &counted,
            values.as_deref(),
        ))
    })
    .await?;
    Ok(answer(StatusCode::OK, body))
}

/// Returns the bars from the first to the last match, or between the times asked for; `None` where nothing matches. Blocks.
fn bars(
    state: &AppState,
    question: &Question,
    view: View,
    interval: Option<Interval>,
    zone: Zone,
) -> Result<Option<(Interval, Buckets)>, Problem> {
    if question.nothing {
        return Ok(None);
    }
    let edge = |order| -> Result<Option<i64>, Problem> {
        let request = SearchRequest {
            order,
            ..question.request(view.as_of)
        };
        let found = state.index().search(&request)?;
        Ok(found.hits.first().map(|hit| hit.timestamp))
    };
    let from = match question.from {
        Some(from) => Some(from),
        None => edge(Order::OldestFirst)?,
    };
    let to = match question.to {
        Some(to) => Some(to),
        None => edge(Order::NewestFirst)?.map(|last| last.saturating_add(1)),
    };
    // Between times asked for there are bars, also where nothing matches.
    let (from, to) = match (from, to) {
        (Some(from), Some(to)) => (from, to),
        (Some(from), None) => (from, from.saturating_add(1)),
        (None, Some(to)) => (to.saturating_sub(1), to),
        (None, None) => return Ok(None),
    };
    if from >= to {
        return Ok(None);
    }
    let interval = interval.unwrap_or_else(|| Interval::auto(from, to));
    let bounds = interval.bounds(from, to, zone, BARS_MAX).ok_or_else(|| {
        Problem::parameter(
            "interval",
            format!(
                "{} makes more than {BARS_MAX} bars between {} and {}; choose a longer one, or narrow the time.",
                interval.name(), format_timestamp(from), format_timestamp(to)
            ),
        )
    })?;
    Ok(Some((interval, Buckets::new(bounds))))
}

fn most_frequent(
    state: &AppState,
    request: &SearchRequest,
    field: &FieldColumns,
) -> Result<Vec<FacetValue>, Problem> {
    let options = FacetOptions {
        size: SPLIT_MAX,
        times: false,
    };
    let (_, figures) = state
        .index()
        .facets(request, std::slice::from_ref(field), options)?;
    let values = figures.into_iter().flat_map(|figures| figures.values);
    Ok(values.map(|(value, _)| value).collect())
}

fn body(
    view: View,
    interval: Interval,
    zone: Zone,
    buckets: &Buckets,
    counted: &Histogram,
    values: Option<&[FacetValue]>,
) -> String {
    let names: Vec<String> = values
        .into_iter()
        .flatten()
        .map(|value| match written(value) {
            Value::String(text) => text,
            other => other.to_string(),
        })
        .chain([OTHER.to_owned()])
        .collect();
    let split = |bar: usize| {
        let mut by: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, counts) in names.iter().zip(&counted.by) {
            if counts[bar] > 0 {
                // A value may be spelt like the rest.
                *by.entry(name).or_default() += counts[bar];
            }
        }
        by
    };
    let bounds: Vec<String> = buckets
        .bounds()
        .iter()
        .map(|at| format_timestamp(*at))
        .collect();
    let bars = bounds.windows(2).enumerate().map(|(bar, bounds)| Bar {
        from: &bounds[0],
        to: &bounds[1],
        count: counted.counts[bar],
        by: values.map(|_| split(bar)),
    });
    let figures = Figures {
        interval: interval.name(),
        tz: zone.name(),
        total: counted.counts.iter().sum(),
        buckets: bars.collect(),
    };
    framed(view, figures)
}

#[derive(Serialize)]
struct Figures<'f> {
    interval: String,
    tz: String,
    total: u64,
    buckets: Vec<Bar<'f>>,
}

#[derive(Serialize)]
struct Bar<'f> {
    from: &'f str,
    to: &'f str,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<BTreeMap<&'f str, u64>>,
}
