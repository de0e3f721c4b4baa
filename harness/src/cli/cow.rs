//! `gaur experiment cow`: what is to be measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::experiment::cow;
use crate::failure::Outcome;
use crate::units::{Size, Span};

#[derive(Debug, Args)]
pub(super) struct CowArgs {
    /// The file for the store; made for it, sparse, and removed afterwards.
    #[arg(long, value_name = "FILE", default_value = "cow.store")]
    path: PathBuf,
    /// A block device instead: a store is made on the whole of it.
    #[arg(long, value_name = "DEVICE", conflicts_with = "path")]
    device: Option<PathBuf>,
    /// Overwrite what the device holds.
    #[arg(long, requires = "device")]
    force: bool,
    /// The size of the file, which takes less than 1 GiB of disk.
    #[arg(long, value_name = "SIZE", default_value = "32GiB")]
    size: Size,
    /// 1 and 16 writers, no latency or 1 ms, checkpoints; 1 s for each cell.
    #[arg(long)]
    quick: bool,
    /// Seconds for each cell; 1.2, with --quick 1.
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Rounds, of which the median counts; 5, with --quick 3.
    #[arg(long, value_parser = at_least_one)]
    rounds: Option<usize>,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writers; 1,4,16,64, with --quick 1,16.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1000))]
    writers: Option<Vec<u16>>,
    /// Latency added to each I/O, up to 100ms; 0s,100us,1ms, with --quick 0s,1ms.
    #[arg(long, value_name = "TIME,…", value_delimiter = ',', value_parser = latency)]
    latency: Option<Vec<Span>>,
    /// The map: warm, cold, or both.
    #[arg(
        long,
        value_name = "warm,cold",
        value_delimiter = ',',
        default_value = "warm,cold"
    )]
    map: Vec<MapState>,
    /// Checkpoints: with, without, or both; with --quick only with.
    #[arg(long, value_name = "with,without", value_delimiter = ',')]
    checkpoints: Option<Vec<Checkpoints>>,
    /// Records in the tree, all in memory.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1000..=200_000))]
    records: u64,
    /// Blocks that a group of the map gives before the next has its turn: how full the
    /// store looks.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    group_blocks: u32,
    /// Puts a second by all writers, latency counted from the intended start; without,
    /// each writer goes on when its put is done.
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// Write all figures of all cells to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw figures (SVG) into a folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Tell what would be made, and how long it takes, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MapState {
    Warm,
    Cold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Checkpoints {
    With,
    Without,
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| "must be a number above 0".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    // Beyond, the log would ask for checkpoints where there shall be none.
    positive(text).and_then(|n| match n {
        0.0..=10.0 => Ok(n),
        _ => Err("must be at most 10".to_owned()),
    })
}

fn latency(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    let short = span.0 <= Duration::from_millis(100);
    short
        .then_some(span)
        .ok_or_else(|| "must be at most 100ms".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n: &usize| (1..=1000).contains(n));
    number.ok_or_else(|| "must be 1 to 1000".to_owned())
}

impl CowArgs {
    pub(super) fn run(&self) -> Outcome {
        let plan = self.plan();
        if self.dry_run {
            return cow::rehearse(&plan);
        }
        cow::run(&plan)
    }

    fn plan(&self) -> cow::plan::Plan {
        let or = |given: &Option<Vec<u16>>, quick: &[u16], full: &[u16]| {
            given
                .clone()
                .unwrap_or_else(|| if self.quick { quick } else { full }.to_vec())
        };
        let micros = |list: &[u64]| list.iter().copied().map(Duration::from_micros).collect();
        let both = [Checkpoints::With, Checkpoints::Without];
        let checkpoints = match &self.checkpoints {
            Some(given) => given.as_slice(),
            None if self.quick => &both[..1],
            None => &both,
        };
        cow::plan::Plan {
            path: self.device.clone().unwrap_or_else(|| self.path.clone()),
            device: self.device.is_some(),
            force: self.force,
            size: self.size.0,
            seconds: self.seconds.unwrap_or(if self.quick { 1.0 } else { 1.2 }),
            rounds: self.rounds.unwrap_or(if self.quick { 3 } else { 5 }),
            seed: self.seed,
            records: self.records,
            blocks_per_group: self.group_blocks,
            rate: self.rate,
            writers: or(&self.writers, &[1, 16], &[1, 4, 16, 64])
                .into_iter()
                .map(usize::from)
                .collect(),
            cold_map: self.map.iter().map(|m| *m == MapState::Cold).collect(),
            latencies: match &self.latency {
                Some(given) => given.iter().map(|s| s.0).collect(),
                None if self.quick => micros(&[0, 1000]),
                None => micros(&[0, 100, 1000]),
            },
            checkpoints: checkpoints
                .iter()
                .map(|c| *c == Checkpoints::With)
                .collect(),
            json: self.json.clone(),
            plots: self.plots.clone(),
        }
    }
}
