//! A place in an ordered range, moved both ways.

use std::ops::Bound;
use std::sync::{Arc, Weak};

use super::Scan;
use crate::commit::view::View;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::tree::TreeState;
use crate::txn::reads::Bounds;
use crate::txn::{Transaction, TransactionScan};

type Record = (Vec<u8>, Vec<u8>);

/// What a cursor moves over.
#[derive(Debug)]
enum Source<'t> {
    Committed(Weak<Core>, Arc<View>),
    Transaction(&'t Transaction),
}

/// The walk from the cursor's place on, in one direction.
#[derive(Debug)]
enum Walk<'t> {
    Committed(Box<Scan>),
    Transaction(Box<TransactionScan<'t>>),
}

/// Where the cursor stands.
#[derive(Clone, Debug)]
enum Place {
    /// Before the first record.
    Start,
    /// On the record of this key, or, where none has it, between its neighbours.
    At(Vec<u8>),
    /// Behind the last record.
    End,
}

/// A place in a range of a tree's records, moved to any key and both ways from there.
/// Begins before the first record. Looks at one commit, as a scan does, or at what a
/// transaction sees.
///
/// Going on in one direction costs what a scan costs; turning round searches anew.
/// After an error it stands where it stood.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("cursor.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// let tree = store.tree("t")?;
/// for k in [b"a", b"c", b"e"] {
///     tree.put_with(k, b"", gaur::Durability::Buffered)?;
/// }
/// let mut cursor = tree.cursor(..)?;
/// let key = |record: Option<(Vec<u8>, Vec<u8>)>| record.map(|(key, _)| key[0] as char);
/// assert_eq!(key(cursor.next()?), Some('a'));
/// assert_eq!(key(cursor.seek(b"b")?), Some('c'));
/// assert_eq!(key(cursor.next()?), Some('e'));
/// assert_eq!(key(cursor.next()?), None);
/// assert_eq!(key(cursor.prev()?), Some('e'));
/// assert_eq!(key(cursor.prev()?), Some('c'));
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Debug)]
pub struct Cursor<'t> {
    source: Source<'t>,
    tree: Arc<TreeState>,
    bounds: Bounds,
    place: Place,
    /// With its direction: whether backwards.
    walk: Option<(Walk<'t>, bool)>,
}

impl<'t> Cursor<'t> {
    pub(crate) fn committed(
        core: &Arc<Core>,
        tree: Arc<TreeState>,
        view: Arc<View>,
        bounds: Bounds,
    ) -> Self {
        Self::new(Source::Committed(Arc::downgrade(core), view), tree, bounds)
    }

    pub(crate) fn of(t: &'t Transaction, tree: Arc<TreeState>, bounds: Bounds) -> Self {
        Self::new(Source::Transaction(t), tree, bounds)
    }

    fn new(source: Source<'t>, tree: Arc<TreeState>, bounds: Bounds) -> Self {
        Self {
            source,
            tree,
            bounds,
            place: Place::Start,
            walk: None,
        }
    }

    /// Moves to the next record and returns it; `None`: it stands behind the last.
    ///
    /// # Errors
    /// Those of a [`Scan`]'s steps.
    #[expect(
        clippy::should_implement_trait,
        reason = "it goes both ways, and may fail"
    )]
    pub fn next(&mut self) -> Result<Option<Record>> {
        let from = match &self.place {
            Place::Start => Bound::Unbounded,
            Place::At(key) => Bound::Excluded(key.clone()),
            Place::End => return Ok(None),
        };
        self.step(from, false)
    }

    /// Moves to the record before and returns it; `None`: it stands before the first.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn prev(&mut self) -> Result<Option<Record>> {
        let from = match &self.place {
            Place::Start => return Ok(None),
            Place::At(key) => Bound::Excluded(key.clone()),
            Place::End => Bound::Unbounded,
        };
        self.step(from, true)
    }

    /// Moves to the first record whose key is not less than `key` and returns it.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<Record>> {
        self.walk = None;
        self.step(Bound::Included(key.to_vec()), false)
    }

    /// Moves to the last record whose key is not greater than `key` and returns it.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn seek_back(&mut self, key: &[u8]) -> Result<Option<Record>> {
        self.walk = None;
        self.step(Bound::Included(key.to_vec()), true)
    }

    /// Moves to the first record and returns it.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn first(&mut self) -> Result<Option<Record>> {
        self.walk = None;
        self.step(Bound::Unbounded, false)
    }

    /// Moves to the last record and returns it.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn last(&mut self) -> Result<Option<Record>> {
        self.walk = None;
        self.step(Bound::Unbounded, true)
    }

    /// The key of the record it stands on; `None`: it stands at an end.
    pub fn key(&self) -> Option<&[u8]> {
        match &self.place {
            Place::At(key) => Some(key),
            _ => None,
        }
    }

    /// Goes on with the walk, or with one from `from` on.
    fn step(&mut self, from: Bound<Vec<u8>>, back: bool) -> Result<Option<Record>> {
        let mut walk = match self.walk.take() {
            Some((walk, direction)) if direction == back => walk,
            _ => self.walk_from(from, back)?,
        };
        let record = match &mut walk {
            Walk::Committed(scan) => scan.next(),
            Walk::Transaction(scan) => scan.next(),
        };
        let record = record.transpose()?;
        self.place = match &record {
            Some((key, _)) => {
                self.walk = Some((walk, back));
                Place::At(key.clone())
            }
            None if back => Place::Start,
            None => Place::End,
        };
        Ok(record)
    }

    fn walk_from(&self, from: Bound<Vec<u8>>, back: bool) -> Result<Walk<'t>> {
        let bounds = match back {
            false => self.bounds.clone().from(from),
            true => self.bounds.clone().up_to(from),
        };
        Ok(match &self.source {
            Source::Committed(core, view) => {
                let core = core.upgrade().ok_or(Error::Closed)?;
                core.check_open()?;
                let Bounds { lower, upper } = bounds;
                let scan = Scan::at(core, self.tree.clone(), view.clone(), lower, upper)?;
                Walk::Committed(Box::new(if back { scan.rev() } else { scan }))
            }
            Source::Transaction(t) => {
                let scan = TransactionScan::new(t, &self.tree, bounds)?;
                Walk::Transaction(Box::new(if back { scan.rev() } else { scan }))
            }
        })
    }
}
