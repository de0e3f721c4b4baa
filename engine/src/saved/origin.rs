//! Where a tree came from that did not begin empty: in the log, what a create says
//! beside the name.

use crate::format::{BlockPtr, Generation};
use crate::writeback::catalog::{Fields, put_pointer};

/// First word of a create's options: the tree begins as one of a snapshot.
const FROM_SNAPSHOT: u32 = 1;
const FLAG_NO_LARGE: u32 = 1;

/// A tree of a snapshot, as the beginning of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The snapshot's generation.
    pub(crate) generation: Generation,
    pub(crate) root: BlockPtr,
    /// There may be large values in it.
    pub(crate) large: bool,
}

impl Origin {
    /// A tree that was built beside the log: its nodes are its own.
    pub(crate) fn loaded(root: BlockPtr) -> Self {
        Self {
            generation: Generation::default(),
            root,
            large: true,
        }
    }

    /// As it is stored: 1 (4 bytes), flags (4 bytes; bit 0: there was never a large
    /// value), the generation (8 bytes), the root (24 bytes).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let flags = if self.large { 0 } else { FLAG_NO_LARGE };
        let mut out = FROM_SNAPSHOT.to_le_bytes().to_vec();
        out.extend(flags.to_le_bytes());
        out.extend(self.generation.0.to_le_bytes());
        put_pointer(&mut out, self.root);
        out
    }

    /// `None`: the tree begins empty.
    pub(crate) fn decode(options: &[u8]) -> Result<Option<Self>, &'static str> {
        if options.is_empty() {
            return Ok(None);
        }
        let mut fields = Fields(options);
        let (Some(head), Some(generation), Some(root), true) = (
            fields.word(),
            fields.word(),
            fields.pointer(),
            fields.0.is_empty(),
        ) else {
            return Err("a tree's options have a wrong length");
        };
        let (kind, flags) = (head as u32, (head >> 32) as u32);
        if kind != FROM_SNAPSHOT || flags & !FLAG_NO_LARGE != 0 {
            return Err("a tree's options are of an unknown kind");
        }
        if !root.is_null() && root.checksum == 0 {
            return Err("a root's pointer without a checksum");
        }
        Ok(Some(Self {
            generation: Generation(generation),
            root,
            large: flags & FLAG_NO_LARGE == 0,
        }))
    }
}
