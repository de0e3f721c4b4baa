//! Whether throughput is steady, in the way of SNIA's performance tests: in five
//! rounds none is far off the mean, and the line through them is nearly level.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use super::knobs::SteadyConfig;

/// Rounds in a window.
const ROUNDS: usize = 5;

/// Watches the count of finished operations.
#[derive(Debug)]
pub(crate) struct Watch {
    round: Duration,
    tolerance: f64,
    /// Not before this.
    least: Duration,
    rates: VecDeque<f64>,
    last: (Duration, u64),
    steady: bool,
}

impl Watch {
    /// One that says steady after `least` at the earliest.
    pub(crate) fn new(config: &SteadyConfig, least: Duration) -> Self {
        Self {
            round: config.window.0 / ROUNDS as u32,
            tolerance: config.tolerance,
            least,
            rates: VecDeque::with_capacity(ROUNDS),
            last: (Duration::ZERO, 0),
            steady: false,
        }
    }

    /// `done` operations were finished after `elapsed`; breaks when it is steady.
    pub(crate) fn see(&mut self, done: u64, elapsed: Duration) -> ControlFlow<()> {
        let (then, before) = self.last;
        let time = elapsed.saturating_sub(then);
        if time < self.round || time.is_zero() {
            return ControlFlow::Continue(());
        }
        self.last = (elapsed, done);
        if self.rates.len() == ROUNDS {
            self.rates.pop_front();
        }
        let count = done.saturating_sub(before);
        self.rates.push_back(count as f64 / time.as_secs_f64());
        self.steady = elapsed >= self.least && self.level();
        match self.steady {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Whether it broke.
    pub(crate) fn steady(&self) -> bool {
        self.steady
    }

    fn level(&self) -> bool {
        if self.rates.len() < ROUNDS {
            return false;
        }
        let n = ROUNDS as f64;
        let mean = self.rates.iter().sum::<f64>() / n;
        let most = self.tolerance * mean;
        // Least squares; x counts from the middle, so that its sum is 0.
        let middle = (n - 1.0) / 2.0;
        let (mut xy, mut xx) = (0.0, 0.0);
        for (i, rate) in self.rates.iter().enumerate() {
            let x = i as f64 - middle;
            xy += x * rate;
            xx += x * x;
        }
        let excursion = xy / xx * (n - 1.0);
        mean > 0.0 && self.rates.iter().all(|r| (r - mean).abs() <= most) && excursion.abs() <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    /// The rounds until it is steady at these rates, if it ever is.
    fn rounds(rates: &[u64], least: u64) -> Option<usize> {
        let config = SteadyConfig {
            window: Span(Duration::from_secs(5)),
            tolerance: 0.1,
            limit: Span(Duration::from_secs(100)),
        };
        let mut watch = Watch::new(&config, Duration::from_secs(least));
        let mut done = 0;
        for (i, rate) in rates.iter().enumerate() {
            // Looked at more often than it counts.
            let half = Duration::from_millis(1000 * i as u64 + 500);
            assert!(watch.see(done + rate / 2, half).is_continue());
            done += rate;
            let at = Duration::from_secs(i as u64 + 1);
            if watch.see(done, at).is_break() {
                assert!(watch.steady());
                return Some(i + 1);
            }
        }
        assert!(!watch.steady());
        None
    }

    #[test]
    fn level_rates_are_steady_after_a_window() {
        assert_eq!(rounds(&[100; 9], 0), Some(5));
        assert_eq!(rounds(&[100, 105, 95, 100, 104, 99], 0), Some(5));
        assert_eq!(rounds(&[100; 9], 8), Some(8));
    }

    #[test]
    fn a_start_is_left_behind() {
        assert_eq!(rounds(&[900, 500, 100, 100, 100, 100, 100], 0), Some(7));
    }

    #[test]
    fn neither_a_swing_nor_a_slope_is_steady() {
        assert_eq!(rounds(&[100, 130, 100, 130, 100, 130, 100, 130], 0), None);
        // Each within a tenth of the mean, and yet it falls by a sixth.
        assert_eq!(rounds(&[108, 104, 100, 96, 92], 0), None);
        assert_eq!(rounds(&[0; 9], 0), None);
    }
}
