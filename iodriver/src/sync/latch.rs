//! How many latches this thread holds, and the check that it may wait.
//!
//! A latch is a lock held for a bounded number of instructions. The depth is
//! kept for every thread, in all builds.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

static WAITS_UNDER_LATCH: AtomicU64 = AtomicU64::new(0);

/// Latches the calling thread holds now.
pub fn depth() -> u32 {
    DEPTH.with(Cell::get)
}

/// Counts one more latch held by this thread. Pair with [`released`].
pub fn acquired() {
    DEPTH.with(|d| d.set(d.get() + 1));
    super::point();
}

/// Counts one latch fewer.
///
/// # Panics
/// If the thread holds none: a latch was released twice.
pub fn released() {
    DEPTH.with(|d| {
        assert!(
            d.get() > 0,
            "a latch was released that this thread does not hold"
        );
        d.set(d.get() - 1);
    });
    super::point();
}

/// Called by every primitive that may wait, before it waits.
///
/// # Panics
/// If the thread holds a latch: promise P4 is broken by our own code.
#[track_caller]
pub fn assert_may_block(what: &str) {
    let held = depth();
    if held > 0 {
        WAITS_UNDER_LATCH.fetch_add(1, Ordering::Relaxed);
        if !std::thread::panicking() {
            panic!("{what} may wait, but this thread holds {held} latch(es)");
        }
    }
}

/// Runs `f` as if the thread held no latch.
#[cfg(feature = "experiment-cow")]
pub fn ignoring_latches<T>(f: impl FnOnce() -> T) -> T {
    let held = DEPTH.with(|d| d.replace(0));
    let out = f();
    DEPTH.with(|d| d.set(held));
    out
}

/// Waits attempted under a latch since the process started. Always 0 in a
/// correct build; each one also panics.
pub fn waits_under_latch() -> u64 {
    WAITS_UNDER_LATCH.load(Ordering::Relaxed)
}

/// Parks the calling thread on the address `key` until [`unpark_all`] is called
/// with it. `validate` runs under the queue's lock: the thread parks only if it
/// returns true.
///
/// This is the waiting half of a latch, so it may be called with other latches
/// held; the latch protocol says when (see the engine's concurrency document).
#[track_caller]
pub fn park_on(key: usize, validate: impl FnOnce() -> bool) {
    #[cfg(feature = "simulation")]
    if super::schedule::is_simulated() {
        super::schedule::seam::park(key, validate);
        return;
    }
    // SAFETY: `key` is the address of a live object owned by the caller, used by
    // no other parking protocol; the closures below neither panic nor park.
    unsafe {
        parking_lot_core::park(
            key,
            validate,
            || {},
            |_, _| {},
            parking_lot_core::DEFAULT_PARK_TOKEN,
            None,
        );
    }
}

/// Wakes every thread parked on `key`; returns how many there were.
pub fn unpark_all(key: usize) -> usize {
    #[cfg(feature = "simulation")]
    if super::schedule::is_simulated() {
        return super::schedule::wake_all(key);
    }
    // SAFETY: as for `park_on`.
    unsafe { parking_lot_core::unpark_all(key, parking_lot_core::DEFAULT_UNPARK_TOKEN) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocking_under_a_latch_is_caught_and_counted() {
        let before = waits_under_latch();
        let caught = std::thread::spawn(|| {
            acquired();
            assert_may_block("a test");
        })
        .join();
        assert!(caught.is_err());
        // Other tests in this process may break the rule on purpose too.
        assert!(waits_under_latch() > before);
    }

    #[test]
    fn depth_counts_nesting() {
        assert_eq!(depth(), 0);
        acquired();
        acquired();
        assert_eq!(depth(), 2);
        released();
        released();
        assert_may_block("nothing held");
    }
}
