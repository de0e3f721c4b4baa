//! Worlds: what a seed makes of disk, store and workload. Each world leaves most things
//! usual and has a few extreme, so that over many worlds extremes meet (Groce et al.,
//! *Swarm Testing*, 2012).

use std::time::Duration;

use gaur::{DiscardRate, FormatOptions, OpenOptions};
use gaur_iodriver::sim::{DiscardFill, Fault, FaultKind, OpKind, SimOptions};
use gaur_iodriver::sync::rng::{Rng, seeded};
use gaur_iodriver::sync::schedule::Plan;
use gaur_iodriver::{DurableMethod, IoErrorKind, Latency, LatencyProfile};
use rand::RngExt;

use super::script::{Mix, Script};

/// Faults of the disk while the workload runs, beside power cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// None.
    Calm,
    /// Short transfers, EAGAIN, stalls, failing reads and discards: the store goes on.
    Rough,
    /// A write or flush fails: the store stops.
    Failing,
    /// Writes that are reported as done and are not, or land elsewhere; reads of what
    /// was there before. What follows is damage, or what was there at some commit.
    Lying,
}

/// All that a seed decides.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) disk: SimOptions,
    pub(crate) format: FormatOptions,
    pub(crate) open: OpenOptions,
    pub(crate) mix: Mix,
    pub(crate) plan: Plan,
    pub(crate) trouble: Trouble,
    pub(crate) faults: Vec<Fault>,
    pub(crate) script: Script,
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())].clone()
}

const MIB: u64 = 1 << 20;

impl World {
    /// The world of a seed. Round 0 is that of a fresh disk, later ones go on with what
    /// a power cut left: only what may change between two openings differs.
    pub(crate) fn new(seed: u64, round: u32) -> Self {
        let fixed = &mut seeded(seed ^ 0x00f1_8ed0);
        let block_size = pick(fixed, &[4096, 4096, 4096, 8192, 16384]);
        let logical_block = pick(fixed, &[512, 4096]);
        let scale = u64::from(block_size / 4096);
        let small = fixed.random_bool(0.15);
        let disk = SimOptions {
            capacity: pick(fixed, if small { &[4, 5] } else { &[8, 12, 16, 32] }) * MIB * scale,
            logical_block,
            physical_block: pick(fixed, &[logical_block, 4096]),
            seed,
            discard_fill: pick(
                fixed,
                &[DiscardFill::Garbage, DiscardFill::Zero, DiscardFill::Keep],
            ),
            discard_granularity: pick(fixed, &[4096, 4096, 0]),
            volatile_cache: fixed.random_bool(0.9),
            file: fixed.random_bool(0.3),
            reorder: fixed.random_bool(0.8),
            latency: latency(fixed),
            ..SimOptions::default()
        };
        let format = FormatOptions {
            block_size,
            log_size: Some(
                pick(
                    fixed,
                    if small {
                        &[128]
                    } else {
                        &[128, 128, 256, 1024, 2048]
                    },
                ) * 1024
                    * scale,
            ),
            sparse: disk.file && fixed.random_bool(0.5),
            durable_method: Some(pick(
                fixed,
                &[DurableMethod::Dsync, DurableMethod::WriteFlush],
            )),
            ..FormatOptions::default()
        };
        let rng = &mut seeded(seed ^ u64::from(round) << 48 ^ 0xb0a2);
        let open = open_options(rng, scale);
        let mix = mix(rng, small);
        let trouble = match rng.random_range(0..20) {
            0..11 => Trouble::Calm,
            11..14 => Trouble::Rough,
            14..18 => Trouble::Failing,
            _ => Trouble::Lying,
        };
        let faults = faults(trouble, rng);
        let script = mix.script(rng);
        Self {
            seed,
            disk,
            format,
            open,
            plan: Plan::from_seed(seed ^ u64::from(round) << 32),
            mix,
            trouble,
            faults,
            script,
        }
    }

    /// What is particular about it, in a line.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} B blocks, {} KiB store, {} KiB log, {} KiB cache, {} writer(s), {} steps, {} tree(s), \
             {} keys, {}% sync, large {}‰, {:?}, {}{}{}",
            self.format.block_size,
            self.disk.capacity >> 10,
            self.format.log_size.unwrap_or(0) >> 10,
            self.open.cache_bytes >> 10,
            self.script.threads.len(),
            self.script.steps(),
            self.script.trees,
            self.mix.keys,
            self.mix.sync,
            self.mix.large,
            self.trouble,
            self.plan.policy.name(),
            if self.open.discard { ", discards" } else { "" },
            if self.mix.grow { ", grows" } else { "" },
        )
    }
}

