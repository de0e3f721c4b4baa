//! What a device handle was asked to do, counted.
//!
//! Counted is what passed the checks and was handed to the driver, whether it
//! succeeded or not. The counters are relaxed atomics, each on its own cache
//! line: threads that read never share a line with threads that write.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::contract::Op;

/// The counts of one device handle at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpCounts {
    /// Reads.
    pub reads: u64,
    /// Writes, durable ones included.
    pub writes: u64,
    /// Writes that were submitted as durable.
    pub durable_writes: u64,
    /// Flushes asked for by the caller.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
    /// Bytes asked for by reads.
    pub read_bytes: u64,
    /// Bytes handed over by writes.
    pub written_bytes: u64,
    /// Bytes named by discards.
    pub discarded_bytes: u64,
}

/// The running counters behind [`OpCounts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    reads: CachePadded<AtomicU64>,
    read_bytes: CachePadded<AtomicU64>,
    writes: CachePadded<AtomicU64>,
    written_bytes: CachePadded<AtomicU64>,
    durable_writes: CachePadded<AtomicU64>,
    flushes: CachePadded<AtomicU64>,
    discards: CachePadded<AtomicU64>,
    discarded_bytes: CachePadded<AtomicU64>,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn read(&self, len: u64) {
        add(&self.reads, 1);
        add(&self.read_bytes, len);
    }

    pub(crate) fn write(&self, len: u64, durable: bool) {
        add(&self.writes, 1);
        add(&self.written_bytes, len);
        if durable {
            add(&self.durable_writes, 1);
        }
    }

    pub(crate) fn flush(&self) {
        add(&self.flushes, 1);
    }

    pub(crate) fn op(&self, op: &Op) {
        match op {
            Op::Read { buf, .. } => self.read(buf.len() as u64),
            Op::Write { buf, durable, .. } => self.write(buf.len() as u64, *durable),
            Op::Flush => self.flush(),
            Op::Discard { len, .. } => {
                add(&self.discards, 1);
                add(&self.discarded_bytes, *len);
            }
        }
    }

    pub(crate) fn counts(&self) -> OpCounts {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        OpCounts {
            reads: get(&self.reads),
            writes: get(&self.writes),
            durable_writes: get(&self.durable_writes),
            flushes: get(&self.flushes),
            discards: get(&self.discards),
            read_bytes: get(&self.read_bytes),
            written_bytes: get(&self.written_bytes),
            discarded_bytes: get(&self.discarded_bytes),
        }
    }
}
