//! Scans of an old state.

use super::*;

/// Breaks if a before-image is missing, left too late, taken away too early, or
/// never taken away.
#[test]
fn a_scan_held_open_sees_the_old_state() {
    let seed = seed();
    for version_memory in [64 << 20, 200 << 10] {
        let disk = disk(seed, 192, Duration::ZERO);
        within(90, move || {
            let o = OpenOptions {
                version_memory,
                ..options(2 << 20, 10)
            };
            let store = Store::open_device(disk.device(), &o).unwrap();
            let tree = store.tree("t").unwrap();
            let keys = 1500u64;
            // All keys are set to the round by one batch, in parts: each part is
            // whole in itself.
            let set = |round: u64, r: &mut Rng| {
                for part in 0..10u64 {
                    let mut batch = WriteBatch::new();
                    for i in (0..keys).filter(|i| i % 10 == part) {
                        let key = format!("{i:05}").into_bytes();
                        // Some keys come and go, the large ones lie in extents.
                        if i % 7 == 3 && round % 2 == 1 {
                            batch.delete(&tree, &key);
                        } else {
                            let n = if i % 200 == 1 {
                                3000
                            } else {
                                r.random_range(8..300)
                            };
                            let mut value = vec![0; n];
                            value[..8].copy_from_slice(&round.to_le_bytes());
                            batch.put(&tree, &key, &value);
                        }
                    }
                    store.commit(batch, BUFFERED).unwrap();
                }
            };
            let mut r = rng::seeded(seed);
            set(2, &mut r);
            let before = walk(&tree, false).unwrap();
            assert_eq!(before.len() as u64, keys);
            let mut too_old = 0;
            for turn in 0..3 {
                let expected = walk(&tree, false).unwrap();
                let mut scans: Vec<_> = (0..4)
                    .map(|i| {
                        let scan = tree.iter().unwrap();
                        if i % 2 == 0 { scan } else { scan.rev() }
                    })
                    .collect();
                let heads: Vec<_> = scans
                    .iter_mut()
                    .map(|s| s.by_ref().take(10).collect::<Result<Vec<_>, _>>().unwrap())
                    .collect();
                let gone = AtomicBool::new(false);
                std::thread::scope(|s| {
                    let (tree, gone) = (&tree, &gone);
                    // Short scans come and go meanwhile.
                    s.spawn(move || {
                        while !gone.load(Ordering::Relaxed) {
                            let _ = walk(tree, true);
                        }
                    });
                    for round in 0..4 {
                        set(3 + turn * 4 + round, &mut r);
                    }
                    gone.store(true, Ordering::Relaxed);
                });
                for (i, (scan, head)) in scans.into_iter().zip(heads).enumerate() {
                    let rest: Result<Records, Error> = scan.collect();
                    match rest {
                        Ok(rest) => {
                            let mut all = [head, rest].concat();
                            if i % 2 == 1 {
                                all.reverse();
                            }
                            assert!(all == expected, "scan {i} sees another state");
                        }
                        Err(Error::ViewTooOld { .. }) => too_old += 1,
                        Err(e) => panic!("{e}"),
                    }
                }
            }
            println!("{too_old} of 12 scans were too old");
            assert_eq!(too_old > 0, version_memory < 1 << 20);
            let deadline = Instant::now() + Duration::from_secs(5);
            let held = || store.stats().get("versions", "bytes").unwrap();
            while held() > 0 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(held(), 0, "before-images that nobody needs");
            check_account(&store);
        });
    }
}

/// Breaks if a split forgets that the half it moves has changed since a view: the
/// scan would take the leaf as it is.
#[test]
fn a_leaf_that_split_is_still_newer_than_a_view() {
    let disk = disk(8, 64, Duration::ZERO);
    within(30, move || {
        let store = open(disk.device(), 4 << 20, 10_000);
        let tree = store.tree("t").unwrap();
        let key = |i: u32| format!("m{i:03}").into_bytes();
        for i in 0..40 {
            tree.put_with(&key(i), &[1; 50], BUFFERED).unwrap();
        }
        let before = walk(&tree, false).unwrap();
        let scans = [tree.iter().unwrap(), tree.iter().unwrap().rev()];
        for i in 0..40 {
            tree.put_with(&key(i), &[2; 50], BUFFERED).unwrap();
        }
        // These all go to the left of what they push to the right.
        for i in 0..60u32 {
            tree.put_with(format!("a{i:03}").as_bytes(), &[3; 50], BUFFERED)
                .unwrap();
        }
        assert!(store.stats().get("tree", "splits").unwrap() > 0);
        for (reverse, scan) in [false, true].into_iter().zip(scans) {
            let mut got = scan.collect::<Result<Records, _>>().unwrap();
            if reverse {
                got.reverse();
            }
            assert!(got == before, "reverse {reverse}");
        }
    });
}
