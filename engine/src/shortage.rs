//! When space is short: what is tried before the store is said to be full.
//!
//! The allocator answers at once from what is free. If that is refused, the
//! operation gives back what it had in its stash and takes the *lane*: one
//! operation at a time may be short of space, until it ends. In the lane it
//!
//! 1. recalls the stashes of all workers, and the extents that no view needs any
//!    more (the allocator itself takes back its channel and waits for discards);
//! 2. waits for the checkpoint under way, whose generation freed blocks;
//! 3. asks for a checkpoint, if the running generation freed enough;
//! 4. has the store grow, if it may (`growth.rs`);
//! 5. takes what is kept for change feeds, and then for views of frozen generations,
//!    the oldest first;
//! 6. only then is refused.
//!
//! What frees space may in the lane draw on the reserve. Since there is one
//! operation in the lane, the reserve serves one at a time, and each checkpoint that
//! begins meanwhile fills it up again: no delete adds to what the trees use.
//!
//! **Why nobody waits in a circle.** Who waits for the lane holds no latch, no place
//! in the gate and no recallable block; at most extents of its own commit, which are
//! in use like any other. Who is in the lane waits for the allocator, the
//! checkpointer, frames, the log and reads; none of these takes the lane or waits
//! for anybody's blocks.

use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::time::Duration;
use gaur_iodriver::sync::{Mutex, MutexGuard, ShortMutex};

use crate::alloc::{SpaceError, Urgency};
use crate::commit::pin::Pin;
use crate::error::{Error, Result};
use crate::format::{Csn, Generation};
use crate::pool::Pool;
use crate::stats::Wait;
use crate::tree::Forest;
use crate::worker::{Freed, Worker};

/// Checkpoints that one operation waits for. Two suffice: after one that began in
/// the lane the whole reserve is there; the others are for checkpoints that begin
/// by themselves while it works, and make it copy its leaves again.
const ROUNDS: u32 = 4;
/// How long to wait at a time for a checkpoint that brings space back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where operations meet that are short of space.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    lane: Mutex<()>,
    /// Freed extents that views may still look at, with the commit that freed them.
    pinned: ShortMutex<Vec<(Csn, Freed)>>,
    /// Readers below this were given up.
    given_up_below: AtomicU64,
    pub(crate) counters: ShortageCounters,
}

impl Shortage {
    /// What is kept for readers below `floor` alone is kept no more. They must find
    /// themselves below by now.
    pub(crate) fn give_up_below(&self, floor: Csn) {
        self.given_up_below.fetch_max(floor, Ordering::SeqCst);
    }
}

/// What is counted of shortages.
#[derive(Debug, Default)]
pub(crate) struct ShortageCounters {
    /// Operations that took the lane.
    pub(crate) shortages: AtomicU64,
    /// Recalls of the stashes, and blocks they brought.
    pub(crate) recalls: AtomicU64,
    pub(crate) recalled_blocks: AtomicU64,
    /// Checkpoints that an operation asked for and waited for.
    pub(crate) checkpoints: AtomicU64,
    /// Operations refused.
    pub(crate) refused: AtomicU64,
    /// Blocks that the last of them needed.
    refused_blocks: AtomicU64,
}

/// One operation's way to space. Dropping it leaves the lane, so it must outlive
/// what the operation gives back when it fails.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    /// With which urgency to ask before and in the lane.
    first: Urgency,
    urgency: Urgency,
    lane: Option<MutexGuard<'a, ()>>,
    rounds: u32,
}

impl Claim<'_> {
    /// For what adds to the store.
    pub(crate) fn adding() -> Self {
        Self::new(Urgency::Normal, Urgency::Normal)
    }

    /// For what frees space.
    pub(crate) fn freeing() -> Self {
        Self::new(Urgency::Normal, Urgency::Freeing)
    }

    /// For replay: what was acknowledged must find its space again.
    pub(crate) fn replaying() -> Self {
        Self::new(Urgency::Reserve, Urgency::Reserve)
    }

    fn new(first: Urgency, urgency: Urgency) -> Self {
        Self {
            first,
            urgency,
            lane: None,
            rounds: 0,
        }
    }

    /// Leaves the lane, to wait for what its holder may not wait for. What was reserved in it
    /// is given back before.
    pub(crate) fn leave_lane(&mut self) {
        (self.lane, self.rounds) = (None, 0);
    }

    /// Whether the operation was short of space.
    pub(crate) fn is_short(&self) -> bool {
        self.lane.is_some()
    }
}

