//! The tree of trees: name → identity and root of each tree, and what is left of
//! trees that were dropped (`doomed`), and the named snapshots (`held`).
//!
//! It is small and written whole at each checkpoint, bottom up, when all roots
//! are known; nothing changes it in between.

use gaur_iodriver::IoBuf;

use super::doomed::Doomed;
use super::held::Held;
use crate::error::Damage;
use crate::format::node::KIND_VALUE;
use crate::format::superblock::Superblock;
use crate::format::{BlockNo, BlockPtr, CATALOG, Generation, TreeId};
use crate::node::{Bounds, Child, NodeBuf, shortest_separator, store_image};

/// The longest name of a tree, in bytes.
pub(crate) const MAX_NAME: usize = 255;
/// First byte of a key that is no tree's name: no UTF-8 has it.
pub(super) const NO_NAME: u8 = 0xFF;
/// Flag of a tree: it never had a large value.
pub(super) const FLAG_NO_LARGE: u32 = 1;
/// Flag of a tree: it came from a snapshot, whose generation follows.
pub(super) const FLAG_ORIGIN: u32 = 2;

/// A key of the catalog and its value.
pub(crate) type Item = (Vec<u8>, Vec<u8>);

/// What the catalog says of a tree. Stored: the tree's number (4 bytes), its flags
/// (4 bytes; bit 0: it never had a large value), the root's pointer (24 bytes), and, with
/// bit 1, the generation of the snapshot that it came from (8 bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogEntry {
    pub(crate) name: String,
    pub(crate) id: TreeId,
    /// There may be large values in it.
    pub(crate) large: bool,
    pub(crate) root: BlockPtr,
    /// What was born up to this generation is a snapshot's; 0: nothing.
    pub(crate) origin: Generation,
}

/// Reads numbers and pointers one behind another.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn word(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*head))
    }

    pub(crate) fn pointer(&mut self) -> Option<BlockPtr> {
        Some(BlockPtr::from_words([
            self.word()?,
            self.word()?,
            self.word()?,
        ]))
    }
}

/// Adds a pointer to a value.
pub(crate) fn put_pointer(out: &mut Vec<u8>, ptr: BlockPtr) {
    let words = ptr.to_words();
    out.extend(words.iter().flat_map(|w| w.to_le_bytes()));
}

impl CatalogEntry {
    const SIZE: usize = 8 + BlockPtr::SIZE;

    /// The entry as it is stored.
    pub(crate) fn item(&self) -> Item {
        let mut value = self.id.to_le_bytes().to_vec();
        value.extend(flags_of(self.large, self.origin).to_le_bytes());
        put_pointer(&mut value, self.root);
        put_origin(&mut value, self.origin);
        (self.name.as_bytes().to_vec(), value)
    }

    fn decode(name: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let name = std::str::from_utf8(name).map_err(|_| "a name is not UTF-8")?;
        let mut fields = Fields(value);
        let (Some(word), Some(root)) = (fields.word(), fields.pointer()) else {
            return Err("an entry has a wrong length");
        };
        let flags = (word >> 32) as u32;
        let origin = read_origin(&mut fields, flags)?;
        if !fields.0.is_empty() {
            return Err("an entry has a wrong length");
        }
        if !root.is_null() && root.checksum == 0 {
            return Err("a root's pointer without a checksum");
        }
        Ok(Self {
            name: name.to_owned(),
            id: word as TreeId,
            large: flags & FLAG_NO_LARGE == 0,
            root,
            origin,
        })
    }
}

/// The flags of a tree.
pub(super) fn flags_of(large: bool, origin: Generation) -> u32 {
    let large = if large { 0 } else { FLAG_NO_LARGE };
    let origin = if origin.0 == 0 { 0 } else { FLAG_ORIGIN };
    large | origin
}

/// Adds the origin, if there is one.
pub(super) fn put_origin(out: &mut Vec<u8>, origin: Generation) {
    if origin.0 != 0 {
        out.extend(origin.0.to_le_bytes());
    }
}

/// Reads the origin, if the flags say that there is one.
pub(super) fn read_origin(fields: &mut Fields<'_>, flags: u32) -> Result<Generation, &'static str> {
    if flags & !(FLAG_NO_LARGE | FLAG_ORIGIN) != 0 {
        return Err("bytes where none belong");
    }
    if flags & FLAG_ORIGIN == 0 {
        return Ok(Generation::default());
    }
    match fields.word() {
        None => Err("an entry has a wrong length"),
        Some(0) => Err("bytes where none belong"),
        Some(origin) => Ok(Generation(origin)),
    }
}

/// All that a catalog says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// By name.
    pub(crate) trees: Vec<CatalogEntry>,
    pub(crate) doomed: Vec<Doomed>,
    /// By generation.
    pub(crate) held: Vec<Held>,
}

