//! What a snapshot costs that is held while the store is overwritten several times: the
//! writers' speed beside that without one, memory, and that it reads as it did, and that
//! its space comes back.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gaur::{Durability, OpenOptions, Scan, Store, Tree};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::Xxh3;

use super::{fresh_store, median};
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::{interrupt, memory, output, units};

/// Bytes of a value.
const VALUE: usize = 100;
/// What the writers must keep of their speed.
const BAR: f64 = 0.8;
/// Bytes of a block, of a store that was formatted without saying so.
const BLOCK: u64 = 4096;
const NAME: &str = "held";

pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) records: u64,
    /// How often all of it is overwritten.
    pub(crate) times: u64,
    pub(crate) writers: u64,
    pub(crate) cache: u64,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
}

impl Plan {
    pub(crate) fn store_bytes(&self) -> u64 {
        // What there is, what is held, and what a checkpoint writes before it frees.
        (self.records * 200 * 4 + (512 << 20)).next_multiple_of(4096)
    }
}

/// What is held while the writers work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    View,
    Named,
}

const KINDS: [(Kind, &str); 3] = [
    (Kind::Nothing, "nothing"),
    (Kind::View, "a snapshot in memory"),
    (Kind::Named, "a named snapshot"),
];

/// One run of one kind.
struct Run {
    /// Puts a second.
    speed: f64,
    /// The most resident memory, and of before-images.
    memory: u64,
    images: u64,
    /// Bytes held on the device at the end; and more in use than before, when it was let
    /// go of.
    held: u64,
    left: i64,
    /// Reading it back gave what was there.
    same: bool,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    if plan.records == 0 || plan.writers == 0 || plan.rounds == 0 {
        return Err(Failure::refused(
            "at least one record, one writer and one round",
        ));
    }
    fresh_store(&plan.path, plan.store_bytes())?;
    interrupt::catch_removing(&plan.path);
    let outcome = measure(plan);
    let _ = std::fs::remove_file(&plan.path);
    outcome
}

fn key(i: u64) -> [u8; 16] {
    let mut key = *b"user000000000000";
    key[8..].copy_from_slice(&i.to_be_bytes());
    key
}

fn measure(plan: &Plan) -> Outcome {
    let options = OpenOptions {
        cache_bytes: plan.cache,
        ..OpenOptions::default()
    };
    let store = Store::open(&plan.path, &options)?;
    let mut loader = store.bulk_load("t")?;
    for i in 0..plan.records {
        loader.push(&key(i), &[0; VALUE])?;
    }
    loader.finish()?;
    let tree = store.open_tree("t")?;
    output::line(format!(
        "{} records of 16 + {VALUE} bytes, overwritten {} times at random by {} writers, cache {}, seed {}",
        units::count(plan.records),
        plan.times,
        plan.writers,
        units::bytes(plan.cache),
        plan.seed
    ))?;
    // All nodes come to be as random writes leave them.
    overwrite(plan, &tree, plan.seed)?;
    let mut runs: Vec<Vec<Run>> = KINDS.iter().map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        let mut order: Vec<usize> = (0..KINDS.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(plan.seed ^ round as u64));
        for of in order {
            interrupt::check()?;
            let seed = plan.seed + 1 + round as u64;
            runs[of].push(one(plan, &store, &tree, KINDS[of].0, seed)?);
        }
    }
    drop(tree);
    store.close()?;
    report(plan, &runs)
}

