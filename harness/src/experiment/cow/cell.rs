//! Making the store, and running a cell on it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gaur::experiment::{CowMode, Experiment, Times, latch_times};
use gaur::{Durability, FormatOptions, OpenOptions, Stats, Store, Tree, WriteBatch};
use gaur_iodriver::{Delayed, Device};
use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::figures::{Figures, Spread};
use super::plan::{Cell, Mode, Plan};
use super::processors::ProcessorTime;
use crate::failure::Failure;
use crate::interrupt;
use crate::run::measure::histogram;

const VALUE: [u8; 100] = [7; 100];
const TREE: &str = "hot";
/// Half of it must hold what a cell without checkpoints writes.
const LOG: u64 = 512 << 20;
const CACHE: u64 = 64 << 20;
const CHECKPOINT: Duration = Duration::from_millis(200);
const NEVER: Duration = Duration::from_secs(100 * 3600);
/// Enough for the map of any store.
const WHOLE_MAP: usize = 1 << 30;

/// How the store is made.
pub(super) fn format_options(plan: &Plan) -> FormatOptions {
    FormatOptions {
        create_size: (!plan.device).then_some(plan.size),
        sparse: !plan.device,
        force: plan.force,
        log_size: Some(LOG),
        ..FormatOptions::default()
    }
}

fn options(plan: &Plan) -> OpenOptions {
    OpenOptions {
        cache_bytes: CACHE,
        map_memory: WHOLE_MAP,
        checkpoint_interval: NEVER,
        follow_size: false,
        experiment: Experiment {
            mode: CowMode::TwoStageThread,
            blocks_per_group: Some(plan.blocks_per_group),
        },
        ..OpenOptions::default()
    }
}

fn key(i: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&i.to_be_bytes());
    key
}

/// Fills the store, and has every group of the map used, since a group that never was
/// needs no read. Returns how many there are, and the nodes of the tree, about.
pub(super) fn fill(plan: &Plan) -> Result<(u64, u64), Failure> {
    let mut o = options(plan);
    o.experiment.blocks_per_group = Some(1);
    let store = Store::open(&plan.path, &o)?;
    let tree = store.tree(TREE)?;
    write_all(plan, &store, &tree)?;
    let mut groups = 0;
    loop {
        let before = get(&store.stats(), "allocator", "loaded_groups");
        write_all(plan, &store, &tree)?;
        store.checkpoint()?;
        groups = groups.max(get(&store.stats(), "allocator", "loaded_groups"));
        if groups == before || interrupt::requested() {
            break;
        }
    }
    let nodes = get(&store.stats(), "checkpoints", "nodes");
    let checkpoints = get(&store.stats(), "checkpoints", "checkpoints");
    drop(tree);
    store.close()?;
    Ok((groups, nodes / checkpoints.max(1)))
}

fn write_all(plan: &Plan, store: &Store, tree: &Tree) -> Result<(), Failure> {
    for from in (0..plan.records).step_by(1000) {
        let mut batch = WriteBatch::new();
        for i in from..(from + 1000).min(plan.records) {
            batch.put(tree, &key(i), &VALUE);
        }
        store.commit(batch, Durability::Buffered)?;
    }
    Ok(())
}

fn open(path: &Path, latency: Duration, options: &OpenOptions) -> Result<Store, Failure> {
    let opened = gaur_iodriver::open(path, &gaur_iodriver::OpenOptions::default())
        .map_err(gaur::Error::from)?;
    let device: Arc<dyn Device> = match latency {
        Duration::ZERO => opened.device,
        latency => Delayed::new(opened.device, latency),
    };
    Ok(Store::open_device(device, options)?)
}

/// Runs a cell. None if it was interrupted.
pub(super) fn run(plan: &Plan, cell: Cell, seed: u64) -> Result<Option<Figures>, Failure> {
    let setting = cell.setting;
    let mut o = options(plan);
    o.experiment.mode = match cell.mode {
        Mode::Inline => CowMode::Inline,
        Mode::TwoStage => CowMode::TwoStage,
        Mode::TwoStageThread => CowMode::TwoStageThread,
    };
    if setting.checkpoints {
        o.checkpoint_interval = CHECKPOINT;
    }
    if setting.cold_map {
        // Only what is in use stays.
        o.map_memory = 0;
    }
    let store = open(&plan.path, setting.latency, &o)?;
    if !setting.cold_map {
        store.load_map()?;
    }
    let tree = store.open_tree(TREE)?;
    // The nodes are in memory in every cell.
    for record in tree.iter()? {
        record?;
    }
    let (latches, stats) = (latch_times(), store.stats());
    let time = ProcessorTime::now();
    let (latency, elapsed) = write(plan, &tree, setting.writers, seed)?;
    let (own, others) = time.since(elapsed);
    let (latches, stats) = (latch_times().since(&latches), store.stats().since(&stats));
    drop(tree);
    store.close()?;
    if interrupt::requested() {
        return Ok(None);
    }
    let put = Spread::of(latency.len(), 0, |part| latency.value_at_quantile(part));
    let spread = |t: &Times| Spread::of(t.count(), t.total_nanos(), |part| t.at(part));
    let mut figures = counted(&stats);
    figures.seconds = elapsed.as_secs_f64();
    figures.puts_per_second = latency.len() as f64 / elapsed.as_secs_f64();
    figures.put = put;
    figures.cpu_seconds = own;
    figures.others = others;
    figures.latch_held = spread(&latches.held);
    figures.latch_waited = spread(&latches.waited);
    Ok(Some(figures))
}

