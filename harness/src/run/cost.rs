//! What the harness itself costs per operation: the same operations, drawn, made,
//! timed, recorded and checked alike, on an engine that does nothing.

use std::path::Path;

use super::config::{Config, RunConfig};
use super::measure::Measured;
use super::record::{Journal, Tape};
use super::stream::Plan;
use super::summary::{Cost, Kind, Operation};
use super::team;
use super::worker::{self, Job};
use super::workload::Target;
use crate::failure::Failure;
use crate::progress::Progress;

/// How long one measurement lasts, in seconds.
const SECONDS: f64 = 0.01;

/// The middle one of so many counts: the machine has other work at times.
const TIMES: usize = 5;

/// The harness must not be more than this share of what it measures.
const MOST: f64 = 0.05;

/// Measures what one operation of this run's mix costs, in nanoseconds.
pub(crate) fn measure(config: &Config, seed: u64) -> Result<f64, Failure> {
    let target = Target::null(config);
    let run = RunConfig {
        threads: 1,
        seconds: Some(SECONDS),
        operations: None,
        rate: None,
        think: None,
        background: None,
        ..config.run.clone()
    };
    let plan = Plan::new("run", 0, &run, config, seed);
    let job = Job {
        target: &target,
        run: &run,
        plan: &plan,
        seed,
        processors: &[],
        may_miss: false,
        first: 0,
        recorder: None,
    };
    let mut each = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        // Recorded as the run will be, and written nowhere.
        let mut journal = Journal::new(Path::new(&config.store.path), None);
        let subject = target.subject.as_ref();
        let mut tape = Tape::begin(&mut journal, subject, Kind::Run, run.worst)?;
        let progress = Progress::hidden();
        team::run(1, &progress, &mut tape, |m| worker::work(&job, m))?;
        each.push(of(&tape.finish()?.measured));
    }
    each.sort_by(f64::total_cmp);
    Ok(each[TIMES / 2])
}

/// Nanoseconds of processor time per operation: what other work on the machine
/// takes is no cost of the harness.
pub(crate) fn of(measured: &Measured) -> f64 {
    measured.processor.as_secs_f64() * 1e9 / measured.count().max(1) as f64
}

/// This cost beside the smallest of the operations' medians.
pub(crate) fn beside(cost_ns: f64, operations: &[Operation]) -> Option<Cost> {
    let of = |o: &Operation| o.service.as_ref().unwrap_or(&o.latency).p50_ns;
    let median = operations.iter().map(of).min()?;
    let share_of_median = cost_ns / median.max(1) as f64;
    Some(Cost {
        cost_ns,
        share_of_median,
        over: share_of_median > MOST,
    })
}
