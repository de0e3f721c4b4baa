//! One thread of a mix of operations.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use smallvec::SmallVec;

use super::config::RunConfig;
use super::measure::{Done, Op};
use super::pace::{self, Pace, Pause};
use super::pin;
use super::record::Recorder;
use super::stream::{Plan, Stream, share};
use super::team::Member;
use super::trace;
use super::workload::Target;
use crate::failure::Failure;
use crate::subject::{Change, Direction, Session};

/// What is the same for all threads.
pub(crate) struct Job<'a> {
    pub(crate) target: &'a Target,
    pub(crate) run: &'a RunConfig,
    pub(crate) plan: &'a Plan,
    pub(crate) seed: u64,
    /// Where threads stay, in turn; empty: anywhere.
    pub(crate) processors: &'a [usize],
    /// A drawn record may be gone: it was deleted.
    pub(crate) may_miss: bool,
    /// The first of this job's members in its team.
    pub(crate) first: usize,
    /// What writes down all that is done.
    pub(crate) recorder: Option<&'a trace::Recorder>,
}

/// A thread's own state.
struct Worker<'a> {
    job: &'a Job<'a>,
    stream: Stream<'a>,
    session: Box<dyn Session + 'a>,
    values: Vec<Vec<u8>>,
    /// What a read found.
    found: Vec<u8>,
    /// What a scan found.
    seen: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Works until the time is up, the operations are done, or the team stops.
pub(crate) fn work(job: &Job<'_>, member: &mut Member<'_>) -> Result<Recorder, Failure> {
    let (run, index) = (job.run, member.index - job.first);
    pin::pin(job.processors, member.index)?;
    let mut w = Worker {
        job,
        stream: job.plan.stream(index),
        session: job.target.subject.session()?,
        values: vec![Vec::new(); run.batch],
        found: Vec::new(),
        seen: Vec::new(),
    };
    let mut pace = run
        .rate
        .map(|rate| Pace::new(rate, run.arrival, run.threads, index, job.seed));
    let mut pause = Pause::new(run, index, job.seed);
    let open_loop = pace.is_some() || job.plan.paced();
    let mut recorder = member.recorder(job.plan.ops(), open_loop)?;
    let share = |n| share(n, run.threads, index);
    let mut left = job.plan.count(index).or(run.operations.map(share));
    member.begin();
    let deadline = run
        .seconds
        .map(|s| member.started() + Duration::from_secs_f64(s));

    let before = processor_time();
    while left != Some(0) && !member.stopped() {
        let due = w.stream.due();
        let op = w.prepare();
        let mut late = None;
        if let Some(due) = due {
            let intended = member.started().checked_add(due);
            let Some(intended) = intended.filter(|i| deadline.is_none_or(|d| *i < d)) else {
                break;
            };
            if !pace::until(intended, member) {
                break;
            }
            late = Some(intended);
        }
        if let Some(pace) = &mut pace {
            match pace.wait(member, deadline) {
                Some(intended) => late = Some(intended),
                None => break,
            }
        }
        if let Some(file) = job.recorder {
            w.write_down(op, file)?;
        }
        let begin = Instant::now();
        let (done, took) = w.execute(op, begin)?;
        let waited = late.map(|i| begin.saturating_duration_since(i));
        recorder.record(op, begin, took, waited, done);
        member.advance(1);
        left = left.map(|n| n - 1);
        if deadline.is_some_and(|d| begin + took >= d) {
            break;
        }
        if let Some(pause) = &mut pause
            && !pause.wait(begin + took, member, deadline)
        {
            break;
        }
    }
    recorder.processor = processor_time().saturating_sub(before);
    if let Some(deadline) = deadline {
        // What was to come after an early end is not owed.
        let end = deadline.min(Instant::now());
        let time = end.saturating_duration_since(member.started());
        let owed = pace.map_or_else(|| w.stream.not_started(time), |p| p.not_started(time));
        recorder.not_started = owed.min(left.unwrap_or(u64::MAX));
    }
    Ok(recorder)
}

/// What this thread has used of a processor so far.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

