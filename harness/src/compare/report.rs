//! The comparison for people: as text, and as Markdown.

use std::fmt::Write as _;

use super::bars::{Judged, judge};
use super::plan::Engine;
use super::rows::{Row, Stage, Unit};
use super::{Comparison, Taken};
use crate::output;
use crate::units;

/// Medians, and how far the rounds lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) rounds: usize,
}

impl Comparison {
    /// The figures of this engine in this row.
    fn of<'a>(&'a self, engine: Engine, row: &'a str) -> impl Iterator<Item = &'a Taken> {
        self.figures
            .iter()
            .filter(move |t| t.engine == engine && t.figure.row == row)
    }

    /// Their median and extremes; none if there are none.
    pub(crate) fn spread(&self, engine: Engine, row: &str) -> Option<Spread> {
        let mut values: Vec<f64> = self.of(engine, row).map(|t| t.figure.value).collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        Some(Spread {
            least: *values.first()?,
            most: *values.last()?,
            median: (values[(n - 1) / 2] + values[n / 2]) / 2.0,
            rounds: n,
        })
    }

    /// All engines with a column.
    fn columns(&self) -> &[Engine] {
        &self.plan.engines
    }
}

/// As text, at most 98 columns wide.
pub(crate) fn as_text(c: &Comparison) -> String {
    let mut out = output::pairs(facts(c));
    for (title, stage) in TITLES {
        let rows: Vec<_> = c.plan.rows().filter(|r| r.stage == stage).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = write!(out, "\n\n{title}\n\n");
        out.push_str(&medians(c, &rows));
    }
    let _ = write!(out, "\n\n{SPREADS}\n\n{}", spreads(c));
    if let Some(flushes) = flushes(c) {
        let _ = write!(out, "\n\n{FLUSHES}\n\n{flushes}");
    }
    let _ = write!(out, "\n\nMost memory of a process\n\n{}", memory(c));
    let _ = write!(out, "\n\nWanted\n\n{}", bars(&judge(c)));
    let _ = write!(out, "\n\nSettings\n\n{}", settings(c));
    if !c.failures.is_empty() {
        let _ = write!(out, "\n\nNot done\n\n{}", troubles(c).join("\n"));
    }
    out
}

const TITLES: [(&str, Stage); 3] = [
    (
        "Medians: operations a second, in cache (beside ours: ratio of ours to it)",
        Stage::Cached,
    ),
    ("Rows of redb's own table, medians: ms", Stage::Table),
    ("Out of cache, medians: operations a second", Stage::Cold),
];
const SPREADS: &str = "Least and most of the rounds, in parts of the median";
const FLUSHES: &str = "Flushes that the device got for each durable commit";

fn facts(c: &Comparison) -> Vec<(String, String)> {
    let (p, e) = (&c.plan, &c.environment);
    let share = |x: Option<f64>| x.map_or("?".into(), |x| format!("{:.0} %", x * 100.0));
    let mut rows = vec![
        ("where", e.place.clone()),
        (
            "records",
            format!(
                "{}, {}-byte keys, {}-byte values",
                units::count(p.records),
                p.key_bytes,
                p.value_bytes
            ),
        ),
        ("cache", units::bytes(p.cache)),
    ];
    if p.stages().contains(&Stage::Cold) {
        rows.push((
            "cold",
            format!(
                "{} records, cache {}",
                units::count(p.cold_records()),
                units::bytes(p.cold_cache)
            ),
        ));
        rows.push(("memory limit", e.limit.clone()));
    }
    rows.extend([
        (
            "rounds",
            format!(
                "{}, {} s a cell, seed {}{}",
                p.rounds,
                p.seconds,
                p.seed,
                if c.interrupted { "; interrupted" } else { "" }
            ),
        ),
        (
            "buffered",
            format!("durable after {:?} at most", p.interval),
        ),
        (
            "machine",
            format!("{} processors, {}, Linux {}", e.cpus, e.cpu, e.kernel),
        ),
        (
            "meanwhile",
            format!(
                "busy {}, steal {}",
                share(c.machine.busy),
                share(c.machine.steal)
            ),
        ),
    ]);
    rows.extend(e.notes.iter().map(|n| ("note", n.clone())));
    rows.into_iter().map(|(a, b)| (a.to_owned(), b)).collect()
}

