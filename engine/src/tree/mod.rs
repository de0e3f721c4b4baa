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
pub(crate) mod detached;
mod load;
mod merge;
mod prefetch;
mod size;
pub(crate) mod split;
mod warm;
mod write;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use gaur_iodriver::Device;
use gaur_iodriver::sync::ShortMutex;

use crate::cache::{Cache, FrameId, Latch, Version};
use crate::commit::pin::Pins;
use crate::error::{Error, Result};
use crate::events::Hub;
use crate::feed::open::Feeds;
use crate::format::superblock::Superblock;
use crate::format::{Csn, Generation, Geometry, TreeId};
use crate::growth::Growth;
use crate::node::{Bounds, Child};
use crate::places::Places;
use crate::pool::Pool;
use crate::progress::Progress;
use crate::saved::Users;
use crate::shortage::Shortage;
use crate::worker::Workers;
use crate::writeback::mend::Mend;

pub(crate) use descend::Found;
pub(crate) use descend::Toward;
use detached::Cuts;
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
    /// The frozen generations that views read.
    pub(crate) pins: Pins,
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
            pins: Pins::default(),
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
    /// Changed under the lock of all trees.
    name: ShortMutex<Arc<str>>,
    pub(crate) anchor: Anchor,
    /// Nodes and large values born up to this generation are a snapshot's: they may say
    /// another tree's number, and are not this tree's to free. 0: there are none.
    pub(crate) origin: Generation,
    /// It may have large values. Once set, it stays.
    large: AtomicBool,
    /// It is a snapshot's, which this keeps there.
    snapshot: Option<Arc<Users>>,
    /// The commit that dropped it; 0: none.
    dropped: AtomicU64,
    /// What range deletes took out of it.
    pub(crate) cuts: Cuts,
    /// The tree that it was taken out of, if it was.
    cut_from: Weak<TreeState>,
}

impl TreeState {
    /// A tree with this root; `large`: it may have large values.
    pub(crate) fn new(id: TreeId, name: &str, root: Child, large: bool) -> Self {
        Self {
            id,
            name: ShortMutex::new(name.into()),
            anchor: Anchor::new(root),
            origin: Generation::default(),
            large: AtomicBool::new(large),
            snapshot: None,
            dropped: AtomicU64::new(0),
            cuts: Cuts::default(),
            cut_from: Weak::new(),
        }
    }

    /// The same, with the nodes of a snapshot of that generation below the root.
    pub(crate) fn begun_as(self, origin: Generation) -> Self {
        Self { origin, ..self }
    }

    /// The same, never to be changed.
    pub(crate) fn frozen(self, users: Arc<Users>) -> Self {
        Self {
            snapshot: Some(users),
            ..self
        }
    }

    /// The tree that it was taken out of by a range delete.
    pub(crate) fn cut_from(&self) -> Option<Arc<Self>> {
        self.cut_from.upgrade()
    }

    /// An error if it is a snapshot's.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.snapshot {
            None => Ok(()),
            Some(_) => Err(Error::FrozenTree(self.name().to_string())),
        }
    }

    /// The tree whose number a node that was born then must say; `None`: any.
    pub(crate) fn expects(&self, birth: Generation) -> Option<TreeId> {
        self.owns(birth).then_some(self.id)
    }

    /// Whether what was born then is the tree's own, to be freed by it.
    pub(crate) fn owns(&self, birth: Generation) -> bool {
        birth > self.origin
    }

    /// What a range delete takes out of a tree: the nodes below `root`, within these bounds.
    pub(crate) fn part(from: &Arc<Self>, root: Child, bounds: Bounds) -> Self {
        let whole = Self::new(from.id, &from.name(), root, from.may_have_large());
        let mut part = whole.begun_as(from.origin);
        part.anchor.bounds = Some(bounds);
        part.cut_from = Arc::downgrade(from);
        part
    }

    /// A tree that was built beside the log and appears with commit `since`.
    pub(crate) fn loaded(id: TreeId, name: &str, root: Child, since: Csn) -> Self {
        Self {
            anchor: Anchor::loaded(root, since),
            ..Self::new(id, name, root, true)
        }
    }

    /// A tree without records.
    pub(crate) fn empty(id: TreeId, name: &str) -> Self {
        Self::new(id, name, Child::default(), false)
    }

    /// Its name now.
    pub(crate) fn name(&self) -> Arc<str> {
        self.name.lock().clone()
    }

    pub(crate) fn rename(&self, name: &str) {
        *self.name.lock() = name.into();
    }

    pub(crate) fn may_have_large(&self) -> bool {
        self.large.load(Ordering::Relaxed)
    }

    /// Notes that it gets a large value. Called inside the gate, before the freeze that
    /// takes the value in.
    pub(crate) fn has_large(&self) {
        if !self.may_have_large() {
            self.large.store(true, Ordering::Relaxed);
        }
    }

    /// The tree as it is now, never to be changed: the generation is being frozen.
    pub(crate) fn as_frozen(&self, generation: Generation, root: Child) -> Self {
        Self::new(self.id, &self.name(), root, self.may_have_large()).begun_as(generation)
    }

    /// Whether it is a snapshot's, and never changes.
    pub(crate) fn is_frozen(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Whether a commit up to `csn` dropped it.
    pub(crate) fn was_dropped(&self, csn: Csn) -> bool {
        (1..=csn).contains(&self.dropped())
    }

    /// The commit that dropped it, or took it out of another; 0: none.
    pub(crate) fn dropped(&self) -> Csn {
        self.dropped.load(Ordering::Acquire)
    }

    /// Notes the commit that drops it. The gate is closed.
    pub(crate) fn set_dropped(&self, csn: Csn) {
        self.dropped.store(csn, Ordering::Release);
    }

    /// An error if the tree was dropped by a commit that `view` sees. Writers ask inside
    /// the gate; readers when they have read, for what they read may be gone.
    pub(crate) fn check(&self, view: Csn) -> Result<()> {
        match self.dropped() {
            0 => Ok(()),
            dropped if dropped > view => Ok(()),
            _ => Err(Error::TreeDropped(self.name().to_string())),
        }
    }
}

/// Where the root is: the parent of the root node, latched like a node.
#[derive(Debug, Default)]
pub(crate) struct Anchor {
    pub(crate) latch: Latch,
    words: [AtomicU64; 4],
    /// The commit that loaded the tree with records in it; 0: none did.
    since: Csn,
    /// The root's fences, if they are not those of a whole tree.
    bounds: Option<Bounds>,
}

impl Anchor {
    pub(crate) fn new(root: Child) -> Self {
        let anchor = Self::default();
        anchor.set(root);
        anchor
    }

    /// That of a tree that a commit loaded.
    pub(crate) fn loaded(root: Child, since: Csn) -> Self {
        Self {
            since,
            ..Self::new(root)
        }
    }

    /// Refuses to read at a view from before the tree was loaded: its records left no
    /// images of what was not there.
    pub(crate) fn check_since(&self, view: Csn) -> Result<()> {
        match view < self.since {
            true => Err(Error::ViewTooOld { csn: view }),
            false => Ok(()),
        }
    }

    /// The root's fences.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds.clone().unwrap_or_else(Bounds::whole)
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
