//! Two runs compared: how many times as much the second has of each figure, and how
//! sure that is.

mod bootstrap;
pub(crate) mod condition;

use serde::Serialize;
use serde_json::Value;

use super::data::summary::PERCENTILES;
use super::data::{Phase, RunData};
use crate::failure::Failure;
use bootstrap::{Blocks, Figure};

/// What stands for all operations together.
pub(crate) const ALL: &str = "all";

/// The comparison of a run B with a run A.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) a: Side,
    pub(crate) b: Side,
    /// The seed of the intervals' draws, and how many there were.
    pub(crate) seed: u64,
    pub(crate) draws: usize,
    pub(crate) rows: Vec<Row>,
    /// What the runs did not have in common, by key of the configuration or the
    /// environment.
    pub(crate) differences: Vec<Difference>,
    /// What else a reader must know.
    pub(crate) notes: Vec<String>,
}

/// One of the runs.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) dir: String,
    pub(crate) phase: String,
    pub(crate) seconds: f64,
    pub(crate) open_loop: bool,
}

/// One figure of both.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) operation: String,
    /// `throughput`, `mean`, a percentile such as `p99.9`, or `max`.
    pub(crate) metric: &'static str,
    /// Operations a second, or nanoseconds.
    pub(crate) a: f64,
    pub(crate) b: f64,
    /// B/A; none where A is nothing.
    pub(crate) ratio: Option<f64>,
    /// Of the ratio, 95 %.
    pub(crate) interval: Option<(f64, f64)>,
    /// Why there is none.
    pub(crate) no_interval: Option<&'static str>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) key: String,
    pub(crate) a: String,
    pub(crate) b: String,
}

/// Compares the measured phases. Refuses runs that have no operation in common.
pub(crate) fn compare(a: &RunData, b: &RunData, seed: u64) -> Result<Comparison, Failure> {
    let names = super::overlay::names_of_two(a, b);
    let (phase_a, phase_b) = (measured(a)?, measured(b)?);
    let side = |name: &str, run: &RunData, p: &Phase| Side {
        name: name.to_owned(),
        dir: run.dir.display().to_string(),
        phase: p.name.clone(),
        seconds: p.seconds,
        open_loop: p.is_open_loop(),
    };
    let (blocks_a, blocks_b) = (Blocks::of(a, phase_a)?, Blocks::of(b, phase_b)?);
    let ratios = bootstrap::Ratios::draw(&blocks_a, &blocks_b, seed);
    let mut rows = Vec::new();
    for x in &phase_a.operations {
        let Some(y) = phase_b.operations.iter().find(|o| o.name == x.name) else {
            continue;
        };
        let fewest = x.latency.count.min(y.latency.count);
        if fewest == 0 {
            continue;
        }
        let mut row = |metric, figure, a: f64, b: f64| {
            let mut interval = ratios.interval(&x.name, figure);
            if let Figure::Percentile(i) = figure
                && interval.is_ok()
                && (fewest as f64) * (1.0 - PERCENTILES[i].1) < 10.0
            {
                interval = Err("fewer than ten operations are slower");
            }
            rows.push(Row::new(&x.name, metric, a, b, interval));
        };
        let (l, m) = (&x.latency, &y.latency);
        row("throughput", Figure::Throughput, l.per_second, m.per_second);
        row("mean", Figure::Mean, l.mean_ns, m.mean_ns);
        for (i, (name, _)) in PERCENTILES.iter().enumerate() {
            if let (Some(a), Some(b)) = (l.percentile(name), m.percentile(name)) {
                row(name, Figure::Percentile(i), a as f64, b as f64);
            }
        }
        row("max", Figure::Largest, l.max_ns as f64, m.max_ns as f64);
    }
    if rows.is_empty() {
        let list = |p: &Phase| {
            let names: Vec<_> = p.operations.iter().map(|o| o.name.as_str()).collect();
            names.join(", ")
        };
        return Err(Failure::refused(format!(
            "{} and {} have no operation in common ({}; {}); name runs of the same mix",
            names[0],
            names[1],
            list(phase_a),
            list(phase_b)
        )));
    }
    let all = ratios.interval(ALL, Figure::Throughput);
    let (x, y) = (phase_a.per_second(), phase_b.per_second());
    rows.insert(0, Row::new(ALL, "throughput", x, y, all));
    let mut comparison = Comparison {
        a: side(&names[0], a, phase_a),
        b: side(&names[1], b, phase_b),
        seed,
        draws: bootstrap::DRAWS,
        rows,
        differences: differences(a, b),
        notes: Vec::new(),
    };
    comparison.notes = notes(&comparison, a, b);
    Ok(comparison)
}

