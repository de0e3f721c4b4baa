//! What range deletes took out of a tree, as long as anybody may look at it.
//!
//! A range delete unlinks whole subtrees and makes them, with a copy of the nodes on the
//! two ways to its ends, a tree by itself (`commit::range`). Views from before the delete
//! read that one in place of the tree; transactions find in it that a range changed; and
//! the nodes in memory that were unlinked have their parents there. Then it is freed as a
//! dropped tree is (`writeback::reclaim`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::ShortMutex;

use super::TreeState;
use crate::format::Csn;
use crate::txn::reads::Bounds as Range;

/// A range that a commit deleted, and what was in it.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) csn: Csn,
    /// The least key of the range.
    pub(crate) lower: Vec<u8>,
    /// The first key behind it; `None`: it has no end.
    pub(crate) upper: Option<Vec<u8>>,
    /// All records of the range, and no others. It never changes.
    pub(crate) tree: Arc<TreeState>,
}

/// A place in the order of keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spot<'a> {
    /// At this key.
    At(&'a [u8]),
    /// Right before this key; without: behind all keys.
    Before(Option<&'a [u8]>),
}

impl Spot<'_> {
    /// Whether it lies behind the border between the keys less than `key` and the others.
    fn is_behind(self, key: &[u8]) -> bool {
        match self {
            Self::At(at) => key <= at,
            Self::Before(end) => end.is_none_or(|end| key < end),
        }
    }
}

impl Detached {
    fn has(&self, spot: Spot<'_>) -> bool {
        let ends = |upper: &Vec<u8>| !spot.is_behind(upper);
        spot.is_behind(&self.lower) && self.upper.as_ref().is_none_or(ends)
    }

    /// A key that both it and `range` have, if there is any.
    fn meets(&self, range: &Range) -> Option<Vec<u8>> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let first = match &range.lower {
            Included(k) => k.clone(),
            Excluded(k) => [k.as_slice(), &[0]].concat(),
            Unbounded => Vec::new(),
        };
        let first = first.max(self.lower.clone());
        let inside = range.below_upper(&first) && self.upper.as_ref().is_none_or(|u| first < *u);
        inside.then_some(first)
    }
}

/// A part of the order of keys, in all of which a view reads the same tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stretch {
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Option<Vec<u8>>,
    /// Where the view reads; without: the tree itself.
    pub(crate) detached: Option<Arc<Detached>>,
}

/// What was taken out of one tree.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    /// How often something was. Changed only while the gate is closed.
    made: AtomicU64,
    /// By commit.
    list: ShortMutex<Vec<Arc<Detached>>>,
}

impl Cuts {
    /// How often something was taken out. Who leaves the gate and keeps frames of the tree
    /// asks before and after: by then they may be another's.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// Notes what is about to be unlinked. The gate is closed, and the nodes that it is
    /// unlinked from are latched: who misses it there finds it here.
    pub(crate) fn add(&self, detached: Arc<Detached>) {
        self.list.lock().push(detached);
        self.made.fetch_add(1, Ordering::Release);
    }

    /// Nobody looks at it any more.
    pub(crate) fn remove(&self, tree: &Arc<TreeState>) {
        self.list.lock().retain(|d| !Arc::ptr_eq(&d.tree, tree));
    }

    /// All that is there, by commit.
    pub(crate) fn all(&self) -> Vec<Arc<Detached>> {
        match self.made() {
            0 => Vec::new(),
            _ => self.list.lock().clone(),
        }
    }

    /// What commits after the first up to the second took out.
    fn since(&self, (view, upto): (Csn, Csn)) -> Vec<Arc<Detached>> {
        let mut all = self.all();
        all.retain(|d| d.csn > view && d.csn <= upto);
        all
    }

    /// Where a view that reads the tree as commit `upto` left it reads this key, if not in
    /// the tree itself.
    pub(crate) fn at(&self, key: &[u8], since: (Csn, Csn)) -> Option<Arc<Detached>> {
        let mut since = self.since(since).into_iter();
        since.find(|d| d.has(Spot::At(key)))
    }

    /// Where such a view reads around this place; `None`: in the tree, wherever it looks.
    pub(crate) fn around(&self, spot: Spot<'_>, since: (Csn, Csn)) -> Option<Stretch> {
        let since = self.since(since);
        let mut stretch = Stretch::default();
        for border in since.iter().flat_map(|d| d.upper.iter().chain([&d.lower])) {
            if spot.is_behind(border) {
                if *border > stretch.lower {
                    stretch.lower.clone_from(border);
                }
            } else if stretch.upper.as_ref().is_none_or(|u| border < u) {
                stretch.upper = Some(border.clone());
            }
        }
        let any = !since.is_empty();
        stretch.detached = since.into_iter().find(|d| d.has(spot));
        any.then_some(stretch)
    }

