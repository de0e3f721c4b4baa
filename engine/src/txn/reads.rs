//! What a transaction read: keys, and ranges of keys, by tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::error::Result;
use crate::format::{Csn, TreeId};
use crate::tree::TreeState;

/// Bytes, about, above which what was read is kept coarser.
const LIMIT: usize = 1 << 20;
/// What an entry takes beside its keys, about.
const OVERHEAD: usize = 64;

/// The two ends of a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) lower: Bound<Vec<u8>>,
    pub(crate) upper: Bound<Vec<u8>>,
}

impl Bounds {
    pub(crate) fn of(range: impl RangeBounds<Vec<u8>>) -> Self {
        Self {
            lower: range.start_bound().cloned(),
            upper: range.end_bound().cloned(),
        }
    }

    pub(crate) fn above_lower(&self, key: &[u8]) -> bool {
        match &self.lower {
            Bound::Included(k) => key >= k.as_slice(),
            Bound::Excluded(k) => key > k.as_slice(),
            Bound::Unbounded => true,
        }
    }

    pub(crate) fn below_upper(&self, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Included(k) => key <= k.as_slice(),
            Bound::Excluded(k) => key < k.as_slice(),
            Bound::Unbounded => true,
        }
    }

    /// Whether nothing can lie in it.
    pub(crate) fn is_empty(&self) -> bool {
        match (&self.lower, &self.upper) {
            (Bound::Included(a), Bound::Included(b)) => a > b,
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => {
                a >= b
            }
            _ => false,
        }
    }

    /// Two keys between which it lies, both included; `None`: it has no end.
    pub(crate) fn ends(&self) -> Option<(&[u8], &[u8])> {
        match (&self.lower, &self.upper) {
            (
                Bound::Included(lower) | Bound::Excluded(lower),
                Bound::Included(upper) | Bound::Excluded(upper),
            ) => Some((lower, upper)),
            (Bound::Unbounded, Bound::Included(upper) | Bound::Excluded(upper)) => {
                Some((&[], upper))
            }
            (_, Bound::Unbounded) => None,
        }
    }

    /// What of it lies from `lower` on.
    pub(crate) fn from(mut self, lower: Bound<Vec<u8>>) -> Self {
        let begins = match &lower {
            Bound::Included(k) | Bound::Excluded(k) => self.above_lower(k),
            Bound::Unbounded => false,
        };
        if begins {
            self.lower = lower;
        }
        self
    }

    /// What of it lies up to `upper`.
    pub(crate) fn up_to(mut self, upper: Bound<Vec<u8>>) -> Self {
        let ends = match &upper {
            Bound::Included(k) | Bound::Excluded(k) => self.below_upper(k),
            Bound::Unbounded => false,
        };
        if ends {
            self.upper = upper;
        }
        self
    }

    fn bytes(&self) -> usize {
        let len = |b: &Bound<Vec<u8>>| match b {
            Bound::Included(k) | Bound::Excluded(k) => k.len(),
            Bound::Unbounded => 0,
        };
        len(&self.lower) + len(&self.upper) + OVERHEAD
    }

    /// The least range with both.
    fn join(self, other: Self) -> Self {
        use Bound::{Excluded, Included, Unbounded};
        let lower = match (self.lower, other.lower) {
            (Unbounded, _) | (_, Unbounded) => Unbounded,
            (Excluded(a), Excluded(b)) => Excluded(a.min(b)),
            (Excluded(a), Included(b)) | (Included(b), Excluded(a)) if a < b => Excluded(a),
            (Included(a) | Excluded(a), Included(b) | Excluded(b)) => Included(a.min(b)),
        };
        let upper = match (self.upper, other.upper) {
            (Unbounded, _) | (_, Unbounded) => Unbounded,
            (Excluded(a), Excluded(b)) => Excluded(a.max(b)),
            (Excluded(a), Included(b)) | (Included(b), Excluded(a)) if a > b => Excluded(a),
            (Included(a) | Excluded(a), Included(b) | Excluded(b)) => Included(a.max(b)),
        };
        Self { lower, upper }
    }
}

/// A range that was noted, and may turn out to be less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted(u64);

#[derive(Debug)]
struct Of {
    tree: Arc<TreeState>,
    points: BTreeSet<Vec<u8>>,
    ranges: BTreeMap<u64, Bounds>,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    trees: BTreeMap<TreeId, Of>,
    next: u64,
    bytes: usize,
}

impl Reads {
    fn of(&mut self, tree: &Arc<TreeState>) -> &mut Of {
        self.trees.entry(tree.id).or_insert_with(|| Of {
            tree: tree.clone(),
            points: BTreeSet::new(),
            ranges: BTreeMap::new(),
        })
    }

    /// Notes that a key was read.
    pub(crate) fn point(&mut self, tree: &Arc<TreeState>, key: &[u8]) {
        let of = self.of(tree);
        if !of.points.contains(key) {
            of.points.insert(key.to_vec());
            self.bytes += key.len() + OVERHEAD;
            self.bound();
        }
    }

    /// Notes that a range was read.
    pub(crate) fn range(&mut self, tree: &Arc<TreeState>, bounds: Bounds) -> Noted {
        let id = self.next;
        self.next += 1;
        self.bytes += bounds.bytes();
        self.of(tree).ranges.insert(id, bounds);
        self.bound();
        Noted(id)
    }

