//! Views that outlast checkpoints: they read the generation that was frozen, cost memory in
//! no proportion to what is written meanwhile, and give back their space when they end.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{checked, open};
use gaur::{Durability, Error, Event, FormatOptions, GivenUp, OpenOptions, Snapshot, Store, Tree};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;

const MIB: u64 = 1 << 20;
const BUFFERED: Durability = Durability::Buffered;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;
type Model = BTreeMap<String, Records>;

fn formatted(capacity: u64) -> SimDisk {
    let disk = common::disk(1, capacity);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    disk
}

/// Little memory for before-images, and checkpoints only when they are asked for.
fn options() -> OpenOptions {
    OpenOptions {
        cache_bytes: MIB,
        version_memory: 256 << 10,
        checkpoint_interval: Duration::from_secs(3600),
        ..OpenOptions::default()
    }
}

fn stat(store: &Store, group: &str, name: &str) -> u64 {
    store.stats().get(group, name).unwrap()
}

/// A value that says which key and round it is of; some are large.
fn value(key: u32, round: u32) -> Vec<u8> {
    let len = if key % 50 == 7 { 9000 } else { 100 };
    let mut value = vec![round as u8; len];
    value[..4].copy_from_slice(&key.to_be_bytes());
    value[4..8].copy_from_slice(&round.to_be_bytes());
    value
}

fn fill(tree: &Tree, keys: u32, round: u32) {
    for key in 0..keys {
        tree.put_with(&key.to_be_bytes(), &value(key, round), BUFFERED)
            .unwrap();
    }
}

/// All of it is there, by key, in order and in reverse.
fn is_of_round(view: &Snapshot, tree: &Tree, keys: u32, round: u32) {
    for key in (0..keys).step_by(3) {
        let got = view.get(tree, &key.to_be_bytes()).unwrap();
        assert_eq!(got, Some(value(key, round)), "{key}");
    }
    let all = || view.iter(tree).unwrap().map(Result::unwrap);
    let wanted = |key: u32| (key.to_be_bytes().to_vec(), value(key, round));
    assert!(all().eq((0..keys).map(wanted)));
    let back = view.iter(tree).unwrap().rev().map(Result::unwrap);
    assert!(back.eq((0..keys).rev().map(wanted)));
}

#[test]
fn a_snapshot_outlasts_overwriting_everything() {
    const KEYS: u32 = 8000;
    let disk = formatted(32 * MIB);
    let store = Store::open_device(disk.device(), &options()).unwrap();
    let tree = store.tree("t").unwrap();
    fill(&tree, KEYS, 1);
    let old = store.snapshot().unwrap();
    let mut scan = old.iter(&tree).unwrap();
    let first: Vec<_> = scan.by_ref().take(10).map(Result::unwrap).collect();
    let mut large = old.reader(&tree, &7u32.to_be_bytes()).unwrap().unwrap();
    store.checkpoint().unwrap();
    for round in 2..12 {
        fill(&tree, KEYS, round);
        store.checkpoint().unwrap();
        if round % 4 == 0 {
            is_of_round(&old, &tree, KEYS, 1);
        }
    }
    assert_eq!(stat(&store, "views", "given_up"), 0);
    assert_eq!(stat(&store, "versions", "bytes"), 0);
    let held = stat(&store, "space", "pinned");
    assert!(held * 4096 > u64::from(KEYS) * 100, "{held} blocks");
    is_of_round(&old, &tree, KEYS, 1);
    // What was begun before the first checkpoint goes on.
    let rest: Vec<_> = scan.map(Result::unwrap).collect();
    assert_eq!(first.len() + rest.len(), KEYS as usize);
    for (i, (key, got)) in first.iter().chain(&rest).enumerate() {
        assert_eq!(
            (key.as_slice(), got),
            (&(i as u32).to_be_bytes()[..], &value(i as u32, 1))
        );
    }
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut large, &mut got).unwrap();
    assert_eq!(got, value(7, 1));
    let young = store.snapshot().unwrap();
    is_of_round(&young, &tree, KEYS, 11);
    drop((old, large, young));
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    assert_eq!(stat(&store, "space", "pinned"), 0);
    drop(tree);
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn a_power_cut_frees_what_snapshots_held() {
    let disk = formatted(24 * MIB);
    let store = Store::open_device(disk.device(), &options()).unwrap();
    let tree = store.tree("t").unwrap();
    fill(&tree, 2000, 1);
    let old = store.snapshot().unwrap();
    for round in 2..5 {
        store.checkpoint().unwrap();
        fill(&tree, 2000, round);
    }
    store.checkpoint().unwrap();
    store.flush().unwrap();
    is_of_round(&old, &tree, 2000, 1);
    let after = disk.snapshot();
    drop((old, tree));
    drop(store);
    // Every block is accounted for, and those that were held are free.
    assert_eq!(checked(&after).blocks.kept, 0);
    let store = open(&after, 4 * MIB);
    is_of_round(
        &store.snapshot().unwrap(),
        &store.tree("t").unwrap(),
        2000,
        4,
    );
}

