//! Freeing what dropped trees and deleted ranges had, bit by bit, between checkpoints.
//!
//! By the checkpointer's own thread, so the journal of frees and the paths that go into
//! the tree of trees are of one moment. Each node is freed behind what lies below it
//! (`doomed`): what is left stays whole, and a crash loses only the way since the last
//! checkpoint, whose frees are lost with it. Leaves that can have no large values are
//! freed without being read.
//!
//! Nothing of a tree is freed while a view is open that does not see its drop, nor
//! before the checkpoint behind the drop has written the last of its nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::time::{Duration, Instant, now};
use gaur_iodriver::sync::within;

use super::checkpoint::Frozen;
use super::doomed::Doomed;
use crate::core::Core;
use crate::error::{Damage, Error, Result};
use crate::format::node::KIND_EXTENT;
use crate::format::{BlockPtr, Generation, Run};
use crate::node::{NodeBuf, Page, load_image};
use crate::tree::TreeState;
use crate::worker::{Freed, Worker};

/// Nodes read in one go: about as long as somebody who wants a checkpoint waits for it.
const STEP: usize = 64;
/// Blocks after whose freeing a checkpoint is worth it.
const ENOUGH: u64 = 8192;
/// Between two looks whether the last view has ended that sees a dropped tree.
const LOOK: Duration = Duration::from_millis(10);
/// After a read that failed, until it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What it counts.
#[derive(Debug, Default)]
pub(crate) struct ReclaimCounters {
    /// Dropped trees of which something is left.
    pub(crate) trees: AtomicU64,
    pub(crate) blocks: AtomicU64,
}

impl ReclaimCounters {
    /// Trees were dropped, or met when the store was opened.
    pub(crate) fn begin(&self, trees: usize) {
        self.trees.fetch_add(trees as u64, Ordering::Relaxed);
    }

    fn end(&self, trees: usize) {
        self.trees.fetch_sub(trees as u64, Ordering::Relaxed);
    }
}

/// A dropped tree on its way out.
#[derive(Debug)]
struct Job {
    doomed: Doomed,
    /// The nodes of the path, as far as they were read: the last ones are missing.
    nodes: Vec<NodeBuf>,
    /// For who has a handle still.
    tree: Option<Arc<TreeState>>,
    rest: Rest,
}

/// Whether a job can go on.
#[derive(Clone, Copy, Debug)]
enum Rest {
    No,
    Until(Instant),
    /// A node of it is damaged: nobody knows what lies below.
    ForGood,
}

/// All dropped trees of which something is left.
#[derive(Debug)]
pub(super) struct Reclaim {
    jobs: Vec<Job>,
    next: u64,
    /// Blocks freed since the last checkpoint began.
    freed: u64,
}

impl Reclaim {
    /// Goes on with what the tree of trees says.
    pub(super) fn new(doomed: Vec<Doomed>) -> Self {
        Self {
            next: doomed.iter().map(|d| d.number + 1).max().unwrap_or(0),
            jobs: doomed.into_iter().map(|d| Job::new(d, None)).collect(),
            freed: 0,
        }
    }

    /// How many trees there are of which something is left.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Blocks freed since the last checkpoint began.
    pub(super) fn freed(&self) -> u64 {
        self.freed
    }

    /// Takes on a tree that was dropped in `generation`, all of whose nodes are on the
    /// device below `root`.
    pub(super) fn add(
        &mut self,
        core: &Core,
        frozen: &Frozen,
        root: BlockPtr,
        generation: Generation,
    ) {
        let tree = &frozen.tree;
        // What a snapshot has is not freed with the tree.
        if root.is_null() || !tree.owns(root.birth) {
            core.shelf.lock().leave(tree.origin);
            return core.reclaiming.end(1);
        }
        let doomed = Doomed {
            number: self.next,
            id: tree.id,
            large: frozen.large,
            // The one that drops it has it no more.
            last: Generation(generation.0 - 1),
            origin: tree.origin,
            path: vec![(root, 0)],
        };
        self.next += 1;
        self.jobs.push(Job::new(doomed, Some(tree.clone())));
    }

    /// What is left, for the tree of trees. Its frees up to now go with it.
    pub(super) fn left(&mut self) -> Vec<Doomed> {
        self.freed = 0;
        self.jobs.iter().map(|j| j.doomed.clone()).collect()
    }

    /// How long nothing is to be done.
    pub(super) fn pause(&self, core: &Core) -> Duration {
        let of = |job: &Job| match job.rest {
            Rest::No if job.is_free(core) => Duration::ZERO,
            Rest::No => LOOK,
            Rest::Until(at) => at.saturating_duration_since(now()),
            Rest::ForGood => Duration::MAX,
        };
        self.jobs.iter().map(of).min().unwrap_or(Duration::MAX)
    }

