//! The device's floor beside a run: what the device gives by itself, measured right
//! after the mix, and the engine's share of it.
//!
//! Like is compared with like: reads go to the store's own data, as warm as the mix
//! has left it, through the same open device; writes go to free space that the store
//! lends, each block written once before. The cells run in turn, round by round.

use std::time::Duration;

use gaur::{DurableMethod, Error, FreeSpace, Store};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::config::FloorConfig;
use super::summary::Phase;
use crate::failure::Failure;
use crate::floor::area::{Area, patience};
use crate::floor::cell::{Cell, Kind, Tally, write_once};
use crate::floor::machine::Moment;
use crate::floor::subject::Subject;
use crate::interrupt;
use crate::progress::Progress;

/// Rounds of all cells.
const ROUNDS: u32 = 5;
/// As many in flight as engines of one thread per request seldom reach.
const DEEP: u32 = 32;
/// The most in flight.
const DEEPEST: usize = 256;
/// Groups of the space map whose data is read: 8 GiB of blocks of 4 KiB.
const GROUPS: usize = 64;
/// The least free space that is worth writing to.
const LEAST: u64 = 1 << 20;

/// What the device gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Floor {
    pub(crate) cells: Vec<FloorCell>,
    pub(crate) share: Vec<Share>,
    /// Data that was read, at most: where the reads were drawn from.
    pub(crate) data_bytes: u64,
    /// Free space that was written to.
    pub(crate) free_bytes: u64,
    /// Share of the processors' time that the host took meanwhile.
    pub(crate) steal: Option<f64>,
}

/// One kind of request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FloorCell {
    pub(crate) name: String,
    /// Requests in flight.
    pub(crate) depth: u32,
    pub(crate) per_second: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
}

/// What the engine asked of the device in the mix, beside what the device gave.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Share {
    pub(crate) what: &'static str,
    /// The cell that it is compared with.
    pub(crate) of: String,
    pub(crate) depth: u32,
    pub(crate) engine_per_second: f64,
    pub(crate) device_per_second: f64,
    pub(crate) share: f64,
}

