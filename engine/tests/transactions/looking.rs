//! Many keys at once, the ends of a tree, cursors, counts and sizes.

use std::ops::Bound;

use gaur_iodriver::sync::rng;
use gaur_iodriver::{Latency, LatencyProfile};
use rand::RngExt;

use super::*;

#[test]
fn first_and_last_and_counts() {
    let disk = disk(1);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let empty = store.snapshot().unwrap();
    assert_eq!((tree.first().unwrap(), tree.last().unwrap()), (None, None));
    assert_eq!(tree.count(..).unwrap(), 0);
    assert_eq!(tree.approximate_size(..).unwrap(), Default::default());
    for i in 0..5000u32 {
        tree.put_with(&i.to_be_bytes(), &[1; 30], BUFFERED).unwrap();
    }
    let key = |i: u32| i.to_be_bytes().to_vec();
    assert_eq!(tree.first().unwrap().unwrap().0, key(0));
    assert_eq!(tree.last().unwrap().unwrap().0, key(4999));
    assert_eq!(tree.count(..).unwrap(), 5000);
    assert_eq!(tree.count(key(10)..=key(3000)).unwrap(), 2991);
    assert_eq!(tree.count(key(3000)..key(10)).unwrap(), 0);
    assert_eq!(tree.iter().unwrap().limit(7).count_records().unwrap(), 7);
    assert_eq!(empty.count(&tree, ..).unwrap(), 0);
    assert_eq!(empty.first(&tree).unwrap(), None);
    let now = store.snapshot().unwrap();
    for i in (0..5000u32).filter(|i| i % 3 != 1) {
        tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
    }
    assert_eq!(tree.count(..).unwrap(), 1667);
    assert_eq!(now.count(&tree, ..).unwrap(), 5000);
    assert_eq!(now.last(&tree).unwrap().unwrap().0, key(4999));
    assert_eq!(tree.last().unwrap().unwrap().0, key(4999));
}