fn medians(c: &Comparison, rows: &[&Row]) -> String {
    let has_device = rows
        .iter()
        .any(|r| c.spread(Engine::Device, r.name).is_some());
    let columns: Vec<Engine> = c
        .columns()
        .iter()
        .copied()
        .chain(has_device.then_some(Engine::Device))
        .collect();
    let table = |cell: &dyn Fn(Engine, &Row) -> String| {
        let header = std::iter::once("").chain(columns.iter().map(|e| e.name()));
        output::table(
            header,
            rows.iter().map(|row| {
                std::iter::once(row.label.to_owned())
                    .chain(columns.iter().map(|&e| cell(e, row)))
                    .collect()
            }),
        )
    };
    if columns.len() <= TOGETHER {
        return table(&|e, row| median(c, e, row));
    }
    let values = table(&|e, row| {
        c.spread(e, row.name)
            .map_or("-".to_owned(), |s| shown(row.unit, s.median))
    });
    let ratios = table(&|e, row| ratio(c, e, row).map_or("-".to_owned(), times));
    format!("{values}\n\n{ratios}")
}

/// So many engines have room for the ratios beside the values.
const TOGETHER: usize = 5;

/// How many times better ours is; none for ours.
fn ratio(c: &Comparison, engine: Engine, row: &Row) -> Option<f64> {
    let theirs = c.spread(engine, row.name)?.median;
    let ours = c.spread(Engine::Gaur, row.name)?.median;
    if engine == Engine::Gaur || theirs <= 0.0 || ours <= 0.0 {
        return None;
    }
    Some(match row.unit {
        Unit::Rate => ours / theirs,
        Unit::Millis | Unit::Bytes => theirs / ours,
    })
}

/// A median with the ratio of ours to it.
fn median(c: &Comparison, engine: Engine, row: &Row) -> String {
    let Some(spread) = c.spread(engine, row.name) else {
        return "-".to_owned();
    };
    let value = shown(row.unit, spread.median);
    match ratio(c, engine, row) {
        Some(ratio) => format!("{value} {}", times(ratio)),
        None => value,
    }
}

/// A ratio in four characters.
fn times(ratio: f64) -> String {
    match ratio {
        r if r < 9.95 => format!("x{r:.2}"),
        r if r < 99.5 => format!("x{r:.1}"),
        r => format!("x{r:.0}"),
    }
}

fn shown(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Rate if value >= 1e6 => format!("{:.2}M", value / 1e6),
        Unit::Rate if value >= 1e5 => format!("{:.0}k", value / 1e3),
        Unit::Rate if value >= 1e4 => format!("{:.1}k", value / 1e3),
        Unit::Rate | Unit::Millis if value >= 100.0 => format!("{value:.0}"),
        Unit::Rate | Unit::Millis if value >= 1.0 => format!("{value:.1}"),
        Unit::Rate | Unit::Millis => format!("{value:.3}"),
        Unit::Bytes => format!("{:.0}M", value / f64::from(1 << 20)),
    }
}

fn spreads(c: &Comparison) -> String {
    let header = std::iter::once("").chain(c.columns().iter().map(|e| e.name()));
    output::table(
        header,
        c.plan.rows().map(|row| {
            let of = |&e: &Engine| match c.spread(e, row.name) {
                Some(s) if s.median > 0.0 => {
                    format!("{:.2}-{:.2}", s.least / s.median, s.most / s.median)
                }
                _ => "-".to_owned(),
            };
            std::iter::once(row.label.to_owned())
                .chain(c.columns().iter().map(of))
                .collect()
        }),
    )
}

/// Flushes for each durable commit, and a mark where there were none.
fn flushes(c: &Comparison) -> Option<String> {
    let each = |e: Engine, row: &str| {
        let (mut flushes, mut calls) = (0, 0);
        for t in c.of(e, row).filter(|t| t.figure.durable) {
            flushes += t.figure.flushes?;
            calls += t.figure.calls;
        }
        (calls > 0).then(|| flushes as f64 / calls as f64)
    };
    let rows: Vec<Vec<String>> = c
        .plan
        .rows()
        .filter(|row| {
            c.figures
                .iter()
                .any(|t| t.figure.row == row.name && t.figure.durable)
        })
        .map(|row| {
            let of = |&e: &Engine| match each(e, row.name) {
                Some(0.0) => "0 NOT DURABLE".to_owned(),
                Some(n) => format!("{n:.2}"),
                None => "-".to_owned(),
            };
            std::iter::once(row.label.to_owned())
                .chain(c.columns().iter().map(of))
                .collect()
        })
        .collect();
    let known = c.figures.iter().any(|t| t.figure.flushes.is_some());
    if rows.is_empty() || !known {
        return None;
    }
    let header = std::iter::once("").chain(c.columns().iter().map(|e| e.name()));
    Some(output::table(header, rows))
}

