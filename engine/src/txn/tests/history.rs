//! Random transactions on real threads, and what the checker says of them.
//!
//! `GAUR_SEED` and `GAUR_SECONDS` (for each test; 2 by default) choose and prolong, e.g.
//! `GAUR_SECONDS=3600 cargo test --release -p gaur --lib txn::tests::history::serializable`.
//! Threads do not interleave the same way twice, so a seed is a likely repetition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gaur_iodriver::sim::{SimDisk, SimOptions};
use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;

use super::check::{Done, Graph, Id, in_order_of_commits};
use crate::commit::condition::Part;
use crate::{
    Durability, Error, FormatOptions, Isolation, OpenOptions, Result, Store, TransactionOptions,
    Tree,
};

const BUFFERED: Durability = Durability::Buffered;
/// Keys of a round, in two trees.
const KEYS: usize = 10;
const THREADS: usize = 4;
/// Transactions of each thread in a round.
const EACH: usize = 25;

struct Round<'a> {
    trees: &'a [Tree; 2],
    options: TransactionOptions,
    number: u64,
    /// Each key has a leaf of its own.
    sparse: bool,
    store: &'a Store,
}

fn list(value: Option<Vec<u8>>) -> Vec<Id> {
    let value = value.unwrap_or_default();
    let ids = value.chunks_exact(8);
    ids.map(|id| Id::from_be_bytes(id.try_into().unwrap()))
        .collect()
}

fn bytes(list: &[Id]) -> Vec<u8> {
    list.iter().flat_map(|id| id.to_be_bytes()).collect()
}

