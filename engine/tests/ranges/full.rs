//! Deleting ranges where space or memory is short.

use gaur::{Durability, Error, OpenOptions, Store, Tree};

use super::{MIB, contents, fill, formatted, key, settle, stat};
use crate::common::{checked, open};

/// Puts until the store is full; how many there were room for.
fn fill_up(tree: &Tree) -> u32 {
    for i in 0.. {
        match tree.put_with(&key(i), &[1; 900], Durability::Buffered) {
            Ok(_) => {}
            Err(Error::Full { .. }) => return i,
            Err(e) => panic!("{e}"),
        }
    }
    unreachable!()
}

#[test]
fn a_full_store_deletes_a_range_and_takes_more() {
    let disk = formatted(32 * MIB);
    let store = open(&disk, 8 * MIB);
    let tree = store.tree("t").unwrap();
    let first = fill_up(&tree);
    for round in 0..3 {
        // To the end: what is put behind all others fills its leaves.
        tree.delete_range(key(100)..).unwrap();
        assert_eq!(contents(&tree).len(), 100, "round {round}");
        settle(&store);
        let again = fill_up(&tree);
        assert!(again >= first * 9 / 10, "{first} and then {again}");
    }
    let n = |name| stat(&store, "reservations", name);
    let taken = n("taken_from_channel") + n("taken_by_request");
    let placed = n("blocks_used") + n("blocks_returned") + n("blocks_stashed");
    assert_eq!(taken, placed);
    store.close().unwrap();
    checked(&disk);
}

/// Six levels and more, in the smallest cache there may be: either there is room for what
/// is to be made, or that is said and nothing has happened.
#[test]
fn a_deep_tree_in_a_small_cache() {
    let disk = formatted(64 * MIB);
    let options = OpenOptions {
        cache_bytes: MIB,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let tree = store.tree("t").unwrap();
    let long = |i: u32| [vec![(i % 7) as u8], key(i), vec![b'k'; 1000]].concat();
    for i in 0..3000 {
        tree.put_with(&long(i), b"v", Durability::Buffered).unwrap();
    }
    let mut all = contents(&tree);
    for (from, to) in [(900, 2000), (7, 13), (1, 2995)] {
        let range = long(from)..long(to);
        match tree.delete_range(range.clone()) {
            Ok(_) => all.retain(|k, _| !range.contains(k)),
            Err(e) => assert!(matches!(e, Error::BatchTooWide { .. }), "{e}"),
        }
        assert!(contents(&tree) == all);
        fill(&tree, from..to, b"more");
        all.extend((from..to).map(|i| (key(i), b"more".to_vec())));
        store.checkpoint().unwrap();
        assert!(contents(&tree) == all);
    }
    tree.delete_range(..).unwrap();
    settle(&store);
    store.close().unwrap();
    assert!(checked(&disk).blocks.nodes < 10);
}

/// A clone deletes ranges of what is the snapshot's: that stays, and the clone's own goes.
#[test]
fn a_clone_deletes_ranges_of_what_it_came_from() {
    let disk = formatted(64 * MIB);
    let store = open(&disk, 2 * MIB);
    let tree = store.tree("t").unwrap();
    fill(&tree, 0..8000, &[3; 100]);
    tree.put(&key(5000), &[9; 50_000]).unwrap();
    let then = contents(&tree);
    let snapshot = store.create_snapshot("s").unwrap();
    store.drop_tree("t").unwrap();
    let clone = store.clone_tree(&snapshot, "t", "u").unwrap();
    fill(&clone, 3000..4000, b"of the clone");
    clone.put(&key(3500), &[7; 50_000]).unwrap();
    clone.delete_range(key(1000)..key(7000)).unwrap();
    let view = store.snapshot().unwrap();
    clone.delete_range(key(500)..).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(view.iter(&clone).unwrap().count(), 2000);
    drop(view);
    settle(&store);
    checked(&disk.snapshot());
    assert_eq!(contents(&clone).len(), 500);
    let old = snapshot.tree("t").unwrap();
    assert!(contents(&old) == then);
    drop((snapshot, old));
    let held = store.delete_snapshot("s").unwrap_err();
    assert!(matches!(held, Error::SnapshotInUse { .. }), "{held}");
    store.drop_tree("u").unwrap();
    settle(&store);
    store.delete_snapshot("s").unwrap();
    settle(&store);
    store.close().unwrap();
    assert!(checked(&disk).blocks.nodes < 10);
}