impl Forest {
    /// Asks for space, and if there is none at once, does all that may bring some.
    /// May wait long: no latch may be held, nor the gate.
    ///
    /// # Errors
    /// [`Error::Full`], or what the allocator or a checkpoint failed with.
    pub(crate) fn claim<'a, T>(
        &'a self,
        worker: &Worker,
        claim: &mut Claim<'a>,
        mut ask: impl FnMut(Urgency) -> Result<T, SpaceError>,
    ) -> Result<T> {
        let counters = &self.shortage.counters;
        if claim.lane.is_none() {
            match self.mending(|| ask(claim.first)) {
                Err(SpaceError::Full { .. } | SpaceError::AfterGeneration { .. }) => {}
                other => return Ok(other?),
            }
            // Who waits for the lane keeps nothing from the one who is in it.
            self.recall(worker);
            let wait = || self.shortage.lane.lock();
            claim.lane = Some(worker.counters.waiting(Wait::Space, wait));
            counters.shortages.fetch_add(1, Ordering::Relaxed);
        }
        loop {
            self.recall(worker);
            self.unpin();
            let ended = self.progress.ended();
            let capacity = self.geometry.capacity();
            match self.mending(|| ask(claim.urgency)) {
                Err(SpaceError::Full { needed, free })
                | Err(SpaceError::AfterGeneration { needed, free, .. }) => {
                    self.wait_for_space(worker, claim, (needed, free), (ended, capacity))?;
                }
                other => return Ok(other?),
            }
        }
    }

    /// Whether little is free and a checkpoint would bring a good part back, so that
    /// one had better begin before somebody has to wait for it.
    pub(crate) fn wants_space(&self) -> bool {
        let allocator = self.pool.allocator();
        let reserve = allocator.reserve_blocks();
        allocator.stats().free < allocator.kept_back() + reserve
            && self.workers.freed_blocks() > reserve / 2
    }

    fn recall(&self, worker: &Worker) {
        let counters = &self.shortage.counters;
        let blocks = self.pool.recall(worker, &self.workers);
        counters.recalls.fetch_add(1, Ordering::Relaxed);
        counters
            .recalled_blocks
            .fetch_add(blocks, Ordering::Relaxed);
    }

    /// The allocator refused, when `ended` checkpoints had ended and the store had
    /// `capacity` blocks. Returns when it is
    /// worth asking again. *The one place where the store is said to be full.*
    fn wait_for_space(
        &self,
        worker: &Worker,
        claim: &mut Claim<'_>,
        (needed, free): (u64, u64),
        (ended, capacity): (u64, u64),
    ) -> Result<()> {
        // Without a checkpointer, that is during replay, nothing more will come.
        if claim.rounds < ROUNDS && self.progress.is_served() {
            claim.rounds += 1;
            // In this order: a checkpoint takes the journals after it has begun.
            let soon = self.workers.freed_blocks();
            let wait = |f: &dyn Fn() -> Result<()>| worker.counters.waiting(Wait::Space, f);
            if self.progress.is_under_way() {
                return wait(&|| self.progress.wait_ended(PATIENCE));
            }
            if self.progress.ended() > ended {
                return Ok(());
            }
            // With `free >= needed` there is enough, but in too many pieces.
            if soon > 0 && (free >= needed || free + soon >= needed) {
                let counters = &self.shortage.counters;
                counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                return wait(&|| self.progress.wait_for_next());
            }
        }
        // A larger store is the last thing that may help.
        if self.more_space(worker, capacity)? || self.let_feeds_go() || self.let_views_go() {
            return Ok(());
        }
        let counters = &self.shortage.counters;
        counters.refused.fetch_add(1, Ordering::Relaxed);
        counters.refused_blocks.store(needed, Ordering::Relaxed);
        Err(Error::Full {
            needed,
            free,
            pinned: self.pinned_blocks(),
        })
    }

    /// What the readers need that there are.
    pub(crate) fn readers(&self) -> Readers {
        let given_up = self.shortage.given_up_below.load(Ordering::SeqCst);
        // In this order: a view that is pinned in between counts as both.
        let view = self.workers.oldest_view().map(|csn| csn.max(given_up));
        let mut readers = Readers {
            oldest: view.into_iter().chain(self.feeds.oldest()).min(),
            pinned: Vec::new(),
        };
        self.visit_pinned(|from, pin| readers.pinned.push((from, pin.cut, pin.generation)));
        readers
    }

    /// Goes through the pins and what was announced first of those views of them that were
    /// not given up.
    pub(crate) fn visit_pinned(&self, mut visit: impl FnMut(Csn, &Pin)) {
        if self.pins.is_empty() {
            return;
        }
        for worker in self.workers.all() {
            worker.visit_views(|key, of| {
                if let Some(pin) = of.pinned.and_then(|g| self.pins.of(g))
                    && key.announced >= pin.floor().max(self.pins.aged())
                {
                    visit(key.announced, &pin);
                }
                true
            });
        }
    }

    /// Keeps extents that a generation freed until no view looks at them.
    pub(crate) fn pin(&self, extents: Vec<(Csn, Freed)>) {
        self.shortage.pinned.lock().extend(extents);
    }

    /// Keeps what else a generation freed, was not released, and views of older frozen ones
    /// may read.
    pub(crate) fn keep_for_views(&self, freed: Vec<Freed>) {
        let free = self.pins.keep(freed);
        if !free.is_empty() {
            self.pool.allocator().give_back(free);
        }
    }

    /// Gives back what no view looks at any more. Never waits.
    pub(crate) fn unpin(&self) {
        let allocator = self.pool.allocator();
        let swept = self.pins.sweep(&self.workers);
        if !swept.is_empty() {
            allocator.give_back(swept);
        }
        let mut pinned = self.shortage.pinned.lock();
        if pinned.is_empty() {
            return;
        }
        self.bound_feeds(&pinned);
        let readers = self.readers();
        let needs = |p: &(Csn, Freed)| readers.need_extent(p.0, p.1.birth);
        let (keep, free): (Vec<_>, Vec<_>) = pinned.drain(..).partition(needs);
        *pinned = keep;
        drop(pinned);
        if !free.is_empty() {
            allocator.give_back(free.into_iter().map(|p| p.1.run).collect());
        }
    }

    /// Gives up the oldest views of a frozen generation for which blocks are kept. True if
    /// there were any.
    fn let_views_go(&self) -> bool {
        let Some(blocks) = self.pins.give_up_oldest() else {
            return false;
        };
        if !blocks.is_empty() {
            self.pool.allocator().give_back(blocks);
        }
        self.unpin();
        true
    }

    /// Blocks kept for views.
    pub(crate) fn pinned_blocks(&self) -> u64 {
        let pinned = self.shortage.pinned.lock();
        let extents: u64 = pinned.iter().map(|p| u64::from(p.1.run.len)).sum();
        drop(pinned);
        extents + self.pins.count().1
    }
}

