//! The moment at which a loaded tree appears.

use std::sync::Arc;

use super::BulkLoader;
use crate::alloc::{Request, Shape};
use crate::error::{Error, Result};
use crate::format::BlockPtr;
use crate::log::{OpsBuilder, Refused};
use crate::node::Child;
use crate::shortage::Claim;
use crate::store::Tree;
use crate::store::commit::record_of;
use crate::tree::TreeState;

impl BulkLoader {
    /// Makes the tree, whose nodes are written, by one record of the log.
    pub(super) fn attach(mut self, root: BlockPtr) -> Result<Tree> {
        let core = self.core().clone();
        core.check_writable()?;
        let runs = self.blocks.runs();
        let mut ops = OpsBuilder::new();
        ops.load_tree(self.id, self.name.as_bytes(), root, &runs)?;
        let (len, max) = (ops.as_bytes().len(), core.log().max_record());
        if len > max {
            return Err(Error::BatchTooLarge { len, max });
        }
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(&core.forest.workers)?;
        let creating = core.creating.lock();
        if core.trees.lock().named(&self.name).is_some() {
            return Err(Error::TreeExists(self.name.clone()));
        }
        // As for any tree that is made: its entry in the tree of trees.
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
        let record = record_of(&ops, true);
        let (csn, state) = loop {
            let inside = core.forest.workers.enter(&worker);
            match core.log().try_append(&record) {
                Ok(csn) => {
                    let root = Child { ptr: root, hint: 0 };
                    let state = Arc::new(TreeState::loaded(self.id, &self.name, root, csn));
                    // In the generation of the commit, like its entry in the trees.
                    worker.journal.lock().loaded.extend(runs);
                    core.trees.lock().insert(state.clone());
                    self.blocks.keep();
                    core.visible.applied(csn);
                    break (csn, state);
                }
                Err(Refused::Full) => {
                    drop(inside);
                    core.progress().ask();
                    core.log().wait_space()?;
                }
                Err(Refused::Held) => {
                    drop(inside);
                    core.log().wait_hold();
                }
                Err(_) => return Err(core.stopped_error()),
            }
        };
        drop(creating);
        core.log().wait_durable(csn)?;
        Ok(self.store.tree_of(state))
    }
}
