//! Merging and rebalancing: a node that has become nearly empty takes in a
//! neighbour, or entries of one. Best effort: siblings that are not in memory, or
//! latched, are left alone; a later delete tries again.

use gaur_iodriver::fault;

use super::descend::{Found, Toward};
use super::split::divide;
use super::write::Op;
use super::{Carry, Forest, Parent, TreeState};
use gaur_iodriver::sync::within;

use crate::cache::{Exclusive, State};
use crate::format::Generation;
use crate::node::{Bounds, Child, HEADER_WORDS, NodeBuf, Page, plan_split};
use crate::worker::Freed;

/// Times to try that an emptied leaf goes.
const TRIES: usize = 8;

/// How a merge ended.
#[derive(Debug)]
enum Outcome {
    /// Merged, or not worth more.
    Done,
    /// The node is empty, and this neighbour would have to be read first.
    Read(Found),
    /// Somebody else was at work there.
    Busy,
}

/// Whether a node is so empty that a merge is worth trying.
pub(crate) fn underfull(page: Page<'_>) -> bool {
    page.free_words() > (page.len_words() - HEADER_WORDS) * 3 / 4
}

impl<'a> Op<'a> {
    /// Tries to merge the leaf that covers `key` with a neighbour. For an empty leaf
    /// it is worth a read and some tries: no later delete comes to it, so it would
    /// stay.
    pub(crate) fn merge_leaf(&mut self, tree: &TreeState, key: &[u8]) {
        let mut carry = Carry::default();
        for _ in 0..TRIES {
            match self.merge(tree, key, 0) {
                Outcome::Done => return,
                Outcome::Busy => self.leave(),
                Outcome::Read(missing) => {
                    self.leave();
                    // What cannot be read is damage for those who need it, not here.
                    if self
                        .forest
                        .bring_in(self.worker, tree, missing, &mut carry)
                        .is_err()
                    {
                        return;
                    }
                }
            }
            // A checkpoint may have begun meanwhile: then the path is copied first.
            match self.leaf(tree, key) {
                Ok(leaf) => {
                    let empty = leaf.page.slots() == 0;
                    leaf.guard.release_unchanged();
                    if !empty {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Tries to merge the nodes on the way to `key` from level `top` down, each of which
    /// may be nearly empty.
    pub(crate) fn merge_down(&mut self, tree: &TreeState, key: &[u8], top: u8) {
        // A checkpoint may have begun: then the path is copied first.
        match self.leaf(tree, key) {
            Ok(leaf) => leaf.guard.release_unchanged(),
            Err(_) => return,
        }
        for level in (1..=top).rev() {
            self.merge(tree, key, level);
        }
        self.merge_leaf(tree, key);
    }

    /// Tries to merge the node at `level` on the way to `key` with a neighbour. For an
    /// empty node says what stood in the way.
    fn merge(&mut self, tree: &TreeState, key: &[u8], level: u8) -> Outcome {
        let _site = within("merge");
        let running = self.enter();
        let Found::Node(at) = self
            .forest
            .descend(tree, Toward::Key(key), level, Some(running))
        else {
            return Outcome::Busy;
        };
        if at.level != level {
            return Outcome::Done;
        }
        let cache = &self.forest.cache;
        let page = cache.page(at.frame);
        let Some(parent_frame) = at.parent.frame else {
            if level > 0 {
                self.collapse_root(tree, at.frame, at.version, at.parent.version);
            }
            return Outcome::Done;
        };
        let parent_latch = &cache.frame(parent_frame).latch;
        let Some(parent_guard) = parent_latch.try_upgrade(at.parent.version) else {
            return Outcome::Busy;
        };
        let Some(node_guard) = cache.frame(at.frame).latch.try_upgrade(at.version) else {
            parent_guard.release_unchanged();
            return Outcome::Busy;
        };
        let parent = cache.page(parent_frame);
        let slot = at.parent.slot;
        if !underfull(page) {
            node_guard.release_unchanged();
            parent_guard.release_unchanged();
            return Outcome::Done;
        }
        // Whichever neighbour serves: deletes in key order come to leaves whose right
        // neighbour was not read yet, or is full and may not be changed, and have
        // just been at the left one.
        let mut shared = None;
        let mut missing = None;
        for sibling_slot in [slot + 1, slot.wrapping_sub(1)] {
            let Some((sibling, sibling_guard)) = self.latch_sibling(parent, sibling_slot) else {
                missing = missing.or_else(|| self.unread(parent, at.parent, sibling_slot));
                continue;
            };
            let other = cache.page(sibling.hint - 1);
            let is_right = sibling_slot > slot;
            let (left_slot, left, right) = if is_right {
                (slot, page, other)
            } else {
                (sibling_slot, other, page)
            };
            let Some(both) = combine(left, right, self.forest.store) else {
                sibling_guard.release_unchanged();
                continue;
            };
            let room = page.len_words() - HEADER_WORDS;
            let need = 2 * page.len_words() - HEADER_WORDS - both.page().free_words();
            // Some room is left for inserts, unless an empty node can go.
            let most = if page.slots() == 0 {
                room
            } else {
                room * 4 / 5
            };
            if need <= most {
                let me = Child {
                    ptr: at.ptr,
                    hint: at.frame + 1,
                };
                let (csn, bounds) = (both.page().csn(), Bounds::of(both.page()));
                page.init(level, tree.id, self.forest.store, csn, &bounds);
                for i in 0..both.page().slots() {
                    transfer(both.page(), i, page);
                }
                page.set_identity(at.ptr.addr, at.ptr.birth);
                parent.set_child(left_slot, me);
                parent.remove(left_slot + 1);
                self.drop_node(tree, sibling, sibling_guard);
                drop((node_guard, parent_guard));
                self.worker.counters.merges.add(1);
                if underfull(parent) || parent.slots() == 1 {
                    self.merge(tree, key, level + 1);
                }
                return Outcome::Done;
            }
            if cache.frame(sibling.hint - 1).writable(running) {
                let me = Child {
                    ptr: at.ptr,
                    hint: at.frame + 1,
                };
                let right_child = if is_right { sibling } else { me };
                if self.rebalance(&both, (left, right), (parent, left_slot), right_child) {
                    shared = Some(sibling_guard);
                    break;
                }
            }
            sibling_guard.release_unchanged();
        }
        if shared.is_some() {
            return Outcome::Done;
        }
        let outcome = match missing {
            _ if page.slots() > 0 || parent.slots() < 2 => Outcome::Done,
            Some(missing) => Outcome::Read(missing),
            None => Outcome::Busy,
        };
        node_guard.release_unchanged();
        parent_guard.release_unchanged();
        outcome
    }

    /// The child in a slot of the parent, if it is not in memory.
    fn unread(&self, page: Page<'_>, parent: Parent, slot: usize) -> Option<Found> {
        if slot >= page.slots() {
            return None;
        }
        let child = page.child(slot);
        let there = child.hint != 0 && self.forest.cache.frame(child.hint - 1).holds(child.ptr);
        let level = page.level().checked_sub(1);
        (!there && child.ptr.checksum != 0).then_some(Found::Missing {
            parent: Parent { slot, ..parent },
            ptr: child.ptr,
            level,
        })
    }

    /// The child in a slot of the parent, latched, if it is in memory and free.
    fn latch_sibling(&self, parent: Page<'_>, slot: usize) -> Option<(Child, Exclusive<'a>)> {
        let forest: &'a Forest = self.forest;
        if slot >= parent.slots() {
            return None;
        }
        let child = parent.child(slot);
        let frame = forest.cache.frame(child.hint.checked_sub(1)?);
        let guard = frame.latch.try_lock()?;
        if frame.holds(child.ptr) {
            return Some((child, guard));
        }
        guard.release_unchanged();
        None
    }

    /// Shares the entries out again; false, and nothing changed, if the new
    /// separator has no room in the parent.
    fn rebalance(
        &self,
        both: &NodeBuf,
        (left, right): (Page<'_>, Page<'_>),
        (parent, left_slot): (Page<'_>, usize),
        right_child: Child,
    ) -> bool {
        let room = left.len_words() - HEADER_WORDS;
        let Some(separator) = plan_split(both.page(), room, &[]) else {
            return false;
        };
        let fits = {
            let freed = parent.entry(left_slot + 1).words();
            let need = crate::node::entry_words(separator.len(), crate::node::CHILD_WORDS * 8);
            need <= parent.free_words() + freed
        };
        if !fits {
            return false;
        }
        let ids = |p: Page<'_>| (p.addr(), p.birth());
        let (left_id, right_id) = (ids(left), ids(right));
        divide(both.page(), left, right, &separator, self.forest.store);
        left.set_identity(left_id.0, left_id.1);
        if fault!(RebalanceLosesRecord) && right.level() == 0 && right.slots() > 1 {
            right.remove(0);
        }
        right.set_identity(right_id.0, right_id.1);
        parent.remove(left_slot + 1);
        parent.insert_child(left_slot + 1, &separator, right_child);
        self.worker.counters.rebalances.add(1);
        true
    }

    /// An inner root with one child gives way to it.
    fn collapse_root(
        &mut self,
        tree: &TreeState,
        frame: u32,
        version: crate::cache::Version,
        anchor_version: crate::cache::Version,
    ) {
        let cache = &self.forest.cache;
        let Some(anchor_guard) = tree.anchor.latch.try_upgrade(anchor_version) else {
            return;
        };
        let Some(guard) = cache.frame(frame).latch.try_upgrade(version) else {
            return anchor_guard.release_unchanged();
        };
        let page = cache.page(frame);
        if page.slots() != 1 {
            guard.release_unchanged();
            return anchor_guard.release_unchanged();
        }
        let root = tree.anchor.child();
        tree.anchor.set(page.child(0));
        self.drop_node(tree, root, guard);
        drop(anchor_guard);
        self.worker.counters.root_collapses.add(1);
    }

    /// Takes a node out of use; its latch is held.
    fn drop_node(&self, tree: &TreeState, node: Child, guard: Exclusive<'_>) {
        let cache = &self.forest.cache;
        let frame = node.hint - 1;
        if tree.owns(node.ptr.birth) && !fault!(MergedNodeNotFreed) {
            self.worker.freed(Freed::node(node.ptr));
        }
        let running: Generation = self.forest.running();
        match cache.frame(frame).state() {
            State::Dirty if cache.frame(frame).birth() == running => cache.vacate(frame, guard),
            State::Clean => cache.vacate(frame, guard),
            _ => {
                cache.supersede(frame);
                drop(guard);
            }
        }
    }
}

/// Both nodes in one page of double size; `None`: they do not fit there, since what their
/// keys have in common is less than what those of each have.
fn combine(left: Page<'_>, right: Page<'_>, store: u64) -> Option<NodeBuf> {
    let both = NodeBuf::new(2 * left.len_words());
    let bounds = Bounds {
        lower: left.lower(),
        upper: right.upper(),
    };
    both.page().init(
        left.level(),
        left.tree(),
        store,
        match fault!(MergeKeepsLesserCsn) {
            true => left.csn().min(right.csn()),
            false => left.csn().max(right.csn()),
        },
        &bounds,
    );
    for from in [left, right] {
        for i in 0..from.slots() {
            let e = from.entry(i);
            let key_len = match (from.level(), i) {
                (1.., 0) => from.lower_len(),
                _ => from.prefix_len() + e.key_len,
            };
            if !both.page().fits(key_len, e.value_len) {
                return None;
            }
            transfer(from, i, both.page());
        }
    }
    Some(both)
}

fn transfer(from: Page<'_>, i: usize, to: Page<'_>) {
    if from.level() == 0 {
        to.append_from(from, i);
    } else {
        let key = if i == 0 { from.lower() } else { from.key(i) };
        to.insert_child(to.slots(), &key, from.child(i));
    }
}
