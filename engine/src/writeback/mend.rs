//! Rebuilding the map of damaged groups from the trees.
//!
//! A map block that does not verify is never replaced by its older slot. What its
//! group holds is found by walking the trees of the newest durable generation: what
//! they reach is in use, the rest is free. That generation stays what it is for the
//! time of the walk: no block of it is used again before the next one is released,
//! and none is frozen while the walk lasts ([`Mend::lock`]). Writers go on.
//!
//! If a node is damaged too, nobody knows what lies below it, and nothing is
//! rebuilt: nothing is allocated from those groups, and the rest of the store works.

use std::collections::{BTreeMap, BTreeSet};

use gaur_iodriver::sync::{Mutex, MutexGuard, ShortMutex};

use crate::alloc::SpaceError;
use crate::error::{Damage, Error, Result};
use crate::format::node::KIND_EXTENT;
use crate::format::superblock::Superblock;
use crate::format::{BlockNo, Generation, Geometry, Run};
use crate::node::Page;
use crate::tree::Forest;
use crate::walk::{Visit, Visitor, Walker};
use crate::writeback::deadlist;
use crate::writeback::held::Held;

/// Reads in flight while walking.
const DEPTH: u32 = 32;

/// What the map is rebuilt from, and what came of it.
#[derive(Debug)]
pub(crate) struct Mend {
    durable: Mutex<Durable>,
    notes: ShortMutex<Vec<String>>,
}

/// The newest durable generation. While this is locked no generation is frozen.
#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) superblock: Superblock,
    /// It cannot be done, for as long as these groups are damaged.
    hopeless: Option<(Vec<u64>, Damage)>,
}

/// Notes that are kept.
const NOTES: usize = 100;

impl Mend {
    pub(crate) fn new(superblock: Superblock) -> Self {
        Self {
            durable: Mutex::new(Durable {
                superblock,
                hopeless: None,
            }),
            notes: ShortMutex::default(),
        }
    }

    /// Keeps the durable generation as it is.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Durable> {
        self.durable.lock()
    }

    /// What was rebuilt, and what could not be, in sentences.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().clone()
    }

    pub(super) fn note(&self, note: String) {
        let mut notes = self.notes.lock();
        if notes.len() < NOTES {
            notes.push(note);
        }
    }
}

impl Forest {
    /// Rebuilds the map of all groups that are known to be damaged, and returns how
    /// many. Reads all nodes of all trees; nothing may be held. The rebuilt map is
    /// on the device after the next checkpoint, which is asked for.
    ///
    /// # Errors
    /// [`Error::Damaged`] with what of the trees is damaged: nothing was rebuilt.
    pub(crate) fn mend_map(&self) -> Result<usize> {
        let allocator = self.pool.allocator();
        if allocator.damaged_groups()?.is_empty() {
            return Ok(0);
        }
        let mut durable = self.mend.lock();
        // Somebody else may have been first.
        let damaged = allocator.damaged_groups()?;
        let groups: Vec<u64> = damaged.iter().map(|d| d.0).collect();
        if let Some((same, why)) = &durable.hopeless
            && *same == groups
        {
            return Err(Error::Damaged(why.clone()));
        }
        let geometry = self.geometry.now();
        let mut collect = Collect {
            geometry,
            used: groups.iter().map(|g| (*g, Vec::new())).collect(),
            seen: None,
            known: Generation::default(),
            trouble: None,
        };
        let sb = durable.superblock;
        let mut walker = Walker::new(self.device.as_ref(), geometry, &sb, DEPTH)?;
        let mut contents = walker.catalog(&sb, &mut collect)?;
        contents.place_held(&sb)?;
        walker.walk(Walker::roots(&sb, &contents), &mut collect)?;
        collect.expect_known();
        self.collect_held(&contents.held, &mut walker, &mut collect)?;
        let mut rebuilt = 0;
        for ((group, why), used) in damaged.iter().zip(collect.used.into_values()) {
            let done = match &collect.trouble {
                Some(trouble) => Err(Error::Damaged(trouble.clone())),
                None => allocator.rebuild(*group, used),
            };
            match done {
                Ok(()) => {
                    rebuilt += 1;
                    let place = why.place;
                    self.mend.note(format!(
                        "the map of group {group} was damaged ({} at block {place}: {}) and was \
                         rebuilt from the trees",
                        why.what, why.detail
                    ));
                }
                Err(Error::Damaged(trouble)) => {
                    self.mend.note(format!(
                        "the map of group {group} is damaged and cannot be rebuilt, so nothing is \
                         allocated there: {trouble}"
                    ));
                    durable.hopeless = Some((groups.clone(), trouble));
                }
                Err(e) => return Err(e),
            }
        }
        if rebuilt > 0 {
            self.progress.ask();
        }
        match &durable.hopeless {
            Some((_, trouble)) if rebuilt == 0 && !groups.is_empty() => {
                Err(Error::Damaged(trouble.clone()))
            }
            _ => Ok(rebuilt),
        }
    }

