//! The thread: serving under load, under slow I/O, when full, at the end.

use std::sync::Arc;
use std::time::Duration;

use gaur_iodriver::sync::{latch, thread};
use gaur_iodriver::{FaultKind, Latency, LatencyProfile, OpKind};

use super::config;
use super::disk::{FAIL, Store, disk, eventually, extent, nodes};
use crate::alloc::{AllocConfig, Allocator, Changes, MapRoot, Request, SpaceError, Urgency};
use crate::format::{Generation, Run};

fn take(alloc: &Allocator) -> Run {
    let mut run = None;
    eventually("a run in the channel", || {
        run = alloc.try_take();
        run.is_some()
    });
    run.unwrap()
}

#[test]
fn a_fresh_store_of_8_tib_opens_without_a_read() {
    let geometry = crate::format::Geometry::new(4096, 8 << 40, 1 << 18);
    let store = Store::new(AllocConfig::new(geometry, 5));
    assert_eq!(store.disk.stats().reads, 0);
    assert_eq!(store.all_free(), store.root.free);
    let run = take(&store.alloc);
    assert_eq!(run.len, store.config.run_blocks);
    assert_eq!(store.disk.stats().reads, 0);
}

#[test]
fn runs_are_taken_and_given_back_under_a_latch() {
    let store = Store::new(config(1));
    store.alloc.warm_up();
    eventually("a full channel", || store.alloc.stats().channel > 0);
    latch::acquired();
    let run = store.alloc.try_take().unwrap();
    store.alloc.give_back(vec![run]);
    latch::released();
    assert_eq!(store.all_free(), store.root.free);
}

#[test]
fn what_was_frozen_is_there_after_a_crash_and_nothing_else() {
    let mut store = Store::new(config(2));
    let a = store.alloc.reserve(nodes(100)).unwrap();
    let b = store.alloc.reserve(extent(5000, 1)).unwrap();
    let c = store.alloc.reserve(nodes(50)).unwrap();
    store.checkpoint(&[a.clone(), b.clone()].concat(), &[]);
    let free = store.root.free;
    store.reopen();
    assert_eq!(store.all_free(), free);
    assert!(store.alloc.counts().index_reads <= 3);
    store.checkpoint(&[], &b);
    assert_eq!(store.root.free, free + 5000);
    // The log names an extent: it is not handed out, but given back later.
    store.reopen();
    store.alloc.mark_used(vec![c[0], c[0], a[0]]).unwrap();
    assert_eq!(store.all_free(), free + 5000 - u64::from(c[0].len));
    let all = store.alloc.reserve(nodes(store.all_free() as u32)).unwrap();
    for run in &all {
        for &marked in a.iter().chain(&c[..1]) {
            assert!(run.end() <= marked.start || run.start >= marked.end());
        }
    }
    store.alloc.give_back(vec![c[0]]);
    store.alloc.reserve(nodes(c[0].len)).unwrap();
    assert!(store.alloc.reserve(nodes(1)).is_err());
}

#[test]
fn says_full_and_after_which_generation() {
    let mut store = Store::new(AllocConfig {
        reserve_blocks: 100,
        ..config(0)
    });
    let all = store.all_free();
    take(&store.alloc);
    let used = store.alloc.reserve(nodes(all as u32 - 100 - 16)).unwrap();
    let (needed, free) = (1, 0);
    match store.alloc.reserve(nodes(1)).unwrap_err() {
        SpaceError::Full { needed: n, free: f } => assert_eq!((n, f), (needed, free)),
        e => panic!("{e}"),
    }
    assert!(store.alloc.try_take().is_none());
    let urgent = Request {
        urgency: Urgency::Reserve,
        ..nodes(100)
    };
    let last = store.alloc.reserve(urgent).unwrap();
    store.alloc.give_back(last);
    store.checkpoint(&used, &[]);
    let half = &used[..1];
    store.freeze(&[], half);
    match store.alloc.reserve(nodes(1)).unwrap_err() {
        SpaceError::AfterGeneration { generation, .. } => assert_eq!(generation, store.generation),
        e => panic!("{e}"),
    }
    store
        .alloc
        .release(store.generation, vec![Run { len: 1, ..half[0] }]);
    store.alloc.reserve(nodes(half[0].len - 1)).unwrap();
    assert!(store.alloc.reserve(nodes(1)).is_err());
    store.alloc.give_back(vec![Run { len: 1, ..half[0] }]);
    store.alloc.reserve(nodes(1)).unwrap();
}

