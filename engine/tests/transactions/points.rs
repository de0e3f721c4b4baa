//! Changes of one key that depend on what it holds.

use std::sync::atomic::{AtomicU64, Ordering};

use gaur::Swap;

use super::*;

/// Breaks if what was read is not looked at again under the latch.
#[test]
fn many_threads_update_few_keys_and_lose_nothing() {
    let disk = disk(1);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    const THREADS: u64 = 4;
    const TURNS: u64 = 1500;
    let inserted = AtomicU64::new(0);
    std::thread::scope(|s| {
        for n in 0..THREADS {
            let (tree, inserted) = (&tree, &inserted);
            s.spawn(move || {
                for i in 0..TURNS {
                    // The third is large: it lies in an extent, and is replaced each time.
                    let key = [(i % 3) as u8];
                    let len = if i % 3 == 2 && i < 60 { 6000 } else { 8 };
                    tree.update(&key, BUFFERED, |old| {
                        let n = old.map_or(0, |v| u64::from_le_bytes(v[..8].try_into().unwrap()));
                        let mut new = vec![0; len];
                        new[..8].copy_from_slice(&(n + 1).to_le_bytes());
                        Some(new)
                    })
                    .unwrap();
                    // A lock that one of them has at a time.
                    let me = n.to_le_bytes();
                    loop {
                        let got = tree.insert_if_absent(b"lock", &me, BUFFERED).unwrap();
                        if matches!(got, Swap::Done(_)) {
                            break;
                        }
                        std::thread::yield_now();
                    }
                    let was = inserted.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    assert_eq!(inserted.load(Ordering::SeqCst), was + 1);
                    let out = tree.compare_and_swap(b"lock", Some(&me), None, BUFFERED);
                    assert!(matches!(out.unwrap(), Swap::Done(_)));
                }
            });
        }
    });
    let counts = (0..3u8).map(|k| tree.get(&[k]).unwrap().unwrap());
    let sum: u64 = counts
        .map(|v| u64::from_le_bytes(v[..8].try_into().unwrap()))
        .sum();
    assert_eq!(sum, THREADS * TURNS);
    assert!(!tree.contains(b"lock").unwrap());
    assert_eq!(store.stats().get("waits", "under_latch"), Some(0));
}

#[test]
fn what_they_return_and_when_they_write() {
    let disk = disk(2);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let large = vec![9; 50_000];
    let done = |swap: Result<Swap, Error>| matches!(swap.unwrap(), Swap::Done(_));
    assert!(done(tree.insert_if_absent(b"k", &large, BUFFERED)));
    let again = tree.insert_if_absent(b"k", b"x", BUFFERED).unwrap();
    assert_eq!(again, Swap::Differs(Some(large.clone())));
    let none = tree.compare_and_swap(b"k", None, Some(b"x"), BUFFERED);
    assert_eq!(none.unwrap(), Swap::Differs(Some(large.clone())));
    assert!(done(tree.compare_and_swap(
        b"k",
        Some(&large),
        Some(b"x"),
        BUFFERED
    )));
    let gone = tree.compare_and_swap(b"l", Some(b"x"), None, BUFFERED);
    assert_eq!(gone.unwrap(), Swap::Differs(None));

    let last = || store.stats().get("log", "last_csn").unwrap();
    let before = last();
    let csn = tree.update(b"k", BUFFERED, |old| old.map(<[u8]>::to_vec));
    assert_eq!((csn.unwrap(), last()), (before, before));
    tree.update(b"none", BUFFERED, |old| {
        assert_eq!(old, None);
        None
    })
    .unwrap();
    assert_eq!(last(), before);
    let csn = tree.update(b"k", Durability::Sync, |_| None).unwrap();
    assert_eq!((csn, last()), (before + 1, before + 1));
    assert!(!tree.contains(b"k").unwrap());
    // What another does while the closure runs is met again.
    let mut seen = Vec::new();
    tree.update(b"m", BUFFERED, |old| {
        seen.push(old.map(<[u8]>::to_vec));
        if seen.len() == 1 {
            tree.put_with(b"m", b"other", BUFFERED).unwrap();
        }
        Some(b"mine".to_vec())
    })
    .unwrap();
    assert_eq!(seen, [None, Some(b"other".to_vec())]);
    let long = vec![0; gaur::MAX_KEY + 1];
    let refused = tree.insert_if_absent(&long, b"", BUFFERED);
    assert!(matches!(refused, Err(Error::KeyTooLong { .. })));
    store.clone().close().unwrap();
    let refused = tree.insert_if_absent(b"k", b"", BUFFERED);
    assert!(matches!(refused, Err(Error::Closed)));
}

/// They take part in what transactions are promised.
#[test]
fn a_transaction_meets_them() {
    let disk = disk(3);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let mut t = store.transaction().unwrap();
    assert_eq!(t.get(&tree, b"k").unwrap(), None);
    t.put(&tree, b"x", b"").unwrap();
    tree.insert_if_absent(b"k", b"v", BUFFERED).unwrap();
    assert_eq!(conflict(t.commit(BUFFERED)).key, b"k");
}
