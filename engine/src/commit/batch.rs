//! Write batches.

use std::sync::Arc;

use crate::Tree;
use crate::error::{Error, Result};
use crate::node::MAX_KEY;
use crate::tree::TreeState;

/// The longest value, in bytes.
pub const MAX_VALUE: u64 = 1 << 30;

/// Puts and deletes, in any trees of one store, that become visible and durable
/// together or not at all. Of several operations on one key the last counts.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("batch.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// let accounts = store.tree("accounts")?;
/// let mut batch = gaur::WriteBatch::new();
/// batch.put(&accounts, b"alice", b"90");
/// batch.put(&accounts, b"bob", b"110");
/// batch.delete(&accounts, b"pending");
/// let csn = store.commit(batch, gaur::Durability::Sync)?;
/// assert!(csn > 0);
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct WriteBatch {
    pub(crate) ops: Vec<BatchOp>,
}

/// One operation of a batch.
#[derive(Debug)]
pub(crate) struct BatchOp {
    pub(crate) tree: Arc<TreeState>,
    pub(crate) key: Vec<u8>,
    /// `None`: delete.
    pub(crate) value: Option<Vec<u8>>,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`. Limits are checked when the batch is committed.
    pub fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> &mut Self {
        self.push(tree, key, Some(value.to_vec()))
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, tree: &Tree, key: &[u8]) -> &mut Self {
        self.push(tree, key, None)
    }

    fn push(&mut self, tree: &Tree, key: &[u8], value: Option<Vec<u8>>) -> &mut Self {
        self.ops.push(BatchOp {
            tree: tree.state().clone(),
            key: key.to_vec(),
            value,
        });
        self
    }

    /// Operations in it.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Sorts by tree and key and keeps the last operation on each key.
    pub(crate) fn into_sorted(mut self) -> Vec<BatchOp> {
        let place = |op: &BatchOp| op.tree.id;
        self.ops
            .sort_by(|a, b| (place(a), &a.key).cmp(&(place(b), &b.key)));
        self.ops.reverse();
        self.ops
            .dedup_by(|a, b| a.tree.id == b.tree.id && a.key == b.key);
        self.ops.reverse();
        self.ops
    }
}

/// Checks a key's length.
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > MAX_KEY {
        return Err(Error::KeyTooLong {
            len: key.len(),
            max: MAX_KEY,
        });
    }
    Ok(())
}

/// Checks a value's length.
pub(crate) fn check_value(len: usize) -> Result<()> {
    if len as u64 > MAX_VALUE {
        return Err(Error::ValueTooLong {
            len: len as u64,
            max: MAX_VALUE,
        });
    }
    Ok(())
}
