//! Sorted bulk load.

use std::collections::BTreeMap;

use gaur::{BulkLoader, BulkOptions, Durability, Error, OpenOptions, Store, WriteBatch};
use gaur_iodriver::IoErrorKind;
use gaur_iodriver::sim::{Fault, FaultKind, OpKind, SimDisk};
use gaur_iodriver::sync::rng::{Rng, seeded};
use rand::RngExt;

use crate::common::{check, checked, key, value};
use crate::{formatted, free, open, seed};

const BUFFERED: Durability = Durability::Buffered;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn model(r: &mut Rng, records: usize) -> Model {
    let space = 4 * records as u32 + 1;
    (0..records).map(|_| (key(r, space), value(r))).collect()
}

fn push_all(loader: &mut BulkLoader, model: &Model) -> Result<(), Error> {
    model.iter().try_for_each(|(k, v)| loader.push(k, v))
}

fn load(store: &Store, name: &str, model: &Model) -> Result<(), Error> {
    let mut loader = store.bulk_load(name)?;
    push_all(&mut loader, model)?;
    assert_eq!(loader.len(), model.len() as u64);
    loader.finish().map(drop)
}

fn same(store: &Store, name: &str, model: &Model, what: &str) {
    let tree = store.open_tree(name).unwrap();
    let all: Vec<_> = tree.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), model.len(), "{what}");
    assert!(all.iter().map(|(k, v)| (k, v)).eq(model), "{what}");
    for (k, v) in model.iter().step_by(17) {
        assert_eq!(tree.get(k).unwrap().as_ref(), Some(v), "{what}");
    }
}

/// Changes a loaded tree as any other.
fn change(r: &mut Rng, store: &Store, name: &str, model: &mut Model, n: usize) {
    let tree = store.open_tree(name).unwrap();
    let some: Vec<_> = model.keys().cloned().collect();
    for _ in 0..n {
        let near = &some[r.random_range(0..some.len())];
        match r.random_range(0..4) {
            0 => {
                tree.delete_with(near, BUFFERED).unwrap();
                model.remove(near);
            }
            1 => {
                let v = value(r);
                tree.put_with(near, &v, BUFFERED).unwrap();
                model.insert(near.clone(), v);
            }
            _ => {
                let mut batch = WriteBatch::new();
                for _ in 0..r.random_range(1..9) {
                    let (k, v) = (key(r, 100_000), value(r));
                    batch.put(&tree, &k, &v);
                    model.insert(k, v);
                }
                store.commit(batch, BUFFERED).unwrap();
            }
        }
    }
}

#[test]
fn a_loaded_tree_is_like_any_other() {
    let seed = seed();
    let mut r = seeded(seed);
    for (records, fill) in [
        (0, 100),
        (1, 100),
        (2, 50),
        (30, 100),
        (700, 73),
        (9000, 100),
    ] {
        let mut disk = formatted(seed, 192);
        let what = format!("{records} records, {fill} percent");
        let mut model = model(&mut r, records);
        let store = open(&disk);
        let mut loader = store.bulk_load_with("t", &BulkOptions { fill }).unwrap();
        push_all(&mut loader, &model).unwrap();
        assert!(matches!(store.open_tree("t"), Err(Error::NoSuchTree(_))));
        assert_eq!(loader.is_empty(), model.is_empty());
        let tree = loader.finish().unwrap();
        assert_eq!(&*tree.name(), "t");
        drop(tree);
        same(&store, "t", &model, &what);
        // With nothing but the log: as it is, then changed, then with more of it replayed.
        drop(store);
        disk = disk.crash(seed);
        for round in 0..3 {
            let report = checked(&disk);
            let known = report
                .recovery
                .trees
                .iter()
                .find(|t| t.name == "t")
                .unwrap();
            assert!(
                known.records.is_none_or(|n| n == model.len() as u64),
                "{what}"
            );
            let options = OpenOptions {
                read_only: true,
                ..OpenOptions::default()
            };
            let looked = Store::open_device(disk.device(), &options).unwrap();
            same(&looked, "t", &model, &format!("{what}, read-only {round}"));
            drop(looked);
            let store = open(&disk);
            same(&store, "t", &model, &format!("{what}, opened {round}"));
            if records > 1 {
                change(&mut r, &store, "t", &mut model, 300);
            }
            same(&store, "t", &model, &format!("{what}, changed {round}"));
            store.flush().unwrap();
            if round == 1 {
                store.close().unwrap();
            } else {
                drop(store);
                disk = disk.crash(seed + round);
            }
        }
        checked(&disk);
    }
}

