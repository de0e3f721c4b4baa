//! The queue over a ring.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

use super::helper::{DiscardJob, Helper};
use super::kick::Kick;
use super::setup::{self, MAX_DEPTH, RingKind};
use crate::buf::IoBuf;
use crate::contract::{Completion, Op, Queue, Request, Waker};
use crate::counters::Counters;
use crate::durable::DurableMethod;
use crate::error::{IoError, IoErrorKind};
use crate::sync::channel::{Receiver, Sender, unbounded};
use crate::sync::{latch, thread, time};
use crate::target::Target;
use crate::transfer::{Step, Transfer};

/// `user_data` of the poll on the eventfd; no slot has this number.
const KICK: u64 = u64::MAX;

/// What a slot's kernel request is doing.
#[derive(Debug)]
enum Work {
    Read(Transfer),
    /// `durable` as the request said.
    Write {
        transfer: Transfer,
        durable: bool,
    },
    /// The flush of a durable write, or one of its own.
    Sync {
        offset: u64,
        len: u64,
    },
}

/// A request the kernel has, and what it needs meanwhile.
#[derive(Debug)]
struct Slot {
    token: u64,
    work: Work,
    /// The kernel's until the completion.
    buf: Option<IoBuf>,
}

pub(crate) struct UringQueue {
    target: Arc<Target>,
    helper: Arc<Helper>,
    counters: Arc<Counters>,
    kind: RingKind,
    method: DurableMethod,
    depth: usize,
    ring: ManuallyDrop<IoUring>,
    /// The thread that started the ring.
    owner: Option<thread::ThreadId>,
    /// Whether the file is registered, as number 0.
    registered: bool,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Slots in use: each has one kernel request outstanding.
    in_kernel: usize,
    /// Requests over the depth.
    backlog: VecDeque<Request>,
    /// Completions not yet returned.
    ready: Vec<Completion>,
    /// Completions as the ring gave them; kept for its memory.
    reaped: Vec<(u64, i32)>,
    kick: Arc<Kick>,
    /// Whether the poll on the eventfd is in the kernel.
    listening: bool,
    discards: usize,
    discard_reply: Sender<(u64, Result<(), IoError>)>,
    discard_done: Receiver<(u64, Result<(), IoError>)>,
}

impl std::fmt::Debug for UringQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UringQueue")
            .field("kind", &self.kind)
            .field("depth", &self.depth)
            .field("in_kernel", &self.in_kernel)
            .field("backlog", &self.backlog.len())
            .field("ready", &self.ready.len())
            .field("discards", &self.discards)
            .finish_non_exhaustive()
    }
}

fn queue_error(errno: i32, detail: impl Into<String>) -> IoError {
    IoError::with_errno(IoErrorKind::Queue, "queue", 0, 0, errno, detail)
}

fn os_error(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(libc::EIO)
}

impl UringQueue {
    pub(crate) fn new(
        target: Arc<Target>,
        helper: Arc<Helper>,
        counters: Arc<Counters>,
        kind: RingKind,
        method: DurableMethod,
        depth: u32,
    ) -> Result<Self, IoError> {
        let depth = depth.clamp(1, MAX_DEPTH);
        let kick =
            Kick::new().map_err(|e| queue_error(e as i32, "no eventfd for the queue's waker"))?;
        let (discard_reply, discard_done) = unbounded();
        Ok(Self {
            ring: ManuallyDrop::new(Self::build(depth, kind)?),
            target,
            helper,
            counters,
            kind,
            method,
            depth: depth as usize,
            owner: None,
            registered: false,
            slots: Vec::new(),
            free: Vec::new(),
            in_kernel: 0,
            backlog: VecDeque::new(),
            ready: Vec::new(),
            reaped: Vec::new(),
            kick: Arc::new(kick),
            listening: false,
            discards: 0,
            discard_reply,
            discard_done,
        })
    }

    fn build(depth: u32, kind: RingKind) -> Result<IoUring, IoError> {
        // One more for the poll on the eventfd.
        setup::build((depth + 1).next_power_of_two(), kind)
            .map_err(|e| queue_error(os_error(&e), setup::hint(&e)))
    }

