//! A queue of a simulated disk.
//!
//! It has no thread of its own: operations are carried out by the owner, in
//! `wait`, when their time has come. That is what makes the same calls give the
//! same results.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::core::{Core, Due, Ticket};
use crate::bell::Bell;
use crate::check;
use crate::contract::{Completion, Op, Queue, Request, Waker};
use crate::counters::Counters;
use crate::error::IoError;
use crate::sync::{latch, time};

/// An operation the disk has.
#[derive(Debug)]
struct Running {
    ticket: Ticket,
    due: Due,
    request: Request,
}

#[derive(Debug)]
pub(crate) struct SimQueue {
    core: Arc<Core>,
    counters: Arc<Counters>,
    capacity: Arc<AtomicU64>,
    bell: Arc<Bell>,
    depth: usize,
    backlog: VecDeque<(Ticket, Request)>,
    running: Vec<Running>,
    ready: Vec<Completion>,
}

impl SimQueue {
    pub(crate) fn new(
        core: Arc<Core>,
        counters: Arc<Counters>,
        capacity: Arc<AtomicU64>,
        depth: u32,
    ) -> Self {
        Self {
            bell: core.bell(),
            core,
            counters,
            capacity,
            depth: depth.max(1) as usize,
            backlog: VecDeque::new(),
            running: Vec::new(),
            ready: Vec::new(),
        }
    }

    fn start(&mut self) {
        while self.running.len() < self.depth {
            let Some((ticket, request)) = self.backlog.pop_front() else {
                return;
            };
            let due = self.core.start(&ticket, &request.op);
            self.running.push(Running {
                ticket,
                due,
                request,
            });
        }
    }

    /// Carries out what is due, and starts what then has room, until nothing is.
    /// Returns how long until the next is due, if that is known.
    fn carry_out_due(&mut self) -> Option<Duration> {
        loop {
            self.start();
            let now = time::now();
            let mut next: Option<Duration> = None;
            let mut due = Vec::new();
            let mut later = Vec::new();
            for running in self.running.drain(..) {
                match self.core.time_left(&running.ticket, running.due, now) {
                    Some(left) if left.is_zero() => due.push(running),
                    left => {
                        next = match (next, left) {
                            (Some(a), Some(b)) => Some(a.min(b)),
                            (a, b) => a.or(b),
                        };
                        later.push(running);
                    }
                }
            }
            self.running = later;
            if due.is_empty() {
                return next;
            }
            self.core.shuffle(&mut due);
            for running in due {
                self.end(running);
            }
        }
    }

    fn end(&mut self, running: Running) {
        let Request { token, mut op } = running.request;
        let result = self.core.carry_out(&running.ticket, &mut op);
        let buf = match op {
            Op::Read { buf, .. } | Op::Write { buf, .. } => Some(buf),
            Op::Flush | Op::Discard { .. } => None,
        };
        self.ready.push(Completion { token, result, buf });
    }
}

impl Queue for SimQueue {
    fn submit(&mut self, requests: &mut Vec<Request>) -> Result<(), IoError> {
        let geometry = self.core.geometry(self.capacity.load(Ordering::Acquire));
        for request in requests.drain(..) {
            match check::op(&geometry, false, &request.op) {
                Ok(()) => {
                    self.counters.op(&request.op);
                    let ticket = self.core.ticket(&request.op);
                    self.backlog.push_back((ticket, request));
                }
                Err(error) => self.ready.push(Completion::refused(request, error)),
            }
        }
        self.start();
        Ok(())
    }

    fn wait(
        &mut self,
        at_least: usize,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> Result<usize, IoError> {
        if at_least > 0 {
            latch::assert_may_block("Queue::wait");
        }
        let before = out.len();
        let any = at_least == usize::MAX;
        let look = !any && (at_least == 0 || self.in_flight() < at_least);
        let goal = if any { 1 } else { at_least };
        let deadline = timeout.and_then(|t| time::now().checked_add(t));
        loop {
            let next = self.carry_out_due();
            out.append(&mut self.ready);
            let n = out.len() - before;
            let woken = at_least > 0 && self.bell.take_wake();
            if woken || look || n >= goal {
                return Ok(n);
            }
            let left = deadline.map(|d| d.saturating_duration_since(time::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(n);
            }
            let sleep = match (left, next) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            self.bell.listen(sleep);
        }
    }

    fn in_flight(&self) -> usize {
        self.running.len() + self.backlog.len() + self.ready.len()
    }

    fn waker(&self) -> Waker {
        self.bell.clone()
    }
}

impl Drop for SimQueue {
    fn drop(&mut self) {
        // What the disk has is carried out, now: a stall would last for ever.
        for running in std::mem::take(&mut self.running) {
            self.end(running);
        }
    }
}