    /// The first commit after `since` that deleted a range with this key in it.
    pub(crate) fn changed(&self, key: &[u8], since: Csn) -> Option<Csn> {
        self.at(key, (since, Csn::MAX)).map(|d| d.csn)
    }

    /// The first commit after `since` that deleted any of this range, and a key of both.
    pub(crate) fn changed_in(&self, range: &Range, since: Csn) -> Option<(Vec<u8>, Csn)> {
        let mut since = self.since((since, Csn::MAX)).into_iter();
        since.find_map(|d| Some((d.meets(range)?, d.csn)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Child;

    fn cut(csn: Csn, lower: &[u8], upper: Option<&[u8]>) -> Arc<Detached> {
        Arc::new(Detached {
            csn,
            lower: lower.to_vec(),
            upper: upper.map(<[u8]>::to_vec),
            tree: Arc::new(TreeState::new(1, "t", Child::default(), false)),
        })
    }

    #[test]
    fn a_view_reads_what_the_first_later_delete_took_out() {
        let cuts = Cuts::default();
        assert!(cuts.around(Spot::At(b"k"), (0, Csn::MAX)).is_none());
        cuts.add(cut(5, b"d", Some(b"h")));
        cuts.add(cut(9, b"f", None));
        cuts.add(cut(12, b"b", Some(b"e")));
        let at = |spot, view| {
            let s = cuts.around(spot, (view, Csn::MAX)).unwrap();
            let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
            let csn = s.detached.map_or(0, |d| d.csn);
            (csn, text(&s.lower), s.upper.map(|u| text(&u)))
        };
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(at(Spot::At(b"a"), 0), (0, String::new(), some("b")));
        assert_eq!(at(Spot::At(b"b"), 0), (12, "b".into(), some("d")));
        assert_eq!(at(Spot::At(b"d"), 0), (5, "d".into(), some("e")));
        assert_eq!(at(Spot::At(b"g"), 0), (5, "f".into(), some("h")));
        assert_eq!(at(Spot::At(b"h"), 0), (9, "h".into(), None));
        assert_eq!(at(Spot::At(b"d"), 5), (12, "b".into(), some("e")));
        assert_eq!(at(Spot::At(b"e"), 5), (0, "e".into(), some("f")));
        // What lies right before a border is on its other side.
        assert_eq!(at(Spot::Before(Some(b"h")), 0), (5, "f".into(), some("h")));
        assert_eq!(
            at(Spot::Before(Some(b"b")), 0),
            (0, String::new(), some("b"))
        );
        assert_eq!(at(Spot::Before(None), 0), (9, "h".into(), None));
        assert!(cuts.around(Spot::At(b"d"), (12, Csn::MAX)).is_none());
        // What was taken out later is still in what the view reads.
        assert!(cuts.at(b"g", (5, 8)).is_none() && cuts.at(b"g", (5, 9)).is_some());
        for (key, view, csn) in [(b"d", 0, 5), (b"d", 5, 12), (b"g", 5, 9), (b"a", 0, 0)] {
            assert_eq!(cuts.changed(key, view), Some(csn).filter(|c| *c > 0));
        }
    }

    #[test]
    fn a_range_read_meets_a_range_deleted() {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let cuts = Cuts::default();
        cuts.add(cut(5, b"d", Some(b"h")));
        let k = |key: &[u8]| key.to_vec();
        for (lower, upper, met) in [
            (Unbounded, Unbounded, Some("d")),
            (Unbounded, Included(k(b"d")), Some("d")),
            (Unbounded, Excluded(k(b"d")), None),
            (Included(k(b"h")), Unbounded, None),
            (Included(k(b"e")), Included(k(b"e")), Some("e")),
            (Excluded(k(b"g")), Unbounded, Some("g\0")),
            (Excluded(k(b"g")), Excluded(k(b"g\0")), None),
        ] {
            let found = cuts.changed_in(&Range { lower, upper }, 0);
            assert_eq!(found, met.map(|key| (k(key.as_bytes()), 5)));
        }
        assert_eq!(cuts.changed_in(&Range::of(..), 5), None);
        let tree = cuts.all()[0].tree.clone();
        cuts.remove(&tree);
        assert_eq!((cuts.all().len(), cuts.made()), (0, 1));
    }
}
