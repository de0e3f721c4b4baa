//! Trees of keys and values that have types.

mod scan;
mod source;
mod value;

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use crate::error::{Error, Part, Result, WrongType};
use crate::format::Csn;
use crate::options::Durability;
use crate::order::OrderedKey;
use crate::store::tree::prefix_bounds;
use crate::store::{Swap, Tree};

pub use scan::{TypedCursor, TypedScan};
pub use source::{ReadFrom, WriteTo};
pub use value::Value;

/// A [`Tree`] whose keys are `K` and whose values are `V`. Keys sort as `K` does. It is a
/// way to look at a tree: nothing of the types is stored. A record that is not of
/// these types is [`Error::WrongType`].
///
/// Each operation is the tree's, with its limits and errors. What ends in `_in` takes
/// place in a [`Transaction`](crate::Transaction), a [`Snapshot`](crate::Snapshot) or a
/// [`WriteBatch`](crate::WriteBatch).
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("typed.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// use gaur::{Durability, TypedTree};
///
/// let founded: TypedTree<(String, i32), String> = store.tree("founded")?.typed();
/// let key = |country: &str, year| (country.to_owned(), year);
/// founded.put(&key("italy", -753), &"rome".to_owned())?;
/// founded.put(&key("italy", 421), &"venice".to_owned())?;
/// founded.put(&key("france", -600), &"marseille".to_owned())?;
///
/// let (first, _) = founded.first()?.unwrap();
/// assert_eq!(first, key("france", -600));
/// let italy: Vec<_> = founded.prefix(&"italy".to_owned())?.collect::<Result<_, _>>()?;
/// assert_eq!(italy[0], (key("italy", -753), "rome".to_owned()));
///
/// store.transact(|t| {
///     let name = founded.get_in(t, &key("italy", 421))?.unwrap();
///     founded.delete_in(t, &key("italy", 421))?;
///     founded.put_in(t, &key("italy", 422), &name)
/// })?;
/// assert_eq!(founded.range(key("italy", 0)..)?.count(), 1);
/// # Ok::<(), gaur::Error>(())
/// ```
pub struct TypedTree<K, V> {
    tree: Tree,
    types: Types<K, V>,
}

/// Of types alone: as shareable as nothing.
type Types<K, V> = PhantomData<fn(K, V) -> (K, V)>;

impl<K, V> Clone for TypedTree<K, V> {
    fn clone(&self) -> Self {
        Self {
            tree: self.tree.clone(),
            types: PhantomData,
        }
    }
}

impl<K, V> std::fmt::Debug for TypedTree<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("TypedTree");
        shown.field("name", &self.tree.name());
        shown.field("key", &std::any::type_name::<K>());
        shown.field("value", &std::any::type_name::<V>());
        shown.finish()
    }
}

impl Tree {
    /// The same tree, with types for its keys and values.
    pub fn typed<K: OrderedKey, V: Value>(&self) -> TypedTree<K, V> {
        TypedTree {
            tree: self.clone(),
            types: PhantomData,
        }
    }
}

fn encoded<V: Value>(value: &V) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode_value(&mut out);
    out
}

/// Says that a record is not what its type says.
fn wrong<T>(tree: &str, key: &[u8], part: Part) -> Error {
    Error::WrongType(Box::new(WrongType {
        tree: tree.to_owned(),
        key: key.to_vec(),
        part,
        expected: std::any::type_name::<T>(),
    }))
}

fn decoded_key<K: OrderedKey>(tree: &str, key: &[u8]) -> Result<K> {
    K::from_bytes(key).ok_or_else(|| wrong::<K>(tree, key, Part::Key))
}

fn decoded<V: Value>(tree: &str, key: &[u8], value: &[u8]) -> Result<V> {
    V::decode_value(value).ok_or_else(|| wrong::<V>(tree, key, Part::Value))
}

fn bound<K: OrderedKey>(bound: Bound<&K>) -> Bound<Vec<u8>> {
    bound.map(K::to_bytes)
}

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

fn bounds<K: OrderedKey>(range: &impl RangeBounds<K>) -> Bounds {
    (bound(range.start_bound()), bound(range.end_bound()))
}

