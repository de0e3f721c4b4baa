//! Power cuts, many of them: stores that live through one after the other, and a
//! record of every commit to compare them with.
//!
//! A *story* is one store on one simulated disk, from its format on. In each round
//! several threads write until the power fails, at a write or flush that the seed
//! chooses. What the disk then holds (any part of what was not flushed, torn) is
//! opened again, sometimes with the power failing during recovery too. The store
//! says with which commit it ends; from then on everything is determined:
//!
//! - No commit acknowledged as durable is after that one.
//! - The contents are exactly those of all commits up to it, in the order of their
//!   numbers, each whole; there is no number that nobody was given.
//! - A full check of what the power cut left, and of the store after a close, finds
//!   nothing wrong: every block is accounted for.
//! - Scans both ways agree, and so do a read-only opening, which writes nothing,
//!   and the store after further writes, a checkpoint, a close and an opening.
//!
//! Every commit that may be in the log has a number that its thread knows: an
//! acknowledged one, or one whose outcome is unknown. So threads need no keys of
//! their own, and conflicting commits are checked for their order too.

#![allow(dead_code)] // Each test uses a part.

pub(crate) mod history;
pub(crate) mod writer;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gaur::check::RecoveryFacts;
use gaur::{CheckOptions, DiscardRate, FormatOptions, OpenOptions, Store};
use gaur_iodriver::DurableMethod;
use gaur_iodriver::sim::{DiscardFill, SimDisk, SimOptions};
use gaur_iodriver::sync::rng::{Rng, seeded};
use rand::RngExt;

use history::{Done, Known};
use writer::{Mix, TREES, Writer};

/// What a campaign did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) stories: u64,
    /// Power cuts under the workload, and during recovery.
    pub(crate) cuts: u64,
    pub(crate) recovery_cuts: u64,
    pub(crate) commits: u64,
    /// Commits that the power cuts took with them.
    pub(crate) lost: u64,
    pub(crate) replayed: u64,
    /// Openings that found one superblock behind the other.
    pub(crate) half_pairs: u64,
    pub(crate) checkpoints: u64,
    pub(crate) written_early: u64,
    pub(crate) evicted: u64,
    pub(crate) full: u64,
    /// Transactions that met others.
    pub(crate) conflicts: u64,
    /// Discards sent, blocks freed without one, and trims of all free space.
    pub(crate) discards: [u64; 3],
    pub(crate) read_only: u64,
    pub(crate) calm: u64,
    /// Superblock copies destroyed on purpose.
    pub(crate) superblocks_lost: u64,
    /// Times the device was made larger, and was found larger after a power cut.
    pub(crate) enlarged: u64,
    pub(crate) grown: u64,
    /// Full checks, and how long they took.
    pub(crate) checks: u64,
    pub(crate) check_time: Duration,
    /// Different contents that power cuts left.
    pub(crate) images: HashSet<u64>,
}

impl Tally {
    pub(crate) fn merge(&mut self, o: Self) {
        self.stories += o.stories;
        self.cuts += o.cuts;
        self.recovery_cuts += o.recovery_cuts;
        self.commits += o.commits;
        self.lost += o.lost;
        self.replayed += o.replayed;
        self.half_pairs += o.half_pairs;
        self.checkpoints += o.checkpoints;
        self.written_early += o.written_early;
        self.evicted += o.evicted;
        self.full += o.full;
        self.conflicts += o.conflicts;
        for (mine, others) in self.discards.iter_mut().zip(o.discards) {
            *mine += others;
        }
        self.read_only += o.read_only;
        self.calm += o.calm;
        self.checks += o.checks;
        self.superblocks_lost += o.superblocks_lost;
        self.enlarged += o.enlarged;
        self.grown += o.grown;
        self.check_time += o.check_time;
        self.images.extend(o.images);
    }