fn measured(run: &RunData) -> Result<&Phase, Failure> {
    let phase = run.measured().filter(|p| !p.operations.is_empty());
    phase.ok_or_else(|| {
        Failure::refused(format!(
            "{} measured nothing; name a run that did operations",
            run.dir.display()
        ))
    })
}

impl Row {
    fn new(
        operation: &str,
        metric: &'static str,
        a: f64,
        b: f64,
        interval: Result<(f64, f64), &'static str>,
    ) -> Self {
        Self {
            operation: operation.to_owned(),
            metric,
            a,
            b,
            ratio: (a > 0.0).then(|| b / a),
            interval: interval.ok(),
            no_interval: interval.err(),
        }
    }
}

fn notes(c: &Comparison, a: &RunData, b: &RunData) -> Vec<String> {
    let mut notes = Vec::new();
    if !c.differences.is_empty() {
        notes.push(format!(
            "the runs are not alike in {} point(s): a difference in figures may come from those",
            c.differences.len()
        ));
    }
    match (c.a.open_loop, c.b.open_loop) {
        (true, true) => notes.push(
            "both are open loops: latency counts from the intended start, and throughput is the \
             rate that was asked for, as long as it was kept"
                .into(),
        ),
        (false, false) => {}
        (a_open, _) => notes.push(format!(
            "{} is an open loop and {} a closed one: latency counts from the intended start in one \
             and from the real start in the other, so latencies do not compare",
            if a_open { &c.a.name } else { &c.b.name },
            if a_open { &c.b.name } else { &c.a.name },
        )),
    }
    for (name, run) in [(&c.a.name, a), (&c.b.name, b)] {
        let s = &run.summary;
        if s.interrupted {
            notes.push(format!("{name} was ended early"));
        }
        if s.environment.get("optimised") == Some(&Value::Bool(false)) {
            notes.push(format!(
                "{name} was built without optimisation: its figures mean nothing"
            ));
        }
        if run.measured().and_then(|p| p.steady) == Some(false) {
            notes.push(format!("{name} was not steady"));
        }
    }
    notes
}

/// What is not the same in the configurations and environments, but for where the
/// results went.
fn differences(a: &RunData, b: &RunData) -> Vec<Difference> {
    let facts = |run: &RunData| {
        let mut list = super::panels::Pairs::new();
        super::panels::flatten(&run.summary.config, "config", &mut list);
        super::panels::flatten(&run.summary.environment, "environment", &mut list);
        list.retain(|(key, _)| !key.starts_with("config / output"));
        list
    };
    let (x, y) = (facts(a), facts(b));
    let find = |list: &[(String, String)], key: &str| {
        let found = list.iter().find(|(k, _)| k == key);
        found.map_or_else(|| "–".to_owned(), |(_, v)| v.clone())
    };
    let mut keys: Vec<&String> = x.iter().map(|p| &p.0).collect();
    keys.extend(
        y.iter()
            .map(|p| &p.0)
            .filter(|k| !x.iter().any(|p| p.0 == **k)),
    );
    let difference = |key: &String| {
        let (a, b) = (find(&x, key), find(&y, key));
        (a != b).then(|| Difference {
            key: key.replace(" / ", ".").replace(' ', "_"),
            a,
            b,
        })
    };
    keys.into_iter().filter_map(difference).collect()
}
