//! Splits: a node without room becomes two, under latches of parent and node.

use gaur_iodriver::fault;

use super::TreeState;
use super::descend::{At, Found, Toward};
use super::write::{Cause, Op};
use gaur_iodriver::sync::within;

use crate::error::Result;
use crate::format::BlockPtr;
use crate::node::{Bounds, Child, HEADER_WORDS, Incoming, NodeBuf, Page, plan_split};

impl Op<'_> {
    /// Makes room at `level` on the way to `key`: splits the node there, or first
    /// its parent if that has no room for a separator, or prepares what either
    /// needs. The caller searches again. `incoming` are the keys about to come.
    pub(crate) fn split(
        &mut self,
        tree: &TreeState,
        key: &[u8],
        level: u8,
        incoming: &[Incoming<'_>],
    ) -> Result<()> {
        let _site = within("split");
        let running = self.enter();
        match self
            .forest
            .descend(tree, Toward::Key(key), level, Some(running))
        {
            Found::Node(at) if at.level == level => match at.parent.frame {
                None => self.split_root(tree, at, incoming),
                Some(_) => self.split_child(tree, key, at, incoming),
            },
            // The path changed; the caller's search sorts it out.
            _ => Ok(()),
        }
    }

    fn split_child(
        &mut self,
        tree: &TreeState,
        key: &[u8],
        at: At,
        incoming: &[Incoming<'_>],
    ) -> Result<()> {
        let running = self.enter();
        let Some([right]) = self.frames()? else {
            return Ok(());
        };
        let cache = &self.forest.cache;
        let parent_frame = at.parent.frame.expect("a child has a parent node");
        let parent_page = cache.page(parent_frame);
        let give_up = |op: &mut Self| {
            op.forest.cache.put_back(right);
        };
        let Some(parent_guard) = cache
            .frame(parent_frame)
            .latch
            .try_upgrade(at.parent.version)
        else {
            give_up(self);
            return Ok(());
        };
        let Some(node_guard) = cache.frame(at.frame).latch.try_upgrade(at.version) else {
            parent_guard.release_unchanged();
            give_up(self);
            return Ok(());
        };
        let page = cache.page(at.frame);
        let separator = split_point(page, incoming);
        let room = separator
            .as_ref()
            .is_some_and(|s| parent_page.fits_child(s));
        let block = if room {
            self.blocks(tree, at.ptr.addr)
        } else {
            None
        };
        let (Some(separator), Some([block])) = (&separator, block) else {
            node_guard.release_unchanged();
            parent_guard.release_unchanged();
            give_up(self);
            return match separator {
                None => Ok(()),
                Some(_) if room => self.restart(Cause::Empty, self.root_level(tree), at.ptr.addr),
                Some(_) => self.split(tree, key, at.level + 1, &[]),
            };
        };
        let old = NodeBuf::copy_of(page);
        let right_guard = cache.frame(right).latch.lock();
        divide(
            old.page(),
            page,
            cache.page(right),
            separator,
            self.forest.store,
        );
        page.set_identity(at.ptr.addr, at.ptr.birth);
        let child = self.adopt(right, block, running, 1);
        drop(right_guard);
        #[cfg(faults)]
        if fault!(SplitReleasesParentEarly) {
            parent_guard.release_early();
        }
        parent_page.insert_child(at.parent.slot + 1, separator, child);
        drop(node_guard);
        drop(parent_guard);
        self.worker.counters.splits.add(1);
        Ok(())
    }

    fn split_root(&mut self, tree: &TreeState, at: At, incoming: &[Incoming<'_>]) -> Result<()> {
        let running = self.enter();
        let Some([right, root]) = self.frames()? else {
            return Ok(());
        };
        let cache = &self.forest.cache;
        let Some(anchor_guard) = tree.anchor.latch.try_upgrade(at.parent.version) else {
            cache.put_back(right);
            cache.put_back(root);
            return Ok(());
        };
        let give_up = || {
            cache.put_back(right);
            cache.put_back(root);
        };
        // Each guard is given up by name: one that is merely dropped moves the
        // version on, as if the node had changed.
        let Some(node_guard) = cache.frame(at.frame).latch.try_upgrade(at.version) else {
            anchor_guard.release_unchanged();
            give_up();
            return Ok(());
        };
        let page = cache.page(at.frame);
        let separator = split_point(page, incoming);
        let blocks = if separator.is_some() {
            self.blocks(tree, at.ptr.addr)
        } else {
            None
        };
        let (Some(separator), Some([right_block, root_block])) = (&separator, blocks) else {
            node_guard.release_unchanged();
            anchor_guard.release_unchanged();
            give_up();
            return match separator {
                None => Ok(()),
                Some(_) => self.restart(Cause::Empty, at.level, at.ptr.addr),
            };
        };
        let old = NodeBuf::copy_of(page);
        let left = Child {
            ptr: BlockPtr::unwritten(at.ptr.addr, at.ptr.birth),
            hint: at.frame + 1,
        };
        let right_guard = cache.frame(right).latch.lock();
        let root_guard = cache.frame(root).latch.lock();
        divide(
            old.page(),
            page,
            cache.page(right),
            separator,
            self.forest.store,
        );
        page.set_identity(at.ptr.addr, at.ptr.birth);
        let right_child = self.adopt(right, right_block, running, 1);
        let root_page = cache.page(root);
        root_page.init(
            at.level + 1,
            tree.id,
            self.forest.store,
            0,
            &Bounds::whole(),
        );
        root_page.insert_child(0, &[], left);
        root_page.insert_child(1, separator, right_child);
        let root_child = self.adopt(root, root_block, running, 1);
        if fault!(NewRootNotNoted) {
            self.worker.journal.lock().used.pop();
        }
        tree.anchor.set(root_child);
        drop((root_guard, right_guard, node_guard, anchor_guard));
        self.worker.counters.splits.add(1);
        Ok(())
    }
}

/// Where to split. A full node always has a place where both halves fit; but since
/// the caller found it full, others may have emptied it: then there is none, and
/// nothing to do.
fn split_point(page: Page<'_>, incoming: &[Incoming<'_>]) -> Option<Vec<u8>> {
    plan_split(page, page.len_words() - HEADER_WORDS, incoming)
}

/// Shares the entries of `old` out to `left` and `right` at `separator`. The
/// identities are the caller's to set.
pub(crate) fn divide(old: Page<'_>, left: Page<'_>, right: Page<'_>, separator: &[u8], store: u64) {
    let level = old.level();
    let left_bounds = Bounds {
        lower: old.lower(),
        upper: Some(separator.to_vec()),
    };
    let right_bounds = Bounds {
        lower: separator.to_vec(),
        upper: old.upper(),
    };
    left.init(level, old.tree(), store, old.csn(), &left_bounds);
    let right_csn = if fault!(SplitForgetsCsn) {
        0
    } else {
        old.csn()
    };
    right.init(level, old.tree(), store, right_csn, &right_bounds);
    for i in 0..old.slots() {
        append(
            old,
            i,
            if i > 0 || level == 0 {
                old.key(i)
            } else {
                old.lower()
            },
            separator,
            left,
            right,
        );
    }
}

fn append(
    from: Page<'_>,
    i: usize,
    key: Vec<u8>,
    separator: &[u8],
    left: Page<'_>,
    right: Page<'_>,
) {
    let is_left = key.as_slice() < separator
        || fault!(SplitAtTheWrongSide) && from.level() == 0 && key == separator;
    let to = if is_left { left } else { right };
    if from.level() > 0 {
        to.insert_child(to.slots(), &key, from.child(i));
    } else {
        to.append_from(from, i);
    }
}
