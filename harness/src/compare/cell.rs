//! What a child does: rows, one after the other, on one store.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::child::Opened;
use super::rows::{Cell, Operations, Row, Step, Unit};
use super::wire::{Figure, Job};
use crate::blockdev::Counters;
use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Progress;
use crate::run::config::{Config, Durable, LoadConfig, RunConfig};
use crate::run::measure::{Done, Measured, Op};
use crate::run::record::{Journal, Tape};
use crate::run::spread::{Spread, SpreadTable};
use crate::run::stream::Plan;
use crate::run::summary::Kind;
use crate::run::workload::Target;
use crate::run::{load, team, worker};
use crate::subject::{Change, Direction, Subject, Work};

/// Records whose values are checked before anything is measured.
const CHECKED: u64 = 1000;
/// A commit changes at most one record for so many bytes of the cache: each may lie in
/// a node of its own, and all of them are in memory at once.
const CACHE_FOR_EACH: u64 = 32 << 10;
/// The most that a commit puts, in bytes: ours takes 8 MiB with all that belongs to it.
const COMMIT: u64 = 4 << 20;
/// How often somebody looks whether to end.
const PATIENCE: Duration = Duration::from_millis(5);

/// A store with what was done to it.
pub(super) struct Bench<'a> {
    job: &'a Job,
    target: Target,
    config: Config,
    /// Records that are there.
    present: u64,
    /// Loaded records that were removed: the first so many.
    removed: u64,
    /// Mixes that were done.
    mixes: u64,
}

impl<'a> Bench<'a> {
    pub(super) fn new(job: &'a Job, subject: Box<dyn Subject>) -> Self {
        let config = Config {
            load: LoadConfig {
                records: job.records,
                key_bytes: Spread::Number(job.key_bytes as u64),
                value_bytes: Spread::Number(job.value_bytes as u64),
                seed: job.seed,
                ..LoadConfig::default()
            },
            ..Config::default()
        };
        Self {
            job,
            target: Target::new(subject, &config),
            config,
            present: 0,
            removed: 0,
            mixes: 0,
        }
    }

    /// Does a row. None if Ctrl-C came before it was done.
    pub(super) fn row(&mut self, row: &Row) -> Result<Option<Figure>, Failure> {
        let before = self.counters();
        let mut figure = match row.step {
            Step::Load { batch } => self.load(row, batch)?,
            Step::Mix(cell) => self.mix(row, &cell)?,
            Step::Len => match self.len()? {
                Some(figure) => figure,
                None => return Ok(None),
            },
            Step::Remove { batch } => self.remove(batch)?,
            Step::Size => self.size()?,
            Step::Compact => {
                self.target.subject.flush()?;
                if !self.target.subject.compact()? {
                    return Ok(None);
                }
                self.size()?
            }
        };
        figure.row = row.name.to_owned();
        if let Some(d) = before.and_then(|b| Some(self.counters()?.since(&b))) {
            figure.flushes = Some(d.flushes);
            figure.written_bytes = Some(d.written_bytes);
            figure.read_bytes = Some(d.read_bytes);
        }
        // What a row leaves to be done must not burden the next.
        self.target.subject.flush()?;
        Ok((!interrupt::requested()).then_some(figure))
    }

    /// Opens the store anew with cold caches, and warms them by a full scan, which
    /// also tells whether all records are there.
    pub(super) fn settle(self) -> Result<Self, Failure> {
        let Self {
            job,
            target,
            config,
            present,
            removed,
            mixes,
        } = self;
        target.subject.close()?;
        super::place::drop_caches();
        let Opened { subject, .. } = super::child::open(job, false)?;
        let bench = Self {
            job,
            target: Target::new(subject, &config),
            config,
            present,
            removed,
            mixes,
        };
        bench.expect(true, Durable::Buffered)?;
        let mut session = bench.target.subject.session()?;
        let mut bytes = 0;
        let count = session.scan(&[], usize::MAX, Direction::Forward, &mut |key, value| {
            bytes += key.len() + value.len();
        })? as u64;
        if count != present {
            return Err(Failure::found(format!(
                "a full scan found {count} records of {present}, {bytes} bytes"
            )));
        }
        let some = job.records - removed;
        for i in 0..CHECKED.min(some) {
            let key = bench
                .target
                .keys
                .key(removed + i * some / CHECKED.min(some));
            let mut value = Vec::new();
            if !session.get(&key, &mut |v| value.extend_from_slice(v))? {
                return Err(worker::missing(&key));
            }
            bench.target.check(&key, &value)?;
        }
        drop(session);
        Ok(bench)
    }

