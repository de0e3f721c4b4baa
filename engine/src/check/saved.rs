//! The named snapshots: what they have and no tree has, and whether just that is on their
//! dead lists.

use std::collections::BTreeSet;

use gaur_iodriver::IoBuf;

use crate::error::{Damage, Error, Result};
use crate::format::node::KIND_EXTENT;
use crate::format::{BlockNo, BlockPtr, Generation, Run};
use crate::node::Page;
use crate::walk::{Visit, Visitor, Walker};
use crate::writeback::catalog::Contents;
use crate::writeback::deadlist;
use crate::writeback::held::Held;

use super::Checker;
use super::ledger::Claim;
use super::pieces::Piece;
use super::report::SnapshotFacts;

impl Checker<'_> {
    /// Walks the snapshots, the oldest first, and reads their dead lists. The trees were
    /// walked.
    pub(super) fn held(&mut self, contents: &Contents, walker: &mut Walker) -> Result<()> {
        let all = &contents.held;
        let left = contents.doomed.iter().flat_map(|d| &d.path);
        let left: BTreeSet<BlockNo> = left.map(|(ptr, _)| ptr.addr).collect();
        let mut older = Generation::default();
        for held in all.iter().filter(|h| !h.deleted) {
            let mut kept = Kept {
                checker: self,
                older,
                left: &left,
            };
            let root = (held.catalog, held.level, held.generation);
            let contents = walker.catalog_at(root.0, root.1, root.2, &mut kept)?;
            walker.walk(Walker::roots_held(held, &contents), &mut kept)?;
            older = held.generation;
        }
        for held in all {
            let (dead, leaves) = self.dead_list(held);
            if (dead, leaves) != (held.dead_blocks, held.list_blocks) && self.damaged_nodes == 0 {
                let detail = format!(
                    "snapshot {:?} has {dead} blocks in {leaves} leaves, the tree of trees says \
                     {} in {}",
                    held.name, held.dead_blocks, held.list_blocks
                );
                self.problem(Damage::new("dead list", held.dead.addr, detail));
            }
            self.report.snapshots.push(SnapshotFacts {
                name: held.name.clone(),
                generation: held.generation,
                csn: held.csn,
                created: held.created,
                deleted: held.deleted,
                dead_blocks: dead,
                list_blocks: leaves,
            });
        }
        Ok(())
    }

    /// Reads a dead list; returns the blocks on it and its leaves.
    fn dead_list(&mut self, held: &Held) -> (u64, u64) {
        let (mut dead, mut leaves) = (0, 0);
        let mut next = held.dead;
        while !next.is_null() {
            let leaf = match self.dead_leaf(next) {
                Ok(leaf) => leaf,
                Err(damage) => {
                    self.damaged_nodes += 1;
                    self.problem(damage);
                    break;
                }
            };
            let before = self.ledger.claim(next.run(), Claim::Node);
            if before.taken > 0 {
                // Going on might never end.
                self.problem(deadlist::damaged(next.addr, "its block is reached twice"));
                break;
            }
            leaves += 1;
            for f in &leaf.dead {
                dead += u64::from(f.run.len);
                let before = self.ledger.claim(f.run, Claim::Dead);
                if before.taken > 0 {
                    let what = format!("{} of its blocks are in use or on a list", before.taken);
                    self.problem(deadlist::damaged(before.first, &what));
                }
                // A piece may have been written before the snapshot and committed behind it:
                // then nobody has it, and it is free when the snapshot is deleted.
                if held.deleted || f.piece {
                    self.ledger.claim(f.run, Claim::Kept);
                }
                self.progress("trees", u64::from(f.run.len));
            }
            next = leaf.next;
        }
        (dead, leaves)
    }

    fn dead_leaf(&self, ptr: BlockPtr) -> Result<deadlist::Leaf, Damage> {
        deadlist::check_pointer(ptr, &self.geometry)?;
        let mut buf = IoBuf::zeroed(self.geometry.block_size as usize);
        let read = self.device.read_at(self.geometry.byte(ptr.addr), &mut buf);
        read.map_err(|e| deadlist::damaged(ptr.addr, &Error::from(e).to_string()))?;
        deadlist::decode(&buf, ptr, self.sb.store_id as u64, &self.geometry)
    }
}

/// Visits the trees of a snapshot.
struct Kept<'a, 'b> {
    checker: &'a mut Checker<'b>,
    /// What was born up to then an older snapshot has too.
    older: Generation,
    /// Nodes of dropped trees of which part is freed: a snapshot may have that part.
    left: &'a BTreeSet<BlockNo>,
}

impl Kept<'_, '_> {
    /// Notes what a snapshot has; whether nobody has looked below it yet.
    fn has(&mut self, run: Run, birth: Generation) -> bool {
        let checker = &mut *self.checker;
        if birth <= self.older {
            return false;
        }
        if checker.ledger.is_reached(run) {
            return self.left.contains(&run.start);
        }
        let before = checker.ledger.claim(run, Claim::Kept);
        if before.taken > 0 {
            checker.report.blocks.doubly_used += u64::from(before.taken);
            let what = "a snapshot reaches its block twice, or a tree uses it";
            checker.problem(Damage::new("space", before.first, what));
        }
        checker.progress("trees", u64::from(run.len));
        before.taken == 0
    }
}

impl Visitor for Kept<'_, '_> {
    fn enter(&mut self, visit: &Visit) -> bool {
        self.has(visit.ptr.run(), visit.ptr.birth)
    }

    fn node(&mut self, visit: &Visit, page: Page<'_>) -> Result<()> {
        if page.level() > 0 {
            return Ok(());
        }
        let mut stored = Vec::new();
        for slot in (0..page.slots()).filter(|s| page.entry(*s).kind == KIND_EXTENT) {
            stored.clear();
            page.copy_value(slot, &mut stored);
            for ptr in crate::commit::extents(&stored) {
                let run = ptr.run(self.checker.geometry.block_size);
                if !self.checker.geometry.is_data(run) {
                    let what = "points outside the data area";
                    self.checker
                        .problem(Damage::new("large value", ptr.addr, what));
                } else if self.has(run, ptr.birth) {
                    self.checker.pieces.add(Piece {
                        ptr,
                        tree: visit.tree,
                        leaf: visit.ptr.addr,
                        key: page.key(slot),
                    });
                }
            }
        }
        if self.checker.pieces.is_full() {
            self.checker.verify_pieces()?;
        }
        Ok(())
    }

    fn damaged(&mut self, _: &Visit, damage: Damage) {
        self.checker.damaged_nodes += 1;
        self.checker.problem(damage);
    }
}
