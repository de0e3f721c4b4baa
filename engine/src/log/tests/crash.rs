//! Crashes at random moments, again and again: what is recovered is a prefix of
//! what was appended, to the byte, and has all that was acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use gaur_iodriver::sync::rng::{Rng, fresh_seed, seeded};
use gaur_iodriver::sync::thread;
use rand::RngExt;

use super::*;
use crate::log::Refused;

/// The store around the log: what was appended, and its superblock.
struct Model {
    ring: Ring,
    device: MemDevice,
    rng: Rng,
    appended: BTreeMap<Csn, Vec<u8>>,
    head: LogHead,
    cut: Csn,
    durable: u64,
    tail: LogTail,
    /// All up to this was acknowledged.
    acked: Csn,
    laps: u64,
}

impl Model {
    fn new(lens: &[u32], seed: u64) -> Self {
        let (ring, bytes) = ring(lens);
        Self {
            ring,
            device: MemDevice::new(bytes, seed),
            rng: seeded(seed),
            appended: BTreeMap::new(),
            head: LogHead::default(),
            cut: 0,
            durable: 0,
            tail: LogTail::default(),
            acked: 0,
            laps: 0,
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

    fn checkpoint(&mut self, log: &Log) {
        let cut = log.freeze();
        // Records may follow before the head is known.
        for _ in 0..self.rng.random_range(0..3) {
            self.append(log, 400);
        }
        self.head = log.cut_head(&cut).unwrap();
        self.cut = cut.csn;
        self.durable = log.durable_position();
        self.acked = self.acked.max(log.durable_csn());
        if self.rng.random_bool(0.9) {
            log.truncate(self.head);
        }
    }

    /// Appends; false if the log is full.
    fn append(&mut self, log: &Log, max: usize) -> bool {
        let ops = self.ops(max);
        let sync = self.rng.random_bool(0.4);
        match log.try_append(&record(&ops, sync)) {
            Ok(csn) => {
                self.appended.insert(csn, ops.as_bytes().to_vec());
                if sync && self.rng.random() {
                    log.wait_durable(csn).unwrap();
                    assert!(log.durable_csn() >= csn);
                } else if sync {
                    log.request_sync(csn);
                }
                self.acked = self.acked.max(log.durable_csn());
                true
            }
            Err(Refused::Full) => false,
            Err(e) => panic!("{e:?}"),
        }
    }

    /// Gets several log blocks in flight at once.
    fn burst(&mut self, log: &Log) {
        self.device.disk.lock().latency = Duration::from_micros(150);
        for _ in 0..self.rng.random_range(0..8) {
            self.append(log, 500);
            log.request_sync(log.last_csn());
            thread::sleep(Duration::from_micros(self.rng.random_range(0..100)));
        }
    }

    fn run(&mut self, incarnation: u32) {
        let mut c = config(&self.ring, incarnation);
        c.in_flight = self.rng.random_range(1..6);
        c.batch = BLOCK as usize * self.rng.random_range(1..20);
        let log = open(&self.ring, &self.device, c, self.head, self.tail);
        assert_eq!(log.durable_csn(), self.tail.last_csn);
        for _ in 0..self.rng.random_range(0..150) {
            match self.rng.random_range(0..40) {
                0 => self.checkpoint(&log),
                1 => thread::sleep(Duration::from_micros(300)),
                _ => {
                    if !self.append(&log, log.max_record()) {
                        self.checkpoint(&log);
                        log.truncate(self.head);
                        log.wait_space().unwrap();
                    }
                }
            }
        }
        if self.rng.random_bool(0.2) {
            let tail = log.shutdown().unwrap();
            self.acked = *self.appended.keys().last().unwrap_or(&0);
            self.durable = tail.position;
            self.device = self.device.crash(&mut self.rng);
        } else {
            self.burst(&log);
            self.acked = self.acked.max(log.durable_csn());
            self.device = self.device.crash(&mut self.rng);
            log.stop("power cut".into());
        }
    }

    fn recover(&mut self) {
        let mut reader = reader(&self.ring, &self.device, self.head, self.cut, self.durable);
        let (records, tail) = read_all(&mut reader).unwrap();
        for (i, (csn, bytes)) in records.iter().enumerate() {
            assert_eq!(*csn, self.cut + 1 + i as u64);
            assert_eq!(self.appended.get(csn), Some(bytes), "commit {csn}");
        }
        assert_eq!(tail.last_csn, self.cut + records.len() as u64);
        assert!(tail.last_csn >= self.acked, "acknowledged commits are lost");
        assert!(tail.position >= self.durable);
        drop(self.appended.split_off(&(tail.last_csn + 1)));
        self.tail = tail;
        self.laps = tail.position / self.ring.len();
    }
}

fn model(lens: &[u32], seed: u64, rounds: u32) -> u64 {
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
    m.laps
}

#[test]
fn acknowledged_commits_survive_every_crash() {
    let fresh = fresh_seed();
    let mut laps = 0;
    for seed in (0..12).chain([fresh]) {
        laps += model(&[90, 40, 200, 3, 64], seed, 12);
        laps += model(&[50, 51], seed, 12);
        laps += model(&[64], seed, 12);
    }
    assert!(laps > 100, "{laps}");
}

#[test]
fn records_larger_than_a_batch_survive_too() {
    // 14 MiB: records up to 1.7 MiB.
    for seed in [1, fresh_seed()] {
        model(&[9000, 19_000], seed, 5);
    }
}
