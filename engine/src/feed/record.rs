//! One commit of a feed, and what it did.

use std::sync::Weak;

use super::{LargeValue, Shared};
use crate::error::Result;
use crate::format::{Csn, TreeId};
use crate::log::{LogOp, Ops};

/// One commit, whole, as the log has it.
#[derive(Clone, Debug)]
pub struct FeedCommit {
    pub(super) csn: Csn,
    pub(super) count: u32,
    pub(super) ops: Vec<u8>,
    pub(super) of: Weak<Shared>,
}

impl FeedCommit {
    /// Its number: one more than that of the commit before.
    pub fn csn(&self) -> Csn {
        self.csn
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its operations, those on one tree in the order of their keys, at most one on each
    /// key.
    pub fn iter(&self) -> impl Iterator<Item = FeedOp<'_>> {
        // All were read once, when the log block was checked.
        Ops::new(&self.ops).filter_map(|op| Some(self.told(op.ok()?)))
    }

    fn told<'a>(&'a self, op: LogOp<'a>) -> FeedOp<'a> {
        match op {
            LogOp::Put { tree, key, value } => FeedOp::Put { tree, key, value },
            LogOp::PutExtent { tree, key, extents } => {
                let value = LargeValue {
                    csn: self.csn,
                    tree,
                    key,
                    pieces: extents.as_bytes(),
                    of: &self.of,
                };
                FeedOp::PutLarge { tree, key, value }
            }
            LogOp::Delete { tree, key } => FeedOp::Delete { tree, key },
            LogOp::DeleteRange { tree, lower, upper } => FeedOp::DeleteRange { tree, lower, upper },
            LogOp::CreateTree {
                tree,
                name,
                options: [],
            } => FeedOp::CreateTree { tree, name },
            // With the records of a tree of a snapshot, or of a bulk load.
            LogOp::CreateTree { tree, name, .. } | LogOp::LoadTree { tree, name, .. } => {
                FeedOp::CreateFilled { tree, name }
            }
            LogOp::DropTree { tree, name } => FeedOp::DropTree { tree, name },
            LogOp::RenameTree { tree, name } => FeedOp::RenameTree { tree, name },
        }
    }
}

/// One operation of a commit. A tree is told by its number ([`Tree::id`]), which no
/// other tree of the store ever has.
///
/// [`Tree::id`]: crate::Tree::id
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FeedOp<'a> {
    /// A key got a value.
    Put {
        /// The tree.
        tree: TreeId,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// A key got a value that is not in the log itself.
    PutLarge {
        /// The tree.
        tree: TreeId,
        /// The key.
        key: &'a [u8],
        /// The value, to be read.
        value: LargeValue<'a>,
    },
    /// A key was deleted, whether it was there or not.
    Delete {
        /// The tree.
        tree: TreeId,
        /// The key.
        key: &'a [u8],
    },
    /// All keys of a range were deleted: a commit by itself.
    DeleteRange {
        /// The tree.
        tree: TreeId,
        /// The least key.
        lower: &'a [u8],
        /// The first key behind the range; `None`: it has no end.
        upper: Option<&'a [u8]>,
    },
    /// A tree was made.
    CreateTree {
        /// Its number.
        tree: TreeId,
        /// Its name, in UTF-8.
        name: &'a [u8],
    },
    /// A tree was made with records in it, which the log does not have: a clone, a tree that
    /// was rolled back, or a bulk load. Read the tree to have them.
    CreateFilled {
        /// Its number.
        tree: TreeId,
        /// Its name, in UTF-8.
        name: &'a [u8],
    },
    /// A tree got another name.
    RenameTree {
        /// Its number.
        tree: TreeId,
        /// Its new name, in UTF-8.
        name: &'a [u8],
    },
    /// A tree was dropped.
    DropTree {
        /// Its number.
        tree: TreeId,
        /// Its name, in UTF-8.
        name: &'a [u8],
    },
}

impl FeedOp<'_> {
    /// The number of the tree that it is about.
    pub fn tree(&self) -> TreeId {
        match *self {
            Self::Put { tree, .. }
            | Self::PutLarge { tree, .. }
            | Self::Delete { tree, .. }
            | Self::DeleteRange { tree, .. }
            | Self::CreateTree { tree, .. }
            | Self::CreateFilled { tree, .. }
            | Self::RenameTree { tree, .. }
            | Self::DropTree { tree, .. } => tree,
        }
    }

    /// The value that a put has, large or not; `None` for what is no put.
    ///
    /// # Errors
    /// As [`LargeValue::read`].
    pub fn value(&self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Put { value, .. } => Ok(Some(value.to_vec())),
            Self::PutLarge { value, .. } => value.read().map(Some),
            _ => Ok(None),
        }
    }
}
