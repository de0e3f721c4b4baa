//! Recovery: reads the log from the head on, and tells its end from damage.
//!
//! A log block counts if it verifies ([`super::block`]) and names the checksum of
//! the one before it. The first that does not is where the log ends, *unless*
//! something says that more was durable: the superblock, or a log block further on
//! whose `durable_through` lies behind the stop. Then it is damage.
//!
//! Why that is right. A header's `durable_through` was acknowledged when it was
//! written, so all before it was durable and recovered by every later opening;
//! each opening flushes before it continues. So a log block of an abandoned future
//! (in flight when the power went, behind a block that was lost) never says more
//! than where that recovery stopped, and no later recovery stops before that. Nor
//! does it ever continue a later log: that begins with a seal ([`super::Log::start`]).
//! Blocks of earlier laps have smaller positions.
//!
//! What cannot be told: a damaged log block with nothing behind it that was written
//! after its acknowledgement looks like the end. The superblock of a clean
//! shutdown and of each checkpoint narrows this.

use std::sync::Arc;

use gaur_iodriver::{Device, fault};

use super::block::{self, WHAT};
use super::config::{LogHead, LogTail};
use super::ring::Ring;
use super::window::Window;
use crate::error::{Damage, Result};
use crate::format::log::{LogHeader, RecordHeader};
use crate::format::{Csn, Geometry};

/// A commit read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRecord<'a> {
    /// Its number; one more than that of the record before.
    pub csn: Csn,
    /// Its operations, for [`super::Ops`]; their structure was checked.
    pub ops: &'a [u8],
    /// How many they are.
    pub count: u32,
}

/// Reads the records behind a checkpoint in the order of their CSNs.
#[derive(Debug)]
pub struct LogReader {
    window: Window,
    store_id: u128,
    head: u64,
    durable: u64,
    clean: bool,
    incarnation: u32,
    /// The next log block, once the present one is read out.
    tail: LogTail,
    /// The log block whose records are being read, and how far.
    current: Option<(LogHeader, usize)>,
    ended: bool,
}

impl LogReader {
    /// A reader of the log of this store, from `head` on; the first record is
    /// commit `cut` + 1. `durable` is the superblock's `log_durable`. Reads only.
    ///
    /// # Errors
    /// [`crate::Error::BadOption`] if the geometry has no room for its log.
    pub fn new(
        device: Arc<dyn Device>,
        geometry: Geometry,
        store_id: u128,
        head: LogHead,
        cut: Csn,
        durable: u64,
    ) -> Result<Self> {
        let ring = Ring::new(geometry)?;
        Ok(Self::new_on(ring, device, store_id, head, cut, durable))
    }

    /// [`LogReader::new`] on a given ring.
    pub(super) fn new_on(
        ring: Ring,
        device: Arc<dyn Device>,
        store_id: u128,
        head: LogHead,
        cut: Csn,
        durable: u64,
    ) -> Self {
        Self {
            window: Window::new(device, ring),
            store_id,
            head: head.position,
            durable,
            clean: false,
            incarnation: 0,
            tail: LogTail {
                position: head.position,
                chain: head.chain,
                last_csn: cut,
            },
            current: None,
            ended: false,
        }
    }

    /// Says that the superblock is marked as closed cleanly, so that nothing was
    /// written behind its `log_durable`. If the log ends just there, the rest of
    /// the region is not searched for witnesses, which is most of the work of
    /// reading a short log.
    pub fn closed_cleanly(mut self) -> Self {
        self.clean = true;
        self
    }

