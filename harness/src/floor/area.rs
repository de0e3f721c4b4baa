//! Where reads and writes may go.

use std::time::Duration;

/// Some ranges of a device: offset and length in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Area {
    extents: Vec<(u64, u64)>,
}

impl Area {
    pub(crate) fn new(extents: Vec<(u64, u64)>) -> Self {
        Self { extents }
    }

    /// The ranges.
    pub(crate) fn extents(&self) -> Vec<(u64, u64)> {
        self.extents.clone()
    }

    /// Bytes in all of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.extents.iter().map(|e| e.1).sum()
    }

    /// Its pieces of `size` bytes; none crosses a range's end.
    pub(crate) fn pieces(&self, size: u64) -> Pieces {
        let mut count = 0;
        let ranges = self.extents.iter().map(|&(start, len)| {
            count += len / size;
            (count, start + len / size * size)
        });
        Pieces {
            size,
            ranges: ranges.collect(),
        }
    }

    /// The first `bytes` of it.
    pub(crate) fn truncate(&mut self, mut bytes: u64) {
        for e in &mut self.extents {
            e.1 = e.1.min(bytes);
            bytes -= e.1;
        }
        self.extents.retain(|e| e.1 > 0);
    }
}

/// The pieces of an area, by number.
#[derive(Debug)]
pub(crate) struct Pieces {
    size: u64,
    /// Of each range: how many pieces there are up to its end, and where that is.
    ranges: Vec<(u64, u64)>,
}

impl Pieces {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.ranges.last().map_or(0, |r| r.0)
    }

    /// Where piece `n` lies, counted round.
    pub(crate) fn at(&self, n: u64) -> Option<u64> {
        let n = n.checked_rem(self.count())?;
        let range = self.ranges.partition_point(|r| r.0 <= n);
        let (count, end) = self.ranges[range];
        Some(end - (count - n) * self.size)
    }
}

/// How long the writing beforehand may take, of a measurement of `seconds`.
pub(crate) fn patience(seconds: f64) -> Duration {
    Duration::from_secs_f64((seconds / 2.0).max(0.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stay_inside_their_ranges() {
        let mut area = Area::new(vec![(100, 25), (1000, 9), (2000, 40)]);
        let pieces = area.pieces(10);
        assert_eq!((area.bytes(), pieces.count()), (74, 6));
        let at: Vec<_> = (0..7).map(|n| pieces.at(n).unwrap()).collect();
        assert_eq!(at, [100, 110, 2000, 2010, 2020, 2030, 100]);
        assert_eq!(area.pieces(50).at(0), None);
        area.truncate(30);
        assert_eq!(area, Area::new(vec![(100, 25), (1000, 5)]));
    }
}