/// Has the writers put records, one commit each.
fn write(
    plan: &Plan,
    tree: &Tree,
    writers: usize,
    seed: u64,
) -> Result<(Histogram<u64>, Duration), Failure> {
    let end = Duration::from_secs_f64(plan.seconds);
    let interval = plan.rate.map(|rate| interval_of(writers, rate));
    let failed = AtomicBool::new(false);
    let begun = Instant::now();
    let one = |w: usize| -> Result<Histogram<u64>, Failure> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((w as u64) << 32));
        let mut latency = histogram()?;
        let mut from = interval.map_or(Duration::ZERO, |i| i.mul_f64(w as f64 / writers as f64));
        while from < end && !failed.load(Ordering::Relaxed) && !interrupt::requested() {
            if interval.is_some() {
                std::thread::sleep(from.saturating_sub(begun.elapsed()));
            }
            let key = key(rng.random_range(0..plan.records));
            tree.put_with(&key, &VALUE, Durability::Buffered)?;
            let now = begun.elapsed();
            latency.saturating_record(now.saturating_sub(from).as_nanos() as u64);
            // By a rate: from the intended start, so a stall counts for all it delayed.
            from = interval.map_or(now, |i| from + i);
        }
        Ok(latency)
    };
    let parts: Vec<Result<Histogram<u64>, Failure>> = std::thread::scope(|scope| {
        let one = &one;
        let failed = &failed;
        let start =
            |w| scope.spawn(move || one(w).inspect_err(|_| failed.store(true, Ordering::Relaxed)));
        let threads: Vec<_> = (0..writers).map(start).collect();
        let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
            t.join()
                .unwrap_or_else(|_| Err(Failure::found("a writer panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let elapsed = begun.elapsed();
    let mut latency = histogram()?;
    for part in parts {
        latency
            .add(part?)
            .map_err(|e| Failure::refused(format!("cannot add histograms: {e}")))?;
    }
    Ok((latency, elapsed))
}

/// Time between two puts of one writer.
fn interval_of(writers: usize, rate: f64) -> Duration {
    Duration::from_secs_f64(writers as f64 / rate)
}

fn get(stats: &Stats, group: &str, name: &str) -> u64 {
    stats.get(group, name).unwrap_or(0)
}

/// What the engine counted.
fn counted(s: &Stats) -> Figures {
    let copies = [
        "copies_leaf",
        "copies_level_1",
        "copies_level_2",
        "copies_above",
    ];
    let r = |name| get(s, "reservations", name);
    let taken = r("taken_from_channel") + r("taken_by_request");
    let most = get(s, "restarts", "restarts_most");
    Figures {
        copies: copies.iter().map(|c| get(s, "tree", c)).sum(),
        restarts_parked: get(s, "restarts", "restarts_parked"),
        restarts_upgrade: get(s, "restarts", "restarts_upgrade"),
        restarts_empty: get(s, "restarts", "restarts_empty"),
        restarts_most: most,
        lost_races: get(s, "restarts", "lost_races"),
        blocks_taken: taken,
        blocks_returned: r("blocks_returned"),
        blocks_stashed: r("blocks_stashed"),
        reservations: get(s, "waits", "reservation"),
        reservation_nanos: get(s, "waits", "reservation_nanos"),
        map_reads: get(s, "allocator", "map_reads"),
        map_writes: get(s, "allocator", "map_writes"),
        checkpoints: get(s, "checkpoints", "checkpoints"),
        freeze_nanos_most: get(s, "checkpoints", "freeze_nanos_most"),
        sound: taken == r("blocks_used") + r("blocks_returned") + r("blocks_stashed")
            && get(s, "waits", "under_latch") == 0
            && most <= 2,
        ..Figures::default()
    }
}