impl Contents {
    /// Takes in an entry of the catalog leaf at block `place`.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8], place: BlockNo) -> Result<(), Damage> {
        let read = match key.first() {
            Some(&NO_NAME) if Held::is_key(key) => {
                Held::decode(key, value).map(|h| self.held.push(h))
            }
            Some(&NO_NAME) => Doomed::decode(key, value).map(|d| self.doomed.push(d)),
            _ => CatalogEntry::decode(key, value).map(|e| self.trees.push(e)),
        };
        read.map_err(|why| Damage::new("catalog entry", place, why).in_tree(CATALOG))
    }

    /// All of it as it is stored, by key.
    pub(crate) fn items(&self) -> Vec<Item> {
        let trees = self.trees.iter().map(CatalogEntry::item);
        let doomed = self.doomed.iter().map(Doomed::item);
        let held = self.held.iter().map(Held::item);
        trees.chain(doomed).chain(held).collect()
    }

    /// Puts the tree of trees of this superblock where a snapshot has that very one.
    pub(crate) fn place_held(&mut self, sb: &Superblock) -> Result<(), Damage> {
        for held in self.held.iter_mut().filter(|h| h.catalog.is_null()) {
            if held.generation != sb.generation() {
                let what = "a snapshot of another generation without a tree of trees";
                let damage = Damage::new("catalog entry", sb.catalog_addr, what);
                return Err(damage.in_tree(CATALOG));
            }
            (held.catalog, held.level) = (sb.catalog(), sb.catalog_level);
        }
        Ok(())
    }

    /// Whether there is nothing but trees that began empty: what any reader knows.
    pub(crate) fn is_plain(&self) -> bool {
        let own = self.trees.iter().all(|t| t.origin.0 == 0);
        own && self.doomed.is_empty() && self.held.is_empty()
    }
}

