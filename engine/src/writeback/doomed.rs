//! What is left of a tree that was dropped: the way to where its nodes are being freed.
//!
//! The nodes of a dropped tree are freed bit by bit (`reclaim`), each node behind what
//! lies below it. How far that is, is a path: the nodes from the root to the one that is
//! next, and in each the child that comes next. Children before that are free already.
//! So it is as long as the tree is deep, however large the tree, and goes into the tree
//! of trees with each checkpoint.

use super::catalog::{
    FLAG_NO_LARGE, Fields, Item, NO_NAME, flags_of, put_origin, put_pointer, read_origin,
};
use crate::format::{BlockPtr, Generation, TreeId};

/// What follows [`NO_NAME`] in the key of a dropped tree.
const KIND: u8 = b'd';
/// The most nodes on a path: no tree is as deep.
const DEEPEST: usize = 12;

/// What is left of a dropped tree. Stored, with the key 255, `d` and the number in
/// 8 bytes, most significant first: the tree's number (4 bytes), its flags (4 bytes), the
/// last generation that had it (8 bytes), the snapshot that it came from, as with a tree,
/// and for each node of the path its pointer (24 bytes) and the next child (8 bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    /// Tells it from others.
    pub(crate) number: u64,
    /// What its nodes say.
    pub(crate) id: TreeId,
    /// There may be large values in it.
    pub(crate) large: bool,
    /// The last generation that had the tree.
    pub(crate) last: Generation,
    /// What was born up to this generation is a snapshot's; 0: nothing.
    pub(crate) origin: Generation,
    /// From the root down; of each node the children before this slot are gone. The
    /// last of them in each but the last node is the next node.
    pub(crate) path: Vec<(BlockPtr, u32)>,
}

impl Doomed {
    const STEP: usize = BlockPtr::SIZE + 8;
    /// Bytes that one takes at most.
    pub(super) const MOST: u64 = (48 + 10 + 24 + DEEPEST * Self::STEP) as u64;

    pub(super) fn item(&self) -> Item {
        let mut key = vec![NO_NAME, KIND];
        key.extend(self.number.to_be_bytes());
        let mut value = self.id.to_le_bytes().to_vec();
        value.extend(flags_of(self.large, self.origin).to_le_bytes());
        value.extend(self.last.0.to_le_bytes());
        put_origin(&mut value, self.origin);
        for (ptr, next) in &self.path {
            put_pointer(&mut value, *ptr);
            value.extend(u64::from(*next).to_le_bytes());
        }
        (key, value)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let number = match key.split_first_chunk::<2>() {
            Some(([NO_NAME, KIND], rest)) => rest.try_into().ok().map(u64::from_be_bytes),
            _ => None,
        };
        let number = number.ok_or("an entry of an unknown kind")?;
        let mut fields = Fields(value);
        let word = fields.word().ok_or("an entry has a wrong length")?;
        let flags = (word >> 32) as u32;
        let last = fields.word().ok_or("an entry has a wrong length")?;
        let origin = read_origin(&mut fields, flags)?;
        let mut path = Vec::new();
        while !fields.0.is_empty() {
            let (Some(ptr), Some(next)) = (fields.pointer(), fields.word()) else {
                return Err("an entry has a wrong length");
            };
            let next = u32::try_from(next).map_err(|_| "bytes where none belong")?;
            if ptr.is_null() || ptr.checksum == 0 {
                return Err("a dropped node's pointer without a checksum");
            }
            path.push((ptr, next));
        }
        if path.is_empty() || path.len() > DEEPEST {
            return Err("an entry has a wrong length");
        }
        Ok(Self {
            number,
            id: word as TreeId,
            large: flags & FLAG_NO_LARGE == 0,
            last: Generation(last),
            origin,
            path,
        })
    }
}
