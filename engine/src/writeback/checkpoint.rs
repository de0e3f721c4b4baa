//! Checkpoints: freeze a generation, write what is new in it, name it in the
//! superblock. Writers go on meanwhile, in the next generation.
//!
//! 1. Close the gate: nobody is inside. Generation *n* is what the trees are now.
//!    Note the roots, the cut in the log and the journals of space; begin *n* + 1;
//!    open the gate. This takes microseconds.
//! 2. Write the dirty nodes of *n*, children before parents, then the tree of
//!    trees, then the map (the allocator does). The log up to the cut becomes
//!    durable.
//! 3. Flush. Write one superblock, flush, write the other, flush.
//! 4. Only now: the blocks that *n* freed become free, the log before the cut too.
//!
//! If power fails before a superblock of *n* is whole, generation *n* − 1 and the
//! whole log are still there; after that, *n* is.
//!
//! One checkpoint runs at a time. Frozen nodes change no more but for the
//! checksums of their children, which the checkpointer fills in, there and in the
//! running generation's copy of the parent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::thread;
use gaur_iodriver::sync::time::{Duration, now, unix_seconds};
use gaur_iodriver::sync::within;
use gaur_iodriver::{Completion, IoBuf, Op as IoOp, Queue, Request, fault};

use super::catalog::{self, CatalogEntry, Contents};
use super::doomed::Doomed;
use super::grow::Plan;
use super::reclaim::Reclaim;
use super::retain::{self, Sorted};
use super::superblock::write_pair;
use crate::alloc::{Changes, Request as SpaceRequest, Shape, Urgency};
use crate::cache::{FrameId, State};
use crate::commit::pin::Pin;
use crate::core::Core;
use crate::error::Result;
use crate::events::Event;
use crate::format::superblock::{FEATURE_HELD, FLAG_CLEAN, Superblock};
use crate::format::{BlockNo, BlockPtr, Csn, Generation, Run};
use crate::node::{Child, store_image};
use crate::trace::span;
use crate::tree::{Found, Toward, TreeState};
use crate::worker::Freed;

/// Blocks written with one request at most, where nodes lie side by side.
const CLUSTER: usize = 64;
/// Requests in flight.
pub(crate) const DEPTH: usize = 32;

/// Blocks kept for trees made until the next checkpoint.
const CATALOG_AHEAD: u64 = 8;

/// What the checkpointer counts.
#[derive(Debug, Default)]
pub(crate) struct CheckpointCounters {
    pub(crate) checkpoints: AtomicU64,
    pub(crate) nanos: AtomicU64,
    pub(crate) freeze_nanos: AtomicU64,
    pub(crate) freeze_nanos_most: AtomicU64,
    pub(crate) nodes: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// What the checkpointer keeps from one checkpoint to the next.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    pub(crate) superblock: Superblock,
    /// Blocks of the tree of trees.
    pub(crate) catalog: Vec<Run>,
    /// Blocks reserved for the next tree of trees: a checkpoint must not need the
    /// space that only a checkpoint can bring back.
    spare: Vec<Run>,
    /// What is left of dropped trees.
    reclaim: Reclaim,
    queue: Box<dyn Queue>,
    /// Writes in flight and the frames in each.
    writing: HashMap<u64, Vec<FrameId>>,
    next_token: u64,
    #[cfg(faults)]
    late: Vec<Request>,
}

/// A dirty node of the frozen generation.
#[derive(Clone, Copy, Debug)]
struct Dirty {
    frame: FrameId,
    addr: BlockNo,
    parent: Above,
}

/// What points to a frozen node.
#[derive(Clone, Copy, Debug)]
enum Above {
    /// A slot of a frozen inner node.
    Node(FrameId, usize),
    /// It is a root.
    Root,
}

/// A tree as it was frozen.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) tree: Arc<TreeState>,
    name: Arc<str>,
    root: Child,
    pub(super) large: bool,
    origin: Generation,
    /// It was dropped in this generation, and is written once more, for what is freed is
    /// what the device has.
    dropped: bool,
    /// The same for views that read this generation.
    pinned: Option<Arc<TreeState>>,
}

