//! Merging and rebalancing: a node that has become nearly empty takes in a
//! neighbour, or entries of one. Best effort: siblings that are not in memory, or
//! latched, are left alone; a later delete tries again.

use super::TreeState;
use super::descend::{Found, Toward};
use super::split::divide;
use super::write::Op;
use crate::cache::State;
use crate::format::{Generation, Run};
use crate::node::{Bounds, Child, HEADER_WORDS, NodeBuf, Page, plan_split};

/// Whether a node is so empty that a merge is worth trying.
pub(crate) fn underfull(page: Page<'_>) -> bool {
    page.free_words() > (page.len_words() - HEADER_WORDS) * 3 / 4
}

impl Op<'_> {
    /// Tries to merge the node at `level` on the way to `key` with a neighbour.
    pub(crate) fn merge(&mut self, tree: &TreeState, key: &[u8], level: u8) {
        let running = self.enter();
        let Found::Node(at) = self
            .forest
            .descend(tree, Toward::Key(key), level, Some(running))
        else {
            return;
        };
        if at.level != level {
            return;
        }
        let cache = &self.forest.cache;
        let page = cache.page(at.frame);
        let Some(parent_frame) = at.parent.frame else {
            if level > 0 {
                self.collapse_root(tree, at.frame, at.version, at.parent.version);
            }
            return;
        };
        let Some(parent_guard) = cache
            .frame(parent_frame)
            .latch
            .try_upgrade(at.parent.version)
        else {
            return;
        };
        let Some(node_guard) = cache.frame(at.frame).latch.try_upgrade(at.version) else {
            return parent_guard.release_unchanged();
        };
        let parent = cache.page(parent_frame);
        let slot = at.parent.slot;
        // Whichever neighbour is there: deletes in key order come to leaves whose
        // right neighbour was not read yet, and have just been at the left one.
        let sibling = [slot + 1, slot.wrapping_sub(1)]
            .into_iter()
            .filter(|&s| underfull(page) && s < parent.slots())
            .find_map(|s| {
                let c = parent.child(s);
                let guard = cache.frame(c.hint.checked_sub(1)?).latch.try_lock()?;
                if cache.frame(c.hint - 1).holds(c.ptr) {
                    return Some((s, c, guard));
                }
                guard.release_unchanged();
                None
            });
        let Some((sibling_slot, sibling, sibling_guard)) = sibling else {
            node_guard.release_unchanged();
            parent_guard.release_unchanged();
            return;
        };
        let other = cache.page(sibling.hint - 1);
        let (left_slot, left, right) = if sibling_slot > slot {
            (slot, page, other)
        } else {
            (sibling_slot, other, page)
        };
        let both = combine(left, right, self.forest.store);
        let me = Child {
            ptr: at.ptr,
            hint: at.frame + 1,
        };
        let csn = page.csn().max(other.csn());

        let room = page.len_words() - HEADER_WORDS;
        let need = 2 * page.len_words() - HEADER_WORDS - both.page().free_words();
        if need <= room * 4 / 5 {
            let bounds = Bounds::of(both.page());
            page.init(level, tree.id, self.forest.store, csn, &bounds);
            for i in 0..both.page().slots() {
                transfer(both.page(), i, page);
            }
            page.set_identity(at.ptr.addr, at.ptr.birth);
            parent.set_child(left_slot, me);
            parent.remove(left_slot + 1);
            self.drop_node(sibling, sibling_guard);
            drop((node_guard, parent_guard));
            self.worker.counters.merges.add(1);
            if underfull(parent) || parent.slots() == 1 {
                self.merge(tree, key, level + 1);
            }
        } else if cache.frame(sibling.hint - 1).writable(running) {
            self.rebalance(
                &both,
                (left, right),
                (parent, left_slot),
                sibling,
                me,
                sibling_slot > slot,
            );
            drop((sibling_guard, node_guard, parent_guard));
        } else {
            sibling_guard.release_unchanged();
            node_guard.release_unchanged();
            parent_guard.release_unchanged();
        }
    }

    fn rebalance(
        &self,
        both: &NodeBuf,
        (left, right): (Page<'_>, Page<'_>),
        (parent, left_slot): (Page<'_>, usize),
        sibling: Child,
        me: Child,
        sibling_is_right: bool,
    ) {
        let room = left.len_words() - HEADER_WORDS;
        let Some(separator) = plan_split(both.page(), room, &[]) else {
            return;
        };
        let fits = {
            let freed = parent.entry(left_slot + 1).words();
            let need = crate::node::entry_words(separator.len(), crate::node::CHILD_WORDS * 8);
            need <= parent.free_words() + freed
        };
        if !fits {
            return;
        }
        let ids = |p: Page<'_>| (p.addr(), p.birth());
        let (left_id, right_id) = (ids(left), ids(right));
        divide(both.page(), left, right, &separator, self.forest.store);
        left.set_identity(left_id.0, left_id.1);
        right.set_identity(right_id.0, right_id.1);
        parent.remove(left_slot + 1);
        let child = if sibling_is_right { sibling } else { me };
        parent.insert_child(left_slot + 1, &separator, child);
        self.worker.counters.rebalances.add(1);
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
        self.drop_node(root, guard);
        drop(anchor_guard);
        self.worker.counters.root_collapses.add(1);
    }

    /// Takes a node out of use; its latch is held.
    fn drop_node(&self, node: Child, guard: crate::cache::Exclusive<'_>) {
        let cache = &self.forest.cache;
        let frame = node.hint - 1;
        self.worker.freed(Run::single(node.ptr.addr));
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

/// Both nodes in one page of double size.
fn combine(left: Page<'_>, right: Page<'_>, store: u64) -> NodeBuf {
    let both = NodeBuf::new(2 * left.len_words());
    let bounds = Bounds {
        lower: left.lower(),
        upper: right.upper(),
    };
    both.page().init(
        left.level(),
        left.tree(),
        store,
        left.csn().max(right.csn()),
        &bounds,
    );
    for from in [left, right] {
        for i in 0..from.slots() {
            transfer(from, i, both.page());
        }
    }
    both
}

fn transfer(from: Page<'_>, i: usize, to: Page<'_>) {
    if from.level() == 0 {
        to.append_from(from, i);
    } else {
        let key = if i == 0 { from.lower() } else { from.key(i) };
        to.insert_child(to.slots(), &key, from.child(i));
    }
}
