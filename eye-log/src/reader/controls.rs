//! Finds the records that are no events, newest first.

use std::ops::ControlFlow;

use super::{Reader, control_of};
use crate::error::ReadError;
use crate::offset::Offset;
use crate::pieces::Piece;
use crate::record::Record;

impl Reader {
    /// Hands changes of the registry, erasures and maintenance below `before` to `see`, newest first, until it breaks. Counts
    /// ([`Record::Tally`]) are left out. Sealed files say where theirs are; what is not sealed yet is read through, up
    /// to [`LogConfig::segment_max_bytes`](crate::LogConfig) a segment. Fails with damage that is in the way.
    pub fn visit_controls(
        &self,
        before: Offset,
        mut see: impl FnMut(Offset, &Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let before = before.min(self.durable_end());
        let pieces = self.shared.files.pieces();
        let sealed = pieces
            .iter()
            .take_while(|piece| !matches!(piece, Piece::Raw(_)))
            .count();
        if let Some(Piece::Raw(first)) = pieces.get(sealed) {
            let mut offsets = Vec::new();
            let mut scan = self.scan(first.header.base);
            while scan.next_offset() < before {
                let read = scan.read(|offset, record| {
                    let counts = !matches!(
                        record,
                        Record::Event(_) | Record::Gone(_) | Record::Tally(_)
                    );
                    if counts && offset < before {
                        offsets.push(offset);
                    }
                })?;
                if read == 0 {
                    break;
                }
            }
            for offset in offsets.into_iter().rev() {
                let holding = pieces[sealed..].iter().rev();
                let mut holding = holding.filter(|piece| piece.base() <= offset);
                let Some(piece) = holding.next() else {
                    continue;
                };
                if control_of(piece, offset, |record| see(offset, &record))?.is_break() {
                    return Ok(());
                }
            }
        }
        for piece in pieces[..sealed].iter().rev() {
            let file = match piece {
                Piece::Sealed(file) => file,
                Piece::Damaged(_, damage) => return Err(damage.as_ref().clone().into()),
                Piece::Raw(_) => continue,
            };
            let controls = file.controls()?;
            for offset in controls.into_iter().rev().filter(|offset| *offset < before) {
                let seen = control_of(piece, offset, |record| match record {
                    Record::Tally(_) => ControlFlow::Continue(()),
                    record => see(offset, &record),
                })?;
                if seen.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
