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

/// A row for each cell.
pub(super) fn cells(plan: &Plan, runs: &Runs) -> String {
    let mut rows = Vec::new();
    for setting in plan.settings() {
        for (i, mode) in Mode::ALL.into_iter().enumerate() {
            let cell = Cell { setting, mode };
            if runs.of(cell).next().is_none() {
                continue;
            }
            let lead = if i == 0 {
                [
                    setting.checkpointed().to_owned(),
                    setting.map().to_owned(),
                    setting.latency(),
                    setting.writers.to_string(),
                ]
            } else {
                [const { String::new() }; 4]
            };
            rows.push(lead.into_iter().chain(row(runs, cell)).collect());
        }
    }
    let head = [
        "ckpt",
        "map",
        "latency",
        "writers",
        "mode",
        "puts/s",
        "least-most",
        "/inline",
        "p50",
        "p99",
        "p99.9",
        "p99.99",
        "held p99",
        "p99.99",
        "waited for",
        "p99",
        "in all",
        "restarts",
        "lost races",
        "copies",
        "taken",
        "unused",
        "map reads",
    ];
    output::table(head, rows)
}

fn row(runs: &Runs, cell: Cell) -> Vec<String> {
    let middle = |f: &dyn Fn(&Figures) -> f64| runs.middle(cell, f).map_or(0.0, |m| m.median);
    let time = |f: &dyn Fn(&Figures) -> u64| units::nanos(middle(&|x| f(x) as f64) as u64);
    let count = |f: &dyn Fn(&Figures) -> u64| units::count(middle(&|x| f(x) as f64) as u64);
    let rate = runs.middle(cell, |f| f.puts_per_second);
    let ends = |m: Middle| format!("{}-{}", units::rate(m.least), units::rate(m.most));
    let over = runs.ratios(cell.setting, [cell.mode, Mode::Inline], |f| {
        f.puts_per_second
    });
    vec![
        cell.mode.name().to_owned(),
        rate.map_or(String::new(), |m| units::rate(m.median)),
        rate.map_or(String::new(), ends),
        Middle::of(over).map_or(String::new(), |m| format!("{:.2}", m.median)),
        time(&|f| f.put.p50),
        time(&|f| f.put.p99),
        time(&|f| f.put.p99_9),
        time(&|f| f.put.p99_99),
        time(&|f| f.latch_held.p99),
        time(&|f| f.latch_held.p99_99),
        count(&|f| f.latch_waited.count),
        time(&|f| f.latch_waited.p99),
        time(&|f| f.latch_waited.total),
        count(&Figures::restarts),
        count(&|f| f.lost_races),
        count(&|f| f.copies),
        count(&|f| f.blocks_taken),
        count(&|f| f.blocks_returned + f.blocks_stashed),
        count(&|f| f.map_reads),
    ]
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
    let mut kinds: Vec<Setting> = plan.settings();
    kinds.dedup_by_key(|s| (s.checkpoints, s.cold_map, s.latency));
    let mut all = Vec::new();
    for kind in kinds {
        for pair in PAIRS {
            let medians = |figure: fn(&Figures) -> f64| -> Vec<f64> {
                let settings = plan.settings().into_iter().filter(|s| {
                    (s.checkpoints, s.cold_map, s.latency)
                        == (kind.checkpoints, kind.cold_map, kind.latency)
                });
                let ratios = settings.map(|s| Middle::of(runs.ratios(s, pair, figure)));
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
