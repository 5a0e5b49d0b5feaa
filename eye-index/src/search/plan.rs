//! From a question to tantivy's queries and our filters.
//!
//! What must stay true: what is found is exactly what the question asks. Where a field of the index finds too much,
//! the columns or the log have the last word.

use std::sync::Arc;

use tantivy::query::{
    AllQuery, AllScorer, BooleanQuery, DfaWrapper, EmptyQuery, EmptyScorer, EnableScoring,
    FuzzyTermQuery, Occur, PhraseQuery, Query, Scorer, TermQuery,
};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, SegmentReader, Term};
use uuid::Uuid;

use super::columns::{FieldFilter, has_values_left_out};
use super::docsets::{DocsQuery, Filter, ListedDocs, MakeDocs, Narrowed, Price, RangeDocs, Sieve};
use super::expand::{Beyond, Expanded};
use super::log_check::LogCheck;
use super::matches::{clause_holds, label_holds, whole_regex};
use super::part::{self, Parts};
use super::query::{
    Clause, Field, Fuzzy, Kind, Part, Pattern, PatternOn, Scalar, Test, Value, WordTest,
};
use super::schema::Fields;
use crate::error::SearchError;
use crate::hidden::Hidden;
use crate::page::SearchRequest;

/// How a question is answered: the documents that all of `leads` find and all of `filters` let pass.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    leads: Vec<Box<dyn Query>>,
    pub(crate) filters: Vec<Arc<dyn Filter>>,
    /// What had arrived when the question was asked.
    arrived: Option<OffsetDocs>,
}

impl Plan {
    fn lead(query: impl Query) -> Self {
        Self::boxed(Box::new(query))
    }

    fn boxed(query: Box<dyn Query>) -> Self {
        Self {
            leads: vec![query],
            ..Self::default()
        }
    }

    fn filtered(leads: Option<Box<dyn Query>>, filter: impl Filter) -> Self {
        Self {
            leads: leads.into_iter().collect(),
            filters: vec![Arc::new(filter)],
            ..Self::default()
        }
    }

    fn and(&mut self, other: Self) {
        self.leads.extend(other.leads);
        self.filters.extend(other.filters);
    }

    /// Returns the query whose documents the filters are for.
    pub(crate) fn query(&self) -> Box<dyn Query> {
        let arrived = self.arrived.clone();
        let arrived = arrived.map(|docs| Box::new(DocsQuery(docs)) as Box<dyn Query>);
        let leads = self.leads.iter().map(|query| query.box_clone());
        let mut all: Vec<Box<dyn Query>> = leads.chain(arrived).collect();
        match all.len() {
            0 => Box::new(AllQuery),
            1 => all.remove(0),
            _ => Box::new(BooleanQuery::intersection(all)),
        }
    }

    /// Returns the terms whose common documents in a part the filters are for; `None` where the leads are anything but terms.
    pub(crate) fn terms(&self, part: &part::Part) -> Option<Vec<&Term>> {
        if !self
            .arrived
            .as_ref()
            .is_none_or(|docs| docs.are_all_of(part))
        {
            return None;
        }
        let leads = self.leads.iter();
        leads
            .map(|query| Some(query.downcast_ref::<TermQuery>()?.term()))
            .collect()
    }

    /// Returns one query for all of it, to stand within others.
    fn into_query(self) -> Box<dyn Query> {
        let query = self.query();
        if self.filters.is_empty() {
            return query;
        }
        Box::new(DocsQuery(Narrowed {
            query: Arc::from(query),
            filters: self.filters,
        }))
    }

    /// Returns one query for all of it, whose documents are to be left out. tantivy asks such a set for documents it may have
    /// passed already, which a set of phrases takes ill; ours does not.
    fn excluded(self) -> Box<dyn Query> {
        Box::new(DocsQuery(Narrowed {
            query: Arc::from(self.query()),
            filters: self.filters,
        }))
    }
}

