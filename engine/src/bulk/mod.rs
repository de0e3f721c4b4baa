//! Sorted bulk load: a new tree built bottom up, beside the log.
//!
//! 1. Records come in order. Leaves are filled one after another, and above them the inner
//!    nodes (`row`), on blocks reserved in long runs (`blocks`). A thread writes what is full, a MiB at
//!    a time and several at once, while the next is built (`writer`).
//! 2. When all is written, one record of the log names the root and every run, and so makes the tree
//!    (`attach`). As for large values, the device is flushed before the record is written.
//!
//! Until then nothing names the blocks: after a crash they are free, and a loader that is
//! dropped gives them back. Afterwards the record keeps them until a checkpoint has the
//! tree. Its nodes are like any that were written and left memory: they are read when they are
//! needed, and copied when they are changed.

mod attach;
mod blocks;
mod row;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::commit::batch::{check_key, check_value};
use crate::core::Core;
use crate::error::{Error, OutOfOrder, Result};
use crate::format::node::{KIND_EXTENT, KIND_VALUE};
use crate::format::{BlockPtr, TreeId};
use crate::node::max_inline;
use crate::shortage::Claim;
use crate::store::{Store, Tree};
use crate::writeback::catalog::MAX_NAME;
use blocks::Blocks;
use row::{Done, Row};

/// How a tree is loaded.
///
/// ```
/// let options = gaur::BulkOptions { fill: 90 };
/// assert_eq!(gaur::BulkOptions::default().fill, 100);
/// # drop(options);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkOptions {
    /// How full nodes are made, in percent: 50 to 100, the default. Full ones take the least space
    /// and are read fastest; room in them is for trees whose keys will be added to everywhere soon.
    pub fill: u8,
}

impl Default for BulkOptions {
    fn default() -> Self {
        Self { fill: 100 }
    }
}

/// Builds a new tree out of records that come in order, at about the speed at which the
/// device writes.
///
/// The records are not logged, nor do they pass the cache: nodes are built full and written in
/// large runs. The tree appears with [`BulkLoader::finish`], whole and durable. Before that
/// there is nothing to be seen of it, nor after a crash, and its name is not taken. A loader that
/// is dropped gives its space back. It takes about 16 MiB of memory, however much is loaded.
///
/// Others read, write and make trees meanwhile. What a loader has reserved is in use for them.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("bulk.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// let mut loader = store.bulk_load("squares")?;
/// for n in 0..10_000u64 {
///     loader.push(&n.to_be_bytes(), &(n * n).to_be_bytes())?;
/// }
/// let squares = loader.finish()?;
/// assert_eq!(squares.get(&7u64.to_be_bytes())?.unwrap(), 49u64.to_be_bytes());
/// squares.put(&7u64.to_be_bytes(), b"any tree's")?;
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Debug)]
pub struct BulkLoader {
    store: Store,
    name: String,
    id: TreeId,
    blocks: Blocks,
    /// Leaves, and the levels above them.
    rows: Vec<Row>,
    limit: usize,
    /// The last key.
    last: Option<Vec<u8>>,
    records: u64,
    /// Why it cannot go on.
    failed: Option<Error>,
}

