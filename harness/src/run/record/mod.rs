//! Recording: each thread into histograms of its own, which are taken from it once
//! a second and added up, never averaged.
//!
//! What must hold: an operation is in exactly one second, and the seconds of a phase
//! add up to the phase. So there is one record of it: the seconds; all else is their
//! sum. A thread records under a lock that nobody else takes but once a second, and
//! then only to exchange pointers: the price is two uncontended atomic operations,
//! and a thread that is stuck in a long operation keeps nothing from its second.

mod hlog;
mod interval;
mod journal;
mod series;
mod tails;
mod tape;
mod worst;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

pub(crate) use interval::{Short, accumulate};
pub(crate) use journal::Journal;
pub(crate) use series::{amplification, engines, hit_rate};
pub(crate) use tails::Tails;
pub(crate) use tape::{Recorded, Tape};
pub(crate) use worst::Slow;

use super::measure::{Done, Op};
use crate::failure::Failure;
use interval::Ops;
use worst::{Worst, nanos};

/// What one thread saw since it was last taken.
#[derive(Debug)]
pub(crate) struct Slot {
    ops: CachePadded<Mutex<Ops>>,
    /// How many operations may occur.
    count: usize,
    open_loop: bool,
    /// Of a thread that works beside the measured ones.
    beside: bool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Ops> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's means to record.
#[derive(Debug)]
pub(crate) struct Recorder {
    slot: Arc<Slot>,
    worst: Worst,
    /// Operations of an open loop that were due and not begun when time was up.
    pub(crate) not_started: u64,
    /// Processor time of the thread in the loop.
    pub(crate) processor: Duration,
}

impl Recorder {
    /// Makes room for these operations now, so that recording never allocates. For
    /// the calling thread; the `worst` slowest are explained.
    pub(crate) fn new(
        ops: impl IntoIterator<Item = Op>,
        open_loop: bool,
        worst: usize,
        thread: usize,
    ) -> Result<Self, Failure> {
        let mut room = Ops::default();
        for op in ops {
            room[op as usize] = Some(Box::new(Short::new(open_loop)?));
        }
        let slot = Slot {
            count: room.iter().flatten().count(),
            ops: CachePadded::new(Mutex::new(room)),
            open_loop,
            beside: false,
        };
        Ok(Self {
            slot: Arc::new(slot),
            worst: Worst::new(worst, thread),
            not_started: 0,
            processor: Duration::ZERO,
        })
    }

    /// Counts one operation that has just ended. `waited` is what an open loop was
    /// late by.
    #[inline]
    pub(crate) fn record(
        &mut self,
        op: Op,
        begin: Instant,
        service: Duration,
        waited: Option<Duration>,
        done: Done,
    ) {
        let took = nanos(service);
        let latency = took.saturating_add(waited.map_or(0, nanos));
        if let Some(seen) = &mut self.slot.lock()[op as usize] {
            seen.record(latency, took, done);
        }
        self.worst.look(op, begin, begin + service, latency);
    }

    /// The same, of a thread that works beside the measured ones.
    pub(crate) fn beside(mut self) -> Self {
        if let Some(slot) = Arc::get_mut(&mut self.slot) {
            slot.beside = true;
        }
        self
    }

    /// Where it records.
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

/// A subject for tests that record.
#[cfg(test)]
pub(crate) struct Nothing;

#[cfg(test)]
impl crate::subject::Subject for Nothing {
    fn session(&self) -> Result<Box<dyn crate::subject::Session + '_>, Failure> {
        Err(Failure::refused("there is nothing"))
    }

    fn flush(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
