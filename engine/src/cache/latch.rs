//! The latch of a frame: optimistic for readers, exclusive for writers.
//!
//! One word: bit 0 locked, bit 1 threads are parked, the rest a version that
//! grows at each release. A reader notes the version, reads, and asks whether the
//! version still stands; it writes nothing. A writer sets bit 0 and, on release,
//! moves the version on.
//!
//! The order of the memory accesses is that of a sequence lock (H. Boehm, "Can
//! seqlocks get along with programming language memory models?", MSPC 2012): all
//! data is read and written with relaxed atomic accesses, a reader puts an acquire
//! fence before its second look at the version, a writer a release fence behind
//! its lock.
//!
//! Waiting spins shortly and then parks. Who may wait for a latch while holding
//! another is said in `docs/concurrency.md`.

use gaur_iodriver::fault;
use gaur_iodriver::sync::atomic::{AtomicU64, Ordering, fence, order};
use gaur_iodriver::sync::latch as depth;
use gaur_iodriver::sync::thread;

#[cfg(feature = "experiment-cow")]
use super::latch_times;

const LOCKED: u64 = 1;
const PARKED: u64 = 2;
const STEP: u64 = 4;
/// Looks at the word before parking. With few processors the holder is more
/// likely preempted than about to release, so this is short.
const SPINS: u32 = if cfg!(loom) { 1 } else { 60 };

/// A version of a latch at which nobody held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

#[derive(Debug, Default)]
pub(crate) struct Latch(AtomicU64);

impl Latch {
    /// The version, if nobody holds the latch.
    #[inline]
    pub(crate) fn try_version(&self) -> Option<Version> {
        let word = self.0.load(order("latch.version", Ordering::Acquire));
        (word & LOCKED == 0).then_some(Version(word))
    }

    /// The version, waiting while somebody holds the latch.
    #[inline]
    pub(crate) fn version(&self) -> Version {
        match self.try_version() {
            Some(v) => v,
            None => self.version_slow(),
        }
    }

    #[cold]
    fn version_slow(&self) -> Version {
        #[cfg(feature = "experiment-cow")]
        let _waiting = latch_times::Waiting::begin();
        loop {
            self.wait_unlocked();
            if let Some(v) = self.try_version() {
                return v;
            }
        }
    }

    /// Whether nothing changed since `version` was taken. All reads made in
    /// between are good if it returns true.
    #[inline]
    pub(crate) fn validate(&self, version: Version) -> bool {
        fence("latch.validate", Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == version.0 || fault!(ValidateAlwaysTrue)
    }

    /// Whether threads are parked on this latch.
    pub(crate) fn has_parked(&self) -> bool {
        self.0.load(Ordering::Relaxed) & PARKED != 0
    }

    /// Locks if the latch still stands at `version`.
    #[inline]
    pub(crate) fn try_upgrade(&self, version: Version) -> Option<Exclusive<'_>> {
        self.0
            .compare_exchange(
                version.0,
                version.0 | LOCKED,
                order("latch.lock", Ordering::Acquire),
                Ordering::Relaxed,
            )
            .is_ok()
            .then(|| Exclusive::new(self))
    }

