//! An allocator without a thread, for `gaur experiment cow`: whoever wants something of
//! it turns the loop itself, and does the I/O that this begins, until it has its answer.
//!
//! The loop's state is under a mutex, which nobody holds while it does I/O. So callers
//! read map blocks beside each other; who needs one that another is reading waits for
//! that. A caller that wants blocks never does a checkpoint's work. Nothing is done
//! ahead: the channel stays empty.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::{Condvar, Mutex};
use gaur_iodriver::{Completion, Device, Op, Queue, Request};

use super::counters::add;
use super::thread::{Turner, Worker};
use crate::error::Result;
use gaur_iodriver::sync::channel::Sender;

impl Turner {
    pub(super) fn steps_freeze(self) -> bool {
        self != Self::Taker
    }

    pub(super) fn fills_channel(self) -> bool {
        self == Self::Thread
    }
}

/// What callers share instead of a thread.
pub(super) struct Callers {
    /// `None`: it was shut down.
    state: Mutex<Option<Worker>>,
    /// A turn was made that may have answered somebody.
    turned: Condvar,
    device: Arc<dyn Device>,
    /// For several I/Os at once: a checkpoint's.
    together: Mutex<Box<dyn Queue>>,
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers").finish_non_exhaustive()
    }
}

impl Callers {
    pub(super) fn new(worker: Worker, device: &Arc<dyn Device>) -> Result<Arc<Self>> {
        let mut together = device.queue(worker.config.depth)?;
        together.hand_over();
        Ok(Arc::new(Self {
            state: Mutex::new(Some(worker)),
            turned: Condvar::new(),
            device: Arc::clone(device),
            together: Mutex::new(together),
        }))
    }

    /// Turns the loop until `answered`. What the caller asked for was sent before.
    pub(super) fn turn_until(&self, by: Turner, answered: impl Fn() -> bool) {
        let mut done = Vec::new();
        let mut state = self.state.lock();
        while !answered() || !done.is_empty() {
            let Some(worker) = state.as_mut().filter(|w| !w.stop) else {
                return;
            };
            let moved = !done.is_empty();
            let (before, had) = (worker.answers(), answered());
            add(&worker.shared.counters.turns, 1);
            let more = worker.turn(&mut done, by);
            let own = u64::from(answered() && !had);
            // Who waits below waits for I/O of others, or for what others free. Nobody
            // is woken for nothing: all who wait would turn and wake each other.
            if moved || worker.answers() > before + own {
                self.turned.notify_all();
            }
            let requests = std::mem::take(&mut worker.submit);
            if !requests.is_empty() {
                drop(state);
                self.transfer(requests, &mut done);
                state = self.state.lock();
            } else if !more && !answered() {
                self.turned.wait(&mut state);
            }
        }
    }

    /// Does the I/O and waits for it. The state is not locked.
    fn transfer(&self, mut requests: Vec<Request>, done: &mut Vec<Completion>) {
        if requests.len() > 1
            && let Some(mut queue) = self.together.try_lock()
        {
            let all = requests.len();
            let sent = queue.submit(&mut requests);
            while done.len() < all {
                let waited = sent.clone().and_then(|()| queue.wait(all, None, done));
                // The thread would end here; an experiment may.
                waited.expect("the queue works");
            }
            return;
        }
        for Request { token, op } in requests {
            let (result, buf) = match op {
                Op::Read { offset, mut buf } => (self.device.read_at(offset, &mut buf), Some(buf)),
                Op::Write { offset, buf, .. } => (self.device.write_at(offset, &buf), Some(buf)),
                other => unreachable!("the map needs no {other:?}"),
            };
            done.push(Completion { token, result, buf });
        }
    }

    /// Ends it: who waits for an answer, or asks later, is told so.
    pub(super) fn end(&self) {
        let worker = self.state.lock().take();
        // With it the ways to answer go.
        drop(worker);
        self.turned.notify_all();
    }
}

impl Worker {
    /// Requests answered so far.
    fn answers(&self) -> u64 {
        let c = &self.shared.counters;
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        count(&c.requests_served) + count(&c.requests_refused)
    }

    /// Has every group read.
    pub(super) fn load_all(&mut self, reply: Sender<Result<()>>) {
        for group in 0..self.space.groups.len() as u64 {
            self.start_load(group);
        }
        self.loading_all.push(reply);
    }

    /// Answers those who wait for that.
    pub(super) fn tell_loaded(&mut self) {
        if self.loading.is_empty() {
            for reply in self.loading_all.drain(..) {
                let _ = reply.try_send(Ok(()));
            }
        }
    }
}
