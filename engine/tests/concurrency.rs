//! Many threads on one store. Each test is seeded (`GAUR_SEED`, or a fresh seed,
//! which is printed) and bounded in time (`GAUR_SECONDS` for each part, 1 by
//! default). `docs/concurrency.md` says which rule each test guards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use gaur::{DriverChoice, Durability, Error, FormatOptions, OpenOptions, Store, Tree, WriteBatch};
use gaur_iodriver::sim::{Fault, FaultKind, OpKind, SimDisk, SimOptions};
use gaur_iodriver::sync::rng::{self, Rng};
use gaur_iodriver::{Device, IoErrorKind, Latency, LatencyProfile};
use rand::RngExt;

const BUFFERED: Durability = Durability::Buffered;

/// The seed of this run, printed.
fn seed() -> u64 {
    let seed = std::env::var("GAUR_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rng::fresh_seed);
    println!("GAUR_SEED={seed}");
    seed
}

fn seconds() -> Duration {
    let s = std::env::var("GAUR_SECONDS").ok();
    Duration::from_secs_f64(s.and_then(|s| s.parse().ok()).unwrap_or(1.0))
}

/// Runs `body` and fails if it does not end: a hang is a failure, not a timeout of
/// the whole suite.
fn within<T: Send + 'static>(limit: u64, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let out = body();
        let _ = done.send(());
        out
    });
    let waited = end.recv_timeout(Duration::from_secs(limit));
    assert!(
        !matches!(waited, Err(mpsc::RecvTimeoutError::Timeout)),
        "still running after {limit} s: hangs"
    );
    match thread.join() {
        Ok(out) => out,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn disk(seed: u64, mib: u64, latency: Duration) -> SimDisk {
    let disk = SimDisk::new(SimOptions {
        capacity: mib << 20,
        seed,
        latency: LatencyProfile::all(Latency {
            fixed: latency,
            jitter: latency,
        }),
        ..SimOptions::default()
    });
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    disk
}

fn options(cache: u64, checkpoint: u64) -> OpenOptions {
    OpenOptions {
        cache_bytes: cache,
        checkpoint_interval: Duration::from_millis(checkpoint),
        ..OpenOptions::default()
    }
}

fn open(device: Arc<dyn Device>, cache: u64, checkpoint: u64) -> Store {
    Store::open_device(device, &options(cache, checkpoint)).unwrap()
}

/// What must hold when nobody works: the account of reservations is exact, and
/// nothing was waited for under a latch.
fn check_account(store: &Store) {
    let stats = store.stats();
    let get = |n| stats.get("reservations", n).unwrap();
    assert_eq!(
        get("taken_from_channel") + get("taken_by_request"),
        get("blocks_used") + get("blocks_returned") + get("blocks_stashed"),
        "taken = used + returned + stashed"
    );
    assert_eq!(stats.get("waits", "under_latch"), Some(0));
}

mod memory;

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// All records of a walk, checked to be in strict order.
fn walk(tree: &Tree, reverse: bool) -> Result<Records, Error> {
    let scan = tree.iter()?;
    let mut all: Records = if reverse { scan.rev() } else { scan }.collect::<Result<_, _>>()?;
    if reverse {
        all.reverse();
    }
    for pair in all.windows(2) {
        assert!(
            pair[0].0 < pair[1].0,
            "reverse {reverse}: {:?} is followed by {:?}",
            String::from_utf8_lossy(&pair[0].0),
            String::from_utf8_lossy(&pair[1].0)
        );
    }
    Ok(all)
}

fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

// ---------------------------------------------------------------- half batches

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

// ------------------------------------------------------------- model per thread

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn own_key(r: &mut Rng, thread: u64) -> Vec<u8> {
    format!("{:04}-{thread}", r.random_range(0..1200)).into_bytes()
}

fn own_value(r: &mut Rng) -> Vec<u8> {
    let len = match r.random_range(0..60) {
        0 => r.random_range(2000..12_000),
        1..8 => r.random_range(300..1200),
        _ => r.random_range(0..120),
    };
    vec![r.random(); len]
}

fn own_steps(store: &Store, tree: &Tree, thread: u64, seed: u64, end: Instant, model: &mut Model) {
    let mut r = rng::seeded(seed ^ thread.wrapping_mul(7919));
    let suffix = format!("-{thread}").into_bytes();
    while Instant::now() < end {
        match r.random_range(0..100) {
            0..45 => {
                let (k, v) = (own_key(&mut r, thread), own_value(&mut r));
                tree.put_with(&k, &v, BUFFERED).unwrap();
                model.insert(k, v);
            }
            45..65 => {
                let k = own_key(&mut r, thread);
                tree.delete_with(&k, BUFFERED).unwrap();
                model.remove(&k);
            }
            65..75 => {
                let mut batch = WriteBatch::new();
                for _ in 0..r.random_range(1..20) {
                    let k = own_key(&mut r, thread);
                    if r.random_bool(0.6) {
                        let v = own_value(&mut r);
                        batch.put(tree, &k, &v);
                        model.insert(k, v);
                    } else {
                        batch.delete(tree, &k);
                        model.remove(&k);
                    }
                }
                store.commit(batch, BUFFERED).unwrap();
            }
            75..96 => {
                let k = own_key(&mut r, thread);
                assert_eq!(tree.get(&k).unwrap().as_ref(), model.get(&k));
            }
            _ => {
                let (a, b) = (own_key(&mut r, thread), own_key(&mut r, thread));
                let (a, b) = if a < b { (a, b) } else { (b, a) };
                let reverse = r.random_bool(0.5);
                let scan = tree.range(a.clone()..b.clone()).unwrap();
                let all = if reverse { scan.rev() } else { scan };
                let got: Result<Records, Error> = all
                    .filter(|x| x.as_ref().map_or(true, |(k, _)| k.ends_with(&suffix)))
                    .collect();
                let mut got = match got {
                    Err(Error::ViewTooOld { .. }) => continue,
                    got => got.unwrap(),
                };
                if reverse {
                    got.reverse();
                }
                assert!(
                    got.iter().map(|(k, v)| (k, v)).eq(model.range(a..b)),
                    "thread {thread}: a scan of its own keys differs (reverse: {reverse})"
                );
            }
        }
    }
}

fn model_per_thread(open: impl Fn() -> Store + Send + 'static, seed: u64) {
    within(120, move || {
        let models: Vec<Mutex<Model>> = (0..5).map(|_| Mutex::default()).collect();
        for round in 0..3u64 {
            let store = open();
            let tree = store.tree("shared").unwrap();
            same(&tree, &models, "after opening");
            let end = Instant::now() + seconds();
            std::thread::scope(|s| {
                for (t, model) in models.iter().enumerate() {
                    let (store, tree) = (&store, &tree);
                    s.spawn(move || {
                        let mut model = model.lock().unwrap();
                        own_steps(store, tree, t as u64, seed ^ round, end, &mut model);
                    });
                }
            });
            same(&tree, &models, "at the end of a round");
            check_account(&store);
            drop(tree);
            if round % 2 == 0 {
                store.close().unwrap();
            }
        }
    });
}

fn same(tree: &Tree, models: &[Mutex<Model>], when: &str) {
    let mut union = Model::new();
    for m in models {
        union.extend(m.lock().unwrap().clone());
    }
    for reverse in [false, true] {
        let all = walk(tree, reverse).unwrap();
        assert!(
            all.iter().map(|(k, v)| (k, v)).eq(union.iter()),
            "{when}, reverse {reverse}: {} records, {} expected",
            all.len(),
            union.len()
        );
    }
}

/// Breaks if two writers change a leaf at once, if a node is lost between cache
/// and device, or if a generation is more or less than the commits up to its cut.
#[test]
fn each_thread_finds_its_own_writes() {
    let seed = seed();
    for latency in [0, 60] {
        let disk = disk(seed, 192, Duration::from_micros(latency));
        model_per_thread(move || open(disk.device(), 1 << 20, 7), seed);
    }
}

#[test]
fn each_thread_finds_its_own_writes_on_a_file() {
    let seed = seed();
    for driver in [DriverChoice::Auto, DriverChoice::Psync] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.store");
        let format = FormatOptions {
            create_size: Some(192 << 20),
            driver,
            ..FormatOptions::default()
        };
        Store::format(&path, &format).unwrap();
        model_per_thread(
            move || {
                let o = OpenOptions {
                    driver,
                    ..options(1 << 20, 15)
                };
                Store::open(&path, &o).unwrap()
            },
            seed,
        );
    }
}

