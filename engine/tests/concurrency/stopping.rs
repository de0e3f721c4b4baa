//! Ends: closing, scans that outlive their store, failed writes.

use super::*;

/// What a thread may be told when somebody closes the store.
fn is_closed(e: &Error) -> bool {
    matches!(e, Error::Closed)
}

/// Breaks if a commit under way is not waited for, if a reader waits for a frame
/// that nobody frees any more, or if two that close at once disturb each other.
#[test]
fn the_store_is_closed_while_others_use_it() {
    let seed = seed();
    let mut r = rng::seeded(seed);
    for round in 0..6 {
        let disk = disk(seed ^ round, 96, Duration::from_micros(20 * (round % 3)));
        let pause = Duration::from_millis(r.random_range(1..120));
        let again = disk.clone();
        let acked = within(40, move || {
            let store = open(disk.device(), 1 << 20, 10);
            let tree = store.tree("t").unwrap();
            for i in 0..6000u64 {
                tree.put_with(&i.to_be_bytes(), &[0; 300], BUFFERED)
                    .unwrap();
            }
            let acked = Mutex::new(BTreeSet::new());
            std::thread::scope(|s| {
                for t in 0..4u64 {
                    let (tree, acked) = (&tree, &acked);
                    s.spawn(move || {
                        for n in 0.. {
                            let key = (1 << 40 | t << 32 | n).to_be_bytes();
                            let durability = if n % 2 == 0 {
                                Durability::Sync
                            } else {
                                BUFFERED
                            };
                            match tree.put_with(&key, &[1; 200], durability) {
                                Ok(_) => assert!(acked.lock().unwrap().insert(key)),
                                Err(e) if is_closed(&e) => return,
                                Err(e) => panic!("a writer got: {e}"),
                            }
                        }
                    });
                }
                for t in 0..2u64 {
                    let tree = &tree;
                    s.spawn(move || {
                        let mut r = rng::seeded(seed ^ t);
                        loop {
                            let key = r.random_range(0..6000u64).to_be_bytes();
                            match tree.get(&key) {
                                Ok(v) => assert!(v.is_some()),
                                Err(e) if is_closed(&e) => return,
                                Err(e) => panic!("a reader got: {e}"),
                            }
                        }
                    });
                    s.spawn(move || {
                        loop {
                            match walk(tree, t == 0) {
                                Ok(all) => assert!(all.len() >= 6000),
                                Err(e) if is_closed(&e) => return,
                                Err(Error::ViewTooOld { .. }) => {}
                                Err(e) => panic!("a scan got: {e}"),
                            }
                        }
                    });
                }
                let tree_of = store.clone();
                s.spawn(move || {
                    for n in 0.. {
                        match tree_of.create_tree(&format!("tree-{n}")) {
                            Ok(_) => {}
                            Err(e) if is_closed(&e) => return,
                            Err(e) => panic!("a maker of trees got: {e}"),
                        }
                    }
                });
                for _ in 0..2 {
                    let store = store.clone();
                    s.spawn(move || {
                        std::thread::sleep(pause);
                        store.close().unwrap();
                    });
                }
            });
            acked.into_inner().unwrap()
        });
        let store = open(again.device(), 1 << 20, 1000);
        assert!(store.recovery().clean, "a closed store needs no replay");
        let tree = store.tree("t").unwrap();
        for key in &acked {
            assert!(tree.get(key).unwrap().is_some(), "acknowledged, and lost");
        }
        assert!(tree.iter().unwrap().count() >= 6000 + acked.len());
    }
}

/// A scan that outlived its store waited for ever for a frame: nobody evicts any
/// more. A scan keeps nothing open and is told so.
#[test]
fn a_scan_ends_with_its_store() {
    for close in [true, false] {
        let disk = disk(3, 64, Duration::ZERO);
        within(30, move || {
            let store = open(disk.device(), 1 << 20, 1000);
            let tree = store.tree("t").unwrap();
            for i in 0..8000u64 {
                tree.put_with(&i.to_be_bytes(), &[0; 300], BUFFERED)
                    .unwrap();
            }
            let mut scans: Vec<_> = (0..3).map(|_| tree.iter().unwrap()).collect();
            for scan in &mut scans {
                assert!(scan.next().unwrap().is_ok());
            }
            drop(tree);
            if close {
                store.close().unwrap();
            } else {
                drop(store);
            }
            for scan in scans {
                let end = scan.filter_map(Result::err).last();
                assert!(matches!(end, Some(Error::Closed)), "{end:?}");
            }
        });
    }
}

/// The evictor ended with its first failed write, and every reader that needed a
/// frame waited for ever. After a fail-stop reads go on.
#[test]
fn readers_do_not_hang_after_a_failed_write() {
    let seed = seed();
    for round in 0..4 {
        let disk = disk(seed ^ round, 96, Duration::ZERO);
        within(60, move || {
            let store = open(disk.device(), 1 << 20, 20);
            let tree = store.tree("t").unwrap();
            for i in 0..6000u64 {
                tree.put_with(&i.to_be_bytes(), &[0; 300], BUFFERED)
                    .unwrap();
            }
            store.checkpoint().unwrap();
            let begin = disk.stats().writes + 3 + seed % 40;
            let failure = FaultKind::Fail(IoErrorKind::Failed);
            disk.inject(Fault::for_good(OpKind::Write, begin, failure));
            let stopped = AtomicBool::new(false);
            std::thread::scope(|s| {
                for t in 0..3u64 {
                    let (tree, stopped) = (&tree, &stopped);
                    s.spawn(move || {
                        let mut r = rng::seeded(seed ^ t);
                        while !stopped.load(Ordering::Relaxed) {
                            let key = r.random_range(0..6000u64).to_be_bytes();
                            if tree.put_with(&key, &[1; 300], BUFFERED).is_err() {
                                stopped.store(true, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            // Nearly all frames are dirty for good; what they leave no room for is read
            // aside, point by point and in scans.
            for i in 0..6000u64 {
                assert!(tree.get(&i.to_be_bytes()).unwrap().is_some(), "key {i}");
            }
            for _ in 0..3 {
                let forward = tree.iter().unwrap().map(|r| r.unwrap().0);
                assert!(forward.eq((0..6000u64).map(|i| i.to_be_bytes().to_vec())));
            }
            assert_eq!(tree.iter().unwrap().rev().flatten().count(), 6000);
            assert!(store.close().is_err());
        });
    }
}
