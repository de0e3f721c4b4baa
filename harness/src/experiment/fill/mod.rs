//! Full and empty and full again: a store is filled until it says so, read back,
//! emptied and filled again, with the process killed in some of the cycles. Nothing
//! acknowledged is lost, no delete is refused, every block is accounted for, and as
//! many records fit as the first time.

pub(crate) mod child;
mod load;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use gaur::{CheckOptions, OpenOptions, Store, Tree};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::fresh_store;
use crate::crash::process::Running;
use crate::crash::wire::Ack;
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::progress::Progress;
use crate::{interrupt, output, units};
use child::Orders;
use load::{Did, Filled};

const TREE: &str = "fill";
/// What writers wait for when they have to stop.
const STALLS: [&str; 3] = ["log_space", "write_frame", "space"];
/// How much fewer or more records may fit than in the first cycle.
const BOUND: f64 = 0.02;

pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) cycles: u32,
    pub(crate) writers: u16,
    /// One in so many cycles is killed; 0: none.
    pub(crate) kill_every: u32,
    pub(crate) cache: u64,
    pub(crate) seed: u64,
    pub(crate) json: bool,
}

/// What the cycles showed.
#[derive(Debug, Default)]
struct Total {
    cycles: u32,
    killed: u32,
    /// Records that fit, by cycle that was not killed.
    records: Vec<u64>,
    refused: u64,
    deleted: u64,
    checkpoints: u64,
    recalled: u64,
    throttled: u64,
    throttled_nanos: u64,
    /// By log, frames, space; and nanoseconds of all.
    stalls: [u64; 3],
    stall_nanos: u64,
    replayed: u64,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    interrupt::catch();
    let say = |text: String| {
        if plan.json {
            Ok(())
        } else {
            output::line(text)
        }
    };
    fresh_store(&plan.path, plan.size)?;
    say(format!(
        "{} cycles of filling and emptying {}, {} writers, one cycle in {} killed, seed {}",
        plan.cycles,
        units::bytes(plan.size),
        plan.writers,
        plan.kill_every,
        plan.seed
    ))?;
    let mut total = Total::default();
    // A cycle's time, for the kills.
    let mut took = Duration::from_secs(1);
    let (progress, start) = (
        Progress::of_work("cycles", plan.cycles.into()),
        Instant::now(),
    );
    for cycle in 1..=plan.cycles {
        if interrupt::requested() {
            break;
        }
        let begun = Instant::now();
        let killed = plan.kill_every > 0 && cycle % plan.kill_every == 0;
        let done = if killed {
            kill(plan, cycle, took, &mut total)
        } else {
            fill_and_empty(plan, &mut total)
        };
        let line = done.and_then(|line| clean(&plan.path).map(|()| line));
        if matches!(&line, Err(f) if f.code != FOUND) && interrupt::requested() {
            break;
        }
        let line = line.map_err(|f| {
            Failure::found(format!(
                "cycle {cycle} (seed {}): {f}; the store is left in {}",
                plan.seed,
                plan.path.display()
            ))
        })?;
        if !killed {
            took = begun.elapsed();
        }
        total.cycles += 1;
        let elapsed = units::nanos(begun.elapsed().as_nanos() as u64);
        progress.aside(|| say(format!("cycle {cycle:>4}: {line}, clean, {elapsed}")))?;
        progress.show(total.cycles.into(), start.elapsed());
    }
    progress.finish();
    let _ = std::fs::remove_file(&plan.path);
    report(plan, &total)
}

