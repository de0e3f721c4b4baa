//! What is on the device: every structure, every place, every checksum.
//!
//! `docs/format.md` draws these to the byte and a test holds the two together.
//! All integers are little-endian. A *block* is the unit of allocation
//! ([`geometry::Geometry::block_size`] bytes); block numbers count from the start
//! of the device. Nothing outside this module computes an offset on the device.

pub mod checksum;
pub mod geometry;
mod layout;
pub mod log;
pub mod node;
pub mod pointer;
pub mod space;
pub mod superblock;

pub use geometry::Geometry;
pub use layout::Field;
pub use pointer::{BlockPtr, ExtentPtr, Generation, Run};

/// A block number, counted from the start of the device.
pub type BlockNo = u64;

/// A commit sequence number. 0 is before the first commit.
pub type Csn = u64;

/// Names a tree within its store; 0 is the tree of trees.
pub type TreeId = u32;

/// The tree of trees.
pub const CATALOG: TreeId = 0;

#[cfg(test)]
mod golden;
