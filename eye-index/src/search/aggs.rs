//! Aggregations in the shapes of Elasticsearch, by tantivy's own, over every match of a question.
//!
//! What must stay true: only fields as queries name them are seen, no other index than the matches; what would need more
//! memory or more buckets than a question may have is an error; values that are not in the columns are counted as not seen.

use std::sync::Arc;

use eye_log::Registry;
use serde_json::{Map, Value};
use tantivy::aggregation::agg_req::Aggregations;
use tantivy::aggregation::intermediate_agg_result::IntermediateAggregationResults;
use tantivy::aggregation::{
    AggContextParams, AggregationError, AggregationLimitsGuard, AggregationSegmentCollector,
    ValueSource, ValueSourceDictionary, ValueSourceProvider, ValueSourceRegistry,
};
use tantivy::collector::SegmentCollector as _;
use tantivy::columnar::{
    BytesColumn, Cardinality, Column, ColumnType, DynamicColumn, MonotonicallyMappableToU64, RowId,
};
use tantivy::{DocId, SegmentReader, TantivyError};
use uuid::Uuid;

use super::flatten::{LEFT_OUT_ROOT, column_of};
use super::matching::Matching;
use super::query::DataPath;
use crate::bounds::{AGGS_BUCKETS, AGGS_MAX, AGGS_NESTING, QUERY_MEMORY};
use crate::error::SearchError;

/// What may be asked for, and how it may be put. The others of tantivy's would speak another query language, or show
/// documents; what is not named here is an error, because tantivy would take no notice of it.
const KINDS: [(&str, &[&str]); 15] = [
    ("avg", &["field", "missing"]),
    ("cardinality", &["field", "missing"]),
    ("composite", &["sources", "size", "after"]),
    (
        "date_histogram",
        &[
            "field",
            "fixed_interval",
            "calendar_interval",
            "offset",
            "min_doc_count",
            "hard_bounds",
            "extended_bounds",
            "keyed",
        ],
    ),
    ("extended_stats", &["field", "missing", "sigma"]),
    (
        "histogram",
        &[
            "field",
            "interval",
            "offset",
            "min_doc_count",
            "hard_bounds",
            "extended_bounds",
            "keyed",
        ],
    ),
    ("max", &["field", "missing"]),
    ("min", &["field", "missing"]),
    (
        "multi_terms",
        &["terms", "size", "shard_size", "min_doc_count", "order"],
    ),
    ("percentiles", &["field", "percents", "keyed", "missing"]),
    ("range", &["field", "ranges", "keyed"]),
    ("stats", &["field", "missing"]),
    ("sum", &["field", "missing"]),
    (
        "terms",
        &[
            "field",
            "size",
            "shard_size",
            "show_term_doc_count_error",
            "min_doc_count",
            "order",
            "missing",
            "include",
            "exclude",
        ],
    ),
    ("value_count", &["field", "missing"]),
];
/// Kinds that come to figures, not to buckets.
const FIGURES: [&str; 9] = [
    "avg",
    "cardinality",
    "extended_stats",
    "max",
    "min",
    "percentiles",
    "stats",
    "sum",
    "value_count",
];
/// Fields whose values tantivy gets from sources of ours, which these kinds do not ask.
const OF_OURS: [&str; 3] = ["timestamp", "session_id", "application"];
const ASK_COLUMNS_ONLY: [&str; 2] = ["composite", "multi_terms"];
/// Kinds that keep a sketch for each bucket they are in, which tantivy does not count as memory, and about how many times the
/// memory of a bucket that is.
const SKETCHES: [&str; 2] = ["cardinality", "percentiles"];
const SKETCH_WEIGHT: usize = 64;
/// The digits that the number of a duration may have.
const DURATION_DIGITS: usize = 6;
/// What buckets have beside the aggregations in them.
const TAKEN: [&str; 7] = [
    "key",
    "key_as_string",
    "doc_count",
    "from",
    "to",
    "from_as_string",
    "to_as_string",
];
/// Instants that fit tantivy's dates, unix microseconds: the years 1678 to 2261.
const DATES: std::ops::Range<i64> = -9_214_560_000_000_000..9_214_646_400_000_000;

/// Aggregations that were read.
#[derive(Debug, Clone)]
pub struct Aggs {
    request: Aggregations,
    /// The columns that mark values of the fields of `data` which are in no column.
    left_out: Vec<String>,
    /// Whether timestamps are looked at.
    timestamps: bool,
    /// How many sketches there are in a bucket.
    sketches: usize,
}

