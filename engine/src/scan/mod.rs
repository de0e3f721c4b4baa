//! Ordered scans, both ways, at one commit.

mod cursor;
mod piece;
mod records;

use std::ops::{Bound, Range};
use std::sync::{Arc, Weak};

use gaur_iodriver::fault;

use crate::commit::versions::Image;
use crate::commit::view::View;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::Csn;
use crate::format::node::KIND_EXTENT;
use crate::tree::detached::Spot;
use crate::tree::{Carry, Found, Parent, Toward, TreeState};
use crate::worker::Worker;
use piece::{Piece, Position};
use records::Records;

pub use cursor::Cursor;

type Record = (Vec<u8>, Vec<u8>);

/// Changes of the log taken beside one leaf: a leaf's range may have any number.
const BESIDE: usize = 256;

/// A part of a tree that a scan could not read, and passed over
/// ([`Scan::skip_damaged`]).
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// The first key that may be missing.
    pub lower: Vec<u8>,
    /// All missing keys are less; `None`: up to the tree's end.
    pub upper: Option<Vec<u8>>,
    /// Why: [`Error::Damaged`] or [`Error::Io`].
    pub why: Error,
}

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
    view: Arc<View>,
    /// It came to a tree of a frozen generation.
    frozen: bool,
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    reverse: bool,
    /// Records read, and which of them were not returned yet.
    ready: Records,
    left: Range<usize>,
    /// A large value, while it is lent.
    large: Vec<u8>,
    /// Where the walk goes on; `None`: it is over.
    next: Option<Position>,
    /// What named the leaf read last, if it was a node in memory.
    last: Option<Parent>,
    /// Leaves that were not in memory when the scan came to them.
    misses: u32,
    keys_only: bool,
    /// Records that may still be returned.
    limit: usize,
    /// Leaves are copied whole: there is a log to look at beside them.
    whole: bool,
    /// What was passed over, if damage is to be passed over.
    left_out: Option<Vec<LeftOut>>,
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

impl Drop for Scan {
    fn drop(&mut self) {
        std::mem::take(&mut self.ready).keep_spare();
    }
}

impl Scan {
    pub(crate) fn new(
        core: Arc<Core>,
        tree: Arc<TreeState>,
        lower: Bound<Vec<u8>>,
        upper: Bound<Vec<u8>>,
    ) -> Result<Self> {
        let view = core.view()?;
        Self::at(core, tree, view, lower, upper)
    }

    /// A scan at an open view.
    pub(crate) fn at(
        core: Arc<Core>,
        tree: Arc<TreeState>,
        view: Arc<View>,
        lower: Bound<Vec<u8>>,
        upper: Bound<Vec<u8>>,
    ) -> Result<Self> {
        tree.anchor.check_since(view.csn())?;
        let worker = core.forest.workers.mine()?;
        let mut scan = Self {
            core: Arc::downgrade(&core),
            worker,
            tree,
            view,
            frozen: false,
            lower,
            upper,
            reverse: false,
            ready: Records::spare(),
            left: 0..0,
            large: Vec::new(),
            next: None,
            last: None,
            misses: 0,
            keys_only: false,
            limit: usize::MAX,
            whole: core.overlay().is_some(),
            left_out: None,
        };
        scan.start();
        Ok(scan)
    }

    fn start(&mut self) {
        self.last = None;
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
        self.left = 0..0;
        self.start();
        self
    }

    /// The same scan, which ends after `records` records, and copies no more from the
    /// leaves than that: cheaper than to stop taking.
    #[must_use]
    pub fn limit(mut self, records: usize) -> Self {
        self.limit = records;
        self
    }

    /// The same scan with empty values: large ones are not read.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// The same scan, which passes over what is damaged or cannot be read, and goes
    /// on behind it. [`Scan::left_out`] tells what that was.
    #[must_use]
    pub fn skip_damaged(mut self) -> Self {
        self.left_out.get_or_insert_default();
        self
    }

