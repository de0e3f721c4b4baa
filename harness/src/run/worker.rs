//! One thread of the measured mix.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smallvec::SmallVec;

use super::choose::Chooser;
use super::config::RunConfig;
use super::measure::{Done, Measured, Op};
use super::pace::Pace;
use super::team::Member;
use super::values;
use super::workload::{Inserts, OpMix, Target};
use crate::failure::Failure;
use crate::subject::{Change, Direction, Session};

/// What is the same for all threads.
pub(crate) struct Job<'a> {
    pub(crate) target: &'a Target,
    pub(crate) run: &'a RunConfig,
    pub(crate) mix: &'a OpMix,
    pub(crate) inserts: &'a Inserts,
    pub(crate) seed: u64,
    /// A drawn record may be gone: it was deleted.
    pub(crate) may_miss: bool,
    /// Each scan is as long as the longest.
    pub(crate) scan_exactly: bool,
}

/// A thread's own state.
struct Worker<'a> {
    job: &'a Job<'a>,
    thread: usize,
    rng: ChaCha8Rng,
    chooser: Option<Chooser>,
    session: Box<dyn Session + 'a>,
    /// The version of the next value this thread writes: no other writes it.
    version: u64,
    keys: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
    /// What a read found.
    found: Vec<u8>,
    /// What a scan found.
    seen: Vec<(Vec<u8>, Vec<u8>)>,
    scan_length: usize,
}

/// Works until the time is up, the operations are done, or the team stops.
pub(crate) fn work(
    job: &Job<'_>,
    chooser: Option<&Chooser>,
    member: &mut Member<'_>,
) -> Result<Measured, Failure> {
    let run = job.run;
    let mut rng = ChaCha8Rng::seed_from_u64(job.seed);
    rng.set_stream(member.index as u64);
    let mut w = Worker {
        job,
        thread: member.index,
        rng,
        chooser: chooser.cloned(),
        session: job.target.subject.session()?,
        version: values::LOADED + 1 + ((member.index as u64 + 1) << 48),
        keys: vec![Vec::new(); run.batch],
        values: vec![Vec::new(); run.batch],
        found: Vec::new(),
        seen: Vec::new(),
        scan_length: 0,
    };
    let mut pace = run
        .rate
        .map(|rate| Pace::new(rate, run.threads, member.index));
    let mut measured = Measured::of(job.mix.ops(), pace.is_some())?;
    let deadline = run
        .seconds
        .map(|s| member.started() + Duration::from_secs_f64(s));
    let mut left = run.operations.map(|n| share(n, run.threads, member.index));

    while left != Some(0) && !member.stopped() {
        let op = job.mix.draw(&mut w.rng);
        w.prepare(op);
        let mut late = None;
        if let Some(pace) = &mut pace {
            match pace.wait(member, deadline) {
                Some(intended) => late = Some(intended),
                None => break,
            }
        }
        let begin = Instant::now();
        let done = w.execute(op, begin)?;
        measured.record(
            op,
            done.1,
            late.map(|i| begin.saturating_duration_since(i)),
            done.0,
        );
        member.advance(1);
        left = left.map(|n| n - 1);
        if deadline.is_some_and(|d| begin + done.1 >= d) {
            break;
        }
    }
    if let (Some(pace), Some(deadline)) = (pace, deadline) {
        measured.not_started = pace
            .not_started(deadline - member.started())
            .min(left.unwrap_or(u64::MAX));
    }
    Ok(measured)
}

/// This thread's part of `n` operations.
fn share(n: u64, threads: usize, index: usize) -> u64 {
    let threads = threads as u64;
    n / threads + u64::from((index as u64) < n % threads)
}