impl Frozen {
    fn new(tree: Arc<TreeState>, dropped: bool) -> Self {
        Self {
            name: tree.name(),
            root: tree.anchor.child(),
            large: tree.may_have_large(),
            origin: tree.origin,
            tree,
            dropped,
            pinned: None,
        }
    }
}

/// Has the views that are open read what is being frozen from now on. The gate is closed.
fn pin_views(
    core: &Core,
    frozen: &mut [Frozen],
    generation: Generation,
    cut: Csn,
) -> Option<Arc<Pin>> {
    let forest = &core.forest;
    if !forest.workers.has_lasting() {
        return None;
    }
    let mut trees = Vec::new();
    for f in frozen.iter_mut().filter(|f| !f.dropped) {
        let pinned = Arc::new(f.tree.as_frozen(generation, f.root));
        trees.push(pinned.clone());
        f.pinned = Some(pinned);
    }
    let pin = Arc::new(Pin::new(generation, cut, trees));
    let lost = || core.versions.floor();
    forest.pins.pin(pin.clone(), &forest.workers, lost);
    Some(pin)
}

/// Stops the store if the checkpointer panics.
struct Guard<'a>(&'a Core);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.fail_if_panicking("the checkpointer");
    }
}

/// Blocks that the tree of trees takes at most, with what is left of so many trees.
fn catalog_blocks(core: &Core, doomed: usize) -> u64 {
    let trees = core.trees.lock();
    let doomed = doomed + trees.dropped();
    let trees = trees.all();
    let names = trees.iter().map(|t| t.name().len());
    let shelf = core.shelf.lock();
    let snapshots = shelf.all.iter().map(|s| s.held.name.len());
    let snapshots = snapshots.chain(shelf.wanted.iter().map(String::len));
    catalog::blocks_needed(names, doomed, snapshots, core.forest.geometry.block_size)
}

/// Fills `spare` with blocks for the next tree of trees, and some for trees to come;
/// what it has beyond that is given back. As many blocks are left to this in the
/// allocator: between two checkpoints the old tree of trees and the spare blocks
/// change places, and nobody takes what is free in between.
pub(crate) fn reserve_catalog(
    core: &Core,
    spare: &mut Vec<Run>,
    hint: BlockNo,
    doomed: usize,
) -> Result<()> {
    let allocator = core.forest.pool.allocator();
    spare.append(&mut core.for_catalog.lock());
    let needed = catalog_blocks(core, doomed);
    allocator.set_floor(needed + retain::blocks_needed(core));
    let want = needed + CATALOG_AHEAD;
    let have: u64 = spare.iter().map(|r| u64::from(r.len)).sum();
    if have < want {
        let request = SpaceRequest {
            blocks: (want - have) as u32,
            shape: Shape::Nodes,
            hint,
            urgency: Urgency::Reserve,
        };
        spare.extend(core.forest.mending(|| allocator.reserve(request))?);
        return Ok(());
    }
    let mut over = have - want;
    let mut back = Vec::new();
    while let Some(run) = spare.pop_if(|r| u64::from(r.len) <= over) {
        over -= u64::from(run.len);
        back.push(run);
    }
    if !back.is_empty() {
        allocator.give_back_unused(back);
    }
    Ok(())
}

/// Has the allocator ask for a checkpoint when space is low.
fn watch(core: &Core) {
    let tell = core.progress().nudger();
    let allocator = core.forest.pool.allocator();
    allocator.tell_when_low(core.forest.low_mark(), tell);
}

impl Checkpointer {
    pub(crate) fn new(
        superblock: Superblock,
        catalog: Vec<Run>,
        spare: Vec<Run>,
        doomed: Vec<Doomed>,
        queue: Box<dyn Queue>,
    ) -> Self {
        Self {
            superblock,
            catalog,
            spare,
            reclaim: Reclaim::new(doomed),
            queue,
            writing: HashMap::new(),
            next_token: 0,
            #[cfg(faults)]
            late: Vec::new(),
        }
    }