    fn store(&mut self, store: &Store) {
        let stats = store.stats();
        let get = |g, n| stats.get(g, n).unwrap_or(0);
        self.checkpoints += get("checkpoints", "checkpoints");
        self.written_early += get("cache", "written_early");
        self.evicted += get("cache", "evicted");
        self.discards[0] += get("discard", "requests");
        self.discards[1] += get("discard", "skipped_blocks");
        assert_eq!(get("waits", "under_latch"), 0);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} stories, {} power cuts and {} during recovery ({} different images): \
             {} commits, {} lost with the power, {} replayed, {} superblock pairs completed, \
             {} checkpoints, {} nodes written early, {} evicted, {} calm reopenings, \
             {} read-only, {} times full, {} conflicts, {} superblocks destroyed, \
             {} times enlarged, {} growths survived the power cut, \
             {} discards, {} blocks without one, {} trims, \
             {} checks in {:.1?}",
            self.stories,
            self.cuts,
            self.recovery_cuts,
            self.images.len(),
            self.commits,
            self.lost,
            self.replayed,
            self.half_pairs,
            self.checkpoints,
            self.written_early,
            self.evicted,
            self.calm,
            self.read_only,
            self.full,
            self.conflicts,
            self.superblocks_lost,
            self.enlarged,
            self.grown,
            self.discards[0],
            self.discards[1],
            self.discards[2],
            self.checks,
            self.check_time,
        )
    }
}

/// Ends the process when a round hangs, and says which.
#[derive(Clone, Debug)]
pub(crate) struct Watchdog(Arc<Mutex<(Instant, String)>>);

impl Watchdog {
    /// Starts one; `limit` is for each [`Watchdog::feed`].
    pub(crate) fn start(limit: Duration) -> Self {
        let state = Arc::new(Mutex::new((Instant::now(), String::new())));
        let weak = Arc::downgrade(&state);
        std::thread::spawn(move || {
            while let Some(state) = weak.upgrade() {
                let now = state.lock().unwrap().clone();
                if now.0.elapsed() > limit {
                    eprintln!("HANGS for {limit:?}: {}", now.1);
                    std::process::abort();
                }
                drop(state);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self(state)
    }

    pub(crate) fn feed(&self, what: String) {
        *self.0.lock().unwrap() = (Instant::now(), what);
    }
}

/// One store and all that happens to it.
pub(crate) struct Story {
    seed: u64,
    rng: Rng,
    disk: SimDisk,
    store: Option<Store>,
    options: OpenOptions,
    mix: Mix,
    /// Power cuts come within this many writes and flushes.
    reach: u64,
    known: Known,
    round: u64,
    watchdog: Watchdog,
    /// Both superblocks verified at the last check.
    whole_pair: bool,
    /// What that check said recovery would leave.
    foreseen: RecoveryFacts,
    pub(crate) tally: Tally,
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())].clone()
}

impl Story {
    /// Formats a store; the seed decides what it is like.
    pub(crate) fn new(seed: u64, watchdog: &Watchdog) -> Self {
        Self::on(seed, watchdog, None)
    }

    /// A store so small that it is full most of the time.
    pub(crate) fn near_full(seed: u64, watchdog: &Watchdog) -> Self {
        Self::on(seed, watchdog, Some(16))
    }

    fn on(seed: u64, watchdog: &Watchdog, small: Option<u64>) -> Self {
        let mut rng = seeded(seed);
        let r = &mut rng;
        let block_size = pick(r, &[4096, 4096, 4096, 4096, 8192, 16384]);
        let disk = SimDisk::new(SimOptions {
            capacity: small.unwrap_or(pick(r, &[32, 48, 64])) << 20,
            logical_block: pick(r, &[512, 4096]),
            physical_block: 4096,
            seed,
            discard_fill: pick(r, &[DiscardFill::Garbage, DiscardFill::Zero]),
            ..SimOptions::default()
        });
        let format = FormatOptions {
            block_size,
            log_size: Some(4 << 20),
            durable_method: Some(DurableMethod::Dsync),
            ..FormatOptions::default()
        };
        Store::format_device(disk.device(), &format).unwrap();
        // Discards that are done at once, that wait, and that seldom get their turn.
        let slow = DiscardRate {
            bytes_per_second: 256 << 10,
            per_second: 50,
        };
        let rates = [DiscardRate::UNLIMITED, DiscardRate::default(), slow];
        let options = OpenOptions {
            discard_rate: rates[(seed % 3) as usize],
            cache_bytes: (pick(r, &[1, 1, 4]) * u64::from(block_size / 4096)) << 20,
            checkpoint_interval: Duration::from_millis(pick(r, &[2, 10, 10_000])),
            buffered_interval: Duration::from_millis(pick(r, &[1, 5, 50])),
            discard: r.random_bool(0.5),
            follow_size: r.random_bool(0.5),
            ..OpenOptions::default()
        };
        let mut mix = Mix {
            writers: pick(r, &[1, 2, 4, 4, 4]),
            keys: pick(r, &[30, 300, 300, 3000, 8000]),
            sync: pick(r, &[5, 40, 90]),
            large: pick(r, &[0, 20, 100]),
            batch: pick(r, &[4, 12, 40]),
            checkpoints: pick(r, &[5, 30, 100]),
        };
        let mut reach = pick(r, &[30, 100, 300]);
        if small.is_some() {
            (mix.keys, mix.large, reach) = (8000, 150, 10 * reach);
        }
        Self {
            seed,
            rng,
            disk,
            store: None,
            options,
            mix,
            reach,
            known: Known::default(),
            round: 0,
            watchdog: watchdog.clone(),
            whole_pair: false,
            foreseen: RecoveryFacts::default(),
            tally: Tally {
                stories: 1,
                ..Tally::default()
            },
        }
    }

