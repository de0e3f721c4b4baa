//! The whole engine under the seeded scheduler: the same seed is the same run.
//! Needs `--features simulation`.
#![cfg(feature = "simulation")]

mod common;

use std::sync::Arc;

use gaur::{Durability, FormatOptions, Store, WriteBatch};
use gaur_iodriver::DurableMethod;
use gaur_iodriver::sim::{SimDisk, SimOptions};
use gaur_iodriver::sync::rng::seeded;
use gaur_iodriver::sync::schedule::{self, End, Plan};
use gaur_iodriver::sync::thread;
use rand::RngExt;

/// Formats a store, has three threads write to it, closes it, checks it.
fn story(seed: u64) -> u64 {
    let disk = SimDisk::new(SimOptions {
        capacity: 32 << 20,
        seed,
        ..SimOptions::default()
    });
    let format = FormatOptions {
        log_size: Some(4 << 20),
        durable_method: Some(DurableMethod::Dsync),
        ..FormatOptions::default()
    };
    Store::format_device(disk.device(), &format).unwrap();
    let store = Arc::new(common::open(&disk, 1 << 20));
    let threads: Vec<_> = (0..3u64)
        .map(|n| {
            let store = store.clone();
            let write = move || {
                let mut r = seeded(seed * 10 + n);
                let tree = store.tree("t").unwrap();
                for i in 0..150 {
                    let sync = match r.random_bool(0.3) {
                        true => Durability::Sync,
                        false => Durability::Buffered,
                    };
                    let csn = match r.random_range(0..10) {
                        0 => {
                            let mut batch = WriteBatch::new();
                            for _ in 0..5 {
                                batch.put(&tree, &common::key(&mut r, 500), b"in a batch");
                            }
                            store.commit(batch, sync)
                        }
                        1 => tree.delete_with(&common::key(&mut r, 500), sync),
                        _ => {
                            let (k, v) = (common::key(&mut r, 500), common::value(&mut r));
                            tree.put_with(&k, &v, sync)
                        }
                    };
                    schedule::note(csn.unwrap());
                    if n == 0 && i % 50 == 49 {
                        store.checkpoint().unwrap();
                    }
                }
            };
            thread::spawn("writer", write).unwrap()
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    Arc::into_inner(store).unwrap().close().unwrap();
    common::checked(&disk);
    disk.image_hash()
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 1..=6 {
        let run = || match schedule::run(&Plan::from_seed(seed), move || story(seed)) {
            (End::Done(image), report) => (image, report),
            (other, _) => panic!("seed {seed}: {other:?}"),
        };
        let begun = std::time::Instant::now();
        let first = run();
        println!("seed {seed}: {:?} in {:?}", first.1, begun.elapsed());
        assert_eq!(first, run(), "seed {seed}");
        traces.insert(first.1.trace);
    }
    assert_eq!(traces.len(), 6);
}
