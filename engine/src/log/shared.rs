//! What the appenders and the log thread share, and how the log stops.

use std::sync::Arc;
use std::time::Duration;

use gaur_iodriver::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, order, step};
use gaur_iodriver::sync::{Condvar, Mutex, ShortMutex, thread};
use gaur_iodriver::{Device, Waker, fault, sync::time::now};

use super::config::{LogConfig, LogHead, LogTail};
use super::history::History;
use super::pending::Pending;
use super::ring::Ring;
use super::stats::Counters;
use super::wait::Waiters;
use crate::error::{Error, Result};
use crate::format::Csn;

/// Called when the log wants a checkpoint. Must not wait.
pub(super) type Pressure = Box<dyn Fn() + Send + Sync>;

/// Under the append mutex.
#[derive(Debug)]
pub(super) struct State {
    pub(super) pending: Pending,
    /// Records up to this CSN are to be written without delay.
    pub(super) wanted: Csn,
    /// The log thread can take more, found nothing due, and sleeps or is about to.
    pub(super) hungry: bool,
    /// It will look again by itself in time for what is pending.
    pub(super) timer: bool,
    /// Why the log takes no more records; after a failure or a stop.
    pub(super) stopped: Option<String>,
    /// Everything pending is to be written, then the log thread ends.
    pub(super) closing: bool,
    /// End and checksum of the last durable log block.
    pub(super) durable: LogHead,
    /// Ends of cuts, and their chain once durable.
    pub(super) cuts: Vec<(u64, Option<u64>)>,
    /// The pressure was told since the last truncation.
    pub(super) pressed: bool,
}

impl State {
    /// If the log thread sleeps and should not, true: wake it after unlocking.
    pub(super) fn rouse(&mut self, due: bool) -> bool {
        due && std::mem::replace(&mut self.hungry, false)
    }
}

