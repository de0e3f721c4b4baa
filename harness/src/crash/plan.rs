//! What each writer commits: a function of seed, round and thread, so that the
//! parent can work out what the child did without being told.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::state::{Change, Commit, Slot, Stamp, State, TREES};

/// Keys per writer and tree.
const SLOTS: u16 = 400;

/// The largest batch.
const BATCH: usize = 24;

/// One writer's commits in one round, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    rng: ChaCha8Rng,
    round: u32,
    thread: u16,
    seq: u64,
}

impl Plan {
    /// The plan of `thread` in `round`.
    pub(crate) fn new(seed: u64, round: u32, thread: u16) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream((u64::from(round) << 16) | u64::from(thread));
        Self {
            rng,
            round,
            thread,
            seq: 0,
        }
    }

    /// The next commit, given the state that those before it made. Each commit
    /// changes something, and no key twice.
    pub(crate) fn next(&mut self, state: &State) -> Commit {
        self.seq += 1;
        let sync = self.rng.random_ratio(2, 5);
        let count = if self.rng.random_ratio(3, 10) {
            self.rng.random_range(2..=BATCH)
        } else {
            1
        };
        let mut changes: Vec<Change> = Vec::with_capacity(count);
        while changes.len() < count {
            let slot = Slot {
                tree: self.rng.random_range(0..TREES.len() as u8),
                number: self.rng.random_range(0..SLOTS),
            };
            let delete = self.rng.random_ratio(1, 5);
            let len = value_len(&mut self.rng);
            if changes.iter().any(|c| c.slot() == slot) {
                continue;
            }
            // Deleting what is not there would change nothing.
            changes.push(if delete && state.get(slot).is_some() {
                Change::Delete(slot)
            } else {
                Change::Put(
                    slot,
                    Stamp {
                        round: self.round,
                        thread: self.thread,
                        seq: self.seq,
                        len,
                    },
                )
            });
        }
        Commit {
            seq: self.seq,
            sync,
            changes,
        }
    }
}

/// Mostly small values, some larger than a block, few much larger.
fn value_len(rng: &mut impl Rng) -> u32 {
    match rng.random_range(0..1000) {
        0..5 => rng.random_range(20_000..200_000),
        5..40 => rng.random_range(1_000..9_000),
        _ => rng.random_range(Stamp::BYTES..400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_repeats_and_mixes_all_kinds() {
        let run = || {
            let (mut plan, mut state) = (Plan::new(7, 3, 2), State::default());
            (0..2000)
                .map(|_| {
                    let commit = plan.next(&state);
                    state.apply(&commit);
                    commit
                })
                .collect::<Vec<_>>()
        };
        let commits = run();
        assert_eq!(commits, run());
        let deletes = commits
            .iter()
            .flat_map(|c| &c.changes)
            .filter(|c| matches!(c, Change::Delete(_)))
            .count();
        assert!(deletes > 500, "{deletes}");
        assert!(commits.iter().any(|c| c.changes.len() > 10));
        assert!((600..1000).contains(&commits.iter().filter(|c| c.sync).count()));
        assert!(
            commits
                .iter()
                .enumerate()
                .all(|(i, c)| c.seq == i as u64 + 1)
        );
    }
}
