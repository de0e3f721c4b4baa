//! Copy-on-write in two stages.
//!
//! A node that was not born in the running generation, or was written out since,
//! gets a new block before it is changed. Stage one is the reservation, made with
//! nothing held; stage two takes the latches of parent and node, without waiting,
//! and a block that is in hand or comes without waiting.
//!
//! A node is *contended* when a writer must copy it, holds no reservation, and
//! (a) its latch or its parent's has parked waiters, or an upgrade fails; or
//! (c) stash and channel are both empty. Then everything is released, all that the
//! descent can need is reserved, and the search begins again.
//!
//! After J. Bacik et al., btrfs: "reduce lock contention by cowing in two stages"
//! (2008), with the six rules of `docs/concurrency.md`.

use gaur_iodriver::fault;

use super::TreeState;
use super::descend::At;
use super::write::{Cause, Op};
use gaur_iodriver::sync::within;

use crate::cache::State;
use crate::error::Result;
use crate::format::BlockPtr;
use crate::node::Child;
use crate::pool::Pool;
use crate::worker::Freed;

impl Op<'_> {
    /// Copies the node at `at`, whose parent is writable, or begins again. In
    /// either case the caller searches anew.
    pub(super) fn copy(&mut self, tree: &TreeState, at: At) -> Result<()> {
        let _site = within("copy-on-write");
        let running = self.enter();
        let cache = &self.forest.cache;
        let frame = cache.frame(at.frame);
        let parent_latch = self.forest.parent_latch(tree, at.parent);

        // Rule 2 and (a): with no reservation in hand, no fight for the latches.
        let inline = self.forest.pool.is_inline();
        let stashed = Pool::take_stashed(self.worker);
        if !inline && stashed.is_none() && (parent_latch.has_parked() || frame.latch.has_parked()) {
            return self.restart(Cause::Parked, self.root_level(tree), at.ptr.addr);
        }
        // A frame that the device still needs as it is must be left alone.
        // One above the cache's bound is given up instead.
        let in_place = frame.state() == State::Clean && cache.is_within(at.frame);
        let fresh = if in_place {
            None
        } else {
            match self.frames() {
                Ok(Some([f])) => Some(f),
                none => {
                    // Rule 6, whether there is none yet or never will be.
                    stashed.into_iter().for_each(|b| Pool::keep(self.worker, b));
                    return none.map(|_| ());
                }
            }
        };
        let latched = parent_latch.try_upgrade(at.parent.version).and_then(|p| {
            match frame.latch.try_upgrade(at.version) {
                Some(n) => Some((p, n)),
                None => {
                    p.release_unchanged();
                    None
                }
            }
        });
        let Some((parent_guard, node_guard)) = latched else {
            fresh.into_iter().for_each(|f| cache.put_back(f));
            return match stashed {
                // Rule 6: the race is lost, the reservation is kept for the next.
                Some(b) => {
                    if !fault!(ReservationLost) {
                        Pool::keep(self.worker, b);
                    }
                    self.worker.counters.lost_races.add(1);
                    Ok(())
                }
                None if inline => {
                    self.worker.counters.lost_races.add(1);
                    Ok(())
                }
                None => self.restart(Cause::Upgrade, self.root_level(tree), at.ptr.addr),
            };
        };
        // (b) and (c): under the latches, only without waiting.
        let Some(block) = stashed.or_else(|| self.take(tree, at.ptr.addr)) else {
            node_guard.release_unchanged();
            parent_guard.release_unchanged();
            fresh.into_iter().for_each(|f| cache.put_back(f));
            return self.restart(Cause::Empty, self.root_level(tree), at.ptr.addr);
        };
        // A node turns CLEAN when its I/O ends, which the version does not tell.
        debug_assert!(!in_place || frame.state() == State::Clean);

        let page = cache.page(at.frame);
        let child = match fresh {
            None => {
                self.worker.counters.moved_in_place.add(1);
                page.set_tree(tree.id);
                self.adopt(at.frame, block, running, 1)
            }
            Some(new) => {
                let new_guard = cache.frame(new).latch.lock();
                crate::node::copy(page, cache.page(new));
                cache.page(new).set_tree(tree.id);
                let child: Child = self.adopt(new, block, running, 1);
                drop(new_guard);
                if frame.state() == State::Clean {
                    cache.vacate(at.frame, node_guard);
                } else {
                    cache.supersede(at.frame);
                    drop(node_guard);
                }
                self.forest.set_parent_child(tree, at.parent, child);
                drop(parent_guard);
                self.copied(tree, at.ptr, at.level);
                return Ok(());
            }
        };
        self.forest.set_parent_child(tree, at.parent, child);
        drop(node_guard);
        drop(parent_guard);
        self.copied(tree, at.ptr, at.level);
        Ok(())
    }

    fn copied(&self, tree: &TreeState, old: BlockPtr, level: u8) {
        if tree.owns(old.birth) {
            self.worker.freed(Freed::node(old));
        }
        self.worker.counters.copied(level);
    }
}
