//! The bookkeeping: which block is in which state. No threads, no I/O.
//!
//! For a group in memory there are two bitmaps: `map`, what the newest frozen
//! generation uses, and `alloc`, what cannot be handed out. What is in `alloc`
//! and not in `map` is handed out, pending, kept or being discarded; the last
//! three are also in lists of their own, so that a group in which nothing is
//! handed out can be dropped from memory and come back the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Damage;
use crate::format::{BlockNo, Generation, Geometry, Run};

use super::AllocConfig;
use super::bits::Bits;
use super::counters::Stats;
use super::index::{DamagedGroups, Index};
use super::load::Fresh;
use super::runs::{RunList, RunSet};

/// What is known of every group, in memory or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Blocks that can be handed out; 0 in a damaged group.
    pub(super) avail: u32,
    /// No free run is longer than this.
    pub(super) longest: u32,
    /// Its map block must be read before it can be used.
    pub(super) cold: bool,
}

impl Group {
    /// No free run is longer than this.
    pub(super) fn bound(&self) -> u32 {
        self.longest.min(self.avail)
    }
}

/// A group in memory.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) map: Bits,
    pub(super) alloc: Bits,
    /// Blocks handed out, the channel's included.
    pub(super) out: u32,
    /// Its map block is being written, so the device does not have it yet.
    pub(super) writing: bool,
    /// When it was last used, by the clock of [`Space`].
    pub(super) used_at: u64,
}

/// The state of every block.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) geometry: Geometry,
    pub(super) reserve: u64,
    /// Blocks that only [`Urgency::Reserve`](super::Urgency) gets, beside the reserve.
    pub(super) floor: u64,
    /// Each extent goes to the next group.
    pub(super) spread: bool,
    /// Each group has only a few blocks for nodes.
    #[cfg(feature = "experiment-cow")]
    pub(super) scarce: Option<super::scarce::Scarce>,
    pub(super) index: Index,
    pub(super) groups: Vec<Group>,
    pub(super) loaded: BTreeMap<u64, Loaded>,
    /// Groups whose map is not known. Nothing is handed out from them.
    pub(super) damaged: DamagedGroups,
    /// Untouched groups that are not in memory: no I/O is needed to use them.
    pub(super) fresh: BTreeSet<u64>,
    /// Groups rebuilt and not yet written.
    pub(super) rebuilt: BTreeSet<u64>,
    /// Blocks that can hold data, used or not.
    pub(super) data: u64,
    /// Sum of the groups' `avail`.
    pub(super) avail: u64,
    /// Released, but readers need them.
    pub(super) kept: RunSet,
    /// Named by the log, in damaged groups.
    pub(super) marked: RunSet,
    /// Freed by a generation that is not released.
    pub(super) pending: BTreeMap<Generation, RunList>,
    /// Being discarded.
    pub(super) discarding: RunSet,
    /// Where the search goes on, by lifetime.
    pub(super) cursor: [BlockNo; 2],
    /// Grows with every use of a group.
    pub(super) clock: u64,
    /// The generation that freezes grows; the capacity before.
    pub(super) grown_from: Option<u64>,
    /// No ready group has a free run of this length; reset by what may change it.
    pub(super) none_of: u32,
}

/// What the geometry fixes in a group, and what lies behind the end, as a bitmap.
pub(super) fn fixed(geometry: &Geometry, group: u64) -> Bits {
    let mut bits = Bits::zeroed(geometry.group_blocks() as u32);
    let start = geometry.group_start(group);
    for run in geometry.fixed_ranges(group) {
        bits.set((run.start - start) as u32, run.len);
    }
    let len = geometry.group_len(group) as u32;
    bits.set(len, bits.len() - len);
    bits
}

