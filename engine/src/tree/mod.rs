//! The tree: a copy-on-write B-tree with many concurrent writers.
//!
//! Invariants (`docs/concurrency.md` argues them):
//!
//! 1. *Above a writable node all is writable.* A node is writable if its frame is
//!    DIRTY and born in the running generation. So a descent meets the nodes to
//!    copy in one stretch, and a writer whose leaf is writable latches only that.
//! 2. *A pointer without checksum names a DIRTY frame through its hint.* Such a
//!    frame is not evicted, so the node cannot be lost.
//! 3. *Whoever holds a latch only tries for more.* Nobody waits for a latch of the
//!    tree while holding another.
//! 4. *A change moves the version on* of every frame whose node changed or was
//!    superseded, so no reader returns what it read beside a change.

mod aside;
mod cow;
mod descend;
mod load;
mod merge;
mod prefetch;
mod size;
pub(crate) mod split;
mod warm;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::Device;

use crate::cache::{Cache, FrameId, Latch, Version};
use crate::events::Hub;
use crate::feed::open::Feeds;
use crate::format::superblock::Superblock;
use crate::format::{Generation, Geometry, TreeId};
use crate::growth::Growth;
use crate::node::Child;
use crate::places::Places;
use crate::pool::Pool;
use crate::progress::Progress;
use crate::shortage::Shortage;
use crate::worker::Workers;
use crate::writeback::mend::Mend;

pub(crate) use descend::Found;
pub(crate) use descend::Toward;
pub(crate) use load::Carry;
pub(crate) use merge::underfull;
pub use size::RangeSize;
pub(crate) use warm::GROUP;
pub(crate) use write::{Leaf, Op};

/// Everything that trees share: the cache above, the allocator and device below.
#[derive(Debug)]
pub(crate) struct Forest {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) geometry: Places,
    /// Low 64 bits of the store's identity, as nodes carry it.
    pub(crate) store: u64,
    pub(crate) cache: Cache,
    pub(crate) pool: Pool,
    pub(crate) workers: Arc<Workers>,
    pub(crate) progress: Progress,
    pub(crate) shortage: Shortage,
    /// The durable generation, from which a damaged map is rebuilt.
    pub(crate) mend: Mend,
    /// How the store grows while it is open.
    pub(crate) growth: Growth,
    pub(crate) events: Hub,
    pub(crate) feeds: Feeds,
    running: AtomicU64,
}

impl Forest {
    pub(crate) fn new(
        device: Arc<dyn Device>,
        geometry: Geometry,
        sb: &Superblock,
        cache: Cache,
        pool: Pool,
        mend: Mend,
    ) -> Self {
        Self {
            device,
            geometry: Places::new(geometry),
            store: sb.store_id as u64,
            cache,
            pool,
            workers: Workers::new(),
            progress: Progress::new(),
            shortage: Shortage::default(),
            mend,
            growth: Growth::default(),
            events: Hub::new(sb.store_id as u64),
            feeds: Feeds::default(),
            running: AtomicU64::new(Generation::first(sb.incarnation).0),
        }
    }

    /// The running generation. It changes only while the gate is closed.
    pub(crate) fn running(&self) -> Generation {
        Generation(self.running.load(Ordering::Acquire))
    }

    /// Begins the next generation. The gate is closed.
    pub(crate) fn advance(&self) {
        self.running
            .store(self.running().next().0, Ordering::Release);
    }
}

/// One tree: its identity and the place of its root.
#[derive(Debug)]
pub(crate) struct TreeState {
    pub(crate) id: TreeId,
    pub(crate) name: String,
    pub(crate) anchor: Anchor,
}

/// Where the root is: the parent of the root node, latched like a node.
#[derive(Debug, Default)]
pub(crate) struct Anchor {
    pub(crate) latch: Latch,
    words: [AtomicU64; 4],
}

impl Anchor {
    pub(crate) fn new(root: Child) -> Self {
        let anchor = Self::default();
        anchor.set(root);
        anchor
    }

    /// The root's pointer and hint. A null pointer: the tree is empty.
    pub(crate) fn child(&self) -> Child {
        let w = |i: usize| self.words[i].load(Ordering::Relaxed);
        Child {
            ptr: crate::format::BlockPtr::from_words([w(0), w(1), w(2)]),
            hint: w(3) as u32,
        }
    }

    pub(crate) fn set(&self, child: Child) {
        let p = child.ptr.to_words();
        for (word, value) in self
            .words
            .iter()
            .zip([p[0], p[1], p[2], u64::from(child.hint)])
        {
            word.store(value, Ordering::Relaxed);
        }
    }
}

/// What points to a node: the anchor, or a slot of another node, seen at a
/// version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent {
    /// `None`: the anchor.
    pub(crate) frame: Option<FrameId>,
    pub(crate) version: Version,
    pub(crate) slot: usize,
}

impl Forest {
    pub(crate) fn parent_latch<'a>(&'a self, tree: &'a TreeState, parent: Parent) -> &'a Latch {
        match parent.frame {
            None => &tree.anchor.latch,
            Some(f) => &self.cache.frame(f).latch,
        }
    }

    /// The child that `parent` names; the caller holds its latch or validates.
    pub(crate) fn parent_child(&self, tree: &TreeState, parent: Parent) -> Child {
        match parent.frame {
            None => tree.anchor.child(),
            Some(f) => self.cache.page(f).child(parent.slot),
        }
    }

    /// Sets the child that `parent` names; the caller holds its latch.
    pub(crate) fn set_parent_child(&self, tree: &TreeState, parent: Parent, child: Child) {
        match parent.frame {
            None => tree.anchor.set(child),
            Some(f) => self.cache.page(f).set_child(parent.slot, child),
        }
    }
}
