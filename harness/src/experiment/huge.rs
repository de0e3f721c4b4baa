//! Whether a huge store costs no more time and memory than its data: a sparse file
//! of 8 TiB, by default.
//!
//! 1. Make it, and open it empty.
//! 2. *Fill*: a large value of one block in every group, each group's map written.
//! 3. Open it again, after a close and after an end without one (which leaves what a
//!    killed process leaves).
//! 4. *Use* it with little memory for the map: values anywhere are replaced, and each
//!    new one goes to yet another group. No group is untouched any more and few are in
//!    memory, so requests and checkpoints must read map blocks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gaur::{Durability, FormatOptions, OpenOptions, Stats, Store, Tree, WriteBatch};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::{interrupt, memory, output, units};

const FORMAT_BOUND: Duration = Duration::from_secs(2);
const OPEN_BOUND: Duration = Duration::from_millis(500);
/// Resident memory beside the frames in use.
const MEMORY_BOUND: u64 = 64 << 20;
const CACHE: u64 = 64 << 20;
/// Values committed together in the fill.
const BATCH: u64 = 32;
/// Records at most, and so groups that are filled.
const MOST_GROUPS: u64 = 200_000;

pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) block_size: u64,
    /// Bytes for map blocks in the last phase.
    pub(crate) map_memory: u64,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
    pub(crate) keep: bool,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    if plan.path.exists() {
        return Err(Failure::refused(format!(
            "{}: is there already; remove it, or name another --path",
            plan.path.display()
        )));
    }
    let mut report = Report::default();
    make(plan, &mut report)?;
    // Made here, so it may be removed here.
    if !plan.keep {
        interrupt::catch_removing(&plan.path);
    }
    let outcome = measure(plan, &mut report);
    if !plan.keep {
        let _ = std::fs::remove_file(&plan.path);
    }
    outcome?;
    report.print()
}

/// What was measured, and what missed its bound.
#[derive(Default)]
struct Report {
    rows: Vec<Vec<String>>,
    lines: Vec<String>,
    missed: Vec<String>,
}

impl Report {
    /// Adds a row. The time is bounded if it has a bound, memory always.
    fn row(&mut self, what: &str, took: Duration, bound: Option<Duration>, stats: Option<&Stats>) {
        let resident = memory::resident();
        let beside = resident.map(|r| r.saturating_sub(stats.map_or(0, frames_in_use)));
        if bound.is_some_and(|b| took > b) {
            self.missed.push(format!("{what} took too long"));
        }
        if beside.is_some_and(|b| b > MEMORY_BOUND) {
            self.missed.push(format!("{what}: too much memory"));
        }
        let bytes = |b: Option<u64>| b.map_or("unknown".into(), units::bytes);
        self.rows.push(vec![
            what.to_owned(),
            duration(took),
            bound.map_or("".into(), duration),
            bytes(resident),
            bytes(beside),
            stats.map_or("".into(), |s| units::bytes(get(s, "map_bytes_most"))),
            stats.map_or("".into(), |s| units::count(get(s, "index_reads"))),
        ]);
    }

    fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.missed.push(what.to_owned());
        }
    }

    fn print(self) -> Outcome {
        let head = [
            "phase",
            "time",
            "bound",
            "resident",
            "beside cache",
            "map peak",
            "index reads",
        ];
        output::line(output::table(head, self.rows))?;
        for line in self.lines {
            output::line(line)?;
        }
        if self.missed.is_empty() {
            output::line(format!(
                "bounds kept; resident memory beside the frames in use below {} throughout",
                units::bytes(MEMORY_BOUND)
            ))?;
            return Ok(FINE);
        }
        output::line(format!("MISSED: {}", self.missed.join("; ")))?;
        Ok(FOUND)
    }
}

fn duration(d: Duration) -> String {
    units::nanos(d.as_nanos() as u64)
}

fn get(stats: &Stats, name: &str) -> u64 {
    stats.get("allocator", name).unwrap_or(0)
}

/// Bytes of the frames that hold something.
fn frames_in_use(stats: &Stats) -> u64 {
    let cache = |name| stats.get("cache", name).unwrap_or(0);
    let frames = cache("bytes") / cache("frame_bytes").max(1);
    (frames - cache("free_frames").min(frames)) * cache("frame_bytes")
}

