//! Reading the log region forward in large pieces.

use std::sync::Arc;

use gaur_iodriver::{Device, IoBuf};

use super::ring::Ring;
use crate::error::Result;

/// Bytes read at once, where the region has as many.
const AHEAD: usize = 1 << 20;

/// The part of the region that is in memory, and the means to move it.
#[derive(Debug)]
pub(super) struct Window {
    device: Arc<dyn Device>,
    ring: Ring,
    buf: IoBuf,
    start: u64,
    blocks: u64,
}

impl Window {
    /// An empty window.
    pub(super) fn new(device: Arc<dyn Device>, ring: Ring) -> Self {
        let region = ring.len() as usize * ring.block_size();
        let buf = IoBuf::zeroed(region.min(AHEAD).max(ring.block_size()));
        Self {
            device,
            ring,
            buf,
            start: 0,
            blocks: 0,
        }
    }

    /// The ring read from.
    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The `blocks` blocks at `position`, which lie in one piece.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if they cannot be read.
    pub(super) fn get(&mut self, position: u64, blocks: u64) -> Result<&[u8]> {
        debug_assert!(blocks > 0 && blocks <= self.ring.rest(position));
        if position < self.start || position + blocks > self.start + self.blocks {
            self.fill(position, blocks)?;
        }
        let size = self.ring.block_size();
        let from = (position - self.start) as usize * size;
        Ok(&self.buf[from..from + blocks as usize * size])
    }

    fn fill(&mut self, position: u64, blocks: u64) -> Result<()> {
        let size = self.ring.block_size();
        let ahead = (AHEAD / size).max(1) as u64;
        let blocks = blocks.max(ahead.min(self.ring.rest(position)));
        let bytes = blocks as usize * size;
        if bytes > self.buf.len() {
            self.buf = IoBuf::zeroed(bytes);
        }
        self.blocks = 0;
        self.device
            .read_at(self.ring.byte(position), &mut self.buf[..bytes])?;
        self.start = position;
        self.blocks = blocks;
        Ok(())
    }
}