impl Worker<'_> {
    /// Draws records and makes keys and values, which is not measured.
    fn prepare(&mut self, op: Op) {
        let Target {
            keys, value_bytes, ..
        } = self.job.target;
        let count = if matches!(op, Op::Update | Op::Insert | Op::Delete) {
            self.job.run.batch
        } else {
            1
        };
        if op == Op::Scan {
            let longest = self.job.run.scan_length;
            let shortest = if self.job.scan_exactly { longest } else { 1 };
            self.scan_length = self.rng.random_range(shortest..=longest) as usize;
        }
        let first = match op {
            Op::Insert => self.job.inserts.begin(self.thread, count as u64),
            _ => 0,
        };
        for i in 0..count {
            let record = match (op, &mut self.chooser) {
                (Op::Insert, _) => first + i as u64,
                (_, Some(c)) => c.record(&mut self.rng, self.job.inserts.visible()),
                (_, None) => 0,
            };
            keys.write(record, &mut self.keys[i]);
            if matches!(op, Op::Update | Op::Insert | Op::Rmw) {
                values::write(
                    &self.keys[i],
                    self.version,
                    *value_bytes,
                    &mut self.values[i],
                );
                self.version += 1;
            }
        }
    }

    /// Calls the engine; gives what was done and how long the call took.
    fn execute(&mut self, op: Op, begin: Instant) -> Result<(Done, Duration), Failure> {
        let one = |missing: bool| Done {
            records: 1,
            missing: u64::from(missing),
        };
        match op {
            Op::Read => {
                let found = self.read()?;
                let took = begin.elapsed();
                self.check(found)?;
                Ok((one(!found), took))
            }
            Op::Rmw => {
                let found = self.read()?;
                self.write(op)?;
                let took = begin.elapsed();
                self.check(found)?;
                Ok((one(!found), took))
            }
            Op::Scan => {
                let records = self.scan()?;
                let took = begin.elapsed();
                self.check_scan(records)?;
                let done = Done {
                    records: records as u64,
                    missing: 0,
                };
                Ok((done, took))
            }
            Op::Update | Op::Insert | Op::Delete => {
                self.write(op)?;
                let took = begin.elapsed();
                if op == Op::Insert {
                    self.job.inserts.finish(self.thread);
                }
                let done = Done {
                    records: self.keys.len() as u64,
                    missing: 0,
                };
                Ok((done, took))
            }
            Op::Load | Op::ReadBack => Ok((Done::default(), Duration::ZERO)),
        }
    }

    /// Gets the first key's value into `found`.
    fn read(&mut self) -> Result<bool, Failure> {
        let found = &mut self.found;
        self.session.get(&self.keys[0], &mut |value| {
            found.clear();
            found.extend_from_slice(value);
        })
    }

    /// Reads records from the first key on into `seen`; how many.
    fn scan(&mut self) -> Result<usize, Failure> {
        let seen = &mut self.seen;
        if seen.len() < self.scan_length {
            seen.resize_with(self.scan_length, Default::default);
        }
        let mut at = 0;
        let mut each = |key: &[u8], value: &[u8]| {
            let (k, v) = &mut seen[at];
            k.clear();
            k.extend_from_slice(key);
            v.clear();
            v.extend_from_slice(value);
            at += 1;
        };
        let (from, limit) = (&self.keys[0], self.scan_length);
        self.session
            .scan(from, limit, Direction::Forward, &mut each)
    }

    /// Writes the prepared records, as one commit.
    fn write(&mut self, op: Op) -> Result<(), Failure> {
        let durability = self.job.run.durability;
        let count = if op == Op::Rmw { 1 } else { self.keys.len() };
        let changes: SmallVec<[Change<'_>; 1]> = self
            .keys
            .iter()
            .zip(&self.values)
            .take(count)
            .map(|(key, value)| match op {
                Op::Delete => Change::Delete(key),
                _ => Change::Put(key, value),
            })
            .collect();
        self.session.commit(&changes, durability)
    }

    /// Whether what was read under the first key is what it must be.
    fn check(&self, found: bool) -> Result<(), Failure> {
        if !self.job.run.verify {
            return Ok(());
        }
        let key = &self.keys[0];
        match found {
            true => check_value(key, &self.found, self.job.target.value_bytes),
            false if self.job.may_miss => Ok(()),
            false => Err(missing(key)),
        }
    }

    fn check_scan(&self, records: usize) -> Result<(), Failure> {
        if !self.job.run.verify {
            return Ok(());
        }
        let (from, seen) = (&self.keys[0], &self.seen[..records]);
        match seen.first() {
            Some((first, _)) if first < from => {
                return Err(Failure::found("a scan began before its start"));
            }
            Some((first, _)) if first != from && !self.job.may_miss => return Err(missing(from)),
            None if !self.job.may_miss => return Err(missing(from)),
            _ => {}
        }
        if seen.windows(2).any(|w| w[0].0 >= w[1].0) {
            return Err(Failure::found("a scan's keys are not in ascending order"));
        }
        seen.iter()
            .try_for_each(|(k, v)| check_value(k, v, self.job.target.value_bytes))
    }
}

/// A value that is not what it must be is a finding.
pub(crate) fn check_value(key: &[u8], value: &[u8], len: usize) -> Result<(), Failure> {
    values::check(key, value, len).map_err(|e| {
        Failure::found(format!(
            "wrong value under key {}: {e}; if another run wrote these records, say so in [load], or set run.verify=false",
            crate::text::hex(key)
        ))
    })
}

/// A record that must be there is not.
pub(crate) fn missing(key: &[u8]) -> Failure {
    Failure::found(format!(
        "record missing: key {}; if an earlier run deleted it, set run.verify=false",
        crate::text::hex(key)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (n, threads) in [(10, 3), (0, 4), (7, 7), (3, 8)] {
            assert_eq!((0..threads).map(|i| share(n, threads, i)).sum::<u64>(), n);
        }
    }
}
