//! The superblock: what the store is, and where its newest checkpoint stands.
//!
//! Two copies. A checkpoint writes copy 0, flushes, writes copy 1, flushes; so
//! one of them is always whole, and either alone loses nothing.

use super::layout::layout;
use super::{BlockPtr, Generation, checksum};

/// `GAURSUP1`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"GAURSUP1");
/// The format this code writes and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Features that any reader may ignore.
pub const KNOWN_COMPAT: u64 = 0;
/// Features that a reader, but not a writer, may ignore.
pub const KNOWN_RO_COMPAT: u64 = 0;
/// Incompatible feature: the tree of trees has more than trees that began empty: named
/// snapshots, trees that came from one, or what is left of dropped ones.
pub const FEATURE_HELD: u64 = 1;
/// Features that forbid opening to code that does not know them.
pub const KNOWN_INCOMPAT: u64 = FEATURE_HELD;

layout! {
    /// One copy of the superblock. Takes a whole block; the rest is zero.
    pub struct Superblock, 256;
    /// [`MAGIC`].
    magic: u64 = 0,
    /// Over the block from byte 16 on, seeded with the copy's block number and 0.
    checksum: u64 = 8,
    /// [`FORMAT_VERSION`].
    version: u32 = 16,
    /// Bytes in a block: 4096, 8192 or 16384.
    block_size: u32 = 20,
    /// The store's identity, random at format.
    store_id: u128 = 24,
    /// Compatible features.
    compat: u64 = 40,
    /// Features compatible with reading.
    ro_compat: u64 = 48,
    /// Incompatible features.
    incompat: u64 = 56,
    /// 0 or 1: which copy this is.
    copy: u32 = 64,
    /// How often the store was opened for writing.
    incarnation: u32 = 68,
    /// Blocks the store uses, all groups.
    capacity: u64 = 72,
    /// Blocks in the log region.
    log_blocks: u64 = 80,
    /// The checkpointed generation.
    generation: u64 = 88,
    /// The last commit in the checkpoint; replay starts behind it.
    cut: u64 = 96,
    /// The next tree id to give out.
    next_tree: u32 = 104,
    /// Level of the tree of trees' root; 0 is a leaf.
    catalog_level: u32 = 108,
    /// Root of the tree of trees, word 0 of its pointer.
    catalog_addr: u64 = 112,
    /// Word 1.
    catalog_birth: u64 = 120,
    /// Word 2.
    catalog_checksum: u64 = 128,
    /// Slot (0 or 1) of the map's root index block.
    map_slot: u32 = 136,
    /// 1 if the whole map is untouched and the root index block was never written.
    map_untouched: u32 = 140,
    /// Generation of the map's root index block.
    map_generation: u64 = 144,
    /// Checksum of the map's root index block.
    map_checksum: u64 = 152,
    /// Free blocks in the whole store.
    map_free: u64 = 160,
    /// Log position where replay starts.
    log_head: u64 = 168,
    /// Checksum of the log block before the head: the chain's beginning.
    log_chain: u64 = 176,
    /// Log position known durable when this was written.
    log_durable: u64 = 184,
    /// How writes are made durable (see the driver's `DurableMethod`).
    durable_method: u32 = 192,
    /// Bit 0: sparse file. Bit 1: closed cleanly.
    flags: u32 = 196,
    /// Seconds since 1970 at format.
    created: u64 = 200,
}

/// Flag: the store's file has holes, which may be punched.
pub const FLAG_SPARSE: u32 = 1;
/// Flag: closed cleanly, nothing to replay.
pub const FLAG_CLEAN: u32 = 2;

impl Superblock {
    /// Root of the tree of trees.
    pub fn catalog(&self) -> BlockPtr {
        BlockPtr::from_words([self.catalog_addr, self.catalog_birth, self.catalog_checksum])
    }

    /// Sets the root of the tree of trees.
    pub fn set_catalog(&mut self, root: BlockPtr, level: u32) {
        [self.catalog_addr, self.catalog_birth, self.catalog_checksum] = root.to_words();
        self.catalog_level = level;
    }

    /// The checkpointed generation.
    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// Fills `block` with copy `copy`, which belongs at block number `place`.
    pub fn seal(&self, copy: u32, place: u64, block: &mut [u8]) {
        block.fill(0);
        let mut sb = *self;
        sb.magic = MAGIC;
        sb.copy = copy;
        sb.encode(block);
        let sum = checksum::block(&block[16..], place, 0);
        block[8..16].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads copy `copy` from its block. `Err` says what is wrong; the caller
    /// looks at version and features.
    pub fn unseal(copy: u32, place: u64, block: &[u8]) -> Result<Self, &'static str> {
        let sb = Self::decode(block);
        if sb.magic != MAGIC {
            return Err("no gaur superblock here");
        }
        if sb.checksum != checksum::block(&block[16..], place, 0) {
            return Err("superblock checksum differs");
        }
        if sb.copy != copy {
            return Err("superblock copy is out of place");
        }
        if block[Self::SIZE..].iter().any(|&b| b != 0) {
            return Err("superblock has bytes where none belong");
        }
        Ok(sb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_itself_in_its_place_alone() {
        let sb = Superblock::decode(&[0; Superblock::SIZE]);
        let mut block = vec![0; 4096];
        sb.seal(1, 256, &mut block);
        assert_eq!(Superblock::unseal(1, 256, &block).map(|sb| sb.copy), Ok(1));
        assert_eq!(
            Superblock::unseal(1, 0, &block),
            Err("superblock checksum differs")
        );
        assert_eq!(
            Superblock::unseal(0, 256, &block),
            Err("superblock copy is out of place")
        );
        block[4000] = 1;
        let sum = checksum::block(&block[16..], 256, 0);
        block[8..16].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(
            Superblock::unseal(1, 256, &block),
            Err("superblock has bytes where none belong")
        );
        assert_eq!(
            Superblock::unseal(1, 256, &[0; 4096]),
            Err("no gaur superblock here")
        );
    }
}
