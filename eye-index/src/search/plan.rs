//! From a question to tantivy's queries.
//!
//! What must stay true: what the query finds is exactly what the question asks. Where a field of the index finds too
//! much, the columns or the log have the last word.

use std::sync::Arc;

use tantivy::query::{
    AllQuery, BooleanQuery, EmptyQuery, EnableScoring, FuzzyTermQuery, Occur, PhraseQuery, Query, RegexQuery, Scorer,
    TermQuery,
};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, SegmentReader, Term};
use uuid::Uuid;

use super::columns::FieldDocs;
use super::docsets::{Checked, DocsQuery, MakeDocs, RangeDocs};
use super::log_check::LogCheck;
use super::matches::{clause_holds, label_holds, whole_regex};
use super::query::{Clause, Field, Kind, Part, Pattern, PatternOn, Scalar, Test, Value, WordTest};
use super::schema::Fields;
use crate::error::SearchError;
use crate::page::SearchRequest;

/// Returns the query that finds exactly what is asked.
pub(crate) fn plan(request: &SearchRequest, fields: &Fields, check: &LogCheck) -> Result<Box<dyn Query>, SearchError> {
    let planner = Planner { fields, check };
    let mut all = vec![planner.clause(&request.query)?];
    if let Some(application) = request.application {
        let term = Term::from_field_u64(fields.application, u64::from(application.0));
        all.push(Box::new(TermQuery::new(term, IndexRecordOption::Basic)));
    }
    if let Some(session) = request.session {
        all.push(planner.session(session));
    }
    for (field, label) in [(Field::Category, &request.category), (Field::Name, &request.name)] {
        if let Some(label) = label {
            all.push(planner.field(&field, &Test::Exactly(Scalar::Text(label.clone())))?);
        }
    }
    if request.from.is_some() || request.to.is_some() {
        all.push(Box::new(DocsQuery(TimeDocs { start: request.from, end: request.to })));
    }
    all.push(Box::new(DocsQuery(OffsetDocs { start: 0, end: request.as_of })));
    Ok(every(all))
}

struct Planner<'p> {
    fields: &'p Fields,
    check: &'p LogCheck,
}

