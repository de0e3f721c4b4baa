//! `gaur run`: loads a store, runs a mix on it, reports latencies, checks.

mod choose;
pub(crate) mod config;
mod environment;
pub(crate) mod file;
mod files;
mod floor;
mod hgrm;
mod keys;
mod load;
pub(crate) mod measure;
mod pace;
pub(crate) mod permute;
mod places;
mod readback;
mod record;
pub(crate) mod rehearse;
pub(crate) mod report;
pub(crate) mod store;
pub(crate) mod summary;
mod team;
mod validate;
mod values;
mod worker;
mod workload;

use std::path::Path;
use std::time::Duration;

use choose::Chooser;
use config::{Config, RunConfig};
use environment::Environment;
use measure::Measured;
use record::{Journal, Tape};
use summary::{Check, Kind, Memory, Phase, Summary};
use workload::{Inserts, OpMix, Target};

use crate::failure::Failure;
use crate::progress::Progress;
use crate::{interrupt, memory};

/// A run under way.
struct Run<'a> {
    config: &'a Config,
    seed: u64,
    target: Target,
    environment: Environment,
    phases: Vec<Phase>,
    measured: Measured,
    journal: Journal,
    floor: Option<floor::Floor>,
    /// Records were deleted, so a drawn one may be gone.
    deleted: bool,
}

/// Does what the configuration says, and sums it up.
pub(crate) fn execute(name: &str, config: &Config, may_replace: bool) -> Result<Summary, Failure> {
    // The seed first, so that the configuration that is written down repeats the run.
    let mut config = config.clone();
    let seed = *config
        .run
        .seed
        .get_or_insert_with(|| rand::random::<u32>().into());
    let config = &config;
    let out = config.output.dir.as_deref().map(Path::new);
    if let Some(dir) = out {
        rehearse::may_make(dir)?;
    }
    store::create(&config.store, may_replace)?;
    let means = store::means(&config.store)?;
    let store = store::open(&config.store)?;
    let environment = Environment::look(&store, means, Path::new(&config.store.path));
    let target = Target::of_store(store, config)?;
    // Only now: a run that is refused leaves no directory, and no earlier one's goes.
    if let Some(dir) = out {
        files::prepare(dir)?;
        files::config(&dir.join("run.toml"), config)?;
    }
    let mut run = Run {
        config,
        seed,
        environment,
        target,
        phases: Vec::new(),
        measured: Measured::default(),
        journal: Journal::new(Path::new(&config.store.path), out),
        floor: None,
        deleted: config.run.mix.delete > 0.0,
    };
    let done = run.load().and_then(|()| run.mix());
    if let Err(e) = done.and_then(|()| run.measure_floor()) {
        // What was done stays, and leaves nothing to replay.
        let _ = run.target.subject.close();
        return Err(e);
    }
    let run = run.read_back()?;

    let Run {
        target,
        environment,
        phases,
        measured,
        journal,
        floor,
        ..
    } = run;
    target.subject.close()?;
    // Before the check, which is another tool with memory of its own.
    let memory = Memory {
        peak_bytes: memory::peak(),
        bound_bytes: memory::bound(config.store.cache.0),
    };
    let mut summary = Summary {
        schema: summary::SCHEMA,
        name: name.to_owned(),
        seed,
        started: humantime::format_rfc3339_seconds(journal.started()).to_string(),
        environment,
        phases,
        floor,
        memory,
        check: check(config)?,
        missed: Vec::new(),
        interrupted: interrupt::requested(),
        config: config.clone(),
    };
    summary.missed = missed(&summary);
    if let Some(dir) = out {
        files::histograms(dir, &measured)?;
        files::summary(&dir.join("summary.json"), &summary)?;
    }
    Ok(summary)
}

/// Writes the summary to one more file.
pub(crate) fn write_summary(path: &Path, summary: &Summary) -> Result<(), Failure> {
    files::summary(path, summary)
}

