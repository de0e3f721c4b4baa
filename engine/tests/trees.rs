//! Trees as wholes: made, renamed, dropped; before and after the log is replayed, and
//! with the space that comes back.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{checked, open};
use gaur::{
    Durability, Error, FormatOptions, OpenOptions, Store, TransactionOptions, Tree, WriteBatch,
};
use gaur_iodriver::sim::SimDisk;

const MIB: u64 = 1 << 20;

fn formatted(capacity: u64) -> SimDisk {
    let disk = common::disk(1, capacity);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    disk
}

fn fill(tree: &Tree, keys: u32, value: &[u8]) {
    for i in 0..keys {
        tree.put_with(&i.to_be_bytes(), value, Durability::Buffered)
            .unwrap();
    }
}

fn records(tree: &Tree) -> usize {
    tree.iter().unwrap().map(Result::unwrap).count()
}

fn stat(store: &Store, group: &str, name: &str) -> u64 {
    store.stats().get(group, name).unwrap()
}

/// Waits until nothing is left of dropped trees, and what they had is free.
fn wait_reclaimed(store: &Store) {
    store.checkpoint().unwrap();
    while stat(store, "reclaim", "trees") > 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    store.checkpoint().unwrap();
}

/// Blocks in use, all told.
fn used(disk: &SimDisk) -> u64 {
    let report = checked(disk);
    report.blocks.nodes + report.blocks.extents
}

fn read_only(disk: &SimDisk) -> Store {
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options).unwrap()
}

#[test]
fn a_dropped_tree_is_gone_for_all_who_hold_it() {
    let disk = formatted(32 * MIB);
    let store = open(&disk, 8 * MIB);
    let tree = store.tree("t").unwrap();
    fill(&tree, 1000, b"old");
    let scan = tree.iter().unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut reading = store.begin(&TransactionOptions::default()).unwrap();
    assert_eq!(
        reading.get(&tree, &[0; 4]).unwrap().as_deref(),
        Some(&b"old"[..])
    );
    let other = store.tree("other").unwrap();

    store.drop_tree("t").unwrap();
    let gone = |e: Error| matches!(e, Error::TreeDropped(name) if name == "t");
    assert!(gone(tree.get(b"k").unwrap_err()));
    assert!(gone(tree.contains(b"k").unwrap_err()));
    assert!(gone(tree.put(b"k", b"v").unwrap_err()));
    assert!(gone(tree.delete(b"k").unwrap_err()));
    assert!(gone(tree.iter().unwrap().next().unwrap().unwrap_err()));
    assert!(gone(
        store.snapshot().unwrap().get(&tree, b"k").unwrap_err()
    ));
    // All or nothing, whatever else the commit writes.
    let mut batch = WriteBatch::new();
    batch.put(&other, b"a", b"1").put(&tree, b"b", b"2");
    assert!(gone(store.commit(batch, Durability::Sync).unwrap_err()));
    reading.put(&other, b"a", b"1").unwrap();
    assert!(gone(reading.commit(Durability::Sync).unwrap_err()));
    assert_eq!(other.get(b"a").unwrap(), None);
    assert!(matches!(store.open_tree("t"), Err(Error::NoSuchTree(_))));
    assert!(matches!(store.drop_tree("t"), Err(Error::NoSuchTree(_))));
    assert_eq!(store.tree_names(), ["other"]);

    // Who saw it before sees it still, whatever becomes of the name.
    let again = store.tree("t").unwrap();
    fill(&again, 10, b"new");
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    assert_eq!(scan.map(Result::unwrap).count(), 1000);
    assert_eq!(snapshot.iter(&tree).unwrap().count(), 1000);
    assert_eq!(snapshot.get(&tree, &[0; 4]).unwrap().unwrap(), b"old");
    assert_eq!(stat(&store, "reclaim", "trees"), 1);
    drop(snapshot);
    wait_reclaimed(&store);
    assert_eq!(records(&again), 10);
    assert!(gone(tree.get(b"k").unwrap_err()));
    store.close().unwrap();
    used(&disk);
}

