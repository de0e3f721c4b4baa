//! Trees that the log loads: built beside it, and in no checkpoint yet.

use std::collections::BTreeSet;

use crate::commit::extents;
use crate::error::{Damage, Result};
use crate::format::node::KIND_EXTENT;
use crate::format::{BlockNo, BlockPtr, Csn, Generation, Run, TreeId};
use crate::log::Runs;
use crate::node::Page;
use crate::walk::{Visit, Visitor, Walker};

use super::Checker;
use super::ledger::Claim;
use super::pieces::Piece;

/// What the walk through a loaded tree finds.
#[derive(Debug, Default)]
struct Loaded {
    runs: Vec<Run>,
    entered: BTreeSet<BlockNo>,
    records: u64,
    pieces: Vec<Piece>,
    damage: Vec<Damage>,
}

impl Loaded {
    fn has(&self, run: Run) -> bool {
        let i = self.runs.partition_point(|r| r.start <= run.start);
        i > 0 && run.end() <= self.runs[i - 1].end()
    }
}

impl Visitor for Loaded {
    fn enter(&mut self, visit: &Visit) -> bool {
        let why = match (
            self.has(visit.ptr.run()),
            self.entered.insert(visit.ptr.addr),
        ) {
            (true, true) => return true,
            (false, _) => "lies outside of what the log says was loaded",
            (true, false) => "is reached twice",
        };
        let damage = Damage::new("node", visit.ptr.addr, why);
        self.damage.push(damage.in_tree(visit.tree));
        false
    }

    fn node(&mut self, visit: &Visit, page: Page<'_>) -> Result<()> {
        if page.level() > 0 {
            return Ok(());
        }
        self.records += page.slots() as u64;
        let mut stored = Vec::new();
        for slot in (0..page.slots()).filter(|s| page.entry(*s).kind == KIND_EXTENT) {
            stored.clear();
            page.copy_value(slot, &mut stored);
            for ptr in extents(&stored) {
                if self.has(ptr.run(page.len_words() as u32 * 8)) {
                    self.pieces.push(Piece {
                        ptr,
                        tree: visit.tree,
                        leaf: visit.ptr.addr,
                        key: page.key(slot),
                    });
                } else {
                    let why = "lies outside of what the log says was loaded";
                    let damage = Damage::new("large value", ptr.addr, why);
                    self.damage.push(damage.in_tree(visit.tree));
                }
            }
        }
        Ok(())
    }

    fn damaged(&mut self, _: &Visit, damage: Damage) {
        self.damage.push(damage);
    }
}

impl Checker<'_> {
    /// A tree that commit `csn` in the log loads: its blocks are the log's.
    pub(super) fn loads(
        &mut self,
        csn: Csn,
        tree: TreeId,
        root: BlockPtr,
        runs: Runs<'_>,
    ) -> Result<()> {
        let mut loaded = Loaded::default();
        let geometry = self.geometry;
        for run in runs.iter().filter(|run| geometry.is_data(*run)) {
            let before = self.ledger.claim(run, Claim::Log);
            if before.taken > 0 {
                self.report.blocks.doubly_used += u64::from(before.taken);
                let taken = before.taken;
                let detail =
                    format!("commit {csn} in the log loads {taken} blocks that are in use already");
                let damage = Damage::new("loaded tree", before.first, detail);
                self.problem(damage.in_tree(tree));
            }
            self.report.log.extents.push(run);
            loaded.runs.push(run);
        }
        let mut walker = Walker::new(
            self.device.as_ref(),
            self.geometry,
            &self.sb,
            self.options.depth,
        )?;
        let newest = Generation(u64::MAX);
        walker.walk(vec![Visit::root(tree, root, None, newest)], &mut loaded)?;
        loaded.damage.drain(..).for_each(|d| self.problem(d));
        for piece in loaded.pieces {
            self.pieces.add(piece);
        }
        self.loaded.insert(tree, loaded.records);
        Ok(())
    }
}
