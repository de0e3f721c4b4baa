//! The geometry of an open store, whose capacity may grow.
//!
//! What lies where does not depend on the capacity: growth adds groups behind the
//! last and moves nothing. So all but the bounds can be asked at any time; who
//! needs a whole [`Geometry`] takes one with [`Places::now`] and knows that it may
//! be too small a moment later, never too large.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::{BlockNo, Geometry, Run};

/// Where everything lies in an open store.
#[derive(Debug)]
pub(crate) struct Places {
    /// Bytes in a block.
    pub(crate) block_size: u32,
    log_blocks: u64,
    /// Blocks in use, by the newest durable superblock. Only grows.
    ///
    /// It is stored before the allocator may hand out a block behind the old end,
    /// and a pointer to such a block is read after it was written, under a latch
    /// or validated. So who has a pointer sees a capacity that covers it.
    capacity: AtomicU64,
}

impl Places {
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self {
            block_size: geometry.block_size,
            log_blocks: geometry.log_blocks,
            capacity: AtomicU64::new(geometry.capacity),
        }
    }

    /// The geometry as it is now.
    pub(crate) fn now(&self) -> Geometry {
        Geometry {
            block_size: self.block_size,
            capacity: self.capacity(),
            log_blocks: self.log_blocks,
        }
    }

    /// Blocks in use.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Acquire)
    }

    /// A superblock with this capacity is durable.
    pub(crate) fn grown(&self, capacity: u64) {
        self.capacity.fetch_max(capacity, Ordering::AcqRel);
    }

    /// Byte offset of a block.
    pub(crate) fn byte(&self, block: BlockNo) -> u64 {
        self.now().byte(block)
    }

    /// Whether a run lies wholly where data may lie.
    pub(crate) fn is_data(&self, run: Run) -> bool {
        self.now().is_data(run)
    }
}