impl Worker<'_> {
    /// Draws the next operation and makes its keys and values, which is not measured.
    #[inline]
    fn prepare(&mut self) -> Op {
        let op = self.stream.next();
        if matches!(op, Op::Update | Op::Insert | Op::Rmw) {
            let values = &self.job.target.values;
            for ((key, version), value) in self.stream.records().zip(&mut self.values) {
                match self.stream.length {
                    Some(length) => values.write_long(key, version, length, value),
                    None => values.write(key, version, value),
                }
            }
        }
        op
    }

    /// Adds the prepared operation to the trace that is recorded.
    fn write_down(&self, op: Op, recorder: &trace::Recorder) -> Result<(), Failure> {
        let length = |i: usize| match op {
            Op::Scan | Op::Reverse => self.stream.scan_length,
            _ => self.values[i].len(),
        };
        let keys = self.stream.keys().iter().enumerate();
        recorder.add(op, keys.map(|(i, key)| (key.as_slice(), length(i))))
    }

    /// Calls the engine; gives what was done and how long the call took.
    fn execute(&mut self, op: Op, begin: Instant) -> Result<(Done, Duration), Failure> {
        let one = |missing: bool| Done {
            records: 1,
            missing: u64::from(missing),
            written: 0,
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
                let written = self.write(op)?;
                let took = begin.elapsed();
                self.check(found)?;
                let done = Done {
                    written,
                    ..one(!found)
                };
                Ok((done, took))
            }
            Op::Scan | Op::Reverse => {
                let direction = match op {
                    Op::Scan => Direction::Forward,
                    _ => Direction::Backward,
                };
                let records = self.scan(direction)?;
                let took = begin.elapsed();
                self.check_scan(records, direction)?;
                let done = Done {
                    records: records as u64,
                    ..Done::default()
                };
                Ok((done, took))
            }
            Op::Update | Op::Insert | Op::Delete => {
                let written = self.write(op)?;
                let took = begin.elapsed();
                let done = Done {
                    records: self.stream.keys().len() as u64,
                    missing: 0,
                    written,
                };
                Ok((done, took))
            }
            Op::Load | Op::ReadBack => Ok((Done::default(), Duration::ZERO)),
        }
    }

    /// Gets the first key's value into `found`.
    fn read(&mut self) -> Result<bool, Failure> {
        let found = &mut self.found;
        self.session.get(&self.stream.keys()[0], &mut |value| {
            found.clear();
            found.extend_from_slice(value);
        })
    }

    /// Reads records from the first key on into `seen`; how many.
    fn scan(&mut self, direction: Direction) -> Result<usize, Failure> {
        let (seen, limit) = (&mut self.seen, self.stream.scan_length);
        if seen.len() < limit {
            seen.resize_with(limit, Default::default);
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
        let from = &self.stream.keys()[0];
        self.session.scan(from, limit, direction, &mut each)
    }

    /// Writes the prepared records, as one commit; how many bytes of keys and values.
    fn write(&mut self, op: Op) -> Result<u64, Failure> {
        let durability = self.job.run.durability;
        let changes: SmallVec<[Change<'_>; 1]> = self
            .stream
            .keys()
            .iter()
            .zip(&self.values)
            .map(|(key, value)| match op {
                Op::Delete => Change::Delete(key),
                _ => Change::Put(key, value),
            })
            .collect();
        self.session.commit(&changes, durability)?;
        Ok(changes.iter().map(Change::bytes).sum())
    }

    /// Whether what was read under the first key is what it must be.
    fn check(&self, found: bool) -> Result<(), Failure> {
        if !self.job.run.verify {
            return Ok(());
        }
        let key = &self.stream.keys()[0];
        match found {
            true => self.check_value(key, &self.found),
            false if self.job.may_miss => Ok(()),
            false => Err(missing(key)),
        }
    }

    fn check_scan(&self, records: usize, direction: Direction) -> Result<(), Failure> {
        let target = self.job.target;
        if !self.job.run.verify {
            return Ok(());
        }
        let (from, seen) = (&self.stream.keys()[0], &self.seen[..records]);
        let ordered = |a: &[u8], b: &[u8]| match direction {
            Direction::Forward => a < b,
            Direction::Backward => a > b,
        };
        match seen.first() {
            Some((first, _)) if ordered(first, from) => {
                return Err(Failure::found("a scan began before its start"));
            }
            Some((first, _)) if first != from && !self.job.may_miss => return Err(missing(from)),
            None if !self.job.may_miss => return Err(missing(from)),
            _ => {}
        }
        if target.keeps() && seen.windows(2).any(|w| !ordered(&w[0].0, &w[1].0)) {
            return Err(Failure::found(match direction {
                Direction::Forward => "a scan's keys are not in ascending order",
                Direction::Backward => "a reverse scan's keys are not in descending order",
            }));
        }
        seen.iter().try_for_each(|(k, v)| self.check_value(k, v))
    }

    /// Whether a value that was found is one of its key. Its length is only known
    /// where no trace says what is written.
    fn check_value(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        match self.job.plan.replays() {
            true => self.job.target.check_content(key, value),
            false => self.job.target.check(key, value),
        }
    }
}

/// A record that must be there is not.
pub(crate) fn missing(key: &[u8]) -> Failure {
    Failure::found(format!(
        "record missing: key {}; if an earlier run deleted it, set run.verify=false",
        crate::text::hex(key)
    ))
}