/// Measures the device below an open store, after `phase` has ended. `method` is how
/// the store makes writes durable.
pub(crate) fn measure(
    store: &Store,
    config: &FloorConfig,
    phase: &Phase,
    method: &str,
    seed: u64,
) -> Result<Option<Floor>, Failure> {
    // What the mix left to write is not to be in the device's way; and then the map
    // tells where the data is.
    store
        .checkpoint()
        .map_err(|e| Failure::engine("cannot end the mix with a checkpoint", e))?;
    let Some(lease) = borrow(store, config.size.0)? else {
        return Ok(None);
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (subject, free_bytes) = subject(&lease, config, phase, &mut rng)?;
    let mut cells = cells(&subject, phase.threads, method)
        .into_iter()
        .filter(|c| c.is_possible(&subject))
        .map(|c| Ok((c, Tally::new()?)))
        .collect::<Result<Vec<_>, Failure>>()?;

    let slice = Duration::from_secs_f64(config.seconds / f64::from(ROUNDS));
    let progress = Progress::of_time("device", slice * ROUNDS * cells.len() as u32);
    let (begin, before) = (std::time::Instant::now(), Moment::now());
    let mut ops = 0;
    for round in 0..ROUNDS {
        // The order alternates, so that none always follows the same other.
        for i in 0..cells.len() {
            let i = if round % 2 == 0 {
                i
            } else {
                cells.len() - 1 - i
            };
            if interrupt::requested() {
                return Ok(None);
            }
            let (cell, tally) = &mut cells[i];
            ops += cell.run(&subject, slice, &mut rng, tally)?;
            progress.show(ops, begin.elapsed());
        }
    }
    progress.finish();
    let steal = before.until_now().steal;
    Ok(Some(Floor {
        share: shares(&cells, phase),
        cells: cells.iter().map(|(c, t)| FloorCell::new(c, t)).collect(),
        data_bytes: subject.reads.bytes(),
        free_bytes,
        steal,
    }))
}

/// As much free space as there is, up to `want`; none if the store is full.
fn borrow(store: &Store, mut want: u64) -> Result<Option<FreeSpace>, Failure> {
    loop {
        match store.borrow_free_space(want) {
            Ok(lease) => return Ok(Some(lease)),
            Err(Error::Full { .. }) if want > 1 => want /= 2,
            Err(Error::Full { .. } | Error::ReadOnly) => return Ok(None),
            Err(e) => return Err(Failure::engine("cannot borrow free space", e)),
        }
    }
}

/// What is read and what is written to; and how much the latter is.
fn subject(
    lease: &FreeSpace,
    config: &FloorConfig,
    phase: &Phase,
    rng: &mut ChaCha8Rng,
) -> Result<(Subject, u64), Failure> {
    let data = lease
        .data_extents(GROUPS)
        .map_err(|e| Failure::engine("cannot find the store's data", e))?;
    let mut writes = Area::new(lease.extents());
    // A mix that only reads need not wear the device.
    let writes = if phase.user_bytes > 0 && writes.bytes() >= LEAST {
        let device = lease.device();
        write_once(device.as_ref(), &mut writes, patience(config.seconds), rng)
            .map_err(|e| Failure::engine("cannot prepare the device's floor", Error::Io(e)))?;
        Some(writes)
    } else {
        None
    };
    let free_bytes = writes.as_ref().map_or(0, Area::bytes);
    let reads = Area::new(data);
    let subject = Subject::of_parts(lease.device(), reads, writes, lease.block_size());
    Ok((subject, free_bytes))
}

/// The requests that a mix is made of.
fn cells(subject: &Subject, threads: usize, method: &str) -> Vec<Cell> {
    let threads = threads.clamp(1, DEEPEST) as u32;
    let mut depths = vec![threads, DEEP];
    depths.dedup();
    let mut cells = Vec::new();
    let mut add = |kind, random, depth| {
        cells.push(Cell {
            kind,
            random,
            bytes: subject.block.into(),
            depth,
        });
    };
    for &depth in &depths {
        add(Kind::Read, true, depth);
    }
    if subject.writes.is_some() {
        for &depth in &depths {
            add(Kind::Write, true, depth);
        }
        let known = DurableMethod::ALL.iter().find(|m| m.to_string() == method);
        if let Some(&method) = known {
            add(Kind::Sync(method), false, 1);
        }
    }
    cells
}

fn name(cell: &Cell) -> String {
    let kib = cell.bytes >> 10;
    match cell.kind {
        Kind::Read => format!("random read {kib} KiB"),
        Kind::Write => format!("random write {kib} KiB"),
        Kind::Sync(_) => format!("durable append {kib} KiB"),
    }
}

impl FloorCell {
    fn new(cell: &Cell, tally: &Tally) -> Self {
        Self {
            name: name(cell),
            depth: cell.depth,
            per_second: tally.iops(),
            bytes_per_second: tally.iops() * cell.bytes as f64,
            p50_ns: tally.latency.value_at_quantile(0.5),
            p99_ns: tally.latency.value_at_quantile(0.99),
        }
    }
}

/// The engine's reads beside reads as deep as it has threads, since each has one at
/// a time; its writes beside deep ones, since others than its threads do them.
fn shares(cells: &[(Cell, Tally)], phase: &Phase) -> Vec<Share> {
    let reads = cells.iter().find(|(c, _)| c.kind == Kind::Read);
    let writes = cells.iter().rfind(|(c, _)| c.kind == Kind::Write);
    let appends = cells.iter().find(|(c, _)| matches!(c.kind, Kind::Sync(_)));
    let counted = |name| Some(phase.counters.get("device")?.get(name)?.value);
    let rows = [
        ("reads", "reads", false, reads),
        ("writes", "writes", false, writes),
        ("written bytes", "written_bytes", true, writes),
        ("durable writes", "durable_writes", false, appends),
    ];
    rows.into_iter()
        .filter_map(|(what, counter, bytes, of)| {
            let (cell, tally) = of?;
            let engine = counted(counter)? as f64 / phase.seconds.max(1e-9);
            let each = if bytes { cell.bytes as f64 } else { 1.0 };
            let device = tally.iops() * each;
            (device > 0.0).then(|| Share {
                what,
                of: name(cell),
                depth: cell.depth,
                engine_per_second: engine,
                device_per_second: device,
                share: engine / device,
            })
        })
        .collect()
}
