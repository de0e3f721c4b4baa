//! The extent pool: between a tree worker and the allocator thread.
//!
//! Each worker keeps a small *stash* of blocks reserved ahead. Under a latch it
//! only ever takes without waiting: from the stash, then from the allocator's
//! channel. With no latch held it may ask the allocator and wait. When space is
//! short whoever needs it takes back what lies idle in all stashes (`shortage`).
//!
//! For every worker, blocks taken = used + returned + still in the stash.

use std::sync::Arc;

use gaur_iodriver::sync::atomic::step;
use gaur_iodriver::sync::within;

use crate::alloc::{Allocator, Request, Shape, SpaceError, Urgency};
#[cfg(feature = "experiment-cow")]
use crate::experiment::CowMode;
use crate::format::{BlockNo, Run};
use crate::stats::Wait;
use crate::worker::{Worker, Workers};

/// Blocks a stash may keep between operations; what is above goes back.
const STASH_KEEP: u64 = 64;

/// What a worker holds in advance.
#[derive(Debug, Default)]
pub(crate) struct Stash {
    runs: Vec<Run>,
    /// An operation under way asked for these blocks, so nobody else takes them.
    reserved: bool,
}

impl Stash {
    fn blocks(&self) -> u64 {
        self.runs.iter().map(|r| u64::from(r.len)).sum()
    }

    fn take(&mut self) -> Option<BlockNo> {
        let run = self.runs.last_mut()?;
        let block = run.start;
        run.start += 1;
        run.len -= 1;
        if run.len == 0 {
            self.runs.pop();
        }
        Some(block)
    }
}

/// The allocator as seen by workers.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    alloc: Arc<Allocator>,
    #[cfg(feature = "experiment-cow")]
    mode: CowMode,
}

impl Pool {
    pub(crate) fn new(
        alloc: Arc<Allocator>,
        #[cfg(feature = "experiment-cow")] mode: CowMode,
    ) -> Self {
        Self {
            alloc,
            #[cfg(feature = "experiment-cow")]
            mode,
        }
    }

    /// Whether nodes are copied in one stage. Never, but in an experiment.
    #[cfg(not(feature = "experiment-cow"))]
    pub(crate) const fn is_inline(&self) -> bool {
        false
    }

    /// Whether nodes are copied in one stage.
    #[cfg(feature = "experiment-cow")]
    pub(crate) fn is_inline(&self) -> bool {
        self.mode == CowMode::Inline
    }

    /// As [`Pool::try_take`], but waits, whatever latches the caller holds: one stage
    /// instead of two.
    #[cfg(feature = "experiment-cow")]
    pub(crate) fn take_inline(
        &self,
        worker: &Worker,
        blocks: u64,
        hint: BlockNo,
    ) -> Option<BlockNo> {
        gaur_iodriver::sync::latch::ignoring_latches(|| {
            self.reserve(worker, blocks, hint, Urgency::Normal).ok()
        })?;
        Self::take_stashed(worker)
    }

    pub(crate) fn allocator(&self) -> &Arc<Allocator> {
        &self.alloc
    }

    /// Blocks in the worker's stash.
    pub(crate) fn stashed(worker: &Worker) -> u64 {
        worker.stash.lock().blocks()
    }

    /// One block from the stash.
    pub(crate) fn take_stashed(worker: &Worker) -> Option<BlockNo> {
        worker.stash.lock().take()
    }

    /// One block from the stash or else the channel; never waits.
    pub(crate) fn try_take(&self, worker: &Worker) -> Option<BlockNo> {
        let _site = within("reservation hand-off");
        Self::take_stashed(worker).or_else(|| {
            let run = self.alloc.try_take()?;
            worker.counters.taken_from_channel.add(u64::from(run.len));
            let mut stash = worker.stash.lock();
            stash.runs.push(run);
            stash.take()
        })
    }

    /// Puts a block back that was taken and not used.
    pub(crate) fn keep(worker: &Worker, block: BlockNo) {
        worker.stash.lock().runs.push(Run::single(block));
    }

    /// Fills the stash up to `blocks`; waits for the allocator. Until the operation
    /// ends ([`Pool::settle`]) nobody recalls them. If they are not to be had the
    /// stash stays as it is, and may be recalled.
    pub(crate) fn reserve(
        &self,
        worker: &Worker,
        blocks: u64,
        hint: BlockNo,
        urgency: Urgency,
    ) -> Result<(), SpaceError> {
        let _site = within("reservation hand-off");
        let missing = {
            let mut stash = worker.stash.lock();
            stash.reserved = step("stash.reserve");
            blocks.saturating_sub(stash.blocks())
        };
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
            .waiting(Wait::Reservation, || self.alloc.reserve(request));
        let mut stash = worker.stash.lock();
        match runs {
            Ok(runs) => {
                worker.counters.taken_by_request.add(missing);
                stash.runs.extend(runs);
                Ok(())
            }
            Err(e) => {
                stash.reserved = false;
                Err(e)
            }
        }
    }

    /// At the end of an operation: gives back what the stash may not keep, which is
    /// all if the operation was `short` of space: it may have drawn on the reserve.
    pub(crate) fn settle(&self, worker: &Worker, short: bool) {
        let keep = if short { 0 } else { STASH_KEEP };
        let over = {
            let mut stash = worker.stash.lock();
            stash.reserved = false;
            stash.blocks() > keep
        };
        if over {
            self.give_back(worker, keep);
        }
    }

    /// For an operation that ends by a panic: what it asked for may be recalled. The
    /// blocks stay in the stash, for the thread's next operation.
    pub(crate) fn release(worker: &Worker) {
        worker.stash.lock().reserved = false;
    }

    /// Gives back what lies in the stashes of all workers, except what operations
    /// under way asked for. Returns how many blocks that were.
    pub(crate) fn recall(&self, worker: &Worker, workers: &Workers) -> u64 {
        let mut back = Vec::new();
        for w in workers.all() {
            let mut stash = w.stash.lock();
            if !stash.reserved {
                back.append(&mut stash.runs);
            }
        }
        let blocks = back.iter().map(|r| u64::from(r.len)).sum();
        if blocks > 0 {
            // Its own counter: the account is kept over all workers together.
            worker.counters.blocks_returned.add(blocks);
            self.alloc.give_back_unused(back);
        }
        blocks
    }

    /// Gives back all but `keep` blocks of the stash.
    pub(crate) fn give_back(&self, worker: &Worker, keep: u64) {
        let mut back = Vec::new();
        {
            let mut stash = worker.stash.lock();
            let mut have = stash.blocks();
            while have > keep {
                let Some(run) = stash.runs.pop() else { break };
                have -= u64::from(run.len);
                back.push(run);
            }
        }
        if !back.is_empty() {
            worker
                .counters
                .blocks_returned
                .add(back.iter().map(|r| u64::from(r.len)).sum());
            self.alloc.give_back_unused(back);
        }
    }
}
