//! The log thread.
//!
//! It goes round: acknowledge what has completed, take what is due, form log
//! blocks, submit them, wake the committers, sleep. It never waits for anything but
//! its own queue. While the device is busy more records gather behind it, so
//! groups grow by themselves with the load.
//!
//! What must hold:
//! - Blocks are acknowledged in the order of their positions, only after their own
//!   durable write completed, and never again after any failure: after a failed
//!   flush even a success may mean nothing.
//! - A block that names extents is submitted only after a flush that was submitted
//!   after its records were appended has completed, with no other flush under way
//!   that may yet fail.
//! - `durable_through` in a header is what was acknowledged when it was formed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gaur_iodriver::sync::atomic::order;
use gaur_iodriver::sync::channel;
use gaur_iodriver::sync::thread::{self, JoinHandle};
use gaur_iodriver::sync::within;
use gaur_iodriver::{
    Completion, Device, IoBuf, IoError, IoErrorKind, Op, Queue, Request, Waker, fault,
};

use super::block;
use super::config::LogHead;
use super::past::LogPlace;
use super::pending::Part;
use super::shared::{Shared, State};
use super::stats::Counters;
use crate::error::{Error, Result};
use crate::format::Csn;
use crate::format::log::{FLAG_SKIP, LogHeader};

/// Token of a flush; log blocks count from 0.
const FLUSH: u64 = u64::MAX;
/// I/O buffers kept for reuse.
const KEPT_BUFFERS: usize = 8;

/// Starts the thread, which makes its own queue (a ring belongs to the thread that
/// made it), and returns when that is done.
pub(super) fn start(
    device: Arc<dyn Device>,
    make: impl FnOnce(Waker) -> Arc<Shared>,
) -> Result<(Arc<Shared>, JoinHandle<()>)> {
    let (waker_out, waker_in) = channel::bounded::<Result<Waker, IoError>>(1);
    let (shared_out, shared_in) = channel::bounded::<Arc<Shared>>(1);
    let body = move || {
        let queue = match device.queue(64) {
            Ok(queue) => queue,
            Err(e) => {
                drop(waker_out.send(Err(e)));
                return;
            }
        };
        drop(waker_out.send(Ok(queue.waker())));
        drop(waker_out);
        if let Ok(shared) = shared_in.recv() {
            let guard = StopAtEnd(shared.clone());
            Writer::new(shared, queue).run();
            drop(guard);
        }
    };
    let thread = thread::spawn("gaur-log", body).map_err(|e| queue_error(&e.to_string()))?;
    let waker = waker_in
        .recv()
        .map_err(|_| queue_error("the log thread ended before it began"))??;
    let shared = make(waker);
    drop(shared_out.send(shared.clone()));
    Ok((shared, thread))
}

fn queue_error(detail: &str) -> Error {
    Error::Io(IoError {
        kind: IoErrorKind::Queue,
        what: "start of the log thread",
        offset: 0,
        len: 0,
        os: None,
        detail: detail.into(),
    })
}

/// However the thread ends, a panic included, nobody is left waiting.
struct StopAtEnd(Arc<Shared>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop("the log thread panicked");
        } else {
            self.0.release_all();
        }
    }
}

/// A log block, formed and not yet submitted.
struct Formed {
    buf: IoBuf,
    offset: u64,
    names_extents: bool,
}

/// A log block that is not yet acknowledged, submitted or not.
struct Unacked {
    done: bool,
    end: LogHead,
    last_csn: Csn,
}

/// What to do after taking.
enum Next {
    /// Sleep until a completion, a wake, or the time is over.
    Sleep(Option<Duration>),
    /// All is written: end.
    End,
}

struct Writer {
    shared: Arc<Shared>,
    queue: Box<dyn Queue>,
    /// Checksum of the last block formed.
    chain: u64,
    /// Acknowledged up to here.
    durable: LogHead,
    /// Number of the first block in `unacked`; numbers are tokens.
    first: u64,
    unacked: VecDeque<Unacked>,
    /// The last of the unacknowledged ones.
    formed: VecDeque<Formed>,
    /// A flush is in flight that covers the blocks below this number.
    flushing: Option<u64>,
    /// A flush has completed that covers the blocks below this number.
    flushed: u64,
    requests: Vec<Request>,
    completions: Vec<Completion>,
    buffers: Vec<IoBuf>,
    /// Payload buffers to give back to the appenders.
    emptied: Vec<Vec<u8>>,
}

