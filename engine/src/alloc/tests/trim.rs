//! Trims to the byte: what is counted, what is left to others, and when who asked is
//! answered.

use std::time::Duration;

use gaur_iodriver::{OpKind, SimDisk, SimOptions};

use super::config;
use super::disk::{FAIL, Store, extent, nodes};
use crate::alloc::{AllocConfig, DiscardRate, Request, Urgency};
use crate::format::Run;

const BLOCK: u64 = 4096;
/// Blocks in a unit of discard.
const UNIT: u32 = 16;

/// A store of one group and a short one, of whose first group all is in use but 5
/// blocks that are no whole unit, and 400 that are 25; and how many bytes these are.
fn store() -> (Store, u64) {
    // What is free at last is less than the reserve, so that the channel takes none.
    let config = AllocConfig {
        reserve_blocks: 1000,
        ..config(1)
    };
    let disk = SimDisk::new(SimOptions {
        capacity: config.geometry.byte(config.geometry.capacity),
        discard_granularity: UNIT * BLOCK as u32,
        ..SimOptions::default()
    });
    let store = Store::on(disk, config);
    let all = store.all_free() as u32;
    let request = Request {
        urgency: Urgency::Reserve,
        ..nodes(all)
    };
    let taken = store.alloc.reserve(request).unwrap();
    let start = store.config.geometry.group_start(0) + 16_000;
    assert!(
        taken
            .iter()
            .any(|r| r.start <= start && start + 1000 <= r.end())
    );
    for (start, len) in [(start + 1, 5), (start + 320, 25 * UNIT)] {
        store.alloc.give_back_unused(vec![Run { start, len }]);
    }
    store.alloc.settle().unwrap();
    (store, (5 + 25 * u64::from(UNIT)) * BLOCK)
}

#[test]
fn what_is_free_is_counted_and_whole_units_are_discarded() {
    let (store, free) = store();
    let units = 25 * u64::from(UNIT) * BLOCK;
    let discards = || store.disk.stats().discards;
    let trim = |dry| {
        let rate = DiscardRate::UNLIMITED;
        store.alloc.trim(0, 0, rate, dry).wait().unwrap()
    };
    let would = trim(true);
    assert_eq!(
        (would.free, would.discarded, would.rest),
        (free, units, None)
    );
    assert_eq!(discards(), 0);
    let did = trim(false);
    assert_eq!(did, would);
    // A quarter of all that is free at once.
    assert!((4..=8).contains(&discards()), "{}", discards());
    assert_eq!(store.disk.stats().discarded_bytes, units);
    // Behind what was asked for nothing is looked at.
    let behind = store.alloc.trim(0, 16_300, DiscardRate::UNLIMITED, true);
    assert_eq!(behind.wait().unwrap().free, units);
}

#[test]
fn discards_that_fail_are_counted() {
    let (store, free) = store();
    let before = store.disk.stats().discards;
    store.disk.inject_next(OpKind::Discard, FAIL);
    let trim = store.alloc.trim(0, 0, DiscardRate::UNLIMITED, false);
    let trimmed = trim.wait().unwrap();
    assert!(store.disk.stats().discards > before + 1);
    assert_eq!((trimmed.failures, trimmed.free), (1, free));
    assert!(trimmed.discarded > 0 && trimmed.discarded < 25 * u64::from(UNIT) * BLOCK);
}

#[test]
fn who_trims_slowly_is_answered_with_the_rest() {
    let (store, free) = store();
    // One piece a second.
    let rate = DiscardRate {
        bytes_per_second: 0,
        per_second: 1,
    };
    let first = store.alloc.trim(0, 0, rate, false).wait().unwrap();
    let rest = first.rest.unwrap();
    assert_eq!(store.disk.stats().discards, 1);
    assert!(first.discarded > 0 && first.free < free);
    assert!(rest.due > Duration::from_millis(100) && rest.due <= Duration::from_secs(1));
    assert_eq!(first.free, 5 * BLOCK + first.discarded);
    assert_eq!(u64::from(rest.from), 16_320 + first.discarded / BLOCK);
    // A look costs no time.
    let look = store.alloc.trim(0, 0, rate, true).wait().unwrap();
    assert_eq!((look.free, look.rest), (free, None));
    // A pace that is short of a turn is waited for.
    let rate = DiscardRate {
        bytes_per_second: 0,
        per_second: 100,
    };
    std::thread::sleep(rest.due);
    let mut did = store.alloc.trim(0, rest.from, rate, false).wait().unwrap();
    let mut free = first.free + did.free;
    while let Some(rest) = did.rest {
        did = store.alloc.trim(0, rest.from, rate, false).wait().unwrap();
        free += did.free;
    }
    assert_eq!(free, (5 + 25 * u64::from(UNIT)) * BLOCK);
}

#[test]
fn of_a_damaged_group_nobody_knows_what_is_free() {
    let (mut store, used) = Store::used();
    let group = store.config.geometry.group_of(used[0].start);
    store.rot(|slot| store.config.geometry.map_block(group, slot));
    store.reopen();
    let trim = |dry| {
        let rate = DiscardRate::UNLIMITED;
        store.alloc.trim(group, 0, rate, dry).wait().unwrap()
    };
    for dry in [true, false] {
        let trimmed = trim(dry);
        assert!(trimmed.unknown);
        assert_eq!((trimmed.free, trimmed.discarded), (0, 0));
    }
    assert_eq!(store.alloc.stats().damaged_groups, 1);
    // What is known is told beside it.
    let other = (0..3).find(|g| *g != group).unwrap();
    let rate = DiscardRate::UNLIMITED;
    assert!(
        !store
            .alloc
            .trim(other, 0, rate, true)
            .wait()
            .unwrap()
            .unknown
    );
    assert!(store.alloc.reserve(extent(1, 1)).is_ok());
}

#[test]
fn the_report_says_where_the_blocks_are() {
    let mut store = Store::new(config(1));
    let used = store.alloc.reserve(extent(100, 1)).unwrap()[0];
    store.checkpoint(&[used], &[]);
    let part = Run { len: 40, ..used };
    store.freeze(&[], &[part]);
    let free = store.all_free();
    let stats = store.alloc.stats();
    assert_eq!((stats.pending, stats.kept), (40, 0));
    assert_eq!(stats.map_free, store.root.free);
    store
        .alloc
        .release(store.generation, vec![Run { len: 30, ..used }]);
    store.alloc.settle().unwrap();
    let stats = store.alloc.stats();
    assert_eq!((stats.pending, stats.kept), (0, 30));
    assert_eq!(store.all_free(), free + 10);
}
