//! `gaur experiment`: measurements behind the design.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::experiment::fill::child::Orders;
use crate::experiment::{
    bulk, drops, fill, held, huge, multi_get, rehearse, scaling, snapshots, two_stage,
};
use crate::failure::Outcome;
use crate::units::Size;

const HELP: &str = "\
The file must not be there; it is made for the experiment and removed afterwards.

Examples:
  gaur experiment two-stage
  gaur experiment two-stage --path /mnt/experiment.store --seconds 10 --seed 7
  gaur experiment scaling --dry-run
  gaur experiment cow --quick --json cow.json --plots cow
  gaur experiment cow --writers 16 --map cold --latency 1ms";

/// Measure what the design claims, on a file the experiment makes itself.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ExperimentArgs {
    #[command(subcommand)]
    what: What,
}

impl ExperimentArgs {
    /// Whether to print JSON, of the one that can.
    pub(super) fn json(&mut self) -> Option<&mut bool> {
        match &mut self.what {
            What::Fill(a) => Some(&mut a.json),
            _ => None,
        }
    }

    /// The experiment's name, if it gives text alone.
    pub(super) fn unstructured(&self) -> Option<&'static str> {
        match &self.what {
            What::TwoStage(_) => Some("two-stage"),
            What::Cow(_) => Some("cow"),
            What::Scaling(_) => Some("scaling"),
            What::Fill(_) => None,
            What::Huge(_) => Some("huge"),
            What::Bulk(_) => Some("bulk"),
            What::Held(_) => Some("held"),
            What::Snapshots(_) => Some("snapshots"),
            What::Drops(_) => Some("drops"),
            What::MultiGet(_) => Some("multi-get"),
        }
    }
}

#[derive(Debug, Subcommand)]
enum What {
    /// Many writers on a small hot tree, with and without a slow allocator.
    ///
    /// Rounds of both kinds in turn; fails if the writers' p99 with the slow
    /// allocator is more than 1.5 times that without, if anything waited under a
    /// latch, if the reservations do not add up, or if an operation restarted for
    /// space more than twice in a generation.
    TwoStage(TwoStageArgs),
    /// Copy-on-write inline, in two stages, and with the allocator thread.
    ///
    /// The same puts with three ways to get a block for a copy: reserved under the
    /// latches of the path, I/O included (inline); reserved by the writer with nothing
    /// held (two-stage); taken from what an allocator thread reserved ahead
    /// (two-stage+thread, the engine as it is used). By 1 to 64 writers, with the
    /// free-space map in memory or read from the device, with latency added to each
    /// I/O of the store, with checkpoints each 200 ms and without. Settings come in
    /// random order, the modes directly after each other; medians over rounds.
    ///
    /// Needs a build with `--features experiment-cow`; no other can copy inline. Takes
    /// 20 minutes, 3 with --quick; 1 GiB of disk and 250 MiB of memory. Ctrl-C ends it
    /// and tells what was measured. Fails only if reservations do not add up.
    Cow(super::cow::CowArgs),
    /// Puts and gets by 1 and 2 threads, beside a memory-bound loop.
    Scaling(ScalingArgs),
    /// Fill a store until it is full, read back, empty it, and again.
    ///
    /// Records of 16 bytes to 1 MiB by many writers, until a small put is refused;
    /// then all are read back and deleted. Some cycles run in a process that is
    /// killed by SIGKILL at a random moment. Fails if anything acknowledged is lost,
    /// if a delete is refused, if check finds anything, or if more than 2 % fewer or
    /// more records fit than in the first cycle.
    Fill(FillArgs),
    /// A sparse store of 8 TiB: what making, opening and using it costs.
    ///
    /// Fails if format takes more than 2 s or an open more than 0.5 s, if resident
    /// memory beside the cache is ever above 64 MiB, if more map blocks are in memory
    /// than may be, or if none had to be read to serve a request. Takes about 1 GiB of
    /// disk, and a minute, with blocks of 4 KiB.
    Huge(HugeArgs),
    /// Sorted bulk load: the share of the device's sequential write rate that it reaches.
    ///
    /// In turn, round by round, as many bytes as a tree of the records takes are written
    /// to free space of the store, and the records are loaded into a new tree. Tells the
    /// rates, the share, and what limits it. Needs disk for a tree a round, and one more.
    Bulk(BulkArgs),
    /// A snapshot held while the store is overwritten several times.
    ///
    /// In turn, round by round: with nothing held, with a snapshot in memory, with a named
    /// one. Fails if the writers keep less than 80 % of their speed, if memory is ever
    /// above the cache, a tenth of it and 64 MiB, or if the snapshot does not read as it
    /// did. What it leaves behind when it is let go of is told.
    Held(HeldArgs),
    /// Thousands of snapshots a second beside writers.
    ///
    /// Writers move amounts between ten keys; each snapshot adds them up. Fails if a sum is
    /// ever another, if the rate is not reached, or if the writers keep less than 70 % of
    /// their speed without snapshots, which is measured in turn.
    Snapshots(SnapshotsArgs),
    /// Drop a large tree, and delete as large a range, beside writers.
    ///
    /// Fails if a put beside it ever takes longer than 50 ms.
    Drops(DropsArgs),
    /// multi_get on a store much larger than its cache, beside the device's own rate.
    ///
    /// From one thread. The device alone has as many reads in flight as a call has keys.
    /// Fails if multi_get reads less than 80 % as many blocks a second.
    MultiGet(MultiGetArgs),
}

