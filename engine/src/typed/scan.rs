//! Scans and cursors over typed trees.

use std::marker::PhantomData;
use std::sync::Arc;

use super::{Types, Value, decoded, decoded_key};
use crate::error::Result;
use crate::order::OrderedKey;
use crate::scan::{Cursor, Scan};
use crate::store::Tree;
use crate::tree::TreeState;
use crate::txn::TransactionScan;

type Record = (Vec<u8>, Vec<u8>);

/// A scan of bytes.
#[derive(Debug)]
pub enum Walk<'t> {
    Committed(Box<Scan>),
    Transaction(Box<TransactionScan<'t>>),
}

impl From<Scan> for Walk<'_> {
    fn from(scan: Scan) -> Self {
        Self::Committed(Box::new(scan))
    }
}

impl<'t> From<TransactionScan<'t>> for Walk<'t> {
    fn from(scan: TransactionScan<'t>) -> Self {
        Self::Transaction(Box::new(scan))
    }
}

fn record<K: OrderedKey, V: Value>(tree: &TreeState, (key, value): Record) -> Result<(K, V)> {
    let value = decoded(&tree.name(), &key, &value)?;
    Ok((decoded_key(&tree.name(), &key)?, value))
}

/// An ordered walk over a range of a [`TypedTree`](crate::TypedTree), as a [`Scan`], or in
/// a transaction as a [`TransactionScan`]. A record of other types is
/// [`Error::WrongType`](crate::Error::WrongType), behind which it goes on; it ends after
/// any other error.
pub struct TypedScan<'t, K, V> {
    walk: Walk<'t>,
    tree: Arc<TreeState>,
    types: Types<K, V>,
}

impl<'t, K, V> TypedScan<'t, K, V> {
    pub(super) fn new(tree: &Tree, walk: Walk<'t>) -> Self {
        Self {
            walk,
            tree: tree.state().clone(),
            types: PhantomData,
        }
    }

    /// The same scan from the other end. Call it before the first record is taken.
    #[must_use]
    pub fn rev(mut self) -> Self {
        self.walk = match self.walk {
            Walk::Committed(scan) => (*scan).rev().into(),
            Walk::Transaction(scan) => (*scan).rev().into(),
        };
        self
    }

    /// The same scan, which ends after `records` records.
    #[must_use]
    pub fn limit(mut self, records: usize) -> Self {
        self.walk = match self.walk {
            Walk::Committed(scan) => (*scan).limit(records).into(),
            Walk::Transaction(scan) => (*scan).limit(records).into(),
        };
        self
    }
}

impl<K, V> std::fmt::Debug for TypedScan<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TypedScan").field(&self.walk).finish()
    }
}

impl<K: OrderedKey, V: Value> Iterator for TypedScan<'_, K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.walk {
            Walk::Committed(scan) => scan.next(),
            Walk::Transaction(scan) => scan.next(),
        }?;
        Some(next.and_then(|r| record(&self.tree, r)))
    }
}

/// A place in a range of a [`TypedTree`](crate::TypedTree), as a [`Cursor`]. On a record of
/// other types a move fails with [`Error::WrongType`](crate::Error::WrongType); it
/// stands on that record then.
pub struct TypedCursor<'t, K, V> {
    cursor: Cursor<'t>,
    tree: Arc<TreeState>,
    types: Types<K, V>,
}

impl<K, V> std::fmt::Debug for TypedCursor<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TypedCursor").field(&self.cursor).finish()
    }
}

impl<'t, K, V> TypedCursor<'t, K, V> {
    pub(super) fn new(tree: &Tree, cursor: Cursor<'t>) -> Self {
        Self {
            cursor,
            tree: tree.state().clone(),
            types: PhantomData,
        }
    }
}

impl<K: OrderedKey, V: Value> TypedCursor<'_, K, V> {
    /// Moves to the next record and returns it; `None`: it stands behind the last.
    ///
    /// # Errors
    /// [`Error::WrongType`](crate::Error::WrongType), and as [`Cursor::next`].
    #[expect(
        clippy::should_implement_trait,
        reason = "it goes both ways, and may fail"
    )]
    pub fn next(&mut self) -> Result<Option<(K, V)>> {
        let moved = self.cursor.next()?;
        self.record(moved)
    }

    /// Moves to the record before and returns it; `None`: it stands before the first.
    ///
    /// # Errors
    /// As [`TypedCursor::next`].
    pub fn prev(&mut self) -> Result<Option<(K, V)>> {
        let moved = self.cursor.prev()?;
        self.record(moved)
    }

    /// Moves to the first record whose key is not less than `key` and returns it.
    ///
    /// # Errors
    /// As [`TypedCursor::next`].
    pub fn seek(&mut self, key: &K) -> Result<Option<(K, V)>> {
        let moved = self.cursor.seek(&key.to_bytes())?;
        self.record(moved)
    }

    /// Moves to the last record whose key is not greater than `key` and returns it.
    ///
    /// # Errors
    /// As [`TypedCursor::next`].
    pub fn seek_back(&mut self, key: &K) -> Result<Option<(K, V)>> {
        let moved = self.cursor.seek_back(&key.to_bytes())?;
        self.record(moved)
    }

    /// Moves to the first record and returns it.
    ///
    /// # Errors
    /// As [`TypedCursor::next`].
    pub fn first(&mut self) -> Result<Option<(K, V)>> {
        let moved = self.cursor.first()?;
        self.record(moved)
    }

    /// Moves to the last record and returns it.
    ///
    /// # Errors
    /// As [`TypedCursor::next`].
    pub fn last(&mut self) -> Result<Option<(K, V)>> {
        let moved = self.cursor.last()?;
        self.record(moved)
    }

    fn record(&self, moved: Option<Record>) -> Result<Option<(K, V)>> {
        moved.map(|r| record(&self.tree, r)).transpose()
    }
}
