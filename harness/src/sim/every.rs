//! An error at every index: the n-th I/O fails, for every n, once and for good, and the
//! n-th reservation of blocks. One world, lived through again and again; under the
//! scheduler the n-th call is the same call each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gaur_iodriver::IoErrorKind;
use gaur_iodriver::sim::{Fault, FaultKind, OpKind};
use gaur_iodriver::sync::rng::seeded;
use gaur_iodriver::sync::schedule::Failing;

use super::campaign::{Finding, Workers};
use super::examine::{Case, Extra, examine};
use super::live::{Beginning, Broken, live};
use super::script::Step;
use super::swarm::{Trouble, World};
use super::tally::Tally;
use crate::failure::Failure;

/// What fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    Io(OpKind, IoErrorKind),
    /// By the name that the engine asks for.
    Named(&'static str),
}

const CALLS: [(&str, Call); 9] = [
    ("reads", Call::Io(OpKind::Read, IoErrorKind::Failed)),
    ("writes", Call::Io(OpKind::Write, IoErrorKind::Failed)),
    (
        "writes, no space",
        Call::Io(OpKind::Write, IoErrorKind::NoSpace),
    ),
    ("flushes", Call::Io(OpKind::Flush, IoErrorKind::Failed)),
    ("discards", Call::Io(OpKind::Discard, IoErrorKind::Failed)),
    ("growths", Call::Io(OpKind::Grow, IoErrorKind::NoSpace)),
    (
        "looks at the size",
        Call::Io(OpKind::Refresh, IoErrorKind::Failed),
    ),
    ("reservations", Call::Named("reservation")),
    ("hand-offs", Call::Named("hand-off")),
];

/// One kind of call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Calls of an undisturbed run.
    pub(crate) calls: u64,
    pub(crate) tried: u64,
    /// The store stopped, and recovered.
    pub(crate) stopped: u64,
    /// Operations were refused as full.
    pub(crate) full: u64,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    row: usize,
    at: u64,
    times: u64,
}

/// The world of the attempts: much of everything on a little disk.
fn world(seed: u64) -> World {
    let mut world = World::new(seed, 0);
    world.disk.capacity = 12 << 20;
    world.disk.volatile_cache = true;
    world.disk.file = true;
    world.disk.discard_granularity = 4096;
    world.format.block_size = 4096;
    world.format.sparse = true;
    world.disk.logical_block = 4096;
    world.disk.physical_block = 4096;
    world.format.log_size = Some(256 << 10);
    world.open.cache_bytes = 1 << 20;
    world.open.max_cache_bytes = None;
    world.open.discard = true;
    world.open.grow_to = None;
    world.open.checkpoint_interval = Duration::from_millis(5);
    let mix = &mut world.mix;
    (mix.writers, mix.steps, mix.trees) = (3, 150, 2);
    (mix.keys, mix.hot, mix.sync, mix.deletes) = (300, 300, 40, 20);
    (mix.large, mix.largest, mix.usual, mix.batch) = (60, 30_000, 300, 8);
    (mix.checkpoints, mix.grow, mix.trim) = (60, true, true);
    (mix.sweeps, mix.scans, mix.transactions) = (50, 30, 15);
    world.faults = Vec::new();
    world.trouble = Trouble::Calm;
    world.script = world.mix.script(&mut seeded(seed ^ 0xe7e2));
    let first = &mut world.script.threads[0];
    for (at, step) in [
        (10, Step::Enlarge(1 << 20)),
        (20, Step::Grow(1 << 20)),
        (30, Step::Enlarge(130 << 20)),
    ] {
        first.insert(at, step);
    }
    world.script.close = true;
    world
}

/// Tries them all.
pub(crate) fn run(
    seed: u64,
    workers: &Workers,
) -> Result<(Vec<Row>, Tally, Vec<Finding>, Duration), Failure> {
    let calm = live(&world(seed), &Beginning::fresh())
        .map_err(|why| Failure::found(format!("without any fault: {}", why.0)))?;
    let stats = calm.disk.stats();
    let mut rows = Vec::new();
    let mut attempts = Vec::new();
    for (row, (name, call)) in CALLS.into_iter().enumerate() {
        let calls = match call {
            Call::Io(op, _) => stats.next(op),
            Call::Named(name) => calm.report.asked.get(name).copied().unwrap_or(0),
        };
        rows.push(Row {
            name,
            calls,
            ..Row::default()
        });
        for at in 0..calls {
            attempts.extend([1, u64::MAX].map(|times| Attempt { row, at, times }));
        }
    }
    let next = AtomicU64::new(0);
    let counts: Vec<[AtomicU64; 3]> = rows.iter().map(|_| Default::default()).collect();
    let (tally, found, took) = workers.run(&|tally, _| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(a) = attempts.get(number as usize) else {
            return Ok(false);
        };
        let (stopped, full) = one(seed, a, tally).map_err(|(world, why)| Finding {
            seed,
            round: 0,
            at: None,
            site: "",
            world: format!(
                "{} number {} fails{}: {world}",
                CALLS[a.row].0,
                a.at,
                if a.times == 1 {
                    " once"
                } else {
                    " and all after it"
                },
            ),
            why: why.0,
            shrunk: None,
        })?;
        for (count, is) in counts[a.row].iter().zip([true, stopped, full]) {
            count.fetch_add(u64::from(is), Ordering::Relaxed);
        }
        Ok(true)
    })?;
    for (row, [tried, stopped, full]) in rows.iter_mut().zip(counts) {
        row.tried = tried.into_inner();
        row.stopped = stopped.into_inner();
        row.full = full.into_inner();
    }
    Ok((rows, tally, found, took))
}

/// Whether the store stopped, and whether anything was refused as full.
fn one(seed: u64, a: &Attempt, tally: &mut Tally) -> Result<(bool, bool), (String, Broken)> {
    let mut world = world(seed);
    let describe = world.describe();
    match CALLS[a.row].1 {
        Call::Io(op, kind) => {
            world.faults.push(Fault {
                op,
                at: a.at,
                times: a.times,
                what: FaultKind::Fail(kind),
            });
            world.trouble = match op {
                OpKind::Discard | OpKind::Grow | OpKind::Refresh => Trouble::Calm,
                _ => Trouble::Failing,
            };
        }
        Call::Named(name) => {
            world.plan.failing = Some(Failing {
                name,
                at: a.at,
                times: a.times,
            });
            world.trouble = Trouble::Failing;
        }
    }
    let lived = live(&world, &Beginning::fresh()).map_err(|why| (describe.clone(), why))?;
    tally.world(&lived);
    let expected = Arc::new(lived.expected.clone());
    lived.disk.clear_faults();
    let durable = lived.disk.marked();
    // As it is, as after a power cut, and going on from there.
    let cut = lived.disk.crash(a.at);
    let asis = lived.disk.snapshot();
    for (disk, extra) in [(&asis, Extra::Nothing), (&cut, Extra::GoOn)] {
        let hash = disk.image_hash();
        let seen = examine(&Case {
            image: disk,
            expected: &expected,
            open: &world.open,
            durable,
            unformatted: lived.formatted == u64::MAX,
            torn: lived.torn.at(u64::MAX),
            lied: false,
            extra,
            seed: a.at,
        })
        .map_err(|why| (describe.clone(), why))?;
        tally.point("", hash, extra, &seen);
    }
    Ok((lived.stopped.is_some(), lived.full > 0))
}
