//! Stash, channel, messages and the end of the allocator: `pool`, `alloc/handle.rs`,
//! `alloc/thread.rs`. The whole allocator runs, on a store that needs no map I/O.

use std::sync::Arc;

use super::{Media, explore_deep, spawn};
use crate::alloc::{AllocConfig, Allocator, MapRoot, SpaceError, Urgency};
use crate::format::Geometry;
use crate::pool::Pool;
use crate::worker::{Worker, Workers};

/// Both superblocks lie in it.
const BLOCKS: u64 = 8192;

struct Store {
    alloc: Arc<Allocator>,
    pool: Pool,
    workers: Arc<Workers>,
    free: u64,
}

fn store() -> Store {
    let geometry = Geometry::new(512, BLOCKS * 512, 64);
    let root = MapRoot::fresh(&geometry);
    let config = AllocConfig {
        reserve_blocks: 0,
        run_blocks: 1,
        channel_runs: 1,
        low_watermark: 0,
        may_discard: false,
        ..AllocConfig::new(geometry, 1)
    };
    let media = Media::new(BLOCKS * 512);
    let alloc = Arc::new(Allocator::start(&media.device(), root, config).unwrap());
    Store {
        pool: Pool::new(alloc.clone()),
        alloc,
        workers: Workers::new(),
        free: root.free,
    }
}

/// Blocks out of the store's hands: in stashes.
fn stashed(workers: &Workers) -> u64 {
    workers.all().map(|w| Pool::stashed(w)).sum()
}

fn reserve(pool: &Pool, me: &Worker, blocks: u64) -> Result<(), SpaceError> {
    pool.reserve(me, blocks, 0, Urgency::Normal)
}

#[test]
fn what_is_asked_for_is_answered() {
    // A deadlock, if a message or a wake is lost.
    explore_deep(2, || {
        let s = store();
        let me = s.workers.claim().unwrap();
        reserve(&s.pool, &me, 2).unwrap();
        assert_eq!(Pool::stashed(&me), 2);
        s.alloc.shutdown();
        assert!(matches!(reserve(&s.pool, &me, 3), Err(SpaceError::Stopped)));
    });
}

#[test]
fn a_dry_channel_is_filled() {
    explore_deep(2, || {
        let s = store();
        let me = s.workers.claim().unwrap();
        // Never waits: who finds nothing has asked for it.
        while s.pool.try_take(&me).is_none() {
            gaur_iodriver::sync::thread::yield_now();
        }
        s.alloc.shutdown();
    });
}

#[test]
fn a_reservation_is_not_recalled() {
    explore_deep(2, || {
        let s = store();
        let me = s.workers.claim().unwrap();
        let (pool, w) = (s.pool.clone(), s.workers.clone());
        let other = spawn(move || {
            let own = w.claim().unwrap();
            pool.recall(&own, &w);
        });
        reserve(&s.pool, &me, 2).unwrap();
        assert!(Pool::take_stashed(&me).is_some(), "recalled");
        assert!(Pool::take_stashed(&me).is_some(), "recalled");
        other.join().unwrap();
        s.alloc.settle().unwrap();
        let free = s.alloc.free_blocks();
        assert_eq!(free + 2 + stashed(&s.workers), s.free, "a block is lost");
        s.alloc.shutdown();
    });
}

#[test]
fn who_waits_at_the_end_is_told() {
    explore_deep(2, || {
        let s = store();
        let me = s.workers.claim().unwrap();
        let (pool, w) = (s.pool.clone(), me.clone());
        let other = spawn(move || match reserve(&pool, &w, 1) {
            Ok(()) => assert_eq!(Pool::stashed(&w), 1),
            Err(e) => {
                assert!(matches!(e, SpaceError::Stopped), "{e}");
                assert_eq!(Pool::stashed(&w), 0);
            }
        });
        s.alloc.shutdown();
        other.join().unwrap();
    });
}
