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
    keys_only: bool,
    /// What was passed over, if damage is to be passed over.
    left_out: Option<Vec<LeftOut>>,
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
            keys_only: false,
            left_out: None,
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
            self.add_log(&core, &mut piece, &position);
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
        // Once a leaf: where frames are few, what comes in drives out what came before,
        // the leaf itself at worst, and going on so would never end.
        let mut ahead = true;
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
                        && std::mem::take(&mut ahead)
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
                    let came = forest.bring_in(&self.worker, &self.tree, missing, &mut carry);
                    match (came, &mut self.left_out) {
                        (Err(why @ (Error::Damaged(_) | Error::Io(_))), Some(list)) => {
                            let Some((lower, upper)) = forest.range_of(&self.tree, missing) else {
                                continue;
                            };
                            list.push(LeftOut {
                                lower: lower.clone(),
                                upper: upper.clone(),
                                why,
                            });
                            return Ok(Some(Piece {
                                records: Vec::new(),
                                lower,
                                upper,
                                csn: Csn::MAX,
                            }));
                        }
                        (came, _) => came?,
                    }
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

    /// Adds what the log changes, of a store that is only read and was not closed:
    /// the next few changes ahead. If there are more, the piece ends before them.
    fn add_log(&self, core: &Core, piece: &mut Piece, position: &Position) {
        let Some(overlay) = core.overlay() else {
            return;
        };
        let id = self.tree.id;
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
                piece.records.retain(|r| r.0 >= *first);
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
                piece.records.retain(|r| r.0 < *end);
                piece.upper = Some(end.clone());
                changes.truncate(BESIDE);
            }
        }
        for (key, image) in changes {
            place(&mut piece.records, key, image);
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
        loop {
            if let Err(e) = self.fill() {
                self.next = None;
                return Some(Err(e));
            }
            let (key, kind, value) = self.ready.pop_front()?;
            if self.keys_only {
                return Some(Ok((key, Vec::new())));
            }
            if kind != KIND_EXTENT {
                return Some(Ok((key, value)));
            }
            // The view keeps the extents from being used again.
            match (self.read_large(&value), &mut self.left_out) {
                (Ok(value), _) => return Some(Ok((key, value))),
                (Err(why @ (Error::Damaged(_) | Error::Io(_))), Some(list)) => {
                    let upper = Some([key.as_slice(), &[0]].concat());
                    list.push(LeftOut {
                        lower: key,
                        upper,
                        why,
                    });
                }
                (Err(e), _) => {
                    self.next = None;
                    self.ready.clear();
                    return Some(Err(e));
                }
            }
        }
    }
}