fn options(map_memory: Option<u64>) -> OpenOptions {
    let mut o = OpenOptions {
        cache_bytes: CACHE,
        // Checkpoints are made where they are due, so that runs are alike.
        checkpoint_interval: Duration::from_secs(3600),
        allocator_spread: true,
        ..OpenOptions::default()
    };
    if let Some(bytes) = map_memory {
        o.map_memory = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    o
}

fn make(plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let format = FormatOptions {
        create_size: Some(plan.size),
        block_size: u32::try_from(plan.block_size)
            .map_err(|_| Failure::refused("--block-size is 4KiB, 8KiB or 16KiB"))?,
        sparse: true,
        ..FormatOptions::default()
    };
    let begun = Instant::now();
    Store::format(&plan.path, &format)?;
    report.row("format", begun.elapsed(), Some(FORMAT_BOUND), None);
    Ok(())
}

fn measure(plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let store = open(plan, None, "open, empty", report)?;
    // As a map block has one bit for each block of its group, and a header.
    let group_blocks = (plan.block_size - 64) * 8;
    let groups = (plan.size / plan.block_size).div_ceil(group_blocks);
    let records = groups.min(MOST_GROUPS);
    output::line(format!(
        "a sparse store of {} in {} groups, blocks of {}, seed {}",
        units::bytes(plan.size),
        units::count(groups),
        units::bytes(plan.block_size),
        plan.seed
    ))?;
    let begun = Instant::now();
    fill(plan, &store, records)?;
    report.row("fill", begun.elapsed(), None, Some(&store.stats()));
    store.close()?;

    let store = open(plan, None, "open, closed before", report)?;
    let tree = store.open_tree("t")?;
    for i in 0..1000 {
        tree.put_with(&key(records + i), b"in the log", Durability::Buffered)?;
    }
    store.flush()?;
    drop(tree);
    // Without a close: the log is to be replayed.
    drop(store);
    let store = open(plan, None, "open, not closed before", report)?;
    report.check(
        store.recovery().replayed >= 1000,
        "the log was not replayed",
    );
    store.close()?;

    let store = open(
        plan,
        Some(plan.map_memory),
        "open, little map memory",
        report,
    )?;
    use_it(plan, &store, records, report)?;
    store.close()?;
    Ok(())
}

fn open(
    plan: &Plan,
    map_memory: Option<u64>,
    what: &str,
    report: &mut Report,
) -> Result<Store, Failure> {
    let begun = Instant::now();
    let store = Store::open(&plan.path, &options(map_memory))?;
    let took = begun.elapsed();
    report.row(what, took, Some(OPEN_BOUND), Some(&store.stats()));
    Ok(store)
}

fn key(i: u64) -> [u8; 16] {
    let mut key = [0; 16];
    // Scattered over the tree, so that neighbours in the tree are not on the device.
    key[..8].copy_from_slice(&i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&i.to_be_bytes());
    key
}

/// A value of exactly one block, which therefore gets an extent.
fn value(plan: &Plan, i: u64, version: u64) -> Vec<u8> {
    let mut value = vec![version as u8; plan.block_size as usize];
    value[..8].copy_from_slice(&i.to_le_bytes());
    value[8..16].copy_from_slice(&version.to_le_bytes());
    value
}

/// One value in each group. What is handed out stays in memory until a checkpoint, so
/// there is one whenever half the map's memory is taken.
fn fill(plan: &Plan, store: &Store, records: u64) -> Result<(), Failure> {
    let tree = store.tree("t")?;
    let each = groups_in(plan, options(None).map_memory as u64) / 2;
    let mut since = 0;
    let mut next = 0;
    while next < records {
        let mut batch = WriteBatch::new();
        let end = (next + BATCH).min(records);
        for i in next..end {
            batch.put(&tree, &key(i), &value(plan, i, 0));
        }
        store.commit(batch, Durability::Buffered)?;
        since += end - next;
        next = end;
        if since >= each {
            store.checkpoint()?;
            since = 0;
        }
    }
    store.checkpoint()?;
    Ok(())
}

/// Groups whose maps fit into so much memory.
fn groups_in(plan: &Plan, map_memory: u64) -> u64 {
    (map_memory / (2 * (plan.block_size - 64))).max(4)
}

fn use_it(plan: &Plan, store: &Store, records: u64, report: &mut Report) -> Result<(), Failure> {
    let tree = store.open_tree("t")?;
    let room = groups_in(plan, plan.map_memory);
    let each = (room / 4).max(1);
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut newest = std::collections::HashMap::new();
    let before = store.stats();
    let begun = Instant::now();
    let (mut done, mut checkpoints) = (0, 0);
    while begun.elapsed().as_secs_f64() < plan.seconds {
        done += 1;
        let i = rng.random_range(0..records);
        replace(plan, &tree, i, done)?;
        newest.insert(i, done);
        let i = rng.random_range(0..records);
        let found = tree.get(&key(i))?;
        let version = newest.get(&i).copied().unwrap_or(0);
        if found.as_deref() != Some(value(plan, i, version).as_slice()) {
            return Err(Failure::found(format!(
                "record {i} is not what was written"
            )));
        }
        if done.is_multiple_of(each) {
            store.checkpoint()?;
            checkpoints += 1;
        }
    }
    let took = begun.elapsed();
    let now = store.stats();
    let s = now.since(&before);
    report.row("use", took, None, Some(&now));
    let (reads, deferred) = (get(&s, "map_reads"), get(&s, "requests_deferred"));
    let peak = get(&now, "map_bytes_most");
    let waits = |name| s.get("waits", name).unwrap_or(0);
    report.lines.push(format!(
        "use: {} values replaced, {} checkpoints; map memory {} ({} groups), peak {}",
        units::count(done),
        units::count(checkpoints),
        units::bytes(plan.map_memory),
        units::count(room),
        units::bytes(peak),
    ));
    report.lines.push(format!(
        "map blocks read {}, written {}, evicted {}; {} requests waited for one, {} in all",
        units::count(reads),
        units::count(get(&s, "map_writes")),
        units::count(get(&s, "evictions")),
        units::count(deferred),
        units::nanos(waits("reservation_nanos")),
    ));
    report.check(deferred > 0, "no request had to read a map block");
    report.check(
        reads >= done / 2 && get(&s, "evictions") > 0,
        "map blocks stayed in memory",
    );
    // The cap, what was handed out since a checkpoint, and what one is at work on.
    let bound = plan.map_memory + (each + 256) * 2 * plan.block_size;
    report.check(peak <= bound, "more map in memory than may be");
    report.check(waits("under_latch") == 0, "something waited under a latch");
    Ok(())
}

fn replace(plan: &Plan, tree: &Tree, i: u64, version: u64) -> Result<(), Failure> {
    tree.put_with(&key(i), &value(plan, i, version), Durability::Buffered)?;
    Ok(())
}
