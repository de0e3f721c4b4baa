//! What a transaction will write, and the savepoints in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reads::Bounds;
use crate::commit::batch::BatchOp;
use crate::error::{Error, Result};
use crate::format::TreeId;
use crate::log::OpsBuilder;
use crate::tree::TreeState;

/// A pending change: `None`: delete.
pub(crate) type Pending = Option<Vec<u8>>;

#[derive(Debug)]
struct Of {
    tree: Arc<TreeState>,
    keys: BTreeMap<Vec<u8>, Pending>,
}

/// Where a savepoint is: its number, and how long the undo log was.
#[derive(Debug)]
struct Saved {
    number: u64,
    undo: usize,
}

/// What a change replaced.
#[derive(Debug)]
struct Undo {
    tree: TreeId,
    key: Vec<u8>,
    /// The outer `None`: nothing was pending for the key.
    was: Option<Pending>,
}

/// The pending changes, by tree and key.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    trees: BTreeMap<TreeId, Of>,
    /// Bytes they take in the log.
    bytes: usize,
    count: usize,
    /// While there is a savepoint: how to go back, newest last.
    undo: Vec<Undo>,
    savepoints: Vec<Saved>,
    next: u64,
}

impl Writes {
    /// What is pending for a key; the outer `None`: nothing.
    pub(crate) fn get(&self, tree: TreeId, key: &[u8]) -> Option<&Pending> {
        self.trees.get(&tree)?.keys.get(key)
    }

    /// What is pending for the keys in a range that is not empty, in order.
    pub(crate) fn range<'a>(
        &'a self,
        tree: TreeId,
        bounds: &Bounds,
    ) -> std::collections::btree_map::Range<'a, Vec<u8>, Pending> {
        static NONE: BTreeMap<Vec<u8>, Pending> = BTreeMap::new();
        let keys = self.trees.get(&tree).map_or(&NONE, |of| &of.keys);
        keys.range::<Vec<u8>, _>((bounds.lower.as_ref(), bounds.upper.as_ref()))
    }

    /// How many keys of a tree have changes.
    pub(crate) fn keys(&self, tree: TreeId) -> usize {
        self.trees.get(&tree).map_or(0, |of| of.keys.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes they take in the log.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes a change pending. `size` is what a change takes in the log.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`] if all would take more than `max` then; nothing changed.
    pub(crate) fn set(
        &mut self,
        tree: &Arc<TreeState>,
        key: &[u8],
        value: Pending,
        max: usize,
        size: impl Fn(&[u8], &Pending) -> usize,
    ) -> Result<()> {
        let of = self.trees.entry(tree.id).or_insert_with(|| Of {
            tree: tree.clone(),
            keys: BTreeMap::new(),
        });
        let old = of.keys.get(key).map_or(0, |old| size(key, old));
        let len = self.bytes - old + size(key, &value);
        if len > max {
            return Err(Error::BatchTooLarge { len, max });
        }
        self.bytes = len;
        let was = of.keys.insert(key.to_vec(), value);
        self.count += usize::from(was.is_none());
        if !self.savepoints.is_empty() {
            self.undo.push(Undo {
                tree: tree.id,
                key: key.to_vec(),
                was,
            });
        }
        Ok(())
    }

    /// Sets a savepoint and returns its number.
    pub(crate) fn save(&mut self) -> u64 {
        self.next += 1;
        self.savepoints.push(Saved {
            number: self.next,
            undo: self.undo.len(),
        });
        self.next
    }

    fn find(&self, number: u64) -> Result<usize> {
        let at = self.savepoints.iter().position(|s| s.number == number);
        at.ok_or(Error::NoSuchSavepoint)
    }

    /// Undoes what came after the savepoint; later ones are gone.
    pub(crate) fn roll_back_to(
        &mut self,
        number: u64,
        size: impl Fn(&[u8], &Pending) -> usize,
    ) -> Result<()> {
        let at = self.find(number)?;
        for undo in self.undo.drain(self.savepoints[at].undo..).rev() {
            let of = self.trees.get_mut(&undo.tree).expect("it was changed");
            let now = match undo.was {
                Some(was) => {
                    self.bytes += size(&undo.key, &was);
                    of.keys.insert(undo.key.clone(), was)
                }
                None => {
                    self.count -= 1;
                    of.keys.remove(&undo.key)
                }
            };
            self.bytes -= size(&undo.key, &now.expect("it was changed"));
        }
        self.savepoints.truncate(at + 1);
        Ok(())
    }

    /// Forgets the savepoint and later ones; what is pending stays.
    pub(crate) fn release(&mut self, number: u64) -> Result<()> {
        let at = self.find(number)?;
        self.savepoints.truncate(at);
        if at == 0 {
            self.undo = Vec::new();
        }
        Ok(())
    }

    /// The changes by tree and key, for a commit.
    pub(crate) fn sorted(&self) -> Vec<BatchOp<'_>> {
        let trees = self.trees.values();
        trees
            .flat_map(|of| {
                of.keys.iter().map(|(key, value)| BatchOp {
                    tree: &of.tree,
                    key,
                    value: value.as_deref(),
                })
            })
            .collect()
    }
}

/// Bytes that a change takes in the log, large values as pointers.
pub(crate) fn size_in_log(block_size: u32, key: &[u8], value: &Pending) -> usize {
    let len = value.as_ref().map_or(0, Vec::len);
    let stored = match len > crate::node::max_inline(block_size, key.len()) {
        true => crate::core::MAX_PIECES * crate::format::ExtentPtr::SIZE,
        false => len,
    };
    OpsBuilder::size_of(key.len(), stored)
}
