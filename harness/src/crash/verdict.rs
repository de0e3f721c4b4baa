//! Whether what was recovered is what the promises allow.
//!
//! Per writer: the recovered state must be the state after exactly its first *n*
//! commits for some *n*, at least its last acknowledged Sync commit and at most
//! the one it may have had in flight. That shows single commits and batches to be
//! whole, and nothing to be out of order. Over all writers: if a commit is there,
//! then every commit with a lower CSN is.

use std::time::Duration;

use super::plan::Plan;
use super::state::State;
use super::wire::Ack;

/// One writer's round.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) thread: u16,
    /// Its state when the round began.
    pub(crate) base: State,
    /// What was acknowledged to it, in order.
    pub(crate) acks: Vec<Ack>,
    /// Its state after recovery.
    pub(crate) recovered: State,
}

/// How many of a writer's commits were recovered. A commit may undo the one
/// before (a put of a new key, then its delete), so it may be one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    least: u64,
    most: u64,
}

/// What a round showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    pub(crate) sync: u64,
    /// Acknowledged as Buffered, and lost.
    pub(crate) lost: u64,
    /// How long before the kill the oldest lost one was acknowledged.
    pub(crate) oldest_lost: Option<Duration>,
    /// The highest CSN known to be there.
    pub(crate) highest: u64,
}

/// Judges a round that was killed at `killed`; says what was broken.
pub(crate) fn judge(
    seed: u64,
    round: u32,
    histories: &[History],
    killed: Duration,
) -> Result<Tally, String> {
    let mut tally = Tally::default();
    // The highest commit that is there, and the lowest that is not.
    let (mut there, mut gone): (Option<Ack>, Option<Ack>) = (None, None);
    for h in histories {
        contiguous(h)?;
        let kept = kept(seed, round, h)?;
        tally.acknowledged += h.acks.len() as u64;
        for ack in &h.acks {
            tally.sync += u64::from(ack.sync);
            if ack.seq <= kept.least {
                if there.is_none_or(|t| t.csn < ack.csn) {
                    there = Some(*ack);
                }
            } else if ack.seq > kept.most {
                if ack.sync {
                    return Err(format!(
                        "writer {}: Sync commit {} (CSN {}) was acknowledged and is gone; {} commits were recovered",
                        h.thread, ack.seq, ack.csn, kept.most
                    ));
                }
                tally.lost += 1;
                let age = killed.saturating_sub(ack.at);
                tally.oldest_lost = tally.oldest_lost.max(Some(age));
                if gone.is_none_or(|g| g.csn > ack.csn) {
                    gone = Some(*ack);
                }
            }
        }
    }
    tally.highest = there.map_or(0, |t| t.csn);
    match (there, gone) {
        (Some(there), Some(gone)) if gone.csn < there.csn => Err(format!(
            "not a prefix: CSN {} (commit {} of writer {}) is there, CSN {} (commit {} of writer {}) is gone",
            there.csn, there.seq, there.thread, gone.csn, gone.seq, gone.thread
        )),
        _ => Ok(tally),
    }
}

/// A writer has one commit in flight at a time: its acknowledgements are without
/// gaps, their CSNs ascending.
fn contiguous(h: &History) -> Result<(), String> {
    let mut last = 0;
    for (seq, ack) in (1..).zip(&h.acks) {
        if ack.seq != seq {
            return Err(format!(
                "writer {}: acknowledgement {} where {seq} was due",
                h.thread, ack.seq
            ));
        }
        if ack.csn <= last {
            return Err(format!(
                "writer {}: commit {seq} got CSN {}, not above the CSN {last} of the one before",
                h.thread, ack.csn
            ));
        }
        last = ack.csn;
    }
    Ok(())
}

/// After how many commits the writer's keys look as recovered.
fn kept(seed: u64, round: u32, h: &History) -> Result<Kept, String> {
    let mut plan = Plan::new(seed, round, h.thread);
    let mut state = h.base.clone();
    let mut different = state.differences(&h.recovered).len();
    let mut nearest = (different, 0);
    let mut kept: Option<Kept> = None;
    let issued = h.acks.len() as u64 + 1;
    for n in 0..=issued {
        if n > 0 {
            for change in plan.next(&state).changes {
                let (slot, target) = (change.slot(), h.recovered.get(change.slot()));
                different -= usize::from(state.get(slot) != target);
                state.set(slot, change.stamp());
                different += usize::from(state.get(slot) != target);
            }
        }
        nearest = nearest.min((different, n));
        if different == 0 {
            kept = Some(Kept {
                least: kept.map_or(n, |k| k.least),
                most: n,
            });
        }
    }
    kept.ok_or_else(|| {
        format!(
            "writer {}: what was recovered is the state after no number of its {issued} commits; nearest is after {}, with {} key(s) different{}",
            h.thread,
            nearest.1,
            nearest.0,
            examples(seed, round, h, nearest.1),
        )
    })
}