#[derive(Debug, Args)]
struct HeldArgs {
    /// The file for the store; made for it, and removed afterwards.
    #[arg(long, value_name = "FILE", default_value = "held.store")]
    path: PathBuf,
    /// Records, of 116 bytes each.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// How often all of them are overwritten.
    #[arg(long, default_value_t = 5)]
    times: u64,
    /// Writers.
    #[arg(long, default_value_t = 2)]
    writers: u64,
    /// The memory budget.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    cache: Size,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tell what would be made, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct SnapshotsArgs {
    #[command(flatten)]
    common: Common,
    /// Groups of ten keys.
    #[arg(long, default_value_t = 10_000)]
    groups: u64,
    /// Writers.
    #[arg(long, default_value_t = 4)]
    writers: u64,
    /// Snapshots a second.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Milliseconds that each is held.
    #[arg(long, default_value_t = 10)]
    held: u64,
}

#[derive(Debug, Args)]
struct DropsArgs {
    /// The file for the store; made for it, and removed afterwards.
    #[arg(long, value_name = "FILE", default_value = "drops.store")]
    path: PathBuf,
    /// Records of the tree, and of the range.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Writers.
    #[arg(long, default_value_t = 4)]
    writers: u64,
    /// Puts a second of each.
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
    /// Seconds of each phase, at least.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tell what would be made, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct MultiGetArgs {
    #[command(flatten)]
    common: Common,
    /// The memory budget.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    cache: Size,
    /// The store's size in caches.
    #[arg(long, default_value_t = 8)]
    times: u64,
    /// Keys of one call.
    #[arg(long, default_value_t = 64)]
    keys: usize,
}