/// What aggregations came to.
#[derive(Debug, Clone)]
pub struct Aggregated {
    /// As Elasticsearch shapes it: a member for each aggregation.
    pub aggs: Value,
    /// Matching events that have values of these fields which no column holds (longer than 256 bytes, beyond the 10,000
    /// paths), and that are therefore not in `aggs`.
    pub unseen: u64,
}

impl Aggs {
    /// Reads `{NAME: {KIND: {"field": …}, "aggs": {…}}}`. An error is a sentence for whoever wrote it.
    pub fn read(json: &Value) -> Result<Self, String> {
        let mut read = Reading::default();
        let request = read.all(json, "aggs", 1)?;
        let request =
            serde_json::from_value(request).map_err(|error| format!("cannot be read: {error}."))?;
        Ok(Self {
            request,
            left_out: read.left_out,
            timestamps: read.timestamps,
            sketches: read.sketches,
        })
    }
}

/// Checks aggregations, and puts the names of columns for those of fields.
#[derive(Debug, Default)]
struct Reading {
    count: usize,
    left_out: Vec<String>,
    timestamps: bool,
    sketches: usize,
}

impl Reading {
    fn all(&mut self, json: &Value, place: &str, depth: usize) -> Result<Value, String> {
        let Value::Object(named) = json else {
            return Err(format!(
                "{place} must be an object: {{NAME: {{\"terms\": {{\"field\": \"category\"}}}}}}."
            ));
        };
        if depth > AGGS_NESTING.value {
            return Err(format!("may be nested {} deep.", AGGS_NESTING.value));
        }
        let mut all = Map::new();
        for (name, json) in named {
            if depth > 1 && TAKEN.contains(&name.as_str()) {
                return Err(format!(
                    "{place}.{name}: a bucket has a {name} of its own; take another name."
                ));
            }
            all.insert(
                name.clone(),
                self.one(json, &format!("{place}.{name}"), depth)?,
            );
        }
        Ok(Value::Object(all))
    }

    fn one(&mut self, json: &Value, place: &str, depth: usize) -> Result<Value, String> {
        self.count += 1;
        if self.count > AGGS_MAX.value {
            return Err(format!("may be {} in all.", AGGS_MAX.value));
        }
        let members = json
            .as_object()
            .ok_or_else(|| format!("{place} must be an object."))?;
        let names = || KINDS.map(|(name, _)| name).join(", ");
        let (mut one, mut kind) = (Map::new(), None);
        for (member, value) in members {
            if matches!(member.as_str(), "aggs" | "aggregations") {
                let below = self.all(value, &format!("{place}.{member}"), depth + 1)?;
                one.insert("aggs".to_owned(), below);
                continue;
            }
            let Some((name, known)) = KINDS.iter().find(|(name, _)| name == member) else {
                return Err(format!(
                    "{place}.{member} is not available; there are {}.",
                    names()
                ));
            };
            if let Some(other) = kind.replace(member) {
                return Err(format!("{place} has both {other} and {member}; give one."));
            }
            if depth > 1 && *name == "composite" {
                return Err(format!("{place}: a composite stands at the top alone."));
            }
            if depth > 1 && SKETCHES.contains(name) {
                self.sketches += 1;
            }
            let place = format!("{place}.{member}");
            let body = self.kind(name, known, value, &place)?;
            if let Some(order) = body.get("order") {
                ordered(order, members, &place)?;
            }
            one.insert(member.clone(), Value::Object(body));
        }
        if kind.is_none() {
            return Err(format!("{place} must have one of {}.", names()));
        }
        Ok(Value::Object(one))
    }

