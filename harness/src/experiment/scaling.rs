//! Whether puts to different leaves, and gets, share anything: their speed with 2
//! threads over that with 1, beside that of a loop that only misses the
//! processor's caches, which is what two threads of this machine can reach.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gaur::{Durability, OpenOptions, Store, Tree, WriteBatch};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{fresh_store, median};
use crate::failure::{FINE, Failure, Outcome};
use crate::{interrupt, output, units};

/// Words of the control loop's array: 512 MiB.
const CONTROL_WORDS: usize = 64 << 20;

pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
    pub(crate) records: u64,
}

impl Plan {
    /// Bytes of the store.
    pub(crate) fn store_bytes(&self) -> u64 {
        self.records
            .saturating_mul(1000)
            .max(1 << 30)
            .next_multiple_of(4096)
    }
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    fresh_store(&plan.path, plan.store_bytes())?;
    interrupt::catch_removing(&plan.path);
    output::line(format!(
        "scaling from 1 to 2 threads: {} records, all cached, seed {}",
        units::count(plan.records),
        plan.seed
    ))?;
    let outcome = measure(plan);
    let _ = std::fs::remove_file(&plan.path);
    outcome
}

fn key(i: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&i.to_be_bytes());
    key
}

fn measure(plan: &Plan) -> Outcome {
    let options = OpenOptions {
        cache_bytes: (plan.records * 400).max(256 << 20),
        checkpoint_interval: Duration::from_secs(3600),
        ..OpenOptions::default()
    };
    let store = Store::open(&plan.path, &options)?;
    let tree = store.tree("t")?;
    let all: Vec<u64> = (0..plan.records).collect();
    for chunk in all.chunks(1000) {
        let mut batch = WriteBatch::new();
        for &i in chunk {
            batch.put(&tree, &key(i), &[1; 100]);
        }
        store.commit(batch, Durability::Buffered)?;
    }
    let control: Vec<u64> = (0..CONTROL_WORDS as u64).collect();

    let names = ["control", "get", "put"];
    let mut speeds = vec![[Vec::new(), Vec::new()]; names.len()];
    for round in 0..plan.rounds {
        for threads in [1, 2] {
            for (what, cells) in speeds.iter_mut().enumerate() {
                let speed = cell(plan, what, threads, round, &tree, &control)?;
                cells[threads - 1].push(speed);
            }
        }
    }
    let rows = names.iter().zip(&speeds).map(|(name, [one, two])| {
        let ratios: Vec<f64> = one.iter().zip(two).map(|(a, b)| b / a).collect();
        vec![
            (*name).to_owned(),
            units::rate(median(one)),
            units::rate(median(two)),
            format!("{:.2}", median(&ratios)),
        ]
    });
    output::line(output::table(
        ["loop", "1 thread, ops/s", "2 threads, ops/s", "ratio"],
        rows,
    ))?;
    output::line("puts share the bounded log append and nothing else; gets share nothing")?;
    drop(tree);
    store.close()?;
    Ok(FINE)
}

/// Operations a second of all threads. Each thread has keys of its own, far from
/// the others'.
fn cell(
    plan: &Plan,
    what: usize,
    threads: usize,
    round: usize,
    tree: &Tree,
    control: &[u64],
) -> Result<f64, Failure> {
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let counts: Vec<Result<u64, Failure>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|t| {
                let stop = &stop;
                scope.spawn(move || {
                    let seed = plan.seed ^ ((t as u64) << 32) ^ ((round as u64) << 40);
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    let share = plan.records / 2;
                    let own = share * t as u64..share * (t as u64 + 1);
                    let mut done = 0u64;
                    let mut sum = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        for _ in 0..64 {
                            match what {
                                0 => sum ^= control[rng.random_range(0..control.len())],
                                1 => {
                                    let found = tree.get(&key(rng.random_range(own.clone())))?;
                                    sum ^= found.map_or(0, |v| v.len() as u64);
                                }
                                _ => {
                                    let k = key(rng.random_range(own.clone()));
                                    tree.put_with(&k, &[2; 100], Durability::Buffered)?;
                                }
                            }
                        }
                        done += 64;
                    }
                    std::hint::black_box(sum);
                    Ok(done)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs_f64(plan.seconds));
        stop.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .map(|w| {
                w.join()
                    .unwrap_or_else(|_| Err(Failure::found("a thread panicked")))
            })
            .collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let mut total = 0;
    for c in counts {
        total += c?;
    }
    Ok(total as f64 / seconds)
}
