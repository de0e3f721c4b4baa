//! Random ranges, and everything else that changes a tree, beside a model: views and
//! snapshots from before see what was there, and so do those who open the store again.

use std::ops::Bound;

use gaur::{Durability, NamedSnapshot, OpenOptions, Snapshot, Store, Tree};
use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;

use super::{MIB, Model, contents, formatted, settle, used};
use crate::common::{self, checked, open};

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

fn bounds(r: &mut Rng, space: u32) -> Bounds {
    let mut end = || match r.random_range(0..9) {
        0 => Bound::Unbounded,
        n if n % 2 == 0 => Bound::Included(common::key(r, space)),
        _ => Bound::Excluded(common::key(r, space)),
    };
    (end(), end())
}

/// What of a model lies within bounds that may be the wrong way round.
fn within(bounds: &Bounds, key: &[u8]) -> bool {
    let above = match &bounds.0 {
        Bound::Included(k) => key >= k.as_slice(),
        Bound::Excluded(k) => key > k.as_slice(),
        Bound::Unbounded => true,
    };
    above
        && match &bounds.1 {
            Bound::Included(k) => key <= k.as_slice(),
            Bound::Excluded(k) => key < k.as_slice(),
            Bound::Unbounded => true,
        }
}

/// A snapshot in memory sees this, in every way there is to look.
fn sees(snapshot: &Snapshot, tree: &Tree, model: &Model, r: &mut Rng, space: u32) {
    let all: Model = snapshot.iter(tree).unwrap().map(Result::unwrap).collect();
    assert!(all == *model, "{} and {} records", all.len(), model.len());
    let back = snapshot.iter(tree).unwrap().rev().map(Result::unwrap);
    assert!(back.eq(model.iter().rev().map(|(k, v)| (k.clone(), v.clone()))));
    for _ in 0..20 {
        let key = common::key(r, space);
        assert_eq!(snapshot.get(tree, &key).unwrap(), model.get(&key).cloned());
        let b = bounds(r, space);
        let part = snapshot.range(tree, b.clone()).unwrap().map(Result::unwrap);
        let same = model.iter().filter(|(k, _)| within(&b, k));
        assert!(part.eq(same.map(|(k, v)| (k.clone(), v.clone()))));
        let part = snapshot.range(tree, b.clone()).unwrap().rev();
        let same = model.iter().rev().filter(|(k, _)| within(&b, k));
        let same = same.map(|(k, v)| (k.clone(), v.clone())).take(30);
        assert!(part.limit(30).map(Result::unwrap).eq(same));
    }
}

fn run(seed: u64, space: u32, cache: u64) {
    println!("seed {seed}");
    let disk = formatted(96 * MIB);
    let mut r = rng::seeded(seed);
    let mut store = open(&disk, cache);
    let mut tree = store.tree("t").unwrap();
    let mut model = Model::new();
    let mut views: Vec<(Snapshot, Model)> = Vec::new();
    let mut named: Vec<(NamedSnapshot, Model)> = Vec::new();
    for step in 0..250 {
        match r.random_range(0..30) {
            0..12 => {
                for _ in 0..r.random_range(1..space / 4) {
                    let (key, value) = (common::key(&mut r, space), common::value(&mut r));
                    tree.put_with(&key, &value, Durability::Buffered).unwrap();
                    model.insert(key, value);
                }
            }
            12..20 => {
                let b = bounds(&mut r, space);
                tree.delete_range_with(b.clone(), Durability::Buffered)
                    .unwrap();
                model.retain(|k, _| !within(&b, k));
            }
            20..23 => {
                if views.len() < 4 {
                    views.push((store.snapshot().unwrap(), model.clone()));
                } else {
                    let i = r.random_range(0..views.len());
                    let (view, then) = views.swap_remove(i);
                    sees(&view, &tree, &then, &mut r, space);
                }
            }
            23 => {
                let name = format!("s{step}");
                named.push((store.create_snapshot(&name).unwrap(), model.clone()));
            }
            24 if !named.is_empty() => {
                let i = r.random_range(0..named.len());
                let (snapshot, then) = named.swap_remove(i);
                assert!(contents(&snapshot.tree("t").unwrap()) == then);
                let name = snapshot.name().to_owned();
                drop(snapshot);
                store.delete_snapshot(&name).unwrap();
            }
            25 | 26 => store.checkpoint().unwrap(),
            27 => {
                assert!(contents(&tree) == model);
            }
            28 => {
                // As it is on the device, with the log beside it, and replayed.
                store.flush().unwrap();
                let report = checked(&disk.snapshot());
                let told = report.recovery.trees.iter().find(|t| t.name == "t");
                assert_eq!(told.unwrap().records, Some(model.len() as u64));
                let read_only = OpenOptions {
                    read_only: true,
                    ..OpenOptions::default()
                };
                let copy = disk.snapshot();
                let beside = Store::open_device(copy.device(), &read_only).unwrap();
                let there = beside.open_tree("t").unwrap();
                assert!(contents(&there) == model);
                let back = there.iter().unwrap().rev().map(Result::unwrap);
                assert!(back.eq(model.clone().into_iter().rev()));
                let key = common::key(&mut r, space);
                assert_eq!(there.get(&key).unwrap(), model.get(&key).cloned());
                let copy = open(&disk.snapshot(), cache);
                assert!(contents(&copy.open_tree("t").unwrap()) == model);
            }
            29 => {
                for (view, then) in views.drain(..) {
                    sees(&view, &tree, &then, &mut r, space);
                }
                let names: Vec<_> = named
                    .drain(..)
                    .map(|(s, m)| (s.name().to_owned(), m))
                    .collect();
                if r.random() {
                    store.close().unwrap();
                    drop(tree);
                } else {
                    store.flush().unwrap();
                    drop((tree, store));
                }
                checked(&disk);
                store = open(&disk, cache);
                tree = store.open_tree("t").unwrap();
                let reopened = names.into_iter();
                named = reopened
                    .map(|(n, m)| (store.open_snapshot(&n).unwrap(), m))
                    .collect();
                assert!(contents(&tree) == model);
            }
            _ => {}
        }
    }
    for (view, then) in views.drain(..) {
        sees(&view, &tree, &then, &mut r, space);
    }
    for (snapshot, then) in named.drain(..) {
        assert!(contents(&snapshot.tree("t").unwrap()) == then);
        store.delete_snapshot(snapshot.name()).unwrap();
    }
    assert!(contents(&tree) == model);
    // In the end nothing is left of it all.
    tree.delete_range(..).unwrap();
    assert_eq!(contents(&tree), Model::new());
    settle(&store);
    store.close().unwrap();
    let report = checked(&disk);
    assert_eq!((report.blocks.extents, report.blocks.kept), (0, 0));
    assert!(report.blocks.nodes <= 6, "{:?}", report.blocks);
    assert!(used(&disk) <= 6);
}

#[test]
fn ranges_are_deleted_as_from_a_model() {
    let seed = std::env::var("GAUR_SEED").map_or(0, |s| s.parse().unwrap());
    for seed in seed..seed + 4 {
        run(seed, 3000, MIB);
    }
    run(seed + 4, 400, 8 * MIB);
}
