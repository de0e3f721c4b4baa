//! The extent pool: between a tree worker and the allocator thread.
//!
//! Each worker keeps a small *stash* of blocks reserved ahead. Under a latch it
//! only ever takes without waiting: from the stash, then from the allocator's
//! channel. With no latch held it may ask the allocator and wait.
//!
//! For every worker, blocks taken = used + returned + still in the stash.

use std::sync::Arc;

use crate::alloc::{Allocator, Request, Shape, SpaceError, Urgency};
use crate::format::{BlockNo, Run};
use crate::stats::Wait;
use crate::worker::Worker;

/// Blocks a stash may keep between operations; what is above goes back.
const STASH_KEEP: u64 = 64;

/// The allocator as seen by workers.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    alloc: Arc<Allocator>,
}

impl Pool {
    pub(crate) fn new(alloc: Arc<Allocator>) -> Self {
        Self { alloc }
    }

    pub(crate) fn allocator(&self) -> &Arc<Allocator> {
        &self.alloc
    }

    /// Blocks in the worker's stash.
    pub(crate) fn stashed(worker: &Worker) -> u64 {
        worker.stash.lock().iter().map(|r| u64::from(r.len)).sum()
    }

    /// One block from the stash.
    pub(crate) fn take_stashed(worker: &Worker) -> Option<BlockNo> {
        let mut stash = worker.stash.lock();
        let run = stash.last_mut()?;
        let block = run.start;
        run.start += 1;
        run.len -= 1;
        if run.len == 0 {
            stash.pop();
        }
        Some(block)
    }

    /// One block from the stash or else the channel; never waits.
    pub(crate) fn try_take(&self, worker: &Worker) -> Option<BlockNo> {
        Self::take_stashed(worker).or_else(|| {
            let run = self.alloc.try_take()?;
            worker.counters.taken_from_channel.add(u64::from(run.len));
            worker.stash.lock().push(run);
            Self::take_stashed(worker)
        })
    }

    /// Puts a block back that was taken and not used.
    pub(crate) fn keep(worker: &Worker, block: BlockNo) {
        worker.stash.lock().push(Run::single(block));
    }

    /// Fills the stash up to `blocks`; waits for the allocator.
    pub(crate) fn reserve(
        &self,
        worker: &Worker,
        blocks: u64,
        hint: BlockNo,
        urgency: Urgency,
    ) -> Result<(), SpaceError> {
        let missing = blocks.saturating_sub(Self::stashed(worker));
        if missing == 0 {
            return Ok(());
        }
        let request = Request {
            blocks: missing as u32,
            shape: Shape::Nodes,
            hint,
            urgency,
        };
        let runs = worker
            .counters
            .waiting(Wait::Reservation, || self.alloc.reserve(request))?;
        worker.counters.taken_by_request.add(missing);
        worker.stash.lock().extend(runs);
        Ok(())
    }

    /// At the end of an operation: gives back what the stash may not keep.
    pub(crate) fn settle(&self, worker: &Worker) {
        if Self::stashed(worker) > STASH_KEEP {
            self.give_back(worker, STASH_KEEP);
        }
    }

    /// Gives back all but `keep` blocks of the stash.
    pub(crate) fn give_back(&self, worker: &Worker, keep: u64) {
        let mut back = Vec::new();
        {
            let mut stash = worker.stash.lock();
            let mut have: u64 = stash.iter().map(|r| u64::from(r.len)).sum();
            while have > keep {
                let Some(run) = stash.pop() else { break };
                have -= u64::from(run.len);
                back.push(run);
            }
        }
        if !back.is_empty() {
            worker
                .counters
                .blocks_returned
                .add(back.iter().map(|r| u64::from(r.len)).sum());
            self.alloc.give_back(back);
        }
    }
}
