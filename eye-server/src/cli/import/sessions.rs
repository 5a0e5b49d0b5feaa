//! Whose session it is: the old service's events name their session only.

use super::Refusals;
use super::applications::Applications;
use super::dump::{Dump, Row};
use super::table::Table;
use crate::cli::Failure;
use uuid::Uuid;

/// Sessions and the numbers of their applications; 20 bytes each.
#[derive(Debug, Default)]
pub(super) struct Sessions(Vec<([u8; 16], u32)>);

impl Sessions {
    /// Reads all sessions.
    pub(super) fn read(
        dumps: &[Dump],
        applications: &Applications,
        refusals: &mut Refusals,
    ) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for dump in dumps.iter().filter(|dump| dump.table() == Table::Sessions) {
            let mut rows = dump
                .rows(Default::default())
                .map_err(|error| dump.unread(&error))?;
            loop {
                let (line, cells) = match rows.next().map_err(|error| dump.unread(&error))? {
                    Row::End => break,
                    Row::Broken(line, why) => {
                        refusals.note(&dump.name, line, "row", &why);
                        continue;
                    }
                    Row::Cells(line, cells) => (line, cells),
                };
                let cell = |place: usize| cells[place].as_deref().unwrap_or_default().trim();
                let Ok(session) = Uuid::try_parse(cell(0)) else {
                    refusals.note(&dump.name, line, "id", "Not a valid UUID.");
                    continue;
                };
                let Some(application) = applications.number(cell(1)) else {
                    let why = format!("No application that was imported has the id {:?}.", cell(1));
                    refusals.note(&dump.name, line, "application_id", &why);
                    continue;
                };
                all.push((session.into_bytes(), application));
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self(all))
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the number of the application whose session this is.
    pub(super) fn application(&self, session: Uuid) -> Option<u32> {
        let key = session.into_bytes();
        let place = self
            .0
            .binary_search_by_key(&key, |(session, _)| *session)
            .ok()?;
        Some(self.0[place].1)
    }
}
