//! Readers of batches: all of one, or nothing.

use super::*;

const GROUPS: u64 = 2;
const MEMBERS: u64 = 12;

/// Member `i` of a group lies among the filler keys, far from the others.
fn member(group: u64, i: u64) -> Vec<u8> {
    format!("{:05}-group-{group}", i * 250 + 7).into_bytes()
}

fn filler(i: u64) -> Vec<u8> {
    format!("{i:05}-filler").into_bytes()
}

fn read_batches(r: &mut Rng, trees: &[Tree; 2], too_old: &AtomicU64) {
    let tree = &trees[r.random_range(0..2)];
    if r.random_bool(0.5) {
        let group = r.random_range(0..GROUPS);
        let mut last = 0;
        for _ in 0..6 {
            let t = &trees[r.random_range(0..2)];
            let key = member(group, r.random_range(0..MEMBERS));
            let n = number(&t.get(&key).unwrap().expect("members are never deleted"));
            assert!(n >= last, "group {group}: {n} after {last}");
            last = n;
        }
        return;
    }
    match walk(tree, r.random_bool(0.5)) {
        Ok(all) => {
            for group in 0..GROUPS {
                let of: Vec<u64> = (0..MEMBERS)
                    .map(|i| {
                        let key = member(group, i);
                        let at = all.binary_search_by(|r| r.0.cmp(&key));
                        number(&all[at.expect("members are never deleted")].1)
                    })
                    .collect();
                assert!(of.iter().all(|n| *n == of[0]), "half a batch: {of:?}");
            }
        }
        Err(Error::ViewTooOld { .. }) => {
            too_old.fetch_add(1, Ordering::Relaxed);
        }
        Err(e) => panic!("{e}"),
    }
}

fn half_batches(store: &Store, seed: u64, time: Duration) {
    let trees = [store.tree("a").unwrap(), store.tree("b").unwrap()];
    let set = |group: u64, n: u64| {
        let mut batch = WriteBatch::new();
        for tree in &trees {
            for i in 0..MEMBERS {
                batch.put(tree, &member(group, i), &[n.to_le_bytes(); 20].concat());
            }
        }
        store.commit(batch, BUFFERED).unwrap();
    };
    (0..GROUPS).for_each(|g| set(g, 1));
    for tree in &trees {
        for i in 0..3000 {
            tree.put_with(&filler(i), &[1; 300], BUFFERED).unwrap();
        }
    }
    let end = Instant::now() + time;
    let (scans, batches, too_old) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|s| {
        for group in 0..GROUPS {
            let (set, batches) = (&set, &batches);
            s.spawn(move || {
                let mut n = 1;
                while Instant::now() < end {
                    n += 1;
                    set(group, n);
                    batches.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for t in 0..2u64 {
            let trees = &trees;
            s.spawn(move || {
                let mut r = rng::seeded(seed ^ (100 + t));
                while Instant::now() < end {
                    let tree = &trees[r.random_range(0..2)];
                    let from = r.random_range(0..2800);
                    let put = r.random_bool(0.5);
                    for i in (from..from + 200).filter(|i| i % 2 == t) {
                        if put {
                            let value = vec![3; r.random_range(0..700)];
                            tree.put_with(&filler(i), &value, BUFFERED).unwrap();
                        } else {
                            tree.delete_with(&filler(i), BUFFERED).unwrap();
                        }
                    }
                }
            });
        }
        for t in 0..4u64 {
            let (trees, scans, too_old) = (&trees, &scans, &too_old);
            s.spawn(move || {
                let mut r = rng::seeded(seed ^ (200 + t));
                while Instant::now() < end {
                    read_batches(&mut r, trees, too_old);
                    scans.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    check_account(store);
    let stats = store.stats();
    println!(
        "{batches:?} batches, {scans:?} looks, {too_old:?} too old, {} checkpoints, {} evicted, \
         {} written early, {} splits, {} merges",
        stats.get("checkpoints", "checkpoints").unwrap(),
        stats.get("cache", "evicted").unwrap(),
        stats.get("cache", "written_early").unwrap(),
        stats.get("tree", "splits").unwrap(),
        stats.get("tree", "merges").unwrap(),
    );
    assert!(stats.get("cache", "evicted").unwrap() > 0);
}

/// Breaks if before-images are missing, if a split or merge loses the CSN of a
/// leaf's newest change, or if a scan takes a leaf's records without validating its
/// version.
#[test]
fn no_reader_sees_half_a_batch() {
    let seed = seed();
    for (round, latency) in [0, 80].into_iter().enumerate() {
        let disk = disk(seed, 192, Duration::from_micros(latency));
        within(60, move || {
            let store = open(disk.device(), (1 + round as u64) << 20, 4);
            half_batches(&store, seed, seconds());
        });
    }
}

#[test]
fn no_reader_sees_half_a_batch_on_a_file() {
    let seed = seed();
    for driver in [DriverChoice::Auto, DriverChoice::Psync] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("half.store");
        let format = FormatOptions {
            create_size: Some(128 << 20),
            driver,
            ..FormatOptions::default()
        };
        Store::format(&path, &format).unwrap();
        within(60, move || {
            let o = OpenOptions {
                driver,
                ..options(1 << 20, 10)
            };
            half_batches(&Store::open(&path, &o).unwrap(), seed, seconds());
        });
    }
}
