//! The operations of each thread: a function of the configuration and the seed,
//! and of nothing else. Neither the time nor what other threads do changes them.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::choose::{self, Chooser};
use super::config::{Config, RunConfig};
use super::keys::KeySpace;
use super::measure::Op;
use super::permute::mix;
use super::spread::Lengths;
use super::trace::{Line, Trace};
use super::values::{self, Values};
use super::workload::OpMix;

/// What a stream draws with: fast, and the same on every machine.
pub(crate) type Random = Xoshiro256PlusPlus;

/// Operations of each thread that the checksum covers.
pub(crate) const CHECKED: u64 = 10_000;

/// The random numbers of one thread for one purpose.
pub(crate) fn random(seed: u64, thread: usize, purpose: &str) -> Random {
    let seed = seed ^ mix(thread as u64 + 1);
    Random::seed_from_u64(xxh3_64_with_seed(purpose.as_bytes(), seed))
}

/// What the streams of a phase's threads have in common.
pub(crate) struct Plan {
    /// The phase: each has streams of its own.
    phase: &'static str,
    mix: OpMix,
    chooser: Option<Chooser>,
    keys: KeySpace,
    values: Values,
    batch: usize,
    scan_lengths: Lengths,
    threads: usize,
    seed: u64,
    /// Records that are there before the phase.
    loaded: u64,
    /// The first record that the phase inserts.
    new: u64,
    /// In every version that the phase writes.
    mark: u64,
    /// What is done in place of the mix.
    replay: Option<Replay>,
}

/// A trace and the pace it is done at.
#[derive(Clone)]
pub(crate) struct Replay {
    pub(crate) trace: Arc<Trace>,
    /// How much faster than recorded; 0: each thread as fast as it can.
    pub(crate) speed: f64,
}

impl Plan {
    /// The plan of the phase that does `run`; `ordinal` tells the phases of a run
    /// apart, so that what one inserts is no other's.
    pub(crate) fn new(
        phase: &'static str,
        ordinal: u64,
        run: &RunConfig,
        config: &Config,
        seed: u64,
    ) -> Self {
        let load = &config.load;
        Self {
            phase,
            mix: OpMix::new(&run.mix),
            chooser: Chooser::new(
                run,
                load.records,
                choose::expected(run, load.records),
                load.seed,
            ),
            keys: KeySpace::of(load),
            values: Values::of(load),
            batch: run.batch,
            scan_lengths: Lengths::up_to(&run.scan_length),
            threads: run.threads,
            seed,
            loaded: load.records,
            new: load.records.wrapping_add(ordinal << 56),
            mark: ordinal << 44,
            replay: None,
        }
    }

    /// The same plan, with a trace in place of the mix.
    pub(crate) fn replaying(mut self, replay: Option<Replay>) -> Self {
        self.replay = replay;
        self
    }

    /// Whether a trace is done.
    pub(crate) fn replays(&self) -> bool {
        self.replay.is_some()
    }

    /// Whether the operations have times of their own.
    pub(crate) fn paced(&self) -> bool {
        self.replay.as_ref().is_some_and(|r| r.speed > 0.0)
    }

    /// How many operations this thread has, if that is settled.
    pub(crate) fn count(&self, thread: usize) -> Option<u64> {
        let replay = self.replay.as_ref()?;
        Some(replay.trace.of_thread(thread).len() as u64)
    }

    /// The operations that may occur.
    pub(crate) fn ops(&self) -> Vec<Op> {
        match &self.replay {
            Some(replay) => replay.trace.ops(),
            None => self.mix.ops().collect(),
        }
    }

    /// The operations of one thread, from the first on.
    pub(crate) fn stream(&self, thread: usize) -> Stream<'_> {
        Stream {
            plan: self,
            random: random(self.seed, thread, self.phase),
            chooser: self
                .chooser
                .as_ref()
                .map(|c| c.of_thread(thread, self.threads)),
            lines: self
                .replay
                .as_ref()
                .map_or(&[], |r| r.trace.of_thread(thread)),
            length: None,
            thread: thread as u64,
            inserted: 0,
            version: values::LOADED + 1 + self.mark + ((thread as u64 + 1) << 48),
            keys: vec![Vec::new(); self.batch],
            versions: vec![0; self.batch],
            count: 0,
            scan_length: 0,
        }
    }

    /// Of the first [`CHECKED`] operations of each thread, or of all `operations`
    /// if there are fewer: what they are, in each thread's order.
    pub(crate) fn checksum(&self, operations: Option<u64>) -> String {
        let mut all = 0_u64;
        for thread in 0..self.threads {
            let count = self
                .count(thread)
                .or(operations.map(|n| share(n, self.threads, thread)))
                .map_or(CHECKED, |n| n.min(CHECKED));
            let mut hash = Xxh3::with_seed(thread as u64);
            let mut stream = self.stream(thread);
            for _ in 0..count {
                let op = stream.next();
                hash.update(&[op as u8]);
                hash.update(&(stream.scan_length as u64).to_le_bytes());
                let length = stream.length;
                for (key, version) in stream.records() {
                    hash.update(key);
                    hash.update(&version.to_le_bytes());
                    let length = length.unwrap_or_else(|| self.values.length(key, version));
                    hash.update(&(length as u64).to_le_bytes());
                }
            }
            all = all.wrapping_add(mix(hash.digest()));
        }
        format!("xxh3:{all:016x}")
    }
}