#[test]
fn nodes_are_as_full_as_asked_for() {
    let mut leaves = Vec::new();
    for fill in [50, 75, 100] {
        let disk = formatted(1, 64);
        let store = open(&disk);
        let mut loader = store.bulk_load_with("t", &BulkOptions { fill }).unwrap();
        for n in 0..50_000u64 {
            loader.push(&n.to_be_bytes(), &[7; 100]).unwrap();
        }
        loader.finish().unwrap();
        store.close().unwrap();
        let report = checked(&disk);
        leaves.push(report.blocks.nodes);
    }
    // A record takes a slot, a word, and its key's end and its value in whole words.
    let least = 50_000 / ((4096 - 64 - 16) / (8 + 8 + 8 + 104));
    assert!(
        leaves[2] >= least && leaves[2] < least * 102 / 100,
        "{leaves:?} {least}"
    );
    assert!(leaves[1] > leaves[2] * 125 / 100 && leaves[1] < leaves[2] * 145 / 100);
    assert!(leaves[0] > leaves[2] * 185 / 100 && leaves[0] < leaves[2] * 220 / 100);
}

#[test]
fn records_out_of_order_are_refused_and_others_go_on() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let mut loader = store.bulk_load("t").unwrap();
    loader.push(b"b", b"1").unwrap();
    for key in [&b"b"[..], b"a", b""] {
        let e = loader.push(key, b"2").unwrap_err();
        let Error::OutOfOrder(on) = &e else {
            panic!("{e}")
        };
        assert_eq!(
            (&on.tree[..], &on.last[..], &on.key[..]),
            ("t", &b"b"[..], key)
        );
    }
    let long = [b'x'; gaur::MAX_KEY + 1];
    assert!(matches!(
        loader.push(&long, b""),
        Err(Error::KeyTooLong { .. })
    ));
    loader.push(b"c", b"3").unwrap();
    let tree = loader.finish().unwrap();
    let all: Vec<_> = tree.iter().unwrap().map(|e| e.unwrap().0).collect();
    assert_eq!(all, [b"b", b"c"]);

    assert!(matches!(store.bulk_load("t"), Err(Error::TreeExists(_))));
    assert!(matches!(store.bulk_load(""), Err(Error::BadOption { .. })));
    for fill in [0, 49, 101] {
        let e = store
            .bulk_load_with("u", &BulkOptions { fill })
            .unwrap_err();
        assert!(matches!(e, Error::BadOption { name: "fill", .. }));
    }
}

#[test]
fn of_two_trees_of_one_name_the_first_is_made() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let before = free(&store);
    let mut loaders = [(); 2].map(|()| store.bulk_load("t").unwrap());
    for (n, loader) in loaders.iter_mut().enumerate() {
        for i in 0..9000u32 {
            loader.push(&i.to_be_bytes(), &[n as u8; 100]).unwrap();
        }
    }
    let [first, second] = loaders;
    let tree = second.finish().unwrap();
    let e = first.finish().unwrap_err();
    assert!(matches!(e, Error::TreeExists(_)), "{e}");
    assert_eq!(tree.get(&5u32.to_be_bytes()).unwrap().unwrap(), [1; 100]);
    let used = before - free(&store);
    let needed = 9000 * 124 / 4096;
    assert!(
        used > needed && used < needed + 150,
        "{used}, {needed} needed"
    );
}

