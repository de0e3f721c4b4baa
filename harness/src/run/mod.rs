//! `gaur run`: loads a store, runs a mix on it, reports latencies, checks.

pub(crate) mod choose;
pub(crate) mod config;
pub(crate) mod environment;
pub(crate) mod file;
mod files;
mod hgrm;
mod keys;
pub(crate) mod load;
pub(crate) mod measure;
mod pace;
pub(crate) mod permute;
mod places;
mod readback;
pub(crate) mod rehearse;
pub(crate) mod report;
pub(crate) mod store;
pub(crate) mod summary;
pub(crate) mod team;
mod validate;
mod values;
pub(crate) mod worker;
pub(crate) mod workload;

use std::path::Path;
use std::time::Duration;

use choose::Chooser;
use config::{Config, RunConfig};
use environment::Environment;
use measure::Measured;
use summary::{Check, Memory, Phase, Summary};
use workload::{Inserts, OpMix, Target};

use crate::failure::Failure;
use crate::progress::Progress;
use crate::{blockdev, interrupt, memory};

/// A run under way.
struct Run<'a> {
    config: &'a Config,
    seed: u64,
    target: Target,
    environment: Environment,
    phases: Vec<Phase>,
    measured: Measured,
    /// Records were deleted, so a drawn one may be gone.
    deleted: bool,
}

/// Does what the configuration says, and sums it up.
pub(crate) fn execute(name: &str, config: &Config, may_replace: bool) -> Result<Summary, Failure> {
    let out = config.output.dir.as_deref().map(Path::new);
    if let Some(dir) = out {
        rehearse::may_make(dir)?;
    }
    store::create(&config.store, may_replace)?;
    let means = store::means(&config.store)?;
    let store = store::open(&config.store)?;
    let environment = Environment::look(&store, means, Path::new(&config.store.path));
    let target = Target::of_store(store, config)?;
    // Only now: a run that is refused leaves no directory.
    if let Some(dir) = out {
        files::prepare(dir)?;
    }
    let mut run = Run {
        config,
        seed: config
            .run
            .seed
            .unwrap_or_else(|| rand::random::<u32>().into()),
        environment,
        target,
        phases: Vec::new(),
        measured: Measured::default(),
        deleted: config.run.mix.delete > 0.0,
    };
    if let Err(e) = run.load().and_then(|()| run.mix()) {
        // What was done stays, and leaves nothing to replay.
        let _ = run.target.subject.close();
        return Err(e);
    }
    let run = run.read_back()?;

    let Run {
        seed,
        target,
        environment,
        phases,
        measured,
        ..
    } = run;
    target.subject.close()?;
    // Before the check, which is another tool with memory of its own.
    let memory = Memory {
        peak_bytes: memory::peak(),
        bound_bytes: memory::bound(config.store.cache.0),
    };
    let mut config = config.clone();
    config.run.seed = Some(seed);
    let mut summary = Summary {
        schema: summary::SCHEMA,
        name: name.to_owned(),
        seed,
        environment,
        phases,
        memory,
        check: check(&config)?,
        missed: Vec::new(),
        interrupted: interrupt::requested(),
        config,
    };
    summary.missed = missed(&summary);
    if let Some(dir) = out {
        files::histograms(dir, &measured)?;
        files::config(&dir.join("run.toml"), &summary.config)?;
        files::summary(&dir.join("summary.json"), &summary)?;
    }
    Ok(summary)
}

/// Writes the summary to one more file.
pub(crate) fn write_summary(path: &Path, summary: &Summary) -> Result<(), Failure> {
    files::summary(path, summary)
}

impl Run<'_> {
    /// Does one phase, with the counters around it.
    fn phase(
        &mut self,
        name: &'static str,
        threads: usize,
        work: impl FnOnce(&Target) -> Result<(Measured, Duration), Failure>,
    ) -> Result<(), Failure> {
        let path = Path::new(&self.config.store.path);
        let device = blockdev::Counters::read(path);
        let stats = self.target.subject.stats();
        let result = work(&self.target)?;
        let stats = self
            .target
            .subject
            .stats()
            .zip(stats)
            .map(|(now, before)| now.since(&before));
        let device = device.and_then(|before| Some(blockdev::Counters::read(path)?.since(&before)));
        self.phases
            .push(Phase::new(name, threads, &result, stats.as_ref(), device));
        self.measured.merge(&result.0)
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
        self.phase("load", load.threads, |target| load::load(target, load))
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
        self.phase("run", run.threads, |target| {
            let job = worker::Job {
                target,
                run,
                mix: &mix,
                inserts: &inserts,
                seed,
                may_miss,
                scan_exactly: false,
            };
            team::run(run.threads, &bar(run), |member| {
                worker::work(&job, chooser.as_ref(), member)
            })
        })
    }

    fn read_back(mut self) -> Result<Self, Failure> {
        let verify = &self.config.verify;
        if verify.reopen {
            self.target.subject.close()?;
            self.target = Target::of_store(store::open(&self.config.store)?, self.config)?;
        }
        if verify.read_back && !interrupt::requested() {
            let (records, may_miss) = (self.config.load.records, self.deleted);
            self.phase("readback", verify.threads, |target| {
                readback::read_back(target, records, verify.threads, may_miss)
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
