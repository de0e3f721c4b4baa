//! Who sees that a range is deleted: transactions, feeds, those with a view, those who ask
//! for what cannot be.

use std::ops::Bound;
use std::time::Duration;

use gaur::{
    ConflictOn, Durability, Error, FeedOp, FeedOptions, Isolation, OpenOptions, Store,
    TransactionOptions, Tree,
};

use super::{MIB, contents, fill, formatted, key, settle, stat};
use crate::common::{checked, open};

fn started(keys: u32) -> (gaur_iodriver::sim::SimDisk, Store, Tree) {
    let disk = formatted(64 * MIB);
    let store = open(&disk, 8 * MIB);
    let tree = store.tree("t").unwrap();
    fill(&tree, 0..keys, &[3; 100]);
    (disk, store, tree)
}

#[test]
fn a_range_in_which_nothing_lies_is_no_commit() {
    let (_, store, tree) = started(2000);
    let newest = store.flush().unwrap();
    let k = |i| key(i);
    type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);
    let none: [Range; 5] = [
        (Bound::Included(k(5)), Bound::Excluded(k(5))),
        (Bound::Excluded(k(5)), Bound::Excluded(k(5))),
        (Bound::Excluded(k(5)), Bound::Included(k(5))),
        (Bound::Included(k(1500)), Bound::Included(k(5))),
        (Bound::Unbounded, Bound::Excluded(Vec::new())),
    ];
    for range in none {
        assert_eq!(tree.delete_range(range).unwrap(), newest);
    }
    for end in [
        (Bound::Included(vec![0; 1025]), Bound::Unbounded),
        (Bound::Unbounded, Bound::Excluded(vec![0; 1025])),
    ] {
        let refused = tree.delete_range(end).unwrap_err();
        assert!(matches!(refused, Error::KeyTooLong { len: 1025, .. }));
    }
    assert_eq!(contents(&tree).len(), 2000);
    // One in which no record lies is one, as a delete of what is not there is.
    assert_eq!(tree.delete_range(k(5000)..k(6000)).unwrap(), newest + 1);
    assert_eq!(tree.delete_range(k(5)..=k(5)).unwrap(), newest + 2);
    assert_eq!(contents(&tree).len(), 1999);
    // The longest keys there can be.
    let (first, last) = (vec![0xFE; 1024], vec![0xFF; 1024]);
    tree.put(&first, b"").unwrap();
    tree.put(&last, b"").unwrap();
    tree.delete_range((Bound::Excluded(first.clone()), Bound::Unbounded))
        .unwrap();
    assert!(tree.contains(&first).unwrap() && !tree.contains(&last).unwrap());
    tree.put(&last, b"").unwrap();
    tree.delete_range((Bound::Excluded(last.clone()), Bound::Unbounded))
        .unwrap();
    assert!(tree.contains(&last).unwrap());
    tree.delete_range(..=last).unwrap();
    assert_eq!(contents(&tree).len(), 0);
    tree.delete_range(..).unwrap();
    let empty = store.tree("empty").unwrap();
    empty.delete_range(k(1)..k(2)).unwrap();
    empty.delete_range(..).unwrap();
    store.drop_tree("empty").unwrap();
    let gone = empty.delete_range(..).unwrap_err();
    assert!(matches!(gone, Error::TreeDropped(_)));
}