    /// Makes the calling thread the ring's owner.
    fn adopt(&mut self) -> Result<(), IoError> {
        self.target.check_home("queue", 0, 0)?;
        let me = thread::current_id();
        match self.owner {
            Some(owner) if owner == me => return Ok(()),
            Some(_) if self.kind == RingKind::Plain => {
                self.owner = Some(me);
                return Ok(());
            }
            Some(_) if self.in_kernel > 0 => {
                return Err(queue_error(
                    libc::EEXIST,
                    "the queue belongs to another thread, which has requests in flight on it",
                ));
            }
            Some(_) => {
                // Nothing in flight: a new ring for the new owner.
                *self.ring = Self::build(self.depth as u32, self.kind)?;
                self.listening = false;
                self.registered = false;
            }
            None => {}
        }
        if self.kind == RingKind::Deferred {
            self.ring
                .submitter()
                .register_enable_rings()
                .map_err(|e| queue_error(os_error(&e), "the ring cannot be enabled"))?;
        }
        // Saves a reference count per request; where it is refused the plain
        // descriptor does.
        self.registered = self
            .ring
            .submitter()
            .register_files(&[self.target.fd()])
            .is_ok();
        self.owner = Some(me);
        Ok(())
    }

    /// Puts an entry into the submission ring.
    fn push(&mut self, entry: squeue::Entry, user_data: u64) -> Result<(), IoError> {
        let entry = entry.user_data(user_data);
        loop {
            // SAFETY: the memory an entry names is its slot's buffer, which the
            // slot keeps until the entry's completion was seen; an entry without
            // a buffer names none.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            // There is an entry per slot and one for the poll, so the ring is
            // full only of entries the kernel has not been told of.
            self.enter()?;
        }
    }

    /// Puts the next kernel request of a slot into the ring. `forced` keeps the
    /// kernel from answering EAGAIN: it may wait in a worker of its own.
    ///
    /// An error means that the ring is broken and the kernel has no request.
    fn issue(&mut self, index: u32, forced: bool) -> Result<(), IoError> {
        let Some(slot) = &self.slots[index as usize] else {
            return Ok(());
        };
        let memory = slot.buf.as_ref().map_or(std::ptr::null_mut(), IoBuf::raw);
        // A registered file is named by its number and a flag.
        let (fd, file_flag) = if self.registered {
            (Fd(0), squeue::Flags::FIXED_FILE)
        } else {
            (Fd(self.target.fd()), squeue::Flags::empty())
        };
        let entry = match &slot.work {
            Work::Read(transfer) => {
                // A piece lies inside the buffer, so the sum does too.
                let (offset, from, len) = transfer.piece();
                opcode::Read::new(fd, memory.wrapping_add(from), len as u32)
                    .offset(offset)
                    .build()
            }
            Work::Write { transfer, durable } => {
                let (offset, from, len) = transfer.piece();
                let dsync = *durable && self.method == DurableMethod::Dsync;
                opcode::Write::new(fd, memory.wrapping_add(from), len as u32)
                    .offset(offset)
                    .rw_flags(if dsync { libc::RWF_DSYNC } else { 0 })
                    .build()
            }
            Work::Sync { .. } => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        };
        let forced = if forced {
            squeue::Flags::ASYNC
        } else {
            squeue::Flags::empty()
        };
        self.push(entry.flags(file_flag | forced), u64::from(index))?;
        self.in_kernel += 1;
        Ok(())
    }

    /// Gives a slot's next kernel request to the ring, or ends the slot.
    fn go_on(&mut self, index: u32, forced: bool) {
        if let Err(error) = self.issue(index, forced) {
            self.finish(index, Err(error));
        }
    }

    /// Ends a slot: its buffer goes back with the completion.
    fn finish(&mut self, index: u32, result: Result<(), IoError>) {
        if let Some(slot) = self.slots[index as usize].take() {
            self.free.push(index);
            self.ready.push(Completion {
                token: slot.token,
                result,
                buf: slot.buf,
            });
        }
    }

    /// Whether one more request may go to the kernel or the helper.
    fn has_room(&self) -> bool {
        self.slots.len() - self.free.len() + self.discards < self.depth
    }

    /// Starts requests of the backlog up to the depth.
    fn refill(&mut self) {
        while self.has_room() {
            let Some(request) = self.backlog.pop_front() else {
                return;
            };
            self.start(request);
        }
    }