// ---------------------------------------------------------------- a small hot tree

/// Breaks if a path loses or doubles a reservation, if a restart reserves too
/// little for a whole descent, or if anything waits under a latch.
#[test]
fn a_small_hot_tree_restarts_at_most_twice() {
    let seed = seed();
    for (checkpoint, delay) in [(20, None), (200, None), (30, Some(3))] {
        let disk = disk(seed, 128, Duration::ZERO);
        within(60, move || {
            let o = OpenOptions {
                allocator_delay: delay.map(Duration::from_millis),
                map_memory: 0,
                ..options(8 << 20, checkpoint)
            };
            let store = Store::open_device(disk.device(), &o).unwrap();
            let tree = store.tree("hot").unwrap();
            let end = Instant::now() + seconds();
            std::thread::scope(|s| {
                for t in 0..16u64 {
                    let tree = &tree;
                    s.spawn(move || {
                        let mut r = rng::seeded(seed ^ t);
                        while Instant::now() < end {
                            let k = r.random_range(0..400u32).to_be_bytes();
                            if r.random_bool(0.8) {
                                let v = vec![t as u8; r.random_range(0..300)];
                                tree.put_with(&k, &v, BUFFERED).unwrap();
                            } else {
                                tree.delete_with(&k, BUFFERED).unwrap();
                            }
                        }
                    });
                }
            });
            check_account(&store);
            let stats = store.stats();
            for row in stats.rows().iter().filter(|r| r.group == "restarts") {
                println!("{} {}", row.name, row.value);
            }
            assert!(stats.get("restarts", "restarts_most").unwrap() <= 2);
            assert!(stats.get("checkpoints", "checkpoints").unwrap() > 0);
        });
    }
}

