//! The latencies of the second just past, for who watches.

use std::fmt;

use super::interval::{Ops, accumulate};
use crate::failure::Failure;
use crate::run::measure::histogram;
use crate::units;

/// Latencies of all operations together, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tails {
    p50: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

impl Tails {
    /// Of these; none if nothing was done.
    pub(super) fn of(ops: &Ops) -> Result<Option<Self>, Failure> {
        let mut all = histogram::<u64>()?;
        for short in ops.iter().flatten() {
            accumulate(&mut all, &short.latency)?;
        }
        Ok((!all.is_empty()).then(|| Self {
            p50: all.value_at_quantile(0.5),
            p99: all.value_at_quantile(0.99),
            p99_9: all.value_at_quantile(0.999),
            max: all.max(),
        }))
    }
}

impl fmt::Display for Tails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p99_9, max] = [self.p50, self.p99, self.p99_9, self.max].map(units::nanos);
        write!(
            f,
            "last second  p50 {p50} · p99 {p99} · p99.9 {p99_9} · max {max}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Short;
    use super::*;
    use crate::run::measure::{Done, Op};

    #[test]
    fn all_operations_count_together() {
        let mut ops = Ops::default();
        assert_eq!(Tails::of(&ops).unwrap(), None);
        for (op, nanos, times) in [(Op::Read, 1_000, 99), (Op::Update, 1_000_000, 1)] {
            let mut short = Short::new(false).unwrap();
            for _ in 0..times {
                short.record(nanos, nanos, Done::default());
            }
            ops[op as usize] = Some(Box::new(short));
        }
        let tails = Tails::of(&ops).unwrap().unwrap();
        assert!(tails.p50 < 1_100 && tails.p99 < 1_100, "{tails}");
        assert!(
            tails.p99_9 >= 1_000_000 && tails.max >= 1_000_000,
            "{tails}"
        );
    }
}
