//! One writer's way through the tree.
//!
//! An [`Op`] is inside the gate while it looks and changes, and leaves it before
//! it waits. [`Op::leaf`] returns a leaf that is latched, writable and covers the
//! key; what it had to copy on the way is copied.

use super::descend::{At, Found, Toward};
use super::load::Carry;
use super::{Forest, TreeState};
use crate::alloc::{SpaceError, Urgency};
use crate::cache::{Exclusive, FrameId, State, Version};
use crate::error::{Error, Result};
use crate::format::{BlockNo, BlockPtr, Csn, Generation, Run};
use crate::node::{Bounds, Child, Page};
use crate::pool::Pool;
use crate::shortage::Claim;
use crate::stats::Wait;
use crate::worker::{Inside, Worker};

/// Why an operation begins again for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Threads are parked on the node or its parent.
    Parked,
    /// Another thread was first at the node or its parent.
    Upgrade,
    /// Stash and channel are empty.
    Empty,
}

/// A latched leaf that may be changed.
#[derive(Debug)]
pub(crate) struct Leaf<'a> {
    pub(crate) frame: FrameId,
    pub(crate) page: Page<'a>,
    pub(crate) guard: Exclusive<'a>,
}

/// A write operation under way.
#[derive(Debug)]
pub(crate) struct Op<'a> {
    pub(crate) forest: &'a Forest,
    pub(crate) worker: &'a Worker,
    inside: Option<Inside<'a>>,
    carry: Carry,
    pub(crate) claim: Claim<'a>,
    /// Restarts for space in this generation.
    restarts: (Generation, u64),
    /// How often in a row there was no frame.
    frame_waits: u32,
    /// How many more blocks a restart reserves, for the rest of a batch.
    pub(crate) ahead: u64,
}

impl<'a> Op<'a> {
    pub(crate) fn new(forest: &'a Forest, worker: &'a Worker, claim: Claim<'a>) -> Self {
        Self {
            forest,
            worker,
            inside: None,
            carry: Carry::default(),
            claim,
            restarts: (Generation(0), 0),
            frame_waits: 0,
            ahead: 0,
        }
    }

    /// Goes inside the gate, if not there yet, and returns the running generation.
    pub(crate) fn enter(&mut self) -> Generation {
        if self.inside.is_none() {
            self.inside = Some(self.forest.workers.enter(self.worker));
        }
        self.forest.running()
    }

    /// Leaves the gate; whoever waits must.
    pub(crate) fn leave(&mut self) {
        self.inside = None;
    }

