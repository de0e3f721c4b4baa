//! What a checkpoint does for the named snapshots: keeps on their dead lists what goes out
//! of use and they still have, and takes apart, bit by bit, the lists of those that were
//! deleted.
//!
//! All of it is in the tree of trees that names the generation, or nothing is: the lists,
//! what is freed in place of being on one, and how far a deletion is.

use std::collections::BTreeMap;

use super::checkpoint::Checkpointer;
use super::deadlist::{self, Leaf};
use crate::alloc::{Request, Shape, Urgency};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::{BlockPtr, Csn, Generation, Run};
use crate::saved::Saved;
use crate::worker::Freed;

/// Leaves of a dead list that one checkpoint takes apart.
const LEAVES: usize = 256;

/// A part of the dead list of a deleted snapshot.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Of which snapshot, by its place on the shelf.
    of: usize,
    /// The leaves read, to be freed.
    leaves: Vec<Run>,
    dead: Vec<Freed>,
    /// What is left of the list.
    rest: BlockPtr,
}

/// What becomes of what went out of use.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Free, once the generation is durable.
    pub(super) free: Vec<Run>,
    /// Of these, what views of a frozen generation may read.
    pub(super) viewed: Vec<Freed>,
    /// Free as well, of large values, unless a view looks at them.
    pub(super) extents: Vec<(Csn, Freed)>,
    /// Still had by the snapshots of these generations.
    dead: BTreeMap<Generation, Vec<Freed>>,
}

/// Blocks that dead lists may come to need, beside what they have: as many as it takes to
/// note each block in use by itself, and to move what one checkpoint takes apart.
pub(super) fn blocks_needed(core: &Core) -> u64 {
    let shelf = core.shelf.lock();
    if shelf.all.is_empty() && shelf.wanted.is_empty() {
        return 0;
    }
    drop(shelf);
    let allocator = core.forest.pool.allocator();
    let used = allocator.data_blocks() - allocator.free_blocks().min(allocator.data_blocks());
    let runs = deadlist::runs_in(core.forest.geometry.block_size) as u64;
    used.div_ceil(runs) + LEAVES as u64 + 16
}

impl Checkpointer {
    /// Reads a part of a dead list that is to be taken apart. Called before the freeze.
    pub(super) fn read_part(&self, core: &Core) -> Option<Part> {
        let shelf = core.shelf.lock();
        let begun = |s: &Saved| s.begun && !s.stuck;
        let of = shelf.all.iter().position(begun)?;
        let mut part = Part {
            of,
            rest: shelf.all[of].held.dead,
            ..Part::default()
        };
        drop(shelf);
        while !part.rest.is_null() && part.leaves.len() < LEAVES {
            match read(core, part.rest) {
                Ok(leaf) => {
                    part.leaves.push(part.rest.run());
                    part.dead.extend(leaf.dead);
                    part.rest = leaf.next;
                }
                Err(e) => {
                    // What was read is taken apart; the rest is tried again, unless it
                    // is damaged.
                    if let Error::Damaged(_) = e {
                        let mut shelf = core.shelf.lock();
                        shelf.all[of].stuck = part.leaves.is_empty();
                        let name = &shelf.all[of].held.name;
                        core.forest.mend.note(format!(
                            "what only the deleted snapshot {name:?} has cannot be freed: {e}"
                        ));
                    }
                    break;
                }
            }
        }
        Some(part)
    }

