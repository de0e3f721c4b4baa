//! The trees: facts, claims, and the places of large values.

use std::collections::BTreeMap;

use crate::core::MAX_PIECES;
use crate::error::{Damage, Result};
use crate::format::node::KIND_EXTENT;
use crate::format::{ExtentPtr, TreeId};
use crate::node::Page;
use crate::walk::{Visit, Visitor};
use crate::writeback::catalog::Contents;

use super::Checker;
use super::ledger::Claim;
use super::pieces::Piece;
use super::report::TreeFacts;

/// What the tree of trees is called in a report.
pub(super) const CATALOG_NAME: &str = "(tree of trees)";

impl Checker<'_> {
    pub(super) fn add_tree(&mut self, id: TreeId, name: String, left: bool) {
        self.report.trees.push(TreeFacts {
            name,
            id,
            left,
            ..TreeFacts::default()
        });
    }

    /// The entries of the tree of trees.
    pub(super) fn catalog(&mut self, contents: &Contents) {
        let place = self.sb.catalog().addr;
        let trees = contents.trees.iter().map(|e| (e.id, e.name.clone()));
        let mut left: BTreeMap<TreeId, String> = BTreeMap::new();
        for d in &contents.doomed {
            let of = contents.trees.iter().find(|e| e.id == d.id);
            let name = match of {
                Some(e) => format!("(deleted from {})", e.name),
                None => format!("(dropped tree {})", d.id),
            };
            left.insert(d.id, name);
        }
        let there = trees.map(|(id, name)| (id, name, false));
        let left = left.into_iter().map(|(id, name)| (id, name, true));
        for (id, name, left) in there.chain(left) {
            let of = |t: &TreeFacts| t.id == id && t.left == left;
            let twice = self.report.trees.iter().any(of);
            self.add_tree(id, name, left);
            if twice {
                let detail = format!("two trees have the number {id}");
                self.problem(Damage::new("catalog entry", place, detail).in_tree(id));
            }
            if id >= self.sb.next_tree {
                let next = self.sb.next_tree;
                let detail = format!("tree {id} exists, but the next number is {next}");
                self.problem(Damage::new("catalog entry", place, detail).in_tree(id));
            }
        }
    }

    fn tree(&mut self, visit: &Visit) -> &mut TreeFacts {
        let of = |t: &TreeFacts| t.id == visit.tree && t.left == visit.left;
        let i = self.report.trees.iter().position(of);
        let i = i.expect("every tree that is walked was added");
        &mut self.report.trees[i]
    }

    /// A large value in slot `slot` of a leaf.
    fn large(&mut self, visit: &Visit, page: Page<'_>, slot: usize) {
        let mut stored = Vec::new();
        page.copy_value(slot, &mut stored);
        let key = page.key(slot);
        let leaf = visit.ptr.addr;
        let block_size = self.geometry.block_size;
        let pieces = stored.len() / ExtentPtr::SIZE;
        let bad = |place: u64, why: String| {
            Damage::new(
                "large value",
                place,
                format!("{why}; key {}, leaf {leaf}", brief(&key)),
            )
            .in_tree(visit.tree)
        };
        if pieces == 0 || pieces > MAX_PIECES || !stored.len().is_multiple_of(ExtentPtr::SIZE) {
            let why = format!("{} bytes are no list of pieces", stored.len());
            self.problem(bad(leaf, why));
            return;
        }
        self.tree(visit).large_values += 1;
        for ptr in stored.chunks(ExtentPtr::SIZE).filter_map(ExtentPtr::decode) {
            let run = ptr.run(block_size);
            if !self.geometry.is_data(run) {
                self.problem(bad(ptr.addr, "points outside the data area".into()));
                continue;
            }
            if ptr.birth > visit.ptr.birth {
                let why = format!("born in {}, its leaf in {}", ptr.birth, visit.ptr.birth);
                self.problem(bad(ptr.addr, why));
            }
            let shared = ptr.birth <= visit.origin;
            let claim = if shared { Claim::Shared } else { Claim::Extent };
            let before = self.ledger.claim(run, claim);
            if before.taken > 0 {
                self.report.blocks.doubly_used += u64::from(before.taken);
                let why = format!("{} of its blocks are reached twice", before.taken);
                self.problem(bad(before.first, why));
            }
            let tree = self.tree(visit);
            tree.value_bytes += ptr.bytes;
            tree.extent_bytes += u64::from(run.len) * u64::from(block_size);
            self.pieces.add(Piece {
                ptr,
                tree: visit.tree,
                leaf,
                key: key.clone(),
            });
            self.progress("trees", u64::from(run.len));
        }
    }

    /// Verifies the large values that were collected.
    pub(super) fn verify_pieces(&mut self) -> Result<()> {
        let (damaged, blocks) = self.pieces.verify()?;
        damaged.into_iter().for_each(|d| self.problem(d));
        if blocks > 0 {
            self.progress("large values", 0);
        }
        Ok(())
    }
}

impl Visitor for Checker<'_> {
    fn enter(&mut self, visit: &Visit) -> bool {
        if visit.ptr.birth <= visit.origin {
            self.ledger.claim(visit.ptr.run(), Claim::Shared);
            self.progress("trees", 1);
            return true;
        }
        let before = self.ledger.claim(visit.ptr.run(), Claim::Node);
        if before.taken > 0 {
            self.report.blocks.doubly_used += u64::from(before.taken);
            let damage = Damage::new("node", visit.ptr.addr, "its block is reached twice");
            self.problem(damage.in_tree(visit.tree));
        }
        self.progress("trees", 1);
        before.as_nodes == 0
    }

    fn node(&mut self, visit: &Visit, page: Page<'_>) -> Result<()> {
        let n = page.slots();
        let level = u32::from(page.level());
        let tree = self.tree(visit);
        tree.depth = tree.depth.max(level + 1);
        tree.newest_csn = tree.newest_csn.max(page.csn());
        if level > 0 {
            tree.inner += 1;
            return Ok(());
        }
        tree.leaves += 1;
        tree.records += n as u64;
        tree.free_bytes += page.free_words() as u64 * 8;
        if !visit.left {
            self.compare_leaf(visit, page);
        }
        for slot in 0..n {
            let e = page.entry(slot);
            let tree = self.tree(visit);
            tree.key_bytes += (page.prefix_len() + e.key_len) as u64;
            if e.kind == KIND_EXTENT {
                self.large(visit, page, slot);
            } else {
                tree.value_bytes += e.value_len as u64;
            }
        }
        if self.pieces.is_full() {
            self.verify_pieces()?;
        }
        Ok(())
    }

    fn damaged(&mut self, visit: &Visit, damage: Damage) {
        self.damaged_nodes += 1;
        self.recovered.damaged.insert(visit.tree);
        self.problem(damage);
    }
}

/// A key for people: text if it is, else hex; cut off when long.
pub(crate) fn brief(key: &[u8]) -> String {
    const MOST: usize = 32;
    let head = &key[..key.len().min(MOST)];
    let more = if key.len() > MOST {
        format!("… ({} bytes)", key.len())
    } else {
        String::new()
    };
    match std::str::from_utf8(head) {
        Ok(text) if text.chars().all(|c| !c.is_control()) => format!("{text:?}{more}"),
        _ => {
            let hex: String = head.iter().map(|b| format!("{b:02x}")).collect();
            format!("0x{hex}{more}")
        }
    }
}
