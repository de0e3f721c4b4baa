//! What a device discards as a whole.

use crate::format::{Geometry, Run};

/// The largest discard that is sent: one in flight cannot be called back, and
/// somebody may wait for its blocks.
const LARGEST: u64 = 64 << 20;

/// The device's unit of discard, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    /// 0 if nothing may be discarded.
    granularity: u64,
    /// Where the first unit begins.
    alignment: u64,
    /// The largest discard; a multiple of nothing.
    max: u64,
}

/// A discard: whole units, and the blocks they touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) run: Run,
}

impl Unit {
    /// Of a device that may be discarded on.
    pub(crate) fn of(device: &gaur_iodriver::Geometry) -> Self {
        Self {
            granularity: device.discard_granularity.into(),
            alignment: device.discard_alignment.into(),
            max: match device.max_discard {
                0 => u64::MAX,
                n => n,
            },
        }
    }

    /// Nothing may be discarded.
    pub(crate) const NONE: Self = Self {
        granularity: 0,
        alignment: 0,
        max: 0,
    };

    /// Whether anything may be discarded.
    pub(crate) fn is_some(&self) -> bool {
        self.granularity > 0
    }

    /// The whole units in `start .. end`; none if it has no whole one.
    pub(crate) fn inside(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        if !self.is_some() || end <= self.alignment {
            return None;
        }
        let (unit, shift) = (self.granularity, self.alignment);
        let first = start.saturating_sub(shift).next_multiple_of(unit) + shift;
        let last = (end - shift) / unit * unit + shift;
        (first < last).then_some((first, last))
    }

    /// The most to discard at once: at most `most`, and at least a unit.
    pub(crate) fn step(&self, most: u64, block_size: u64) -> u64 {
        // A step that ends inside a block would leave the rest of it undiscarded.
        let unit = self.granularity.max(block_size);
        (most.min(self.max) / unit * unit).max(unit)
    }

    /// The first discard of a run, of at most `most` bytes; none if the run has no
    /// whole unit.
    pub(super) fn piece(&self, geometry: &Geometry, run: Run, most: u64) -> Option<Piece> {
        let (start, end) = self.inside(geometry.byte(run.start), geometry.byte(run.end()))?;
        let block_size = u64::from(geometry.block_size);
        let end = end.min(start + self.step(most.min(LARGEST), block_size));
        let first = start / block_size;
        Some(Piece {
            offset: start,
            len: end - start,
            run: Run {
                start: first,
                len: (end.div_ceil(block_size) - first) as u32,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(granularity: u64, alignment: u64, max: u64) -> Unit {
        Unit {
            granularity,
            alignment,
            max,
        }
    }

    #[test]
    fn only_whole_units() {
        assert_eq!(Unit::NONE.inside(0, 1 << 40), None);
        let u = unit(64 << 10, 0, u64::MAX);
        assert_eq!(u.inside(1, 64 << 10), None);
        assert_eq!(u.inside(4096, 200 << 10), Some((64 << 10, 192 << 10)));
        let shifted = unit(64 << 10, 12 << 10, u64::MAX);
        assert_eq!(shifted.inside(0, 8 << 10), None);
        assert_eq!(shifted.inside(0, 76 << 10), Some((12 << 10, 76 << 10)));
        assert_eq!(
            shifted.inside(16 << 10, 140 << 10),
            Some((76 << 10, 140 << 10))
        );
    }

    #[test]
    fn pieces_are_bounded_and_cover_their_blocks() {
        let g = Geometry::new(4096, 1 << 30, 1024);
        let run = |start, len| Run { start, len };
        let u = unit(64 << 10, 0, 1 << 20);
        let p = u.piece(&g, run(1, 1000), u64::MAX).unwrap();
        assert_eq!((p.offset, p.len, p.run), (64 << 10, 1 << 20, run(16, 256)));
        // However little is allowed, a unit is the least.
        let p = u.piece(&g, run(1, 1000), 1).unwrap();
        assert_eq!((p.len, p.run), (64 << 10, run(16, 16)));
        assert_eq!(u.piece(&g, run(1, 30), u64::MAX), None);
        let whole = unit(512, 0, u64::MAX).piece(&g, run(40, 3), u64::MAX);
        assert_eq!(whole.unwrap().run, run(40, 3));
        let large = unit(512, 0, u64::MAX).piece(&g, run(40, 30_000), u64::MAX);
        assert_eq!(large.unwrap().len, LARGEST);
        // Units that begin inside a block: the block counts with them.
        let odd = unit(8192, 512, u64::MAX).piece(&g, run(2, 4), u64::MAX);
        let odd = odd.unwrap();
        assert_eq!((odd.offset, odd.len), (8704, 8192));
        assert_eq!(odd.run, run(2, 3));
    }
}