/// Some of the keys that are not as they were after `n` commits.
fn examples(seed: u64, round: u32, h: &History, n: u64) -> String {
    let (mut plan, mut state) = (Plan::new(seed, round, h.thread), h.base.clone());
    for _ in 0..n {
        let commit = plan.next(&state);
        state.apply(&commit);
    }
    let show = |s: Option<super::state::Stamp>| {
        s.map_or_else(
            || "absent".to_owned(),
            |s| format!("round {} commit {}", s.round, s.seq),
        )
    };
    state
        .differences(&h.recovered)
        .into_iter()
        .take(3)
        .map(|slot| {
            format!(
                "; {} {}: {} expected, {} found",
                super::state::TREES[usize::from(slot.tree)],
                crate::text::show(&slot.key(h.thread)),
                show(state.get(slot)),
                show(h.recovered.get(slot))
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::state::Slot;

    const KILLED: Duration = Duration::from_secs(100);

    /// Writers whose commits interleave evenly by CSN; writer `i` is recovered up
    /// to `kept[i]` of `acked` acknowledged commits.
    fn round(acked: u64, kept: &[u64]) -> Vec<History> {
        (0_u16..)
            .zip(kept)
            .map(|(thread, &kept)| {
                let (mut plan, mut state) = (Plan::new(1, 1, thread), State::default());
                let mut recovered = State::default();
                let mut acks = Vec::new();
                for seq in 1..=acked + 1 {
                    let commit = plan.next(&state);
                    state.apply(&commit);
                    if seq == kept {
                        recovered = state.clone();
                    }
                    if seq <= acked {
                        let csn = seq * 10 + u64::from(thread);
                        let at = KILLED - Duration::from_millis(acked - seq + 1);
                        acks.push(Ack {
                            thread,
                            sync: commit.sync,
                            seq,
                            csn,
                            at,
                        });
                    }
                }
                History {
                    thread,
                    base: State::default(),
                    acks,
                    recovered,
                }
            })
            .collect()
    }

    fn last_sync(h: &History) -> u64 {
        h.acks.iter().rfind(|a| a.sync).map_or(0, |a| a.seq)
    }

    #[test]
    fn all_kept_and_one_in_flight_kept_are_fine() {
        let t = judge(1, 1, &round(50, &[50, 50, 51]), KILLED).unwrap();
        assert_eq!((t.acknowledged, t.lost, t.oldest_lost), (150, 0, None));
        assert_eq!(t.highest, 502);
    }

    #[test]
    fn losing_buffered_commits_at_the_end_is_fine() {
        let mut histories = round(50, &[45, 45]);
        for h in &mut histories {
            h.acks
                .iter_mut()
                .filter(|a| a.seq > 45)
                .for_each(|a| a.sync = false);
        }
        let t = judge(1, 1, &histories, KILLED).unwrap();
        assert_eq!(
            (t.lost, t.oldest_lost),
            (10, Some(Duration::from_millis(5)))
        );
    }

    #[test]
    fn losing_a_sync_commit_is_found() {
        let all = round(50, &[50]);
        let kept = last_sync(&all[0]) - 1;
        let e = judge(1, 1, &round(50, &[kept]), KILLED).unwrap_err();
        assert!(e.contains("Sync commit") && e.contains("is gone"), "{e}");
    }

    #[test]
    fn a_hole_in_the_order_of_commits_is_found() {
        let mut histories = round(50, &[40, 50]);
        for h in &mut histories {
            h.acks.iter_mut().for_each(|a| a.sync = false);
        }
        let e = judge(1, 1, &histories, KILLED).unwrap_err();
        assert!(e.starts_with("not a prefix: CSN 501"), "{e}");
    }

    #[test]
    fn half_a_batch_and_a_resurrected_key_are_found() {
        let mut histories = round(50, &[50]);
        let state = histories[0].recovered.clone();
        let slot = *state.differences(&State::default()).first().unwrap();
        histories[0].recovered.set(slot, None);
        let e = judge(1, 1, &histories, KILLED).unwrap_err();
        assert!(e.contains("after no number of its"), "{e}");

        let mut histories = round(50, &[50]);
        let free = (0..400)
            .map(|number| Slot { tree: 1, number })
            .find(|&s| state.get(s).is_none())
            .unwrap();
        histories[0].recovered.set(free, state.get(slot));
        assert!(
            judge(1, 1, &histories, KILLED)
                .unwrap_err()
                .contains("absent expected")
        );
    }

    #[test]
    fn csns_that_do_not_ascend_are_found() {
        let mut histories = round(10, &[10]);
        histories[0].acks[5].csn = 1;
        assert!(
            judge(1, 1, &histories, KILLED)
                .unwrap_err()
                .contains("not above")
        );
    }
}
