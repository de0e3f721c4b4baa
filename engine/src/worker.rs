//! Workers: the threads that call the engine, and the gate they pass.
//!
//! Each thread has a [`Worker`] of its own: what it writes often (its place in the
//! gate, its stash, its journal of space changes, its counters) shares no cache
//! line with another thread's.
//!
//! **The gate.** A writer is inside while it changes the tree: from before its
//! descent until its commit is applied. Nothing in the gate waits for I/O, space,
//! a frame, log space, the allocator or a checkpoint; who must wait leaves first.
//! Closing the gate lets those inside finish and keeps others out, so between
//! [`Workers::close`] and [`Workers::open`] no commit is half applied: the moment
//! at which a generation is frozen.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};

use crossbeam_utils::CachePadded;
use gaur_iodriver::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence, order, step};
use gaur_iodriver::sync::thread;
use gaur_iodriver::sync::time::{Duration, Instant, now};
use gaur_iodriver::sync::{Condvar, Home, Mutex, MutexGuard, ShortMutex};
use gaur_iodriver::{Queue, fault};

use crate::error::{Error, Result};
use crate::format::{BlockPtr, Csn, ExtentPtr, Generation, Run};
use crate::pool::Stash;
use crate::stats::WorkerCounters;

/// Threads that can use one store at once.
pub const MAX_THREADS: usize = 4096;

const NO_VIEW: u64 = u64::MAX;

/// Blocks that went out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) run: Run,
    /// When they were written: a snapshot since then may still have them.
    pub(crate) birth: Generation,
    /// It is a piece of a large value: written before its commit, so a snapshot in between
    /// does not have it, though it came to be before that.
    pub(crate) piece: bool,
    /// The last generation that had it, if that is not the one before the running one: of
    /// a dropped tree it was the last one with the tree.
    pub(crate) last: Option<Generation>,
}

impl Freed {
    /// A node.
    pub(crate) fn node(ptr: BlockPtr) -> Self {
        Self {
            run: ptr.run(),
            birth: ptr.birth,
            piece: false,
            last: None,
        }
    }

    /// A piece of a large value.
    pub(crate) fn piece(ptr: &ExtentPtr, block_size: u32) -> Self {
        Self {
            run: ptr.run(block_size),
            birth: ptr.birth,
            piece: true,
            last: None,
        }
    }
}

/// Blocks that came into use and blocks that went out of it, in one generation.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) used: Vec<Run>,
    pub(crate) freed: Vec<Freed>,
    /// Blocks of trees that were loaded. They came into use like those of `used`, but the log
    /// names them: not even a replay may use them anew.
    pub(crate) loaded: Vec<Run>,
    /// Freed extents of large values: readers may still look at them.
    pub(crate) freed_extents: Vec<(Csn, Freed)>,
    /// Blocks in both lists of what was freed.
    freed_blocks: u64,
}

impl Journal {
    /// Notes that a block went out of use.
    fn free(&mut self, freed: Freed) {
        self.freed_blocks += u64::from(freed.run.len);
        self.freed.push(freed);
    }

    /// Notes that commit `csn` freed an extent.
    pub(crate) fn free_extent(&mut self, csn: Csn, freed: Freed) {
        self.freed_blocks += u64::from(freed.run.len);
        self.freed_extents.push((csn, freed));
    }

    /// Takes out the nodes that came into use and went out of it again, which no
    /// durable generation knows, and returns their blocks.
    pub(crate) fn take_passed(&mut self) -> Vec<Run> {
        let freed: BTreeSet<Run> = self.freed.iter().map(|f| f.run).collect();
        let mut passed = BTreeSet::new();
        self.used.retain(|r| {
            let stays = !freed.contains(r);
            if !stays {
                passed.insert(*r);
            }
            stays
        });
        self.freed.retain(|f| !passed.contains(&f.run));
        self.freed_blocks -= passed.iter().map(|r| u64::from(r.len)).sum::<u64>();
        passed.into_iter().collect()
    }
}

