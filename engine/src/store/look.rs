//! Many keys at once, and what a range holds without reading all of it.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::snapshot::Snapshot;
use super::tree::Tree;
use crate::commit::batch::check_key;
use crate::commit::view::View;
use crate::core::Core;
use crate::error::Result;
use crate::tree::{RangeSize, TreeState};
use crate::worker::Worker;

/// A record: key and value.
type Record = (Vec<u8>, Vec<u8>);

impl Core {
    /// The values of keys, in their order: the newest, or those at an open view.
    pub(crate) fn multi_get(
        &self,
        worker: &Worker,
        tree: &Arc<TreeState>,
        keys: &[&[u8]],
        view: Option<&View>,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&i| keys[i]);
        let mut values = vec![None; keys.len()];
        // Not more at a time than stay in memory until they are read.
        for group in order.chunks(self.forest.read_ahead().max(1)) {
            if group.len() > 1 && self.overlay().is_none() {
                let seen = view.map_or(Some(tree), |view| {
                    self.seen(tree, view.reads(&self.forest.pins))
                });
                if let Some(seen) = seen {
                    let wanted = group.iter().map(|&i| (seen.as_ref(), keys[i]));
                    self.forest.prefetch_keys(worker, wanted)?;
                }
            }
            for &i in group {
                values[i] = match view {
                    None => self.get(worker, tree, keys[i])?,
                    Some(view) => self.get_at(worker, tree, keys[i], view)?,
                };
            }
        }
        Ok(values)
    }
}

/// The keys as slices, checked.
pub(crate) fn checked<K: AsRef<[u8]>>(keys: &[K]) -> Result<Vec<&[u8]>> {
    let keys = keys.iter().map(AsRef::as_ref);
    keys.map(|key| check_key(key).map(|()| key)).collect()
}

impl Tree {
    /// The values of many keys, in the order of the keys. Leaves that are not in memory are
    /// read together, up to 64 at a time, so it costs about what the slowest of them costs.
    /// Each value is the newest of its key; for all at one commit, see
    /// [`Snapshot::multi_get`].
    ///
    /// # Errors
    /// As [`Tree::get`], for any of the keys.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("multi.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// let tree = store.tree("t")?;
    /// tree.put(b"b", b"2")?;
    /// assert_eq!(tree.multi_get(&["c", "b"])?, [None, Some(b"2".to_vec())]);
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>> {
        let keys = checked(keys)?;
        let core = &self.inner.core;
        core.check_open()?;
        let worker = core.forest.workers.mine()?;
        core.multi_get(&worker, &self.state, &keys, None)
    }

    /// The record with the least key.
    ///
    /// # Errors
    /// As [`Tree::range`] and the steps of a [`Scan`](crate::Scan).
    pub fn first(&self) -> Result<Option<Record>> {
        self.iter()?.limit(1).next().transpose()
    }

    /// The record with the greatest key.
    ///
    /// # Errors
    /// As [`Tree::first`].
    pub fn last(&self) -> Result<Option<Record>> {
        self.iter()?.rev().limit(1).next().transpose()
    }

    /// How many records have keys in `range`, at one commit. Reads every leaf of the range;
    /// [`Tree::approximate_size`] reads two paths.
    ///
    /// # Errors
    /// As [`Tree::first`].
    pub fn count(&self, range: impl RangeBounds<Vec<u8>>) -> Result<u64> {
        self.range(range)?.count_records()
    }

    /// About how much lies in `range`, from the nodes on the ways to its two ends. Exact in
    /// records if the range lies in one leaf; else what is known of the two ends
    /// stands for what lies between, which is within a factor of two where nodes are filled alike.
    ///
    /// # Errors
    /// As [`Tree::get`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("size.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// let tree = store.tree("t")?;
    /// for k in [b"a", b"b", b"c"] {
    ///     tree.put_with(k, b"v", gaur::Durability::Buffered)?;
    /// }
    /// let size = tree.approximate_size(b"b".to_vec()..)?;
    /// assert_eq!((size.leaves, size.records), (1, 2));
    /// assert_eq!(tree.count(b"b".to_vec()..)?, 2);
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn approximate_size(&self, range: impl RangeBounds<Vec<u8>>) -> Result<RangeSize> {
        let (lower, upper) = (range.start_bound().cloned(), range.end_bound().cloned());
        for bound in [&lower, &upper] {
            if let Bound::Included(key) | Bound::Excluded(key) = bound {
                check_key(key)?;
            }
        }
        let core = &self.inner.core;
        core.check_open()?;
        let worker = core.forest.workers.mine()?;
        core.forest.range_size(&worker, &self.state, &lower, &upper)
    }
}

impl Snapshot {
    /// The values that many keys had, in the order of the keys; as [`Tree::multi_get`].
    ///
    /// # Errors
    /// As [`Snapshot::get`], for any of the keys.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        tree: &Tree,
        keys: &[K],
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let keys = checked(keys)?;
        let core = self.of(tree)?;
        let worker = core.forest.workers.mine()?;
        core.multi_get(&worker, &tree.state, &keys, Some(&self.view))
    }

    /// The record with the least key.
    ///
    /// # Errors
    /// As [`Snapshot::range`] and the steps of a [`Scan`](crate::Scan).
    pub fn first(&self, tree: &Tree) -> Result<Option<Record>> {
        self.iter(tree)?.limit(1).next().transpose()
    }

    /// The record with the greatest key.
    ///
    /// # Errors
    /// As [`Snapshot::first`].
    pub fn last(&self, tree: &Tree) -> Result<Option<Record>> {
        self.iter(tree)?.rev().limit(1).next().transpose()
    }

    /// How many records had keys in `range`. Reads every leaf of the range.
    ///
    /// # Errors
    /// As [`Snapshot::first`].
    pub fn count(&self, tree: &Tree, range: impl RangeBounds<Vec<u8>>) -> Result<u64> {
        self.range(tree, range)?.count_records()
    }
}
