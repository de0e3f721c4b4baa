//! Ordered scans, both ways, at one commit.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::{Arc, Weak};

use crate::commit::versions::Image;
use crate::commit::view::View;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::Csn;
use crate::format::node::KIND_EXTENT;
use crate::node::Page;
use crate::tree::{Carry, Found, Toward, TreeState};
use crate::worker::Worker;

type Record = (Vec<u8>, Vec<u8>);

/// An ordered walk over a range of a tree as it was when the scan began: later
/// commits do not show, and no commit shows by half. Ends for good after an error.
///
/// Holds a view open while it lives; what is overwritten meanwhile is kept in
/// memory, up to a limit beyond which the scan ends with
/// [`Error::ViewTooOld`](crate::Error::ViewTooOld). When the store is closed, or its
/// last handle dropped, it ends with [`Error::Closed`](crate::Error::Closed).
#[derive(Debug)]
pub struct Scan {
    /// The store, which a scan does not keep open.
    core: Weak<Core>,
    worker: Arc<Worker>,
    tree: Arc<TreeState>,
    view: View,
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    reverse: bool,
    /// Records read and not yet returned, in the order of the walk: key, kind,
    /// stored value.
    ready: VecDeque<(Vec<u8>, u8, Vec<u8>)>,
    /// Where the walk goes on; `None`: it is over.
    next: Option<Position>,
    /// Leaves that were not in memory when the scan came to them.
    misses: u32,
}

/// A place between leaves.
#[derive(Clone, Debug)]
enum Position {
    /// At the leaf that covers this key.
    At(Vec<u8>),
    /// At the leaf before this key; without: at the last leaf.
    Before(Option<Vec<u8>>),
}

/// A leaf's records in the range, and its fences.
struct Piece {
    records: Vec<(Vec<u8>, u8, Vec<u8>)>,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    csn: Csn,
}

impl Piece {
    fn of(page: Page<'_>) -> Self {
        let records = (0..page.slots())
            .map(|i| {
                let mut value = Vec::new();
                page.copy_value(i, &mut value);
                (page.key(i), page.entry(i).kind, value)
            })
            .collect();
        Self {
            records,
            lower: page.lower(),
            upper: page.upper(),
            csn: page.csn(),
        }
    }
}

/// Whether nothing lies between the bounds.
fn is_empty_range(lower: &Bound<Vec<u8>>, upper: &Bound<Vec<u8>>) -> bool {
    match (lower, upper) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => {
            a >= b
        }
        _ => false,
    }
}

impl Scan {
    pub(crate) fn new(
        core: Arc<Core>,
        tree: Arc<TreeState>,
        lower: Bound<Vec<u8>>,
        upper: Bound<Vec<u8>>,
    ) -> Result<Self> {
        let worker = core.forest.workers.mine()?;
        let view = View::open(worker.clone(), &core.visible, || core.last_drawn());
        let mut scan = Self {
            core: Arc::downgrade(&core),
            worker,
            tree,
            view,
            lower,
            upper,
            reverse: false,
            ready: VecDeque::new(),
            next: None,
            misses: 0,
        };
        scan.start();
        Ok(scan)
    }

    fn start(&mut self) {
        self.next = if is_empty_range(&self.lower, &self.upper) {
            None
        } else if self.reverse {
            Some(match &self.upper {
                Bound::Included(k) => Position::At(k.clone()),
                Bound::Excluded(k) => Position::Before(Some(k.clone())),
                Bound::Unbounded => Position::Before(None),
            })
        } else {
            Some(match &self.lower {
                Bound::Included(k) | Bound::Excluded(k) => Position::At(k.clone()),
                Bound::Unbounded => Position::At(Vec::new()),
            })
        };
    }

    /// The same scan from the other end. Call it before the first record is taken.
    #[must_use]
    pub fn rev(mut self) -> Self {
        self.reverse = !self.reverse;
        self.ready.clear();
        self.start();
        self
    }

    /// The commit the scan looks at.
    pub fn csn(&self) -> Csn {
        self.view.csn()
    }

    fn above_lower(&self, key: &[u8]) -> bool {
        match &self.lower {
            Bound::Included(k) => key >= k.as_slice(),
            Bound::Excluded(k) => key > k.as_slice(),
            Bound::Unbounded => true,
        }
    }

