//! The map as the device has it, for who only looks: `check` and `inspect`.

use gaur_iodriver::Device;

use crate::error::{Damage, Result};
use crate::format::space::IndexEntry;
use crate::format::superblock::Superblock;
use crate::format::{BlockNo, Geometry};

use super::bits::Bits;
use super::counters::Counters;
use super::index::{DamagedGroups, Index, is_lost};
use super::{AllocConfig, MapRoot, load, space};

/// The index of a map, read and checked.
#[derive(Debug)]
pub(crate) struct MapView {
    geometry: Geometry,
    index: Index,
    damaged: DamagedGroups,
}

impl MapView {
    /// Reads the index that the superblock names.
    ///
    /// # Errors
    /// Only if the queue is broken; what is damaged is in [`MapView::damaged`].
    pub(crate) fn read(device: &dyn Device, geometry: Geometry, sb: &Superblock) -> Result<Self> {
        let config = AllocConfig::new(geometry, sb.store_id);
        config.check()?;
        let mut queue = device.queue(config.depth)?;
        let counters = Counters::default();
        let (index, damaged) = load::index(queue.as_mut(), &config, MapRoot::of(sb), &counters)?;
        Ok(Self {
            geometry,
            index,
            damaged,
        })
    }

    /// Groups whose map block is not known, because something above it is damaged
    /// or it was lost before.
    pub(crate) fn damaged(&self) -> &DamagedGroups {
        &self.damaged
    }

    /// What the index says of a block: of the map block of a group (level 0), or
    /// of an index block. Not meaningful below what is damaged.
    pub(crate) fn entry(&self, level: u32, number: u64) -> IndexEntry {
        *self.index.entry((level, number))
    }

    /// Where that block lies, in the slot that counts.
    pub(crate) fn place(&self, level: u32, number: u64) -> BlockNo {
        self.index.place((level, number))
    }

    /// Whether an entry is of a block that was given up as lost.
    pub(crate) fn is_lost(entry: &IndexEntry) -> bool {
        is_lost(entry)
    }

    /// Checks a group's map block and takes its bits out: 1 is in use.
    pub(crate) fn bits(&self, group: u64, block: &[u8]) -> Result<Bits, Damage> {
        self.index.map_bits(group, block)
    }

    /// What the geometry fixes in a group, and what lies behind its end.
    pub(crate) fn fixed(&self, group: u64) -> Bits {
        space::fixed(&self.geometry, group)
    }
}
