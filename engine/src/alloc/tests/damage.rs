//! Damaged map and index blocks: told, contained, rebuilt.

use std::collections::BTreeMap;

use gaur_iodriver::OpKind;

use super::config;
use super::disk::{FAIL, Store, nodes};
use crate::alloc::index::LOST;
use crate::alloc::space::Space;
use crate::alloc::view::MapView;
use crate::alloc::{MapRoot, SpaceError};
use crate::format::Run;
use crate::format::space::{self, IndexEntry};
use crate::format::superblock::Superblock;

fn used_in(store: &Store, used: &[Run], group: u64) -> Vec<Run> {
    let g = store.config.geometry;
    used.iter()
        .copied()
        .filter(|r| g.group_of(r.start) == group)
        .collect()
}

/// Asks for so much that every group is read.
fn look_everywhere(store: &Store) -> Result<Vec<Run>, SpaceError> {
    store.alloc.reserve(nodes(store.all_free() as u32))
}

#[test]
fn a_damaged_map_block_is_told_and_rebuilt() {
    let (mut store, used) = Store::used();
    let group = store.config.geometry.group_of(used[0].start);
    store.rot(|slot| store.config.geometry.map_block(group, slot));
    store.reopen();
    let free = store.all_free();
    assert!(matches!(
        look_everywhere(&store),
        Err(SpaceError::Damaged(_))
    ));
    let damaged = store.alloc.damaged_groups().unwrap();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].0, group);
    // The others serve; a free in the damaged one is kept.
    assert!(store.all_free() < free);
    look_everywhere(&store)
        .map(|r| store.alloc.give_back(r))
        .unwrap();
    let freed = Run { len: 10, ..used[0] };
    store.checkpoint(&[], &[freed]);
    // Its entry now says that the map block is lost, also after reopening.
    store.reopen();
    assert_eq!(store.alloc.damaged_groups().unwrap().len(), 1);
    let mut now = used_in(&store, &used, group);
    now[0].start += 10;
    now[0].len -= 10;
    let mut wrong = now.clone();
    wrong.push(now[0]);
    assert!(store.alloc.rebuild(group, wrong).is_err());
    store.alloc.rebuild(group, now).unwrap();
    assert!(store.alloc.damaged_groups().unwrap().is_empty());
    assert_eq!(store.all_free(), free + 10);
    store.checkpoint(&[], &[]);
    store.reopen();
    assert_eq!(store.all_free(), free + 10);
    look_everywhere(&store).unwrap();
    assert!(store.alloc.damaged_groups().unwrap().is_empty());
}

#[test]
fn unreadable_map_blocks_cost_only_their_groups() {
    let (mut store, _) = Store::used();
    store.reopen();
    store.always(OpKind::Read, FAIL);
    assert!(matches!(look_everywhere(&store), Err(SpaceError::Io(_))));
    assert_eq!(store.alloc.damaged_groups().unwrap().len(), 3);
    // The short last group was never written, so it needs no read.
    assert!(!look_everywhere(&store).unwrap().is_empty());
}

#[test]
fn a_read_that_fails_once_is_tried_again() {
    let (mut store, _) = Store::used();
    store.reopen();
    store.disk.inject_next(OpKind::Read, FAIL);
    look_everywhere(&store).unwrap();
    assert!(store.alloc.damaged_groups().unwrap().is_empty());
}

#[test]
fn a_map_block_that_frees_metadata_is_damaged() {
    let config = config(1);
    let g = config.geometry;
    let mut index = super::index(&config, MapRoot::fresh(&g));
    let mut header = index.header((0, 1), 0);
    let mut block = vec![0; 4096];
    header.generation = 9;
    header.count = g.group_blocks() as u32;
    let entry = IndexEntry {
        generation: 9,
        checksum: space::seal(&header, &mut block),
        free: g.group_blocks(),
        slot: 0,
        untouched: 0,
    };
    index.set_map(1, entry);
    let mut space = Space::new(&config, index, BTreeMap::new());
    let why = space.load(1, &block).unwrap_err();
    assert_eq!(why.detail, "metadata or log is marked free");
    assert!(space.is_damaged(1));
}

#[test]
fn a_damaged_index_damages_what_is_below() {
    let (mut store, used) = Store::used();
    let g = store.config.geometry;
    let free = store.all_free();
    for level in 1..=3 {
        store.rot(|slot| g.index_block(level, 0, slot));
    }
    store.reopen();
    assert_eq!(
        store.alloc.damaged_groups().unwrap().len() as u64,
        g.groups()
    );
    assert!(matches!(
        store.alloc.reserve(nodes(1)),
        Err(SpaceError::Full { .. })
    ));
    store.alloc.rebuild(1, used_in(&store, &used, 1)).unwrap();
    store.checkpoint(&[], &[]);
    store.reopen();
    assert_eq!(
        store.alloc.damaged_groups().unwrap().len() as u64,
        g.groups() - 1
    );
    for group in (0..g.groups()).filter(|g| *g != 1) {
        store
            .alloc
            .rebuild(group, used_in(&store, &used, group))
            .unwrap();
    }
    store.checkpoint(&[], &[]);
    store.reopen();
    assert!(store.alloc.damaged_groups().unwrap().is_empty());
    assert_eq!(store.all_free(), free);
    look_everywhere(&store).unwrap();
}

#[test]
fn extents_of_the_log_in_a_damaged_group_stay_theirs() {
    let (mut store, used) = Store::used();
    let g = store.config.geometry;
    let group = g.group_of(used[2].start);
    store.rot(|slot| store.config.geometry.map_block(group, slot));
    store.reopen();
    let free = store.all_free();
    let extent = Run {
        start: used[2].end(),
        len: 8,
    };
    store.alloc.mark_used(vec![extent]).unwrap();
    store
        .alloc
        .rebuild(group, used_in(&store, &used, group))
        .unwrap();
    assert_eq!(store.all_free(), free - 8);
    store.checkpoint(&[extent], &[]);
    assert_eq!(store.root.free, free - 8);
    store.reopen();
    assert_eq!(store.all_free(), free - 8);
}

#[test]
fn who_only_looks_is_told_of_damage_and_of_what_is_lost() {
    let (store, _) = Store::used();
    let g = store.config.geometry;
    let mut sb = Superblock {
        store_id: store.config.store_id,
        ..Superblock::default()
    };
    store.root.put(&mut sb);
    let device = store.disk.device();
    let look = || MapView::read(device.as_ref(), g, &sb).unwrap();
    let view = look();
    assert!(view.damaged().is_empty());
    assert!((0..g.groups()).all(|group| !MapView::is_lost(&view.entry(0, group))));
    assert!(MapView::is_lost(&LOST));
    store.rot(|slot| g.index_block(1, 0, slot));
    assert_eq!(look().damaged().len() as u64, g.groups());
}
