//! The log on the device: *log blocks*, each one write of one or more whole
//! blocks, holding whole records.
//!
//! A log *position* counts blocks written since format; position p lies at block
//! `p mod log_blocks` of the log region. A log block never crosses the end of a
//! piece of the region: where one does not fit, a *skip* (a log block of one
//! block without records, whose `blocks` runs to the end of the piece) is written
//! first.

use super::layout::layout;

/// `GAURLOG1`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"GAURLOG1");
/// Flag of a log block: no records; the next log block starts a new piece.
pub const FLAG_SKIP: u32 = 1;

layout! {
    /// Header of a log block. The payload follows, then zeros to a whole block.
    pub struct LogHeader, 96;
    /// [`MAGIC`].
    magic: u64 = 0,
    /// Over the whole log block (of a skip: its first block) from byte 16 on,
    /// seeded with place and position.
    checksum: u64 = 8,
    /// The store's identity.
    store_id: u128 = 16,
    /// Position of this log block.
    position: u64 = 32,
    /// Checksum of the log block before this one.
    previous: u64 = 40,
    /// All log blocks before this position were durable when this was written.
    durable_through: u64 = 48,
    /// First commit in it; the next one expected if it holds none.
    first_csn: u64 = 56,
    /// Incarnation that wrote it.
    incarnation: u32 = 64,
    /// Blocks it takes.
    blocks: u32 = 68,
    /// Bytes of records.
    payload: u32 = 72,
    /// Records (commits) in it.
    records: u32 = 76,
    /// [`FLAG_SKIP`].
    flags: u32 = 80,
}

layout! {
    /// Header of a record: one commit. Its operations follow.
    pub struct RecordHeader, 24;
    /// The commit's sequence number.
    csn: u64 = 0,
    /// Bytes of the operations behind this header.
    bytes: u32 = 8,
    /// Operations in it.
    ops: u32 = 12,
    /// XXH3 of the operations' bytes, low 32 bits.
    check: u32 = 16,
}

layout! {
    /// Header of an operation. The key and then the value follow.
    pub struct OpHeader, 16;
    /// 1 put, 2 put of a large value (one or more `ExtentPtr`), 3 delete,
    /// 4 create tree (key: name; value: options), 5 drop tree (key: name),
    /// 6 rename tree (key: its new name),
    /// 16 load tree (key: name; value: pointer to its root, and the runs it lies in).
    kind: u8 = 0,
    /// Bytes of the key.
    key_len: u16 = 2,
    /// The tree.
    tree: u32 = 4,
    /// Bytes of the value.
    value_len: u32 = 8,
}

/// `OpHeader::kind`: put with the value inline.
pub const OP_PUT: u8 = 1;
/// `OpHeader::kind`: put of a large value; the value is one or more `ExtentPtr`.
pub const OP_PUT_EXTENT: u8 = 2;
/// `OpHeader::kind`: delete.
pub const OP_DELETE: u8 = 3;
/// `OpHeader::kind`: create the tree; the key is its name.
pub const OP_CREATE_TREE: u8 = 4;
/// `OpHeader::kind`: drop the tree; the key is its name.
pub const OP_DROP_TREE: u8 = 5;
/// `OpHeader::kind`: rename the tree; the key is its new name.
pub const OP_RENAME_TREE: u8 = 6;
/// Operation: delete the keys from the key on, up to before the value; no value: all.
pub const OP_DELETE_RANGE: u8 = 7;
/// `OpHeader::kind`: a tree that was built beside the log; the key is its name, the value a
/// `BlockPtr` to its root and then, for each run it lies in, the first block (8 bytes) and how many (4).
pub const OP_LOAD_TREE: u8 = 16;