// ---------------------------------------------------------------- growth and shrinking

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

// ---------------------------------------------------------------- many trees

/// Breaks if a checkpoint's list of trees is not that of its cut, or has no room
/// for trees made since its blocks were reserved.
#[test]
fn trees_are_made_while_commits_and_checkpoints_run() {
    let seed = seed();
    let disk = disk(seed, 192, Duration::ZERO);
    within(60, move || {
        let store = open(disk.device(), 2 << 20, 1);
        let made = Mutex::new(BTreeMap::new());
        let end = Instant::now() + seconds();
        std::thread::scope(|s| {
            for t in 0..6u64 {
                let (store, made) = (&store, &made);
                s.spawn(move || {
                    let mut r = rng::seeded(seed ^ t);
                    let mut mine = Vec::new();
                    for n in 0..300 {
                        if Instant::now() > end {
                            break;
                        }
                        let long = "x".repeat(r.random_range(0..240));
                        // Half of the names are wanted by all threads.
                        let name = format!("{:03}-{}{long}", n, if n % 2 == 0 { t } else { 99 });
                        let name = if n % 2 == 0 {
                            name
                        } else {
                            name[..6].to_owned()
                        };
                        let tree = store.tree(&name).unwrap();
                        let n = r.random_range(1..20u64);
                        let mut batch = WriteBatch::new();
                        for i in 0..n {
                            batch.put(&tree, format!("{t}-{i}").as_bytes(), &[t as u8; 50]);
                        }
                        store.commit(batch, BUFFERED).unwrap();
                        mine.push((name, t, n));
                    }
                    let mut made = made.lock().unwrap();
                    for (name, t, n) in mine {
                        made.entry(name)
                            .or_insert_with(Vec::new)
                            .extend((0..n).map(|i| format!("{t}-{i}").into_bytes()));
                    }
                });
            }
        });
        let made = made.into_inner().unwrap();
        println!("{} trees", made.len());
        check_account(&store);
        for round in 0..3 {
            let store = match round {
                0 => store.clone(),
                _ => open(disk.device(), 2 << 20, 1),
            };
            assert!(store.tree_names().iter().eq(made.keys()));
            for (name, keys) in &made {
                let mut keys = keys.clone();
                keys.sort();
                let got = walk(&store.open_tree(name).unwrap(), false).unwrap();
                assert!(got.into_iter().map(|r| r.0).eq(keys), "{name}");
            }
            if round == 0 {
                store.close().unwrap();
                break;
            }
        }
    });
}