    /// The next record; `None` at the end of the log.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`], naming the place, if a log block that was durable
    /// is not there or does not say what it must; [`crate::Error::Io`] if the
    /// device fails. The same again if called again.
    pub fn next_record(&mut self) -> Result<Option<ReadRecord<'_>>> {
        loop {
            let Some((header, offset)) = self.current else {
                if self.ended || !self.next_block()? {
                    return Ok(None);
                }
                continue;
            };
            let end = LogHeader::SIZE + header.payload as usize;
            if offset >= end {
                self.current = None;
                continue;
            }
            let place = self.window.ring().place(header.position);
            let bytes = self
                .window
                .get(header.position, block::written(&header))?
                .get(offset..end)
                .unwrap_or_default();
            // Cannot fail: all records were checked with the block.
            let Some((record, ops, _)) = block::split_record(bytes) else {
                return Err(Damage::new(WHAT, place, "changed while it was read").into());
            };
            self.current = Some((header, offset + RecordHeader::SIZE + ops.len()));
            return Ok(Some(ReadRecord {
                csn: record.csn,
                ops,
                count: record.ops,
            }));
        }
    }

    /// Where the log continues; known once [`LogReader::next_record`] returned
    /// `None`.
    pub fn tail(&self) -> Option<LogTail> {
        self.ended.then_some(self.tail)
    }

    /// How far it has read: log blocks before this position were checked. For
    /// showing progress, and for [`LogWalk`](super::LogWalk).
    pub fn position(&self) -> u64 {
        self.tail.position
    }

    /// The highest incarnation met so far; 0 before the first log block.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Steps to the next log block; false if the log ends here.
    fn next_block(&mut self) -> Result<bool> {
        let position = self.tail.position;
        let Some(header) = self.continuing(position)? else {
            self.judge_end(position)?;
            self.ended = true;
            return Ok(false);
        };
        let place = self.window.ring().place(position);
        let bytes = self.window.get(position, block::written(&header))?;
        let last_csn = block::check_records(&header, place, bytes)?;
        let damage = |detail| Err(Damage::new(WHAT, place, detail).into());
        if header.first_csn != self.tail.last_csn + 1 {
            return damage(format!(
                "begins with commit {} where {} belongs",
                header.first_csn,
                self.tail.last_csn + 1
            ));
        }
        if header.incarnation < self.incarnation {
            return damage(format!(
                "incarnation {} behind incarnation {}",
                header.incarnation, self.incarnation
            ));
        }
        self.incarnation = header.incarnation;
        self.tail = LogTail {
            position: position + u64::from(header.blocks),
            chain: header.checksum,
            last_csn,
        };
        self.current = Some((header, LogHeader::SIZE));
        Ok(true)
    }

    /// The log block at `position`, if it is whole and continues the chain.
    fn continuing(&mut self, position: u64) -> Result<Option<LogHeader>> {
        if position >= self.head + self.window.ring().len() {
            return Ok(None);
        }
        let header = self.verified(position, |_| true)?;
        Ok(header.filter(|h| {
            (h.previous == self.tail.chain || fault!(LogChainNotCompared))
                && position + u64::from(h.blocks) <= self.head + self.window.ring().len()
        }))
    }

    /// The header of the log block at `position` if `matters` and it verifies.
    fn verified(
        &mut self,
        position: u64,
        matters: impl Fn(&LogHeader) -> bool,
    ) -> Result<Option<LogHeader>> {
        let header = LogHeader::decode(self.window.get(position, 1)?);
        let ring = self.window.ring();
        let place = ring.place(position);
        let plausible = block::plausible(ring, self.store_id, position, &header);
        if !plausible || !matters(&header) {
            return Ok(None);
        }
        let bytes = self.window.get(position, block::written(&header))?;
        Ok(block::verifies(&header, place, bytes).then_some(header))
    }

    /// Nothing continues the chain at `stop`: is that the end, or damage?
    fn judge_end(&mut self, stop: u64) -> Result<()> {
        let place = self.window.ring().place(stop);
        if self.durable > stop {
            let detail = format!(
                "the log breaks off at position {stop}, but the superblock says it is durable to {}",
                self.durable
            );
            return Err(Damage::new(WHAT, place, detail).into());
        }
        if self.clean && self.durable == stop {
            return Ok(());
        }
        let end = self.head + self.window.ring().len();
        for position in stop + 1..end {
            let witness = self.verified(position, |h| h.durable_through > stop)?;
            if let Some(h) = witness {
                let detail = format!(
                    "the log breaks off at position {stop}, but the log block at position \
                     {position} says it was durable to {}",
                    h.durable_through
                );
                return Err(Damage::new(WHAT, place, detail).into());
            }
        }
        Ok(())
    }
}
