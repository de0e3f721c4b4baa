//! Who has which block. Memory is taken by what is claimed, not by how large the
//! store is or how far apart the claims lie.

use std::collections::BTreeMap;

use crate::alloc::Bits;
use crate::format::{BlockNo, Geometry, Run};

/// Blocks in a piece; there are whole pieces in a group of any block size.
const PIECE: u64 = 512;
const WORDS: usize = PIECE as usize / 64;

/// The claims of all groups.
#[derive(Debug)]
pub(super) struct Ledger {
    geometry: Geometry,
    /// What trees reach as nodes.
    nodes: Blocks,
    /// What trees reach as extents.
    extents: Blocks,
    /// Extents that the log names.
    named: Blocks,
    /// What trees reach and a snapshot that they came from has.
    shared: Blocks,
    /// What snapshots reach and no tree.
    kept: Blocks,
    /// What is on dead lists.
    dead: Blocks,
}

/// What claims a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Node,
    Extent,
    Log,
    Shared,
    Kept,
    Dead,
}

/// What was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// Blocks claimed already: by anything that a tree reaches, and, for a claim of the
    /// log, of a snapshot or of a dead list, by another of these; none if shared.
    pub(super) taken: u32,
    /// Of these, the first.
    pub(super) first: u64,
    /// Blocks claimed as nodes already.
    pub(super) as_nodes: u32,
}

impl Ledger {
    pub(super) fn new(geometry: Geometry) -> Self {
        debug_assert!(geometry.group_blocks().is_multiple_of(PIECE));
        Self {
            geometry,
            nodes: Blocks::default(),
            extents: Blocks::default(),
            named: Blocks::default(),
            shared: Blocks::default(),
            kept: Blocks::default(),
            dead: Blocks::default(),
        }
    }

    /// Claims a run, which lies in the data of one group.
    pub(super) fn claim(&mut self, run: Run, claim: Claim) -> Before {
        let mut before = Before::default();
        for (at, mask) in words(run) {
            let nodes = self.nodes.word(at) & mask;
            let mut taken = nodes | self.extents.word(at) & mask;
            taken |= match claim {
                Claim::Log => self.named.word(at) & mask,
                Claim::Kept => self.kept.word(at) & mask,
                Claim::Dead => self.dead.word(at) & mask,
                Claim::Node | Claim::Extent | Claim::Shared => 0,
            };
            if claim == Claim::Shared {
                taken = 0;
            }
            if before.taken == 0 && taken != 0 {
                before.first = at * 64 + u64::from(taken.trailing_zeros());
            }
            before.taken += taken.count_ones();
            before.as_nodes += nodes.count_ones();
            match claim {
                Claim::Node => &mut self.nodes,
                Claim::Extent => &mut self.extents,
                Claim::Log => &mut self.named,
                Claim::Shared => &mut self.shared,
                Claim::Kept => &mut self.kept,
                Claim::Dead => &mut self.dead,
            }
            .set(at, mask);
        }
        before
    }

    /// Whether a tree reaches the first block of a run.
    pub(super) fn is_reached(&self, run: Run) -> bool {
        let word = self.nodes.word(run.start / 64) | self.extents.word(run.start / 64);
        word >> (run.start % 64) & 1 != 0
    }

    /// The blocks of a group that are claimed so.
    pub(super) fn group(&self, group: u64, claim: Claim) -> Bits {
        let g = &self.geometry;
        let blocks = match claim {
            Claim::Node => &self.nodes,
            Claim::Extent => &self.extents,
            Claim::Log => &self.named,
            Claim::Shared => &self.shared,
            Claim::Kept => &self.kept,
            Claim::Dead => &self.dead,
        };
        let mut bits = Bits::zeroed(g.group_blocks() as u32);
        let start = g.group_start(group);
        let pieces = start / PIECE..(start + g.group_blocks()) / PIECE;
        for (piece, words) in blocks.0.range(pieces) {
            for (i, word) in words.iter().enumerate() {
                let at = (piece * PIECE - start) as u32 + i as u32 * 64;
                bits.set_word(at, *word);
            }
        }
        bits
    }
}

/// The words, of 64 blocks each, that a run touches, each with a mask of its bits.
fn words(run: Run) -> impl Iterator<Item = (u64, u64)> {
    let mut at = run.start;
    std::iter::from_fn(move || {
        if at >= run.end() {
            return None;
        }
        let low = at % 64;
        let take = (64 - low).min(run.end() - at);
        let word = (at / 64, (u64::MAX >> (64 - take)) << low);
        at += take;
        Some(word)
    })
}

/// A set of blocks: bitmaps of the pieces that have any.
#[derive(Debug, Default)]
struct Blocks(BTreeMap<BlockNo, [u64; WORDS]>);

impl Blocks {
    fn word(&self, at: u64) -> u64 {
        let piece = self.0.get(&(at / WORDS as u64));
        piece.map_or(0, |words| words[(at % WORDS as u64) as usize])
    }

    fn set(&mut self, at: u64, mask: u64) {
        let piece = self.0.entry(at / WORDS as u64).or_default();
        piece[(at % WORDS as u64) as usize] |= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_again_whatever_the_block_size() {
        for block_size in [4096, 8192, 16384] {
            let g = Geometry::new(block_size, 8 << 30, 1024);
            assert!(g.group_blocks().is_multiple_of(PIECE));
            let mut ledger = Ledger::new(g);
            let start = g.group_start(2) + 500;
            let run = |at, len| Run { start: at, len };
            assert_eq!(
                ledger.claim(run(start, 1000), Claim::Extent),
                Before::default()
            );
            let before = ledger.claim(run(start + 999, 1), Claim::Node);
            let again = Before {
                taken: 1,
                first: start + 999,
                as_nodes: 0,
            };
            assert_eq!(before, again);
            let before = ledger.claim(run(start + 998, 2), Claim::Node);
            assert_eq!(
                (before.taken, before.first, before.as_nodes),
                (2, start + 998, 1)
            );
            // What the log names is in nobody's way but the log's.
            let behind = run(start + 1000, 70);
            assert_eq!(ledger.claim(behind, Claim::Log).taken, 0);
            assert_eq!(ledger.claim(behind, Claim::Extent).taken, 0);
            assert_eq!(ledger.claim(behind, Claim::Log).taken, 70);
            let extents = ledger.group(2, Claim::Extent);
            assert!(extents.all_set(500, 1070));
            assert_eq!(extents.len() - extents.zeros(), 1070);
            let nodes = ledger.group(2, Claim::Node);
            assert!(nodes.all_set(1498, 2) && nodes.len() - nodes.zeros() == 2);
            for group in [1, 3] {
                let none = ledger.group(group, Claim::Extent);
                assert_eq!(none.zeros(), none.len());
            }
        }
    }

    #[test]
    fn a_claim_far_away_costs_little() {
        let g = Geometry::new(4096, 8 << 40, 1024);
        let mut ledger = Ledger::new(g);
        for group in 0..g.groups() {
            let start = g.group_start(group) + 100;
            ledger.claim(Run { start, len: 16 }, Claim::Extent);
        }
        assert_eq!(ledger.extents.0.len() as u64, g.groups());
        assert!(ledger.nodes.0.is_empty());
    }
}
