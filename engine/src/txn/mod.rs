//! Transactions: reads at one commit, pending writes, validation when they commit.
//!
//! `docs/transactions.md` says what they promise and why it holds.

pub(crate) mod reads;
mod retry;
mod scan;
mod writes;

#[cfg(test)]
pub(crate) mod tests;

use std::cell::{Cell, RefCell};
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::commit::batch::{check_key, check_value};
use crate::commit::condition::{Condition, Validation};
use crate::commit::view::View;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::Csn;
use crate::format::node::KIND_VALUE;
use crate::large::ValueReader;
use crate::merging::apply;
use crate::options::Durability;
use crate::scan::Cursor;
use crate::store::commit::commit_ops_if;
use crate::store::look::checked;
use crate::store::tree::prefix_bounds;
use crate::store::{Store, Tree};
use reads::{Bounds, Reads};
use writes::{Pending, Writes, size_in_log};

pub use retry::{Retry, Transacted};
pub use scan::TransactionScan;

/// What a transaction is protected from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Everything: all that commits is as if it had run one after another, in the order
    /// of the commits. What was read is validated, ranges included.
    #[default]
    Serializable,
    /// All but write skew: what is read is one commit, and of two transactions that
    /// write the same key and overlap the first wins. Two that each read what the other
    /// writes may both commit, unless they read it by
    /// [`Transaction::get_for_update`].
    Snapshot,
}

/// How to begin a transaction.
///
/// ```
/// use gaur::{Isolation, TransactionOptions};
/// let options = TransactionOptions { isolation: Isolation::Snapshot, ..Default::default() };
/// assert_ne!(options.isolation, TransactionOptions::default().isolation);
/// ```
#[derive(Clone, Debug, Default)]
pub struct TransactionOptions {
    /// What it is protected from.
    pub isolation: Isolation,
    #[cfg(test)]
    pub(crate) without: Option<crate::commit::condition::Part>,
}

/// Reads and writes, in any trees of a store, that happen together or not at all, and as
/// if nobody else were there.
///
/// It reads what was committed when it began, and its own writes, which nobody else
/// sees before it has committed. It locks nothing: it never waits for another transaction, nor anybody
/// for it. Instead its commit fails with [`Error::Conflict`] if somebody has changed
/// what it depends on; then nothing of it was done, and it is to be run again, for which
/// there is [`Store::transact`]. One that only reads never fails by conflict.
///
/// Dropping it rolls it back. While it lives, a view is held open; see
/// [`Snapshot`](crate::Snapshot) for what that costs.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("transaction.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// use gaur::{Durability, Error};
///
/// let doctors = store.tree("doctors on call")?;
/// doctors.put(b"ann", b"")?;
/// doctors.put(b"bob", b"")?;
///
/// // Each goes off call, seeing that the other is there.
/// let mut ann = store.transaction()?;
/// let mut bob = store.transaction()?;
/// assert_eq!(ann.iter(&doctors)?.count(), 2);
/// assert_eq!(bob.iter(&doctors)?.count(), 2);
/// ann.delete(&doctors, b"ann")?;
/// bob.delete(&doctors, b"bob")?;
/// ann.commit(Durability::Sync)?;
/// let refused = bob.commit(Durability::Sync).unwrap_err();
/// assert!(matches!(&refused, Error::Conflict(on) if on.key == b"ann"));
/// assert_eq!(doctors.iter()?.count(), 1);
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Debug)]
pub struct Transaction {
    store: Store,
    view: Arc<View>,
    options: TransactionOptions,
    reads: RefCell<Reads>,
    writes: Writes,
    /// It has lost what its view needs: it cannot succeed any more.
    lost: Cell<bool>,
    /// Which transaction its savepoints are of.
    id: u64,
}

/// A moment in a transaction, to which its writes can go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint {
    transaction: u64,
    number: u64,
}

impl Store {
    /// Begins a serializable transaction.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Forked`], [`Error::TooManyThreads`].
    pub fn transaction(&self) -> Result<Transaction> {
        self.begin(&TransactionOptions::default())
    }

    /// Begins a transaction. It costs about a microsecond and no I/O. On a store that was
    /// opened read-only it can only read.
    ///
    /// # Errors
    /// As [`Store::transaction`].
    pub fn begin(&self, options: &TransactionOptions) -> Result<Transaction> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.core().check_open()?;
        Ok(Transaction {
            store: self.clone(),
            view: self.core().view_to_validate()?,
            options: options.clone(),
            reads: RefCell::default(),
            writes: Writes::default(),
            lost: Cell::new(false),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }
}

impl Transaction {
    /// The commit it looks at.
    pub fn csn(&self) -> Csn {
        self.view.csn()
    }

    /// What it is protected from.
    pub fn isolation(&self) -> Isolation {
        self.options.isolation
    }

    /// The value of `key`: as this transaction left it, or else as it was when the
    /// transaction began.
    ///
    /// # Errors
    /// [`Error::ViewTooOld`]: the transaction took too long, run it again.
    /// [`Error::OtherStore`], and what [`Tree::get`] can fail with.
    pub fn get(&self, tree: &Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.look(tree, key, self.validates_reads())
    }

