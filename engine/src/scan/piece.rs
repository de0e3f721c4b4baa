//! What a scan takes of one leaf, and the places between leaves.

use std::ops::Range;

use super::Scan;
use super::records::Records;
use crate::format::Csn;
use crate::node::Page;
use crate::tree::detached::Stretch;

/// A place between leaves.
#[derive(Clone, Debug)]
pub(super) enum Position {
    /// At the leaf that covers this key.
    At(Vec<u8>),
    /// At the leaf before this key; without: at the last leaf.
    Before(Option<Vec<u8>>),
}

/// A leaf's records, at least those that lie ahead, and its fences.
pub(super) struct Piece {
    pub(super) records: Records,
    pub(super) lower: Vec<u8>,
    pub(super) upper: Option<Vec<u8>>,
    pub(super) csn: Csn,
}

impl Piece {
    /// Copies what lies ahead of `position` on the leaf, into emptied `records`: at
    /// most `limit` records, if nothing has to be added to them.
    pub(super) fn of(
        page: Page<'_>,
        position: &Position,
        scan: &Scan,
        mut records: Records,
    ) -> Self {
        records.clear();
        let (slots, reverse) = (page.slots(), scan.reverse);
        let csn = page.csn();
        let whole = scan.whole || csn > scan.view.csn();
        let most = match whole {
            true => usize::MAX,
            // The first one may be what the range excludes.
            false => scan.limit.saturating_add(1),
        };
        let cut = |ahead: Range<usize>| match reverse {
            true => ahead.end.saturating_sub(most).max(ahead.start)..ahead.end,
            false => ahead.start..ahead.end.min(ahead.start.saturating_add(most)),
        };
        page.prefetch(cut(match (position, reverse) {
            (Position::At(key), false) => page.guess(key)..slots,
            (Position::At(key), true) => 0..slots.min(page.guess(key) + 1),
            (Position::Before(_), _) => 0..slots,
        }));
        let ahead = match (position, reverse) {
            (Position::At(key), false) => page.search(key).0..slots,
            (Position::At(key), true) => {
                let (i, found) = page.search(key);
                0..i + usize::from(found)
            }
            // Only within its fences can a key be looked for.
            (Position::Before(Some(key)), _) if page.covers(key) => 0..page.search(key).0,
            (Position::Before(_), _) => 0..slots,
        };
        records.copy(page, cut(ahead));
        // The walk goes on at one fence; both are needed to add what lies between.
        Self {
            records,
            lower: if whole || reverse {
                page.lower()
            } else {
                Vec::new()
            },
            upper: if whole || !reverse {
                page.upper()
            } else {
                None
            },
            csn,
        }
    }

    /// Keeps what lies in a stretch of keys.
    pub(super) fn keep(&mut self, stretch: Stretch) {
        let Stretch { lower, upper, .. } = stretch;
        let from = self.records.partition(|k| k < lower.as_slice());
        let to = self
            .records
            .partition(|k| upper.as_ref().is_none_or(|u| k < u.as_slice()));
        self.records.keep(from..to.max(from));
        self.lower = std::mem::take(&mut self.lower).max(lower);
        self.upper = match (self.upper.take(), upper) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// One of which nothing is known but the fences.
    pub(super) fn empty(lower: Vec<u8>, upper: Option<Vec<u8>>, mut records: Records) -> Self {
        records.clear();
        Self {
            records,
            lower,
            upper,
            csn: Csn::MAX,
        }
    }
}
