//! The thread that discards. It has its own queue, so a slow discard holds up
//! nothing but the blocks it is about.

use gaur_iodriver::sync::channel::Receiver;
use gaur_iodriver::{Completion, Op, Queue, Request};

use crate::format::{Geometry, Run};

use super::counters::add;
use super::handle::Mailbox;
use super::runs::RunList;
use super::thread::Msg;

/// Batches taken together.
const BATCHES: usize = 64;

/// The discard thread's state.
pub(super) struct Discarder {
    pub(super) geometry: Geometry,
    /// Unit of discard in bytes: what is smaller is left out.
    pub(super) granularity: u64,
    pub(super) queue: Box<dyn Queue>,
    pub(super) batches: Receiver<RunList>,
    pub(super) allocator: Mailbox,
}

impl Discarder {
    /// Works until the allocator hangs up.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.batches.recv() {
            let mut taken = vec![first];
            while taken.len() < BATCHES
                && let Ok(next) = self.batches.try_recv()
            {
                taken.push(next);
            }
            let all = taken.iter().flat_map(RunList::runs).copied();
            let runs = RunList::new(all.collect());
            self.discard(runs.runs());
            self.allocator.send(Msg::Discarded(runs));
        }
    }

    fn discard(&mut self, runs: &[Run]) {
        let counters = &self.allocator.shared.counters;
        let mut requests = Vec::new();
        for &run in runs {
            let start = self
                .geometry
                .byte(run.start)
                .next_multiple_of(self.granularity);
            let end = self.geometry.byte(run.end()) / self.granularity * self.granularity;
            if start < end {
                add(
                    &counters.discard_blocks,
                    (end - start) / u64::from(self.geometry.block_size),
                );
                requests.push(Request {
                    token: 0,
                    op: Op::Discard {
                        offset: start,
                        len: end - start,
                    },
                });
            }
        }
        let mut left = requests.len();
        add(&counters.discards, left as u64);
        let mut broken = self.queue.submit(&mut requests).is_err();
        let mut done: Vec<Completion> = Vec::new();
        while left > 0 && !broken {
            broken = self.queue.wait(1, None, &mut done).is_err();
            left = left.saturating_sub(done.len());
            let failed = done.drain(..).filter(|c| c.result.is_err()).count();
            add(&counters.discard_failures, failed as u64);
        }
        if broken {
            add(&counters.discard_failures, left as u64);
        }
    }
}