    /// Frees something. Whether a checkpoint is worth it now.
    pub(super) fn step(&mut self, core: &Core) -> bool {
        let ready = |job: &&mut Job| match job.rest {
            Rest::No => job.is_free(core),
            Rest::Until(at) => at <= now(),
            Rest::ForGood => false,
        };
        let Some(job) = self.jobs.iter_mut().find(ready) else {
            return false;
        };
        let Ok(worker) = core.forest.workers.mine() else {
            return false;
        };
        let _site = within("reclaim");
        let before = self.freed;
        job.rest = Rest::No;
        match job.free_some(core, &worker, &mut self.freed) {
            Ok(()) => {}
            Err(Error::Damaged(damage)) => {
                core.forest.mend.note(format!(
                    "what is left of dropped tree {} cannot be freed: {damage}",
                    job.doomed.id
                ));
                job.rest = Rest::ForGood;
            }
            Err(_) => job.rest = Rest::Until(now() + AGAIN),
        }
        let counters = &core.reclaiming;
        counters
            .blocks
            .fetch_add(self.freed - before, Ordering::Relaxed);
        let all = self.jobs.len();
        self.jobs.retain(|j| {
            let over = j.doomed.path.is_empty();
            if over {
                core.shelf.lock().leave(j.doomed.origin);
            }
            !over
        });
        counters.end(all - self.jobs.len());
        let more = self.jobs.iter_mut().any(|job| ready(&job));
        self.freed >= ENOUGH || self.jobs.len() < all && !more
    }
}

impl Job {
    fn new(doomed: Doomed, tree: Option<Arc<TreeState>>) -> Self {
        Self {
            doomed,
            nodes: Vec::new(),
            tree,
            rest: Rest::No,
        }
    }

    /// Whether nobody sees the tree any more.
    fn is_free(&self, core: &Core) -> bool {
        let Some(dropped) = self.tree.as_ref().map(|tree| tree.dropped()) else {
            return true;
        };
        // Nor waits to read a large value of it.
        !core.forest.readers().need_tree(dropped)
    }

    fn free_some(&mut self, core: &Core, worker: &Worker, freed: &mut u64) -> Result<()> {
        if let Some(tree) = self.tree.take() {
            // Whoever comes late finds no node, and then that the tree was dropped.
            let guard = tree.anchor.latch.lock();
            tree.anchor.set(Default::default());
            drop(guard);
            if let Some(from) = tree.cut_from() {
                from.cuts.remove(&tree);
            }
        }
        for _ in 0..STEP {
            let Some(&(ptr, next)) = self.doomed.path.last() else {
                return Ok(());
            };
            while let Some(&(ptr, _)) = self.doomed.path.get(self.nodes.len()) {
                let above = self.nodes.last().map(|n| n.page().level());
                let node = read(core, &self.doomed, ptr, above)?;
                self.nodes.push(node);
            }
            let (origin, last) = (self.doomed.origin, Some(self.doomed.last));
            let path = &mut self.doomed.path;
            let page = self.nodes.last().expect("just read").page();
            let mut free = |f: Freed| {
                if f.birth > origin {
                    *freed += u64::from(f.run.len);
                    worker.freed(Freed { last, ..f });
                }
            };
            let next = next as usize;
            match page.level() {
                0 => pieces(page, core.forest.geometry.block_size).for_each(&mut free),
                1 if !self.doomed.large => {
                    (next..page.slots()).for_each(|i| free(Freed::node(page.child(i).ptr)));
                }
                _ if next < page.slots() => {
                    let child = page.child(next).ptr;
                    path.last_mut().expect("there is one").1 += 1;
                    // Nothing is younger than the node above it.
                    if child.birth > origin {
                        path.push((child, 0));
                    }
                    continue;
                }
                _ => {}
            }
            free(Freed::node(ptr));
            path.pop();
            self.nodes.pop();
        }
        Ok(())
    }
}

/// The pieces of the large values in a leaf.
fn pieces(page: Page<'_>, block_size: u32) -> impl Iterator<Item = Freed> + '_ {
    let large = (0..page.slots()).filter(move |&i| page.entry(i).kind == KIND_EXTENT);
    large.flat_map(move |i| {
        let mut stored = Vec::new();
        page.copy_value(i, &mut stored);
        let pieces: Vec<Freed> = crate::commit::extents(&stored)
            .map(|e| Freed::piece(&e, block_size))
            .collect();
        pieces
    })
}

/// Reads a node whose parent is of the level `above`, and looks at all that it names
/// before any of it is freed.
fn read(core: &Core, of: &Doomed, ptr: BlockPtr, above: Option<u8>) -> Result<NodeBuf> {
    let forest = &core.forest;
    let geometry = forest.geometry.now();
    let bad = |what: &str| Error::from(Damage::new("node", ptr.addr, what).in_tree(of.id));
    if ptr.len != 1 || ptr.flags != 0 || !geometry.is_data(ptr.run()) {
        return Err(bad("its pointer points outside the data area"));
    }
    let level = match above {
        Some(above) => Some(above.checked_sub(1).ok_or_else(|| bad("below a leaf"))?),
        None => None,
    };
    let node = NodeBuf::new(geometry.block_size as usize / 8);
    let page = node.page();
    forest.with_block(ptr.addr, |bytes| {
        load_image(bytes, ptr, forest.store, Some(of.id), level, page)
    })??;
    let outside = |run: Run| !geometry.is_data(run);
    let children = (0..page.slots()).filter(|_| page.level() > 0);
    if children.map(|i| page.child(i).ptr.run()).any(outside)
        || page.level() == 0 && pieces(page, geometry.block_size).any(|f| outside(f.run))
    {
        return Err(bad("names what lies outside the data area"));
    }
    Ok(node)
}