impl Planner<'_> {
    fn clause(&self, clause: &Clause) -> Result<Box<dyn Query>, SearchError> {
        Ok(match &clause.kind {
            Kind::All => Box::new(AllQuery),
            Kind::And(clauses) => {
                let mut parts = Vec::new();
                for clause in clauses {
                    parts.push(match &clause.kind {
                        Kind::Not(inner) => (Occur::MustNot, self.clause(inner)?),
                        _ => (Occur::Must, self.clause(clause)?),
                    });
                }
                if parts.iter().all(|(occur, _)| *occur == Occur::MustNot) {
                    parts.push((Occur::Must, Box::new(AllQuery)));
                }
                Box::new(BooleanQuery::new(parts))
            }
            Kind::Or(clauses) => {
                let parts: Result<Vec<_>, _> = clauses.iter().map(|clause| self.clause(clause)).collect();
                Box::new(BooleanQuery::union(parts?))
            }
            Kind::Not(inner) => Box::new(BooleanQuery::new(vec![
                (Occur::Must, Box::new(AllQuery)),
                (Occur::MustNot, self.clause(inner)?),
            ])),
            Kind::Word(WordTest::Is(word)) => self.phrase(std::slice::from_ref(word)),
            Kind::Word(WordTest::Pattern(pattern)) => match pattern.on {
                PatternOn::Word => self.word_pattern(pattern)?,
                PatternOn::Whole => self.checked(clause, None),
            },
            Kind::Word(WordTest::Fuzzy(fuzzy)) => {
                let term = Term::from_field_text(self.fields.words, &fuzzy.word);
                Box::new(FuzzyTermQuery::new(term, fuzzy.distance, true))
            }
            Kind::Phrase { words, slop: 0 } => self.phrase(words),
            Kind::Phrase { words, .. } => {
                let words = words.iter().map(|word| self.phrase(std::slice::from_ref(word))).collect();
                self.checked(clause, Some(every(words)))
            }
            Kind::Field { field, test } => {
                if let Test::Regex(expression) = test {
                    whole_regex(expression).map_err(|error| SearchError::BadRegex {
                        clause: clause.to_string(),
                        span: clause.span,
                        message: error.to_string(),
                    })?;
                }
                match (field, test) {
                    (Field::SessionId | Field::Id, Test::Pattern(_)) => self.checked(clause, None),
                    (Field::Id, Test::Id(id)) => self.checked(clause, Some(self.id(*id))),
                    _ => self.field(field, test)?,
                }
            }
        })
    }

    fn field(&self, field: &Field, test: &Test) -> Result<Box<dyn Query>, SearchError> {
        Ok(match (field, test) {
            (Field::SessionId, Test::Id(session)) => self.session(*session),
            (Field::Offset, Test::Offset(range)) => Box::new(DocsQuery(OffsetDocs {
                start: range.start.unwrap_or(0),
                end: range.end.unwrap_or(u64::MAX),
            })),
            (Field::Timestamp, Test::Time(range)) => {
                Box::new(DocsQuery(TimeDocs { start: range.start, end: range.end }))
            }
            (Field::ReceivedAt, Test::Time(range)) => {
                // Arrivals never go backwards, so a range of them is a range of offsets.
                let mut lookup = self.check.reader().lookup();
                let start = range.start.map_or(Ok(0), |start| lookup.first_arrived_at(start))?;
                let end = range.end.map_or(Ok(u64::MAX), |end| lookup.first_arrived_at(end))?;
                Box::new(DocsQuery(OffsetDocs { start, end }))
            }
            (Field::Application, test) => {
                let matching = self.check.registry.applications().filter(|application| label_holds(test, &application.name));
                let terms = matching.map(|application| {
                    let term = Term::from_field_u64(self.fields.application, u64::from(application.id.0));
                    Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as Box<dyn Query>
                });
                Box::new(BooleanQuery::union(terms.collect()))
            }
            (Field::SessionId | Field::Id | Field::Offset | Field::Timestamp | Field::ReceivedAt, Test::Exists) => {
                Box::new(AllQuery)
            }
            (Field::Category | Field::Name | Field::Data(_), test) => {
                let candidates = self.candidates(test, !matches!(field, Field::Data(_)));
                let docs = FieldDocs::new(field.clone(), test.clone(), candidates, self.check.clone());
                Box::new(DocsQuery(docs))
            }
            _ => Box::new(EmptyQuery),
        })
    }

    /// Returns a query that finds at least the events of which a string passes `test`, if words can tell. `label` says
    /// that the field is always a string.
    fn candidates(&self, test: &Test, label: bool) -> Option<Box<dyn Query>> {
        let of_text = |text: &str| {
            let words = super::words::words(text);
            (!words.is_empty()).then(|| self.phrase(&words))
        };
        let of_value = |value: &Value| {
            if label || value.literal().is_none() { of_text(&value.text) } else { None }
        };
        match test {
            Test::Is(value) => of_value(value),
            Test::In(values) => {
                let each: Option<Vec<_>> = values.iter().map(of_value).collect();
                Some(Box::new(BooleanQuery::union(each?)))
            }
            Test::Exactly(Scalar::Text(text)) => of_text(text),
            Test::Near { words, .. } => {
                Some(every(words.iter().map(|word| self.phrase(std::slice::from_ref(word))).collect()))
            }
            Test::Fuzzy(fuzzy) => {
                let term = Term::from_field_text(self.fields.words, &fuzzy.word);
                Some(Box::new(FuzzyTermQuery::new(term, fuzzy.distance, true)))
            }
            Test::Pattern(pattern) if pattern.on == PatternOn::Word => self.word_pattern(pattern).ok(),
            _ => None,
        }
    }

    fn phrase(&self, words: &[String]) -> Box<dyn Query> {
        let term = |word: &String| Term::from_field_text(self.fields.words, word);
        match words {
            [] => Box::new(EmptyQuery),
            [word] => Box::new(TermQuery::new(term(word), IndexRecordOption::Basic)),
            words => Box::new(PhraseQuery::new(words.iter().map(term).collect())),
        }
    }

    fn word_pattern(&self, pattern: &Pattern) -> Result<Box<dyn Query>, SearchError> {
        let expression: String = pattern
            .parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => regex::escape(text),
                Part::Many => ".*".to_owned(),
                Part::One => ".".to_owned(),
            })
            .collect();
        Ok(Box::new(RegexQuery::from_pattern(&expression, self.fields.words)?))
    }

    fn session(&self, session: Uuid) -> Box<dyn Query> {
        let term = Term::from_field_bytes(self.fields.session, session.as_bytes());
        Box::new(TermQuery::new(term, IndexRecordOption::Basic))
    }

    /// Finds at least the events of an id: clients' ids are terms, the server's hold their offset.
    fn id(&self, id: Uuid) -> Box<dyn Query> {
        let term = Term::from_field_bytes(self.fields.id, id.as_bytes());
        let mut either: Vec<Box<dyn Query>> = vec![Box::new(TermQuery::new(term, IndexRecordOption::Basic))];
        if let Some(offset) = eye_log::offset_of_server_made_id(id) {
            either.push(Box::new(DocsQuery(OffsetDocs { start: offset, end: offset.saturating_add(1) })));
        }
        Box::new(BooleanQuery::union(either))
    }

    fn checked(&self, clause: &Clause, candidates: Option<Box<dyn Query>>) -> Box<dyn Query> {
        let clause = Arc::new(clause.clone());
        Box::new(DocsQuery(CheckedDocs { clause, candidates: candidates.map(Arc::from), check: self.check.clone() }))
    }
}