    /// The checkpointer thread's body: a checkpoint when asked or after `interval`.
    /// Ends when the store closes or a checkpoint fails.
    pub(crate) fn run(mut self, core: &Core, interval: Duration) -> Self {
        let _guard = Guard(core);
        // In a store that is full already there is nothing to take.
        let _ = self.reserve_catalog(core);
        self.mend(core);
        watch(core);
        let mut low = false;
        while !core.closing.load(Ordering::Acquire) {
            self.rest(core, interval);
            if core.closing.load(Ordering::Acquire) {
                break;
            }
            match self.round(core, low) {
                Ok(still) => low = still,
                Err(e) => {
                    core.fail(&e);
                    break;
                }
            }
        }
        // The last checkpoint is made by who closes the store.
        self.leave_queue();
        self
    }

    /// Frees what dropped trees had until a checkpoint is asked for, `interval` is over,
    /// or enough was freed.
    fn rest(&mut self, core: &Core, interval: Duration) {
        let due = now() + interval;
        loop {
            let left = due.saturating_duration_since(now());
            let shelf = core.shelf.lock().has_work();
            let left = if shelf { Duration::ZERO } else { left };
            let pause = self.reclaim.pause(core).min(left);
            if core.progress().asked_within(pause) || core.closing.load(Ordering::Acquire) {
                return;
            }
            let enough = self.reclaim.step(core);
            if enough || shelf || due <= now() {
                return;
            }
        }
    }

    /// One look at the store: a checkpoint if there is anything new, if somebody waits for
    /// one, or to grow, which it tries by itself if space is `low`. Whether space is low
    /// now; then the next look is asked for.
    fn round(&mut self, core: &Core, low: bool) -> Result<bool> {
        let forest = &core.forest;
        forest.unpin();
        let news = core.last_drawn() != self.superblock.cut
            || forest.cache.dirty_frames() > 0
            || self.reclaim.freed() > 0
            || core.shelf.lock().has_work();
        let plan = forest.begin_growth(low);
        if news || core.progress().is_wanted() || plan.to.is_some() {
            self.checkpoint_growing(core, 0, &plan)?;
            if plan.to.is_some() {
                watch(core);
            }
        }
        forest.end_growth(plan);
        self.mend(core);
        let low = forest.is_low() && !forest.growth.failed_lately();
        if low {
            core.progress().ask();
        }
        Ok(low)
    }

    /// Waits until the device is done with what a failed checkpoint left, and lets go
    /// of it. Only the thread that wrote can wait for it; and it must, for the lock is
    /// given up when the store is closed, and what the next one writes must not be
    /// overtaken by a write of ours.
    fn leave_queue(&mut self) {
        let mut done = Vec::new();
        while self.queue.in_flight() > 0 && self.queue.wait(1, None, &mut done).is_ok() {
            done.clear();
        }
        self.queue.hand_over();
    }

    /// Rebuilds what of the map turned out to be damaged. True if there was
    /// something, so that another checkpoint puts it on the device.
    fn mend(&self, core: &Core) -> bool {
        // What cannot be rebuilt is in the notes, and the store goes on without.
        core.forest.mend_map().is_ok_and(|n| n > 0)
    }

    /// The last checkpoint, after which nothing is to replay and the map is whole.
    pub(crate) fn close(&mut self, core: &Core) -> Result<()> {
        self.checkpoint(core, FLAG_CLEAN)?;
        if self.mend(core) {
            self.checkpoint(core, FLAG_CLEAN)?;
        }
        Ok(())
    }

    /// One checkpoint; `flags` go into the superblock.
    pub(crate) fn checkpoint(&mut self, core: &Core, flags: u32) -> Result<()> {
        self.checkpoint_growing(core, flags, &Plan::default())
    }

