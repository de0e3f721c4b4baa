//! The space map: one map block a group (a bit a block, 1 = in use), under an
//! index of fixed depth whose root is named by the superblock. Every block of map
//! and index has two slots, written in turn.

use gaur_iodriver::fault;

use super::layout::layout;
use super::{Generation, checksum};

/// Bytes of the header of a map or index block.
pub const HEADER: usize = SpaceHeader::SIZE;
/// `GAURMAP1`.
pub const MAP_MAGIC: u64 = u64::from_le_bytes(*b"GAURMAP1");
/// `GAURIDX1`.
pub const INDEX_MAGIC: u64 = u64::from_le_bytes(*b"GAURIDX1");

layout! {
    /// Header of a map block (level 0) or index block (level 1 and up).
    pub struct SpaceHeader, 64;
    /// [`MAP_MAGIC`] or [`INDEX_MAGIC`].
    magic: u64 = 0,
    /// Block number of this slot.
    place: u64 = 8,
    /// Generation that wrote it.
    generation: u64 = 16,
    /// Low 64 bits of the store's identity.
    store_id: u64 = 24,
    /// The group, or the number along its level.
    number: u64 = 32,
    /// 0: map block.
    level: u32 = 40,
    /// Zero bits (map), or entries (index).
    count: u32 = 44,
}

layout! {
    /// What an index block says of one block of the level below. An entry that is
    /// not untouched and has checksum 0 is *lost*: it names nothing, all below it is
    /// to be rebuilt from the trees, and its free count is 0.
    pub struct IndexEntry, 32;
    /// Generation of the newest slot.
    generation: u64 = 0,
    /// Checksum of the newest slot.
    checksum: u64 = 8,
    /// Free blocks below.
    free: u64 = 16,
    /// 0 or 1: the newest slot.
    slot: u32 = 24,
    /// 1: never written; everything below is free but what the geometry fixes.
    untouched: u32 = 28,
}

/// Seals a map or index block whose body is filled in: writes the header and
/// returns the checksum for the entry that names it.
pub fn seal(header: &SpaceHeader, block: &mut [u8]) -> u64 {
    header.encode(block);
    checksum::block(block, header.place, header.generation)
}

/// Checks a map or index block against the entry and place it was read for.
pub fn unseal(
    expected: &SpaceHeader,
    entry: &IndexEntry,
    block: &[u8],
) -> Result<SpaceHeader, &'static str> {
    let sum = checksum::block(block, expected.place, entry.generation);
    if sum != entry.checksum && !fault!(MapChecksumNotCompared) {
        return Err("checksum differs");
    }
    let header = SpaceHeader::decode(block);
    if header.magic != expected.magic || header.level != expected.level {
        return Err("not a block of this kind");
    }
    if header.place != expected.place || header.number != expected.number {
        return Err("block is out of place");
    }
    if header.store_id != expected.store_id {
        return Err("block of another store");
    }
    if Generation(header.generation) != Generation(entry.generation) {
        return Err("block of another generation");
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_verifies_and_is_another_is_refused() {
        let header = SpaceHeader {
            magic: MAP_MAGIC,
            place: 7,
            generation: 3,
            store_id: 5,
            number: 1,
            level: 0,
            count: 9,
        };
        let entry = |checksum| IndexEntry {
            generation: 3,
            checksum,
            free: 9,
            slot: 0,
            untouched: 0,
        };
        let mut block = vec![0; 4096];
        let sum = seal(&header, &mut block);
        assert_eq!(unseal(&header, &entry(sum), &block), Ok(header));
        type Change = fn(&mut SpaceHeader);
        let others: [(Change, &str); 6] = [
            (|h| h.magic = INDEX_MAGIC, "not a block of this kind"),
            (|h| h.level = 1, "not a block of this kind"),
            (|h| h.place = 8, "block is out of place"),
            (|h| h.number = 2, "block is out of place"),
            (|h| h.store_id = 6, "block of another store"),
            (|h| h.generation = 4, "block of another generation"),
        ];
        for (change, why) in others {
            let mut other = header;
            change(&mut other);
            other.encode(&mut block);
            // Sealed for the place and generation where it is looked for.
            let sum = checksum::block(&block, header.place, header.generation);
            assert_eq!(unseal(&header, &entry(sum), &block), Err(why));
            assert_eq!(
                unseal(&header, &entry(sum ^ 1), &block),
                Err("checksum differs")
            );
        }
    }
}
