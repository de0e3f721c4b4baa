//! What a generation changes: freeze, release, rebuild.

use std::collections::BTreeMap;

use gaur_iodriver::fault;

use crate::error::{Damage, Error, Result};
use crate::format::space::{self, IndexEntry};
use crate::format::{BlockNo, Generation, Geometry, Run};

use super::Changes;
use super::index::{LOST, is_lost, next_slot};
use super::runs::{RunList, span};
use super::space::Space;

/// What a generation changes in one group.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) used: Vec<Run>,
    pub(super) freed: Vec<Run>,
}

/// Changes by group, and all that is freed.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) groups: BTreeMap<u64, Change>,
    pub(super) freed: RunList,
}

impl Sorted {
    /// Sorts changes.
    ///
    /// # Errors
    /// If two freed runs overlap: the trees, which named them, are damaged.
    ///
    /// # Panics
    /// If two used runs overlap: our own bug.
    pub(super) fn new(geometry: &Geometry, changes: Changes) -> Result<Self, Damage> {
        let used = RunList::new(changes.used);
        let freed = RunList::disjoint(changes.freed)
            .map_err(|(_, run)| wrong(run, "was freed twice: it was used twice"))?;
        let mut groups: BTreeMap<u64, Change> = BTreeMap::new();
        for &run in used.runs() {
            groups
                .entry(geometry.group_of(run.start))
                .or_default()
                .used
                .push(run);
        }
        for &run in freed.runs() {
            groups
                .entry(geometry.group_of(run.start))
                .or_default()
                .freed
                .push(run);
        }
        Ok(Self { groups, freed })
    }
}

/// The trees and the map contradict each other.
fn wrong(run: Run, what: &str) -> Damage {
    Damage::new("space", run.start, format!("{run:?} {what}"))
}

impl Space {
    /// Begins a generation's freeze: what it frees is pending from here on.
    ///
    /// # Errors
    /// If a freed run ends behind the store: the trees, which named it, are damaged.
    ///
    /// # Panics
    /// If the generation before it is not released: its map would be overwritten.
    pub(super) fn begin(&mut self, generation: Generation, freed: RunList) -> Result<(), Damage> {
        if let Some(&run) = freed.runs().last()
            && run.end() > self.geometry.capacity
        {
            return Err(wrong(run, "freed but behind the end of the store"));
        }
        assert!(
            self.pending.is_empty(),
            "generation {generation} freezes before {:?} is released",
            self.pending.keys()
        );
        self.pending.insert(generation, freed);
        Ok(())
    }

    /// Applies a generation's change to a ready group, and fills `block` with its
    /// map block; returns the place to write it to.
    ///
    /// # Errors
    /// If a freed block was not used: the trees or the map are damaged, though they
    /// verify. The group is not to be used any more then.
    ///
    /// # Panics
    /// If a used block was not handed out: our own bug.
    pub(super) fn apply(
        &mut self,
        group: u64,
        change: &Change,
        generation: Generation,
        block: &mut [u8],
    ) -> Result<BlockNo, Damage> {
        self.open(group);
        for &run in &change.used {
            self.check_handed_out(run, "reported as used");
            let l = self.local(run);
            let loaded = self.open(group);
            loaded.map.set(l.start, l.len);
            loaded.out -= l.len;
        }
        for &run in &change.freed {
            let l = self.local(run);
            let loaded = self.open(group);
            if !loaded.map.all_set(l.start, l.len) {
                return Err(wrong(run, "freed but not used"));
            }
            loaded.map.clear(l.start, l.len);
        }
        let fixed = self.fixed(group);
        if !self.open(group).map.covers(&fixed) {
            let run = Run::single(self.geometry.group_start(group));
            return Err(wrong(
                run,
                "or what follows is metadata or log, and was freed",
            ));
        }
        self.rebuilt.remove(&group);
        let at = (0, group);
        let slot = next_slot(self.index.entry(at));
        let mut header = self.index.header(at, slot);
        let loaded = self.open(group);
        let zeros = loaded.map.zeros();
        loaded.map.write_to(&mut block[space::HEADER..]);
        loaded.writing = true;
        header.generation = generation.0;
        header.count = zeros;
        block[..space::HEADER].fill(0);
        let checksum = space::seal(&header, block);
        let entry = IndexEntry {
            generation: generation.0,
            checksum,
            free: if fault!(FreeCountStale) {
                self.index.entry(at).free
            } else {
                u64::from(zeros)
            },
            slot,
            untouched: 0,
        };
        self.index.set_map(group, entry);
        Ok(header.place)
    }

