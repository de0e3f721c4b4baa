//! Cache misses: read with nothing held, search again, put the node in its place.

use std::cell::RefCell;

use gaur_iodriver::IoBuf;

use super::descend::Found;
use super::{Forest, Parent, TreeState};
use crate::cache::State;
use crate::error::{Damage, Error, Result};
use crate::format::BlockPtr;
use crate::node::{NodeBuf, Page, load_image};
use crate::stats::Wait;
use crate::worker::Worker;

/// A node that was read and not yet put in its place: it is carried through the
/// search that follows, so that a busy parent cannot make the read void.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    node: Option<(BlockPtr, NodeBuf)>,
    /// How often there was no frame for it.
    waits: u32,
    /// Times a node was brought in.
    turns: u32,
}

impl Carry {
    /// How many nodes were brought in for this search.
    pub(super) fn turns(&self) -> u32 {
        self.turns
    }
}

/// Waits for a frame, of about 2 ms each, after which it is in vain if the store
/// has stopped: then dirty nodes stay where they are.
pub(super) const PATIENCE: u32 = 500;
/// Nodes one search may bring in while the store has stopped.
const TURNS: u32 = 1000;

thread_local! {
    static BUFFER: RefCell<Option<IoBuf>> = const { RefCell::new(None) };
}

impl Forest {
    /// Reads a block into this thread's buffer and hands it to `f`.
    pub(crate) fn with_block<T>(&self, addr: u64, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
        BUFFER.with_borrow_mut(|slot| {
            let size = self.geometry.block_size as usize;
            if slot.as_ref().is_none_or(|b| b.len() != size) {
                *slot = Some(IoBuf::zeroed(size));
            }
            let buf = slot.as_mut().expect("just made");
            self.device.read_at(self.geometry.byte(addr), buf)?;
            Ok(f(buf))
        })
    }

    /// Brings the missing node in. Nothing may be held. Afterwards the caller
    /// searches again, and calls this again with the same `carry` if the node is
    /// still missing.
    pub(crate) fn bring_in(
        &self,
        worker: &Worker,
        tree: &TreeState,
        found: Found,
        carry: &mut Carry,
    ) -> Result<()> {
        let Found::Missing { parent, ptr, level } = found else {
            unreachable!("only a missing node is brought in")
        };
        carry.turns += 1;
        if carry.turns > TURNS
            && let Some(why) = self.progress.stopped()
        {
            // After a failed write dirty frames stay. With fewer left than a path has
            // nodes, each node brought in drives out the one above it, for ever.
            return Err(Error::Stopped(why));
        }
        if ptr.checksum == 0 {
            // The pointer changed between two reads of it, or a dirty child moved:
            // the search is to be made again.
            return Ok(());
        }
        let node = match carry.node.take() {
            Some((carried, node)) if carried == ptr => node,
            _ => match self.read_child(worker, tree, parent, ptr, level)? {
                Ok(node) => node,
                // The block may have been freed and used again while we read. It is
                // damage only if the parent still names it.
                Err(damage) if self.parent_latch(tree, parent).validate(parent.version) => {
                    return Err(Error::Damaged(damage));
                }
                Err(_) => return Ok(()),
            },
        };
        if !self.install(worker, tree, parent, ptr, &node) {
            carry.node = Some((ptr, node));
            self.check_frames(&mut carry.waits)?;
        }
        Ok(())
    }

    /// An error if it is in vain to wait for a frame any longer. Counts in `waits`.
    pub(super) fn check_frames(&self, waits: &mut u32) -> Result<()> {
        if self.cache.free_frames() > 0 {
            return Ok(());
        }
        if self.cache.has_ended() {
            return Err(Error::Closed);
        }
        *waits += 1;
        if *waits < PATIENCE {
            return Ok(());
        }
        if let Some(why) = self.progress.stopped() {
            return Err(Error::Stopped(why));
        }
        Ok(())
    }

    /// Reads the node that `parent` names. That it has the fences its parent says is
    /// part of its being sound: a search or a scan that relied on others would not end.
    fn read_child(
        &self,
        worker: &Worker,
        tree: &TreeState,
        parent: Parent,
        ptr: BlockPtr,
        level: Option<u8>,
    ) -> Result<Result<NodeBuf, Damage>> {
        let node = self.read_node(worker, tree, ptr, level)?;
        Ok(node.and_then(|node| {
            let (lower, upper) = self.fences(tree, parent);
            has_fences(node.page(), &lower, upper.as_deref(), tree)?;
            Ok(node)
        }))
    }

    pub(super) fn read_node(
        &self,
        worker: &Worker,
        tree: &TreeState,
        ptr: BlockPtr,
        level: Option<u8>,
    ) -> Result<Result<NodeBuf, Damage>> {
        worker.counters.misses.add(1);
        let node = NodeBuf::new(self.geometry.block_size as usize / 8);
        if ptr.addr >= self.geometry.capacity() || ptr.len != 1 || ptr.flags != 0 {
            let damage = Damage::new("node pointer", ptr.addr, "points outside the store");
            return Ok(Err(damage.in_tree(tree.id)));
        }
        let checked = worker.counters.waiting(Wait::Read, || {
            self.with_block(ptr.addr, |bytes| {
                let expected = tree.expects(ptr.birth);
                load_image(bytes, ptr, self.store, expected, level, node.page())
            })
        })?;
        Ok(checked.map(|()| node))
    }

    /// Puts a clean node into a frame and its hint into the parent. False if the
    /// parent changed meanwhile. Its fences are those that the parent says.
    pub(super) fn install(
        &self,
        worker: &Worker,
        tree: &TreeState,
        parent: Parent,
        ptr: BlockPtr,
        node: &NodeBuf,
    ) -> bool {
        let Some(id) = self.cache.try_take() else {
            if !self.cache.has_ended() {
                worker
                    .counters
                    .waiting(Wait::Frame, || self.cache.wait_for_frame());
            }
            return false;
        };
        // Nobody but a reader with a stale hint looks at a free frame.
        let frame_guard = self.cache.frame(id).latch.lock();
        node.copy_to(self.cache.page(id));
        self.cache.occupy(id, ptr.addr, ptr.birth, State::Clean, 0);
        let latch = self.parent_latch(tree, parent);
        let Some(guard) = latch.try_upgrade(parent.version) else {
            self.cache.vacate(id, frame_guard);
            return false;
        };
        let child = self.parent_child(tree, parent);
        let there = child.hint != 0 && self.cache.frame(child.hint - 1).holds(ptr);
        if there {
            worker.counters.duplicate_reads.add(1);
            guard.release_unchanged();
            self.cache.vacate(id, frame_guard);
            return true;
        }
        match parent.frame {
            None => tree.anchor.set(crate::node::Child {
                hint: id + 1,
                ..child
            }),
            Some(f) => self.cache.page(f).set_hint(parent.slot, id + 1),
        }
        guard.release_unchanged();
        drop(frame_guard);
        true
    }
}

/// Checks a node's fences against what its parent says of it.
pub(super) fn has_fences(
    page: Page<'_>,
    lower: &[u8],
    upper: Option<&[u8]>,
    tree: &TreeState,
) -> Result<(), Damage> {
    if page.lower() == lower && page.upper().as_deref() == upper {
        return Ok(());
    }
    let what = "its fences are not what its parent says";
    Err(Damage::new("node", page.addr(), what).in_tree(tree.id))
}