/// Which views of a worker are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ViewKey {
    /// How many freezes there were before.
    era: u64,
    /// The CSN they were announced at: what they look at, or less.
    pub(crate) announced: Csn,
    /// Whether they may read a frozen generation in place of the running one.
    pub(crate) lasting: bool,
}

/// The open views of one worker with the same [`ViewKey`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenViews {
    /// How many.
    pub(crate) open: u64,
    /// The frozen generation that they read.
    pub(crate) pinned: Option<Generation>,
    /// They were given up, and that was told.
    pub(crate) told: bool,
    /// When the first and the last of them were opened.
    pub(crate) oldest: Instant,
    pub(crate) newest: Instant,
}

/// The open views of a worker.
#[derive(Debug, Default)]
struct Views {
    era: u64,
    all: BTreeMap<ViewKey, OpenViews>,
}

impl Views {
    /// The oldest of those for which before-images must be kept.
    fn first_unpinned(&self) -> Option<ViewKey> {
        let mut unpinned = self.all.iter().filter(|(_, of)| of.pinned.is_none());
        unpinned.next().map(|(key, _)| *key)
    }

    fn oldest(&self) -> u64 {
        self.first_unpinned().map_or(NO_VIEW, |key| key.announced)
    }
}

/// One thread's own part of the engine.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    /// The process whose worker it is.
    home: Home,
    inside: CachePadded<AtomicBool>,
    taken: AtomicBool,
    committing: CachePadded<AtomicBool>,
    /// Least CSN of the views this worker opened that are not pinned, or [`NO_VIEW`].
    oldest_view: CachePadded<AtomicU64>,
    /// Where the view was announced that this worker is opening, or [`NO_VIEW`]: what it
    /// looks at is not known yet.
    opening: AtomicU64,
    views: ShortMutex<Views>,
    misses_seen: AtomicU64,
    /// For reads that go to the device together; with the thread that made it.
    pub(crate) queue: Mutex<Option<(thread::ThreadId, Box<dyn Queue>)>>,
    pub(crate) journal: ShortMutex<Journal>,
    pub(crate) stash: ShortMutex<Stash>,
    pub(crate) counters: CachePadded<WorkerCounters>,
}

/// A commit under way; ends when dropped.
#[derive(Debug)]
pub(crate) struct Committing<'a>(&'a Worker);

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        let over = order("commits.over", Ordering::Release);
        self.0.committing.store(false, over);
    }
}

/// All workers of a store.
#[derive(Debug)]
pub(crate) struct Workers {
    slots: Box<[OnceLock<Arc<Worker>>]>,
    count: AtomicU64,
    closed: CachePadded<AtomicBool>,
    /// No commit may begin any more.
    refusing: AtomicBool,
    adding: Mutex<()>,
    /// Held by who closes the gate, from before that until it is open again.
    closers: Mutex<()>,
    gate: Mutex<()>,
    opened: Condvar,
}

/// Leaves the gate when dropped.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Worker);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let left = order("gate.leave", Ordering::Release);
        self.0.inside.store(false, left);
    }
}

thread_local! {
    static MINE: RefCell<Vec<Mine>> = const { RefCell::new(Vec::new()) };
}

/// A thread's hold on its worker in one store; given back when the thread ends.
struct Mine {
    store: usize,
    workers: Weak<Workers>,
    worker: Arc<Worker>,
}

impl Drop for Mine {
    fn drop(&mut self) {
        self.worker.taken.store(false, Ordering::Release);
    }
}

impl Drop for Workers {
    /// Threads keep their workers until they end; the queues hold the device.
    fn drop(&mut self) {
        for w in self.all() {
            *w.queue.lock() = None;
        }
    }
}

