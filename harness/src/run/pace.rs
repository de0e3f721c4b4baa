//! The open loop: operations start when they are meant to, not when the one
//! before is done; who starts late counts the delay as latency.

use std::thread;
use std::time::{Duration, Instant};

use super::team::Member;

/// A sleep may last this much longer than asked: the rest is spent awake.
const OVERSLEEP: Duration = Duration::from_micros(100);

/// The longest sleep, so that a stop is seen.
const NAP: Duration = Duration::from_millis(50);

/// The intended starts of one thread's operations, evenly spaced; the threads'
/// starts interleave.
#[derive(Debug)]
pub(crate) struct Pace {
    seconds_per_operation: f64,
    threads: f64,
    index: f64,
    next: u64,
}

impl Pace {
    /// Thread `index` of `threads` that together do `rate` operations a second.
    pub(crate) fn new(rate: f64, threads: usize, index: usize) -> Self {
        Self {
            seconds_per_operation: 1.0 / rate,
            threads: threads as f64,
            index: index as f64,
            next: 0,
        }
    }

    /// How long after the start the next operation is meant to begin.
    fn offset(&mut self) -> Duration {
        let turn = self.next as f64 * self.threads + self.index;
        self.next += 1;
        Duration::from_secs_f64(turn * self.seconds_per_operation)
    }

    /// How many more operations were meant to begin within `time`.
    pub(crate) fn not_started(mut self, time: Duration) -> u64 {
        let begun = self.next;
        while self.offset() < time {}
        self.next - 1 - begun
    }

    /// Waits for the next intended start and gives it; `None` if it would be at
    /// or after the deadline, or the team stops.
    pub(crate) fn wait(
        &mut self,
        member: &Member<'_>,
        deadline: Option<Instant>,
    ) -> Option<Instant> {
        let intended = member.started() + self.offset();
        if deadline.is_some_and(|d| intended >= d) {
            self.next -= 1;
            return None;
        }
        loop {
            let now = Instant::now();
            if now >= intended {
                return Some(intended);
            }
            if member.stopped() {
                self.next -= 1;
                return None;
            }
            let remaining = intended - now;
            if remaining > OVERSLEEP {
                thread::sleep((remaining - OVERSLEEP).min(NAP));
            } else {
                thread::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_together_keep_the_rate_evenly() {
        let mut starts: Vec<Duration> = (0..4)
            .flat_map(|i| {
                let mut p = Pace::new(1000.0, 4, i);
                (0..250).map(move |_| p.offset()).collect::<Vec<_>>()
            })
            .collect();
        starts.sort_unstable();
        for (i, s) in starts.iter().enumerate() {
            let ideal = Duration::from_micros(1000 * i as u64);
            assert!(s.abs_diff(ideal) < Duration::from_nanos(100), "{i}: {s:?}");
        }
    }

    #[test]
    fn what_the_time_did_not_suffice_for_is_counted() {
        let mut p = Pace::new(1000.0, 2, 1);
        for _ in 0..100 {
            p.offset();
        }
        // Thread 1 of 2 begins at 1, 3, 5 … ms: 500 in a second.
        assert_eq!(p.not_started(Duration::from_secs(1)), 400);
    }
}
