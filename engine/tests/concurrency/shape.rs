//! Scans and batches while leaves split, merge and empty.

use super::*;

/// Breaks if a scan takes a leaf's records from before the place it has come to
/// (two leaves merged behind it), or goes past keys that moved (a split, a
/// rebalance). Every tenth key is never deleted and must be met exactly once.
#[test]
fn scans_meet_each_key_once_while_the_tree_grows_and_shrinks() {
    let seed = seed();
    let disk = disk(seed, 192, Duration::ZERO);
    within(60, move || {
        let store = open(disk.device(), 2 << 20, 10);
        let tree = store.tree("breathing").unwrap();
        let key = |i: u64| format!("{i:06}").into_bytes();
        let pillars = (0..6000).filter(|i| i % 10 == 0);
        for i in pillars.clone() {
            tree.put_with(&key(i), b"pillar", BUFFERED).unwrap();
        }
        let expected = pillars.count();
        let end = Instant::now() + 2 * seconds();
        let walks = AtomicU64::new(0);
        std::thread::scope(|s| {
            for t in 0..3u64 {
                let (tree, key) = (&tree, &key);
                s.spawn(move || {
                    let mut r = rng::seeded(seed ^ t);
                    while Instant::now() < end {
                        let mine = || (0..6000u64).filter(|i| i % 10 != 0 && i % 3 == t);
                        let value = vec![t as u8; r.random_range(0..400)];
                        for i in mine() {
                            tree.put_with(&key(i), &value, BUFFERED).unwrap();
                        }
                        for i in mine() {
                            tree.delete_with(&key(i), BUFFERED).unwrap();
                        }
                    }
                });
            }
            for t in 0..2u64 {
                let (tree, walks) = (&tree, &walks);
                s.spawn(move || {
                    while Instant::now() < end {
                        match walk(tree, walks.fetch_add(1, Ordering::Relaxed) % 2 == t) {
                            Ok(all) => {
                                let got = all.iter().filter(|r| r.1 == b"pillar").count();
                                assert_eq!(got, expected, "keys that were never deleted");
                            }
                            Err(Error::ViewTooOld { .. }) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                });
            }
        });
        // And all the way down: what is left fits into one leaf again.
        for (k, _) in walk(&tree, false).unwrap() {
            tree.delete_with(&k, BUFFERED).unwrap();
        }
        assert!(walk(&tree, true).unwrap().is_empty());
        check_account(&store);
        let stats = store.stats();
        for name in ["splits", "merges", "rebalances", "root_collapses"] {
            println!("{name} {}", stats.get("tree", name).unwrap());
        }
        assert!(stats.get("tree", "merges").unwrap() > 0);
        store.close().unwrap();
    });
}

/// A scan met the records of a leaf twice when that leaf had been merged with the
/// one before it since: it took all of the leaf that covers its place, not only
/// what lies behind the place.
#[test]
fn a_scan_does_not_repeat_what_was_merged_behind_it() {
    let disk = disk(1, 64, Duration::ZERO);
    within(60, move || {
        for reverse in [false, true] {
            let store = open(disk.device(), 8 << 20, 10_000);
            let tree = store.tree("t").unwrap();
            let key = |i: u32| format!("{i:05}").into_bytes();
            for i in 0..3000 {
                tree.put_with(&key(i), &[7; 60], BUFFERED).unwrap();
            }
            let scan = tree.iter().unwrap();
            let mut scan = if reverse { scan.rev() } else { scan };
            let mut got: Vec<_> = scan.by_ref().take(500).map(|x| x.unwrap().0).collect();
            for i in (0..3000).filter(|i| i % 50 != 0) {
                tree.delete_with(&key(i), BUFFERED).unwrap();
            }
            assert!(store.stats().get("tree", "merges").unwrap() > 0);
            got.extend(scan.map(|x| x.unwrap().0));
            if reverse {
                got.reverse();
            }
            assert!(got.iter().eq((0..3000).map(key).collect::<Vec<_>>().iter()));
        }
    });
}

/// A batch waited for itself, for ever and inside the gate: it had prepared two
/// leaves, and then they were merged, so that both of its parts went to one frame.
/// And a writer panicked that wanted to split a leaf for its value when the leaf
/// had been emptied since it looked: there was no place to split it at.
#[test]
fn leaves_merge_and_empty_between_the_steps_of_a_batch() {
    let seed = seed();
    let disk = disk(seed, 128, Duration::ZERO);
    within(60, move || {
        let store = open(disk.device(), 8 << 20, 50);
        let tree = store.tree("t").unwrap();
        let end = Instant::now() + seconds();
        std::thread::scope(|s| {
            for t in 0..6u8 {
                let (store, tree) = (&store, &tree);
                s.spawn(move || {
                    let mut r = rng::seeded(seed ^ u64::from(t));
                    while Instant::now() < end {
                        let mut batch = WriteBatch::new();
                        let put = r.random_bool(0.5);
                        for k in 0..r.random_range(1..8u8) {
                            if put {
                                batch.put(tree, &[k], &vec![t; r.random_range(900..1300)]);
                            } else {
                                batch.delete(tree, &[k]);
                            }
                        }
                        store.commit(batch, BUFFERED).unwrap();
                    }
                });
            }
        });
        check_account(&store);
    });
}