/// A run as seen from its group.
#[derive(Clone, Copy)]
pub(super) struct Local {
    pub(super) group: u64,
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Space {
    pub(super) fn new(config: &AllocConfig, index: Index, damaged: DamagedGroups) -> Self {
        let geometry = config.geometry;
        let (mut avail, mut data) = (0, 0);
        let groups = Fresh::new(&geometry).enumerate().map(|(g, fresh)| {
            let entry = index.entry((0, g as u64));
            let free = match (damaged.contains_key(&(g as u64)), entry.untouched) {
                (true, _) => 0,
                (false, 1) => fresh.free,
                (false, _) => entry.free as u32,
            };
            avail += u64::from(free);
            data += u64::from(fresh.free);
            Group {
                avail: free,
                longest: fresh.longest,
                cold: entry.untouched == 0 && !damaged.contains_key(&(g as u64)),
            }
        });
        let groups: Vec<_> = groups.collect();
        let fresh = (0..geometry.groups())
            .filter(|g| index.entry((0, *g)).untouched == 1 && !damaged.contains_key(g))
            .collect();
        let middle = geometry.groups() / 2;
        Self {
            geometry,
            reserve: config.reserve_blocks,
            floor: 0,
            spread: config.spread,
            #[cfg(feature = "experiment-cow")]
            scarce: super::scarce::Scarce::of(config),
            index,
            groups,
            loaded: BTreeMap::new(),
            damaged,
            fresh,
            rebuilt: BTreeSet::new(),
            data,
            avail,
            kept: RunSet::default(),
            marked: RunSet::default(),
            pending: BTreeMap::new(),
            discarding: RunSet::default(),
            cursor: [
                0,
                geometry.group_start(middle)
                    + geometry.group_len(middle) / 2 * u64::from(middle == 0),
            ],
            clock: 0,
            grown_from: None,
            none_of: u32::MAX,
        }
    }

    /// A run as seen from its group.
    ///
    /// # Panics
    /// If it leaves its group: our own bug.
    pub(super) fn local(&self, run: Run) -> Local {
        let group = self.geometry.group_of(run.start);
        let start = (run.start - self.geometry.group_start(group)) as u32;
        let len = self.geometry.group_len(group);
        assert!(
            u64::from(start) + u64::from(run.len) <= len,
            "{run:?} leaves its group"
        );
        Local {
            group,
            start,
            len: run.len,
        }
    }

    pub(super) fn global(&self, l: Local) -> Run {
        Run {
            start: self.geometry.group_start(l.group) + u64::from(l.start),
            len: l.len,
        }
    }

    pub(super) fn is_damaged(&self, group: u64) -> bool {
        self.damaged.contains_key(&group)
    }

    /// Whether the group can be used without I/O.
    pub(super) fn ready(&self, group: u64) -> bool {
        self.loaded.contains_key(&group) || self.fresh.contains(&group)
    }

    /// Whether the group must be read before it can be used.
    pub(super) fn cold(&self, group: u64) -> bool {
        self.groups[group as usize].cold
    }

    /// What the geometry fixes, and what lies behind the end, as a bitmap.
    pub(super) fn fixed(&self, group: u64) -> Bits {
        fixed(&self.geometry, group)
    }

    /// The group in memory. It must be [`Space::ready`].
    pub(super) fn open(&mut self, group: u64) -> &mut Loaded {
        self.clock += 1;
        if !self.loaded.contains_key(&group) {
            assert!(self.ready(group), "group {group} is not in memory");
            let map = self.fixed(group);
            self.install_idle(group, map);
        }
        let loaded = self.loaded.get_mut(&group).expect("just installed");
        loaded.used_at = self.clock;
        loaded
    }

    /// Takes in a map block that was read.
    ///
    /// # Errors
    /// If it is not what the index says; the group is then damaged.
    pub(super) fn load(&mut self, group: u64, block: &[u8]) -> Result<(), Damage> {
        debug_assert!(self.cold(group));
        let checked = self.index.map_bits(group, block);
        match checked {
            Ok(map) => {
                self.install_idle(group, map);
                Ok(())
            }
            Err(damage) => {
                self.set_damaged(group, damage.clone());
                Err(damage)
            }
        }
    }

    /// Puts a group into memory, and counts its free blocks anew.
    pub(super) fn install(&mut self, group: u64, map: Bits, alloc: Bits, out: u32) {
        self.fresh.remove(&group);
        self.none_of = u32::MAX;
        let avail = alloc.zeros();
        let known = &mut self.groups[group as usize];
        self.avail = self.avail - u64::from(known.avail) + u64::from(avail);
        *known = Group {
            avail,
            longest: alloc.longest().map_or(0, |(_, len)| len),
            cold: false,
        };
        self.loaded.insert(
            group,
            Loaded {
                map,
                alloc,
                out,
                writing: false,
                used_at: self.clock,
            },
        );
    }

    /// Puts a group into memory in which nothing is handed out.
    fn install_idle(&mut self, group: u64, map: Bits) {
        let alloc = self.with_held(group, &map);
        debug_assert_eq!(
            alloc.zeros(),
            self.groups[group as usize].avail,
            "group {group}"
        );
        self.install(group, map, alloc, 0);
    }

    /// The map and what else cannot be handed out, blocks handed out aside.
    pub(super) fn with_held(&self, group: u64, map: &Bits) -> Bits {
        let start = self.geometry.group_start(group);
        let end = start + self.geometry.group_len(group);
        let mut alloc = map.clone();
        let listed = self
            .pending
            .values()
            .flat_map(|l| l.within(start, end))
            .copied();
        let sets = [&self.kept, &self.marked, &self.discarding].map(|s| s.within(start, end));
        for run in listed.chain(sets.into_iter().flatten()) {
            alloc.set((run.start - start) as u32, run.len);
        }
        alloc
    }

    /// The group's map is not known (any more).
    pub(super) fn set_damaged(&mut self, group: u64, damage: Damage) {
        assert!(!self.loaded.contains_key(&group), "memory is not damaged");
        let known = &mut self.groups[group as usize];
        known.cold = false;
        self.avail -= u64::from(std::mem::take(&mut known.avail));
        self.damaged.insert(group, damage);
    }

    /// Extents that the log names: handed out, before anything else is. Blocks
    /// that the map has in use already, or marked before, are left as they are.
    /// The group must be ready, or damaged.
    pub(super) fn mark(&mut self, run: Run) {
        let l = self.local(run);
        if self.is_damaged(l.group) {
            let (there, _) = self.marked.remove(run);
            drop(there);
            self.marked.insert(run);
            return;
        }
        let loaded = self.open(l.group);
        let free: Vec<_> = loaded.alloc.zero_runs(l.start, l.start + l.len).collect();
        for (start, len) in free {
            self.hand_out(Local { start, len, ..l });
        }
    }

    /// Free to handed out.
    pub(super) fn hand_out(&mut self, l: Local) {
        let loaded = self.open(l.group);
        assert!(
            loaded.alloc.all_clear(l.start, l.len),
            "a block is handed out twice"
        );
        loaded.alloc.set(l.start, l.len);
        loaded.out += l.len;
        self.groups[l.group as usize].avail -= l.len;
        self.avail -= u64::from(l.len);
    }

    /// Handed out or kept, to nowhere: follow with [`Space::make_free`], or
    /// put it into `discarding`.
    ///
    /// # Panics
    /// If a block was neither: our own bug.
    pub(super) fn give_back(&mut self, run: Run) {
        let (_, rest) = self.kept.remove(run);
        for run in rest {
            let l = self.local(run);
            if self.is_damaged(l.group) {
                let (_, unknown) = self.marked.remove(run);
                assert!(unknown.is_empty(), "{run:?} given back but not handed out");
                continue;
            }
            self.check_handed_out(run, "given back");
            let pending = self.pending.values().any(|list| list.touches(run));
            assert!(!pending, "{run:?} given back, but a generation freed it");
            let loaded = self.loaded.get_mut(&l.group).expect("checked");
            loaded.out -= l.len;
        }
    }

    /// Panics unless every block of the run is handed out. Its group is not damaged.
    pub(super) fn check_handed_out(&self, run: Run, what: &str) {
        let l = self.local(run);
        let ok = self.loaded.get(&l.group).is_some_and(|g| {
            g.out >= l.len
                && g.alloc.all_set(l.start, l.len)
                && g.map.all_clear(l.start, l.len)
                && self.discarding.within(run.start, run.end()).is_empty()
                && self.kept.within(run.start, run.end()).is_empty()
        });
        assert!(ok, "{run:?} {what} but not handed out");
    }

    /// Blocks that nothing needs become allocatable.
    pub(super) fn make_free(&mut self, run: Run) {
        let l = self.local(run);
        if self.is_damaged(l.group) {
            return;
        }
        self.none_of = u32::MAX;
        let group = &mut self.groups[l.group as usize];
        group.avail += l.len;
        group.longest = u32::MAX;
        self.avail += u64::from(l.len);
        if let Some(loaded) = self.loaded.get_mut(&l.group) {
            debug_assert!(
                loaded.alloc.all_set(l.start, l.len) && loaded.map.all_clear(l.start, l.len)
            );
            loaded.alloc.clear(l.start, l.len);
        }
    }

    /// Free to being discarded.
    pub(super) fn lend(&mut self, run: Run) {
        let l = self.local(run);
        self.hand_out(l);
        self.open(l.group).out -= l.len;
        self.discarding.insert(run);
    }

    /// Discards are over.
    pub(super) fn discarded(&mut self, runs: &RunList) {
        for &run in runs.runs() {
            let (_, unknown) = self.discarding.remove(run);
            assert!(unknown.is_empty(), "{run:?} was not being discarded");
            self.make_free(run);
        }
    }

    /// Drops groups from memory until `keep` are left, those without a free block
    /// first, then those unused longest. Spares those that are needed; returns
    /// how many went.
    pub(super) fn evict(&mut self, keep: usize, needed: impl Fn(u64) -> bool) -> usize {
        let over = self.loaded.len().saturating_sub(keep);
        if over == 0 {
            return 0;
        }
        let mut out: Vec<_> = self
            .loaded
            .iter()
            .filter(|&(g, l)| l.out == 0 && !l.writing && !self.rebuilt.contains(g) && !needed(*g))
            .map(|(&g, l)| (self.groups[g as usize].avail > 0, l.used_at, g))
            .collect();
        out.sort_unstable();
        out.truncate(over);
        for &(_, _, group) in &out {
            self.loaded.remove(&group);
            if self.index.entry((0, group)).untouched == 1 {
                self.fresh.insert(group);
            } else {
                self.groups[group as usize].cold = true;
            }
        }
        out.len()
    }

    /// Where the blocks are.
    pub(super) fn stats(&self) -> Stats {
        Stats {
            free: self.avail,
            data: self.data,
            pending: self.pending.values().map(RunList::blocks).sum(),
            kept: self.kept.blocks(),
            discarding: self.discarding.blocks(),
            map_free: self.index.root().free,
            loaded_groups: self.loaded.len() as u64,
            damaged_groups: self.damaged.len() as u64,
            ..Stats::default()
        }
    }
}
