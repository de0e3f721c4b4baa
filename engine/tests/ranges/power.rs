//! Power cuts at every write of what deletes a range and frees what was in it.

use gaur::{Durability, FormatOptions, OpenOptions, Store};

use super::{MIB, Model, contents, fill, formatted, key, settle, used};
use crate::common::{self, checked, open};

/// Long keys, so that there are four levels and more.
fn long(i: u32) -> Vec<u8> {
    [key(i), vec![b'k'; 500]].concat()
}

#[test]
fn a_range_is_deleted_whole_or_not_at_all() {
    let disk = formatted(32 * MIB);
    let store = open(&disk, 8 * MIB);
    let tree = store.tree("t").unwrap();
    let mut model = Model::new();
    for i in 0..900 {
        let value = if i % 90 == 7 {
            vec![1; 9000]
        } else {
            vec![7; 200]
        };
        tree.put_with(&long(i), &value, Durability::Buffered)
            .unwrap();
        model.insert(long(i), value);
    }
    let named = store.create_snapshot("s").unwrap();
    let before = model.clone();
    for i in (0..900).step_by(3) {
        tree.put_with(&long(i), b"new", Durability::Buffered)
            .unwrap();
        model.insert(long(i), b"new".to_vec());
    }
    store.flush().unwrap();

    disk.record_cuts();
    tree.delete_range(long(100)..long(800)).unwrap();
    disk.mark(1);
    // Among what was deleted, and once more.
    tree.put(&long(400), b"again").unwrap();
    tree.delete_range(long(300)..).unwrap();
    disk.mark(2);
    drop(named);
    store.delete_snapshot("s").unwrap();
    settle(&store);
    store.close().unwrap();
    let cuts = disk.take_cuts();
    assert!(cuts.len() > 20, "{}", cuts.len());
    let after = |step: u64| {
        let mut m = model.clone();
        if step >= 1 {
            m.retain(|k, _| *k < long(100) || *k >= long(800));
        }
        if step == 2 {
            m.insert(long(400), b"again".to_vec());
        }
        if step == 3 {
            m.retain(|k, _| *k < long(300));
        }
        m
    };
    let mut seen = [0; 4];
    for (i, cut) in cuts.iter().enumerate() {
        for seed in 0..if i < 6 { 8 } else { 2 } {
            let disk = cut.crash(seed);
            let what = format!("cut {i} of {}, seed {seed}", cuts.len());
            checked(&disk);
            let read_only = OpenOptions {
                read_only: true,
                ..OpenOptions::default()
            };
            let beside = Store::open_device(disk.device(), &read_only).unwrap();
            let there = contents(&beside.open_tree("t").unwrap());
            drop(beside);
            let step = (0..4).rev().find(|s| there == after(*s));
            let step = step.unwrap_or_else(|| panic!("{what}: {} records", there.len()));
            assert!([0, 1, 3][cut.mark as usize] <= step, "{what}: {step}");
            seen[step as usize] += 1;
            let store = open(&disk, 8 * MIB);
            let tree = store.open_tree("t").unwrap();
            assert!(contents(&tree) == there, "{what}");
            if let Ok(named) = store.open_snapshot("s") {
                assert!(contents(&named.tree("t").unwrap()) == before, "{what}");
                drop(named);
                store.delete_snapshot("s").unwrap();
            }
            tree.delete_range(..).unwrap();
            settle(&store);
            store.close().unwrap();
            assert!(used(&disk) <= 4, "{what}: {}", used(&disk));
        }
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

/// A log that alone holds many deletes of ranges is replayed, with a cache that is much
/// smaller than what they are deleted from.
#[test]
fn the_log_deletes_ranges_again() {
    let disk = common::disk(1, 64 * MIB);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, MIB);
    let tree = store.tree("t").unwrap();
    fill(&tree, 0..20_000, &[5; 150]);
    store.checkpoint().unwrap();
    let mut model = contents(&tree);
    for i in 0..40u32 {
        let (from, to) = (i * 500, i * 500 + 300 + i);
        tree.delete_range_with(key(from)..key(to), Durability::Buffered)
            .unwrap();
        model.retain(|k, _| *k < key(from) || *k >= key(to));
        tree.put_with(&key(from + 7), b"later", Durability::Buffered)
            .unwrap();
        model.insert(key(from + 7), b"later".to_vec());
    }
    assert!(contents(&tree) == model);
    store.flush().unwrap();
    let copy = disk.snapshot();
    checked(&copy);
    let store = open(&copy, MIB);
    assert!(contents(&store.open_tree("t").unwrap()) == model);
    settle(&store);
    store.close().unwrap();
    checked(&copy);
}
