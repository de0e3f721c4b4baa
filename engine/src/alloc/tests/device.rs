//! A device in memory for these tests: latency, gates, failures.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gaur_iodriver::contract::Wake;
use gaur_iodriver::sync::time::{Duration, Instant, now};
use gaur_iodriver::sync::{Condvar, Mutex};
use gaur_iodriver::{
    Completion, Device, Geometry, IoError, IoErrorKind, Op, Queue, Request, Waker,
};

const BLOCK: u64 = 4096;

#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) blocks: Mutex<HashMap<u64, Vec<u8>>>,
    pub(super) capacity: u64,
    /// Milliseconds an I/O takes.
    pub(super) latency: AtomicU64,
    /// Reads and discards do not complete while these are set.
    pub(super) hold_reads: AtomicBool,
    pub(super) hold_discards: AtomicBool,
    pub(super) discards: Mutex<Vec<(u64, u64)>>,
    pub(super) fail_discards: AtomicBool,
    pub(super) fail_writes: AtomicBool,
    /// Blocks that cannot be read.
    pub(super) unreadable: Mutex<BTreeSet<u64>>,
    pub(super) reads: AtomicU64,
}

#[derive(Clone, Debug)]
pub(super) struct MemDevice(pub(super) Arc<Memory>);

impl MemDevice {
    pub(super) fn new(blocks: u64) -> Self {
        Self(Arc::new(Memory {
            capacity: blocks * BLOCK,
            ..Memory::default()
        }))
    }

    pub(super) fn device(&self) -> Arc<dyn Device> {
        Arc::new(self.clone())
    }

    /// Turns a bit of a block, if it was ever written.
    pub(super) fn rot(&self, block: u64) {
        if let Some(data) = self.0.blocks.lock().get_mut(&block) {
            data[100] ^= 4;
        }
    }
}

fn error(what: &'static str, offset: u64) -> IoError {
    IoError {
        kind: IoErrorKind::Failed,
        what,
        offset,
        len: BLOCK,
        os: Some(5),
        detail: "made to fail".into(),
    }
}

impl Memory {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.unreadable.lock().contains(&(offset / BLOCK)) {
            return Err(error("read", offset));
        }
        match self.blocks.lock().get(&(offset / BLOCK)) {
            Some(data) => buf.copy_from_slice(data),
            None => buf.fill(0),
        }
        Ok(())
    }

    fn write(&self, offset: u64, buf: &[u8]) -> Result<(), IoError> {
        if self.fail_writes.load(Ordering::SeqCst) {
            return Err(error("write", offset));
        }
        self.blocks.lock().insert(offset / BLOCK, buf.to_vec());
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        // A test device: the short lock never waits for long.
        loop {
            if let Some(mut rung) = self.rung.try_lock() {
                *rung = true;
                break;
            }
            gaur_iodriver::sync::thread::yield_now();
        }
        self.changed.notify_all();
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Read,
    Write,
    Other,
}

#[derive(Debug)]
struct MemQueue {
    memory: Arc<Memory>,
    flying: Vec<(Kind, Instant, Completion)>,
    bell: Arc<Bell>,
}

impl Queue for MemQueue {
    fn submit(&mut self, requests: &mut Vec<Request>) -> Result<(), IoError> {
        let latency = Duration::from_millis(self.memory.latency.load(Ordering::SeqCst));
        for Request { token, op } in requests.drain(..) {
            let (kind, result, buf) = match op {
                Op::Read { offset, mut buf } => {
                    (Kind::Read, self.memory.read(offset, &mut buf), Some(buf))
                }
                Op::Write { offset, buf, .. } => {
                    (Kind::Write, self.memory.write(offset, &buf), Some(buf))
                }
                Op::Flush => (Kind::Write, Ok(()), None),
                Op::Discard { offset, len } => {
                    self.memory
                        .discards
                        .lock()
                        .push((offset / BLOCK, len / BLOCK));
                    let failed = self.memory.fail_discards.load(Ordering::SeqCst);
                    let result = if failed {
                        Err(error("discard", offset))
                    } else {
                        Ok(())
                    };
                    (Kind::Other, result, None)
                }
            };
            let completion = Completion { token, result, buf };
            self.flying.push((kind, now() + latency, completion));
        }
        Ok(())
    }

    fn wait(
        &mut self,
        at_least: usize,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> Result<usize, IoError> {
        let end = timeout.map(|t| now() + t);
        let before = out.len();
        if at_least != usize::MAX && at_least > self.flying.len() {
            return Ok(0);
        }
        let wanted = if at_least == usize::MAX { 1 } else { at_least };
        loop {
            let held = |kind| match kind {
                Kind::Read => self.memory.hold_reads.load(Ordering::SeqCst),
                Kind::Other => self.memory.hold_discards.load(Ordering::SeqCst),
                Kind::Write => false,
            };
            let time = now();
            let ready = |f: &mut (Kind, Instant, Completion)| f.1 <= time && !held(f.0);
            out.extend(self.flying.extract_if(.., ready).map(|f| f.2));
            let mut rung = self.bell.rung.lock();
            let over = end.is_some_and(|e| now() >= e);
            if out.len() - before >= wanted || over || *rung {
                if wanted > 0 {
                    *rung = false;
                }
                return Ok(out.len() - before);
            }
            self.bell
                .changed
                .wait_for(&mut rung, Duration::from_millis(1));
        }
    }

    fn in_flight(&self) -> usize {
        self.flying.len()
    }

    fn waker(&self) -> Waker {
        Arc::clone(&self.bell) as Waker
    }
}

impl Device for MemDevice {
    fn geometry(&self) -> Geometry {
        Geometry {
            capacity: self.0.capacity,
            logical_block: 4096,
            physical_block: 4096,
            offset_align: 4096,
            memory_align: 4096,
            volatile_cache: false,
            discard_granularity: 4096,
            is_block_device: false,
            direct: true,
        }
    }

    fn driver(&self) -> &'static str {
        "memory"
    }

    fn queue(&self, _depth: u32) -> Result<Box<dyn Queue>, IoError> {
        Ok(Box::new(MemQueue {
            memory: Arc::clone(&self.0),
            flying: Vec::new(),
            bell: Arc::default(),
        }))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.0.read(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), IoError> {
        self.0.write(offset, buf)
    }

    fn flush(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn refresh(&self) -> Result<Geometry, IoError> {
        Ok(self.geometry())
    }
}
