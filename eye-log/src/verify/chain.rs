//! The chain of seals, and the records that say why a block is not as it was first sealed.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::format::seal::{Hash, Seal};
use crate::offset::Offset;
use crate::record::MaintenanceRecord;
use crate::verify::{DamageReport, VerifyReport};

/// The hash that stands for a range without a block.
const NO_BLOCK: Hash = [0; 32];

/// A block that is not as it was first sealed.
pub(super) struct Changed {
    pub(super) file: String,
    pub(super) position: u64,
    pub(super) first: Offset,
    pub(super) end: Offset,
    pub(super) sealed: Hash,
    pub(super) now: Hash,
    pub(super) why: Offset,
}

/// What was gathered from all files.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) store: Uuid,
    /// Seals with the file they stand in.
    pub(super) seals: Vec<(String, Seal)>,
    pub(super) changed: Vec<Changed>,
    /// Blocks that went with their whole range: the first offset, and the record that says so.
    dropped: HashSet<(Offset, Offset)>,
    /// What maintenance records say: by block and hash before, the hash after and the record's offset.
    lawful: HashMap<(Offset, Hash), Vec<(Offset, Hash)>>,
}

impl Chain {
    /// Takes in what was recorded about a change of blocks.
    pub(super) fn record(&mut self, offset: Offset, record: &MaintenanceRecord) {
        for block in &record.blocks {
            self.lawful
                .entry((block.first, block.old))
                .or_default()
                .push((offset, block.new));
            if block.new == NO_BLOCK {
                self.dropped.insert((block.first, offset));
            }
        }
    }

    /// Checks that each seal names the one before and that every change was recorded.
    pub(super) fn verify(&self, head: Option<Hash>, report: &mut VerifyReport) {
        let mut previous = Seal::BEFORE_THE_FIRST;
        let mut expected = 0;
        let (mut found, mut unknown) = (false, false);
        for (file, seal) in &self.seals {
            let what = if seal.first != expected {
                Some(format!("the seals do not go on at record {expected}"))
            } else if seal.previous != previous && !unknown {
                Some(
                    "the seal does not name the one before: something was edited, or left out"
                        .into(),
                )
            } else {
                None
            };
            report.damage.extend(what.map(|what| DamageReport {
                file: file.clone(),
                position: 0,
                first_offset: seal.first,
                last_offset: seal.end.checked_sub(1),
                what,
            }));
            // A seal that was lost with its file names nothing: what follows it is taken as it is.
            unknown = seal.is_lost();
            previous = seal.hash(self.store);
            expected = seal.end;
            found |= head == Some(previous);
        }
        report.seals = self.seals.len();
        report.seals_lost = self.seals.iter().filter(|(_, seal)| seal.is_lost()).count();
        report.head = (!self.seals.is_empty()).then(|| hexadecimal(&previous));
        if let Some(head) = head.filter(|_| !found) {
            report.damage.push(DamageReport {
                file: "the log".to_owned(),
                position: 0,
                first_offset: 0,
                last_offset: None,
                what: format!("no seal has the hash {}", hexadecimal(&head)),
            });
        }
        for changed in &self.changed {
            if !self.is_lawful(changed) {
                report.damage.push(DamageReport {
                    file: changed.file.clone(),
                    position: changed.position,
                    first_offset: changed.first,
                    last_offset: changed.end.checked_sub(1),
                    what: format!(
                        "the block is not as it was sealed, and record {} does not say why",
                        changed.why
                    ),
                });
            }
        }
    }

    /// Says whether records lead from a block as sealed to the block as it is, the last one being the one it names.
    fn is_lawful(&self, changed: &Changed) -> bool {
        if changed.now == NO_BLOCK {
            return self.dropped.contains(&(changed.first, changed.why));
        }
        let mut reached = vec![changed.sealed];
        let mut seen = 0;
        while let Some(hash) = reached.get(seen).copied() {
            seen += 1;
            for (offset, new) in self
                .lawful
                .get(&(changed.first, hash))
                .into_iter()
                .flatten()
            {
                if *new == changed.now && *offset == changed.why {
                    return true;
                }
                if !reached.contains(new) {
                    reached.push(*new);
                }
            }
        }
        false
    }
}

/// Returns a hash as people write it.
pub(super) fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
