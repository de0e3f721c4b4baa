//! What a run would do, with nothing written: the checks and refusals are the
//! run's own, as far as they come before its first write.

use std::path::Path;

use nix::unistd::{AccessFlags, access};
use serde_json::{Value, json};

use gaur::Store;

use super::config::{Config, Engine};
use super::keys::KeySpace;
use super::knobs::Whole;
use super::pin;
use super::store::{self, Step};
use crate::failure::Failure;
use crate::units;

/// What would be done: lines for people, and data.
pub(crate) struct Rehearsal {
    pub(crate) lines: Vec<String>,
    pub(crate) data: Value,
}

/// Goes through the run without writing.
pub(crate) fn rehearse(config: &Config, may_replace: bool) -> Result<Rehearsal, Failure> {
    let c = &config.store;
    if let Some(dir) = &config.output.dir {
        may_make(Path::new(dir))?;
    }
    if let Some(file) = &config.run.record {
        super::trace::may_replace(Path::new(file))?;
    }
    let mut lines = Vec::new();
    pin::processors(&config.run.pin)?;
    let step = match c.engine {
        Engine::Gaur => store::decide(c, may_replace)?,
        Engine::Null => Step::Keep,
    };
    let plan = match step {
        Step::Keep if c.engine == Engine::Null => {
            lines.push("would store nothing: the engine is null".into());
            None
        }
        Step::Keep => {
            let store = store::rehearse_open(c)?;
            if config.load.skip {
                look_for_records(&store, config)?;
            }
            store.close()?;
            lines.push(format!("would use the store in {}", c.path));
            None
        }
        Step::Format { present, remake } => {
            if config.load.skip {
                return Err(not_loaded(config));
            }
            let plan = store::rehearse_create(c, present, remake)?;
            lines.push(format!(
                "would make a store of {} in {}, with blocks of {} and a log of {}{}",
                units::bytes(plan.capacity),
                c.path,
                units::bytes(plan.block_size.into()),
                units::bytes(plan.log_bytes),
                match (present, remake) {
                    (false, _) => "",
                    (true, false) => "; the store that is there would be lost",
                    (true, true) =>
                        "; the store that is there would be lost, its file removed and made anew",
                }
            ));
            Some(plan)
        }
    };
    let (load, run) = (&config.load, &config.run);
    let record = load.record_bytes();
    if load.records > 0 && !load.skip {
        lines.push(format!(
            "would load {} records of {}, {} in all, by {} threads",
            units::count(load.records),
            units::bytes(record),
            units::bytes(load.records.saturating_mul(record)),
            load.threads
        ));
    }
    let p = &config.precondition;
    if p.times > 0.0 {
        lines.push(format!(
            "would write over the records, {} times the size of the {}",
            p.times,
            match p.of {
                Whole::Capacity => "store",
                Whole::Records => "loaded records",
            }
        ));
    }
    if run.warms_up() {
        lines.push(
            match (run.steady, run.warmup_operations, run.warmup_seconds) {
                (Some(s), ..) => {
                    format!("would warm up until it is steady, for {} at most", s.limit)
                }
                (None, Some(n), _) => format!("would warm up for {} operations", units::count(n)),
                (None, None, s) => format!("would warm up for {} s", s.unwrap_or_default()),
            },
        );
    }
    if let Some(replay) = super::replay(config)? {
        let count = units::count(replay.trace.lines(0, u64::MAX));
        let path = run.trace.as_deref().unwrap_or_default();
        lines.push(format!(
            "would do the {count} operations of {path} by {} threads",
            run.threads
        ));
    } else if run.wanted() {
        let long = match (run.operations, run.seconds) {
            (Some(n), _) => format!("{} operations", units::count(n)),
            (None, s) => format!("{} s", s.unwrap_or_default()),
        };
        lines.push(format!("would run {} threads for {long}", run.threads));
    }
    if config.verify.read_back || config.verify.check {
        let what = match (config.verify.read_back, config.verify.check) {
            (true, true) => "read every loaded record back, and account for every block",
            (true, false) => "read every loaded record back",
            _ => "account for every block",
        };
        lines.push(format!("would {what}"));
    }
    if let Some(dir) = &config.output.dir {
        lines.push(format!("would write histograms and a summary into {dir}"));
    }
    lines.push("nothing was written".into());
    Ok(Rehearsal {
        lines,
        data: json!({
            "dry_run": true,
            "path": c.path,
            "formats": plan.is_some(),
            "replaces_store": matches!(step, Step::Format { present: true, .. }),
            "capacity": plan.as_ref().map(|p| p.capacity),
            "block_size": plan.as_ref().map(|p| p.block_size),
            "log_bytes": plan.as_ref().map(|p| p.log_bytes),
            "load_records": if load.skip { 0 } else { load.records },
            "load_bytes": if load.skip { 0 } else { load.records.saturating_mul(record) },
            "output": config.output.dir,
            "config": config,
        }),
    })
}

/// What a run says too, if the records that `load.skip` speaks of are not there.
pub(crate) fn not_loaded(config: &Config) -> Failure {
    Failure::refused(format!(
        "load.skip is set, but the store does not hold {} records from seed {}; load them first",
        config.load.records, config.load.seed
    ))
}

fn look_for_records(store: &Store, config: &Config) -> Result<(), Failure> {
    let load = &config.load;
    let keys = KeySpace::of(load);
    let Ok(tree) = store.open_tree(&config.store.tree) else {
        return Err(not_loaded(config));
    };
    for record in [0, load.records.saturating_sub(1)] {
        if !tree.contains(&keys.key(record))? {
            return Err(not_loaded(config));
        }
    }
    Ok(())
}

/// Whether a directory is there to be written to, or could be made.
pub(crate) fn may_make(dir: &Path) -> Result<(), Failure> {
    let there = dir
        .ancestors()
        .map(|p| {
            if p.as_os_str().is_empty() {
                Path::new(".")
            } else {
                p
            }
        })
        .find(|p| p.exists())
        .unwrap_or(Path::new("/"));
    let refused = |e: &std::io::Error| Failure::file("make the directory", dir, e);
    if !there.is_dir() {
        return Err(refused(&std::io::ErrorKind::NotADirectory.into()));
    }
    access(there, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|e| refused(&std::io::Error::from_raw_os_error(e as i32)))
}