impl Round<'_> {
    fn prefix(&self) -> Vec<u8> {
        self.number.to_be_bytes().to_vec()
    }

    /// Tree and key: the even ones in the first tree.
    fn place(&self, key: usize) -> (&Tree, Vec<u8>) {
        let name = [self.prefix(), vec![(key / 2) as u8, 1]].concat();
        (&self.trees[key % 2], name)
    }

    /// The key of a record that is no filling.
    fn key(&self, tree: usize, name: &[u8]) -> Option<usize> {
        (name[9] == 1).then(|| usize::from(name[8]) * 2 + tree)
    }

    /// Puts records between the keys, so that each lies in another leaf.
    fn fill(&self) {
        for key in 0..KEYS {
            let (tree, mut name) = self.place(key);
            for side in [0, 2] {
                *name.last_mut().unwrap() = side;
                tree.put_with(&name, &[0; 1000], BUFFERED).unwrap();
            }
        }
    }

    /// One transaction, at random; what it was, if it committed.
    fn transaction(&self, r: &mut Rng, next: &mut Id) -> Option<Done> {
        let mut t = self.store.begin(&self.options).unwrap();
        let mut done = Done::default();
        // Lists as this transaction sees them, once it has written to them.
        let mut own: BTreeMap<usize, Vec<Id>> = BTreeMap::new();
        let only_reads = r.random_bool(0.15);
        let read =
            |done: &mut Done, own: &BTreeMap<usize, Vec<Id>>, key: usize, got: Vec<Id>| match own
                .get(&key)
            {
                Some(list) => assert_eq!(*list, got, "it does not see its own writes"),
                None => done.reads.push((key, got)),
            };
        for _ in 0..r.random_range(1..5) {
            let key = r.random_range(0..KEYS);
            let (tree, name) = self.place(key);
            if r.random_bool(0.2) {
                std::thread::yield_now();
            }
            match r.random_range(0..10) {
                0..4 => {
                    let got = list(t.get(tree, &name).unwrap());
                    read(&mut done, &own, key, got);
                }
                4..8 if !only_reads => {
                    let mut now = list(t.get(tree, &name).unwrap());
                    read(&mut done, &own, key, now.clone());
                    now.push(*next);
                    done.appends.push((key, *next));
                    *next += 1;
                    t.put(tree, &name, &bytes(&now)).unwrap();
                    own.insert(key, now);
                }
                _ => {
                    // What a scan passes over is read, too, as empty.
                    let which = key % 2;
                    let reverse = r.random();
                    let limit = r.random_range(1..=KEYS);
                    let mut upto: Vec<usize> = (which..KEYS).step_by(2).collect();
                    let scan = t.prefix(tree, &self.prefix()).unwrap();
                    let scan = if reverse { scan.rev() } else { scan };
                    if reverse {
                        upto.reverse();
                    }
                    let mut seen: Vec<(usize, Vec<Id>)> = Vec::new();
                    let mut ended = true;
                    for record in scan {
                        let (name, value) = record.unwrap();
                        if let Some(key) = self.key(which, &name) {
                            seen.push((key, list(Some(value))));
                            if seen.len() == limit {
                                ended = false;
                                break;
                            }
                        }
                    }
                    if !ended {
                        let last = seen.last().unwrap().0;
                        let at = upto.iter().position(|k| *k == last).unwrap();
                        upto.truncate(at + 1);
                    }
                    for key in upto {
                        let got = seen.iter().find(|s| s.0 == key);
                        read(
                            &mut done,
                            &own,
                            key,
                            got.map_or(Vec::new(), |s| s.1.clone()),
                        );
                    }
                }
            }
        }
        if r.random_bool(0.05) {
            return None;
        }
        match t.commit(BUFFERED) {
            Ok(csn) => {
                done.csn = csn;
                Some(done)
            }
            Err(Error::Conflict(_)) => None,
            Err(e) => panic!("{e}"),
        }
    }

    fn run(&self, seed: u64) -> (Vec<Done>, BTreeMap<usize, Vec<Id>>) {
        if self.sparse {
            self.fill();
        }
        let all = std::thread::scope(|s| {
            let threads: Vec<_> = (0..THREADS as u64)
                .map(|n| {
                    s.spawn(move || {
                        let mut r = rng::seeded(seed ^ n << 32);
                        super::pause_at_random(rng::seeded(!seed ^ n << 32));
                        let mut next = 1 + n * 1_000_000;
                        let turns = (0..EACH).filter_map(|_| self.transaction(&mut r, &mut next));
                        turns.collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect()
        });
        let last = (0..KEYS).map(|key| {
            let (tree, name) = self.place(key);
            (key, list(tree.get(&name).unwrap()))
        });
        (all, last.collect())
    }
}

/// What was found in the rounds until the time was over.
#[derive(Debug, Default)]
struct Found {
    rounds: u64,
    committed: usize,
    holds: u64,
    /// Rounds that no order of whole transactions explains: updates lost.
    broken: u64,
    /// Rounds with a cycle, with one that is no write skew, and not in the order of commits.
    cycles: u64,
    beyond_skew: u64,
    disorders: u64,
    /// What was found first.
    first: Option<String>,
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Rounds of random transactions, until the time is over or `enough` says so.
fn histories(
    isolation: Isolation,
    without: Option<Part>,
    enough: impl Fn(&Found) -> bool,
) -> Result<Found> {
    let seed: u64 = env("GAUR_SEED")
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rng::fresh_seed);
    println!("GAUR_SEED={seed}");
    let time: f64 = env("GAUR_SECONDS")
        .and_then(|s| s.parse().ok())
        .unwrap_or(2.0);
    let end = Instant::now() + Duration::from_secs_f64(time);
    let mut found = Found::default();
    let mut r = rng::seeded(seed);
    // Another store now and then, so that none gets large.
    while Instant::now() < end && !enough(&found) {
        let disk = SimDisk::new(SimOptions {
            capacity: 128 << 20,
            seed,
            ..SimOptions::default()
        });
        Store::format_device(disk.device(), &FormatOptions::default())?;
        let options = OpenOptions {
            cache_bytes: [1 << 20, 16 << 20][r.random_range(0..2)],
            checkpoint_interval: Duration::from_millis(20),
            ..OpenOptions::default()
        };
        let store = Store::open_device(disk.device(), &options)?;
        let trees = [store.tree("a")?, store.tree("b")?];
        for number in 0..200 {
            if Instant::now() >= end || enough(&found) {
                break;
            }
            let round = Round {
                trees: &trees,
                options: TransactionOptions { isolation, without },
                number,
                sparse: r.random(),
                store: &store,
            };
            let (all, last) = round.run(r.random());
            found.rounds += 1;
            found.committed += all.len();
            let graph = match Graph::of(&all, &last) {
                Ok(graph) => graph,
                Err(why) => {
                    found.broken += 1;
                    found.first.get_or_insert(why);
                    continue;
                }
            };
            let order = in_order_of_commits(&all);
            found.disorders += u64::from(order.is_err());
            let (cycle, beyond) = (graph.cycle(), graph.cycle_beyond_skew());
            found.cycles += u64::from(cycle.is_some());
            found.beyond_skew += u64::from(beyond.is_some());
            let why = cycle.map(|c| {
                let steps = c.iter().map(|(t, edge)| format!("{edge:?} {:?}", all[*t]));
                steps.collect::<Vec<_>>().join("\n")
            });
            found.first = found.first.take().or(why).or(order.err());
        }
        found.holds += store.stats().get("log", "holds").unwrap_or(0);
        assert_eq!(store.stats().get("waits", "under_latch"), Some(0));
    }
    println!(
        "{isolation:?}, without {without:?}: {} rounds, {} commits, {} holds: {} with updates \
         lost, {} with a cycle, {} beyond skew, {} not in the order of commits",
        found.rounds,
        found.committed,
        found.holds,
        found.broken,
        found.cycles,
        found.beyond_skew,
        found.disorders
    );
    Ok(found)
}

#[test]
fn serializable_histories_have_no_cycle() {
    let found = histories(Isolation::Serializable, None, |f| f.first.is_some()).unwrap();
    assert_eq!(found.first, None, "{}", found.first.as_ref().unwrap());
    assert!(found.committed > 100);
}

#[test]
fn histories_under_snapshot_isolation_have_skew_at_most() {
    let found = histories(Isolation::Snapshot, None, |f| f.beyond_skew + f.broken > 0).unwrap();
    assert_eq!(found.beyond_skew + found.broken, 0, "{:?}", found.first);
    assert!(found.cycles > 0, "no write skew was met");
}

/// How a history goes wrong without a part of the validation. Runs on until there is a
/// cycle, or an update lost.
fn found_without(part: Part) -> Found {
    let enough = |f: &Found| f.cycles + f.broken > 0;
    histories(Isolation::Serializable, Some(part), enough).unwrap()
}

#[test]
fn the_checker_finds_that_nothing_is_validated() {
    let found = found_without(Part::Whole);
    assert!(found.broken > 0 || found.cycles > 0, "{found:?}");
}

#[test]
fn the_checker_finds_that_others_draw_between_look_and_draw() {
    let found = found_without(Part::Condition);
    assert!(found.first.is_some(), "{found:?}");
}

#[test]
fn the_checker_finds_that_commits_under_way_are_passed_over() {
    let found = found_without(Part::Waiting);
    assert!(found.first.is_some(), "{found:?}");
}
