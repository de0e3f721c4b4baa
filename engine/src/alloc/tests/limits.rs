//! Limits and signals of the allocator to the block: who is woken when nothing else
//! wakes the thread, what is left to whom, what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gaur_iodriver::sync::{channel, thread};
use gaur_iodriver::{FaultKind, OpKind};

use super::config;
use super::disk::{Store, eventually, extent, nodes};
use super::grow::blocks;
use crate::alloc::handle::LAZY;
use crate::alloc::space::Space;
use crate::alloc::{
    AllocConfig, Allocator, Changes, DiscardRate, MapRoot, Request, SpaceError, Urgency,
};
use crate::error::Error;
use crate::format::Run;

/// Time for the thread to fall asleep, or to do what it should not.
fn a_while() {
    thread::sleep(Duration::from_millis(50));
}

/// A store whose thread sleeps, with a channel of 8 runs of one block that is filled
/// again when 4 are left.
fn asleep() -> Store {
    let store = Store::new(AllocConfig {
        run_blocks: 1,
        channel_runs: 8,
        low_watermark: 4,
        ..config(1)
    });
    store.alloc.settle().unwrap();
    a_while();
    store
}

#[test]
fn the_channel_is_filled_when_asked_and_again_before_it_is_dry() {
    let store = asleep();
    assert_eq!(store.alloc.stats().channel, 0);
    store.alloc.warm_up();
    eventually("a full channel", || store.alloc.stats().channel == 8);
    for _ in 0..3 {
        a_while();
        for left in (4..8).rev() {
            assert!(store.alloc.try_take().is_some());
            if left > 4 {
                assert_eq!(store.alloc.stats().channel, left);
            }
        }
        eventually("filled again", || store.alloc.stats().channel == 8);
    }
    assert_eq!(store.alloc.counts().channel_dry, 0);
}

#[test]
fn what_is_given_back_wakes_the_thread_when_it_is_much() {
    let store = asleep();
    let free = store.all_free();
    let mut runs = store.alloc.reserve(nodes(LAZY as u32)).unwrap();
    runs = runs
        .iter()
        .flat_map(|r| (r.start..r.end()).map(Run::single))
        .collect();
    store.alloc.settle().unwrap();
    a_while();
    for run in runs.drain(1..) {
        store.alloc.give_back(vec![run]);
    }
    a_while();
    let taken_back = store.alloc.free_blocks() + LAZY as u64 - free;
    assert_eq!(taken_back, 0, "a few are not worth it");
    store.alloc.give_back(runs);
    eventually("taken back", || store.alloc.free_blocks() == free);
}

#[test]
fn a_floor_is_left_to_checkpoints() {
    let store = Store::new(AllocConfig {
        reserve_blocks: 100,
        ..config(0)
    });
    let free = store.all_free() as u32;
    assert_eq!(store.alloc.reserve_blocks(), 100);
    assert_eq!(store.alloc.kept_back(), 100);
    store.alloc.set_floor(50);
    assert_eq!(store.alloc.kept_back(), 150);
    let of = |blocks, urgency| Request {
        urgency,
        ..nodes(blocks)
    };
    for (urgency, left) in [
        (Urgency::Normal, 150),
        (Urgency::Freeing, 75),
        (Urgency::Reserve, 0),
    ] {
        let more = store.alloc.reserve(of(free - left + 1, urgency));
        match more {
            Err(SpaceError::Full { needed, free: f }) => {
                assert_eq!(
                    (needed, f),
                    (u64::from(free - left) + 1, u64::from(free - left))
                );
            }
            other => panic!("{other:?}"),
        }
        let got = store.alloc.reserve(of(free - left, urgency)).unwrap();
        store.alloc.give_back_unused(got);
    }
}

#[test]
fn each_option_is_checked_by_itself() {
    let refused = |set: &dyn Fn(&mut AllocConfig)| {
        let mut c = config(0);
        set(&mut c);
        let disk = super::disk::disk(&config(0), 1);
        let root = MapRoot::fresh(&c.geometry);
        match Allocator::start(&disk.device(), root, c) {
            Ok(_) => None,
            Err(Error::BadOption { name, .. }) => Some(name),
            Err(e) => panic!("{e}"),
        }
    };
    let each = Some("run_blocks, channel_runs, depth");
    assert_eq!(refused(&|c| c.run_blocks = 0), each);
    assert_eq!(refused(&|c| c.channel_runs = 0), each);
    assert_eq!(refused(&|c| c.depth = 0), each);
    let most = |low, runs| {
        refused(&move |c| {
            c.low_watermark = low;
            c.channel_runs = runs;
        })
    };
    assert_eq!(most(3, 3), Some("low_watermark"));
    assert_eq!(most(3, 4), None);
}

