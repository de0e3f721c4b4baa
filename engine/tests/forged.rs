//! Structures that verify and are wrong all the same: what a bug of ours, or a
//! forger, would leave. `check` names it; nothing panics, nothing runs for ever.

mod common;

use gaur::format::space;
use gaur::format::superblock::Superblock;
use gaur::format::{BlockPtr, ExtentPtr};
use gaur::{CheckReport, Error, FormatOptions, OpenOptions, Store};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;

use common::forger::{Forger, set, value_at, word};
use common::visit::look;
use common::{adds_up, check, checked, disk, open};

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
    let forger = Forger::new(report.superblock);
    (disk, forger)
}

/// Puts a changed map block back, its count and free made right.
fn put_map(forger: Forger, disk: &SimDisk, body: &[u8]) {
    let mut block = body.to_vec();
    let free = Forger::count(&mut block);
    forger.map(disk, 0, &block, Some(free.into()));
}

fn details(report: &CheckReport) -> String {
    let lines: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn a_map_that_is_wrong_is_accounted_for() {
    let (disk, forger) = build();
    let sound = checked(&disk);
    let root = forger.root(&disk).addr;
    let map = forger.read(&disk, forger.map_place(&disk, 0));
    let bit = |block: u64| (space::HEADER + block as usize / 8, 1u8 << (block % 8));

    // Sealed again without a change, it is as it was.
    let same = disk.snapshot();
    put_map(forger, &same, &map);
    checked(&same);

    let freed = disk.snapshot();
    let mut body = map.clone();
    let (byte, mask) = bit(root);
    assert!(body[byte] & mask != 0);
    body[byte] &= !mask;
    put_map(forger, &freed, &body);
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
    put_map(forger, &leaked, &body);
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
    forger.node(&disk, &leaf);
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
    forger.node(&disk, &leaf);
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
                forger.node(&forged, &leaf);
            }
            1 => {
                let mut catalog = forger.read(&disk, forger.sb.catalog().addr);
                let end = catalog.len();
                spoil(&mut catalog, &mut r);
                spoil(&mut catalog[end - 100..], &mut r);
                forger.catalog(&forged, &catalog);
            }
            2 => {
                let mut map = forger.read(&disk, forger.map_place(&disk, 0));
                spoil(&mut map[space::HEADER..], &mut r);
                put_map(forger, &forged, &map);
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
        clean += usize::from(look(&forged));
    }
    assert!(clean < 200, "{clean} of 400 forgeries were not told");
}

#[test]
fn superblock_copies_that_do_not_belong_together_are_named() {
    let (disk, forger) = build();
    let mut other = forger;
    other.sb.store_id ^= 1;
    other.sb.generation -= 1;
    other.superblock(&disk, 1);
    let report = check(&disk);
    let text = details(&report);
    assert!(text.contains("of different stores"), "{text}");
    assert_eq!(report.problems[0].place, forger.g.superblock(1));
}

#[test]
fn commits_behind_a_clean_close_are_named() {
    let disk = disk(8, 96 << 20);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, 4 << 20);
    let tree = store.tree("tree").unwrap();
    store.checkpoint().unwrap();
    tree.put(b"k", b"v").unwrap();
    drop((tree, store));
    let sound = checked(&disk);
    assert_eq!(sound.log.commits_to_replay, 1);
    let mut forger = Forger::new(sound.superblock);
    forger.sb.flags |= gaur::format::superblock::FLAG_CLEAN;
    forger.superblocks(&disk);
    let report = check(&disk);
    let text = details(&report);
    assert!(
        text.contains("closed cleanly, but 1 commits lie in the log"),
        "{text}"
    );
}
