//! The events that take part in something that happens in steps, unit by unit: in a session, or of one value of a field.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tantivy::columnar::BytesColumn;

use super::facets::{FacetValue, FieldColumns, Values};
use super::matching::Matching;
use super::part::Part;
use crate::bounds::STEP_EVENTS;
use crate::error::SearchError;

/// An event that matches some of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepEvent {
    /// Which unit it belongs to: a session's id, or the place of a value among [`StepEvents::values`].
    pub unit: u128,
    /// When it happened, unix microseconds.
    pub timestamp: i64,
    /// Where it lies.
    pub offset: u64,
    /// A bit for every step that it matches.
    pub steps: u32,
}

/// The events of all steps, by unit, timestamp and offset.
#[derive(Debug, Default)]
pub struct StepEvents {
    /// In that order, each once.
    pub events: Vec<StepEvent>,
    /// The values that are units, where these are no sessions.
    pub values: Vec<FacetValue>,
}

impl StepEvents {
    /// Takes in the matches of a step.
    pub(crate) fn push_step(
        &mut self,
        step: usize,
        matching: &Matching<'_>,
        unit: Option<&FieldColumns>,
    ) -> Result<(), SearchError> {
        let room = STEP_EVENTS.value.saturating_sub(self.events.len());
        let full = || SearchError::Bound {
            bound: &STEP_EVENTS,
            clause: format!("step {step}"),
        };
        let parts = matching.by_part(|part, docs| {
            if docs.len() > room {
                return Err(full());
            }
            let mut found = Vec::with_capacity(docs.len());
            let mut values = Vec::new();
            let event = |doc, unit| StepEvent {
                unit,
                timestamp: part.timestamp(doc),
                offset: part.offset(doc),
                steps: 1 << step,
            };
            match unit {
                None => {
                    let ids = session_ids(part)?;
                    docs.each(|doc| {
                        let ord = part.sessions().and_then(|column| column.ords().first(doc));
                        let id = ord.and_then(|ord| ids.get(usize::try_from(ord).ok()?));
                        found.extend(id.map(|id| event(doc, *id)));
                    });
                }
                Some(field) => {
                    let mut of_part: HashMap<FacetValue, u128, FixedState> = HashMap::default();
                    let mut opened = Values::open(field, part, matching.check)?;
                    let mut here = Vec::new();
                    docs.each(|doc| {
                        here.clear();
                        opened.values_of(doc, &mut here);
                        for value in here.drain(..).filter(|value| *value != FacetValue::Null) {
                            let next = of_part.len() as u128;
                            let place = *of_part.entry(value.clone()).or_insert_with(|| {
                                values.push(value);
                                next
                            });
                            found.push(event(doc, place));
                        }
                    });
                }
            }
            if found.len() > room {
                return Err(full());
            }
            Ok((found, values))
        })?;
        let mut known: HashMap<FacetValue, u128, FixedState> =
            self.values.iter().cloned().zip(0..).collect();
        for (mut found, values) in parts {
            if self.events.len() + found.len() > STEP_EVENTS.value {
                return Err(full());
            }
            if unit.is_some() {
                let places: Vec<u128> = values
                    .into_iter()
                    .map(|value| {
                        let next = self.values.len() as u128;
                        *known.entry(value.clone()).or_insert_with(|| {
                            self.values.push(value);
                            next
                        })
                    })
                    .collect();
                for event in &mut found {
                    event.unit = places[usize::try_from(event.unit).unwrap_or_default()];
                }
            }
            self.events.append(&mut found);
        }
        Ok(())
    }

    /// Brings the events of all steps in order.
    pub(crate) fn sort(&mut self) {
        self.events
            .sort_unstable_by_key(|event| (event.unit, event.timestamp, event.offset));
        self.events.dedup_by(|next, kept| {
            let same = next.unit == kept.unit && next.offset == kept.offset;
            if same {
                kept.steps |= next.steps;
            }
            same
        });
    }

    /// Returns the events of one unit after the other.
    pub fn units(&self) -> impl Iterator<Item = &[StepEvent]> {
        self.events.chunk_by(|a, b| a.unit == b.unit)
    }
}

/// Returns the ids of a part's sessions, by their places in its dictionary.
fn session_ids(part: &Part) -> Result<Vec<u128>, SearchError> {
    let Some(column) = part.sessions() else {
        return Ok(Vec::new());
    };
    let mut ids = Vec::with_capacity(BytesColumn::num_terms(column));
    let mut stream = column.dictionary().stream()?;
    while stream.advance() {
        let id = <[u8; 16]>::try_from(stream.key()).map_or(0, u128::from_be_bytes);
        ids.push(id);
    }
    Ok(ids)
}