/// Blocks that a catalog takes at most, of trees with names of these lengths, each of
/// which may be dropped, of so many dropped ones, and of snapshots with such names.
pub(crate) fn blocks_needed(
    names: impl Iterator<Item = usize>,
    doomed: usize,
    snapshots: impl Iterator<Item = usize>,
    block_size: u32,
) -> u64 {
    let entry = |key: usize, value: usize| (key + value + 48) as u64;
    let trees = names.map(|n| entry(n, CatalogEntry::SIZE + 8).max(Doomed::MOST));
    let snapshots = snapshots.map(Held::most);
    let bytes = trees.chain(snapshots).sum::<u64>() + doomed as u64 * Doomed::MOST;
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

/// Builds the catalog of `entries`, sorted by key, on blocks from `take`.
pub(crate) fn build(
    entries: &[Item],
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
            let (key, value) = &entries[to];
            if !trial.page().fits(key.len() + MAX_NAME + 8, value.len()) {
                break;
            }
            trial.page().insert(to - from, key, KIND_VALUE, value);
            to += 1;
        }
        let upper =
            (to < entries.len()).then(|| shortest_separator(&entries[to - 1].0, &entries[to].0));
        let leaf = NodeBuf::new(words);
        let bounds = Bounds {
            lower: lower.clone(),
            upper: upper.clone(),
        };
        leaf.page().init(0, CATALOG, store, 0, &bounds);
        for (i, (key, value)) in entries[from..to].iter().enumerate() {
            leaf.page().insert(i, key, KIND_VALUE, value);
        }
        row.push((lower, seal(&leaf)));
        let Some(next) = upper else { break };
        (lower, from) = (next, to);
    }

    let mut level = 0u8;
    let per_node = words * 8 / (MAX_NAME + 96);
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

    fn read(built: &Built, ptr: BlockPtr, out: &mut Contents) {
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
                out.add(&page.key(i), &value, ptr.addr).unwrap();
            }
        }
    }

    fn entry(i: usize, name: String) -> CatalogEntry {
        CatalogEntry {
            name,
            id: i as TreeId,
            large: i.is_multiple_of(3),
            root: BlockPtr {
                checksum: 4,
                ..BlockPtr::unwritten(i as u64, Generation(3))
            },
            origin: Generation::default(),
        }
    }

    /// Builds these trees' catalog, reads it back, and compares the blocks it takes with
    /// what was foretold.
    fn built(names: impl Iterator<Item = String>) -> Built {
        let entries: Vec<_> = names.enumerate().map(|(i, n)| entry(i, n)).collect();
        let mut next = 100;
        let items: Vec<Item> = entries.iter().map(CatalogEntry::item).collect();
        let built = build(&items, 4096, 7, Generation(9), || {
            next += 1;
            next
        });
        let mut back = Contents::default();
        read(&built, built.root, &mut back);
        assert_eq!(back.trees, entries);

        let took = built.images.len() as u64;
        let lens = || entries.iter().map(|e| e.name.len());
        let needed = blocks_needed(lens(), 0, std::iter::empty(), 4096);
        assert!(took <= needed, "{}: {took} > {needed}", entries.len());
        // Leaves are half full at least, but for the last.
        let bytes: usize = lens().map(|n| n + CatalogEntry::SIZE + 24).sum();
        let most = bytes.div_ceil(2048) as u64 * 9 / 8 + 1;
        assert!(took <= most, "{}: {took} > {most}", entries.len());
        // What is kept for it beyond need could hold data: twice, for the leaves' filling,
        // and as much again for what entries take at most; each may become that of a dropped
        // tree.
        let bytes: u64 = lens().map(|n| (n as u64 + 56).max(Doomed::MOST)).sum();
        let most = bytes.div_ceil(2048) * 9 / 8 + 1;
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
        let decode = |key: &[u8], value: &[u8]| {
            let mut contents = Contents::default();
            contents.add(key, value, 5).map(|()| contents.trees.pop())
        };
        assert_eq!(decode(b"t", &good.item().1), Ok(Some(good.clone())));
        // A tree may be empty.
        let empty = CatalogEntry {
            root: BlockPtr::from_words([0; 3]),
            ..good.clone()
        };
        assert_eq!(decode(b"t", &empty.item().1), Ok(Some(empty)));

        let mut unsealed = good.clone();
        unsealed.root.checksum = 0;
        let mut high = good.item().1;
        high[4] = 4;
        for (name, value, why) in [
            (&b"t"[..], &unsealed.item().1[..], "without a checksum"),
            (b"t", &high, "where none belong"),
            (b"t", &good.item().1[..31], "wrong length"),
            (b"t\xff", &good.item().1, "UTF-8"),
            (b"\xff", &good.item().1, "unknown kind"),
        ] {
            let damage = decode(name, value).unwrap_err();
            assert_eq!((damage.place, damage.tree), (5, Some(CATALOG)));
            assert!(damage.detail.contains(why), "{damage}");
        }
    }

    #[test]
    fn all_that_a_catalog_says_reads_back() {
        for n in [1, 5, 40, 3000] {
            let ptr = |i: usize| BlockPtr {
                checksum: 4,
                ..BlockPtr::unwritten(i as u64, Generation(3))
            };
            let trees: Vec<_> = (0..n)
                .map(|i| CatalogEntry {
                    name: format!("{i:05}{}", "x".repeat(i % 200)),
                    id: i as TreeId,
                    large: i % 3 == 0,
                    root: ptr(i),
                    origin: Generation(i as u64 % 4),
                })
                .collect();
            let doomed = (0..n / 2).map(|i| Doomed {
                number: i as u64,
                id: 7,
                large: i % 3 == 1,
                last: Generation(9),
                origin: Generation(i as u64 % 3),
                path: (0..1 + i % 5).map(|k| (ptr(k), k as u32)).collect(),
            });
            let held = (0..n / 3).map(|i| Held {
                generation: Generation(i as u64),
                name: "y".repeat(1 + i % MAX_NAME),
                csn: 5,
                created: 6,
                deleted: i % 2 == 0,
                level: 1,
                catalog: ptr(i),
                dead: if i % 3 == 0 {
                    BlockPtr::default()
                } else {
                    ptr(i)
                },
                dead_blocks: 7,
                list_blocks: 8,
                origins: (0..i % 5).map(|o| Generation(o as u64)).collect(),
            });
            let contents = Contents {
                trees,
                doomed: doomed.collect(),
                held: held.collect(),
            };
            let mut next = 100;
            let built = build(&contents.items(), 4096, 7, Generation(9), || {
                next += 1;
                next
            });
            let names = contents.trees.iter().map(|e| e.name.len());
            let snapshots = contents.held.iter().map(|h| h.name.len());
            let needed = blocks_needed(names, contents.doomed.len(), snapshots, 4096);
            assert!(
                built.images.len() as u64 <= needed,
                "{n}: {} > {needed}",
                built.images.len()
            );
            let mut back = Contents::default();
            read(&built, built.root, &mut back);
            assert_eq!(back, contents);
        }
    }
}
