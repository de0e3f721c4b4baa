//! The log's handle: append, wait, cut, truncate, stop.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gaur_iodriver::sync::Mutex;
use gaur_iodriver::sync::atomic::order;
use gaur_iodriver::sync::latch;
use gaur_iodriver::sync::thread::JoinHandle;
use gaur_iodriver::sync::time::now;
use gaur_iodriver::sync::within;
use gaur_iodriver::{Device, IoBuf};

use super::config::{LogConfig, LogHead, LogTail};
use super::history::{History, Reach};
use super::pending::{Entry, LARGE};
use super::ring::Ring;
use super::shared::{Pressure, Shared};
use super::stats::{Counters, LogStats};
use super::{block, writer};
use crate::error::{Error, Result};
use crate::format::Csn;
use crate::format::log::{LogHeader, RecordHeader};

/// One commit, encoded and checked before any latch is taken.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The operations, from [`super::OpsBuilder`].
    pub ops: &'a [u8],
    /// How many they are.
    pub count: u32,
    /// Their [`super::record_check`].
    pub check: u32,
    /// Whether one names extents, whose plain writes have completed. The device is
    /// flushed before the log block with this record is written.
    pub names_extents: bool,
    /// Whether the commit is to be durable at once. Its caller calls
    /// [`Log::wait_durable`] or [`Log::request_sync`] when it holds no latch any
    /// more; that is what wakes the log thread.
    pub sync: bool,
}

/// Why a record was not appended. Nothing was drawn or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No room now: release everything, [`Log::wait_space`], try again.
    Full,
    /// The log has stopped or was shut down; see [`Log::stopped`].
    Stopped,
    /// The record is larger than [`LogConfig::max_record`].
    TooLarge,
    /// Another record was appended behind the one this was to follow.
    Moved,
    /// Somebody else has the [`Hold`]: release everything, [`Log::wait_hold`], try again.
    Held,
}

/// While it lives only its holder appends, so the last CSN stands still for everybody
/// else. Whoever has it waits for nothing that needs an append.
#[derive(Debug)]
pub struct Hold<'a>(&'a Shared);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // Under the appenders' lock, so that no append is refused for it afterwards.
        {
            let _state = self.0.state.lock();
            self.0.held.store(false, Ordering::SeqCst);
        }
        latch::unpark_all(self.0.hold_key());
    }
}

/// The end of a generation in the log, from [`Log::freeze`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The last commit before the cut.
    pub csn: Csn,
    position: u64,
}

/// How full the log is, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogUsage {
    /// Blocks in the log region.
    pub blocks: u64,
    /// Blocks taken: not yet truncated, or planned for records in memory.
    pub used: u64,
    /// Bytes of records in memory that were not yet given to the device.
    pub pending_bytes: usize,
}