impl Writer {
    fn new(shared: Arc<Shared>, queue: Box<dyn Queue>) -> Self {
        let durable = shared.state.lock().durable;
        Self {
            shared,
            queue,
            chain: durable.chain,
            durable,
            first: 0,
            unacked: VecDeque::new(),
            formed: VecDeque::new(),
            flushing: None,
            flushed: 0,
            requests: Vec::new(),
            completions: Vec::new(),
            buffers: Vec::new(),
            emptied: Vec::new(),
        }
    }

    fn run(&mut self) {
        if let Err(e) = self.rounds() {
            self.shared.stop(&e.to_string());
        }
    }

    fn rounds(&mut self) -> Result<(), IoError> {
        let mut acked = None;
        loop {
            let mut parts = Vec::new();
            let Some(next) = self.take(&mut parts) else {
                return Ok(());
            };
            for part in parts {
                self.form(part);
            }
            self.submit()?;
            // Only now: the device works while the committers wake.
            if let Some((from, to)) = acked.take() {
                self.shared.waiters.wake(from, to);
                self.shared.history.watch.tell(to);
            }
            match next {
                Next::End => return Ok(()),
                Next::Sleep(timeout) => {
                    self.queue
                        .wait(usize::MAX, timeout, &mut self.completions)?;
                }
            }
            self.reap()?;
            acked = self.acknowledge();
        }
    }

    /// Takes the parts that are due and that may be in flight; `None` if the log
    /// has stopped.
    fn take(&mut self, parts: &mut Vec<Part>) -> Option<Next> {
        let shared = self.shared.clone();
        let limit = shared.config.in_flight;
        let mut s = shared.state.lock();
        if s.stopped.is_some() {
            return None;
        }
        for buffer in self.emptied.drain(..) {
            s.pending.recycle(buffer);
        }
        let mut room = limit.saturating_sub(self.unacked.len());
        let mut patience = None;
        while room > 0 {
            patience = remaining(&shared, &s);
            if patience != Some(Duration::ZERO) {
                break;
            }
            // A skip goes with the block behind it.
            while let Some(part) = s.pending.take() {
                let skip = part.skip;
                parts.push(part);
                if !skip {
                    break;
                }
            }
            room -= 1;
        }
        let idle = self.unacked.is_empty() && parts.is_empty();
        let end = s.closing && idle && s.pending.front().is_none();
        s.hungry = room > 0 && !end;
        s.timer = s.hungry && patience.is_some();
        drop(s);
        if !parts.is_empty() {
            Counters::one(&shared.counters.batches);
            shared.space_freed();
        }
        Some(if end {
            Next::End
        } else {
            Next::Sleep(patience.filter(|_| room > 0))
        })
    }

    /// Makes a log block of a part.
    fn form(&mut self, part: Part) {
        let ring = self.shared.ring.clone();
        let bytes = if part.skip { 1 } else { part.blocks as usize } * ring.block_size();
        let mut buf = self.buffer(bytes);
        let end = LogHeader::SIZE + part.payload.len();
        buf[..LogHeader::SIZE].fill(0);
        buf[LogHeader::SIZE..end].copy_from_slice(&part.payload);
        buf[end..].fill(0);
        let header = LogHeader {
            store_id: self.shared.config.store_id,
            position: part.position,
            previous: self.chain,
            durable_through: self.durable.position,
            first_csn: part.first_csn,
            incarnation: self.shared.config.incarnation,
            blocks: part.blocks as u32,
            payload: part.payload.len() as u32,
            records: part.records,
            flags: if part.skip { FLAG_SKIP } else { 0 },
            ..LogHeader::default()
        };
        self.chain = block::seal(header, ring.place(part.position), &mut buf);
        self.shared.counters.block(part.records, bytes);
        self.unacked.push_back(Unacked {
            done: false,
            end: LogHead {
                position: part.position + part.blocks,
                chain: self.chain,
            },
            last_csn: part.last_csn(),
        });
        self.formed.push_back(Formed {
            buf,
            offset: ring.byte(part.position),
            names_extents: part.names_extents,
        });
        self.emptied.push(part.payload);
    }

    fn buffer(&mut self, bytes: usize) -> IoBuf {
        match self.buffers.iter().position(|b| b.len() == bytes) {
            Some(i) => self.buffers.swap_remove(i),
            None => IoBuf::zeroed(bytes),
        }
    }