/// Says how the question is answered.
pub(crate) fn plan(
    request: &SearchRequest,
    fields: &Fields,
    check: &LogCheck,
    hidden: &Hidden,
    parts: &Parts,
) -> Result<Plan, SearchError> {
    let planner = Planner {
        fields,
        check,
        parts,
    };
    let mut all = planner.clause(&request.query)?;
    if let Some(application) = request.application {
        let term = Term::from_field_u64(fields.application, u64::from(application.0));
        all.and(Plan::lead(TermQuery::new(term, IndexRecordOption::Basic)));
    }
    if let Some(session) = request.session {
        all.and(planner.session(session));
    }
    for (field, label) in [
        (Field::Category, &request.category),
        (Field::Name, &request.name),
    ] {
        if let Some(label) = label {
            all.and(planner.field(&field, &Test::Exactly(Scalar::Text(label.clone())))?);
        }
    }
    if request.from.is_some() || request.to.is_some() {
        all.and(planner.times(request.from, request.to));
    }
    if !hidden.is_empty() {
        let unhidden = Unhidden {
            hidden: hidden.clone(),
            parts: parts.clone(),
        };
        all.and(Plan::filtered(None, unhidden));
    }
    all.arrived = Some(planner.offset_docs(0, request.as_of));
    Ok(all)
}

/// A clause that passes its bound fails, and is named.
fn refuse(clause: &Clause) -> Beyond {
    Beyond::Refuse(clause.to_string().into())
}

struct Planner<'p> {
    fields: &'p Fields,
    check: &'p LogCheck,
    parts: &'p Parts,
}

