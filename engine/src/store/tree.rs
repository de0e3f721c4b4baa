//! One tree: its records read and changed.

use std::cell::Cell;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::Inner;
#[cfg(doc)]
use super::Store;
use super::commit::{claim_of, commit_ops_if, finish, record_of, stamp};
use crate::commit::Change;
use crate::commit::batch::{BatchOp, check_key};
use crate::commit::condition::Condition;
use crate::commit::range::KeyRange;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::format::node::KIND_VALUE;
use crate::format::{Csn, TreeId};
use crate::log::OpsBuilder;
use crate::node::max_inline;
use crate::options::Durability;
use crate::scan::{Cursor, Scan};
use crate::shortage::Claim;
use crate::tree::TreeState;
use crate::txn::reads::Bounds;
use crate::worker::Worker;

/// A named, ordered map from keys to values. Cheap to clone.
///
/// Keys have up to [`MAX_KEY`](crate::MAX_KEY) bytes, values up to
/// [`MAX_VALUE`](crate::MAX_VALUE), and sort bytewise.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("tree.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// let tree = store.tree("words")?;
/// for word in ["ant", "bee", "beetle", "cat"] {
///     tree.put_with(word.as_bytes(), b"", gaur::Durability::Buffered)?;
/// }
/// let bees: Vec<_> = tree.prefix(b"bee")?.collect::<Result<_, _>>()?;
/// assert_eq!(bees.len(), 2);
/// let last = tree.iter()?.rev().next().unwrap()?;
/// assert_eq!(last.0, b"cat");
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tree {
    pub(super) inner: Arc<Inner>,
    pub(super) state: Arc<TreeState>,
}

impl Tree {
    pub(crate) fn state(&self) -> &Arc<TreeState> {
        &self.state
    }

    /// Which opening of a store it belongs to.
    pub(crate) fn opening(&self) -> u64 {
        self.inner.opening
    }

    /// The tree's name now; of a dropped tree the last one.
    pub fn name(&self) -> Arc<str> {
        self.state.name()
    }

    /// The tree's number, which no other tree of the store ever has. Change feeds tell
    /// trees by it.
    pub fn id(&self) -> TreeId {
        self.state.id
    }

