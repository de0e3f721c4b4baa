//! Frozen generations that views read, and the blocks that are kept for them.
//!
//! A freeze pins the views that are open (`commit::view`): they read the trees of the
//! generation that was frozen, and undo by before-images only what was committed between
//! their commit and the freeze. No writer keeps images for them from then on.
//!
//! What such a generation has and later ones free is released like any other block on
//! the device, for after a restart nobody reads it; but in memory it is kept from being
//! used again, in the list of the youngest pinned generation that has it. When that one
//! is let go of, it goes to the next older one that has it too, or is free. (So do the
//! dead lists of named snapshots, on the device: `writeback::retain`.)
//!
//! 1. A pin is in the list before a view is marked with its generation, and stays until
//!    none is marked with it that was not given up.
//! 2. Whoever reads a pinned generation asks for its floor afterwards: its blocks are
//!    given back only once the floor is above the views that were given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gaur_iodriver::sync::ShortMutex;

use crate::format::{Csn, Generation, Run, TreeId};
use crate::tree::TreeState;
use crate::worker::{Freed, Workers};

/// A frozen generation that views read.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) generation: Generation,
    /// The last commit in it.
    pub(crate) cut: Csn,
    trees: BTreeMap<TreeId, Arc<TreeState>>,
    /// All its nodes are on the device.
    written: AtomicBool,
    /// Views below this have lost what they read.
    floor: AtomicU64,
}

impl Pin {
    pub(crate) fn new(generation: Generation, cut: Csn, trees: Vec<Arc<TreeState>>) -> Self {
        Self {
            generation,
            cut,
            trees: trees.into_iter().map(|t| (t.id, t)).collect(),
            written: AtomicBool::new(false),
            floor: AtomicU64::new(0),
        }
    }

    /// A tree as it was frozen; `None`: there was none of that number.
    pub(crate) fn tree(&self, id: TreeId) -> Option<&Arc<TreeState>> {
        self.trees.get(&id)
    }

    /// Whether all its nodes are on the device. Until then one that is read from there may
    /// not be there yet: a node goes out of memory when it is written itself, and its
    /// children may still be on their way.
    pub(crate) fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    pub(crate) fn set_written(&self) {
        self.written.store(true, Ordering::Release);
    }

    /// Views below this have lost what they read.
    pub(crate) fn floor(&self) -> Csn {
        self.floor.load(Ordering::SeqCst)
    }

    fn lose(&self, below: Csn) {
        self.floor.fetch_max(below, Ordering::SeqCst);
    }
}

/// The pinned generations of a store.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    list: ShortMutex<List>,
    /// One above the newest cut there was.
    behind: AtomicU64,
    /// Views below this are too old.
    aged: AtomicU64,
    /// Some were given up for want of space, of which nobody was told yet.
    short: AtomicBool,
}

#[derive(Debug, Default)]
struct List {
    /// The oldest first.
    all: Vec<Arc<Pin>>,
    /// The youngest was not given to its views yet.
    fresh: bool,
    /// Freed blocks by the youngest and the oldest pinned generation that have them.
    kept: BTreeMap<(Generation, Generation), Blocks>,
}

/// Blocks that are freed but kept, in runs.
#[derive(Debug, Default)]
struct Blocks {
    runs: Vec<Run>,
    /// As many runs there were when neighbours were joined last.
    joined: usize,
}

impl Blocks {
    fn add(&mut self, runs: impl IntoIterator<Item = Run>) {
        self.runs.extend(runs);
        if self.runs.len() > 2 * self.joined + 1024 {
            self.runs = join(std::mem::take(&mut self.runs));
            self.joined = self.runs.len();
        }
    }

    fn count(&self) -> u64 {
        self.runs.iter().map(|r| u64::from(r.len)).sum()
    }
}

/// The same blocks in as few runs as there can be.
fn join(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable_by_key(|r| r.start);
    let mut out: Vec<Run> = Vec::new();
    for run in runs {
        match out.last_mut() {
            Some(last) if last.end() == run.start && last.len.checked_add(run.len).is_some() => {
                last.len += run.len;
            }
            _ => out.push(run),
        }
    }
    out.shrink_to_fit();
    out
}

impl List {
    /// The youngest and the oldest that have what `freed` says; `None`: none has.
    fn holders(&self, freed: &Freed) -> Option<(Generation, Generation)> {
        let upto = freed.last.unwrap_or(Generation(u64::MAX));
        let has = |g: &Generation| freed.birth <= *g && *g <= upto;
        let mut holders = self.all.iter().map(|p| p.generation).filter(has);
        let oldest = holders.next()?;
        Some((holders.next_back().unwrap_or(oldest), oldest))
    }

    /// Those that were given to their views.
    fn settled(&self) -> Vec<Generation> {
        let settled = self.all.len() - usize::from(self.fresh);
        self.all[..settled].iter().map(|p| p.generation).collect()
    }

    /// Takes out a pin, of which the views were given up or are gone. Returns the blocks
    /// that no other needs.
    fn remove(&mut self, at: usize) -> Vec<Run> {
        let pin = self.all.remove(at);
        pin.lose(Csn::MAX);
        let gone = pin.generation;
        let mut free = Vec::new();
        for ((young, old), blocks) in std::mem::take(&mut self.kept) {
            let has = |p: &&Arc<Pin>| old <= p.generation && p.generation <= young;
            let mut holders = self.all.iter().filter(has).map(|p| p.generation);
            match (holders.next(), young == gone || old == gone) {
                (None, _) => free.extend(blocks.runs),
                (Some(_), false) => self.put((young, old), blocks),
                (Some(old), true) => {
                    let young = holders.next_back().unwrap_or(old);
                    self.put((young, old), blocks);
                }
            }
        }
        join(free)
    }

