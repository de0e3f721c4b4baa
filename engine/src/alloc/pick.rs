//! What to hand out.
//!
//! Nodes and extents have a cursor each, so that they fill different groups as
//! long as there is a choice. A cursor goes round the groups that need no I/O;
//! it takes whole runs as long as there are any, then what is left between.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::format::{BlockNo, Run};

use super::space::{Local, Space};
use super::{Request, Shape, SpaceError, Urgency};

/// What blocks are for: an index into [`Space::cursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Nodes = 0,
    Extents = 1,
}

/// The answer to a request, as far as it can be given now.
#[derive(Debug)]
pub(super) enum Answer {
    /// The blocks, handed out.
    Granted(Vec<Run>),
    /// Read these groups, keep them in memory, ask again.
    Load(Vec<u64>),
    /// Ask again when a discard is over.
    Wait,
    /// No.
    Refused(SpaceError),
}

/// Groups an extent reads in search of one piece before it is cut in pieces.
const LOOKS_FOR_ONE: usize = 8;
/// Groups an extent reads in all before it is refused.
const LOOKS: usize = 256;
/// Groups read at once for one request.
const LOADS: usize = 8;

impl Space {
    /// A run of at most `max` blocks for nodes, out of groups that need no I/O.
    pub(super) fn take_run(&mut self, max: u32) -> Option<Run> {
        #[cfg(feature = "experiment-cow")]
        if self.scarce.is_some() {
            return self.scarce_run(max).unwrap_or_default();
        }
        let l = self
            .find(Life::Nodes, max)
            .or_else(|| self.find(Life::Nodes, 1))?;
        Some(self.grant(Some(Life::Nodes), l, max))
    }

    /// Serves a request. `looked`: the groups that were read for it already.
    pub(super) fn reserve(&mut self, req: &Request, looked: &BTreeSet<u64>) -> Answer {
        let usable = self.avail.saturating_sub(self.kept_back(req.urgency));
        if u64::from(req.blocks) > usable {
            return self.short(req, usable);
        }
        match req.shape {
            #[cfg(feature = "experiment-cow")]
            Shape::Nodes if self.scarce.is_some() => {
                let granted = self.scarce_nodes(req.blocks);
                granted.unwrap_or_else(|| self.scattered(req, usable))
            }
            Shape::Nodes => self.nodes(req, usable),
            Shape::Extent { max_pieces } => self.extent(req, max_pieces, looked, usable),
        }
    }

    /// Blocks that a request must leave.
    pub(super) fn kept_back(&self, urgency: Urgency) -> u64 {
        match urgency {
            Urgency::Normal => self.reserve + self.floor,
            Urgency::Freeing => self.reserve / 4 + self.floor,
            Urgency::Reserve => 0,
        }
    }

    /// Not enough is free: when will there be?
    fn short(&self, req: &Request, usable: u64) -> Answer {
        let needed = u64::from(req.blocks);
        let kept_back = self.kept_back(req.urgency);
        let mut soon = self.avail + self.discarding.blocks();
        if soon.saturating_sub(kept_back) >= needed {
            return Answer::Wait;
        }
        for (&generation, list) in &self.pending {
            soon += list.blocks();
            if soon.saturating_sub(kept_back) >= needed {
                return Answer::Refused(SpaceError::AfterGeneration {
                    generation,
                    needed,
                    free: usable,
                });
            }
        }
        Answer::Refused(SpaceError::Full {
            needed,
            free: usable,
        })
    }

    /// Enough is free, but not in so few pieces.
    fn scattered(&self, req: &Request, usable: u64) -> Answer {
        let needed = u64::from(req.blocks);
        if self.discarding.blocks() > 0 {
            return Answer::Wait;
        }
        let first = self.pending.iter().find(|(_, list)| list.blocks() > 0);
        Answer::Refused(match first {
            Some((&generation, _)) => SpaceError::AfterGeneration {
                generation,
                needed,
                free: usable,
            },
            None => SpaceError::Full {
                needed,
                free: usable,
            },
        })
    }

