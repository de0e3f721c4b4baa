//! Snapshots: all trees as they were at one commit.

use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Weak};

use gaur_iodriver::sync::time::{Duration, Instant, now};

use super::tree::prefix_bounds;
use super::{Store, Tree};
use crate::commit::batch::check_key;
use crate::commit::view::View;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::Csn;
use crate::scan::{Cursor, Scan};
use crate::txn::reads::Bounds;

/// All trees of a store as they were at one commit. Cheap to clone; its clones look at
/// the same commit, which is let go of when the last of them is dropped.
///
/// Taking one costs about a microsecond and no I/O, and there may be any number. None
/// makes a writer wait. What is overwritten until the next checkpoint is kept in
/// memory, up to [`OpenOptions::version_memory`](crate::OpenOptions::version_memory)
/// for all together; when half of that is in use, a checkpoint is made. From then on the
/// snapshot reads what that one wrote, and costs space on the device in place of memory.
///
/// When memory or space is short, or when they are older than
/// [`OpenOptions::max_reader_age`](crate::OpenOptions::max_reader_age), the oldest lose
/// what they look at: they get [`Error::ViewTooOld`], and the writers go on. The statistics, group
/// `views`, tell how many are open and how old the oldest is.
///
/// A snapshot lasts as long as it is held and the store is open. It does not keep the
/// store open.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("snapshot.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// let stock = store.tree("stock")?;
/// stock.put(b"apples", b"12")?;
/// let before = store.snapshot()?;
/// stock.put(b"apples", b"11")?;
/// stock.put(b"pears", b"3")?;
/// assert_eq!(before.get(&stock, b"apples")?.as_deref(), Some(&b"12"[..]));
/// assert_eq!(before.get(&stock, b"pears")?, None);
/// assert_eq!(before.iter(&stock)?.count(), 1);
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    core: Weak<Core>,
    pub(super) view: Arc<View>,
    since: Instant,
}

impl Store {
    /// A snapshot of all trees: it has every commit that had returned, and no commit
    /// by half.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Forked`], [`Error::TooManyThreads`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.core().check_open()?;
        Ok(Snapshot {
            core: Arc::downgrade(self.core()),
            view: self.core().view()?,
            since: now(),
        })
    }
}

impl Snapshot {
    /// The commit it looks at: it has all commits up to this one and none after it.
    pub fn csn(&self) -> Csn {
        self.view.csn()
    }

    /// How long ago it was taken.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// The value of `key` then, if it was there. Of a tree made later, nothing was.
    ///
    /// # Errors
    /// [`Error::ViewTooOld`]: what it needs was given up for memory; take another.
    /// [`Error::OtherStore`], and what [`Tree::get`] can fail with.
    pub fn get(&self, tree: &Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        let core = self.of(tree)?;
        let worker = core.forest.workers.mine()?;
        core.get_at(&worker, &tree.state, key, &self.view)
    }

    /// Whether `key` was there.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn contains(&self, tree: &Tree, key: &[u8]) -> Result<bool> {
        check_key(key)?;
        let core = self.of(tree)?;
        let worker = core.forest.workers.mine()?;
        core.contains_at(&worker, &tree.state, key, &self.view)
    }

    /// The records that had keys in `range`, in order. The scan holds the snapshot's
    /// commit by itself.
    ///
    /// # Errors
    /// [`Error::OtherStore`], [`Error::Closed`], [`Error::Forked`],
    /// [`Error::TooManyThreads`]; its steps as those of any [`Scan`].
    pub fn range(&self, tree: &Tree, range: impl RangeBounds<Vec<u8>>) -> Result<Scan> {
        self.scan(
            tree,
            range.start_bound().cloned(),
            range.end_bound().cloned(),
        )
    }

    /// The records whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    /// As [`Snapshot::range`].
    pub fn prefix(&self, tree: &Tree, prefix: &[u8]) -> Result<Scan> {
        let (lower, upper) = prefix_bounds(prefix);
        self.scan(tree, lower, upper)
    }

    /// All records of a tree, in order.
    ///
    /// # Errors
    /// As [`Snapshot::range`].
    pub fn iter(&self, tree: &Tree) -> Result<Scan> {
        self.range(tree, ..)
    }

    /// A cursor over the records that had keys in `range`.
    ///
    /// # Errors
    /// As [`Snapshot::range`].
    pub fn cursor(&self, tree: &Tree, range: impl RangeBounds<Vec<u8>>) -> Result<Cursor<'static>> {
        let core = self.of(tree)?;
        let (state, view) = (tree.state.clone(), self.view.clone());
        Ok(Cursor::committed(core, state, view, Bounds::of(range)))
    }

    fn scan(&self, tree: &Tree, lower: Bound<Vec<u8>>, upper: Bound<Vec<u8>>) -> Result<Scan> {
        let core = self.of(tree)?.clone();
        Scan::at(core, tree.state.clone(), self.view.clone(), lower, upper)
    }

    /// The store, which is the tree's too and open.
    pub(super) fn of<'a>(&self, tree: &'a Tree) -> Result<&'a Arc<Core>> {
        let core = &tree.inner.core;
        if !std::ptr::eq(self.core.as_ptr(), Arc::as_ptr(core)) {
            return Err(Error::OtherStore(tree.name().to_string()));
        }
        core.check_open()?;
        Ok(core)
    }
}
