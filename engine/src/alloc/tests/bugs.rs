//! Our own bugs, and what only damage that verifies can cause: each is caught where it
//! happens, and does not become a block that two own.

use std::collections::{BTreeMap, BTreeSet};

use super::{config, index};
use crate::alloc::change::Sorted;
use crate::alloc::pick::Answer;
use crate::alloc::space::{Local, Space, fixed};
use crate::alloc::{Changes, MapRoot, Request, Shape, Urgency};
use crate::error::Damage;
use crate::format::space::{self, HEADER, IndexEntry, SpaceHeader};
use crate::format::{Generation, Run};

fn space() -> Space {
    let config = config(1);
    let root = MapRoot::fresh(&config.geometry);
    Space::new(&config, index(&config, root), BTreeMap::new())
}

fn out(space: &mut Space, blocks: u32) -> Run {
    let request = Request {
        blocks,
        shape: Shape::Extent { max_pieces: 1 },
        hint: 0,
        urgency: Urgency::Normal,
    };
    match space.reserve(&request, &BTreeSet::new()) {
        Answer::Granted(runs) => runs[0],
        other => panic!("{other:?}"),
    }
}

fn freeze(space: &mut Space, count: u32, used: &[Run], freed: &[Run]) {
    try_freeze(space, count, used, freed).unwrap();
}

fn try_freeze(space: &mut Space, count: u32, used: &[Run], freed: &[Run]) -> Result<(), Damage> {
    let mut generation = Generation::first(1);
    for _ in 0..count {
        generation = generation.next();
    }
    let changes = Changes {
        used: used.to_vec(),
        freed: freed.to_vec(),
    };
    let sorted = Sorted::new(&space.geometry, changes)?;
    space.begin(generation, sorted.freed)?;
    for (group, change) in sorted.groups {
        space.apply(group, &change, generation, &mut vec![0; 4096])?;
    }
    Ok(())
}

#[test]
#[should_panic(expected = "not handed out")]
fn giving_back_twice() {
    let mut s = space();
    let run = out(&mut s, 10);
    s.undo(&[run]);
    s.undo(&[run]);
}

#[test]
#[should_panic(expected = "not handed out")]
fn giving_back_more_than_was_had() {
    let mut s = space();
    let run = out(&mut s, 10);
    s.undo(&[Run { len: 11, ..run }]);
}

#[test]
#[should_panic(expected = "not handed out")]
fn giving_back_what_is_being_discarded() {
    let mut s = space();
    let (run, _) = (out(&mut s, 10), out(&mut s, 10));
    s.give_back(run);
    s.discarding.insert(run);
    s.give_back(run);
}

#[test]
#[should_panic(expected = "a generation freed it")]
fn giving_back_what_a_generation_freed() {
    let mut s = space();
    let (run, _) = (out(&mut s, 10), out(&mut s, 10));
    freeze(&mut s, 0, &[run], &[run]);
    s.give_back(run);
}

#[test]
#[should_panic(expected = "not handed out")]
fn using_what_was_not_handed_out() {
    let mut s = space();
    let run = out(&mut s, 10);
    s.undo(&[run]);
    freeze(&mut s, 0, &[run], &[]);
}

#[test]
fn what_the_trees_free_and_did_not_use_is_damage() {
    let free = |used: &[Run], freed: &[Run]| {
        let mut s = space();
        let run = out(&mut s, 10);
        assert!(used.iter().chain(freed).all(|r| r.start < run.end()));
        try_freeze(&mut s, 0, used, freed).map_err(|damage| (damage.what, damage.detail))
    };
    let run = out(&mut space(), 10);
    let refused = |done: Result<(), (&str, String)>, why: &str| {
        let (what, detail) = done.unwrap_err();
        assert!(what == "space" && detail.contains(why), "{detail}");
    };
    refused(free(&[], &[run]), "freed but not used");
    let half = Run { len: 5, ..run };
    refused(free(&[run], &[run, half]), "freed twice");
    refused(free(&[], &[Run::single(1)]), "metadata or log");
    let end = space().geometry.capacity;
    let beyond = |start, len| {
        let mut s = space();
        try_freeze(&mut s, 0, &[], &[Run { start, len }])
            .map_err(|damage| (damage.what, damage.detail))
    };
    // Of a group that there is, and of one that there is not.
    refused(beyond(end - 1, 2), "behind the end");
    refused(beyond(end * 40, 1), "behind the end");
    free(&[run], &[half]).unwrap();
}

#[test]
#[should_panic(expected = "is released")]
fn freezing_before_the_release() {
    let mut s = space();
    freeze(&mut s, 0, &[], &[]);
    freeze(&mut s, 1, &[], &[]);
}