fn memory(c: &Comparison) -> String {
    let header = std::iter::once("").chain(c.columns().iter().map(|e| e.name()));
    let rows = c.plan.stages().into_iter().map(|stage| {
        let name = match stage {
            Stage::Cached => "in cache",
            Stage::Table => "redb's table",
            Stage::Cold => "out of cache",
        };
        let of = |&e: &Engine| {
            c.memory
                .iter()
                .filter(|m| m.0 == e && m.1 == stage)
                .map(|m| m.2)
                .max()
                .map_or("-".to_owned(), |n| shown(Unit::Bytes, n as f64))
        };
        std::iter::once(name.to_owned())
            .chain(c.columns().iter().map(of))
            .collect()
    });
    output::table(header, rows)
}

fn bars(all: &[Judged]) -> String {
    output::table(
        ["row", "against", "wanted", "is", ""],
        all.iter().map(|j| {
            vec![
                super::rows::of(j.row).map_or(j.row, |r| r.label).to_owned(),
                j.against.clone(),
                format!("x{:.1}", j.least),
                j.ratio.map_or("-".to_owned(), times),
                match j.reached {
                    Some(true) => "reached",
                    Some(false) => "NOT REACHED",
                    None => "not measured",
                }
                .to_owned(),
            ]
        }),
    )
}

/// Lines of at most 98 columns.
fn settings(c: &Comparison) -> String {
    let mut out = String::new();
    for (engine, all) in &c.settings {
        for (name, what) in all {
            let line = format!(" {:9} {name}: {what}", engine.name());
            let mut rest = line.as_str();
            while rest.chars().count() > WIDTH {
                let at = rest[..floor(rest, WIDTH)].rfind(' ').unwrap_or(WIDTH);
                if at < INDENT {
                    break;
                }
                let _ = writeln!(out, "{}", &rest[..at]);
                rest = &rest[at..];
                let _ = write!(out, "{:INDENT$}", "");
            }
            let _ = writeln!(out, "{rest}");
        }
    }
    out.trim_end().to_owned()
}

/// The widest a line may be, and how far one that goes on is set in.
const WIDTH: usize = 84;
const INDENT: usize = 12;

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0)
}

fn troubles(c: &Comparison) -> Vec<String> {
    c.failures
        .iter()
        .map(|t| {
            let row = t.row.as_deref().unwrap_or("before or after a row");
            format!(" {}, round {}, {row}: {}", t.engine.name(), t.round, t.what)
        })
        .collect()
}

/// As Markdown, for a document.
pub(crate) fn as_markdown(c: &Comparison) -> String {
    let mut out = String::new();
    for (name, what) in facts(c) {
        let _ = writeln!(out, "- {name}: {what}");
    }
    for (title, stage) in TITLES {
        let rows: Vec<_> = c.plan.rows().filter(|r| r.stage == stage).collect();
        if rows.is_empty() {
            continue;
        }
        let mut columns = c.columns().to_vec();
        if rows
            .iter()
            .any(|r| c.spread(Engine::Device, r.name).is_some())
        {
            columns.push(Engine::Device);
        }
        let _ = writeln!(out, "\n{title}:\n");
        heading(&mut out, columns.iter().map(|e| e.name()));
        for row in rows {
            let of = |&e: &Engine| median(c, e, row);
            cells(&mut out, row.label, columns.iter().map(of));
        }
    }
    let _ = writeln!(out, "\n{SPREADS}:\n");
    heading(&mut out, c.columns().iter().map(|e| e.name()));
    for row in c.plan.rows() {
        let of = |&e: &Engine| match c.spread(e, row.name) {
            Some(s) if s.median > 0.0 => {
                format!("{:.2}–{:.2}", s.least / s.median, s.most / s.median)
            }
            _ => "-".to_owned(),
        };
        cells(&mut out, row.label, c.columns().iter().map(of));
    }
    let _ = writeln!(out, "\nWanted:\n");
    heading(&mut out, ["against", "wanted", "is", ""].into_iter());
    for j in judge(c) {
        let reached = match j.reached {
            Some(true) => "reached",
            Some(false) => "**not reached**",
            None => "not measured",
        };
        let label = super::rows::of(j.row).map_or(j.row, |r| r.label);
        let is = j.ratio.map_or("-".to_owned(), times);
        let line = [
            j.against,
            format!("x{:.1}", j.least),
            is,
            reached.to_owned(),
        ];
        cells(&mut out, label, line.into_iter());
    }
    for line in troubles(c) {
        let _ = writeln!(out, "\nNot done:{line}");
    }
    out.trim_end().to_owned()
}