fn report(plan: &Plan, t: &Total) -> Outcome {
    let first = t.records.first().copied().unwrap_or(0) as f64;
    let off = |n: u64| (n as f64 / first - 1.0).abs();
    let worst = t.records.iter().map(|&n| off(n)).fold(0.0, f64::max);
    let within = worst <= BOUND;
    let (least, most) = (t.records.iter().min(), t.records.iter().max());
    if plan.json {
        output::json(&json!({
            "seed": plan.seed,
            "cycles": t.cycles,
            "killed": t.killed,
            "records_first": t.records.first(),
            "records_least": least,
            "records_most": most,
            "refused": t.refused,
            "deleted": t.deleted,
            "checkpoints": t.checkpoints,
            "recalled_blocks": t.recalled,
            "replayed": t.replayed,
            "throttled": t.throttled,
            "throttled_ns": t.throttled_nanos,
            "stalls": STALLS.iter().zip(t.stalls).collect::<BTreeMap<_, _>>(),
            "stall_ns": t.stall_nanos,
            "within": within,
        }))?;
    } else {
        output::line(format!(
            "{} cycles, {} killed: {} to {} records fit, {:.2} % off the first at most (bound {:.0} %{})",
            t.cycles,
            t.killed,
            units::count(least.copied().unwrap_or(0)),
            units::count(most.copied().unwrap_or(0)),
            100.0 * worst,
            100.0 * BOUND,
            if within { "" } else { ", MISSED" }
        ))?;
        output::line(format!(
            "{} puts refused, {} deletes and none refused, {} checkpoints and none failed, \
             {} blocks recalled, {} commits replayed; {} commits slowed for {}; hard stalls for {} in all, log, frames, space: {}",
            units::count(t.refused),
            units::count(t.deleted),
            units::count(t.checkpoints),
            units::count(t.recalled),
            units::count(t.replayed),
            units::count(t.throttled),
            units::nanos(t.throttled_nanos),
            units::nanos(t.stall_nanos),
            t.stalls.map(units::count).join(", "),
        ))?;
    }
    Ok(if within { FINE } else { FOUND })
}

fn open(path: &Path, cache: u64) -> Result<Store, Failure> {
    let options = OpenOptions {
        cache_bytes: cache,
        ..OpenOptions::default()
    };
    crate::crash::patiently(|| Store::open(path, &options))
}

fn clean(path: &Path) -> Result<(), Failure> {
    let report = crate::crash::patiently(|| gaur::check(path, &CheckOptions::default()))?;
    match report.problems.first() {
        None => Ok(()),
        Some(first) => Err(Failure::found(format!(
            "check found {} problem(s): {first}",
            report.problems.len()
        ))),
    }
}

/// Runs `work` for each writer and collects what they return.
fn by_writer<T: Send>(
    writers: u16,
    work: impl Fn(u16) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|w| {
                let work = &work;
                scope.spawn(move || work(w))
            })
            .collect();
        threads
            .into_iter()
            .map(|t| {
                t.join()
                    .unwrap_or_else(|_| Err(Failure::found("a writer panicked")))
            })
            .collect()
    })
}

/// A cycle in peace.
fn fill_and_empty(plan: &Plan, total: &mut Total) -> Result<String, Failure> {
    let store = open(&plan.path, plan.cache)?;
    let tree = store.tree(TREE)?;
    let silent = |_: Did, _: u64| Ok(());
    let next = AtomicU64::new(0);
    let filled = by_writer(plan.writers, |_| {
        load::fill(&tree, plan.seed, &next, silent)
    })?;
    let used = store.stats().get("space", "used").unwrap_or(0);
    by_writer(plan.writers, |w| {
        let puts = &filled[usize::from(w)].put;
        puts.iter().try_for_each(|&n| {
            interrupt::check()?;
            expect(&tree, plan.seed, n)
        })
    })?;
    by_writer(plan.writers, |w| {
        load::empty(&tree, &filled[usize::from(w)].put, silent)
    })?;
    let left = tree.iter()?.count();
    if left > 0 {
        return Err(Failure::found(format!("{left} records are left of none")));
    }
    let sum = |f: fn(&Filled) -> u64| filled.iter().map(f).sum::<u64>();
    let records = sum(|f| f.put.len() as u64);
    let (bytes, refused) = (sum(|f| f.bytes), sum(|f| f.refused));
    total.records.push(records);
    total.refused += refused;
    total.deleted += records;
    note(&store, total);
    drop(tree);
    store.close()?;
    Ok(format!(
        "{} records of {} in {} blocks, {refused} puts refused, all read back, all deleted",
        units::count(records),
        units::bytes(bytes),
        units::count(used),
    ))
}

fn note(store: &Store, total: &mut Total) {
    let stats = store.stats();
    let get = |group, name| stats.get(group, name).unwrap_or(0);
    total.checkpoints += get("checkpoints", "checkpoints");
    total.recalled += get("space", "recalled_blocks");
    total.throttled += get("throttle", "commits");
    total.throttled_nanos += get("throttle", "nanos");
    for (sum, kind) in total.stalls.iter_mut().zip(STALLS) {
        *sum += get("waits", kind);
    }
    total.stall_nanos += get("throttle", "stall_nanos");
}

