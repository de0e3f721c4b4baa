//! The store beside a map: the same operations, the same answers, through
//! checkpoints, reopening and small caches.

mod whole;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use gaur::{DriverChoice, Durability, FormatOptions, OpenOptions, Store, Tree, WriteBatch};
use gaur_iodriver::Device;
use gaur_iodriver::sim::{SimDisk, SimOptions};
use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(SimOptions {
        capacity: 96 << 20,
        seed,
        ..SimOptions::default()
    })
}

fn open(device: Arc<dyn Device>, cache: u64) -> Store {
    let options = OpenOptions {
        cache_bytes: cache,
        ..OpenOptions::default()
    };
    Store::open_device(device, &options).unwrap()
}

fn key(r: &mut Rng, space: u32) -> Vec<u8> {
    let n = r.random_range(0..space);
    match n % 5 {
        0 => format!("a-long-common-prefix-for-many-keys/{n:06}").into_bytes(),
        1 => n.to_be_bytes().to_vec(),
        2 => vec![b'x'; 1 + (n % 900) as usize],
        3 => [vec![b'p'; 600], n.to_be_bytes().to_vec()].concat(),
        _ => format!("{:x}", n.wrapping_mul(2_654_435_761)).into_bytes(),
    }
}

fn value(r: &mut Rng) -> Vec<u8> {
    let len = match r.random_range(0..40) {
        0 => r.random_range(2000..9000),
        1 => r.random_range(9000..200_000),
        2..10 => r.random_range(200..1000),
        _ => r.random_range(0..120),
    };
    let byte: u8 = r.random();
    (0..len).map(|i| byte.wrapping_add(i as u8)).collect()
}

fn same(tree: &Tree, model: &Model, what: &str) {
    let all: Vec<_> = tree.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), model.len(), "{what}");
    assert!(
        all.iter().map(|(k, v)| (k, v)).eq(model.iter()),
        "{what}: forward scan differs"
    );
    let mut back: Vec<_> = tree.iter().unwrap().rev().map(Result::unwrap).collect();
    back.reverse();
    assert!(back == all, "{what}: reverse scan differs");
}

/// Ranges with every kind of bound, both ways and with limits, lent record by
/// record, while what lies ahead of them is overwritten.
fn ranges_agree(r: &mut Rng, tree: &Tree, model: &Model, space: u32, what: &str) {
    for _ in 0..12 {
        let (a, b) = (key(r, space), key(r, space));
        let bound = |r: &mut Rng, key: Vec<u8>| match r.random_range(0..3) {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        };
        let range = (bound(r, a.clone().min(b.clone())), bound(r, a.max(b)));
        let (reverse, limit) = (r.random(), r.random_range(0..40));
        let what = format!("{what}: {range:?}, reverse {reverse}, limit {limit}");
        let empty = matches!(&range, (Bound::Excluded(a), Bound::Excluded(b)) if a == b);
        let mut wanted: Vec<_> = match empty {
            true => Vec::new(),
            false => model.range(range.clone()).collect(),
        };
        if reverse {
            wanted.reverse();
        }
        wanted.truncate(limit);
        let mut scan = tree.range(range).unwrap().limit(limit);
        if reverse {
            scan = scan.rev();
        }
        for (i, (key, value)) in wanted.iter().enumerate() {
            if i == 1 {
                // The scan looks at the commit it began with.
                for (ahead, _) in wanted.iter().skip(2).step_by(3) {
                    tree.delete(ahead).unwrap();
                }
            }
            let got = scan.next_lent().unwrap();
            assert_eq!(got, Some((key.as_slice(), value.as_slice())), "{what}");
        }
        assert_eq!(scan.next_lent().unwrap(), None, "{what}");
        for (key, value) in wanted.iter().skip(2).step_by(3) {
            tree.put(key, value).unwrap();
        }
    }
}

fn step(r: &mut Rng, store: &Store, tree: &Tree, model: &mut Model, space: u32) {
    match r.random_range(0..100) {
        0..50 => {
            let (k, v) = (key(r, space), value(r));
            tree.put_with(&k, &v, Durability::Buffered).unwrap();
            model.insert(k, v);
        }
        50..70 => {
            let k = key(r, space);
            tree.delete_with(&k, Durability::Buffered).unwrap();
            model.remove(&k);
        }
        70..80 => {
            let mut batch = WriteBatch::new();
            for _ in 0..r.random_range(1..60) {
                let k = key(r, space);
                if r.random_bool(0.7) {
                    let v = value(r);
                    batch.put(tree, &k, &v);
                    model.insert(k, v);
                } else {
                    batch.delete(tree, &k);
                    model.remove(&k);
                }
            }
            store.commit(batch, Durability::Buffered).unwrap();
        }
        80..96 => {
            let k = key(r, space);
            assert_eq!(tree.get(&k).unwrap().as_ref(), model.get(&k));
            assert_eq!(tree.contains(&k).unwrap(), model.contains_key(&k));
        }
        96..98 => {
            let (a, b) = (key(r, space), key(r, space));
            let (a, b) = if a <= b { (a, b) } else { (b, a) };
            let got: Vec<_> = tree
                .range(a.clone()..b.clone())
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert!(got.iter().map(|(k, v)| (k, v)).eq(model.range(a..b)));
        }
        98 => store.checkpoint().unwrap(),
        _ => {
            let k = key(r, space);
            let p = &k[..k.len().min(3)];
            let got: Vec<_> = tree.prefix(p).unwrap().map(|x| x.unwrap().0).collect();
            let want: Vec<_> = model.keys().filter(|k| k.starts_with(p)).cloned().collect();
            assert_eq!(got, want);
        }
    }
}

