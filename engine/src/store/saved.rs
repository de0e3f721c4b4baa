//! Named snapshots: taken, opened, deleted; trees that begin as one of a snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::trees::{Gate, check_name};
use super::{Inner, Store, Tree};
use crate::core::state_of;
use crate::error::{Error, Result};
use crate::format::{Csn, Generation, TreeId};
use crate::log::OpsBuilder;
use crate::node::Child;
use crate::recovery::CatalogReader;
use crate::saved::{Origin, Saved, Users};
use crate::tree::TreeState;
use crate::writeback::catalog::{CatalogEntry, Contents};
use crate::writeback::deadlist::DEAD_LIST;
use crate::writeback::held::MAX_ORIGINS;

/// Numbers for the trees of opened snapshots, from the top down: no tree has one of these,
/// so no change is noted under it.
static NUMBER: AtomicU32 = AtomicU32::new(DEAD_LIST - 1);

/// What there is to know of a named snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// Its last commit.
    pub csn: Csn,
    /// When it was taken, in seconds since 1970.
    pub created: u64,
    /// Bytes that it has and nothing newer: neither the trees nor a younger snapshot. If it
    /// alone is deleted, what older snapshots have too of this stays.
    pub held_bytes: u64,
}

/// All trees of a store as they were when a snapshot was taken, under a name, until it is
/// deleted: also after the store was closed and opened again.
///
/// As long as this or one of its trees is held, what it has stays where it is, even if the
/// snapshot is deleted meanwhile.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("named.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// let stock = store.tree("stock")?;
/// stock.put(b"apples", b"12")?;
/// let monday = store.create_snapshot("monday")?;
/// stock.put(b"apples", b"3")?;
/// assert_eq!(monday.tree("stock")?.get(b"apples")?.as_deref(), Some(&b"12"[..]));
///
/// // A tree to be written to that begins as it was then.
/// let what_if = store.clone_tree(&monday, "stock", "what if")?;
/// what_if.put(b"apples", b"1000")?;
/// store.drop_tree("what if")?;
///
/// // Back to Monday.
/// let stock = store.roll_back_tree(&monday, "stock")?;
/// assert_eq!(stock.get(b"apples")?.as_deref(), Some(&b"12"[..]));
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NamedSnapshot {
    inner: Arc<Inner>,
    name: String,
    csn: Csn,
    created: u64,
    generation: Generation,
    trees: Arc<Vec<CatalogEntry>>,
    users: Arc<Users>,
}

impl Store {
    /// Takes a snapshot of all trees under a name of 1 to 255 bytes: the next checkpoint
    /// does, and this waits until it is durable. It has all commits that had returned.
    ///
    /// From then on, what is overwritten or deleted and the snapshot has is kept, and so
    /// is about a hundredth of what the store has in use, to note that.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`], [`Error::BadOption`] for a name that cannot be, if its
    /// trees came from more than 64 snapshots, or while a [`BulkLoader`](crate::BulkLoader)
    /// is open, [`Error::Full`] if there is no room to
    /// note what is kept, and what [`Store::checkpoint`] can fail with.
    pub fn create_snapshot(&self, name: &str) -> Result<NamedSnapshot> {
        let core = self.core();
        core.check_writable()?;
        check_name(name)?;
        let worker = core.forest.workers.mine()?;
        {
            let _creating = core.creating.lock();
            let origins = core.trees.lock().all();
            let origins = origins.iter().filter(|t| t.origin.0 != 0).count();
            if origins > MAX_ORIGINS {
                return Err(Error::BadOption {
                    name: "snapshot",
                    detail: format!("its trees came from more than {MAX_ORIGINS} snapshots"),
                });
            }
            self.room_for_name(&worker)?;
            self.room_for_lists()?;
            let mut shelf = core.shelf.lock();
            if shelf.has(name) {
                return Err(Error::SnapshotExists(name.to_owned()));
            }
            shelf.wanted.push(name.to_owned());
        }
        self.checkpoint()?;
        match self.open_snapshot(name) {
            Err(Error::NoSuchSnapshot(_)) => Err(Error::BadOption {
                name: "snapshot",
                detail: "a tree is being loaded; take it when that has ended".into(),
            }),
            opened => opened,
        }
    }

    /// Room for the dead lists that a first snapshot may come to need.
    fn room_for_lists(&self) -> Result<()> {
        let allocator = self.core().forest.pool.allocator();
        let (free, back) = (allocator.free_blocks(), allocator.kept_back());
        let used = allocator.data_blocks().saturating_sub(free);
        let needed = back + used / 64 + 256;
        if free < needed && self.core().shelf.lock().all.is_empty() {
            return Err(Error::Full {
                needed,
                free,
                pinned: 0,
            });
        }
        Ok(())
    }

