//! Threads that work at one phase together: they stop together, their counts show
//! as progress, and the first failure is the phase's.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::measure::Op;
use super::pace;
use super::record::{Recorder, Slot, Tape};
use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Progress;

/// What the members of a team share.
pub(crate) struct Team {
    stop: AtomicBool,
    done: Vec<CachePadded<AtomicU64>>,
    failure: Mutex<Option<Failure>>,
    made: Instant,
    /// How many members have said that they are ready.
    ready: AtomicUsize,
    /// When all that wait for each other began.
    started: OnceLock<Instant>,
    /// How many still work of those on whom the end depends.
    working: AtomicUsize,
    /// The members below this are measured, the others work beside them.
    measured: usize,
    /// Where its members record, and how many slow operations they explain.
    slots: Mutex<Vec<Arc<Slot>>>,
    worst: usize,
}

/// From the last member's being ready to the start: all have seen it by then.
const HEAD_START: Duration = Duration::from_millis(1);

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
        self.team.started()
    }

    /// Waits until all members are as far, so that none begins late because it was
    /// made late: that would count as latency. Returns early if the team stops.
    pub(crate) fn begin(&self) {
        let team = self.team;
        if team.ready.fetch_add(1, Ordering::AcqRel) + 1 == team.done.len() {
            team.started.get_or_init(|| Instant::now() + HEAD_START);
        }
        while !self.stopped() {
            if let Some(&started) = team.started.get() {
                pace::until(started, self);
                return;
            }
            thread::sleep(HEAD_START / 10);
        }
        team.started.get_or_init(Instant::now);
    }

    /// Where to record these operations.
    pub(crate) fn recorder(
        &self,
        ops: impl IntoIterator<Item = Op>,
        open_loop: bool,
    ) -> Result<Recorder, Failure> {
        let mut recorder = Recorder::new(ops, open_loop, self.team.worst, self.index)?;
        if self.index >= self.team.measured {
            recorder = recorder.beside();
        }
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
    run_watched(
        threads,
        0,
        progress,
        tape,
        |_, _| ControlFlow::Continue(()),
        work,
    )
}

/// The same; `watch` is told now and then how much is done after how long, and may
/// end the work. `beside` more threads, with the indexes after the others', are told to
/// stop when the others are done; what they do is no progress, and their time does
/// not count.
pub(crate) fn run_watched(
    threads: usize,
    beside: usize,
    progress: &Progress,
    tape: &mut Tape<'_>,
    mut watch: impl FnMut(u64, Duration) -> ControlFlow<()>,
    work: impl Fn(&mut Member<'_>) -> Result<Recorder, Failure> + Sync,
) -> Result<Duration, Failure> {
    let team = Team {
        stop: AtomicBool::new(false),
        done: (0..threads + beside)
            .map(|_| CachePadded::new(AtomicU64::new(0)))
            .collect(),
        failure: Mutex::new(None),
        made: Instant::now(),
        ready: AtomicUsize::new(0),
        started: OnceLock::new(),
        working: AtomicUsize::new(threads),
        measured: threads,
        slots: Mutex::new(Vec::with_capacity(threads + beside)),
        worst: tape.wanted(),
    };
    let mut end = team.made;
    let leader = thread::current();
    thread::scope(|scope| {
        let members: Vec<_> = (0..threads + beside)
            .map(|index| {
                let (team, work, leader) = (&team, &work, &leader);
                thread::Builder::new()
                    .name(format!("worker-{index}"))
                    .spawn_scoped(scope, move || {
                        let mut member = Member {
                            index,
                            team,
                            count: 0,
                        };
                        let recorder = work(&mut member).map_err(|f| team.fail(f)).ok();
                        let end = (index < threads).then(Instant::now);
                        if end.is_some() && team.working.fetch_sub(1, Ordering::AcqRel) == 1 {
                            team.stop.store(true, Ordering::Relaxed);
                        }
                        leader.unpark();
                        Some((recorder?, end))
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
                // Nobody pays for what nobody sees.
                let second = second.and_then(|()| match progress.is_seen() {
                    true => tape.tails().map(|t| progress.show_tails(t)),
                    false => Ok(()),
                });
                if let Err(f) = second.and_then(|()| tape.line()) {
                    team.fail(f);
                }
            }
            let done = team.done[..threads]
                .iter()
                .map(|d| d.load(Ordering::Relaxed))
                .sum();
            let elapsed = team.started().elapsed();
            if watch(done, elapsed).is_break() {
                team.stop.store(true, Ordering::Relaxed);
            }
            progress.show(done, elapsed);
        }
        for member in members.into_iter().flatten() {
            match member.join() {
                Ok(Some((recorder, ended))) => {
                    end = end.max(ended.unwrap_or(end));
                    if let Err(f) = tape.end_of(recorder) {
                        team.fail(f);
                    }
                }
                Ok(None) => {}
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let elapsed = end.saturating_duration_since(team.started());
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

    fn started(&self) -> Instant {
        self.started.get().copied().unwrap_or(self.made)
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
    fn those_beside_work_until_the_others_are_done() {
        let (work, beside) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut journal = Journal::new(Path::new("none"), None);
        let mut tape = Tape::begin(&mut journal, &Nothing, Kind::Run, 0).unwrap();
        run_watched(
            2,
            2,
            &Progress::hidden(),
            &mut tape,
            |done, _| {
                assert!(done <= 2);
                ControlFlow::Continue(())
            },
            |m| {
                m.advance(1);
                if m.index < 2 {
                    thread::sleep(Duration::from_millis(5));
                    work.fetch_add(1, Ordering::Relaxed);
                    return m.recorder([], false);
                }
                while !m.stopped() {
                    thread::yield_now();
                }
                assert_eq!(work.load(Ordering::Relaxed), 2);
                beside.fetch_add(1, Ordering::Relaxed);
                m.recorder([], false)
            },
        )
        .unwrap();
        assert_eq!(beside.load(Ordering::Relaxed), 2);
    }

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