    /// Locks if nobody holds the latch.
    pub(crate) fn try_lock(&self) -> Option<Exclusive<'_>> {
        self.try_version().and_then(|v| self.try_upgrade(v))
    }

    /// Locks if the latch becomes free in a moment; never parks.
    pub(crate) fn lock_soon(&self) -> Option<Exclusive<'_>> {
        (0..SPINS).find_map(|_| {
            let guard = self.try_lock();
            if guard.is_none() {
                thread::spin();
            }
            guard
        })
    }

    /// Locks, waiting as long as it takes.
    #[inline]
    pub(crate) fn lock(&self) -> Exclusive<'_> {
        match self.try_lock() {
            Some(guard) => guard,
            None => self.lock_slow(),
        }
    }

    #[cold]
    fn lock_slow(&self) -> Exclusive<'_> {
        #[cfg(feature = "experiment-cow")]
        let _waiting = latch_times::Waiting::begin();
        loop {
            self.wait_unlocked();
            if let Some(guard) = self.try_lock() {
                return guard;
            }
        }
    }

    #[cold]
    fn wait_unlocked(&self) {
        for _ in 0..SPINS {
            if self.0.load(Ordering::Relaxed) & LOCKED == 0 {
                return;
            }
            thread::spin();
        }
        let word = self.0.load(Ordering::Relaxed);
        if word & LOCKED == 0 {
            return;
        }
        if word & PARKED == 0
            && self
                .0
                .compare_exchange(word, word | PARKED, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            thread::yield_now();
            return;
        }
        let expected = word | PARKED;
        let stands = || self.0.load(Ordering::Relaxed) == expected;
        depth::park_on(self.key(), stands);
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    fn release(&self, version: u64) {
        let old = self
            .0
            .swap(version, order("latch.release", Ordering::Release));
        debug_assert!(old & LOCKED != 0, "released a latch that was not held");
        if old & PARKED != 0 && !fault!(LostWakeUp) {
            depth::unpark_all(self.key());
        }
    }
}

/// An exclusively held latch. Dropping it releases and moves the version on.
#[derive(Debug)]
pub(crate) struct Exclusive<'a> {
    latch: &'a Latch,
    changed: bool,
    #[cfg(faults)]
    early: std::cell::Cell<bool>,
    #[cfg(feature = "experiment-cow")]
    since: gaur_iodriver::sync::time::Instant,
}

impl<'a> Exclusive<'a> {
    #[inline]
    fn new(latch: &'a Latch) -> Self {
        // Pairs with the fence in `validate`: a reader that saw any of the data
        // written from here on also sees the lock or a later version.
        fence("latch.locked", Ordering::Release);
        depth::acquired();
        Self {
            latch,
            changed: true,
            #[cfg(faults)]
            early: std::cell::Cell::new(false),
            #[cfg(feature = "experiment-cow")]
            since: gaur_iodriver::sync::time::now(),
        }
    }

    /// Releases now and not when dropped: a fault.
    #[cfg(faults)]
    pub(crate) fn release_early(&self) {
        let version = self.latch.0.load(Ordering::Relaxed) & !(LOCKED | PARKED);
        self.latch.release(version + STEP);
        self.early.set(true);
    }

    /// The version at which it was locked.
    pub(crate) fn version(&self) -> Version {
        Version(self.latch.0.load(Ordering::Relaxed) & !(LOCKED | PARKED))
    }

