//! Counts by latency: what of a histogram is not empty.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Counts by latency in nanoseconds. Merging adds counts; nothing is averaged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bins(pub(crate) BTreeMap<u64, u64>);

impl Bins {
    pub(crate) fn add_histogram(&mut self, h: &Histogram<u64>) {
        for step in h.iter_recorded() {
            *self.0.entry(step.value_iterated_to()).or_default() +=
                step.count_since_last_iteration();
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (&value, &count) in &other.0 {
            *self.0.entry(value).or_default() += count;
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.values().sum()
    }

    /// The latency that the share `q` does not exceed; none if nothing is here.
    pub(crate) fn quantile(&self, q: f64) -> Option<u64> {
        let wanted = rank(q, self.len());
        let mut seen = 0;
        self.0.iter().find_map(|(&value, &count)| {
            seen += count;
            (seen >= wanted).then_some(value)
        })
    }
}

/// The rank, from 1 on, of the value at a quantile among `n`.
pub(crate) fn rank(q: f64, n: u64) -> u64 {
    // Not above by rounding: 0.9 of 10 is the 9th.
    ((q * n as f64 - 1e-9).ceil() as u64).clamp(1, n.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_histogram() {
        let mut h = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for i in 1..=1000_u64 {
            h.record(i * i * 17).unwrap();
        }
        let mut bins = Bins::default();
        bins.add_histogram(&h);
        let mut twice = bins.clone();
        twice.add(&bins);
        assert_eq!((bins.len(), twice.len()), (1000, 2000));
        for q in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_eq!(bins.quantile(q), Some(h.value_at_quantile(q)), "{q}");
            assert_eq!(twice.quantile(q), bins.quantile(q), "{q}");
        }
        assert_eq!(Bins::default().quantile(0.5), None);
    }
}
