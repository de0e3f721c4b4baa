//! A full store: what it refuses, what it never refuses, and how space comes back.
//! Each test on the simulated disk; the last cuts the power of stores near full.

mod campaign;
mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use campaign::{Story, Tally, Watchdog};
use common::{checked, disk, open};
use gaur::{Durability, Error, FormatOptions, OpenOptions, Store, Tree, WriteBatch};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng::{fresh_seed, seeded};
use gaur_iodriver::{Latency, LatencyProfile};
use rand::RngExt;

const BUFFERED: Durability = Durability::Buffered;

fn seed() -> u64 {
    let given = std::env::var("GAUR_SEED").ok();
    let seed = given
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(fresh_seed);
    println!("GAUR_SEED={seed}");
    seed
}

fn formatted(seed: u64, mib: u64) -> SimDisk {
    let disk = disk(seed, mib << 20);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    disk
}

fn get(store: &Store, name: &str) -> u64 {
    store.stats().get("space", name).unwrap()
}

/// Puts until the store is full; how many there were room for.
fn fill(tree: &Tree, from: u64, len: usize) -> u64 {
    for n in from.. {
        match tree.put_with(&n.to_be_bytes(), &vec![n as u8; len], BUFFERED) {
            Ok(_) => {}
            Err(Error::Full { .. }) => return n - from,
            Err(e) => panic!("{e}"),
        }
    }
    unreachable!("no store is endless")
}

fn reservations_add_up(store: &Store) {
    let stats = store.stats();
    let n = |name| stats.get("reservations", name).unwrap();
    let taken = n("taken_from_channel") + n("taken_by_request");
    let placed = n("blocks_used") + n("blocks_returned") + n("blocks_stashed");
    assert_eq!(taken, placed);
    assert_eq!(stats.get("waits", "under_latch"), Some(0));
    let s = |name| stats.get("space", name).unwrap();
    let parts = [
        "used",
        "free",
        "reserved",
        "pending",
        "discarding",
        "pinned",
    ];
    assert_eq!(parts.map(s).iter().sum::<u64>(), s("blocks"));
}

/// Ends the idle threads, however the test ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

const TREES: u64 = 64;