impl Run<'_> {
    /// Does one phase, recorded.
    fn phase(
        &mut self,
        kind: Kind,
        threads: usize,
        work: impl FnOnce(&Target, &mut Tape<'_>) -> Result<Duration, Failure>,
    ) -> Result<(), Failure> {
        let subject = self.target.subject.as_ref();
        let mut tape = Tape::begin(&mut self.journal, subject, kind, self.config.run.worst)?;
        let elapsed = work(&self.target, &mut tape);
        // After a failure too: its last second is the one to look at.
        let done = tape.finish();
        let (elapsed, done) = (elapsed?, done?);
        self.phases.push(Phase::new(kind, threads, elapsed, &done));
        if kind.is_kept() {
            self.measured.merge(&done.measured)?;
        }
        Ok(())
    }

    fn load(&mut self) -> Result<(), Failure> {
        let load = &self.config.load;
        if load.records == 0 || interrupt::requested() {
            return Ok(());
        }
        if load.skip {
            if !load::is_loaded(&self.target, load.records)? {
                return Err(rehearse::not_loaded(self.config));
            }
            return Ok(());
        }
        self.phase(Kind::Load, load.threads, |target, tape| {
            load::load(target, load, tape)
        })
    }

    fn mix(&mut self) -> Result<(), Failure> {
        let run = &self.config.run;
        if !run.wanted() || interrupt::requested() {
            return Ok(());
        }
        let (records, seed, may_miss) = (self.config.load.records, self.seed, self.deleted);
        let mix = OpMix::new(self.config);
        let chooser = Chooser::new(run.distribution, run.theta, records, self.config.load.seed);
        let inserts = Inserts::new(records, run.threads);
        self.phase(Kind::Run, run.threads, |target, tape| {
            let job = worker::Job {
                target,
                run,
                mix: &mix,
                inserts: &inserts,
                seed,
                may_miss,
            };
            team::run(run.threads, &bar(run), tape, |member| {
                worker::work(&job, chooser.as_ref(), member)
            })
        })
    }

    /// Measures the device below the store, right after the mix: on the same blocks,
    /// as warm as the run left them.
    fn measure_floor(&mut self) -> Result<(), Failure> {
        let Some(phase) = self.phases.iter().rfind(|p| p.kind == Kind::Run) else {
            return Ok(());
        };
        let config = &self.config.floor;
        if interrupt::requested() || !config.wanted(phase.seconds) {
            return Ok(());
        }
        if let Some(store) = self.target.subject.store() {
            let method = &self.environment.durable_method;
            self.floor = floor::measure(store, config, phase, method, self.seed)?;
        }
        Ok(())
    }

    fn read_back(mut self) -> Result<Self, Failure> {
        let verify = &self.config.verify;
        if verify.reopen {
            self.target.subject.close()?;
            self.target = Target::of_store(store::open(&self.config.store)?, self.config)?;
        }
        if verify.read_back && !interrupt::requested() {
            let (records, may_miss) = (self.config.load.records, self.deleted);
            self.phase(Kind::Readback, verify.threads, |target, tape| {
                readback::read_back(target, records, verify.threads, may_miss, tape)
            })?;
        }
        Ok(self)
    }
}

fn bar(run: &RunConfig) -> Progress {
    match (run.operations, run.seconds) {
        (Some(n), _) => Progress::of_work("running", n),
        (None, seconds) => Progress::of_time(
            "running",
            Duration::from_secs_f64(seconds.unwrap_or_default()),
        ),
    }
}

/// Accounts for every block, if the configuration asks for it.
fn check(config: &Config) -> Result<Option<Check>, Failure> {
    if !config.verify.check || interrupt::requested() {
        return Ok(None);
    }
    let report = gaur::check(
        &config.store.path,
        &crate::cli::check::options(config.store.driver),
    )?;
    Ok(Some(Check {
        clean: report.clean,
        problems: report.problems.iter().map(ToString::to_string).collect(),
    }))
}

/// The bounds that were not kept.
fn missed(s: &Summary) -> Vec<String> {
    let mut missed = Vec::new();
    if s.config.verify.memory_bound {
        match s.memory.peak_bytes {
            Some(peak) if peak <= s.memory.bound_bytes => {}
            Some(peak) => missed.push(format!(
                "resident memory reached {peak} bytes, above the bound of {}",
                s.memory.bound_bytes
            )),
            None => {
                missed.push("resident memory is unknown: /proc/self/status has no VmHWM".into())
            }
        }
    }
    if s.check.as_ref().is_some_and(|c| !c.clean) {
        missed.push("check found damage".into());
    }
    missed
}
