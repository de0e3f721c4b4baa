//! The tree of trees: name → identity and root of each tree.
//!
//! It is small and written whole at each checkpoint, bottom up, when all roots
//! are known; nothing changes it in between.

use gaur_iodriver::IoBuf;

use crate::error::Damage;
use crate::format::node::KIND_VALUE;
use crate::format::{BlockNo, BlockPtr, CATALOG, Generation, TreeId};
use crate::node::{Bounds, Child, NodeBuf, shortest_separator, store_image};

/// The longest name of a tree, in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// What the catalog says of a tree. Stored: the tree's number (4 bytes), 4 bytes
/// of zeros, the root's pointer (24 bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogEntry {
    pub(crate) name: String,
    pub(crate) id: TreeId,
    pub(crate) root: BlockPtr,
}

impl CatalogEntry {
    const SIZE: usize = 8 + BlockPtr::SIZE;

    fn value(&self) -> [u8; Self::SIZE] {
        let mut v = [0; Self::SIZE];
        v[..4].copy_from_slice(&self.id.to_le_bytes());
        for (chunk, word) in v[8..].chunks_exact_mut(8).zip(self.root.to_words()) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        v
    }

    /// Reads an entry of the catalog leaf at block `place`.
    pub(crate) fn decode(name: &[u8], value: &[u8], place: BlockNo) -> Result<Self, Damage> {
        let bad = |why: &str| Damage::new("catalog entry", place, why).in_tree(CATALOG);
        let name = std::str::from_utf8(name).map_err(|_| bad("a name is not UTF-8"))?;
        if value.len() != Self::SIZE {
            return Err(bad("an entry has a wrong length"));
        }
        let word = |i: usize| u64::from_le_bytes(value[i..i + 8].try_into().expect("8 bytes"));
        let id = TreeId::try_from(word(0)).map_err(|_| bad("bytes where none belong"))?;
        let root = BlockPtr::from_words([word(8), word(16), word(24)]);
        if !root.is_null() && root.checksum == 0 {
            return Err(bad("a root's pointer without a checksum"));
        }
        Ok(Self {
            name: name.to_owned(),
            id,
            root,
        })
    }
}

/// Blocks that a catalog of names of these lengths takes at most.
pub(crate) fn blocks_needed(names: impl Iterator<Item = usize>, block_size: u32) -> u64 {
    let bytes: u64 = names.map(|n| (n + CatalogEntry::SIZE + 48) as u64).sum();
    // Leaves are filled to half at least; each inner level is a fraction of that.
    2 * bytes.div_ceil(u64::from(block_size) / 2 - 512) + 4
}

/// A catalog ready to be written.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) root: BlockPtr,
    pub(crate) level: u32,
    /// Each block and its image.
    pub(crate) images: Vec<(BlockNo, IoBuf)>,
}