impl Planner<'_> {
    fn clause(&self, clause: &Clause) -> Result<Plan, SearchError> {
        Ok(match &clause.kind {
            Kind::All => Plan::default(),
            Kind::And(clauses) => {
                let mut all = Plan::default();
                let mut excluded: Vec<(Occur, Box<dyn Query>)> = Vec::new();
                for clause in clauses {
                    match &clause.kind {
                        Kind::Not(inner) => {
                            excluded.push((Occur::MustNot, self.clause(inner)?.excluded()));
                        }
                        _ => all.and(self.clause(clause)?),
                    }
                }
                if !excluded.is_empty() {
                    excluded.push((
                        Occur::Must,
                        Plan {
                            leads: all.leads,
                            ..Plan::default()
                        }
                        .query(),
                    ));
                    all = Plan {
                        leads: vec![Box::new(BooleanQuery::new(excluded))],
                        filters: all.filters,
                        ..Plan::default()
                    };
                }
                all
            }
            Kind::Or(clauses) => {
                let mut parts = Vec::new();
                for clause in clauses {
                    parts.push(self.clause(clause)?.into_query());
                }
                Plan::lead(BooleanQuery::union(parts))
            }
            Kind::Not(inner) => Plan::lead(BooleanQuery::new(vec![
                (Occur::Must, Box::new(AllQuery)),
                (Occur::MustNot, self.clause(inner)?.excluded()),
            ])),
            Kind::Word(WordTest::Is(word)) => Plan::boxed(self.phrase(std::slice::from_ref(word))),
            Kind::Word(WordTest::Pattern(pattern)) => match pattern.on {
                // A pattern too branched for an automaton is tried on the events themselves.
                PatternOn::Word => match self.word_pattern(pattern, refuse(clause)) {
                    Some(query) => Plan::lead(query),
                    None => self.checked(clause, None),
                },
                PatternOn::Whole => self.checked(clause, None),
            },
            Kind::Word(WordTest::Fuzzy(fuzzy)) => Plan::lead(self.fuzzy(fuzzy, refuse(clause))?),
            Kind::Phrase { words, slop: 0 } => Plan::boxed(self.phrase(words)),
            Kind::Phrase { words, .. } => self.checked(clause, Some(self.each(words))),
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

    fn field(&self, field: &Field, test: &Test) -> Result<Plan, SearchError> {
        Ok(match (field, test) {
            (Field::SessionId, Test::Id(session)) => self.session(*session),
            (Field::Offset, Test::Offset(range)) => {
                self.offsets(range.start.unwrap_or(0), range.end.unwrap_or(u64::MAX))
            }
            (Field::Timestamp, Test::Time(range)) => self.times(range.start, range.end),
            (Field::ReceivedAt, Test::Time(range)) => {
                // Arrivals never go backwards, so a range of them is a range of offsets.
                let mut lookup = self.check.reader().lookup();
                let start = range
                    .start
                    .map_or(Ok(0), |start| lookup.first_arrived_at(start))?;
                let end = range
                    .end
                    .map_or(Ok(u64::MAX), |end| lookup.first_arrived_at(end))?;
                self.offsets(start, end)
            }
            (Field::Application, test) => {
                let all = self.check.registry.applications();
                let terms = all
                    .filter(|application| label_holds(test, &application.name))
                    .map(|application| {
                        let term = Term::from_field_u64(
                            self.fields.application,
                            u64::from(application.id.0),
                        );
                        Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as Box<dyn Query>
                    });
                Plan::lead(BooleanQuery::union(terms.collect()))
            }
            (
                Field::SessionId | Field::Id | Field::Offset | Field::Timestamp | Field::ReceivedAt,
                Test::Exists,
            ) => Plan::default(),
            (Field::Category | Field::Name | Field::Data(_), test) => {
                let candidates = self.candidates(field, test)?;
                Plan::filtered(
                    candidates,
                    FieldFilter::new(
                        field.clone(),
                        test.clone(),
                        self.check.clone(),
                        self.parts.clone(),
                    ),
                )
            }
            _ => Plan::lead(EmptyQuery),
        })
    }

    /// Returns a query that finds at least the events of which a string passes `test`, if words can tell.
    fn candidates(
        &self,
        field: &Field,
        test: &Test,
    ) -> Result<Option<Box<dyn Query>>, SearchError> {
        // A label is always a string.
        let label = !matches!(field, Field::Data(_));
        let of_text = |text: &str| -> Option<Box<dyn Query>> {
            let words = super::words::words(text);
            let candidates = Candidates {
                parts: self.parts.clone(),
                field: field.clone(),
                terms: words
                    .iter()
                    .map(|word| Term::from_field_text(self.fields.words, word))
                    .collect(),
            };
            (!words.is_empty()).then(|| Box::new(DocsQuery(candidates)) as _)
        };
        let of_value = |value: &Value| {
            if label || value.literal().is_none() {
                of_text(&value.text)
            } else {
                None
            }
        };
        Ok(match test {
            Test::Is(value) => of_value(value),
            Test::In(values) => {
                let each: Option<Vec<_>> = values.iter().map(of_value).collect();
                each.map(|each| Box::new(BooleanQuery::union(each)) as Box<dyn Query>)
            }
            Test::Exactly(Scalar::Text(text)) => of_text(text),
            Test::Near { words, .. } => Some(self.each(words)),
            Test::Fuzzy(fuzzy) => Some(Box::new(self.fuzzy(fuzzy, Beyond::Everything)?)),
            Test::Pattern(pattern) if pattern.on == PatternOn::Word => self
                .word_pattern(pattern, Beyond::Everything)
                .map(|query| Box::new(query) as Box<dyn Query>),
            _ => None,
        })
    }

    fn phrase(&self, words: &[String]) -> Box<dyn Query> {
        let term = |word: &String| Term::from_field_text(self.fields.words, word);
        match words {
            [] => Box::new(EmptyQuery),
            [word] => Box::new(TermQuery::new(term(word), IndexRecordOption::Basic)),
            words => Box::new(PhraseQuery::new(words.iter().map(term).collect())),
        }
    }

    /// Every one of the words, wherever they are.
    fn each(&self, words: &[String]) -> Box<dyn Query> {
        let each = words
            .iter()
            .map(|word| self.phrase(std::slice::from_ref(word)));
        Box::new(BooleanQuery::intersection(each.collect()))
    }

    fn fuzzy(
        &self,
        fuzzy: &Fuzzy,
        beyond: Beyond,
    ) -> Result<DocsQuery<Expanded<DfaWrapper>>, SearchError> {
        let term = Term::from_field_text(self.fields.words, &fuzzy.word);
        let automaton = FuzzyTermQuery::new(term, fuzzy.distance, true).automaton()?;
        Ok(self.expanded(automaton, beyond))
    }

    /// Returns nothing where the pattern is too branched for an automaton.
    fn word_pattern(
        &self,
        pattern: &Pattern,
        beyond: Beyond,
    ) -> Option<DocsQuery<Expanded<tantivy_fst::Regex>>> {
        let part = |part: &Part| match part {
            Part::Text(text) => regex::escape(text),
            Part::Many => ".*".to_owned(),
            Part::One => ".".to_owned(),
        };
        let expression: String = pattern.parts.iter().map(part).collect();
        let automaton = tantivy_fst::Regex::new(&expression).ok()?;
        Some(self.expanded(automaton, beyond))
    }

    fn expanded<A>(&self, automaton: A, beyond: Beyond) -> DocsQuery<Expanded<A>> {
        DocsQuery(Expanded::new(
            self.fields.words,
            automaton,
            beyond,
            self.check.clone(),
        ))
    }

    /// Finds at least the events of an id: clients' ids are terms, the server's hold their offset.
    fn id(&self, id: Uuid) -> Box<dyn Query> {
        let term = Term::from_field_bytes(self.fields.id, id.as_bytes());
        let mut either: Vec<Box<dyn Query>> =
            vec![Box::new(TermQuery::new(term, IndexRecordOption::Basic))];
        if let Some(offset) = eye_log::offset_of_server_made_id(id) {
            either.push(Box::new(DocsQuery(OffsetDocs {
                start: offset,
                end: offset.saturating_add(1),
                parts: self.parts.clone(),
            })));
        }
        Box::new(BooleanQuery::union(either))
    }

    /// Finds the events of a session.
    fn session(&self, session: Uuid) -> Plan {
        Plan::lead(DocsQuery(SessionDocs {
            session,
            parts: self.parts.clone(),
        }))
    }

    /// Finds the events of a range of timestamps.
    fn times(&self, start: Option<i64>, end: Option<i64>) -> Plan {
        let parts = self.parts.clone();
        Plan::filtered(None, TimeFilter { start, end, parts })
    }

    /// Finds the events of a range of offsets.
    fn offsets(&self, start: u64, end: u64) -> Plan {
        Plan::lead(DocsQuery(self.offset_docs(start, end)))
    }

    fn offset_docs(&self, start: u64, end: u64) -> OffsetDocs {
        OffsetDocs {
            start,
            end,
            parts: self.parts.clone(),
        }
    }

    fn checked(&self, clause: &Clause, candidates: Option<Box<dyn Query>>) -> Plan {
        Plan::filtered(
            candidates,
            ClauseFilter {
                clause: Arc::new(clause.clone()),
                check: self.check.clone(),
                parts: self.parts.clone(),
            },
        )
    }
}

/// Documents of which a string of a field may be these words in a row.
#[derive(Debug, Clone)]
struct Candidates {
    parts: Parts,
    field: Field,
    terms: Vec<Term>,
}

/// A word that every so-many-th document has is no help: looking at all of them by the column is as quick.
const HELPFUL_SHARE: u32 = 4;

impl MakeDocs for Candidates {
    fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        let rare = |term: &Term| {
            reader
                .inverted_index(term.field())?
                .doc_freq(term)
                .map_err(Into::into)
        };
        let counts: Vec<u32> = self
            .terms
            .iter()
            .map(rare)
            .collect::<tantivy::Result<_>>()?;
        let rarest = counts.iter().copied().min().unwrap_or(0);
        if rarest == 0 {
            return Ok(Box::new(EmptyScorer));
        }
        // Where each candidate may have to be read from the log, as few as can be.
        let few = has_values_left_out(&self.field, self.parts.of(reader)?)?;
        if !few && rarest >= reader.max_doc() / HELPFUL_SHARE {
            return Ok(Box::new(AllScorer::new(reader.max_doc())));
        }
        let query: Box<dyn Query> = if few && self.terms.len() > 1 {
            Box::new(PhraseQuery::new(self.terms.clone()))
        } else {
            let word = |term: &Term| {
                Box::new(TermQuery::new(term.clone(), IndexRecordOption::Basic)) as Box<dyn Query>
            };
            Box::new(BooleanQuery::intersection(
                self.terms.iter().map(word).collect(),
            ))
        };
        let scoring = EnableScoring::disabled_from_schema(reader.schema());
        query.weight(scoring)?.scorer(reader, 1.0)
    }
}

/// The documents of a range of offsets.
#[derive(Debug, Clone)]
struct OffsetDocs {
    start: u64,
    end: u64,
    parts: Parts,
}

impl OffsetDocs {
    fn are_all_of(&self, part: &part::Part) -> bool {
        self.start <= part.first_offset() && self.end > part.last_offset()
    }
}

impl MakeDocs for OffsetDocs {
    fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        let part = self.parts.of(reader)?;
        let docs = part.first_doc_from(self.start)..part.first_doc_from(self.end);
        // tantivy leaves such a set out of what it intersects.
        Ok(if docs == (0..reader.max_doc()) {
            Box::new(AllScorer::new(reader.max_doc()))
        } else {
            Box::new(RangeDocs::new(docs))
        })
    }
}