/// The record must be there and right.
fn expect(tree: &Tree, seed: u64, n: u64) -> Result<(), Failure> {
    match tree.get(&load::key(n))? {
        Some(value) if value == load::value(seed, n) => Ok(()),
        Some(_) => Err(Failure::found(format!("record {n} is wrong"))),
        None => Err(Failure::found(format!("record {n} is lost"))),
    }
}

/// A cycle whose process is killed, somewhere from its beginning to its end; then
/// what must be there is looked at, and the store is emptied.
fn kill(plan: &Plan, cycle: u32, took: Duration, total: &mut Total) -> Result<String, Failure> {
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed ^ u64::from(cycle) << 32);
    let time = took.mul_f64(rng.random());
    let orders = Orders {
        path: plan.path.clone(),
        seed: plan.seed,
        writers: plan.writers,
        cache: plan.cache,
    };
    let mut running = Running::start_with(orders.args())?;
    if running.wait_ready() {
        running.leave_for(time);
    }
    let remains = running.kill()?;
    interrupt::check()?;
    if let Some(end) = remains.ended_itself {
        return Err(Failure::found(format!(
            "the writing process ended by itself ({end})"
        )));
    }
    let store = open(&plan.path, plan.cache)?;
    let tree = store.tree(TREE)?;
    let replayed = store.recovery().replayed;
    judge(&tree, plan, &remains.acks)?;
    // Whatever is there goes.
    let mut left = Vec::new();
    for record in tree.iter()? {
        let (key, value) = record?;
        let n = load::of_key(&key)
            .ok_or_else(|| Failure::found(format!("a key that nobody wrote: {key:x?}")))?;
        if value != load::value(plan.seed, n) {
            return Err(Failure::found(format!("record {n} is wrong")));
        }
        left.push(n);
    }
    let there = left.len();
    let parts: Vec<&[u64]> = left
        .chunks(there.div_ceil(plan.writers.into()).max(1))
        .collect();
    by_writer(plan.writers, |w| {
        let mine = parts.get(usize::from(w)).copied().unwrap_or(&[]);
        load::empty(&tree, mine, |_, _| Ok(()))
    })?;
    total.killed += 1;
    total.replayed += replayed;
    total.deleted += there as u64;
    note(&store, total);
    drop(tree);
    store.close()?;
    Ok(format!(
        "killed after {}, {} commits replayed, {} records there, all deleted",
        units::nanos(time.as_nanos() as u64),
        units::count(replayed),
        units::count(there as u64),
    ))
}

/// All that a writer did up to its last acknowledged Sync is there.
fn judge(tree: &Tree, plan: &Plan, acks: &[Ack]) -> Result<(), Failure> {
    for writer in 0..plan.writers {
        let mine: Vec<&Ack> = acks.iter().filter(|a| a.thread == writer).collect();
        let Some(sure) = mine.iter().rposition(|a| a.sync) else {
            continue;
        };
        let mut state = BTreeMap::new();
        for (i, ack) in mine.iter().enumerate() {
            match child::did(ack) {
                Did::Put(n) if i <= sure => drop(state.insert(n, true)),
                Did::Deleted(n) if i <= sure => drop(state.insert(n, false)),
                // It may be there or not.
                Did::Put(n) | Did::Deleted(n) => drop(state.remove(&n)),
            }
        }
        // The delete under way when the kill came was not acknowledged.
        if let Some(Did::Deleted(last)) = mine.last().map(|a| child::did(a)) {
            let next = state.range(last + 1..).find(|s| *s.1).map(|s| *s.0);
            next.map(|n| state.remove(&n));
        } else {
            let first = state.keys().next().copied();
            first.map(|n| state.remove(&n));
        }
        for (n, there) in state {
            if there {
                expect(tree, plan.seed, n)?;
            } else if tree.contains(&load::key(n))? {
                return Err(Failure::found(format!(
                    "record {n} is there again after its delete"
                )));
            }
        }
    }
    Ok(())
}
