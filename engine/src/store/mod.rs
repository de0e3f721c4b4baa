//! The public face: stores and trees.

mod cache;
mod close;
pub(crate) mod commit;
pub(crate) mod look;
mod merge;
mod open;
mod point;
mod saved;
mod snapshot;
mod space;
mod stream;
pub(crate) mod tree;
mod trees;

use std::sync::Arc;

use gaur_iodriver::sync::Mutex;
use gaur_iodriver::sync::thread::JoinHandle;

use crate::commit::batch::WriteBatch;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::recovery::RecoveryReport;
use crate::report::Stats;
use crate::tree::TreeState;
use crate::writeback::checkpoint::Checkpointer;

pub use cache::CacheBudget;
pub use point::Swap;
pub use saved::{NamedSnapshot, SnapshotInfo};
pub use snapshot::Snapshot;
pub use tree::Tree;

/// An open store. Cheap to clone; all clones and trees share it. May be used from
/// any number of threads.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("example.store");
/// use gaur::{Durability, FormatOptions, OpenOptions, Store};
///
/// // A device (/dev/nvme0n1, a partition, a loop device) or, as here, a file.
/// let options = FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// Store::format(&path, &options)?;
/// let store = Store::open(&path, &OpenOptions::default())?;
/// let tree = store.tree("inventory")?;
/// tree.put(b"apples", b"12")?;
/// assert_eq!(tree.get(b"apples")?.as_deref(), Some(&b"12"[..]));
/// store.close()?;
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    id: u128,
    /// Which opening of a store it is, of all in this process: not even a tree of the same
    /// store, opened before, belongs to it.
    opening: u64,
    sparse: bool,
    notes: Vec<String>,
    recovery: RecoveryReport,
    checkpointer: Mutex<Option<JoinHandle<Checkpointer>>>,
    evictor: Mutex<Option<JoinHandle<()>>>,
    /// Held while the store is closed: who closes it too waits for the first.
    closing: Mutex<()>,
}

impl Store {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// The handle to a tree of this store.
    pub(crate) fn tree_of(&self, state: Arc<TreeState>) -> Tree {
        let inner = self.inner.clone();
        Tree { inner, state }
    }

    /// Refuses a batch with a tree of another store.
    pub(crate) fn check_owns_all(&self, batch: &WriteBatch) -> Result<()> {
        match batch.stranger(self.inner.opening) {
            None => Ok(()),
            Some(tree) => Err(Error::OtherStore(tree.name().to_string())),
        }
    }

    /// Refuses a tree of another store.
    pub(crate) fn check_owns(&self, tree: &Tree) -> Result<()> {
        match Arc::ptr_eq(&self.inner, &tree.inner) {
            true => Ok(()),
            false => Err(Error::OtherStore(tree.name().to_string())),
        }
    }

    /// The store's identity, drawn when it was formatted.
    pub fn id(&self) -> u128 {
        self.inner.id
    }

    /// The name of the driver in use: `uring`, `psync` or `sim`.
    pub fn driver(&self) -> &'static str {
        self.core().forest.device.driver()
    }

    /// Whether reads and writes bypass the page cache (`O_DIRECT`).
    pub fn is_direct(&self) -> bool {
        self.core().forest.device.geometry().direct
    }

    /// What opening found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.recovery
    }

    /// Whether the store lies in a sparse file, which gets its space when it is
    /// written: then a full file system stops the store.
    pub fn is_sparse(&self) -> bool {
        self.inner.sparse
    }

    /// What is not as it was asked for (another driver, no `O_DIRECT`, no discard), what of
    /// the space map was damaged and was rebuilt, or cannot be, and why the store could
    /// not grow when it last tried.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.inner.notes.clone();
        if !self.core().is_home() {
            return notes;
        }
        notes.extend(self.core().forest.device.notes());
        notes.extend(self.core().forest.mend.notes());
        notes.extend(self.core().forest.growth.note());
        notes.extend(self.core().forest.pool.allocator().discard_notes());
        notes
    }

    /// What the store counted since it was opened; nothing in a forked child.
    pub fn stats(&self) -> Stats {
        if !self.core().is_home() {
            return Stats::default();
        }
        Stats::of(self.core())
    }

    /// Closes the store: waits for commits under way, makes a last checkpoint, and
    /// leaves nothing to replay. Other handles get [`Error::Closed`] from now on.
    ///
    /// # Errors
    /// [`Error::Stopped`] if a write failed, now or before; then the next open
    /// recovers. [`Error::Forked`]: nothing was done.
    pub fn close(self) -> Result<()> {
        self.inner.close()
    }
}