impl Workers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            slots: (0..MAX_THREADS).map(|_| OnceLock::new()).collect(),
            count: AtomicU64::new(0),
            closed: CachePadded::default(),
            refusing: AtomicBool::new(false),
            adding: Mutex::new(()),
            closers: Mutex::new(()),
            gate: Mutex::new(()),
            opened: Condvar::new(),
        })
    }

    /// The calling thread's worker.
    pub(crate) fn mine(self: &Arc<Self>) -> Result<Arc<Worker>> {
        let id = Arc::as_ptr(self) as usize;
        MINE.with_borrow_mut(|all| {
            if let Some(m) = all
                .iter()
                .find(|m| m.store == id && m.workers.strong_count() > 0)
            {
                return Ok(m.worker.clone());
            }
            all.retain(|m| m.workers.strong_count() > 0);
            let worker = self.claim()?;
            all.push(Mine {
                store: id,
                workers: Arc::downgrade(self),
                worker: worker.clone(),
            });
            Ok(worker)
        })
    }

    pub(crate) fn claim(&self) -> Result<Arc<Worker>> {
        let _one = self.adding.lock();
        for w in self.all() {
            if w.taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(w.clone());
            }
        }
        let n = self.count.load(Ordering::Relaxed) as usize;
        let slot = self
            .slots
            .get(n)
            .ok_or(Error::TooManyThreads { max: MAX_THREADS })?;
        let worker = Arc::new(Worker::default());
        worker.taken.store(true, Ordering::Relaxed);
        worker.oldest_view.store(NO_VIEW, Ordering::Relaxed);
        worker.opening.store(NO_VIEW, Ordering::Relaxed);
        slot.set(worker.clone())
            .expect("slots are filled one by one under the lock");
        // Pairs with `all`: a writer that drew its CSN after a reader registered
        // its view must see that reader's worker.
        self.count
            .store(n as u64 + 1, order("workers.add", Ordering::SeqCst));
        Ok(worker)
    }

    /// All workers there have been.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Worker>> {
        let n = self.count.load(order("workers.all", Ordering::SeqCst)) as usize;
        self.slots[..n].iter().filter_map(OnceLock::get)
    }

    /// Enters the gate; waits while it is closed, so no latch may be held.
    pub(crate) fn enter<'a>(&self, worker: &'a Worker) -> Inside<'a> {
        loop {
            // Both accesses are SeqCst: either the closer sees us inside, or we
            // see the gate closed.
            worker
                .inside
                .store(true, order("gate.enter", Ordering::SeqCst));
            if !self.closed.load(order("gate.look", Ordering::SeqCst)) {
                return Inside(worker);
            }
            worker.inside.store(false, Ordering::Release);
            let begun = gaur_iodriver::sync::time::now();
            let mut guard = self.gate.lock();
            while self.closed.load(Ordering::SeqCst) {
                self.opened.wait(&mut guard);
            }
            drop(guard);
            let nanos = begun.elapsed().as_nanos() as u64;
            crate::waits::note(crate::waits::GATE, nanos);
        }
    }

    /// The turn to close the gate; kept until it is open again.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.closers.lock()
    }

    /// Closes the gate and waits until nobody is inside. One closer at a time: whose
    /// [`Workers::turn`] it is.
    pub(crate) fn close(&self) {
        {
            let _guard = self.gate.lock();
            let was = self
                .closed
                .swap(true, order("gate.close", Ordering::SeqCst));
            assert!(!was, "the gate was closed twice");
        }
        for w in self.all() {
            let mut spins = 0;
            while w.inside.load(order("gate.drain", Ordering::SeqCst)) && !fault!(GateNotDrained) {
                spins += 1;
                if spins < 100 {
                    thread::spin();
                } else {
                    thread::yield_now();
                }
            }
        }
    }

    /// Opens the gate.
    pub(crate) fn open(&self) {
        let _guard = self.gate.lock();
        self.closed
            .store(false, order("gate.open", Ordering::SeqCst));
        self.opened.notify_all();
    }

    /// Whether no commit may begin any more.
    pub(crate) fn refuses_commits(&self) -> bool {
        self.refusing.load(order("commits.look", Ordering::SeqCst))
    }

    /// Lets no further commit begin and waits for those under way.
    pub(crate) fn refuse_commits(&self) {
        self.refusing
            .store(true, order("commits.refuse", Ordering::SeqCst));
        for w in self.all() {
            while w.is_committing() {
                thread::sleep(Duration::from_micros(100));
            }
        }
    }

    /// Takes what all workers noted since the last time. The gate is closed.
    pub(crate) fn take_journals(&self) -> Journal {
        let mut all = Journal::default();
        for w in self.all() {
            let mut j = w.journal.lock();
            all.used.append(&mut j.used);
            all.used.append(&mut j.loaded);
            all.freed.append(&mut j.freed);
            all.freed_extents.append(&mut j.freed_extents);
            j.freed_blocks = 0;
        }
        all
    }

    /// Blocks that the running generation freed so far: those that a checkpoint
    /// begun now would bring back.
    pub(crate) fn freed_blocks(&self) -> u64 {
        self.all().map(|w| w.journal.lock().freed_blocks).sum()
    }

    /// Whether there are views that a freeze could pin.
    pub(crate) fn has_lasting(&self) -> bool {
        self.all().any(|w| w.has_lasting())
    }

    /// Whether a freeze would pin the oldest view that is not pinned.
    pub(crate) fn oldest_is_lasting(&self) -> bool {
        let oldest = self.all().filter_map(|w| w.views.lock().first_unpinned());
        let oldest = oldest.min_by_key(|key| (key.announced, key.lasting));
        oldest.is_some_and(|key| key.lasting)
    }

    /// From now on the views that were opened before read the generation that is being
    /// frozen. The gate is closed.
    pub(crate) fn pin_views(&self, generation: Generation) {
        self.all().for_each(|w| w.pin_views(generation));
    }

    /// Least CSN that an open view looks at that is not pinned; `None`: there is no such
    /// view. For the order against drawing a CSN see `commit::view`.
    pub(crate) fn oldest_view(&self) -> Option<Csn> {
        // Between what the caller did before (drew a CSN, looked at what is visible)
        // and the look at the views; pairs with the fence in `View::open`. The log
        // publishes its last CSN with a release store only.
        fence("view.drawn", Ordering::SeqCst);
        self.all()
            .map(|w| w.oldest_view.load(order("view.oldest", Ordering::SeqCst)))
            .min()
            .filter(|&csn| csn != NO_VIEW)
    }
}