#[test]
fn for_want_of_space_the_oldest_snapshot_is_given_up_and_writers_go_on() {
    let disk = formatted(16 * MIB);
    let store = Store::open_device(disk.device(), &options()).unwrap();
    let tree = store.tree("t").unwrap();
    let events = store.events(1000).unwrap();
    const KEYS: u32 = 12_000;
    let mut held = Vec::new();
    for round in 0..12 {
        fill(&tree, KEYS, round);
        held.push((round, store.snapshot().unwrap()));
        store.checkpoint().unwrap();
    }
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < end, "nobody was told");
        if let Some(Event::ReadersGivenUp { cause, .. }) =
            events.next_within(Duration::from_millis(10))
        {
            assert_eq!(cause, GivenUp::Space);
            break;
        }
    }
    let gone = held
        .iter()
        .take_while(|(_, view)| {
            let got = view.get(&tree, &1u32.to_be_bytes());
            matches!(got, Err(Error::ViewTooOld { .. }))
        })
        .count();
    assert!((1..12).contains(&gone), "{gone}");
    for (round, view) in &held[gone..] {
        is_of_round(view, &tree, KEYS, *round);
    }
    for (_, view) in &held[..gone] {
        let scan = view.iter(&tree).and_then(|mut scan| scan.next().unwrap());
        assert!(matches!(scan, Err(Error::ViewTooOld { .. })), "{scan:?}");
    }
}

