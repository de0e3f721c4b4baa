//! The latch depth of a model's threads, and parking.

use std::cell::Cell;

use loom::sync::Mutex;
use loom::thread::Thread;

use crate::sync::atomic::step;

loom::thread_local! {
    static DEPTH: Cell<u32> = Cell::new(0);
}

loom::lazy_static! {
    static ref PARKED: Mutex<Vec<(usize, Thread)>> = Mutex::new(Vec::new());
}

/// Latches the calling thread holds now.
pub fn depth() -> u32 {
    DEPTH.with(Cell::get)
}

/// Counts one more latch held by this thread. Pair with [`released`].
pub fn acquired() {
    DEPTH.with(|d| d.set(d.get() + 1));
}

/// Counts one latch fewer.
///
/// # Panics
/// If the thread holds none.
pub fn released() {
    DEPTH.with(|d| d.set(d.get().checked_sub(1).expect("a latch is released once")));
}

/// Called by every primitive that may wait, before it waits.
///
/// # Panics
/// If the thread holds a latch.
#[track_caller]
pub fn assert_may_block(what: &str) {
    let held = depth();
    assert!(
        held == 0 || std::thread::panicking(),
        "{what} may wait, but this thread holds {held} latch(es)"
    );
}

/// There is none in a model: it panics.
pub fn waits_under_latch() -> u64 {
    0
}

/// Parks the calling thread on `key`, if `validate` returns true under the lock of the
/// queue of parked threads.
pub fn park_on(key: usize, validate: impl FnOnce() -> bool) {
    let mut validate = Some(validate);
    let mut look = || validate.take().is_none_or(|v| v());
    if !step("park.look_under_lock") && !look() {
        return;
    }
    let mut parked = PARKED.lock().expect("no poison in a model");
    if look() {
        parked.push((key, loom::thread::current()));
        drop(parked);
        loom::thread::park();
    }
}

/// Wakes every thread parked on `key`; returns how many there were.
pub fn unpark_all(key: usize) -> usize {
    let woken: Vec<_> = {
        let mut parked = PARKED.lock().expect("no poison in a model");
        parked.extract_if(.., |p| p.0 == key).collect()
    };
    woken.iter().for_each(|p| p.1.unpark());
    woken.len()
}