/// The documents of a session, by the column: most search segments do not have it in their dictionary, and few are walked.
#[derive(Debug, Clone)]
struct SessionDocs {
    session: Uuid,
    parts: Parts,
}

impl MakeDocs for SessionDocs {
    fn docs(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        let Some(sessions) = self.parts.of(reader)?.sessions() else {
            return Ok(Box::new(EmptyScorer));
        };
        let Some(session) = sessions.dictionary().term_ord(self.session.as_bytes())? else {
            return Ok(Box::new(EmptyScorer));
        };
        let mut docs = Vec::new();
        sessions.ords().get_docids_for_value_range(
            session..=session,
            0..reader.max_doc(),
            &mut docs,
        );
        Ok(Box::new(ListedDocs::new(docs)))
    }
}

/// Lets documents of a range of timestamps pass.
#[derive(Debug)]
struct TimeFilter {
    start: Option<i64>,
    end: Option<i64>,
    parts: Parts,
}

impl Filter for TimeFilter {
    fn price(&self) -> Price {
        Price::Number
    }

    fn open(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Sieve>> {
        let part = self.parts.of(reader)?.clone();
        let (start, end) = (self.start.unwrap_or(i64::MIN), self.end);
        let sieve = TimeSieve { start, end, part };
        if sieve.of_all(sieve.part.times()) == Some(true) {
            return Ok(Box::new(|_: DocId| true));
        }
        Ok(Box::new(sieve))
    }
}

/// A [`TimeFilter`], opened in one search segment.
struct TimeSieve {
    start: i64,
    end: Option<i64>,
    part: Arc<part::Part>,
}

impl TimeSieve {
    fn has(&self, time: i64) -> bool {
        time >= self.start && self.end.is_none_or(|end| time < end)
    }

