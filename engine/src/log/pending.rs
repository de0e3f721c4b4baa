//! What is appended and not yet handed to the device, planned to the block.
//!
//! Each *part* is one future log block and has its position from its first record
//! on. So the space it takes, skips included, is known exactly when a record is
//! accepted, and the log thread only formats. No part crosses the end of a piece,
//! and the end of the last part never passes the head by more than a lap.

use std::collections::VecDeque;
use std::sync::Arc;

use gaur_iodriver::sync::time::Instant;

use super::ring::Ring;
use crate::format::Csn;
use crate::format::log::{LogHeader, RecordHeader};

/// Buffers kept for the next parts.
const SPARES: usize = 4;
/// A record of at least this many bytes becomes a part of its own, and is copied
/// before the append's critical section.
pub(super) const LARGE: usize = 128 << 10;

/// One future log block.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it goes.
    pub(super) position: u64,
    /// Blocks it takes.
    pub(super) blocks: u64,
    /// Whether it is a skip, which has no records.
    pub(super) skip: bool,
    /// The records, headers included.
    pub(super) payload: Vec<u8>,
    /// How many they are.
    pub(super) records: u32,
    /// The first's CSN; the next one expected if there are none.
    pub(super) first_csn: Csn,
    /// Whether a record names extents.
    pub(super) names_extents: bool,
    /// When the first record came.
    pub(super) since: Instant,
}

impl Part {
    /// The last CSN in it; the one before the first if there are no records.
    pub(super) fn last_csn(&self) -> Csn {
        (self.first_csn + u64::from(self.records)).saturating_sub(1)
    }
}

/// A record about to be appended.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Its header but for the CSN.
    pub(super) header: RecordHeader,
    /// The operations.
    pub(super) ops: &'a [u8],
    /// For a large record: room for the header and then the operations, copied.
    pub(super) copied: Option<Vec<u8>>,
    /// Whether it names extents.
    pub(super) names_extents: bool,
}

/// The parts, in order, and where they end.
#[derive(Debug)]
pub(super) struct Pending {
    ring: Arc<Ring>,
    batch: usize,
    parts: VecDeque<Part>,
    /// Whether the last part still takes records.
    open: bool,
    /// Position behind the last part.
    next: u64,
    /// Position before which all is free.
    head: u64,
    /// Bytes in the parts.
    bytes: usize,
    last_csn: Csn,
    spares: Vec<Vec<u8>>,
}

/// Where a record would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Open,
    New(u64),
}

impl Pending {
    /// Nothing pending, in a log that is taken from `head` to `next`.
    pub(super) fn new(ring: Arc<Ring>, batch: usize, head: u64, next: u64, last_csn: Csn) -> Self {
        Self {
            ring,
            batch,
            parts: VecDeque::new(),
            open: false,
            next,
            head,
            bytes: 0,
            last_csn,
            spares: Vec::new(),
        }
    }

    fn fit(&self, record: usize, alone: bool) -> Option<Fit> {
        let limit = self.head + self.ring.len();
        if let Some(part) = self.parts.back().filter(|_| self.open && !alone) {
            let bytes = LogHeader::SIZE + part.payload.len() + record;
            let blocks = self.ring.blocks(bytes);
            if bytes <= self.batch && blocks <= self.ring.rest(part.position) {
                return (part.position + blocks <= limit).then_some(Fit::Open);
            }
        }
        let blocks = self.ring.blocks(LogHeader::SIZE + record);
        let mut position = self.next;
        while position + blocks <= limit {
            let rest = self.ring.rest(position);
            if blocks <= rest {
                return Some(Fit::New(position));
            }
            position += rest;
        }
        None
    }

    /// Whether a record with `ops` bytes of operations would be accepted, even in
    /// a part of its own.
    pub(super) fn has_room(&self, ops: usize) -> bool {
        self.fit(RecordHeader::SIZE + ops, true).is_some()
    }

