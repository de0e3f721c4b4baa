//! `gaur faults`, in a build that has faults on purpose.

use std::time::Duration;

use clap::Args;
use gaur_iodriver::faults::Fault;
use gaur_iodriver::sync::rng;

use crate::failure::{FINE, Failure, Outcome};
use crate::faults::{self, Search};
use crate::output;

const HELP: &str = "\
Examples:
  gaur faults                                       look for all of them
  gaur faults --pick 5 --seed 7                     for five, chosen by the seed
  gaur faults no-flush-before-superblock --budget 300
  gaur faults --list";

/// Look for bugs that were made on purpose, by every campaign there is.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct FaultsArgs {
    /// Faults to look for; all if none is named.
    #[arg(value_name = "FAULT")]
    faults: Vec<String>,
    /// Look for so many of them, chosen by the seed.
    #[arg(long, value_name = "N")]
    pick: Option<usize>,
    /// What everything random is drawn from; drawn at random if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds for each fault, over all campaigns.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    budget: u64,
    /// By this campaign: sim, crash, damage, concurrency, full, errors, stale; may be
    /// given more than once.
    #[arg(long, value_name = "CAMPAIGN", default_value = "sim")]
    by: Vec<String>,
    /// Do not first run all campaigns without a fault.
    #[arg(long)]
    no_control: bool,
    /// End with a table for a document.
    #[arg(long)]
    markdown: bool,
    /// List the faults, and do nothing.
    #[arg(long)]
    list: bool,
}

pub(super) fn faults(a: &FaultsArgs) -> Outcome {
    if a.list {
        for f in Fault::ALL {
            output::line(format!("{:32} {} ({})", f.name(), f.what(), f.promises()))?;
        }
        return Ok(FINE);
    }
    let named = |name: &String| {
        Fault::named(name).ok_or_else(|| Failure::refused(format!("there is no fault `{name}`")))
    };
    faults::search(&Search {
        faults: a.faults.iter().map(named).collect::<Result<_, _>>()?,
        pick: a.pick,
        seed: a.seed.unwrap_or_else(|| rng::fresh_seed() >> 16),
        budget: Duration::from_secs(a.budget),
        by: a.by.clone(),
        control: !a.no_control,
        markdown: a.markdown,
    })
}
