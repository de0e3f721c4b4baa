//! Which commits are visible: all up to the first that is not applied yet.
//!
//! A commit draws its CSN as it appends to the log and becomes visible when it and
//! all lower ones are applied. Appliers note themselves in a ring and whoever
//! closes the gap moves the mark on.

use crossbeam_utils::CachePadded;
use gaur_iodriver::sync::atomic::{AtomicU64, Ordering, order};
use gaur_iodriver::sync::{latch, thread};

use crate::format::Csn;

/// How far a commit may be ahead of the oldest one under way.
const WINDOW: u64 = if cfg!(loom) { 4 } else { 1 << 14 };

/// Looks before parking: the commits waited for are being applied, unless their
/// thread lost its processor.
const SPINS: u32 = if cfg!(loom) { 1 } else { 100 };
/// No thread waits for any commit.
const NOBODY: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Visible {
    upto: CachePadded<AtomicU64>,
    /// Least commit that a parked thread waits for, or [`NOBODY`].
    wanted: CachePadded<AtomicU64>,
    ring: Box<[AtomicU64]>,
}

impl Visible {
    /// All commits up to `csn` are visible.
    pub(crate) fn new(csn: Csn) -> Self {
        Self {
            upto: CachePadded::new(AtomicU64::new(csn)),
            wanted: CachePadded::new(AtomicU64::new(NOBODY)),
            ring: (0..WINDOW).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The newest commit such that it and all before it are applied.
    #[inline]
    pub(crate) fn upto(&self) -> Csn {
        self.upto.load(order("visible.upto", Ordering::SeqCst))
    }

    /// Notes that `csn` is applied. Holds no latch: in the rare case that a commit
    /// a whole window older is still under way, waits for it.
    pub(crate) fn applied(&self, csn: Csn) {
        while csn >= self.upto() + WINDOW {
            thread::yield_now();
        }
        // SeqCst: of two appliers of neighbouring CSNs at least one sees both notes.
        self.ring[(csn % WINDOW) as usize].store(csn, order("visible.note", Ordering::SeqCst));
        loop {
            let upto = self.upto();
            let next = upto + 1;
            let note = &self.ring[(next % WINDOW) as usize];
            if note.load(order("visible.look", Ordering::SeqCst)) != next {
                break;
            }
            let moved = order("visible.move", Ordering::SeqCst);
            let _ = self
                .upto
                .compare_exchange(upto, next, moved, Ordering::SeqCst);
        }
        self.wake();
    }

    /// Whether `csn` is visible.
    #[inline]
    pub(crate) fn is_visible(&self, csn: Csn) -> bool {
        self.upto
            .load(order("visible.is_visible", Ordering::Acquire))
            >= csn
    }

    /// Waits until `csn` is visible. The commits waited for are being applied in
    /// memory and wait for nothing themselves.
    pub(crate) fn wait(&self, csn: Csn) {
        for _ in 0..SPINS {
            if self.upto() >= csn {
                return;
            }
            thread::spin();
        }
        while self.upto() < csn {
            // The wish is noted under the lock of the queue of parked threads, and
            // SeqCst: either `wake` sees it, or we see what is visible by then.
            latch::park_on(self.key(), || {
                self.wanted
                    .fetch_min(csn, order("visible.wish", Ordering::SeqCst));
                self.upto() < csn
            });
        }
    }

    /// Wakes those who wait for what is visible now.
    fn wake(&self) {
        if self.wanted.load(order("visible.wake", Ordering::SeqCst)) <= self.upto() {
            // Before the queue is locked: who parks after it has been emptied notes
            // its wish again, who parked before is woken.
            self.wanted.store(NOBODY, Ordering::SeqCst);
            latch::unpark_all(self.key());
        }
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(&self.wanted) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_mark_never_passes_a_gap_and_never_sticks() {
        // Breaks if the accesses are relaxed: the mark stays behind for ever.
        let v = Arc::new(Visible::new(0));
        let next = Arc::new(AtomicU64::new(1));
        let done = Arc::new((0..=200_000).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (v, next, done) = (v.clone(), next.clone(), done.clone());
                std::thread::spawn(move || {
                    loop {
                        let csn = next.fetch_add(1, Ordering::Relaxed);
                        if csn > 200_000 {
                            return;
                        }
                        done[csn as usize].store(1, Ordering::SeqCst);
                        v.applied(csn);
                        let upto = v.upto() as usize;
                        assert_eq!(done[upto].load(Ordering::SeqCst), u64::from(upto > 0));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(v.upto(), 200_000);
    }

    #[test]
    fn of_two_neighbours_one_closes_the_gap() {
        // Breaks, on idle processors, if the accesses are weaker than sequentially
        // consistent: each of two
        // appliers misses the other's note, and both commits stay hidden until a
        // third comes. (The test above would not see it: there is always a third.)
        use std::time::{Duration, Instant};
        let v = Visible::new(0);
        let (round, ready) = (AtomicU64::new(0), AtomicU64::new(0));
        let wait = |a: &AtomicU64, n: u64| {
            let mut looks = 0u32;
            while a.load(Ordering::SeqCst) < n {
                looks += 1;
                if looks > 2000 {
                    thread::yield_now();
                }
            }
        };
        let mut n = 0;
        std::thread::scope(|s| {
            s.spawn(|| {
                for n in 1.. {
                    wait(&round, n);
                    if round.load(Ordering::SeqCst) == u64::MAX {
                        return;
                    }
                    v.applied(2 * n);
                    ready.store(n, Ordering::SeqCst);
                }
            });
            let end = Instant::now() + Duration::from_millis(500);
            let mut stuck = false;
            while !stuck && Instant::now() < end {
                n += 1;
                round.store(n, Ordering::SeqCst);
                for _ in 0..n % 60 {
                    std::hint::spin_loop();
                }
                v.applied(2 * n - 1);
                wait(&ready, n);
                stuck = v.upto() != 2 * n;
            }
            round.store(u64::MAX, Ordering::SeqCst);
            assert!(!stuck, "two commits are applied and hidden, in round {n}");
        });
        println!("{n} rounds");
    }

    #[test]
    fn who_waits_is_woken() {
        // Hangs if the wish is noted after the look at what is visible, or if the
        // wake looks for wishes before the mark moves.
        let v = Arc::new(Visible::new(0));
        let next = Arc::new(AtomicU64::new(1));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (v, next) = (v.clone(), next.clone());
                std::thread::spawn(move || {
                    loop {
                        let csn = next.fetch_add(1, Ordering::Relaxed);
                        if csn > 50_000 {
                            return;
                        }
                        if csn % 7 == 0 {
                            std::thread::yield_now();
                        }
                        v.applied(csn);
                        v.wait(csn);
                        assert!(v.is_visible(csn));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(v.upto(), 50_000);
    }
}
