//! What a feed gives, and when it ends.

use std::thread;
use std::time::Duration;

use gaur::{Error, FeedOp, FeedOptions, OpenOptions, Store, WriteBatch};
use gaur_iodriver::IoErrorKind;
use gaur_iodriver::sim::{FaultKind, OpKind};

use super::*;

#[test]
fn a_feed_gives_each_commit_whole_and_in_order() {
    let disk = formatted(1, 32 * MIB);
    let store = open(&disk);
    let mut whole = feed(&store, 0);
    let tree = store.tree("t").unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&tree, b"a", b"1").put(&tree, b"c", &[7; 50_000]);
    batch.delete(&tree, b"b");
    store.commit(batch, BUFFERED).unwrap();
    let last = tree.put(b"d", b"").unwrap();
    let all = ready(&mut whole);
    assert_eq!(numbers(&all), [1, 2, 3]);
    assert_eq!((last, whole.csn(), whole.is_over()), (3, 3, false));
    assert!(matches!(
        all[0].iter().next(),
        Some(FeedOp::CreateTree { name: b"t", .. })
    ));
    let told: Vec<(Vec<u8>, Option<usize>)> = all[1]
        .iter()
        .map(|op| {
            assert_eq!(op.tree(), tree.id());
            let len = op.value().unwrap().map(|v| v.len());
            match op {
                FeedOp::Put { key, .. }
                | FeedOp::PutLarge { key, .. }
                | FeedOp::Delete { key, .. } => (key.to_vec(), len),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let expected = [(&b"a"[..], Some(1)), (b"b", None), (b"c", Some(50_000))];
    assert_eq!(told, expected.map(|(k, len)| (k.to_vec(), len)));
    assert!(
        matches!(all[1].iter().nth(2), Some(FeedOp::PutLarge { value, .. })
        if value.bytes() == 50_000 && value.read().unwrap() == [7; 50_000])
    );
    // From anywhere in it.
    for after in 0..=3 {
        let rest = ready(&mut feed(&store, after));
        assert_eq!(numbers(&rest), (after + 1..=3).collect::<Vec<_>>());
    }
    let ahead = store.changes(4, &FeedOptions::default());
    assert!(matches!(ahead, Err(Error::BadOption { name: "after", .. })));
}

#[test]
fn what_is_not_durable_is_not_given() {
    let disk = formatted(2, 32 * MIB);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let mut feed = feed(&store, store.flush().unwrap());
    for n in 0..10u8 {
        tree.put_with(&[n], b"v", BUFFERED).unwrap();
    }
    assert_eq!(numbers(&ready(&mut feed)), []);
    let behind = |name| store.stats().get("feeds", name).unwrap();
    assert_eq!((behind("open"), behind("behind")), (1, 0));
    store.flush().unwrap();
    assert_eq!(behind("behind"), 10);
    assert!(behind("behind_bytes") >= 4096);
    assert_eq!(numbers(&ready(&mut feed)), (2..=11).collect::<Vec<_>>());
    feed.next_within(Duration::ZERO).unwrap();
    assert_eq!((behind("behind"), behind("behind_bytes")), (0, 0));
    drop(feed);
    assert_eq!(behind("open"), 0);
}

#[test]
fn a_feed_wakes_for_the_next_commit_and_ends_when_the_store_is_closed() {
    for close in [true, false] {
        let disk = formatted(3, 32 * MIB);
        let store = open(&disk);
        let tree = store.tree("t").unwrap();
        let mut feed = feed(&store, 1);
        let consumer = thread::spawn(move || {
            let got: Vec<_> = feed.by_ref().map(|c| c.unwrap().csn()).collect();
            assert!(feed.is_over() && feed.next().is_none());
            got
        });
        for n in 0..20u8 {
            tree.put(&[n], b"v").unwrap();
        }
        while store.stats().get("feeds", "behind") != Some(0) {
            thread::yield_now();
        }
        drop(tree);
        if close {
            store.close().unwrap();
        } else {
            drop(store);
        }
        let got = consumer.join().unwrap();
        // Closing may come before the last of them is asked for.
        assert!(got.len() >= 19 && got == (2..2 + got.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn a_store_that_stops_gives_what_was_durable_and_says_why() {
    let disk = formatted(4, 32 * MIB);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    tree.put(b"a", b"1").unwrap();
    let mut feed = feed(&store, 0);
    let mut idle = self::feed(&store, 2);
    let waiting = thread::spawn(move || idle.next().unwrap().map(|c| c.csn()));
    disk.inject_next(OpKind::Write, FaultKind::Fail(IoErrorKind::Failed));
    tree.put(b"b", b"2").unwrap_err();
    let got: Vec<_> = feed.by_ref().collect();
    assert!(matches!(
        got.as_slice(),
        [Ok(a), Ok(b), Err(Error::Stopped(_))] if (a.csn(), b.csn()) == (1, 2)
    ));
    assert!(matches!(waiting.join().unwrap(), Err(Error::Stopped(_))));
}

#[test]
fn a_consumer_resumes_after_a_reopening_however_the_store_ended() {
    let disk = formatted(5, 32 * MIB);
    let mut copy = Copy::default();
    for round in 0..8u8 {
        let store = open(&disk);
        assert_eq!(store.recovery().clean, round % 2 == 1 || round == 0);
        let mut feed = feed(&store, copy.csn);
        let tree = store.tree("t").unwrap();
        for n in 0..50u8 {
            tree.put_with(&[n, round], &[n; 300], BUFFERED).unwrap();
            if n == 30 {
                store.checkpoint().unwrap();
            }
        }
        store.flush().unwrap();
        // It stays behind what is there by half a round.
        for _ in 0..40 {
            copy.take(&feed.next_within(LONG).unwrap().unwrap());
        }
        drop((feed, tree));
        if round % 2 == 0 {
            store.close().unwrap();
        }
    }
    let read_only = OpenOptions {
        read_only: true,
        ..options()
    };
    let store = Store::open_device(disk.device(), &read_only).unwrap();
    let rest = self::feed(&store, copy.csn);
    rest.for_each(|commit| copy.take(&commit.unwrap()));
    copy.compare(&store);
    // And all of it, from the first commit.
    let mut again = Copy::default();
    feed(&store, 0).for_each(|commit| again.take(&commit.unwrap()));
    assert_eq!(copy, again);
    let stats = disk.stats();
    store.close().unwrap();
    assert_eq!(disk.stats().writes, stats.writes);
}

#[test]
fn trees_come_and_go_in_a_feed() {
    let disk = formatted(1, 64 * MIB);
    let store = open(&disk);
    store.tree("a").unwrap().put(b"k", b"v").unwrap();
    let snapshot = store.create_snapshot("s").unwrap();
    let from = store.flush().unwrap();
    store.rename_tree("a", "b").unwrap();
    store.clone_tree(&snapshot, "a", "c").unwrap();
    let mut loader = store.bulk_load("d").unwrap();
    loader.push(b"k", b"v").unwrap();
    loader.finish().unwrap();
    store.drop_tree("b").unwrap();
    let upto = store.flush().unwrap();
    let mut told = Vec::new();
    for commit in store.changes(from, &FeedOptions::default()).unwrap() {
        let commit = commit.unwrap();
        for op in commit.iter() {
            told.push(match op {
                FeedOp::RenameTree { name, .. } => format!("rename to {}", text(name)),
                FeedOp::CreateFilled { name, .. } => format!("filled {}", text(name)),
                FeedOp::DropTree { name, .. } => format!("drop {}", text(name)),
                other => panic!("{other:?}"),
            });
        }
        if commit.csn() == upto {
            break;
        }
    }
    assert_eq!(told, ["rename to b", "filled c", "filled d", "drop b"]);
}

fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap()
}
