//! Damage in what is kept of the past: the map beside named snapshots and their dead lists, a
//! dead list itself, a tree that was dropped. Told, passed over, and the rest goes on.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::{check, checked, disk, open};
use gaur::inspect::{InspectOptions, map_device, tree_device};
use gaur::{Durability, FormatOptions, Store, Tree};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng;
use rand::RngExt;

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;
const BUFFERED: Durability = Durability::Buffered;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn fill(tree: &Tree, keys: u32, byte: u8) {
    for key in 0..keys {
        let len = if key % 40 == 3 { 9000 } else { 120 };
        tree.put_with(&key.to_be_bytes(), &vec![byte; len], BUFFERED)
            .unwrap();
    }
}

fn contents(tree: &Tree) -> Records {
    tree.iter().unwrap().map(Result::unwrap).collect()
}

fn stat(store: &Store, group: &str, name: &str) -> u64 {
    store.stats().get(group, name).unwrap()
}

/// A store with two named snapshots, a deleted one that a clone needs still, dead lists of
/// nodes and of large values; and what the trees and the snapshots hold.
fn build() -> (SimDisk, BTreeMap<String, Records>) {
    let disk = disk(3, 64 * MIB);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, 4 * MIB);
    let tree = store.tree("t").unwrap();
    let mut model = BTreeMap::new();
    for (byte, name) in [(1, "one"), (2, "two"), (3, "three")] {
        fill(&tree, 1500 - 200 * u32::from(byte), byte);
        drop(store.create_snapshot(name).unwrap());
        model.insert(name.to_owned(), contents(&tree));
    }
    fill(&tree, 900, 9);
    for key in (0..900u32).step_by(7) {
        tree.delete_with(&key.to_be_bytes(), BUFFERED).unwrap();
    }
    store.checkpoint().unwrap();
    // What only the first and the second have goes to the list of the first.
    store.delete_snapshot("two").unwrap();
    model.remove("two");
    settle(&store);
    model.insert("t".to_owned(), contents(&tree));
    drop(tree);
    store.close().unwrap();
    assert!(checked(&disk).blocks.kept > 100);
    (disk, model)
}

