//! A node as stored: header, slots, and a heap of entries that grows downwards.
//!
//! ```text
//! 0        64                                                     block size
//! | header | slot 0 | slot 1 | … →      free      ← entries … | upper | lower |
//! ```
//!
//! - A *slot* is one word: the first six bytes of the key behind the node's
//!   prefix (the *head*, big-endian, zero-padded) in the high 48 bits, and the
//!   entry's offset in units of 8 bytes in the low 16. So slots compare as words.
//! - An *entry* starts at a multiple of 8 bytes: one word (kind in the low byte,
//!   key length in bits 16–31, value length in bits 32–63), the key without the
//!   node's prefix padded to 8 bytes, then the value padded to 8 bytes.
//! - The *fences* are the bounds of the node's keys: lower inclusive, upper
//!   exclusive. They stand at the end of the block, each padded to 8 bytes. The
//!   common prefix of both is the node's prefix.
//! - In a node above the leaves the value is a pointer of three words and one
//!   word of *hint* that means something in memory only and is zero on the
//!   device. The first entry's key is empty: it begins at the lower fence.

use super::layout::layout;

/// Bytes of the node header.
pub const HEADER: usize = NodeHeader::SIZE;
/// `GNOD`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"GNOD");
/// `upper_len` of a node without an upper bound.
pub const NO_UPPER: u16 = 0xFFFF;
/// Entry kind: the value is inline.
pub const KIND_VALUE: u8 = 1;
/// Entry kind: the value is one or more `ExtentPtr`, the pieces of a large value
/// in order.
pub const KIND_EXTENT: u8 = 2;
/// Entry kind: a child pointer and its hint.
pub const KIND_CHILD: u8 = 3;

layout! {
    /// Header of a node.
    pub struct NodeHeader, 64;
    /// [`MAGIC`].
    magic: u32 = 0,
    /// 0 for a leaf.
    level: u8 = 4,
    /// Slots in use.
    slots: u16 = 6,
    /// The node's own block number.
    addr: u64 = 8,
    /// Generation in which it was written.
    birth: u64 = 16,
    /// The newest commit that changed it (leaves).
    csn: u64 = 24,
    /// The tree it belongs to.
    tree: u32 = 32,
    /// Offset of the lowest entry, in units of 8 bytes.
    heap: u16 = 36,
    /// Bytes of dead entries in the heap, in units of 8 bytes.
    garbage: u16 = 38,
    /// Bytes of the common prefix.
    prefix_len: u16 = 40,
    /// Bytes of the lower fence.
    lower_len: u16 = 42,
    /// Bytes of the upper fence, or [`NO_UPPER`].
    upper_len: u16 = 44,
    /// Low 64 bits of the store's identity.
    store_id: u64 = 48,
}