#[test]
fn a_loader_that_is_dropped_gives_all_back() {
    let seed = seed();
    let mut r = seeded(seed);
    let disk = formatted(seed, 96);
    let store = open(&disk);
    store.tree("other").unwrap().put(b"k", b"v").unwrap();
    let before = free(&store);
    for records in [0, 1, 100, 5000] {
        let mut loader = store.bulk_load("t").unwrap();
        push_all(&mut loader, &model(&mut r, records)).unwrap();
        drop(loader);
        assert!(free(&store).abs_diff(before) < 16);
    }
    // Nor is there anything after a crash in the middle.
    let mut loader = store.bulk_load("t").unwrap();
    push_all(&mut loader, &model(&mut r, 5000)).unwrap();
    store.flush().unwrap();
    let crashed = disk.snapshot().crash(seed);
    checked(&crashed);
    let again = open(&crashed);
    assert_eq!(again.tree_names(), ["other"]);
    assert!(free(&again).abs_diff(before) < 16);
    drop(loader);
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn a_full_store_says_so_and_loses_nothing() {
    let seed = seed();
    let mut r = seeded(seed);
    let disk = formatted(seed, 32);
    let store = open(&disk);
    let mut small = model(&mut r, 1000);
    load(&store, "small", &small).unwrap();
    let before = free(&store);
    for len in [100, 20_000] {
        let mut loader = store.bulk_load("large").unwrap();
        let mut n = 0u32;
        let e = loop {
            match loader.push(&n.to_be_bytes(), &vec![1; len]) {
                Ok(()) => n += 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(e, Error::Full { .. }), "{e}");
        let most = before as usize * 4096;
        assert!(n as usize * len > most * 3 / 5, "{n} records of {len}");
        // It cannot go on, and the others can.
        let again = loader.push(&u32::MAX.to_be_bytes(), b"").unwrap_err();
        assert!(matches!(again, Error::Full { .. }));
        assert!(matches!(loader.finish().unwrap_err(), Error::Full { .. }));
        assert!(free(&store).abs_diff(before) < 16);
    }
    change(&mut r, &store, "small", &mut small, 50);
    same(&store, "small", &small, "beside full loads");
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn who_looks_at_an_earlier_commit_is_told_to_start_again() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let other = store.tree("other").unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut txn = store.transaction().unwrap();
    txn.put(&other, b"k", b"v").unwrap();
    let mut loader = store.bulk_load("t").unwrap();
    loader.push(b"a", b"1").unwrap();
    let tree = loader.finish().unwrap();
    let old = |e: Error| {
        assert!(
            matches!(e, Error::ViewTooOld { .. }) && e.is_retryable(),
            "{e}"
        )
    };
    old(snapshot.get(&tree, b"a").unwrap_err());
    old(snapshot.contains(&tree, b"b").unwrap_err());
    old(snapshot.iter(&tree).unwrap_err());
    old(snapshot.reader(&tree, b"a").unwrap_err());
    old(snapshot.multi_get(&tree, &[b"a"]).unwrap_err());
    old(txn.get(&tree, b"a").unwrap_err());
    old(txn.iter(&tree).map(drop).unwrap_err());
    old(store
        .transaction()
        .and_then(|_| txn.commit(BUFFERED))
        .map_or_else(
            |e| e,
            |_| {
                // It read nothing of the tree.
                Error::ViewTooOld { csn: 0 }
            },
        ));
    let now = store.snapshot().unwrap();
    assert_eq!(now.get(&tree, b"a").unwrap().unwrap(), b"1");
    tree.put(b"a", b"2").unwrap();
    assert_eq!(now.get(&tree, b"a").unwrap().unwrap(), b"1");
}

#[test]
fn a_store_that_is_closed_meanwhile_takes_nothing_more() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let mut loader = store.bulk_load("t").unwrap();
    for n in 0..20_000u32 {
        loader.push(&n.to_be_bytes(), &[1; 100]).unwrap();
    }
    store.close().unwrap();
    let e = (20_000u32..)
        .find_map(|n| loader.push(&n.to_be_bytes(), &[1; 100]).err())
        .unwrap();
    assert!(matches!(e, Error::Closed), "{e}");
    drop(loader);
    checked(&disk);
    assert!(open(&disk).tree_names().is_empty());
}

/// The n-th write, flush or read fails, for every n: there is no tree, or all of it.
#[test]
fn the_nth_call_fails_while_a_tree_is_loaded() {
    let mut r = seeded(1);
    let base = formatted(1, 48);
    let mut small = model(&mut r, 400);
    {
        let store = open(&base);
        load(&store, "small", &small).unwrap();
        change(&mut r, &store, "small", &mut small, 10);
        store.close().unwrap();
    }
    let large = model(&mut r, 6000);
    let run = |disk: &SimDisk| -> Result<(), Error> {
        let options = OpenOptions {
            checkpoint_interval: std::time::Duration::from_secs(3600),
            ..OpenOptions::default()
        };
        let store = Store::open_device(disk.device(), &options)?;
        load(&store, "large", &large)?;
        let _ = store.checkpoint();
        Ok(())
    };
    let (opened, whole) = (base.snapshot(), base.snapshot());
    drop(open(&opened));
    run(&whole).unwrap();
    let mut tried = 0;
    for op in [OpKind::Write, OpKind::Flush, OpKind::Read] {
        for at in opened.stats().next(op)..whole.stats().next(op) {
            let disk = base.snapshot();
            let fails = FaultKind::Fail(IoErrorKind::Failed);
            disk.inject(Fault::for_good(op, at, fails));
            let loaded = run(&disk);
            tried += 1;
            disk.clear_faults();
            for disk in [disk.crash(at), disk.snapshot()] {
                let what = format!("{op:?} {at}: {loaded:?}");
                checked(&disk);
                let store = open(&disk);
                same(&store, "small", &small, &what);
                let there = store.open_tree("large").is_ok();
                match &loaded {
                    Ok(()) => assert!(there, "{what}"),
                    Err(Error::OutcomeUnknown { .. }) => {}
                    Err(e) => {
                        let fits = matches!(e, Error::Io(_) | Error::Stopped(_));
                        assert!(fits && !there, "{what}");
                    }
                }
                if there {
                    same(&store, "large", &large, &what);
                }
                store.close().unwrap();
                checked(&disk);
            }
        }
    }
    println!("{tried} calls failed");
    assert!(tried > 10);
}

/// A log that names a loaded tree which is damaged: told by a check, and what is sound is read.
#[test]
fn damage_in_a_tree_that_the_log_loads_is_told() {
    let mut r = seeded(2);
    let disk = formatted(2, 64);
    let store = open(&disk);
    let model: Model = (0..9000)
        .map(|_| (key(&mut r, 1 << 30), vec![r.random(); 99]))
        .collect();
    load(&store, "t", &model).unwrap();
    drop(store);
    let extents = checked(&disk).log.extents;
    let block = extents[0].start + 3;
    disk.flip_bit(block * 4096 + 100, 1);
    let report = check(&disk);
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].place, block);
    let store = open(&disk);
    let tree = store.open_tree("t").unwrap();
    let read = model
        .iter()
        .map(|(k, v)| tree.get(k).map(|got| got.as_ref() == Some(v)));
    let (mut good, mut bad) = (0, 0);
    for got in read {
        match got {
            Ok(same) => good += usize::from(same),
            Err(Error::Damaged(d)) if d.place == block => bad += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(
        bad > 0 && good + bad == model.len() && good > bad,
        "{good} {bad}"
    );
}

/// Loads beside writers, checkpoints, reopening and power cuts: each tree is there whole or not
/// at all, and is what was loaded and done to it since.
#[test]
fn loads_and_changes_are_a_map_of_maps() {
    let seed = seed();
    let mut r = seeded(seed);
    let mut disk = formatted(seed, 256);
    let mut trees: BTreeMap<String, Model> = BTreeMap::new();
    for round in 0..6u64 {
        let store = open(&disk);
        for step in 0..8 {
            match r.random_range(0..5) {
                0 | 1 => {
                    let records = r.random_range(0..3000);
                    let model = model(&mut r, records);
                    let name = format!("{round}-{step}");
                    let mut loader = store.bulk_load(&name).unwrap();
                    let half = model.len() / 2;
                    for (i, (k, v)) in model.iter().enumerate() {
                        loader.push(k, v).unwrap();
                        if i == half && r.random() {
                            store.checkpoint().unwrap();
                        }
                    }
                    if r.random_bool(0.8) {
                        loader.finish().unwrap();
                        trees.insert(name, model);
                    }
                }
                2 => store.checkpoint().unwrap(),
                _ => {
                    let full: Vec<_> = trees
                        .keys()
                        .filter(|n| trees[*n].len() > 1)
                        .cloned()
                        .collect();
                    if let Some(name) = full.get(r.random_range(0..full.len().max(1))) {
                        change(&mut r, &store, name, trees.get_mut(name).unwrap(), 60);
                    }
                }
            }
        }
        store.flush().unwrap();
        for (name, model) in &trees {
            same(&store, name, model, &format!("{name} in round {round}"));
        }
        if round % 2 == 0 {
            drop(store);
            disk = disk.crash(seed + round);
        } else {
            store.close().unwrap();
        }
        checked(&disk);
        let store = open(&disk);
        assert!(store.tree_names().iter().eq(trees.keys()));
        for (name, model) in &trees {
            same(&store, name, model, &format!("{name} after round {round}"));
        }
        drop(store);
        disk = disk.crash(seed + round);
    }
}

#[test]
fn a_snapshot_waits_for_a_load_and_a_loaded_tree_is_dropped_like_any() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let before = store.create_snapshot("before").unwrap();
    let mut loader = store.bulk_load("t").unwrap();
    for i in 0..5000u32 {
        loader.push(&i.to_be_bytes(), &[1; 200]).unwrap();
    }
    loader.push(b"large", &[2; 40_000]).unwrap();
    let refused = store.create_snapshot("s").unwrap_err();
    assert!(matches!(refused, Error::BadOption { .. }), "{refused}");
    let tree = loader.finish().unwrap();
    store.create_snapshot("s").unwrap();
    tree.put(&7u32.to_be_bytes(), b"new").unwrap();
    store.drop_tree("t").unwrap();
    let there = |store: &Store| store.stats().get("reclaim", "trees").unwrap() > 0;
    while there(&store) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(before.tree_names().is_empty());
    let old = store.open_snapshot("s").unwrap().tree("t").unwrap();
    assert_eq!(old.iter().unwrap().count(), 5001);
    drop((old, before));
    store.close().unwrap();
    checked(&disk);
}
