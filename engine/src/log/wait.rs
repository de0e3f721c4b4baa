//! Threads that wait for a commit to be durable.
//!
//! Each waits in the shard of its CSN, so an acknowledgement wakes the threads
//! whose commits it covers and hardly any other, in order of their CSNs.

use gaur_iodriver::sync::atomic::step;
use gaur_iodriver::sync::{Condvar, Mutex};

use crate::format::Csn;

const SHARDS: usize = if cfg!(loom) { 2 } else { 64 };

#[derive(Debug, Default)]
struct Shard {
    lock: Mutex<()>,
    changed: Condvar,
}

impl Shard {
    fn wake(&self) {
        // A waiter that has looked and not yet parked holds the lock.
        if step("log.wake_behind_lock") {
            drop(self.lock.lock());
        }
        self.changed.notify_all();
    }
}

/// The waiting threads.
#[derive(Debug)]
pub(super) struct Waiters {
    shards: [Shard; SHARDS],
}

impl Waiters {
    /// Nobody waits.
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
        }
    }

    /// Waits until `over` is true, which a later [`Waiters::wake`] that covers
    /// `csn` tells.
    pub(super) fn wait(&self, csn: Csn, over: impl Fn() -> bool) {
        let shard = &self.shards[csn as usize % SHARDS];
        let mut guard = shard.lock.lock();
        while !over() {
            shard.changed.wait(&mut guard);
        }
    }

    /// Wakes those who wait for a commit after `from` up to `to`.
    pub(super) fn wake(&self, from: Csn, to: Csn) {
        for csn in from + 1..=to.min(from + SHARDS as u64) {
            self.shards[csn as usize % SHARDS].wake();
        }
    }

    /// Wakes all.
    pub(super) fn wake_all(&self) {
        self.shards.iter().for_each(Shard::wake);
    }
}
