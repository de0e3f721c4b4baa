//! Who has which block: bitmaps per group, made when a group is first used.

use std::collections::BTreeMap;

use crate::alloc::Bits;
use crate::format::{Geometry, Run};

/// What reaches the blocks of a group.
#[derive(Debug)]
pub(super) struct Claims {
    /// Nodes.
    pub(super) nodes: Bits,
    /// Extents that trees reach.
    pub(super) extents: Option<Bits>,
    /// Extents that the log names.
    pub(super) named: Option<Bits>,
}

/// The claims of all groups.
#[derive(Debug)]
pub(super) struct Ledger {
    geometry: Geometry,
    groups: BTreeMap<u64, Claims>,
}

/// What claims a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Node,
    Extent,
    Log,
}

/// What was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// Blocks claimed already, by anything that a tree reaches, or, for a claim of
    /// the log, by anything.
    pub(super) taken: u32,
    /// Of these, the first.
    pub(super) first: u64,
    /// Blocks claimed as nodes already.
    pub(super) as_nodes: u32,
}

impl Ledger {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            groups: BTreeMap::new(),
        }
    }

    /// Claims a run, which lies in the data of one group.
    pub(super) fn claim(&mut self, run: Run, claim: Claim) -> Before {
        let g = self.geometry;
        let zeroed = || Bits::zeroed(g.group_blocks() as u32);
        let group = g.group_of(run.start);
        let base = g.group_start(group);
        let start = (run.start - base) as u32;
        let claims = self.groups.entry(group).or_insert_with(|| Claims {
            nodes: zeroed(),
            extents: None,
            named: None,
        });
        let mut before = Before::default();
        for i in start..start + run.len {
            let node = claims.nodes.all_set(i, 1);
            let set = |b: &Option<Bits>| b.as_ref().is_some_and(|b| b.all_set(i, 1));
            let taken = node || set(&claims.extents) || (claim == Claim::Log && set(&claims.named));
            before.as_nodes += u32::from(node);
            if taken {
                if before.taken == 0 {
                    before.first = base + u64::from(i);
                }
                before.taken += 1;
            }
        }
        match claim {
            Claim::Node => &mut claims.nodes,
            Claim::Extent => claims.extents.get_or_insert_with(zeroed),
            Claim::Log => claims.named.get_or_insert_with(zeroed),
        }
        .set(start, run.len);
        before
    }

    /// The claims in a group, if there are any.
    pub(super) fn group(&self, group: u64) -> Option<&Claims> {
        self.groups.get(&group)
    }
}