impl<K: OrderedKey, V: Value> TypedTree<K, V> {
    /// The tree, whose keys and values are bytes.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The value of `key`, if it is there.
    ///
    /// # Errors
    /// [`Error::WrongType`], and as [`Tree::get`].
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let key = key.to_bytes();
        let value = self.tree.get(&key)?;
        value.map(|v| self.decoded(&key, &v)).transpose()
    }

    /// [`TypedTree::get`] in a transaction or at a snapshot.
    ///
    /// # Errors
    /// [`Error::WrongType`], and as theirs.
    pub fn get_in(&self, from: &impl ReadFrom, key: &K) -> Result<Option<V>> {
        let key = key.to_bytes();
        let value = from.get(&self.tree, &key)?;
        value.map(|v| self.decoded(&key, &v)).transpose()
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn contains(&self, key: &K) -> Result<bool> {
        self.tree.contains(&key.to_bytes())
    }

    /// The values of many keys, in the order of the keys; as [`Tree::multi_get`].
    ///
    /// # Errors
    /// As [`TypedTree::get`], for any of the keys.
    pub fn multi_get(&self, keys: &[K]) -> Result<Vec<Option<V>>> {
        let keys: Vec<_> = keys.iter().map(K::to_bytes).collect();
        let values = self.tree.multi_get(&keys)?;
        let decoded = keys.iter().zip(values).map(|(key, value)| {
            let value = value.map(|v| self.decoded(key, &v));
            value.transpose()
        });
        decoded.collect()
    }

    /// Sets `key` to `value`, durably, and returns the commit.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn put(&self, key: &K, value: &V) -> Result<Csn> {
        self.put_with(key, value, Durability::Sync)
    }

    /// Sets `key` to `value` and returns the commit.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn put_with(&self, key: &K, value: &V, durability: Durability) -> Result<Csn> {
        let (key, value) = (key.to_bytes(), encoded(value));
        self.tree.put_with(&key, &value, durability)
    }

    /// Sets `key` to `value` in a transaction or a batch.
    ///
    /// # Errors
    /// As [`Transaction::put`](crate::Transaction::put); none in a batch.
    pub fn put_in(&self, to: &mut impl WriteTo, key: &K, value: &V) -> Result<()> {
        to.put(&self.tree, &key.to_bytes(), &encoded(value))
    }

    /// Removes `key`, durably, whether it is there or not, and returns the commit.
    ///
    /// # Errors
    /// As [`Tree::delete`].
    pub fn delete(&self, key: &K) -> Result<Csn> {
        self.delete_with(key, Durability::Sync)
    }

    /// Removes `key` and returns the commit.
    ///
    /// # Errors
    /// As [`Tree::delete`].
    pub fn delete_with(&self, key: &K, durability: Durability) -> Result<Csn> {
        self.tree.delete_with(&key.to_bytes(), durability)
    }

    /// Removes all keys in `range`, in one commit, as [`Tree::delete_range_with`] does.
    ///
    /// # Errors
    /// As [`Tree::delete_range_with`].
    pub fn delete_range_with(
        &self,
        range: impl RangeBounds<K>,
        durability: Durability,
    ) -> Result<Csn> {
        self.tree.delete_range_with(bounds(&range), durability)
    }

    /// Removes `key` in a transaction or a batch.
    ///
    /// # Errors
    /// As [`Transaction::delete`](crate::Transaction::delete); none in a batch.
    pub fn delete_in(&self, from: &mut impl WriteTo, key: &K) -> Result<()> {
        from.delete(&self.tree, &key.to_bytes())
    }

    /// [`Tree::update`]: sets `key` to what `change` makes of its value, atomically.
    ///
    /// # Errors
    /// [`Error::WrongType`]: nothing was changed; and as [`Tree::update`].
    pub fn update(
        &self,
        key: &K,
        durability: Durability,
        mut change: impl FnMut(Option<V>) -> Option<V>,
    ) -> Result<Csn> {
        let key = key.to_bytes();
        let mut failed = None;
        let made = self.tree.update(&key, durability, |old| {
            match old.map(|v| self.decoded(&key, v)).transpose() {
                Ok(value) => {
                    failed = None;
                    change(value).as_ref().map(encoded)
                }
                // What it was given: nothing is written.
                Err(e) => {
                    failed = Some(e);
                    old.map(<[u8]>::to_vec)
                }
            }
        });
        match failed {
            Some(e) => made.and(Err(e)),
            None => made,
        }
    }

    /// [`Tree::compare_and_swap`]: sets `key` to `new` if it holds `expected`. It compares
    /// encodings.
    ///
    /// # Errors
    /// [`Error::WrongType`] of what it holds instead, and as [`Tree::compare_and_swap`].
    pub fn compare_and_swap(
        &self,
        key: &K,
        expected: Option<&V>,
        new: Option<&V>,
        durability: Durability,
    ) -> Result<Swap<V>> {
        let (key, expected, new) = (key.to_bytes(), expected.map(encoded), new.map(encoded));
        let tree = &self.tree;
        match tree.compare_and_swap(&key, expected.as_deref(), new.as_deref(), durability)? {
            Swap::Done(csn) => Ok(Swap::Done(csn)),
            Swap::Differs(value) => {
                let value = value.map(|v| self.decoded(&key, &v));
                Ok(Swap::Differs(value.transpose()?))
            }
        }
    }

    /// Sets `key` to `value` if it is not there, atomically.
    ///
    /// # Errors
    /// As [`TypedTree::compare_and_swap`].
    pub fn insert_if_absent(&self, key: &K, value: &V, durability: Durability) -> Result<Swap<V>> {
        self.compare_and_swap(key, None, Some(value), durability)
    }

    /// The records with keys in `range`, in order.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn range(&self, range: impl RangeBounds<K>) -> Result<TypedScan<'static, K, V>> {
        let scan = self.tree.range(bounds(&range))?;
        Ok(TypedScan::new(&self.tree, scan.into()))
    }

    /// [`TypedTree::range`] in a transaction or at a snapshot.
    ///
    /// # Errors
    /// As theirs.
    pub fn range_in<'t>(
        &self,
        from: &'t impl ReadFrom,
        range: impl RangeBounds<K>,
    ) -> Result<TypedScan<'t, K, V>> {
        let scan = from.range(&self.tree, bounds(&range))?;
        Ok(TypedScan::new(&self.tree, scan))
    }

    /// The records whose keys begin with these parts, in order: with keys `(A, B)`
    /// those of one `A`.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn prefix(&self, parts: &impl OrderedKey) -> Result<TypedScan<'static, K, V>> {
        let scan = self.tree.prefix(&parts.to_bytes())?;
        Ok(TypedScan::new(&self.tree, scan.into()))
    }

    /// [`TypedTree::prefix`] in a transaction or at a snapshot.
    ///
    /// # Errors
    /// As theirs.
    pub fn prefix_in<'t>(
        &self,
        from: &'t impl ReadFrom,
        parts: &impl OrderedKey,
    ) -> Result<TypedScan<'t, K, V>> {
        let scan = from.range(&self.tree, prefix_bounds(&parts.to_bytes()))?;
        Ok(TypedScan::new(&self.tree, scan))
    }

    /// All records, in order.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn iter(&self) -> Result<TypedScan<'static, K, V>> {
        self.range(..)
    }

    /// The record with the least key.
    ///
    /// # Errors
    /// As the steps of a [`TypedScan`].
    pub fn first(&self) -> Result<Option<(K, V)>> {
        self.iter()?.limit(1).next().transpose()
    }

    /// The record with the greatest key.
    ///
    /// # Errors
    /// As [`TypedTree::first`].
    pub fn last(&self) -> Result<Option<(K, V)>> {
        self.iter()?.rev().limit(1).next().transpose()
    }

    /// A cursor over the records with keys in `range`, as they are now.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn cursor(&self, range: impl RangeBounds<K>) -> Result<TypedCursor<'static, K, V>> {
        let cursor = self.tree.cursor(bounds(&range))?;
        Ok(TypedCursor::new(&self.tree, cursor))
    }

    /// [`TypedTree::cursor`] in a transaction or at a snapshot.
    ///
    /// # Errors
    /// As theirs.
    pub fn cursor_in<'t>(
        &self,
        from: &'t impl ReadFrom,
        range: impl RangeBounds<K>,
    ) -> Result<TypedCursor<'t, K, V>> {
        let cursor = from.cursor(&self.tree, bounds(&range))?;
        Ok(TypedCursor::new(&self.tree, cursor))
    }

    /// How many records have keys in `range`; as [`Tree::count`].
    ///
    /// # Errors
    /// As [`Tree::count`].
    pub fn count(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.tree.count(bounds(&range))
    }

    fn decoded(&self, key: &[u8], value: &[u8]) -> Result<V> {
        decoded(&self.tree.name(), key, value)
    }
}