    /// The writable leaf that covers `key`, latched.
    pub(crate) fn leaf(&mut self, tree: &TreeState, key: &[u8]) -> Result<Leaf<'a>> {
        loop {
            let running = self.enter();
            tree.check(Csn::MAX)?;
            tree.check_writable()?;
            match self
                .forest
                .descend(tree, Toward::Key(key), 0, Some(running))
            {
                Found::Empty(version) => self.plant(tree, version)?,
                missing @ Found::Missing { .. } => {
                    self.leave();
                    self.forest
                        .bring_in(self.worker, tree, missing, &mut self.carry)?;
                }
                Found::Shared(at) => self.copy(tree, at)?,
                Found::Node(at) => {
                    if let Some(leaf) = self.latch(tree, at, key, running) {
                        return Ok(leaf);
                    }
                }
            }
        }
    }

    fn latch(&self, tree: &TreeState, at: At, key: &[u8], running: Generation) -> Option<Leaf<'a>> {
        let forest: &'a Forest = self.forest;
        let frame = forest.cache.frame(at.frame);
        let page = forest.cache.page(at.frame);
        if let Some(guard) = frame.latch.try_upgrade(at.version) {
            frame.touch(1);
            let frame = at.frame;
            return Some(Leaf { frame, page, guard });
        }
        // Another writer is there. Waiting for it, holding nothing, is shorter than
        // searching again; but then the node must be looked at anew.
        let guard = frame.latch.lock();
        if forest.is_leaf_for(at.frame, tree, key, running) {
            let frame = at.frame;
            return Some(Leaf { frame, page, guard });
        }
        guard.release_unchanged();
        None
    }

    /// Latches a leaf that was prepared before, if nothing about it has changed since:
    /// it stands at the `version` it had, and is still of the running generation.
    pub(crate) fn retake(&self, frame: FrameId, version: Version) -> Option<Leaf<'a>> {
        let forest: &'a Forest = self.forest;
        let guard = forest.cache.frame(frame).latch.try_upgrade(version)?;
        let page = forest.cache.page(frame);
        if forest.cache.frame(frame).writable(forest.running()) {
            return Some(Leaf { frame, page, guard });
        }
        guard.release_unchanged();
        None
    }

    /// Latches a leaf that was prepared before and has changed since, if it is still
    /// the one for `key` and its latch is to be had in a moment.
    ///
    /// Does not wait for it: since it was prepared the frame may have become any
    /// other node, even one that the caller holds, so no order protects who waits.
    /// Who gets nothing lets go of all and prepares again, and waits there.
    pub(crate) fn relatch(&self, frame: FrameId, tree: &TreeState, key: &[u8]) -> Option<Leaf<'a>> {
        let forest: &'a Forest = self.forest;
        let guard = forest.cache.frame(frame).latch.lock_soon()?;
        if forest.is_leaf_for(frame, tree, key, forest.running()) {
            let page = forest.cache.page(frame);
            return Some(Leaf { frame, page, guard });
        }
        guard.release_unchanged();
        None
    }

    /// Gives an empty tree its first leaf.
    fn plant(&mut self, tree: &TreeState, version: Version) -> Result<()> {
        let running = self.enter();
        let Some([frame]) = self.frames()? else {
            return Ok(());
        };
        let Some(guard) = tree.anchor.latch.try_upgrade(version) else {
            self.forest.cache.put_back(frame);
            return Ok(());
        };
        let Some([block]) = self.blocks(tree, 0) else {
            guard.release_unchanged();
            self.forest.cache.put_back(frame);
            return self.restart(Cause::Empty, 0, 0);
        };
        let page = self.forest.cache.page(frame);
        page.init(0, tree.id, self.forest.store, 0, &Bounds::whole());
        let child = self.adopt(frame, block, running, 1);
        tree.anchor.set(child);
        drop(guard);
        Ok(())
    }

    /// Makes a filled, free frame the node at `block`, new and dirty, and returns
    /// the pointer for its parent. Nobody else knows the frame yet, or the caller
    /// holds its latch.
    pub(super) fn adopt(
        &self,
        frame: FrameId,
        block: BlockNo,
        running: Generation,
        heat: u32,
    ) -> Child {
        let at = (frame, block);
        self.forest.adopt(self.worker, at, running, heat)
    }

    /// Takes frames without waiting. `None`: there were not enough, the gate was
    /// left, some time was waited, and the caller searches again.
    ///
    /// # Errors
    /// If the store has stopped: dirty nodes are not written any more, so there may
    /// never be a frame.
    pub(crate) fn frames<const N: usize>(&mut self) -> Result<Option<[FrameId; N]>> {
        let mut got = [0; N];
        for i in 0..N {
            match self.forest.cache.try_take_to_write() {
                Some(f) => got[i] = f,
                None => {
                    got[..i].iter().for_each(|&f| self.forest.cache.put_back(f));
                    self.leave();
                    if let Some(why) = self.forest.progress.stopped() {
                        return Err(Error::Stopped(why));
                    }
                    self.worker.counters.restarts_frame.add(1);
                    self.worker
                        .counters
                        .waiting(Wait::WriteFrame, || self.forest.cache.wait_for_frame());
                    self.forest.check_frames(&mut self.frame_waits)?;
                    return Ok(None);
                }
            }
        }
        self.frame_waits = 0;
        Ok(Some(got))
    }

    /// Takes a block without waiting.
    #[cfg(not(feature = "experiment-cow"))]
    pub(super) fn take(&self, _: &TreeState, _: BlockNo) -> Option<BlockNo> {
        self.forest.pool.try_take(self.worker)
    }

    /// Takes a block without waiting, unless copy-on-write is inline: then there is
    /// one stage, and it takes as many as a restart would.
    #[cfg(feature = "experiment-cow")]
    pub(super) fn take(&self, tree: &TreeState, hint: BlockNo) -> Option<BlockNo> {
        let pool = &self.forest.pool;
        let inline = || {
            let need = Self::descent(self.root_level(tree));
            pool.take_inline(self.worker, need, hint)
        };
        let taken = pool.try_take(self.worker);
        taken.or_else(|| pool.is_inline().then(inline).flatten())
    }

    /// Takes blocks without waiting: all or none.
    pub(super) fn blocks<const N: usize>(
        &self,
        tree: &TreeState,
        hint: BlockNo,
    ) -> Option<[BlockNo; N]> {
        let mut got = [0; N];
        for i in 0..N {
            match self.take(tree, hint) {
                Some(b) => got[i] = b,
                None => {
                    got[..i].iter().for_each(|&b| Pool::keep(self.worker, b));
                    return None;
                }
            }
        }
        Some(got)
    }

    /// Begins again for space: nothing is held; leaves the gate and reserves all
    /// that a whole descent can need (the path, a split at each level, a new root),
    /// and what the rest of a batch can.
    pub(super) fn restart(&mut self, cause: Cause, root_level: u8, hint: BlockNo) -> Result<()> {
        let c = &self.worker.counters;
        match cause {
            Cause::Parked => c.restarts_parked.add(1),
            Cause::Upgrade => c.restarts_upgrade.add(1),
            Cause::Empty => c.restarts_empty.add(1),
        }
        let running = self.forest.running();
        if self.restarts.0 != running {
            self.restarts = (running, 0);
        }
        self.restarts.1 += 1;
        c.restarts_most.raise(self.restarts.1);
        self.leave();
        let need = Self::descent(root_level);
        let (worker, pool) = (self.worker, &self.forest.pool);
        if self.ahead > 0 && !self.claim.is_short() {
            let all = need + std::mem::take(&mut self.ahead);
            let ask = || pool.reserve(worker, all, hint, Urgency::Normal);
            match self.forest.mending(ask) {
                Ok(()) => return Ok(()),
                // The extra for a batch may be more than there is: take what one
                // descent needs.
                Err(SpaceError::Full { .. } | SpaceError::AfterGeneration { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.forest.claim(worker, &mut self.claim, |urgency| {
            pool.reserve(worker, need, hint, urgency)
        })
    }

    /// Blocks that a whole descent can need: the path, a split at each level, a root.
    fn descent(root_level: u8) -> u64 {
        2 * (u64::from(root_level) + 1) + 2
    }

    /// Level of the root, for the size of a reservation; 3 if it is not known.
    pub(super) fn root_level(&self, tree: &TreeState) -> u8 {
        let child = tree.anchor.child();
        match child.hint.checked_sub(1) {
            Some(f) if self.forest.cache.frame(f).holds(child.ptr) => {
                self.forest.cache.page(f).level()
            }
            _ => 3,
        }
    }
}

impl Forest {
    /// As [`Op::adopt`], for a writer without an operation.
    pub(crate) fn adopt(
        &self,
        worker: &Worker,
        (frame, block): (FrameId, BlockNo),
        running: Generation,
        heat: u32,
    ) -> Child {
        self.cache.page(frame).set_identity(block, running);
        self.cache.occupy(frame, block, running, State::Dirty, heat);
        worker.used(Run::single(block));
        worker.counters.blocks_used.add(1);
        Child {
            ptr: BlockPtr::unwritten(block, running),
            hint: frame + 1,
        }
    }

    /// Whether the frame, whose latch the caller holds, is the writable leaf for
    /// `key`. A node taken out of the tree is never left writable.
    fn is_leaf_for(
        &self,
        frame: FrameId,
        tree: &TreeState,
        key: &[u8],
        running: Generation,
    ) -> bool {
        let page = self.cache.page(frame);
        self.cache.frame(frame).writable(running)
            && page.level() == 0
            && page.tree() == tree.id
            && page.covers(key)
    }
}
