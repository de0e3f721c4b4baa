//! Threads that work at one phase together: they stop together, their counts show
//! as progress, and the first failure is the phase's.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::measure::Op;
use super::record::{Recorder, Slot, Tape};
use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Progress;

/// What the members of a team share.
pub(crate) struct Team {
    stop: AtomicBool,
    done: Vec<CachePadded<AtomicU64>>,
    failure: Mutex<Option<Failure>>,
    started: Instant,
    /// Where its members record, and how many slow operations they explain.
    slots: Mutex<Vec<Arc<Slot>>>,
    worst: usize,
}

/// One thread's place in the team.
pub(crate) struct Member<'a> {
    /// From 0 on.
    pub(crate) index: usize,
    team: &'a Team,
    count: u64,
}

impl Member<'_> {
    /// Whether to end now: a failure elsewhere, or Ctrl-C.
    pub(crate) fn stopped(&self) -> bool {
        self.team.stop.load(Ordering::Relaxed)
    }

    /// When the team began.
    pub(crate) fn started(&self) -> Instant {
        self.team.started
    }

    /// Where to record these operations.
    pub(crate) fn recorder(
        &self,
        ops: impl IntoIterator<Item = Op>,
        open_loop: bool,
    ) -> Result<Recorder, Failure> {
        let recorder = Recorder::new(ops, open_loop, self.team.worst, self.index)?;
        self.team.slots().push(recorder.slot().clone());
        Ok(recorder)
    }

    /// Counts finished work, for the progress shown.
    pub(crate) fn advance(&mut self, n: u64) {
        self.count += n;
        self.team.done[self.index].store(self.count, Ordering::Relaxed);
    }
}

/// Runs `work` on `threads` threads; what they record goes onto the tape. Gives how
/// long it took.
pub(crate) fn run(
    threads: usize,
    progress: &Progress,
    tape: &mut Tape<'_>,
    work: impl Fn(&mut Member<'_>) -> Result<Recorder, Failure> + Sync,
) -> Result<Duration, Failure> {
    let team = Team {
        stop: AtomicBool::new(false),
        done: (0..threads)
            .map(|_| CachePadded::new(AtomicU64::new(0)))
            .collect(),
        failure: Mutex::new(None),
        started: Instant::now(),
        slots: Mutex::new(Vec::with_capacity(threads)),
        worst: tape.wanted(),
    };
    thread::scope(|scope| {
        let members: Vec<_> = (0..threads)
            .map(|index| {
                let (team, work) = (&team, &work);
                thread::Builder::new()
                    .name(format!("worker-{index}"))
                    .spawn_scoped(scope, move || {
                        let mut member = Member {
                            index,
                            team,
                            count: 0,
                        };
                        work(&mut member).map_err(|f| team.fail(f)).ok()
                    })
                    .map_err(|e| team.fail(Failure::refused(format!("cannot start a thread: {e}"))))
            })
            .collect();
        while !members
            .iter()
            .flatten()
            .all(thread::ScopedJoinHandle::is_finished)
        {
            thread::park_timeout(Duration::from_millis(20));
            if interrupt::requested() {
                team.stop.store(true, Ordering::Relaxed);
            }
            if tape.is_due() {
                let second = team.slots().iter().try_for_each(|slot| tape.take(slot));
                if let Err(f) = second.and_then(|()| tape.line()) {
                    team.fail(f);
                }
            }
            progress.show(
                team.done.iter().map(|d| d.load(Ordering::Relaxed)).sum(),
                team.started.elapsed(),
            );
        }
        for member in members.into_iter().flatten() {
            match member.join() {
                Ok(Some(recorder)) => {
                    if let Err(f) = tape.end_of(recorder) {
                        team.fail(f);
                    }
                }
                Ok(None) => {}
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let elapsed = team.started.elapsed();
    progress.finish();
    match team
        .failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        Some(failure) => Err(failure),
        None => Ok(elapsed),
    }
}

impl Team {
    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, failure: Failure) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(failure);
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::run::record::{Journal, Nothing};
    use crate::run::summary::Kind;

    #[test]
    fn the_first_failure_stops_all() {
        let mut journal = Journal::new(Path::new("none"), None);
        let mut tape = Tape::begin(&mut journal, &Nothing, Kind::Run, 0).unwrap();
        let e = run(4, &Progress::hidden(), &mut tape, |m| {
            if m.index == 2 {
                return Err(Failure::found("bad"));
            }
            while !m.stopped() {
                thread::yield_now();
            }
            m.recorder([], false)
        })
        .unwrap_err();
        assert_eq!((e.code, e.to_string().as_str()), (1, "bad"));
    }
}
