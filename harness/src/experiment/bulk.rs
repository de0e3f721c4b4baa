//! How near a sorted bulk load comes to the speed at which the device writes, and what
//! keeps it from there.
//!
//! A store in a file, all of whose space is written once before. Then, in turn: the device
//! alone (as many bytes as a load writes, in order, 1 MiB at a time, four in flight, and a
//! flush), and a load of the records into a new tree. A last tree is loaded in the way of
//! ordinary commits, if asked for.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gaur::{Durability, Error, FreeSpace, OpenOptions, Store, WriteBatch};
use gaur_iodriver::{Device, IoBuf, IoError, Op, Request};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{fresh_store, median};
use crate::failure::{FINE, Failure, Outcome};
use crate::floor::area::Area;
use crate::{interrupt, memory, output, units};

const LARGE: usize = 1 << 20;
const DEPTH: usize = 4;
/// Bytes of a key, and of the whole of the records' values from which each takes a part.
const KEY: u64 = 16;
const VALUES: usize = 1 << 20;

pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) records: u64,
    pub(crate) value_bytes: u64,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
    pub(crate) commits: bool,
}

impl Plan {
    /// About what a tree of the records takes.
    fn tree_bytes(&self) -> u64 {
        let entry = KEY + self.value_bytes.next_multiple_of(8) + 24;
        self.records * entry * 102 / 100 + (8 << 20)
    }

    pub(crate) fn store_bytes(&self) -> u64 {
        let trees = self.rounds as u64 + 1 + u64::from(self.commits) * 2;
        let bytes = self.tree_bytes() * trees * 105 / 100 + (256 << 20);
        bytes.next_multiple_of(4096)
    }
}

/// One round: seconds and bytes.
struct Round {
    floor: (f64, u64),
    load: (f64, u64),
    /// Seconds of processor that the thread that gave the records used.
    processor: f64,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    if plan.value_bytes > 1000 || plan.rounds == 0 || plan.records == 0 {
        return Err(Failure::refused(
            "values of at most 1000 bytes, at least one round, and one record",
        ));
    }
    fresh_store(&plan.path, plan.store_bytes())?;
    interrupt::catch_removing(&plan.path);
    let outcome = measure(plan);
    let _ = std::fs::remove_file(&plan.path);
    outcome
}

fn measure(plan: &Plan) -> Outcome {
    let store = Store::open(&plan.path, &OpenOptions::default())?;
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut values = vec![0; VALUES];
    rng.fill_bytes(&mut values);
    let failed = |e| Failure::engine("the device alone", Error::Io(e));
    // What was never written may be slower, or faster.
    let all = plan.tree_bytes() * (plan.rounds as u64 + 1);
    let lease = store.borrow_free_space(all)?;
    write_all(&lease, all, &values).map_err(failed)?;
    drop(lease);

    let mut rounds = Vec::new();
    for n in 0..plan.rounds {
        interrupt::check()?;
        let lease = store.borrow_free_space(plan.tree_bytes())?;
        let begun = Instant::now();
        write_all(&lease, plan.tree_bytes(), &values).map_err(failed)?;
        let floor = (begun.elapsed().as_secs_f64(), plan.tree_bytes());
        let device = lease.device();
        drop(lease);
        let before = device.counters().written_bytes;
        let (begun, processor) = (Instant::now(), thread_time());
        let mut loader = store.bulk_load(&format!("bulk {n}"))?;
        for i in 0..plan.records {
            loader.push(&key(i), value(plan, &values, i))?;
            if i % (1 << 20) == 0 {
                interrupt::check()?;
            }
        }
        loader.finish()?;
        rounds.push(Round {
            floor,
            load: (
                begun.elapsed().as_secs_f64(),
                device.counters().written_bytes - before,
            ),
            processor: (thread_time() - processor).as_secs_f64(),
        });
    }
    let commits = match plan.commits {
        true => Some(commit_all(plan, &store, &values)?),
        false => None,
    };
    store.close()?;
    report(plan, &rounds, commits)
}

