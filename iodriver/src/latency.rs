//! Added latency: how long an operation takes at least.

use std::time::Duration;

use rand::RngExt;

use crate::contract::Op;
use crate::sync::rng::Rng;

/// A fixed time and a random one on top, drawn evenly from `0..=jitter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// At least this.
    pub fixed: Duration,
    /// At most this more.
    pub jitter: Duration,
}

impl Latency {
    /// No jitter.
    pub const fn fixed(fixed: Duration) -> Self {
        Self {
            fixed,
            jitter: Duration::ZERO,
        }
    }

    fn draw(self, rng: &mut Rng) -> Duration {
        let jitter = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
        if jitter == 0 {
            return self.fixed;
        }
        self.fixed + Duration::from_nanos(rng.random_range(0..=jitter))
    }
}

/// The latency of each kind of operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyProfile {
    /// Of reads.
    pub read: Latency,
    /// Of writes.
    pub write: Latency,
    /// Of flushes; a durable write takes a write's and a flush's.
    pub flush: Latency,
    /// Of discards.
    pub discard: Latency,
}

impl LatencyProfile {
    /// The same for all kinds.
    pub const fn all(latency: Latency) -> Self {
        Self {
            read: latency,
            write: latency,
            flush: latency,
            discard: latency,
        }
    }

    pub(crate) fn draw(&self, op: &Op, rng: &mut Rng) -> Duration {
        match op {
            Op::Read { .. } => self.read.draw(rng),
            Op::Write { durable: false, .. } => self.write.draw(rng),
            Op::Write { durable: true, .. } => self.write.draw(rng) + self.flush.draw(rng),
            Op::Flush => self.flush.draw(rng),
            Op::Discard { .. } => self.discard.draw(rng),
        }
    }
}