    /// A generation changes a damaged group: what is on the device no longer says
    /// what the generation uses, so from now on it counts as lost.
    pub(super) fn apply_lost(&mut self, group: u64, change: &Change) {
        for &run in &change.used {
            let (_, unknown) = self.marked.remove(run);
            assert!(
                unknown.is_empty(),
                "{run:?} reported as used but not handed out"
            );
        }
        if !is_lost(self.index.entry((0, group))) {
            self.index.set_map(group, LOST);
        }
    }

    /// A map block is on the device.
    pub(super) fn written(&mut self, group: u64) {
        self.loaded
            .get_mut(&group)
            .expect("in memory while written")
            .writing = false;
    }

    /// The generation's superblock is durable: what it freed is needed by nobody,
    /// except `keep`. The rest: follow with [`Space::make_free`], or
    /// put it into `discarding`.
    ///
    /// # Panics
    /// If it was not frozen, or did not free what is to be kept: our own bug.
    pub(super) fn release(&mut self, generation: Generation, keep: Vec<Run>) -> RunList {
        let freed = self.pending.remove(&generation);
        let freed = freed.unwrap_or_else(|| panic!("generation {generation} released, not frozen"));
        let keep = RunList::new(keep);
        let mut gone = Vec::new();
        let mut keeps = keep.runs().iter().peekable();
        for run in freed.runs() {
            let mut at = run.start;
            while let Some(k) = keeps.next_if(|k| k.start < run.end()) {
                assert!(
                    k.start >= at && k.end() <= run.end(),
                    "{k:?} kept but not freed"
                );
                gone.push(span(at, k.start));
                at = k.end();
            }
            gone.push(span(at, run.end()));
        }
        assert!(keeps.next().is_none(), "kept but not freed");
        for &run in keep.runs() {
            self.kept.insert(run);
        }
        RunList::new(gone)
    }

    /// Installs what the newest frozen generation uses in a group, computed from
    /// the trees. Written at the next checkpoint.
    ///
    /// # Errors
    /// If `used` is not data of this group, overlaps itself, or contains a block
    /// that is free for certain: the trees are damaged. Nothing is changed then.
    pub(super) fn rebuild(&mut self, group: u64, mut used: Vec<Run>) -> Result<()> {
        let groups = self.geometry.groups();
        if group >= groups {
            let detail = format!("there are {groups} groups");
            return Err(Error::BadOption {
                name: "group",
                detail,
            });
        }
        let place = self.index.place((0, group));
        let wrong = |run: Run, why: &str| {
            let what = format!("the trees use {run:?}, which {why}");
            Err(Damage::new("map block", place, what).into())
        };
        used.sort_unstable();
        let mut map = self.fixed(group);
        for &run in &used {
            if !self.geometry.is_data(run) || self.geometry.group_of(run.start) != group {
                return wrong(run, "is no data of this group");
            }
            let l = self.local(run);
            if !map.all_clear(l.start, l.len) {
                return wrong(run, "is used twice");
            }
            map.set(l.start, l.len);
        }
        let other = match self.loaded.get(&group) {
            Some(l) => l.alloc.without(&l.map),
            None => {
                let none = map.without(&map);
                self.with_held(group, &none)
            }
        };
        for &run in &used {
            let l = self.local(run);
            if !other.all_clear(l.start, l.len) {
                return wrong(run, "is handed out, or freed");
            }
        }
        let start = self.geometry.group_start(group);
        let end = start + self.geometry.group_len(group);
        let mut out = self.loaded.get(&group).map_or(0, |l| l.out);
        for run in self.marked.within(start, end) {
            self.marked.remove(run);
            out += run.len;
        }
        let alloc = map.with(&other);
        self.damaged.remove(&group);
        self.install(group, map, alloc, out);
        self.rebuilt.insert(group);
        Ok(())
    }
}
