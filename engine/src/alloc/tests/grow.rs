//! Growth by the thread, on a simulated disk: over the boundaries of groups and of
//! index blocks of each level, of damaged maps, and with the power cut.

use gaur_iodriver::sync::rng;
use rand::RngExt;

use super::disk::{Store, extent, nodes};
use super::{config, geometry};
use crate::alloc::load::Fresh;
use crate::alloc::{AllocConfig, Allocator, Changes, SpaceError};
use crate::format::{Geometry, Run};

const GROUP: u64 = 32_256;
const F: u64 = 126;

pub(super) fn blocks(blocks: u64) -> Geometry {
    Geometry::new(4096, blocks * 4096, 500)
}

/// Blocks that a geometry leaves free.
fn all(g: &Geometry) -> u64 {
    Fresh::new(g).map(|f| u64::from(f.free)).sum()
}

fn store(g: Geometry) -> Store {
    Store::new(AllocConfig {
        map_memory: 0,
        reserve_blocks: 0,
        ..AllocConfig::new(g, 77)
    })
}

impl Store {
    /// A checkpoint that grows; with `release` its superblock is durable.
    fn grow(&mut self, to: Geometry, used: &[Run], release: bool) {
        self.generation = self.generation.next();
        let changes = Changes {
            used: used.to_vec(),
            freed: Vec::new(),
        };
        self.disk.set_capacity(to.byte(to.capacity));
        let ticket = self
            .alloc
            .freeze_and_grow(self.generation, changes, Some(to));
        let root = ticket.wait().unwrap();
        if release {
            self.root = root;
            self.config.geometry = to;
            self.alloc.release(self.generation, Vec::new());
        }
    }

    /// What is free is what is not in `used`, now and after a start.
    fn adds_up(&mut self, used: &[Run]) {
        let used: u64 = used.iter().map(|r| u64::from(r.len)).sum();
        let free = all(&self.config.geometry) - used;
        assert_eq!(self.all_free(), free);
        assert_eq!(self.alloc.data_blocks(), all(&self.config.geometry));
        self.reopen();
        assert_eq!(self.all_free(), free);
        assert!(self.alloc.damaged_groups().unwrap().is_empty());
    }
}

#[test]
fn groups_are_added_at_every_level() {
    let steps: [&[u64]; 6] = [
        // One group: longer, whole, and a tail too short to count before it counts.
        &[5000, 5001, GROUP, GROUP + 63, GROUP + 64, 3 * GROUP + 100],
        // Exactly one index block of level 1, then the next.
        &[
            (F - 1) * GROUP + 70,
            F * GROUP,
            F * GROUP + 64,
            (F + 2) * GROUP,
        ],
        &[F * GROUP - 1, (2 * F + 1) * GROUP + 700],
        // The same of level 2.
        &[(F * F - 2) * GROUP, F * F * GROUP, F * F * GROUP + 64],
        &[F * F * GROUP - 300, (F * F + F + 1) * GROUP],
        &[5000, (2 * F * F + 3) * GROUP + 65],
    ];
    for capacities in steps {
        let mut store = store(blocks(capacities[0]));
        let mut used = Vec::new();
        for &to in &capacities[1..] {
            let before = store.config.geometry;
            // The last group is untouched, in memory, or to be read.
            let mut new = store.alloc.reserve(nodes(3)).unwrap();
            new.extend(store.alloc.reserve(extent(100, 4)).unwrap());
            store.checkpoint(&new, &[]);
            used.extend(new);
            if to % 2 == 0 {
                store.reopen();
            }
            if let Some(to) = before.grown(to * 4096) {
                store.grow(to, &[], true);
                store.adds_up(&used);
            }
        }
        // What is new can be had: an extent for each of the last groups.
        let g = store.config.geometry;
        let last = store.alloc.reserve(extent(60, 1)).unwrap();
        let ask = g.group_len(g.groups() - 1) as u32 - 10;
        let piece = store.alloc.reserve(extent(ask.max(60), 1)).unwrap();
        store.checkpoint(&[last.clone(), piece.clone()].concat(), &[]);
        used.extend(last);
        used.extend(piece);
        store.adds_up(&used);
    }
}

#[test]
fn all_that_is_won_is_handed_out_after_the_release_and_not_before() {
    let mut store = store(geometry(1));
    let old = store.config.geometry;
    let used = store.alloc.reserve(nodes(all(&old) as u32)).unwrap();
    let to = old.grown(4096 * (3 * GROUP + 1000)).unwrap();
    store.grow(to, &used, false);
    let refused = store.alloc.reserve(nodes(1));
    assert!(
        matches!(refused, Err(SpaceError::AfterGeneration { generation, .. }) if generation == store.generation),
        "{refused:?}"
    );
    store.alloc.release(store.generation, Vec::new());
    let won = all(&to) - all(&old);
    let new = store.alloc.reserve(nodes(won as u32)).unwrap();
    assert!(
        new.iter()
            .all(|r| r.start >= old.capacity && to.is_data(*r))
    );
    assert!(matches!(
        store.alloc.reserve(nodes(1)),
        Err(SpaceError::Full { .. })
    ));
}