/// Breaks if the stashes of other workers stay where they are: 64 of them hold more
/// than a store of 16 MiB has to spare.
#[test]
fn idle_threads_hold_no_space() {
    let room = |idlers: u64| {
        let disk = formatted(1, 16);
        let store = open(&disk, 4 << 20);
        let tree = store.tree("t").unwrap();
        let (ready, over) = (AtomicU64::new(0), AtomicBool::new(false));
        // Trees of their own, so that they have to take blocks.
        let make = |i: u64| {
            let tree = store.tree(&i.to_string()).unwrap();
            tree.put(b"here", b"idle").unwrap();
        };
        std::thread::scope(|scope| {
            let _over = SetOnDrop(&over);
            if idlers == 0 {
                (0..TREES).for_each(make);
            }
            for i in 0..idlers {
                let (make, ready, over) = (&make, &ready, &over);
                scope.spawn(move || {
                    make(i);
                    ready.fetch_add(1, Ordering::SeqCst);
                    while !over.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            while ready.load(Ordering::SeqCst) < idlers {
                std::thread::sleep(Duration::from_millis(1));
            }
            let stashed = || store.stats().get("reservations", "blocks_stashed");
            if idlers > 0 {
                assert!(stashed() > Some(500), "they hold too little to notice");
            }
            let room = fill(&tree, 0, 900);
            assert_eq!(stashed(), Some(0));
            assert_eq!(get(&store, "recalled_blocks") > 500, idlers > 0);
            assert_eq!(get(&store, "full"), 1);
            reservations_add_up(&store);
            room
        })
    };
    let (alone, beside) = (room(0), room(TREES));
    assert!(
        beside * 100 >= alone * 98,
        "{beside} records beside idle threads, {alone} alone"
    );
}

const WRITERS: u64 = 8;

/// Fills by several threads with values of all sizes; what each put.
fn fill_mixed(store: &Store, seed: u64) -> Vec<Vec<(Vec<u8>, u8, usize)>> {
    let tree = store.tree("mixed").unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WRITERS)
            .map(|w| {
                let tree = &tree;
                scope.spawn(move || {
                    let mut rng = seeded(seed ^ (w << 40));
                    let (mut put, mut refused) = (Vec::new(), 0);
                    while refused < 4 {
                        let len = match rng.random_range(0..100) {
                            0 => rng.random_range(100_000..1_000_000),
                            1..5 => rng.random_range(2_000..40_000),
                            _ => rng.random_range(16..1_000),
                        };
                        let key = rng.random::<u64>().to_be_bytes().to_vec();
                        let byte: u8 = rng.random();
                        match tree.put_with(&key, &vec![byte; len], BUFFERED) {
                            Ok(_) => put.push((key, byte, len)),
                            Err(Error::Full { .. }) => refused += 1,
                            Err(e) => panic!("{e}"),
                        }
                    }
                    put
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[test]
fn filled_emptied_and_filled_again() {
    let seed = seed();
    let disk = formatted(seed, 32);
    let mut bytes = Vec::new();
    for cycle in 0..5 {
        let store = open(&disk, 4 << 20);
        let put = fill_mixed(&store, seed + cycle);
        let tree = store.open_tree("mixed").unwrap();
        bytes.push(put.iter().flatten().map(|p| p.2).sum::<usize>());
        for (key, byte, len) in put.iter().flatten() {
            let found = tree.get(key).unwrap().expect("it was acknowledged");
            assert!(found.len() == *len && found.iter().all(|b| b == byte));
        }
        // By all threads, none may be refused.
        std::thread::scope(|scope| {
            for mine in &put {
                let tree = &tree;
                scope.spawn(move || {
                    for (key, ..) in mine {
                        tree.delete_with(key, BUFFERED).unwrap();
                    }
                });
            }
        });
        assert_eq!(tree.iter().unwrap().count(), 0);
        reservations_add_up(&store);
        if cycle % 2 == 0 {
            // Space comes back without a restart, and without being asked for.
            tree.put(b"k", &vec![1; 8 << 20]).unwrap();
            tree.delete(b"k").unwrap();
        }
        store.close().unwrap();
        checked(&disk);
    }
    let (least, most) = (*bytes.iter().min().unwrap(), *bytes.iter().max().unwrap());
    println!("{bytes:?}");
    assert!(least * 100 > most * 85, "{bytes:?}");
}

/// Fails if a delete takes blocks for good, or if the reserve serves so many at once
/// that none gets enough.
#[test]
fn many_threads_delete_from_a_full_store() {
    let disk = formatted(2, 16);
    // No checkpoint but those that are asked for.
    let store = open(&disk, 4 << 20);
    let tree = store.tree("t").unwrap();
    let records = fill(&tree, 0, 900);
    let threads = 48;
    std::thread::scope(|scope| {
        for t in 0..threads {
            let tree = &tree;
            scope.spawn(move || {
                // Each delete meets a leaf that nobody has copied yet.
                for i in (t..records).step_by(threads as usize) {
                    let key = (i.wrapping_mul(797) % records).to_be_bytes();
                    tree.delete_with(&key, BUFFERED).unwrap();
                }
                for i in (t..records).step_by(threads as usize) {
                    tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
                }
            });
        }
    });
    assert_eq!(tree.iter().unwrap().count(), 0);
    assert!(get(&store, "checkpoints_for_space") > 0);
    let again = fill(&tree, 0, 900);
    assert!(again * 100 >= records * 98, "{again} of {records} records");
    reservations_add_up(&store);
    store.close().unwrap();
    checked(&disk);
}

/// Breaks if a batch keeps what it reserved when it is refused, or if it is tried for
/// ever.
#[test]
fn batches_of_deletes_up_to_a_stated_size() {
    let disk = formatted(3, 16);
    let store = open(&disk, 32 << 20);
    let tree = store.tree("t").unwrap();
    let records = fill(&tree, 0, 900);
    let batch = |keys: &mut dyn Iterator<Item = u64>| {
        let mut batch = WriteBatch::new();
        keys.for_each(|i| {
            batch.delete(&tree, &i.to_be_bytes());
        });
        store.commit(batch, BUFFERED)
    };
    // An eighth of the reserve in leaves, again and again.
    let most = store.delete_batch_leaves();
    assert!(most >= 16);
    for round in 0..40 {
        let mut keys = (0..most).map(|i| (i * 200 + round * 5) % records);
        batch(&mut keys).unwrap();
    }
    // Nearly all leaves: more than the reserve can copy. Nothing of it happened.
    let before = tree.iter().unwrap().count();
    let wide = batch(&mut (0..records).step_by(4));
    assert!(matches!(wide, Err(Error::Full { .. })), "{wide:?}");
    assert_eq!(tree.iter().unwrap().count(), before);
    reservations_add_up(&store);
    for part in (0..records).collect::<Vec<_>>().chunks(30) {
        batch(&mut part.iter().copied()).unwrap();
    }
    assert_eq!(tree.iter().unwrap().count(), 0);
    let again = fill(&tree, 0, 900);
    assert!(again * 100 >= records * 98, "{again} of {records} records");
    store.close().unwrap();
    checked(&disk);
}

/// Large values that a scan may still look at are not free; the error says so, and
/// they are free as soon as the scan ends, without a checkpoint in between.
#[test]
fn what_scans_hold_comes_back_when_they_end() {
    let disk = formatted(4, 16);
    let store = open(&disk, 4 << 20);
    let tree = store.tree("t").unwrap();
    let records = fill(&tree, 0, 100_000);
    let mut scan = tree.iter().unwrap();
    assert!(scan.next().is_some());
    for i in 0..records {
        tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
    }
    let held = loop {
        match tree.put(b"k", &[1; 200_000]) {
            Ok(_) => tree.delete(b"k").map(drop).unwrap(),
            Err(e) => break e,
        }
    };
    let Error::Full { pinned, .. } = held else {
        panic!("{held}")
    };
    assert!(pinned >= records * 24, "{held}");
    assert!(held.to_string().contains("open scans"), "{held}");
    drop(scan);
    let again = fill(&tree, 0, 100_000);
    assert!(again + 2 >= records, "{again} of {records} records");
    store.close().unwrap();
    checked(&disk);
}

/// Trees take blocks of the tree of trees: on a full store they are refused, and no
/// checkpoint lacks what it needs.
#[test]
fn a_full_store_takes_no_trees_and_makes_checkpoints() {
    let disk = formatted(5, 16);
    let store = open(&disk, 4 << 20);
    let tree = store.tree("t").unwrap();
    let records = fill(&tree, 0, 900);
    let mut made = 0;
    let refused = loop {
        match store.create_tree(&format!("{:->250}", made)) {
            Ok(_) => made += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, Error::Full { .. }), "{refused}");
    for i in 0..records {
        tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
        if i % 100 == 0 {
            store.checkpoint().unwrap();
        }
    }
    while made < 600 {
        store.create_tree(&format!("{:->250}", made)).unwrap();
        made += 1;
    }
    fill(&tree, 0, 900);
    store.close().unwrap();
    let store = open(&disk, 4 << 20);
    for i in 0..records {
        let tree = store.open_tree("t").unwrap();
        tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
    }
    store.close().unwrap();
    checked(&disk);
}

/// What was replayed needs its space again, with a cache that writes nodes early
/// again and again. Fails if their blocks are not given back during replay.
#[test]
fn a_full_store_is_replayed_in_a_small_cache() {
    let seed = seed();
    let mut replays = 0;
    for round in 0..40 {
        if replays == 4 {
            break;
        }
        let disk = formatted(seed, 16);
        let options = |cache| OpenOptions {
            cache_bytes: cache,
            checkpoint_interval: Duration::from_secs(3600),
            ..OpenOptions::default()
        };
        let store = Store::open_device(disk.device(), &options(16 << 20)).unwrap();
        let tree = store.tree("t").unwrap();
        // Leaves of which each has a copy before the log is half full: then hardly a
        // block is left, and a checkpoint has not begun.
        let records = 4600u64;
        for i in 0..records {
            tree.put_with(&i.to_be_bytes(), &[0; 900], BUFFERED)
                .unwrap();
        }
        // Opened anew nobody has asked for a checkpoint.
        drop(tree);
        store.close().unwrap();
        let store = Store::open_device(disk.device(), &options(16 << 20)).unwrap();
        let tree = store.open_tree("t").unwrap();
        let checkpoints = || store.stats().get("checkpoints", "checkpoints").unwrap();
        let before = checkpoints();
        let mut rng = seeded(seed + round);
        let mut deleted = std::collections::BTreeSet::new();
        for _ in 0..2400 {
            let i: u64 = rng.random_range(0..records);
            if rng.random_range(0..8) == 0 {
                tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
                deleted.insert(i);
            } else {
                tree.put_with(&i.to_be_bytes(), &[7; 600], BUFFERED)
                    .unwrap();
                deleted.remove(&i);
            }
        }
        store.flush().unwrap();
        let checkpointed = checkpoints() != before;
        disk.power_off();
        drop(store);
        let disk = disk.crash(seed);
        let store = Store::open_device(disk.device(), &options(1 << 20)).unwrap();
        let tree = store.open_tree("t").unwrap();
        // With so little left the threads' order decides whether one asks for a
        // checkpoint; then there is less to replay, which is not what this is about.
        if checkpointed || store.recovery().replayed < 2400 {
            continue;
        }
        replays += 1;
        assert_eq!(
            tree.iter().unwrap().count() as u64,
            records - deleted.len() as u64
        );
        for i in 0..records {
            tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
        }
        assert!(fill(&tree, 0, 900) > 2 * records);
        store.close().unwrap();
        checked(&disk);
    }
    assert_eq!(replays, 4);
}

/// A device so slow that the log fills while a checkpoint runs: commits wait a little
/// each, and the reports say why. A store without pressure slows nobody.
#[test]
fn writers_are_slowed_before_they_stop() {
    let disk = formatted(6, 64);
    let store = open(&disk, 64 << 20);
    let tree = store.tree("t").unwrap();
    let throttle = |name| store.stats().get("throttle", name).unwrap();
    for i in 0..500u64 {
        tree.put_with(&i.to_be_bytes(), &[1; 100], BUFFERED)
            .unwrap();
    }
    assert_eq!((throttle("commits"), throttle("active")), (0, 0));
    disk.set_latency(LatencyProfile::all(Latency {
        fixed: Duration::from_millis(2),
        jitter: Duration::ZERO,
    }));
    let (seen, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _over = SetOnDrop(&over);
        for t in 0..4u64 {
            let (tree, over) = (&tree, &over);
            scope.spawn(move || {
                let mut rng = seeded(t);
                while !over.load(Ordering::SeqCst) {
                    let key = rng.random_range(0..20_000u64).to_be_bytes();
                    tree.put_with(&key, &[2; 1000], BUFFERED).unwrap();
                }
            });
        }
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !seen.load(Ordering::SeqCst) || throttle("commits") == 0 {
            assert!(std::time::Instant::now() < end, "{:?}", store.stats());
            let stats = store.stats();
            let get = |name| stats.get("throttle", name).unwrap();
            if get("active") == 1 && get("for_log") + get("for_cache") + get("for_space") == 1 {
                seen.store(true, Ordering::SeqCst);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(throttle("nanos") > 0);
    disk.set_latency(LatencyProfile::all(Latency {
        fixed: Duration::ZERO,
        jitter: Duration::ZERO,
    }));
    store.close().unwrap();
    checked(&disk);
}

/// The campaign of `crash` on stores that are full most of the time. Deletes are
/// never refused there either.
#[test]
fn power_cuts_near_full() {
    let first: u64 = std::env::var("GAUR_SEED").map_or(1, |s| s.parse().unwrap());
    let stories: u64 = std::env::var("GAUR_STORIES").map_or(16, |s| s.parse().unwrap());
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let total = std::sync::Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let watchdog = Watchdog::start(Duration::from_secs(120));
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + stories || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut story = Story::near_full(seed, &watchdog);
                    let text = story.describe();
                    let run = || (0..12).for_each(|_| story.round());
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                        eprintln!("the story: {text}; GAUR_SEED={seed} GAUR_STORIES=1 repeats it");
                        failed.store(true, Ordering::Relaxed);
                    } else {
                        total.lock().unwrap().merge(story.tally);
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{total}");
    assert!(!failed.into_inner(), "a story failed; see above");
    assert!(
        stories < 16 || total.full > 1000,
        "the stores were not full: {total}"
    );
}