/// The running log. Shared by reference; every method may be called from any
/// thread. Dropping it writes what was appended and joins the log thread.
#[derive(Debug)]
pub struct Log {
    pub(super) shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Starts the log thread, to write from `tail` on. First flushes the device, so
    /// that what recovery read, perhaps from a device's cache, is durable before
    /// anything is built on it: no checkpoint before this. The incarnation in
    /// `config` is durable, and higher than [`super::LogReader::incarnation`].
    /// `on_pressure` is called when the log is more than half full, perhaps under the
    /// caller's latches: it may not wait.
    ///
    /// Where a power cut ended the log there may lie a log block of which some sectors
    /// are missing, and behind it others that continue it. If the first log block
    /// written now were torn too, its sectors might be just those that were missing,
    /// and commits would come back that were gone when this store was opened. So the
    /// first is empty and durable before anybody sees the store ([`LogConfig::seal`]).
    /// A log that is full to the last block has nothing behind it.
    ///
    /// # Errors
    /// [`Error::BadOption`] if sizes do not fit the log (see [`LogConfig`]),
    /// [`Error::Io`] if the flush fails or there is no queue.
    pub fn start(
        device: Arc<dyn Device>,
        config: LogConfig,
        head: LogHead,
        tail: LogTail,
        on_pressure: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Self> {
        let ring = Ring::new(config.geometry)?;
        Self::start_on(ring, device, config, head, tail, on_pressure)
    }

    /// [`Log::start`] on a given ring.
    pub(super) fn start_on(
        ring: Ring,
        device: Arc<dyn Device>,
        config: LogConfig,
        head: LogHead,
        tail: LogTail,
        on_pressure: Pressure,
    ) -> Result<Self> {
        config.check(&ring)?;
        if tail.position < head.position || tail.position - head.position > ring.len() {
            return Err(Error::BadOption {
                name: "tail",
                detail: format!(
                    "position {} with the head at {}",
                    tail.position, head.position
                ),
            });
        }
        device.flush()?;
        let full = tail.position - head.position == ring.len();
        let tail = match config.seal && !full {
            true => seal_end(device.as_ref(), &config, &ring, tail)?,
            false => tail,
        };
        let media = device.clone();
        let make = move |waker| {
            let shared = Shared::new(config, ring, head, tail, media, waker, on_pressure);
            Arc::new(shared)
        };
        let (shared, thread) = writer::start(device, make)?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Appends a record and draws its CSN. Never waits; a bounded number of
    /// instructions, so it may be called under latches.
    ///
    /// # Errors
    /// [`Refused`]; nothing was drawn or written then.
    pub fn try_append(&self, r: &Record<'_>) -> Result<Csn, Refused> {
        self.append(r, None, None)
    }

    /// [`Log::try_append`], if `last` still is the last CSN drawn. With a hold it is, once
    /// it was read under the hold.
    ///
    /// # Errors
    /// [`Refused`]; nothing was drawn or written then.
    pub fn try_append_after(
        &self,
        r: &Record<'_>,
        last: Csn,
        hold: Option<&Hold<'_>>,
    ) -> Result<Csn, Refused> {
        self.append(r, Some(last), hold)
    }

    /// Keeps everybody else from appending; `None`: somebody does so already. Never
    /// waits, so it may be called under latches, and so may dropping the hold.
    pub fn hold(&self) -> Option<Hold<'_>> {
        let shared = &*self.shared;
        let _state = shared.state.lock();
        if shared.held.swap(true, Ordering::SeqCst) {
            return None;
        }
        Counters::one(&shared.counters.holds);
        Some(Hold(shared))
    }

    /// Waits until nobody has the hold. Others may be faster to take it again. Panics
    /// under a latch.
    pub fn wait_hold(&self) {
        latch::assert_may_block("Log::wait_hold");
        let held = || self.shared.held.load(Ordering::SeqCst);
        while held() {
            latch::park_on(self.shared.hold_key(), held);
        }
    }

    fn append(
        &self,
        r: &Record<'_>,
        after: Option<Csn>,
        hold: Option<&Hold<'_>>,
    ) -> Result<Csn, Refused> {
        let _site = within("append");
        let shared = &*self.shared;
        if r.ops.len() > shared.config.max_record {
            return Err(Refused::TooLarge);
        }
        let mut entry = Entry {
            header: RecordHeader {
                csn: 0,
                bytes: r.ops.len() as u32,
                ops: r.count,
                check: r.check,
            },
            ops: r.ops,
            copied: (r.ops.len() >= LARGE).then(|| copied(r.ops)),
            names_extents: r.names_extents,
        };
        let mut press = false;
        let mut wake = false;
        let result = {
            let mut s = shared.state.lock();
            if s.stopped.is_some() || s.closing {
                return Err(Refused::Stopped);
            }
            if hold.is_none() && shared.held.load(Ordering::Relaxed) {
                return Err(Refused::Held);
            }
            if after.is_some_and(|last| s.pending.last_csn() != last) {
                return Err(Refused::Moved);
            }
            let bytes = s.pending.bytes();
            if bytes > 0 && bytes + r.ops.len() > shared.max_pending {
                wake = s.rouse(true);
                Counters::one(&shared.counters.full_memory);
                Err(Refused::Full)
            } else if let Some(csn) = s.pending.append(&mut entry, now) {
                shared.last_csn.store(csn, Ordering::Release);
                if r.sync {
                    s.wanted = csn;
                }
                let due = s.pending.bytes() >= shared.batch || !r.sync && !s.timer;
                wake = s.rouse(due);
                if !s.pressed && s.pending.used() * 2 > shared.ring.len() {
                    s.pressed = true;
                    press = true;
                }
                Ok(csn)
            } else {
                Counters::one(&shared.counters.full_log);
                press = true;
                Err(Refused::Full)
            }
        };
        if wake {
            shared.wake();
        }
        if press {
            (shared.on_pressure)();
        }
        if result.is_ok() {
            let c = &shared.counters;
            Counters::one(&c.records);
            c.payload_bytes
                .fetch_add(r.ops.len() as u64, Ordering::Relaxed);
        }
        result
    }

    /// The last CSN drawn.
    pub fn last_csn(&self) -> Csn {
        self.shared.last_csn.load(Ordering::Acquire)
    }

    /// All commits up to this one are durable.
    pub fn durable_csn(&self) -> Csn {
        self.shared
            .durable_csn
            .load(order("log.durable", Ordering::Acquire))
    }

    /// All log blocks before this position are durable; for the superblock's
    /// `log_durable`.
    pub fn durable_position(&self) -> u64 {
        self.shared.state.lock().durable.position
    }

    /// Waits until the commit, which must have been drawn, is durable, and has it
    /// written without delay. Panics under a latch.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if the log stopped before.
    pub fn wait_durable(&self, csn: Csn) -> Result<()> {
        self.shared.wait_durable(csn)
    }

    /// Has all commits up to `csn` written without delay, and does not wait for it.
    pub fn request_sync(&self, csn: Csn) {
        if !self.shared.is_durable(csn) {
            self.shared.want(csn);
        }
    }

    /// Makes everything appended so far durable and returns the last commit in it.
    /// Panics under a latch.
    ///
    /// # Errors
    /// As [`Log::wait_durable`].
    pub fn flush(&self) -> Result<Csn> {
        let csn = self.last_csn();
        self.wait_durable(csn)?;
        Ok(csn)
    }

    /// Waits until a record of the largest size would be accepted. Others may be
    /// faster to take the room: try, and wait again. Panics under a latch.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the log has stopped or stops meanwhile.
    pub fn wait_space(&self) -> Result<()> {
        let shared = &*self.shared;
        let max = shared.config.max_record;
        let room = || {
            let s = shared.state.lock();
            let in_log = s.pending.has_room(max);
            let bytes = s.pending.bytes();
            let in_memory = bytes == 0 || bytes + max <= shared.max_pending;
            (in_log, in_memory)
        };
        let (in_log, in_memory) = room();
        if !in_log {
            (shared.on_pressure)();
        }
        if !(in_log && in_memory) {
            if !in_memory {
                shared.want(self.last_csn());
            }
            shared.wait_space(|| room() == (true, true));
        }
        self.stopped().map_or(Ok(()), Err)
    }

    /// Ends the generation in the log: the records after this begin a new log
    /// block. To be called while no append is under way.
    pub fn freeze(&self) -> Cut {
        let mut s = self.shared.state.lock();
        let position = s.pending.end_part();
        if s.cuts.iter().all(|c| c.0 != position) {
            let chain = (s.durable.position == position).then_some(s.durable.chain);
            s.cuts.push((position, chain));
        }
        Cut {
            csn: s.pending.last_csn(),
            position,
        }
    }

    /// Waits until all commits up to the cut are durable, and returns where replay
    /// behind it starts. To be called before a truncation to a later head. Panics
    /// under a latch.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if the log stopped before.
    pub fn cut_head(&self, cut: &Cut) -> Result<LogHead> {
        self.shared.wait_durable(cut.csn)?;
        let s = self.shared.state.lock();
        let chain = s.cuts.iter().find(|c| c.0 == cut.position);
        match chain.and_then(|c| c.1) {
            Some(chain) => Ok(LogHead {
                position: cut.position,
                chain,
            }),
            None => Err(Error::OutcomeUnknown {
                csn: cut.csn,
                cause: s
                    .stopped
                    .clone()
                    .unwrap_or_else(|| "the log was truncated behind this cut".into()),
            }),
        }
    }

    /// Flushes the device, for a checkpoint. Counts only if no write or flush of the
    /// log beside it failed; if it fails itself, the log stops. Panics under a latch.
    ///
    /// # Errors
    /// [`Error::Io`] of this flush, [`Error::Stopped`] if the log has stopped.
    pub fn flush_beside(&self, device: &dyn Device) -> Result<()> {
        self.shared.flush_beside(device)
    }

    /// A superblock with this head is durable in both copies: the log before it is
    /// free. Asks for another checkpoint if the log is still more than half full.
    pub fn truncate(&self, head: LogHead) {
        let shared = &*self.shared;
        let press = {
            let mut s = shared.state.lock();
            s.pending.truncate(head.position);
            s.cuts.retain(|c| c.0 >= head.position);
            s.pressed = s.pending.used() * 2 > shared.ring.len();
            s.pressed
        };
        shared.space_freed();
        if press {
            (shared.on_pressure)();
        }
    }

    /// Stops the log, since something else failed: appends are refused, and who
    /// waits gets [`Error::OutcomeUnknown`]. What is durable stays acknowledged. Panics
    /// under a latch.
    pub fn stop(&self, why: String) {
        self.shared.stop(&why);
    }

    /// The error for who comes after the log has stopped; `None` while it runs.
    pub fn stopped(&self) -> Option<Error> {
        let s = self.shared.state.lock();
        match &s.stopped {
            Some(why) => Some(Error::Stopped(why.clone())),
            None if s.closing => Some(Error::Closed),
            None => None,
        }
    }

    /// What can be read of the log, and who waits for more.
    pub(crate) fn history(&self) -> &Arc<History> {
        &self.shared.history
    }

    /// How far the log reaches.
    pub(crate) fn reach(&self) -> Reach {
        let s = self.shared.state.lock();
        Reach {
            next: s.pending.next(),
            durable: s.durable.position,
        }
    }

    /// Whether the log has stopped, without a lock.
    pub fn has_stopped(&self) -> bool {
        self.shared.has_stopped()
    }

    /// The largest record, in bytes of operations.
    pub fn max_record(&self) -> usize {
        self.shared.config.max_record
    }

    /// How full the log is.
    pub fn usage(&self) -> LogUsage {
        let s = self.shared.state.lock();
        LogUsage {
            blocks: self.shared.ring.len(),
            used: s.pending.used(),
            pending_bytes: s.pending.bytes(),
        }
    }

    /// What the log did since it was started.
    pub fn stats(&self) -> LogStats {
        self.shared.counters.snapshot()
    }

    /// Refuses further appends, makes everything appended durable, joins the log
    /// thread, and says where the log ends. Panics under a latch.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the log stopped before all was durable.
    pub fn shutdown(&self) -> Result<LogTail> {
        self.close();
        let s = self.shared.state.lock();
        match &s.stopped {
            Some(why) => Err(Error::Stopped(why.clone())),
            None => Ok(LogTail {
                position: s.durable.position,
                chain: s.durable.chain,
                last_csn: s.pending.last_csn(),
            }),
        }
    }

    fn close(&self) {
        {
            let mut s = self.shared.state.lock();
            s.closing = true;
            s.hungry = false;
        }
        self.shared.waker.wake();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the log thread has stopped the log on its way out.
            drop(thread.join());
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

/// A large record with room for its header, made outside the critical section.
fn copied(ops: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RecordHeader::SIZE + ops.len());
    bytes.resize(RecordHeader::SIZE, 0);
    bytes.extend_from_slice(ops);
    bytes
}

/// Makes an empty log block durable at `tail`; returns the tail behind it.
fn seal_end(
    device: &dyn Device,
    config: &LogConfig,
    ring: &Ring,
    tail: LogTail,
) -> Result<LogTail> {
    let header = LogHeader {
        store_id: config.store_id,
        position: tail.position,
        previous: tail.chain,
        durable_through: tail.position,
        first_csn: tail.last_csn + 1,
        incarnation: config.incarnation,
        blocks: 1,
        ..LogHeader::default()
    };
    let mut buf = IoBuf::zeroed(ring.block_size());
    let chain = block::seal(header, ring.place(tail.position), &mut buf);
    device.write_at(ring.byte(tail.position), &buf)?;
    device.flush()?;
    Ok(LogTail {
        position: tail.position + 1,
        chain,
        ..tail
    })
}
