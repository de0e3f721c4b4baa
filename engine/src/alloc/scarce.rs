//! For `gaur experiment cow`: blocks for nodes are handed out as in a store whose groups
//! are nearly full. Each group gives a few, then it is the next group's turn, whose map
//! must be read if it is not in memory. So a store that is nearly empty, and was made in
//! a moment, asks as much of the map as one that was filled for hours.

use super::AllocConfig;
use super::pick::{Answer, Life};
use super::space::Space;
use crate::format::Run;

/// How few, and where the turn is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scarce {
    /// Blocks that a group gives at a time.
    per_group: u32,
    group: u64,
    /// Of those, how many are left.
    left: u32,
}

impl Scarce {
    pub(super) fn of(config: &AllocConfig) -> Option<Self> {
        config.experiment.blocks_per_group.map(|n| Self {
            per_group: n.max(1),
            group: 0,
            left: 0,
        })
    }
}

impl Space {
    /// A run of at most `max` blocks out of the group whose turn it is. `Err`: the
    /// group that must be read first.
    pub(super) fn scarce_run(&mut self, max: u32) -> Result<Option<Run>, u64> {
        // Once round, and the group where that began.
        for _ in 0..=self.groups.len() {
            let at = self.scarce_now();
            let want = max.min(at.left);
            self.scarce = Some(at);
            if self.groups[at.group as usize].avail > 0 {
                if !self.ready(at.group) {
                    return Err(at.group);
                }
                let found = self.scan(at.group, 0, want);
                if let Some(l) = found.or_else(|| self.scan(at.group, 0, 1)) {
                    let run = self.grant(Some(Life::Nodes), l, want);
                    self.scarce = Some(Scarce {
                        left: at.left - run.len,
                        ..at
                    });
                    return Ok(Some(run));
                }
            }
            self.scarce = Some(Scarce { left: 0, ..at });
        }
        Ok(None)
    }

    /// Exactly so many blocks, or what must be read first. `None`: there are not
    /// so many.
    pub(super) fn scarce_nodes(&mut self, blocks: u32) -> Option<Answer> {
        let before = self.scarce;
        let (mut runs, mut left) = (Vec::new(), blocks);
        while left > 0 {
            let run = match self.scarce_run(left) {
                Ok(Some(run)) => run,
                none => {
                    self.undo(&runs);
                    self.scarce = before;
                    return none.err().map(|group| Answer::Load(vec![group]));
                }
            };
            left -= run.len;
            runs.push(run);
        }
        Some(Answer::Granted(runs))
    }

    /// The group whose turn it is, if it must be read.
    pub(super) fn scarce_ahead(&self) -> Option<u64> {
        let group = self.scarce_now().group;
        self.cold(group).then_some(group)
    }

    fn scarce_now(&self) -> Scarce {
        let at = self.scarce.expect("asked only then");
        match at.left {
            0 => Scarce {
                group: (at.group + 1) % self.groups.len() as u64,
                left: at.per_group,
                ..at
            },
            _ => at,
        }
    }
}
