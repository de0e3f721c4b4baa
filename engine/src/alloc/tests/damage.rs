//! Damaged map and index blocks: told, contained, rebuilt.

use super::config;
use super::serving::{Store, extent, nodes};
use crate::alloc::{AllocConfig, SpaceError};
use crate::format::Run;

/// Three whole groups, something used in each; what is used.
fn store() -> (Store, Vec<Run>) {
    let mut store = Store::new(AllocConfig {
        map_memory: 0,
        ..config(3)
    });
    let mut used = Vec::new();
    for _ in 0..3 {
        used.extend(store.alloc.reserve(extent(30_000, 1)).unwrap());
    }
    store.checkpoint(&used, &[]);
    store.checkpoint(&[], &[Run::single(used[0].start)]);
    used[0].start += 1;
    used[0].len -= 1;
    (store, used)
}

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
    let (mut store, used) = store();
    let group = store.config.geometry.group_of(used[0].start);
    for slot in 0..2 {
        store.disk.rot(store.config.geometry.map_block(group, slot));
    }
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
fn an_unreadable_map_block_costs_only_its_group() {
    let (mut store, used) = store();
    let group = store.config.geometry.group_of(used[1].start);
    let g = store.config.geometry;
    store
        .disk
        .0
        .unreadable
        .lock()
        .extend([g.map_block(group, 0), g.map_block(group, 1)]);
    store.reopen();
    assert!(matches!(look_everywhere(&store), Err(SpaceError::Io(_))));
    look_everywhere(&store).unwrap();
}

#[test]
fn a_damaged_index_damages_what_is_below() {
    let (mut store, used) = store();
    let g = store.config.geometry;
    let free = store.all_free();
    for level in 1..=3 {
        for slot in 0..2 {
            store.disk.rot(g.index_block(level, 0, slot));
        }
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
    let (mut store, used) = store();
    let g = store.config.geometry;
    let group = g.group_of(used[2].start);
    for slot in 0..2 {
        store.disk.rot(g.map_block(group, slot));
    }
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