    /// One checkpoint that takes in what `plan` says.
    fn checkpoint_growing(&mut self, core: &Core, flags: u32, plan: &Plan) -> Result<()> {
        let begun = now();
        let forest = &core.forest;
        let _span = span!("checkpoint", forest.store);
        let nodes = core.checkpointing.nodes.load(Ordering::Relaxed);
        self.reserve_catalog(core)?;
        core.progress().begin();
        core.throttle.begin(core);
        let part = self.read_part(core);
        let site = (within("freeze"), span!("freeze", forest.store));
        let (freezing, turn) = loop {
            let turn = forest.workers.turn();
            let freezing = now();
            forest.workers.close();
            if self.spare_blocks() >= catalog_blocks(core, self.reclaim.len()) {
                break (freezing, turn);
            }
            // More trees were made meanwhile than there is room for.
            forest.workers.open();
            drop(turn);
            self.reserve_catalog(core)?;
        };
        let cut = core.log().freeze();
        let generation = forest.running();
        let mut frozen: Vec<Frozen> = {
            let mut trees = core.trees.lock();
            let dropped = trees.take_dropped().into_iter();
            let dropped: Vec<_> = dropped.map(|tree| Frozen::new(tree, true)).collect();
            let there = trees.all().into_iter().map(|tree| Frozen::new(tree, false));
            there.chain(dropped).collect()
        };
        self.freeze_shelf(core, &frozen, generation, cut.csn);
        let pin = pin_views(core, &mut frozen, generation, cut.csn);
        let mut journal = forest.workers.take_journals();
        let next_tree = core.next_tree.load(Ordering::Acquire);
        forest.advance();
        forest.workers.open();
        drop((turn, site));
        // From here to the release nobody may take the durable trees for the newest.
        let mut durable = forest.mend.lock();
        let took = freezing.elapsed().as_nanos() as u64;
        core.checkpointing
            .freeze_nanos
            .fetch_add(took, Ordering::Relaxed);
        core.checkpointing
            .freeze_nanos_most
            .fetch_max(took, Ordering::Relaxed);

        let site = (within("node writes"), span!("node writes", forest.store));
        let mut contents = Contents::default();
        for f in &frozen {
            let root = self.write_tree(core, f, generation)?;
            if f.dropped {
                self.reclaim.add(core, f, root, generation);
                continue;
            }
            contents.trees.push(CatalogEntry {
                name: f.name.to_string(),
                id: f.tree.id,
                large: f.large,
                root,
                origin: f.origin,
            });
        }
        contents.doomed = self.reclaim.left();
        let mut used = std::mem::take(&mut journal.used);
        let mut freed = std::mem::take(&mut journal.freed);
        self.free_catalog(&mut freed);
        let extents = std::mem::take(&mut journal.freed_extents);
        let mut sorted = Self::sort(core, (generation, cut.csn), freed, extents, &part);
        self.write_lists(core, generation, &mut sorted, part, &mut used)?;
        let shelf = core.shelf.lock();
        contents.held = shelf.all.iter().map(|s| s.held.clone()).collect();
        drop(shelf);
        let (catalog_root, level) = self.write_catalog(core, &contents, generation, &mut used)?;
        self.drain(core)?;
        while core.evicting.in_flight.count(generation) > 0 {
            if core.progress().stopped().is_some() {
                return Err(core.stopped_error());
            }
            thread::sleep(Duration::from_micros(50));
        }
        pin.iter().for_each(|pin| pin.set_written());

        drop(site);
        let mut freed = std::mem::take(&mut sorted.free);
        freed.extend(sorted.extents.iter().map(|(_, f)| f.run));
        let map = forest
            .pool
            .allocator()
            .freeze_and_grow(generation, Changes { used, freed }, plan.to)
            .wait()?;
        let head = core.log().cut_head(&cut)?;
        let flush = || core.log().flush_beside(forest.device.as_ref());
        if !fault!(NoFlushBeforeSuperblock) {
            let _site = within("before the superblocks");
            flush()?;
        }

        let mut sb = self.superblock;
        sb.generation = generation.0;
        sb.cut = cut.csn + u64::from(fault!(CutOffByOne));
        sb.next_tree = next_tree;
        sb.set_catalog(catalog_root, level);
        sb.incompat = if contents.is_plain() { 0 } else { FEATURE_HELD };
        map.put(&mut sb);
        if let Some(to) = plan.to {
            sb.capacity = to.capacity;
        }
        sb.log_head = head.position;
        sb.log_chain = head.chain;
        sb.log_durable = core.log().durable_position();
        sb.flags = (sb.flags & !FLAG_CLEAN) | flags;
        let released =
            fault!(ReleasedBeforeSuperblock).then(|| release(core, generation, &mut sorted));
        if fault!(LogTruncatedBeforeSuperblock) {
            core.log().truncate(head);
        }
        let places = forest.geometry.now();
        write_pair(forest.device.as_ref(), &places, &sb, 0, &flush)?;
        // Before the release: after it pointers may lead to what is new.
        forest.geometry.grown(sb.capacity);
        self.superblock = sb;
        durable.superblock = sb;
        #[cfg(faults)]
        self.write_late(core)?;

        let _site = within("release");
        let keep = released.unwrap_or_else(|| release(core, generation, &mut sorted));
        drop(durable);
        forest.pin(keep);
        forest.keep_for_views(sorted.viewed);
        core.log().truncate(head);
        // Now, since there is space again: before others take it. If there is none,
        // the next checkpoint tries again.
        let _ = self.reserve_catalog(core);
        // Who waits for the end finds it counted.
        let c = &core.checkpointing;
        c.checkpoints.fetch_add(1, Ordering::Relaxed);
        let lasted = begun.elapsed();
        c.nanos
            .fetch_add(lasted.as_nanos() as u64, Ordering::Relaxed);
        core.progress().end();
        core.throttle.end(core);
        forest.events.tell(Event::Checkpoint {
            generation,
            csn: cut.csn,
            nodes: c.nodes.load(Ordering::Relaxed) - nodes,
            took: lasted,
            frozen: Duration::from_nanos(took),
        });
        Ok(())
    }