    /// The value of `key`, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Damaged`] for this read alone,
    /// [`Error::KeyTooLong`], [`Error::Closed`], [`Error::Forked`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let worker = self.reading(key)?;
        self.inner.core.get(&worker, &self.state, key)
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        let worker = self.reading(key)?;
        self.inner.core.contains(&worker, &self.state, key)
    }

    pub(super) fn reading(&self, key: &[u8]) -> Result<Arc<Worker>> {
        check_key(key)?;
        self.inner.core.check_open()?;
        self.inner.core.forest.workers.mine()
    }

    /// Sets `key` to `value`, durably, and returns the commit.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Csn> {
        self.put_with(key, value, Durability::Sync)
    }

    /// Sets `key` to `value` and returns the commit.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_with(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<Csn> {
        self.one(key, Some(value), durability, None)
    }

    /// Removes `key`, durably, whether it is there or not, and returns the commit.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn delete(&self, key: &[u8]) -> Result<Csn> {
        self.delete_with(key, Durability::Sync)
    }

    /// Removes `key` and returns the commit.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn delete_with(&self, key: &[u8], durability: Durability) -> Result<Csn> {
        self.one(key, None, durability, None)
    }

    /// Removes all keys in `range`, durably, and returns the commit. See
    /// [`Tree::delete_range_with`].
    ///
    /// # Errors
    /// As [`Tree::delete_range_with`].
    pub fn delete_range(&self, range: impl RangeBounds<Vec<u8>>) -> Result<Csn> {
        self.delete_range_with(range, Durability::Sync)
    }

    /// Removes all keys in `range`, in one commit by itself, and returns it. It costs what
    /// the ways to the two ends of the range cost, however many records lie between: these
    /// are unlinked, not read, and their space comes back bit by bit in the background, as
    /// that of a dropped tree does. Other writers are kept out for less than a millisecond.
    ///
    /// Views, snapshots and scans that were there before still see the records, and their
    /// space comes back when these have ended; beyond a thousand ranges of one tree the oldest
    /// of them are given up ([`Error::ViewTooOld`]). A transaction that read a key or a range
    /// that this meets, whether there was a record or not, conflicts with it. Nothing is
    /// merged. A range in which no key can lie, as one that ends before it begins, is no
    /// commit: then the newest visible one is returned.
    ///
    /// It is no operation of a batch or of a transaction: those delete key by key.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("range.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// let log = store.tree("log")?;
    /// for day in ["2024-01-30", "2024-01-31", "2024-02-01"] {
    ///     log.put_with(day.as_bytes(), b"", gaur::Durability::Buffered)?;
    /// }
    /// let february = b"2024-02".to_vec();
    /// log.delete_range(..february)?;
    /// assert_eq!(log.first()?.unwrap().0, b"2024-02-01");
    /// # Ok::<(), gaur::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::commit`]: nothing happened. [`Error::KeyTooLong`] for an end that no key
    /// can have, [`Error::BatchTooWide`] if the cache is too small for the nodes on the two
    /// ways.
    pub fn delete_range_with(
        &self,
        range: impl RangeBounds<Vec<u8>>,
        durability: Durability,
    ) -> Result<Csn> {
        let core = &self.inner.core;
        core.check_writable()?;
        self.state.check_writable()?;
        for end in [range.start_bound(), range.end_bound()] {
            if let Bound::Included(key) | Bound::Excluded(key) = end {
                check_key(key)?;
            }
        }
        let behind = |key: &Vec<u8>| [key.as_slice(), &[0]].concat();
        let lower = match range.start_bound() {
            Bound::Included(key) => key.clone(),
            Bound::Excluded(key) => behind(key),
            Bound::Unbounded => Vec::new(),
        };
        let upper = match range.end_bound() {
            Bound::Included(key) => Some(behind(key)),
            Bound::Excluded(key) => Some(key.clone()),
            Bound::Unbounded => None,
        };
        let (lower, upper) = (lower.as_slice(), upper.as_deref());
        if upper.is_some_and(|upper| upper <= lower) {
            return Ok(core.visible.upto());
        }
        core.throttle.pass(core, true);
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let mut ops = OpsBuilder::new();
        ops.delete_range(self.state.id, lower, upper)?;
        let record = record_of(&ops, durability == Durability::Sync);
        let appended = Cell::new(false);
        let stamp = stamp(&record, &appended, None);
        let range = KeyRange { lower, upper };
        let (made, claim) = core.delete_range(&worker, &self.state, range, stamp, Claim::freeing());
        drop(claim);
        finish(core, &worker, made?, durability)
    }

    /// Changes a key, if a condition holds.
    pub(super) fn one(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        durability: Durability,
        condition: Option<Condition<'_>>,
    ) -> Result<Csn> {
        let core = &self.inner.core;
        core.check_writable()?;
        self.state.check_writable()?;
        check_key(key)?;
        if let Some(v) = value
            && v.len() > max_inline(core.forest.geometry.block_size, key.len())
        {
            let tree = &self.state;
            let op = BatchOp { tree, key, value };
            return commit_ops_if(core, &[op], durability, condition);
        }
        core.throttle.pass(core, value.is_none());
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let mut ops = OpsBuilder::new();
        match value {
            Some(v) => ops.put(self.state.id, key, v)?,
            None => ops.delete(self.state.id, key)?,
        }
        let record = record_of(&ops, durability == Durability::Sync);
        let change = Change {
            tree: &self.state,
            key,
            value: value.map(|v| (KIND_VALUE, v)),
        };
        let claim = claim_of([value.is_some()]);
        // It has no large value to give back.
        let appended = Cell::new(false);
        let stamp = stamp(&record, &appended, condition);
        let (made, claim) = core.make(&worker, &[change], stamp, claim);
        drop(claim);
        let csn = made?;
        finish(core, &worker, csn, durability)
    }

    /// The records with keys in `range`, in order.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Forked`], [`Error::TooManyThreads`].
    pub fn range(&self, range: impl RangeBounds<Vec<u8>>) -> Result<Scan> {
        self.inner.core.check_open()?;
        let lower = range.start_bound().cloned();
        let upper = range.end_bound().cloned();
        Scan::new(self.inner.core.clone(), self.state.clone(), lower, upper)
    }

    /// A cursor over the records with keys in `range`, as they are now.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn cursor(&self, range: impl RangeBounds<Vec<u8>>) -> Result<Cursor<'static>> {
        let core = &self.inner.core;
        core.check_open()?;
        let (state, view) = (self.state.clone(), core.view()?);
        Ok(Cursor::committed(core, state, view, Bounds::of(range)))
    }

    /// The records whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn prefix(&self, prefix: &[u8]) -> Result<Scan> {
        self.range(prefix_bounds(prefix))
    }

    /// All records, in order.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn iter(&self) -> Result<Scan> {
        self.range(..)
    }
}

/// The bounds of all keys that begin with `prefix`.
pub(crate) fn prefix_bounds(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xFF) {
        end.pop();
    }
    let upper = match end.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
        None => Bound::Unbounded,
    };
    (Bound::Included(prefix.to_vec()), upper)
}