#[test]
fn a_tree_keeps_its_handles_when_it_is_renamed() {
    let disk = formatted(32 * MIB);
    let store = open(&disk, 8 * MIB);
    let (a, b) = (store.tree("a").unwrap(), store.tree("b").unwrap());
    a.put(b"k", b"of a").unwrap();
    assert!(matches!(
        store.rename_tree("a", "b"),
        Err(Error::TreeExists(_))
    ));
    assert!(matches!(
        store.rename_tree("x", "y"),
        Err(Error::NoSuchTree(_))
    ));
    assert!(matches!(
        store.rename_tree("a", ""),
        Err(Error::BadOption { .. })
    ));
    // The two change names.
    store.rename_tree("a", "c").unwrap();
    store.rename_tree("b", "a").unwrap();
    store.rename_tree("c", "b").unwrap();
    assert_eq!((&*a.name(), &*b.name()), ("b", "a"));
    a.put(b"l", b"of a too").unwrap();
    let look = |store: &Store| {
        assert_eq!(store.tree_names(), ["a", "b"]);
        assert_eq!(records(&store.open_tree("a").unwrap()), 0);
        assert_eq!(records(&store.open_tree("b").unwrap()), 2);
    };
    look(&store);
    drop(store);
    // Beside the log, by the log, and without it.
    look(&read_only(&disk));
    let report = checked(&disk);
    let names: Vec<_> = report.recovery.trees.iter().map(|t| &t.name[..]).collect();
    assert_eq!(names, ["a", "b"]);
    let store = open(&disk, 8 * MIB);
    look(&store);
    store.close().unwrap();
    look(&open(&disk, 8 * MIB));
}

#[test]
fn the_space_of_a_dropped_tree_comes_back() {
    for large in [false, true] {
        let disk = formatted(64 * MIB);
        let store = open(&disk, 8 * MIB);
        store.tree("stays").unwrap().put(b"k", b"v").unwrap();
        store.close().unwrap();
        let before = used(&disk);

        let store = open(&disk, 8 * MIB);
        let tree = store.tree("big").unwrap();
        fill(&tree, 20_000, &[7; 200]);
        if large {
            for i in 0..20u32 {
                let value = vec![i as u8; 50_000];
                tree.put_with(&i.to_be_bytes(), &value, Durability::Buffered)
                    .unwrap();
            }
        }
        store.checkpoint().unwrap();
        // Half of it is new again when it is dropped.
        fill(&tree, 5_000, &[8; 200]);
        store.drop_tree("big").unwrap();
        wait_reclaimed(&store);
        let blocks = stat(&store, "reclaim", "blocks");
        assert!(blocks > 1000, "{blocks}");
        store.close().unwrap();
        assert_eq!(used(&disk), before, "large values: {large}");
    }
}

#[test]
fn a_full_store_drops_a_tree_and_takes_more() {
    let disk = formatted(32 * MIB);
    let store = open(&disk, 8 * MIB);
    let tree = store.tree("t").unwrap();
    let fill = |tree: &Tree| {
        for i in 0u64.. {
            match tree.put_with(&i.to_be_bytes(), &[1; 900], Durability::Buffered) {
                Ok(_) => {}
                Err(Error::Full { .. }) => return i,
                Err(e) => panic!("{e}"),
            }
        }
        unreachable!()
    };
    let first = fill(&tree);
    store.drop_tree("t").unwrap();
    wait_reclaimed(&store);
    let again = fill(&store.create_tree("t").unwrap());
    assert!(again >= first * 9 / 10, "{first} and then {again}");
    store.close().unwrap();
    used(&disk);
}