    /// Submits the formed blocks, up to the first that needs a flush before it.
    fn submit(&mut self) -> Result<(), IoError> {
        let _site = within("group commit");
        let behind = self.first + self.unacked.len() as u64;
        while let Some(next) = self.formed.front() {
            let number = behind - self.formed.len() as u64;
            let flush_first = next.names_extents && !fault!(NoFlushBeforeExtents);
            if flush_first && number >= self.flushed {
                // Beside somebody else's flush ours might be void; the end of that
                // one wakes us.
                let alone = self.shared.foreign.load(Ordering::SeqCst) == 0;
                if self.flushing.is_none() && alone {
                    self.flushing = Some(behind);
                    Counters::one(&self.shared.counters.flushes);
                    self.requests.push(Request {
                        token: FLUSH,
                        op: Op::Flush,
                    });
                }
                break;
            }
            if let Some(Formed { buf, offset, .. }) = self.formed.pop_front() {
                self.requests.push(Request {
                    token: number,
                    op: Op::Write {
                        offset,
                        buf,
                        durable: !fault!(LogWriteNotDurable),
                    },
                });
            }
        }
        if self.requests.is_empty() {
            return Ok(());
        }
        let n = self.requests.len() as u64;
        self.shared.submitted.fetch_add(n, Ordering::SeqCst);
        self.queue.submit(&mut self.requests)
    }

    /// Notes what has completed. On an error nothing more is acknowledged.
    fn reap(&mut self) -> Result<(), IoError> {
        for done in self.completions.drain(..) {
            if let Err(e) = done.result
                && !fault!(FailedLogWriteIgnored)
            {
                // Before it counts as reaped.
                self.shared.stop(&e.to_string());
                return Err(e);
            }
            self.shared.reaped.fetch_add(1, Ordering::SeqCst);
            if done.token == FLUSH {
                let covers = self.flushing.take().unwrap_or(self.flushed);
                // If somebody else's flush began meanwhile and fails, ours is void:
                // it is made again when that one is over.
                if self.shared.foreign.load(Ordering::SeqCst) == 0 {
                    self.flushed = covers;
                }
            } else if let Some(block) = self
                .unacked
                .get_mut(done.token.wrapping_sub(self.first) as usize)
            {
                block.done = true;
            }
            if let Some(buf) = done.buf.filter(|_| self.buffers.len() < KEPT_BUFFERS) {
                self.buffers.push(buf);
            }
        }
        Ok(())
    }

    /// Whether the first block that is not acknowledged is on the device.
    fn may_acknowledge(&self) -> bool {
        let done = |b: &Unacked| b.done;
        self.unacked.front().is_some_and(done)
            || fault!(AcknowledgedOutOfOrder) && self.unacked.iter().any(done)
    }

    /// Acknowledges in order; returns the commits that are durable now: after the
    /// first, up to the second.
    fn acknowledge(&mut self) -> Option<(Csn, Csn)> {
        if !self.may_acknowledge() {
            return None;
        }
        let mut s = self.shared.state.lock();
        if s.stopped.is_some() {
            return None;
        }
        let from = self.shared.durable_csn.load(Ordering::Relaxed);
        let mut to = from;
        let mut begun = None;
        while self.may_acknowledge() {
            let Some(block) = self.unacked.pop_front() else {
                break;
            };
            self.first += 1;
            if begun.is_none() && self.shared.history.is_due(self.durable.position) {
                begun = Some(LogPlace {
                    position: self.durable.position,
                    chain: self.durable.chain,
                    next_csn: to + 1,
                });
            }
            self.durable = block.end;
            to = block.last_csn;
            for cut in s.cuts.iter_mut().filter(|c| c.0 == block.end.position) {
                cut.1 = Some(block.end.chain);
            }
        }
        s.durable = self.durable;
        let acknowledged = order("log.acknowledge", Ordering::Release);
        self.shared.durable_csn.store(to, acknowledged);
        drop(s);
        if let Some(place) = begun {
            self.shared.history.note(place);
        }
        Some((from, to))
    }
}

/// How long the first pending part may still wait; `None` if there is none, zero
/// if it is due.
fn remaining(shared: &Shared, s: &State) -> Option<Duration> {
    let part = s.pending.front()?;
    let due = s.closing || s.wanted >= part.first_csn || s.pending.bytes() >= shared.batch;
    Some(if due {
        Duration::ZERO
    } else {
        shared.patience().saturating_sub(part.since.elapsed())
    })
}
