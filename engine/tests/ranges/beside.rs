//! Ranges deleted while others read, write, scan and commit, and checkpoints come and go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gaur::{Durability, Error, Store, TransactionOptions, Tree, WriteBatch};
use gaur_iodriver::sync::rng;
use rand::RngExt;

use super::{MIB, contents, formatted, key, settle, stat};
use crate::common::{checked, open};

/// Of each group of keys there are all or none, and all of one round.
const GROUP: u32 = 40;
const GROUPS: u32 = 400;

fn member(group: u32, i: u32) -> Vec<u8> {
    [key(group), key(i)].concat()
}

/// Puts a group, as one batch.
fn put(store: &Store, tree: &Tree, group: u32, round: u64) {
    let mut batch = WriteBatch::new();
    let value = [round.to_be_bytes().to_vec(), vec![1; 60]].concat();
    for i in 0..GROUP {
        batch.put(tree, &member(group, i), &value);
    }
    store.commit(batch, Durability::Buffered).unwrap();
}

/// What a scan saw: no group by half, none of two rounds.
fn whole(records: impl Iterator<Item = gaur::Result<(Vec<u8>, Vec<u8>)>>) {
    let mut groups = std::collections::BTreeMap::new();
    for record in records {
        let (key, value) = match record {
            Ok(record) => record,
            Err(Error::ViewTooOld { .. }) => return,
            Err(e) => panic!("{e}"),
        };
        let of: &mut Vec<Vec<u8>> = groups.entry(key[..4].to_vec()).or_default();
        of.push(value[..8].to_vec());
    }
    for (group, rounds) in groups {
        assert_eq!(rounds.len(), GROUP as usize, "group {group:?}");
        assert!(rounds.iter().all(|r| *r == rounds[0]), "group {group:?}");
    }
}

#[test]
fn nobody_sees_a_range_deleted_by_half() {
    let seed = std::env::var("GAUR_SEED").map_or(0, |s| s.parse().unwrap());
    let seconds = std::env::var("GAUR_SECONDS").map_or(5, |s| s.parse().unwrap());
    println!("seed {seed}");
    let disk = formatted(128 * MIB);
    for (round, cache) in [(0, MIB), (1, 16 * MIB)] {
        let store = open(&disk, cache);
        let tree = store.tree("t").unwrap();
        let other = store.tree("other").unwrap();
        let (over, deletes, commits) =
            (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let end = Instant::now() + Duration::from_secs(seconds);
        let rng = |thread: u64| rng::seeded(seed + 100 * round + thread);
        std::thread::scope(|s| {
            let (store, tree, other) = (&store, &tree, &other);
            let (over, deletes, commits) = (&over, &deletes, &commits);
            let mut threads = Vec::new();
            let running = move || !over.load(Ordering::Relaxed);
            for thread in 0..2 {
                let mut r = rng(thread);
                threads.push(s.spawn(move || {
                    for n in 0.. {
                        if !running() {
                            break;
                        }
                        put(store, tree, r.random_range(0..GROUPS), n * 2 + thread);
                    }
                }));
            }
            let mut r = rng(10);
            threads.push(s.spawn(move || {
                while running() {
                    let from = r.random_range(0..GROUPS);
                    let to = from + r.random_range(0..GROUPS / 2);
                    tree.delete_range_with(key(from)..key(to), Durability::Buffered)
                        .unwrap();
                    deletes.fetch_add(1, Ordering::Relaxed);
                    if r.random_range(0..10) == 0 {
                        store.checkpoint().unwrap();
                    }
                }
            }));
            // Scans, and snapshots whose scans and gets must agree.
            for thread in 20..22 {
                let mut r = rng(thread);
                threads.push(s.spawn(move || {
                    while running() {
                        let view = store.snapshot().unwrap();
                        std::thread::sleep(Duration::from_millis(r.random_range(0..20)));
                        let from = key(r.random_range(0..GROUPS));
                        let scan = view.range(tree, from..).unwrap();
                        if r.random() {
                            whole(scan);
                        } else {
                            whole(scan.rev());
                        }
                        let group = r.random_range(0..GROUPS);
                        let there = [0, GROUP - 1].map(|i| view.get(tree, &member(group, i)));
                        if let [Ok(a), Ok(b)] = there {
                            assert_eq!(a, b, "group {group}");
                        }
                    }
                }));
            }
            // Transactions that count a range and write down what they counted: it is
            // right when they commit.
            let mut r = rng(30);
            threads.push(s.spawn(move || {
                while running() {
                    let mut t = store.begin(&TransactionOptions::default()).unwrap();
                    let from = r.random_range(0..GROUPS);
                    let range = t.range(tree, key(from)..key(from + 3)).unwrap();
                    let (mut keys, mut failed) = (0u32, false);
                    for record in range {
                        match record {
                            Ok(_) => keys += 1,
                            Err(Error::ViewTooOld { .. }) => failed = true,
                            Err(e) => panic!("{e}"),
                        }
                    }
                    if failed {
                        continue;
                    }
                    assert_eq!(keys % GROUP, 0);
                    // Written into the range itself, so that a delete meets it.
                    t.put(other, &key(from), &keys.to_be_bytes()).unwrap();
                    match t.commit(Durability::Buffered) {
                        Ok(_) => drop(commits.fetch_add(1, Ordering::Relaxed)),
                        Err(Error::Conflict(_) | Error::ViewTooOld { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            }));
            while Instant::now() < end && threads.iter().all(|t| !t.is_finished()) {
                std::thread::sleep(Duration::from_millis(20));
            }
            over.store(true, Ordering::Relaxed);
        });
        println!("{deletes:?} ranges deleted beside {commits:?} transactions");
        assert!(deletes.into_inner() > 20 && commits.into_inner() > 20);
        whole(tree.iter().unwrap());
        let there = contents(&tree);
        let waited = stat(&store, "waits", "under_latch");
        assert_eq!(waited, 0);
        store.flush().unwrap();
        drop((tree, other, store));
        checked(&disk);
        let store = open(&disk, cache);
        let tree = store.open_tree("t").unwrap();
        assert!(contents(&tree) == there);
        settle(&store);
        store.close().unwrap();
        checked(&disk);
    }
}