    fn spare_blocks(&self) -> u64 {
        self.spare.iter().map(|r| u64::from(r.len)).sum()
    }

    /// Has enough blocks for the tree of trees, and some for trees to come.
    fn reserve_catalog(&mut self, core: &Core) -> Result<()> {
        let hint = self.superblock.catalog_addr;
        reserve_catalog(core, &mut self.spare, hint, self.reclaim.len())
    }

    /// Writes the dirty nodes of a frozen tree and returns its root, complete.
    fn write_tree(&mut self, core: &Core, f: &Frozen, generation: Generation) -> Result<BlockPtr> {
        if f.root.ptr.is_null() || f.root.ptr.checksum != 0 {
            return Ok(f.root.ptr);
        }
        let mut rows: Vec<Vec<Dirty>> = Vec::new();
        collect(core, f.root, Above::Root, generation, &mut rows);
        let mut root = f.root.ptr;
        for mut row in rows {
            row.sort_by_key(|d| d.addr);
            // Nodes that lie side by side go in one request.
            let mut from = 0;
            while from < row.len() {
                let mut to = from + 1;
                while to < row.len() && to - from < CLUSTER && row[to].addr == row[to - 1].addr + 1
                {
                    to += 1;
                }
                self.write_cluster(core, f, &row[from..to], &mut root)?;
                from = to;
            }
        }
        Ok(root)
    }

    fn write_cluster(
        &mut self,
        core: &Core,
        f: &Frozen,
        nodes: &[Dirty],
        root: &mut BlockPtr,
    ) -> Result<()> {
        let size = core.forest.geometry.block_size as usize;
        let mut buf = IoBuf::zeroed(nodes.len() * size);
        for (node, image) in nodes.iter().zip(buf.chunks_exact_mut(size)) {
            let checksum = copy_out(core, f, node, image);
            if matches!(node.parent, Above::Root) {
                root.checksum = checksum;
            }
        }
        core.checkpointing
            .nodes
            .fetch_add(nodes.len() as u64, Ordering::Relaxed);
        let frames: Vec<FrameId> = nodes.iter().map(|n| n.frame).collect();
        self.write(core, nodes[0].addr, buf, frames)
    }

    /// Submits a write, and waits while too many are in flight. When it is done the
    /// frames are clean.
    pub(super) fn write(
        &mut self,
        core: &Core,
        addr: BlockNo,
        buf: IoBuf,
        frames: Vec<FrameId>,
    ) -> Result<()> {
        core.checkpointing.requests.fetch_add(1, Ordering::Relaxed);
        core.checkpointing
            .bytes
            .fetch_add(buf.len() as u64, Ordering::Relaxed);
        let offset = core.forest.geometry.byte(addr);
        self.next_token += 1;
        let token = self.next_token;
        self.writing.insert(token, frames);
        let op = IoOp::Write {
            offset,
            buf,
            durable: false,
        };
        #[cfg(faults)]
        if fault!(SuperblockBeforeNodes) {
            self.late.push(Request { token, op });
            return Ok(());
        }
        self.queue.submit(&mut vec![Request { token, op }])?;
        while self.queue.in_flight() >= DEPTH {
            self.complete(core)?;
        }
        Ok(())
    }