impl Store {
    /// Begins to load a new tree. A name has 1 to 255 bytes.
    ///
    /// # Errors
    /// [`Error::TreeExists`], [`Error::BadOption`] for a name that cannot be,
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::Forked`], [`Error::Stopped`],
    /// [`Error::TooManyThreads`], and [`Error::Io`] if the thread that writes cannot be started.
    pub fn bulk_load(&self, name: &str) -> Result<BulkLoader> {
        self.bulk_load_with(name, &BulkOptions::default())
    }

    /// [`Store::bulk_load`] with options.
    ///
    /// # Errors
    /// As [`Store::bulk_load`]; [`Error::BadOption`] for options that cannot be.
    pub fn bulk_load_with(&self, name: &str, options: &BulkOptions) -> Result<BulkLoader> {
        let core = self.core();
        core.check_writable()?;
        let bad = |name, detail| Err(Error::BadOption { name, detail });
        if name.is_empty() || name.len() > MAX_NAME {
            return bad(
                "tree name",
                format!("{} bytes; 1 to {MAX_NAME}", name.len()),
            );
        }
        if !(50..=100).contains(&options.fill) {
            return bad("fill", format!("{} percent; 50 to 100", options.fill));
        }
        // Looked at again when the tree is made.
        if core.trees.lock().named(name).is_some() {
            return Err(Error::TreeExists(name.to_owned()));
        }
        let words = core.forest.geometry.block_size as usize / 8;
        Ok(BulkLoader {
            store: self.clone(),
            name: name.to_owned(),
            id: core.next_tree.fetch_add(1, Ordering::AcqRel),
            blocks: Blocks::new(core.clone())?,
            rows: Vec::new(),
            limit: words * usize::from(options.fill) / 100,
            last: None,
            records: 0,
            failed: None,
        })
    }
}

impl BulkLoader {
    /// Adds a record, whose key must be greater than the last one's.
    ///
    /// # Errors
    /// [`Error::OutOfOrder`], [`Error::KeyTooLong`], [`Error::ValueTooLong`]: this record was
    /// not added, and others may be. [`Error::Full`], [`Error::Io`], [`Error::Stopped`],
    /// [`Error::Closed`], [`Error::Forked`]: the loader cannot go on; drop it, which gives the space back.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.check()?;
        check_key(key)?;
        check_value(value.len())?;
        if let Some(last) = &self.last
            && key <= last.as_slice()
        {
            return Err(Error::OutOfOrder(Box::new(OutOfOrder {
                tree: self.name.clone(),
                last: last.clone(),
                key: key.to_vec(),
            })));
        }
        let added = self.add(key, value);
        self.failed = added.as_ref().err().cloned();
        added?;
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        self.records += 1;
        Ok(())
    }

    /// Records added so far.
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Makes the tree of all records added, durably.
    ///
    /// # Errors
    /// [`Error::TreeExists`] if another made one of that name meanwhile,
    /// [`Error::BatchTooLarge`] if its blocks lie in more pieces than one record of the log can name, and what
    /// [`BulkLoader::push`] and [`Store::create_tree`] can fail with: there is no tree, and the
    /// space is given back. [`Error::OutcomeUnknown`]: it may be there after reopening, whole.
    pub fn finish(mut self) -> Result<Tree> {
        self.check()?;
        let root = self.top()?;
        self.blocks.written()?;
        self.attach(root)
    }

    fn core(&self) -> &Arc<Core> {
        self.store.core()
    }

    fn check(&self) -> Result<()> {
        self.core().check_home()?;
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let core = self.store.core();
        if value.len() <= max_inline(core.forest.geometry.block_size, key.len()) {
            return self.put(0, key, KIND_VALUE, value);
        }
        core.check_writable()?;
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let stored = core.write_extents(&worker, &mut Claim::adding(), value)?;
        self.blocks.adopt(&stored);
        self.put(0, key, KIND_EXTENT, &stored)
    }

    /// Adds an entry to a level, and what becomes full to those above.
    fn put(&mut self, level: usize, key: &[u8], kind: u8, value: &[u8]) -> Result<()> {
        if self.rows.len() == level {
            self.rows.push(Row::new(level as u8, self.limit));
        }
        match self.rows[level].add(key, kind, value) {
            Some(done) => self.write(level, &done),
            None => Ok(()),
        }
    }

    /// Writes a node that is complete, and has the level above name it.
    fn write(&mut self, level: usize, done: &Done) -> Result<()> {
        let ptr = self.blocks.write(|page| {
            self.rows[level].build(done, page, self.id, self.store.core().forest.store);
        })?;
        let lower = self.rows[level].pass(done);
        let child = row::child(ptr);
        self.put(level + 1, &lower, crate::format::node::KIND_CHILD, &child)
    }

    /// Completes all levels; returns the root.
    fn top(&mut self) -> Result<BlockPtr> {
        let mut level = 0;
        while level < self.rows.len() {
            while let Some(done) = self.rows[level].rest() {
                if done.is_root() {
                    return self.blocks.write(|page| {
                        let store = self.store.core().forest.store;
                        self.rows[level].build(&done, page, self.id, store);
                    });
                }
                self.write(level, &done)?;
            }
            level += 1;
        }
        Ok(BlockPtr::default())
    }
}
