//! Whether a slow allocator shows: many writers on a small hot tree, a checkpoint every
//! 200 ms (so that every path is copied again and again), a map that is not in memory,
//! an allocator whose I/O is slow or is not. What two stages buy over one, `cow` tells.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gaur::{Durability, OpenOptions, Stats, Store, WriteBatch};
use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{fresh_store, median};
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::{interrupt, output, units};

/// Bytes of the store.
pub(crate) const STORE_BYTES: u64 = 1 << 30;
const RECORDS: u64 = 20_000;
const VALUE: [u8; 100] = [7; 100];
const CHECKPOINT: Duration = Duration::from_millis(200);
/// How much slower the p99 may be with the slow allocator.
const P99_BOUND: f64 = 1.5;

pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
    pub(crate) writers: usize,
    pub(crate) rate: f64,
    pub(crate) delay: Duration,
}

struct Cell {
    latency: Histogram<u64>,
    stats: Stats,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    fresh_store(&plan.path, STORE_BYTES)?;
    interrupt::catch_removing(&plan.path);
    output::line(format!(
        "two-stage copy-on-write: {} writers, {} records, {} puts/s, checkpoints each {} ms, seed {}",
        plan.writers,
        RECORDS,
        plan.rate,
        CHECKPOINT.as_millis(),
        plan.seed
    ))?;
    let outcome = rounds(plan);
    let _ = std::fs::remove_file(&plan.path);
    outcome
}

fn rounds(plan: &Plan) -> Outcome {
    fill(plan)?;
    let mut rows = Vec::new();
    let (mut plain, mut slow) = (Vec::new(), Vec::new());
    let mut sound = true;
    for round in 0..plan.rounds {
        for delay in [None, Some(plan.delay)] {
            let cell = cell(plan, delay, plan.seed + round as u64)?;
            let p99 = cell.latency.value_at_quantile(0.99);
            if delay.is_some() {
                &mut slow
            } else {
                &mut plain
            }
            .push(p99 as f64);
            sound &= account(&cell.stats);
            rows.push(row(round, delay, &cell));
        }
    }
    let head = [
        "round",
        "allocator",
        "puts",
        "p50",
        "p99",
        "p99.9",
        "max",
        "copies",
        "restarts",
        "parked/upgrade/empty",
        "most",
        "res. waits",
        "res. wait",
        "under latch",
        "lost races",
    ];
    output::line(output::table(head, rows))?;
    let ratio = median(&slow) / median(&plain);
    let within = ratio <= P99_BOUND;
    output::line(format!(
        "p99 with the slow allocator / without: {ratio:.2} (bound {P99_BOUND}{})",
        if within { "" } else { ", MISSED" }
    ))?;
    output::line(format!(
        "reservations add up, nothing waited under a latch, at most 2 restarts for space: {}",
        if sound { "yes" } else { "NO" }
    ))?;
    Ok(if within && sound { FINE } else { FOUND })
}

fn options(delay: Option<Duration>) -> OpenOptions {
    OpenOptions {
        cache_bytes: 64 << 20,
        checkpoint_interval: CHECKPOINT,
        allocator_delay: delay,
        ..OpenOptions::default()
    }
}

fn key(i: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&i.to_be_bytes());
    key
}

fn fill(plan: &Plan) -> Result<(), Failure> {
    let store = Store::open(&plan.path, &options(None))?;
    let tree = store.tree("hot")?;
    for chunk in (0..RECORDS).collect::<Vec<_>>().chunks(1000) {
        let mut batch = WriteBatch::new();
        for &i in chunk {
            batch.put(&tree, &key(i), &VALUE);
        }
        store.commit(batch, Durability::Buffered)?;
    }
    store.close()?;
    Ok(())
}

/// One cell: opened anew, so that no block of the map is in memory.
fn cell(plan: &Plan, delay: Option<Duration>, seed: u64) -> Result<Cell, Failure> {
    let store = Store::open(&plan.path, &options(delay))?;
    let tree = store.open_tree("hot")?;
    let interval = Duration::from_secs_f64(plan.writers as f64 / plan.rate);
    let end = Duration::from_secs_f64(plan.seconds);
    let begun = Instant::now();
    let parts: Vec<Result<Histogram<u64>, Failure>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..plan.writers)
            .map(|w| {
                let tree = tree.clone();
                scope.spawn(move || {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((w as u64) << 32));
                    let mut latency =
                        Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("fixed bounds");
                    let mut due = interval.mul_f64(w as f64 / plan.writers as f64);
                    while due < end {
                        if let Some(early) = due.checked_sub(begun.elapsed()) {
                            std::thread::sleep(early);
                        }
                        let key = key(rng.random_range(0..RECORDS));
                        tree.put_with(&key, &VALUE, Durability::Buffered)?;
                        // From the intended start: a stall counts for all it delayed.
                        let took = begun.elapsed().saturating_sub(due);
                        latency.saturating_record(took.as_nanos() as u64);
                        due += interval;
                    }
                    Ok(latency)
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|w| {
                w.join()
                    .unwrap_or_else(|_| Err(Failure::found("a writer panicked")))
            })
            .collect()
    });
    let mut latency = Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("fixed bounds");
    for part in parts {
        latency.add(part?).expect("equal bounds");
    }
    let stats = store.stats();
    drop(tree);
    store.close()?;
    Ok(Cell { latency, stats })
}

fn get(stats: &Stats, group: &str, name: &str) -> u64 {
    stats.get(group, name).unwrap_or(0)
}

/// Whether the promises hold that the counters can show.
fn account(s: &Stats) -> bool {
    let r = |name| get(s, "reservations", name);
    let taken = r("taken_from_channel") + r("taken_by_request");
    let accounted = r("blocks_used") + r("blocks_returned") + r("blocks_stashed");
    taken == accounted
        && get(s, "waits", "under_latch") == 0
        && get(s, "restarts", "restarts_most") <= 2
}

fn row(round: usize, delay: Option<Duration>, c: &Cell) -> Vec<String> {
    let s = &c.stats;
    let at = |q| units::nanos(c.latency.value_at_quantile(q));
    let n = |group, name| units::count(get(s, group, name));
    let causes = ["restarts_parked", "restarts_upgrade", "restarts_empty"];
    let restarts: u64 = causes.iter().map(|c| get(s, "restarts", c)).sum();
    let copies = [
        "copies_leaf",
        "copies_level_1",
        "copies_level_2",
        "copies_above",
    ];
    vec![
        (round + 1).to_string(),
        delay.map_or("plain".into(), |d| format!("+{} ms", d.as_millis())),
        units::count(c.latency.len()),
        at(0.5),
        at(0.99),
        at(0.999),
        units::nanos(c.latency.max()),
        units::count(copies.iter().map(|c| get(s, "tree", c)).sum()),
        units::count(restarts),
        causes.map(|c| get(s, "restarts", c).to_string()).join("/"),
        n("restarts", "restarts_most"),
        n("waits", "reservation"),
        units::nanos(get(s, "waits", "reservation_nanos")),
        n("waits", "under_latch"),
        n("restarts", "lost_races"),
    ]
}