fn one(plan: &Plan, store: &Store, tree: &Tree, kind: Kind, seed: u64) -> Result<Run, Failure> {
    store.checkpoint()?;
    let before = used(store);
    let then = sum(tree.iter()?)?;
    let view = match kind {
        Kind::View => Some(store.snapshot()?),
        _ => None,
    };
    let named = match kind {
        Kind::Named => Some(store.create_snapshot(NAME)?),
        _ => None,
    };
    let over = AtomicBool::new(false);
    let (memory, images) = (AtomicU64::new(0), AtomicU64::new(0));
    let begun = Instant::now();
    let seconds = std::thread::scope(|s| {
        s.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                memory.fetch_max(memory::resident().unwrap_or(0), Ordering::Relaxed);
                let bytes = store.stats().get("versions", "bytes");
                images.fetch_max(bytes.unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let done = overwrite(plan, tree, seed);
        over.store(true, Ordering::Relaxed);
        done.map(|()| begun.elapsed().as_secs_f64())
    })?;
    let held = match kind {
        Kind::Nothing => 0,
        Kind::View => store.stats().get("space", "pinned").unwrap_or(0) * BLOCK,
        Kind::Named => store.snapshots().iter().map(|s| s.held_bytes).sum(),
    };
    let now = match (&view, &named) {
        (Some(view), _) => view.iter(tree).map_err(Failure::from).and_then(sum),
        (_, Some(named)) => sum(named.tree("t")?.iter()?),
        _ => Ok(then),
    };
    // One that was given up is told of, and ends nothing.
    let same = now.is_ok_and(|now| now == then);
    drop(view);
    if named.is_some() {
        drop(named);
        store.delete_snapshot(NAME)?;
    }
    let mut left = 0;
    for _ in 0..200 {
        store.checkpoint()?;
        left = used(store) as i64 - before as i64;
        let deleting = store.stats().get("reclaim", "snapshots").unwrap_or(0) > 0;
        let pinned = store.stats().get("space", "pinned").unwrap_or(0) > 0;
        if !deleting && !pinned {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Run {
        speed: (plan.records * plan.times) as f64 / seconds,
        memory: memory.into_inner(),
        images: images.into_inner(),
        held,
        left,
        same,
    })
}

/// Each writer overwrites its share of the records, in random order, some times.
fn overwrite(plan: &Plan, tree: &Tree, seed: u64) -> Result<(), Failure> {
    let share = plan.records.div_ceil(plan.writers);
    std::thread::scope(|s| {
        let writers: Vec<_> = (0..plan.writers)
            .map(|w| {
                s.spawn(move || -> Result<(), Failure> {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ w << 32);
                    let mut own: Vec<u64> =
                        (w * share..((w + 1) * share).min(plan.records)).collect();
                    for _ in 0..plan.times {
                        interrupt::check()?;
                        own.shuffle(&mut rng);
                        let mut value = [0; VALUE];
                        value[..8].copy_from_slice(&rng.random::<u64>().to_le_bytes());
                        for i in &own {
                            tree.put_with(&key(*i), &value, Durability::Buffered)?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let ends = writers.into_iter().map(|w| w.join().expect("a writer"));
        ends.collect()
    })
}

/// A sum of all records, in order.
fn sum(mut scan: Scan) -> Result<u64, Failure> {
    let mut sum = Xxh3::new();
    while let Some((key, value)) = scan.next_lent()? {
        sum.update(key);
        sum.update(value);
    }
    Ok(sum.digest())
}

/// Bytes in use, what is to be freed not counted.
fn used(store: &Store) -> u64 {
    store.stats().get("space", "used").unwrap_or(0) * BLOCK
}

fn report(plan: &Plan, runs: &[Vec<Run>]) -> Outcome {
    let bound = memory::bound(plan.cache);
    let alone: Vec<f64> = runs[0].iter().map(|r| r.speed).collect();
    let mut missed = Vec::new();
    let rows: Vec<Vec<String>> = KINDS
        .iter()
        .zip(runs)
        .map(|((kind, name), runs)| {
            let speeds: Vec<f64> = runs.iter().map(|r| r.speed).collect();
            let shares: Vec<f64> = speeds.iter().zip(&alone).map(|(a, b)| a / b).collect();
            let most = |f: fn(&Run) -> u64| runs.iter().map(f).max().unwrap_or(0);
            let same = runs.iter().all(|r| r.same);
            let left = runs.iter().map(|r| r.left).max().unwrap_or(0);
            let share = median(&shares);
            if share < BAR {
                missed.push(format!(
                    "with {name} the writers keep {:.0} %",
                    share * 100.0
                ));
            }
            if !same {
                missed.push(format!("{name} did not read as it did, or was given up"));
            }
            if *kind != Kind::Nothing && most(|r| r.memory) > bound {
                missed.push(format!("with {name} memory is above the bound"));
            }
            vec![
                (*name).to_owned(),
                units::rate(median(&speeds)),
                format!("{:.0} %", share * 100.0),
                units::bytes(most(|r| r.memory)),
                units::bytes(most(|r| r.images)),
                units::bytes(most(|r| r.held)),
                units::bytes(left.max(0) as u64),
                if same { "yes" } else { "NO" }.to_owned(),
            ]
        })
        .collect();
    let head = [
        "held",
        "puts/s",
        "of without",
        "memory",
        "of it images",
        "on the device",
        "left behind",
        "reads as it did",
    ];
    output::line(output::table(head, rows))?;
    output::line(format!(
        "medians of {} rounds in turn; memory: the most, and may be {} (cache, a tenth of it, 64 MiB)",
        plan.rounds,
        units::bytes(bound)
    ))?;
    match missed.is_empty() {
        true => Ok(FINE),
        false => {
            output::line(format!("missed: {}", missed.join("; ")))?;
            Ok(FOUND)
        }
    }
}
