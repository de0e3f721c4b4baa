//! The way of the experiment: make the store, run the cells in turn, tell.

use std::path::Path;
use std::time::{Duration, Instant};

use gaur::{FormatPlan, Store};

use super::figures::Runs;
use super::plan::Plan;
use super::{cell, plot, report};
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::progress::Progress;
use crate::run::config::StoreConfig;
use crate::run::environment::Environment;
use crate::run::store::means;
use crate::{interrupt, output, units};

/// What is between two cells, about: opening, reading the tree, closing.
const BETWEEN: Duration = Duration::from_millis(250);
/// Of the processors' time; beyond, the others are warned of.
const NOISE: f64 = 0.05;
/// Groups of the map, at least: with fewer a cold map is soon warm.
const LEAST_GROUPS: u64 = 32;
/// Bytes of a group: a block of bits, without its header.
const GROUP: u64 = (4096 - 64) * 8 * 4096;

/// What would be made, and how long it would take, with nothing written.
pub(crate) fn rehearse(plan: &Plan) -> Outcome {
    let format = plan_format(plan)?;
    introduce(plan)?;
    output::line(format!(
        "would make {}, {}{}; nothing was written",
        plan.path.display(),
        units::bytes(format.capacity),
        if plan.device {
            ""
        } else {
            " (sparse), and remove it at the end"
        }
    ))?;
    Ok(FINE)
}

fn plan_format(plan: &Plan) -> Result<FormatPlan, Failure> {
    let path = &plan.path;
    match (plan.device, path.exists()) {
        (false, true) => {
            return Err(Failure::refused(format!(
                "{} exists; remove it, or name another --path",
                path.display()
            )));
        }
        (true, false) => {
            return Err(Failure::refused(format!(
                "{} is not there; name a block device, or use --path for a file",
                path.display()
            )));
        }
        _ => {}
    }
    let format = Store::plan_format(path, &cell::format_options(plan))?;
    if format.capacity < LEAST_GROUPS * GROUP {
        return Err(Failure::refused(format!(
            "{} is too small for a map that stays cold; {} or more are needed, in a file sparse",
            units::bytes(format.capacity),
            units::bytes(LEAST_GROUPS * GROUP)
        )));
    }
    Ok(format)
}

fn introduce(plan: &Plan) -> Result<(), Failure> {
    let cells = plan.order().len();
    let all = plan.measured() + BETWEEN * cells as u32;
    let settings = plan.settings().len();
    output::line(format!(
        "copy-on-write: {settings} settings, 3 modes, {} rounds of {} s: {} cells, about {}; seed {}",
        plan.rounds,
        plan.seconds,
        units::count(cells as u64),
        humantime::format_duration(Duration::from_secs(all.as_secs())),
        plan.seed
    ))?;
    output::line(format!(
        "{} records of 16 + 100 bytes, {}; checkpoints each 200 ms; {} free blocks in a group at a time",
        units::count(plan.records),
        plan.rate.map_or_else(
            || "closed loop".to_owned(),
            |rate| format!("{} puts/s", units::rate(rate))
        ),
        plan.blocks_per_group
    ))?;
    if cfg!(debug_assertions) {
        output::line("a build without --release: its figures mean nothing")?;
    }
    Ok(())
}

/// Runs all.
pub(crate) fn run(plan: &Plan) -> Outcome {
    interrupt::catch();
    plan_format(plan)?;
    introduce(plan)?;
    Store::format(&plan.path, &cell::format_options(plan))?;
    let outcome = measure(plan);
    if !plan.device {
        // Made here, so it may be removed here.
        let _ = std::fs::remove_file(&plan.path);
    }
    let (runs, environment) = outcome?;
    tell(plan, &runs, &environment)
}

fn measure(plan: &Plan) -> Result<(Runs, Environment), Failure> {
    let (groups, nodes) = cell::fill(plan)?;
    output::line(format!(
        "a tree of about {} nodes, a map of {} groups",
        units::count(nodes),
        units::count(groups)
    ))?;
    let environment = look(&plan.path)?;
    let order = plan.order();
    let progress = Progress::of_work("cells", order.len() as u64);
    let begun = Instant::now();
    let mut runs = Runs::default();
    for (i, &(round, cell)) in order.iter().enumerate() {
        progress.show(i as u64, begun.elapsed());
        if interrupt::requested() {
            break;
        }
        // The modes of a setting get the same keys.
        let seed = plan.seed.wrapping_add(round as u64);
        let figures = cell::run(plan, cell, seed)
            .map_err(|e| e.adding(&format!("in {}, {}", cell.mode.name(), cell.setting)))?;
        runs.0.extend(figures.map(|f| (round, cell, f)));
    }
    progress.finish();
    Ok((runs, environment))
}

fn look(path: &Path) -> Result<Environment, Failure> {
    let config = StoreConfig {
        path: path.display().to_string(),
        ..StoreConfig::default()
    };
    let means = means(&config)?;
    let store = Store::open(path, &gaur::OpenOptions::default())?;
    let environment = Environment::look(&store, means, path);
    store.close()?;
    Ok(environment)
}

fn tell(plan: &Plan, runs: &Runs, environment: &Environment) -> Outcome {
    let wanted = plan.order().len();
    if runs.0.len() < wanted {
        output::line(format!(
            "interrupted: {} of {wanted} cells were run",
            runs.0.len()
        ))?;
    }
    let ratios = report::ratios(plan, runs);
    if !runs.0.is_empty() {
        output::line(report::cells(plan, runs))?;
        output::line(report::ratio_table(&ratios))?;
    }
    report::write_json(plan, runs, &ratios, environment)?;
    plot::draw(plan, runs)?;
    if let Some(others) = runs.others() {
        output::line(format!(
            "other programs took {:.0} % of the processors' time in a middling cell, {:.0} % in the \
             worst{}",
            others.median * 100.0,
            others.most * 100.0,
            if others.median > NOISE {
                ": too much to believe small differences"
            } else {
                ""
            }
        ))?;
    }
    let unsound: Vec<_> = runs.0.iter().filter(|r| !r.2.sound).collect();
    if let Some((round, cell, _)) = unsound.first() {
        output::line(format!(
            "WRONG: in {} cells reservations do not add up, or an operation restarted for space more \
             than twice in a generation; the first: {}, {}, round {round}",
            unsound.len(),
            cell.mode.name(),
            cell.setting
        ))?;
        return Ok(FOUND);
    }
    output::line(
        "in every cell reservations add up, and no operation restarted for space more than \
         twice in a generation",
    )?;
    Ok(FINE)
}
