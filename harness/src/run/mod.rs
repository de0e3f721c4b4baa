//! `gaur run`: loads a store, runs a mix on it, reports latencies, checks.

mod beside;
mod choose;
pub(crate) mod config;
mod cost;
mod engine;
pub(crate) mod environment;
pub(crate) mod file;
mod files;
mod floor;
#[cfg(test)]
mod goodness;
mod hgrm;
mod keys;
pub(crate) mod knobs;
pub(crate) mod load;
pub(crate) mod measure;
mod notes;
mod pace;
pub(crate) mod permute;
mod phases;
pub(crate) mod pin;
mod places;
mod readback;
pub(crate) mod record;
pub(crate) mod rehearse;
pub(crate) mod report;
pub(crate) mod spread;
mod steady;
pub(crate) mod store;
pub(crate) mod stream;
pub(crate) mod summary;
pub(crate) mod team;
mod trace;
mod validate;
pub(crate) mod values;
pub(crate) mod worker;
pub(crate) mod workload;
mod ycsb;
mod zipf;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, Engine};
use environment::Environment;
use measure::Measured;
use phases::Phased;
use record::{Journal, Tape};
use steady::Watch;
use stream::Replay;
use summary::{Check, Kind, Memory, Phase, Summary};
use trace::Trace;
use workload::Target;

use crate::failure::Failure;
use crate::subject::Stall;
use crate::{interrupt, memory, output};

/// A run under way.
struct Run<'a> {
    config: &'a Config,
    seed: u64,
    target: Target,
    environment: Environment,
    stall: Option<Arc<Stall>>,
    /// Where threads stay, in turn; empty: anywhere.
    processors: Vec<usize>,
    phases: Vec<Phase>,
    measured: Measured,
    stream_checksum: Option<String>,
    journal: Journal,
    floor: Option<floor::Floor>,
    /// Records were deleted, so a drawn one may be gone.
    deleted: bool,
    /// The trace that is done in place of the mix.
    replay: Option<Replay>,
}

/// Does what the configuration says, and sums it up. With `streamed` the lines of the
/// series go to standard output too, while it runs.
pub(crate) fn execute(
    name: &str,
    config: &Config,
    may_replace: bool,
    streamed: bool,
) -> Result<Summary, Failure> {
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
    let processors = pin::processors(&config.run.pin)?;
    let replay = replay(config)?;
    if let Some(file) = &config.run.record {
        trace::may_replace(Path::new(file))?;
    }
    let opened = engine::open(config, may_replace)?;
    // Only now: a run that is refused leaves no directory, and no earlier one's goes.
    if let Some(dir) = out {
        files::prepare(dir)?;
        files::config(&dir.join("run.toml"), config)?;
    }
    let mut run = Run {
        config,
        seed,
        environment: opened.environment,
        target: opened.target,
        stall: opened.stall,
        processors,
        phases: Vec::new(),
        measured: Measured::default(),
        journal: Journal::new(Path::new(&config.store.path), out).streamed(streamed),
        floor: None,
        stream_checksum: None,
        deleted: config.run.deletes(),
        replay,
    };
    let done = run.load().and_then(|()| run.operate());
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
        stream_checksum,
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
        stream_checksum,
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
        // All of it is in the files, so a page that cannot be made fails nothing.
        if let Err(e) = crate::report::write(dir) {
            let e = e.adding("gaur plot --report makes the page anew");
            output::complain(&format!("no report: {e}"));
        }
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
        beside: usize,
        work: impl FnOnce(&Target, &mut Tape<'_>) -> Result<Duration, Failure>,
    ) -> Result<&mut Phase, Failure> {
        let subject = self.target.subject.as_ref();
        let mut tape = Tape::begin(&mut self.journal, subject, kind, self.config.run.worst)?;
        let elapsed = work(&self.target, &mut tape);
        // After a failure too: its last second is the one to look at.
        let done = tape.finish();
        let (elapsed, done) = (elapsed?, done?);
        if kind.is_kept() {
            self.measured.merge(&done.measured)?;
        }
        self.phases.push(Phase::new(kind, threads, elapsed, &done));
        let at = self.phases.len() - 1;
        if beside > 0 {
            let other = self.phases[at].beside(beside, &done.beside);
            self.phases.push(other);
        }
        Ok(&mut self.phases[at])
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
        self.phase(Kind::Load, load.threads, 0, |target, tape| {
            load::load(target, load, tape)
        })
        .map(drop)
    }

    /// Precondition, warm-up and measured mix, as far as they are asked for.
    fn operate(&mut self) -> Result<(), Failure> {
        let (config, seed) = (self.config, self.seed);
        let capacity = self.target.subject.capacity();
        let capacity = capacity.unwrap_or(config.store.size.0);
        if let Some(phase) = Phased::precondition(config, capacity, seed) {
            self.operations(&phase, None)?;
        }
        if !config.run.wanted() {
            return Ok(());
        }
        let measured = Phased::measured(config, self.replay.take(), seed)?;
        self.stream_checksum = Some(measured.plan.checksum(config.run.operations));
        if interrupt::requested() {
            return Ok(());
        }
        let cost = match config.store.engine {
            // The run itself is the measurement.
            Engine::Null => None,
            // What a trace does is not for an engine that keeps nothing.
            Engine::Gaur if measured.plan.replays() => None,
            Engine::Gaur => Some(cost::measure(config, seed)?),
        };
        let least = Duration::from_secs_f64(config.run.warmup_seconds.unwrap_or_default());
        let mut watch = config.run.steady.as_ref().map(|s| Watch::new(s, least));
        if let Some(phase) = Phased::warmup(config, seed) {
            self.operations(&phase, watch.as_mut())?;
        }
        let steady = watch.map(|w| w.steady());
        if let Some(stall) = &self.stall {
            stall.arm();
        }
        if let Some(phase) = self.operations(&measured, None)? {
            phase.steady = steady;
            let own = (config.store.engine == Engine::Null).then_some(phase.processor_ns);
            phase.harness = cost
                .or(own)
                .and_then(|cost| cost::beside(cost, &phase.operations));
        }
        Ok(())
    }

    /// Does one of these, unless Ctrl-C came.
    fn operations(
        &mut self,
        phase: &Phased,
        watch: Option<&mut Watch>,
    ) -> Result<Option<&mut Phase>, Failure> {
        if interrupt::requested() {
            return Ok(None);
        }
        let (seed, may_miss) = (self.seed, self.deleted);
        let processors = self.processors.clone();
        let beside = phase.beside.as_ref().map_or(0, |b| b.run.threads);
        let done = self.phase(phase.kind, phase.run.threads, beside, |target, tape| {
            phase.work(target, tape, seed, &processors, may_miss, watch)
        })?;
        done.open_loop = phase.open_loop();
        Ok(Some(done))
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
            self.target = engine::reopen(self.config)?;
        }
        if verify.read_back && !interrupt::requested() {
            let (records, may_miss) = (self.config.load.records, self.deleted);
            self.phase(Kind::Readback, verify.threads, 0, |target, tape| {
                readback::read_back(target, records, verify.threads, may_miss, tape)
            })?;
        }
        Ok(self)
    }
}

/// Reads the trace that is to be done, if there is one.
fn replay(config: &Config) -> Result<Option<Replay>, Failure> {
    let run = &config.run;
    let Some(path) = &run.trace else {
        return Ok(None);
    };
    let trace = Trace::read(Path::new(path), run.threads, run.operations)?;
    Ok(Some(Replay {
        trace: Arc::new(trace),
        speed: run.trace_speed,
    }))
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
