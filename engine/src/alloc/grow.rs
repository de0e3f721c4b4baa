//! Growth: a generation that takes new capacity in.
//!
//! What is won counts as freed by that generation. So it is pending from the
//! freeze on, nothing of it is handed out before the release, and the release
//! follows the superblock with the new capacity. New groups are untouched; a short
//! last group becomes longer, and its map block is written with the bits behind
//! the old end cleared. Of the index the last block of each level is written anew:
//! all new entries are in those, or in new blocks that are untouched too.

use std::sync::atomic::Ordering;

use gaur_iodriver::fault;

use crate::format::geometry::INDEX_LEVELS;
use crate::format::{BlockNo, Generation, Geometry, Run};

use super::index::{Index, untouched};
use super::load::Fresh;
use super::runs::{RunList, span};
use super::space::{Group, Space};
use super::thread::Worker;

impl Index {
    /// Adds untouched entries up to the geometry `to`; `free` are the free blocks
    /// of the new groups.
    pub(super) fn grow(&mut self, to: Geometry, free: impl Iterator<Item = u32>) {
        let last = self.levels[0].len() as u64 - 1;
        self.geometry = to;
        self.levels[0].extend(free.map(|f| untouched(u64::from(f))));
        for level in 1..=INDEX_LEVELS {
            let above = level as usize;
            for number in self.levels[above].len() as u64..to.index_count(level) {
                let below = &self.levels[above - 1][self.children((level, number))];
                let free = below.iter().map(|e| e.free).sum();
                self.levels[above].push(untouched(free));
            }
        }
        // With it, what is above it is written, up to the root.
        self.dirty.insert(last / to.fanout());
    }
}

impl Space {
    /// The last group, if it becomes longer by growing to the geometry `to`.
    pub(super) fn lengthened(&self, to: &Geometry) -> Option<u64> {
        let last = self.geometry.groups() - 1;
        (to.group_len(last) > self.geometry.group_len(last)).then_some(last)
    }

    /// Grows within the freeze of `generation`. Returns the group that becomes
    /// longer, which must not be cold, and what is won of it: the generation frees
    /// that, and the group must be written.
    pub(super) fn grow(&mut self, generation: Generation, to: Geometry) -> Option<(u64, Run)> {
        let from = self.geometry;
        let longer = self.lengthened(&to).map(|last| {
            assert!(!self.cold(last), "the last group is not in memory");
            if !self.is_damaged(last) {
                // Into memory as it was: the bits behind the old end are still 1.
                self.open(last);
            }
            let end = to.group_start(last) + to.group_len(last);
            (last, span(from.capacity, end))
        });
        self.geometry = to;
        let mut won: Vec<Run> = longer.iter().map(|l| l.1).collect();
        let mut free = Vec::new();
        let new = (from.groups()..).zip(Fresh::new(&to).skip(from.groups() as usize));
        for (group, fresh) in new {
            self.groups.push(Group {
                avail: 0,
                longest: 0,
                cold: false,
            });
            self.fresh.insert(group);
            free.push(fresh.free);
            let start = to.group_start(group);
            let data = start + to.metadata_blocks(group);
            won.push(span(data, start + to.group_len(group)));
        }
        self.index.grow(to, free.into_iter());
        let pending = self.pending.entry(generation).or_default();
        self.data += won.iter().map(|r| u64::from(r.len)).sum::<u64>();
        let mut early = Vec::new();
        if fault!(GrowthBeforeDurable) {
            early = won.split_off(usize::from(longer.is_some()));
        }
        won.extend(pending.runs());
        *pending = RunList::new(won);
        early.into_iter().for_each(|run| self.make_free(run));
        self.grown_from = Some(from.capacity);
        longer
    }
}

impl Space {
    /// Blocks that are free, pending, or being discarded.
    pub(super) fn free_soon(&self) -> u64 {
        let pending: u64 = self.pending.values().map(RunList::blocks).sum();
        self.avail + pending + self.discarding.blocks()
    }
}

impl Worker {
    /// Whether the space can grow now; else the last group is being read for it.
    pub(super) fn can_grow(&mut self, to: &Geometry) -> bool {
        let cold = self.space.lengthened(to).filter(|&g| self.space.cold(g));
        cold.inspect(|&g| self.start_load(g)).is_none()
    }

    /// A generation is released. If it grew: where what it won begins. None of that
    /// was ever written.
    pub(super) fn grown(&mut self) -> BlockNo {
        let Some(from) = self.space.grown_from.take() else {
            return BlockNo::MAX;
        };
        self.config.geometry = self.space.geometry;
        from
    }

    /// Says that space is low, once for each time it becomes so.
    pub(super) fn tell_low(&mut self) {
        let low = self.shared.low.load(Ordering::Relaxed);
        let free = self.space.free_soon();
        if free >= low.saturating_add(low / 2) {
            self.told_low = false;
        } else if free < low
            && !std::mem::replace(&mut self.told_low, true)
            && let Some(tell) = self.shared.tell_low.get()
        {
            let _ = tell.try_send(());
        }
    }
}
