//! The cache's budget changed at random beside writers, readers, scans and
//! checkpoints: nothing is lost, nobody fails, and every budget is reached.

use super::*;

/// Keys of each writer, and its threads.
const KEYS: u64 = 3_000;
const WRITERS: u64 = 3;
const MIB: u64 = 1 << 20;

fn key(writer: u64, i: u64) -> Vec<u8> {
    format!("{writer}-{i:05}").into_bytes()
}

fn value(version: u64) -> Vec<u8> {
    vec![version as u8; 40 + (version % 300) as usize]
}

/// Writes at random and reads what it wrote back; returns what must be there.
fn writer(tree: &Tree, writer: u64, seed: u64, over: &AtomicBool) -> BTreeMap<u64, u64> {
    let mut r = rng::seeded(seed ^ writer << 40);
    let mut mine = BTreeMap::new();
    let mut version = 0;
    while !over.load(Ordering::Relaxed) {
        let i = r.random_range(0..KEYS);
        version += 1;
        match r.random_range(0..10) {
            0 => {
                tree.delete_with(&key(writer, i), BUFFERED).unwrap();
                mine.remove(&i);
            }
            1..6 => {
                tree.put_with(&key(writer, i), &value(version), BUFFERED)
                    .unwrap();
                mine.insert(i, version);
            }
            _ => {
                let found = tree.get(&key(writer, i)).unwrap();
                assert_eq!(found, mine.get(&i).map(|&v| value(v)), "{writer}-{i}");
            }
        }
    }
    mine
}

#[test]
fn the_budget_changes_beside_everything_else() {
    // Breaks if a frame that was moved is not its parent's any more, if a dirty node of
    // the frozen generation is moved, or if memory of a frame in use is given back.
    let seed = seed();
    let limit = seconds();
    within(120, move || {
        let disk = disk(seed, 256, Duration::from_micros(20));
        let store = Store::open_device(
            disk.device(),
            &OpenOptions {
                max_cache_bytes: Some(16 * MIB),
                ..options(2 * MIB, 30)
            },
        )
        .unwrap();
        let tree = store.tree("t").unwrap();
        let over = AtomicBool::new(false);
        let all: Vec<_> = std::thread::scope(|s| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|w| {
                    let (tree, over) = (&tree, &over);
                    s.spawn(move || writer(tree, w, seed, over))
                })
                .collect();
            s.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    walk(&tree, false).unwrap();
                }
            });
            let _end = OnDrop(|| over.store(true, Ordering::Relaxed));
            let mut r = rng::seeded(seed);
            let end = Instant::now() + limit * 2;
            let mut steps = 0;
            while Instant::now() < end {
                let wanted = [1, 1, 2, 4, 16][r.random_range(0..5)] * MIB;
                let budget = store.set_cache_bytes(wanted).unwrap();
                assert_eq!((budget.bytes, budget.wanted), (wanted, wanted), "reached");
                let rest = r.random_range(0..60);
                std::thread::sleep(Duration::from_millis(rest));
                steps += 1;
            }
            over.store(true, Ordering::Relaxed);
            println!("{steps} steps");
            writers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        let expected: Records = (0..WRITERS)
            .zip(&all)
            .flat_map(|(w, mine)| mine.iter().map(move |(&i, &v)| (key(w, i), value(v))))
            .collect();
        let compare = |tree: &Tree| {
            let found = walk(tree, false).unwrap();
            assert_eq!(found.len(), expected.len());
            assert!(found == expected, "records differ");
        };
        compare(&tree);
        check_account(&store);
        let moved = store.stats().get("cache", "moved").unwrap();
        println!("{} records, {moved} moved", expected.len());
        assert!(moved > 0, "nothing was moved");
        drop(tree);
        store.close().unwrap();
        let store = open(disk.device(), MIB, 1000);
        compare(&store.open_tree("t").unwrap());
        store.close().unwrap();
        let report = gaur::check_device(disk.device(), &gaur::CheckOptions::default()).unwrap();
        assert!(report.problem_count() == 0, "{report:?}");
    });
}

#[test]
fn a_replay_in_memory_leaves_the_cache_as_it_is() {
    within(60, || {
        let disk = disk(3, 128, Duration::ZERO);
        let store = open(disk.device(), 8 * MIB, 100_000);
        let tree = store.tree("t").unwrap();
        for i in 0..20_000u64 {
            tree.put_with(&key(0, i), &[1; 100], BUFFERED).unwrap();
        }
        store.flush().unwrap();
        drop((tree, store));
        let image = disk.image_hash();
        // What the log changes lies beside the cache, which may be as small as any.
        let options = OpenOptions {
            read_only: true,
            ..options(MIB, 1000)
        };
        let store = Store::open_device(disk.device(), &options).unwrap();
        assert_eq!(store.recovery().replayed, 20_001);
        assert_eq!(store.cache_budget().bytes, MIB);
        let tree = store.open_tree("t").unwrap();
        assert_eq!(walk(&tree, false).unwrap().len(), 20_000);
        drop(tree);
        store.close().unwrap();
        assert_eq!(disk.image_hash(), image, "nothing was written");
    });
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_budget_out_of_bounds_is_refused() {
    let disk = disk(1, 64, Duration::ZERO);
    let store = open(disk.device(), 4 * MIB, 1000);
    let budget = store.cache_budget();
    assert_eq!((budget.bytes, budget.most), (4 * MIB, 16 * MIB));
    for bytes in [0, MIB - 1, 16 * MIB + 4096] {
        let e = store.set_cache_bytes(bytes).unwrap_err();
        let named = matches!(e, Error::BadOption { name, .. } if name == "cache_bytes");
        assert!(named, "{bytes}");
    }
    assert_eq!(store.cache_budget(), budget);
    let wrong = OpenOptions {
        max_cache_bytes: Some(MIB),
        ..options(2 * MIB, 1000)
    };
    store.clone().close().unwrap();
    assert!(matches!(store.set_cache_bytes(MIB), Err(Error::Closed)));
    let e = Store::open_device(disk.device(), &wrong).unwrap_err();
    let named = matches!(e, Error::BadOption { name, .. } if name == "max_cache_bytes");
    assert!(named);
}

#[test]
fn a_stopped_store_shrinks_as_far_as_it_can() {
    within(60, || {
        let disk = disk(2, 64, Duration::ZERO);
        let store = open(disk.device(), 8 * MIB, 100_000);
        let tree = store.tree("t").unwrap();
        for i in 0..20_000u64 {
            tree.put_with(&key(0, i), &[1; 100], BUFFERED).unwrap();
        }
        store.checkpoint().unwrap();
        // 1,000 keys lie in few leaves, dirty from here on.
        for i in 0..1_000u64 {
            tree.put_with(&key(0, i), &[2; 100], BUFFERED).unwrap();
        }
        let failure = FaultKind::Fail(IoErrorKind::Failed);
        let next = disk.stats().writes;
        disk.inject(Fault::for_good(OpKind::Write, next, failure));
        let _ = store.checkpoint().unwrap_err();
        let budget = store.set_cache_bytes(MIB).unwrap();
        // Clean nodes go and dirty ones move, except those whose write failed.
        assert!(budget.bytes <= 2 * MIB, "{budget:?}");
        for i in (0..20_000u64).step_by(7) {
            let found = tree.get(&key(0, i)).unwrap().unwrap();
            assert_eq!(found[0], if i < 1_000 { 2 } else { 1 });
        }
        drop(tree);
        assert!(store.close().is_err());
    });
}
