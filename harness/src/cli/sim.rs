//! `gaur sim`.

use std::time::Duration;

use clap::Args;

use crate::failure::{FINE, FOUND, Outcome};
use crate::sim::campaign::{self, Campaign, Finding, Workers};
use crate::sim::tally::Tally;
use crate::sim::{every, small};
use crate::units::Span;
use crate::{interrupt, output};

const HELP: &str = "\
Each seed is a world: a disk, a store and a workload. It is lived through once, under a
scheduler that decides by the seed which thread runs, and the power is cut at each of its
writes and flushes: what is left is checked, recovered and compared with what was
committed. The same seed is the same world, to the last switch between threads.

Examples:
  gaur sim --budget 1m
  gaur sim --seed 42 --crash-points 20000
  gaur sim --seed 42 --worlds 1
  gaur sim --seed 42 --repeat 1000
  gaur sim --small 3
  gaur sim --every-error --seed 1";

/// Run the whole engine in a deterministic simulation, and crash it at every write.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct SimArgs {
    /// The first world; drawn at random if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// For how long.
    #[arg(long, value_name = "TIME")]
    budget: Option<Span>,
    /// How many crash points, about.
    #[arg(long, value_name = "N")]
    crash_points: Option<u64>,
    /// How many worlds.
    #[arg(long, value_name = "N")]
    worlds: Option<u64>,
    /// Rounds of each world: each goes on from a power cut of the one before.
    #[arg(long, value_name = "N", default_value_t = 4)]
    rounds: u32,
    /// Different images of each crash point.
    #[arg(long, value_name = "N", default_value_t = 2)]
    images: u32,
    /// Crash points of each round, at most.
    #[arg(long, value_name = "N", default_value_t = 150)]
    most: usize,
    /// Instead: every sequence of up to N operations on a fresh store.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "3")]
    small: Option<usize>,
    /// Instead: the n-th I/O and the n-th reservation fail, for every n.
    #[arg(long, conflicts_with = "small")]
    every_error: bool,
    /// Instead: live through the world of the seed N times and compare the traces.
    #[arg(long, value_name = "N", conflicts_with_all = ["small", "every_error"])]
    repeat: Option<u64>,
    /// Tell what was found as it is, without making it smaller.
    #[arg(long)]
    no_shrink: bool,
    /// Worlds side by side; as many as there are processors if absent.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

pub(super) fn sim(a: &SimArgs) -> Outcome {
    let seed = a.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let bounded = a.budget.is_some() || a.crash_points.is_some() || a.worlds.is_some();
    let workers = Workers {
        jobs: a.jobs.unwrap_or(processors).max(1),
        time: match (&a.budget, bounded) {
            (Some(time), _) => Some(time.0),
            (None, true) => None,
            (None, false) => (a.small.is_none() && !a.every_error && a.repeat.is_none())
                .then_some(Duration::from_secs(60)),
        },
        points: a.crash_points,
        tell: |line| {
            // A terminal that went away is no reason to end.
            let _ = output::line(line);
        },
    };
    let campaign = Campaign {
        seed,
        worlds: a.worlds,
        rounds: a.rounds,
        images: a.images,
        most: a.most,
        shrink: (!a.no_shrink).then_some(Duration::from_secs(60)),
    };
    interrupt::catch();
    // What panics in a simulation is a finding, and told as such.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(times) = a.repeat {
        return repeat(&campaign, times, &workers);
    }
    if let Some(length) = a.small {
        let (n, tally, found, took) = small::run(length, &workers)?;
        output::line(format!(
            "all {n} sequences of up to {length} of {}",
            small::OPERATIONS.join(", ")
        ))?;
        return tell(&tally, &found, took, |_| {
            format!("gaur sim --small {length}")
        });
    }
    if a.every_error {
        let (rows, tally, found, took) = every::run(seed, &workers)?;
        for r in &rows {
            output::line(format!(
                "{}: {} calls, {} tried (each once and for good), {} stopped the store, {} left something refused as full",
                r.name, r.calls, r.tried, r.stopped, r.full
            ))?;
        }
        return tell(&tally, &found, took, |_| {
            format!("gaur sim --every-error --seed {seed}")
        });
    }
    output::line(format!("worlds from seed {seed} on"))?;
    let (tally, found, took) = campaign::run(&campaign, &workers)?;
    tell(&tally, &found, took, |f| {
        format!(
            "gaur sim --seed {} --worlds 1 --rounds {} --images {} --most {}",
            f.seed, a.rounds, a.images, a.most
        )
    })
}

/// The numbers, and what was found with the command that finds it again.
fn tell(
    tally: &Tally,
    found: &[Finding],
    took: Duration,
    again: impl Fn(&Finding) -> String,
) -> Outcome {
    output::line(tally.to_string())?;
    output::line(format!(
        "{:.0} crash points a second, {:.1} s",
        tally.points as f64 / took.as_secs_f64(),
        took.as_secs_f64()
    ))?;
    for finding in found {
        output::line(format!("FOUND: {finding}\nagain: {}", again(finding)))?;
    }
    Ok(if found.is_empty() { FINE } else { FOUND })
}

/// Lives through one world again and again: the trace is always the same.
fn repeat(c: &Campaign, times: u64, workers: &Workers) -> Outcome {
    let (traces, took) = campaign::traces(c, times, workers)?;
    for (trace, n) in &traces {
        output::line(format!(
            "seed {}: trace {trace:016x} in {n} of {times} repetitions",
            c.seed
        ))?;
    }
    output::line(format!("{:.1} s", took.as_secs_f64()))?;
    Ok(if traces.len() == 1 { FINE } else { FOUND })
}
