//! Discards: whole units, at a rate, a piece at a time; given up when space is short;
//! and trims beside writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gaur_iodriver::sync::{rng, thread};
use gaur_iodriver::{
    DiscardFill, FaultKind, IoBuf, IoErrorKind, Latency, LatencyProfile, OpKind, SimDisk,
    SimOptions,
};
use rand::RngExt;

use super::config;
use super::disk::{Store, eventually, extent, nodes};
use crate::alloc::discard::MAX_WAITING;
use crate::alloc::{AllocConfig, DiscardRate, Request, Urgency};
use crate::error::Error;
use crate::format::Run;

const BLOCK: u64 = 4096;

/// So slow that after the first nothing more is sent.
const SLOW: DiscardRate = DiscardRate {
    bytes_per_second: 1,
    per_second: 0,
};

fn on(rate: DiscardRate, groups: u64) -> AllocConfig {
    AllocConfig {
        discard: true,
        discard_rate: rate,
        ..config(groups)
    }
}

fn options(config: &AllocConfig) -> SimOptions {
    SimOptions {
        capacity: config.geometry.byte(config.geometry.capacity),
        discard_fill: DiscardFill::Garbage,
        ..SimOptions::default()
    }
}

#[test]
fn neighbours_go_in_one_discard_and_only_whole_units() {
    let config = on(DiscardRate::UNLIMITED, 1);
    let disk = SimDisk::new(SimOptions {
        discard_granularity: 64 << 10,
        ..options(&config)
    });
    let mut store = Store::on(disk, config);
    let used = store.alloc.reserve(extent(1000, 1)).unwrap()[0];
    store.checkpoint(&[used], &[]);
    // In bits and pieces, in no order.
    let mut freed: Vec<Run> = (0..100)
        .map(|i| Run {
            start: used.start + (i * 37 % 100) * 10,
            len: 10,
        })
        .collect();
    freed.push(Run::single(used.start));
    freed.remove(0);
    freed.push(Run {
        start: used.start + 1,
        len: 9,
    });
    store.checkpoint(&[], &freed);
    eventually("all free", || store.alloc.stats().discarding == 0);
    store.alloc.settle().unwrap();
    let counts = store.alloc.counts();
    assert_eq!(counts.discard_requests, 1);
    assert_eq!(counts.discard_blocks % 16, 0);
    assert!(counts.discard_blocks > 1000 - 32);
    assert_eq!(counts.discard_blocks + counts.discard_skipped_blocks, 1000);
    assert_eq!(store.all_free(), store.root.free);
}

#[test]
fn each_piece_is_free_when_its_own_discard_has_ended() {
    let store = Store::new(on(SLOW, 1));
    let runs = store.alloc.reserve(nodes(1000)).unwrap();
    store.alloc.give_back(runs);
    eventually("the first piece is free", || {
        store.alloc.settle().unwrap();
        let stats = store.alloc.stats();
        stats.discarding == 999 && stats.discard_waiting == 999
    });
    assert_eq!(store.alloc.counts().discard_blocks, 1);
}

#[test]
fn nobody_is_refused_or_waits_for_the_rate() {
    let mut store = Store::new(AllocConfig {
        reserve_blocks: 50,
        ..on(SLOW, 0)
    });
    let all = store.all_free() as u32;
    let used = store.alloc.reserve(nodes(all - 50)).unwrap();
    store.checkpoint(&used, &[]);
    store.checkpoint(&[], &used);
    // As blocks become free they wait to be discarded; who asks gets them.
    let got = store.alloc.reserve(nodes(all - 50)).unwrap();
    assert_eq!(got.iter().map(|r| r.len).sum::<u32>(), all - 50);
    assert!(store.alloc.counts().discard_skipped_blocks > 0);
    store.alloc.give_back(got);
    let urgent = Request {
        urgency: Urgency::Reserve,
        ..extent(all / 2, 1)
    };
    store.alloc.reserve(urgent).unwrap();
}

