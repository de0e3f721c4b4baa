//! Emptying the frames above the cache's bound, after it was lowered.
//!
//! A node there is evicted, written early, or moved to a frame below, as the case
//! may be; what is frozen or being written is left to the checkpoint and comes up
//! again. A move is a copy under the latches of the parent and of both frames: the
//! pointer stays, only its hint changes. It needs a frame, and waits for none.

use gaur_iodriver::Queue;
use gaur_iodriver::sync::time::Duration;

use super::evict::{BATCH, PASS, Write, evict, prepare, write_all};
use crate::cache::{FrameId, State};
use crate::core::Core;
use crate::error::Result;
use crate::node::Child;
use crate::worker::Worker;

/// Steps without a frame emptied before a checkpoint is asked for, and rounds
/// before it is tried less often.
const PATIENCE: u32 = 20;

/// How far the evictor is with it.
#[derive(Debug, Default)]
pub(super) struct Shrink {
    hand: usize,
    /// Whether something is left to do.
    busy: bool,
    /// Steps in which nothing was emptied, and rounds of them.
    idle: u32,
    vain: u32,
}

impl Shrink {
    /// How long the evictor may wait for demand.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(match (self.busy, self.idle) {
            (false, _) => 50,
            (true, 0) => 0,
            // It may stay so for good: what is dirty when the store has stopped.
            (true, _) if self.vain >= PATIENCE => 20,
            (true, _) => 1,
        })
    }

    /// Looks at up to [`PASS`] frames above the bound. Without a queue nothing is
    /// written.
    pub(super) fn step(
        &mut self,
        core: &Core,
        worker: &Worker,
        queue: Option<&mut dyn Queue>,
    ) -> Result<()> {
        let cache = &core.forest.cache;
        let range = cache.above(self.hand, PASS);
        self.busy = cache.is_shrinking();
        if !self.busy {
            (self.idle, self.vain) = (0, 0);
            return Ok(());
        }
        // It began again at the bound.
        self.vain += u32::from(range.start != self.hand);
        let before = cache.present();
        // Goes round all free frames, so only if it finds one.
        if range.clone().any(|id| cache.is_free(id as FrameId)) {
            cache.sweep_free();
        }
        let mut writes = Vec::new();
        for id in range.clone() {
            let writes = queue.is_some().then_some(&mut writes);
            empty(core, worker, id as FrameId, writes);
        }
        let written = writes.len();
        if let Some(queue) = queue
            && written > 0
        {
            core.evicting.note_early(written);
            write_all(core, queue, &mut writes)?;
        }
        cache.discard_absent(range.clone());
        self.hand = range.end;
        if cache.present() < before || written > 0 {
            (self.idle, self.vain) = (0, 0);
        } else {
            self.idle += 1;
            if self.idle.is_multiple_of(PATIENCE) && !core.read_only {
                core.progress().ask();
            }
        }
        Ok(())
    }
}

/// Empties a frame above the bound, if that can be done now. A node that must be
/// written first goes to `writes`; without, nothing is written.
fn empty(core: &Core, worker: &Worker, id: FrameId, writes: Option<&mut Vec<Write>>) {
    let cache = &core.forest.cache;
    let frame = cache.frame(id);
    match frame.state() {
        State::Clean => {
            // What is used moves as long as there is room without eviction.
            let room = cache.free_frames() > 2 * cache.low_watermark();
            if frame.heat() > 0 && room && relocate(core, worker, id) {
                return;
            }
            if evict(core, id) {
                core.evicting.note_evicted(1);
            } else {
                relocate(core, worker, id);
            }
        }
        State::Dirty if frame.birth() == core.forest.running() => {
            let room = writes.filter(|w| w.len() < BATCH);
            match room.map(|w| (prepare(core, worker, id), w)) {
                Some((Some(write), writes)) => writes.push(write),
                // A child is dirty, somebody has it, or nothing is written: it may move.
                _ => {
                    relocate(core, worker, id);
                }
            }
        }
        _ => {}
    }
}

/// Moves a node to a frame below the bound. False if it is busy, or there is no
/// frame to be had.
///
/// It must be CLEAN, or DIRTY and born in the running generation. The first may have
/// a second parent, in the frozen generation, whose hint is then stale, as after an
/// eviction. The second has one parent only, and no checkpoint knows its frame: the
/// gate is passed, so none begins.
fn relocate(core: &Core, worker: &Worker, id: FrameId) -> bool {
    let forest = &core.forest;
    let cache = &forest.cache;
    let _inside = forest.workers.enter(worker);
    let running = forest.running();
    let frame = cache.frame(id);
    let movable = || frame.state() == State::Clean || frame.writable(running);
    let (tree, level, lower) = {
        let Some(version) = frame.latch.try_version() else {
            return false;
        };
        let page = cache.page(id);
        let seen = (page.tree(), page.level(), page.lower());
        if !movable() || !frame.latch.validate(version) {
            return false;
        }
        seen
    };
    let Some(tree) = core.trees.lock().numbered(tree) else {
        return false;
    };
    let Some((tree, at)) = forest.locate(tree, id, level, &lower) else {
        return false;
    };
    let Some(new) = cache.try_take_to_write() else {
        return false;
    };
    let parent = forest
        .parent_latch(&tree, at.parent)
        .try_upgrade(at.parent.version);
    let Some(parent) = parent else {
        cache.put_back(new);
        return false;
    };
    let guard = match frame.latch.try_upgrade(at.version) {
        Some(guard) if movable() => guard,
        other => {
            other.into_iter().for_each(|g| g.release_unchanged());
            parent.release_unchanged();
            cache.put_back(new);
            return false;
        }
    };
    let state = frame.state();
    let new_guard = cache.frame(new).latch.lock();
    crate::node::copy(cache.page(id), cache.page(new));
    cache.occupy(new, at.ptr.addr, at.ptr.birth, state, frame.heat());
    // The pointer as it is under the latch: it may have got its checksum.
    let child = forest.parent_child(&tree, at.parent);
    let hint = new + 1;
    forest.set_parent_child(&tree, at.parent, Child { hint, ..child });
    cache.vacate(id, guard);
    drop(new_guard);
    // This counts as a change of the parent. A search that followed the old hint finds
    // the frame empty and must begin again: it must not believe that the node is not in
    // memory, for then a dirty one would never get its checksum (`tell_running`).
    drop(parent);
    core.evicting.note_moved();
    true
}
