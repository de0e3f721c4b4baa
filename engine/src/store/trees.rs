//! The trees of a store: opened, made, named.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::record_of;
use super::{Store, Tree};
use crate::alloc::{Request, Shape};
use crate::error::{Error, Result};
use crate::format::Csn;
use crate::log::{OpsBuilder, Refused};
use crate::shortage::Claim;
use crate::tree::TreeState;
use crate::worker::Worker;
use crate::writeback::catalog::MAX_NAME;

/// How the gate is while a record about trees is appended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gate {
    /// Commits go on beside it.
    Inside,
    /// No commit is under way.
    Closed,
}

pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::BadOption {
            name: "tree name",
            detail: format!("{} bytes; 1 to {MAX_NAME}", name.len()),
        });
    }
    Ok(())
}

impl Store {
    /// The tree of that name; made if there is none.
    ///
    /// # Errors
    /// As [`Store::create_tree`].
    pub fn tree(&self, name: &str) -> Result<Tree> {
        match self.open_tree(name) {
            Err(Error::NoSuchTree(_)) => match self.create_tree(name) {
                Err(Error::TreeExists(_)) => self.open_tree(name),
                other => other,
            },
            other => other,
        }
    }

    /// The tree of that name.
    ///
    /// # Errors
    /// [`Error::NoSuchTree`], [`Error::Forked`].
    pub fn open_tree(&self, name: &str) -> Result<Tree> {
        self.core().check_home()?;
        let found = self.core().trees.lock().named(name);
        match found {
            Some(state) => Ok(Tree {
                inner: self.inner.clone(),
                state,
            }),
            None => Err(Error::NoSuchTree(name.to_owned())),
        }
    }

    /// Makes a tree, durably. A name has 1 to 255 bytes.
    ///
    /// # Errors
    /// [`Error::TreeExists`], [`Error::BadOption`] for a name that cannot be, and
    /// what a commit can fail with.
    pub fn create_tree(&self, name: &str) -> Result<Tree> {
        let core = self.core();
        core.check_writable()?;
        check_name(name)?;
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let creating = core.creating.lock();
        if core.trees.lock().named(name).is_some() {
            return Err(Error::TreeExists(name.to_owned()));
        }
        self.room_for_name(&worker)?;
        let id = core.next_tree.fetch_add(1, Ordering::AcqRel);
        let mut ops = OpsBuilder::new();
        ops.create_tree(id, name.as_bytes(), &[])?;
        let state = Arc::new(TreeState::empty(id, name));
        let csn = self.append(&worker, Gate::Inside, &ops, |_| {
            core.trees.lock().insert(state.clone());
        })?;
        // The next tree need not wait for this one's flush.
        drop(creating);
        core.log().wait_durable(csn)?;
        Ok(Tree {
            inner: self.inner.clone(),
            state,
        })
    }

    /// Gives a tree another name, durably. Handles to it stay good.
    ///
    /// # Errors
    /// [`Error::NoSuchTree`], [`Error::TreeExists`] if there is one of the new name
    /// already, [`Error::BadOption`] for a name that cannot be, and what a commit can
    /// fail with.
    pub fn rename_tree(&self, name: &str, new_name: &str) -> Result<()> {
        let core = self.core();
        core.check_writable()?;
        check_name(new_name)?;
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let creating = core.creating.lock();
        let state = self.open_tree(name)?.state;
        if core.trees.lock().named(new_name).is_some() {
            return Err(Error::TreeExists(new_name.to_owned()));
        }
        self.room_for_name(&worker)?;
        let mut ops = OpsBuilder::new();
        ops.rename_tree(state.id, new_name.as_bytes())?;
        let csn = self.append(&worker, Gate::Inside, &ops, |_| {
            core.trees.lock().rename(&state, new_name);
        })?;
        drop(creating);
        core.log().wait_durable(csn)
    }

    /// Drops a tree with all its records, durably, at once however large it is. Its
    /// space comes back bit by bit, in the background, also after the store was closed
    /// and opened again or has crashed; [`Stats`](crate::Stats), group `reclaim`, tells how far that is.
    /// Needs no space, so a full store has it too.
    ///
    /// Handles to the tree get [`Error::TreeDropped`] from now on. Snapshots and scans
    /// that were there before still see it; its space comes back when they have ended.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("drop.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// let old = store.tree("scratch")?;
    /// old.put(b"a", b"1")?;
    /// store.drop_tree("scratch")?;
    /// assert!(matches!(old.get(b"a"), Err(gaur::Error::TreeDropped(_))));
    /// assert_eq!(store.tree("scratch")?.get(b"a")?, None);
    /// # Ok::<(), gaur::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchTree`], and what a commit can fail with but for [`Error::Full`].
    pub fn drop_tree(&self, name: &str) -> Result<()> {
        let core = self.core();
        core.check_writable()?;
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let creating = core.creating.lock();
        let state = self.open_tree(name)?.state;
        let mut ops = OpsBuilder::new();
        ops.drop_tree(state.id, name.as_bytes())?;
        // No commit to the tree may be under way: its record would follow the drop's.
        let csn = self.append(&worker, Gate::Closed, &ops, |csn| {
            core.trees.lock().drop_tree(&state, csn);
            core.reclaiming.begin(1);
        })?;
        drop(creating);
        core.log().wait_durable(csn)?;
        // Then what is to be freed is known.
        core.progress().ask();
        Ok(())
    }

    /// Has room for what one name more, or a longer one, adds to the tree of trees:
    /// less than a block, here and in the checkpointer's spare blocks.
    pub(super) fn room_for_name(&self, worker: &Worker) -> Result<()> {
        let core = self.core();
        let mut claim = Claim::adding();
        let room = core.forest.claim(worker, &mut claim, |urgency| {
            core.forest.pool.allocator().reserve(Request {
                blocks: 1,
                shape: Shape::Nodes,
                hint: 0,
                urgency,
            })
        });
        let room = room.map_err(|e| core.spread(e))?;
        core.for_catalog.lock().extend(room);
        Ok(())
    }

    /// Appends a record about trees and applies it, which changes no node. Nothing may
    /// be held but the lock of names.
    pub(super) fn append(
        &self,
        worker: &Worker,
        gate: Gate,
        ops: &OpsBuilder,
        mut apply: impl FnMut(Csn),
    ) -> Result<Csn> {
        let core = self.core();
        let workers = &core.forest.workers;
        let record = record_of(ops, true);
        loop {
            let turn = matches!(gate, Gate::Closed).then(|| workers.turn());
            let inside = match &turn {
                Some(_) => {
                    workers.close();
                    None
                }
                None => Some(workers.enter(worker)),
            };
            let appended = core.log().try_append(&record);
            if let Ok(csn) = appended {
                apply(csn);
                core.visible.applied(csn);
            }
            if turn.is_some() {
                workers.open();
            }
            drop((turn, inside));
            match appended {
                Ok(csn) => return Ok(csn),
                Err(Refused::Full) => {
                    core.progress().ask();
                    core.log().wait_space()?;
                }
                Err(Refused::Held) => core.log().wait_hold(),
                Err(_) => return Err(core.stopped_error()),
            }
        }
    }

    /// Names of all trees, in order; none in a forked child.
    pub fn tree_names(&self) -> Vec<String> {
        if !self.core().is_home() {
            return Vec::new();
        }
        self.core()
            .trees
            .lock()
            .all()
            .iter()
            .map(|t| t.name().to_string())
            .collect()
    }
}
