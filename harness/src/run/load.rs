//! The load: puts records 0, 1, 2 … into the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::config::LoadConfig;
use super::measure::{Done, Op};
use super::record::Tape;
use super::team;
use super::values;
use super::workload::Target;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::subject::Change;

/// Loads, then waits until all of it is durable; the time includes that wait.
pub(crate) fn load(
    target: &Target,
    config: &LoadConfig,
    tape: &mut Tape<'_>,
) -> Result<Duration, Failure> {
    let next = AtomicU64::new(0);
    let batch = config.batch as u64;
    let begin = Instant::now();
    let progress = Progress::of_work("loading", config.records);
    team::run(config.threads, &progress, tape, |member| {
        let mut recorder = member.recorder([Op::Load], false)?;
        let mut session = target.subject.session()?;
        let mut records = vec![(Vec::new(), Vec::new()); config.batch];
        while !member.stopped() {
            let first = next.fetch_add(batch, Ordering::Relaxed);
            if first >= config.records {
                break;
            }
            let end = (first + batch).min(config.records);
            for (record, (key, value)) in (first..end).zip(&mut records) {
                target.keys.write(record, key);
                target.values.write(key, values::LOADED, value);
            }
            let changes: Vec<_> = (first..end)
                .zip(&records)
                .map(|(_, (key, value))| Change::Put(key, value))
                .collect();
            let begin = Instant::now();
            session.commit(&changes, config.durability)?;
            let took = begin.elapsed();
            let done = Done {
                records: end - first,
                missing: 0,
                written: changes.iter().map(Change::bytes).sum(),
            };
            recorder.record(Op::Load, begin, took, None, done);
            member.advance(end - first);
        }
        Ok(recorder)
    })?;
    target.subject.flush()?;
    Ok(begin.elapsed())
}

/// Whether the records of an earlier load are there: looks at the first and last.
pub(crate) fn is_loaded(target: &Target, records: u64) -> Result<bool, Failure> {
    let mut session = target.subject.session()?;
    for record in [0, records.saturating_sub(1)] {
        if !session.get(&target.keys.key(record), &mut |_| {})? {
            return Ok(false);
        }
    }
    Ok(true)
}