#[test]
fn sizes_are_about_right() {
    let disk = disk(2);
    let options = OpenOptions {
        cache_bytes: 2 << 20,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let tree = store.tree("t").unwrap();
    let mut r = rng::seeded(2);
    let mut keys: Vec<u32> = (0..60_000).map(|_| r.random()).collect();
    for k in &keys {
        tree.put_with(&k.to_be_bytes(), &[1; 60], BUFFERED).unwrap();
    }
    keys.sort_unstable();
    keys.dedup();
    let whole = tree.approximate_size(..).unwrap();
    for n in [5, 1000, 10_000, 40_000] {
        for _ in 0..20 {
            let from = r.random_range(0..keys.len() - n);
            let (a, b) = (keys[from], keys[from + n]);
            let range = (
                Bound::Included(a.to_be_bytes().to_vec()),
                Bound::Excluded(b.to_be_bytes().to_vec()),
            );
            assert_eq!(tree.count(range.clone()).unwrap(), n as u64);
            let size = tree.approximate_size(range).unwrap();
            let off = size.records as f64 / n as f64;
            assert!((0.5..2.0).contains(&off), "{n} records: {size:?}");
            assert_eq!(size.bytes, size.leaves * 4096);
            assert!(size.leaves <= 2 * whole.leaves);
        }
    }
    let off = whole.records as f64 / keys.len() as f64;
    assert!((0.5..2.0).contains(&off), "all: {whole:?}");
}

/// Breaks if lone misses follow one another.
#[test]
fn a_multi_get_reads_its_leaves_together() {
    let disk = SimDisk::new(SimOptions {
        capacity: 64 << 20,
        latency: LatencyProfile::all(Latency {
            fixed: Duration::from_micros(300),
            jitter: Duration::ZERO,
        }),
        ..SimOptions::default()
    });
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let options = OpenOptions {
        cache_bytes: 8 << 20,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let tree = store.tree("t").unwrap();
    let mut batch = gaur::WriteBatch::new();
    for i in 0..20_000u32 {
        batch.put(&tree, &i.to_be_bytes(), &[i as u8; 100]);
        if i % 2000 == 1999 {
            store.commit(std::mem::take(&mut batch), BUFFERED).unwrap();
        }
    }
    let large = vec![3; 30_000];
    tree.put(b"large", &large).unwrap();
    store.close().unwrap();
    let store = Store::open_device(disk.device(), &options).unwrap();
    let tree = store.open_tree("t").unwrap();
    // In no order, some twice, some not there.
    let wanted: Vec<u32> = (0..64).map(|i| i * 7919 % 64 * 300 + 1).collect();
    let names: Vec<Vec<u8>> = wanted.iter().map(|k| k.to_be_bytes().to_vec()).collect();
    let waits = |s: &Store| s.stats().get("waits", "read").unwrap();
    let before = waits(&store);
    let got = tree.multi_get(&names).unwrap();
    let together = waits(&store) - before;
    for (k, value) in wanted.iter().zip(got) {
        assert_eq!(value, (*k < 20_000).then(|| vec![*k as u8; 100]));
    }
    println!("{together} waits for 64 leaves");
    assert!(together <= 8, "{together} waits for reads");
    let mixed = ["large", "none", "large"];
    let both = Some(large.clone());
    let wanted = [both.clone(), None, both];
    assert_eq!(tree.multi_get(&mixed).unwrap(), wanted);
    assert!(tree.multi_get::<&[u8]>(&[]).unwrap().is_empty());

    let snapshot = store.snapshot().unwrap();
    let mut t = store.transaction().unwrap();
    t.put(&tree, b"none", b"now").unwrap();
    tree.delete_with(b"large", BUFFERED).unwrap();
    assert_eq!(snapshot.multi_get(&tree, &mixed).unwrap(), wanted);
    let seen = t.multi_get(&tree, &mixed).unwrap();
    assert_eq!(
        seen,
        [Some(large.clone()), Some(b"now".to_vec()), Some(large)]
    );
    assert_eq!(conflict(t.commit(BUFFERED)).key, b"large");
}

/// A cursor beside a sorted list, on a tree, a snapshot and a transaction.
#[test]
fn a_cursor_goes_anywhere() {
    let disk = disk(4);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let mut r = rng::seeded(4);
    let name = |i: u32| format!("{i:05}").into_bytes();
    let mut base: Vec<u32> = (0..3000).filter(|_| r.random_bool(0.5)).collect();
    for i in &base {
        tree.put_with(&name(*i), &[0; 40], BUFFERED).unwrap();
    }
    let snapshot = store.snapshot().unwrap();
    let mut t = store.transaction().unwrap();
    let mut own = base.clone();
    for _ in 0..400 {
        let i = r.random_range(0..3000);
        own.retain(|k| *k != i);
        if r.random() {
            t.put(&tree, &name(i), b"mine").unwrap();
            own.push(i);
        } else {
            t.delete(&tree, &name(i)).unwrap();
        }
    }
    own.sort_unstable();
    for turn in 0..12 {
        let (a, b) = (r.random_range(0..3000), r.random_range(0..3000));
        let range = match turn % 4 {
            0 => (Bound::Unbounded, Bound::Unbounded),
            1 => (Bound::Included(a), Bound::Excluded(b)),
            2 => (Bound::Excluded(a), Bound::Included(b)),
            _ => (Bound::Unbounded, Bound::Excluded(b)),
        };
        let bounds = (range.0.map(name), range.1.map(name));
        let within = |k: &u32| {
            let above = match range.0 {
                Bound::Included(a) => *k >= a,
                Bound::Excluded(a) => *k > a,
                Bound::Unbounded => true,
            };
            above
                && match range.1 {
                    Bound::Included(b) => *k <= b,
                    Bound::Excluded(b) => *k < b,
                    Bound::Unbounded => true,
                }
        };
        let (mut cursor, list) = match turn % 3 {
            0 => (tree.cursor(bounds).unwrap(), &mut base),
            1 => (snapshot.cursor(&tree, bounds).unwrap(), &mut base),
            _ => (t.cursor(&tree, bounds).unwrap(), &mut own),
        };
        let list: Vec<u32> = list.iter().copied().filter(within).collect();
        // -1: before the first; the length: behind the last.
        let mut at = -1i64;
        for _ in 0..400 {
            let k = r.random_range(0..3000);
            let end = list.len() as i64;
            let got = match r.random_range(0..12) {
                0 => {
                    at = list.partition_point(|i| *i < k) as i64;
                    cursor.seek(&name(k))
                }
                1 => {
                    at = list.partition_point(|i| *i <= k) as i64 - 1;
                    cursor.seek_back(&name(k))
                }
                2 if r.random_bool(0.2) => {
                    at = if end == 0 { end } else { 0 };
                    cursor.first()
                }
                3 if r.random_bool(0.2) => {
                    at = end - 1;
                    cursor.last()
                }
                2..8 => {
                    at = (at + 1).min(end);
                    cursor.next()
                }
                _ => {
                    at = (at - 1).max(-1);
                    cursor.prev()
                }
            };
            let wanted = usize::try_from(at).ok().and_then(|at| list.get(at));
            let wanted = wanted.map(|i| name(*i));
            assert_eq!(got.unwrap().map(|r| r.0), wanted, "turn {turn}, at {at}");
            assert_eq!(cursor.key(), wanted.as_deref());
        }
    }
    drop((snapshot, t));
    let mut cursor = tree.cursor(..).unwrap();
    cursor.next().unwrap();
    drop((tree, store));
    assert!(matches!(cursor.prev(), Err(Error::Closed)));
}

/// What a cursor passes counts as read, and no more.
#[test]
fn what_a_cursor_passed_is_validated() {
    let disk = disk(5);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    for i in (0..100u8).step_by(2) {
        tree.put_with(&[i], b"", BUFFERED).unwrap();
    }
    for (changed, fails) in [
        (19, false),
        (21, true),
        (26, true),
        (27, false),
        (50, true),
        (48, true),
        (47, false),
    ] {
        let mut t = store.transaction().unwrap();
        let mut cursor = t.cursor(&tree, ..).unwrap();
        let key = |what: gaur::Result<Option<(Vec<u8>, Vec<u8>)>>| what.unwrap().unwrap().0[0];
        // 20 to 26, and 48 to 50.
        assert_eq!(key(cursor.seek(&[20])), 20);
        for k in [22, 24, 26] {
            assert_eq!(key(cursor.next()), k);
        }
        assert_eq!(key(cursor.seek_back(&[50])), 50);
        assert_eq!(key(cursor.prev()), 48);
        drop(cursor);
        t.put(&tree, b"own", b"").unwrap();
        tree.put_with(&[changed], b"new", BUFFERED).unwrap();
        assert_eq!(t.commit(BUFFERED).is_err(), fails, "{changed}");
        if changed % 2 == 1 {
            tree.delete_with(&[changed], BUFFERED).unwrap();
        }
    }
}
