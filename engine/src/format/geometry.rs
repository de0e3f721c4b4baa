//! Where everything lies. Every offset on the device is derived here.
//!
//! The device is cut into *groups* of [`Geometry::group_blocks`] blocks, as many
//! as one map block has bits. A group begins with its own metadata:
//!
//! ```text
//! base+0       superblock copy 0 in group 0, otherwise unused
//! base+1,+2    map block, two slots
//! base+3,+4    index block of level 1, two slots   (groups divisible by F)
//! base+5,+6    index block of level 2, two slots   (groups divisible by F²)
//! base+7,+8    index block of level 3, two slots   (groups divisible by F³)
//! ```
//!
//! where F is [`Geometry::fanout`]. Superblock copy 1 lies at byte 1 MiB. The log
//! region is the *pieces* that follow: in group 0 from the block after superblock
//! copy 1 on, in each further group from base+16 on, until it has its length. The
//! rest is data.

use super::pointer::ADDR_BITS;
use super::{BlockNo, Run, space};

/// Byte offset of superblock copy 1.
pub const SECOND_SUPERBLOCK: u64 = 1 << 20;
/// Levels of the map's index above the map blocks. The root is of this level.
pub const INDEX_LEVELS: u32 = 3;
/// Block offset in a group (other than 0) where a log piece begins.
const LOG_OFFSET: u64 = 16;
/// A last group shorter than this is left unused.
const MIN_GROUP: u64 = 64;

/// The places of a store of a given block size, capacity and log length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes in a block.
    pub block_size: u32,
    /// Blocks in use, a short tail left out.
    pub capacity: u64,
    /// Blocks in the log region.
    pub log_blocks: u64,
}

impl Geometry {
    /// The geometry for a device of `bytes`, its usable capacity rounded down.
    pub fn new(block_size: u32, bytes: u64, log_blocks: u64) -> Self {
        let mut g = Self {
            block_size,
            capacity: bytes / u64::from(block_size),
            log_blocks,
        };
        let tail = g.capacity % g.group_blocks();
        if tail < MIN_GROUP && g.capacity > g.group_blocks() {
            g.capacity -= tail;
        }
        g
    }

    /// Whether a store can be like this: there is room for the second superblock, the
    /// whole log, and the metadata of the last group. Only a forged superblock says
    /// otherwise. Takes time in proportion to the groups.
    pub fn can_be(&self) -> bool {
        let tail = self.capacity % self.group_blocks();
        let log = self.log_pieces().iter().map(|p| u64::from(p.len)).sum();
        self.capacity > self.superblock(1)
            && (tail == 0 || tail >= MIN_GROUP || self.capacity < self.group_blocks())
            && self.log_blocks == log
    }

    /// The same store on a device of `bytes`: what was there stays where it is.
    /// `None` if no block is won.
    pub fn grown(&self, bytes: u64) -> Option<Self> {
        let bytes = bytes.min(self.byte(self.most()));
        let to = Self::new(self.block_size, bytes, self.log_blocks);
        (to.capacity > self.capacity).then_some(to)
    }

    /// The most blocks that one map covers and a pointer can name.
    pub fn most(&self) -> u64 {
        let mapped = self.fanout().pow(INDEX_LEVELS) * self.group_blocks();
        mapped.min((1 << ADDR_BITS) - 1)
    }

    /// Blocks in a whole group: the bits of a map block.
    pub fn group_blocks(&self) -> u64 {
        (u64::from(self.block_size) - space::HEADER as u64) * 8
    }

    /// Entries in an index block.
    pub fn fanout(&self) -> u64 {
        (u64::from(self.block_size) - space::HEADER as u64) / space::IndexEntry::SIZE as u64
    }

    /// Groups, the last perhaps short.
    pub fn groups(&self) -> u64 {
        self.capacity.div_ceil(self.group_blocks())
    }

    /// The group of a block.
    pub fn group_of(&self, block: BlockNo) -> u64 {
        block / self.group_blocks()
    }

    /// First block of a group.
    pub fn group_start(&self, group: u64) -> BlockNo {
        group * self.group_blocks()
    }

    /// Blocks of this group that exist.
    pub fn group_len(&self, group: u64) -> u64 {
        self.group_blocks()
            .min(self.capacity - self.group_start(group))
    }

    /// Place of superblock copy 0 or 1.
    pub fn superblock(&self, copy: u32) -> BlockNo {
        if copy == 0 {
            0
        } else {
            SECOND_SUPERBLOCK / u64::from(self.block_size)
        }
    }

    /// Place of a map block's slot 0 or 1.
    pub fn map_block(&self, group: u64, slot: u32) -> BlockNo {
        self.group_start(group) + 1 + u64::from(slot)
    }

    /// Place of an index block: `level` 1 to [`INDEX_LEVELS`], `number` counted
    /// along the level, slot 0 or 1.
    pub fn index_block(&self, level: u32, number: u64, slot: u32) -> BlockNo {
        debug_assert!((1..=INDEX_LEVELS).contains(&level));
        let group = number * self.fanout().pow(level);
        self.group_start(group) + 1 + 2 * u64::from(level) + u64::from(slot)
    }

    /// Index blocks of a level; of level 0, map blocks.
    pub fn index_count(&self, level: u32) -> u64 {
        self.groups().div_ceil(self.fanout().pow(level))
    }

