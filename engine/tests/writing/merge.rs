//! Merge operators.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gaur::{Durability, Error, Isolation, Store, TransactionOptions, Tree, WriteBatch};
use gaur_iodriver::IoErrorKind;
use gaur_iodriver::sim::{Fault, FaultKind, OpKind};
use gaur_iodriver::sync::rng::seeded;
use rand::RngExt;

use crate::common::checked;
use crate::{formatted, open, seed};

const BUFFERED: Durability = Durability::Buffered;

/// Appends the operand; `clear` removes the key, `no` is refused, `panic` panics, and `same` changes
/// nothing.
fn append(_: &[u8], current: Option<&[u8]>, operand: &[u8]) -> Result<Option<Vec<u8>>, String> {
    match operand {
        b"clear" => Ok(None),
        b"no" => Err("not this one".into()),
        b"panic" => std::panic::resume_unwind(Box::new("an operator's")),
        b"same" => Ok(current.map(<[u8]>::to_vec)),
        _ => Ok(Some([current.unwrap_or_default(), operand].concat())),
    }
}

fn appending(store: &Store) -> Tree {
    let tree = store.tree("t").unwrap();
    tree.set_merge_operator(append);
    tree
}

fn refused(e: &Error, key: &[u8], why: &str) {
    let Error::Merge(on) = e else { panic!("{e}") };
    assert_eq!((&on.tree[..], &on.key[..], &on.why[..]), ("t", key, why));
}

#[test]
fn what_is_merged_is_read_and_lasts_without_the_operator() {
    let mut disk = formatted(1, 64);
    let store = open(&disk);
    let tree = appending(&store);
    for operand in ["a", "b", "c"] {
        tree.merge(b"k", operand.as_bytes(), BUFFERED).unwrap();
    }
    // One that grows until it is a large value, and beyond.
    let piece = [b'x'; 700];
    for _ in 0..20 {
        tree.merge(b"large", &piece, BUFFERED).unwrap();
    }
    tree.put(b"gone", b"1").unwrap();
    tree.merge(b"gone", b"clear", BUFFERED).unwrap();
    let before = tree.merge(b"k", b"same", Durability::Sync).unwrap();
    assert_eq!(tree.merge(b"k", b"same", BUFFERED).unwrap(), before);
    for replayed in [true, false] {
        drop(store.flush());
        let again = disk.snapshot().crash(1);
        disk = again;
        checked(&disk);
        let store = open(&disk);
        let tree = store.open_tree("t").unwrap();
        assert_eq!(store.recovery().replayed > 0, replayed);
        assert_eq!(tree.get(b"k").unwrap().unwrap(), b"abc");
        assert_eq!(tree.get(b"large").unwrap().unwrap(), [b'x'; 14_000]);
        let keys: Vec<_> = tree.iter().unwrap().map(|e| e.unwrap().0).collect();
        assert_eq!(keys, [&b"k"[..], b"large"]);
        let e = tree.merge(b"k", b"d", BUFFERED).unwrap_err();
        assert!(
            matches!(&e, Error::NoMergeOperator(name) if name == "t"),
            "{e}"
        );
        store.close().unwrap();
    }
}

#[test]
fn an_operator_that_refuses_or_panics_changes_nothing() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let tree = appending(&store);
    let csn = tree.merge(b"k", b"a", Durability::Sync).unwrap();
    for (operand, why) in [
        (&b"no"[..], "not this one"),
        (b"panic", "the operator panicked"),
    ] {
        refused(&tree.merge(b"k", operand, BUFFERED).unwrap_err(), b"k", why);
        let mut batch = WriteBatch::new();
        batch
            .put(&tree, b"other", b"1")
            .merge(&tree, b"k", b"b")
            .merge(&tree, b"k", operand);
        refused(&store.commit(batch, BUFFERED).unwrap_err(), b"k", why);
        let mut txn = store.transaction().unwrap();
        txn.merge(&tree, b"k", b"b").unwrap();
        refused(&txn.merge(&tree, b"k", operand).unwrap_err(), b"k", why);
        assert_eq!(txn.get(&tree, b"k").unwrap().unwrap(), b"ab");
    }
    assert_eq!(store.flush().unwrap(), csn);
    assert_eq!(tree.get(b"k").unwrap().unwrap(), b"a");
    let long = [0; gaur::MAX_KEY + 1];
    let e = tree.merge(&long, b"a", BUFFERED).unwrap_err();
    assert!(matches!(e, Error::KeyTooLong { .. }));
    // The next is merged as ever.
    tree.merge(b"k", b"z", BUFFERED).unwrap();
    assert_eq!(tree.get(b"k").unwrap().unwrap(), b"az");
    let other = store.tree("without").unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&tree, b"k", b"").merge(&other, b"k", b"a");
    let e = store.commit(batch, BUFFERED).unwrap_err();
    assert!(matches!(e, Error::NoMergeOperator(_)), "{e}");
    assert_eq!(tree.get(b"k").unwrap().unwrap(), b"az");
}

