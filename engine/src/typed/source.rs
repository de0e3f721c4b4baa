//! Where typed trees read and write: now, at a snapshot, in a transaction, in a batch.

use super::Bounds;
use super::scan::Walk;
use crate::commit::batch::WriteBatch;
use crate::error::Result;
use crate::scan::Cursor;
use crate::store::{Snapshot, Tree};
use crate::txn::Transaction;

/// What a [`TypedTree`](crate::TypedTree) can read in: a [`Transaction`] or a
/// [`Snapshot`]. Not for implementing.
pub trait ReadFrom: Reads {}

/// What a [`TypedTree`](crate::TypedTree) can write to: a [`Transaction`] or a
/// [`WriteBatch`]. Not for implementing.
pub trait WriteTo: Writes {}

/// What no other crate can name, so that none implements [`ReadFrom`].
pub trait Reads {
    fn get(&self, tree: &Tree, key: &[u8]) -> Result<Option<Vec<u8>>>;
    fn range(&self, tree: &Tree, range: Bounds) -> Result<Walk<'_>>;
    fn cursor(&self, tree: &Tree, range: Bounds) -> Result<Cursor<'_>>;
}

/// As [`Reads`], for [`WriteTo`].
pub trait Writes {
    fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> Result<()>;
    fn delete(&mut self, tree: &Tree, key: &[u8]) -> Result<()>;
}

impl ReadFrom for Snapshot {}

impl Reads for Snapshot {
    fn get(&self, tree: &Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.get(tree, key)
    }

    fn range(&self, tree: &Tree, range: Bounds) -> Result<Walk<'_>> {
        Ok(self.range(tree, range)?.into())
    }

    fn cursor(&self, tree: &Tree, range: Bounds) -> Result<Cursor<'_>> {
        self.cursor(tree, range)
    }
}

impl ReadFrom for Transaction {}

impl Reads for Transaction {
    fn get(&self, tree: &Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.get(tree, key)
    }

    fn range(&self, tree: &Tree, range: Bounds) -> Result<Walk<'_>> {
        Ok(self.range(tree, range)?.into())
    }

    fn cursor(&self, tree: &Tree, range: Bounds) -> Result<Cursor<'_>> {
        self.cursor(tree, range)
    }
}

impl WriteTo for Transaction {}

impl Writes for Transaction {
    fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(tree, key, value)
    }

    fn delete(&mut self, tree: &Tree, key: &[u8]) -> Result<()> {
        self.delete(tree, key)
    }
}

impl WriteTo for WriteBatch {}

impl Writes for WriteBatch {
    fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(tree, key, value);
        Ok(())
    }

    fn delete(&mut self, tree: &Tree, key: &[u8]) -> Result<()> {
        self.delete(tree, key);
        Ok(())
    }
}