    fn nodes(&mut self, req: &Request, usable: u64) -> Answer {
        let mut runs = Vec::new();
        let mut left = req.blocks;
        while left > 0 {
            let life = Some(Life::Nodes);
            let run = if let Some(l) = self.near(req.hint, 1) {
                self.grant(None, l, left)
            } else if let Some(l) = self.find(Life::Nodes, left) {
                self.grant(life, l, left)
            } else if let Some(l) = self.find(Life::Nodes, 1) {
                self.grant(life, l, left)
            } else {
                break;
            };
            left -= run.len;
            runs.push(run);
        }
        if left == 0 {
            return Answer::Granted(runs);
        }
        self.undo(&runs);
        // All that is ready is not enough, so every cold block may count.
        let cold = self.cold_groups(1, &BTreeSet::new(), LOADS);
        if cold.is_empty() {
            debug_assert!(false, "counted free, and not found");
            return self.scattered(req, usable);
        }
        Answer::Load(cold)
    }

    fn extent(
        &mut self,
        req: &Request,
        max_pieces: usize,
        looked: &BTreeSet<u64>,
        usable: u64,
    ) -> Answer {
        let life = Some(Life::Extents);
        if self.spread
            && let Some(answer) = self.next_group(req.blocks)
        {
            return answer;
        }
        if let Some(l) = self.near(req.hint, req.blocks) {
            return Answer::Granted(vec![self.grant(None, l, req.blocks)]);
        }
        if let Some(l) = self.find(Life::Extents, req.blocks) {
            return Answer::Granted(vec![self.grant(life, l, req.blocks)]);
        }
        if looked.len() < LOOKS_FOR_ONE {
            let cold = self.cold_groups(req.blocks, looked, 1);
            if !cold.is_empty() {
                return Answer::Load(cold);
            }
        }
        if let Some(runs) = self.pieces(req.blocks, max_pieces) {
            return Answer::Granted(runs);
        }
        let most = LOADS.min(LOOKS.saturating_sub(looked.len()));
        let cold = self.cold_groups(1, looked, most);
        if cold.is_empty() {
            return self.scattered(req, usable);
        }
        Answer::Load(cold)
    }

    /// An extent out of the first group behind the cursor's that has room, which is to
    /// be read first if it is cold.
    fn next_group(&mut self, blocks: u32) -> Option<Answer> {
        let count = self.groups.len() as u64;
        let own = self.geometry.group_of(self.cursor[Life::Extents as usize]);
        for i in 1..=count {
            let group = (own + i) % count;
            if self.groups[group as usize].bound() < blocks {
                continue;
            }
            if self.cold(group) {
                return Some(Answer::Load(vec![group]));
            }
            if let Some(l) = self.scan(group, 0, blocks) {
                let run = self.grant(Some(Life::Extents), l, blocks);
                return Some(Answer::Granted(vec![run]));
            }
        }
        None
    }

    /// The longest runs of the ready groups, the longest first.
    fn pieces(&mut self, blocks: u32, max_pieces: usize) -> Option<Vec<Run>> {
        let ready = self.loaded.keys().chain(&self.fresh);
        let bounds = ready.map(|&g| (self.groups[g as usize].bound(), Reverse(g)));
        let mut heap: BinaryHeap<_> = bounds.filter(|b| b.0 > 0).collect();
        let mut runs = Vec::new();
        let mut left = blocks;
        while left > 0 && runs.len() < max_pieces {
            let Some((bound, Reverse(group))) = heap.pop() else {
                break;
            };
            let (start, len) = self.open(group).alloc.longest().unwrap_or((0, 0));
            self.groups[group as usize].longest = len;
            if len == bound {
                let run = self.grant(Some(Life::Extents), Local { group, start, len }, left);
                left -= run.len;
                runs.push(run);
            }
            let next = self.groups[group as usize].bound();
            if next > 0 {
                heap.push((next, Reverse(group)));
            }
        }
        if left > 0 {
            self.undo(&runs);
            return None;
        }
        Some(runs)
    }

    /// Hands out the beginning of a free run; moves the cursor of `life` behind it.
    pub(super) fn grant(&mut self, life: Option<Life>, l: Local, max: u32) -> Run {
        let l = Local {
            len: l.len.min(max),
            ..l
        };
        self.hand_out(l);
        let run = self.global(l);
        if let Some(life) = life {
            self.cursor[life as usize] = run.end() % self.geometry.capacity;
        }
        run
    }

    /// Takes back what was just granted.
    pub(super) fn undo(&mut self, runs: &[Run]) {
        for &run in runs {
            self.give_back(run);
            self.make_free(run);
        }
    }

