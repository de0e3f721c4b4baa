//! The `uring` driver: one io_uring per queue.
//!
//! What must hold:
//! - A ring made with `SINGLE_ISSUER` belongs to the thread that enables it. A
//!   queue may be made on one thread and used on another, so the ring is made
//!   disabled and enabled at its first use.
//! - With `DEFER_TASKRUN` nothing completes unless its owner enters the ring.
//! - A buffer stays in its slot until the completion of the last kernel request
//!   on it was seen.
//! - A forked child touches no ring: its memory is not mapped there (`DONTFORK`), and
//!   by its descriptor the child would enter its parent's.
//! - Every slot has at most one kernel request outstanding, so neither ring of
//!   the pair can overflow.

mod fallback;
mod helper;
mod kick;
mod queue;
mod setup;

use std::sync::Arc;

use crate::contract::{Device, Geometry, Queue};
use crate::counters::{Counters, OpCounts};
use crate::durable::DurableMethod;
use crate::error::IoError;
use crate::psync::PsyncQueue;
use crate::target::Target;

use fallback::Fallback;
use helper::Helper;
pub(crate) use setup::{RingKind, build, can_poll, can_register_buffers, probe, refusal};

/// An open device on the uring driver.
#[derive(Debug)]
pub(crate) struct UringDevice {
    target: Arc<Target>,
    kind: RingKind,
    helper: Arc<Helper>,
    /// Unless io_uring and nothing else was asked for.
    fallback: Option<Arc<Fallback>>,
    method: DurableMethod,
    counters: Arc<Counters>,
}

impl UringDevice {
    /// `strict`: a queue that gets no ring is an error.
    pub(crate) fn new(
        target: Arc<Target>,
        kind: RingKind,
        method: DurableMethod,
        strict: bool,
    ) -> Self {
        Self {
            target,
            kind,
            helper: Arc::default(),
            fallback: (!strict).then(Arc::default),
            method,
            counters: Arc::default(),
        }
    }
}

impl Device for UringDevice {
    fn geometry(&self) -> Geometry {
        self.target.geometry()
    }

    fn driver(&self) -> &'static str {
        "uring"
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>, IoError> {
        self.target.check_home("queue", 0, 0)?;
        let made = queue::UringQueue::new(
            self.target.clone(),
            self.helper.clone(),
            self.counters.clone(),
            self.kind,
            self.method,
            depth,
        );
        match (made, &self.fallback) {
            (Ok(queue), _) => Ok(Box::new(queue)),
            (Err(e), Some(fallback)) if setup::is_refusal(&e) => {
                let pool = fallback.pool(&e);
                let (target, counters) = (self.target.clone(), self.counters.clone());
                PsyncQueue::boxed(target, pool, counters, self.method, depth)
            }
            (Err(e), _) => Err(e),
        }
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
            kind: self.kind,
            helper: self.helper.clone(),
            fallback: self.fallback.clone(),
            method,
            counters: Arc::default(),
        })
    }

    fn notes(&self) -> Vec<String> {
        let note = self.fallback.as_ref().and_then(|f| f.note());
        note.into_iter().collect()
    }

    fn counters(&self) -> OpCounts {
        self.counters.counts()
    }
}