#[test]
fn serves_from_the_channel_while_a_cold_map_block_is_read() {
    let mut store = Store::new(config(4));
    // Some of every group is used, so that every map block is written.
    let mut used = store.alloc.reserve(extent(30_000, 1)).unwrap();
    for _ in 0..3 {
        used.extend(store.alloc.reserve(extent(30_000, 1)).unwrap());
    }
    store.checkpoint(&used, &[]);
    store.reopen();
    let slow = Latency::fixed(Duration::from_millis(5));
    store.disk.set_latency(LatencyProfile::all(slow));
    store.alloc.warm_up();
    eventually("a full channel", || store.alloc.stats().channel >= 512);
    store.always(OpKind::Read, FaultKind::Stall);
    let store = Arc::new(store);
    let other = Arc::clone(&store);
    let want = store.all_free() as u32 - 2000;
    let waiter = thread::spawn("waiter", move || other.alloc.reserve(nodes(want))).unwrap();
    eventually("a request waits", || store.alloc.stats().waiting == 1);
    for _ in 0..30 {
        store.alloc.try_take().expect("the channel is not dry");
    }
    assert!(store.alloc.counts().map_waits > 0);
    store.calm();
    let got = waiter.join().unwrap().unwrap();
    assert_eq!(got.iter().map(|r| r.len).sum::<u32>(), want);
}

#[test]
fn memory_stays_under_its_cap() {
    let mut store = Store::new(AllocConfig {
        map_memory: 0,
        ..config(12)
    });
    let mut used = Vec::new();
    for _ in 0..12 {
        used.extend(store.alloc.reserve(extent(31_000, 1)).unwrap());
    }
    store.checkpoint(&used, &[]);
    store.alloc.settle().unwrap();
    eventually("groups are dropped", || {
        store.alloc.settle().unwrap();
        store.alloc.stats().loaded_groups <= 4
    });
    let one_each: Vec<_> = used.iter().map(|r| Run::single(r.start)).collect();
    let free = store.all_free();
    store.checkpoint(&[], &one_each);
    assert_eq!(store.all_free(), free + 12);
    assert!(store.alloc.counts().evictions > 12);
}

#[test]
fn spread_extents_go_round_the_groups_and_read_them() {
    let mut store = Store::new(AllocConfig {
        map_memory: 0,
        spread: true,
        ..config(12)
    });
    let groups = store.config.geometry.groups();
    let round = |store: &Store| -> Vec<Run> {
        let runs = (0..groups).flat_map(|_| store.alloc.reserve(extent(1, 1)).unwrap());
        let runs: Vec<_> = runs.collect();
        let mut met: Vec<_> = runs
            .iter()
            .map(|r| store.config.geometry.group_of(r.start))
            .collect();
        met.sort_unstable();
        assert_eq!(met, (0..groups).collect::<Vec<_>>());
        runs
    };
    let first = round(&store);
    assert_eq!(
        store.alloc.counts().map_reads,
        0,
        "untouched groups need no read"
    );
    store.checkpoint(&first, &[]);
    eventually("groups are dropped", || {
        store.alloc.settle().unwrap();
        store.alloc.stats().loaded_groups <= 4
    });
    let second = round(&store);
    assert!(store.alloc.counts().map_reads >= groups - 4);
    store.checkpoint(&second, &first);
    // What cannot be had in one piece is cut as ever.
    let pieces = store.alloc.reserve(extent(40_000, 4)).unwrap();
    assert_eq!(pieces.iter().map(|r| r.len).sum::<u32>(), 40_000);
    let stats = store.alloc.stats();
    assert!(stats.map_bytes_most >= stats.map_bytes);
    assert_eq!(stats.map_bytes, stats.loaded_groups * 8064);
}

#[test]
fn nothing_is_allocatable_before_its_discard() {
    let mut store = Store::new(AllocConfig {
        discard: true,
        ..config(0)
    });
    store.always(OpKind::Discard, FaultKind::Stall);
    let all = store.all_free() as u32;
    let used = store.alloc.reserve(nodes(all)).unwrap();
    store.checkpoint(&used, &[]);
    store.checkpoint(&[], &used[..1]);
    eventually("a discard", || store.disk.stats().discards > 0);
    assert_eq!(store.all_free(), 0);
    assert_eq!(store.alloc.stats().discarding, u64::from(used[0].len));
    let store = Arc::new(store);
    let other = Arc::clone(&store);
    let waiter = thread::spawn("waiter", move || other.alloc.reserve(nodes(1))).unwrap();
    eventually("a request waits", || store.alloc.stats().waiting == 1);
    store.calm();
    store.always(OpKind::Discard, FAIL);
    let got = waiter.join().unwrap().unwrap();
    // A failed discard is counted and harmless.
    store.alloc.give_back(got);
    store.alloc.settle().unwrap();
    eventually("a failure", || store.alloc.counts().discard_failures > 0);
    let got = store.alloc.reserve(nodes(used[0].len)).unwrap();
    assert_eq!(got, used[..1]);
    // What was never written needs none.
    let discards = store.alloc.counts().discard_requests;
    store.alloc.give_back_unused(got);
    assert_eq!(store.all_free(), u64::from(used[0].len));
    assert_eq!(store.alloc.counts().discard_requests, discards);
}

