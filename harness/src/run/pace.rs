//! When operations begin: in an open loop when they are meant to, not when the one
//! before is done; who starts late counts the delay as latency. In a closed one
//! after a think time, if there is any.

use std::thread;
use std::time::{Duration, Instant};

use rand_distr::{Distribution as _, Exp1};

use super::config::RunConfig;
use super::knobs::{Arrival, Think};
use super::stream::{self, Random};
use super::team::Member;

/// A sleep may last this much longer than asked: the rest is spent awake.
const OVERSLEEP: Duration = Duration::from_micros(100);

/// The longest sleep, so that a stop is seen.
const NAP: Duration = Duration::from_millis(50);

/// What nobody waits for.
const NEVER: Duration = Duration::from_secs(1 << 40);

/// The intended starts of one thread's operations. Evenly spaced ones of several
/// threads interleave; Poisson ones are independent, and together again Poisson.
#[derive(Debug)]
pub(crate) struct Pace {
    arrival: Arrival,
    /// Between two starts of this thread, on the average.
    gap: f64,
    /// Seconds from the start of the phase to this thread's first turn.
    first: f64,
    /// Starts given so far.
    given: u64,
    /// Of Poisson arrivals: the next start.
    next: f64,
    random: Random,
}

impl Pace {
    /// Thread `index` of `threads` that together do `rate` operations a second.
    pub(crate) fn new(
        rate: f64,
        arrival: Arrival,
        threads: usize,
        index: usize,
        seed: u64,
    ) -> Self {
        let mut pace = Self {
            arrival,
            gap: threads as f64 / rate,
            first: index as f64 / rate,
            given: 0,
            next: 0.0,
            random: stream::random(seed, index, "arrival"),
        };
        pace.next = pace.draw();
        pace
    }

    fn draw(&mut self) -> f64 {
        let unit: f64 = Exp1.sample(&mut self.random);
        unit * self.gap
    }

    /// Seconds from the start to the next operation.
    fn due(&self) -> f64 {
        match self.arrival {
            Arrival::Constant => self.first + self.given as f64 * self.gap,
            Arrival::Poisson => self.next,
        }
    }

    /// How long after the start the next operation is meant to begin.
    fn offset(&self) -> Duration {
        Duration::try_from_secs_f64(self.due()).map_or(NEVER, |d| d.min(NEVER))
    }

    /// The one whose offset was asked for is begun.
    fn advance(&mut self) {
        self.given += 1;
        if self.arrival == Arrival::Poisson {
            self.next += self.draw();
        }
    }

    /// How many more operations were meant to begin within `time`; of Poisson
    /// arrivals, how many on the average.
    pub(crate) fn not_started(&self, time: Duration) -> u64 {
        let left = time.as_secs_f64() - self.due();
        if left <= 0.0 {
            return 0;
        }
        match self.arrival {
            Arrival::Constant => (left / self.gap).ceil() as u64,
            Arrival::Poisson => 1 + (left / self.gap).round() as u64,
        }
    }

    /// Waits for the next intended start and gives it; `None` if it would be at
    /// or after the deadline, or the team stops. A start that is past is given at
    /// once: none is left out.
    pub(crate) fn wait(
        &mut self,
        member: &Member<'_>,
        deadline: Option<Instant>,
    ) -> Option<Instant> {
        let intended = member.started() + self.offset();
        if deadline.is_some_and(|d| intended >= d) || !until(intended, member) {
            return None;
        }
        self.advance();
        Some(intended)
    }
}

/// What a thread of a closed loop waits between two operations.
#[derive(Debug)]
pub(crate) struct Pause {
    mean: Duration,
    kind: Think,
    random: Random,
}

impl Pause {
    /// The configuration's think time for this thread, if it has one.
    pub(crate) fn new(run: &RunConfig, index: usize, seed: u64) -> Option<Self> {
        Some(Self {
            mean: run.think?.0,
            kind: run.think_kind,
            random: stream::random(seed, index, "think"),
        })
    }

    fn length(&mut self) -> Duration {
        match self.kind {
            Think::Constant => self.mean,
            Think::Exponential => {
                let unit: f64 = Exp1.sample(&mut self.random);
                Duration::try_from_secs_f64(unit * self.mean.as_secs_f64()).unwrap_or(NEVER)
            }
        }
    }

    /// Waits from `end` on; false if the time is up before, or the team stops.
    pub(crate) fn wait(
        &mut self,
        end: Instant,
        member: &Member<'_>,
        deadline: Option<Instant>,
    ) -> bool {
        let next = end + self.length().min(NEVER);
        if deadline.is_some_and(|d| next >= d) {
            return false;
        }
        until(next, member)
    }
}

/// Waits until `then`; false if the team stops before.
pub(crate) fn until(then: Instant, member: &Member<'_>) -> bool {
    loop {
        let now = Instant::now();
        if now >= then {
            return true;
        }
        if member.stopped() {
            return false;
        }
        let remaining = then - now;
        if remaining > OVERSLEEP {
            thread::sleep((remaining - OVERSLEEP).min(NAP));
        } else {
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(arrival: Arrival, threads: usize, each: usize) -> Vec<Duration> {
        let mut all: Vec<Duration> = (0..threads)
            .flat_map(|i| {
                let mut p = Pace::new(1000.0, arrival, threads, i, 7);
                let mut next = move || {
                    let at = p.offset();
                    p.advance();
                    at
                };
                (0..each).map(|_| next()).collect::<Vec<_>>()
            })
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn all_threads_together_keep_the_rate_evenly() {
        for (i, s) in starts(Arrival::Constant, 4, 250).into_iter().enumerate() {
            let ideal = Duration::from_micros(1000 * i as u64);
            assert!(s.abs_diff(ideal) < Duration::from_nanos(100), "{i}: {s:?}");
        }
    }

    #[test]
    fn poisson_gaps_are_exponential_over_all_threads() {
        let all = starts(Arrival::Poisson, 4, 25_000);
        // The ends differ by thread: the middle is where all of them are.
        let gaps: Vec<f64> = all[..80_000]
            .windows(2)
            .map(|w| (w[1] - w[0]).as_secs_f64() * 1000.0)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let var = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let long = gaps.iter().filter(|g| **g > 3.0).count() as f64 / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.03, "mean {mean}");
        assert!((var.sqrt() - 1.0).abs() < 0.03, "deviation {}", var.sqrt());
        assert!((long - (-3.0_f64).exp()).abs() < 0.005, "{long} above 3");
    }

    #[test]
    fn what_the_time_did_not_suffice_for_is_counted() {
        let mut p = Pace::new(1000.0, Arrival::Constant, 2, 1, 7);
        for _ in 0..100 {
            p.advance();
        }
        // Thread 1 of 2 begins at 1, 3, 5 … ms: 500 in a second.
        assert_eq!(p.not_started(Duration::from_secs(1)), 400);
        assert_eq!(p.not_started(Duration::from_millis(10)), 0);
        let p = Pace::new(1000.0, Arrival::Poisson, 2, 1, 7);
        assert!((480..=520).contains(&p.not_started(Duration::from_secs(1))));
    }

    #[test]
    fn a_rate_near_nothing_is_no_panic() {
        let p = Pace::new(1e-300, Arrival::Constant, 2, 1, 7);
        assert_eq!(p.offset(), NEVER);
        let p = Pace::new(1e-300, Arrival::Poisson, 2, 1, 7);
        assert_eq!(p.offset(), NEVER);
    }
}