/// All of them together.
fn every(mut queries: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    if queries.len() == 1 { queries.remove(0) } else { Box::new(BooleanQuery::intersection(queries)) }
}

/// The documents of a range of offsets.
#[derive(Debug, Clone, Copy)]
struct OffsetDocs {
    start: u64,
    end: u64,
}

impl MakeDocs for OffsetDocs {
    fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        let offsets = reader.fast_fields().column_first_or_default::<u64>("offset")?;
        let first_from = |offset: u64| {
            let (mut low, mut high) = (0, reader.max_doc());
            while low < high {
                let middle = low + (high - low) / 2;
                if offsets.get_val(middle) < offset {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        Ok(Box::new(RangeDocs::new(first_from(self.start)..first_from(self.end))))
    }
}

/// The documents of a range of timestamps.
#[derive(Debug, Clone, Copy)]
struct TimeDocs {
    start: Option<i64>,
    end: Option<i64>,
}

impl MakeDocs for TimeDocs {
    fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        let times = reader.fast_fields().column_first_or_default::<i64>("timestamp")?;
        let (start, end) = (self.start.unwrap_or(i64::MIN), self.end);
        let inside = move |time: i64| time >= start && end.is_none_or(|end| time < end);
        let all = RangeDocs::new(0..reader.max_doc());
        let (earliest, latest) = (times.min_value(), times.max_value());
        if inside(earliest) && inside(latest) {
            return Ok(Box::new(all));
        }
        if latest < start || end.is_some_and(|end| earliest >= end) {
            return Ok(Box::new(RangeDocs::new(0..0)));
        }
        Ok(Box::new(Checked::new(all, move |doc: DocId| inside(times.get_val(doc)))))
    }
}

/// The documents that pass a clause by the log's word.
#[derive(Clone)]
struct CheckedDocs {
    clause: Arc<Clause>,
    candidates: Option<Arc<dyn Query>>,
    check: LogCheck,
}

impl std::fmt::Debug for CheckedDocs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckedDocs").field("clause", &self.clause).finish_non_exhaustive()
    }
}

impl MakeDocs for CheckedDocs {
    fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        let inner: Box<dyn Scorer> = match &self.candidates {
            Some(query) => query.weight(EnableScoring::disabled_from_schema(reader.schema()))?.scorer(reader, 1.0)?,
            None => Box::new(RangeDocs::new(0..reader.max_doc())),
        };
        let offsets = reader.fast_fields().column_first_or_default::<u64>("offset")?;
        let clause = self.clause.clone();
        let mut looker = self.check.looker();
        let passes =
            move |doc: DocId| looker.passes(offsets.get_val(doc), |subject| clause_holds(&clause, subject));
        Ok(Box::new(Checked::new(inner, passes)))
    }
}