/// One seeded story: views of random moments, held through checkpoints, beside changes of all
/// kinds.
fn story(seed: u64) {
    println!("seed {seed}");
    let mut r = rng::seeded(seed);
    let disk = formatted(48 * MIB);
    let o = OpenOptions {
        version_memory: 64 << 20,
        ..options()
    };
    let store = Store::open_device(disk.device(), &o).unwrap();
    let mut model = Model::new();
    // With the handles that there were then: what is dropped later is seen still.
    let mut views: Vec<(Snapshot, Model, BTreeMap<String, Tree>)> = Vec::new();
    let mut trees: BTreeMap<String, Tree> = BTreeMap::new();
    for step in 0..400 {
        match r.random_range(0..100) {
            0..70 => change(&store, &mut trees, &mut model, &mut r),
            70..80 => {
                let view = store.snapshot().unwrap();
                views.push((view, model.clone(), trees.clone()));
            }
            80..86 if !views.is_empty() => {
                views.swap_remove(r.random_range(0..views.len()));
            }
            86..96 => store.checkpoint().unwrap(),
            _ => {}
        }
        if step % 7 == 0 && !views.is_empty() {
            let (view, model, trees) = &views[r.random_range(0..views.len())];
            same(view, model, trees);
        }
    }
    for (view, model, trees) in &views {
        same(view, model, trees);
    }
    // Trees that came later are empty to them.
    let late = store.tree("late").unwrap();
    late.put(b"k", b"v").unwrap();
    for (view, ..) in &views {
        assert_eq!(view.get(&late, b"k").unwrap(), None);
        assert_eq!(view.iter(&late).unwrap().count(), 0);
    }
    drop((views, trees, late));
    for _ in 0..200 {
        store.checkpoint().unwrap();
        if stat(&store, "reclaim", "trees") == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    assert_eq!(stat(&store, "space", "pinned"), 0);
    store.close().unwrap();
    checked(&disk);
}

fn change(store: &Store, trees: &mut BTreeMap<String, Tree>, model: &mut Model, r: &mut Rng) {
    let name = format!("t{}", r.random_range(0..3));
    let tree = trees
        .entry(name.clone())
        .or_insert_with(|| store.tree(&name).unwrap());
    let records = model.entry(name.clone()).or_default();
    match r.random_range(0..40) {
        0 => {
            store.drop_tree(&name).unwrap();
            trees.remove(&name);
            model.remove(&name);
        }
        2..5 => {
            let (from, to) = (r.random_range(0..660u32), r.random_range(0..660u32));
            let (from, to) = (from.min(to), from.max(to));
            let range = from.to_be_bytes().to_vec()..to.to_be_bytes().to_vec();
            tree.delete_range_with(range.clone(), BUFFERED).unwrap();
            records.retain(|key, _| !range.contains(key));
        }
        1 => {
            let all: Vec<_> = records.keys().cloned().collect();
            for key in all {
                tree.delete_with(&key, BUFFERED).unwrap();
            }
            records.clear();
        }
        _ => {
            let from = r.random_range(0..600u32);
            for key in from..from + r.random_range(1..60) {
                let (bytes, value) = (key.to_be_bytes(), value(key, r.random()));
                if r.random_range(0..4) == 0 {
                    tree.delete_with(&bytes, BUFFERED).unwrap();
                    records.remove(&bytes[..]);
                } else {
                    tree.put_with(&bytes, &value, BUFFERED).unwrap();
                    records.insert(bytes.to_vec(), value);
                }
            }
        }
    }
}

fn same(view: &Snapshot, model: &Model, trees: &BTreeMap<String, Tree>) {
    for (name, tree) in trees {
        let records = &model[name];
        let all: Records = view.iter(tree).unwrap().map(Result::unwrap).collect();
        assert_eq!(all.len(), records.len(), "{name}");
        assert!(all == *records, "{name}");
        for key in (0..660u32).step_by(13) {
            let key = key.to_be_bytes();
            assert_eq!(
                view.get(tree, &key).unwrap().as_ref(),
                records.get(&key[..])
            );
            assert_eq!(
                view.contains(tree, &key).unwrap(),
                records.contains_key(&key[..])
            );
        }
    }
}

#[test]
fn views_of_any_moment_see_what_there_was() {
    let first = std::env::var("GAUR_SEED").map_or(1, |s| s.parse().expect("a number"));
    for seed in first..first + 6 {
        story(seed);
    }
}

/// Breaks if a view that is being opened is pinned to a generation before its commit, if
/// what was read beside a freeze is returned, or if blocks of a pinned generation are used
/// again.
#[test]
fn views_beside_writers_and_checkpoints() {
    const KEYS: u64 = 200;
    let disk = formatted(48 * MIB);
    let o = OpenOptions {
        checkpoint_interval: Duration::from_millis(20),
        version_memory: 256 << 20,
        ..options()
    };
    let store = Store::open_device(disk.device(), &o).unwrap();
    let tree = store.tree("t").unwrap();
    // All keys have the same value after each commit.
    let write = |round: u64| {
        let mut batch = gaur::WriteBatch::new();
        for key in 0..KEYS {
            let value = [&round.to_be_bytes()[..], &[0; 80]].concat();
            batch.put(&tree, &key.to_be_bytes(), &value);
        }
        store.commit(batch, BUFFERED).unwrap()
    };
    write(0);
    let over = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(6);
    std::thread::scope(|s| {
        let writer = s.spawn(|| {
            for round in 1.. {
                if over.load(Ordering::Relaxed) {
                    return round;
                }
                write(round);
            }
            unreachable!("rounds do not end");
        });
        let readers: Vec<_> = (0..3u64)
            .map(|n| {
                let (store, tree, over) = (&store, &tree, &over);
                s.spawn(move || {
                    let mut r = rng::seeded(n);
                    let mut held: Vec<(Snapshot, Vec<u8>)> = Vec::new();
                    let mut looked = 0u64;
                    while !over.load(Ordering::Relaxed) {
                        let view = store.snapshot().unwrap();
                        let key = r.random_range(0..KEYS).to_be_bytes();
                        let of = view.get(tree, &key).unwrap().unwrap();
                        held.push((view, of));
                        if held.len() > 20 {
                            held.swap_remove(r.random_range(0..held.len()));
                        }
                        let (view, of) = &held[r.random_range(0..held.len())];
                        for _ in 0..5 {
                            let key = r.random_range(0..KEYS).to_be_bytes();
                            assert_eq!(view.get(tree, &key).unwrap().as_ref(), Some(of));
                        }
                        let mut seen = 0;
                        for record in view.iter(tree).unwrap() {
                            assert_eq!(&record.unwrap().1, of);
                            seen += 1;
                        }
                        assert_eq!(seen, KEYS);
                        looked += 1;
                    }
                    looked
                })
            })
            .collect();
        while Instant::now() < end && !readers.iter().any(|r| r.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::Relaxed);
        let looked: u64 = readers.into_iter().map(|r| r.join().unwrap()).sum();
        let rounds = writer.join().unwrap();
        let checkpoints = stat(&store, "checkpoints", "checkpoints");
        println!("{rounds} rounds, {looked} looks, {checkpoints} checkpoints");
        assert!(checkpoints > 2);
    });
    drop(tree);
    store.close().unwrap();
    checked(&disk);
}

/// Breaks if what was read of the running generation is returned though a freeze came in
/// between, after which nobody keeps images for the view.
#[test]
fn what_is_read_beside_a_freeze_is_read_again() {
    let disk = formatted(24 * MIB);
    let o = OpenOptions {
        version_memory: 256 << 20,
        ..options()
    };
    let store = Store::open_device(disk.device(), &o).unwrap();
    let tree = store.tree("t").unwrap();
    let over = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(4);
    tree.put_with(b"k", &0u64.to_be_bytes(), BUFFERED).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            for n in 1u64.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                tree.put_with(b"k", &n.to_be_bytes(), BUFFERED).unwrap();
            }
        });
        s.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                store.checkpoint().unwrap();
            }
        });
        let reader = s.spawn(|| {
            let mut looked = 0u64;
            while !over.load(Ordering::Relaxed) {
                let view = store.snapshot().unwrap();
                let get = || view.get(&tree, b"k").unwrap();
                let scan = || view.iter(&tree).unwrap().next().unwrap().unwrap().1;
                let first = get().unwrap();
                for _ in 0..20 {
                    assert_eq!(get().as_ref(), Some(&first));
                    assert_eq!(scan(), first);
                }
                looked += 1;
            }
            looked
        });
        while Instant::now() < end && !reader.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
        }
        over.store(true, Ordering::Relaxed);
        println!("{} looks", reader.join().unwrap());
    });
    println!("{} checkpoints", stat(&store, "checkpoints", "checkpoints"));
}
