//! Pointers to blocks: where, how long, born when, with which checksum.

use super::BlockNo;

/// A generation: the incarnation that ran it in the high 32 bits, a count in the
/// low 32. An incarnation is never used twice, so no generation is either, and
/// they grow with time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The first generation of an incarnation.
    pub fn first(incarnation: u32) -> Self {
        Self((u64::from(incarnation) << 32) | 1)
    }

    /// The incarnation that ran this generation.
    pub fn incarnation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The next generation of the same incarnation.
    pub fn next(self) -> Self {
        let next = Self(self.0 + 1);
        assert_eq!(
            next.incarnation(),
            self.incarnation(),
            "2^32 generations in one incarnation"
        );
        next
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// Contiguous blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The first block.
    pub start: BlockNo,
    /// How many blocks.
    pub len: u32,
}

impl Run {
    /// One block.
    pub fn single(start: BlockNo) -> Self {
        Self { start, len: 1 }
    }

    /// The block behind the last.
    pub fn end(self) -> BlockNo {
        self.start.saturating_add(u64::from(self.len))
    }
}

/// Pointer to a node. On the device: three words.
///
/// | word | holds |
/// |---|---|
/// | 0 | block number (low 40 bits), flags (8 bits, none defined: 0), stored length in blocks (high 16) |
/// | 1 | birth generation |
/// | 2 | checksum of the stored blocks; 0 in memory: not written yet |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockPtr {
    /// First block.
    pub addr: BlockNo,
    /// What is special about it; a reader refuses flags it does not know, and none
    /// is defined.
    pub flags: u8,
    /// Stored length in blocks.
    pub len: u16,
    /// Generation in which the block was written.
    pub birth: Generation,
    /// Checksum, 0 while the node exists in memory only.
    pub checksum: u64,
}

/// Bits of a block number in word 0 of a pointer.
pub const ADDR_BITS: u32 = 40;
const LEN_SHIFT: u32 = 48;

impl BlockPtr {
    /// Bytes of a stored pointer.
    pub const SIZE: usize = 24;

    /// The pointer as three words.
    pub fn to_words(self) -> [u64; 3] {
        debug_assert!(self.addr >> ADDR_BITS == 0);
        [
            self.addr | (u64::from(self.flags) << ADDR_BITS) | (u64::from(self.len) << LEN_SHIFT),
            self.birth.0,
            self.checksum,
        ]
    }

    /// The pointer from three words.
    pub fn from_words(w: [u64; 3]) -> Self {
        Self {
            addr: w[0] & ((1 << ADDR_BITS) - 1),
            flags: (w[0] >> ADDR_BITS) as u8,
            len: (w[0] >> LEN_SHIFT) as u16,
            birth: Generation(w[1]),
            checksum: w[2],
        }
    }

    /// Whether this points nowhere (an empty tree).
    pub fn is_null(self) -> bool {
        self.len == 0
    }

    /// Pointer to one block that has not been written yet.
    pub fn unwritten(addr: BlockNo, birth: Generation) -> Self {
        Self {
            addr,
            flags: 0,
            len: 1,
            birth,
            checksum: 0,
        }
    }

    /// The blocks pointed to.
    pub fn run(self) -> Run {
        Run {
            start: self.addr,
            len: u32::from(self.len),
        }
    }
}

/// Pointer to an extent: contiguous blocks that hold a large value or a piece of
/// one. On the device: four words.
///
/// | word | holds |
/// |---|---|
/// | 0 | first block (low 40 bits), flags (8 bits) |
/// | 1 | birth generation |
/// | 2 | checksum of its bytes, or of its table, seeded with block and birth |
/// | 3 | length in bytes |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtentPtr {
    /// First block.
    pub addr: BlockNo,
    /// What is special about it: 0 or [`EXTENT_TABLE`].
    pub flags: u8,
    /// Generation in which it was written.
    pub birth: Generation,
    /// Checksum of its `bytes` bytes; with a table, of that.
    pub checksum: u64,
    /// Length in bytes, a table not counted.
    pub bytes: u64,
}

/// Flag of an extent: behind its bytes, from the next multiple of 8 on, is a table of
/// 8 bytes for each [`SUM_UNIT`] of them: the checksum of that part. So any part can be
/// verified without the rest.
pub const EXTENT_TABLE: u8 = 1;
/// Bytes that one checksum of a table covers; the last may cover fewer.
pub const SUM_UNIT: u64 = 64 << 10;
/// The longest extent without a table, in bytes, that is written.
pub const MOST_WITHOUT_TABLE: u64 = 1 << 20;

impl ExtentPtr {
    /// Bytes of a stored pointer.
    pub const SIZE: usize = 32;

    /// Writes the pointer.
    pub fn encode(self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        let first = self.addr | (u64::from(self.flags) << ADDR_BITS);
        for (chunk, word) in
            out.chunks_exact_mut(8)
                .zip([first, self.birth.0, self.checksum, self.bytes])
        {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Reads a pointer; `None` if `bytes` is not exactly as long as one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::SIZE {
            return None;
        }
        let word =
            |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("sized"));
        Some(Self {
            // What is above the flags stays, so that no such block is ever found.
            addr: word(0) & !(0xFF << ADDR_BITS),
            flags: (word(0) >> ADDR_BITS) as u8,
            birth: Generation(word(1)),
            checksum: word(2),
            bytes: word(3),
        })
    }

