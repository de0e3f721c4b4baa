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

/// What is in an account, padded so that some lie in extents; an empty one is not there.
fn balance_of(value: Option<Vec<u8>>) -> u64 {
    value.map_or(0, |v| number(&v))
}

/// Ends the other threads, however this one ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writers move amounts between their accounts in two trees; whatever a snapshot reads,
/// key by key or by scanning, at once or much later, adds up and stays as it was.
///
/// Breaks if a get at a snapshot takes the leaf as it is although it is newer, looks for
/// images before it reads the leaf, or takes another image than the first after it.
#[test]
fn what_a_snapshot_reads_adds_up_and_stays() {
    const WRITERS: u64 = 2;
    const ACCOUNTS: u64 = 120;
    const EACH: u64 = 1000;
    let seed = seed();
    let time = seconds();
    let disk = disk(seed, 192, Duration::ZERO);
    within(60 + 2 * time.as_secs(), move || {
        // So small a cache that leaves come and go.
        let o = OpenOptions {
            version_memory: 512 << 20,
            ..options(1 << 20, 15)
        };
        let store = Store::open_device(disk.device(), &o).unwrap();
        let trees = [store.tree("a").unwrap(), store.tree("b").unwrap()];
        let place = |i: u64| (&trees[(i % 2) as usize], format!("{i:05}").into_bytes());
        let worth = |n: u64, len: usize| {
            let mut value = vec![7; 8 + len];
            value[..8].copy_from_slice(&n.to_le_bytes());
            value
        };
        let mut all = WriteBatch::new();
        for i in 0..WRITERS * ACCOUNTS {
            let (tree, key) = place(i);
            all.put(tree, &key, &worth(EACH, 100));
        }
        let begun = store.commit(all, BUFFERED).unwrap();
        let over = AtomicBool::new(false);
        let (mut taken, mut again) = (0, 0);
        std::thread::scope(|s| {
            let (store, over, place) = (&store, &over, &place);
            for w in 0..WRITERS {
                s.spawn(move || {
                    let mut r = rng::seeded(seed + w);
                    let mut mine = [EACH; ACCOUNTS as usize];
                    while !over.load(Ordering::Relaxed) {
                        let mut batch = WriteBatch::new();
                        for _ in 0..r.random_range(1..4) {
                            let from = r.random_range(0..ACCOUNTS) as usize;
                            let to = r.random_range(0..ACCOUNTS) as usize;
                            // Often all of it.
                            let amount = (mine[from] / 2 + r.random_range(0..EACH)).min(mine[from]);
                            mine[from] -= amount;
                            mine[to] += amount;
                            for i in [from, to] {
                                let (tree, key) = place(w + WRITERS * i as u64);
                                let len = if i % 40 == 1 {
                                    6000
                                } else {
                                    r.random_range(0..200)
                                };
                                match mine[i] {
                                    0 => batch.delete(tree, &key),
                                    n => batch.put(tree, &key, &worth(n, len)),
                                };
                            }
                        }
                        store.commit(batch, BUFFERED).unwrap();
                    }
                });
            }
            let _ends = Ends(over);
            let mut r = rng::seeded(!seed);
            let mut held: Vec<(gaur::Snapshot, Vec<u64>)> = Vec::new();
            let end = Instant::now() + 2 * time;
            let mut last = begun;
            while Instant::now() < end {
                let one = store.snapshot().unwrap();
                assert!(one.csn() >= last, "a snapshot is older than one before it");
                last = one.csn();
                let point = |snapshot: &gaur::Snapshot, i: u64| {
                    let (tree, key) = place(i);
                    let there = snapshot.contains(tree, &key).unwrap();
                    let value = snapshot.get(tree, &key).unwrap();
                    assert_eq!(there, value.is_some());
                    balance_of(value)
                };
                let ids = 0..WRITERS * ACCOUNTS;
                let seen: Vec<u64> = ids.clone().map(|i| point(&one, i)).collect();
                for w in 0..WRITERS {
                    let mine = ids.clone().filter(|i| i % WRITERS == w);
                    let sum: u64 = mine.map(|i| seen[i as usize]).sum();
                    assert_eq!(sum, ACCOUNTS * EACH, "writer {w} at {}", one.csn());
                }
                for (t, tree) in trees.iter().enumerate() {
                    let scanned: Vec<u64> = one
                        .iter(tree)
                        .unwrap()
                        .map(|record| number(&record.unwrap().1))
                        .collect();
                    let mine = ids.clone().filter(|i| i % 2 == t as u64);
                    let got: Vec<u64> = mine.map(|i| seen[i as usize]).filter(|n| *n > 0).collect();
                    assert_eq!(scanned, got);
                }
                taken += 1;
                // The clone is what holds it from here on.
                held.push((one.clone(), seen));
                if held.len() > 8 {
                    let (old, seen) = held.swap_remove(r.random_range(0..held.len()));
                    for i in ids {
                        assert_eq!(point(&old, i), seen[i as usize], "{i} at {}", old.csn());
                    }
                    again += 1;
                }
            }
            let stats = store.stats();
            assert_eq!(stats.get("views", "open"), Some(held.len() as u64));
            let oldest = held.iter().map(|h| h.0.age()).max().unwrap();
            let told = stats.get("views", "oldest_nanos").unwrap();
            assert!(told <= oldest.as_nanos() as u64 + 1_000_000_000 && told > 0);
            assert!(stats.get("views", "oldest_behind") > Some(0));
        });
        println!("{taken} snapshots, {again} read again later");
        assert_eq!(store.stats().get("views", "open"), Some(0));
        check_account(&store);
    });
}

