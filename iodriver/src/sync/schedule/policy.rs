//! Who runs next, and for how long.

use rand::RngExt;

use crate::sync::rng::{Rng, seeded};

/// How threads are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// At one point in so many, on average, any thread that can run.
    Random {
        /// At least 1.
        one_in: u32,
    },
    /// The thread with the highest priority runs. At so many points, chosen
    /// beforehand, the one that runs falls behind all others. (Burckhardt et al., *A
    /// Randomized Scheduler with Probabilistic Guarantees of Finding Bugs*, 2010.)
    Priorities {
        /// Points at which a thread falls behind.
        changes: u32,
        /// Among the first so many.
        among: u32,
    },
    /// Stretches of many points without a switch, and stretches with many.
    Bursts {
        /// Points of a stretch, on average.
        length: u32,
    },
}

impl Policy {
    /// One that a seed decides.
    pub fn draw(seed: u64) -> Self {
        let mut rng = seeded(seed ^ 0x5eed_0f90_11c7);
        match rng.random_range(0..10) {
            0..5 => Self::Random {
                one_in: [2, 4, 16, 64, 256][rng.random_range(0..5)],
            },
            5..8 => Self::Priorities {
                changes: rng.random_range(2..30),
                among: [2000, 20_000, 200_000][rng.random_range(0..3)],
            },
            _ => Self::Bursts {
                length: [20, 200, 2000][rng.random_range(0..3)],
            },
        }
    }

    /// A short text.
    pub fn name(&self) -> String {
        match self {
            Self::Random { one_in } => format!("random/{one_in}"),
            Self::Priorities { changes, .. } => format!("priorities/{changes}"),
            Self::Bursts { length } => format!("bursts/{length}"),
        }
    }
}

/// A policy at work.
#[derive(Debug)]
pub(super) struct Chooser {
    policy: Policy,
    /// Points at which a thread falls behind, the last first.
    changes: Vec<u64>,
    /// Given to who falls behind; sinks.
    lowest: i64,
    /// Points that are left of the stretch with many switches.
    busy: u64,
}

impl Chooser {
    pub(super) fn new(policy: Policy, rng: &mut Rng) -> Self {
        let mut changes = Vec::new();
        if let Policy::Priorities { changes: n, among } = policy {
            changes.extend((0..n).map(|_| u64::from(rng.random_range(0..among.max(1)))));
            changes.sort_unstable_by(|a, b| b.cmp(a));
        }
        Self {
            policy,
            changes,
            lowest: 0,
            busy: 0,
        }
    }

    /// The priority of a new thread.
    pub(super) fn priority(&self, rng: &mut Rng) -> i64 {
        rng.random_range(1..1 << 40)
    }

    /// A priority below all others.
    pub(super) fn behind_all(&mut self) -> i64 {
        self.lowest -= 1;
        self.lowest
    }

    /// Whether the thread that runs falls behind at this point.
    pub(super) fn falls_behind(&mut self, points: u64) -> bool {
        let mut falls = false;
        while self.changes.last().is_some_and(|&at| at <= points) {
            self.changes.pop();
            falls = true;
        }
        falls
    }

    /// Whether a thread that can run again is looked at at once.
    pub(super) fn minds_wakes(&self) -> bool {
        matches!(self.policy, Policy::Priorities { .. })
    }

    /// Points until the next choice.
    pub(super) fn stretch(&mut self, points: u64, rng: &mut Rng) -> u64 {
        match self.policy {
            Policy::Random { one_in } => around(one_in, rng),
            Policy::Priorities { .. } => match self.changes.last() {
                Some(&at) => at.saturating_sub(points).max(1),
                None => 1 << 20,
            },
            Policy::Bursts { length } => {
                if self.busy > 0 {
                    self.busy -= 1;
                    return rng.random_range(1..4);
                }
                if rng.random_bool(0.2) {
                    self.busy = u64::from(rng.random_range(1..=length));
                }
                around(length, rng)
            }
        }
    }

    /// Which of those that can run does: `(priority)` of each, in order of the threads.
    pub(super) fn choose(&self, can_run: &[(usize, i64)], rng: &mut Rng) -> usize {
        match self.policy {
            Policy::Priorities { .. } => {
                let best = can_run.iter().max_by_key(|(_, priority)| *priority);
                best.expect("somebody can run").0
            }
            _ if can_run.len() == 1 => can_run[0].0,
            _ => can_run[rng.random_range(0..can_run.len())].0,
        }
    }
}

/// A number from 1 on, `mean` on average, most of them small.
fn around(mean: u32, rng: &mut Rng) -> u64 {
    let u: f64 = rng.random_range(f64::EPSILON..1.0);
    (-u.ln() * f64::from(mean)).ceil().max(1.0) as u64
}