/// Builds the catalog of `entries`, sorted by name, on blocks from `take`.
pub(crate) fn build(
    entries: &[CatalogEntry],
    block_size: u32,
    store: u64,
    birth: Generation,
    mut take: impl FnMut() -> BlockNo,
) -> Built {
    let words = block_size as usize / 8;
    let mut images = Vec::new();
    let mut seal = |node: &NodeBuf| {
        let addr = take();
        node.page().set_identity(addr, birth);
        let mut image = IoBuf::zeroed(block_size as usize);
        let checksum = store_image(node.page(), &mut image);
        images.push((addr, image));
        BlockPtr {
            checksum,
            ..BlockPtr::unwritten(addr, birth)
        }
    };

    // A row of nodes: lower fence and pointer of each.
    let mut row: Vec<(Vec<u8>, BlockPtr)> = Vec::new();
    let (mut lower, mut from) = (Vec::new(), 0);
    loop {
        // Trial without an upper fence: what fits so, with room for the fence left,
        // fits with it.
        let trial = NodeBuf::new(words);
        trial.page().init(
            0,
            CATALOG,
            store,
            0,
            &Bounds {
                lower: lower.clone(),
                upper: None,
            },
        );
        let mut to = from;
        while to < entries.len() {
            let key = entries[to].name.as_bytes();
            if !trial
                .page()
                .fits(key.len() + MAX_NAME + 8, CatalogEntry::SIZE)
            {
                break;
            }
            trial
                .page()
                .insert(to - from, key, KIND_VALUE, &entries[to].value());
            to += 1;
        }
        let upper = (to < entries.len()).then(|| {
            shortest_separator(entries[to - 1].name.as_bytes(), entries[to].name.as_bytes())
        });
        let leaf = NodeBuf::new(words);
        let bounds = Bounds {
            lower: lower.clone(),
            upper: upper.clone(),
        };
        leaf.page().init(0, CATALOG, store, 0, &bounds);
        for (i, e) in entries[from..to].iter().enumerate() {
            leaf.page()
                .insert(i, e.name.as_bytes(), KIND_VALUE, &e.value());
        }
        row.push((lower, seal(&leaf)));
        let Some(next) = upper else { break };
        (lower, from) = (next, to);
    }

    let mut level = 0u8;
    let per_node = words * 8 / (MAX_NAME + 80);
    while row.len() > 1 {
        level += 1;
        let mut above = Vec::new();
        for (i, chunk) in row.chunks(per_node).enumerate() {
            let upper = row.get((i + 1) * per_node).map(|r| r.0.clone());
            let node = NodeBuf::new(words);
            let bounds = Bounds {
                lower: chunk[0].0.clone(),
                upper,
            };
            node.page().init(level, CATALOG, store, 0, &bounds);
            for (slot, (key, ptr)) in chunk.iter().enumerate() {
                node.page()
                    .insert_child(slot, key, Child { ptr: *ptr, hint: 0 });
            }
            above.push((chunk[0].0.clone(), seal(&node)));
        }
        row = above;
    }
    Built {
        root: row[0].1,
        level: u32::from(level),
        images,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::load_image;

    fn read(built: &Built, ptr: BlockPtr, out: &mut Vec<CatalogEntry>) {
        let image = &built.images.iter().find(|(a, _)| *a == ptr.addr).unwrap().1;
        let node = NodeBuf::new(512);
        load_image(image, ptr, 7, Some(CATALOG), None, node.page()).unwrap();
        let page = node.page();
        for i in 0..page.slots() {
            if page.level() > 0 {
                read(built, page.child(i).ptr, out);
            } else {
                let mut value = Vec::new();
                page.copy_value(i, &mut value);
                out.push(CatalogEntry::decode(&page.key(i), &value, ptr.addr).unwrap());
            }
        }
    }

    fn entry(i: usize, name: String) -> CatalogEntry {
        CatalogEntry {
            name,
            id: i as TreeId,
            root: BlockPtr {
                checksum: 4,
                ..BlockPtr::unwritten(i as u64, Generation(3))
            },
        }
    }

    /// Builds these trees' catalog, reads it back, and compares the blocks it takes with
    /// what was foretold.
    fn built(names: impl Iterator<Item = String>) -> Built {
        let entries: Vec<_> = names.enumerate().map(|(i, n)| entry(i, n)).collect();
        let mut next = 100;
        let built = build(&entries, 4096, 7, Generation(9), || {
            next += 1;
            next
        });
        let mut back = Vec::new();
        read(&built, built.root, &mut back);
        assert_eq!(back, entries);

        let took = built.images.len() as u64;
        let lens = || entries.iter().map(|e| e.name.len());
        let needed = blocks_needed(lens(), 4096);
        assert!(took <= needed, "{}: {took} > {needed}", entries.len());
        // Leaves are half full at least, but for the last.
        let bytes: usize = lens().map(|n| n + CatalogEntry::SIZE + 24).sum();
        let most = bytes.div_ceil(2048) as u64 * 9 / 8 + 1;
        assert!(took <= most, "{}: {took} > {most}", entries.len());
        // What is kept for it beyond need could hold data: twice, for the leaves' filling,
        // and as much again for what entries take at most.
        assert!(needed <= 4 * most + 4, "{needed} for at most {most}");
        built
    }

    #[test]
    fn what_is_built_reads_back() {
        for n in [0, 1, 5, 40, 3000] {
            built((0..n).map(|i| format!("{i:05}{}", "x".repeat(i % 200))));
        }
    }

    #[test]
    fn names_as_long_as_can_be_fit_with_their_separators() {
        // Names that differ in their ends: of some lengths before them the first leaf is
        // as full as it gets, and its upper fence is a whole name.
        for before in 0..80 {
            let short = (0..before).map(|i| format!("a{i:02}"));
            let long = (0..400).map(|i| format!("{}{i:04}", "z".repeat(MAX_NAME - 4)));
            let built = built(short.chain(long));
            assert_eq!(built.level, 2);
        }
        // Separators as long, in inner nodes too.
        let pairs = (0..400).flat_map(|i| {
            let name = format!("{i:03}{}", "n".repeat(MAX_NAME - 4));
            [format!("{name}a"), format!("{name}b")]
        });
        built(pairs);
    }

    #[test]
    fn an_entry_that_cannot_be_is_damage() {
        let good = entry(3, "t".to_owned());
        let decode = |name: &[u8], value: &[u8]| CatalogEntry::decode(name, value, 5);
        assert_eq!(decode(b"t", &good.value()), Ok(good.clone()));
        // A tree may be empty.
        let empty = CatalogEntry {
            root: BlockPtr::from_words([0; 3]),
            ..good.clone()
        };
        assert_eq!(decode(b"t", &empty.value()), Ok(empty));

        let mut unsealed = good.clone();
        unsealed.root.checksum = 0;
        let mut high = good.value();
        high[4] = 1;
        for (name, value, why) in [
            (&b"t"[..], &unsealed.value()[..], "without a checksum"),
            (b"t", &high, "where none belong"),
            (b"t", &good.value()[1..], "wrong length"),
            (b"\xff", &good.value(), "UTF-8"),
        ] {
            let damage = decode(name, value).unwrap_err();
            assert_eq!((damage.place, damage.tree), (5, Some(CATALOG)));
            assert!(damage.detail.contains(why), "{damage}");
        }
    }
}