    /// Collects what the snapshots have, the oldest first, each without what an older one
    /// has; and the dead lists, with what is on those of deleted ones.
    fn collect_held(
        &self,
        held: &[Held],
        walker: &mut Walker,
        collect: &mut Collect,
    ) -> Result<()> {
        for held in held {
            if !held.deleted {
                let root = (held.catalog, held.level, held.generation);
                let contents = walker.catalog_at(root.0, root.1, root.2, collect)?;
                walker.walk(Walker::roots_held(held, &contents), collect)?;
                collect.known = held.generation;
            }
            let mut next = held.dead;
            while !next.is_null() && collect.trouble.is_none() {
                let read = deadlist::check_pointer(next, &collect.geometry).and_then(|()| {
                    let leaf = self.with_block(next.addr, |bytes| {
                        deadlist::decode(bytes, next, self.store, &collect.geometry)
                    });
                    leaf.map_err(|e| deadlist::damaged(next.addr, &e.to_string()))?
                });
                match read {
                    Ok(leaf) => {
                        collect.add(next.run());
                        if held.deleted {
                            leaf.dead.iter().for_each(|f| collect.add(f.run));
                        }
                        next = leaf.next;
                    }
                    Err(damage) => collect.trouble = Some(damage),
                }
            }
        }
        Ok(())
    }

    /// Asks the allocator, and once more if it lacks space because part of the map
    /// is damaged and could be rebuilt. Nothing may be held.
    pub(crate) fn mending<T>(
        &self,
        mut ask: impl FnMut() -> Result<T, SpaceError>,
    ) -> Result<T, SpaceError> {
        let mut again = true;
        loop {
            let trouble = match ask() {
                Ok(done) => return Ok(done),
                Err(e @ (SpaceError::Stopped | SpaceError::Io(_))) => return Err(e),
                Err(e) => e,
            };
            match self.mend_map() {
                Ok(n) if n > 0 => {}
                // Another thread may just have rebuilt it.
                Ok(_) if again && matches!(trouble, SpaceError::Damaged(_)) => again = false,
                _ => return Err(trouble),
            }
        }
    }
}

/// Collects what the trees use in some groups.
struct Collect {
    geometry: Geometry,
    used: BTreeMap<u64, Vec<Run>>,
    /// The blocks collected, once those of the trees are: snapshots have most of them too, and
    /// share large values. What the trees use twice among themselves is damage.
    seen: Option<BTreeSet<BlockNo>>,
    /// What was born up to this generation was collected with an older snapshot.
    known: Generation,
    trouble: Option<Damage>,
}

impl Collect {
    /// What follows may have been collected already.
    fn expect_known(&mut self) {
        let runs = self.used.values().flatten();
        self.seen = Some(runs.flat_map(|r| r.start..r.end()).collect());
    }

    fn add(&mut self, run: Run) {
        let Some(runs) = self.used.get_mut(&self.geometry.group_of(run.start)) else {
            return;
        };
        let mut push = |run: Run| match runs.last_mut() {
            Some(last) if last.end() == run.start => last.len += run.len,
            _ => runs.push(run),
        };
        match &mut self.seen {
            None => push(run),
            Some(seen) => {
                let fresh = (run.start..run.end()).filter(|block| seen.insert(*block));
                fresh.for_each(|block| push(Run::single(block)));
            }
        }
    }
}

impl Visitor for Collect {
    fn enter(&mut self, visit: &Visit) -> bool {
        if visit.ptr.birth <= self.known {
            return false;
        }
        self.add(visit.ptr.run());
        self.trouble.is_none()
    }

    fn node(&mut self, visit: &Visit, page: Page<'_>) -> Result<()> {
        if page.level() > 0 {
            return Ok(());
        }
        let mut stored = Vec::new();
        for slot in (0..page.slots()).filter(|s| page.entry(*s).kind == KIND_EXTENT) {
            stored.clear();
            page.copy_value(slot, &mut stored);
            for piece in crate::commit::extents(&stored) {
                let run = piece.run(self.geometry.block_size);
                if self.geometry.is_data(run) {
                    self.add(run);
                } else {
                    let what = "points outside the data area";
                    let damage = Damage::new("large value", piece.addr, what);
                    self.damaged(visit, damage.in_tree(visit.tree));
                }
            }
        }
        Ok(())
    }

    fn damaged(&mut self, _: &Visit, damage: Damage) {
        self.trouble.get_or_insert(damage);
    }
}
