//! One tree: its records read and changed.

use std::cell::Cell;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::Inner;
#[cfg(doc)]
use super::Store;
use super::commit::{claim_of, commit_ops, finish, record_of};
use crate::commit::batch::{BatchOp, check_key};
use crate::commit::{Change, Stamp};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::format::Csn;
use crate::format::node::KIND_VALUE;
use crate::log::OpsBuilder;
use crate::node::max_inline;
use crate::options::Durability;
use crate::scan::Scan;
use crate::tree::TreeState;
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

    /// The tree's name.
    pub fn name(&self) -> &str {
        &self.state.name
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

    fn reading(&self, key: &[u8]) -> Result<Arc<Worker>> {
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
        self.one(key, Some(value), durability)
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
        self.one(key, None, durability)
    }

    fn one(&self, key: &[u8], value: Option<&[u8]>, durability: Durability) -> Result<Csn> {
        let core = &self.inner.core;
        core.check_writable()?;
        check_key(key)?;
        if let Some(v) = value
            && v.len() > max_inline(core.forest.geometry.block_size, key.len())
        {
            let op = BatchOp {
                tree: self.state.clone(),
                key: key.to_vec(),
                value: Some(v.to_vec()),
            };
            return commit_ops(core, &[op], durability);
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
        let stamp = Stamp::Append(&record, &appended);
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

    /// The records whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn prefix(&self, prefix: &[u8]) -> Result<Scan> {
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
        self.range((Bound::Included(prefix.to_vec()), upper))
    }

    /// All records, in order.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn iter(&self) -> Result<Scan> {
        self.range(..)
    }
}
