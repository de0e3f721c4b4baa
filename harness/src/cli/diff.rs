//! `gaur diff`: two runs compared.

use std::path::PathBuf;

use clap::Args;

use crate::failure::{FINE, FOUND, Outcome};
use crate::output;
use crate::report::compare::condition::{Condition, show};
use crate::report::compare::{Comparison, compare};
use crate::report::data::RunData;

const HELP: &str = "\
Examples:
  gaur diff runs/before runs/after
  gaur diff runs/before runs/after --fail-if 'p99 > 1.2x' --fail-if 'throughput < 0.9x'
  gaur diff runs/before runs/after --fail-if 'read.p99.9 > 5ms' --format json

A condition names a figure (throughput, mean, p50, p75, p90, p99, p99.9, p99.99,
p99.999, max), of one operation (read.p99) or of any; throughput without one is that of
all together. A bound with x is a ratio B/A, one with ns, us, ms or s (throughput: a plain
number a second) holds for B alone. Exit code 1 if any condition holds.

Intervals (95 %) come from drawing blocks of seconds of run.hlog; docs/plots.md says
what they can tell and what not.";

/// Compare two runs: ratios B/A with intervals, and bounds for them.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct DiffArgs {
    /// The directory of the run to compare with.
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The directory of the run that is compared.
    #[arg(value_name = "B")]
    b: PathBuf,
    /// End with exit code 1 if this holds; may repeat.
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Condition>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// The seed of the intervals' draws; drawn itself unless given.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) fn diff(a: &DiffArgs) -> Outcome {
    let seed = a.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let comparison = compare(&RunData::read(&a.a)?, &RunData::read(&a.b)?, seed)?;
    let mut failed = Vec::new();
    for condition in &a.fail_if {
        failed.extend(condition.held(&comparison)?);
    }
    if a.json {
        let mut json = serde_json::json!(comparison);
        json["failed"] = serde_json::json!(failed);
        output::json(&json)?;
    } else {
        output::line(text(&comparison))?;
    }
    for line in &failed {
        output::complain(line);
    }
    Ok(if failed.is_empty() { FINE } else { FOUND })
}

fn text(c: &Comparison) -> String {
    let side = |name: &str, s: &crate::report::compare::Side| {
        let kind = if s.open_loop {
            "open loop"
        } else {
            "closed loop"
        };
        let about = format!("{}  {} ({kind}, {:.1} s)", s.name, s.dir, s.seconds);
        (name.to_owned(), about)
    };
    let mut parts = vec![output::pairs([side("A", &c.a), side("B", &c.b)])];
    if !c.differences.is_empty() {
        let rows = c.differences.iter();
        let rows = rows.map(|d| vec![d.key.clone(), d.a.clone(), d.b.clone()]);
        parts.push(output::table(["not the same", "A", "B"], rows));
    }
    if !c.notes.is_empty() {
        let notes = c.notes.iter().map(|n| ("note".to_owned(), n.clone()));
        parts.push(output::pairs(notes));
    }
    let mut last = "";
    let rows = c.rows.iter().map(|r| {
        let operation = match r.operation == last {
            true => String::new(),
            false => r.operation.clone(),
        };
        last = &r.operation;
        let ratio = r.ratio.map_or("–".into(), |x| format!("{x:.3}"));
        let (interval, verdict) = match r.interval {
            Some((low, high)) => (
                format!("{low:.3} … {high:.3}"),
                verdict(r.metric == "throughput", low, high),
            ),
            None => (r.no_interval.unwrap_or("–").to_owned(), ""),
        };
        vec![
            operation,
            r.metric.to_owned(),
            show(r.metric, r.a),
            show(r.metric, r.b),
            ratio,
            interval,
            verdict.to_owned(),
        ]
    });
    let head = ["operation", "figure", "A", "B", "B/A", "95 % interval", ""];
    parts.push(output::table(head, rows));
    parts.push(format!(
        " intervals from {} draws with seed {}; they know nothing of how much whole runs differ",
        c.draws, c.seed
    ));
    parts.join("\n\n")
}

/// What an interval says: nothing, if it holds 1.
fn verdict(more_is_better: bool, low: f64, high: f64) -> &'static str {
    match () {
        () if low > 1.0 && more_is_better => "better",
        () if high < 1.0 && !more_is_better => "better",
        () if low > 1.0 || high < 1.0 => "worse",
        () => "",
    }
}
