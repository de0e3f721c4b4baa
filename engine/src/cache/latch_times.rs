//! For `gaur experiment cow`: how long latches are held, and waited for.
//!
//! Counted in buckets a sixteenth apart. Each thread counts in a stripe that it seldom
//! shares with another, so that counting disturbs little; it costs two looks at the
//! clock for each latch taken, in all modes alike.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use gaur_iodriver::sync::time::{Duration, Instant, now};

/// Buckets for each power of two: 16.
const FINE: u32 = 4;
const BUCKETS: usize = 48 << FINE;
const STRIPES: usize = 64;

struct Buckets {
    counts: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Buckets {
    const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
        }
    }

    fn add(&self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        self.counts[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

static HELD: [Buckets; STRIPES] = [const { Buckets::new() }; STRIPES];
static WAITED: [Buckets; STRIPES] = [const { Buckets::new() }; STRIPES];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: Cell<usize> =
        Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES);
}

/// A latch was held so long.
pub(super) fn held(took: Duration) {
    HELD[STRIPE.with(Cell::get)].add(took);
}

/// A latch is waited for, until this is dropped.
pub(super) struct Waiting(Instant);

impl Waiting {
    pub(super) fn begin() -> Self {
        Self(now())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITED[STRIPE.with(Cell::get)].add(self.0.elapsed());
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < 1 << FINE {
        return nanos as usize;
    }
    let log = nanos.ilog2();
    let fine = (nanos >> (log - FINE)) & ((1 << FINE) - 1);
    ((((log - FINE + 1) << FINE) as usize) | fine as usize).min(BUCKETS - 1)
}

/// The longest time in a bucket, in nanoseconds.
fn longest(bucket: usize) -> u64 {
    let (power, fine) = (bucket >> FINE, (bucket & ((1 << FINE) - 1)) as u64);
    match power.checked_sub(1) {
        None => fine,
        Some(shift) => (((1 << FINE) + fine + 1) << shift) - 1,
    }
}

/// How long something took, how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    counts: Vec<u64>,
    nanos: u64,
}

impl Times {
    fn of(stripes: &[Buckets]) -> Self {
        let count = |i: usize| {
            let counts = stripes.iter().map(|s| s.counts[i].load(Ordering::Relaxed));
            counts.sum()
        };
        Self {
            counts: (0..BUCKETS).map(count).collect(),
            nanos: stripes
                .iter()
                .map(|s| s.nanos.load(Ordering::Relaxed))
                .sum(),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        let pairs = self.counts.iter().zip(&earlier.counts);
        Self {
            counts: pairs.map(|(a, b)| a - b).collect(),
            nanos: self.nanos - earlier.nanos,
        }
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of it together, in nanoseconds.
    pub fn total_nanos(&self) -> u64 {
        self.nanos
    }

    /// What so large a part took at most, in nanoseconds, to a sixteenth above; 1: the
    /// longest. 0 if there was nothing.
    pub fn at(&self, part: f64) -> u64 {
        let wanted = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.counts.iter().position(|&n| {
            seen += n;
            seen >= wanted
        });
        found.map_or(0, longest)
    }
}

/// Exclusive latches of all stores of the process: nodes' and trees'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatchTimes {
    /// From lock to release.
    pub held: Times,
    /// From finding it locked to finding it free: by writers, and by readers. Those that
    /// found it free at once are not counted.
    pub waited: Times,
}

impl LatchTimes {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            held: self.held.since(&earlier.held),
            waited: self.waited.since(&earlier.waited),
        }
    }
}

/// All since the process began.
pub fn latch_times() -> LatchTimes {
    LatchTimes {
        held: Times::of(&HELD),
        waited: Times::of(&WAITED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_its_bucket() {
        for nanos in (0..5000).chain((13..46).map(|p| (1 << p) - 1)) {
            let at = bucket(nanos);
            assert!(longest(at) >= nanos, "{nanos}");
            assert!(at == 0 || longest(at - 1) < nanos, "{nanos}");
            assert!(longest(at) <= nanos + nanos / 16, "{nanos}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_counted() {
        let stripes = [Buckets::new(), Buckets::new()];
        let before = Times::of(&stripes);
        assert_eq!((before.at(0.5), before.count()), (0, 0));
        for i in 1..=1000 {
            stripes[i % 2].add(Duration::from_nanos(if i < 991 { 10 } else { 15 }));
        }
        let t = Times::of(&stripes).since(&before);
        assert_eq!((t.at(0.99), t.at(0.991), t.at(1.0)), (10, 15, 15));
        assert_eq!((t.count(), t.total_nanos()), (1000, 9900 + 150));
    }
}
