//! Thousands of snapshots a second beside writers: that each sees whole commits alone, and
//! what the writers keep of their speed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gaur::{Durability, OpenOptions, Snapshot, Store, Tree, WriteBatch};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{fresh_store, median};
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::{interrupt, output, units};

/// Keys that always add up to the same.
const GROUP: u64 = 10;
const EACH: u64 = 1000;
/// What the writers must keep of their speed.
const BAR: f64 = 0.7;
/// The share of the rate asked for that counts as reached.
const REACHED: f64 = 0.98;
pub(crate) const STORE_BYTES: u64 = 1 << 30;

pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) groups: u64,
    pub(crate) writers: u64,
    /// Snapshots a second, and how long each is held.
    pub(crate) rate: f64,
    pub(crate) held: Duration,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
}

/// What one cell counted.
#[derive(Default)]
struct Counts {
    commits: AtomicU64,
    taken: AtomicU64,
    wrong: AtomicU64,
    given_up: AtomicU64,
    most_open: AtomicU64,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    if plan.groups == 0 || plan.rounds == 0 || plan.rate <= 0.0 {
        return Err(Failure::refused("at least one group, one round and a rate"));
    }
    fresh_store(&plan.path, STORE_BYTES)?;
    interrupt::catch_removing(&plan.path);
    let outcome = measure(plan);
    let _ = std::fs::remove_file(&plan.path);
    outcome
}

