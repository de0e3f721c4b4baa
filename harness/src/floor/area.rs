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

    /// How many pieces of `size` bytes it has; none crosses a range's end.
    pub(crate) fn pieces(&self, size: u64) -> u64 {
        self.extents.iter().map(|e| e.1 / size).sum()
    }

    /// Where piece `n` lies, counted round.
    pub(crate) fn piece(&self, size: u64, n: u64) -> Option<u64> {
        let mut n = n.checked_rem(self.pieces(size))?;
        for &(start, len) in &self.extents {
            let here = len / size;
            if n < here {
                return Some(start + n * size);
            }
            n -= here;
        }
        None
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
        assert_eq!((area.bytes(), area.pieces(10)), (74, 6));
        let at: Vec<_> = (0..7).map(|n| area.piece(10, n).unwrap()).collect();
        assert_eq!(at, [100, 110, 2000, 2010, 2020, 2030, 100]);
        assert_eq!(area.piece(50, 0), None);
        area.truncate(30);
        assert_eq!(area, Area::new(vec![(100, 25), (1000, 5)]));
    }
}
