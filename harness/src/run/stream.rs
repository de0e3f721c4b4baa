//! The operations of each thread: a function of the configuration and the seed,
//! and of nothing else. Neither the time nor what other threads do changes them.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::choose::Chooser;
use super::config::{Config, RunConfig};
use super::keys::KeySpace;
use super::measure::Op;
use super::permute::mix;
use super::values;
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
    value_bytes: usize,
    batch: usize,
    scan_length: u64,
    threads: usize,
    seed: u64,
    /// Records that are there before the phase.
    loaded: u64,
    /// The first record that the phase inserts.
    new: u64,
    /// In every version that the phase writes.
    mark: u64,
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
            chooser: Chooser::new(run.distribution, run.theta, load.records, load.seed),
            keys: KeySpace::new(load.order, load.key_bytes, load.seed),
            value_bytes: load.value_bytes,
            batch: run.batch,
            scan_length: run.scan_length,
            threads: run.threads,
            seed,
            loaded: load.records,
            new: load.records.wrapping_add(ordinal << 56),
            mark: ordinal << 44,
        }
    }

    /// The operations that may occur.
    pub(crate) fn ops(&self) -> impl Iterator<Item = Op> {
        self.mix.ops()
    }

    /// The operations of one thread, from the first on.
    pub(crate) fn stream(&self, thread: usize) -> Stream<'_> {
        Stream {
            plan: self,
            random: random(self.seed, thread, self.phase),
            chooser: self.chooser.clone(),
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
            let count = operations.map_or(CHECKED, |n| share(n, self.threads, thread).min(CHECKED));
            let mut hash = Xxh3::with_seed(thread as u64);
            let mut stream = self.stream(thread);
            for _ in 0..count {
                let op = stream.next();
                hash.update(&[op as u8]);
                hash.update(&(stream.scan_length as u64).to_le_bytes());
                for (key, version) in stream.records() {
                    hash.update(key);
                    hash.update(&version.to_le_bytes());
                    hash.update(&(self.value_bytes as u64).to_le_bytes());
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
        let op = self.plan.mix.draw(&mut self.random);
        self.count = match op {
            Op::Update | Op::Insert | Op::Delete => self.plan.batch,
            _ => 1,
        };
        self.scan_length = match op {
            Op::Scan | Op::Reverse => self.random.random_range(1..=self.plan.scan_length) as usize,
            _ => 0,
        };
        let inserts = op == Op::Insert;
        let writes = matches!(op, Op::Update | Op::Insert | Op::Rmw);
        let visible = self.plan.loaded.saturating_add(self.inserted);
        for i in 0..self.count {
            let record = match &mut self.chooser {
                _ if inserts => self.fresh(self.inserted + i as u64),
                Some(chooser) => {
                    let drawn = chooser.record(&mut self.random, visible);
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
