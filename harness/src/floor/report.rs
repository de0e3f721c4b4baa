//! The floor, for programs and for people.

use serde_json::{Value, json};

use super::Floor;
use super::cell::{Cell, Kind, Tally};
use crate::{output, units};

/// Above this share of stolen time the figures are in doubt.
const MUCH_STEAL: f64 = 0.02;

const QUANTILES: [(&str, f64); 4] = [
    ("p50_ns", 0.5),
    ("p90_ns", 0.9),
    ("p99_ns", 0.99),
    ("p999_ns", 0.999),
];

/// As data. The names are stable.
pub(crate) fn as_json(f: &Floor) -> Value {
    json!({
        "path": f.plan.path,
        "mode": f.subject.intent,
        "driver": f.subject.device.driver(),
        "direct": f.subject.device.geometry().direct,
        "block_bytes": f.subject.block,
        "read_bytes": f.subject.reads.bytes(),
        "written_bytes": f.subject.writes.as_ref().map(|w| w.bytes()),
        "seconds": f.plan.seconds,
        "prepare_seconds": f.prepared.as_secs_f64(),
        "rounds": f.rounds,
        "slice_seconds": f.slice.as_secs_f64(),
        "seed": f.plan.seed,
        "interrupted": f.interrupted,
        "optimised": !cfg!(debug_assertions),
        "machine": f.machine,
        "cells": f.cells.iter().map(|(c, t)| cell(c, t)).collect::<Vec<_>>(),
        "notes": notes(f),
    })
}

fn cell(c: &Cell, t: &Tally) -> Value {
    let mut v = json!({
        "name": c.name(),
        "rw": match c.kind {
            Kind::Sync(_) => "write".to_owned(),
            _ => c.rw(),
        },
        "durable_method": match c.kind {
            Kind::Sync(m) => Some(m.to_string()),
            _ => None,
        },
        "bs": c.bytes,
        "iodepth": c.depth,
        "ops": t.ops,
        "iops": t.iops(),
        "mib_per_second": mib(c, t),
        "max_ns": t.latency.max(),
        "iops_by_round": t.rounds,
    });
    for (name, q) in QUANTILES {
        v[name] = json!(t.latency.value_at_quantile(q));
    }
    v
}

fn mib(c: &Cell, t: &Tally) -> f64 {
    t.iops() * c.bytes as f64 / f64::from(1 << 20)
}

fn notes(f: &Floor) -> Vec<String> {
    let mut notes = f.subject.notes.clone();
    if f.subject.writes.is_some() {
        notes.push(
            "what is measured was written once beforehand; first writes to new space are slower"
                .into(),
        );
    }
    if let Some(steal) = f.machine.steal.filter(|&s| s > MUCH_STEAL) {
        notes.push(format!(
            "the host took {:.1} % of the processors' time: measure again when it is calmer",
            steal * 100.0
        ));
    }
    let cpus = std::thread::available_parallelism().map_or(1, Into::into) as f64;
    if let Some(load) = f.machine.load_after.filter(|&l| l > cpus) {
        notes.push(format!(
            "the machine was busy (load {load} on {cpus} processors): what others do shows in the figures"
        ));
    }
    if cfg!(debug_assertions) {
        notes.push("this build is not optimised; use a release build for figures".into());
    }
    if f.interrupted {
        notes.push("interrupted: some cells ran less than others".into());
    }
    notes
}

/// As a table.
pub(crate) fn as_text(f: &Floor) -> String {
    let share =
        |s: Option<f64>| s.map_or_else(|| "unknown".to_owned(), |s| format!("{:.1} %", s * 100.0));
    let load = |l: Option<f64>| l.map_or_else(|| "unknown".to_owned(), |l| l.to_string());
    let area = match &f.subject.writes {
        Some(w) => format!("{}, read and written", units::bytes(w.bytes())),
        None => format!("{}, only read", units::bytes(f.subject.reads.bytes())),
    };
    let mut rows = vec![
        ("path", f.plan.path.display().to_string()),
        ("measured", f.subject.intent.words().to_owned()),
        (
            "driver",
            format!(
                "{}{}",
                f.subject.device.driver(),
                if f.subject.device.geometry().direct {
                    ", O_DIRECT"
                } else {
                    ", through the page cache"
                }
            ),
        ),
        ("area", area),
        (
            "rounds",
            format!(
                "{} of {} cells, {} each; prepared in {}",
                f.rounds,
                f.cells.len(),
                units::nanos(f.slice.as_nanos() as u64),
                units::nanos(f.prepared.as_nanos() as u64)
            ),
        ),
        ("seed", f.plan.seed.to_string()),
        (
            "machine",
            format!(
                "steal {}, busy {}, load {} before and {} after",
                share(f.machine.steal),
                share(f.machine.busy),
                load(f.machine.load_before),
                load(f.machine.load_after)
            ),
        ),
    ];
    rows.extend(notes(f).into_iter().map(|n| ("note", n)));
    let head = output::pairs(rows.into_iter().map(|(a, b)| (a.to_owned(), b)));
    let table = output::table(
        [
            "cell", "bs", "iodepth", "IOPS", "MiB/s", "p50", "p99", "p99.9", "max", "rounds",
        ],
        f.cells.iter().map(|(c, t)| row(c, t)),
    );
    format!("{head}\n\n{table}")
}

fn row(c: &Cell, t: &Tally) -> Vec<String> {
    let at = |q| units::nanos(t.latency.value_at_quantile(q));
    vec![
        c.rw(),
        units::Size(c.bytes).to_string(),
        c.depth.to_string(),
        units::rate(t.iops()),
        units::rate(mib(c, t)),
        at(0.5),
        at(0.99),
        at(0.999),
        units::nanos(t.latency.max()),
        spread(t),
    ]
}

/// How far the rounds lie apart, as shares of the whole.
fn spread(t: &Tally) -> String {
    let all = t.iops();
    let low = t.rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let high = t.rounds.iter().copied().fold(0.0, f64::max);
    if t.rounds.is_empty() || all == 0.0 {
        return "-".to_owned();
    }
    format!("{:.0}-{:.0} %", low / all * 100.0, high / all * 100.0)
}
