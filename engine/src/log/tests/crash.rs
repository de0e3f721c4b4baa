//! Crashes at random moments, again and again: what is recovered is a prefix of
//! what was appended, to the byte, and has all that was acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use gaur_iodriver::sync::rng::{Rng, fresh_seed, seeded};
use gaur_iodriver::sync::thread;
use gaur_iodriver::{Latency, LatencyProfile};
use rand::RngExt;

use super::*;
use crate::error::Error;
use crate::log::Refused;

/// The store around the log: what was appended, and its superblock.
struct Model {
    ring: Ring,
    disk: SimDisk,
    rng: Rng,
    appended: BTreeMap<Csn, Vec<u8>>,
    head: LogHead,
    cut: Csn,
    durable: u64,
    tail: LogTail,
    /// All up to this was acknowledged.
    acked: Csn,
    /// How many commits are Sync, and how many of those are waited for.
    sync: f64,
    wait: f64,
    /// Crashes that left less than was appended.
    lossy: u32,
}

/// The power went.
#[derive(Debug)]
struct Off;

impl From<Error> for Off {
    fn from(e: Error) -> Self {
        assert!(
            matches!(e, Error::OutcomeUnknown { .. } | Error::Stopped(_)),
            "{e}"
        );
        Self
    }
}

impl Model {
    fn new(lens: &[u32], seed: u64) -> Self {
        let (ring, bytes) = ring(lens);
        Self {
            ring,
            disk: disk(bytes, seed),
            rng: seeded(seed),
            appended: BTreeMap::new(),
            head: LogHead::default(),
            cut: 0,
            durable: 0,
            tail: LogTail::default(),
            acked: 0,
            sync: 0.0,
            wait: 0.0,
            lossy: 0,
        }
    }

    fn ops(&mut self, max: usize) -> OpsBuilder {
        let len = match self.rng.random_range(0..20) {
            0 => self.rng.random_range(0..=max - 100),
            1..4 => self.rng.random_range(0..=max / 8),
            _ => self.rng.random_range(0..200),
        };
        let mut value = vec![self.rng.random(); len];
        for _ in 0..len.min(16) {
            let i = self.rng.random_range(0..len);
            value[i] = self.rng.random();
        }
        let mut ops = ops_of(&value);
        if self.rng.random_bool(0.1) {
            ops.put_extents(2, b"x", &[Default::default()]).unwrap();
        }
        ops
    }

    fn checkpoint(&mut self, log: &Log) -> Result<(), Off> {
        let cut = log.freeze();
        // Records may follow before the head is known.
        for _ in 0..self.rng.random_range(0..3) {
            self.append(log, 400)?;
        }
        let head = log.cut_head(&cut)?;
        // The superblock's write may not come to pass.
        if self.rng.random_bool(0.9) {
            self.head = head;
            self.cut = cut.csn;
            self.durable = log.durable_position();
            if self.rng.random_bool(0.9) {
                log.truncate(head);
            }
        }
        Ok(())
    }

    /// Appends; false if the log is full.
    fn append(&mut self, log: &Log, max: usize) -> Result<bool, Off> {
        let ops = self.ops(max);
        let sync = self.rng.random_bool(self.sync);
        match log.try_append(&record(&ops, sync)) {
            Ok(csn) => {
                self.appended.insert(csn, ops.as_bytes().to_vec());
                if sync && self.rng.random_bool(self.wait) {
                    log.wait_durable(csn)?;
                    assert!(log.durable_csn() >= csn);
                } else if sync {
                    log.request_sync(csn);
                    // Time for the log thread to take it alone.
                    thread::sleep(Duration::from_micros(self.rng.random_range(0..60)));
                }
                Ok(true)
            }
            Err(Refused::Full) => Ok(false),
            Err(Refused::Stopped) => Err(Off),
            Err(e) => panic!("{e:?}"),
        }
    }

    fn work(&mut self, log: &Log) -> Result<(), Off> {
        for _ in 0..self.rng.random_range(0..150) {
            match self.rng.random_range(0..40) {
                0 => self.checkpoint(log)?,
                1 => thread::sleep(Duration::from_micros(300)),
                _ => {
                    if !self.append(log, log.max_record())? {
                        self.checkpoint(log)?;
                        log.truncate(self.head);
                        if log.usage().used * 2 <= log.usage().blocks {
                            log.wait_space()?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, incarnation: u32) {
        self.sync = [0.2, 0.4, 1.0][self.rng.random_range(0..3)];
        self.wait = [0.0, 0.5, 1.0][self.rng.random_range(0..3)];
        let mut c = config(&self.ring, incarnation);
        c.in_flight = self.rng.random_range(1..6);
        c.batch = BLOCK as usize * self.rng.random_range(1..20);
        c.seal = incarnation > 1;
        let log = open(&self.ring, &self.disk, c, self.head, self.tail);
        assert_eq!(log.durable_csn(), self.tail.last_csn);
        let some = Latency {
            fixed: Duration::ZERO,
            jitter: Duration::from_micros([0, 50, 600][self.rng.random_range(0..3)]),
        };
        self.disk.set_latency(LatencyProfile::all(some));
        if self.rng.random_bool(0.8) {
            self.disk.crash_after(self.rng.random_range(1..100));
        }
        if self.work(&log).is_ok()
            && self.rng.random_bool(0.3)
            && let Ok(tail) = log.shutdown()
        {
            assert_eq!(tail.last_csn, log.last_csn());
            self.durable = tail.position;
        }
        // Whatever is acknowledged after this is not asked for.
        self.acked = log.durable_csn();
        self.disk = self.disk.crash(self.rng.random());
        self.disk.set_latency(LatencyProfile::default());
        drop(log);
    }

    fn recover(&mut self) {
        let mut reader = reader(&self.ring, &self.disk, self.head, self.cut, self.durable);
        let (records, tail) = read_all(&mut reader).unwrap();
        for (i, (csn, bytes)) in records.iter().enumerate() {
            assert_eq!(*csn, self.cut + 1 + i as u64);
            assert_eq!(self.appended.get(csn), Some(bytes), "commit {csn}");
        }
        assert_eq!(tail.last_csn, self.cut + records.len() as u64);
        assert!(tail.last_csn >= self.acked, "acknowledged commits are lost");
        assert!(tail.position >= self.durable);
        let lost = self.appended.split_off(&(tail.last_csn + 1));
        self.lossy += u32::from(!lost.is_empty());
        self.tail = tail;
    }
}

/// Returns the laps made and the crashes that lost something.
fn model(lens: &[u32], seed: u64, rounds: u32) -> (u64, u32) {
    println!("seed {seed} on {lens:?}");
    let mut m = Model::new(lens, seed);
    for incarnation in 1..=rounds {
        m.run(incarnation);
        m.recover();
        if m.rng.random_bool(0.2) {
            // Recovery itself crashed, or ran twice.
            m.recover();
        }
    }
    (m.tail.position / m.ring.len(), m.lossy)
}

#[test]
fn acknowledged_commits_survive_every_crash() {
    let (mut laps, mut lossy) = (0, 0);
    for seed in (0..10).chain([fresh_seed()]) {
        for lens in [&[90, 40, 200, 3, 64][..], &[50, 51], &[64]] {
            let (l, n) = model(lens, seed, 12);
            laps += l;
            lossy += n;
        }
    }
    assert!(laps > 50 && lossy > 50, "{laps} laps, {lossy} lossy");
}

#[test]
fn records_larger_than_a_batch_survive_too() {
    // 14 MiB: records up to 1.7 MiB.
    for seed in [1, fresh_seed()] {
        model(&[9000, 19_000], seed, 5);
    }
}