#[test]
fn a_store_is_a_map() {
    for seed in 0..4 {
        let disk = disk(seed);
        story(seed, &|| disk.device());
    }
}

/// The same on a file, by a given driver.
fn on_a_file(driver: DriverChoice) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.store");
    let device = |create| {
        let options = gaur_iodriver::OpenOptions {
            create,
            driver,
            ..Default::default()
        };
        gaur_iodriver::open(&path, &options).map(|o| o.device)
    };
    match device(Some(96 << 20)) {
        Ok(made) => drop(made),
        Err(e) => return println!("not here: {e}"),
    }
    story(1, &|| device(None).unwrap());
}

#[test]
fn a_store_on_a_file_is_a_map_by_psync() {
    on_a_file(DriverChoice::Psync);
}

#[test]
fn a_store_on_a_file_is_a_map_by_uring() {
    on_a_file(DriverChoice::Uring);
}

fn story(seed: u64, device: &dyn Fn() -> Arc<dyn Device>) {
    println!("seed {seed}");
    let mut r = rng::seeded(seed);
    Store::format_device(device(), &FormatOptions::default()).unwrap();
    let mut models: Vec<Model> = vec![Model::new(); 2];
    for round in 0..4 {
        let cache = if round % 2 == 0 { 1 << 20 } else { 16 << 20 };
        let store = open(device(), cache);
        let trees = [store.tree("one").unwrap(), store.tree("two").unwrap()];
        for (tree, model) in trees.iter().zip(&models) {
            same(
                tree,
                model,
                &format!("seed {seed} round {round} after opening"),
            );
        }
        let space = if round == 2 { 300 } else { 3000 };
        let beside = whole::Beside {
            store: &store,
            trees: &trees,
            space,
        };
        let mut held = whole::Held::new();
        for _ in 0..1200 {
            if r.random_bool(0.2) {
                beside.step(&mut r, &mut models, &mut held);
                continue;
            }
            let t = r.random_range(0..2);
            step(&mut r, &store, &trees[t], &mut models[t], space);
        }
        drop(held);
        for (tree, model) in trees.iter().zip(&models) {
            same(
                tree,
                model,
                &format!("seed {seed} round {round} at the end"),
            );
        }
        for (tree, model) in trees.iter().zip(&models) {
            ranges_agree(
                &mut r,
                tree,
                model,
                space,
                &format!("seed {seed} round {round}"),
            );
        }
        let stats = store.stats();
        let get = |g, n| stats.get(g, n).unwrap();
        assert_eq!(
            get("reservations", "taken_from_channel") + get("reservations", "taken_by_request"),
            get("reservations", "blocks_used")
                + get("reservations", "blocks_returned")
                + get("reservations", "blocks_stashed"),
        );
        assert_eq!(get("waits", "under_latch"), 0);
        drop(trees);
        if round % 2 == 0 {
            store.close().unwrap();
        } else {
            drop(store);
        }
    }
}

#[test]
fn deleting_all_gives_the_space_back() {
    // In key order beside full neighbours, and at random in a cache that holds a
    // seventh of the leaves, emptied leaves stayed for good.
    for (order, cache) in [(1, 4 << 20), (7919, 1 << 20)] {
        let disk = disk(1);
        Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
        let store = open(disk.device(), cache);
        let tree = store.tree("t").unwrap();
        let free = || store.stats().get("allocator", "free_blocks").unwrap();
        store.checkpoint().unwrap();
        let before = free();
        const RECORDS: u32 = 50_000;
        for round in 0..2u8 {
            for i in 0..RECORDS {
                let key = (i * order % RECORDS).to_be_bytes();
                tree.put_with(&key, &[round; 100], Durability::Buffered)
                    .unwrap();
            }
            for i in 0..RECORDS {
                let key = (i * order % RECORDS).to_be_bytes();
                tree.delete_with(&key, Durability::Buffered).unwrap();
            }
            assert_eq!(tree.iter().unwrap().count(), 0);
        }
        store.checkpoint().unwrap();
        store.checkpoint().unwrap();
        let after = free();
        assert!(
            before - after < 150,
            "order {order}: {before} free, then {after}"
        );
    }
}
