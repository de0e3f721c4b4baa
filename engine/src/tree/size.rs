//! How much lies in a range, estimated from the ways to its two ends.
//!
//! Where the two ways part, whole children lie between; below, on each way, those on the
//! inner side. How many leaves a child has is taken to be what the nodes on the way itself
//! say: the product of their children.

use std::ops::Bound;

use super::{Carry, Forest, Found, Toward, TreeState};
use crate::error::Result;
use crate::worker::Worker;

/// About how much lies in a range of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeSize {
    /// Leaves that hold any of it.
    pub leaves: u64,
    /// Bytes of those leaves. What large values take beside them is not counted.
    pub bytes: u64,
    /// Records.
    pub records: u64,
}

/// One step of a way down: which child, or which record of the leaf, of how many.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    slot: usize,
    slots: usize,
}

impl Forest {
    /// Estimates a range. Reads what is missing on the two ways.
    pub(crate) fn range_size(
        &self,
        worker: &Worker,
        tree: &TreeState,
        lower: &Bound<Vec<u8>>,
        upper: &Bound<Vec<u8>>,
    ) -> Result<RangeSize> {
        let left = self.way(worker, tree, lower, true)?;
        let right = self.way(worker, tree, upper, false)?;
        Ok(estimate(&left, &right, u64::from(self.geometry.block_size)))
    }

    /// The way to one end, the leaf first. A slot of a leaf: where the range begins,
    /// or the first one behind it.
    fn way(
        &self,
        worker: &Worker,
        tree: &TreeState,
        end: &Bound<Vec<u8>>,
        lower: bool,
    ) -> Result<Vec<Step>> {
        let toward = match end {
            Bound::Included(key) | Bound::Excluded(key) => Toward::Key(key),
            Bound::Unbounded if lower => Toward::Key(&[]),
            Bound::Unbounded => Toward::Before(None),
        };
        let (mut way, mut level, mut carry) = (Vec::new(), 0, Carry::default());
        // From the leaf upwards, so that what is missing is read on the first way down.
        loop {
            let at = match self.descend(tree, toward, level, None) {
                Found::Empty(_) => return Ok(Vec::new()),
                Found::Node(at) => at,
                missing => {
                    self.bring_in(worker, tree, missing, &mut carry)?;
                    continue;
                }
            };
            let page = self.cache.page(at.frame);
            let slots = page.slots();
            let slot = match (end, level) {
                (Bound::Unbounded, 0) if !lower => slots,
                (Bound::Included(key) | Bound::Excluded(key), 0) => {
                    let (slot, found) = page.search(key);
                    // Of the key itself, if it is there.
                    let behind = found && lower == matches!(end, Bound::Excluded(_));
                    slot + usize::from(behind)
                }
                (_, 0) => 0,
                _ => toward.slot(page),
            };
            if !self.cache.frame(at.frame).latch.validate(at.version) {
                continue;
            }
            if at.level < level {
                // The root was one level lower: it was the last step.
                return Ok(way);
            }
            way.push(Step { slot, slots });
            level += 1;
        }
    }
}

fn estimate(left: &[Step], right: &[Step], block_size: u64) -> RangeSize {
    let sized = |leaves: f64, records: f64| RangeSize {
        leaves: leaves.round() as u64,
        bytes: leaves.round() as u64 * block_size,
        records: records.round() as u64,
    };
    // The tree may have grown between the two looks; then only what both know counts.
    let levels = left.len().min(right.len());
    let Some(parted) = (1..levels).rev().find(|&l| left[l].slot != right[l].slot) else {
        let (Some(a), Some(b)) = (left.first(), right.first()) else {
            return RangeSize::default();
        };
        let records = b.slot.saturating_sub(a.slot);
        return sized(f64::from(u8::from(records > 0)), records as f64);
    };
    if left[parted].slot > right[parted].slot {
        return RangeSize::default();
    }
    // Leaves below a child at each level of a way.
    let below = |way: &[Step], level: usize| -> f64 {
        way[1..level]
            .iter()
            .map(|s| s.slots.max(1) as f64)
            .product()
    };
    let between = (right[parted].slot - left[parted].slot - 1) as f64;
    let mut leaves = between * (below(left, parted) + below(right, parted)) / 2.0;
    for level in 1..parted {
        let behind = left[level].slots.saturating_sub(left[level].slot + 1);
        leaves += behind as f64 * below(left, level);
        leaves += right[level].slot as f64 * below(right, level);
    }
    let ends = left[0].slots.saturating_sub(left[0].slot) + right[0].slot;
    let full = (left[0].slots + right[0].slots) as f64 / 2.0;
    sized(leaves + 2.0, leaves * full + ends as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(steps: &[(usize, usize)]) -> Vec<Step> {
        let steps = steps.iter();
        steps.map(|&(slot, slots)| Step { slot, slots }).collect()
    }

    #[test]
    fn estimates() {
        let of = |a: &[(usize, usize)], b: &[(usize, usize)]| {
            let size = estimate(&way(a), &way(b), 4096);
            assert_eq!(size.bytes, size.leaves * 4096);
            (size.leaves, size.records)
        };
        // No leaf; one; the same.
        assert_eq!(of(&[], &[]), (0, 0));
        assert_eq!(of(&[(2, 9)], &[(5, 9)]), (1, 3));
        assert_eq!(of(&[(2, 9), (4, 7)], &[(2, 9), (4, 7)]), (0, 0));
        // Neighbours; with two whole leaves between.
        assert_eq!(of(&[(8, 10), (4, 7)], &[(1, 10), (5, 7)]), (2, 3));
        assert_eq!(of(&[(8, 10), (3, 7)], &[(1, 10), (6, 7)]), (4, 23));
        // Parted at the root: two leaves behind, one before, one child of ten between.
        let left = [(0, 10), (7, 10), (0, 3)];
        let right = [(10, 10), (1, 10), (2, 3)];
        assert_eq!(of(&left, &right), (15, 150));
        // The wrong way round.
        assert_eq!(of(&right, &left), (0, 0));
    }
}