    /// What was passed over so far, in the order it was met; nothing without
    /// [`Scan::skip_damaged`].
    pub fn left_out(&self) -> &[LeftOut] {
        self.left_out.as_deref().unwrap_or_default()
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
        while self.left.is_empty() {
            let Some(position) = self.next.take() else {
                return Ok(());
            };
            let core = self.core.upgrade().ok_or(Error::Closed)?;
            core.check_open()?;
            let mut piece = self.read_piece(&core, &position)?;
            self.add_log(&core, &mut piece, &position);
            // The leaf may have been merged, since the scan came to this place, with
            // what lies before it.
            let from = piece.records.partition(|k| {
                let behind =
                    matches!(&position, Position::At(from) if !self.reverse && k < from.as_slice());
                behind && !fault!(ScanRepeatsMerged) || !self.above_lower(k)
            });
            let to = piece.records.partition(|k| {
                let behind = matches!(&position, Position::Before(Some(end)) if self.reverse && k >= end.as_slice());
                !behind && self.below_upper(k)
            });
            self.ready = piece.records;
            self.left = from..to.max(from);
            self.next = if self.reverse {
                let more = !piece.lower.is_empty() && self.above_lower_part(&piece.lower);
                more.then_some(Position::Before(Some(piece.lower)))
            } else {
                let more = piece.upper.filter(|u| self.below_upper(u));
                more.map(Position::At)
            };
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

    /// What the view sees of the leaf at `position`.
    fn read_piece(&mut self, core: &Core, position: &Position) -> Result<Piece> {
        let (tree, view) = (self.tree.clone(), self.view.clone());
        let passed = self.left_out().len();
        loop {
            let reads = view.reads(&core.forest.pins);
            let unwritten = reads.is_unwritten();
            if !reads.is_running() && !std::mem::replace(&mut self.frozen, true) {
                // Its neighbours are of the running tree.
                self.last = None;
            }
            let piece = match core.seen(&tree, reads) {
                Some(seen) => self.read_leaf(core, seen, position),
                None => Ok(Piece::empty(
                    Vec::new(),
                    None,
                    std::mem::take(&mut self.ready),
                )),
            };
            let piece = match piece {
                Ok(piece) if piece.csn > view.csn() => {
                    self.restore(core, piece, position, reads.upto())
                }
                piece => piece,
            };
            // If it was pinned meanwhile, images may be missing.
            let pinned = reads.is_running() && !view.reads(&core.forest.pins).is_running();
            let missed = unwritten && (piece.is_err() || self.left_out().len() > passed);
            if pinned || missed && core.is_written_now(reads) {
                if let Some(list) = &mut self.left_out {
                    list.truncate(passed);
                }
                continue;
            }
            tree.check(view.csn())?;
            core.check_view(&view)?;
            return piece;
        }
    }

    fn read_leaf(&mut self, core: &Core, tree: &TreeState, position: &Position) -> Result<Piece> {
        let toward = match position {
            Position::At(k) => Toward::Key(k),
            Position::Before(k) => Toward::Before(k.as_deref()),
        };
        let forest = &core.forest;
        let mut carry = Carry::default();
        let mut records = std::mem::take(&mut self.ready);
        // Once a leaf: where frames are few, what comes in drives out what came before,
        // the leaf itself at worst, and going on so would never end.
        let mut ahead = true;
        self.worker.counters.scan_leaves.add(1);
        let mut beside = self.last.take();
        loop {
            let found = beside
                .take()
                .and_then(|last| forest.beside(tree, last, self.reverse))
                .map_or_else(|| forest.descend(tree, toward, 0, None), Found::Node);
            let at = match found {
                Found::Node(at) => at,
                Found::Empty(_) => {
                    // Emptied since, or not filled yet: images tell.
                    return Ok(Piece::empty(Vec::new(), None, records));
                }
                missing if forest.needs_aside(&carry) => {
                    match forest.leaf_aside(&self.worker, tree, toward, missing)? {
                        Some(leaf) => {
                            return Ok(Piece::of(leaf.page(), position, self, records));
                        }
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
                        && std::mem::take(&mut ahead)
                        && forest.prefetch_siblings(
                            &self.worker,
                            tree,
                            parent,
                            self.reverse,
                            count,
                        )?
                    {
                        continue;
                    }
                    let came = forest.bring_in(&self.worker, tree, missing, &mut carry);
                    match (came, &mut self.left_out) {
                        (Err(why @ (Error::Damaged(_) | Error::Io(_))), Some(list)) => {
                            let Some((lower, upper)) = forest.range_of(tree, missing) else {
                                continue;
                            };
                            list.push(LeftOut {
                                lower: lower.clone(),
                                upper: upper.clone(),
                                why,
                            });
                            return Ok(Piece::empty(lower, upper, records));
                        }
                        (came, _) => came?,
                    }
                    continue;
                }
            };
            let page = forest.cache.page(at.frame);
            forest.warm_sibling(at.parent, self.reverse);
            let piece = Piece::of(page, position, self, records);
            if forest.cache.frame(at.frame).latch.validate(at.version) {
                // Only without a log the walk goes on at the leaf's fence.
                self.last = Some(at.parent).filter(|_| !self.whole);
                return Ok(piece);
            }
            records = piece.records;
        }
    }

    /// Adds what the log changes, of a store that is only read and was not closed:
    /// the next few changes ahead. If there are more, the piece ends before them.
    fn add_log(&self, core: &Core, piece: &mut Piece, position: &Position) {
        let Some(overlay) = core.overlay() else {
            return;
        };
        let id = self.tree.id;
        if overlay.has_holes(id) {
            piece.records.retain(|key| !overlay.in_hole(id, key));
        }
        let copy = |(key, image): (&Vec<u8>, &Image)| (key.clone(), image.clone());
        let mut changes: Vec<(Vec<u8>, Image)>;
        if self.reverse {
            let end = match position {
                Position::At(last) => Some([last.as_slice(), &[0]].concat()),
                Position::Before(end) => end.clone(),
            };
            let upper = match (&end, &piece.upper) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.as_ref().or(b.as_ref()),
            };
            let ahead = overlay.range(id, &piece.lower, upper.map(Vec::as_slice));
            changes = ahead.rev().take(BESIDE).map(copy).collect();
            if let Some((first, _)) = changes.get(BESIDE - 1) {
                let from = piece.records.partition(|k| k < first.as_slice());
                piece.records.keep(from..piece.records.len());
                piece.lower = first.clone();
            }
        } else {
            let lower = match position {
                Position::At(from) => from.max(&piece.lower),
                Position::Before(_) => &piece.lower,
            };
            let ahead = overlay.range(id, lower, piece.upper.as_deref());
            changes = ahead.take(BESIDE + 1).map(copy).collect();
            if let Some((end, _)) = changes.get(BESIDE) {
                let to = piece.records.partition(|k| k < end.as_slice());
                piece.records.keep(0..to);
                piece.upper = Some(end.clone());
                changes.truncate(BESIDE);
            }
        }
        for (key, image) in changes {
            piece.records.set(&key, image);
        }
    }

    fn read_large(&self, pieces: &[u8]) -> Result<Vec<u8>> {
        let core = self.core.upgrade().ok_or(Error::Closed)?;
        core.check_open()?;
        // Once the view was given up its blocks may be used again: no damage.
        let whole = core.read_extents(&self.tree, pieces);
        core.check_view(&self.view)?;
        whole
    }

    /// Undoes what commits after the view, up to `upto`, changed in the piece. What they
    /// deleted as a range is read where it is now; the piece ends where that does.
    fn restore(
        &mut self,
        core: &Core,
        mut piece: Piece,
        position: &Position,
        mut upto: Csn,
    ) -> Result<Piece> {
        let (tree, view) = (self.tree.clone(), self.view.csn());
        let spot = match position {
            Position::At(key) => Spot::At(key),
            Position::Before(key) => Spot::Before(key.as_deref()),
        };
        if let Some(stretch) = tree.cuts.around(spot, (view, upto)) {
            // The walk goes on where the stretch ends, not beside this leaf.
            self.last = None;
            if let Some(cut) = &stretch.detached {
                self.ready = std::mem::take(&mut piece.records);
                piece = self.read_leaf(core, &cut.tree, position)?;
                self.last = None;
                upto = cut.csn - 1;
            }
            piece.keep(stretch);
        }
        let (lower, upper) = (piece.lower.as_slice(), piece.upper.as_deref());
        let images = core.versions.range(tree.id, lower, upper, (view, upto));
        for (key, image) in images {
            piece.records.set(&key, image);
        }
        Ok(piece)
    }
}

/// What lies ready to be lent.
enum Lent {
    /// This record.
    Record(usize),
    /// This record's key, with the large value that was read.
    Large(usize),
}

impl Scan {
    /// The next record, lent: as [`Iterator::next`], without an allocation for each.
    /// `None`: the range is over.
    ///
    /// # Errors
    /// As the iterator's. The scan has ended then.
    ///
    /// ```
    /// # fn main() -> gaur::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("lent.store");
    /// # let size = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &size)?;
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default())?;
    /// let tree = store.tree("fruit")?;
    /// tree.put(b"apple", b"red")?;
    /// tree.put(b"pear", b"green")?;
    /// let mut scan = tree.iter()?;
    /// let mut bytes = 0;
    /// while let Some((key, value)) = scan.next_lent()? {
    ///     bytes += key.len() + value.len();
    /// }
    /// assert_eq!(bytes, 17);
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_lent(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let lent = self.advance()?;
        Ok(lent.map(|lent| match lent {
            Lent::Record(i) if self.keys_only => (self.ready.key(i), &[][..]),
            Lent::Record(i) => (self.ready.key(i), self.ready.value(i).1),
            Lent::Large(i) => (self.ready.key(i), self.large.as_slice()),
        }))
    }

    /// How many records are left, without returning them: cheaper than to take them.
    ///
    /// # Errors
    /// As the iterator's.
    pub fn count_records(mut self) -> Result<u64> {
        let mut records = 0;
        while records < self.limit {
            self.fill()?;
            if self.left.is_empty() {
                break;
            }
            records += std::mem::take(&mut self.left).len();
        }
        Ok(records.min(self.limit) as u64)
    }

    fn advance(&mut self) -> Result<Option<Lent>> {
        self.large = Vec::new();
        let lent = self.step();
        if lent.is_err() {
            self.next = None;
            self.left = 0..0;
        }
        lent
    }

    fn step(&mut self) -> Result<Option<Lent>> {
        loop {
            if self.limit == 0 {
                return Ok(None);
            }
            self.fill()?;
            let next = if self.reverse {
                self.left.next_back()
            } else {
                self.left.next()
            };
            let Some(i) = next else {
                return Ok(None);
            };
            let (kind, value) = self.ready.value(i);
            if self.keys_only || kind != KIND_EXTENT {
                self.limit -= 1;
                return Ok(Some(Lent::Record(i)));
            }
            // The view keeps the extents from being used again.
            match (self.read_large(value), &mut self.left_out) {
                (Ok(value), _) => {
                    self.large = value;
                    self.limit -= 1;
                    return Ok(Some(Lent::Large(i)));
                }
                (Err(why @ (Error::Damaged(_) | Error::Io(_))), Some(list)) => {
                    let lower = self.ready.key(i).to_vec();
                    let upper = Some([lower.as_slice(), &[0]].concat());
                    list.push(LeftOut { lower, upper, why });
                }
                (Err(e), _) => return Err(e),
            }
        }
    }
}

impl Iterator for Scan {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let lent = match self.advance() {
            Ok(lent) => lent?,
            Err(e) => return Some(Err(e)),
        };
        Some(Ok(match lent {
            Lent::Record(i) if self.keys_only => (self.ready.key(i).to_vec(), Vec::new()),
            Lent::Record(i) => (self.ready.key(i).to_vec(), self.ready.value(i).1.to_vec()),
            Lent::Large(i) => (self.ready.key(i).to_vec(), std::mem::take(&mut self.large)),
        }))
    }
}