    /// Appends a record and returns its CSN; `None`, and nothing changed, if it
    /// does not fit. `now` is asked only when a part begins.
    pub(super) fn append(
        &mut self,
        entry: &mut Entry<'_>,
        now: impl Fn() -> Instant,
    ) -> Option<Csn> {
        let size = RecordHeader::SIZE + entry.ops.len();
        if let Fit::New(position) = self.fit(size, entry.copied.is_some())? {
            let mut skips = self.next;
            while skips < position {
                let rest = self.ring.rest(skips);
                let since = now();
                self.push(skips, rest, true, Vec::new(), since);
                skips += rest;
            }
            let payload = entry
                .copied
                .as_ref()
                .map(|_| Vec::new())
                .or_else(|| self.spares.pop())
                .unwrap_or_default();
            let since = now();
            self.push(position, 0, false, payload, since);
            self.open = true;
        }
        self.last_csn += 1;
        let mut header = entry.header;
        header.csn = self.last_csn;
        let part = self.parts.back_mut()?;
        match entry.copied.take() {
            Some(mut copied) => {
                header.encode(&mut copied);
                part.payload = copied;
                self.open = false;
            }
            None => {
                let mut head = [0; RecordHeader::SIZE];
                header.encode(&mut head);
                part.payload.extend_from_slice(&head);
                part.payload.extend_from_slice(entry.ops);
            }
        }
        part.records += 1;
        part.names_extents |= entry.names_extents;
        part.blocks = self.ring.blocks(LogHeader::SIZE + part.payload.len());
        self.next = part.position + part.blocks;
        self.bytes += size;
        Some(self.last_csn)
    }

    fn push(&mut self, position: u64, blocks: u64, skip: bool, payload: Vec<u8>, since: Instant) {
        self.parts.push_back(Part {
            position,
            blocks,
            skip,
            payload,
            records: 0,
            first_csn: self.last_csn + 1,
            names_extents: false,
            since,
        });
    }

    /// The first part that has records.
    pub(super) fn front(&self) -> Option<&Part> {
        self.parts.iter().find(|p| !p.skip)
    }

    /// Takes the first part away to be written.
    pub(super) fn take(&mut self) -> Option<Part> {
        let part = self.parts.pop_front()?;
        self.bytes -= part.payload.len();
        self.open &= !self.parts.is_empty();
        Some(part)
    }