#[test]
#[should_panic(expected = "kept but not freed")]
fn keeping_what_was_not_freed() {
    let mut s = space();
    let run = out(&mut s, 10);
    freeze(&mut s, 0, &[run], &[]);
    s.release(Generation::first(1), vec![run]);
}

#[test]
fn what_the_log_names_is_marked_but_for_what_is_in_use() {
    let mut s = space();
    let run = |start, len| Run { start, len };
    let (avail, used) = (s.avail, [run(1000, 2), run(1005, 3)]);
    for r in used {
        let l = s.local(r);
        s.open(0).map.set(l.start, l.len);
        s.hand_out(l);
    }
    s.mark(run(1000, 10));
    assert_eq!(s.avail, avail - 10);
    let group = &s.loaded[&0];
    assert!(group.alloc.all_set(1000, 10));
    assert!(group.alloc.all_clear(999, 1) && group.alloc.all_clear(1010, 1));
    // Once more changes nothing.
    s.mark(run(1000, 10));
    assert_eq!(s.avail, avail - 10);
}

#[test]
fn the_group_that_was_not_used_longest_leaves_memory() {
    let mut s = space();
    for group in [0, 1, 0] {
        s.open(group);
    }
    assert_eq!(s.evict(1, |_| false), 1);
    assert!(s.loaded.contains_key(&0));
    s.open(1);
    assert_eq!(s.evict(1, |_| false), 1);
    assert!(s.loaded.contains_key(&1));
    // One in which nothing is free goes first, however lately it was used.
    s.open(0);
    let full: Vec<_> = s.open(1).alloc.zero_runs(0, 32_256).collect();
    for (start, len) in full {
        let group = 1;
        s.lend(s.global(Local { group, start, len }));
    }
    assert_eq!(s.evict(1, |_| false), 1);
    assert!(s.loaded.contains_key(&0));
}

#[test]
fn a_map_block_and_an_index_block_are_told_apart_by_their_first_word() {
    let s = space();
    let magic = |level| s.index.header((level, 0), 0).magic;
    assert_eq!(magic(0), crate::format::space::MAP_MAGIC);
    assert_eq!(magic(1), crate::format::space::INDEX_MAGIC);
}

/// A block with this header, sealed; the index then has its checksum and `free`.
fn sealed(s: &mut Space, at: (u32, u64), count: u32, free: u64, body: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 4096];
    block[HEADER..HEADER + body.len()].copy_from_slice(body);
    let header = SpaceHeader {
        generation: 5,
        count,
        ..s.index.header(at, 0)
    };
    let checksum = space::seal(&header, &mut block);
    s.index.levels[at.0 as usize][at.1 as usize] = IndexEntry {
        generation: 5,
        checksum,
        free,
        slot: 0,
        untouched: 0,
    };
    block
}

#[test]
fn a_map_block_that_verifies_must_count_as_its_header_and_its_entry_do() {
    let mut s = space();
    let map = fixed(&s.geometry, 0);
    let zeros = map.zeros();
    let mut body = vec![0; 4096 - HEADER];
    map.write_to(&mut body);
    for (count, free, good) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
        let free = u64::from(zeros) - free;
        let block = sealed(&mut s, (0, 0), zeros - count, free, &body);
        match s.index.map_bits(0, &block) {
            Ok(bits) => assert!(good && bits.zeros() == zeros),
            Err(damage) => assert!(!good && damage.detail.contains("count"), "{damage}"),
        }
    }
}

#[test]
fn an_index_block_that_verifies_must_have_entries_that_can_be() {
    let good = |s: &Space, n: usize| IndexEntry {
        generation: 5,
        checksum: 7,
        free: s.index.levels[0][n].free - 1,
        slot: 1,
        untouched: 0,
    };
    let read = |set: &dyn Fn(&mut IndexEntry)| {
        let mut s = space();
        let mut entries = [good(&s, 0), good(&s, 1)];
        set(&mut entries[0]);
        let free = entries.iter().map(|e| e.free).sum();
        let mut body = vec![0; 2 * IndexEntry::SIZE];
        for (e, bytes) in entries.iter().zip(body.chunks_exact_mut(IndexEntry::SIZE)) {
            e.encode(bytes);
        }
        let block = sealed(&mut s, (1, 0), 2, free, &body);
        s.index.read((1, 0), &block).map_err(|d| d.detail)
    };
    read(&|_| ()).unwrap();
    for set in [&|e: &mut IndexEntry| e.slot = 2, &|e: &mut IndexEntry| {
        e.untouched = 2
    }] as [&dyn Fn(&mut IndexEntry); 2]
    {
        assert!(read(set).unwrap_err().contains("slot or flag"));
    }
    assert!(
        read(&|e| e.untouched = 1)
            .unwrap_err()
            .contains("untouched")
    );
    assert!(read(&|e| e.free += 2).unwrap_err().contains("more free"));
}
