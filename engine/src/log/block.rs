//! Making and judging one log block.
//!
//! A log block that verifies was written here, for this position, whole: the
//! checksum covers all of it and is seeded with place and position. Whether it
//! continues the chain is a second question; one from an abandoned future (written
//! before a crash, behind a block that was lost) verifies and does not continue.

use gaur_iodriver::fault;

use super::ring::Ring;
use crate::error::Damage;
use crate::format::log::{FLAG_SKIP, LogHeader, MAGIC, RecordHeader};
use crate::format::{BlockNo, Csn, checksum};

/// What a log block is called in an error.
pub(super) const WHAT: &str = "log block";

/// Writes header and checksum into `bytes`, the whole log block (of a skip: its
/// first block), and returns the checksum.
pub(super) fn seal(mut header: LogHeader, place: BlockNo, bytes: &mut [u8]) -> u64 {
    header.magic = MAGIC;
    header.encode(bytes);
    let sum = checksum::block(&bytes[16..], place, header.position);
    bytes[8..16].copy_from_slice(&sum.to_le_bytes());
    sum
}

/// Whether this may be the header of a log block of this store at this position.
/// All lengths in it are then within the piece.
pub(super) fn plausible(ring: &Ring, store_id: u128, position: u64, h: &LogHeader) -> bool {
    let blocks = u64::from(h.blocks);
    let shape = if h.flags & FLAG_SKIP != 0 {
        h.payload == 0 && h.records == 0 && blocks == ring.rest(position)
    } else {
        blocks > 0
            && blocks <= ring.rest(position)
            && blocks == ring.blocks(LogHeader::SIZE + h.payload as usize)
    };
    h.magic == MAGIC && h.store_id == store_id && h.position == position && shape
}

/// Blocks of a log block that were written and that its checksum covers.
pub(super) fn written(header: &LogHeader) -> u64 {
    if header.flags & FLAG_SKIP != 0 {
        1
    } else {
        u64::from(header.blocks)
    }
}

/// Whether the checksum is right; `bytes` are the [`written`] blocks.
pub(super) fn verifies(header: &LogHeader, place: BlockNo, bytes: &[u8]) -> bool {
    header.checksum == checksum::block(&bytes[16..], place, header.position)
        || fault!(LogChecksumNotCompared)
}

/// Checks the records of a verified log block: CSNs without a gap from
/// `header.first_csn`, lengths, the records' own checks, the operations' structure.
/// Returns the last CSN (the one before the first if there are none).
pub(super) fn check_records(
    header: &LogHeader,
    place: BlockNo,
    bytes: &[u8],
) -> Result<Csn, Damage> {
    let bad = |detail: String| Damage::new(WHAT, place, detail);
    if header.flags & !FLAG_SKIP != 0 {
        return Err(bad(format!("unknown flags {:#x}", header.flags)));
    }
    let mut next = header.first_csn;
    let mut rest = &bytes[LogHeader::SIZE..LogHeader::SIZE + header.payload as usize];
    while !rest.is_empty() {
        let (record, ops, tail) =
            split_record(rest).ok_or_else(|| bad(format!("record of commit {next} is cut off")))?;
        if record.csn != next {
            return Err(bad(format!("commit {} where {next} belongs", record.csn)));
        }
        if record.check != super::record_check(ops) {
            return Err(bad(format!("the check of commit {next} differs")));
        }
        let mut count = 0;
        for op in super::Ops::new(ops) {
            op.map_err(|e| bad(format!("commit {next}: {e}")))?;
            count += 1;
        }
        if count != record.ops {
            return Err(bad(format!(
                "commit {next} has {count} operations, not {}",
                record.ops
            )));
        }
        next = next
            .checked_add(1)
            .ok_or_else(|| bad("commit numbers overflow".into()))?;
        rest = tail;
    }
    if next - header.first_csn != u64::from(header.records) {
        return Err(bad(format!(
            "{} records, not {}",
            next - header.first_csn,
            header.records
        )));
    }
    Ok(next.saturating_sub(1))
}

/// The first record in `bytes`: its header, its operations, and what follows.
pub(super) fn split_record(bytes: &[u8]) -> Option<(RecordHeader, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(RecordHeader::SIZE)?;
    let record = RecordHeader::decode(head);
    let (ops, tail) = rest.split_at_checked(record.bytes as usize)?;
    Some((record, ops, tail))
}