#[derive(Debug, Args)]
struct BulkArgs {
    /// The file for the store; made for it, and removed afterwards.
    #[arg(long, value_name = "FILE", default_value = "bulk.store")]
    path: PathBuf,
    /// Records, of a key of 16 bytes each.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Bytes of each value, at most 1000.
    #[arg(long, default_value_t = 100)]
    value_bytes: u64,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Load a last tree by ordinary commits, for comparison.
    #[arg(long)]
    commits: bool,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tell what would be made, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Common {
    /// The file for the store; made for it, and removed afterwards.
    #[arg(long, value_name = "FILE", default_value = "experiment.store")]
    path: PathBuf,
    /// Seconds for each cell.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tell what would be made, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct TwoStageArgs {
    #[command(flatten)]
    common: Common,
    /// Writers.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// Puts a second by all writers together.
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Milliseconds added to each I/O of the allocator.
    #[arg(long, default_value_t = 5)]
    delay: u64,
}

#[derive(Debug, Args)]
struct ScalingArgs {
    #[command(flatten)]
    common: Common,
    /// Records in the store, all cached.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
}

#[derive(Debug, Args)]
struct HugeArgs {
    /// The file for the store; must not exist, and is removed afterwards.
    #[arg(long, value_name = "FILE", default_value = "huge.store")]
    path: PathBuf,
    /// The size of the store.
    #[arg(long, value_name = "SIZE", default_value = "8TiB")]
    size: Size,
    /// Bytes per block: 4KiB, 8KiB or 16KiB.
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    block_size: Size,
    /// Memory for map blocks while the store is used.
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    map_memory: Size,
    /// Seconds of use.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave the file.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct FillArgs {
    /// The file for the store; made anew and removed afterwards.
    #[arg(long, value_name = "FILE", default_value = "fill.store")]
    path: PathBuf,
    /// Its size.
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    size: Size,
    /// Cycles.
    #[arg(long, default_value_t = 20)]
    cycles: u32,
    /// Writers.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    writers: u16,
    /// One in so many cycles is killed; 0: none.
    #[arg(long, value_name = "N", default_value_t = 10)]
    kill_every: u32,
    /// The memory budget.
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    cache: Size,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the summary as JSON, without the cycles' lines.
    #[arg(long)]
    json: bool,
}

/// Fill and empty until killed; started by `gaur experiment fill` alone.
#[derive(Debug, Args)]
pub(crate) struct FillChildArgs {
    path: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    writers: u16,
    #[arg(long)]
    cache: u64,
}

pub(crate) fn fill_child(a: &FillChildArgs) -> Outcome {
    fill::child::serve(&Orders {
        path: a.path.clone(),
        seed: a.seed,
        writers: a.writers,
        cache: a.cache,
    })
}

pub(crate) fn experiment(args: &ExperimentArgs) -> Outcome {
    match &args.what {
        What::TwoStage(a) => {
            if a.common.dry_run {
                return rehearse(&a.common.path, two_stage::STORE_BYTES);
            }
            two_stage::run(&two_stage::Plan {
                path: a.common.path.clone(),
                seconds: a.common.seconds,
                rounds: a.common.rounds,
                seed: a.common.seed,
                writers: a.writers,
                rate: a.rate,
                delay: std::time::Duration::from_millis(a.delay),
            })
        }
        What::Cow(a) => a.run(),
        What::Scaling(a) => {
            let plan = scaling::Plan {
                path: a.common.path.clone(),
                seconds: a.common.seconds,
                rounds: a.common.rounds,
                seed: a.common.seed,
                records: a.records,
            };
            if a.common.dry_run {
                return rehearse(&plan.path, plan.store_bytes());
            }
            scaling::run(&plan)
        }
        What::Fill(a) => fill::run(&fill::Plan {
            path: a.path.clone(),
            size: a.size.0,
            cycles: a.cycles,
            writers: a.writers,
            kill_every: a.kill_every,
            cache: a.cache.0,
            seed: a.seed,
            json: a.json,
        }),
        What::Bulk(a) => {
            let plan = bulk::Plan {
                path: a.path.clone(),
                records: a.records,
                value_bytes: a.value_bytes,
                rounds: a.rounds,
                seed: a.seed,
                commits: a.commits,
            };
            if a.dry_run {
                return rehearse(&plan.path, plan.store_bytes());
            }
            bulk::run(&plan)
        }
        What::Held(a) => {
            let plan = held::Plan {
                path: a.path.clone(),
                records: a.records,
                times: a.times,
                writers: a.writers,
                cache: a.cache.0,
                rounds: a.rounds,
                seed: a.seed,
            };
            if a.dry_run {
                return rehearse(&plan.path, plan.store_bytes());
            }
            held::run(&plan)
        }
        What::Snapshots(a) => {
            if a.common.dry_run {
                return rehearse(&a.common.path, snapshots::STORE_BYTES);
            }
            snapshots::run(&snapshots::Plan {
                path: a.common.path.clone(),
                groups: a.groups,
                writers: a.writers,
                rate: a.rate,
                held: std::time::Duration::from_millis(a.held),
                seconds: a.common.seconds,
                rounds: a.common.rounds,
                seed: a.common.seed,
            })
        }
        What::Drops(a) => {
            let plan = drops::Plan {
                path: a.path.clone(),
                records: a.records,
                writers: a.writers,
                rate: a.rate,
                seconds: a.seconds,
                seed: a.seed,
            };
            if a.dry_run {
                return rehearse(&plan.path, plan.store_bytes());
            }
            drops::run(&plan)
        }
        What::MultiGet(a) => {
            let plan = multi_get::Plan {
                path: a.common.path.clone(),
                cache: a.cache.0,
                times: a.times,
                keys: a.keys,
                seconds: a.common.seconds,
                rounds: a.common.rounds,
                seed: a.common.seed,
            };
            if a.common.dry_run {
                return rehearse(&plan.path, plan.store_bytes());
            }
            multi_get::run(&plan)
        }
        What::Huge(a) => huge::run(&huge::Plan {
            path: a.path.clone(),
            size: a.size.0,
            block_size: a.block_size.0,
            map_memory: a.map_memory.0,
            seconds: a.seconds,
            seed: a.seed,
            keep: a.keep,
        }),
    }
}
