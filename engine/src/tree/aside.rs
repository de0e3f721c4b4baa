//! Reading without frames: where dirty nodes hold nearly all of the cache for good.
//!
//! After a failed write dirty nodes stay in their frames. With fewer frames left than a path has nodes, each node brought in
//! would drive out the one above it. So the rest of the way is read into private memory,
//! and nothing is put into a frame.

use super::Forest;
use super::TreeState;
use super::descend::{Found, Toward, fences_of};
use super::load::{Carry, has_fences};
use crate::error::{Error, Result};
use crate::node::NodeBuf;
use crate::worker::Worker;

/// Nodes that a search brings in before it goes on aside: about twice what a path has.
const TURNS: u32 = 8;

impl Forest {
    /// Whether a search that misses a node does better to read on aside.
    pub(crate) fn needs_aside(&self, carry: &Carry) -> bool {
        let scarce = self.cache.free_frames() == 0 || carry.turns() >= TURNS;
        if !scarce || self.progress.stopped().is_none() {
            return false;
        }
        // What is clean and cold makes room for the next search.
        self.cache.ask_for_frames();
        true
    }

    /// The leaf on the way, read from the device from the missing node down. `None`: the
    /// tree has changed meanwhile, search again. Nothing may be held.
    ///
    /// A node that is not in memory has no dirty node below it (above a writable node all
    /// is writable), and a node being written keeps those above it in memory. So all of
    /// its subtree is on the device, and stays as long as the parent names the node.
    pub(crate) fn leaf_aside(
        &self,
        worker: &Worker,
        tree: &TreeState,
        toward: Toward<'_>,
        missing: Found,
    ) -> Result<Option<NodeBuf>> {
        let Found::Missing {
            parent,
            mut ptr,
            mut level,
        } = missing
        else {
            unreachable!("only a missing node is read")
        };
        let unchanged = || self.parent_latch(tree, parent).validate(parent.version);
        if ptr.checksum == 0 {
            return Ok(None);
        }
        let mut fences = self.fences(tree, parent);
        loop {
            let node = self.read_node(worker, tree, ptr, level)?;
            let node = node.and_then(|node| {
                has_fences(node.page(), &fences.0, fences.1.as_deref(), tree)?;
                Ok(node)
            });
            let node = match node {
                Ok(node) => node,
                Err(damage) if unchanged() => return Err(Error::Damaged(damage)),
                Err(_) => return Ok(None),
            };
            let page = node.page();
            let Some(below) = page.level().checked_sub(1) else {
                return Ok(unchanged().then_some(node));
            };
            let slot = toward.slot(page);
            (ptr, fences) = (page.child(slot).ptr, fences_of(page, slot));
            level = Some(below);
        }
    }
}
