//! Ranges deleted while others read, write, scan and commit, and checkpoints come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gaur::{Durability, Error, Store, TransactionOptions, Tree, WriteBatch};
use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;

use super::{MIB, contents, fill, formatted, key, settle, stat};
use crate::common::{checked, open};

/// Of each group of keys there are all or none, and all of one round.
const GROUP: u32 = 40;
const GROUPS: u32 = 400;

fn member(group: u32, i: u32) -> Vec<u8> {
    [key(group), key(i)].concat()
}

/// Records of a tree beside, which has no place in the smaller cache.
const ASIDE: u32 = 20_000;

/// Puts a group, as one batch, with some records of another tree behind it: while these
/// are read the group's leaves are prepared and not held.
fn put(store: &Store, tree: &Tree, group: u32, round: u64, aside: (&Tree, &mut Rng)) -> u64 {
    let mut batch = WriteBatch::new();
    let value = [round.to_be_bytes().to_vec(), vec![1; 60]].concat();
    for i in 0..GROUP {
        batch.put(tree, &member(group, i), &value);
    }
    for _ in 0..aside.1.random_range(0..8) {
        batch.put(aside.0, &key(aside.1.random_range(0..ASIDE)), &value);
    }
    store.commit(batch, Durability::Buffered).unwrap()
}

/// What was committed: each group put, and each range deleted.
#[derive(Default)]
struct Told {
    puts: Mutex<Vec<(u64, u32)>>,
    deletes: Mutex<Vec<(u64, Range<u32>)>>,
}

impl Told {
    /// The groups that there must be in the end.
    fn there(self) -> BTreeSet<u32> {
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for (csn, group) in self.puts.into_inner().unwrap() {
            let at = last.entry(group).or_default();
            *at = csn.max(*at);
        }
        for (csn, range) in self.deletes.into_inner().unwrap() {
            last.retain(|group, put| !range.contains(group) || *put > csn);
        }
        last.into_keys().collect()
    }
}

/// What a scan saw: no group by half, none of two rounds.
fn whole(records: impl Iterator<Item = gaur::Result<(Vec<u8>, Vec<u8>)>>) {
    let mut groups = BTreeMap::new();
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
    let store = open(&disk, 16 * MIB);
    // In this order: a commit takes its leaves by tree.
    store.tree("t").unwrap();
    fill(&store.tree("aside").unwrap(), 0..ASIDE, &[1; 200]);
    store.close().unwrap();
    for (round, cache) in [(0, MIB), (1, 16 * MIB)] {
        let store = open(&disk, cache);
        let [tree, aside] = ["t", "aside"].map(|name| store.open_tree(name).unwrap());
        tree.delete_range(..).unwrap();
        let told = Told::default();
        let other = store.tree("other").unwrap();
        let (over, deletes, commits) =
            (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let end = Instant::now() + Duration::from_secs(seconds);
        let rng = |thread: u64| rng::seeded(seed + 100 * round + thread);
        std::thread::scope(|s| {
            let (store, tree, other, aside, told) = (&store, &tree, &other, &aside, &told);
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
                        let group = r.random_range(0..GROUPS);
                        let csn = put(store, tree, group, n * 2 + thread, (aside, &mut r));
                        told.puts.lock().unwrap().push((csn, group));
                    }
                }));
            }
            let mut r = rng(10);
            threads.push(s.spawn(move || {
                while running() {
                    let from = r.random_range(0..GROUPS);
                    let to = from + r.random_range(0..GROUPS / 2);
                    let range = key(from)..key(to);
                    let done = tree.delete_range_with(range, Durability::Buffered);
                    let csn = done.unwrap();
                    told.deletes.lock().unwrap().push((csn, from..to));
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
        let groups = there
            .keys()
            .map(|k| u32::from_be_bytes(k[..4].try_into().unwrap()));
        assert_eq!(groups.collect::<BTreeSet<_>>(), told.there());
        let waited = stat(&store, "waits", "under_latch");
        assert_eq!(waited, 0);
        store.flush().unwrap();
        drop((tree, other, aside, store));
        checked(&disk);
        let store = open(&disk, cache);
        let tree = store.open_tree("t").unwrap();
        assert!(contents(&tree) == there);
        settle(&store);
        store.close().unwrap();
        checked(&disk);
    }
}
