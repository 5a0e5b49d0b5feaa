//! Which events may go: by age and by bytes, application by application, in whole hours of arrival.

use std::collections::BTreeMap;

use crate::format::sealed_footer::LedgerEntry;
use crate::registry::{ApplicationId, Registry};

pub(crate) const HOUR_MICROS: i64 = 3_600_000_000;
const DAY_HOURS: i64 = 24;

/// For each application, the hour of arrival (unix hours) before which its events expire.
pub(crate) type Cutoffs = BTreeMap<ApplicationId, u32>;

/// Returns what expires at `now`, unix microseconds, by the limits of each application and the ledgers of all sealed
/// files. Applications without limits are left out, and those with nothing to expire.
pub(crate) fn cutoffs(registry: &Registry, ledger: &[LedgerEntry], now: i64) -> Cutoffs {
    let mut cutoffs = Cutoffs::new();
    for application in registry.applications() {
        let by_age = application
            .limits
            .retention_days
            .map(|days| hour_of(now).saturating_sub(hours(i64::from(days) * DAY_HOURS)));
        let by_bytes = application
            .limits
            .max_bytes
            .and_then(|most| hour_beyond(ledger, application.id, most));
        if let Some(hour) = by_age.max(by_bytes) {
            cutoffs.insert(application.id, hour);
        }
    }
    cutoffs
}

/// Returns the first hour from which on, to the newest, an application's records fit into `most` bytes; `None` when all
/// of them do.
fn hour_beyond(ledger: &[LedgerEntry], application: ApplicationId, most: u64) -> Option<u32> {
    let mut by_hour: BTreeMap<u32, u64> = BTreeMap::new();
    for entry in ledger
        .iter()
        .filter(|entry| entry.application == application)
    {
        *by_hour.entry(entry.hour).or_default() += entry.bytes;
    }
    let mut kept = 0u64;
    for (hour, bytes) in by_hour.iter().rev() {
        kept = kept.saturating_add(*bytes);
        if kept > most {
            return Some(hour + 1);
        }
    }
    None
}

/// Returns the hour of an instant in unix microseconds.
pub(crate) fn hour_of(instant: i64) -> u32 {
    hours(instant.div_euclid(HOUR_MICROS))
}

fn hours(hours: i64) -> u32 {
    u32::try_from(hours.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Limits, RegistryChange};

    fn entry(hour: u32, application: u32, bytes: u64) -> LedgerEntry {
        LedgerEntry {
            hour,
            application: ApplicationId(application),
            bytes,
            stored: 1,
            ..LedgerEntry::default()
        }
    }

    fn registry(days: Option<u32>, max_bytes: Option<u64>) -> Registry {
        let mut registry = Registry::default();
        let application = ApplicationId(0);
        let name = "a".to_owned();
        registry.apply(&RegistryChange::Registered { application, name }, 0);
        let limits = RegistryChange::SetLimits {
            application,
            limits: Limits {
                retention_days: days,
                max_bytes,
                rate: None,
            },
        };
        registry.apply(&limits, 0);
        registry
    }

    #[test]
    fn age_expires_whole_hours_that_are_over() {
        let now = 100 * 24 * HOUR_MICROS + HOUR_MICROS / 2;
        let cutoffs = cutoffs(&registry(Some(30), None), &[], now);
        assert_eq!(cutoffs[&ApplicationId(0)], 70 * 24);
    }

    #[test]
    fn bytes_keep_the_newest_hours_that_fit() {
        let ledger = [
            entry(5, 0, 60),
            entry(6, 0, 50),
            entry(6, 1, 999),
            entry(7, 0, 40),
        ];
        let at = |most| cutoffs(&registry(None, Some(most)), &ledger, 0).remove(&ApplicationId(0));
        assert_eq!(at(150), None);
        assert_eq!(at(149), Some(6));
        assert_eq!(at(90), Some(6));
        assert_eq!(at(89), Some(7));
        assert_eq!(at(39), Some(8));
    }
}
