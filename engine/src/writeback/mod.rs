//! Writing nodes out: early, by the evictor, and all of a generation, by the
//! checkpointer.

pub(crate) mod catalog;
pub(crate) mod checkpoint;
pub(crate) mod deadlist;
pub(crate) mod doomed;
pub(crate) mod evict;
pub(crate) mod grow;
pub(crate) mod held;
pub(crate) mod mend;
pub(crate) mod reclaim;
mod retain;
mod shrink;
pub(crate) mod superblock;

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::format::Generation;

/// Early writes in flight, counted apart for generations of even and odd number:
/// the checkpointer of a generation waits for those that belong to it. (One
/// checkpoint runs at a time, so two generations write at most.)
#[derive(Debug, Default)]
pub(crate) struct InFlight([CachePadded<AtomicU64>; 2]);

impl InFlight {
    fn of(&self, generation: Generation) -> &AtomicU64 {
        &self.0[(generation.0 & 1) as usize]
    }

    /// One more; called inside the gate.
    pub(crate) fn begin(&self, generation: Generation) {
        self.of(generation).fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn end(&self, generation: Generation) {
        self.of(generation).fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn count(&self, generation: Generation) -> u64 {
        self.of(generation).load(Ordering::SeqCst)
    }
}