    fn start(&mut self, request: Request) {
        let align = self.target.offset_align();
        let (work, buf) = match request.op {
            Op::Read { offset, buf } => {
                let transfer = Transfer::new("read", offset, buf.len() as u64, align);
                (Work::Read(transfer), Some(buf))
            }
            Op::Write {
                offset,
                buf,
                durable,
            } => {
                let transfer = Transfer::new("write", offset, buf.len() as u64, align);
                (Work::Write { transfer, durable }, Some(buf))
            }
            Op::Flush => (Work::Sync { offset: 0, len: 0 }, None),
            Op::Discard { offset, len } => {
                self.discards += 1;
                self.helper.discard(DiscardJob {
                    target: self.target.clone(),
                    token: request.token,
                    offset,
                    len,
                    reply: self.discard_reply.clone(),
                    kick: self.kick.clone(),
                });
                return;
            }
        };
        let slot = Some(Slot {
            token: request.token,
            work,
            buf,
        });
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.go_on(index, false);
    }

    /// Takes the result of a slot's kernel request.
    fn advance(&mut self, index: u32, result: i32) {
        let Some(slot) = self.slots.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let result = u64::try_from(result).map_err(|_| -result);
        let step = match &mut slot.work {
            Work::Read(transfer) => transfer.step(result),
            Work::Write { transfer, durable } => {
                let flush_next = *durable && self.method == DurableMethod::WriteFlush;
                match transfer.step(result) {
                    Step::Done if flush_next => {
                        let (offset, len) = transfer.range();
                        slot.work = Work::Sync { offset, len };
                        Step::More
                    }
                    step => step,
                }
            }
            Work::Sync { offset, len } => match result {
                Ok(_) => Step::Done,
                Err(libc::EINTR | libc::EAGAIN) => Step::Again,
                Err(errno) => Step::Fail(IoError::from_errno("flush", *offset, *len, errno)),
            },
        };
        match step {
            Step::Done => self.finish(index, Ok(())),
            Step::More => self.go_on(index, false),
            Step::Again => self.go_on(index, true),
            Step::Fail(error) => self.finish(index, Err(error)),
        }
    }

    /// Moves completions out of the ring and the helper, and starts what then
    /// has room. Makes no system call unless the ring is full.
    fn reap(&mut self) {
        let mut reaped = std::mem::take(&mut self.reaped);
        reaped.extend(
            self.ring
                .completion()
                .map(|entry| (entry.user_data(), entry.result())),
        );
        for (user_data, result) in reaped.drain(..) {
            if user_data == KICK {
                self.listening = false;
                self.kick.drain();
            } else {
                self.in_kernel -= 1;
                self.advance(user_data as u32, result);
            }
        }
        self.reaped = reaped;
        while let Ok((token, result)) = self.discard_done.try_recv() {
            self.discards -= 1;
            self.ready.push(Completion {
                token,
                result,
                buf: None,
            });
        }
        self.refill();
    }

    /// Tells the kernel of new entries and lets it do deferred work, without
    /// waiting; no system call if there is neither.
    fn enter(&mut self) -> Result<(), IoError> {
        let sq = self.ring.submission();
        if sq.is_empty() && !sq.taskrun() && !sq.cq_overflow() {
            return Ok(());
        }
        drop(sq);
        match self.ring.submit() {
            Ok(_) => Ok(()),
            Err(e) => Self::entered(&e),
        }
    }