/// Also guards that a get at a snapshot asks whether its images are there still.
#[test]
fn a_snapshot_that_lasts_too_long_is_told_and_nobody_waits() {
    let disk = disk(3, 64, Duration::ZERO);
    within(30, move || {
        let o = OpenOptions {
            version_memory: 64 << 10,
            ..options(4 << 20, 10_000)
        };
        let store = Store::open_device(disk.device(), &o).unwrap();
        let tree = store.tree("t").unwrap();
        for i in 0..1000u32 {
            tree.put_with(&i.to_be_bytes(), &[1; 100], BUFFERED)
                .unwrap();
        }
        let old = store.snapshot().unwrap();
        for i in 0..1000u32 {
            tree.put_with(&i.to_be_bytes(), &[2; 100], BUFFERED)
                .unwrap();
        }
        let csn = old.csn();
        let too_old = |e: Error| assert!(matches!(e, Error::ViewTooOld { csn: c } if c == csn));
        too_old(old.get(&tree, &7u32.to_be_bytes()).unwrap_err());
        too_old(old.contains(&tree, &7u32.to_be_bytes()).unwrap_err());
        too_old(old.iter(&tree).unwrap().next().unwrap().unwrap_err());
        let new = store.snapshot().unwrap();
        assert_eq!(
            new.get(&tree, &7u32.to_be_bytes()).unwrap(),
            Some(vec![2; 100])
        );
    });
}

#[test]
fn snapshots_come_and_go_in_any_number_and_end_with_the_store() {
    let disk = disk(4, 64, Duration::ZERO);
    let other = self::disk(5, 64, Duration::ZERO);
    within(60, move || {
        let store = open(disk.device(), 4 << 20, 10_000);
        let tree = store.tree("t").unwrap();
        let reads = |s: &Store| s.stats().get("device", "reads").unwrap();
        let key = b"k";
        let mut all = Vec::new();
        for i in 0..20_000u32 {
            if i % 4 == 0 {
                tree.put_with(key, &i.to_le_bytes(), BUFFERED).unwrap();
            }
            all.push((store.snapshot().unwrap(), i / 4 * 4));
        }
        let before = reads(&store);
        let begun = Instant::now();
        drop(store.snapshot().unwrap());
        println!("one more takes {:?}", begun.elapsed());
        assert_eq!(reads(&store), before);
        assert_eq!(store.stats().get("views", "open"), Some(20_000));
        let mut r = rng::seeded(4);
        // In another thread than the one that took them.
        std::thread::scope(|s| {
            s.spawn(|| {
                while all.len() > 10 {
                    let (snapshot, i) = all.swap_remove(r.random_range(0..all.len()));
                    let got = snapshot.get(&tree, key).unwrap().unwrap();
                    assert_eq!(got, i.to_le_bytes());
                }
            });
        });
        let elsewhere = open(other.device(), 4 << 20, 10_000);
        let stranger = elsewhere.tree("t").unwrap();
        let refused = all[0].0.get(&stranger, key).unwrap_err();
        assert!(matches!(refused, Error::OtherStore(name) if name == "t"));
        let handle = store.clone();
        handle.close().unwrap();
        assert!(matches!(all[0].0.get(&tree, key), Err(Error::Closed)));
        assert!(matches!(store.snapshot(), Err(Error::Closed)));
        assert!(matches!(all[0].0.iter(&tree), Err(Error::Closed)));
    });
}

/// A store that is only read, whose log is not replayed into the trees.
#[test]
fn a_snapshot_of_a_store_that_is_only_read() {
    let disk = disk(6, 64, Duration::ZERO);
    within(30, move || {
        let store = open(disk.device(), 4 << 20, 10_000);
        let tree = store.tree("t").unwrap();
        tree.put(b"a", b"1").unwrap();
        store.checkpoint().unwrap();
        tree.put(b"b", b"2").unwrap();
        tree.delete(b"a").unwrap();
        drop((tree, store));
        let o = OpenOptions {
            read_only: true,
            ..options(4 << 20, 10_000)
        };
        let store = Store::open_device(disk.device(), &o).unwrap();
        let tree = store.open_tree("t").unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.get(&tree, b"a").unwrap(), None);
        assert_eq!(
            snapshot.get(&tree, b"b").unwrap().as_deref(),
            Some(&b"2"[..])
        );
        assert_eq!(snapshot.iter(&tree).unwrap().count(), 1);
    });
}
