//! Typed trees: beside a model, in transactions, snapshots and batches, and over records
//! of other types.

mod common;

use std::collections::BTreeMap;
use std::ops::Bound;

use common::{disk, open};
use gaur::{
    Durability, Error, FormatOptions, OrderedKey, Part, Store, Swap, TypedTree, Value, WriteBatch,
};
use gaur_iodriver::sync::rng;
use rand::RngExt;

const BUFFERED: Durability = Durability::Buffered;

fn store(seed: u64) -> Store {
    let disk = disk(seed, 64 << 20);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    open(&disk, 4 << 20)
}

type Key = (String, i16);
type Model = BTreeMap<Key, Option<u32>>;

/// A key of few strings, one of which begins another, and of numbers around zero.
fn key(r: &mut rng::Rng) -> Key {
    let name = ["", "a", "a\0", "ab", "b"][r.random_range(0..5)];
    (name.to_owned(), r.random_range(-6..6))
}

fn value(r: &mut rng::Rng) -> Option<u32> {
    r.random_bool(0.7).then(|| r.random_range(0..3))
}

#[test]
fn a_typed_tree_is_an_ordered_map() {
    let seed = rng::fresh_seed();
    println!("seed {seed}");
    let mut r = rng::seeded(seed);
    let store = store(1);
    let tree: TypedTree<Key, Option<u32>> = store.tree("t").unwrap().typed();
    let mut model = Model::new();
    for _ in 0..3000 {
        let (k, v) = (key(&mut r), value(&mut r));
        let held = model.get(&k).copied();
        match r.random_range(0..9) {
            0 => {
                tree.put_with(&k, &v, BUFFERED).unwrap();
                model.insert(k, v);
            }
            1 => {
                tree.delete_with(&k, BUFFERED).unwrap();
                model.remove(&k);
            }
            2 => match tree.insert_if_absent(&k, &v, BUFFERED).unwrap() {
                Swap::Done(_) => assert_eq!(model.insert(k, v), None),
                Swap::Differs(found) => assert_eq!((found, held.is_some()), (held, true)),
            },
            3 => {
                let (expected, new) = (value(&mut r), value(&mut r));
                let swapped = tree.compare_and_swap(&k, Some(&expected), Some(&new), BUFFERED);
                match swapped.unwrap() {
                    Swap::Done(_) => assert_eq!(model.insert(k, new), Some(expected)),
                    Swap::Differs(found) => {
                        assert_eq!(found, held);
                        assert_ne!(found, Some(expected));
                    }
                }
            }
            4 => {
                let change = |old: Option<Option<u32>>| match old {
                    None => Some(Some(0)),
                    Some(None) => None,
                    Some(Some(n)) => Some(Some(n + 1)),
                };
                tree.update(&k, BUFFERED, change).unwrap();
                match change(held) {
                    Some(new) => model.insert(k, new),
                    None => model.remove(&k),
                };
            }
            5 => {
                assert_eq!(tree.get(&k).unwrap(), held);
                assert_eq!(tree.contains(&k).unwrap(), held.is_some());
                let other = key(&mut r);
                let wanted = vec![held, model.get(&other).copied()];
                assert_eq!(tree.multi_get(&[k, other]).unwrap(), wanted);
            }
            6 => {
                let (lower, upper) = (Bound::Excluded(k), Bound::Included(key(&mut r)));
                let inside = |k: &Key| {
                    matches!(&lower, Bound::Excluded(l) if k > l)
                        && matches!(&upper, Bound::Included(u) if k <= u)
                };
                let mut wanted: Vec<_> = model.clone().into_iter().collect();
                wanted.retain(|(k, _)| inside(k));
                let range = (lower.clone(), upper.clone());
                let found: Result<Vec<_>, _> = tree.range(range.clone()).unwrap().collect();
                assert_eq!(found.unwrap(), wanted);
                assert_eq!(tree.count(range.clone()).unwrap(), wanted.len() as u64);
                let found: Result<Vec<_>, _> = tree.range(range).unwrap().rev().collect();
                wanted.reverse();
                assert_eq!(found.unwrap(), wanted);
            }
            7 => {
                let found: Result<Vec<_>, _> = tree.prefix(&k.0).unwrap().collect();
                let wanted: Vec<_> = model.clone().into_iter().filter(|e| e.0.0 == k.0).collect();
                assert_eq!(found.unwrap(), wanted);
                let pair = |e: (&Key, &Option<u32>)| (e.0.clone(), *e.1);
                assert_eq!(tree.first().unwrap(), model.first_key_value().map(pair));
                assert_eq!(tree.last().unwrap(), model.last_key_value().map(pair));
            }
            _ => {
                let mut cursor = tree.cursor(..).unwrap();
                let pair = |e: (&Key, &Option<u32>)| (e.0.clone(), *e.1);
                let from = model.range(k.clone()..).next().map(pair);
                assert_eq!(cursor.seek(&k).unwrap(), from);
                let before = model.range(..k.clone()).next_back().map(pair);
                assert_eq!(cursor.prev().unwrap(), before);
                let upto = model.range(..=k.clone()).next_back().map(pair);
                assert_eq!(cursor.seek_back(&k).unwrap(), upto);
                let next = model.range((Bound::Excluded(k), Bound::Unbounded)).next();
                if upto.is_some() {
                    assert_eq!(cursor.next().unwrap(), next.map(pair));
                }
                assert_eq!(cursor.first().unwrap(), model.first_key_value().map(pair));
                assert_eq!(cursor.last().unwrap(), model.last_key_value().map(pair));
            }
        }
    }
    assert!(model.len() > 10);
}