#[test]
fn a_group_is_not_rebuilt_with_what_is_not_its_data() {
    let mut store = Store::new(config(2));
    let used = store.alloc.reserve(extent(100, 1)).unwrap()[0];
    store.checkpoint(&[used], &[]);
    let g = store.config.geometry;
    let damaged = |group, runs: Vec<Run>| {
        let got = store.alloc.rebuild(group, runs);
        assert!(matches!(got, Err(Error::Damaged(_))), "{got:?}");
    };
    let own = g.group_of(used.start);
    let other = 1 - own;
    damaged(other, vec![used]);
    damaged(other, vec![Run::single(g.group_start(other))]);
    damaged(own, vec![used, Run::single(used.start)]);
    let beyond = store.alloc.rebuild(g.groups(), Vec::new());
    assert!(matches!(beyond, Err(Error::BadOption { .. })), "{beyond:?}");
    store.alloc.rebuild(own, vec![used]).unwrap();
}

#[test]
fn what_is_free_soon_is_free_pending_or_being_discarded() {
    let rate = DiscardRate {
        bytes_per_second: 1,
        per_second: 0,
    };
    let mut store = Store::new(AllocConfig {
        discard: true,
        discard_rate: rate,
        ..config(1)
    });
    let free = store.all_free();
    assert_eq!(store.alloc.free_soon().unwrap(), free);
    let used = store.alloc.reserve(extent(1000, 1)).unwrap()[0];
    store.checkpoint(&[used], &[]);
    assert_eq!(store.alloc.free_soon().unwrap(), free - 1000);
    let (first, second) = (
        Run { len: 300, ..used },
        Run {
            start: used.start + 300,
            len: 500,
        },
    );
    store.checkpoint(&[], &[first]);
    store.freeze(&[], &[second]);
    store.alloc.settle().unwrap();
    let stats = store.alloc.stats();
    assert!(stats.discarding > 200 && stats.pending == 500, "{stats:?}");
    assert_eq!(store.alloc.free_soon().unwrap(), free - 200);
}

/// Nobody sends anything meanwhile: the thread must come back by itself.
#[test]
fn the_next_discard_comes_at_its_time_by_itself() {
    let rate = DiscardRate {
        bytes_per_second: 0,
        per_second: 200,
    };
    let store = Store::new(AllocConfig {
        discard: true,
        discard_rate: rate,
        ..config(1)
    });
    let run = store.alloc.reserve(extent(20, 1)).unwrap()[0];
    let every_other = (run.start..run.end()).step_by(2).map(Run::single);
    store.alloc.give_back(every_other.collect());
    store.alloc.settle().unwrap();
    eventually("all discarded", || {
        let (stats, counts) = (store.alloc.stats(), store.alloc.counts());
        stats.discarding == 0 && counts.discard_blocks == 10
    });
}

#[test]
fn low_space_is_told_below_the_mark_and_again_after_half_as_much_more() {
    const LOW: u64 = 1001;
    let store = Store::new(AllocConfig {
        run_blocks: 1,
        channel_runs: 1,
        low_watermark: 0,
        ..config(1)
    });
    store.alloc.warm_up();
    // What is in the channel does not count.
    eventually("a full channel", || store.alloc.stats().channel == 1);
    let free = store.all_free() - 1;
    let (tell, told) = channel::bounded(4);
    let rest = store.alloc.reserve(nodes((free - LOW) as u32)).unwrap();
    store.alloc.tell_when_low(LOW, &tell);
    let is_told = |what: &str| {
        store.alloc.settle().unwrap();
        a_while();
        assert!(told.try_recv().is_ok(), "not told: {what}");
    };
    let is_not_told = |what: &str| {
        store.alloc.settle().unwrap();
        a_while();
        assert!(told.try_recv().is_err(), "told: {what}");
    };
    is_not_told("as many as the mark");
    let one = store.alloc.reserve(nodes(1)).unwrap();
    is_told("one less");
    // Half as much more less one: not yet told again.
    let piece = Run {
        len: 499,
        ..rest[0]
    };
    store.alloc.give_back_unused(vec![piece]);
    store.alloc.settle().unwrap();
    let got = store.alloc.reserve(nodes(499)).unwrap();
    is_not_told("it was not half as much more");
    store.alloc.give_back_unused(got);
    store.alloc.give_back_unused(one);
    store.alloc.give_back_unused(vec![Run::single(piece.end())]);
    store.alloc.settle().unwrap();
    store.alloc.reserve(nodes(501)).unwrap();
    is_told("again");
}