    /// Checks one kind of aggregation, and names its columns.
    fn kind(
        &mut self,
        name: &str,
        known: &[&str],
        json: &Value,
        place: &str,
    ) -> Result<Map<String, Value>, String> {
        let members = json
            .as_object()
            .ok_or_else(|| format!("{place} must be an object."))?;
        if let Some(other) = members
            .keys()
            .find(|member| !known.contains(&member.as_str()))
        {
            return Err(format!(
                "{place}.{other} is not known; there are {}.",
                known.join(", ")
            ));
        }
        let fewest = members.get("min_doc_count").and_then(Value::as_u64);
        match name {
            // Values that no match has may be those of other applications, or erased.
            "terms" | "multi_terms" if fewest == Some(0) => {
                return Err(format!("{place}.min_doc_count must be at least 1."));
            }
            "date_histogram" if members.get("field") != Some(&Value::from("timestamp")) => {
                return Err(format!(
                    "{place}.field must be timestamp; numbers have a histogram."
                ));
            }
            "histogram" | "date_histogram" => bounded(name, members, place)?,
            _ => {}
        }
        let mut body = self.body(members, name, place)?;
        if name == "histogram" && !members.contains_key("hard_bounds") {
            // Values may be as far apart as numbers can be: no empty buckets between them.
            body.entry("min_doc_count").or_insert(Value::from(1));
        }
        Ok(body)
    }

    /// Replaces every `field`, wherever a kind of aggregation has one.
    fn body(
        &mut self,
        members: &Map<String, Value>,
        kind: &str,
        place: &str,
    ) -> Result<Map<String, Value>, String> {
        let mut body = Map::new();
        for (member, value) in members {
            let value = match (member.as_str(), value) {
                ("field", Value::String(field))
                    if ASK_COLUMNS_ONLY.contains(&kind) && OF_OURS.contains(&field.as_str()) =>
                {
                    return Err(format!("{place}: {field} is not available in a {kind}."));
                }
                ("field", Value::String(field)) => Value::String(self.column(field, place)?),
                _ if !is_sound(member, value) => {
                    return Err(format!("{place}.{member} must be {}.", wanted(member)));
                }
                _ => self.value(value, kind, place)?,
            };
            body.insert(member.clone(), value);
        }
        Ok(body)
    }

