//! What was seen of operations in a short time: by one thread since it was last
//! asked, or by all in a second.

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::run::measure::{Done, LONGEST, Op, histogram};

/// In nanoseconds; what took longer counts as this.
const MOST: u64 = LONGEST.as_nanos() as u64;

/// What was seen of one operation. A bucket counts to 2³² - 1, which no second fills.
#[derive(Clone, Debug)]
pub(crate) struct Short {
    /// From the intended start in an open loop, else from the real one.
    pub(crate) latency: Histogram<u32>,
    /// From the real start; only in an open loop.
    pub(crate) service: Option<Histogram<u32>>,
    pub(crate) done: Done,
}

/// The operations that may occur, each at its own place.
pub(crate) type Ops = [Option<Box<Short>>; Op::COUNT];

impl Short {
    pub(crate) fn new(open_loop: bool) -> Result<Self, Failure> {
        Ok(Self {
            latency: histogram()?,
            service: if open_loop { Some(histogram()?) } else { None },
            done: Done::default(),
        })
    }

    /// Counts one operation; times are nanoseconds.
    #[inline]
    pub(crate) fn record(&mut self, latency: u64, service: u64, done: Done) {
        // A bucket may reach beyond the longest; then sums would be refused.
        self.latency.saturating_record(latency.clamp(1, MOST));
        if let Some(h) = &mut self.service {
            h.saturating_record(service.clamp(1, MOST));
        }
        self.done.add(done);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.latency.is_empty()
    }

    /// Adds what another saw.
    pub(crate) fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.latency.add(&other.latency).map_err(failed)?;
        if let (Some(mine), Some(theirs)) = (&mut self.service, &other.service) {
            mine.add(theirs).map_err(failed)?;
        }
        self.done.add(other.done);
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.latency.reset();
        if let Some(h) = &mut self.service {
            h.reset();
        }
        self.done = Done::default();
    }
}

fn failed(e: impl std::fmt::Debug) -> Failure {
    Failure::refused(format!("cannot merge histograms: {e:?}"))
}

/// Adds a short time's histogram to a long one's. Exact: both have the same buckets.
pub(crate) fn accumulate(long: &mut Histogram<u64>, short: &Histogram<u32>) -> Result<(), Failure> {
    for step in short.iter_recorded() {
        let (value, count) = (step.value_iterated_to(), step.count_at_value());
        long.record_n(value.min(long.high()), count.into())
            .map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_in_adding_up() {
        let mut whole = histogram().unwrap();
        let mut exact: Histogram<u64> = histogram().unwrap();
        let mut short = Short::new(false).unwrap();
        for i in 0..200_000_u64 {
            // Up to beyond what is told apart.
            let nanos = i * i * 3;
            short.record(nanos, nanos, Done::default());
            exact.record(nanos.clamp(1, MOST)).unwrap();
            if i % 7_000 == 0 {
                accumulate(&mut whole, &short.latency).unwrap();
                short.clear();
            }
        }
        accumulate(&mut whole, &short.latency).unwrap();
        assert_eq!(whole.len(), 200_000);
        for q in [0.0, 0.5, 0.9, 0.999, 0.99999, 1.0] {
            assert_eq!(whole.value_at_quantile(q), exact.value_at_quantile(q));
        }
        assert_eq!(whole.max(), exact.max());
    }
}
