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
    /// Keys and values, one after another.
    bytes: Vec<u8>,
    /// With the openings of stores that they belong to.
    trees: Vec<(u64, Arc<TreeState>)>,
    places: Vec<Place>,
}

/// Where an operation lies in a batch.
#[derive(Debug)]
struct Place {
    /// Of `trees`.
    tree: usize,
    /// The key begins here, the value behind it.
    at: usize,
    key_len: usize,
    /// `None`: delete.
    value_len: Option<usize>,
    /// The value is an operand to be merged.
    merges: bool,
}

/// What is done to a key, one step after another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// It is set, or deleted.
    Set(Option<&'a [u8]>),
    Merge(&'a [u8]),
}

/// One operation of a commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchOp<'a> {
    pub(crate) tree: &'a TreeState,
    pub(crate) key: &'a [u8],
    /// `None`: delete.
    pub(crate) value: Option<&'a [u8]>,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`. Limits, and whether the tree is of that store, are checked
    /// when the batch is committed.
    pub fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> &mut Self {
        self.push(tree, key, Some(value), false)
    }

    /// Merges `operand` into what `key` holds when the batch is committed, what comes before it in the
    /// batch included; see [`Tree::merge`].
    pub fn merge(&mut self, tree: &Tree, key: &[u8], operand: &[u8]) -> &mut Self {
        self.push(tree, key, Some(operand), true)
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, tree: &Tree, key: &[u8]) -> &mut Self {
        self.push(tree, key, None, false)
    }

    fn push(&mut self, tree: &Tree, key: &[u8], value: Option<&[u8]>, merges: bool) -> &mut Self {
        let state = tree.state();
        // A batch goes to one tree mostly, or to few.
        let known = self.trees.iter().rposition(|(_, t)| Arc::ptr_eq(t, state));
        let at = known.unwrap_or_else(|| {
            self.trees.push((tree.opening(), state.clone()));
            self.trees.len() - 1
        });
        self.places.push(Place {
            tree: at,
            at: self.bytes.len(),
            key_len: key.len(),
            value_len: value.map(<[u8]>::len),
            merges,
        });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or(&[]));
        self
    }

    /// Operations in it.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A tree that does not belong to this opening of a store.
    pub(crate) fn stranger(&self, opening: u64) -> Option<&TreeState> {
        let other = self.trees.iter().find(|(of, _)| *of != opening);
        other.map(|(_, tree)| &**tree)
    }

    /// Whether it merges anything.
    pub(crate) fn merges(&self) -> bool {
        self.places.iter().any(|p| p.merges)
    }

    /// The steps for each key, by tree and key, from the last one on that sets it.
    pub(crate) fn steps(&self) -> Vec<(&TreeState, &[u8], Vec<Step<'_>>)> {
        let mut places: Vec<(&TreeState, &[u8], &Place)> = self
            .places
            .iter()
            .map(|p| (&*self.trees[p.tree].1, &self.bytes[p.at..][..p.key_len], p))
            .collect();
        // Stable: steps for one key stay in their order.
        places.sort_by_key(|(tree, key, _)| (tree.id, *key));
        let same = |a: &(&TreeState, &[u8], &Place), b: &(&TreeState, &[u8], &Place)| {
            (a.0.id, a.1) == (b.0.id, b.1)
        };
        let keys = places.chunk_by(same).map(|of_one| {
            let (tree, key, _) = of_one[0];
            let from = of_one.iter().rposition(|(.., p)| !p.merges).unwrap_or(0);
            let steps = of_one[from..].iter().map(|(.., p)| {
                let value = p
                    .value_len
                    .map(|len| &self.bytes[p.at + p.key_len..][..len]);
                match (p.merges, value) {
                    (true, Some(operand)) => Step::Merge(operand),
                    (_, value) => Step::Set(value),
                }
            });
            (tree, key, steps.collect())
        });
        keys.collect()
    }

    /// The operations by tree and key, the last one on each key.
    pub(crate) fn sorted(&self) -> Vec<BatchOp<'_>> {
        let op = |p: &Place| {
            let (key, rest) = self.bytes[p.at..].split_at(p.key_len);
            BatchOp {
                tree: &self.trees[p.tree].1,
                key,
                value: p.value_len.map(|len| &rest[..len]),
            }
        };
        let mut ops: Vec<_> = self.places.iter().map(op).collect();
        ops.sort_by_key(|op| (op.tree.id, op.key));
        // The first of those left is kept: from behind that is the last.
        ops.reverse();
        ops.dedup_by_key(|op| (op.tree.id, op.key));
        ops.reverse();
        ops
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