    /// Makes a range what was read of it in the end; `None`: nothing.
    pub(crate) fn narrow(&mut self, tree: TreeId, noted: Noted, to: Option<Bounds>) {
        let Some(of) = self.trees.get_mut(&tree) else {
            return;
        };
        // It may have become part of a coarser one.
        if let Some(old) = of.ranges.remove(&noted.0) {
            self.bytes -= old.bytes();
            if let Some(to) = to {
                self.bytes += to.bytes();
                of.ranges.insert(noted.0, to);
            }
        }
    }

    /// Keeps what was read coarser, if it takes too much memory: one range per tree.
    fn bound(&mut self) {
        if self.bytes <= LIMIT {
            return;
        }
        self.bytes = 0;
        for of in self.trees.values_mut() {
            let points = std::mem::take(&mut of.points);
            let hull = match (points.first(), points.last()) {
                (Some(first), Some(last)) => Some(Bounds {
                    lower: Bound::Included(first.clone()),
                    upper: Bound::Included(last.clone()),
                }),
                _ => None,
            };
            let ranges = std::mem::take(&mut of.ranges).into_values();
            if let Some(all) = hull.into_iter().chain(ranges).reduce(Bounds::join) {
                self.bytes += all.bytes();
                of.ranges.insert(self.next, all);
                self.next += 1;
            }
        }
    }

    /// The keys read, by tree and key.
    pub(crate) fn points(&self) -> impl Iterator<Item = (&TreeState, &[u8])> {
        self.trees
            .values()
            .flat_map(|of| of.points.iter().map(|key| (&*of.tree, key.as_slice())))
    }

    /// An error if a tree that was read was dropped.
    pub(crate) fn check_trees(&self) -> Result<()> {
        self.trees
            .values()
            .try_for_each(|of| of.tree.check(Csn::MAX))
    }

    /// Whether a range of a tree that was read was ever cut out of it.
    pub(crate) fn were_cut(&self) -> bool {
        self.trees.values().any(|of| of.tree.cuts.made() > 0)
    }

    /// The ranges read, by tree.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (&TreeState, &Bounds)> {
        self.trees
            .values()
            .flat_map(|of| of.ranges.values().map(|bounds| (&*of.tree, bounds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(id: TreeId) -> Arc<TreeState> {
        Arc::new(TreeState::empty(id, &id.to_string()))
    }

    fn bounds(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Bounds {
        Bounds {
            lower: lower.map(<[u8]>::to_vec),
            upper: upper.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn a_range_becomes_what_was_read_of_it() {
        use Bound::{Excluded, Included, Unbounded};
        let (one, mut r) = (tree(1), Reads::default());
        let a = r.range(&one, bounds(Unbounded, Unbounded));
        let b = r.range(&one, bounds(Included(b"k"), Unbounded));
        r.narrow(1, a, Some(bounds(Unbounded, Included(b"c"))));
        r.narrow(1, b, None);
        let all: Vec<_> = r.ranges().map(|(_, b)| b.clone()).collect();
        assert_eq!(all, [bounds(Unbounded, Included(b"c"))]);
        assert!(all[0].below_upper(b"c") && !all[0].below_upper(b"ca"));
        assert_eq!(all[0].ends(), Some((&b""[..], &b"c"[..])));
        assert!(!bounds(Excluded(b"c"), Unbounded).above_lower(b"c"));
    }

    #[test]
    fn joined_ranges_have_all_of_both() {
        use Bound::{Excluded, Included, Unbounded};
        let keys: Vec<Vec<u8>> = (0..12u8)
            .map(|i| vec![b'a' + i / 2; 1 + i as usize % 2])
            .collect();
        let mut ends = vec![Unbounded];
        for k in [&b"b"[..], b"c", b"d"] {
            ends.extend([Included(k), Excluded(k)]);
        }
        let all: Vec<Bounds> = ends
            .iter()
            .flat_map(|l| ends.iter().map(|u| bounds(*l, *u)))
            .collect();
        let has = |b: &Bounds, k: &[u8]| b.above_lower(k) && b.below_upper(k);
        for a in &all {
            for b in &all {
                let both = a.clone().join(b.clone());
                for k in &keys {
                    assert!(
                        has(&both, k) || !(has(a, k) || has(b, k)),
                        "{a:?} {b:?} give {both:?}, without {k:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn much_that_was_read_is_kept_coarser() {
        let (one, two, mut r) = (tree(1), tree(2), Reads::default());
        let noted = r.range(&two, bounds(Bound::Unbounded, Bound::Excluded(b"m")));
        r.point(&two, b"x");
        for i in 0..100_000u32 {
            r.point(&one, &i.to_be_bytes());
        }
        assert!(r.bytes <= LIMIT + 1000);
        let has = |t: TreeId, key: &[u8]| {
            r.points().any(|(tree, k)| tree.id == t && k == key)
                || r.ranges()
                    .any(|(tree, b)| tree.id == t && b.above_lower(key) && b.below_upper(key))
        };
        assert!(
            (0..100_000u32)
                .step_by(77)
                .all(|i| has(1, &i.to_be_bytes()))
        );
        assert!(has(2, b"a") && has(2, b"x"));
        r.narrow(2, noted, None);
        let still = r
            .ranges()
            .any(|(tree, b)| tree.id == 2 && b.below_upper(b"x"));
        assert!(still, "what was joined cannot be taken out again");
    }
}