fn heading<'a>(out: &mut String, names: impl Iterator<Item = &'a str>) {
    let names: Vec<_> = names.collect();
    let _ = writeln!(out, "| | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(names.len()));
}

fn cells(out: &mut String, label: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<_> = cells.collect();
    let _ = writeln!(out, "| {label} | {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::plan::Plan;
    use super::super::rows::{FLOOR, ROWS};
    use super::super::wire::Figure;
    use super::super::{Environment, Trouble};
    use super::*;
    use crate::floor::Moment;
    use crate::subject::peers::Peer;

    /// All engines, all rows, three rounds; ours twice as good as any other.
    fn full() -> Comparison {
        let engines: Vec<_> = std::iter::once(Engine::Gaur)
            .chain(Peer::ALL.map(Engine::Peer))
            .collect();
        let mut figures = Vec::new();
        for round in 1..=3 {
            for row in ROWS {
                for &engine in &engines {
                    let good = if engine == Engine::Gaur { 2.0 } else { 1.0 };
                    let value = match row.unit {
                        Unit::Rate => 1e5 * good,
                        Unit::Millis => 1e4 / good,
                        Unit::Bytes => 1e10 / good,
                    };
                    figures.push(Taken {
                        engine,
                        round,
                        figure: Figure {
                            row: row.name.to_owned(),
                            value: value * f64::from(round),
                            calls: 10,
                            flushes: Some(if engine == Engine::Gaur { 0 } else { 20 }),
                            durable: row.group == "durable",
                            ..Figure::default()
                        },
                    });
                }
            }
            for (row, _) in FLOOR {
                figures.push(Taken {
                    engine: Engine::Device,
                    round,
                    figure: Figure {
                        row: row.to_owned(),
                        value: 1e6 * f64::from(round),
                        ..Figure::default()
                    },
                });
            }
        }
        Comparison {
            plan: Plan {
                rows: ROWS.iter().map(|r| r.name.to_owned()).collect(),
                records: 5_000_000,
                key_bytes: 24,
                value_bytes: 150,
                cache: 4 << 30,
                cold_cache: 256 << 20,
                interval: std::time::Duration::from_secs(1),
                rounds: 3,
                seconds: 5.0,
                seed: 1,
                engines: engines.clone(),
            },
            environment: Environment {
                gaur: "0",
                optimised: true,
                kernel: "6".into(),
                cpu: "a processor".into(),
                cpus: 2,
                place: "a device".into(),
                limit: "none".into(),
                notes: vec!["a note".into()],
            },
            settings: BTreeMap::from([(Engine::Gaur, vec![("long".into(), "word ".repeat(60))])]),
            figures,
            failures: vec![Trouble {
                engine: Engine::Peer(Peer::Redb),
                round: 2,
                stage: Stage::Cold,
                row: None,
                what: "killed".into(),
            }],
            memory: vec![(Engine::Gaur, Stage::Cold, 1 << 28)],
            machine: Moment::now().until_now(),
            interrupted: false,
        }
    }

    #[test]
    fn no_line_is_wider_than_98_columns() {
        let text = as_text(&full());
        for line in text.lines() {
            assert!(line.chars().count() <= 98, "{line}");
        }
    }

    #[test]
    fn medians_ratios_and_bars_follow_from_the_figures() {
        let c = full();
        let s = c.spread(Engine::Gaur, "read-1").unwrap();
        assert_eq!((s.least, s.median, s.most, s.rounds), (2e5, 4e5, 6e5, 3));
        let text = as_text(&c);
        assert!(text.contains("NOT DURABLE"), "{text}");
        assert!(text.contains("redb, round 2"), "{text}");
        for j in judge(&c) {
            let (ratio, reached) = match j.row {
                "cold-32" => (0.2, false),
                "durable-16" => (2.0, false),
                _ => (2.0, true),
            };
            let is = j.ratio.unwrap();
            assert!((is - ratio).abs() < 1e-9, "{j:?}");
            assert_eq!(j.reached, Some(reached), "{j:?}");
        }
        let markdown = as_markdown(&c);
        assert!(
            markdown.contains("| bulk load | 10000 | 20000 x2.00 |"),
            "{markdown}"
        );
    }

    #[test]
    fn a_bar_without_all_its_figures_is_not_judged() {
        let mut c = full();
        c.figures
            .retain(|t| t.engine != Engine::Peer(Peer::Canopydb));
        for j in judge(&c) {
            let of_four = j.against.contains("four") || j.against.contains("canopydb");
            assert_eq!(j.reached.is_none(), of_four, "{j:?}");
        }
    }
}