#[test]
fn in_a_batch_and_in_a_transaction_they_compose_in_order() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let tree = appending(&store);
    let get = |key: &[u8]| {
        tree.get(key)
            .unwrap()
            .map(|v| String::from_utf8(v).unwrap())
    };
    tree.put(b"k", b"0").unwrap();
    tree.put(b"set", b"0").unwrap();
    let mut batch = WriteBatch::new();
    batch
        .merge(&tree, b"k", b"1")
        .merge(&tree, b"new", b"a")
        .merge(&tree, b"set", b"lost")
        .put(&tree, b"set", b"5")
        .merge(&tree, b"set", b"6")
        .merge(&tree, b"k", b"2")
        .delete(&tree, b"none")
        .merge(&tree, b"gone", b"x")
        .merge(&tree, b"gone", b"clear")
        .merge(&tree, b"last", b"x")
        .delete(&tree, b"last");
    assert_eq!(batch.len(), 11);
    store.commit(batch, Durability::Sync).unwrap();
    assert_eq!(get(b"k").as_deref(), Some("012"));
    assert_eq!(get(b"new").as_deref(), Some("a"));
    assert_eq!(get(b"set").as_deref(), Some("56"));
    assert_eq!((get(b"gone"), get(b"last")), (None, None));

    let mut txn = store.transaction().unwrap();
    txn.merge(&tree, b"k", b"3").unwrap();
    let here = txn.savepoint();
    txn.merge(&tree, b"k", b"4").unwrap();
    txn.put(&tree, b"own", b"p").unwrap();
    txn.merge(&tree, b"own", b"q").unwrap();
    assert_eq!(txn.get(&tree, b"k").unwrap().unwrap(), b"01234");
    assert_eq!(txn.get(&tree, b"own").unwrap().unwrap(), b"pq");
    let scanned: Vec<_> = txn.iter(&tree).unwrap().map(|e| e.unwrap().1).collect();
    assert!(scanned.contains(&b"01234".to_vec()));
    txn.rollback_to(here).unwrap();
    assert_eq!(txn.get(&tree, b"k").unwrap().unwrap(), b"0123");
    assert_eq!(get(b"k").as_deref(), Some("012"));
    txn.commit(BUFFERED).unwrap();
    assert_eq!(get(b"k").as_deref(), Some("0123"));
    assert_eq!(get(b"own"), None);

    // What it merged into is read: under both isolations the second fails.
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let options = TransactionOptions { isolation };
        let mut txn = store.begin(&options).unwrap();
        txn.merge(&tree, b"k", b"t").unwrap();
        tree.merge(b"k", b"m", BUFFERED).unwrap();
        let e = txn.commit(BUFFERED).unwrap_err();
        assert!(matches!(e, Error::Conflict(_)), "{e}");
    }
    assert_eq!(get(b"k").as_deref(), Some("0123mm"));
}

