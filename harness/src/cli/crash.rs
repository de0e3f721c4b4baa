//! `gaur crash`, and the child it starts.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::crash::child::{self, Orders};
use crate::crash::{self, Campaign};
use crate::failure::{FINE, Failure, Outcome};
use crate::run::config::Driver;
use crate::units::{Size, Span};
use crate::{interrupt, output, units};

const HELP: &str = "\
Each round a child process writes with many threads, mixing Sync and Buffered,
single writes and batches over two trees, and is killed by SIGKILL at a random
moment; recovery is killed too at times. Then: every acknowledged Sync commit is
there, what is there is a prefix of the commits, batches are whole, check is clean.

A file is made for it, and removed if nothing was found. The seed repeats what is
written and when the kills come; the threads' timing is the machine's.

Examples:
  gaur crash
  gaur crash --rounds 1000 --seconds-per-round 3 --seed 42
  gaur crash --path /dev/loop0 --force --dry-run
  gaur crash --path /dev/loop0 --force";

/// Kill a writing process at random moments, and check what is recovered.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct CrashArgs {
    /// How many kills.
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: u32,
    /// What everything random is drawn from; drawn at random if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// The longest that a round writes.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds_per_round: f64,
    /// Writers.
    #[arg(long, value_name = "N", default_value_t = 8)]
    threads: u16,
    /// The file to make, or the device to use.
    #[arg(long, value_name = "FILE", default_value = "crash.store")]
    path: PathBuf,
    /// The size of the file.
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    size: Size,
    /// Format the path even if it holds data.
    #[arg(long)]
    force: bool,
    /// The memory budget; small, so that much is evicted.
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    cache: Size,
    /// The I/O driver.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
    /// The longest that a Buffered commit may stay volatile.
    #[arg(long, value_name = "TIME", default_value = "100ms")]
    buffered_interval: Span,
    /// Keep the file.
    #[arg(long)]
    keep: bool,
    /// Make the checks, tell what would be done and lost, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as JSON, without the rounds' lines.
    #[arg(long)]
    pub(super) json: bool,
}

/// Write until killed; started by `gaur crash` alone.
#[derive(Debug, Args)]
pub(super) struct ChildArgs {
    path: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    round: u32,
    #[arg(long)]
    threads: u16,
    #[arg(long)]
    cache: u64,
    #[arg(long, value_enum)]
    driver: Driver,
    #[arg(long)]
    checkpoint_interval: Span,
    #[arg(long)]
    buffered_interval: Span,
    #[arg(long)]
    recover_only: bool,
}

pub(super) fn crash(a: &CrashArgs) -> Outcome {
    if !(a.seconds_per_round.is_finite() && (0.0..1e6).contains(&a.seconds_per_round)) {
        return Err(Failure::refused(
            "--seconds-per-round is a number of seconds",
        ));
    }
    if !(1..u16::MAX).contains(&a.threads) {
        return Err(Failure::refused("--threads is at least 1"));
    }
    let ours = !a.path.exists();
    if !ours && !a.force {
        return Err(Failure::refused(format!(
            "{} exists; remove it, name another --path, or add --force to overwrite it",
            a.path.display()
        )));
    }
    let seed = a.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let campaign = Campaign {
        path: a.path.clone(),
        size: ours.then_some(a.size.0),
        force: a.force,
        rounds: a.rounds,
        seed,
        time: Duration::from_secs_f64(a.seconds_per_round),
        threads: a.threads,
        cache: a.cache.0,
        driver: a.driver,
        buffered_interval: a.buffered_interval.0,
    };
    if a.dry_run {
        return dry_run(a, &campaign);
    }
    interrupt::catch();
    let quiet = a.json;
    let total = crash::run(
        &campaign,
        |line| if quiet { Ok(()) } else { output::line(line) },
    )
    .map_err(|f| again(a, seed, f))?;
    if ours && !a.keep {
        std::fs::remove_file(&a.path).map_err(|e| Failure::file("remove", &a.path, &e))?;
    }
    let oldest = total.oldest_lost.map(|d| d.as_nanos() as u64);
    if a.json {
        output::json(&json!({
            "seed": seed,
            "rounds": total.rounds,
            "interrupted": interrupt::requested(),
            "acknowledged": total.acknowledged,
            "sync": total.sync,
            "buffered_lost": total.lost,
            "oldest_lost_ns": oldest,
            "recoveries_killed": total.recoveries_killed,
        }))?;
    } else {
        output::line(format!(
            "{}{} rounds fine, seed {seed}: {} commits acknowledged, {} of them Sync and all there; {} Buffered lost{}; {} recoveries killed",
            if interrupt::requested() {
                "interrupted; "
            } else {
                ""
            },
            total.rounds,
            units::count(total.acknowledged),
            units::count(total.sync),
            units::count(total.lost),
            oldest
                .map(|n| format!(", the oldest {} before its kill", units::nanos(n)))
                .unwrap_or_default(),
            total.recoveries_killed,
        ))?;
    }
    Ok(FINE)
}

fn dry_run(a: &CrashArgs, c: &Campaign) -> Outcome {
    let plan = gaur::Store::plan_format(&c.path, &c.format_options())?;
    let destroys = plan.destroys.as_deref();
    if a.json {
        output::json(&json!({
            "dry_run": true,
            "path": c.path,
            "makes_file": plan.makes_file,
            "capacity": plan.capacity,
            "destroys": destroys,
            "rounds": c.rounds,
            "threads": c.threads,
        }))?;
        return Ok(FINE);
    }
    output::line(format!(
        "would {} {}, {}, and write, kill and recover {} times with {} writers; would be lost: {}; nothing was written",
        if plan.makes_file { "make" } else { "format" },
        c.path.display(),
        units::bytes(plan.capacity),
        c.rounds,
        c.threads,
        destroys.unwrap_or("nothing"),
    ))?;
    Ok(FINE)
}

/// Adds to a finding how to get it again.
fn again(a: &CrashArgs, seed: u64, failure: Failure) -> Failure {
    if failure.code != crate::failure::FOUND {
        return failure;
    }
    Failure::found(format!(
        "{failure}; the store is left in {}; again: gaur crash --seed {seed} --rounds {} --seconds-per-round {} --threads {} --size {} --cache {} --driver {} --buffered-interval {} --path {}",
        a.path.display(),
        a.rounds,
        a.seconds_per_round,
        a.threads,
        a.size,
        a.cache,
        super::name_of(a.driver),
        a.buffered_interval,
        a.path.display(),
    ))
}

pub(super) fn child(a: &ChildArgs) -> Outcome {
    child::serve(&Orders {
        path: a.path.clone(),
        seed: a.seed,
        round: a.round,
        threads: a.threads,
        cache: a.cache,
        driver: a.driver,
        checkpoint_interval: a.checkpoint_interval.0,
        buffered_interval: a.buffered_interval.0,
        recover_only: a.recover_only,
    })
}