    /// What the seed decided.
    pub(crate) fn describe(&self) -> String {
        format!(
            "seed {}, {:?}, cache {} MiB, checkpoints every {:?}, buffered {:?}, discard {} at {:?}, reach {}",
            self.seed,
            self.mix,
            self.options.cache_bytes >> 20,
            self.options.checkpoint_interval,
            self.options.buffered_interval,
            self.options.discard,
            self.options.discard_rate,
            self.reach
        )
    }

    /// One round: write until the power fails, recover, compare, and sometimes go
    /// on in peace.
    pub(crate) fn round(&mut self) {
        self.round += 1;
        self.watch("the workload");
        let store = match self.store.take() {
            Some(store) => store,
            None => self.open(),
        };
        let before = store.capacity();
        if self.options.follow_size && self.rng.random_bool(0.3) {
            self.enlarge();
        }
        let cut = self.rng.random_range(1..=self.reach);
        self.disk.crash_after(cut);
        let view = self.rng.random_bool(0.2).then(|| self.old_view(&store));
        let done = self.write(&store, 5000);
        self.disk.power_off();
        self.tally.store(&store);
        drop(view);
        self.watch("ending after the power cut");
        if self.rng.random_bool(0.3) {
            assert!(store.close().is_err(), "a close without power");
        } else {
            drop(store);
        }
        self.cut_power();
        self.tally.cuts += 1;
        while self.rng.random_bool(0.3) {
            self.cut_during_recovery();
        }
        if self.rng.random_bool(0.2) {
            self.lose_a_superblock();
        }
        if self.rng.random_bool(0.1) {
            self.look(&done);
        }
        self.watch("recovery");
        let store = self.open();
        self.recovered(&store, done);
        assert!(store.capacity() >= before, "the store shrank");
        self.tally.grown += u64::from(store.capacity() > before);
        self.store = Some(store);
        if self.rng.random_bool(0.3) {
            self.calm();
        }
    }

    /// Somebody makes the device larger while the store is open, which it takes in
    /// when it next looks.
    fn enlarge(&mut self) {
        let have = self.disk.device().geometry().capacity;
        let more = pick(&mut self.rng, &[16 << 10, 1 << 20, 30 << 20, 150 << 20]);
        if have + more <= 400 << 20 {
            self.disk.set_capacity(have + more);
            self.tally.enlarged += 1;
        }
    }

    fn watch(&self, what: &str) {
        let (seed, round) = (self.seed, self.round);
        self.watchdog
            .feed(format!("seed {seed}, round {round}: {what}"));
    }

    fn open(&self) -> Store {
        Store::open_device(self.disk.device(), &self.options)
            .unwrap_or_else(|e| panic!("round {}: {e}", self.round))
    }

    /// A scan begun and not ended: it pins what it looks at.
    fn old_view(&self, store: &Store) -> Option<gaur::Scan> {
        let mut scan = store.open_tree(TREES[0]).ok()?.iter().ok()?;
        let _ = scan.next();
        Some(scan)
    }