    fn below_upper(&self, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Included(k) => key <= k.as_slice(),
            Bound::Excluded(k) => key < k.as_slice(),
            Bound::Unbounded => true,
        }
    }

    /// Reads leaves until there is a record or the range is over.
    fn fill(&mut self) -> Result<()> {
        while self.ready.is_empty() {
            let Some(position) = self.next.take() else {
                return Ok(());
            };
            let core = self.core.upgrade().ok_or(Error::Closed)?;
            core.check_open()?;
            let Some(mut piece) = self.read_leaf(&core, &position)? else {
                return Ok(());
            };
            if piece.csn > self.view.csn() {
                self.restore(&core, &mut piece);
            }
            core.versions.check(self.view.csn())?;
            // The leaf may have been merged, since the scan came to this place, with
            // what lies before it.
            let is_ahead = |key: &[u8]| match (&position, self.reverse) {
                (Position::At(from), false) => key >= from.as_slice(),
                (Position::Before(Some(end)), true) => key < end.as_slice(),
                _ => true,
            };
            piece
                .records
                .retain(|r| self.above_lower(&r.0) && self.below_upper(&r.0) && is_ahead(&r.0));
            if self.reverse {
                self.ready.extend(piece.records.into_iter().rev());
                let more = !piece.lower.is_empty() && self.above_lower_part(&piece.lower);
                self.next = more.then_some(Position::Before(Some(piece.lower)));
            } else {
                self.ready.extend(piece.records);
                self.next = piece
                    .upper
                    .filter(|u| self.below_upper(u))
                    .map(Position::At);
            }
        }
        Ok(())
    }

    /// Whether keys less than `fence` can lie in the range.
    fn above_lower_part(&self, fence: &[u8]) -> bool {
        match &self.lower {
            Bound::Included(k) | Bound::Excluded(k) => fence > k.as_slice(),
            Bound::Unbounded => true,
        }
    }

    fn read_leaf(&mut self, core: &Core, position: &Position) -> Result<Option<Piece>> {
        let toward = match position {
            Position::At(k) => Toward::Key(k),
            Position::Before(k) => Toward::Before(k.as_deref()),
        };
        let forest = &core.forest;
        let mut carry = Carry::default();
        self.worker.counters.scan_leaves.add(1);
        loop {
            let at = match forest.descend(&self.tree, toward, 0, None) {
                Found::Node(at) => at,
                Found::Empty(_) => {
                    // Emptied since, or not filled yet: images tell.
                    return Ok(Some(Piece {
                        records: Vec::new(),
                        lower: Vec::new(),
                        upper: None,
                        csn: Csn::MAX,
                    }));
                }
                missing if forest.needs_aside(&carry) => {
                    match forest.leaf_aside(&self.worker, &self.tree, toward, missing)? {
                        Some(leaf) => return Ok(Some(Piece::of(leaf.page()))),
                        None => continue,
                    }
                }
                missing => {
                    // The further a scan goes, the further it reads ahead.
                    let count = forest.read_ahead().min(1 << self.misses.min(6));
                    self.misses += 1;
                    if let Found::Missing {
                        parent,
                        level: Some(0),
                        ..
                    } = missing
                        && forest.prefetch_siblings(
                            &self.worker,
                            &self.tree,
                            parent,
                            self.reverse,
                            count,
                        )?
                    {
                        continue;
                    }
                    forest.bring_in(&self.worker, &self.tree, missing, &mut carry)?;
                    continue;
                }
            };
            let page = forest.cache.page(at.frame);
            let piece = Piece::of(page);
            if forest.cache.frame(at.frame).latch.validate(at.version) {
                return Ok(Some(piece));
            }
        }
    }

    fn read_large(&self, pieces: &[u8]) -> Result<Vec<u8>> {
        let core = self.core.upgrade().ok_or(Error::Closed)?;
        core.check_open()?;
        let whole = core.read_extents(&self.tree, pieces)?;
        core.versions.check(self.view.csn())?;
        Ok(whole)
    }

    /// Undoes what commits after the view changed in the piece.
    fn restore(&self, core: &Core, piece: &mut Piece) {
        let images = core.versions.range(
            self.tree.id,
            &piece.lower,
            piece.upper.as_deref(),
            self.view.csn(),
        );
        for (key, image) in images {
            place(&mut piece.records, key, image);
        }
    }
}

fn place(records: &mut Vec<(Vec<u8>, u8, Vec<u8>)>, key: Vec<u8>, image: Image) {
    match (records.binary_search_by(|r| r.0.cmp(&key)), image) {
        (Ok(i), Some((kind, value))) => (records[i].1, records[i].2) = (kind, value),
        (Ok(i), None) => {
            records.remove(i);
        }
        (Err(i), Some((kind, value))) => records.insert(i, (key, kind, value)),
        (Err(_), None) => {}
    }
}

impl Iterator for Scan {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(e) = self.fill() {
            self.next = None;
            return Some(Err(e));
        }
        let (key, kind, value) = self.ready.pop_front()?;
        if kind != KIND_EXTENT {
            return Some(Ok((key, value)));
        }
        // The view keeps the extents from being used again.
        let checked = self.read_large(&value);
        if checked.is_err() {
            self.next = None;
            self.ready.clear();
        }
        Some(checked.map(|v| (key, v)))
    }
}
