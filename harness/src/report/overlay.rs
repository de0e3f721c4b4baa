//! Runs laid over each other: percentile curves, throughput and p99 over time, a row of
//! plots for each operation.

use askama::Template;

use super::charts::{self, Named};
use super::data::RunData;
use super::data::time::{Column, Columns};
use super::image::{self, Panel};
use super::page::{self, Figure, Shell};
use super::plot::axis::Axis;
use super::plot::unit::{Unit, nanos};
use super::plot::{Chart, Line, Size, Table};
use crate::failure::Failure;
use crate::units;

/// One plot of a sheet.
const PLOT: Size = Size {
    width: 480.0,
    height: 320.0,
};

/// Runs with a name each, and their time.
pub(crate) struct Overlay {
    runs: Vec<(String, RunData, Columns)>,
}

#[derive(Template)]
#[template(path = "overlay.html")]
struct Page {
    shell: Shell,
    title: String,
    facts: Vec<(String, String)>,
    warnings: Vec<String>,
    operations: Vec<(String, Vec<Vec<String>>, Vec<Figure>)>,
}

impl Overlay {
    pub(crate) fn new(runs: Vec<RunData>) -> Result<Self, Failure> {
        let names = names(&runs.iter().collect::<Vec<_>>());
        let with = |(name, run): (String, RunData)| {
            let columns = Columns::of(&run)?;
            Ok((name, run, columns))
        };
        let runs = names.into_iter().zip(runs).map(with);
        Ok(Self {
            runs: runs.collect::<Result<_, Failure>>()?,
        })
    }

    /// Operations of the measured phases, as the first runs have them.
    pub(crate) fn operations(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let phases = self.runs.iter().filter_map(|(_, run, _)| run.measured());
        for operation in phases.flat_map(|p| &p.operations) {
            if operation.latency.count > 0 && !names.contains(&operation.name) {
                names.push(operation.name.clone());
            }
        }
        names
    }

    /// The page.
    pub(crate) fn html(&self, operations: &[String]) -> Result<String, Failure> {
        let page = Page {
            shell: Shell::new(),
            title: self.title(),
            facts: self.facts(),
            warnings: self.warnings(),
            operations: operations
                .iter()
                .map(|o| {
                    let notes = ["Percentiles", "Throughput", "Latency over time"];
                    let charts = self.charts(o).into_iter().zip(notes);
                    let figures =
                        charts
                            .filter(|(c, _)| !c.is_empty())
                            .map(|(c, note)| match note {
                                "Percentiles" => Figure::new(c, note).full(),
                                _ => Figure::new(c, note),
                            });
                    (o.clone(), self.rows(o), figures.collect())
                })
                .collect(),
        };
        page.render()
            .map_err(|e| Failure::refused(format!("cannot make the page: {e}")))
    }

    /// One drawing of all plots.
    pub(crate) fn svg(&self, operations: &[String]) -> String {
        let per: Vec<Vec<Panel>> = operations
            .iter()
            .map(|o| {
                let charts = self.charts(o).into_iter().filter(|c| !c.is_empty());
                charts
                    .map(|c| Panel {
                        title: c.title.clone(),
                        svg: c.sized(PLOT),
                    })
                    .collect()
            })
            .collect();
        let across = per.iter().map(Vec::len).max().unwrap_or(1);
        let panels: Vec<Panel> = per.into_iter().flatten().collect();
        image::sheet(&self.title(), &panels, across, PLOT)
    }

    fn title(&self) -> String {
        let names: Vec<&str> = self.runs.iter().map(|r| r.0.as_str()).collect();
        match names.len() {
            0..=4 => names.join(", "),
            n => format!("{n} runs"),
        }
    }

    fn facts(&self) -> Vec<(String, String)> {
        let fact = |(name, run, _): &(String, RunData, Columns)| {
            let kind = run.measured().map_or("", |p| match p.is_open_loop() {
                true => "open loop",
                false => "closed loop",
            });
            let started = run.summary.started.clone().unwrap_or_default();
            let parts = [run.dir.display().to_string(), started, kind.to_owned()];
            let parts: Vec<_> = parts.into_iter().filter(|p| !p.is_empty()).collect();
            (name.clone(), parts.join(" · "))
        };
        self.runs.iter().map(fact).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let mut kinds = self.runs.iter().filter_map(|(_, run, _)| run.measured());
        let open = kinds.clone().any(super::data::Phase::is_open_loop);
        let mut list = Vec::new();
        if open && kinds.any(|p| !p.is_open_loop()) {
            list.push(
                "open and closed loops together: in an open loop latency counts from the intended \
                 start, in a closed one from the real start, so they do not compare"
                    .to_owned(),
            );
        }
        if self.runs.iter().any(|r| r.2.list.is_empty()) {
            list.push("a run without series.jsonl is missing from the plots over time".to_owned());
        }
        list
    }

    fn rows(&self, operation: &str) -> Vec<Vec<String>> {
        let row = |(name, run, _): &(String, RunData, Columns)| {
            let found = run
                .measured()?
                .operations
                .iter()
                .find(|o| o.name == operation);
            let l = &found?.latency;
            let mut row = vec![
                name.clone(),
                units::count(l.count),
                units::rate(l.per_second),
            ];
            for p in ["p50", "p99", "p99.9", "p99.99"] {
                row.push(l.percentile(p).map_or("–".into(), |v| nanos(v as f64)));
            }
            row.push(nanos(l.max_ns as f64));
            Some(row)
        };
        self.runs.iter().filter_map(row).collect()
    }