    /// As [`Self::enter`], and waits for a completion or a kick.
    fn enter_and_wait(&mut self, timeout: Option<Duration>) -> Result<(), IoError> {
        let returned = match timeout {
            None => self.ring.submit_and_wait(1),
            Some(timeout) => {
                let time = Timespec::from(timeout);
                let args = SubmitArgs::new().timespec(&time);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match returned {
            Ok(_) => Ok(()),
            Err(e) => Self::entered(&e),
        }
    }

    fn entered(e: &io::Error) -> Result<(), IoError> {
        match e.raw_os_error() {
            // The time is over, a signal came, or the kernel is short of memory
            // or of room for completions: look and enter again.
            Some(libc::ETIME | libc::EINTR) => Ok(()),
            Some(libc::EAGAIN | libc::EBUSY) => {
                thread::yield_now();
                Ok(())
            }
            _ => Err(queue_error(os_error(e), "the ring cannot be entered")),
        }
    }

    /// Has the ring complete something when the eventfd is written.
    fn listen(&mut self) -> Result<(), IoError> {
        if self.listening {
            return Ok(());
        }
        let poll = opcode::PollAdd::new(Fd(self.kick.fd()), libc::POLLIN as u32).build();
        self.push(poll, KICK)?;
        self.listening = true;
        Ok(())
    }

    /// Waits until the kernel is done with every buffer. Returns whether it is.
    fn drain(&mut self) -> bool {
        if self.in_kernel == 0 {
            return true;
        }
        let foreign = self.owner.is_some_and(|o| o != thread::current_id());
        if foreign && self.kind == RingKind::Deferred {
            return false;
        }
        while self.in_kernel > 0 {
            if self.enter_and_wait(None).is_err() {
                return false;
            }
            let ring = &mut self.ring;
            self.in_kernel -= ring
                .completion()
                .filter(|entry| entry.user_data() != KICK)
                .count();
        }
        true
    }

    /// Takes the file back from the ring. Closing a ring gives its files back some
    /// time later; a claim on the device must go with its last user.
    fn unregister(&mut self) {
        if self.registered {
            // Refused to all but the thread that started the ring.
            self.registered = self.ring.submitter().unregister_files().is_err();
        }
    }
}

impl Queue for UringQueue {
    fn submit(&mut self, requests: &mut Vec<Request>) -> Result<(), IoError> {
        self.adopt()?;
        for request in requests.drain(..) {
            match self.target.check(&request.op) {
                Ok(()) => {
                    self.counters.op(&request.op);
                    self.backlog.push_back(request);
                }
                Err(error) => self.ready.push(Completion::refused(request, error)),
            }
        }
        self.refill();
        self.enter()
    }

    fn wait(
        &mut self,
        at_least: usize,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> Result<usize, IoError> {
        self.adopt()?;
        let before = out.len();
        if at_least > 0 {
            latch::assert_may_block("Queue::wait");
        }
        let any = at_least == usize::MAX;
        let look = !any && (at_least == 0 || self.in_flight() < at_least);
        let goal = if any { 1 } else { at_least };
        let deadline = timeout.and_then(|t| time::now().checked_add(t));
        // Only after an enter has the kernel had its chance to complete things.
        let mut entered = false;
        loop {
            self.reap();
            out.append(&mut self.ready);
            let n = out.len() - before;
            let woken = at_least > 0 && self.kick.take_wake();
            let left = deadline.map(|d| d.saturating_duration_since(time::now()));
            let over = left.is_some_and(|left| left.is_zero());
            if woken || (at_least > 0 && n >= goal) || (entered && (look || over)) {
                // What `reap` started must not lie in the ring unseen.
                self.enter()?;
                return Ok(n);
            }
            if look || over {
                self.enter()?;
            } else {
                self.listen()?;
                self.enter_and_wait(left)?;
            }
            entered = true;
        }
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len() + self.discards + self.backlog.len() + self.ready.len()
    }

    fn waker(&self) -> Waker {
        self.kick.clone()
    }

    fn hand_over(&mut self) {
        // With requests in flight the ring cannot change hands.
        if self.target.is_home() && self.in_kernel == 0 {
            self.unregister();
        }
    }
}

impl Drop for UringQueue {
    fn drop(&mut self) {
        if !self.target.is_home() {
            // The ring's memory is not mapped in a forked child, where something else may
            // lie by now: only the descriptor is closed.
            // SAFETY: this process's copy of the descriptor, which nobody uses after this:
            // the ring is never dropped.
            unsafe { libc::close(self.ring.as_raw_fd()) };
            std::mem::forget(std::mem::replace(&mut self.discard_done, unbounded().1));
            return;
        }
        self.backlog.clear();
        if !self.drain() {
            // Another thread started the ring, and only that one can see its
            // completions; or the ring is broken. The kernel may still use the
            // buffers, so they are never freed, and the file, so it stays locked.
            self.target.leave_busy();
            std::mem::forget(std::mem::take(&mut self.slots));
        }
        while self.discards > 0 {
            if self.discard_done.recv().is_err() {
                break;
            }
            self.discards -= 1;
        }
        self.unregister();
        // SAFETY: dropped once, here, and not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
    }
}
