//! Reading one's own writes, savepoints, ends, and running again.

use std::ops::Bound;

use gaur::{Retry, Savepoint};

use super::*;

#[test]
fn own_writes_are_seen_by_gets_and_by_scans_both_ways() {
    let disk = disk(1);
    let store = open(&disk);
    let (tree, other) = (store.tree("t").unwrap(), store.tree("u").unwrap());
    for k in [b"b", b"d", b"f", b"h"] {
        tree.put_with(k, b"old", BUFFERED).unwrap();
    }
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let mut t = begin(&store, isolation);
        t.put(&tree, b"a", b"new").unwrap();
        t.put(&tree, b"d", b"new").unwrap();
        t.delete(&tree, b"f").unwrap();
        t.delete(&tree, b"g").unwrap();
        t.put(&tree, b"i", b"new").unwrap();
        t.put(&other, b"e", b"elsewhere").unwrap();
        let large = vec![5; 20_000];
        t.put(&tree, b"e", &large).unwrap();
        assert_eq!(t.get(&tree, b"a").unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(t.get(&tree, b"f").unwrap(), None);
        assert!(!t.contains(&tree, b"f").unwrap() && t.contains(&tree, b"e").unwrap());
        assert_eq!(t.get(&tree, b"b").unwrap().as_deref(), Some(&b"old"[..]));
        let keys = |records: Vec<(Vec<u8>, Vec<u8>)>| -> String {
            records.iter().map(|r| r.0[0] as char).collect()
        };
        assert_eq!(keys(all(&t, &tree)), "abdehi");
        let of = |scan: gaur::TransactionScan<'_>| -> Vec<_> { scan.map(Result::unwrap).collect() };
        assert_eq!(keys(of(t.iter(&tree).unwrap().rev())), "ihedba");
        assert_eq!(keys(of(t.iter(&tree).unwrap().limit(4))), "abde");
        assert_eq!(keys(of(t.iter(&tree).unwrap().rev().limit(4))), "ihed");
        let some = (
            Bound::Excluded(b"a".to_vec()),
            Bound::Included(b"e".to_vec()),
        );
        assert_eq!(keys(of(t.range(&tree, some.clone()).unwrap())), "bde");
        let names = of(t.range(&tree, some).unwrap().rev().keys_only());
        assert!(names.iter().all(|(_, v)| v.is_empty()));
        assert_eq!(keys(names), "edb");
        let none = (
            Bound::Excluded(b"d".to_vec()),
            Bound::Excluded(b"d".to_vec()),
        );
        assert!(of(t.range(&tree, none).unwrap()).is_empty());
        assert!(of(t.range(&tree, b"e".to_vec()..b"b".to_vec()).unwrap()).is_empty());
        assert_eq!(all(&t, &other).len(), 1);
        assert_eq!(of(t.prefix(&tree, b"e").unwrap())[0].1, large);
        // Nobody else sees them, before and after.
        assert_eq!(tree.iter().unwrap().count(), 4);
        t.rollback();
        assert_eq!(tree.iter().unwrap().count(), 4);
    }
}

#[test]
fn a_commit_is_whole_in_all_trees_and_survives() {
    let disk = disk(2);
    let store = open(&disk);
    let trees = [store.tree("a").unwrap(), store.tree("b").unwrap()];
    let mut t = store.transaction().unwrap();
    for i in 0..500u32 {
        t.put(&trees[i as usize % 2], &i.to_be_bytes(), &[7; 50])
            .unwrap();
    }
    t.put(&trees[0], b"large", &[8; 100_000]).unwrap();
    let seen = store.snapshot().unwrap();
    let csn = t.commit(Durability::Sync).unwrap();
    assert!(csn > seen.csn());
    drop((trees, store, seen));
    let store = open(&disk);
    let trees = [store.tree("a").unwrap(), store.tree("b").unwrap()];
    assert_eq!(trees[0].iter().unwrap().count(), 251);
    assert_eq!(trees[1].iter().unwrap().count(), 250);
    assert_eq!(trees[0].get(b"large").unwrap().unwrap(), [8; 100_000]);
    store.close().unwrap();
}