    /// A free run of at least `want` blocks in the group of `hint`, from there on,
    /// if the group needs no I/O.
    fn near(&mut self, hint: BlockNo, want: u32) -> Option<Local> {
        if hint == 0 || hint >= self.geometry.capacity {
            return None;
        }
        let group = self.geometry.group_of(hint);
        if !self.ready(group) || self.groups[group as usize].bound() < want {
            return None;
        }
        let from = (hint - self.geometry.group_start(group)) as u32;
        self.scan(group, from, want)
            .or_else(|| self.scan(group, 0, want))
    }

    /// A free run of at least `want` blocks in a group, from a block on.
    pub(super) fn scan(&mut self, group: u64, from: u32, want: u32) -> Option<Local> {
        let alloc = &self.open(group).alloc;
        match alloc.find(from, alloc.len(), want) {
            Ok((start, len)) => Some(Local { group, start, len }),
            Err(longest) => {
                if from == 0 {
                    self.groups[group as usize].longest = longest;
                }
                None
            }
        }
    }

    /// The next free run of at least `want` blocks in groups that need no I/O,
    /// from the cursor on and round; in the other lifetime's group only at last.
    fn find(&mut self, life: Life, want: u32) -> Option<Local> {
        if want >= self.none_of || u64::from(want) > self.geometry.group_blocks() {
            return None;
        }
        let at = self.cursor[life as usize];
        let own = self.geometry.group_of(at);
        let other = self.geometry.group_of(self.cursor[1 - life as usize]);
        let from = (at - self.geometry.group_start(own)) as u32;
        if self.ready(own)
            && self.groups[own as usize].bound() >= want
            && let Some(l) = self.scan(own, from, want)
        {
            return Some(l);
        }
        let mut next = own + 1;
        for _ in 0..2 {
            while let Some(group) = self.next_ready(next) {
                next = group + 1;
                if (group != other || group == own)
                    && self.groups[group as usize].bound() >= want
                    && let Some(l) = self.scan(group, 0, want)
                {
                    return Some(l);
                }
            }
            next = 0;
        }
        if other != own
            && self.ready(other)
            && self.groups[other as usize].bound() >= want
            && let Some(l) = self.scan(other, 0, want)
        {
            return Some(l);
        }
        self.none_of = want;
        None
    }

    fn next_ready(&self, from: u64) -> Option<u64> {
        let loaded = self.loaded.range(from..).next().map(|(&g, _)| g);
        let fresh = self.fresh.range(from..).next().copied();
        match (loaded, fresh) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// At most `most` groups that need I/O and may have a run of `want` blocks,
    /// except `looked`: those with the longest run, as far as is known, or with
    /// the most free blocks if a single one will do.
    fn cold_groups(&self, want: u32, looked: &BTreeSet<u64>, most: usize) -> Vec<u64> {
        let mut best = BinaryHeap::new();
        for (number, group) in (0u64..).zip(&self.groups) {
            if !group.cold || group.bound() < want || looked.contains(&number) {
                continue;
            }
            let size = if want == 1 {
                group.avail
            } else {
                group.bound()
            };
            best.push(Reverse((size, Reverse(number))));
            if best.len() > most {
                best.pop();
            }
        }
        let sorted = best.into_sorted_vec();
        sorted
            .into_iter()
            .map(|Reverse((_, Reverse(g)))| g)
            .collect()
    }

    /// The group to read ahead, if the one at the cursor runs low and the next
    /// good one needs I/O.
    pub(super) fn load_ahead(&self, life: Life) -> Option<u64> {
        #[cfg(feature = "experiment-cow")]
        if self.scarce.is_some() && life == Life::Nodes {
            return self.scarce_ahead();
        }
        let own = self.geometry.group_of(self.cursor[life as usize]);
        let plenty = (self.geometry.group_blocks() / 8) as u32;
        let count = self.groups.len() as u64;
        if self.ready(own) && self.groups[own as usize].avail >= plenty {
            return None;
        }
        let mut best: Option<(u32, u64)> = None;
        for i in 0..count {
            let group = (own + i) % count;
            let avail = self.groups[group as usize].avail;
            if avail >= plenty {
                return self.cold(group).then_some(group);
            }
            if avail > best.map_or(0, |b| b.0) && self.cold(group) {
                best = Some((avail, group));
            }
        }
        let own_left = if self.ready(own) {
            self.groups[own as usize].avail
        } else {
            0
        };
        best.filter(|b| b.0 > own_left).map(|b| b.1)
    }
}

#[cfg(test)]
mod tests;
