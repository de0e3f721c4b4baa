//! The phases of a run between the load and the checks: precondition, warm-up,
//! measured mix.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::beside::Beside;
use super::config::{Config, Distribution, Mix, RunConfig};
use super::knobs::Whole;
use super::record::Tape;
use super::steady::Watch;
use super::stream::{Plan, Replay};
use super::summary::Kind;
use super::team;
use super::trace::Recorder;
use super::worker::{self, Job};
use super::workload::Target;
use crate::failure::Failure;
use crate::progress::Progress;

/// What a phase of operations does.
pub(crate) struct Phased {
    pub(crate) kind: Kind,
    pub(crate) run: RunConfig,
    pub(crate) plan: Plan,
    /// What other threads do meanwhile.
    pub(crate) beside: Option<Beside>,
    recorder: Option<Recorder>,
}

impl Phased {
    /// The precondition, if one is asked for: updates all over the loaded records.
    pub(crate) fn precondition(config: &Config, capacity: u64, seed: u64) -> Option<Self> {
        let (p, load) = (&config.precondition, &config.load);
        let record = load.record_bytes();
        let whole = match p.of {
            Whole::Capacity => capacity,
            Whole::Records => load.records.saturating_mul(record),
        };
        let bytes = p.times * whole as f64;
        let operations = (bytes / (record * p.batch as u64) as f64).ceil() as u64;
        let run = RunConfig {
            threads: p.threads,
            operations: Some(operations),
            mix: Mix {
                update: 1.0,
                ..Mix::default()
            },
            distribution: Distribution::Uniform,
            batch: p.batch,
            durability: p.durability,
            pin: config.run.pin.clone(),
            ..RunConfig::default()
        };
        (operations > 0).then(|| Self::new(Kind::Precondition, run, config, seed))
    }

    /// The warm-up, if one is asked for: the mix, unmeasured.
    pub(crate) fn warmup(config: &Config, seed: u64) -> Option<Self> {
        let run = &config.run;
        let seconds = match &run.steady {
            Some(steady) => Some(steady.limit.0.as_secs_f64()),
            None => run.warmup_seconds,
        };
        let run = RunConfig {
            seconds,
            operations: run.warmup_operations,
            ..run.clone()
        };
        (config.run.warms_up()).then(|| Self::new(Kind::Warmup, run, config, seed))
    }

    /// The measured mix, or the trace in its place.
    pub(crate) fn measured(
        config: &Config,
        replay: Option<Replay>,
        seed: u64,
    ) -> Result<Self, Failure> {
        let mut measured = Self::new(Kind::Run, config.run.clone(), config, seed);
        measured.plan = measured.plan.replaying(replay);
        if let Some(path) = &config.run.record {
            measured.recorder = Some(Recorder::create(Path::new(path))?);
        }
        Ok(measured)
    }

    /// Whether operations begin when they are due.
    pub(crate) fn open_loop(&self) -> bool {
        self.run.rate.is_some() || self.plan.paced()
    }

    fn new(kind: Kind, run: RunConfig, config: &Config, seed: u64) -> Self {
        // The measured phase inserts behind what the warm-up did.
        let ordinal = match kind {
            Kind::Run if config.run.warms_up() => 1,
            Kind::Precondition => 2,
            _ => 0,
        };
        let plan = Plan::new(kind.name(), ordinal, &run, config, seed);
        let beside = match kind {
            Kind::Run => Beside::new(config, 3, seed),
            Kind::Warmup => Beside::new(config, 4, seed),
            _ => None,
        };
        Self {
            kind,
            run,
            plan,
            beside,
            recorder: None,
        }
    }

    /// Does it. `watch` may end it early.
    pub(crate) fn work(
        &self,
        target: &Target,
        tape: &mut Tape<'_>,
        seed: u64,
        processors: &[usize],
        may_miss: bool,
        watch: Option<&mut Watch>,
    ) -> Result<Duration, Failure> {
        let job = Job {
            target,
            run: &self.run,
            plan: &self.plan,
            seed,
            processors,
            may_miss,
            first: 0,
            recorder: self.recorder.as_ref(),
        };
        let beside = self.beside.as_ref().map(|b| Job {
            run: &b.run,
            plan: &b.plan,
            first: self.run.threads,
            ..job
        });
        let mut watch = watch;
        let done = team::run_watched(
            self.run.threads,
            self.beside.as_ref().map_or(0, |b| b.run.threads),
            &self.bar(),
            tape,
            |done, elapsed| match &mut watch {
                Some(watch) => watch.see(done, elapsed),
                None => ControlFlow::Continue(()),
            },
            |member| match &beside {
                Some(other) if member.index >= other.first => worker::work(other, member),
                _ => worker::work(&job, member),
            },
        )?;
        if let Some(recorder) = &self.recorder {
            recorder.flush()?;
        }
        Ok(done)
    }

    fn bar(&self) -> Progress {
        let what = match self.kind {
            Kind::Precondition => "wearing in",
            Kind::Warmup => "warming up",
            _ => "running",
        };
        let lines = || {
            (0..self.run.threads)
                .filter_map(|i| self.plan.count(i))
                .sum()
        };
        let operations = match self.plan.replays() {
            true => Some(lines()),
            false => self.run.operations,
        };
        match (operations, self.run.seconds) {
            (Some(n), _) => Progress::of_work(what, n),
            (None, seconds) => Progress::of_time(
                what,
                Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default(),
            ),
        }
    }
}
