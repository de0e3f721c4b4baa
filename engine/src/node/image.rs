//! Nodes outside the arena: private copies, and their image on the device.

use gaur_iodriver::sync::atomic::AtomicU64;

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

#[cfg(test)]
mod tests {
    use gaur_iodriver::sync::rng;
    use rand::RngExt;

    use super::*;
    use crate::format::Generation;
    use crate::format::node::{KIND_EXTENT, KIND_VALUE};
    use crate::node::{Bounds, Child};

    fn leaf() -> NodeBuf {
        let node = NodeBuf::new(512);
        let bounds = Bounds {
            lower: b"key-10".to_vec(),
            upper: Some(b"key-900".to_vec()),
        };
        node.page().init(0, 7, 99, 3, &bounds);
        for i in 0..20u32 {
            let (kind, value) = match i % 7 {
                0 => (KIND_EXTENT, vec![i as u8; 64]),
                _ => (KIND_VALUE, vec![i as u8; i as usize * 3]),
            };
            let key = format!("key-{}", 200 + i);
            node.page().insert(i as usize, key.as_bytes(), kind, &value);
        }
        node
    }

    fn inner() -> NodeBuf {
        let node = NodeBuf::new(512);
        let bounds = Bounds {
            lower: b"a".to_vec(),
            upper: None,
        };
        node.page().init(1, 7, 99, 3, &bounds);
        for i in 0..20u64 {
            let ptr = BlockPtr {
                checksum: i + 1,
                ..BlockPtr::unwritten(1000 + i, Generation(4))
            };
            let key = format!("b{i:03}");
            node.page()
                .insert_child(i as usize, key.as_bytes(), Child { ptr, hint: 3 });
        }
        node
    }

    /// Bytes that verify and are still nonsense: refused, or harmless to read.
    #[test]
    fn nothing_that_loads_can_panic() {
        let seed = rng::fresh_seed();
        println!("seed {seed}");
        let mut r = rng::seeded(seed);
        let ptr = BlockPtr::unwritten(55, Generation(4));
        let (mut loaded, mut refused) = (0, 0);
        for round in 0..60_000 {
            let node = if round % 2 == 0 { leaf() } else { inner() };
            node.page().set_identity(ptr.addr, ptr.birth);
            let mut bytes = vec![0; 4096];
            store_image(node.page(), &mut bytes);
            for _ in 0..r.random_range(1..4) {
                let at = match r.random_range(0..4) {
                    0 => r.random_range(0..64),
                    1 => r.random_range(64..240),
                    _ => r.random_range(0..4096),
                };
                bytes[at] = r.random();
            }
            let checksum = checksum::block(&bytes, ptr.addr, ptr.birth.0);
            let ptr = BlockPtr { checksum, ..ptr };
            let got = NodeBuf::new(512);
            let page = got.page();
            if load_image(&bytes, ptr, 99, Some(7), None, page).is_err() {
                refused += 1;
                continue;
            }
            loaded += 1;
            let mut value = Vec::new();
            for i in 0..page.slots() {
                let key = page.key(i);
                if page.level() > 0 {
                    assert_eq!(page.child(i).hint, 0);
                    assert_eq!(page.child_slot(&key), i);
                } else {
                    assert_eq!(page.search(&key), (i, true));
                }
                page.copy_value(i, &mut value);
            }
        }
        assert!(loaded > 1000 && refused > 1000, "{loaded} {refused}");
    }
}