#[test]
fn views_from_before_see_it_all_for_as_long_as_they_last() {
    let (disk, store, tree) = started(5000);
    tree.put(&key(70_000), &[9; 50_000]).unwrap();
    let then = contents(&tree);
    let first = store.snapshot().unwrap();
    let scan = tree.iter().unwrap();
    let mut cursor = tree.cursor(..).unwrap();
    cursor.seek(&key(2000)).unwrap();
    // Once more, so that leaves in the middle are newer than the view.
    fill(&tree, 1000..3000, b"changed");
    let changed = contents(&tree);
    let second = store.snapshot().unwrap();
    tree.delete_range(key(500)..key(4500)).unwrap();
    fill(&tree, 2000..2100, b"new");
    let third = store.snapshot().unwrap();
    let new = contents(&tree);
    tree.delete_range(key(100)..).unwrap();
    assert_eq!(contents(&tree).len(), 100);
    for _ in 0..3 {
        store.checkpoint().unwrap();
    }
    assert_eq!(stat(&store, "reclaim", "trees"), 2);
    let all = |s: &gaur::Snapshot| s.iter(&tree).unwrap().map(Result::unwrap).collect();
    let views: [(&gaur::Snapshot, &super::Model); 3] =
        [(&first, &then), (&second, &changed), (&third, &new)];
    for (view, model) in views {
        let seen: super::Model = all(view);
        assert!(seen == *model);
        for i in (0..5000).step_by(37).chain([70_000, 500, 4500]) {
            let there = view.get(&tree, &key(i)).unwrap();
            assert_eq!(there, model.get(&key(i)).cloned(), "{i}");
        }
    }
    assert!(scan.map(Result::unwrap).eq(then.clone()));
    let mut back: Vec<_> = Vec::new();
    while let Some((key, _)) = cursor.prev().unwrap() {
        back.push(key);
    }
    assert!(back.into_iter().rev().eq((0..2000).map(key)));
    drop((first, second, cursor));
    assert_eq!(third.get(&tree, &key(2050)).unwrap().unwrap(), b"new");
    drop(third);
    settle(&store);
    assert_eq!(contents(&tree).len(), 100);
    store.close().unwrap();
    let report = checked(&disk);
    assert_eq!(report.blocks.extents, 0);
    assert!(report.blocks.nodes < 10, "{:?}", report.blocks);
}