/// The same records by ordinary commits, of a thousand each; seconds.
fn commit_all(plan: &Plan, store: &Store, values: &[u8]) -> Result<f64, Failure> {
    let tree = store.tree("commits")?;
    let begun = Instant::now();
    let mut i = 0;
    while i < plan.records {
        let mut batch = WriteBatch::new();
        for i in i..plan.records.min(i + 1000) {
            batch.put(&tree, &key(i), value(plan, values, i));
        }
        i += 1000;
        store.commit(batch, Durability::Buffered)?;
        interrupt::check()?;
    }
    // Where a load's records are when it ends: in the tree, on the device.
    store.checkpoint()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn key(i: u64) -> [u8; KEY as usize] {
    let mut key = *b"user000000000000";
    key[8..].copy_from_slice(&i.to_be_bytes());
    key
}

fn value<'a>(plan: &Plan, values: &'a [u8], i: u64) -> &'a [u8] {
    let len = plan.value_bytes as usize;
    let at = (i as usize * 61) % (VALUES - len);
    &values[at..at + len]
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|n| n.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Writes so many bytes of lent space, in order, and flushes.
fn write_all(lease: &FreeSpace, bytes: u64, values: &[u8]) -> Result<(), IoError> {
    let mut area = Area::new(lease.extents());
    area.truncate(bytes);
    let device: &dyn Device = &*lease.device();
    let mut queue = device.queue(DEPTH as u32)?;
    let mut spare: Vec<IoBuf> = Vec::new();
    let mut done = Vec::new();
    for (start, len) in area.extents() {
        let mut at = 0;
        while at < len {
            let n = (len - at).min(LARGE as u64);
            let mut buf = match spare.pop() {
                Some(buf) if buf.len() as u64 == n => buf,
                _ => IoBuf::zeroed(n as usize),
            };
            buf.copy_from_slice(&values[..n as usize]);
            let op = Op::Write {
                offset: start + at,
                buf,
                durable: false,
            };
            queue.submit(&mut vec![Request { token: 0, op }])?;
            at += n;
            while queue.in_flight() >= DEPTH {
                queue.wait(1, None, &mut done)?;
                for c in done.drain(..) {
                    c.result?;
                    spare.extend(c.buf);
                }
            }
        }
    }
    while queue.in_flight() > 0 {
        queue.wait(1, None, &mut done)?;
        done.drain(..).try_for_each(|c| c.result)?;
    }
    device.flush()
}

fn report(plan: &Plan, rounds: &[Round], commits: Option<f64>) -> Outcome {
    let rate = |(seconds, bytes): (f64, u64)| bytes as f64 / seconds.max(1e-9);
    let per_second = |rate: f64| format!("{}/s", units::bytes(rate as u64));
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    output::line(format!(
        "{} records of {KEY} + {} bytes, seed {}",
        units::count(plan.records),
        plan.value_bytes,
        plan.seed
    ))?;
    let rows = rounds.iter().map(|r| {
        vec![
            per_second(rate(r.floor)),
            per_second(rate(r.load)),
            percent(rate(r.load) / rate(r.floor)),
            units::count((plan.records as f64 / r.load.0) as u64),
            format!("{:.0} ns", r.processor * 1e9 / plan.records as f64),
            percent(r.processor / r.load.0),
        ]
    });
    let head = [
        "device alone",
        "load",
        "share",
        "records/s",
        "processor a record",
        "builder busy",
    ];
    output::line(output::table(head, rows))?;
    let of = |f: fn(&Round) -> f64| median(&rounds.iter().map(f).collect::<Vec<_>>());
    let share = of(|r| (r.load.1 as f64 / r.load.0) / (r.floor.1 as f64 / r.floor.0));
    let busy = of(|r| r.processor / r.load.0);
    let limit = match () {
        () if busy > 0.85 => "the processor: the thread that builds the nodes is busy all the time",
        () if share > 0.85 => "the device",
        () => "neither alone: the builder waits for the device, which is not busy all the time",
    };
    output::line(format!(
        "median share of the device's sequential rate: {}; what limits it: {limit}",
        percent(share)
    ))?;
    if let Some(seconds) = commits {
        let load = of(|r| r.load.0);
        output::line(format!(
            "by commits of 1,000 records and a checkpoint: {seconds:.1} s, {:.1} times as long",
            seconds / load
        ))?;
    }
    if let Some(peak) = memory::peak() {
        output::line(format!("peak resident memory: {}", units::bytes(peak)))?;
    }
    Ok(FINE)
}