    /// Opens a named snapshot; of a store that is open for reading only too. Reads its
    /// tree of trees.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], [`Error::Damaged`], [`Error::Io`], [`Error::Closed`],
    /// [`Error::Forked`].
    pub fn open_snapshot(&self, name: &str) -> Result<NamedSnapshot> {
        let core = self.core();
        core.check_open()?;
        let none = || Error::NoSuchSnapshot(name.to_owned());
        let (held, users) = {
            let shelf = core.shelf.lock();
            let saved = shelf.named(name).ok_or_else(none)?;
            (saved.held.clone(), saved.users.clone())
        };
        let (catalog, level) = match held.catalog.is_null() {
            false => (held.catalog, held.level),
            // The newest tree of trees is the one it has.
            true => {
                let sb = core.forest.mend.lock().superblock;
                match sb.generation() == held.generation {
                    true => (sb.catalog(), sb.catalog_level),
                    // There was a checkpoint in between, which noted where it is.
                    false => return self.open_snapshot(name),
                }
            }
        };
        let reader = CatalogReader {
            device: core.forest.device.as_ref(),
            geometry: core.forest.geometry.now(),
            store: core.forest.store,
        };
        let mut contents = Contents::default();
        let mut blocks = Vec::new();
        reader.read(catalog, level as u8, &mut contents, &mut blocks, &mut None)?;
        Ok(NamedSnapshot {
            inner: self.inner.clone(),
            name: name.to_owned(),
            csn: held.csn,
            created: held.created,
            generation: held.generation,
            trees: Arc::new(contents.trees),
            users,
        })
    }

