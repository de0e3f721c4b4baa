//! The `psync` driver: plain system calls on a small pool of threads, for where
//! io_uring is not to be had.
//!
//! The threads belong to the device and are shared by its queues. A job carries
//! its buffer and the way back, so a queue can be dropped in any state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::bell::Bell;
use crate::contract::{Completion, Device, Geometry, Op, Queue, Request, Waker};
use crate::counters::{Counters, OpCounts};
use crate::durable::DurableMethod;
use crate::error::{IoError, IoErrorKind};
use crate::sync::channel::{Receiver, Sender, unbounded};
use crate::sync::{Home, Mutex, latch, thread, time};
use crate::target::Target;

/// Threads of one device at most. More would only wait for each other in the
/// kernel on the machines this driver is for.
const MAX_THREADS: usize = 16;

/// An open device on the psync driver.
#[derive(Debug)]
pub(crate) struct PsyncDevice {
    target: Arc<Target>,
    pool: Arc<Pool>,
    method: DurableMethod,
    counters: Arc<Counters>,
}

impl PsyncDevice {
    pub(crate) fn new(target: Arc<Target>, method: DurableMethod) -> Self {
        Self {
            target,
            pool: Arc::new(Pool::new()),
            method,
            counters: Arc::default(),
        }
    }
}

impl Device for PsyncDevice {
    fn geometry(&self) -> Geometry {
        self.target.geometry()
    }

    fn driver(&self) -> &'static str {
        "psync"
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>, IoError> {
        let (target, counters) = (self.target.clone(), self.counters.clone());
        PsyncQueue::boxed(target, self.pool.clone(), counters, self.method, depth)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.target.check_read(offset, buf)?;
        self.counters.read(buf.len() as u64);
        self.target.read(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), IoError> {
        self.target.check_write(offset, buf)?;
        self.counters.write(buf.len() as u64, false);
        self.target.write(offset, buf, false)
    }

    fn flush(&self) -> Result<(), IoError> {
        self.counters.flush();
        self.target.flush()
    }

    fn refresh(&self) -> Result<Geometry, IoError> {
        self.target.refresh()
    }

    fn grow(&self, capacity: u64, allocated_from: Option<u64>) -> Result<Geometry, IoError> {
        self.target.grow(capacity, allocated_from)
    }

    fn treat_as_sparse(&self) {
        self.target.treat_as_sparse();
    }

    fn preallocate(&self) -> Result<(), IoError> {
        self.target.preallocate()
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>, IoError> {
        self.target.next_data(offset)
    }

    fn durable_method(&self) -> DurableMethod {
        self.method
    }

    fn with_durable_method(&self, method: DurableMethod) -> Arc<dyn Device> {
        Arc::new(Self {
            target: self.target.clone(),
            pool: self.pool.clone(),
            method,
            counters: Arc::default(),
        })
    }

    fn counters(&self) -> OpCounts {
        self.counters.counts()
    }
}

/// One request on its way through the pool.
struct Job {
    target: Arc<Target>,
    method: DurableMethod,
    request: Request,
    reply: Sender<Completion>,
    bell: Arc<Bell>,
}

impl Job {
    fn run(self) {
        let token = self.request.token;
        let (result, buf) = match self.request.op {
            Op::Read { offset, mut buf } => (self.target.read(offset, &mut buf), Some(buf)),
            Op::Write {
                offset,
                buf,
                durable,
            } => {
                let dsync = durable && self.method == DurableMethod::Dsync;
                let mut result = self.target.write(offset, &buf, dsync);
                if result.is_ok() && durable && !dsync {
                    result = self.target.flush();
                }
                (result, Some(buf))
            }
            Op::Flush => (self.target.flush(), None),
            Op::Discard { offset, len } => (self.target.discard(offset, len), None),
        };
        // Open files are given back before the caller can learn of the end, so
        // that a device dropped after its last completion is really closed.
        drop(self.target);
        // The queue takes all its completions before it goes, so this arrives.
        let _ = self.reply.try_send(Completion { token, result, buf });
        self.bell.ring();
    }
}

/// The threads of a device.
#[derive(Debug)]
pub(crate) struct Pool {
    home: Home,
    /// Taken on drop, which ends the threads.
    jobs: Option<Sender<Job>>,
    incoming: Receiver<Job>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Job").field(&self.request).finish()
    }
}

impl Pool {
    pub(crate) fn new() -> Self {
        let (jobs, incoming) = unbounded();
        Self {
            home: Home::here(),
            jobs: Some(jobs),
            incoming,
            threads: Mutex::new(Vec::new()),
        }
    }