    /// [`Transaction::get`] of a key that the transaction depends on under every
    /// isolation: it fails to commit if another changes that key meanwhile.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn get_for_update(&self, tree: &Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.look(tree, key, true)
    }

    fn look(&self, tree: &Tree, key: &[u8], note: bool) -> Result<Option<Vec<u8>>> {
        let core = self.reading(tree, key)?;
        if let Some(pending) = self.writes.get(tree.state().id, key) {
            return Ok(pending.clone());
        }
        if note {
            self.reads.borrow_mut().point(tree.state(), key);
        }
        let worker = core.forest.workers.mine()?;
        self.noting(core.get_at(&worker, tree.state(), key, &self.view))
    }

    /// A reader of the value of `key` as [`Transaction::get`] would return it, if it is there. The key
    /// counts as read. It stays as it is whatever becomes of the transaction.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn reader(&self, tree: &Tree, key: &[u8]) -> Result<Option<ValueReader>> {
        self.reading(tree, key)?;
        if let Some(pending) = self.writes.get(tree.state().id, key) {
            let (core, state) = (self.store.core(), tree.state());
            let own = |v: &Vec<u8>| {
                let entry = (KIND_VALUE, v.clone());
                ValueReader::new(core, state.clone(), self.view.clone(), entry)
            };
            return Ok(pending.as_ref().map(own));
        }
        if self.validates_reads() {
            self.reads.borrow_mut().point(tree.state(), key);
        }
        self.noting(tree.reader_at(key, self.view.clone()))
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains(&self, tree: &Tree, key: &[u8]) -> Result<bool> {
        let core = self.reading(tree, key)?;
        if let Some(pending) = self.writes.get(tree.state().id, key) {
            return Ok(pending.is_some());
        }
        if self.validates_reads() {
            self.reads.borrow_mut().point(tree.state(), key);
        }
        let worker = core.forest.workers.mine()?;
        self.noting(core.contains_at(&worker, tree.state(), key, &self.view))
    }

    fn reading(&self, tree: &Tree, key: &[u8]) -> Result<&Core> {
        check_key(key)?;
        self.store.check_owns(tree)?;
        let core = self.store.core();
        core.check_open()?;
        Ok(core)
    }

    fn validates_reads(&self) -> bool {
        self.options.isolation == Isolation::Serializable
    }

    /// Notes it if a read failed for good.
    fn noting<T>(&self, read: Result<T>) -> Result<T> {
        if matches!(read, Err(Error::ViewTooOld { .. })) {
            self.lost.set(true);
        }
        read
    }

