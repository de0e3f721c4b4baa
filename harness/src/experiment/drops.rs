//! How long writers wait while a large tree is dropped, and while as large a range is
//! deleted.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gaur::{Durability, OpenOptions, Stats, Store, Tree};
use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fresh_store;
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::{interrupt, output, units};

const VALUE: usize = 100;
/// Longer no writer may wait.
const BAR: Duration = Duration::from_millis(50);

pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) records: u64,
    pub(crate) writers: u64,
    /// Commits a second of each writer.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
}

impl Plan {
    pub(crate) fn store_bytes(&self) -> u64 {
        (self.records * 180 * 2 + (1 << 30)).next_multiple_of(4096)
    }
}

/// What a phase came to.
struct Phase {
    name: &'static str,
    /// How long the call took, and until all was free.
    took: Duration,
    freed_after: Duration,
    latencies: Histogram<u64>,
    waits: Vec<(String, u64)>,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    if plan.records == 0 || plan.writers == 0 || plan.rate <= 0.0 {
        return Err(Failure::refused(
            "at least one record, one writer and a rate",
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
    let store = Store::open(&plan.path, &OpenOptions::default())?;
    for name in ["dropped", "ranged"] {
        let mut loader = store.bulk_load(name)?;
        for i in 0..plan.records {
            loader.push(&key(i), &[7; VALUE])?;
        }
        loader.finish()?;
        interrupt::check()?;
    }
    let tree = store.tree("written")?;
    (0..100_000).try_for_each(|i| {
        tree.put_with(&key(i), &[0; VALUE], Durability::Buffered)
            .map(drop)
    })?;
    store.checkpoint()?;
    output::line(format!(
        "two trees of {} records of 16 + {VALUE} bytes; {} writers to a third one, {} puts a second each, seed {}",
        units::count(plan.records),
        plan.writers,
        plan.rate,
        plan.seed
    ))?;
    let ranged = store.open_tree("ranged")?;
    let drop_it = || store.drop_tree("dropped");
    let (from, to) = (key(1).to_vec(), key(plan.records - 1).to_vec());
    let delete = || ranged.delete_range(from..to).map(drop);
    let phases = [
        phase(plan, &store, &tree, "neither", || Ok(()))?,
        phase(plan, &store, &tree, "drop of a tree", drop_it)?,
        phase(plan, &store, &tree, "deletion of a range", delete)?,
    ];
    let left = ranged.iter()?.count_records()?;
    drop((tree, ranged));
    store.close()?;
    report(&phases, left)
}

/// Writers at their rate, and in the middle of that what is done beside them.
fn phase(
    plan: &Plan,
    store: &Store,
    tree: &Tree,
    name: &'static str,
    act: impl FnOnce() -> gaur::Result<()>,
) -> Result<Phase, Failure> {
    let over = AtomicBool::new(false);
    let failed = AtomicU64::new(0);
    let before = store.stats();
    let (done, latencies) = std::thread::scope(|s| {
        let writers: Vec<_> = (0..plan.writers)
            .map(|w| {
                let (over, failed) = (&over, &failed);
                s.spawn(move || write(plan, tree, w, over, failed))
            })
            .collect();
        let done = (|| -> Result<(Duration, Duration), Failure> {
            std::thread::sleep(Duration::from_secs_f64(plan.seconds / 4.0));
            let begun = Instant::now();
            act()?;
            let took = begun.elapsed();
            let least = Instant::now() + Duration::from_secs_f64(plan.seconds * 0.75);
            let mut freed_after = Duration::ZERO;
            loop {
                interrupt::check()?;
                let rest = store.stats().get("reclaim", "trees").unwrap_or(0);
                if rest > 0 {
                    freed_after = begun.elapsed();
                } else if Instant::now() >= least {
                    return Ok((took, freed_after));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        })();
        over.store(true, Ordering::Relaxed);
        let mut all = Histogram::new(3).expect("three digits");
        for writer in writers {
            all.add(writer.join().expect("a writer")).expect("as wide");
        }
        (done, all)
    });
    let (took, freed_after) = done?;
    if failed.into_inner() > 0 {
        return Err(Failure::refused(format!("a put failed beside: {name}")));
    }
    Ok(Phase {
        name,
        took,
        freed_after,
        latencies,
        waits: waits(&before, &store.stats()),
    })
}

/// Puts at the rate; the latencies in nanoseconds, from when each was due.
fn write(
    plan: &Plan,
    tree: &Tree,
    writer: u64,
    over: &AtomicBool,
    failed: &AtomicU64,
) -> Histogram<u64> {
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed ^ writer << 32);
    let mut latencies = Histogram::new(3).expect("three digits");
    let begun = Instant::now();
    let mut n = 0u64;
    while !over.load(Ordering::Relaxed) {
        let due = begun + Duration::from_secs_f64(n as f64 / plan.rate);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
            continue;
        }
        n += 1;
        let key = key(rng.random_range(0..100_000));
        let begun = Instant::now();
        if tree
            .put_with(&key, &[1; VALUE], Durability::Buffered)
            .is_err()
        {
            failed.fetch_add(1, Ordering::Relaxed);
            return latencies;
        }
        let nanos = begun.elapsed().as_nanos() as u64;
        latencies.record(nanos).expect("it grows as needed");
    }
    latencies
}

/// What was waited for between, in nanoseconds.
fn waits(before: &Stats, after: &Stats) -> Vec<(String, u64)> {
    let of = |s: &Stats, name: &str| s.get("waits", name).unwrap_or(0);
    let rows = after.rows().iter();
    let rows = rows.filter(|r| r.group == "waits" && r.name.ends_with("nanos"));
    let waits = rows.map(|r| (r.name.to_owned(), of(after, r.name) - of(before, r.name)));
    waits.filter(|(_, nanos)| *nanos > 0).collect()
}

fn report(phases: &[Phase], left: u64) -> Outcome {
    let micros = |n: u64| units::nanos(n);
    let rows = phases.iter().map(|p| {
        vec![
            p.name.to_owned(),
            units::nanos(p.took.as_nanos() as u64),
            units::nanos(p.freed_after.as_nanos() as u64),
            units::count(p.latencies.len()),
            micros(p.latencies.value_at_quantile(0.5)),
            micros(p.latencies.value_at_quantile(0.999)),
            micros(p.latencies.max()),
        ]
    });
    let head = [
        "beside",
        "took",
        "all free after",
        "puts",
        "p50",
        "p99.9",
        "longest",
    ];
    output::line(output::table(head, rows.collect::<Vec<_>>()))?;
    for p in phases {
        let waits = p
            .waits
            .iter()
            .map(|(name, nanos)| format!("{name} {}", units::nanos(*nanos)));
        let waits: Vec<_> = waits.collect();
        output::line(format!(
            "waits beside {}, all writers: {}",
            p.name,
            waits.join(", ")
        ))?;
    }
    output::line(format!(
        "{left} records are left of the range's tree (wanted: 2)"
    ))?;
    let longest = phases[1..]
        .iter()
        .map(|p| p.latencies.max())
        .max()
        .unwrap_or(0);
    let fine = Duration::from_nanos(longest) <= BAR && left == 2;
    output::line(format!(
        "the longest put: {} (wanted: at most {} ms)",
        units::nanos(longest),
        BAR.as_millis()
    ))?;
    Ok(if fine { FINE } else { FOUND })
}