fn key(group: u64, n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    // The keys of a group lie apart.
    key[..8].copy_from_slice(&(n << 56 | group).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

fn measure(plan: &Plan) -> Outcome {
    let store = Store::open(&plan.path, &OpenOptions::default())?;
    let tree = store.tree("t")?;
    for group in 0..plan.groups {
        let mut batch = WriteBatch::new();
        for n in 0..GROUP {
            batch.put(&tree, &key(group, n), &EACH.to_le_bytes());
        }
        store.commit(batch, Durability::Buffered)?;
    }
    output::line(format!(
        "{} groups of {GROUP} keys, {} writers, {} snapshots a second held {} ms, seed {}",
        units::count(plan.groups),
        plan.writers,
        plan.rate,
        plan.held.as_millis(),
        plan.seed
    ))?;
    let (mut shares, mut rates, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut wrong = 0;
    for round in 0..plan.rounds {
        let mut speeds = [0.0, 0.0];
        // First one, then the other, and the other way round.
        for with in [round % 2 == 0, round % 2 != 0] {
            interrupt::check()?;
            let counts = cell(plan, &store, &tree, round as u64, with)?;
            let speed = counts.commits.into_inner() as f64 / plan.seconds;
            speeds[usize::from(with)] = speed;
            if with {
                let taken = counts.taken.into_inner() as f64 / plan.seconds;
                rates.push(taken);
                wrong += counts.wrong.load(Ordering::Relaxed);
                rows.push(vec![
                    units::rate(taken),
                    counts.most_open.into_inner().to_string(),
                    counts.wrong.into_inner().to_string(),
                    counts.given_up.into_inner().to_string(),
                ]);
            }
        }
        shares.push(speeds[1] / speeds[0]);
        let row = rows.last_mut().expect("one of the two was with snapshots");
        row.insert(0, units::rate(speeds[0]));
        row.insert(1, units::rate(speeds[1]));
        row.insert(2, format!("{:.0} %", 100.0 * speeds[1] / speeds[0]));
    }
    let head = [
        "commits/s without",
        "with",
        "share",
        "snapshots/s",
        "most open",
        "violations",
        "given up",
    ];
    output::line(output::table(head, rows))?;
    drop(tree);
    store.close()?;
    let (share, rate) = (median(&shares), median(&rates));
    output::line(format!(
        "the writers keep {:.0} % (wanted: {:.0} %) beside {} snapshots a second; {wrong} violations",
        share * 100.0,
        BAR * 100.0,
        units::rate(rate),
    ))?;
    let fine = share >= BAR && rate >= plan.rate * REACHED && wrong == 0;
    Ok(if fine { FINE } else { FOUND })
}

fn cell(
    plan: &Plan,
    store: &Store,
    tree: &Tree,
    round: u64,
    with: bool,
) -> Result<Counts, Failure> {
    let (over, counts) = (AtomicBool::new(false), Counts::default());
    std::thread::scope(|s| {
        let (over, counts) = (&over, &counts);
        let mut all: Vec<_> = (0..plan.writers)
            .map(|w| {
                let seed = plan.seed ^ round << 40 ^ (w + 1) << 32;
                s.spawn(move || write(plan, store, tree, seed, w, over, counts))
            })
            .collect();
        if with {
            let seed = plan.seed ^ round << 40;
            all.push(s.spawn(move || look(plan, store, tree, seed, over, counts)));
        }
        let end = Instant::now() + Duration::from_secs_f64(plan.seconds);
        while Instant::now() < end && !all.iter().any(|t| t.is_finished()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        over.store(true, Ordering::Relaxed);
        let ends = all.into_iter().map(|t| t.join().expect("a thread"));
        ends.collect::<Result<(), Failure>>()
    })?;
    Ok(counts)
}

/// Moves amounts within groups, each move a commit. Of a group one writer alone.
fn write(
    plan: &Plan,
    store: &Store,
    tree: &Tree,
    seed: u64,
    writer: u64,
    over: &AtomicBool,
    counts: &Counts,
) -> Result<(), Failure> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let own = plan.groups / plan.writers;
    while !over.load(Ordering::Relaxed) {
        let group = writer + plan.writers * rng.random_range(0..own.max(1));
        let (from, to) = (rng.random_range(0..GROUP), rng.random_range(0..GROUP));
        if from == to || group >= plan.groups {
            continue;
        }
        let amount = |n: u64| -> Result<u64, Failure> {
            let value = tree.get(&key(group, n))?.unwrap_or_default();
            Ok(value.try_into().map_or(0, u64::from_le_bytes))
        };
        let (a, b) = (amount(from)?, amount(to)?);
        let moved = rng.random_range(0..=a);
        let mut batch = WriteBatch::new();
        batch.put(tree, &key(group, from), &(a - moved).to_le_bytes());
        batch.put(tree, &key(group, to), &(b + moved).to_le_bytes());
        store.commit(batch, Durability::Buffered)?;
        counts.commits.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Takes snapshots at the rate, looks at a group through each, and holds it.
fn look(
    plan: &Plan,
    store: &Store,
    tree: &Tree,
    seed: u64,
    over: &AtomicBool,
    counts: &Counts,
) -> Result<(), Failure> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut held: VecDeque<(Instant, Snapshot, u64)> = VecDeque::new();
    let begun = Instant::now();
    let mut due = 0u64;
    while !over.load(Ordering::Relaxed) {
        let now = Instant::now();
        // The oldest are looked at once more when they end: as they were.
        while held.front().is_some_and(|(at, ..)| now - *at >= plan.held) {
            let Some((_, view, group)) = held.pop_front() else {
                break;
            };
            if due.is_multiple_of(16) {
                look_at(&view, tree, group, counts)?;
            }
        }
        if (now - begun).as_secs_f64() * plan.rate < due as f64 {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        due += 1;
        let (view, group) = (store.snapshot()?, rng.random_range(0..plan.groups));
        look_at(&view, tree, group, counts)?;
        held.push_back((now, view, group));
        counts.taken.fetch_add(1, Ordering::Relaxed);
        counts
            .most_open
            .fetch_max(held.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn look_at(view: &Snapshot, tree: &Tree, group: u64, counts: &Counts) -> Result<(), Failure> {
    let mut sum = 0;
    for n in 0..GROUP {
        match view.get(tree, &key(group, n)) {
            Ok(value) => {
                let value = value.unwrap_or_default().try_into();
                sum += value.map_or(0, u64::from_le_bytes);
            }
            Err(gaur::Error::ViewTooOld { .. }) => {
                counts.given_up.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        }
    }
    if sum != GROUP * EACH {
        counts.wrong.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
