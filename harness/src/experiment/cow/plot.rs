//! Plots: a figure for each thing measured, as SVG, with a panel for each map, latency
//! and kind of checkpoints. Dots are medians, lines through them from least to most.

use std::fmt::Display;
use std::path::Path;

use plotters::prelude::*;

use super::figures::{Figures, Middle, Runs};
use super::plan::{Cell, Mode, Plan, Setting};
use crate::failure::Failure;

/// What is drawn: file name, title, figure.
type Subject = (&'static str, &'static str, fn(&Figures) -> f64);

const MICRO: f64 = 1000.0;

const SUBJECTS: [Subject; 4] = [
    ("throughput", "puts a second", |f| f.puts_per_second),
    ("p99", "p99 of a put, µs", |f| f.put.p99 as f64 / MICRO),
    ("p99.99", "p99.99 of a put, µs", |f| {
        f.put.p99_99 as f64 / MICRO
    }),
    ("held", "p99.99 of latches held, µs", |f| {
        f.latch_held.p99_99 as f64 / MICRO
    }),
];

const PANEL: (u32, u32) = (330, 250);

fn color(mode: Mode) -> RGBColor {
    match mode {
        Mode::Inline => RGBColor(200, 60, 40),
        Mode::TwoStage => RGBColor(230, 160, 20),
        Mode::TwoStageThread => RGBColor(30, 100, 180),
    }
}

fn cannot(path: &Path, e: impl Display) -> Failure {
    Failure::refused(format!("cannot draw {}: {e}", path.display()))
}

/// Draws all figures into the folder that the plan names.
pub(super) fn draw(plan: &Plan, runs: &Runs) -> Result<(), Failure> {
    let Some(folder) = &plan.plots else {
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(|e| Failure::file("make", folder, &e))?;
    for subject in SUBJECTS {
        let path = folder.join(format!("{}.svg", subject.0));
        one(plan, runs, subject, &path).map_err(|e| cannot(&path, e))?;
    }
    Ok(())
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn one(plan: &Plan, runs: &Runs, (_, title, figure): Subject, path: &Path) -> Drawn {
    let settings = plan.settings();
    let mut rows: Vec<_> = settings
        .iter()
        .map(|s| (s.checkpoints, s.cold_map))
        .collect();
    rows.dedup();
    let mut columns: Vec<_> = settings.iter().map(|s| s.latency).collect();
    columns.sort_unstable();
    columns.dedup();
    let value = |setting, mode| runs.middle(Cell { setting, mode }, figure);
    let all = settings
        .iter()
        .flat_map(|&s| Mode::ALL.map(|mode| value(s, mode)))
        .flatten()
        .filter(|m| m.least > 0.0);
    // One scale for all panels, so that they can be compared.
    let ends: Vec<f64> = all.flat_map(|m| [m.least, m.most]).collect();
    let Some(scale) = Middle::of(ends) else {
        return Ok(());
    };
    let scale = scale.least * 0.8..scale.most * 1.25;

    let size = (
        PANEL.0 * columns.len() as u32,
        PANEL.1 * rows.len() as u32 + 50,
    );
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(title, ("sans-serif", 18))?;
    let (legend, root) = root.split_vertically(20);
    for (i, mode) in Mode::ALL.into_iter().enumerate() {
        let at = (20 + 170 * i as i32, 4);
        legend.draw(&Circle::new((at.0, at.1 + 6), 4, color(mode).filled()))?;
        legend.draw(&Text::new(
            mode.name(),
            (at.0 + 10, at.1),
            ("sans-serif", 14),
        ))?;
    }
    let panels = root.split_evenly((rows.len(), columns.len()));
    for (i, panel) in panels.iter().enumerate() {
        let (checkpoints, cold_map) = rows[i / columns.len()];
        let latency = columns[i % columns.len()];
        let shown: Vec<Setting> = settings
            .iter()
            .filter(|s| s.kind() == (checkpoints, cold_map, latency))
            .copied()
            .collect();
        let Some(first) = shown.first() else {
            continue;
        };
        let caption = format!(
            "{} map, +{}, {} checkpoints",
            first.map(),
            first.latency(),
            if checkpoints { "with" } else { "no" }
        );
        let writers = |s: &Setting| s.writers as f64;
        let most = shown.iter().map(writers).fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(panel)
            .margin(6)
            .caption(caption, ("sans-serif", 13))
            .x_label_area_size(28)
            .y_label_area_size(62)
            .build_cartesian_2d(
                (0.8..most * 1.25)
                    .log_scale()
                    .with_key_points(shown.iter().map(writers).collect()),
                scale.clone().log_scale(),
            )?;
        chart
            .configure_mesh()
            .x_desc("writers")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| short(*y))
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .draw()?;
        for mode in Mode::ALL {
            let points: Vec<_> = shown
                .iter()
                .filter_map(|&s| Some((s.writers as f64, value(s, mode)?)))
                .filter(|(_, m)| m.least > 0.0)
                .collect();
            let line = points.iter().map(|(x, m)| (*x, m.median));
            chart.draw_series(LineSeries::new(line, color(mode)))?;
            for (x, m) in points {
                let ends = vec![(x, m.least), (x, m.most)];
                chart.draw_series([PathElement::new(ends, color(mode))])?;
                chart.draw_series([Circle::new((x, m.median), 3, color(mode).filled())])?;
            }
        }
    }
    root.present()?;
    Ok(())
}

fn short(y: f64) -> String {
    match y {
        0.0..10.0 => format!("{y:.1}"),
        10.0..10_000.0 => format!("{y:.0}"),
        10_000.0..1e6 => format!("{:.0}k", y / 1e3),
        _ => format!("{:.1}M", y / 1e6),
    }
}
