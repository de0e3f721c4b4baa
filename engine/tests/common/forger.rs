//! Puts changed structures back so that they verify: what a bug of ours, or a
//! forger, would leave. Only their meaning is then left to be checked.

use gaur::format::geometry::INDEX_LEVELS;
use gaur::format::log::{FLAG_SKIP, LogHeader};
use gaur::format::space::{self, IndexEntry, SpaceHeader};
use gaur::format::superblock::{FLAG_CLEAN, Superblock};
use gaur::format::{BlockPtr, Geometry, checksum};
use gaur_iodriver::sim::SimDisk;

/// Bytes in a block of the stores here.
pub(crate) const BLOCK: u64 = 4096;

/// What is needed to seal the structures of one store. All are found from the
/// superblock, so it is right only until the store is opened for writing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forger {
    /// The store's superblock.
    pub(crate) sb: Superblock,
    /// Its geometry.
    pub(crate) g: Geometry,
}

/// The word at a byte offset.
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Sets the word at a byte offset.
pub(crate) fn set(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// Where the value of a slot of a node begins.
pub(crate) fn value_at(node: &[u8], slot: usize) -> usize {
    let at = (word(node, 64 + slot * 8) & 0xFFFF) as usize * 8;
    let key = (word(node, at) >> 16) as u16 as usize;
    at + 8 + key.next_multiple_of(8)
}

impl Forger {
    /// For the store with this superblock.
    pub(crate) fn new(sb: Superblock) -> Self {
        Self {
            sb,
            g: Geometry {
                block_size: sb.block_size,
                capacity: sb.capacity,
                log_blocks: sb.log_blocks,
            },
        }
    }

    /// A block as it lies there.
    pub(crate) fn read(self, disk: &SimDisk, block: u64) -> Vec<u8> {
        disk.peek(block * BLOCK, BLOCK as usize)
    }

    /// Writes one copy of the superblock.
    pub(crate) fn superblock(self, disk: &SimDisk, copy: u32) {
        let mut block = vec![0; BLOCK as usize];
        let place = self.g.superblock(copy);
        self.sb.seal(copy, place, &mut block);
        disk.poke(place * BLOCK, &block);
    }

    /// Writes both copies.
    pub(crate) fn superblocks(self, disk: &SimDisk) {
        for copy in 0..2 {
            self.superblock(disk, copy);
        }
    }

    /// Puts a changed root of the tree of trees back.
    pub(crate) fn catalog(mut self, disk: &SimDisk, block: &[u8]) {
        let ptr = self.sb.catalog();
        disk.poke(ptr.addr * BLOCK, block);
        let checksum = checksum::block(block, ptr.addr, ptr.birth.0);
        let level = self.sb.catalog_level;
        self.sb.set_catalog(BlockPtr { checksum, ..ptr }, level);
        self.superblocks(disk);
    }

    /// The root of the first tree.
    pub(crate) fn root(self, disk: &SimDisk) -> BlockPtr {
        let catalog = self.read(disk, self.sb.catalog().addr);
        let at = value_at(&catalog, 0) + 8;
        BlockPtr::from_words([0, 8, 16].map(|i| word(&catalog, at + i)))
    }

    /// Puts a changed root of the first tree back.
    pub(crate) fn node(self, disk: &SimDisk, block: &[u8]) {
        let ptr = self.root(disk);
        disk.poke(ptr.addr * BLOCK, block);
        let sum = checksum::block(block, ptr.addr, ptr.birth.0);
        let mut catalog = self.read(disk, self.sb.catalog().addr);
        let at = value_at(&catalog, 0) + 8;
        set(&mut catalog, at + 16, sum);
        self.catalog(disk, &catalog);
    }

    /// The place of a block of the map's index above group 0, or, at level 0, of
    /// that group's map block.
    pub(crate) fn map_place(self, disk: &SimDisk, level: u32) -> u64 {
        let mut slot = self.sb.map_slot;
        for above in (level + 1..=INDEX_LEVELS).rev() {
            let block = self.read(disk, self.g.index_block(above, 0, slot));
            slot = IndexEntry::decode(&block[space::HEADER..]).slot;
        }
        if level == 0 {
            self.g.map_block(0, slot)
        } else {
            self.g.index_block(level, 0, slot)
        }
    }

    /// Makes a map block's count what its bits say, and returns it.
    pub(crate) fn count(block: &mut [u8]) -> u32 {
        let mut header = SpaceHeader::decode(block);
        let ones: u32 = block[space::HEADER..].iter().map(|b| b.count_ones()).sum();
        header.count = (block.len() - space::HEADER) as u32 * 8 - ones;
        header.encode(block);
        header.count
    }

    /// Puts a changed block of map or index back at its place, and names it in all
    /// above it. `free` is what it is said to have free; `None`: as before.
    pub(crate) fn map(mut self, disk: &SimDisk, level: u32, block: &[u8], free: Option<u64>) {
        let place = self.map_place(disk, level);
        let above: Vec<u64> = (level + 1..=INDEX_LEVELS)
            .map(|l| self.map_place(disk, l))
            .collect();
        disk.poke(place * BLOCK, block);
        let generation = match above.first() {
            Some(&p) => IndexEntry::decode(&self.read(disk, p)[space::HEADER..]).generation,
            None => self.sb.map_generation,
        };
        let mut sum = checksum::block(block, place, generation);
        let mut free = free;
        for place in above {
            let mut index = self.read(disk, place);
            let mut entry = IndexEntry::decode(&index[space::HEADER..]);
            entry.checksum = sum;
            entry.free = free.unwrap_or(entry.free);
            entry.encode(&mut index[space::HEADER..]);
            let header = SpaceHeader::decode(&index);
            sum = space::seal(&header, &mut index);
            disk.poke(place * BLOCK, &index);
            let entries = index[space::HEADER..].chunks_exact(IndexEntry::SIZE);
            free = free.map(|_| {
                let entries = entries.take(header.count as usize);
                entries
                    .map(|e| IndexEntry::decode(e).free)
                    .fold(0, u64::wrapping_add)
            });
        }
        self.sb.map_checksum = sum;
        self.sb.map_free = free.unwrap_or(self.sb.map_free);
        self.superblocks(disk);
    }

    /// Appends log blocks behind the superblock's log head, whose chain begins
    /// there, and marks the store as not closed. Each is a header, of which
    /// position, chain and place in the store are made right, and its payload.
    pub(crate) fn log(mut self, disk: &SimDisk, blocks: &[(LogHeader, Vec<u8>)]) {
        let piece = self.g.log_pieces()[0];
        let (mut position, mut chain) = (self.sb.log_head, self.sb.log_chain);
        for (header, payload) in blocks {
            let index = position % u64::from(piece.len);
            let room = (u64::from(piece.len) - index) * BLOCK;
            let mut bytes =
                vec![0; (LogHeader::SIZE + payload.len()).next_multiple_of(BLOCK as usize)];
            if bytes.len() as u64 > room {
                break;
            }
            let mut header = *header;
            header.magic = gaur::format::log::MAGIC;
            header.store_id = self.sb.store_id;
            (header.position, header.previous) = (position, chain);
            if header.flags & FLAG_SKIP != 0 {
                header.blocks = (room / BLOCK) as u32;
            } else {
                header.blocks = bytes.len() as u32 / BLOCK as u32;
                header.payload = payload.len() as u32;
            }
            header.encode(&mut bytes);
            bytes[LogHeader::SIZE..LogHeader::SIZE + payload.len()].copy_from_slice(payload);
            let place = piece.start + index;
            chain = checksum::block(&bytes[16..], place, position);
            bytes[8..16].copy_from_slice(&chain.to_le_bytes());
            disk.poke(place * BLOCK, &bytes);
            position += u64::from(header.blocks);
        }
        self.sb.flags &= !FLAG_CLEAN;
        self.superblocks(disk);
    }
}
