//! How near `multi_get` comes, from one thread and on a store much larger than its cache,
//! to the rate at which the device reads blocks with as many reads in flight.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gaur::{OpenOptions, Store};
use gaur_iodriver::{Device, IoBuf, IoError, Op, Request};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{fresh_store, median};
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::floor::area::Area;
use crate::{interrupt, output, units};

const VALUE: usize = 100;
const BLOCK: u64 = 4096;
/// The share of the device's rate that is wanted.
const BAR: f64 = 0.8;

pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) cache: u64,
    /// The store's size in caches.
    pub(crate) times: u64,
    /// Keys of one call, and reads in flight of the device alone.
    pub(crate) keys: usize,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
}

impl Plan {
    fn records(&self) -> u64 {
        // About what a leaf of a loaded tree has.
        self.cache * self.times / BLOCK * 28
    }

    pub(crate) fn store_bytes(&self) -> u64 {
        (self.cache * self.times * 3 / 2 + (256 << 20)).next_multiple_of(4096)
    }
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    if plan.rounds == 0 || plan.keys == 0 || plan.keys > 64 || plan.seconds <= 0.0 {
        return Err(Failure::refused(
            "1 to 64 keys, at least one round, and some time",
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
    for i in 0..plan.records() {
        loader.push(&key(i), &[7; VALUE])?;
    }
    loader.finish()?;
    let tree = store.open_tree("t")?;
    store.checkpoint()?;
    output::line(format!(
        "{} records of 16 + {VALUE} bytes, {} times the cache of {}; {} keys a call, seed {}",
        units::count(plan.records()),
        plan.times,
        units::bytes(plan.cache),
        plan.keys,
        plan.seed
    ))?;
    // Where the tree's leaves are, at least mostly.
    let lease = store.borrow_free_space(BLOCK)?;
    let (area, device) = (Area::new(lease.data_extents(usize::MAX)?), lease.device());
    drop(lease);
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let (mut shares, mut rows) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        interrupt::check()?;
        let failed = |e| Failure::engine("the device alone", gaur::Error::Io(e));
        let alone = reads(plan, &*device, &area, &mut rng, false).map_err(failed)?;
        let batches = reads(plan, &*device, &area, &mut rng, true).map_err(failed)?;
        let before = device.counters();
        let (begun, mut gets) = (Instant::now(), 0u64);
        while begun.elapsed().as_secs_f64() < plan.seconds {
            let keys = (0..plan.keys).map(|_| key(rng.random_range(0..plan.records())));
            let found = tree.multi_get(&keys.collect::<Vec<_>>())?;
            assert!(found.iter().all(Option::is_some), "every key is there");
            gets += plan.keys as u64;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let reads = (device.counters().reads - before.reads) as f64 / seconds;
        shares.push(reads / alone);
        rows.push(vec![
            units::rate(alone),
            units::rate(batches),
            units::rate(reads),
            format!("{:.0} %", 100.0 * reads / alone),
            units::rate(gets as f64 / seconds),
        ]);
    }
    drop(tree);
    store.close()?;
    let head = [
        "device alone, reads/s",
        "all of a call awaited",
        "multi_get, reads/s",
        "share",
        "gets/s",
    ];
    output::line(output::table(head, rows))?;
    let share = median(&shares);
    output::line(format!(
        "multi_get reaches {:.0} % of the device's rate (wanted: {:.0} %)",
        share * 100.0,
        BAR * 100.0
    ))?;
    Ok(if share >= BAR { FINE } else { FOUND })
}

/// Reads of random blocks a second, as many in flight as a call has keys; all the time, or
/// `in_batches`, of which each is awaited whole before the next, as a caller does.
fn reads(
    plan: &Plan,
    device: &dyn Device,
    area: &Area,
    rng: &mut ChaCha8Rng,
    in_batches: bool,
) -> Result<f64, IoError> {
    let pieces = area.pieces(BLOCK);
    let mut queue = device.queue(plan.keys as u32)?;
    let mut spare: Vec<IoBuf> = (0..plan.keys)
        .map(|_| IoBuf::zeroed(BLOCK as usize))
        .collect();
    let (mut done, mut count) = (Vec::new(), 0u64);
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(plan.seconds);
    while Instant::now() < end || queue.in_flight() > 0 {
        let ready = !in_batches || queue.in_flight() == 0;
        if ready && Instant::now() < end {
            let mut requests: Vec<Request> = Vec::new();
            for buf in spare.drain(..) {
                let offset = pieces.at(rng.random()).unwrap_or(0);
                let op = Op::Read { offset, buf };
                requests.push(Request { token: 0, op });
            }
            queue.submit(&mut requests)?;
        }
        queue.wait(1, None, &mut done)?;
        for c in done.drain(..) {
            c.result?;
            count += 1;
            spare.extend(c.buf);
        }
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}