    /// Releases at the old version: nothing that a reader validates was changed.
    pub(crate) fn release_unchanged(mut self) {
        self.changed = false;
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        #[cfg(faults)]
        if self.early.get() {
            return depth::released();
        }
        let held = self.latch.0.load(Ordering::Relaxed);
        let version = held & !(LOCKED | PARKED);
        self.latch.release(if self.changed {
            version + STEP
        } else {
            version
        });
        depth::released();
        #[cfg(feature = "experiment-cow")]
        latch_times::held(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn readers_see_all_or_nothing() {
        // Breaks if a fence or the validation is taken out: two words that a
        // writer always keeps equal are read as unequal. The writers go on until the
        // reader has seen enough: on a busy machine it may have no processor for long.
        let (latch, one, two) = (Latch::default(), AtomicU64::new(0), AtomicU64::new(0));
        let over = AtomicBool::new(false);
        let write = || {
            let mut rounds = 0_u64;
            while !over.load(Ordering::Relaxed) {
                let _g = latch.lock();
                let n = one.load(Ordering::Relaxed) + 1;
                one.store(n, Ordering::Relaxed);
                two.store(n, Ordering::Relaxed);
                rounds += 1;
            }
            rounds
        };
        let written: u64 = std::thread::scope(|s| {
            let writers = [s.spawn(write), s.spawn(write)];
            let mut torn = None;
            let mut seen = 0_u32;
            while (seen < 10_000 || one.load(Ordering::Relaxed) < 400_000) && torn.is_none() {
                let v = latch.version();
                let a = one.load(Ordering::Relaxed);
                // Time for a writer to come between.
                for _ in 0..seen % 16 {
                    std::hint::spin_loop();
                }
                let b = two.load(Ordering::Relaxed);
                if latch.validate(v) {
                    torn = (a != b).then_some((a, b));
                    seen += 1;
                }
            }
            // Before anything can panic: the writers wait for it.
            over.store(true, Ordering::Relaxed);
            let written = writers.map(|w| w.join().unwrap()).iter().sum();
            assert_eq!(torn, None);
            written
        });
        assert_eq!(one.load(Ordering::Relaxed), written);
        assert_eq!(gaur_iodriver::sync::latch::depth(), 0);
    }

    #[test]
    fn upgrade_fails_after_a_change_and_not_after_none() {
        let l = Latch::default();
        let v = l.version();
        l.lock().release_unchanged();
        assert!(l.validate(v));
        drop(l.lock());
        assert!(!l.validate(v));
        assert!(l.try_upgrade(v).is_none());
        let v = l.version();
        let g = l.try_upgrade(v).unwrap();
        assert!(l.try_version().is_none() && l.try_lock().is_none());
        drop(g);
    }

    /// Hangs, and says so, if whoever waits does not park, or is not woken.
    #[test]
    fn who_waits_parks_and_is_woken() {
        use gaur_iodriver::sync::channel;
        use std::time::{Duration, Instant};
        type Wait = fn(&Latch);
        let waits: [Wait; 2] = [|l| drop(l.lock()), |l| _ = l.version()];
        let releases: [fn(Exclusive<'_>); 2] = [|held| drop(held), |held| held.release_unchanged()];
        for (wait, release) in waits.into_iter().flat_map(|w| releases.map(|r| (w, r))) {
            // Not joined, so that one that hangs does not keep the test.
            let latch = std::sync::Arc::new(Latch::default());
            let (done, is_done) = channel::bounded(2);
            let held = latch.lock();
            assert!(!latch.has_parked());
            for _ in 0..2 {
                let (latch, done) = (latch.clone(), done.clone());
                std::thread::spawn(move || {
                    wait(&latch);
                    let _ = done.try_send(());
                });
            }
            let patience = Instant::now() + Duration::from_secs(20);
            while !latch.has_parked() {
                assert!(Instant::now() < patience, "nobody parks");
                std::thread::sleep(Duration::from_millis(1));
            }
            // Time for the other one, which finds the mark set.
            std::thread::sleep(Duration::from_millis(5));
            assert!(is_done.try_recv().is_err(), "did not wait");
            release(held);
            for _ in 0..2 {
                while is_done.try_recv().is_err() {
                    assert!(Instant::now() < patience, "nobody is woken");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            assert!(!latch.has_parked());
        }
    }

    #[test]
    fn who_only_tries_gets_it_or_not() {
        let l = Latch::default();
        let held = l.lock();
        assert!(l.lock_soon().is_none() && l.try_lock().is_none());
        assert!(!l.has_parked(), "who only tries does not park");
        drop(held);
        assert!(l.try_lock().is_some());
        let soon = l.lock_soon();
        assert!(soon.is_some() && l.try_version().is_none());
    }

    #[test]
    fn each_release_is_another_version() {
        let l = Latch::default();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let version = l.version();
            assert!(seen.insert(version.0), "{version:?} came again");
            assert!(!l.has_parked());
            drop(l.lock());
        }
    }

    /// Who holds it knows the version at which it was locked, whoever parks meanwhile.
    #[test]
    fn the_holder_knows_the_version() {
        let l = Latch::default();
        for _ in 0..3 {
            let before = l.version();
            let held = l.lock();
            assert_eq!(held.version(), before);
            let word = l.0.load(Ordering::Relaxed);
            l.0.store(word | PARKED, Ordering::Relaxed);
            assert_eq!(held.version(), before);
            drop(held);
            assert!(!l.has_parked() && l.version().0 == before.0 + STEP);
        }
    }
}
