//! The engine.

use gaur::{Durability, Store, Tree, WriteBatch};

use super::{Change, Direction, Session, Subject};
use crate::failure::Failure;
use crate::run::config::Durable;

/// A store with the one tree that a workload uses.
pub(crate) struct Gaur {
    store: Store,
    tree: Tree,
}

impl Gaur {
    /// The store with its tree of this name, which is made if it is missing.
    pub(crate) fn new(store: Store, tree: &str) -> Result<Self, Failure> {
        let tree = store
            .tree(tree)
            .map_err(|e| Failure::engine("cannot open the tree", e))?;
        Ok(Self { store, tree })
    }
}

impl Subject for Gaur {
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(Box::new(self))
    }

    fn flush(&self) -> Result<(), Failure> {
        self.store
            .flush()
            .map(drop)
            .map_err(|e| Failure::engine("cannot make all durable", e))
    }

    fn stored_bytes(&self) -> Option<u64> {
        // What commits replaced is given back by a checkpoint.
        self.store.checkpoint().ok()?;
        let stats = self.store.stats();
        Some(stats.get("space", "used")? * stats.get("cache", "frame_bytes")?)
    }

    fn stats(&self) -> Option<gaur::Stats> {
        Some(self.store.stats())
    }

    fn capacity(&self) -> Option<u64> {
        Some(self.store.capacity())
    }

    fn store(&self) -> Option<&Store> {
        Some(&self.store)
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        drop(self.tree);
        self.store
            .close()
            .map_err(|e| Failure::engine("cannot close the store", e))
    }
}

/// The engine's handles serve any thread; it needs no state of its own.
impl Session for &Gaur {
    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let value = self
            .tree
            .get(key)
            .map_err(|e| Failure::engine("a read failed", e))?;
        if let Some(value) = &value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: usize,
        direction: Direction,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<usize, Failure> {
        let failed = |e| Failure::engine("a scan failed", e);
        let scan = match direction {
            Direction::Forward => self.tree.range(from.to_vec()..),
            Direction::Backward => self.tree.range(..=from.to_vec()).map(gaur::Scan::rev),
        };
        let mut scan = scan.map_err(failed)?;
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = scan.next_lent().map_err(failed)?
        {
            each(key, value);
            count += 1;
        }
        Ok(count)
    }

    fn commit(&mut self, changes: &[Change<'_>], durability: Durable) -> Result<(), Failure> {
        let durability = match durability {
            Durable::Sync => Durability::Sync,
            Durable::Buffered => Durability::Buffered,
        };
        match changes {
            [Change::Put(key, value)] => self.tree.put_with(key, value, durability),
            [Change::Delete(key)] => self.tree.delete_with(key, durability),
            _ => {
                let mut batch = WriteBatch::new();
                for change in changes {
                    match change {
                        Change::Put(key, value) => batch.put(&self.tree, key, value),
                        Change::Delete(key) => batch.delete(&self.tree, key),
                    };
                }
                self.store.commit(batch, durability)
            }
        }
        .map(drop)
        .map_err(|e| Failure::engine("a write failed", e))
    }
}
