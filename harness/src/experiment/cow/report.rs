//! What is told: a table of all cells, a small one of ratios, JSON.

use std::fs;

use serde::Serialize;
use serde_json::json;

use super::figures::{Figures, Middle, Runs, geometric};
use super::plan::{Cell, Mode, Plan, Setting};
use crate::failure::Failure;
use crate::run::environment::Environment;
use crate::{output, units};

/// The modes that are set over others: each over inline, and what the thread adds.
const PAIRS: [[Mode; 2]; 3] = [
    [Mode::TwoStage, Mode::Inline],
    [Mode::TwoStageThread, Mode::Inline],
    [Mode::TwoStageThread, Mode::TwoStage],
];

/// A column: its name, and what a cell has there.
type Column = (&'static str, fn(&Seen<'_>) -> String);

/// What writers see.
const PUTS: [Column; 7] = [
    ("puts/s", |c| units::rate(c.median(|f| f.puts_per_second))),
    ("spread", |c| {
        let spread = |m: Middle| format!("{:.0} %", 100.0 * (m.most - m.least) / m.median);
        let middle = c.runs.middle(c.cell, |f| f.puts_per_second);
        middle.map_or(String::new(), spread)
    }),
    ("/inline", |c| {
        let pair = [c.cell.mode, Mode::Inline];
        let ratios = c.runs.ratios(c.cell.setting, pair, |f| f.puts_per_second);
        Middle::of(ratios).map_or(String::new(), |m| format!("{:.2}", m.median))
    }),
    ("p50", |c| c.time(|f| f.put.p50)),
    ("p99", |c| c.time(|f| f.put.p99)),
    ("p99.9", |c| c.time(|f| f.put.p99_9)),
    ("p99.99", |c| c.time(|f| f.put.p99_99)),
];

/// What is below: latches held, latches waited for, blocks.
const BELOW: [Column; 8] = [
    ("held p99", |c| c.time(|f| f.latch_held.p99)),
    ("p99.99", |c| c.time(|f| f.latch_held.p99_99)),
    ("waits", |c| c.count(|f| f.latch_waited.count)),
    ("in all", |c| c.time(|f| f.latch_waited.total)),
    ("restarts", |c| c.count(Figures::restarts)),
    ("copies", |c| c.count(|f| f.copies)),
    ("unused", |c| {
        c.count(|f| f.blocks_returned + f.blocks_stashed)
    }),
    ("map reads", |c| c.count(|f| f.map_reads)),
];

/// A cell that was run.
struct Seen<'a> {
    runs: &'a Runs,
    cell: Cell,
}

impl Seen<'_> {
    fn median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        let middle = self.runs.middle(self.cell, figure);
        middle.map_or(0.0, |m| m.median)
    }

    fn time(&self, figure: fn(&Figures) -> u64) -> String {
        units::nanos(self.median(|f| figure(f) as f64) as u64)
    }

    fn count(&self, figure: fn(&Figures) -> u64) -> String {
        units::count(self.median(|f| figure(f) as f64) as u64)
    }
}

/// What writers saw in each cell, and what was below.
pub(super) fn cells(plan: &Plan, runs: &Runs) -> String {
    let mut out = Vec::new();
    for kind in kinds(plan) {
        out.push(format!(
            "{} map, +{}, {} checkpoints",
            kind.map(),
            kind.latency(),
            if kind.checkpoints { "with" } else { "without" }
        ));
        out.push(table(plan, runs, kind, &PUTS));
        out.push(table(plan, runs, kind, &BELOW));
        out.push(String::new());
    }
    out.join("\n")
}

/// The settings, of those alike but for the writers one.
fn kinds(plan: &Plan) -> Vec<Setting> {
    let mut kinds = plan.settings();
    kinds.dedup_by_key(|s| s.kind());
    kinds
}

fn alike(plan: &Plan, kind: Setting) -> impl Iterator<Item = Setting> {
    let settings = plan.settings().into_iter();
    settings.filter(move |s| s.kind() == kind.kind())
}

