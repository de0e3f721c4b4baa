//! The account: what the map says of every block beside what reaches it.

use std::collections::{BTreeSet, VecDeque};

use crate::alloc::{Bits, MapView};
use crate::error::{Damage, Result};
use crate::format::Run;
use crate::walk::Deep;

use super::Checker;
use super::ledger::Claim;

impl Checker<'_> {
    /// Tells what is wrong with the index of the map.
    pub(super) fn map_index(&mut self, map: &MapView) {
        let mut told = BTreeSet::new();
        for damage in map.damaged().values() {
            if told.insert(damage.place) {
                self.problem(damage.clone());
            }
        }
        let newest = self.sb.generation;
        for group in 0..self.geometry.groups() {
            let entry = map.entry(0, group);
            if !map.damaged().contains_key(&group) && entry.generation > newest {
                let detail = "written in a generation behind the checkpoint";
                self.problem(Damage::new("map block", map.place(0, group), detail));
            }
        }
    }

    /// Reads every map block and compares.
    pub(super) fn account(&mut self, map: &MapView) -> Result<()> {
        self.progress("map", 0);
        let g = self.geometry;
        let b = &mut self.report.blocks;
        b.total = g.capacity;
        b.log = g.log_pieces().iter().map(|p| u64::from(p.len)).sum();
        let mut deep = Deep::new(self.device.as_ref(), self.options.depth)?;
        let mut asked: VecDeque<(u64, bool)> = VecDeque::new();
        let mut next = 0;
        let mut damaged = 0u64;
        loop {
            // Groups that were never written need no read, but wait for their turn.
            while next < g.groups() && deep.room() && asked.len() < 4096 {
                let entry = map.entry(0, next);
                let read = entry.untouched == 0 && !map.damaged().contains_key(&next);
                if read {
                    let place = g.byte(map.place(0, next));
                    deep.read(place, g.block_size as usize);
                }
                asked.push_back((next, read));
                next += 1;
            }
            let Some((group, read)) = asked.pop_front() else {
                break;
            };
            let bits = if read {
                let checked = match deep.take()? {
                    Ok(buf) => {
                        let bits = map.bits(group, &buf);
                        deep.recycle(buf);
                        bits
                    }
                    Err(e) => Err(Damage::new("map block", map.place(0, group), e.to_string())),
                };
                checked.map_err(|d| self.problem(d)).ok()
            } else if map.damaged().contains_key(&group) {
                None
            } else {
                Some(map.fixed(group))
            };
            damaged += u64::from(bits.is_none());
            self.group(group, bits, &map.fixed(group));
        }
        self.report.blocks.metadata -= self.report.blocks.log;
        if damaged > 0 {
            self.note(format!(
                "the map of {damaged} group(s) is damaged; opened for writing, the store rebuilds \
                 it from the trees when it first needs it"
            ));
        }
        if self.report.blocks.unaccounted > 0 && self.damaged_nodes > 0 {
            self.note("unaccounted blocks may be what lies below damaged nodes");
        }
        Ok(())
    }

    fn group(&mut self, group: u64, map: Option<Bits>, fixed: &Bits) {
        let g = self.geometry;
        let len = g.group_len(group);
        let tail = g.group_blocks() - len;
        let nodes = self.ledger.group(group, Claim::Node);
        let extents = self.ledger.group(group, Claim::Extent);
        let named = self.ledger.group(group, Claim::Log);
        let kept = self.ledger.group(group, Claim::Kept);
        let dead = self.ledger.group(group, Claim::Dead);
        let shared = self.ledger.group(group, Claim::Shared);
        let reached = nodes.with(&extents).with(&kept);

        let b = &mut self.report.blocks;
        let fixed_count = ones(fixed) - tail;
        b.metadata += fixed_count;
        b.nodes += ones(&nodes);
        b.extents += ones(&extents.without(&nodes));
        b.kept += ones(&kept);
        let base = g.group_start(group);
        let lists = [
            (
                kept.without(&dead),
                "only a snapshot has them, but they are on no dead list",
            ),
            (
                dead.without(&kept),
                "are on a dead list, but no snapshot has them",
            ),
            (
                shared.without(&reached),
                "a tree has them from a snapshot that has them no more",
            ),
        ];
        // What lies below damage was not met.
        for (bits, why) in lists {
            if let Some((first, detail)) = describe(&bits, base, why)
                && self.damaged_nodes == 0
            {
                self.problem(Damage::new("space", first.start, detail));
            }
        }
        let b = &mut self.report.blocks;
        let Some(map) = map else {
            b.unknown += len - fixed_count - ones(&reached);
            return;
        };
        b.free += u64::from(map.with(&reached).zeros());
        b.named_by_log += ones(&named.without(&map.with(&reached)));
        let lost = reached.without(&map);
        let unaccounted = map.without(&reached).without(fixed);
        b.reached_but_free += ones(&lost);
        b.unaccounted += ones(&unaccounted);
        let wrongs = [
            (lost, "reached by a tree, but free in the map"),
            (unaccounted, "in use in the map, but nothing reaches them"),
        ];
        for (bits, why) in wrongs {
            if let Some((first, detail)) = describe(&bits, base, why) {
                self.problem(Damage::new("space", first.start, detail));
            }
        }
    }
}

fn ones(bits: &Bits) -> u64 {
    u64::from(bits.len() - bits.zeros())
}

/// The first run, and a sentence for all.
fn describe(bits: &Bits, base: u64, why: &str) -> Option<(Run, String)> {
    let count = ones(bits);
    if count == 0 {
        return None;
    }
    let mut all = Bits::zeroed(bits.len());
    all.set(0, bits.len());
    let inverse = all.without(bits);
    let runs: Vec<Run> = inverse
        .zero_runs(0, bits.len())
        .map(|(start, len)| Run {
            start: base + u64::from(start),
            len,
        })
        .collect();
    let shown: Vec<String> = runs
        .iter()
        .take(8)
        .map(|r| match r.len {
            1 => r.start.to_string(),
            _ => format!("{}–{}", r.start, r.end() - 1),
        })
        .collect();
    let more = if runs.len() > 8 { ", …" } else { "" };
    let detail = format!("{count} block(s) {why}: {}{more}", shown.join(", "));
    Some((runs[0], detail))
}