    fn put(&mut self, key: (Generation, Generation), blocks: Blocks) {
        let there = self.kept.entry(key).or_default();
        match there.runs.is_empty() {
            true => *there = blocks,
            false => there.add(blocks.runs),
        }
    }
}

impl Pins {
    /// Whether no view of this commit can be pinned.
    pub(crate) fn none_since(&self, csn: Csn) -> bool {
        // A view that is pinned and does not see this reads what was there before the gate
        // was opened again.
        self.behind.load(Ordering::Acquire) <= csn
    }

    /// The pin of a generation; `None`: it was let go of.
    pub(crate) fn of(&self, generation: Generation) -> Option<Arc<Pin>> {
        let list = self.list.lock();
        list.all
            .iter()
            .find(|p| p.generation == generation)
            .cloned()
    }

    /// Pins the views that are open to the generation that is being frozen. `lost`: the
    /// views below it have lost images. The gate is closed.
    pub(crate) fn pin(&self, pin: Arc<Pin>, workers: &Workers, lost: impl FnOnce() -> Csn) {
        {
            let mut list = self.list.lock();
            list.all.push(pin.clone());
            list.fresh = true;
        }
        self.behind
            .store(pin.cut.saturating_add(1), Ordering::Release);
        // In this order: whoever drops images raises all floors that it finds.
        pin.lose(lost());
        workers.pin_views(pin.generation);
        self.list.lock().fresh = false;
    }

    /// Before-images of commits up to `csn` were lost that pinned views needed.
    pub(crate) fn lose_images(&self, csn: Csn) {
        for pin in &self.list.lock().all {
            if csn <= pin.cut {
                pin.lose(csn);
            }
        }
    }

    /// Gives up all views below `floor`.
    pub(crate) fn raise_aged(&self, floor: Csn) {
        self.aged.fetch_max(floor, Ordering::SeqCst);
    }

    /// Views below this are too old.
    pub(crate) fn aged(&self) -> Csn {
        self.aged.load(Ordering::SeqCst)
    }

    /// Views announced below this that are pinned to a generation were given up.
    pub(crate) fn floor(&self, generation: Generation) -> Csn {
        let pinned = self.of(generation).map_or(Csn::MAX, |p| p.floor());
        pinned.max(self.aged())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.lock().all.is_empty()
    }

    /// Those of `freed` that a pinned generation has.
    pub(crate) fn wanted(&self, freed: impl Iterator<Item = Freed>) -> Vec<Freed> {
        let list = self.list.lock();
        match list.all.is_empty() {
            true => Vec::new(),
            false => freed.filter(|f| list.holders(f).is_some()).collect(),
        }
    }

    /// Keeps what was freed, is not in use and not to be used. Returns what nobody needs any
    /// more.
    #[must_use]
    pub(crate) fn keep(&self, freed: Vec<Freed>) -> Vec<Run> {
        let mut list = self.list.lock();
        let (mut by, mut free) = (BTreeMap::<_, Vec<Run>>::new(), Vec::new());
        for f in freed {
            match list.holders(&f) {
                Some(holders) => by.entry(holders).or_default().push(f.run),
                None => free.push(f.run),
            }
        }
        for (holders, runs) in by {
            list.kept.entry(holders).or_default().add(runs);
        }
        free
    }

    /// Lets go of generations that no view reads any more. Returns the blocks that are free
    /// now.
    #[must_use]
    pub(crate) fn sweep(&self, workers: &Workers) -> Vec<Run> {
        // In this order: those that are there now have been given to their views. And not
        // all under one lock: of the two locks the views' is taken first elsewhere.
        let mut unused = self.list.lock().settled();
        if unused.is_empty() {
            return Vec::new();
        }
        for worker in workers.all() {
            worker.visit_views(|key, of| {
                unused.retain(|g| Some(*g) != of.pinned || key.announced < self.floor(*g));
                true
            });
        }
        let mut list = self.list.lock();
        let mut free = Vec::new();
        for unused in unused {
            if let Some(at) = list.all.iter().position(|p| p.generation == unused) {
                free.extend(list.remove(at));
            }
        }
        free
    }

    /// Gives up the oldest for which blocks are kept; space is wanted. Returns the blocks
    /// that are free now; `None`: there is none.
    #[must_use]
    pub(crate) fn give_up_oldest(&self) -> Option<Vec<Run>> {
        let mut list = self.list.lock();
        let settled = list.all.len() - usize::from(list.fresh);
        let has =
            |g: Generation| move |(young, old): &(Generation, Generation)| *old <= g && g <= *young;
        let at = (0..settled).find(|i| list.kept.keys().any(has(list.all[*i].generation)))?;
        self.short.store(true, Ordering::SeqCst);
        Some(list.remove(at))
    }

    /// Whether some were given up for want of space since this was asked.
    pub(crate) fn were_short(&self) -> bool {
        self.short.load(Ordering::Relaxed) && self.short.swap(false, Ordering::SeqCst)
    }

    /// How many there are, and the blocks kept for them.
    pub(crate) fn count(&self) -> (u64, u64) {
        let list = self.list.lock();
        (
            list.all.len() as u64,
            list.kept.values().map(Blocks::count).sum(),
        )
    }
}