#[test]
fn in_transactions_snapshots_and_batches() {
    let store = store(2);
    let tree: TypedTree<u32, String> = store.tree("t").unwrap().typed();
    let s = |t: &str| t.to_owned();
    let mut batch = WriteBatch::new();
    tree.put_in(&mut batch, &1, &s("one")).unwrap();
    tree.put_in(&mut batch, &256, &s("many")).unwrap();
    tree.delete_in(&mut batch, &1).unwrap();
    store.commit(batch, BUFFERED).unwrap();
    assert_eq!(tree.first().unwrap(), Some((256, s("many"))));

    let before = store.snapshot().unwrap();
    let mut t = store.transaction().unwrap();
    tree.put_in(&mut t, &2, &s("two")).unwrap();
    tree.delete_in(&mut t, &256).unwrap();
    tree.put_in(&mut t, &300, &s("more")).unwrap();
    assert_eq!(tree.get_in(&t, &2).unwrap(), Some(s("two")));
    assert_eq!(tree.get(&2).unwrap(), None);
    let all: Vec<_> = tree.range_in(&t, ..).unwrap().map(Result::unwrap).collect();
    assert_eq!(all, [(2, s("two")), (300, s("more"))]);
    let last = tree.range_in(&t, ..).unwrap().rev().limit(1).next();
    assert_eq!(last.unwrap().unwrap().0, 300);
    let two: Vec<_> = tree.prefix_in(&t, &2u32).unwrap().collect();
    assert_eq!(two.len(), 1);
    let mut cursor = tree.cursor_in(&t, 3..).unwrap();
    assert_eq!(cursor.next().unwrap(), Some((300, s("more"))));
    assert_eq!(cursor.next().unwrap(), None);
    drop(cursor);
    t.commit(BUFFERED).unwrap();

    assert_eq!(tree.get_in(&before, &256).unwrap(), Some(s("many")));
    assert_eq!(tree.range_in(&before, ..).unwrap().count(), 1);
    assert_eq!(
        tree.cursor_in(&before, ..).unwrap().last().unwrap(),
        Some((256, s("many")))
    );
    assert_eq!(tree.get(&256).unwrap(), None);
    let shown = format!("{tree:?} {:?}", tree.clone().tree().name());
    assert!(shown.contains("u32") && shown.ends_with("\"t\""), "{shown}");
}

