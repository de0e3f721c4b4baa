//! The index over the map blocks, in memory: every entry of every level.
//!
//! An entry with checksum 0 that is not untouched is *lost*: it names nothing,
//! because what it named was damaged when the block around it was written anew,
//! or because a map block could not be read when it had to change. A lost group
//! waits for a rebuild.

use std::collections::{BTreeMap, BTreeSet};

use gaur_iodriver::fault;

use crate::error::Damage;
use crate::format::geometry::INDEX_LEVELS;
use crate::format::space::{self, INDEX_MAGIC, IndexEntry, SpaceHeader};
use crate::format::{BlockNo, Generation, Geometry};

use super::MapRoot;
use super::bits::Bits;
use super::space::fixed;

/// The index. `levels[l][n]` is what is known of block n of level l: of a map
/// block for level 0, of the root for the last.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) geometry: Geometry,
    store_id: u64,
    pub(super) levels: Vec<Vec<IndexEntry>>,
    /// Index blocks of level 1 to write at the next checkpoint.
    pub(super) dirty: BTreeSet<u64>,
}

/// An index or map block to read: level and number.
pub(super) type Place = (u32, u64);

/// Groups whose map is not known, and why.
pub(super) type DamagedGroups = BTreeMap<u64, Damage>;

/// What stands for a block that is lost.
pub(super) const LOST: IndexEntry = IndexEntry {
    generation: 0,
    checksum: 0,
    free: 0,
    slot: 0,
    untouched: 0,
};

/// Whether an entry names nothing.
pub(super) fn is_lost(entry: &IndexEntry) -> bool {
    entry.untouched == 0 && entry.checksum == 0
}

/// The slot to write next.
pub(super) fn next_slot(entry: &IndexEntry) -> u32 {
    if entry.untouched == 1 {
        0
    } else {
        entry.slot ^ u32::from(!fault!(MapSlotNotChanged))
    }
}

/// The entry of a block that was never written.
pub(super) fn untouched(free: u64) -> IndexEntry {
    IndexEntry {
        free,
        untouched: 1,
        ..LOST
    }
}

impl Index {
    /// The index of an untouched map under `root`; `free[g]` is what the geometry
    /// leaves free in group g. [`Index::read`] then fills in what was written.
    pub(super) fn new(geometry: Geometry, store_id: u128, root: MapRoot, free: &[u64]) -> Self {
        let mut levels = vec![free.iter().map(|&f| untouched(f)).collect::<Vec<_>>()];
        for _ in 0..INDEX_LEVELS {
            let below = levels.last().expect("the groups are there");
            let above = below.chunks(geometry.fanout() as usize);
            levels.push(
                above
                    .map(|c| untouched(c.iter().map(|e| e.free).sum()))
                    .collect(),
            );
        }
        let mut index = Self {
            geometry,
            store_id: store_id as u64,
            levels,
            dirty: BTreeSet::new(),
        };
        index.levels[INDEX_LEVELS as usize][0] = IndexEntry {
            generation: root.generation.0,
            checksum: root.checksum,
            free: root.free,
            slot: root.slot,
            untouched: u32::from(root.untouched),
        };
        index
    }

    /// What is known of a block.
    pub(super) fn entry(&self, (level, number): Place) -> &IndexEntry {
        &self.levels[level as usize][number as usize]
    }

    /// Where a block of map or index lies, in the slot that its entry names.
    pub(super) fn place(&self, (level, number): Place) -> BlockNo {
        self.slot_place((level, number), self.entry((level, number)).slot)
    }

    fn slot_place(&self, (level, number): Place, slot: u32) -> BlockNo {
        if level == 0 {
            self.geometry.map_block(number, slot)
        } else {
            self.geometry.index_block(level, number, slot)
        }
    }

    /// The header that a block of map or index must have.
    pub(super) fn header(&self, (level, number): Place, slot: u32) -> SpaceHeader {
        SpaceHeader {
            magic: if level == 0 {
                space::MAP_MAGIC
            } else {
                INDEX_MAGIC
            },
            place: self.slot_place((level, number), slot),
            generation: 0,
            store_id: self.store_id,
            number,
            level,
            count: 0,
        }
    }

    /// Checks a block that was read for its entry; answers with its header.
    pub(super) fn unseal(&self, at: Place, block: &[u8]) -> Result<SpaceHeader, Damage> {
        let entry = self.entry(at);
        let expected = self.header(at, entry.slot);
        space::unseal(&expected, entry, block)
            .map_err(|why| Damage::new(kind(at), expected.place, why))
    }