#[test]
fn only_a_short_last_group_is_lengthened() {
    let c = AllocConfig::new(blocks(40_000), 77);
    let root = MapRoot::fresh(&c.geometry);
    let space = Space::new(&c, super::index(&c, root), BTreeMap::new());
    let to = |g| space.lengthened(&g);
    assert_eq!(to(blocks(40_000)), None);
    assert_eq!(to(blocks(40_001)), Some(1));
    assert_eq!(to(blocks(400_000)), Some(1));
    let c = AllocConfig::new(blocks(2 * 32_256), 77);
    let root = MapRoot::fresh(&c.geometry);
    let space = Space::new(&c, super::index(&c, root), BTreeMap::new());
    assert_eq!(space.lengthened(&blocks(3 * 32_256)), None);
}

#[test]
fn a_ticket_of_an_allocator_that_has_ended_says_so() {
    let store = asleep();
    let ticket = store.alloc.trim(0, 0, DiscardRate::UNLIMITED, true);
    ticket.wait().unwrap();
    store.alloc.shutdown();
    let late = store.alloc.trim(0, 0, DiscardRate::UNLIMITED, true);
    assert!(matches!(late.wait(), Err(Error::Stopped(_))));
}

#[test]
fn who_drops_an_allocator_waits_for_what_is_on_its_way() {
    let mut store = Store::new(config(1));
    let used = store.alloc.reserve(nodes(5)).unwrap();
    store.always(OpKind::Write, FaultKind::Stall);
    let before = store.disk.stats();
    store.generation = store.generation.next();
    let changes = Changes {
        used,
        freed: Vec::new(),
    };
    let _ticket = store.alloc.freeze(store.generation, changes);
    let disk = store.disk.clone();
    eventually("a write", || disk.stats().writes > before.writes);
    assert_eq!(disk.stats().events, before.events);
    // The queue carries it out when the thread lets go of it.
    drop(store);
    assert!(disk.stats().events > before.events);
}

#[test]
fn a_thread_that_panicked_says_so() {
    let store = Store::new(config(1));
    let block = store.alloc.reserve(nodes(1)).unwrap();
    assert_eq!(store.alloc.fallen(), None);
    // Given back twice: our own bug.
    store.alloc.give_back(block.clone());
    store.alloc.give_back(block);
    let _ = store.alloc.settle();
    eventually("fallen", || store.alloc.fallen().is_some());
    assert!(store.alloc.fallen().unwrap().contains("panicked"));
    let refused = store.alloc.reserve(nodes(1));
    assert!(matches!(refused, Err(SpaceError::Stopped)));
}

/// Groups of each of which a block is in use, so that each must be read; with nothing
/// in memory.
fn cold(groups: u64, set: impl FnOnce(&mut AllocConfig)) -> Store {
    let mut c = AllocConfig {
        spread: true,
        ..config(groups)
    };
    set(&mut c);
    let mut store = Store::new(c);
    let used: Vec<Run> = (0..groups)
        .flat_map(|_| store.alloc.reserve(extent(30_000, 1)).unwrap())
        .collect();
    let in_groups: BTreeSet<u64> = used
        .iter()
        .map(|r| store.config.geometry.group_of(r.start))
        .collect();
    assert_eq!(in_groups.len() as u64, groups);
    store.checkpoint(&used, &[]);
    store.reopen();
    store
}

#[test]
fn more_groups_are_read_than_go_at_once() {
    let store = cold(6, |c| c.depth = 2);
    let all = store.all_free();
    let got = store.alloc.reserve(nodes(all as u32)).unwrap();
    let count: u64 = got.iter().map(|r| u64::from(r.len)).sum();
    assert_eq!(count, all);
    assert_eq!(store.alloc.counts().map_reads, 6);
}

#[test]
fn as_many_groups_stay_in_memory_as_it_may_take() {
    let bitmaps = 2 * 32_256 / 8;
    for (memory, kept) in [(6, 6), (0, 4)] {
        let store = cold(9, |c| c.map_memory = memory * bitmaps);
        for group in 0..9 {
            let look = store.alloc.trim(group, 0, DiscardRate::UNLIMITED, true);
            assert!(look.wait().unwrap().free > 0);
        }
        store.alloc.settle().unwrap();
        assert_eq!(store.alloc.counts().map_reads, 9);
        let loaded = store.alloc.stats().loaded_groups;
        assert!((kept..kept + 2).contains(&loaded), "{loaded}");
    }
}