    /// Closes it in good order.
    pub(super) fn close(self) -> Result<(), Failure> {
        self.target.subject.close()
    }

    fn counters(&self) -> Option<Counters> {
        Counters::read(self.job.device.as_deref()?)
    }

    fn expect(&self, reads_only: bool, durability: Durable) -> Result<(), Failure> {
        self.target.subject.expect(Work {
            reads_only,
            durability,
        })
    }

    /// This many records a commit, or as many as every engine takes with this cache.
    fn fits(&self, batch: usize) -> usize {
        let record = (self.job.key_bytes + self.job.value_bytes) as u64;
        let most = (self.job.cache / CACHE_FOR_EACH)
            .min(COMMIT / record)
            .max(1);
        batch.min(usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn load(&mut self, row: &Row, batch: usize) -> Result<Figure, Failure> {
        self.expect(false, Durable::Buffered)?;
        let config = LoadConfig {
            batch: self.fits(batch),
            ..self.config.load.clone()
        };
        let (measured, took) = self.taped(Durable::Buffered, |target, tape| {
            load::load(target, &config, tape)
        })?;
        self.present = self.job.records;
        let mut figure = figure(&measured, took);
        figure.value = match row.unit {
            Unit::Millis => took.as_secs_f64() * 1e3,
            _ => self.job.records as f64 / took.as_secs_f64(),
        };
        Ok(figure)
    }

    fn mix(&mut self, row: &Row, cell: &Cell) -> Result<Figure, Failure> {
        let operations = cell.operations.map(|o| match o {
            Operations::Exactly(n) => n,
            Operations::OneFor(records) => self.job.records / records,
        });
        let run = RunConfig {
            threads: cell.threads,
            seconds: operations.is_none().then_some(self.job.seconds),
            operations,
            mix: cell.mix,
            distribution: cell.distribution,
            scan_length: match cell.exactly {
                true => Spread::Table(SpreadTable {
                    fixed: Some(cell.scan_length),
                    ..SpreadTable::default()
                }),
                false => Spread::Number(cell.scan_length),
            },
            batch: cell.batch,
            durability: cell.durability,
            worst: 0,
            verify: false,
            ..RunConfig::default()
        };
        // Each row inserts records of its own.
        self.mixes += 1;
        let plan = Plan::new(row.name, self.mixes, &run, &self.config, self.job.seed);
        self.expect(cell.reads_only(), cell.durability)?;
        let (measured, took) = self.taped(cell.durability, |target, tape| {
            let job = worker::Job {
                target,
                run: &run,
                plan: &plan,
                seed: self.job.seed,
                processors: &[],
                may_miss: false,
                first: 0,
                recorder: None,
            };
            team::run(run.threads, &Progress::hidden(), tape, |member| {
                worker::work(&job, member)
            })
        })?;
        self.present += inserted(&measured);
        let mut figure = figure(&measured, took);
        let records: u64 = measured.each().map(|(_, seen)| seen.done.records).sum();
        let counted = match cell.batch {
            1 => figure.calls,
            _ => records,
        };
        figure.value = match row.unit {
            Unit::Millis => took.as_secs_f64() * 1e3,
            _ => counted as f64 / took.as_secs_f64().max(1e-9),
        };
        figure.durable = cell.durability == Durable::Sync;
        Ok(figure)
    }

    fn len(&self) -> Result<Option<Figure>, Failure> {
        self.expect(true, Durable::Buffered)?;
        let begin = Instant::now();
        let Some(count) = self.target.subject.len()? else {
            return Ok(None);
        };
        let took = begin.elapsed();
        if count != self.present {
            return Err(Failure::found(format!(
                "len() is {count}, expected {}",
                self.present
            )));
        }
        Ok(Some(Figure {
            value: took.as_secs_f64() * 1e3,
            calls: 1,
            seconds: took.as_secs_f64(),
            ..Figure::default()
        }))
    }

    /// Removes the first half of all records, in the order of their numbers, which is
    /// a random one of their keys.
    fn remove(&mut self, batch: usize) -> Result<Figure, Failure> {
        self.expect(false, Durable::Buffered)?;
        let (half, before) = (self.job.records / 2, self.removed);
        let next = AtomicU64::new(self.removed);
        let batch = self.fits(batch) as u64;
        let (measured, took) = self.taped(Durable::Buffered, |target, tape| {
            let begin = Instant::now();
            team::run(1, &Progress::hidden(), tape, |member| {
                let mut recorder = member.recorder([Op::Delete], false)?;
                let mut session = target.subject.session()?;
                while !member.stopped() {
                    let first = next.load(Ordering::Relaxed);
                    if first >= half {
                        break;
                    }
                    let end = (first + batch).min(half);
                    let keys: Vec<_> = (first..end).map(|r| target.keys.key(r)).collect();
                    let changes: Vec<_> = keys.iter().map(|k| Change::Delete(k)).collect();
                    let begin = Instant::now();
                    session.commit(&changes, Durable::Buffered)?;
                    next.store(end, Ordering::Relaxed);
                    let done = Done {
                        records: end - first,
                        missing: 0,
                        written: changes.iter().map(Change::bytes).sum(),
                    };
                    recorder.record(Op::Delete, begin, begin.elapsed(), None, done);
                }
                Ok(recorder)
            })?;
            target.subject.flush()?;
            Ok(begin.elapsed())
        })?;
        self.removed = next.into_inner();
        self.present -= self.removed - before;
        let mut figure = figure(&measured, took);
        figure.value = took.as_secs_f64() * 1e3;
        Ok(figure)
    }

    fn size(&self) -> Result<Figure, Failure> {
        self.target.subject.flush()?;
        let bytes = match self.target.subject.stored_bytes() {
            Some(bytes) => bytes,
            None => on_disk(&self.job.path)?,
        };
        Ok(Figure {
            value: bytes as f64,
            ..Figure::default()
        })
    }

    /// Works as a run does, and gives what was measured and how long it took.
    fn taped(
        &self,
        durability: Durable,
        work: impl FnOnce(&Target, &mut Tape<'_>) -> Result<Duration, Failure>,
    ) -> Result<(Measured, Duration), Failure> {
        // Recorded as a run is, and written nowhere; no slow operation is explained,
        // for only ours could explain it.
        let mut journal = Journal::new(&self.job.path, None);
        let subject = self.target.subject.as_ref();
        let mut tape = Tape::begin(&mut journal, subject, Kind::Run, 0)?;
        let took = self.flushed(durability, |target| work(target, &mut tape))?;
        Ok((tape.finish()?.measured, took))
    }

    /// Works, and meanwhile makes what was committed durable at each interval, if the
    /// engine does not do so itself.
    fn flushed<A>(
        &self,
        durability: Durable,
        work: impl FnOnce(&Target) -> Result<A, Failure>,
    ) -> Result<A, Failure> {
        let subject = &self.target.subject;
        if durability == Durable::Sync || subject.flushes_itself() {
            return work(&self.target);
        }
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let flusher = scope.spawn(|| {
                let mut last = Instant::now();
                while !ended.load(Ordering::Relaxed) {
                    std::thread::sleep(PATIENCE);
                    if last.elapsed() >= self.job.interval {
                        last = Instant::now();
                        subject.flush()?;
                    }
                }
                Ok(())
            });
            let done = work(&self.target);
            ended.store(true, Ordering::Relaxed);
            match flusher.join() {
                Ok(flushed) => flushed.and(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

/// Records that were put where there was none.
fn inserted(measured: &Measured) -> u64 {
    let each = measured.each();
    each.filter(|(op, _)| *op == Op::Insert)
        .map(|(_, seen)| seen.done.records)
        .sum()
}

/// Calls, time and latencies, of all operations together.
fn figure(measured: &Measured, took: Duration) -> Figure {
    let mut all: Option<hdrhistogram::Histogram<u64>> = None;
    for (_, seen) in measured.each() {
        match &mut all {
            None => all = Some(seen.latency.clone()),
            // All have the same bounds.
            Some(all) => drop(all.add(&seen.latency)),
        }
    }
    let at = |q| all.as_ref().map(|h| h.value_at_quantile(q));
    Figure {
        calls: all.as_ref().map_or(0, |h| h.len()),
        seconds: took.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        max: all.as_ref().map(|h| h.max()),
        ..Figure::default()
    }
}

/// Bytes that the files below a directory take on their file system.
fn on_disk(path: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let wrong = |e: std::io::Error| Failure::file("look at", path, &e);
    let meta = std::fs::symlink_metadata(path).map_err(wrong)?;
    if !meta.is_dir() {
        return Ok(meta.blocks() * 512);
    }
    let mut sum = 0;
    for entry in std::fs::read_dir(path).map_err(wrong)? {
        sum += on_disk(&entry.map_err(wrong)?.path())?;
    }
    Ok(sum)
}