#[test]
fn savepoints_go_back_and_are_released() {
    let disk = disk(3);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    tree.put_with(b"k", b"0", BUFFERED).unwrap();
    let mut t = store.transaction().unwrap();
    let mut other = store.transaction().unwrap();
    let value = |t: &Transaction| t.get(&tree, b"k").unwrap().map(|v| v[0] - b'0');
    t.put(&tree, b"k", b"1").unwrap();
    let size = t.size();
    let one = t.savepoint();
    t.put(&tree, b"k", b"22").unwrap();
    t.put(&tree, b"new", b"x").unwrap();
    let two = t.savepoint();
    t.delete(&tree, b"k").unwrap();
    assert_eq!((value(&t), t.len()), (None, 2));
    t.rollback_to(two).unwrap();
    assert_eq!(value(&t), Some(2));
    t.delete(&tree, b"k").unwrap();
    t.put(&tree, b"k", b"4").unwrap();
    let three = t.savepoint();
    t.release(two).unwrap();
    assert_eq!(value(&t), Some(4));
    let gone = |e: gaur::Result<()>| assert!(matches!(e, Err(Error::NoSuchSavepoint)));
    gone(t.rollback_to(two));
    gone(t.rollback_to(three));
    t.rollback_to(one).unwrap();
    assert_eq!((value(&t), t.len(), t.size()), (Some(1), 1, size));
    // It is there still.
    t.put(&tree, b"k", b"5").unwrap();
    t.rollback_to(one).unwrap();
    gone(other.rollback_to(one));
    t.release(one).unwrap();
    gone(t.release(one));
    t.commit(BUFFERED).unwrap();
    assert_eq!(tree.get(b"k").unwrap().as_deref(), Some(&b"1"[..]));
    assert!(!tree.contains(b"new").unwrap());
    let _: Savepoint = other.savepoint();
}

