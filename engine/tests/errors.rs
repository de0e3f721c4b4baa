//! What is refused before anything is done, one test for each error that nothing else
//! is about. `error::tests` in the crate lists the test of every error.

mod common;

use std::sync::Barrier;

use gaur::format::Geometry;
use gaur::{Durability, Error, FormatOptions, MAX_KEY, MAX_THREADS, MAX_VALUE, Store, WriteBatch};
use gaur_iodriver::sim::SimDisk;

use common::forger::Forger;
use common::{checked, disk, open};

fn store() -> (SimDisk, Store) {
    let disk = disk(1, 32 << 20);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, 1 << 20);
    (disk, store)
}

#[test]
fn a_key_that_is_too_long_is_refused_wherever_it_is_given() {
    let (disk, store) = store();
    let tree = store.tree("t").unwrap();
    let long = vec![b'k'; MAX_KEY + 1];
    let refused = |e: Error| {
        assert!(
            matches!(e, Error::KeyTooLong { len, max } if (len, max) == (MAX_KEY + 1, MAX_KEY)),
            "{e}"
        );
    };
    refused(tree.put(&long, b"v").unwrap_err());
    refused(tree.delete(&long).unwrap_err());
    refused(tree.get(&long).unwrap_err());
    refused(tree.contains(&long).unwrap_err());
    let mut batch = WriteBatch::new();
    batch.put(&tree, b"k", b"v");
    batch.put(&tree, &long, b"v");
    refused(store.commit(batch, Durability::Sync).unwrap_err());
    // Nothing of the batch was done, and the longest key is none too long.
    assert_eq!(tree.get(b"k").unwrap(), None);
    tree.put(&long[1..], b"v").unwrap();
    drop(tree);
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn a_value_that_is_too_long_is_refused() {
    let (_disk, store) = store();
    let tree = store.tree("t").unwrap();
    // Zeros that nobody looks at take no memory.
    let e = tree
        .put(b"k", &vec![0; MAX_VALUE as usize + 1])
        .unwrap_err();
    assert!(
        matches!(e, Error::ValueTooLong { max, .. } if max == MAX_VALUE),
        "{e}"
    );
    assert_eq!(tree.get(b"k").unwrap(), None);
}

#[test]
fn a_batch_larger_than_a_record_may_be_is_refused() {
    let (_disk, store) = store();
    let tree = store.tree("t").unwrap();
    let batch = |n: u32| {
        let mut batch = WriteBatch::new();
        for i in 0..n {
            batch.put(&tree, &i.to_be_bytes(), &[7; 900]);
        }
        store.commit(batch, Durability::Sync)
    };
    let Err(Error::BatchTooLarge { len, max }) = batch(2000) else {
        panic!("a batch of 2 MB in a log of 4 MiB");
    };
    assert!(len > 2000 * 900 && max < len);
    assert_eq!(tree.iter().unwrap().count(), 0);
    batch(100).unwrap();
    assert_eq!(tree.iter().unwrap().count(), 100);
}

#[test]
fn trees_have_one_name_each() {
    let (_disk, store) = store();
    let absent = store.open_tree("t").unwrap_err();
    assert!(
        matches!(&absent, Error::NoSuchTree(name) if name == "t"),
        "{absent}"
    );
    store.create_tree("t").unwrap();
    let there = store.create_tree("t").unwrap_err();
    assert!(
        matches!(&there, Error::TreeExists(name) if name == "t"),
        "{there}"
    );
    for name in [String::new(), "n".repeat(256)] {
        let e = store.create_tree(&name).unwrap_err();
        assert!(
            matches!(
                e,
                Error::BadOption {
                    name: "tree name",
                    ..
                }
            ),
            "{e}"
        );
    }
    store.create_tree(&"n".repeat(255)).unwrap();
    assert_eq!(store.tree_names().len(), 2);
}

#[test]
fn more_threads_than_there_are_places_for_are_told_so() {
    let (_disk, store) = store();
    let tree = store.tree("t").unwrap();
    tree.put(b"k", b"v").unwrap();
    let threads = MAX_THREADS + 1;
    let all = Barrier::new(threads);
    let refused: usize = std::thread::scope(|scope| {
        let one = || {
            let got = tree.get(b"k");
            // All hold their places at the same time.
            all.wait();
            match got {
                Ok(value) => {
                    assert_eq!(value.as_deref(), Some(&b"v"[..]));
                    0
                }
                Err(Error::TooManyThreads { max }) => {
                    assert_eq!(max, MAX_THREADS);
                    1
                }
                Err(e) => panic!("{e}"),
            }
        };
        let spawn = |_| {
            let builder = std::thread::Builder::new().stack_size(256 << 10);
            builder.spawn_scoped(scope, one).unwrap()
        };
        let handles: Vec<_> = (0..threads).map(spawn).collect();
        handles.into_iter().map(|h| h.join().unwrap()).sum()
    });
    // This thread has a place too, and the store's own may.
    assert!((2..8).contains(&refused), "{refused}");
    // Those that ended made room.
    std::thread::scope(|s| s.spawn(|| tree.get(b"k").unwrap()).join()).unwrap();
}

#[test]
fn a_device_that_is_too_small_is_not_formatted() {
    let small = disk(1, gaur::MIN_STORE - 4096);
    let hash = small.image_hash();
    let e = Store::format_device(small.device(), &FormatOptions::default()).unwrap_err();
    assert!(
        matches!(e, Error::TooSmall { have, need } if have == gaur::MIN_STORE - 4096 && need == gaur::MIN_STORE),
        "{e}"
    );
    assert_eq!(small.image_hash(), hash);
}

#[test]
fn what_only_a_newer_gaur_knows_is_refused() {
    let (disk, store) = store();
    store.tree("t").unwrap().put(b"k", b"v").unwrap();
    store.close().unwrap();
    let forger = Forger::new(checked(&disk).superblock);
    type Change = fn(&mut Forger);
    let attempts: [(Change, bool); 4] = [
        (|f| f.sb.version += 1, false),
        (|f| f.sb.incompat = 4, false),
        (|f| f.sb.ro_compat = 2, true),
        (|f| f.sb.compat = 1, true),
    ];
    for (i, (change, readable)) in attempts.into_iter().enumerate() {
        let newer = disk.snapshot();
        let mut forged = forger;
        change(&mut forged);
        forged.superblocks(&newer);
        let read_only = gaur::OpenOptions {
            read_only: true,
            ..gaur::OpenOptions::default()
        };
        let seen = Store::open_device(newer.device(), &read_only);
        assert_eq!(seen.is_ok(), readable, "{i}");
        if let Err(e) = seen {
            assert!(matches!(e, Error::UnknownFormat(_)), "{e}");
        }
        let opened = Store::open_device(newer.device(), &gaur::OpenOptions::default());
        // A feature of the compatible kind is for nobody but who knows it.
        assert_eq!(opened.is_ok(), i == 3);
        if let Err(e) = opened {
            assert!(matches!(e, Error::UnknownFormat(_)), "{e}");
        }
    }
}

#[test]
fn a_superblock_that_cannot_be_is_damage() {
    let (disk, store) = store();
    store.close().unwrap();
    let forger = Forger::new(checked(&disk).superblock);
    let most = Geometry::new(4096, 1 << 40, 1).most();
    let attempts: [fn(&mut Forger); 8] = [
        |f| f.sb.log_blocks = f.sb.capacity + 1,
        |f| f.sb.capacity = 0,
        |f| f.sb.map_slot = 2,
        |f| f.sb.catalog_level = 300,
        |f| f.sb.incarnation = u32::MAX,
        |f| f.sb.cut = u64::MAX,
        |f| f.sb.log_head = u64::MAX - 1,
        |f| f.sb.generation = u64::MAX,
    ];
    assert!(most > forger.sb.capacity);
    for (i, change) in attempts.into_iter().enumerate() {
        let bad = disk.snapshot();
        let mut forged = forger;
        change(&mut forged);
        forged.superblocks(&bad);
        for read_only in [true, false] {
            let options = gaur::OpenOptions {
                read_only,
                ..gaur::OpenOptions::default()
            };
            let e = Store::open_device(bad.device(), &options).unwrap_err();
            assert!(
                matches!(&e, Error::Damaged(d) if d.what == "superblock"),
                "{i}: {e}"
            );
        }
    }
}
