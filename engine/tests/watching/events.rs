//! Each event, brought about.

use std::sync::atomic::{AtomicBool, Ordering};

use gaur::Error;
use gaur_iodriver::sim::{FaultKind, OpKind};
use gaur_iodriver::{IoErrorKind, Latency, LatencyProfile};

use super::*;

#[test]
fn checkpoints_growth_and_the_end() {
    let disk = formatted(1, true);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let mut events = store.events(100).unwrap();
    for i in 0..1000u32 {
        tree.put_with(&i.to_be_bytes(), &[1; 100], BUFFERED)
            .unwrap();
    }
    let csn = tree.put(b"last", b"").unwrap();
    store.checkpoint().unwrap();
    let nodes = store.stats().get("checkpoints", "nodes").unwrap();
    match await_event(&events, |_| true) {
        Event::Checkpoint {
            csn: upto,
            nodes: written,
            took,
            frozen,
            ..
        } => {
            assert_eq!((upto, written), (csn, nodes));
            assert!(nodes > 10 && frozen < took);
        }
        other => panic!("{other:?}"),
    }
    disk.inject_next(OpKind::Grow, FaultKind::Fail(IoErrorKind::NoSpace));
    store.grow(Some(64 * MIB)).unwrap_err();
    let failed = await_event(&events, |_| true);
    assert!(matches!(&failed, Event::GrowthFailed { why } if store.notes().contains(why)));
    disk.clear_faults();
    store.grow(Some(64 * MIB)).unwrap();
    let grown = Event::Grown {
        before: 32 * MIB,
        capacity: 64 * MIB,
    };
    await_event(&events, |e| *e == grown);
    assert_eq!(events.missed(), 0);
    // Also for a listener that comes late.
    let late = store.events(1).unwrap();
    store.clone().close().unwrap();
    assert!(matches!(store.events(1), Err(Error::Closed)));
    let last: Vec<Event> = events.by_ref().collect();
    assert!(
        matches!(&last[..], [Event::Checkpoint { .. }, Event::Closed]),
        "{last:?}"
    );
    assert_eq!((late.count(), events.next()), (1, None));
}

/// It is told once, though nobody asks the store anything after it.
#[test]
fn a_failed_write_is_told() {
    for log in [true, false] {
        let disk = formatted(2, false);
        let store = open(&disk);
        let tree = store.tree("t").unwrap();
        let events = store.events(100).unwrap();
        if log {
            disk.inject_next(OpKind::Write, FaultKind::Fail(IoErrorKind::Failed));
            tree.put(b"k", b"v").unwrap_err();
        } else {
            tree.put(b"k", b"v").unwrap();
            disk.inject_next(OpKind::Write, FaultKind::Fail(IoErrorKind::Failed));
            store.checkpoint().unwrap_err();
        }
        let stopped = await_event(&events, |_| true);
        let Event::Stopped { why } = stopped else {
            panic!("{stopped:?}");
        };
        let refused = tree.put(b"k", b"v").unwrap_err();
        assert!(matches!(refused, Error::Stopped(w) if w == why));
        store.close().unwrap_err();
        assert_eq!(events.collect::<Vec<_>>(), [Event::Closed]);
    }
}

#[test]
fn the_throttle_is_told_once_on_and_once_off() {
    let disk = formatted(3, false);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let events = store.events(10_000).unwrap();
    let latency = |ms| {
        disk.set_latency(LatencyProfile::all(Latency {
            fixed: Duration::from_millis(ms),
            jitter: Duration::ZERO,
        }));
    };
    latency(2);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for t in 0..4u32 {
            let (tree, over) = (&tree, &over);
            scope.spawn(move || {
                let mut i = t;
                while !over.load(Ordering::Relaxed) {
                    i = i.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let key = (i % 20_000).to_be_bytes();
                    tree.put_with(&key, &[2; 1000], BUFFERED).unwrap();
                }
            });
        }
        let throttled = await_event(&events, |e| matches!(e, Event::Throttled { .. }));
        await_event(&events, |e| *e == Event::Unthrottled);
        await_event(&events, |e| matches!(e, Event::Throttled { .. }));
        over.store(true, Ordering::Relaxed);
        println!("{throttled}");
    });
    latency(0);
    store.close().unwrap();
    let rest: Vec<Event> = events.collect();
    let on = rest.iter().filter(|e| matches!(e, Event::Throttled { .. }));
    let off = rest.iter().filter(|e| **e == Event::Unthrottled);
    assert_eq!(off.count(), on.count() + 1, "{rest:?}");
}
