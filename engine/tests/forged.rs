//! Structures that verify and are wrong all the same: what a bug of ours, or a
//! forger, would leave. `check` names it; nothing panics, nothing runs for ever.

mod common;

use gaur::format::geometry::INDEX_LEVELS;
use gaur::format::space::{self, IndexEntry, SpaceHeader};
use gaur::format::superblock::Superblock;
use gaur::format::{BlockPtr, ExtentPtr, Geometry, checksum};
use gaur::{CheckReport, Error, FormatOptions, OpenOptions, Store, check_device};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;

use common::{adds_up, check, checked, disk, open};

const BLOCK: u64 = 4096;

/// A store with one tree of one leaf: small values, and large ones.
fn build() -> (SimDisk, Forger) {
    let disk = disk(8, 96 << 20);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, 4 << 20);
    let tree = store.tree("tree").unwrap();
    for i in 0..10u8 {
        tree.put(&[b'a' + i; 5], &vec![i; if i < 4 { 9000 } else { 50 }])
            .unwrap();
    }
    drop(tree);
    store.close().unwrap();
    let report = checked(&disk);
    let sb = report.superblock;
    let forger = Forger {
        sb,
        g: Geometry {
            block_size: sb.block_size,
            capacity: sb.capacity,
            log_blocks: sb.log_blocks,
        },
    };
    (disk, forger)
}