    fn value(&mut self, json: &Value, kind: &str, place: &str) -> Result<Value, String> {
        Ok(match json {
            Value::Object(members) => Value::Object(self.body(members, kind, place)?),
            Value::Array(values) => {
                let values = values.iter().map(|value| self.value(value, kind, place));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        })
    }

    fn column(&mut self, name: &str, place: &str) -> Result<String, String> {
        Ok(match name {
            "category" | "name" | "offset" | "application" | "session_id" => name.to_owned(),
            "timestamp" => {
                self.timestamps = true;
                name.to_owned()
            }
            "id" | "received_at" => {
                return Err(format!("{place}: {name} cannot be aggregated."));
            }
            path => {
                let path = path.strip_prefix("data.").unwrap_or(path);
                if path.is_empty() {
                    return Err(format!("{place}: the field has no name."));
                }
                let segments = path.split('.').map(str::to_owned).collect();
                let path = DataPath { segments };
                self.left_out.push(column_of(Some(LEFT_OUT_ROOT), &path).0);
                column_of(None, &path).0
            }
        })
    }
}

/// Says what is wrong with an order: buckets go by their count, their key, or a figure in them.
fn ordered(order: &Value, members: &Map<String, Value>, place: &str) -> Result<(), String> {
    let below = |name: &str| {
        let all = members
            .get("aggs")
            .or_else(|| members.get("aggregations"))?;
        all.get(name)?.as_object()
    };
    let is_figure = |by: &str| {
        let name = by.split('.').next().unwrap_or(by);
        below(name).is_some_and(|agg| FIGURES.iter().any(|kind| agg.contains_key(*kind)))
    };
    let by = order.as_object().filter(|order| order.len() == 1);
    match by.and_then(|by| by.keys().next()) {
        Some(by) if matches!(by.as_str(), "_count" | "_key") || is_figure(by) => Ok(()),
        _ => Err(format!(
            "{place}.order must be {{\"_count\": \"desc\"}}, with _key or an aggregation of one figure in aggs in its place."
        )),
    }
}

/// Says whether tantivy can be trusted with a member, wherever it stands: it reckons with what it is given, and stops where
/// that does not come out.
fn is_sound(member: &str, value: &Value) -> bool {
    let duration = |text: &str| {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number = digits.trim_start_matches('0');
        !number.is_empty()
            && number.len() <= DURATION_DIGITS
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && ["ms", "s", "m", "h", "d"].contains(&&text[digits.len()..])
    };
    match member {
        "size" | "shard_size" => value
            .as_u64()
            .is_some_and(|size| (1..=AGGS_BUCKETS.value as u64).contains(&size)),
        "interval" => value.as_f64().is_some_and(|interval| interval > 0.0),
        "fixed_interval" => value.as_str().is_some_and(duration),
        "offset" => match value {
            Value::String(text) => duration(text.trim_start_matches(['+', '-'])),
            value => value.is_number(),
        },
        "percents" => value.as_array().is_some_and(|percents| {
            let inside = |percent: f64| (0.0..=100.0).contains(&percent);
            percents
                .iter()
                .all(|percent| percent.as_f64().is_some_and(inside))
        }),
        "ranges" => value.as_array().is_some_and(|ranges| !ranges.is_empty()),
        _ => true,
    }
}

/// Says in words what [`is_sound`] asks for.
fn wanted(member: &str) -> String {
    match member {
        "size" | "shard_size" => format!("a number from 1 to {}", AGGS_BUCKETS.value),
        "interval" => "a number above 0".to_owned(),
        "fixed_interval" => "a duration of ms, s, m, h or d: \"1h\"".to_owned(),
        "offset" => "a number, or a duration of ms, s, m, h or d: \"-1h\"".to_owned(),
        "percents" => "a list of numbers from 0 to 100".to_owned(),
        _ => "a list with something in it".to_owned(),
    }
}

/// Says what is wrong with a histogram that could have more empty buckets between its bounds than there may be buckets.
fn bounded(kind: &str, members: &Map<String, Value>, place: &str) -> Result<(), String> {
    let bounds = |name: &str| -> Result<Option<(f64, f64)>, String> {
        let Some(bounds) = members.get(name) else {
            return Ok(None);
        };
        let end = |end: &str| bounds.get(end).and_then(Value::as_f64);
        end("min")
            .zip(end("max"))
            .filter(|(min, max)| min <= max)
            .map(Some)
            .ok_or_else(|| format!("{place}.{name} must be {{\"min\": NUMBER, \"max\": NUMBER}}."))
    };
    let (hard, extended) = (bounds("hard_bounds")?, bounds("extended_bounds")?);
    if kind == "date_histogram" {
        // The shortest interval is a millisecond, and memory is reckoned for every bucket before it is made.
        let dates = DATES.start as f64 / 1000.0..=DATES.end as f64 / 1000.0;
        let outside = [hard, extended]
            .into_iter()
            .flatten()
            .any(|(min, max)| !dates.contains(&min) || !dates.contains(&max));
        return if outside {
            Err(format!(
                "{place}: bounds are milliseconds from 1678 to 2261."
            ))
        } else {
            Ok(())
        };
    }
    let interval = members.get("interval").and_then(Value::as_f64);
    let Some(interval) = interval.filter(|interval| *interval > 0.0) else {
        return Err(format!("{place}.interval must be {}.", wanted("interval")));
    };
    match hard {
        Some((min, max)) if (max - min) / interval > AGGS_BUCKETS.value as f64 => Err(format!(
            "{place}.hard_bounds hold more than {} intervals.",
            AGGS_BUCKETS.value
        )),
        Some(_) => Ok(()),
        None if extended.is_some() || members.get("min_doc_count") == Some(&Value::from(0)) => {
            Err(format!(
                "{place}: empty buckets are there only within hard_bounds; give them, or leave min_doc_count and extended_bounds out."
            ))
        }
        None => Ok(()),
    }
}

/// Aggregates every match.
pub(crate) fn aggregate(matching: &Matching<'_>, aggs: &Aggs) -> Result<Aggregated, SearchError> {
    let memory = QUERY_MEMORY.value / (1 + SKETCH_WEIGHT * aggs.sketches);
    let limits = AggregationLimitsGuard::new(
        Some(memory as u64),
        Some(u32::try_from(AGGS_BUCKETS.value).unwrap_or(u32::MAX)),
    );
    let mut sources = ValueSourceRegistry::default();
    sources.register("timestamp", Arc::new(Timestamps));
    sources.register("session_id", Arc::new(Sessions));
    sources.register(
        "application",
        Arc::new(Names(matching.check.registry.clone())),
    );
    let context = AggContextParams::new(
        limits.clone(),
        tantivy::tokenizer::TokenizerManager::default(),
    )
    .with_value_sources(Arc::new(sources));
    let parts = matching.by_part(|part, docs| {
        if aggs.timestamps {
            let (earliest, latest) = part.times();
            if !DATES.contains(&earliest) || !DATES.contains(&latest) {
                return Err(SearchError::BadAggs(
                    "timestamp can be aggregated from 1678 to 2261; narrow the question with `from` and `to`.".to_owned(),
                ));
            }
        }
        let fast = part.reader.fast_fields();
        let partial = part.partial();
        let partial = partial.filter(|column| !aggs.left_out.is_empty() && column.max_value() > 0);
        let mut left_out = Vec::new();
        for name in &aggs.left_out {
            for handle in fast.dynamic_column_handles(name)? {
                if let DynamicColumn::Bool(column) = handle.open()? {
                    left_out.push(column);
                }
            }
        }
        let not_seen = |doc: &&DocId| {
            partial.is_some_and(|partial| partial.first(**doc) == Some(1))
                || left_out.iter().any(|column| column.first(**doc).is_some())
        };
        let mut unseen = 0u64;
        let mut collector =
            AggregationSegmentCollector::from_agg_req_and_reader(&aggs.request, &part.reader, 0, &context)
                .map_err(refused)?;
        let mut take = |docs: &[DocId]| -> Result<(), SearchError> {
            if matching.check.is_late() {
                return Err(SearchError::Timeout);
            }
            if partial.is_some() || !left_out.is_empty() {
                unseen += docs.iter().filter(not_seen).count() as u64;
            }
            collector.collect_block(docs);
            Ok(())
        };
        docs.together(&mut take)?;
        Ok((collector.harvest().map_err(refused)?, unseen))
    })?;
    let mut all = IntermediateAggregationResults::default();
    let mut unseen = 0;
    for (part, not_seen) in parts {
        matching.check.verdict()?;
        all.merge_fruits(part).map_err(refused)?;
        unseen += not_seen;
    }
    let results = all
        .into_final_result(aggs.request.clone(), limits)
        .map_err(refused)?;
    let aggs =
        serde_json::to_value(results).map_err(|error| SearchError::BadAggs(format!("{error}.")))?;
    Ok(Aggregated { aggs, unseen })
}

/// Says what tantivy would not do.
fn refused(error: TantivyError) -> SearchError {
    let bound = |bound| SearchError::Bound {
        bound,
        clause: "aggs".to_owned(),
    };
    match error {
        TantivyError::AggregationError(AggregationError::MemoryExceeded { .. }) => {
            bound(&QUERY_MEMORY)
        }
        TantivyError::AggregationError(AggregationError::BucketLimitExceeded { .. }) => {
            bound(&AGGS_BUCKETS)
        }
        TantivyError::AggregationError(AggregationError::InvalidRequest(what)) => {
            SearchError::BadAggs(format!("{what}."))
        }
        TantivyError::AggregationError(AggregationError::DateHistogramParseError(error)) => {
            SearchError::BadAggs(format!("{error}."))
        }
        TantivyError::InvalidArgument(what) => SearchError::BadAggs(format!("{what}.")),
        error => error.into(),
    }
}

/// Timestamps as tantivy's dates: nanoseconds.
struct Timestamps;

impl ValueSourceProvider for Timestamps {
    fn for_segment(
        &self,
        reader: &SegmentReader,
        allowed: Option<&[ColumnType]>,
    ) -> tantivy::Result<Option<Box<dyn ValueSource>>> {
        if allowed.is_some_and(|allowed| !allowed.contains(&ColumnType::DateTime)) {
            return Ok(None);
        }
        let column = reader.fast_fields().i64("timestamp")?;
        Ok(Some(Box::new(Dates(column))))
    }
}

#[derive(Debug)]
struct Dates(Column<i64>);

impl ValueSource for Dates {
    fn column_type(&self) -> ColumnType {
        ColumnType::DateTime
    }

