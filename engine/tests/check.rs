//! A sound store is found clean, whatever was done to it, and every block is
//! accounted for: after closing, after dropping, after power cuts.

mod common;
mod dirty;

use gaur::{Durability, FormatOptions, OpenOptions, Store, WriteBatch};
use gaur_iodriver::sync::rng;
use rand::RngExt;

use common::{checked, disk, key, open, value};

fn work(store: &Store, r: &mut rng::Rng, steps: u32) {
    let trees = ["one", "two", "three"].map(|n| store.tree(n).unwrap());
    for _ in 0..steps {
        let tree = &trees[r.random_range(0..3)];
        match r.random_range(0..100) {
            0..60 => {
                let (k, v) = (key(r, 2000), value(r));
                tree.put_with(&k, &v, Durability::Buffered).unwrap();
            }
            60..80 => {
                tree.delete_with(&key(r, 2000), Durability::Buffered)
                    .unwrap();
            }
            80..97 => {
                let mut batch = WriteBatch::new();
                for _ in 0..r.random_range(1..40) {
                    batch.put(tree, &key(r, 2000), &value(r));
                }
                store.commit(batch, Durability::Buffered).unwrap();
            }
            97 => store.checkpoint().unwrap(),
            _ => assert!(store.flush().is_ok()),
        }
    }
}

#[test]
fn a_sound_store_is_clean() {
    for seed in 0..6u64 {
        let mut r = rng::seeded(seed);
        let mut disk = disk(seed, 192 << 20);
        Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
        let report = checked(&disk);
        assert_eq!(report.trees.len(), 1);
        for round in 0..4 {
            let store = open(&disk, 1 << (20 + 2 * (round % 2)));
            work(&store, &mut r, 400);
            match round % 4 {
                0 => store.close().unwrap(),
                1 => drop(store),
                _ => {
                    disk.crash_after(r.random_range(1..20));
                    let tree = store.tree("one").unwrap();
                    while disk.is_powered() {
                        let (k, v) = (key(&mut r, 2000), value(&mut r));
                        let _ = tree.put(&k, &v);
                        if r.random_bool(0.1) {
                            let _ = store.checkpoint();
                        }
                    }
                    drop(tree);
                    drop(store);
                    disk = disk.crash(seed * 10 + round);
                }
            }
            let report = checked(&disk);
            println!(
                "seed {seed} round {round}: {:?}, {} to replay",
                report.blocks, report.log.commits_to_replay
            );
            let facts: u64 = report.trees.iter().map(|t| t.records).sum();
            assert!(round > 0 || facts > 0);
        }
    }
}

#[test]
fn the_facts_are_those_of_the_trees() {
    let disk = disk(9, 96 << 20);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, 4 << 20);
    let tree = store.tree("t").unwrap();
    for i in 0..5000u32 {
        tree.put_with(&i.to_be_bytes(), &[7; 100], Durability::Buffered)
            .unwrap();
    }
    tree.put(b"large", &vec![3; 100_000]).unwrap();
    store.close().unwrap();
    let report = checked(&disk);
    let t = &report.trees[1];
    assert_eq!((t.name.as_str(), t.records, t.large_values), ("t", 5001, 1));
    assert_eq!(t.key_bytes, 5000 * 4 + 5);
    assert_eq!(t.value_bytes, 5000 * 100 + 100_000);
    assert_eq!(t.extent_bytes, 100_000u64.next_multiple_of(4096));
    assert_eq!(report.blocks.extents, t.extent_bytes / 4096);
    assert!(t.depth >= 2 && t.inner >= 1);
    assert_eq!(report.log.commits_to_replay, 0);
    assert_eq!(report.log.last_csn, 5002);

    // What the log names is free in the map, and not reached.
    let store = open(&disk, 4 << 20);
    let tree = store.tree("t").unwrap();
    tree.put(b"second", &vec![4; 50_000]).unwrap();
    drop((tree, store));
    let report = checked(&disk);
    assert_eq!(report.log.commits_to_replay, 1);
    assert_eq!(report.blocks.named_by_log, 13);
    assert_eq!(report.trees[1].records, 5001);
}

#[test]
fn checking_writes_nothing() {
    let disk = disk(11, 96 << 20);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, 4 << 20);
    store.tree("t").unwrap().put(b"k", b"v").unwrap();
    drop(store);
    let (hash, before) = (disk.image_hash(), disk.stats());
    checked(&disk);
    let options = gaur::inspect::InspectOptions::default();
    for look in [
        gaur::inspect::superblock_device,
        gaur::inspect::log_device,
        gaur::inspect::map_device,
        gaur::inspect::tree_device,
    ] {
        let seen = look(disk.device(), &options).unwrap();
        assert!(!seen.sections.is_empty());
        for s in &seen.sections {
            assert!(s.rows.iter().all(|r| r.len() == s.columns.len()));
        }
    }
    let read_only = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &read_only).unwrap();
    assert_eq!(
        store.open_tree("t").unwrap().get(b"k").unwrap().as_deref(),
        Some(&b"v"[..])
    );
    drop(store);
    assert_eq!(disk.image_hash(), hash);
    assert_eq!(disk.stats().writes, before.writes);
    assert_eq!(disk.stats().flushes, before.flushes);
}