// ---------------------------------------------------------------- stopping

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

// ---------------------------------------------------------------- limits

/// A batch that needs more leaves in memory at once than the cache can hold made
/// them ready in turn for ever, and took a block each time.
#[test]
fn a_batch_larger_than_the_cache_is_refused() {
    let disk = disk(5, 128, Duration::ZERO);
    within(60, move || {
        let store = open(disk.device(), 1 << 20, 50);
        let tree = store.tree("t").unwrap();
        for i in 0..6000u64 {
            tree.put_with(&i.to_be_bytes(), &[0; 1000], BUFFERED)
                .unwrap();
        }
        let batch = |n: u64| {
            let mut batch = WriteBatch::new();
            for i in 0..n {
                batch.put(&tree, &(i * 6000 / n).to_be_bytes(), &[1; 1000]);
            }
            store.commit(batch, BUFFERED)
        };
        assert!(matches!(batch(1000), Err(Error::BatchTooWide { .. })));
        assert!(tree.iter().unwrap().all(|x| x.unwrap().1[0] == 0));
        batch(40).unwrap();
        let ones = tree
            .iter()
            .unwrap()
            .filter(|x| x.as_ref().unwrap().1[0] == 1);
        assert_eq!(ones.count(), 40);
        check_account(&store);
    });
}

/// In a full store a root that had to split was tried for ever: the version of the
/// node changed as its latch was given up, so "no blocks" looked like "another
/// writer was first". And deletes, checkpoints and closing must go on (P6): the
/// deletes took the last block, and the checkpoint, which needs some for the tree
/// of trees, failed for good.
#[test]
fn a_full_store_says_so_and_space_comes_back() {
    let disk = disk(6, 32, Duration::ZERO);
    within(100, move || {
        let store = open(disk.device(), 4 << 20, 10_000);
        let small: Vec<Tree> = (0..60)
            .map(|i| store.tree(&format!("small-{i}")).unwrap())
            .collect();
        for tree in &small {
            tree.put_with(b"k", &[0; 500], BUFFERED).unwrap();
        }
        let tree = store.tree("large").unwrap();
        let mut n = 0u64;
        let full = loop {
            match tree.put_with(&n.to_be_bytes(), &[1; 1000], BUFFERED) {
                Ok(_) => n += 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(full, Error::Full { .. }), "{full}");
        let mut refused = 0;
        for tree in &small {
            for i in 0..12u8 {
                match tree.put_with(&[i], &[1; 900], BUFFERED) {
                    Ok(_) => {}
                    Err(Error::Full { .. }) => refused += 1,
                    Err(e) => panic!("{e}"),
                }
            }
        }
        assert!(refused > 0, "so many roots cannot have split");
        // The first deletes each meet another leaf, so that no leaf becomes empty and
        // each costs blocks; there are no checkpoints but those they ask for.
        for i in (0..n).step_by(20) {
            tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
        }
        for i in 0..n {
            tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
        }
        store.checkpoint().unwrap();
        store.checkpoint().unwrap();
        for i in 0..n / 2 {
            tree.put_with(&i.to_be_bytes(), &[2; 1000], BUFFERED)
                .unwrap();
        }
        check_account(&store);
        store.close().unwrap();
    });
}

// ---------------------------------------------------------------- snapshots

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