    fn charts(&self, operation: &str) -> [Chart; 3] {
        let curves = self
            .runs
            .iter()
            .enumerate()
            .filter_map(|(i, (name, run, _))| {
                Some(Named {
                    name: name.clone(),
                    style: i,
                    dashed: false,
                    curve: run.curve(operation, false)?,
                })
            });
        let curves: Vec<_> = curves.collect();
        let rate = |c: &Column| {
            let cell = c.operations.get(operation).filter(|c| c.count > 0)?;
            Some(cell.count as f64 / c.seconds)
        };
        let p99 = |c: &Column| {
            let cell = c.operations.get(operation).filter(|c| c.count > 0)?;
            cell.latency[2]
        };
        [
            charts::percentiles(
                &format!("percentiles-{operation}"),
                &format!("Latency of {operation} by percentile"),
                &curves,
            ),
            self.over_time(
                &format!("throughput-{operation}"),
                &format!("Throughput of {operation}"),
                Unit::PerSecond,
                |v| Axis::from_zero("operations a second", Unit::Count, v),
                &rate,
            ),
            self.over_time(
                &format!("p99-{operation}"),
                &format!("p99 of {operation} over time"),
                Unit::Nanos,
                |v| Axis::latency(v),
                &p99,
            ),
        ]
    }

    /// A quantity of each run since its measured phase began.
    fn over_time(
        &self,
        id: &str,
        title: &str,
        unit: Unit,
        axis: impl FnOnce(&mut dyn Iterator<Item = f64>) -> Axis,
        take: &dyn Fn(&Column) -> Option<f64>,
    ) -> Chart {
        let mut lines: Vec<Line> = Vec::new();
        // Begin, end and value of each column, by run.
        let mut spans: Vec<Vec<(f64, f64, f64)>> = Vec::new();
        for (i, (name, run, columns)) in self.runs.iter().enumerate() {
            let phase = run.measured().map_or("", |p| p.name.as_str());
            let mut list = columns.list.iter().filter(|c| c.phase == phase).peekable();
            let Some(begin) = list.peek().map(|c| c.begin) else {
                continue;
            };
            let each = list.map(|c| (c.begin - begin, c.end - begin, take(c).unwrap_or(f64::NAN)));
            let each: Vec<_> = each.collect();
            let points = each.iter().map(|(a, b, v)| (f64::midpoint(*a, *b), *v));
            lines.push(Line {
                name: name.clone(),
                style: i,
                dashed: false,
                points: points.collect(),
            });
            spans.push(each);
        }
        let y = axis(&mut spans.iter().flatten().map(|s| s.2));
        let end = spans.iter().flatten().map(|s| s.1).fold(1.0, f64::max);
        let x = Axis::time("time since the measured phase began", 0.0, end);
        let mut chart = Chart::new(id, title, x, y);
        chart.note = format!("{title}, of each run.");
        let longest = spans
            .iter()
            .max_by_key(|s| s.len())
            .cloned()
            .unwrap_or_default();
        chart.table = Table {
            head: std::iter::once("time".to_owned())
                .chain(lines.iter().map(|l| l.name.clone()))
                .collect(),
            rows: longest
                .iter()
                .map(|(from, to, _)| {
                    let middle = f64::midpoint(*from, *to);
                    let at = |s: &Vec<(f64, f64, f64)>| {
                        let found = s.iter().find(|c| c.0 <= middle && middle < c.1);
                        unit.show(found.map_or(f64::NAN, |c| c.2))
                    };
                    let when = format!("{:.1}–{:.1} s", from.max(0.0), to);
                    let cells = std::iter::once(when).chain(spans.iter().map(at));
                    (middle, cells.collect())
                })
                .collect(),
            tip: lines.len() + 1,
        };
        chart.lines = lines;
        chart
    }
}

/// Names that tell two runs apart.
pub(crate) fn names_of_two(a: &RunData, b: &RunData) -> Vec<String> {
    names(&[a, b])
}

/// Names that tell runs apart: their own, else their directories'.
fn names(runs: &[&RunData]) -> Vec<String> {
    let unique = |names: &[String]| {
        let mut sorted: Vec<_> = names.iter().collect();
        sorted.sort();
        sorted.windows(2).all(|w| w[0] != w[1])
    };
    let own: Vec<_> = runs.iter().map(|r| page::title(r)).collect();
    if unique(&own) {
        return own;
    }
    let dir = |r: &&RunData| match r.dir.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => r.dir.display().to_string(),
    };
    let dirs: Vec<_> = runs.iter().map(dir).collect();
    if unique(&dirs) {
        return dirs;
    }
    let paths: Vec<_> = runs.iter().map(|r| r.dir.display().to_string()).collect();
    if unique(&paths) {
        return paths;
    }
    let numbered = paths.iter().enumerate();
    numbered.map(|(i, p)| format!("{p} ({})", i + 1)).collect()
}