    fn load_block(
        &mut self,
        docs: &[DocId],
        values: &mut Vec<u64>,
        _: &mut Vec<DocId>,
        _: &mut Vec<RowId>,
    ) -> Cardinality {
        values.clear();
        values.extend(docs.iter().map(|doc| {
            let micros = self.0.first(*doc).unwrap_or_default();
            micros.saturating_mul(1000).to_u64()
        }));
        Cardinality::Full
    }

    fn to_f64(self: Box<Self>) -> Box<dyn ValueSource> {
        self
    }
}

/// Session ids, written as people write them.
struct Sessions;

impl ValueSourceProvider for Sessions {
    fn for_segment(
        &self,
        reader: &SegmentReader,
        allowed: Option<&[ColumnType]>,
    ) -> tantivy::Result<Option<Box<dyn ValueSource>>> {
        if allowed.is_some_and(|allowed| !allowed.contains(&ColumnType::Str)) {
            return Ok(None);
        }
        let column = reader.fast_fields().bytes("session")?;
        Ok(column.map(|column| {
            Box::new(Texts {
                numbers: column.ords().clone(),
                dictionary: SessionIds(column),
            }) as Box<dyn ValueSource>
        }))
    }
}

/// Texts that stand for the numbers of a column.
#[derive(Debug)]
struct Texts<D> {
    numbers: Column<u64>,
    dictionary: D,
}

impl<D: ValueSourceDictionary + std::fmt::Debug + 'static> ValueSource for Texts<D> {
    fn column_type(&self) -> ColumnType {
        ColumnType::Str
    }