    /// Sorts what went out of use in `generation`, whose last commit is `csn`, and what was
    /// on a part of a list.
    pub(super) fn sort(
        core: &Core,
        (generation, csn): (Generation, Csn),
        freed: Vec<Freed>,
        extents: Vec<(Csn, Freed)>,
        part: &Option<Part>,
    ) -> Sorted {
        let shelf = core.shelf.lock();
        let kept = shelf.kept();
        // The youngest, up to a generation, that has what was born then. What went out
        // of use in `generation` is not in its own snapshots.
        let keeper = |f: &Freed, upto: Generation| {
            let kept = kept.iter().rev().find(|k| **k <= upto);
            kept.copied().filter(|k| f.birth <= *k)
        };
        let before = Generation(generation.0 - 1);
        let mut sorted = Sorted::default();
        let mut sort = |f: Freed, upto: Generation| match keeper(&f, upto) {
            Some(k) => {
                sorted.dead.entry(k).or_default().push(f);
                None
            }
            None => Some(f),
        };
        sorted.extents = extents
            .into_iter()
            .filter_map(|(csn, f)| Some((csn, sort(f, before)?)))
            .collect();
        let freed = freed.into_iter().filter_map(|f| {
            let last = f.last.unwrap_or(before);
            sort(f, last).map(|f| Freed {
                last: Some(last),
                ..f
            })
        });
        let mut free: Vec<Freed> = freed.collect();
        let mut leaves: &[Run] = &[];
        let mut pieces = Vec::new();
        if let Some(part) = part {
            let upto = shelf.all[part.of].held.generation;
            for f in part.dead.iter().filter_map(|f| sort(*f, upto)) {
                // The last one that had it, and the commit that deleted it, are not known
                // any more.
                match f.piece {
                    true => pieces.push((csn, f)),
                    false => free.push(Freed { last: None, ..f }),
                }
            }
            leaves = &part.leaves;
        }
        sorted.viewed = core.forest.pins.wanted(free.iter().copied());
        let free = free.iter().map(|f| f.run);
        sorted.free = free.chain(leaves.iter().copied()).collect();
        sorted.extents.append(&mut pieces);
        sorted
    }

    /// Writes what is dead to the lists, and brings the shelf up to date.
    pub(super) fn write_lists(
        &mut self,
        core: &Core,
        generation: Generation,
        sorted: &mut Sorted,
        part: Option<Part>,
        used: &mut Vec<Run>,
    ) -> Result<()> {
        if let Some(part) = part {
            let mut shelf = core.shelf.lock();
            let held = &mut shelf.all[part.of].held;
            held.dead = part.rest;
            held.list_blocks -= (part.leaves.len() as u64).min(held.list_blocks);
            let blocks: u64 = part.dead.iter().map(|f| u64::from(f.run.len)).sum();
            held.dead_blocks -= blocks.min(held.dead_blocks);
        }
        let block_size = core.forest.geometry.block_size;
        for (kept, dead) in std::mem::take(&mut sorted.dead) {
            let dead = deadlist::joined(dead);
            let leaves = dead.len().div_ceil(deadlist::runs_in(block_size));
            let mut blocks = self.reserve_leaves(core, leaves)?.into_iter();
            let mut shelf = core.shelf.lock();
            let mut all = shelf.all.iter_mut();
            let of = all.find(|s| !s.begun && s.held.generation == kept);
            let held = &mut of.expect("a snapshot of a kept generation").held;
            let as_what = (block_size, core.forest.store, generation);
            let (images, head) = deadlist::build(&dead, held.dead, as_what, || {
                blocks.next().expect("as many as there are leaves")
            });
            held.dead = head;
            held.list_blocks += leaves as u64;
            held.dead_blocks += dead.iter().map(|f| u64::from(f.run.len)).sum::<u64>();
            drop(shelf);
            for (addr, image) in images {
                used.push(Run::single(addr));
                self.write(core, addr, image, Vec::new())?;
            }
        }
        let done = |s: &Saved| s.begun && s.held.dead.is_null();
        core.shelf.lock().all.retain(|s| !done(s));
        Ok(())
    }

    /// Blocks for leaves of dead lists. There is always enough: as much is left to this
    /// as long as there are snapshots ([`blocks_needed`]).
    fn reserve_leaves(&self, core: &Core, leaves: usize) -> Result<Vec<u64>> {
        let request = Request {
            blocks: leaves as u32,
            shape: Shape::Nodes,
            hint: self.superblock.catalog_addr,
            urgency: Urgency::Reserve,
        };
        let allocator = core.forest.pool.allocator();
        let runs = core.forest.mending(|| allocator.reserve(request))?;
        Ok(runs.into_iter().flat_map(|r| r.start..r.end()).collect())
    }
}

/// Reads a leaf of a dead list.
fn read(core: &Core, ptr: BlockPtr) -> Result<Leaf> {
    let forest = &core.forest;
    let geometry = forest.geometry.now();
    deadlist::check_pointer(ptr, &geometry)?;
    Ok(forest.with_block(ptr.addr, |bytes| {
        deadlist::decode(bytes, ptr, forest.store, &geometry)
    })??)
}
