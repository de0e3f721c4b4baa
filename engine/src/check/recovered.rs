//! The state that recovery would leave: the log's changes, read once under the
//! conditions of recovery, beside the leaves as the walk meets them.
//!
//! Every change must find its leaf: below a damaged node it does not, and recovery
//! would end there. How many records there would be follows on the way. Nothing is
//! read for it but the log.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::format::TreeId;
use crate::format::superblock::FLAG_CLEAN;
use crate::node::Page;
use crate::overlay::{self, Added, Beside, Rules};
use crate::recovery::log_reader;
use crate::walk::Visit;
use crate::writeback::catalog::CatalogEntry;

use super::Checker;
use super::report::RecoveredTree;

/// What is known of the state behind the log.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    added: Added,
    /// By tree: changes that found their leaf, and the records they add to it and
    /// take from it.
    met: BTreeMap<TreeId, [u64; 3]>,
    /// Trees with damage.
    pub(super) damaged: BTreeSet<TreeId>,
    /// Why recovery would fail, as far as the log tells.
    fails: Option<String>,
}

impl Checker<'_> {
    /// Reads the log's changes. The tree of trees was walked.
    pub(super) fn read_changes(&mut self, entries: &[CatalogEntry]) -> Result<()> {
        let how = Beside {
            memory: self.options.replay_memory,
            salvage: true,
            unknown_trees: false,
        };
        let mut reader = log_reader(&self.device, &self.sb)?;
        if self.sb.flags & FLAG_CLEAN != 0 {
            reader = reader.closed_cleanly();
        }
        let trees = entries.iter().map(|e| (e.id, e.name.as_str()));
        let mut rules = Rules::new(self.geometry, trees, self.snapshots.clone());
        self.report.recovery.verified = true;
        match overlay::read(&mut reader, &mut rules, self.sb.cut, how) {
            Ok(added) => {
                // Told again, with its place, when the log itself is checked.
                let bad = |d: &crate::Damage| format!("{}: {}", d.what, d.detail);
                self.recovered.fails = added.damage.as_ref().map(bad);
                self.recovered.added = added;
            }
            Err(e @ Error::ReplayMemory { .. }) => {
                self.report.recovery.verified = false;
                self.note(format!("the state behind the log is not verified: {e}"));
            }
            Err(e) => return Err(e),
        }
        if self.damaged_nodes > 0 {
            self.recovered.fails = Some("the tree of trees is damaged".into());
        }
        Ok(())
    }

    /// A leaf that verifies: what would change in it?
    pub(super) fn compare_leaf(&mut self, visit: &Visit, page: Page<'_>) {
        let o = &self.recovered.added.overlay;
        let mut change = [0u64; 3];
        for (key, image) in o.range(visit.tree, &visit.lower, visit.upper.as_deref()) {
            let found = page.search(key).1;
            change[0] += 1;
            change[1] += u64::from(image.is_some() && !found);
            change[2] += u64::from(image.is_none() && found);
        }
        if o.has_holes(visit.tree) {
            // Of a key that was put again it is known already.
            let gone = |key: &[u8]| o.in_hole(visit.tree, key) && !o.puts(visit.tree, key);
            let gone = (0..page.slots()).filter(|slot| gone(&page.key(*slot)));
            let met = self.recovered.met.entry(visit.tree).or_default();
            met[2] += gone.count() as u64;
        }
        if change[0] > 0 {
            let met = self.recovered.met.entry(visit.tree).or_default();
            met.iter_mut().zip(change).for_each(|(m, c)| *m += c);
        }
    }

    /// The verdict, when all trees and the log were walked.
    pub(super) fn judge_recovery(&mut self, entries: &[CatalogEntry]) {
        let state = std::mem::take(&mut self.recovered);
        let Added { overlay, .. } = &state.added;
        let mut fails = state.fails;
        let mut trees = Vec::new();
        for e in entries {
            if state.added.dropped.contains(&e.id) {
                continue;
            }
            let [met, more, less] = state.met.get(&e.id).copied().unwrap_or_default();
            let beside = overlay.keys(e.id) - met.min(overlay.keys(e.id));
            let records = self.report.trees.iter().find(|t| t.id == e.id);
            let mut records = records.map(|t| (t.records + more).saturating_sub(less));
            if beside > 0 && e.root.is_null() {
                records = Some(puts(overlay, e.id));
            } else if beside > 0 {
                fails.get_or_insert_with(|| {
                    let name = &e.name;
                    format!(
                        "{beside} key(s) that the log changes lie below damage in tree {name:?}"
                    )
                });
            }
            let renamed = state.added.renamed.get(&e.id);
            trees.push(RecoveredTree {
                name: renamed.unwrap_or(&e.name).clone(),
                id: e.id,
                records: records.filter(|_| !state.damaged.contains(&e.id)),
            });
        }
        for (id, name, from) in &state.added.created {
            // What is changed in a loaded tree is not looked for in it.
            let loaded = self
                .loaded
                .get(id)
                .copied()
                .filter(|_| overlay.keys(*id) == 0 && !overlay.has_holes(*id));
            trees.push(RecoveredTree {
                name: name.clone(),
                id: *id,
                records: match from {
                    None => Some(puts(overlay, *id)),
                    // Of one that came from a snapshot nobody counted them.
                    Some(_) => loaded,
                },
            });
        }
        trees.sort_by(|a, b| a.name.cmp(&b.name));
        let log = &self.report.log;
        let r = &mut self.report.recovery;
        r.commits = log.commits_to_replay;
        r.operations = log.ops;
        r.last_csn = log.last_csn;
        (r.changes, r.memory) = overlay.size();
        if r.verified {
            let dropped = entries
                .iter()
                .filter(|e| state.added.dropped.contains(&e.id));
            r.dropped = dropped.map(|e| e.name.clone()).collect();
            r.created = state.added.created.into_iter().map(|c| c.1).collect();
            r.trees = trees;
        }
        r.fails = fails;
    }
}

/// The records that the log gives to a tree that has none.
fn puts(overlay: &overlay::Overlay, tree: TreeId) -> u64 {
    let all = overlay.range(tree, &[], None);
    all.filter(|(_, image)| image.is_some()).count() as u64
}