/// Nothing that anybody merges is lost or merged twice, however they come: alone, in batches, beside
/// puts that set everything back, and operands that are refused.
#[test]
fn many_who_merge_at_once_lose_nothing() {
    const THREADS: u64 = 4;
    const EACH: u64 = 400;
    let disk = formatted(1, 64);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let calls = AtomicU64::new(0);
    let calls: &'static AtomicU64 = Box::leak(Box::new(calls));
    tree.set_merge_operator(move |_: &[u8], current: Option<&[u8]>, operand: &[u8]| {
        calls.fetch_add(1, Ordering::Relaxed);
        let number = |b: &[u8]| {
            b.try_into()
                .map(u64::from_le_bytes)
                .map_err(|_| "odd".to_owned())
        };
        let sum = number(current.unwrap_or(&[0; 8]))? + number(operand)?;
        Ok(Some(sum.to_le_bytes().to_vec()))
    });
    let (one, other) = (&b"counter"[..], &b"second"[..]);
    let updates = AtomicBool::new(true);
    let updated = std::thread::scope(|s| {
        let updater = s.spawn(|| {
            let mut n = 0u64;
            while updates.load(Ordering::Relaxed) {
                let add = |v: Option<&[u8]>| {
                    let old = v.map_or(0, |v| u64::from_le_bytes(v.try_into().unwrap()));
                    Some((old + (1 << 32)).to_le_bytes().to_vec())
                };
                tree.update(one, BUFFERED, add).unwrap();
                n += 1;
            }
            n
        });
        let mergers: Vec<_> = (0..THREADS)
            .map(|t| {
                let (store, tree) = (&store, &tree);
                s.spawn(move || {
                    for i in 0..EACH {
                        let durability = match i % 50 {
                            0 => Durability::Sync,
                            _ => BUFFERED,
                        };
                        if (i + t) % 3 == 0 {
                            let mut batch = WriteBatch::new();
                            batch.merge(tree, one, &1u64.to_le_bytes()).merge(
                                tree,
                                other,
                                &1u64.to_le_bytes(),
                            );
                            store.commit(batch, durability).unwrap();
                        } else {
                            tree.merge(one, &1u64.to_le_bytes(), durability).unwrap();
                        }
                        if i % 20 == 7 {
                            let e = tree.merge(one, b"odd", BUFFERED).unwrap_err();
                            assert!(matches!(e, Error::Merge(_)));
                        }
                    }
                })
            })
            .collect();
        mergers.into_iter().for_each(|m| m.join().unwrap());
        updates.store(false, Ordering::Relaxed);
        updater.join().unwrap()
    });
    let value = |key| u64::from_le_bytes(tree.get(key).unwrap().unwrap().try_into().unwrap());
    assert_eq!(value(one), THREADS * EACH + (updated << 32));
    let in_batches = (0..THREADS).flat_map(|t| (0..EACH).map(move |i| i + t));
    let in_batches = in_batches.filter(|n| n % 3 == 0).count() as u64;
    assert_eq!(value(other), in_batches);
    println!(
        "{updated} updates beside, {} calls",
        calls.load(Ordering::Relaxed)
    );
}

#[test]
fn merges_are_a_map() {
    let seed = seed();
    let mut r = seeded(seed);
    let mut disk = formatted(seed, 64);
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    fn merge(model: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8], operand: &[u8]) {
        let current = model.remove(key);
        if let Some(new) = append(key, current.as_deref(), operand).unwrap() {
            model.insert(key.to_vec(), new);
        }
    }
    for round in 0..6u64 {
        let store = open(&disk);
        let tree = appending(&store);
        for _ in 0..300 {
            let key = vec![r.random_range(0..30u8)];
            let mut operand = vec![b'm'; r.random_range(1..400)];
            if r.random_bool(0.1) {
                operand = b"clear".to_vec();
            }
            match r.random_range(0..4) {
                0 => {
                    tree.put_with(&key, &operand, BUFFERED).unwrap();
                    model.insert(key, operand);
                }
                1 => {
                    let mut batch = WriteBatch::new();
                    for _ in 0..r.random_range(1..6) {
                        let key = vec![r.random_range(0..30u8)];
                        batch.merge(&tree, &key, &operand);
                        merge(&mut model, &key, &operand);
                    }
                    store.commit(batch, BUFFERED).unwrap();
                }
                _ => {
                    tree.merge(&key, &operand, BUFFERED).unwrap();
                    merge(&mut model, &key, &operand);
                }
            }
        }
        let all: Vec<_> = tree.iter().unwrap().map(Result::unwrap).collect();
        assert!(all.iter().map(|(k, v)| (k, v)).eq(&model));
        store.flush().unwrap();
        drop((tree, store));
        disk = disk.crash(seed + round);
        checked(&disk);
    }
}

#[test]
fn a_store_that_stops_tells_all_who_merge() {
    let disk = formatted(1, 64);
    let store = open(&disk);
    let tree = appending(&store);
    tree.merge(b"k", b"a", Durability::Sync).unwrap();
    let fails = FaultKind::Fail(IoErrorKind::Failed);
    disk.inject(Fault::for_good(
        OpKind::Write,
        disk.stats().next(OpKind::Write),
        fails,
    ));
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let e = (0..)
                    .find_map(|_| tree.merge(b"k", b"b", Durability::Sync).err())
                    .unwrap();
                assert!(
                    matches!(e, Error::Stopped(_) | Error::OutcomeUnknown { .. }),
                    "{e}"
                );
            });
        }
    });
}