impl Worker {
    /// Notes that a commit is under way, so that closing waits for it.
    pub(crate) fn begin_commit(&self, all: &Workers) -> Result<Committing<'_>> {
        // Both SeqCst: either closing waits for us, or we see that it began.
        self.committing
            .store(true, order("commits.begin", Ordering::SeqCst));
        let committing = Committing(self);
        if all.refuses_commits() {
            return Err(Error::Closed);
        }
        Ok(committing)
    }

    fn is_committing(&self) -> bool {
        self.committing
            .load(order("commits.drain", Ordering::SeqCst))
    }

    /// Announces a view at `csn` or later. Follow with [`Worker::view_opened`].
    pub(crate) fn add_view(&self, csn: Csn, lasting: bool) -> ViewKey {
        let since = now();
        let mut views = self.views.lock();
        self.opening.store(csn, Ordering::Relaxed);
        let fresh = OpenViews {
            open: 0,
            pinned: None,
            told: false,
            oldest: since,
            newest: since,
        };
        let key = ViewKey {
            era: views.era,
            announced: csn,
            lasting,
        };
        let of = views.all.entry(key).or_insert(fresh);
        (of.open, of.newest) = (of.open + 1, since);
        self.oldest_view.store(views.oldest(), Ordering::SeqCst);
        key
    }

    /// What the announced view looks at is known now.
    pub(crate) fn view_opened(&self) {
        // Release: whoever finds no view being opened knows that each in the list looks at
        // a commit that was drawn before.
        self.opening.store(NO_VIEW, Ordering::Release);
    }

    /// Ends a view.
    pub(crate) fn remove_view(&self, key: &ViewKey) {
        if !self.home.is_here() {
            // In a forked child the lock may be held for ever.
            return;
        }
        let mut views = self.views.lock();
        let of = views.all.get_mut(key).expect("the view was announced");
        of.open -= 1;
        if of.open == 0 {
            views.all.remove(key);
        }
        self.oldest_view.store(views.oldest(), Ordering::SeqCst);
    }

    fn has_lasting(&self) -> bool {
        let views = self.views.lock();
        let mut all = views.all.iter();
        all.any(|(key, of)| key.lasting && of.pinned.is_none())
    }

    fn pin_views(&self, generation: Generation) {
        let mut views = self.views.lock();
        views.era += 1;
        let opening = self.opening.load(Ordering::Acquire);
        for (key, of) in &mut views.all {
            // One that is being opened may come to look at a later commit; the next
            // freeze is for it.
            let opened = key.announced != opening || !step("view.opening");
            if key.lasting && of.pinned.is_none() && opened {
                of.pinned = Some(generation);
            }
        }
        self.oldest_view.store(views.oldest(), Ordering::SeqCst);
    }

    /// The frozen generation that a view reads, if it is pinned.
    pub(crate) fn pinned_to(&self, key: &ViewKey) -> Option<Generation> {
        self.views.lock().all.get(key)?.pinned
    }

    /// How many views this worker opened that are open still, and how old the oldest is.
    pub(crate) fn open_views(&self) -> (u64, Duration) {
        let views = self.views.lock();
        let open = views.all.values().map(|of| of.open).sum();
        let oldest = views.all.values().next().map(|of| of.oldest.elapsed());
        (open, oldest.unwrap_or_default())
    }

    /// Goes through the open views from the oldest on while `visit` says so.
    pub(crate) fn visit_views(&self, mut visit: impl FnMut(&ViewKey, &mut OpenViews) -> bool) {
        let mut views = self.views.lock();
        let _ = views.all.iter_mut().all(|(key, of)| visit(key, of));
    }

    /// Whether nodes were missing since the last time this was asked.
    pub(crate) fn missed_lately(&self) -> bool {
        let now = self.counters.misses.get();
        self.misses_seen.swap(now, Ordering::Relaxed) != now
    }

    /// Notes that a block came into use.
    pub(crate) fn used(&self, run: Run) {
        self.journal.lock().used.push(run);
    }

    /// Notes that a block went out of use.
    pub(crate) fn freed(&self, freed: Freed) {
        self.journal.lock().free(freed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_has_nobody_inside() {
        // Breaks, in most runs, if `enter` looks at the gate before it says that it is
        // inside. Weaker memory order there was not seen to break it. The section is short, so that many rounds meet in `enter`.
        use std::time::{Duration, Instant};
        let workers = Workers::new();
        let (inside, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut rounds = 0u64;
        std::thread::scope(|s| {
            s.spawn(|| {
                let me = workers.mine().unwrap();
                while !over.load(Ordering::Relaxed) {
                    for _ in 0..1000 {
                        let _in = workers.enter(&me);
                        inside.store(true, Ordering::Relaxed);
                        for _ in 0..4 {
                            std::hint::spin_loop();
                        }
                        inside.store(false, Ordering::Relaxed);
                    }
                }
            });
            let end = Instant::now() + Duration::from_millis(500);
            let mut met = false;
            while Instant::now() < end && !met {
                workers.close();
                for _ in 0..400 {
                    met |= inside.load(Ordering::Relaxed);
                }
                workers.open();
                for _ in 0..rounds % 16 {
                    std::hint::spin_loop();
                }
                rounds += 1;
            }
            over.store(true, Ordering::Relaxed);
            assert!(!met, "somebody was inside a closed gate, in round {rounds}");
        });
        println!("{rounds} rounds");
    }

    #[test]
    fn what_was_loaded_is_not_used_anew_by_a_replay() {
        let worker = Worker::default();
        let mut journal = worker.journal.lock();
        journal.loaded.push(Run::single(5));
        journal.used.push(Run::single(6));
        let freed = |addr| Freed::node(BlockPtr::unwritten(addr, Generation(1)));
        journal.free(freed(5));
        journal.free(freed(6));
        assert_eq!(journal.take_passed(), [Run::single(6)]);
        assert_eq!(journal.freed, [freed(5)]);
    }

    #[test]
    fn a_worker_is_reused_after_its_thread() {
        let workers = Workers::new();
        for _ in 0..10 {
            let w = workers.clone();
            std::thread::spawn(move || w.mine().map(|_| ()).unwrap())
                .join()
                .unwrap();
        }
        assert_eq!(workers.all().count(), 1);
    }
}