/// Puts changed structures back so that they verify, up to the superblocks.
#[derive(Clone, Copy)]
struct Forger {
    sb: Superblock,
    g: Geometry,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn set(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// Where the value of a slot begins.
fn value_at(node: &[u8], slot: usize) -> usize {
    let at = (word(node, 64 + slot * 8) & 0xFFFF) as usize * 8;
    let key = (word(node, at) >> 16) as u16 as usize;
    at + 8 + key.next_multiple_of(8)
}

impl Forger {
    fn read(self, disk: &SimDisk, block: u64) -> Vec<u8> {
        disk.peek(block * BLOCK, BLOCK as usize)
    }

    fn superblocks(self, disk: &SimDisk) {
        for copy in 0..2 {
            let mut block = vec![0; BLOCK as usize];
            let place = self.g.superblock(copy);
            self.sb.seal(copy, place, &mut block);
            disk.poke(place * BLOCK, &block);
        }
    }

    fn catalog(mut self, disk: &SimDisk, block: &[u8]) {
        let ptr = self.sb.catalog();
        disk.poke(ptr.addr * BLOCK, block);
        let checksum = checksum::block(block, ptr.addr, ptr.birth.0);
        let level = self.sb.catalog_level;
        self.sb.set_catalog(BlockPtr { checksum, ..ptr }, level);
        self.superblocks(disk);
    }

    /// The root of the only tree.
    fn root(self, disk: &SimDisk) -> BlockPtr {
        let catalog = self.read(disk, self.sb.catalog().addr);
        let at = value_at(&catalog, 0) + 8;
        BlockPtr::from_words([0, 8, 16].map(|i| word(&catalog, at + i)))
    }

    fn leaf(self, disk: &SimDisk, block: &[u8]) {
        let ptr = self.root(disk);
        disk.poke(ptr.addr * BLOCK, block);
        let sum = checksum::block(block, ptr.addr, ptr.birth.0);
        let mut catalog = self.read(disk, self.sb.catalog().addr);
        let at = value_at(&catalog, 0) + 8;
        set(&mut catalog, at + 16, sum);
        self.catalog(disk, &catalog);
    }

    /// The map block of group 0.
    fn map_place(self, disk: &SimDisk) -> u64 {
        let index = self.read(disk, self.index_place(disk, 1));
        let entry = IndexEntry::decode(&index[space::HEADER..]);
        self.g.map_block(0, entry.slot)
    }

    fn index_place(self, disk: &SimDisk, level: u32) -> u64 {
        let mut slot = self.sb.map_slot;
        for above in (level + 1..=INDEX_LEVELS).rev() {
            let block = self.read(disk, self.g.index_block(above, 0, slot));
            slot = IndexEntry::decode(&block[space::HEADER..]).slot;
        }
        self.g.index_block(level, 0, slot)
    }

    /// Puts a changed map block back, its count and free made right.
    fn map(mut self, disk: &SimDisk, body: &[u8]) {
        let mut block = body.to_vec();
        let mut header = SpaceHeader::decode(&block);
        let ones: u32 = block[space::HEADER..].iter().map(|b| b.count_ones()).sum();
        header.count = (BLOCK as u32 - space::HEADER as u32) * 8 - ones;
        let mut sum = space::seal(&header, &mut block);
        let place = self.map_place(disk);
        let places: Vec<u64> = (1..=INDEX_LEVELS)
            .map(|l| self.index_place(disk, l))
            .collect();
        disk.poke(place * BLOCK, &block);
        let mut free = u64::from(header.count);
        for place in places {
            let mut index = self.read(disk, place);
            let mut entry = IndexEntry::decode(&index[space::HEADER..]);
            (entry.checksum, entry.free) = (sum, free);
            entry.encode(&mut index[space::HEADER..]);
            let header = SpaceHeader::decode(&index);
            sum = space::seal(&header, &mut index);
            disk.poke(place * BLOCK, &index);
            let entries = index[space::HEADER..].chunks_exact(IndexEntry::SIZE);
            free = entries
                .take(header.count as usize)
                .map(|e| IndexEntry::decode(e).free)
                .sum();
        }
        (self.sb.map_checksum, self.sb.map_free) = (sum, free);
        self.superblocks(disk);
    }
}

fn details(report: &CheckReport) -> String {
    let lines: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Whatever it says, it comes back.
fn survive(disk: &SimDisk) -> bool {
    let report = check_device(disk.device(), &Default::default());
    let options = OpenOptions {
        read_only: true,
        cache_bytes: 1 << 20,
        ..OpenOptions::default()
    };
    if let Ok(store) = Store::open_device(disk.device(), &options) {
        for name in store.tree_names() {
            let tree = store.open_tree(&name).unwrap();
            let _ = tree.get(b"ccccc");
            let _ = tree.iter().unwrap().take(1000).count();
            let _ = tree.iter().unwrap().rev().take(1000).count();
        }
    }
    let options = gaur::inspect::InspectOptions::default();
    for look in [
        gaur::inspect::superblock_device,
        gaur::inspect::log_device,
        gaur::inspect::map_device,
        gaur::inspect::tree_device,
    ] {
        let _ = look(disk.device(), &options);
    }
    report.is_ok_and(|r| r.clean)
}

#[test]
fn a_map_that_is_wrong_is_accounted_for() {
    let (disk, forger) = build();
    let sound = checked(&disk);
    let root = forger.root(&disk).addr;
    let map = forger.read(&disk, forger.map_place(&disk));
    let bit = |block: u64| (space::HEADER + block as usize / 8, 1u8 << (block % 8));

    // Sealed again without a change, it is as it was.
    let same = disk.snapshot();
    forger.map(&same, &map);
    checked(&same);

    let freed = disk.snapshot();
    let mut body = map.clone();
    let (byte, mask) = bit(root);
    assert!(body[byte] & mask != 0);
    body[byte] &= !mask;
    forger.map(&freed, &body);
    let report = check(&freed);
    assert_eq!(report.problem_count(), 1, "{}", details(&report));
    assert_eq!(
        (report.problems[0].what, report.problems[0].place),
        ("space", root)
    );
    assert_eq!(report.blocks.reached_but_free, 1);
    adds_up(&report);

    let leaked = disk.snapshot();
    let mut body = map;
    let last = forger.g.capacity - 1;
    for block in [last - 5, last - 4, last] {
        let (byte, mask) = bit(block);
        assert!(body[byte] & mask == 0);
        body[byte] |= mask;
    }
    forger.map(&leaked, &body);
    let report = check(&leaked);
    assert_eq!(report.problem_count(), 1, "{}", details(&report));
    assert_eq!(report.problems[0].place, last - 5);
    assert_eq!(report.blocks.unaccounted, 3);
    assert_eq!(report.blocks.free, sound.blocks.free - 3);
    adds_up(&report);
}

#[test]
fn a_block_that_is_used_twice_is_named() {
    let (disk, forger) = build();
    let mut leaf = forger.read(&disk, forger.root(&disk).addr);
    // The first large value gets the pointer of the second.
    let (to, from) = (value_at(&leaf, 0), value_at(&leaf, 1));
    let stolen = ExtentPtr::decode(&leaf[from..from + 32]).unwrap();
    leaf.copy_within(from..from + 32, to);
    forger.leaf(&disk, &leaf);
    let report = check(&disk);
    let text = details(&report);
    assert_eq!(report.blocks.doubly_used, 3, "{text}");
    assert_eq!(report.blocks.unaccounted, 3);
    assert!(
        report
            .problems
            .iter()
            .any(|p| { p.place == stolen.addr && p.tree.as_ref().is_some_and(|t| t.1 == "tree") })
    );
    assert!(
        text.contains("reached twice") && text.contains("nothing reaches"),
        "{text}"
    );
    adds_up(&report);
}

#[test]
fn a_node_from_the_future_is_named() {
    let (disk, forger) = build();
    let root = forger.root(&disk).addr;
    let mut leaf = forger.read(&disk, root);
    set(&mut leaf, 24, 1 << 40);
    forger.leaf(&disk, &leaf);
    let report = check(&disk);
    assert_eq!(report.problem_count(), 1, "{}", details(&report));
    assert_eq!(report.problems[0].place, root);
    assert!(report.problems[0].detail.contains("has commit"));
    // It is still walked.
    assert_eq!(report.trees[1].records, 10);
}

#[test]
fn pointers_that_lead_astray_are_refused() {
    let (disk, forger) = build();
    let catalog = forger.read(&disk, forger.sb.catalog().addr);
    let at = value_at(&catalog, 0) + 8;
    let words = [0, 8, 16].map(|i| word(&catalog, at + i));
    let ptr = BlockPtr::from_words(words);
    let bad = [
        BlockPtr { addr: 0, ..ptr },
        BlockPtr { addr: 256, ..ptr },
        BlockPtr {
            addr: forger.g.capacity,
            ..ptr
        },
        BlockPtr {
            addr: (1 << 40) - 1,
            ..ptr
        },
        BlockPtr { flags: 1, ..ptr },
        BlockPtr { len: 2, ..ptr },
        // The tree of trees itself.
        forger.sb.catalog(),
    ];
    for wrong in bad {
        let forged = disk.snapshot();
        let mut block = catalog.clone();
        for (i, w) in wrong.to_words().into_iter().enumerate() {
            set(&mut block, at + i * 8, w);
        }
        forger.catalog(&forged, &block);
        let report = check(&forged);
        assert!(!report.clean, "{wrong:?}");
        let options = OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        };
        let store = Store::open_device(forged.device(), &options).unwrap();
        let got = store.open_tree("tree").unwrap().get(b"ccccc");
        assert!(matches!(got, Err(Error::Damaged(_))), "{wrong:?}: {got:?}");
    }
}

fn spoil(bytes: &mut [u8], r: &mut Rng) {
    for _ in 0..r.random_range(1..4) {
        let at = match r.random_range(0..3) {
            0 => r.random_range(0..bytes.len().min(64)),
            1 => r.random_range(0..bytes.len().min(256)),
            _ => r.random_range(0..bytes.len()),
        };
        bytes[at] = r.random();
    }
}

/// Random bytes in structures that are then sealed, so that only their meaning is
/// left to be checked.
#[test]
fn nonsense_that_verifies_harms_nobody() {
    let seed = rng::fresh_seed();
    println!("seed {seed}");
    let mut r = rng::seeded(seed);
    let (disk, forger) = build();
    let root = forger.root(&disk).addr;
    let mut clean = 0;
    for round in 0..400 {
        let forged = disk.snapshot();
        match round % 4 {
            0 => {
                let mut leaf = forger.read(&disk, root);
                // Entries are at the end of the block.
                let end = leaf.len();
                spoil(&mut leaf, &mut r);
                spoil(&mut leaf[end - 900..], &mut r);
                forger.leaf(&forged, &leaf);
            }
            1 => {
                let mut catalog = forger.read(&disk, forger.sb.catalog().addr);
                let end = catalog.len();
                spoil(&mut catalog, &mut r);
                spoil(&mut catalog[end - 100..], &mut r);
                forger.catalog(&forged, &catalog);
            }
            2 => {
                let mut map = forger.read(&disk, forger.map_place(&disk));
                spoil(&mut map[space::HEADER..], &mut r);
                forger.map(&forged, &map);
            }
            _ => {
                let mut bytes = vec![0; Superblock::SIZE];
                forger.sb.encode(&mut bytes);
                for _ in 0..r.random_range(1..4) {
                    bytes[r.random_range(64..208)] = r.random();
                }
                let sb = Superblock::decode(&bytes);
                Forger { sb, ..forger }.superblocks(&forged);
            }
        }
        clean += usize::from(survive(&forged));
    }
    assert!(clean < 200, "{clean} of 400 forgeries were not told");
}