    fn write(&mut self, store: &Store, limit: usize) -> Done {
        let mut all = Done::default();
        let (disk, mix, label) = (&self.disk, &self.mix, self.round);
        let rngs: Vec<Rng> = (0..mix.writers)
            .map(|_| seeded(self.rng.random()))
            .collect();
        std::thread::scope(|scope| {
            let threads: Vec<_> = rngs
                .into_iter()
                .zip(0..)
                .map(|(rng, number)| {
                    let writer = Writer::new(store, disk, mix, rng, (number, label));
                    scope.spawn(move || writer.run(limit))
                })
                .collect();
            for t in threads {
                match t.join() {
                    Ok(done) => all.merge(done),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        self.tally.commits += all.commits.len() as u64;
        self.tally.full += all.full;
        self.tally.conflicts += all.conflicts;
        self.tally.discards[2] += all.trims;
        all
    }

    fn cut_power(&mut self) {
        self.disk = self.disk.crash(self.rng.random());
        self.tally.images.insert(self.disk.image_hash());
        self.check("what the power cut left");
    }

    /// Every block accounted for, every node, value and log block sound.
    fn check(&mut self, what: &str) {
        self.watch(what);
        let begun = Instant::now();
        let report = gaur::check_device(self.disk.device(), &CheckOptions::default())
            .unwrap_or_else(|e| panic!("checking {what}: {e}"));
        assert!(report.clean, "{what}: {:?}", report.problems);
        self.tally.checks += 1;
        self.tally.check_time += begun.elapsed();
        assert_eq!(report.recovery.fails, None, "{what}");
        self.foreseen = report.recovery;
        self.whole_pair = report.superblocks.iter().all(|s| s.decoded.is_some());
    }

    /// Destroys one superblock copy of two that verify: either alone loses nothing.
    fn lose_a_superblock(&mut self) {
        if self.whole_pair {
            let at = pick(&mut self.rng, &[0, 1 << 20]);
            self.disk.corrupt(at, 4096);
            self.tally.superblocks_lost += 1;
        }
    }

    /// Opens the store and has the power fail at once, or in the checkpoint that
    /// follows.
    fn cut_during_recovery(&mut self) {
        self.watch("a power cut during recovery");
        self.disk.crash_after(self.rng.random_range(1..=12));
        if let Ok(store) = Store::open_device(self.disk.device(), &self.options) {
            while store.checkpoint().is_ok() {}
        }
        assert!(!self.disk.is_powered(), "failed with the power on");
        self.cut_power();
        self.tally.recovery_cuts += 1;
    }

    /// A read-only opening sees the same and writes nothing.
    fn look(&mut self, done: &Done) {
        self.watch("a read-only opening");
        let options = OpenOptions {
            read_only: true,
            ..self.options.clone()
        };
        let store = Store::open_device(self.disk.device(), &options).unwrap();
        let mut known = self.known.clone();
        let copy = Done {
            commits: done.commits.clone(),
            created: done.created.clone(),
            ..*done
        };
        known.settle(copy, store.recovery().last_csn);
        known.compare(&store, "read-only");
        store.close().unwrap();
        let stats = self.disk.stats();
        assert_eq!((stats.writes, stats.flushes, stats.discards), (0, 0, 0));
        self.tally.read_only += 1;
    }

    fn recovered(&mut self, store: &Store, done: Done) {
        let report = store.recovery().clone();
        self.tally.replayed += report.replayed;
        self.tally.half_pairs += u64::from(!report.superblocks_behind.is_empty());
        let when = format!("round {} after recovery", self.round);
        self.tally.lost += self.known.settle(done, report.last_csn);
        self.known.compare(store, &when);
        // What the last check foresaw, if nothing was written since.
        let foreseen = std::mem::take(&mut self.foreseen);
        if foreseen.verified {
            assert_eq!(foreseen.last_csn, report.last_csn, "{when}");
            let trees = foreseen.trees;
            let records = trees.iter().map(|t| (t.name.clone(), t.records));
            let there = self.known.sizes().map(|(name, n)| (name, Some(n)));
            assert!(records.eq(there), "{when}: foreseen were {trees:?}");
        }
    }

    /// Goes on without a power cut; what is closed or dropped then is all there.
    fn calm(&mut self) {
        self.watch("writing in peace");
        let store = self.store.take().expect("just opened");
        let done = self.write(&store, 20);
        let last = store.flush().unwrap();
        self.known.settle(done, last);
        self.known.compare(&store, "after writing in peace");
        let clean = self.rng.random_bool(0.5);
        self.tally.store(&store);
        if clean {
            store.close().unwrap();
            self.check("after a close");
        } else {
            store.checkpoint().unwrap();
            self.known.compare(&store, "after a checkpoint");
            drop(store);
        }
        self.watch("reopening in peace");
        let store = self.open();
        let report = store.recovery().clone();
        assert_eq!(report.clean, clean);
        assert!(!clean || report.replayed == 0, "{report:?}");
        self.recovered(&store, Done::default());
        assert_eq!(self.known.csn, last);
        self.tally.calm += 1;
        if self.rng.random_bool(0.5) {
            self.store = Some(store);
        } else {
            store.close().unwrap();
        }
    }
}