/// Cuts the power at every write and flush of what drops and reclaims trees: what was
/// acknowledged stays, every block is accounted for, and in the end it is all free.
#[test]
fn what_is_left_of_a_tree_survives_every_power_cut() {
    let disk = formatted(32 * MIB);
    // A tree of three levels, so that there is a way to be in the middle of.
    let store = open(&disk, 8 * MIB);
    store.tree("stays").unwrap().put(b"k", b"v").unwrap();
    store.close().unwrap();
    let least = used(&disk);
    let store = open(&disk, 8 * MIB);
    let tree = store.tree("t").unwrap();
    for i in 0..900u32 {
        let key = [vec![b'k'; 500], i.to_be_bytes().to_vec()].concat();
        tree.put_with(&key, &[7; 300], Durability::Buffered)
            .unwrap();
    }
    tree.put(b"large", &[9; 30_000]).unwrap();
    store.checkpoint().unwrap();

    disk.record_cuts();
    tree.put(b"more", b"x").unwrap();
    store.rename_tree("t", "u").unwrap();
    disk.mark(1);
    store.drop_tree("u").unwrap();
    disk.mark(2);
    wait_reclaimed(&store);
    store.close().unwrap();
    let cuts = disk.take_cuts();
    assert!(cuts.len() > 20, "{}", cuts.len());
    let mut seen = [0; 3];
    for (i, cut) in cuts.iter().enumerate() {
        for seed in 0..2 {
            let disk = cut.crash(seed);
            let what = format!("cut {i} of {}, seed {seed}", cuts.len());
            checked(&disk);
            let names = read_only(&disk).tree_names();
            let store = open(&disk, 8 * MIB);
            assert_eq!(store.tree_names(), names, "{what}");
            let dropped = match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["stays", "t"] if cut.mark < 1 => 0,
                ["stays", "u"] if cut.mark < 2 => 1,
                ["stays"] => 2,
                _ => panic!("{what}: {names:?} after step {}", cut.mark),
            };
            seen[dropped] += 1;
            if let Some(name) = names.get(1) {
                assert!(records(&store.open_tree(name).unwrap()) >= 901, "{what}");
                store.drop_tree(name).unwrap();
            }
            wait_reclaimed(&store);
            store.close().unwrap();
            assert_eq!(used(&disk), least, "{what}");
        }
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

/// Keys that begin alike take little in a leaf, and much in one that has others too.
#[test]
fn leaves_merge_only_if_all_fits_with_less_in_common() {
    let disk = formatted(32 * MIB);
    let store = open(&disk, 8 * MIB);
    let tree = store.tree("t").unwrap();
    let alike = |i: u32| [vec![b'p'; 600], i.to_be_bytes().to_vec()].concat();
    let keys = |i: u32| [i.to_be_bytes().to_vec(), alike(i)];
    // Only between others has a leaf two fences, and what these have in common.
    for i in (0..8).flat_map(|from| (from..400).step_by(8)) {
        for key in keys(i) {
            tree.put_with(&key, b"12345678", Durability::Buffered)
                .unwrap();
        }
    }
    for i in 0..400 {
        assert_eq!(records(&tree), 800 - 2 * i as usize);
        for key in keys(i) {
            tree.delete_with(&key, Durability::Buffered).unwrap();
        }
    }
    assert_eq!(records(&tree), 0);
    store.close().unwrap();
    used(&disk);
}

/// Commits to a tree, alone and together with another that is larger than the cache, while
/// it is dropped: no record of it follows its drop in the log, or the replay would refuse it.
#[test]
fn no_record_of_a_tree_follows_its_drop() {
    let filled = formatted(64 * MIB);
    let store = open(&filled, 8 * MIB);
    store.create_tree("t").unwrap();
    // Behind the other in a batch: a commit reads its leaves last.
    fill(&store.create_tree("stays").unwrap(), 20_000, &[1; 200]);
    store.close().unwrap();
    let refused = AtomicU64::new(0);
    for round in 0..30 {
        let disk = filled.snapshot();
        let store = open(&disk, MIB);
        let [tree, stays] = ["t", "stays"].map(|name| store.open_tree(name).unwrap());
        std::thread::scope(|s| {
            let (store, tree, stays, refused) = (&store, &tree, &stays, &refused);
            for thread in 0..3u32 {
                s.spawn(move || {
                    for i in 0u32.. {
                        let mut batch = WriteBatch::new();
                        for k in 0..if i % 2 == 0 { 1 } else { 10 } {
                            let key = [thread, i, k].map(|n| n.wrapping_mul(2_654_435_761));
                            batch.put(tree, &key[0].to_be_bytes(), &[3; 100]);
                            let key = (key[1].wrapping_add(key[2]) % 20_000).to_be_bytes();
                            batch.put(stays, &key, &i.to_be_bytes());
                        }
                        match store.commit(batch, Durability::Buffered) {
                            Ok(_) => {}
                            Err(Error::TreeDropped(_)) => break,
                            Err(e) => panic!("{e}"),
                        }
                    }
                    refused.fetch_add(1, Ordering::Relaxed);
                });
            }
            std::thread::sleep(Duration::from_millis(5));
            store.drop_tree("t").unwrap();
        });
        // The log is looked at before the next checkpoint truncates it.
        store.flush().unwrap();
        let report = common::check(&disk.snapshot());
        assert!(report.clean, "round {round}: {:?}", report.problems);
        drop(store);
        let store = open(&disk.crash(round), 8 * MIB);
        assert_eq!(store.tree_names(), ["stays"]);
        wait_reclaimed(&store);
        store.close().unwrap();
    }
    println!("{} writers met a drop", refused.into_inner());
}
