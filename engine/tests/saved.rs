//! Named snapshots: what they have, what comes from them, and the space that is theirs.

mod common;

use std::collections::BTreeMap;

use common::{checked, open};
use gaur::{
    Durability, Error, FormatOptions, NamedSnapshot, OpenOptions, Store, TransactionOptions, Tree,
    WriteBatch,
};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;

const MIB: u64 = 1 << 20;
const CACHE: u64 = 4 * MIB;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn formatted(capacity: u64) -> SimDisk {
    let disk = common::disk(1, capacity);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    disk
}

fn contents(tree: &Tree) -> Model {
    tree.iter().unwrap().map(Result::unwrap).collect()
}

fn stat(store: &Store, group: &str, name: &str) -> u64 {
    store.stats().get(group, name).unwrap()
}

/// Waits until nothing is left of dropped trees and deleted snapshots.
fn settle(store: &Store) {
    loop {
        store.checkpoint().unwrap();
        if stat(store, "reclaim", "trees") == 0 && stat(store, "reclaim", "snapshots") == 0 {
            return store.checkpoint().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Blocks in use, all told.
fn used(disk: &SimDisk) -> u64 {
    let blocks = checked(disk).blocks;
    blocks.nodes + blocks.extents + blocks.kept
}

fn fill(tree: &Tree, keys: u32, byte: u8, len: usize) {
    for i in 0..keys {
        tree.put_with(&i.to_be_bytes(), &vec![byte; len], Durability::Buffered)
            .unwrap();
    }
}

#[test]
fn snapshots_have_one_name_each() {
    let disk = formatted(32 * MIB);
    let store = open(&disk, CACHE);
    let tree = store.tree("t").unwrap();
    tree.put(b"k", b"1").unwrap();
    let first = store.create_snapshot("a").unwrap();
    assert_eq!((first.name(), first.csn()), ("a", 2));
    let exists = |e: Error| matches!(e, Error::SnapshotExists(name) if name == "a");
    assert!(exists(store.create_snapshot("a").unwrap_err()));
    let none = |e: Error| matches!(e, Error::NoSuchSnapshot(name) if name == "b");
    assert!(none(store.open_snapshot("b").unwrap_err()));
    assert!(none(store.delete_snapshot("b").unwrap_err()));
    for name in ["".to_owned(), "x".repeat(256)] {
        let refused = store.create_snapshot(&name).unwrap_err();
        assert!(matches!(refused, Error::BadOption { .. }));
    }
    store.create_snapshot(&"x".repeat(255)).unwrap();
    store.close().unwrap();

    let store = open(&disk, CACHE);
    let names: Vec<_> = store.snapshots().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["a".to_owned(), "x".repeat(255)]);
    // The name is free again at once.
    store.delete_snapshot("a").unwrap();
    store.tree("t").unwrap().put(b"k", b"2").unwrap();
    store.create_snapshot("a").unwrap();
    let tree = store.open_snapshot("a").unwrap().tree("t").unwrap();
    assert_eq!(tree.get(b"k").unwrap().unwrap(), b"2");
    store.close().unwrap();
    let report = checked(&disk);
    assert_eq!(report.snapshots.len(), 2);
}

/// What only a deleted snapshot has becomes free, but not the large values that a snapshot
/// in memory, or a scan, may still read.
#[test]
fn a_view_keeps_a_large_value_that_a_deleted_snapshot_had() {
    let disk = formatted(32 * MIB);
    let store = open(&disk, CACHE);
    let tree = store.tree("t").unwrap();
    tree.put(b"large", &[1; 50_000]).unwrap();
    drop(store.create_snapshot("s").unwrap());
    let view = store.snapshot().unwrap();
    tree.put(b"large", &[2; 50_000]).unwrap();
    store.checkpoint().unwrap();
    store.delete_snapshot("s").unwrap();
    settle(&store);
    // Blocks are handed out again in a while.
    for i in 0..100u32 {
        for round in 0..4 {
            tree.put_with(&i.to_be_bytes(), &[round; 60_000], Durability::Buffered)
                .unwrap();
        }
        store.checkpoint().unwrap();
    }
    assert_eq!(view.get(&tree, b"large").unwrap().unwrap(), [1; 50_000]);
    drop(view);
    store.drop_tree("t").unwrap();
    settle(&store);
    store.close().unwrap();
    assert_eq!(checked(&disk).blocks.extents, 0);
}

#[test]
fn a_snapshot_does_not_change() {
    let disk = formatted(64 * MIB);
    let store = open(&disk, CACHE);
    let tree = store.tree("t").unwrap();
    fill(&tree, 5000, 1, 100);
    tree.put(b"large", &[9; 40_000]).unwrap();
    let then = contents(&tree);
    let snapshot = store.create_snapshot("s").unwrap();
    for round in 2..5 {
        fill(&tree, 5000, round, 100);
        tree.put(b"large", &[round; 50_000]).unwrap();
        store.checkpoint().unwrap();
    }
    store.drop_tree("t").unwrap();
    store.tree("t").unwrap().put(b"k", b"v").unwrap();
    settle(&store);
    let look = |store: &Store| {
        let snapshot = store.open_snapshot("s").unwrap();
        assert_eq!(snapshot.tree_names(), ["t"]);
        let old = snapshot.tree("t").unwrap();
        assert!(contents(&old) == then);
        let mut back: Vec<_> = old.iter().unwrap().rev().map(Result::unwrap).collect();
        back.reverse();
        assert!(back.into_iter().eq(then.clone()));
        assert_eq!(old.get(b"large").unwrap().unwrap(), [9; 40_000]);
        assert_eq!(old.get(b"k").unwrap(), None);
        let none = snapshot.tree("u").unwrap_err();
        assert!(matches!(none, Error::NoSuchTree(_)));
        old
    };
    let old = look(&store);
    let frozen = |e: Error| matches!(e, Error::FrozenTree(name) if name == "t");
    assert!(frozen(old.put(b"k", b"v").unwrap_err()));
    assert!(frozen(old.put(b"k", &[0; 100_000]).unwrap_err()));
    assert!(frozen(old.delete(b"k").unwrap_err()));
    let mut batch = WriteBatch::new();
    batch.put(&old, b"k", b"v");
    assert!(frozen(store.commit(batch, Durability::Sync).unwrap_err()));
    // It may be read in a transaction beside other trees.
    let mut txn = store.begin(&TransactionOptions::default()).unwrap();
    let value = txn.get(&old, &[0; 4]).unwrap().unwrap();
    txn.put(&store.open_tree("t").unwrap(), b"copy", &value)
        .unwrap();
    txn.commit(Durability::Sync).unwrap();
    drop((old, snapshot));
    drop(store);
    checked(&disk);
    let read_only = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    look(&Store::open_device(disk.device(), &read_only).unwrap());
    let store = open(&disk, CACHE);
    look(&store);
    let held = store.snapshots()[0].held_bytes;
    assert!(held > 5000 * 100, "{held}");
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn what_a_clone_came_from_stays() {
    let disk = formatted(64 * MIB);
    let store = open(&disk, CACHE);
    let tree = store.tree("t").unwrap();
    fill(&tree, 2000, 1, 100);
    tree.put(b"large", &[9; 40_000]).unwrap();
    store.create_snapshot("s").unwrap();
    let s = store.open_snapshot("s").unwrap();
    fill(&tree, 2000, 2, 100);
    let clone = store.clone_tree(&s, "t", "c").unwrap();
    let mut model = contents(&clone);
    assert_eq!(model, contents(&s.tree("t").unwrap()));
    assert!(matches!(
        store.clone_tree(&s, "t", "t"),
        Err(Error::TreeExists(_))
    ));
    assert!(matches!(
        store.clone_tree(&s, "u", "d"),
        Err(Error::NoSuchTree(_))
    ));
    // The clone changes, merges away and grows, and what it came from does not.
    for i in (0..2000u32).filter(|i| i % 10 != 0) {
        clone
            .delete_with(&i.to_be_bytes(), Durability::Buffered)
            .unwrap();
        model.remove(&i.to_be_bytes()[..]);
    }
    clone.put(b"large", &[8; 30_000]).unwrap();
    model.insert(b"large".to_vec(), vec![8; 30_000]);
    let in_use = |e: Error| matches!(e, Error::SnapshotInUse { name, .. } if name == "s");
    assert!(in_use(store.delete_snapshot("s").unwrap_err()));
    drop((clone, s));
    drop(store);
    checked(&disk);
    let store = open(&disk, CACHE);
    assert!(in_use(store.delete_snapshot("s").unwrap_err()));
    let clone = store.open_tree("c").unwrap();
    assert!(contents(&clone) == model);
    // A snapshot with the clone in it needs the first one too.
    store.create_snapshot("s2").unwrap();
    store.drop_tree("c").unwrap();
    settle(&store);
    assert!(in_use(store.delete_snapshot("s").unwrap_err()));
    assert!(contents(&store.open_snapshot("s2").unwrap().tree("c").unwrap()) == model);
    store.delete_snapshot("s2").unwrap();
    settle(&store);
    store.delete_snapshot("s").unwrap();
    settle(&store);
    store.close().unwrap();
    let report = checked(&disk);
    assert_eq!((report.blocks.kept, report.snapshots.len()), (0, 0));
}

#[test]
fn what_is_held_stays_until_it_is_let_go() {
    let disk = formatted(64 * MIB);
    let store = open(&disk, CACHE);
    let tree = store.tree("t").unwrap();
    fill(&tree, 3000, 1, 200);
    store.checkpoint().unwrap();
    let then = contents(&tree);
    let old = store.create_snapshot("s").unwrap().tree("t").unwrap();
    store.delete_snapshot("s").unwrap();
    for round in 0..3 {
        fill(&tree, 3000, 2 + round, 200);
        store.checkpoint().unwrap();
    }
    assert!(contents(&old) == then);
    assert_eq!(stat(&store, "reclaim", "snapshots"), 1);
    drop(old);
    settle(&store);
    store.close().unwrap();
    assert_eq!(checked(&disk).blocks.kept, 0);
}

/// Snapshots, clones, drops and rollbacks at random, beside a model, through reopening and
/// power cuts; and in the end all space is back.
#[test]
fn a_store_of_snapshots_is_a_map_of_maps() {
    let seeds = match std::env::var("GAUR_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..6).collect(),
    };
    for seed in seeds {
        println!("GAUR_SEED={seed}");
        story(seed);
    }
}

fn story(seed: u64) {
    let mut r = rng::seeded(seed);
    let mut disk = formatted(96 * MIB);
    let mut trees: BTreeMap<String, Model> = BTreeMap::new();
    let mut saved: Vec<(String, BTreeMap<String, Model>)> = Vec::new();
    let mut next = 0;
    for round in 0..6 {
        let store = open(&disk, if round % 2 == 0 { CACHE } else { MIB });
        same(&store, &trees, &saved, round);
        for _ in 0..60 {
            step(&mut r, &store, &mut trees, &mut saved, &mut next);
        }
        same(&store, &trees, &saved, round);
        if round % 3 == 2 {
            store.close().unwrap();
        } else {
            store.flush().unwrap();
            disk = disk.crash(seed ^ round);
            drop(store);
        }
        checked(&disk);
    }
    let store = open(&disk, CACHE);
    for name in trees.keys() {
        store.drop_tree(name).unwrap();
    }
    settle(&store);
    // Clones pin what they came from, so the youngest go first.
    while let Some((name, _)) = saved.pop() {
        store.delete_snapshot(&name).unwrap();
        settle(&store);
    }
    store.close().unwrap();
    let blocks = checked(&disk).blocks;
    assert_eq!((blocks.nodes, blocks.extents, blocks.kept), (1, 0, 0));
}

fn same(
    store: &Store,
    trees: &BTreeMap<String, Model>,
    saved: &[(String, BTreeMap<String, Model>)],
    round: u64,
) {
    let names: Vec<_> = trees.keys().cloned().collect();
    assert_eq!(store.tree_names(), names, "round {round}");
    for (name, model) in trees {
        let found = contents(&store.open_tree(name).unwrap());
        assert!(found == *model, "round {round}: tree {name}");
    }
    let names: Vec<_> = store.snapshots().into_iter().map(|s| s.name).collect();
    assert!(names.iter().eq(saved.iter().map(|s| &s.0)), "{names:?}");
    for (name, then) in saved {
        let snapshot = store.open_snapshot(name).unwrap();
        assert!(snapshot.tree_names().iter().eq(then.keys()));
        for (tree, model) in then {
            let found = contents(&snapshot.tree(tree).unwrap());
            assert!(found == *model, "round {round}: {tree} in snapshot {name}");
        }
    }
}

fn step(
    r: &mut Rng,
    store: &Store,
    trees: &mut BTreeMap<String, Model>,
    saved: &mut Vec<(String, BTreeMap<String, Model>)>,
    next: &mut u32,
) {
    let pick = |r: &mut Rng, n: usize| (n > 0).then(|| r.random_range(0..n));
    let tree = pick(r, trees.len()).map(|i| trees.keys().nth(i).unwrap().clone());
    let from = pick(r, saved.len());
    *next += 1;
    match (r.random_range(0..20), tree, from) {
        (0, ..) if trees.len() < 5 => {
            let name = format!("t{next}");
            store.create_tree(&name).unwrap();
            trees.insert(name, Model::new());
        }
        (1, Some(name), _) => {
            store.drop_tree(&name).unwrap();
            trees.remove(&name);
        }
        (2, Some(name), _) => {
            let new = format!("r{next}");
            store.rename_tree(&name, &new).unwrap();
            let model = trees.remove(&name).unwrap();
            trees.insert(new, model);
        }
        (3 | 4, ..) if saved.len() < 6 => {
            let name = format!("s{next}");
            store.create_snapshot(&name).unwrap();
            saved.push((name, trees.clone()));
        }
        (5 | 6, _, Some(i)) => match store.delete_snapshot(&saved[i].0) {
            Ok(()) => drop(saved.remove(i)),
            Err(Error::SnapshotInUse { .. }) => {}
            Err(e) => panic!("{e}"),
        },
        (7, _, Some(i)) => {
            let snapshot: NamedSnapshot = store.open_snapshot(&saved[i].0).unwrap();
            let Some(k) = pick(r, saved[i].1.len()) else {
                return;
            };
            let (name, model) = saved[i].1.iter().nth(k).unwrap();
            if r.random() {
                let new = format!("c{next}");
                store.clone_tree(&snapshot, name, &new).unwrap();
                trees.insert(new, model.clone());
            } else {
                store.roll_back_tree(&snapshot, name).unwrap();
                trees.insert(name.clone(), model.clone());
            }
        }
        (8, _, Some(i)) if r.random_range(0..3) == 0 => {
            let snapshot = store.open_snapshot(&saved[i].0).unwrap();
            store.roll_back(&snapshot).unwrap();
            *trees = saved[i].1.clone();
        }
        (9, ..) => store.checkpoint().unwrap(),
        (_, Some(name), _) => {
            let tree = store.open_tree(&name).unwrap();
            let model = trees.get_mut(&name).unwrap();
            for _ in 0..r.random_range(1..200) {
                let key = common::key(r, 2000);
                if r.random_range(0..4) == 0 {
                    tree.delete_with(&key, Durability::Buffered).unwrap();
                    model.remove(&key);
                } else {
                    let value = common::value(r);
                    tree.put_with(&key, &value, Durability::Buffered).unwrap();
                    model.insert(key, value);
                }
            }
        }
        _ => {}
    }
}

/// Cuts the power at every write and flush of what takes, uses and deletes snapshots.
#[test]
fn a_power_cut_leaves_a_snapshot_whole_or_none() {
    let disk = formatted(48 * MIB);
    let store = open(&disk, CACHE);
    store.tree("t").unwrap();
    store.close().unwrap();
    let least = used(&disk);
    let store = open(&disk, CACHE);
    let tree = store.tree("t").unwrap();
    fill(&tree, 1500, 1, 100);
    tree.put(b"large", &[7; 20_000]).unwrap();
    let then = contents(&tree);
    store.checkpoint().unwrap();

    disk.record_cuts();
    store.create_snapshot("s").unwrap();
    disk.mark(1);
    fill(&tree, 1500, 2, 100);
    tree.put(b"large", &[8; 20_000]).unwrap();
    disk.mark(2);
    store.checkpoint().unwrap();
    let snapshot = store.open_snapshot("s").unwrap();
    store.roll_back_tree(&snapshot, "t").unwrap();
    disk.mark(3);
    settle(&store);
    store.drop_tree("t").unwrap();
    disk.mark(4);
    settle(&store);
    drop(snapshot);
    store.delete_snapshot("s").unwrap();
    disk.mark(5);
    settle(&store);
    store.close().unwrap();
    let cuts = disk.take_cuts();
    println!("{} cuts", cuts.len());
    for (i, cut) in cuts.iter().enumerate() {
        let what = format!("cut {i}, after step {}", cut.mark);
        let disk = cut.crash(i as u64);
        checked(&disk);
        let store = open(&disk, CACHE);
        let there = !store.snapshots().is_empty();
        match cut.mark {
            0 | 4 => {}
            1..4 => assert!(there, "{what}"),
            _ => assert!(!there, "{what}"),
        }
        if there {
            let snapshot = store.open_snapshot("s").unwrap();
            assert!(contents(&snapshot.tree("t").unwrap()) == then, "{what}");
        }
        if let Ok(tree) = store.open_tree("t") {
            let large = tree.get(b"large").unwrap().unwrap()[0];
            match cut.mark {
                0 => assert_eq!(large, 7, "{what}"),
                2 => {}
                3 => assert!(contents(&tree) == then, "{what}"),
                _ => {}
            }
            drop(tree);
            store.drop_tree("t").unwrap();
        }
        settle(&store);
        if there {
            store.delete_snapshot("s").unwrap();
            settle(&store);
        }
        store.tree("t").unwrap();
        store.close().unwrap();
        assert_eq!(used(&disk), least, "{what}");
    }
}
