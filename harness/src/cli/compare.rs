//! `gaur compare`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::form::Form;
use crate::compare::plan::Engine;
use crate::compare::{self, GROUPS, Place, Plan, as_markdown, as_text};
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::subject::peers::{Peer, not_built};
use crate::units::{Size, Span};
use crate::{interrupt, output};

const HELP: &str = "\
The others are in the build only if asked for:
  cargo build --release -p gaur-harness --features peers

All on the device is lost; one that is mounted or in use is refused, always, and one
that is not empty unless --force is given. The others run on ext4 that is made on the
same device in turn, which takes root. In the end no file system and no store is left on
it, but other data is: a second run takes --force. Ctrl-C ends it in good order, with
what there is.

Examples:
  gaur compare --device /dev/loop0 --quick
  gaur compare --device /dev/loop0 --records 5000000 --cache 4GiB --format markdown
  gaur compare --device /dev/loop0 --rows reads,durable --engines gaur,lmdb
  gaur compare --dir /tmp --quick         without root; figures not comparable";

/// Compare this engine with others: the same work, the same device, side by side.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct CompareArgs {
    /// The block device that all work on, in turn. All on it is lost.
    #[arg(long, value_name = "PATH", required_unless_present = "dir")]
    device: Option<PathBuf>,
    /// Work in files in this directory instead; the figures are not comparable.
    #[arg(long, value_name = "DIR", conflicts_with = "device")]
    dir: Option<PathBuf>,
    /// Use the device though it is not empty.
    #[arg(long)]
    force: bool,
    /// Fewer records, shorter cells and the most telling rows only: minutes.
    #[arg(long)]
    quick: bool,
    /// The engines; all that are built if absent.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    engines: Vec<String>,
    /// The rows, by name or group: load, reads, ycsb, durable, table, cold; all if absent.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    rows: Vec<String>,
    /// Records of the cached rows [default: 5000000; 500000 if --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1000..=1_000_000_000))]
    records: Option<u64>,
    /// Bytes of a key.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(8..=500))]
    key_bytes: u16,
    /// Bytes of a value.
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u16).range(1..=1500))]
    value_bytes: u16,
    /// Memory for each engine's cache.
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    cache: Size,
    /// The same of the cold rows, whose store is eight times as large.
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    cold_cache: Size,
    /// How soon a commit that does not wait is durable.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    buffered_interval: Span,
    /// How often all is done.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long a row takes that goes by time [default: 5; 1.5 if --quick].
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// What keys, operations and the order of the engines are drawn from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write all figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const QUICK_RECORDS: u64 = 500_000;
const QUICK_SECONDS: f64 = 1.5;
const RECORDS: u64 = 5_000_000;
const SECONDS: f64 = 5.0;

pub(super) fn compare(a: &CompareArgs) -> Outcome {
    let plan = plan(a)?;
    let place = match (&a.device, &a.dir) {
        (Some(device), _) => Place::of_device(device, a.force)?,
        (None, Some(dir)) => Place::of_dir(dir)?,
        (None, None) => return Err(Failure::refused("name a place: --device or --dir")),
    };
    // Not only at the end, when all would be lost.
    if let Some(file) = &a.json {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .map_err(|e| Failure::file("write", file, &e))?;
    }
    place.seclude()?;
    interrupt::catch();
    let found = compare::compare(&plan, &place)?;
    if let Some(file) = &a.json {
        write(file, &(output::to_json(&found.as_data())? + "\n"))?;
    }
    output::line(match output::form() {
        // Prometheus was refused.
        None | Some(Form::Text | Form::Prometheus) => as_text(&found),
        Some(Form::Markdown) => as_markdown(&found),
        Some(Form::Json | Form::Jsonl) => output::to_json(&found.as_data())?,
    })?;
    for trouble in &found.failures {
        output::complain(&format!(
            "{} did not get to its end: {}",
            trouble.engine.name(),
            trouble.what
        ));
    }
    Ok(if found.failures.is_empty() {
        FINE
    } else {
        FOUND
    })
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|e| Failure::file("write", file, &e))
}

fn plan(a: &CompareArgs) -> Result<Plan, Failure> {
    let seconds = a
        .seconds
        .unwrap_or(if a.quick { QUICK_SECONDS } else { SECONDS });
    if !(seconds > 0.0 && seconds <= 3600.0) {
        return Err(Failure::refused(
            "--seconds: more than 0 and at most 3600, please",
        ));
    }
    Ok(Plan {
        engines: engines(&a.engines)?,
        rows: rows(&a.rows, a.quick)?,
        records: a
            .records
            .unwrap_or(if a.quick { QUICK_RECORDS } else { RECORDS }),
        key_bytes: a.key_bytes.into(),
        value_bytes: a.value_bytes.into(),
        cache: a.cache.0,
        cold_cache: a.cold_cache.0,
        interval: a.buffered_interval.0,
        rounds: a.rounds,
        seconds,
        seed: a.seed,
    })
}

fn engines(names: &[String]) -> Result<Vec<Engine>, Failure> {
    let mut engines = vec![];
    if names.is_empty() {
        engines.push(Engine::Gaur);
        engines.extend(
            Peer::ALL
                .into_iter()
                .filter(|p| p.is_built())
                .map(Engine::Peer),
        );
        if engines.len() == 1 {
            return Err(Failure::refused(
                "this build has no other engine to compare with; build with --features peers: \
                 cargo build --release -p gaur-harness --features peers",
            ));
        }
        return Ok(engines);
    }
    for name in names {
        let engine = match name.as_str() {
            "gaur" => Engine::Gaur,
            other => {
                let peer = Peer::from_str(other, true).map_err(|_| {
                    Failure::refused(format!(
                        "no engine named {other:?}; there are gaur, {}",
                        Peer::ALL.map(Peer::name).join(", ")
                    ))
                })?;
                if !peer.is_built() {
                    return Err(not_built(peer));
                }
                Engine::Peer(peer)
            }
        };
        if !engines.contains(&engine) {
            engines.push(engine);
        }
    }
    Ok(engines)
}

/// The rows of these names or groups, each stage with the load it cannot be without.
fn rows(names: &[String], quick: bool) -> Result<Vec<String>, Failure> {
    use crate::compare::ROWS;
    if let Some(unknown) = names
        .iter()
        .find(|n| !GROUPS.contains(&n.as_str()) && ROWS.iter().all(|r| r.name != **n))
    {
        return Err(Failure::refused(format!(
            "no rows named {unknown:?}; groups: {}; rows: {}",
            GROUPS.join(", "),
            ROWS.iter().map(|r| r.name).collect::<Vec<_>>().join(", ")
        )));
    }
    let wanted = |r: &compare::Row| match names {
        [] => !quick || r.quick,
        names => names.iter().any(|n| n == r.group || n == r.name),
    };
    let stages: Vec<_> = ROWS.iter().filter(|r| wanted(r)).map(|r| r.stage).collect();
    Ok(ROWS
        .iter()
        .filter(|r| wanted(r) || (r.is_load() && stages.contains(&r.stage)))
        .map(|r| r.name.to_owned())
        .collect())
}
