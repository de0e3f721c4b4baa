//! How fast discards go.

use gaur_iodriver::sync::time::{Duration, Instant};

/// How fast discards may go, so that they do not hold up what matters. Both limits
/// hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscardRate {
    /// Bytes a second; 0: no limit.
    pub bytes_per_second: u64,
    /// Discards a second; 0: no limit.
    pub per_second: u32,
}

impl Default for DiscardRate {
    /// 1 GiB and 1000 discards a second.
    fn default() -> Self {
        Self {
            bytes_per_second: 1 << 30,
            per_second: 1000,
        }
    }
}

/// However slow the rate: no pause is longer.
const LONGEST: Duration = Duration::from_secs(3600);

impl DiscardRate {
    /// No limit at all.
    pub const UNLIMITED: Self = Self {
        bytes_per_second: 0,
        per_second: 0,
    };

    /// The time that a discard of so many bytes stands for.
    fn time_of(self, bytes: u64) -> Duration {
        let share = |n: u64, per: u64| match per {
            0 => Duration::ZERO,
            per => {
                let seconds = n as f64 / per as f64;
                Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64()))
            }
        };
        share(bytes, self.bytes_per_second).max(share(1, self.per_second.into()))
    }

    /// The most bytes to discard at once: not more than a second's worth.
    pub(super) fn at_once(self) -> u64 {
        match self.bytes_per_second {
            0 => u64::MAX,
            n => n,
        }
    }
}

/// When the next discard may begin.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Option<Instant>,
}

impl Pace {
    /// How long to wait still; none if a discard may begin now.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.next?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A discard of so many bytes begins.
    pub(super) fn charge(&mut self, now: Instant, bytes: u64, rate: DiscardRate) {
        self.next = now.checked_add(rate.time_of(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gaur_iodriver::sync::time;

    #[test]
    fn both_limits_hold() {
        let rate = DiscardRate {
            bytes_per_second: 1 << 20,
            per_second: 10,
        };
        assert_eq!(rate.time_of(1 << 20), Duration::from_secs(1));
        assert_eq!(rate.time_of(4096), Duration::from_millis(100));
        assert_eq!(rate.at_once(), 1 << 20);
        assert_eq!(DiscardRate::UNLIMITED.time_of(u64::MAX), Duration::ZERO);
        let slow = DiscardRate {
            bytes_per_second: 1,
            per_second: 0,
        };
        assert_eq!(slow.time_of(u64::MAX), LONGEST);

        let now = time::now();
        let mut pace = Pace::default();
        assert_eq!(pace.left(now), None);
        pace.charge(now, 4096, rate);
        assert_eq!(pace.left(now), Some(Duration::from_millis(100)));
        assert_eq!(pace.left(now + Duration::from_millis(100)), None);
    }
}