    /// Says whether all times between two are inside, or none; `None` where some may be.
    fn of_all(&self, (earliest, latest): (i64, i64)) -> Option<bool> {
        if self.has(earliest) && self.has(latest) {
            Some(true)
        } else if latest < self.start || self.end.is_some_and(|end| earliest >= end) {
            Some(false)
        } else {
            None
        }
    }
}

impl Sieve for TimeSieve {
    fn passes(&mut self, doc: DocId) -> bool {
        self.has(self.part.timestamp(doc))
    }

    fn keep(&mut self, docs: &mut Vec<DocId>) {
        let (mut run_end, mut of_run) = (0, None);
        docs.retain(|doc| {
            if *doc >= run_end {
                let times;
                (run_end, times) = self.part.run_of(*doc);
                of_run = self.of_all(times);
            }
            of_run.unwrap_or_else(|| self.has(self.part.timestamp(*doc)))
        });
    }
}

/// Lets documents pass that are not hidden.
#[derive(Debug)]
struct Unhidden {
    hidden: Hidden,
    parts: Parts,
}

impl Filter for Unhidden {
    fn price(&self) -> Price {
        Price::Number
    }

    fn open(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Sieve>> {
        let part = self.parts.of(reader)?.clone();
        let all = part.first_offset()..part.last_offset().saturating_add(1);
        if !self.hidden.touches(&all) {
            return Ok(Box::new(|_: DocId| true));
        }
        let hidden = self.hidden.clone();
        Ok(Box::new(move |doc: DocId| {
            !hidden.contains(part.offset(doc))
        }))
    }
}

/// Lets documents pass that pass a clause by the log's word.
struct ClauseFilter {
    clause: Arc<Clause>,
    check: LogCheck,
    parts: Parts,
}

impl std::fmt::Debug for ClauseFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClauseFilter")
            .field("clause", &self.clause)
            .finish_non_exhaustive()
    }
}

impl Filter for ClauseFilter {
    fn price(&self) -> Price {
        Price::Event
    }

    fn open(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Sieve>> {
        let part = self.parts.of(reader)?.clone();
        let clause = self.clause.clone();
        let mut looker = self.check.looker();
        Ok(Box::new(move |doc: DocId| {
            looker.passes(part.offset(doc), |subject| clause_holds(&clause, subject))
        }))
    }
}
