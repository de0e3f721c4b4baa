//! The trees of a store: opened, made, named.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::record_of;
use super::{Store, Tree};
use crate::alloc::{Request, Shape};
use crate::error::{Error, Result};
use crate::log::OpsBuilder;
use crate::shortage::Claim;
use crate::tree::{Anchor, TreeState};
use crate::writeback::catalog::MAX_NAME;

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
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::BadOption {
                name: "tree name",
                detail: format!("{} bytes; 1 to {MAX_NAME}", name.len()),
            });
        }
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let creating = core.creating.lock();
        if core.trees.lock().named(name).is_some() {
            return Err(Error::TreeExists(name.to_owned()));
        }
        // What it adds to the tree of trees is less than a block, here and in the
        // checkpointer's spare blocks.
        let mut claim = Claim::adding();
        let room = core.forest.claim(&worker, &mut claim, |urgency| {
            core.forest.pool.allocator().reserve(Request {
                blocks: 1,
                shape: Shape::Nodes,
                hint: 0,
                urgency,
            })
        });
        let room = room.map_err(|e| core.spread(e))?;
        drop(claim);
        core.for_catalog.lock().extend(room);
        let id = core.next_tree.fetch_add(1, Ordering::AcqRel);
        let mut ops = OpsBuilder::new();
        ops.create_tree(id, name.as_bytes(), &[])?;
        let record = record_of(&ops, true);
        let state = Arc::new(TreeState {
            id,
            name: name.to_owned(),
            anchor: Anchor::default(),
        });
        let csn = loop {
            let inside = core.forest.workers.enter(&worker);
            match core.log().try_append(&record) {
                Ok(csn) => {
                    core.trees.lock().insert(state.clone());
                    core.visible.applied(csn);
                    break csn;
                }
                Err(crate::log::Refused::Full) => {
                    drop(inside);
                    core.progress().ask();
                    core.log().wait_space()?;
                }
                Err(crate::log::Refused::Held) => {
                    drop(inside);
                    core.log().wait_hold();
                }
                Err(_) => return Err(core.stopped_error()),
            }
        };
        // The next tree need not wait for this one's flush.
        drop(creating);
        core.log().wait_durable(csn)?;
        Ok(Tree {
            inner: self.inner.clone(),
            state,
        })
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
            .map(|t| t.name.clone())
            .collect()
    }
}