/// A thread's part of `n` operations.
pub(crate) fn share(n: u64, threads: usize, index: usize) -> u64 {
    let threads = threads as u64;
    n / threads + u64::from((index as u64) < n % threads)
}

/// One thread's operations. What the current one is about is kept here until the
/// next is drawn.
pub(crate) struct Stream<'a> {
    plan: &'a Plan,
    random: Random,
    chooser: Option<Chooser>,
    /// Of a trace: the lines that are left.
    lines: &'a [Line],
    /// Of a trace: the length of the value that is written.
    pub(crate) length: Option<usize>,
    thread: u64,
    /// Records that this thread has inserted in this phase.
    inserted: u64,
    /// The version of the next value this thread writes: no other writes it.
    version: u64,
    keys: Vec<Vec<u8>>,
    versions: Vec<u64>,
    /// How many of them belong to the current operation.
    count: usize,
    /// Of a scan: how many records at most; else 0.
    pub(crate) scan_length: usize,
}

impl Stream<'_> {
    /// Draws the next operation. Those before it are taken to be done.
    #[inline]
    pub(crate) fn next(&mut self) -> Op {
        if let Some(replay) = &self.plan.replay {
            return self.replay(&replay.trace);
        }
        let op = self.plan.mix.draw(&mut self.random);
        self.count = match op {
            Op::Update | Op::Insert | Op::Delete => self.plan.batch,
            _ => 1,
        };
        self.scan_length = match op {
            Op::Scan | Op::Reverse => self.plan.scan_lengths.draw(&mut self.random) as usize,
            _ => 0,
        };
        let inserts = op == Op::Insert;
        let writes = matches!(op, Op::Update | Op::Insert | Op::Rmw);
        let visible = self.plan.loaded.saturating_add(self.inserted);
        for i in 0..self.count {
            let record = match &mut self.chooser {
                _ if inserts => self.fresh(self.inserted + i as u64),
                Some(chooser) => {
                    let random = &mut self.random;
                    let drawn = match self.scan_length {
                        0 => chooser.record(random, visible),
                        n => chooser.scan(random, visible, n as u64, op == Op::Reverse),
                    };
                    self.own(drawn)
                }
                None => 0,
            };
            self.plan.keys.write(record, &mut self.keys[i]);
            self.versions[i] = if writes { self.version } else { 0 };
            self.version += u64::from(writes);
        }
        if inserts {
            self.inserted += self.count as u64;
        }
        op
    }

    /// The next line of the trace; the last one again, if there is none.
    fn replay(&mut self, trace: &Trace) -> Op {
        let Some((line, rest)) = self.lines.split_first() else {
            self.count = 0;
            return Op::Read;
        };
        self.lines = rest;
        self.count = 1;
        self.keys[0].clear();
        self.keys[0].extend_from_slice(trace.key(line));
        let writes = matches!(line.op, Op::Update | Op::Insert | Op::Rmw);
        self.scan_length = match line.op {
            Op::Scan | Op::Reverse => line.length as usize,
            _ => 0,
        };
        self.length = Some(if writes { line.length as usize } else { 0 });
        self.versions[0] = if writes { self.version } else { 0 };
        self.version += u64::from(writes);
        line.op
    }

    /// When the next operation is due, from the start; none if it has no time.
    pub(crate) fn due(&self) -> Option<Duration> {
        let replay = self.plan.replay.as_ref().filter(|r| r.speed > 0.0)?;
        let seconds = self.lines.first()?.at as f64 / 1e6 / replay.speed;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// How many of the operations that are left were due within `time`.
    pub(crate) fn not_started(&self, time: Duration) -> u64 {
        let Some(replay) = self.plan.replay.as_ref().filter(|r| r.speed > 0.0) else {
            return 0;
        };
        let end = time.as_secs_f64() * 1e6 * replay.speed;
        self.lines.partition_point(|l| (l.at as f64) < end) as u64
    }

    /// The keys of the current operation, each with the version of its value; 0
    /// where none is written.
    #[inline]
    pub(crate) fn records(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.keys()
            .iter()
            .map(Vec::as_slice)
            .zip(self.versions.iter().copied())
    }

    /// The keys of the current operation.
    #[inline]
    pub(crate) fn keys(&self) -> &[Vec<u8>] {
        &self.keys[..self.count]
    }

    /// The `n`-th record that this thread inserts. Threads take turns by batches:
    /// none has to know of the others.
    #[inline]
    fn fresh(&self, n: u64) -> u64 {
        let (batch, threads) = (self.plan.batch as u64, self.plan.threads as u64);
        let place = (n / batch * threads + self.thread) * batch + n % batch;
        self.plan.new.wrapping_add(place)
    }

    /// The record that a draw from the loaded ones and this thread's own means.
    /// Others' inserts may not be done yet, and when they are is no seed's matter.
    #[inline]
    fn own(&self, drawn: u64) -> u64 {
        match drawn.checked_sub(self.plan.loaded) {
            None => drawn,
            Some(own) => self.fresh(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::file::parse;

    const CONFIG: &str = "
        load = { records = 1000, key_bytes = 16, value_bytes = 100 }
        [run]
        threads = 3
        mix = { read = 4, update = 1, insert = 2, scan = 1, reverse = 1, delete = 1, rmw = 1 }
        batch = 4
        distribution = 'latest'
    ";

    fn plan(sets: &[&str], ordinal: u64, seed: u64) -> Plan {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        let c = parse(CONFIG, &sets, "x").unwrap();
        Plan::new("run", ordinal, &c.run, &c, seed)
    }

    #[test]
    fn the_seed_and_the_configuration_decide_and_nothing_else() {
        let checksum = plan(&[], 0, 7).checksum(None);
        assert_eq!(checksum, plan(&[], 0, 7).checksum(None));
        assert!(checksum.starts_with("xxh3:") && checksum.len() == 21);
        for other in [
            plan(&[], 0, 8),
            plan(&[], 1, 7),
            plan(&["run.threads=2"], 0, 7),
            plan(&["run.mix.read=5"], 0, 7),
            plan(&["run.batch=5"], 0, 7),
            plan(&["run.scan_length=99"], 0, 7),
            plan(&["run.distribution=uniform"], 0, 7),
            plan(&["load.value_bytes=99"], 0, 7),
            plan(&["load.seed=2"], 0, 7),
        ] {
            assert_ne!(checksum, other.checksum(None));
        }
        // How it is run is no part of it.
        let paced = plan(&["run.rate=10", "run.durability=sync"], 0, 7);
        assert_eq!(checksum, paced.checksum(None));
        assert_ne!(checksum, paced.checksum(Some(3000)));
        assert_eq!(checksum, paced.checksum(Some(3 * CHECKED)));
    }

    #[test]
    fn each_thread_reads_what_is_loaded_or_its_own_and_inserts_meet_nobody() {
        let plan = plan(&["load.order=sequential"], 1, 7);
        let number = |key: &[u8]| u64::from_be_bytes(key[..8].try_into().unwrap());
        let mut inserted = std::collections::HashSet::new();
        let mut of_own = 0;
        for thread in 0..3 {
            let mut mine = std::collections::HashSet::new();
            let mut stream = plan.stream(thread);
            for _ in 0..3000 {
                let op = stream.next();
                for key in stream.keys() {
                    let record = number(key);
                    match op {
                        Op::Insert => {
                            assert!(record >= 1000 + (1 << 56));
                            assert!(inserted.insert(record) && mine.insert(record));
                        }
                        _ if record < 1000 => {}
                        _ => {
                            of_own += 1;
                            assert!(mine.contains(&record), "{op:?} of {record}");
                        }
                    }
                }
            }
        }
        assert!(inserted.len() > 3000 && of_own > 3000);
    }

    #[test]
    fn versions_are_written_once() {
        let mut seen = std::collections::HashSet::new();
        for ordinal in 0..2 {
            let plan = plan(&[], ordinal, 7);
            for thread in 0..3 {
                let mut stream = plan.stream(thread);
                for _ in 0..1000 {
                    stream.next();
                    for (_, version) in stream.records().filter(|(_, v)| *v > 0) {
                        assert!(version > values::LOADED && seen.insert(version));
                    }
                }
            }
        }
    }

    #[test]
    fn shares_add_up() {
        for (n, threads) in [(10, 3), (0, 4), (7, 7), (3, 8)] {
            assert_eq!((0..threads).map(|i| share(n, threads, i)).sum::<u64>(), n);
        }
    }
}