    /// Checks a group's map block that was read, and takes the bits out.
    pub(super) fn map_bits(&self, group: u64, block: &[u8]) -> Result<Bits, Damage> {
        let header = self.unseal((0, group), block)?;
        let map = Bits::from_bytes(&block[space::HEADER..]);
        let zeros = map.zeros();
        let wrong = |why| Err(Damage::new("map block", header.place, why));
        if header.count != zeros || u64::from(zeros) != self.entry((0, group)).free {
            return wrong("free count differs");
        }
        if !map.covers(&fixed(&self.geometry, group)) {
            return wrong("metadata or log is marked free");
        }
        Ok(map)
    }

    pub(super) fn children(&self, (level, number): Place) -> std::ops::Range<usize> {
        let fanout = self.geometry.fanout();
        let below = self.levels[level as usize - 1].len();
        (number * fanout) as usize..((number + 1) * fanout).min(below as u64) as usize
    }

    /// Takes in an index block.
    pub(super) fn read(&mut self, at: Place, block: &[u8]) -> Result<(), Damage> {
        let header = self.unseal(at, block)?;
        let wrong = |why| Err(Damage::new(kind(at), header.place, why));
        let children = self.children(at);
        if header.count as usize != children.len() {
            return wrong("wrong number of entries");
        }
        let below = at.0 as usize - 1;
        let mut free = 0;
        let mut read = Vec::with_capacity(children.len());
        for (known, bytes) in self.levels[below][children.clone()]
            .iter()
            .zip(block[space::HEADER..].chunks_exact(IndexEntry::SIZE))
        {
            let entry = IndexEntry::decode(bytes);
            if entry.slot > 1 || entry.untouched > 1 {
                return wrong("an entry has a slot or flag that cannot be");
            }
            if entry.untouched == 1 && entry.free != known.free {
                return wrong("an untouched entry has another free count than the geometry says");
            }
            if entry.free > known.free {
                return wrong("an entry has more free than there is");
            }
            free += entry.free;
            read.push(entry);
        }
        if free != self.entry(at).free {
            return wrong("free counts do not add up");
        }
        self.levels[below][children].copy_from_slice(&read);
        Ok(())
    }

    /// Gives up what is below an index block; the places below.
    pub(super) fn lose(&mut self, at: Place) -> Vec<Place> {
        let children = self.children(at);
        let below = at.0 - 1;
        self.levels[below as usize][children.clone()].fill(LOST);
        children.map(|n| (below, n as u64)).collect()
    }

    /// The places below an index block.
    pub(super) fn below(&self, at: Place) -> Vec<Place> {
        self.children(at).map(|n| (at.0 - 1, n as u64)).collect()
    }

    /// Sets what is known of a map block; its index block is then written at the
    /// next checkpoint.
    pub(super) fn set_map(&mut self, group: u64, entry: IndexEntry) {
        self.levels[0][group as usize] = entry;
        self.dirty.insert(group / self.geometry.fanout());
    }

    /// Writes the index blocks above the map blocks that changed, up to the root:
    /// `emit` gets each one's place and fills it by the function it is given.
    pub(super) fn write(
        &mut self,
        generation: Generation,
        mut emit: impl FnMut(BlockNo, &mut dyn FnMut(&mut [u8])),
    ) {
        let mut numbers = std::mem::take(&mut self.dirty);
        for level in 1..=INDEX_LEVELS {
            let mut above = BTreeSet::new();
            for number in numbers {
                let at = (level, number);
                let slot = next_slot(self.entry(at));
                let entries = &self.levels[level as usize - 1][self.children(at)];
                let mut header = self.header(at, slot);
                header.generation = generation.0;
                header.count = entries.len() as u32;
                let mut checksum = 0;
                emit(header.place, &mut |block| {
                    block.fill(0);
                    let body = block[space::HEADER..].chunks_exact_mut(IndexEntry::SIZE);
                    for (entry, bytes) in entries.iter().zip(body) {
                        entry.encode(bytes);
                    }
                    checksum = space::seal(&header, block);
                });
                let free = entries.iter().map(|e| e.free).sum();
                self.levels[level as usize][number as usize] = IndexEntry {
                    generation: generation.0,
                    checksum,
                    free,
                    slot,
                    untouched: 0,
                };
                above.insert(number / self.geometry.fanout());
            }
            numbers = above;
        }
    }

    /// The root, for the superblock.
    pub(super) fn root(&self) -> MapRoot {
        let root = self.entry((INDEX_LEVELS, 0));
        MapRoot {
            slot: root.slot,
            untouched: root.untouched == 1,
            generation: Generation(root.generation),
            checksum: root.checksum,
            free: root.free,
        }
    }
}

/// What a block of map or index is called in an error.
pub(super) fn kind(at: Place) -> &'static str {
    if at.0 == 0 { "map block" } else { "map index" }
}
