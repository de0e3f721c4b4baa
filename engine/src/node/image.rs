//! Nodes outside the arena: private copies, and their image on the device.

use std::sync::atomic::AtomicU64;

use super::page::Page;
use crate::error::Damage;
use crate::format::node::MAGIC;
use crate::format::{BlockPtr, TreeId, checksum};

/// A private node.
#[derive(Debug)]
pub(crate) struct NodeBuf(Box<[AtomicU64]>);

impl NodeBuf {
    pub(crate) fn new(words: usize) -> Self {
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn copy_of(page: Page<'_>) -> Self {
        Self(
            (0..page.len_words())
                .map(|i| AtomicU64::new(page.load(i)))
                .collect(),
        )
    }

    pub(crate) fn page(&self) -> Page<'_> {
        Page::new(&self.0)
    }

    /// Copies this node over `page`.
    pub(crate) fn copy_to(&self, page: Page<'_>) {
        copy(self.page(), page);
    }
}

/// Copies a node over another page of the same size.
pub(crate) fn copy(from: Page<'_>, to: Page<'_>) {
    for i in 0..from.len_words() {
        to.store(i, from.load(i));
    }
}

/// Writes the node as the device stores it into `out`, hints cleared, and returns
/// its checksum.
pub(crate) fn store_image(page: Page<'_>, out: &mut [u8]) -> u64 {
    for (i, chunk) in out.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&page.load(i).to_le_bytes());
    }
    if page.level() > 0 {
        for i in 0..page.slots() {
            let hint = (page.entry(i).value_offset() + 3) * 8;
            out[hint..hint + 8].fill(0);
        }
    }
    checksum::block(out, page.addr(), page.birth().0)
}

/// Checks a block that was read for `ptr` and copies it into `page`.
pub(crate) fn load_image(
    bytes: &[u8],
    ptr: BlockPtr,
    store: u64,
    tree: Option<TreeId>,
    level: Option<u8>,
    page: Page<'_>,
) -> Result<(), Damage> {
    let bad = |detail: &str| {
        let d = Damage::new("node", ptr.addr, detail);
        match tree {
            Some(t) => d.in_tree(t),
            None => d,
        }
    };
    if checksum::block(bytes, ptr.addr, ptr.birth.0) != ptr.checksum {
        return Err(bad("checksum differs"));
    }
    for (i, chunk) in bytes.chunks_exact(8).enumerate() {
        page.store(i, u64::from_le_bytes(chunk.try_into().expect("8 bytes")));
    }
    if page.load(0) as u32 != MAGIC {
        return Err(bad("not a node"));
    }
    if page.addr() != ptr.addr || page.birth() != ptr.birth {
        return Err(bad("node is out of place or of another generation"));
    }
    if page.load(6) != store {
        return Err(bad("node of another store"));
    }
    if tree.is_some_and(|t| t != page.tree()) {
        return Err(bad("node of another tree"));
    }
    if level.is_some_and(|l| l != page.level()) {
        return Err(bad("node of another level"));
    }
    page.check().map_err(bad)
}
