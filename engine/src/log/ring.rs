//! Log positions and the places they stand for.
//!
//! A position counts blocks since format and never repeats; the ring maps it to
//! one of the region's blocks. No log block crosses the end of a piece.

use crate::error::{Error, Result};
use crate::format::{BlockNo, Geometry, Run};

/// The log region as a ring of pieces.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    geometry: Geometry,
    /// Index in the region of each piece's first block, and the piece.
    pieces: Vec<(u64, Run)>,
    len: u64,
}

impl Ring {
    /// The ring of a store.
    ///
    /// # Errors
    /// [`Error::BadOption`] if the store has no room for a log of its length.
    pub(super) fn new(geometry: Geometry) -> Result<Self> {
        let pieces = geometry.log_pieces();
        let ring = Self::from_pieces(geometry, &pieces);
        if ring.len == 0 || ring.len != geometry.log_blocks {
            return Err(Error::BadOption {
                name: "log_blocks",
                detail: format!(
                    "{} blocks asked for, {} to be had",
                    geometry.log_blocks, ring.len
                ),
            });
        }
        Ok(ring)
    }

    /// A ring of these pieces, in order; of `geometry` only the block size counts.
    pub(super) fn from_pieces(geometry: Geometry, pieces: &[Run]) -> Self {
        let mut len = 0;
        let pieces = pieces
            .iter()
            .map(|&run| {
                let first = len;
                len += u64::from(run.len);
                (first, run)
            })
            .collect();
        Self {
            geometry,
            pieces,
            len,
        }
    }

    /// Blocks in the ring.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes in a block.
    pub(super) fn block_size(&self) -> usize {
        self.geometry.block_size as usize
    }

    /// Blocks that `bytes` bytes take.
    pub(super) fn blocks(&self, bytes: usize) -> u64 {
        bytes.div_ceil(self.block_size()) as u64
    }

    fn piece(&self, position: u64) -> (u64, Run) {
        let index = position % self.len;
        let after = self.pieces.partition_point(|&(first, _)| first <= index);
        let (first, run) = self.pieces[after - 1];
        (index - first, run)
    }

    /// The block a position stands for.
    pub(super) fn place(&self, position: u64) -> BlockNo {
        let (offset, run) = self.piece(position);
        run.start + offset
    }

    /// Its byte offset on the device.
    pub(super) fn byte(&self, position: u64) -> u64 {
        self.geometry.byte(self.place(position))
    }

    /// Blocks from a position to the end of its piece: the longest log block that
    /// may begin there.
    pub(super) fn rest(&self, position: u64) -> u64 {
        let (offset, run) = self.piece(position);
        u64::from(run.len) - offset
    }

    /// The most blocks that a log block of `blocks` can take with the skips before
    /// it, wherever it begins; `None` if no piece can hold it.
    pub(super) fn worst_span(&self, blocks: u64) -> Option<u64> {
        let n = self.pieces.len();
        let fits = |i: usize| u64::from(self.pieces[i % n].1.len) >= blocks;
        let span = |from: usize| {
            let mut span = u64::from(self.pieces[from].1.len).min(blocks - 1);
            let mut i = from + 1;
            while !fits(i) {
                span += u64::from(self.pieces[i % n].1.len);
                i += 1;
            }
            span + blocks
        };
        (0..n).any(fits).then(|| (0..n).map(span).max())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(lens: &[u32]) -> Ring {
        let mut start = 10;
        let pieces: Vec<Run> = lens
            .iter()
            .map(|&len| {
                let run = Run { start, len };
                start += u64::from(len) + 5;
                run
            })
            .collect();
        Ring::from_pieces(Geometry::new(512, 1 << 20, 1), &pieces)
    }

    #[test]
    fn positions_map_to_places_lap_after_lap() {
        let r = ring(&[4, 3, 2]);
        assert_eq!(r.len(), 9);
        for lap in 0..3 {
            let places: Vec<u64> = (0..9).map(|p| r.place(lap * 9 + p)).collect();
            assert_eq!(places, [10, 11, 12, 13, 19, 20, 21, 27, 28]);
            assert_eq!(r.rest(lap * 9), 4);
            assert_eq!(r.rest(lap * 9 + 3), 1);
            assert_eq!(r.rest(lap * 9 + 8), 1);
        }
    }

    #[test]
    fn the_worst_span_is_the_worst() {
        for lens in [&[4, 3, 2][..], &[9], &[5, 1, 1, 6], &[2, 9]] {
            let r = ring(lens);
            for blocks in 1..=9 {
                let brute = (0..r.len())
                    .map(|start| {
                        let mut p = start;
                        while r.rest(p) < blocks {
                            p += r.rest(p);
                            if p > start + 2 * r.len() {
                                return None;
                            }
                        }
                        Some(p + blocks - start)
                    })
                    .max()
                    .unwrap();
                assert_eq!(r.worst_span(blocks), brute, "{lens:?} {blocks}");
            }
        }
    }
}