    /// Whether it has a table of checksums.
    pub fn has_table(self) -> bool {
        self.flags == EXTENT_TABLE
    }

    /// Where its table begins, counted in bytes from its first block on.
    pub fn table_at(self) -> u64 {
        self.bytes.saturating_add(7) & !7
    }

    /// Bytes of its table; 0: it has none.
    pub fn table_bytes(self) -> u64 {
        match self.has_table() {
            true => self.bytes.div_ceil(SUM_UNIT) * 8,
            false => 0,
        }
    }

    /// Bytes from its first block on that it takes, its table counted.
    pub fn stored_bytes(self) -> u64 {
        match self.has_table() {
            true => self.table_at().saturating_add(self.table_bytes()),
            false => self.bytes,
        }
    }

    /// The blocks it takes; of a length or with flags that cannot be, more than any
    /// group has.
    pub fn run(self, block_size: u32) -> Run {
        let blocks = self.stored_bytes().div_ceil(u64::from(block_size));
        let known = self.flags & !EXTENT_TABLE == 0;
        Run {
            start: self.addr,
            len: u32::try_from(blocks)
                .ok()
                .filter(|_| known)
                .unwrap_or(u32::MAX),
        }
    }

    /// An extent of this length that is to be written, with a table if it is long.
    pub(crate) fn of_length(bytes: u64) -> Self {
        Self {
            flags: match bytes > MOST_WITHOUT_TABLE {
                true => EXTENT_TABLE,
                false => 0,
            },
            bytes,
            ..Self::default()
        }
    }

    /// The most bytes that an extent of so many blocks holds.
    pub(crate) fn most_bytes(blocks: u32, block_size: u32) -> u64 {
        let room = u64::from(blocks) * u64::from(block_size);
        if room <= MOST_WITHOUT_TABLE {
            return room;
        }
        // Whole words: so the table follows at once.
        let mut bytes = (room / (SUM_UNIT + 8) * SUM_UNIT).max(MOST_WITHOUT_TABLE);
        let over = |bytes| Self::of_length(bytes).stored_bytes() > room;
        let mut step = SUM_UNIT;
        while step >= 8 {
            if over(bytes + step) {
                step /= 2;
            } else {
                bytes += step;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_survive_the_round_trip() {
        let p = BlockPtr {
            addr: (1 << 40) - 2,
            flags: 0x5A,
            len: 4,
            birth: Generation::first(7),
            checksum: 99,
        };
        assert_eq!(BlockPtr::from_words(p.to_words()), p);
        let e = ExtentPtr {
            addr: 5,
            flags: 0,
            birth: Generation(6),
            checksum: 7,
            bytes: 8193,
        };
        assert_eq!(ExtentPtr::decode(&e.encode()), Some(e));
        assert_eq!(e.run(4096).len, 3);
    }

    #[test]
    fn an_extents_table_lies_behind_its_bytes() {
        let e = |bytes| ExtentPtr {
            flags: EXTENT_TABLE,
            bytes,
            ..ExtentPtr::default()
        };
        assert_eq!((e(9).table_at(), e(9).table_bytes()), (16, 8));
        assert_eq!((e(SUM_UNIT).stored_bytes()), SUM_UNIT + 8);
        assert_eq!(e(SUM_UNIT + 1).stored_bytes(), SUM_UNIT + 8 + 16);
        assert_eq!(e(4088).run(4096).len, 1);
        assert_eq!(e(4089).run(4096).len, 2);
        assert_eq!(ExtentPtr::decode(&e(9).encode()), Some(e(9)));
        for forged in [e(u64::MAX), e(u64::MAX - 7), e(u64::MAX / 2)] {
            assert_eq!(forged.run(4096).len, u32::MAX);
        }
        // Flags and bits that nobody knows lead nowhere.
        for bit in 41..48 {
            let mut bytes = e(9).encode();
            bytes[bit / 8] |= 1 << (bit % 8);
            assert_eq!(ExtentPtr::decode(&bytes).unwrap().run(4096).len, u32::MAX);
        }
        let mut bytes = e(9).encode();
        bytes[6] = 1;
        assert_eq!(ExtentPtr::decode(&bytes).unwrap().addr, 1 << 48);
    }

    #[test]
    fn an_extent_holds_as_much_as_its_blocks_have_room_for() {
        for block_size in [4096, 8192, 16_384] {
            for blocks in (1..600).chain([4095, 4096, 4097, 32_000]) {
                let most = ExtentPtr::most_bytes(blocks, block_size);
                let len = |bytes| ExtentPtr::of_length(bytes).run(block_size).len;
                assert!(len(most) <= blocks, "{most} in {blocks}");
                // Just above the longest without a table a block may lack for one.
                let next = (most + 9).max(MOST_WITHOUT_TABLE + 9);
                assert!(most == MOST_WITHOUT_TABLE || len(next) > blocks, "{most}");
            }
        }
        assert_eq!(ExtentPtr::most_bytes(256, 4096), 1 << 20);
    }

    #[test]
    fn generations_grow_across_incarnations() {
        assert!(Generation::first(1).next() < Generation::first(2));
        assert_eq!(Generation::first(3).incarnation(), 3);
    }
}