#[test]
fn nodes_and_extents_lie_apart() {
    let store = Store::new(config(3));
    let mut nodes_in = std::collections::BTreeSet::new();
    let mut extents_in = std::collections::BTreeSet::new();
    for _ in 0..200 {
        nodes_in.insert(store.config.geometry.group_of(take(&store.alloc).start));
        let run = store.alloc.reserve(extent(64, 1)).unwrap()[0];
        extents_in.insert(store.config.geometry.group_of(run.start));
    }
    assert!(nodes_in.is_disjoint(&extents_in));
    let hint = take(&store.alloc).start + 1000;
    let near = store.alloc.reserve(Request { hint, ..nodes(1) }).unwrap();
    assert_eq!(near[0].start, hint);
}

#[test]
fn an_extent_larger_than_a_group_comes_in_few_pieces() {
    let store = Store::new(config(4));
    let runs = store.alloc.reserve(extent(70_000, 4)).unwrap();
    assert_eq!(runs.len(), 3);
    assert!(runs.is_sorted_by_key(|r| std::cmp::Reverse(r.len)));
    assert!(matches!(
        store.alloc.reserve(extent(33_000, 1)),
        Err(SpaceError::Full { .. })
    ));
}

#[test]
fn many_threads_get_disjoint_blocks() {
    let store = Arc::new(Store::new(config(1)));
    let workers: Vec<_> = (0..4)
        .map(|i| {
            let store = Arc::clone(&store);
            thread::spawn("taker", move || {
                let mut mine = Vec::new();
                for round in 0..500 {
                    match store.alloc.try_take() {
                        Some(run) => mine.push(run),
                        None => mine.extend(store.alloc.reserve(nodes(3)).unwrap()),
                    }
                    if round % 3 == i % 3 {
                        store.alloc.give_back(mine.pop().into_iter().collect());
                    }
                }
                mine
            })
            .unwrap()
        })
        .collect();
    let mut all: Vec<_> = workers
        .into_iter()
        .flat_map(|w| w.join().unwrap())
        .collect();
    all.sort();
    assert!(all.windows(2).all(|w| w[0].end() <= w[1].start));
    let held: u64 = all.iter().map(|r| u64::from(r.len)).sum();
    assert_eq!(store.all_free(), store.root.free - held);
}

#[test]
fn shutdown_answers_who_waits() {
    let mut store = Store::new(config(1));
    let used = store.alloc.reserve(nodes(1000)).unwrap();
    store.checkpoint(&used, &[]);
    store.reopen();
    store.always(OpKind::Read, FaultKind::Stall);
    let store = Arc::new(store);
    let other = Arc::clone(&store);
    let want = store.all_free() as u32;
    let waiter = thread::spawn("waiter", move || other.alloc.reserve(nodes(want))).unwrap();
    eventually("a request waits", || store.alloc.stats().waiting == 1);
    let other = Arc::clone(&store);
    let closer = thread::spawn("closer", move || other.alloc.shutdown()).unwrap();
    assert!(matches!(waiter.join().unwrap(), Err(SpaceError::Stopped)));
    store.calm();
    closer.join().unwrap();
    assert!(matches!(
        store.alloc.reserve(nodes(1)),
        Err(SpaceError::Stopped)
    ));
    assert!(store.alloc.settle().is_err());
    store.alloc.give_back(used);
}

#[test]
fn a_failed_write_fails_the_freeze() {
    let store = Store::new(config(0));
    let used = store.alloc.reserve(nodes(10)).unwrap();
    store.always(OpKind::Write, FAIL);
    let changes = Changes {
        used,
        freed: Vec::new(),
    };
    let answer = store.alloc.freeze(Generation::first(2), changes).wait();
    assert!(matches!(answer, Err(crate::Error::Io(_))));
}

#[test]
fn bad_options_are_refused() {
    let config = AllocConfig {
        low_watermark: 64,
        ..config(0)
    };
    let disk = disk(&config, 1);
    let root = MapRoot::fresh(&config.geometry);
    assert!(Allocator::start(&disk.device(), root, config).is_err());
}
