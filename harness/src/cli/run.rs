//! `gaur run`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::run::rehearse::{may_make, rehearse};
use crate::run::{config::Create, execute, file, report, write_summary};
use crate::{interrupt, output};

const HELP: &str = "\
Examples:
  gaur run configs/quickstart.toml
  gaur run configs/ycsb-a.toml --device /dev/loop0 --set run.threads=8
  gaur run configs/ycsb-a.toml --set run.rate=5000 --out runs/open-loop
  gaur run runs/open-loop/run.toml        the same run again
  gaur run configs/null.toml              what the harness itself costs
  gaur run configs/ycsb-a.toml --device /dev/loop0 --dry-run
  gaur run workloads/workloada --device ycsb.store      YCSB's own files
  gaur run configs/ycsb-a.toml --trace recorded.trace   what another run recorded

Every key of a configuration can be set: --set run.mix.read=0.5, --set
store.cache=1GiB. The README lists all keys. Ctrl-C ends a run in good order.";

/// Run a workload that a TOML file describes, and report its latencies.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct RunArgs {
    /// The configuration: TOML, or a property file of YCSB.
    config: PathBuf,
    /// Override a key of the configuration.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The device or file to use instead of the configuration's.
    #[arg(long, value_name = "PATH")]
    device: Option<String>,
    /// Do the operations of a trace in place of the mix (docs/traces.md).
    #[arg(long, value_name = "FILE")]
    trace: Option<String>,
    /// Replace a store that --device names, if the configuration asks for a fresh one.
    #[arg(long)]
    fresh: bool,
    /// Make all checks, tell what would be done, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write the summary as JSON to this file; - is standard output, without the report.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write histograms, summary.json, run.toml and report.html into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<String>,
    /// As `--format` has it: the summary is all that goes to standard output.
    #[arg(skip)]
    pub(super) to_stdout: bool,
}

pub(super) fn run(a: &RunArgs) -> Outcome {
    let mut sets = a.sets.clone();
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    if let Some(path) = &a.device {
        sets.push(format!("store.path={}", quoted(path)));
    }
    if let Some(trace) = &a.trace {
        sets.push(format!("run.trace={}", quoted(trace)));
    }
    if let Some(dir) = &a.out {
        sets.push(format!("output.dir={}", quoted(dir)));
    }
    let (config, notes) = file::load(&a.config, &sets)?;
    for note in notes {
        output::complain(&note);
    }
    let set = |key: &str| {
        a.sets
            .iter()
            .any(|s| s.split('=').next().map(str::trim) == Some(key))
    };
    // A file asks for its own store to be replaced, not for whatever it is pointed at.
    let elsewhere = a.device.is_some() || set("store.path");
    let may_replace =
        a.fresh || !elsewhere || (set("store.create") && config.store.create == Create::Fresh);
    let name = a
        .config
        .file_stem()
        .map_or_else(|| "run".into(), |n| n.to_string_lossy());

    let dash = a.json.as_deref() == Some(Path::new("-"));
    let to_stdout = dash || a.to_stdout;
    // Not only at the end of the run, which would be lost.
    let file = a.json.as_deref().filter(|_| !dash);
    if let Some(file) = file {
        may_write(file, config.output.dir.as_deref())?;
    }
    if a.dry_run {
        let would = rehearse(&config, may_replace)?;
        match to_stdout {
            true => output::json(&would.data)?,
            false => output::line(would.lines.join("\n"))?,
        }
        return Ok(FINE);
    }
    interrupt::catch();
    let summary = execute(&name, &config, may_replace, output::in_lines())?;
    if to_stdout {
        // A reader that is gone ends the process: the file comes first.
        if let Some(file) = file {
            write_summary(file, &summary)?;
        }
        output::json(&summary)?;
    } else {
        output::line(report::text(&summary))?;
        if let Some(file) = file {
            write_summary(file, &summary)?;
        }
        if let Some(dir) = &config.output.dir {
            output::line(format!(
                "histograms, series.jsonl, summary.json, run.toml and report.html are in {dir}"
            ))?;
        }
    }
    for missed in &summary.missed {
        output::complain(missed);
    }
    Ok(if summary.missed.is_empty() {
        FINE
    } else {
        FOUND
    })
}

/// Says whether the file could be written, and makes nothing. What is in the
/// directory of histograms can: the run makes that, and looks after it.
fn may_write(file: &Path, out: Option<&str>) -> Result<(), Failure> {
    let refused = |e: std::io::Error| Failure::file("write", file, &e);
    if file.exists() {
        let opened = std::fs::OpenOptions::new().append(true).open(file);
        return opened.map(drop).map_err(refused);
    }
    let parent = match file.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if out.is_some_and(|out| Path::new(out).starts_with(parent)) {
        return Ok(());
    }
    std::fs::metadata(parent).map_err(refused)?;
    may_make(parent)
}
