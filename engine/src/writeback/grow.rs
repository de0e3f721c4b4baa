//! The checkpointer's part of growing: before a checkpoint it finds out how large
//! the device is, or makes the file larger; the checkpoint takes that in. Until its
//! superblocks are durable nothing new is used, so a power cut leaves either size,
//! and a file that is longer than its store is taken in the next time.

use gaur_iodriver::{IoError, IoErrorKind};

use crate::error::Result;
use crate::events::Event;
use crate::format::Geometry;
use crate::growth::{Ask, GrowReport};
use crate::tree::Forest;

/// The least that a file grows by itself, in bytes.
const STEP: u64 = 64 << 20;
/// By this part of itself a larger file grows.
const PART: u64 = 8;
/// No more than so many bytes need be free, however large the store is.
const PLENTY: u64 = 1 << 30;

/// What the next checkpoint takes in, and for whom.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The new geometry, if there is something to take in.
    pub(crate) to: Option<Geometry>,
    before: u64,
    asks: Vec<Ask>,
}

impl Forest {
    /// Blocks of which fewer are too few in a file that grows by itself; 0 if the
    /// store is not one, or has its full size.
    pub(crate) fn low_mark(&self) -> u64 {
        let now = self.geometry.now();
        if self.device.geometry().is_block_device || now.grown(self.growth.grow_to).is_none() {
            return 0;
        }
        let part = now.capacity / 12;
        self.pool.allocator().kept_back() + part.min(PLENTY / u64::from(now.block_size))
    }

    /// Whether space is low although a checkpoint just brought back what it could.
    pub(crate) fn is_low(&self) -> bool {
        let low = self.low_mark();
        // More than the mark at which the allocator tells, so that a store at the
        // mark does not make one checkpoint after another.
        low > 0
            && self
                .pool
                .allocator()
                .free_soon()
                .is_ok_and(|f| f < low + low / 2)
    }

    /// Finds out what there is to take in; has a file lengthened that must be, or
    /// should be because `low`. Waits for I/O. Whatever fails is told to those who
    /// asked and noted; the store goes on as it is.
    pub(crate) fn begin_growth(&self, low: bool) -> Plan {
        let growth = &self.growth;
        let (asks, wanted) = growth.begin();
        let now = self.geometry.now();
        let mut plan = Plan {
            before: self.bytes(),
            ..Plan::default()
        };
        for ask in asks {
            // Another may have been served meanwhile.
            match self.lengthen(ask.bytes, &now) {
                Ok(bytes) => {
                    plan.to = now.grown(bytes);
                    plan.asks.push(ask);
                }
                Err(cause) => {
                    let wanted = ask.bytes.unwrap_or(plan.before);
                    let e = self.cannot_grow(wanted, cause);
                    self.growth_failed(e.to_string());
                    let _ = ask.reply.try_send(Err(e));
                }
            }
        }
        if plan.to.is_none() && (growth.follow || growth.grow_to > 0) && !growth.failed_lately() {
            match self.grow_itself(&now, low || wanted) {
                Ok(to) => plan.to = to,
                Err(cause) => {
                    let wanted = growth.grow_to.max(plan.before);
                    self.growth_failed(self.cannot_grow(wanted, cause).to_string());
                }
            }
        }
        plan
    }

    fn growth_failed(&self, why: String) {
        self.growth.failed(why.clone());
        self.events.tell(Event::GrowthFailed { why });
    }

    /// What `plan` takes in is durable, or there was nothing.
    pub(crate) fn end_growth(&self, plan: Plan) {
        if plan.to.is_some() {
            self.growth.succeeded();
        }
        self.growth.end();
        let report = GrowReport {
            before: plan.before,
            capacity: self.bytes(),
            device: self.device.geometry().capacity,
        };
        if plan.to.is_some() {
            self.events.tell(Event::Grown {
                before: report.before,
                capacity: report.capacity,
            });
        }
        for ask in plan.asks {
            let _ = ask.reply.try_send(Ok(report));
        }
    }

    /// Growth that nobody ordered: into what others enlarged, or, if there is `need`,
    /// a step of the store's own.
    fn grow_itself(&self, now: &Geometry, need: bool) -> Result<Option<Geometry>, IoError> {
        let growth = &self.growth;
        let device = self.device.refresh()?;
        if growth.follow && now.grown(device.capacity).is_some() {
            return Ok(now.grown(self.lengthen(None, now)?));
        }
        let most = growth.grow_to;
        if !need || device.is_block_device || now.grown(most).is_none() {
            return Ok(None);
        }
        let have = now.byte(now.capacity);
        let mut step = STEP.max(have / PART);
        loop {
            let target = (have + step).min(most);
            match self.lengthen(Some(target), now) {
                // Of a file that is longer still only the step was ordered.
                Ok(bytes) => return Ok(now.grown(bytes.min(target))),
                Err(e) if e.kind == IoErrorKind::NoSpace && step > STEP => {
                    step = (step / 2).max(STEP);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Makes a file at least `bytes` large; what of it is behind the store's end
    /// gets its space, unless it is sparse. Returns the device's size.
    fn lengthen(&self, bytes: Option<u64>, now: &Geometry) -> Result<u64, IoError> {
        let have = self.device.refresh()?;
        let block = u64::from(now.block_size);
        let bytes = bytes.map_or(0, |b| b.next_multiple_of(block));
        if now.grown(bytes.max(have.capacity)).is_none() {
            return Ok(have.capacity);
        }
        let space = (!self.growth.sparse).then(|| now.byte(now.capacity));
        let whole = bytes.max(have.capacity / block * block);
        Ok(self.device.grow(whole, space)?.capacity)
    }
}
