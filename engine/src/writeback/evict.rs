//! Eviction: a clock over the frames, in batches.
//!
//! Clean, cold nodes go first; inner nodes only when none of their children is in
//! memory. Dirty nodes of the running generation are written early, to the place
//! they own, when clean ones do not suffice. The evictor needs no frame and no
//! block, and waits under no latch, so those who wait for frames always get some.
//! It also empties the frames above the cache's bound (`shrink`).

use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::time::Duration;
use gaur_iodriver::sync::within;
use gaur_iodriver::{Completion, IoBuf, Op as IoOp, Queue, Request, fault};

use super::InFlight;
use super::shrink::Shrink;
use crate::cache::{FrameId, State};
use crate::commit::versions::Needed;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::{BlockPtr, Generation};
use crate::node::store_image;
use crate::readers::GivenUp;
use crate::worker::Worker;

/// Dirty nodes written together.
pub(super) const BATCH: usize = 64;
/// Frames looked at in one pass.
pub(super) const PASS: usize = 2048;

/// What the evictor counts.
#[derive(Debug, Default)]
pub(crate) struct EvictCounters {
    pub(crate) evicted: AtomicU64,
    pub(crate) written_early: AtomicU64,
    /// Nodes moved out of frames above the cache's bound.
    pub(crate) moved: AtomicU64,
    pub(crate) in_flight: InFlight,
}

impl EvictCounters {
    pub(super) fn note_evicted(&self, nodes: usize) {
        self.evicted.fetch_add(nodes as u64, Ordering::Relaxed);
    }

    pub(super) fn note_early(&self, nodes: usize) {
        self.written_early
            .fetch_add(nodes as u64, Ordering::Relaxed);
    }

    pub(super) fn note_moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// A node on its way to the device.
pub(super) struct Write {
    frame: FrameId,
    generation: Generation,
    addr: u64,
    image: IoBuf,
}

/// The evictor thread's body; ends when the store closes. After a failed write it
/// goes on freeing clean frames, for reads go on.
pub(crate) fn run(core: &Core, mut queue: Box<dyn Queue>) {
    let _end = End(core);
    let worker = match core.forest.workers.mine() {
        Ok(worker) => worker,
        Err(e) => return core.fail(&e),
    };
    while let Err(e) = serve(core, &worker, queue.as_mut()) {
        core.fail(&e);
    }
}

/// Says that no frame will be freed any more, however the thread ends.
struct End<'a>(&'a Core);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.fail_if_panicking("the evictor");
        self.0.forest.cache.end();
    }
}

fn serve(core: &Core, worker: &Worker, queue: &mut dyn Queue) -> Result<()> {
    let cache = &core.forest.cache;
    let mut hand = 0;
    let mut shrink = Shrink::default();
    while !core.closing.load(Ordering::Acquire) {
        cache.wait_for_demand(shrink.pause());
        if !core.read_only {
            core.readers.look(core);
        }
        collect_versions(core);
        while cache.free_frames() >= cache.low_watermark() && cache.give_ahead() {}
        if let Some(why) = core.forest.pool.allocator().fallen()
            && core.progress().stopped().is_none()
        {
            core.fail(&Error::Stopped(why.to_owned()));
        }
        // The log's thread cannot tell the others.
        if let Some(log) = core.log_if_started()
            && log.has_stopped()
            && core.progress().stopped().is_none()
            && let Some(why @ Error::Stopped(_)) = log.stopped()
        {
            core.fail(&why);
        }
        let mut idle = 0;
        // After a fail-stop reads go on, and clean nodes still make room.
        let stopped = || core.progress().stopped().is_some();
        shrink.step(
            core,
            worker,
            (!core.read_only && !stopped()).then_some(&mut *queue),
        )?;
        while cache.free_frames() < 2 * cache.low_watermark() && idle < 50 {
            if !core.read_only && stopped() {
                pass(core, worker, &mut hand, None)?;
                break;
            }
            let done = if core.read_only {
                pass(core, worker, &mut hand, None)?
            } else {
                pass(core, worker, &mut hand, Some(&mut *queue))?
            };
            if done == 0 {
                idle += 1;
                core.progress().ask();
                gaur_iodriver::sync::thread::sleep(Duration::from_micros(200));
            }
        }
        if cache.dirty_frames() > cache.frames() / 2 || core.forest.wants_space() {
            core.progress().ask();
        }
    }
    Ok(())
}

/// Drops before-images that no view needs.
pub(crate) fn collect_versions(core: &Core) {
    let forest = &core.forest;
    // In this order: a view that opens after the second look sees at least `upto`.
    let upto = core.visible.upto();
    let oldest = forest.workers.oldest_view().unwrap_or(upto);
    let oldest = if fault!(BeforeImageDroppedEarly) {
        upto
    } else {
        oldest
    };
    // What was given up needs nothing any more.
    let floor = core.versions.floor();
    let mut needed = Needed {
        after: oldest.max(floor),
        pinned: Vec::new(),
    };
    forest.visit_pinned(|from, pin| needed.pinned.push((from, pin.cut)));
    // Of each pin the first.
    needed
        .pinned
        .sort_unstable_by_key(|(from, cut)| (*cut, *from));
    needed.pinned.dedup_by_key(|(_, cut)| *cut);
    let over = core.versions.is_over();
    core.versions.collect(needed, &forest.pins);
    if core.versions.wants_freeze() && forest.workers.oldest_is_lasting() {
        core.progress().ask();
    }
    if over {
        core.readers.tell_given_up(core, GivenUp::Memory);
    }
}

