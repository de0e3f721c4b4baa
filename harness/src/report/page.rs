//! `report.html`: what is on it, in order.

use askama::Template;

use super::charts::{self, Named};
use super::data::time::Columns;
use super::data::{Phase, RunData};
use super::notes;
use super::panels::{self, Counters, FloorPanel, Pairs, Slow, Tile};
use super::plot::{Chart, palette};
use crate::failure::Failure;

/// What pages share: style, script, colours.
pub(super) struct Shell {
    pub(super) light: String,
    pub(super) dark: String,
    pub(super) style: &'static str,
    pub(super) plot_style: &'static str,
    pub(super) script: &'static str,
}

impl Shell {
    pub(super) fn new() -> Self {
        Self {
            light: palette::variables(false),
            dark: palette::variables(true),
            style: include_str!("../../templates/page.css"),
            plot_style: super::image::STYLE,
            script: include_str!("../../templates/page.js"),
        }
    }
}

/// A chart on a page, and how to read it.
pub(super) struct Figure {
    pub(super) chart: Chart,
    pub(super) about: String,
    /// As wide as the page.
    pub(super) full: bool,
}

impl Figure {
    pub(super) fn new(chart: Chart, note: &str) -> Self {
        Self {
            chart,
            about: notes::about(note),
            full: false,
        }
    }

    pub(super) fn full(mut self) -> Self {
        self.full = true;
        self
    }
}

impl Chart {
    /// The class of the line that a column of the table shows, if it shows one.
    pub(super) fn style_of(&self, name: &str) -> String {
        let line = self.lines.iter().find(|l| l.name == name);
        line.map_or_else(String::new, |l| format!("c{}", l.style % palette::LINES))
    }
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    shell: Shell,
    title: String,
    facts: Vec<String>,
    badges: Vec<(&'static str, String)>,
    tiles: Vec<Tile>,
    phases: Vec<panels::PhaseTable>,
    percentiles: Vec<Figure>,
    over_time: Vec<Figure>,
    /// Why there is nothing over time.
    no_time: &'static str,
    device: Vec<Figure>,
    device_total: Pairs,
    floor: Option<FloorPanel>,
    floor_about: String,
    engine: Vec<Figure>,
    stages: Vec<Counters>,
    waits: Vec<[String; 4]>,
    stages_about: String,
    others: Vec<Counters>,
    worst: Vec<Slow>,
    worst_about: String,
    environment: Pairs,
    check: &'a [String],
    config: &'a str,
}

/// The page of a run.
pub(super) fn render(run: &RunData) -> Result<String, Failure> {
    let columns = Columns::of(run)?;
    let summary = &run.summary;
    let nothing = Phase::default();
    let phase = run.measured().unwrap_or(&nothing);
    let page = Page {
        shell: Shell::new(),
        title: title(run),
        facts: panels::facts(summary, phase),
        badges: panels::badges(summary, phase),
        tiles: panels::tiles(summary, phase),
        phases: panels::phases(summary),
        percentiles: percentiles(run, phase),
        over_time: over_time(run, &columns),
        no_time: match columns.list.is_empty() {
            true => "This run has no series.jsonl: nothing is known of it over time.",
            false => "",
        },
        device: figures(charts::device(&columns), "Device"),
        device_total: panels::device(phase),
        floor: summary.floor.as_ref().and_then(FloorPanel::of),
        floor_about: notes::about("Floor"),
        engine: figures(
            charts::engine(&columns, summary.memory.bound_bytes),
            "Amplification and memory",
        ),
        stages: panels::stages(phase),
        waits: panels::waits(phase),
        stages_about: notes::about("Two stages"),
        others: panels::others(phase),
        worst: panels::worst(phase),
        worst_about: notes::about("Worst operations"),
        environment: panels::environment(summary),
        check: summary.check.as_ref().map_or(&[], |c| &c.problems),
        config: run.toml.as_deref().unwrap_or_default(),
    };
    page.render()
        .map_err(|e| Failure::refused(format!("cannot make the page: {e}")))
}

/// What a run is called: its name, else its directory's.
pub(super) fn title(run: &RunData) -> String {
    let dir = run.dir.file_name().unwrap_or(run.dir.as_os_str());
    match run.summary.name.as_str() {
        "" => dir.to_string_lossy().into_owned(),
        name => name.to_owned(),
    }
}

fn figures(charts: impl IntoIterator<Item = Chart>, note: &str) -> Vec<Figure> {
    charts
        .into_iter()
        .filter(|c| !c.is_empty())
        .map(|c| Figure::new(c, note))
        .collect()
}

/// All operations of the measured phase in one plot; in an open loop one for each, for
/// then each has two lines.
fn percentiles(run: &RunData, phase: &Phase) -> Vec<Figure> {
    let named = |name: &str, label: String, style: usize, service: bool| {
        let curve = run.curve(name, service)?;
        Some(Named {
            name: label,
            style,
            dashed: service,
            curve,
        })
    };
    let mut operations: Vec<_> = phase.operations.iter().collect();
    operations.sort_by_key(|o| std::cmp::Reverse(o.latency.count));
    let all: Vec<_> = operations
        .iter()
        .enumerate()
        .filter_map(|(i, o)| named(&o.name, o.name.clone(), i, false))
        .collect();
    let mut list = Vec::new();
    if !all.is_empty() {
        list.push(charts::percentiles(
            "percentiles",
            "Latency by percentile",
            &all,
        ));
    }
    for (i, o) in operations.iter().enumerate() {
        let Some(service) = named(&o.name, "service, from the real start".into(), i, true) else {
            continue;
        };
        let intended = named(&o.name, "from the intended start".into(), i, false);
        let pair: Vec<_> = intended.into_iter().chain([service]).collect();
        list.push(charts::percentiles(
            &format!("percentiles-{}", o.name),
            &format!("Latency of {}, due and begun", o.name),
            &pair,
        ));
    }
    let figures = figures(list, "Percentiles").into_iter().enumerate();
    let first = |(i, f): (usize, Figure)| if i == 0 { f.full() } else { f };
    figures.map(first).collect()
}

fn over_time(run: &RunData, columns: &Columns) -> Vec<Figure> {
    // Loading and reading back go at paces of their own, which would flatten the rest.
    let aside = |phase: &str| {
        let mut phases = run.summary.phases.iter();
        let found = phases.find(|p| p.name == phase);
        ["load", "readback"].contains(&found.map_or(phase, Phase::kind))
    };
    let all_aside = columns.list.iter().all(|c| aside(&c.phase));
    let throughput = charts::throughput("throughput", "Throughput", columns, &|phase| {
        all_aside || !aside(phase)
    });
    let throughput = figures([throughput], "Throughput");
    let mut list: Vec<_> = throughput.into_iter().map(Figure::full).collect();
    for name in columns.operations() {
        // A single point is no course.
        if columns.times_of(&name) > 1 {
            let latency = charts::latency(columns, &name);
            list.extend(figures([latency], "Latency over time"));
            list.extend(figures(charts::heat(columns, &name), "Heat map"));
        }
    }
    if !all_aside {
        let title = "Throughput of loading and reading back";
        let chart = charts::throughput("throughput-aside", title, columns, &aside);
        let points = chart.lines.iter().flat_map(|l| &l.points);
        if points.filter(|p| p.1.is_finite()).count() > 2 {
            list.extend(figures([chart], "Throughput"));
        }
    }
    list
}