    /// Blocks at the start of a group that are its metadata.
    pub fn metadata_blocks(&self, group: u64) -> u64 {
        let mut levels = 0;
        while levels < INDEX_LEVELS && group.is_multiple_of(self.fanout().pow(levels + 1)) {
            levels += 1;
        }
        3 + 2 * u64::from(levels)
    }

    /// The pieces of the log region, in order. A log block never crosses the end
    /// of a piece.
    pub fn log_pieces(&self) -> Vec<Run> {
        let mut pieces = Vec::new();
        let mut left = self.log_blocks;
        let mut group = 0;
        while left > 0 && group < self.groups() {
            let start = if group == 0 {
                self.superblock(1) + 1
            } else {
                self.group_start(group) + LOG_OFFSET
            };
            let len =
                left.min((self.group_start(group) + self.group_len(group)).saturating_sub(start));
            if len > 0 {
                pieces.push(Run {
                    start,
                    len: len as u32,
                });
            }
            left -= len;
            group += 1;
        }
        pieces
    }

    /// The ranges of a group that are never data: its metadata, the superblocks,
    /// the log. In order, without overlap.
    pub fn fixed_ranges(&self, group: u64) -> Vec<Run> {
        let start = self.group_start(group);
        let end = start + self.group_len(group);
        let mut fixed = vec![Run {
            start,
            len: self.metadata_blocks(group) as u32,
        }];
        let second = self.superblock(1);
        if group == self.group_of(second) {
            fixed.push(Run::single(second));
        }
        fixed.extend(
            self.log_pieces()
                .into_iter()
                .filter(|p| p.start >= start && p.start < end),
        );
        fixed
    }

    /// Byte offset of a block.
    pub fn byte(&self, block: BlockNo) -> u64 {
        block * u64::from(self.block_size)
    }

    /// Whether a run lies wholly where data may lie.
    pub fn is_data(&self, run: Run) -> bool {
        if run.len == 0 || run.start >= self.capacity || run.end() > self.capacity {
            return false;
        }
        let group = self.group_of(run.start);
        group == self.group_of(run.end() - 1)
            && self
                .fixed_ranges(group)
                .iter()
                .all(|f| run.end() <= f.start || run.start >= f.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_format_makes_can_be_and_what_has_no_room_cannot() {
        for bytes in [4 << 20, 100 << 20, 126 << 20, 127 << 20, 3 << 30] {
            assert!(Geometry::new(4096, bytes, 64).can_be(), "{bytes}");
        }
        let good = Geometry::new(4096, 3 << 30, 64);
        let group = good.group_blocks();
        let with = |capacity, log_blocks| Geometry {
            capacity,
            log_blocks,
            ..good
        };
        assert!(with(group, 64).can_be() && with(group + 64, 64).can_be());
        assert!(!with(8, 0).can_be() && !with(256, 0).can_be());
        assert!(!with(group + 63, 64).can_be());
        assert!(!with(1024, 1024).can_be());
    }

    #[test]
    fn nothing_overlaps() {
        for block_size in [4096, 8192, 16384] {
            let g = Geometry::new(block_size, 300 << 30, 70_000);
            assert_eq!(
                g.log_pieces().iter().map(|p| u64::from(p.len)).sum::<u64>(),
                70_000
            );
            for group in (0..g.groups()).filter(|x| *x < 4 || x.is_multiple_of(g.fanout())) {
                let fixed = g.fixed_ranges(group);
                for pair in fixed.windows(2) {
                    assert!(pair[0].end() <= pair[1].start, "{fixed:?}");
                }
                assert!(fixed.last().unwrap().end() <= g.group_start(group) + g.group_len(group));
            }
        }
    }

    #[test]
    fn growth_moves_nothing() {
        for blocks in [
            32_256 - 700,
            32_256,
            32_256 + 63,
            32_256 + 64,
            5 * 32_256 + 700,
        ] {
            let g = Geometry::new(4096, blocks * 4096, blocks / 2);
            for more in [1, 60, 70, 40_000, 130 * 32_256] {
                let Some(to) = g.grown((blocks + more) * 4096) else {
                    assert!(more < MIN_GROUP);
                    continue;
                };
                assert!(to.capacity > g.capacity && to.capacity <= blocks + more);
                assert_eq!(to.log_pieces(), g.log_pieces());
                for group in 0..g.groups() {
                    assert_eq!(to.fixed_ranges(group), g.fixed_ranges(group));
                }
            }
            assert_eq!(g.grown(g.byte(g.capacity)), None);
            assert_eq!(g.grown(4096), None);
        }
        let g = Geometry::new(4096, 1 << 30, 1000);
        let most = g.grown(u64::MAX).unwrap();
        assert_eq!(
            (most.capacity, most.index_count(INDEX_LEVELS)),
            (g.most(), 1)
        );
    }

    #[test]
    fn index_blocks_lie_in_the_metadata_of_their_group() {
        let g = Geometry::new(4096, 9 << 40, 1000);
        for level in 1..=INDEX_LEVELS {
            for number in 0..g.index_count(level).min(5) {
                let place = g.index_block(level, number, 1);
                let group = g.group_of(place);
                assert!(place < g.group_start(group) + g.metadata_blocks(group));
            }
        }
        assert_eq!(g.index_count(INDEX_LEVELS), 1);
    }
}