#[test]
fn whoever_only_reads_never_fails_and_what_was_read_counts() {
    let disk = disk(4);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    for i in 0..100u8 {
        tree.put_with(&[i], b"v", BUFFERED).unwrap();
    }
    let put = |i: u8| assert!(tree.put_with(&[i], b"w", BUFFERED).unwrap() > 0);
    let reader = store.transaction().unwrap();
    assert_eq!(all(&reader, &tree).len(), 100);
    put(3);
    assert_eq!(reader.csn(), reader.commit(BUFFERED).unwrap());

    // Each: what is read, what others write then, whether that is a conflict.
    type Read<'a> = &'a dyn Fn(&Transaction);
    let take = |t: &Transaction, n: usize, reverse: bool| {
        let scan = t.range(&tree, vec![10]..vec![90]).unwrap();
        let scan = if reverse { scan.rev() } else { scan };
        assert_eq!(scan.take(n).count(), n.min(80));
    };
    let cases: [(Read<'_>, u8, bool); 16] = [
        (&|t| drop(t.get(&tree, &[5]).unwrap()), 5, true),
        (&|t| drop(t.get(&tree, &[5]).unwrap()), 6, false),
        (&|t| assert!(!t.contains(&tree, &[200]).unwrap()), 200, true),
        (&|t| take(t, 5, false), 14, true),
        (&|t| take(t, 5, false), 15, false),
        (&|t| take(t, 5, false), 9, false),
        (&|t| take(t, 5, true), 85, true),
        (&|t| take(t, 5, true), 84, false),
        (&|t| take(t, 5, true), 90, false),
        (&|t| take(t, 0, false), 10, false),
        (&|t| take(t, 100, false), 89, true),
        (&|t| take(t, 100, true), 10, true),
        (&|t| take(t, 100, true), 95, false),
        (&|t| drop(t.range(&tree, ..).unwrap()), 50, false),
        // A scan that is never ended counts as a whole.
        (&|t| std::mem::forget(t.range(&tree, ..).unwrap()), 50, true),
        (&|t| drop(t.prefix(&tree, &[7]).unwrap().next()), 7, true),
    ];
    for (i, (read, written, fails)) in cases.into_iter().enumerate() {
        // In the leaf of what was read, and elsewhere.
        for own in [&b"\x01own"[..], b"\xf0far"] {
            tree.delete_with(&[200], BUFFERED).unwrap();
            let mut t = store.transaction().unwrap();
            t.put(&tree, own, b"mine").unwrap();
            read(&t);
            put(written);
            let done = t.commit(BUFFERED);
            match fails {
                true => {
                    let on = conflict(done);
                    assert_eq!((on.tree.as_str(), on.key), ("t", vec![written]), "case {i}");
                }
                false => drop(done.unwrap_or_else(|e| panic!("case {i}: {e}"))),
            }
        }
    }
    tree.delete_with(&[200], BUFFERED).unwrap();

    // Deleting what is not there is no change; its own writes are none of others'.
    let mut t = store.transaction().unwrap();
    assert_eq!(t.get(&tree, &[200]).unwrap(), None);
    t.put(&tree, &[50], b"mine").unwrap();
    assert_eq!(t.get(&tree, &[50]).unwrap().as_deref(), Some(&b"mine"[..]));
    tree.delete_with(&[200], BUFFERED).unwrap();
    put(50);
    t.commit(BUFFERED).unwrap();
    assert_eq!(tree.get(&[50]).unwrap().as_deref(), Some(&b"mine"[..]));
}

#[test]
fn a_conflict_says_on_what() {
    let disk = disk(5);
    let store = open(&disk);
    let tree = store.tree("accounts").unwrap();
    let mut t = store.transaction().unwrap();
    t.prefix(&tree, b"k").unwrap().for_each(drop);
    t.put(&tree, b"x", b"").unwrap();
    let csn = tree.put_with(b"k\x01", b"", BUFFERED).unwrap();
    let e = t.commit(BUFFERED).unwrap_err();
    assert!(e.is_retryable());
    let wanted = format!(
        "commit {csn} changed the key \"k\\x01\" of tree \"accounts\", \
         in a range that the transaction read; run the transaction again"
    );
    assert_eq!(e.to_string(), wanted);
    let on = conflict(Err(e));
    let range = ConflictOn::Range {
        lower: Bound::Included(b"k".to_vec()),
        upper: Bound::Excluded(b"l".to_vec()),
    };
    assert_eq!((on.csn, on.on), (csn, range));
}

#[test]
fn it_is_run_again_until_it_commits_or_gives_up() {
    #[derive(Debug)]
    enum Mine {
        Engine(Error),
        Own,
    }
    impl From<Error> for Mine {
        fn from(e: Error) -> Self {
            Self::Engine(e)
        }
    }
    let disk = disk(6);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let once = TransactionOptions::default();
    let retry = Retry {
        attempts: 4,
        seed: Some(1),
        ..Retry::default()
    };
    // Somebody is always faster, `n` times.
    let run = |n: u32| {
        let mut turns = 0;
        store.transact_with(&once, BUFFERED, &retry, |t| {
            turns += 1;
            let was = t.get(&tree, b"k")?.map_or(0, |v| v[0]);
            if turns <= n {
                tree.put_with(b"k", &[was + 10], BUFFERED)?;
            }
            t.put(&tree, b"k", &[was + 1])?;
            Ok::<_, Mine>(turns)
        })
    };
    let done = run(3).unwrap();
    assert_eq!((done.value, done.attempts), (4, 4));
    assert_eq!(tree.get(b"k").unwrap().unwrap(), [31]);
    assert!(done.csn >= 4);
    let failed = run(4).unwrap_err();
    assert!(matches!(failed, Mine::Engine(Error::Conflict(_))));
    let own = store.transact(|t| -> Result<(), Mine> {
        t.put(&tree, b"k", b"never")?;
        Err(Mine::Own)
    });
    assert!(matches!(own, Err(Mine::Own)));
    assert_eq!(tree.get(b"k").unwrap().unwrap(), [71]);
}
