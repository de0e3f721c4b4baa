//! Large values: they lie in extents of their own, which a leaf names.
//!
//! They are written and read in parts, so that neither takes memory in proportion to the
//! value. No byte is handed out before the part that it lies in has verified: a short
//! piece as a whole, a long one by its table (`format::pointer`).

mod reader;
mod room;

use crate::format::ExtentPtr;
use crate::format::checksum::{self, InParts};
use crate::format::pointer::SUM_UNIT;

pub use reader::ValueReader;
pub(crate) use room::{Room, fill};

/// Bytes of a large value that are written or read at a time.
pub(crate) const CHUNK: usize = 1 << 20;

/// The checksum of a part of an extent.
pub(crate) fn part_sum(ptr: &ExtentPtr, part: &[u8]) -> u64 {
    checksum::block(part, ptr.addr, ptr.birth.0)
}

/// Verifies a whole extent, whose stored bytes come in order and in any lengths.
#[derive(Clone)]
pub(crate) struct Verifier {
    ptr: ExtentPtr,
    /// Stored bytes that came.
    at: u64,
    sum: InParts,
    sums: Vec<u8>,
    table: Vec<u8>,
}

impl Verifier {
    pub(crate) fn new(ptr: ExtentPtr) -> Self {
        Self {
            ptr,
            at: 0,
            sum: InParts::new(ptr.addr, ptr.birth.0),
            sums: Vec::new(),
            table: Vec::new(),
        }
    }

    /// The next bytes; what lies behind the extent's last is passed over.
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        while self.at < self.ptr.bytes && !bytes.is_empty() {
            let unit = match self.ptr.has_table() {
                true => SUM_UNIT - self.at % SUM_UNIT,
                false => u64::MAX,
            };
            let most = unit.min(self.ptr.bytes - self.at);
            let (now, rest) = bytes.split_at(bytes.len().min(most as usize));
            self.sum.add(now);
            self.at += now.len() as u64;
            bytes = rest;
            let ends = self.at.is_multiple_of(SUM_UNIT) || self.at == self.ptr.bytes;
            if self.ptr.has_table() && ends {
                self.sums.extend(self.sum.finish().to_le_bytes());
                self.sum = InParts::new(self.ptr.addr, self.ptr.birth.0);
            }
        }
        if self.ptr.has_table() {
            let pad = (self.ptr.table_at() - self.at.min(self.ptr.table_at())) as usize;
            let skipped = pad.min(bytes.len());
            self.at += skipped as u64;
            let left = self.ptr.table_bytes() as usize - self.table.len();
            let table = &bytes[skipped..];
            self.table.extend(&table[..left.min(table.len())]);
        }
    }

    /// Whether all of it came and is what was written.
    pub(crate) fn is_sound(&self) -> bool {
        match self.ptr.has_table() {
            true => {
                self.table == self.sums && part_sum(&self.ptr, &self.table) == self.ptr.checksum
            }
            false => self.at == self.ptr.bytes && self.sum.finish() == self.ptr.checksum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Generation;

    /// An extent as it is stored, and the pointer to it.
    fn extent(bytes: usize, flags: u8) -> (Vec<u8>, ExtentPtr) {
        let mut ptr = ExtentPtr {
            addr: 77,
            flags,
            birth: Generation::first(3),
            checksum: 0,
            bytes: bytes as u64,
        };
        let data: Vec<u8> = (0..bytes).map(|i| (i / 3) as u8).collect();
        let mut stored = data.clone();
        if ptr.has_table() {
            stored.resize(ptr.table_at() as usize, 0);
            let sums = data.chunks(SUM_UNIT as usize);
            stored.extend(sums.flat_map(|unit| part_sum(&ptr, unit).to_le_bytes()));
        }
        let checked = match ptr.has_table() {
            true => ptr.table_at() as usize,
            false => 0,
        };
        ptr.checksum = part_sum(&ptr, &stored[checked..]);
        assert_eq!(stored.len() as u64, ptr.stored_bytes());
        (stored, ptr)
    }

    fn verifies(stored: &[u8], ptr: ExtentPtr, step: usize) -> bool {
        let mut v = Verifier::new(ptr);
        stored.chunks(step).for_each(|c| v.add(c));
        v.add(&[9; 5]);
        v.is_sound()
    }

    #[test]
    fn any_changed_byte_is_found_in_whatever_parts_it_comes() {
        let unit = SUM_UNIT as usize;
        for flags in [0, 1] {
            for bytes in [1, 7, 8, unit - 1, unit, unit + 1, 3 * unit + 5] {
                let (stored, ptr) = extent(bytes, flags);
                for step in [1 << 20, unit, 4096, 4097] {
                    assert!(verifies(&stored, ptr, step), "{bytes} {flags} {step}");
                }
                assert!(!verifies(
                    &stored[..stored.len().saturating_sub(6)],
                    ptr,
                    unit
                ));
                let pad = bytes..ptr.table_at() as usize;
                for at in [0, bytes / 2, bytes - 1, stored.len() - 1] {
                    let mut other = stored.clone();
                    other[at] ^= 1;
                    assert!(pad.contains(&at) && flags == 1 || !verifies(&other, ptr, 4096));
                }
            }
        }
    }
}