    /// Takes at least one completion.
    fn complete(&mut self, core: &Core) -> Result<()> {
        let mut done: Vec<Completion> = Vec::new();
        self.queue.wait(1, None, &mut done)?;
        for c in done {
            if !fault!(FailedNodeWriteIgnored) {
                c.result?;
            }
            for frame in self.writing.remove(&c.token).into_iter().flatten() {
                core.forest.cache.end_write(frame);
            }
        }
        Ok(())
    }

    /// Writes what a fault held back.
    #[cfg(faults)]
    fn write_late(&mut self, core: &Core) -> Result<()> {
        for request in std::mem::take(&mut self.late) {
            self.queue.submit(&mut vec![request])?;
            self.drain(core)?;
        }
        Ok(())
    }

    fn drain(&mut self, core: &Core) -> Result<()> {
        while self.queue.in_flight() > 0 {
            self.complete(core)?;
        }
        Ok(())
    }

    /// The old tree of trees goes out of use.
    fn free_catalog(&mut self, freed: &mut Vec<Freed>) {
        let birth = self.superblock.generation();
        let old = std::mem::take(&mut self.catalog);
        if !fault!(TreeOfTreesNotFreed) {
            let node = |run| Freed {
                run,
                birth,
                piece: false,
                last: None,
            };
            freed.extend(old.into_iter().map(node));
        }
    }

    /// Takes the snapshots that are asked for. The gate is closed.
    fn freeze_shelf(&self, core: &Core, frozen: &[Frozen], generation: Generation, csn: Csn) {
        let origins = frozen.iter().filter(|f| !f.dropped).map(|f| f.origin);
        let origins: BTreeSet<Generation> = origins.filter(|o| o.0 != 0).collect();
        let origins: Vec<Generation> = origins.into_iter().collect();
        let mut shelf = core.shelf.lock();
        for saved in &mut shelf.all {
            // It was in this very tree of trees, which is named by its place from now on.
            if saved.held.catalog.is_null() {
                let sb = &self.superblock;
                (saved.held.catalog, saved.held.level) = (sb.catalog(), sb.catalog_level);
            }
        }
        shelf.freeze(generation, csn, &origins, unix_seconds());
    }

    /// Writes the tree of trees anew and returns its root and level.
    fn write_catalog(
        &mut self,
        core: &Core,
        contents: &Contents,
        generation: Generation,
        used: &mut Vec<Run>,
    ) -> Result<(BlockPtr, u32)> {
        let forest = &core.forest;
        let spare = std::mem::take(&mut self.spare);
        let mut blocks = spare.iter().flat_map(|r| r.start..r.end());
        let built = catalog::build(
            &contents.items(),
            forest.geometry.block_size,
            forest.store,
            generation,
            || {
                blocks
                    .next()
                    .expect("enough blocks were reserved for the tree of trees")
            },
        );
        self.spare = blocks.map(Run::single).collect();
        for (addr, image) in built.images {
            self.catalog.push(Run::single(addr));
            used.push(Run::single(addr));
            self.write(core, addr, image, Vec::new())?;
        }
        Ok((built.root, built.level))
    }
}

/// Releases what a generation freed, now that its superblock is durable, except what a
/// view may still look at. Returns the extents that are kept.
fn release(core: &Core, generation: Generation, sorted: &mut Sorted) -> Vec<(Csn, Freed)> {
    let forest = &core.forest;
    let readers = forest.readers();
    let keep: Vec<(Csn, Freed)> = std::mem::take(&mut sorted.extents)
        .into_iter()
        .filter(|(csn, f)| readers.need_extent(*csn, f.birth))
        .filter(|_| !fault!(ExtentFreedWhileViewed))
        .collect();
    let extents = keep.iter().map(|(_, f)| f.run);
    let runs = extents.chain(sorted.viewed.iter().map(|f| f.run)).collect();
    forest.pool.allocator().release(generation, runs);
    keep
}

