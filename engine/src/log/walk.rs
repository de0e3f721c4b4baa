//! Looking at every log block in the region, for `gaur inspect log`.
//!
//! Goes through the region once, in the order of places, and shows what looks like
//! a log block of the store: those of the running lap, of earlier laps, of abandoned
//! futures. Decides nothing; recovery is [`super::LogReader`]'s.

use std::sync::Arc;

use gaur_iodriver::Device;

use super::block;
use super::ring::Ring;
use super::window::Window;
use crate::error::Result;
use crate::format::log::LogHeader;
use crate::format::{BlockNo, Geometry};

/// What one log block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFacts {
    /// Its first block on the device.
    pub place: BlockNo,
    /// Its header. `position / log_blocks` is its lap.
    pub header: LogHeader,
    /// Whether its checksum is right.
    pub verifies: bool,
    /// Whether it continues the one shown before it.
    pub follows: bool,
}

/// Walks the region; an iterator of [`BlockFacts`].
#[derive(Debug)]
pub struct LogWalk {
    window: Window,
    store_id: u128,
    index: u64,
    /// Position and checksum that a block must have to follow.
    expected: Option<(u64, u64)>,
}

impl LogWalk {
    /// A walk through the log of this store. Reads only.
    ///
    /// # Errors
    /// [`crate::Error::BadOption`] if the geometry has no room for its log.
    pub fn new(device: Arc<dyn Device>, geometry: Geometry, store_id: u128) -> Result<Self> {
        Ok(Self::new_on(Ring::new(geometry)?, device, store_id))
    }

    /// [`LogWalk::new`] on a given ring.
    pub(super) fn new_on(ring: Ring, device: Arc<dyn Device>, store_id: u128) -> Self {
        Self {
            window: Window::new(device, ring),
            store_id,
            index: 0,
            expected: None,
        }
    }

    /// The log block that begins at block `index` of the region, if one does, and
    /// the blocks to go on by.
    fn look(&mut self, index: u64) -> Result<(Option<BlockFacts>, u64)> {
        let header = LogHeader::decode(self.window.get(index, 1)?);
        let position = header.position;
        let ring = self.window.ring();
        let here = position % ring.len() == index;
        if !here || !block::plausible(ring, self.store_id, position, &header) {
            return Ok((None, 1));
        }
        let place = ring.place(index);
        let written = block::written(&header);
        let bytes = self.window.get(index, written)?;
        let verifies = block::verifies(&header, place, bytes);
        let follows = self.expected == Some((position, header.previous));
        self.expected = verifies.then(|| {
            (
                position.saturating_add(u64::from(header.blocks)),
                header.checksum,
            )
        });
        let facts = BlockFacts {
            place,
            header,
            verifies,
            follows,
        };
        // What a skip skips may hold older blocks; what does not verify, anything.
        Ok((Some(facts), if verifies { written } else { 1 }))
    }
}

impl Iterator for LogWalk {
    type Item = Result<BlockFacts>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.index < self.window.ring().len() {
            match self.look(self.index) {
                Ok((facts, step)) => {
                    self.index += step;
                    if let Some(facts) = facts {
                        return Some(Ok(facts));
                    }
                }
                Err(e) => {
                    self.index = self.window.ring().len();
                    return Some(Err(e));
                }
            }
        }
        None
    }
}