/// Waits until nothing is left of dropped trees and deleted snapshots.
fn settle(store: &Store) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        store.checkpoint().unwrap();
        if stat(store, "reclaim", "trees") == 0 && stat(store, "reclaim", "snapshots") == 0 {
            return store.checkpoint().unwrap();
        }
        assert!(Instant::now() < end, "{:?}", store.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Everything reads as it did.
fn read_all(store: &Store, model: &BTreeMap<String, Records>) {
    for (name, records) in model {
        let tree = match name.as_str() {
            "t" => store.open_tree("t").unwrap(),
            snapshot => store.open_snapshot(snapshot).unwrap().tree("t").unwrap(),
        };
        assert!(contents(&tree) == *records, "{name}");
    }
}

/// The block that a text says a pointer leads to.
fn block_in(text: &str) -> u64 {
    let number = text.strip_prefix("block ").unwrap().split(',').next();
    number.unwrap().parse().unwrap()
}

/// Goes on writing after damage was met.
fn work(store: &Store) {
    let tree = store
        .tree("new")
        .unwrap_or_else(|e| panic!("{e}: {:?}", store.notes()));
    fill(&tree, 400, 5);
    (0..3).for_each(|_| store.checkpoint().unwrap());
    fill(&tree, 400, 6);
    (0..3).for_each(|_| store.checkpoint().unwrap());
}

#[test]
fn a_map_beside_snapshots_is_rebuilt_with_what_they_have() {
    let (disk, model) = build();
    let options = InspectOptions::default();
    let seen = map_device(disk.device(), &options).unwrap();
    let mut r = rng::seeded(1);
    let mut looked = 0;
    for row in &seen.sections[2].rows {
        let bad = disk.snapshot();
        let place: u64 = row[2].parse().unwrap();
        bad.flip_bit(place * BLOCK + r.random_range(0..BLOCK), 3);
        let report = check(&bad);
        assert_eq!(report.problem_count(), 1, "{:?}", report.problems);
        assert_eq!(report.problems[0].what, "map block");
        let store = open(&bad, 4 * MIB);
        work(&store);
        assert!(stat(&store, "allocator", "groups_rebuilt") >= 1);
        read_all(&store, &model);
        // What was kept is known for what it is: it comes back with the snapshots.
        for name in ["one", "three"] {
            store.delete_snapshot(name).unwrap();
        }
        settle(&store);
        store.close().unwrap();
        let blocks = checked(&bad).blocks;
        assert_eq!((blocks.kept, blocks.unknown), (0, 0));
        looked += 1;
    }
    assert!(looked > 0);
}

#[test]
fn a_map_is_rebuilt_with_what_is_left_of_a_deleted_snapshot() {
    let (disk, model) = build();
    let store = open(&disk, 4 * MIB);
    // Held, so that nothing of it is freed; and the store is not closed.
    let held = store.open_snapshot("three").unwrap();
    store.delete_snapshot("three").unwrap();
    store.checkpoint().unwrap();
    let bad = disk.snapshot();
    drop(held);
    drop(store);
    let seen = map_device(bad.device(), &InspectOptions::default()).unwrap();
    for row in &seen.sections[2].rows {
        let place: u64 = row[2].parse().unwrap();
        bad.flip_bit(place * BLOCK + 700, 3);
    }
    let store = open(&bad, 4 * MIB);
    work(&store);
    settle(&store);
    let rest: BTreeMap<_, _> = model
        .into_iter()
        .filter(|(name, _)| name != "three")
        .collect();
    read_all(&store, &rest);
    store.close().unwrap();
    checked(&bad);
}

#[test]
fn a_damaged_dead_list_keeps_its_blocks_and_nothing_else() {
    let (disk, model) = build();
    let seen = tree_device(disk.device(), &InspectOptions::default()).unwrap();
    let snapshots = &seen.sections[1];
    let row = snapshots.rows.iter().find(|row| row[0] == "three").unwrap();
    let place = block_in(&row[4]);
    disk.flip_bit(place * BLOCK + 555, 2);
    let report = check(&disk);
    let told = |p: &gaur::check::Problem| p.place == place && p.what == "dead list";
    assert!(report.problems.iter().any(told), "{:?}", report.problems);

    let store = open(&disk, 4 * MIB);
    read_all(&store, &model);
    // It is deleted; what was on the list is never free again, and that is told.
    store.delete_snapshot("three").unwrap();
    work(&store);
    let notes = store.notes();
    assert!(notes.iter().any(|n| n.contains("\"three\"")), "{notes:?}");
    assert_eq!(store.snapshots().len(), 1);
    let rest: BTreeMap<_, _> = model
        .into_iter()
        .filter(|(name, _)| name != "three")
        .collect();
    read_all(&store, &rest);
    store.delete_snapshot("one").unwrap();
    work(&store);
    store.close().unwrap();
    let report = check(&disk);
    assert_eq!(report.blocks.doubly_used, 0);
    assert!(report.problems.iter().any(|p| p.place == place));
    let store = open(&disk, 4 * MIB);
    work(&store);
    store.close().unwrap();
}

#[test]
fn a_damaged_node_of_a_dropped_tree_is_told_and_the_store_goes_on() {
    let disk = disk(4, 64 * MIB);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, 4 * MIB);
    fill(&store.tree("gone").unwrap(), 2000, 1);
    fill(&store.tree("t").unwrap(), 500, 2);
    store.checkpoint().unwrap();
    // Who sees it still keeps it from being freed.
    let seen = store.transaction().unwrap();
    store.drop_tree("gone").unwrap();
    store.checkpoint().unwrap();
    let bad = disk.snapshot();
    drop(seen);
    drop(store);
    let shown = tree_device(bad.device(), &InspectOptions::default()).unwrap();
    let row = shown.sections[0]
        .rows
        .iter()
        .find(|row| row[0] == "(dropped)");
    let place = block_in(&row.unwrap()[2]);
    bad.flip_bit(place * BLOCK + 99, 1);
    let report = check(&bad);
    assert!(
        report
            .problems
            .iter()
            .any(|p| p.place == place && p.what == "node")
    );

    let store = open(&bad, 4 * MIB);
    let end = Instant::now() + Duration::from_secs(30);
    while !store.notes().iter().any(|n| n.contains("dropped tree")) {
        assert!(Instant::now() < end, "{:?}", store.notes());
        store.checkpoint().unwrap();
    }
    work(&store);
    let t = contents(&store.open_tree("t").unwrap());
    assert_eq!(t.len(), 500);
    // A tree that is dropped later is freed all the same.
    store.drop_tree("t").unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while stat(&store, "reclaim", "trees") > 1 {
        assert!(Instant::now() < end, "{:?}", store.stats());
        store.checkpoint().unwrap();
    }
    store.close().unwrap();
    let report = check(&bad);
    assert_eq!(report.blocks.doubly_used, 0);
    assert!(report.problems.iter().any(|p| p.place == place));
}
