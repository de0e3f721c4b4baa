//! The load: puts records 0, 1, 2 … into the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gaur::WriteBatch;

use super::config::LoadConfig;
use super::measure::{Done, Measured, Op};
use super::team;
use super::values;
use super::workload::{Target, durability};
use crate::failure::Failure;
use crate::progress::Progress;

/// Loads, then waits until all of it is durable; the time includes that wait.
pub(crate) fn load(target: &Target, config: &LoadConfig) -> Result<(Measured, Duration), Failure> {
    let next = AtomicU64::new(0);
    let batch = config.batch as u64;
    let begin = Instant::now();
    let progress = Progress::of_work("loading", config.records);
    let (measured, _) = team::run(config.threads, &progress, |member| {
        let mut measured = Measured::of([Op::Load], false)?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while !member.stopped() {
            let first = next.fetch_add(batch, Ordering::Relaxed);
            if first >= config.records {
                break;
            }
            let end = (first + batch).min(config.records);
            let mut records = WriteBatch::new();
            for record in first..end {
                target.keys.write(record, &mut key);
                values::write(&key, values::LOADED, target.value_bytes, &mut value);
                records.put(&target.tree, &key, &value);
            }
            let begin = Instant::now();
            target
                .store
                .commit(records, durability(config.durability))
                .map_err(|e| Failure::engine("the load failed", e))?;
            let done = Done {
                records: end - first,
                missing: 0,
            };
            measured.record(Op::Load, begin.elapsed(), None, done);
            member.advance(end - first);
        }
        Ok(measured)
    })?;
    target
        .store
        .flush()
        .map_err(|e| Failure::engine("cannot make the load durable", e))?;
    Ok((measured, begin.elapsed()))
}

/// Whether the records of an earlier load are there: looks at the first and last.
pub(crate) fn is_loaded(target: &Target, records: u64) -> Result<bool, Failure> {
    for record in [0, records.saturating_sub(1)] {
        if !target.tree.contains(&target.keys.key(record))? {
            return Ok(false);
        }
    }
    Ok(true)
}