/// Looks at up to [`PASS`] frames; returns how many became free or were written.
/// Without a queue nothing is written.
fn pass(
    core: &Core,
    worker: &Worker,
    hand: &mut usize,
    queue: Option<&mut dyn Queue>,
) -> Result<usize> {
    let cache = &core.forest.cache;
    let running = core.forest.running();
    let (mut freed, mut dirty) = (0, Vec::new());
    for _ in 0..PASS.min(cache.frames()) {
        // The bound may have come down since.
        *hand %= cache.frames();
        let id = *hand as FrameId;
        *hand += 1;
        let frame = cache.frame(id);
        match frame.state() {
            State::Clean if frame.cool() && evict(core, id) => {
                freed += 1;
                if cache.free_frames() >= 2 * cache.low_watermark() {
                    break;
                }
            }
            State::Dirty if frame.birth() == running && frame.cool() => dirty.push(id),
            _ => {}
        }
        if dirty.len() >= 2 * BATCH {
            break;
        }
    }
    core.evicting.note_evicted(freed);
    let Some(queue) = queue.filter(|_| freed < BATCH / 2) else {
        return Ok(freed);
    };
    let mut writes: Vec<Write> = dirty
        .into_iter()
        .filter_map(|id| prepare(core, worker, id))
        .take(BATCH)
        .collect();
    let written = writes.len();
    write_all(core, queue, &mut writes)?;
    core.evicting.note_early(written);
    Ok(freed + written)
}

/// Frees a clean frame, unless somebody has it or its children are in memory.
pub(super) fn evict(core: &Core, id: FrameId) -> bool {
    let cache = &core.forest.cache;
    let Some(guard) = cache.frame(id).latch.try_lock() else {
        return false;
    };
    let page = cache.page(id);
    let parent_of_resident = page.level() > 0
        && (0..page.slots()).any(|i| {
            let c = page.child(i);
            c.hint != 0 && cache.frame(c.hint - 1).holds(c.ptr)
        });
    if cache.frame(id).state() != State::Clean || parent_of_resident {
        guard.release_unchanged();
        return false;
    }
    cache.vacate(id, guard);
    true
}

/// Copies a dirty node out and gives its parent the checksum, in one step under
/// both latches. `None`: it is busy, or has dirty children.
pub(super) fn prepare(core: &Core, worker: &Worker, id: FrameId) -> Option<Write> {
    let forest = &core.forest;
    let cache = &forest.cache;
    let _inside = forest.workers.enter(worker);
    let running = forest.running();
    let (tree, level, lower) = {
        let frame = cache.frame(id);
        let version = frame.latch.try_version()?;
        let page = cache.page(id);
        let seen = (page.tree(), page.level(), page.lower());
        if !frame.writable(running) || !frame.latch.validate(version) {
            return None;
        }
        seen
    };
    let tree = core.trees.lock().numbered(tree)?;
    let (tree, at) = forest.locate(tree, id, level, &lower)?;
    let parent_guard = forest
        .parent_latch(&tree, at.parent)
        .try_upgrade(at.parent.version)?;
    let Some(guard) = cache.frame(id).latch.try_upgrade(at.version) else {
        parent_guard.release_unchanged();
        return None;
    };
    let page = cache.page(id);
    let pending = level > 0 && (0..page.slots()).any(|i| page.child(i).ptr.checksum == 0);
    if pending || !cache.frame(id).writable(running) {
        guard.release_unchanged();
        parent_guard.release_unchanged();
        return None;
    }
    let mut image = IoBuf::zeroed(forest.geometry.block_size as usize);
    let checksum = store_image(page, &mut image);
    let mut child = forest.parent_child(&tree, at.parent);
    child.ptr = BlockPtr {
        checksum,
        ..child.ptr
    };
    forest.set_parent_child(&tree, at.parent, child);
    cache.begin_write(id);
    core.evicting.in_flight.begin(running);
    drop(guard);
    drop(parent_guard);
    Some(Write {
        frame: id,
        generation: running,
        addr: child.ptr.addr,
        image,
    })
}

pub(super) fn write_all(core: &Core, queue: &mut dyn Queue, writes: &mut Vec<Write>) -> Result<()> {
    let _site = within("early writes");
    writes.sort_by_key(|w| w.addr);
    let mut requests = Vec::new();
    let mut ids = Vec::new();
    for w in writes.drain(..) {
        let offset = core.forest.geometry.byte(w.addr);
        let op = IoOp::Write {
            offset,
            buf: w.image,
            durable: false,
        };
        requests.push(Request {
            token: ids.len() as u64,
            op,
        });
        ids.push((w.frame, w.generation));
    }
    queue.submit(&mut requests)?;
    let mut failed: Option<Error> = None;
    let mut left = ids.len();
    let mut completions: Vec<Completion> = Vec::new();
    while left > 0 {
        queue.wait(1, None, &mut completions)?;
        for c in completions.drain(..) {
            let (frame, generation) = ids[c.token as usize];
            left -= 1;
            match c.result {
                Ok(()) => {
                    core.forest.cache.end_write(frame);
                    core.evicting.in_flight.end(generation);
                }
                Err(e) => failed = Some(e.into()),
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