/// The dirty nodes below and with `child`, by level, leaves first. Only pointers
/// without checksum lead to dirty nodes, and their hints are true.
fn collect(
    core: &Core,
    child: Child,
    parent: Above,
    generation: Generation,
    rows: &mut Vec<Vec<Dirty>>,
) {
    let frame = child.hint - 1;
    let cache = &core.forest.cache;
    assert!(
        cache.frame(frame).holds(child.ptr) && cache.frame(frame).state() == State::Dirty,
        "a pointer without checksum leads to a dirty node"
    );
    debug_assert_eq!(child.ptr.birth, generation);
    let page = cache.page(frame);
    let level = usize::from(page.level());
    if rows.len() <= level {
        rows.resize_with(level + 1, Vec::new);
    }
    rows[level].push(Dirty {
        frame,
        addr: child.ptr.addr,
        parent,
    });
    if level > 0 {
        for slot in 0..page.slots() {
            let below = page.child(slot);
            if below.ptr.checksum == 0 {
                collect(core, below, Above::Node(frame, slot), generation, rows);
            }
        }
    }
}

/// Copies a frozen node to its image and tells its parents the checksum.
fn copy_out(core: &Core, f: &Frozen, node: &Dirty, image: &mut [u8]) -> u64 {
    let cache = &core.forest.cache;
    let (checksum, superseded) = loop {
        // The parent first; with an inner latch held the node is only tried.
        let parent_guard = match node.parent {
            Above::Node(parent, _) => Some(cache.frame(parent).latch.lock()),
            Above::Root => f.pinned.as_ref().map(|tree| tree.anchor.latch.lock()),
        };
        let Some(guard) = cache.frame(node.frame).latch.try_lock() else {
            parent_guard.into_iter().for_each(|g| g.release_unchanged());
            thread::yield_now();
            continue;
        };
        let page = cache.page(node.frame);
        let checksum = store_image(page, image);
        match (node.parent, &f.pinned) {
            (Above::Node(parent, slot), _) => {
                let parent = cache.page(parent);
                let ptr = BlockPtr {
                    checksum,
                    ..parent.child(slot).ptr
                };
                parent.set_ptr(slot, ptr);
            }
            (Above::Root, Some(tree)) => {
                let root = tree.anchor.child();
                let ptr = BlockPtr {
                    checksum,
                    ..root.ptr
                };
                tree.anchor.set(Child { ptr, ..root });
            }
            (Above::Root, None) => {}
        }
        let superseded = cache.frame(node.frame).superseded();
        cache.begin_write(node.frame);
        drop(guard);
        drop(parent_guard);
        break (checksum, superseded);
    };
    if !superseded {
        tell_running(core, &f.tree, node, checksum);
    }
    checksum
}

/// Gives the checksum to the running generation's parent of the node, if the node
/// is in the running tree still, or in what was cut out of it, and its parent there is not
/// the frozen one.
fn tell_running(core: &Core, tree: &TreeState, node: &Dirty, checksum: u64) {
    // In this order: what is cut out of the tree is made known before.
    if !tell(core, tree, node, checksum) {
        let mut parts = tree.cuts.all().into_iter();
        parts.any(|part| tell(core, &part.tree, node, checksum));
    }
}

/// Whether the node was found in this tree.
fn tell(core: &Core, tree: &TreeState, node: &Dirty, checksum: u64) -> bool {
    let forest = &core.forest;
    let cache = &forest.cache;
    let page = cache.page(node.frame);
    let (level, lower) = (page.level(), page.lower());
    loop {
        // The parent of a node without checksum is dirty, and so is all above it:
        // if the way down leaves memory, the node is not at its end.
        let Found::Node(at) = forest.descend(tree, Toward::Key(&lower), level, None) else {
            return false;
        };
        if at.ptr.addr != node.addr || at.level != level {
            return false;
        }
        if at.ptr.checksum == checksum {
            return true;
        }
        let Some(guard) = forest
            .parent_latch(tree, at.parent)
            .try_upgrade(at.parent.version)
        else {
            continue;
        };
        let child = forest.parent_child(tree, at.parent);
        let ptr = BlockPtr {
            checksum,
            ..child.ptr
        };
        forest.set_parent_child(tree, at.parent, Child { ptr, ..child });
        drop(guard);
        return true;
    }
}

#[cfg(test)]
mod tests;
