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