    /// Starts threads until there are `wanted`; one is enough to go on.
    fn ensure(&self, wanted: usize) -> Result<(), IoError> {
        let mut threads = self.threads.lock();
        while threads.len() < wanted {
            let incoming = self.incoming.clone();
            let started = thread::spawn("gaur-psync", move || {
                while let Ok(job) = incoming.recv() {
                    job.run();
                }
            });
            match started {
                Ok(handle) => threads.push(handle),
                Err(_) if !threads.is_empty() => break,
                Err(e) => {
                    return Err(IoError::with_errno(
                        IoErrorKind::Queue,
                        "queue",
                        0,
                        0,
                        e.raw_os_error().unwrap_or(libc::EAGAIN),
                        "no I/O thread can be started; raise the process's thread limit",
                    ));
                }
            }
        }
        Ok(())
    }

    fn give(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // Unbounded, and `incoming` keeps it connected.
            let _ = jobs.try_send(job);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.home.is_here() {
            // A forked child has none of these threads. Their halves of the channel stay.
            std::mem::forget(self.jobs.take());
            let threads = self.threads.get_mut().drain(..);
            threads.for_each(thread::JoinHandle::forget);
            return;
        }
        self.jobs = None;
        for handle in self.threads.get_mut().drain(..) {
            let _ = handle.join();
        }
    }
}

/// A queue of the psync driver.
#[derive(Debug)]
pub(crate) struct PsyncQueue {
    target: Arc<Target>,
    pool: Arc<Pool>,
    method: DurableMethod,
    counters: Arc<Counters>,
    bell: Arc<Bell>,
    reply: Sender<Completion>,
    done: Receiver<Completion>,
    /// Requests over the depth.
    backlog: VecDeque<Request>,
    /// Completions of requests that failed the checks.
    refused: Vec<Completion>,
    depth: usize,
    /// Jobs given to the pool and not taken back.
    running: usize,
}

impl PsyncQueue {
    pub(crate) fn boxed(
        target: Arc<Target>,
        pool: Arc<Pool>,
        counters: Arc<Counters>,
        method: DurableMethod,
        depth: u32,
    ) -> Result<Box<dyn Queue>, IoError> {
        target.check_home("queue", 0, 0)?;
        let depth = depth.max(1) as usize;
        pool.ensure(depth.min(MAX_THREADS))?;
        let (reply, done) = unbounded();
        Ok(Box::new(Self {
            target,
            pool,
            method,
            counters,
            bell: Arc::default(),
            reply,
            done,
            backlog: VecDeque::new(),
            refused: Vec::new(),
            depth,
            running: 0,
        }))
    }

    fn start(&mut self) {
        while self.running < self.depth {
            let Some(request) = self.backlog.pop_front() else {
                break;
            };
            self.running += 1;
            self.pool.give(Job {
                target: self.target.clone(),
                method: self.method,
                request,
                reply: self.reply.clone(),
                bell: self.bell.clone(),
            });
        }
    }

    fn take(&mut self, out: &mut Vec<Completion>) {
        out.append(&mut self.refused);
        while let Ok(completion) = self.done.try_recv() {
            self.running -= 1;
            out.push(completion);
        }
        self.start();
    }
}

impl Queue for PsyncQueue {
    fn submit(&mut self, requests: &mut Vec<Request>) -> Result<(), IoError> {
        self.target.check_home("queue", 0, 0)?;
        for request in requests.drain(..) {
            match self.target.check(&request.op) {
                Ok(()) => {
                    self.counters.op(&request.op);
                    self.backlog.push_back(request);
                }
                Err(error) => self.refused.push(Completion::refused(request, error)),
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
        self.target.check_home("queue", 0, 0)?;
        let before = out.len();
        if at_least == 0 {
            self.take(out);
            return Ok(out.len() - before);
        }
        latch::assert_may_block("Queue::wait");
        let any = at_least == usize::MAX;
        let look = !any && self.in_flight() < at_least;
        let goal = if any { 1 } else { at_least };
        let deadline = timeout.and_then(|t| time::now().checked_add(t));
        loop {
            self.take(out);
            let n = out.len() - before;
            if self.bell.take_wake() || look || n >= goal {
                return Ok(n);
            }
            let left = deadline.map(|d| d.saturating_duration_since(time::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(n);
            }
            self.bell.listen(left);
        }
    }

    fn in_flight(&self) -> usize {
        self.running + self.backlog.len() + self.refused.len()
    }

    fn waker(&self) -> Waker {
        self.bell.clone()
    }
}

impl Drop for PsyncQueue {
    fn drop(&mut self) {
        if !self.target.is_home() {
            // Nobody is there to answer, and who was about to holds a part of the channel.
            std::mem::forget(std::mem::replace(&mut self.done, unbounded().1));
            return;
        }
        self.backlog.clear();
        while self.running > 0 {
            if self.done.recv().is_err() {
                break;
            }
            self.running -= 1;
        }
    }
}