fn latency(rng: &mut Rng) -> LatencyProfile {
    let us = Duration::from_micros;
    match rng.random_range(0..5) {
        0 => LatencyProfile::default(),
        1 => LatencyProfile::all(Latency {
            fixed: us(20),
            jitter: us(80),
        }),
        // Discards that take their time.
        2 => LatencyProfile {
            discard: Latency {
                fixed: us(5000),
                jitter: us(20_000),
            },
            ..LatencyProfile::all(Latency {
                fixed: us(20),
                jitter: us(80),
            })
        },
        3 => LatencyProfile {
            flush: Latency {
                fixed: us(1000),
                jitter: us(3000),
            },
            ..LatencyProfile::all(Latency {
                fixed: us(50),
                jitter: us(500),
            })
        },
        _ => LatencyProfile::all(Latency {
            fixed: us(0),
            jitter: us(5),
        }),
    }
}

fn open_options(rng: &mut Rng, scale: u64) -> OpenOptions {
    let slow = DiscardRate {
        bytes_per_second: 256 << 10,
        per_second: 50,
    };
    let cache_bytes = pick(rng, &[1, 1, 1, 2]) * MIB * scale;
    OpenOptions {
        cache_bytes,
        max_cache_bytes: Some(cache_bytes * 2),
        checkpoint_interval: Duration::from_millis(pick(rng, &[1, 5, 10_000])),
        buffered_interval: Duration::from_millis(pick(rng, &[1, 5, 50])),
        discard: rng.random_bool(0.5),
        discard_rate: pick(rng, &[DiscardRate::UNLIMITED, DiscardRate::default(), slow]),
        follow_size: rng.random_bool(0.5),
        grow_to: rng.random_bool(0.2).then_some(64 * MIB),
        allocator_spread: rng.random_bool(0.2),
        map_memory: pick(rng, &[16 << 20, 64 << 10]),
        ..OpenOptions::default()
    }
}

fn mix(rng: &mut Rng, small: bool) -> Mix {
    let keys = pick(rng, &[10, 60, 300, 3000]);
    let mut mix = Mix {
        writers: pick(rng, &[1, 2, 2, 3, 4, 8]),
        steps: pick(rng, &[20, 60, 150, 400]),
        trees: pick(rng, &[1, 2, 2, 3, 12]),
        keys,
        hot: pick(rng, &[keys, keys, 5]).min(keys),
        sync: pick(rng, &[0, 10, 50, 100]),
        large: pick(rng, &[0, 0, 30, 150]),
        largest: pick(rng, &[10_000, 60_000]),
        usual: pick(rng, &[20, 120, 700]),
        batch: pick(rng, &[3, 8, 30]),
        deletes: pick(rng, &[5, 20, 60]),
        sweeps: pick(rng, &[0, 20, 200]),
        checkpoints: pick(rng, &[5, 30, 100]),
        scans: pick(rng, &[0, 50, 200]),
        transactions: pick(rng, &[0, 15, 60]),
        grow: rng.random_bool(0.2),
        trim: rng.random_bool(0.2),
    };
    if small {
        // Full most of the time.
        mix.large = mix.large.max(400);
        mix.steps = mix.steps.max(150);
        mix.grow |= rng.random_bool(0.4);
        mix.scans = mix.scans.max(50);
        mix.largest = 60_000;
        mix.keys = 3000;
        mix.hot = 3000;
    }
    mix
}

fn faults(trouble: Trouble, rng: &mut Rng) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |op, what, within: u64, rng: &mut Rng| {
        faults.push(Fault::once(op, rng.random_range(0..within), what));
    };
    match trouble {
        Trouble::Calm => {}
        Trouble::Rough => {
            for _ in 0..rng.random_range(1..20) {
                match rng.random_range(0..6) {
                    0 => add(
                        OpKind::Write,
                        FaultKind::Short(rng.random_range(0..9000)),
                        300,
                        rng,
                    ),
                    1 => add(
                        OpKind::Read,
                        FaultKind::Short(rng.random_range(0..9000)),
                        200,
                        rng,
                    ),
                    2 => add(
                        OpKind::Write,
                        FaultKind::Again(rng.random_range(1..4)),
                        300,
                        rng,
                    ),
                    3 => add(
                        OpKind::Read,
                        FaultKind::Again(rng.random_range(1..4)),
                        200,
                        rng,
                    ),
                    4 => add(
                        OpKind::Discard,
                        FaultKind::Fail(IoErrorKind::Failed),
                        20,
                        rng,
                    ),
                    _ => add(OpKind::Grow, FaultKind::Fail(IoErrorKind::NoSpace), 3, rng),
                }
            }
        }
        Trouble::Failing => {
            let kind = pick(rng, &[IoErrorKind::Failed, IoErrorKind::NoSpace]);
            match rng.random_bool(0.6) {
                true => add(OpKind::Write, FaultKind::Fail(kind), 120, rng),
                false => add(OpKind::Flush, FaultKind::Fail(kind), 30, rng),
            }
        }
        Trouble::Lying => {
            let elsewhere = rng.random_range(0..4096_u64) * 4096;
            match rng.random_range(0..4) {
                0 => add(OpKind::Write, FaultKind::Lost, 120, rng),
                1 => add(OpKind::Write, FaultKind::Misdirected(elsewhere), 120, rng),
                2 => add(OpKind::Read, FaultKind::Stale, 100, rng),
                _ => add(OpKind::Flush, FaultKind::Lost, 30, rng),
            }
        }
    }
    faults
}