/// A row for each cell.
fn table(plan: &Plan, runs: &Runs, kind: Setting, columns: &[Column]) -> String {
    let mut rows = Vec::new();
    for setting in alike(plan, kind) {
        // Told once.
        let mut writers = setting.writers.to_string();
        for mode in Mode::ALL {
            let cell = Cell { setting, mode };
            if runs.of(cell).next().is_none() {
                continue;
            }
            let seen = Seen { runs, cell };
            let mut row = vec![std::mem::take(&mut writers), mode.name().to_owned()];
            row.extend(columns.iter().map(|c| c.1(&seen)));
            rows.push(row);
        }
    }
    let head = ["writers", "mode"].into_iter();
    output::table(head.chain(columns.iter().map(|c| c.0)), rows)
}

/// Figures of modes over each other, in settings alike but for the writers.
#[derive(Debug, Serialize)]
pub(super) struct Over {
    checkpoints: bool,
    cold_map: bool,
    latency_us: u64,
    mode: Mode,
    over: Mode,
    /// Geometric means, over the numbers of writers, of the medians over the rounds.
    puts_per_second: Option<f64>,
    put_p99: Option<f64>,
    put_p99_9: Option<f64>,
    latch_held_p99_99: Option<f64>,
    /// The least and the greatest median of `puts_per_second`.
    least: f64,
    most: f64,
}

/// How the modes compare.
pub(super) fn ratios(plan: &Plan, runs: &Runs) -> Vec<Over> {
    let mut all = Vec::new();
    for kind in kinds(plan) {
        for pair in PAIRS {
            let medians = |figure: fn(&Figures) -> f64| -> Vec<f64> {
                let ratios = alike(plan, kind).map(|s| Middle::of(runs.ratios(s, pair, figure)));
                ratios.flatten().map(|m| m.median).collect()
            };
            let puts = medians(|f| f.puts_per_second);
            let Some(ends) = Middle::of(puts.iter().copied()) else {
                continue;
            };
            all.push(Over {
                checkpoints: kind.checkpoints,
                cold_map: kind.cold_map,
                latency_us: kind.latency.as_micros() as u64,
                mode: pair[0],
                over: pair[1],
                puts_per_second: geometric(puts),
                put_p99: geometric(medians(|f| f.put.p99 as f64)),
                put_p99_9: geometric(medians(|f| f.put.p99_9 as f64)),
                latch_held_p99_99: geometric(medians(|f| f.latch_held.p99_99 as f64)),
                least: ends.least,
                most: ends.most,
            });
        }
    }
    all
}

/// The same as a table.
pub(super) fn ratio_table(ratios: &[Over]) -> String {
    let two = |x: Option<f64>| x.map_or(String::new(), |x| format!("{x:.2}"));
    let rows = ratios.iter().map(|r| {
        vec![
            format!("{} / {}", r.mode.name(), r.over.name()),
            if r.checkpoints { "yes" } else { "no" }.to_owned(),
            if r.cold_map { "cold" } else { "warm" }.to_owned(),
            match r.latency_us {
                0 => "0".to_owned(),
                us => units::nanos(us * 1000),
            },
            two(r.puts_per_second),
            format!("{:.2}-{:.2}", r.least, r.most),
            two(r.put_p99),
            two(r.put_p99_9),
            two(r.latch_held_p99_99),
        ]
    });
    let head = [
        "",
        "ckpt",
        "map",
        "latency",
        "puts/s",
        "least-most",
        "put p99",
        "p99.9",
        "held p99.99",
    ];
    output::table(head, rows)
}

/// Writes everything to the file that the plan names.
pub(super) fn write_json(
    plan: &Plan,
    runs: &Runs,
    ratios: &[Over],
    environment: &Environment,
) -> Result<(), Failure> {
    let Some(path) = &plan.json else {
        return Ok(());
    };
    let each: Vec<_> = runs
        .0
        .iter()
        .map(|(round, cell, figures)| json!({"round": round, "cell": cell, "figures": figures}))
        .collect();
    let all = json!({
        "experiment": "cow",
        "plan": plan,
        "environment": environment,
        "ratios": ratios,
        "runs": each,
    });
    fs::write(path, output::to_json(&all)? + "\n").map_err(|e| Failure::file("write", path, &e))
}