/// What the readers need that there were at a moment.
#[derive(Debug)]
pub(crate) struct Readers {
    /// Least CSN that a view of the running generation looks at, or behind which a feed is.
    oldest: Option<Csn>,
    /// Of pinned views: what they look at or less, and the cut and the generation they read.
    pinned: Vec<(Csn, Csn, Generation)>,
}

impl Readers {
    /// Whether any needs a large value that came to be in generation `birth` and that
    /// commit `freed` deleted.
    pub(crate) fn need_extent(&self, freed: Csn, birth: Generation) -> bool {
        // A pinned view finds it in its generation, or in the image of a commit up to the cut.
        let mut pinned = self.pinned.iter();
        self.oldest.is_some_and(|o| o < freed)
            || pinned.any(|(from, _, generation)| *from < freed && birth <= *generation)
    }

    /// Whether any reads the running nodes of a tree that commit `dropped` dropped.
    pub(crate) fn need_tree(&self, dropped: Csn) -> bool {
        let mut pinned = self.pinned.iter();
        self.oldest.is_some_and(|o| o < dropped)
            || pinned.any(|(from, cut, _)| *from < dropped && dropped <= *cut)
    }
}

/// Where the blocks are that can hold data. Looked at while others work, so the parts
/// may differ by what moved meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpaceUse {
    pub(crate) blocks: u64,
    /// What any write may take; in the channel and the stashes too.
    pub(crate) free: u64,
    /// Left to deletes and checkpoints.
    pub(crate) reserved: u64,
    /// Free after the next checkpoint.
    pub(crate) pending: u64,
    pub(crate) discarding: u64,
    /// Kept for open views.
    pub(crate) pinned: u64,
    /// By trees, large values, and operations under way.
    pub(crate) used: u64,
    /// The last write that was refused would be refused again.
    pub(crate) full: bool,
}

impl Forest {
    /// Where the blocks are.
    pub(crate) fn space_use(&self) -> SpaceUse {
        let allocator = self.pool.allocator();
        let s = allocator.stats();
        let stashed: u64 = self.workers.all().map(|w| Pool::stashed(w)).sum();
        let blocks = allocator.data_blocks();
        let reserved = allocator.kept_back().min(s.free);
        let free = s.free - reserved + s.channel + stashed;
        let pending = s.pending + self.workers.freed_blocks();
        let idle = free + reserved + pending + s.discarding + s.kept;
        let refused = self
            .shortage
            .counters
            .refused_blocks
            .load(Ordering::Relaxed);
        SpaceUse {
            blocks,
            free,
            reserved,
            pending,
            discarding: s.discarding,
            pinned: s.kept,
            used: blocks.saturating_sub(idle),
            full: free + pending < refused,
        }
    }
}
