//! Reading the index when the store is opened: a level at a time, each level with
//! depth. What is untouched costs no read. What cannot be read or does not verify
//! makes the groups below it damaged, and nothing else.

use std::collections::BTreeMap;

use gaur_iodriver::{IoBuf, Op, Queue, Request};

use crate::error::{Damage, Result};
use crate::format::geometry::INDEX_LEVELS;
use crate::format::{Geometry, Run};

use super::counters::{Counters, add};
use super::index::{DamagedGroups, Index, Place, is_lost, kind};
use super::{AllocConfig, MapRoot};

/// Reads per submission: bounds the memory a start takes.
const BATCH: usize = 64;

/// Reads the index under `root`.
///
/// # Errors
/// Only if the queue is broken.
pub(super) fn index(
    queue: &mut dyn Queue,
    config: &AllocConfig,
    root: MapRoot,
    counters: &Counters,
) -> Result<(Index, DamagedGroups)> {
    let geometry = config.geometry;
    let free: Vec<u64> = Fresh::new(&geometry).map(|f| u64::from(f.free)).collect();
    let mut index = Index::new(geometry, config.store_id, root, &free);
    let mut damaged = BTreeMap::new();
    let mut level = vec![(INDEX_LEVELS, 0)];
    for _ in 0..INDEX_LEVELS {
        let mut below = Vec::new();
        let mut bad = Vec::new();
        let mut wanted = Vec::new();
        for at in level {
            let entry = index.entry(at);
            if is_lost(entry) {
                bad.push((at, lost(&index, at)));
            } else if entry.untouched == 0 {
                wanted.push(at);
            }
        }
        for batch in wanted.chunks(BATCH) {
            for (at, block) in read(queue, &geometry, &index, batch)? {
                add(&counters.index_reads, 1);
                match block.and_then(|b| index.read(at, &b)) {
                    Ok(()) => below.extend(index.below(at)),
                    Err(damage) => bad.push((at, damage)),
                }
            }
        }
        for (at, damage) in bad {
            lose(&mut index, at, &damage, &mut damaged);
        }
        level = below;
    }
    for (_, group) in level {
        if is_lost(index.entry((0, group))) {
            damaged.insert(group, lost(&index, (0, group)));
        }
    }
    Ok((index, damaged))
}

fn lost(index: &Index, at: Place) -> Damage {
    Damage::new(kind(at), index.place(at), "was lost to earlier damage")
}

/// Everything below `at` is damaged.
fn lose(index: &mut Index, at: Place, damage: &Damage, damaged: &mut DamagedGroups) {
    for child in index.lose(at) {
        if child.0 == 0 {
            damaged.insert(child.1, damage.clone());
        } else {
            lose(index, child, damage, damaged);
        }
    }
}

type Read = (Place, Result<IoBuf, Damage>);

fn read(
    queue: &mut dyn Queue,
    geometry: &Geometry,
    index: &Index,
    batch: &[Place],
) -> Result<Vec<Read>> {
    let mut requests: Vec<_> = (0u64..)
        .zip(batch)
        .map(|(token, &at)| Request {
            token,
            op: Op::Read {
                offset: geometry.byte(index.place(at)),
                buf: IoBuf::zeroed(geometry.block_size as usize),
            },
        })
        .collect();
    queue.submit(&mut requests)?;
    let mut done = Vec::new();
    while done.len() < batch.len() {
        queue.wait(1, None, &mut done)?;
    }
    Ok(done
        .into_iter()
        .map(|c| {
            let at = batch[c.token as usize];
            let block = match (c.result, c.buf) {
                (Ok(()), Some(buf)) => Ok(buf),
                (Err(e), _) => Err(Damage::new(kind(at), index.place(at), e.to_string())),
                (Ok(()), None) => Err(Damage::new(kind(at), index.place(at), "no data")),
            };
            (at, block)
        })
        .collect())
}

/// An untouched group: how much is free in it.
pub(super) struct FreshGroup {
    /// Free blocks.
    pub(super) free: u32,
    /// The longest run of them.
    pub(super) longest: u32,
}

/// The untouched groups of a geometry, in order.
pub(super) struct Fresh<'a> {
    geometry: &'a Geometry,
    group: u64,
    /// Groups from here on hold nothing fixed but metadata.
    plain_from: u64,
}

impl<'a> Fresh<'a> {
    pub(super) fn new(geometry: &'a Geometry) -> Self {
        let last_log = geometry.log_pieces().last().map_or(0, |p| p.start);
        let plain_from = 1 + geometry.group_of(last_log.max(geometry.superblock(1)));
        Self {
            geometry,
            group: 0,
            plain_from,
        }
    }
}

impl Iterator for Fresh<'_> {
    type Item = FreshGroup;

    fn next(&mut self) -> Option<FreshGroup> {
        let (g, group) = (self.geometry, self.group);
        if group >= g.groups() {
            return None;
        }
        self.group += 1;
        let fixed = if group < self.plain_from {
            g.fixed_ranges(group)
        } else {
            vec![Run {
                start: g.group_start(group),
                len: g.metadata_blocks(group) as u32,
            }]
        };
        let (mut at, mut free, mut longest) = (g.group_start(group), 0, 0);
        let end = Run {
            start: at + g.group_len(group),
            len: 0,
        };
        for f in fixed.into_iter().chain([end]) {
            let gap = (f.start - at) as u32;
            free += gap;
            longest = longest.max(gap);
            at = f.end();
        }
        Some(FreshGroup { free, longest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_groups_are_what_the_geometry_says() {
        let g = Geometry::new(4096, 40 << 30, 40_000);
        for (group, fresh) in (0..).zip(Fresh::new(&g)) {
            let fixed: u64 = g.fixed_ranges(group).iter().map(|r| u64::from(r.len)).sum();
            assert_eq!(u64::from(fresh.free), g.group_len(group) - fixed);
            assert!(fresh.longest <= fresh.free);
        }
        assert_eq!(Fresh::new(&g).count() as u64, g.groups());
    }
}