    /// The named snapshots, the oldest first; none in a forked child.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        if !self.core().is_home() {
            return Vec::new();
        }
        let block_size = u64::from(self.core().forest.geometry.block_size);
        let info = |s: &Saved| SnapshotInfo {
            name: s.held.name.clone(),
            csn: s.held.csn,
            created: s.held.created,
            held_bytes: s.held.dead_blocks * block_size,
        };
        let shelf = self.core().shelf.lock();
        let all = shelf.all.iter().filter(|s| !s.held.deleted);
        all.map(info).collect()
    }

    /// Deletes a named snapshot, durably. Its space comes back bit by bit with the next
    /// checkpoints, once nobody holds it or one of its trees any more. Needs no space, so
    /// a full store has it too.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], [`Error::SnapshotInUse`] if a tree, or one of a younger
    /// snapshot, came from it, and what [`Store::checkpoint`] can fail with.
    pub fn delete_snapshot(&self, name: &str) -> Result<()> {
        let core = self.core();
        core.check_writable()?;
        {
            let _creating = core.creating.lock();
            let mut shelf = core.shelf.lock();
            let saved = shelf.named(name);
            let of = saved.map(|s| s.held.generation);
            let of = of.ok_or_else(|| Error::NoSuchSnapshot(name.to_owned()))?;
            let others = shelf.kept().iter().filter(|g| **g == of).count() > 1;
            if let Some(by) = shelf.dependent(of).filter(|_| !others) {
                let name = name.to_owned();
                return Err(Error::SnapshotInUse { name, by });
            }
            let mut all = shelf.all.iter_mut();
            let saved = all.find(|s| !s.held.deleted && s.held.name == name);
            saved.expect("it was just there").held.deleted = true;
        }
        self.checkpoint()
    }

    /// Makes a tree that begins as one was when a snapshot was taken, durably, at once
    /// however large it is. The two share what neither changes; the snapshot cannot be
    /// deleted as long as there is the tree.
    ///
    /// # Errors
    /// [`Error::NoSuchTree`] if the snapshot has none of that name,
    /// [`Error::NoSuchSnapshot`] if it was deleted, [`Error::OtherStore`], and as
    /// [`Store::create_tree`].
    pub fn clone_tree(&self, from: &NamedSnapshot, tree: &str, new_name: &str) -> Result<Tree> {
        let core = self.core();
        core.check_writable()?;
        check_name(new_name)?;
        let entry = from.entry(tree)?;
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let creating = core.creating.lock();
        self.check_there(from)?;
        if core.trees.lock().named(new_name).is_some() {
            return Err(Error::TreeExists(new_name.to_owned()));
        }
        self.room_for_name(&worker)?;
        let mut ops = OpsBuilder::new();
        let state = self.begin_as(from, entry, new_name, &mut ops)?;
        let csn = self.append(&worker, Gate::Inside, &ops, |_| {
            core.shelf.lock().depend(from.generation);
            core.trees.lock().insert(state.clone());
        })?;
        drop(creating);
        core.log().wait_durable(csn)?;
        Ok(self.handle(state))
    }

    /// Takes a tree back to what it was when a snapshot was taken, durably, in one step:
    /// as if it was dropped and made anew as [`Store::clone_tree`] does, so older handles
    /// to it get [`Error::TreeDropped`]. If there is no tree of that name any more, it is
    /// made. Commits that were made since are gone; take a snapshot before, to keep them.
    ///
    /// # Errors
    /// As [`Store::clone_tree`].
    pub fn roll_back_tree(&self, to: &NamedSnapshot, tree: &str) -> Result<Tree> {
        let entry = to.entry(tree)?.clone();
        let mut states = self.replace(to, &[entry], |name| name == tree)?;
        Ok(self.handle(states.pop().expect("one tree, one state")))
    }

    /// Takes all trees back to what they were when a snapshot was taken, durably, in one
    /// step, as [`Store::roll_back_tree`] does; trees that there were not then are dropped.
    ///
    /// # Errors
    /// As [`Store::clone_tree`], and [`Error::BatchTooLarge`] if there are so many trees
    /// that a record in the log cannot name them all.
    pub fn roll_back(&self, to: &NamedSnapshot) -> Result<()> {
        self.replace(to, &to.trees, |_| true).map(|_| ())
    }

    /// Drops the trees that are `old` and makes `new` ones of a snapshot in one commit.
    fn replace(
        &self,
        to: &NamedSnapshot,
        new: &[CatalogEntry],
        old: impl Fn(&str) -> bool,
    ) -> Result<Vec<Arc<TreeState>>> {
        let core = self.core();
        core.check_writable()?;
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let creating = core.creating.lock();
        self.check_there(to)?;
        for _ in new {
            self.room_for_name(&worker)?;
        }
        let dropped: Vec<_> = core.trees.lock().all();
        let dropped: Vec<_> = dropped.into_iter().filter(|t| old(&t.name())).collect();
        let mut ops = OpsBuilder::new();
        for tree in &dropped {
            ops.drop_tree(tree.id, tree.name().as_bytes())?;
        }
        let made = new
            .iter()
            .map(|e| self.begin_as(to, e, &e.name, &mut ops))
            .collect::<Result<Vec<_>>>()?;
        let (len, max) = (ops.as_bytes().len(), core.log().max_record());
        if len > max {
            return Err(Error::BatchTooLarge { len, max });
        }
        let csn = self.append(&worker, Gate::Closed, &ops, |csn| {
            let mut trees = core.trees.lock();
            for tree in &dropped {
                trees.drop_tree(tree, csn);
            }
            core.reclaiming.begin(dropped.len());
            for state in &made {
                trees.insert(state.clone());
            }
            drop(trees);
            made.iter()
                .for_each(|_| core.shelf.lock().depend(to.generation));
        })?;
        drop(creating);
        core.log().wait_durable(csn)?;
        core.progress().ask();
        Ok(made)
    }

    /// A tree that begins as one of a snapshot, and what the log says of it.
    fn begin_as(
        &self,
        from: &NamedSnapshot,
        entry: &CatalogEntry,
        name: &str,
        ops: &mut OpsBuilder,
    ) -> Result<Arc<TreeState>> {
        let origin = Origin {
            generation: from.generation,
            root: entry.root,
            large: entry.large,
        };
        let id = self.core().next_tree.fetch_add(1, Ordering::AcqRel);
        ops.create_tree(id, name.as_bytes(), &origin.encode())?;
        Ok(Arc::new(state_of(id, name, Some(origin))))
    }

    /// Refuses a snapshot of another store, and one that was deleted.
    fn check_there(&self, snapshot: &NamedSnapshot) -> Result<()> {
        if !Arc::ptr_eq(&self.inner, &snapshot.inner) {
            return Err(Error::OtherStore(snapshot.name.clone()));
        }
        let shelf = self.core().shelf.lock();
        match shelf.named(&snapshot.name) {
            Some(saved) if saved.held.generation == snapshot.generation => Ok(()),
            _ => Err(Error::NoSuchSnapshot(snapshot.name.clone())),
        }
    }

    fn handle(&self, state: Arc<TreeState>) -> Tree {
        Tree {
            inner: self.inner.clone(),
            state,
        }
    }
}

impl NamedSnapshot {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its last commit: it has all up to this one and none after it.
    pub fn csn(&self) -> Csn {
        self.csn
    }

    /// When it was taken, in seconds since 1970.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Names of its trees, in order.
    pub fn tree_names(&self) -> Vec<String> {
        self.trees.iter().map(|t| t.name.clone()).collect()
    }

    /// A tree as it was then: read as any other, and never changed.
    ///
    /// # Errors
    /// [`Error::NoSuchTree`]. Whatever would change the tree fails with
    /// [`Error::FrozenTree`].
    pub fn tree(&self, name: &str) -> Result<Tree> {
        let entry = self.entry(name)?;
        let root = Child {
            ptr: entry.root,
            hint: 0,
        };
        let id: TreeId = NUMBER.fetch_sub(1, Ordering::Relaxed);
        let state = TreeState::new(id, name, root, entry.large)
            .begun_as(self.generation)
            .frozen(self.users.clone());
        Ok(Tree {
            inner: self.inner.clone(),
            state: Arc::new(state),
        })
    }

    fn entry(&self, name: &str) -> Result<&CatalogEntry> {
        let found = self.trees.iter().find(|t| t.name == name);
        found.ok_or_else(|| Error::NoSuchTree(name.to_owned()))
    }
}