/// However many ranges are deleted while somebody looks at what was there: what is kept
/// for him is bounded. A transaction is what no checkpoint relieves of it.
#[test]
fn the_oldest_views_are_given_up_for_too_many_ranges() {
    let disk = formatted(256 * MIB);
    let store = open(&disk, 8 * MIB);
    let tree = store.tree("t").unwrap();
    fill(&tree, 0..3000, &[3; 100]);
    let old = store.transaction().unwrap();
    let mut given_up = None;
    for i in 0..1300u32 {
        fill(&tree, 1000..1001, b"more");
        tree.delete_range_with(key(0)..key(3000), Durability::Buffered)
            .unwrap();
        let many = (0..40).map(|n| (key(n * 50), vec![i as u8; 900]));
        for (key, value) in many {
            tree.put_with(&key, &value, Durability::Buffered).unwrap();
        }
        if old.get(&tree, &key(7)).is_err() {
            given_up.get_or_insert(i);
        }
    }
    let i = given_up.expect("it was given up");
    assert!((1000..1100).contains(&i), "{i}");
    let seen = old.get(&tree, &key(7)).unwrap_err();
    assert!(matches!(seen, Error::ViewTooOld { .. }), "{seen}");
    // It holds nothing any more: what was kept from the first half of the cuts goes.
    while stat(&store, "reclaim", "trees") > 800 {
        store.checkpoint().unwrap();
    }
    drop(old);
    settle(&store);
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn a_view_that_was_given_up_is_told_so() {
    let disk = formatted(64 * MIB);
    let options = OpenOptions {
        cache_bytes: 8 * MIB,
        version_memory: 1 << 16,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let tree = store.tree("t").unwrap();
    fill(&tree, 0..5000, &[3; 100]);
    let old = store.snapshot().unwrap();
    let scan = tree.iter().unwrap();
    tree.delete_range(key(1000)..key(4000)).unwrap();
    // Until what it would need is too much, which is after the part was written.
    for _ in 0..3 {
        fill(&tree, 0..1000, &[4; 100]);
        store.checkpoint().unwrap();
    }
    settle(&store);
    for i in [10, 2000, 4900] {
        let seen = old.get(&tree, &key(i)).unwrap_err();
        assert!(matches!(seen, Error::ViewTooOld { .. }), "{i}: {seen}");
    }
    let last = scan.last().unwrap().unwrap_err();
    assert!(matches!(last, Error::ViewTooOld { .. }), "{last}");
}

#[test]
fn transactions_conflict_with_a_range_that_has_what_they_read() {
    for (isolation, snapshot) in [
        (Isolation::Serializable, false),
        (Isolation::Snapshot, true),
    ] {
        let options = || TransactionOptions { isolation };
        let (_, store, tree) = started(5000);
        let other = store.tree("other").unwrap();
        let deleted = || tree.delete_range(key(1000)..key(4000)).map(drop);
        let conflict = |e: Error| match e {
            Error::Conflict(c) => (c.key, c.csn, matches!(c.on, ConflictOn::Range { .. })),
            e => panic!("{e}"),
        };
        // A record that is gone, one that never was, and a range.
        let mut t = [(); 5].map(|()| store.begin(&options()).unwrap());
        assert!(t[0].get(&tree, &key(2000)).unwrap().is_some());
        assert!(t[1].get(&tree, &[0, 0, 8, 0, 1]).unwrap().is_none());
        let range = t[2].range(&tree, key(500)..key(1001)).unwrap();
        assert_eq!(range.count(), 501);
        assert!(t[3].get(&tree, &key(4000)).unwrap().is_some());
        let range = t[4].range(&tree, key(4000)..).unwrap();
        assert_eq!(range.count(), 1000);
        let view = store.snapshot().unwrap();
        deleted().unwrap();
        let csn = view.csn() + 1;
        for (i, t) in t.iter_mut().enumerate() {
            t.put(&other, &key(i as u32), b"x").unwrap();
        }
        let done: Vec<_> = t
            .into_iter()
            .map(|t| t.commit(Durability::Buffered))
            .collect();
        let ends: Vec<_> = done.into_iter().map(|d| d.err().map(conflict)).collect();
        let expected = match snapshot {
            true => vec![None; 5],
            false => vec![
                Some((key(2000), csn, false)),
                Some((vec![0, 0, 8, 0, 1], csn, false)),
                Some((key(1000), csn, true)),
                None,
                None,
            ],
        };
        assert_eq!(ends, expected);
        // What it writes, under either.
        fill(&tree, 1000..4000, b"again");
        let mut t = store.begin(&options()).unwrap();
        assert_eq!(t.get(&tree, &key(1500)).unwrap().unwrap(), b"again");
        t.put(&tree, &key(1500), b"mine").unwrap();
        deleted().unwrap();
        // It goes on seeing what was there.
        assert_eq!(t.get(&tree, &key(1501)).unwrap().unwrap(), b"again");
        let refused = conflict(t.commit(Durability::Buffered).unwrap_err());
        assert_eq!(refused.0, key(1500));
        assert_eq!(contents(&tree).len(), 2000);
        assert_eq!(tree.get(&key(1500)).unwrap(), None);
    }
}

#[test]
fn a_feed_tells_the_range() {
    let (_, store, tree) = started(2000);
    let after = store.flush().unwrap();
    let mut feed = store.changes(after, &FeedOptions::default()).unwrap();
    tree.delete_range(key(5)..key(1800)).unwrap();
    tree.delete_range(key(9)..).unwrap();
    let mut told = Vec::new();
    for i in 1..=2 {
        let commit = feed.next_within(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!((commit.csn(), commit.len()), (after + i, 1));
        for op in commit.iter() {
            assert_eq!((op.tree(), op.value().unwrap()), (tree.id(), None));
            let FeedOp::DeleteRange { lower, upper, .. } = op else {
                panic!("{op:?}");
            };
            told.push((lower.to_vec(), upper.map(<[u8]>::to_vec)));
        }
    }
    assert_eq!(told, [(key(5), Some(key(1800))), (key(9), None)]);
}
