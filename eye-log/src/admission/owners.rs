//! Whose the sessions are that came up lately, in bounded memory: most of them go on for longer than a segment does.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use uuid::Uuid;

use crate::registry::ApplicationId;

/// So many sessions are remembered as new, and as many as old, some 3 MiB each. One that is forgotten is found in the files.
const KEPT: usize = 100_000;

/// Sessions with their owners. What came up since the last change of generations is new; what did not before the next is
/// forgotten.
#[derive(Debug, Default)]
pub(super) struct Owners {
    new: HashMap<Uuid, ApplicationId, RandomState>,
    old: HashMap<Uuid, ApplicationId, RandomState>,
}

impl Owners {
    /// Returns who owns a session, if that is remembered, and remembers it longer.
    pub(super) fn get(&mut self, session: Uuid) -> Option<ApplicationId> {
        if let Some(owner) = self.new.get(&session) {
            return Some(*owner);
        }
        let owner = self.old.remove(&session)?;
        self.insert(session, owner);
        Some(owner)
    }

    /// Remembers whose a session is.
    pub(super) fn insert(&mut self, session: Uuid, owner: ApplicationId) {
        if self.new.len() == KEPT {
            // The tables change places, so that neither is made anew.
            std::mem::swap(&mut self.new, &mut self.old);
            self.new.clear();
        }
        self.new.insert(session, owner);
    }

    /// Forgets a session that was not stored after all.
    pub(super) fn remove(&mut self, session: Uuid) {
        self.new.remove(&session);
        self.old.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: usize) -> Uuid {
        Uuid::from_u128(number as u128)
    }

    #[test]
    fn what_comes_up_again_is_remembered_and_the_rest_forgotten_within_bounds() {
        let mut owners = Owners::default();
        let often = session(0);
        owners.insert(often, ApplicationId(7));
        for number in 1..=3 * KEPT {
            owners.insert(session(number), ApplicationId(8));
            if number % (KEPT / 2) == 0 {
                assert_eq!(owners.get(often), Some(ApplicationId(7)));
            }
            assert!(owners.new.len() <= KEPT && owners.old.len() <= KEPT);
        }
        assert_eq!(owners.get(session(1)), None);
        assert_eq!(owners.get(session(3 * KEPT)), Some(ApplicationId(8)));
        for number in [0, 3 * KEPT] {
            owners.remove(session(number));
            assert_eq!(owners.get(session(number)), None);
        }
    }
}