    /// The records with keys in `range`, in order, as this transaction left them. What
    /// lies up to the last record taken counts as read.
    ///
    /// # Errors
    /// [`Error::OtherStore`], [`Error::Closed`], [`Error::Forked`],
    /// [`Error::TooManyThreads`].
    pub fn range(
        &self,
        tree: &Tree,
        range: impl RangeBounds<Vec<u8>>,
    ) -> Result<TransactionScan<'_>> {
        self.store.check_owns(tree)?;
        TransactionScan::new(self, tree.state(), Bounds::of(range))
    }

    /// The records whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    /// As [`Transaction::range`].
    pub fn prefix(&self, tree: &Tree, prefix: &[u8]) -> Result<TransactionScan<'_>> {
        self.range(tree, prefix_bounds(prefix))
    }

    /// All records of a tree, in order.
    ///
    /// # Errors
    /// As [`Transaction::range`].
    pub fn iter(&self, tree: &Tree) -> Result<TransactionScan<'_>> {
        self.range(tree, ..)
    }

    /// A cursor over the records with keys in `range`, as this transaction left them.
    /// What it passes counts as read.
    ///
    /// # Errors
    /// As [`Transaction::range`].
    pub fn cursor(&self, tree: &Tree, range: impl RangeBounds<Vec<u8>>) -> Result<Cursor<'_>> {
        self.store.check_owns(tree)?;
        self.store.core().check_open()?;
        Ok(Cursor::of(self, tree.state().clone(), Bounds::of(range)))
    }

    /// The values of many keys, in the order of the keys; as [`Tree::multi_get`].
    ///
    /// # Errors
    /// As [`Transaction::get`], for any of the keys.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        tree: &Tree,
        keys: &[K],
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let keys = checked(keys)?;
        self.store.check_owns(tree)?;
        let (core, state) = (self.store.core(), tree.state());
        core.check_open()?;
        let own = |key: &&[u8]| self.writes.get(state.id, key);
        let others: Vec<&[u8]> = keys.iter().copied().filter(|k| own(k).is_none()).collect();
        if self.validates_reads() {
            let mut reads = self.reads.borrow_mut();
            others.iter().for_each(|key| reads.point(state, key));
        }
        let worker = core.forest.workers.mine()?;
        let read = core.multi_get(&worker, state, &others, Some(&self.view));
        let mut read = self.noting(read)?.into_iter();
        let values = keys.iter().map(|key| match own(key) {
            Some(pending) => pending.clone(),
            None => read.next().flatten(),
        });
        Ok(values.collect())
    }

    /// Sets `key` to `value` when the transaction commits.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`] if all writes together would pass
    /// [`Transaction::max_size`], [`Error::KeyTooLong`], [`Error::ValueTooLong`],
    /// [`Error::OtherStore`], [`Error::ReadOnly`], [`Error::Forked`]: this write was not made, the
    /// transaction is as it was.
    pub fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> Result<()> {
        check_value(value.len())?;
        self.set(tree, key, Some(value.to_vec()))
    }

    /// Removes `key`, if it is there, when the transaction commits.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&mut self, tree: &Tree, key: &[u8]) -> Result<()> {
        self.set(tree, key, None)
    }

    /// Merges `operand` into what `key` holds in this transaction, by the tree's merge operator, when the
    /// transaction commits. The key counts as read: it is [`Transaction::get`] and
    /// [`Transaction::put`] in one. Who need not read beside it merges in a
    /// [`WriteBatch`](crate::WriteBatch) or by [`Tree::merge`], which nobody makes fail.
    ///
    /// # Errors
    /// [`Error::NoMergeOperator`], [`Error::Merge`], and those of [`Transaction::get`] and
    /// [`Transaction::put`]: this merge was not made.
    pub fn merge(&mut self, tree: &Tree, key: &[u8], operand: &[u8]) -> Result<()> {
        self.store.check_owns(tree)?;
        let operator = self.store.core().merging.operator(tree.state())?;
        let current = self.get(tree, key)?;
        let merged = apply(&*operator, tree.state(), key, current.as_deref(), operand)?;
        check_value(merged.as_ref().map_or(0, Vec::len))?;
        self.set(tree, key, merged)
    }

    fn set(&mut self, tree: &Tree, key: &[u8], value: Pending) -> Result<()> {
        check_key(key)?;
        self.store.check_owns(tree)?;
        let core = self.store.core();
        core.check_writable()?;
        let (block_size, max) = (core.forest.geometry.block_size, core.log().max_record());
        let size = |key: &[u8], value: &Pending| size_in_log(block_size, key, value);
        self.writes.set(tree.state(), key, value, max, size)
    }

    /// Keys that it writes.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether it writes nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.len() == 0
    }

    /// Bytes that its writes take, of at most [`Transaction::max_size`]: those of keys and
    /// values and a few more for each; a value that does not fit into a node counts as
    /// the pointers to it.
    pub fn size(&self) -> usize {
        self.writes.bytes()
    }

    /// The most bytes that its writes may take: an eighth of the store's log, at most
    /// 8 MiB. 0 if the store was opened read-only.
    pub fn max_size(&self) -> usize {
        let log = self.store.core().log_if_started();
        log.map_or(0, |log| log.max_record())
    }

    /// Sets a savepoint: [`Transaction::rollback_to`] goes back to the writes as they are
    /// now.
    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint {
            transaction: self.id,
            number: self.writes.save(),
        }
    }

    /// Undoes all writes made since the savepoint, which stays; later ones are gone. What was
    /// read since still counts as read.
    ///
    /// # Errors
    /// [`Error::NoSuchSavepoint`]; nothing was undone.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.check_savepoint(savepoint)?;
        let block_size = self.store.core().forest.geometry.block_size;
        let size = |key: &[u8], value: &Pending| size_in_log(block_size, key, value);
        self.writes.roll_back_to(savepoint.number, size)
    }

    /// Forgets the savepoint and later ones; the writes since stay.
    ///
    /// # Errors
    /// [`Error::NoSuchSavepoint`].
    pub fn release(&mut self, savepoint: Savepoint) -> Result<()> {
        self.check_savepoint(savepoint)?;
        self.writes.release(savepoint.number)
    }

    fn check_savepoint(&self, savepoint: Savepoint) -> Result<()> {
        match savepoint.transaction == self.id {
            true => Ok(()),
            false => Err(Error::NoSuchSavepoint),
        }
    }

    /// Makes all writes one commit and returns its CSN. A transaction that wrote nothing draws
    /// none: it returns the commit that it looked at.
    ///
    /// # Errors
    /// [`Error::Conflict`]: another commit changed what this transaction depends on.
    /// [`Error::ViewTooOld`]: it took too long to tell. Nothing was done in either case; run it
    /// again. [`Error::BatchTooWide`], and what [`Store::commit`] can fail with.
    pub fn commit(self, durability: Durability) -> Result<Csn> {
        let core = self.store.core();
        if self.is_empty() {
            core.check_open()?;
            return Ok(self.csn());
        }
        core.check_writable()?;
        let on = Validation {
            view: self.csn(),
            reads: &self.reads.into_inner(),
            writes: self.options.isolation == Isolation::Snapshot,
            #[cfg(test)]
            without: self.options.without,
        };
        // Before large values are written for nothing.
        core.look_before(&on)?;
        let ops = self.writes.sorted();
        // Its view is open until it has drawn its CSN, or failed.
        let made = commit_ops_if(core, &ops, durability, Some(Condition::Unchanged(on)));
        drop(self.view);
        made
    }

    /// Ends it without any effect, as dropping it does.
    pub fn rollback(self) {}
}