#[test]
fn a_growth_that_no_superblock_names_never_was() {
    for long in [false, true] {
        let mut store = store(geometry(1));
        let new = store.alloc.reserve(extent(700, 9)).unwrap();
        store.checkpoint(&new, &[]);
        if long {
            store.reopen();
        }
        let to = store.config.geometry.grown(4096 * 5 * GROUP).unwrap();
        store.grow(to, &[], false);
        store.reopen();
        store.adds_up(&new);
        // And now for good, over what the first attempt wrote.
        store.generation.0 += 1 << 32;
        store.grow(to, &[], true);
        store.adds_up(&new);
    }
}

#[test]
fn a_short_last_group_whose_map_is_damaged_grows_and_is_rebuilt() {
    let mut store = store(geometry(1));
    let old = store.config.geometry;
    let used = store.alloc.reserve(nodes(all(&old) as u32 - 20)).unwrap();
    store.checkpoint(&used, &[]);
    store.rot(|slot| old.map_block(1, slot));
    store.reopen();
    let to = old.grown(4096 * (2 * GROUP + 5000)).unwrap();
    store.grow(to, &[], true);
    assert_eq!(store.alloc.damaged_groups().unwrap().len(), 1);
    // Lost for good, until it is rebuilt; the group behind it can be used.
    store.reopen();
    assert_eq!(store.alloc.damaged_groups().unwrap()[0].0, 1);
    let more = store.alloc.reserve(extent(4000, 1)).unwrap();
    assert_eq!(to.group_of(more[0].start), 2);
    let here = |r: &&Run| to.group_of(r.start) == 1;
    let known: Vec<Run> = used.iter().filter(here).copied().collect();
    store.alloc.rebuild(1, known).unwrap();
    store.checkpoint(&more, &[]);
    store.adds_up(&[used, more].concat());
}

#[test]
fn growth_under_a_damaged_index_block() {
    let mut store = store(geometry(2));
    let old = store.config.geometry;
    let used = store.alloc.reserve(nodes(500)).unwrap();
    store.checkpoint(&used, &[]);
    store.rot(|slot| old.index_block(1, 0, slot));
    store.reopen();
    assert_eq!(store.alloc.damaged_groups().unwrap().len(), 3);
    let to = old.grown(4096 * 4 * GROUP).unwrap();
    store.grow(to, &[], true);
    for _ in 0..2 {
        assert_eq!(store.alloc.damaged_groups().unwrap().len(), 3);
        let fresh = Fresh::new(&to).nth(3).map_or(0, |f| u64::from(f.free));
        assert_eq!(store.all_free(), fresh);
        store.reopen();
    }
    for group in 0..3 {
        let here = |r: &&Run| to.group_of(r.start) == group;
        let known = used.iter().filter(here).copied().collect();
        store.alloc.rebuild(group, known).unwrap();
    }
    assert!(store.alloc.rebuild(4, Vec::new()).is_err());
    store.checkpoint(&[], &[]);
    store.adds_up(&used);
}

#[test]
fn a_power_cut_leaves_the_old_size_or_the_new_one() {
    for _ in 0..40 {
        let seed = rng::fresh_seed();
        println!("seed {seed}");
        let mut r = rng::seeded(seed);
        let mut store = store(geometry(r.random_range(1..3)));
        let used = store.alloc.reserve(nodes(600)).unwrap();
        store.checkpoint(&used, &[]);
        let device = store.disk.device();
        device.flush().unwrap();
        store.disk.crash_after(r.random_range(1..10));
        let mut named = (store.root, store.config.geometry);
        while store.disk.is_powered() {
            let to = named
                .1
                .grown(named.1.byte(named.1.capacity) + (r.random_range(1..200) << 20));
            store.generation = store.generation.next();
            store.disk.set_capacity(1 << 40);
            let ticket = store
                .alloc
                .freeze_and_grow(store.generation, Changes::default(), to);
            if let (Ok(root), Ok(())) = (ticket.wait(), device.flush()) {
                named = (root, to.unwrap_or(named.1));
                store.alloc.release(store.generation, Vec::new());
            }
        }
        store.alloc.shutdown();
        store.disk = store.disk.crash(seed);
        (store.root, store.config.geometry) = named;
        let after = store.disk.device();
        store.alloc = Allocator::start(&after, store.root, store.config.clone()).unwrap();
        store.adds_up(&used);
    }
}

#[test]
fn low_space_is_told_once() {
    let mut store = Store::new(config(1));
    let free = store.all_free();
    let (tell, told) = gaur_iodriver::sync::channel::bounded(1);
    store.alloc.tell_when_low(free / 2, &tell);
    store.all_free();
    assert!(told.try_recv().is_err());
    let half = store.alloc.reserve(nodes(free as u32 / 2 + 2)).unwrap();
    super::disk::eventually("told", || told.try_recv().is_ok());
    let more = store.alloc.reserve(nodes(10)).unwrap();
    store.checkpoint(&more, &[]);
    store.all_free();
    assert!(told.try_recv().is_err(), "told twice");
    store.alloc.give_back_unused(half.clone());
    store.all_free();
    let len = half.iter().map(|r| r.len).sum();
    store.alloc.reserve(nodes(len)).unwrap();
    super::disk::eventually("told again", || told.try_recv().is_ok());
}
