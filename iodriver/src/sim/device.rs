//! A handle to a simulated disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::core::Core;
use super::queue::SimQueue;
use crate::buf::IoBuf;
use crate::check;
use crate::contract::{Device, Geometry, Op, Queue};
use crate::counters::{Counters, OpCounts};
use crate::durable::DurableMethod;
use crate::error::IoError;
use crate::sync::{latch, time};

#[derive(Debug)]
pub(crate) struct SimDevice {
    core: Arc<Core>,
    counters: Arc<Counters>,
    method: DurableMethod,
    /// As at the last refresh; queues share it.
    capacity: Arc<AtomicU64>,
}

impl SimDevice {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let capacity = core.with(|s| s.capacity);
        Self {
            core,
            counters: Arc::default(),
            method: DurableMethod::default(),
            capacity: Arc::new(AtomicU64::new(capacity)),
        }
    }

    /// Takes the disk's size for this device's.
    fn look_again(&self) -> Result<Geometry, IoError> {
        let capacity = self.core.with(|s| s.capacity);
        self.capacity.store(capacity, Ordering::Release);
        Ok(self.geometry())
    }

    /// One operation, waited for.
    fn run(&self, op: &mut Op) -> Result<(), IoError> {
        let ticket = self.core.ticket(op);
        let due = self.core.start(&ticket, op);
        let mut bell = None;
        loop {
            let left = self.core.time_left(&ticket, due, time::now());
            if left.is_some_and(|left| left.is_zero()) {
                return self.core.carry_out(&ticket, op);
            }
            // The bell is there before the time is asked for again: what rings in
            // between is not lost.
            match &bell {
                None => bell = Some(self.core.bell()),
                Some(bell) => bell.listen(left),
            }
        }
    }
}

impl Device for SimDevice {
    fn geometry(&self) -> Geometry {
        self.core.geometry(self.capacity.load(Ordering::Acquire))
    }

    fn driver(&self) -> &'static str {
        "sim"
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>, IoError> {
        Ok(Box::new(SimQueue::new(
            self.core.clone(),
            self.counters.clone(),
            self.capacity.clone(),
            depth,
        )))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        latch::assert_may_block("a device read");
        let geometry = self.geometry();
        check::range(&geometry, "read", offset, buf.len() as u64)?;
        check::memory(&geometry, "read", offset, buf)?;
        self.counters.read(buf.len() as u64);
        if buf.is_empty() {
            return Ok(());
        }
        let mut op = Op::Read {
            offset,
            buf: IoBuf::zeroed(buf.len()),
        };
        let result = self.run(&mut op);
        if let Op::Read { buf: from, .. } = &op {
            buf.copy_from_slice(from);
        }
        result
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), IoError> {
        latch::assert_may_block("a device write");
        let geometry = self.geometry();
        check::range(&geometry, "write", offset, buf.len() as u64)?;
        check::memory(&geometry, "write", offset, buf)?;
        self.counters.write(buf.len() as u64, false);
        if buf.is_empty() {
            return Ok(());
        }
        let mut copy = IoBuf::zeroed(buf.len());
        copy.copy_from_slice(buf);
        self.run(&mut Op::Write {
            offset,
            buf: copy,
            durable: false,
        })
    }

    fn flush(&self) -> Result<(), IoError> {
        latch::assert_may_block("a device flush");
        self.counters.flush();
        self.run(&mut Op::Flush)
    }

    fn refresh(&self) -> Result<Geometry, IoError> {
        self.core.refresh()?;
        self.look_again()
    }

    fn grow(&self, capacity: u64, allocated_from: Option<u64>) -> Result<Geometry, IoError> {
        latch::assert_may_block("growing a file");
        self.core.grow(capacity, allocated_from.is_some())?;
        self.look_again()
    }

    fn durable_method(&self) -> DurableMethod {
        self.method
    }

    fn with_durable_method(&self, method: DurableMethod) -> Arc<dyn Device> {
        Arc::new(Self {
            core: self.core.clone(),
            counters: Arc::default(),
            method,
            capacity: self.capacity.clone(),
        })
    }

    fn counters(&self) -> OpCounts {
        self.counters.counts()
    }
}
