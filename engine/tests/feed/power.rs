//! Power cuts beside a feed: what it gave is there afterwards, and it goes on from there.

use std::thread;

use gaur::{Error, FeedOptions, WriteBatch};
use gaur_iodriver::sync::rng::seeded;
use rand::RngExt;

use super::*;

/// Writes until the power fails.
fn write(store: &Store, seed: u64) {
    let mut rng = seeded(seed);
    let trees = ["one", "two"].map(|name| store.tree(name));
    let [Ok(one), Ok(two)] = trees else { return };
    loop {
        let mut batch = WriteBatch::new();
        for _ in 0..rng.random_range(1..5) {
            let tree = if rng.random_bool(0.5) { &one } else { &two };
            let key = rng.random_range(0..500u32).to_be_bytes();
            if rng.random_bool(0.2) {
                batch.delete(tree, &key);
            } else {
                let large = rng.random_bool(0.02);
                let len = rng.random_range(0..if large { 20_000 } else { 800 });
                batch.put(tree, &key, &vec![rng.random(); len]);
            }
        }
        let durability = if rng.random_bool(0.3) {
            Durability::Sync
        } else {
            BUFFERED
        };
        if store.commit(batch, durability).is_err() {
            return;
        }
        if rng.random_bool(0.02) && store.checkpoint().is_err() {
            return;
        }
    }
}

#[test]
fn what_a_feed_gave_survives_and_it_goes_on_from_there() {
    let seeds = std::env::var("GAUR_FEED_SEEDS").map_or(3, |n| n.parse().unwrap());
    for seed in 1..=seeds {
        println!("seed {seed}");
        let mut rng = seeded(seed);
        let mut disk = formatted(seed, 48 * MIB);
        let mut copy = Copy::default();
        for round in 0..12u64 {
            let durable_soon = OpenOptions {
                buffered_interval: Duration::from_millis(1),
                ..options()
            };
            let store = Store::open_device(disk.device(), &durable_soon).unwrap();
            assert!(
                store.recovery().last_csn >= copy.csn,
                "seed {seed}, round {round}: commit {} was given and is not there",
                copy.csn
            );
            let mut feed = match store.changes(copy.csn, &FeedOptions::default()) {
                Ok(feed) => feed,
                Err(e) => panic!("seed {seed}, round {round}: {e}"),
            };
            disk.crash_after(rng.random_range(1..400));
            thread::scope(|s| {
                for n in 0..3 {
                    let store = &store;
                    s.spawn(move || write(store, seed << 32 | round << 8 | n));
                }
                let copy = &mut copy;
                // Now and then it stays far behind.
                let most = rng.random_range(0..2000);
                s.spawn(move || {
                    for commit in feed.by_ref().take(most) {
                        match commit {
                            Ok(commit) if copy.try_take(&commit) => {}
                            Ok(_) => break,
                            Err(Error::Stopped(_) | Error::Io(_)) => break,
                            Err(e) => panic!("{e}"),
                        }
                    }
                });
            });
            drop(store);
            disk = disk.crash(rng.random());
        }
        assert!(copy.csn > 100, "{}", copy.csn);
        let store = open(&disk);
        let mut feed = feed(&store, copy.csn);
        while let Some(commit) = feed.next_within(Duration::ZERO).unwrap() {
            copy.take(&commit);
        }
        assert_eq!(copy.csn, store.recovery().last_csn);
        copy.compare(&store);
    }
}