    /// Gives a taken part's buffer back for reuse.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spares.len() < SPARES
            && buffer.capacity() > 0
            && buffer.capacity() <= 2 * self.batch
        {
            buffer.clear();
            self.spares.push(buffer);
        }
    }

    /// Ends the open part; the next record begins at the position returned, or
    /// behind a skip that begins there.
    pub(super) fn end_part(&mut self) -> u64 {
        self.open = false;
        self.next
    }

    /// Drops all parts: the log has stopped.
    pub(super) fn abandon(&mut self) {
        self.parts.clear();
        self.spares.clear();
        self.open = false;
        self.bytes = 0;
    }

    /// All before `head` is free.
    pub(super) fn truncate(&mut self, head: u64) {
        debug_assert!(head <= self.next);
        self.head = self.head.max(head);
    }

    /// Bytes in the parts.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Blocks of the log that are taken.
    pub(super) fn used(&self) -> u64 {
        self.next - self.head
    }

    /// Position behind all that is planned.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The last CSN drawn.
    pub(super) fn last_csn(&self) -> Csn {
        self.last_csn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Geometry, Run};
    use gaur_iodriver::sync::rng::seeded;
    use gaur_iodriver::sync::time::now;
    use rand::RngExt;

    fn entry(ops: &[u8]) -> Entry<'_> {
        Entry {
            header: RecordHeader {
                bytes: ops.len() as u32,
                ..RecordHeader::default()
            },
            ops,
            copied: (ops.len() >= 2000).then(|| [&[0; RecordHeader::SIZE], ops].concat()),
            names_extents: false,
        }
    }

    #[test]
    fn parts_tile_the_ring_and_never_pass_the_head() {
        let ops = vec![7; 4000];
        for seed in 0..50 {
            let mut rng = seeded(seed);
            let pieces = [(10, 40), (60, 7), (80, 33)].map(|(start, len)| Run { start, len });
            let ring = Arc::new(Ring::from_pieces(Geometry::new(512, 1 << 20, 1), &pieces));
            let mut p = Pending::new(ring.clone(), 2048, 0, 0, 0);
            let (mut written, mut csn, mut refused) = (0, 1, 0);
            for _ in 0..3000 {
                match rng.random_range(0..10) {
                    0 => {
                        let head = rng.random_range(p.head..=written);
                        p.truncate(head);
                    }
                    1 => {
                        p.end_part();
                    }
                    2 | 3 => {
                        let Some(part) = p.take() else { continue };
                        assert_eq!(part.position, written, "seed {seed}");
                        assert!(part.blocks <= ring.rest(part.position));
                        if part.skip {
                            assert_eq!(part.blocks, ring.rest(part.position));
                        } else {
                            assert_eq!(
                                part.blocks,
                                ring.blocks(LogHeader::SIZE + part.payload.len())
                            );
                        }
                        assert_eq!(part.first_csn, csn);
                        csn += u64::from(part.records);
                        written += part.blocks;
                        assert!(written <= p.head + ring.len());
                        p.recycle(part.payload);
                    }
                    _ => {
                        let n = rng.random_range(0..ops.len());
                        let (before, last, room) = (p.next, p.last_csn, p.has_room(n));
                        let got = p.append(&mut entry(&ops[..n]), now);
                        assert!(
                            got == Some(last + 1) || got.is_none() && !room,
                            "seed {seed}"
                        );
                        if got.is_none() {
                            assert_eq!((p.next, p.last_csn), (before, last));
                            refused += 1;
                        }
                        assert!(p.used() <= ring.len());
                    }
                }
            }
            assert!(csn > 300 && refused > 0, "seed {seed}: {csn} {refused}");
        }
    }

    /// What comes after a cut must not get into a part from before it, whatever is
    /// taken away in between.
    #[test]
    fn an_ended_part_stays_ended() {
        let ring = Arc::new(Ring::from_pieces(
            Geometry::new(512, 1 << 20, 1),
            &[Run { start: 10, len: 80 }],
        ));
        let mut p = Pending::new(ring, 1024, 0, 0, 0);
        let small = [7; 100];
        for csn in 1..=6 {
            assert_eq!(p.append(&mut entry(&[7; 500][..]), now), Some(csn));
        }
        assert!(p.parts.len() > 2);
        let cut = p.end_part();
        assert_eq!(p.end_part(), cut);
        assert!(p.take().is_some());
        p.append(&mut entry(&small), now).unwrap();
        let last = p.parts.back().unwrap();
        assert_eq!((last.position, last.first_csn), (cut, 7));
        // And one that was not ended is filled on, whatever is taken.
        p.take().unwrap();
        p.append(&mut entry(&small), now).unwrap();
        assert_eq!(p.parts.back().unwrap().records, 2);
    }

    #[test]
    fn buffers_of_a_fair_size_are_used_again() {
        let ring = Arc::new(Ring::from_pieces(
            Geometry::new(512, 1 << 20, 1),
            &[Run { start: 10, len: 80 }],
        ));
        let mut p = Pending::new(ring, 1024, 0, 0, 0);
        p.recycle(Vec::new());
        p.recycle(Vec::with_capacity(2049));
        assert!(p.spares.is_empty());
        for _ in 0..=SPARES {
            let mut used = Vec::with_capacity(2048);
            used.push(7);
            p.recycle(used);
        }
        assert_eq!(p.spares.len(), SPARES);
        assert!(p.spares.iter().all(Vec::is_empty));
        p.append(&mut entry(&[7; 100]), now).unwrap();
        assert_eq!(p.spares.len(), SPARES - 1);
        p.abandon();
        assert_eq!((p.spares.len(), p.bytes()), (0, 0));
        assert!(p.take().is_none() && p.front().is_none());
    }
}