/// That of the error says which record and what it should be.
fn wrong<T: std::fmt::Debug>(result: Result<T, Error>, key: &[u8], part: Part, expected: &str) {
    match result {
        Err(Error::WrongType(w)) => {
            assert_eq!(
                (w.tree.as_str(), w.key.as_slice(), w.part),
                ("t", key, part)
            );
            assert!(w.expected.contains(expected), "{}", w.expected);
        }
        other => panic!("{other:?} is not WrongType"),
    }
}

#[test]
fn a_record_of_other_types_is_told_and_passed_over() {
    let store = store(3);
    let bytes = store.tree("t").unwrap();
    let tree: TypedTree<u16, u32> = bytes.typed();
    tree.put(&1, &10).unwrap();
    bytes.put(&2u16.to_bytes(), b"abc").unwrap();
    bytes.put(b"\0\x02x", b"abcd").unwrap();
    tree.put(&3, &30).unwrap();
    let two = 2u16.to_bytes();
    let value = |found| wrong(found, &two, Part::Value, "u32");
    value(tree.get(&2).map(drop));
    value(tree.multi_get(&[1, 2]).map(drop));
    value(tree.insert_if_absent(&2, &0, BUFFERED).map(drop));
    let mut called = false;
    let updated = tree.update(&2, BUFFERED, |_| {
        called = true;
        None
    });
    value(updated.map(drop));
    assert!(!called && bytes.get(&two).unwrap().as_deref() == Some(b"abc"));
    value(tree.get_in(&store.snapshot().unwrap(), &2).map(drop));

    let mut all = tree.iter().unwrap();
    assert_eq!(all.next().unwrap().unwrap(), (1, 10));
    value(all.next().unwrap().map(drop));
    wrong(all.next().unwrap(), b"\0\x02x", Part::Key, "u16");
    assert_eq!(all.next().unwrap().unwrap(), (3, 30));
    assert!(all.next().is_none());
    let mut cursor = tree.cursor(..).unwrap();
    cursor.next().unwrap();
    value(cursor.next().map(drop));
    wrong(cursor.next(), b"\0\x02x", Part::Key, "u16");
    assert_eq!(cursor.next().unwrap(), Some((3, 30)));
    // It can be replaced and removed.
    tree.put(&2, &20).unwrap();
    assert_eq!(tree.get(&2).unwrap(), Some(20));
}

#[test]
fn a_type_of_ones_own_and_limits() {
    #[derive(Debug, PartialEq)]
    struct Even(u64);
    impl Value for Even {
        fn encode_value(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.0.to_le_bytes());
        }
        fn decode_value(bytes: &[u8]) -> Option<Self> {
            let n = u64::from_le_bytes(bytes.try_into().ok()?);
            n.is_multiple_of(2).then_some(Self(n))
        }
    }
    let store = store(4);
    let tree: TypedTree<Vec<u8>, Even> = store.tree("t").unwrap().typed();
    let key = vec![0; 400];
    tree.put(&key, &Even(4)).unwrap();
    assert_eq!(tree.get(&key).unwrap(), Some(Even(4)));
    tree.put(&key, &Even(5)).unwrap();
    assert!(matches!(tree.get(&key), Err(Error::WrongType(_))));
    // Each zero takes two bytes.
    let long = vec![0; gaur::MAX_KEY / 2];
    assert!(matches!(
        tree.put(&long, &Even(2)),
        Err(Error::KeyTooLong { .. })
    ));
    assert!(matches!(tree.get(&long), Err(Error::KeyTooLong { .. })));
}

#[test]
fn ranges_of_typed_keys_are_deleted() {
    let store = store(1);
    let tree = store.tree("t").unwrap().typed::<i64, u32>();
    for i in -500..500 {
        tree.put_with(&i, &7, Durability::Buffered).unwrap();
    }
    tree.delete_range_with(-400..=-1, Durability::Buffered)
        .unwrap();
    tree.delete_range_with(450.., Durability::Buffered).unwrap();
    let keys: Vec<i64> = tree.iter().unwrap().map(|r| r.unwrap().0).collect();
    assert!(keys.into_iter().eq((-500..-400).chain(0..450)));
}
