//! Reading every loaded record back, and checking it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::measure::{Done, Op};
use super::record::Tape;
use super::team;
use super::worker::missing;
use super::workload::Target;
use crate::failure::Failure;
use crate::progress::Progress;

/// Records a thread takes at a time.
const PORTION: u64 = 256;

/// Gets records `0..records` by `threads` threads. A record that is missing is a
/// finding unless `may_miss`.
pub(crate) fn read_back(
    target: &Target,
    records: u64,
    threads: usize,
    may_miss: bool,
    tape: &mut Tape<'_>,
) -> Result<Duration, Failure> {
    let next = AtomicU64::new(0);
    let progress = Progress::of_work("reading", records);
    team::run(threads, &progress, tape, |member| {
        let mut recorder = member.recorder([Op::ReadBack], false)?;
        let mut session = target.subject.session()?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while !member.stopped() {
            let first = next.fetch_add(PORTION, Ordering::Relaxed);
            if first >= records {
                break;
            }
            let end = (first + PORTION).min(records);
            for record in first..end {
                target.keys.write(record, &mut key);
                let begin = Instant::now();
                let found = session.get(&key, &mut |v| {
                    value.clear();
                    value.extend_from_slice(v);
                })?;
                let took = begin.elapsed();
                match found {
                    true => target.check(&key, &value)?,
                    false if may_miss => {}
                    false => return Err(missing(&key)),
                }
                let done = Done {
                    records: 1,
                    missing: u64::from(!found),
                    written: 0,
                };
                recorder.record(Op::ReadBack, begin, took, None, done);
            }
            member.advance(end - first);
        }
        Ok(recorder)
    })
}