    fn load_block(
        &mut self,
        docs: &[DocId],
        values: &mut Vec<u64>,
        docids: &mut Vec<DocId>,
        row_ids: &mut Vec<RowId>,
    ) -> Cardinality {
        (&self.numbers, ColumnType::Str).load_block(docs, values, docids, row_ids)
    }

    fn to_f64(self: Box<Self>) -> Box<dyn ValueSource> {
        self
    }

    fn term_dictionary(&self) -> Option<&dyn ValueSourceDictionary> {
        Some(&self.dictionary)
    }
}

#[derive(Debug)]
struct SessionIds(BytesColumn);

impl ValueSourceDictionary for SessionIds {
    fn num_terms(&self) -> u64 {
        self.0.num_terms() as u64
    }

    fn sorted_ords_to_term_cb(
        &self,
        sorted_ords: &[u64],
        callback: &mut dyn FnMut(&[u8]),
    ) -> std::io::Result<bool> {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let mut write = |bytes: &[u8]| {
            let session = Uuid::from_slice(bytes).unwrap_or_default();
            callback(session.hyphenated().encode_lower(&mut text).as_bytes());
        };
        self.0
            .dictionary()
            .sorted_ords_to_term_cb(sorted_ords, &mut write)
    }
}

/// Applications, by their names.
struct Names(Arc<Registry>);

impl ValueSourceProvider for Names {
    fn for_segment(
        &self,
        reader: &SegmentReader,
        allowed: Option<&[ColumnType]>,
    ) -> tantivy::Result<Option<Box<dyn ValueSource>>> {
        if allowed.is_some_and(|allowed| !allowed.contains(&ColumnType::Str)) {
            return Ok(None);
        }
        let numbers = reader.fast_fields().u64("application")?;
        let mut names: Vec<String> = Vec::new();
        for application in self.0.applications() {
            let place = application.id.0 as usize;
            if names.len() <= place {
                names.resize(place + 1, String::new());
            }
            names[place].clone_from(&application.name);
        }
        Ok(Some(Box::new(Texts {
            numbers,
            dictionary: NamesByNumber(names),
        })))
    }
}

#[derive(Debug)]
struct NamesByNumber(Vec<String>);

impl ValueSourceDictionary for NamesByNumber {
    fn num_terms(&self) -> u64 {
        self.0.len() as u64
    }