/// Shared by the handle and the log thread.
pub(super) struct Shared {
    pub(super) config: LogConfig,
    pub(super) ring: Arc<Ring>,
    /// The batch size as the log allows it.
    pub(super) batch: usize,
    /// Bytes that may wait in memory for the device.
    pub(super) max_pending: usize,
    pub(super) state: ShortMutex<State>,
    pub(super) last_csn: AtomicU64,
    pub(super) durable_csn: AtomicU64,
    /// Set after `State::stopped`, so that waiters need no lock to see it.
    pub(super) stopped: AtomicBool,
    /// Writes and flushes that the log thread gave to its queue, and those that it
    /// has taken back and, if they failed, stopped for.
    pub(super) submitted: AtomicU64,
    pub(super) reaped: AtomicU64,
    /// Flushes of others under way; see [`Shared::flush_beside`].
    pub(super) foreign: AtomicUsize,
    pub(super) waiters: Waiters,
    pub(super) space: Mutex<()>,
    pub(super) space_changed: Condvar,
    pub(super) space_waiters: AtomicUsize,
    /// Somebody has the hold. Changes under `state`'s lock.
    pub(super) held: AtomicBool,
    /// For change feeds: what can be read, and who waits for more.
    pub(super) history: Arc<History>,
    pub(super) waker: Waker,
    pub(super) on_pressure: Pressure,
    pub(super) counters: Counters,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("state", &self.state)
            .field("durable_csn", &self.durable_csn)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        config: LogConfig,
        ring: Ring,
        head: LogHead,
        tail: LogTail,
        device: Arc<dyn Device>,
        waker: Waker,
        on_pressure: Pressure,
    ) -> Self {
        let ring = Arc::new(ring);
        let history = Arc::new(History::new(device, ring.clone(), config.store_id));
        history.watch.tell(tail.last_csn);
        let batch = config.batch_in(&ring);
        let pending = Pending::new(
            ring.clone(),
            batch,
            head.position,
            tail.position,
            tail.last_csn,
        );
        Self {
            // Once less than a batch is pending, the largest record must fit in.
            max_pending: (4 * batch).max(batch + config.max_record),
            config,
            ring,
            batch,
            state: ShortMutex::new(State {
                pending,
                wanted: 0,
                hungry: false,
                timer: false,
                stopped: None,
                closing: false,
                durable: LogHead {
                    position: tail.position,
                    chain: tail.chain,
                },
                cuts: Vec::new(),
                pressed: false,
            }),
            last_csn: AtomicU64::new(tail.last_csn),
            durable_csn: AtomicU64::new(tail.last_csn),
            stopped: AtomicBool::new(false),
            submitted: AtomicU64::new(0),
            reaped: AtomicU64::new(0),
            foreign: AtomicUsize::new(0),
            waiters: Waiters::new(),
            space: Mutex::new(()),
            space_changed: Condvar::new(),
            space_waiters: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            history,
            waker,
            on_pressure,
            counters: Counters::default(),
        }
    }

    /// Where those park who wait for the end of a hold.
    pub(super) fn hold_key(&self) -> usize {
        std::ptr::from_ref(&self.held) as usize
    }

    /// Wakes the log thread.
    pub(super) fn wake(&self) {
        Counters::one(&self.counters.wakes);
        self.waker.wake();
    }

    /// Asks that all up to `csn` be written without delay.
    pub(super) fn want(&self, csn: Csn) {
        let wake = {
            let mut s = self.state.lock();
            s.wanted = s.wanted.max(csn);
            let due = s.pending.front().is_some_and(|p| p.first_csn <= csn);
            s.rouse(due)
        };
        if wake {
            self.wake();
        }
    }

    pub(super) fn is_durable(&self, csn: Csn) -> bool {
        self.durable_csn
            .load(order("log.durable", Ordering::Acquire))
            >= csn
            || fault!(AcknowledgedBeforeDurable)
    }

    /// Waits until `csn` is durable.
    pub(super) fn wait_durable(&self, csn: Csn) -> Result<()> {
        if self.is_durable(csn) {
            return Ok(());
        }
        let start = now();
        self.want(csn);
        self.waiters
            .wait(csn, || self.is_durable(csn) || self.has_stopped());
        Counters::one(&self.counters.durable_waits);
        Counters::time(&self.counters.durable_wait_nanos, start.elapsed());
        if self.is_durable(csn) {
            return Ok(());
        }
        let cause = self.state.lock().stopped.clone();
        let cause = cause.unwrap_or_else(|| "the log was shut down".into());
        Err(Error::OutcomeUnknown { csn, cause })
    }

    /// Waits until `ready` is true or the log has stopped; whatever may make it
    /// true calls [`Shared::space_freed`].
    pub(super) fn wait_space(&self, ready: impl Fn() -> bool) {
        self.space_waiters
            .fetch_add(1, order("log.wait_for_space", Ordering::SeqCst));
        let start = now();
        let mut guard = self.space.lock();
        // SeqCst against `space_freed`: either it sees us wait, or we see the stop.
        let stopped = order("log.stopped_for_space", Ordering::SeqCst);
        while !ready() && !self.stopped.load(stopped) {
            self.space_changed.wait(&mut guard);
        }
        drop(guard);
        self.space_waiters.fetch_sub(1, Ordering::SeqCst);
        Counters::one(&self.counters.space_waits);
        Counters::time(&self.counters.space_wait_nanos, start.elapsed());
    }

    /// Space in the log or in memory came back.
    pub(super) fn space_freed(&self) {
        let waiters = order("log.space_freed", Ordering::SeqCst);
        if self.space_waiters.load(waiters) > 0 {
            if step("log.space_behind_lock") {
                drop(self.space.lock());
            }
            self.space_changed.notify_all();
        }
    }

    /// Stops the log, once: no further appends, no further acknowledgements. All
    /// that wait are woken. Panics
    /// under a latch.
    pub(super) fn stop(&self, why: &str) {
        {
            let mut s = self.state.lock();
            if s.stopped.is_none() {
                s.stopped = Some(why.to_owned());
            }
            s.pending.abandon();
            s.hungry = false;
        }
        self.release_all();
        self.waker.wake();
    }

    /// Flushes the device for somebody else. What a failed flush should have saved
    /// may be lost even if another one succeeds, so a flush counts only if none
    /// beside it failed: the log stops before a failed one is over, and a
    /// successful one waits for what the log had in flight.
    pub(super) fn flush_beside(&self, device: &dyn Device) -> Result<()> {
        self.foreign.fetch_add(1, Ordering::SeqCst);
        let result = device.flush();
        if let Err(e) = &result {
            self.stop(&e.to_string());
        }
        self.foreign.fetch_sub(1, Ordering::SeqCst);
        self.waker.wake();
        result?;
        let submitted = self.submitted.load(Ordering::SeqCst);
        while self.reaped.load(Ordering::SeqCst) < submitted && !self.stopped.load(Ordering::SeqCst)
        {
            thread::sleep(Duration::from_micros(50));
        }
        match &self.state.lock().stopped {
            Some(why) => Err(Error::Stopped(why.clone())),
            None => Ok(()),
        }
    }

    /// Whether nothing more will happen, without a lock.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.load(order("log.stopped", Ordering::Acquire))
    }

    /// Nothing more will happen: all that wait are woken.
    pub(super) fn release_all(&self) {
        self.stopped
            .store(true, order("log.stop", Ordering::SeqCst));
        self.waiters.wake_all();
        self.space_freed();
        self.history.watch.end();
    }

    /// When pending records must begin to be written, counted from the append.
    pub(super) fn patience(&self) -> Duration {
        self.config.buffered_interval / 2
    }
}
