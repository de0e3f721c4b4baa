//! Nodes: the slotted page that is both what a frame holds and, hints cleared,
//! what the device stores (`format::node`).

mod edit;
mod image;
mod page;
mod split;

pub(crate) use edit::Bounds;
pub(crate) use image::{NodeBuf, copy, load_image, store_image};
pub(crate) use page::{CHILD_WORDS, Child, HEADER_WORDS, Page, common_prefix, entry_words};
pub(crate) use split::{Incoming, plan_split, shortest_separator};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 1024;

/// The longest value that may be kept in a leaf beside a key of `key_len` bytes.
/// A leaf with the longest possible fences always has room for one entry, and a
/// leaf without large entries for four.
pub(crate) fn max_inline(block_size: u32, key_len: usize) -> usize {
    let room = block_size as usize / 8 - HEADER_WORDS - 2 * MAX_KEY.div_ceil(8);
    let left = room - 2 - key_len.div_ceil(8);
    (left * 8).min(block_size as usize / 4)
}