    fn sorted_ords_to_term_cb(
        &self,
        sorted_ords: &[u64],
        callback: &mut dyn FnMut(&[u8]),
    ) -> std::io::Result<bool> {
        for ord in sorted_ords {
            let name = usize::try_from(*ord).ok().and_then(|ord| self.0.get(ord));
            let Some(name) = name else {
                return Ok(false);
            };
            callback(name.as_bytes());
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_asked_for_is_named_with_its_place() {
        for (aggs, told) in [
            (json!([]), "aggs must be an object"),
            (json!({"a": 1}), "aggs.a must be an object"),
            (json!({"a": {}}), "aggs.a must have one of avg"),
            (
                json!({"a": {"top_hits": {}}}),
                "aggs.a.top_hits is not available",
            ),
            (
                json!({"a": {"avg": {"field": "n"}, "sum": {"field": "n"}}}),
                "aggs.a has both avg and sum",
            ),
            (
                json!({"a": {"terms": {"field": "name"}, "aggs": {"b": {"filter": "x"}}}}),
                "aggs.a.aggs.b.filter is not available",
            ),
            (
                json!({"a": {"avg": {"field": "id"}}}),
                "aggs.a.avg: id cannot",
            ),
            (json!({"a": {"avg": {"field": "data."}}}), "has no name"),
            (json!({"a": {"avg": {}}}), "missing field"),
            (json!({"a": {"avg": 5}}), "aggs.a.avg must be an object"),
            (
                json!({"a": {"terms": {"field": "n"}, "aggs": {"b": {"composite": {"sources": []}}}}}),
                "aggs.a.aggs.b: a composite stands at the top alone",
            ),
            (
                json!({"a": {"terms": {"field": "n", "order": {"b": "asc"}}, "aggs": {"b": {"terms": {"field": "n"}}}}}),
                "aggs.a.terms.order must be",
            ),
            (
                json!({"a": {"composite": {"sources": [{"s": {"histogram": {"field": "n", "interval": -1}}}]}}}),
                "composite.interval must be a number above 0",
            ),
            (
                json!({"a": {"terms": {"field": "n", "size": u32::MAX}}}),
                "from 1 to 65000",
            ),
            (
                json!({"a": {"percentiles": {"field": "n", "percents": [50, 101]}}}),
                "from 0 to 100",
            ),
            (
                json!({"a": {"range": {"field": "n", "ranges": []}}}),
                "something in it",
            ),
            (
                json!({"a": {"date_histogram": {"field": "timestamp", "fixed_interval": "9999999d"}}}),
                "a duration",
            ),
            (
                json!({"a": {"date_histogram": {"field": "timestamp", "fixed_interval": "0d"}}}),
                "a duration",
            ),
            (
                json!({"a": {"date_histogram": {"field": "timestamp", "fixed_interval": "1d", "offset": "1y"}}}),
                "a duration",
            ),
            (
                json!({"a": {"terms": {"field": "name", "siez": 5}}}),
                "aggs.a.terms.siez is not known; there are field, size",
            ),
            (
                json!({"a": {"terms": {"field": "name", "min_doc_count": 0}}}),
                "min_doc_count must be at least 1",
            ),
            (
                json!({"a": {"multi_terms": {"terms": [{"field": "application"}, {"field": "name"}]}}}),
                "application is not available in a multi_terms",
            ),
            (
                json!({"a": {"date_histogram": {"field": "n", "fixed_interval": "1d"}}}),
                "must be timestamp",
            ),
            (
                json!({"a": {"date_histogram": {"field": "timestamp", "fixed_interval": "1d", "hard_bounds": {"min": 0, "max": 1e30}}}}),
                "from 1678 to 2261",
            ),
            (
                json!({"a": {"histogram": {"field": "n", "interval": 0}}}),
                "above 0",
            ),
            (
                json!({"a": {"histogram": {"field": "n", "interval": 1, "min_doc_count": 0}}}),
                "only within hard_bounds",
            ),
            (
                json!({"a": {"histogram": {"field": "n", "interval": 1, "extended_bounds": {"min": 0, "max": 1e18}}}}),
                "only within hard_bounds",
            ),
            (
                json!({"a": {"histogram": {"field": "n", "interval": 1, "hard_bounds": {"min": 0, "max": 1e18}}}}),
                "more than 65000 intervals",
            ),
            (
                json!({"a": {"terms": {"field": "name"}, "aggs": {"key": {"avg": {"field": "n"}}}}}),
                "aggs.a.aggs.key: a bucket has a key",
            ),
        ] {
            let error = Aggs::read(&aggs).expect_err("it is wrong");
            assert!(error.contains(told), "{aggs}: {error}");
        }
        let mut deep = json!({"a": {"terms": {"field": "name"}}});
        for _ in 0..AGGS_NESTING.value {
            deep = json!({"a": {"terms": {"field": "name"}, "aggs": deep}});
        }
        assert!(
            Aggs::read(&deep)
                .expect_err("it is deep")
                .contains("nested")
        );
        let many: Map<String, Value> = (0..=AGGS_MAX.value)
            .map(|number| (number.to_string(), json!({"avg": {"field": "n"}})))
            .collect();
        assert!(Aggs::read(&json!(many)).is_err());
    }

    #[test]
    fn a_name_may_be_that_of_a_member() {
        let read = Aggs::read(&json!({"field": {"terms": {"field": "path"}}}));
        assert!(read.is_ok_and(|read| read.left_out.len() == 1 && !read.timestamps));
    }
}
