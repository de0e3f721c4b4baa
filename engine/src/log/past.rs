//! Reading log blocks that may be overwritten meanwhile, wherever the head is.
//!
//! Nothing keeps what is behind the head from being overwritten, and nothing need: a log
//! block counts only if it verifies for its position and continues the chain, as in
//! recovery. What does not is told to the caller, who knows whether the log has come
//! round to that place by now.

use std::sync::Arc;

use gaur_iodriver::{Device, IoBuf};

use super::block;
use super::ring::Ring;
use crate::error::{Damage, Result};
use crate::format::Csn;
use crate::format::log::{LogHeader, RecordHeader};

/// Bytes read at once, where as many are durable.
const AHEAD: usize = 256 << 10;

/// Where a log block begins, and what it must continue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogPlace {
    pub(crate) position: u64,
    /// Checksum of the log block before it.
    pub(crate) chain: u64,
    /// The next commit: the first in it, if it has any.
    pub(crate) next_csn: Csn,
}

/// A reader of log blocks, with the one it read last.
#[derive(Debug)]
pub(crate) struct Past {
    device: Arc<dyn Device>,
    ring: Arc<Ring>,
    store_id: u128,
    buf: IoBuf,
    /// Position and number of the blocks in `buf`.
    start: u64,
    blocks: u64,
}

impl Past {
    pub(super) fn new(device: Arc<dyn Device>, ring: Arc<Ring>, store_id: u128) -> Self {
        Self {
            buf: IoBuf::zeroed(ring.block_size()),
            device,
            ring,
            store_id,
            start: 0,
            blocks: 0,
        }
    }

    /// Reads the log block at `place`, which is durable, as all before `end` is; `None` if
    /// another lies there. Returns its header and the place behind it.
    ///
    /// # Errors
    /// [`crate::Error::Io`]. [`crate::Error::Damaged`] if it verifies and yet says what
    /// cannot be.
    pub(crate) fn read(
        &mut self,
        place: LogPlace,
        end: u64,
    ) -> Result<Option<(LogHeader, LogPlace)>> {
        let Some(header) = self.verified(place.position, end)? else {
            return Ok(None);
        };
        if header.previous != place.chain || header.first_csn != place.next_csn {
            return Ok(None);
        }
        let at = self.ring.place(place.position);
        let bytes = self.bytes(place.position, block::written(&header));
        let last = block::check_records(&header, at, bytes)?;
        let behind = LogPlace {
            position: place.position + u64::from(header.blocks),
            chain: header.checksum,
            next_csn: last + 1,
        };
        Ok(Some((header, behind)))
    }

    /// The log block at `position`, if a whole one lies there that ends at `end` or before.
    pub(super) fn verified(&mut self, position: u64, end: u64) -> Result<Option<LogHeader>> {
        self.get(position, 1, end)?;
        let header = LogHeader::decode(self.bytes(position, 1));
        let plausible = block::plausible(&self.ring, self.store_id, position, &header);
        if !plausible || position + u64::from(header.blocks) > end {
            return Ok(None);
        }
        let written = block::written(&header);
        self.get(position, written, end)?;
        // The header too: it may have changed between two reads.
        let bytes = self.bytes(position, written);
        let same = LogHeader::decode(bytes) == header;
        let verifies = same && block::verifies(&header, self.ring.place(position), bytes);
        Ok(verifies.then_some(header))
    }

    /// The record at byte `at` of the log block read last, and where the next is.
    pub(crate) fn record(&self, header: &LogHeader, at: usize) -> Option<(RecordHeader, &[u8])> {
        let end = LogHeader::SIZE + header.payload as usize;
        let bytes = self.bytes(header.position, block::written(header));
        let (record, ops, _) = block::split_record(bytes.get(at..end)?)?;
        Some((record, ops))
    }

    /// The damage of which the log block at `position` is.
    pub(crate) fn damage(&self, position: u64) -> Damage {
        let detail = format!("the log breaks off at position {position}, which was durable");
        Damage::new(block::WHAT, self.ring.place(position), detail)
    }

    fn bytes(&self, position: u64, blocks: u64) -> &[u8] {
        let size = self.ring.block_size();
        let from = (position - self.start) as usize * size;
        &self.buf[from..from + blocks as usize * size]
    }

    /// Has these blocks in memory, and some behind them; nothing from `end` on, which may be
    /// being written.
    fn get(&mut self, position: u64, blocks: u64, end: u64) -> Result<()> {
        if position >= self.start && position + blocks <= self.start + self.blocks {
            return Ok(());
        }
        let size = self.ring.block_size();
        let ahead = (AHEAD / size).max(1) as u64;
        let most = self.ring.rest(position).min(end - position);
        let blocks = blocks.max(ahead.min(most));
        let bytes = blocks as usize * size;
        if bytes > self.buf.len() {
            self.buf = IoBuf::zeroed(bytes);
        }
        self.blocks = 0;
        let offset = self.ring.byte(position);
        self.device.read_at(offset, &mut self.buf[..bytes])?;
        (self.start, self.blocks) = (position, blocks);
        Ok(())
    }
}