#[test]
fn while_somebody_waits_for_space_nothing_more_is_sent() {
    let store = Arc::new(Store::new(on(DiscardRate::UNLIMITED, 0)));
    let all = store.all_free() as u32;
    let first = store.alloc.reserve(nodes(40)).unwrap();
    let second = store.alloc.reserve(nodes(all - 40)).unwrap();
    store.always(OpKind::Discard, FaultKind::Stall);
    store.alloc.give_back(first);
    store.alloc.settle().unwrap();
    eventually("a discard", || store.disk.stats().discards == 1);
    let other = store.clone();
    let waiter = thread::spawn("waiter", move || other.alloc.reserve(nodes(40))).unwrap();
    eventually("a request waits", || {
        store.alloc.settle().unwrap();
        store.alloc.stats().waiting == 1
    });
    // Not even a trim.
    let trim = store.alloc.trim(0, 0, DiscardRate::UNLIMITED, false);
    store.alloc.settle().unwrap();
    let few = Run {
        len: 10,
        ..second[0]
    };
    store.alloc.give_back(vec![few]);
    store.alloc.settle().unwrap();
    assert_eq!(store.alloc.stats().discarding, 40);
    assert_eq!(store.disk.stats().discards, 1);
    assert_eq!(store.all_free(), 10);
    store.calm();
    let got = waiter.join().unwrap().unwrap();
    assert_eq!(got.iter().map(|r| r.len).sum::<u32>(), 40);
    assert_eq!(trim.wait().unwrap().failures, 0);
}

#[test]
fn what_waits_is_bounded() {
    let store = Store::new(on(SLOW, 2));
    let runs = store.alloc.reserve(extent(30_000, 1)).unwrap();
    let more = store.alloc.reserve(extent(30_000, 1)).unwrap();
    // No two side by side.
    let single = |r: &Run| (r.start..r.end()).step_by(2).map(Run::single);
    for run in runs.iter().chain(&more) {
        store.alloc.give_back(single(run).collect());
    }
    store.alloc.settle().unwrap();
    let stats = store.alloc.stats();
    assert!(stats.discard_waiting <= MAX_WAITING as u64, "{stats:?}");
    assert!(store.alloc.counts().discard_skipped_blocks >= 30_000 - MAX_WAITING as u64 - 2);
}

#[test]
fn closing_leaves_out_what_waits() {
    let store = Store::new(on(SLOW, 1));
    let runs = store.alloc.reserve(nodes(20_000)).unwrap();
    store.alloc.give_back(runs);
    store.alloc.shutdown();
    let counts = store.alloc.counts();
    assert!(counts.discard_requests <= 1);
    assert!(counts.discard_skipped_blocks >= 19_999);
}

#[test]
fn a_device_that_refuses_is_left_alone() {
    let store = Store::new(on(DiscardRate::UNLIMITED, 1));
    let refuse = FaultKind::Fail(IoErrorKind::Unsupported);
    store.always(OpKind::Discard, refuse);
    assert!(store.alloc.discard_notes().is_empty());
    for _ in 0..10 {
        let runs = store.alloc.reserve(extent(10, 1)).unwrap();
        store.alloc.give_back(runs);
        store.alloc.settle().unwrap();
        eventually("free again", || store.alloc.stats().discarding == 0);
    }
    assert_eq!(store.alloc.counts().discard_failures, 3);
    assert_eq!(store.disk.stats().discards, 3);
    assert_eq!(store.all_free(), store.root.free);
    let notes = store.alloc.discard_notes();
    assert!(notes[0].contains("3 times in a row"), "{notes:?}");
    assert!(notes[1].contains("3 discards failed"), "{notes:?}");
    assert_eq!(store.alloc.discard_rate(), None);
    // Nor does a trim try again.
    let trimmed = store.alloc.trim(0, 0, DiscardRate::UNLIMITED, false).wait();
    assert!(matches!(trimmed, Err(Error::Io(_))), "{trimmed:?}");
}

#[test]
fn what_cannot_or_may_not_be_discarded_never_is() {
    let cannot = |options: SimOptions, may: bool, why: &str| {
        let config = AllocConfig {
            may_discard: may,
            ..on(DiscardRate::UNLIMITED, 0)
        };
        let store = Store::on(SimDisk::new(options), config);
        let runs = store.alloc.reserve(nodes(100)).unwrap();
        store.alloc.give_back(runs);
        assert_eq!(store.all_free(), store.root.free);
        let notes = store.alloc.discard_notes();
        assert!(notes[0].contains(why), "{notes:?}");
        for dry in [true, false] {
            let trimmed = store.alloc.trim(0, 0, DiscardRate::UNLIMITED, dry).wait();
            assert!(matches!(trimmed, Err(Error::Io(_))), "{trimmed:?}");
        }
        assert_eq!(store.disk.stats().discards, 0);
    };
    let disk = options(&config(0));
    let none = SimOptions {
        discard_granularity: 0,
        ..disk.clone()
    };
    cannot(none, true, "the device cannot discard");
    let file = SimOptions { file: true, ..disk };
    cannot(file, false, "not formatted as sparse");
}

#[test]
fn a_trim_discards_all_that_is_free_and_nothing_else() {
    let config = AllocConfig {
        map_memory: 0,
        ..config(3)
    };
    let mut store = Store::on(SimDisk::new(options(&config)), config);
    let mut used = Vec::new();
    for len in [3, 700, 30_000, 1, 20_000] {
        used.extend(store.alloc.reserve(extent(len, 1)).unwrap());
    }
    let holes: Vec<Run> = (1..10)
        .map(|i| Run {
            start: used[2].start + i * 1000,
            len: i as u32,
        })
        .collect();
    store.checkpoint(&used, &[]);
    store.checkpoint(&[], &holes);
    // From the map's blocks, too.
    store.reopen();
    let g = store.config.geometry;
    // Some of all that is data, and all of the holes.
    let hole = |b: &u64| holes.iter().any(|h| (h.start..h.end()).contains(b));
    let looked_at: Vec<u64> = (0..g.capacity)
        .filter(|b| g.is_data(Run::single(*b)) && (b.is_multiple_of(61) || hole(b)))
        .collect();
    for b in &looked_at {
        store.disk.poke(b * BLOCK, &[7; BLOCK as usize]);
    }
    for dry in [true, false] {
        let mut free = 0;
        for group in 0..g.groups() {
            let trimmed = store.alloc.trim(group, 0, DiscardRate::UNLIMITED, dry);
            let trimmed = trimmed.wait().unwrap();
            assert_eq!((trimmed.failures, trimmed.unknown), (0, false));
            assert_eq!(trimmed.free, trimmed.discarded);
            free += trimmed.free;
        }
        assert_eq!(free, store.root.free * BLOCK, "dry {dry}");
        assert_eq!(store.disk.stats().discards == 0, dry);
    }
    assert_eq!(store.all_free(), store.root.free);
    for b in looked_at {
        let in_use = used.iter().any(|r| (r.start..r.end()).contains(&b));
        let is_free = !in_use || hole(&b);
        let gone = store.disk.peek(b * BLOCK, BLOCK as usize) != [7; BLOCK as usize];
        assert_eq!(gone, is_free, "block {b}");
    }
}

#[test]
fn writers_keep_what_they_wrote_while_all_is_trimmed() {
    let seed = rng::fresh_seed();
    println!("seed {seed}");
    let config = on(DiscardRate::UNLIMITED, 1);
    let disk = SimDisk::new(options(&config));
    // A discard does its harm when it ends.
    disk.set_latency(LatencyProfile {
        discard: Latency::fixed(Duration::from_millis(1)),
        ..LatencyProfile::default()
    });
    let store = Arc::new(Store::on(disk, config));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3u8)
        .map(|number| {
            let store = store.clone();
            let stop = stop.clone();
            thread::spawn("writer", move || {
                let mut r = rng::seeded(seed + u64::from(number));
                let device = store.disk.device();
                let mut rounds = 0u64;
                while !stop.load(Ordering::Relaxed) || rounds < 20 {
                    rounds += 1;
                    let runs = store.alloc.reserve(nodes(r.random_range(1..100))).unwrap();
                    for run in &runs {
                        let mut buf = IoBuf::zeroed(run.len as usize * BLOCK as usize);
                        buf.fill(number + 1);
                        device.write_at(run.start * BLOCK, &buf).unwrap();
                    }
                    thread::yield_now();
                    for run in &runs {
                        let mut buf = IoBuf::zeroed(run.len as usize * BLOCK as usize);
                        device.read_at(run.start * BLOCK, &mut buf).unwrap();
                        assert!(buf.iter().all(|b| *b == number + 1), "{run:?}");
                    }
                    store.alloc.give_back(runs);
                }
            })
            .unwrap()
        })
        .collect();
    for _ in 0..20 {
        for group in 0..store.config.geometry.groups() {
            let trimmed = store.alloc.trim(group, 0, DiscardRate::UNLIMITED, false);
            trimmed.wait().unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|w| w.join().unwrap());
    eventually("all free", || store.all_free() == store.root.free);
    assert!(store.alloc.counts().discard_requests > 10);
}
