//! Many threads, failures, and the order of things.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gaur_iodriver::sync::time::now;
use gaur_iodriver::sync::{Mutex, channel, latch, thread};
use gaur_iodriver::{FaultKind, IoErrorKind, OpKind};

use super::*;
use crate::error::Error;
use crate::log::Refused;

/// Appends under a latch, as a commit does; waits for space without.
fn append(log: &Log, ops: &OpsBuilder, sync: bool) -> Csn {
    loop {
        latch::acquired();
        let got = log.try_append(&record(ops, sync));
        latch::released();
        match got {
            Ok(csn) => return csn,
            Err(Refused::Full) => log.wait_space().unwrap(),
            Err(e) => panic!("{e:?}"),
        }
    }
}

#[test]
fn many_committers_and_a_checkpointer_never_stall() {
    const THREADS: u32 = 16;
    let (ring, bytes) = ring(&[150, 31, 200]);
    let disk = disk(bytes, 5);
    let (nudge, nudged) = channel::bounded(1);
    let log = Log::start_on(
        ring.clone(),
        disk.device(),
        config(&ring, 1),
        LogHead::default(),
        LogTail::default(),
        Box::new(move || {
            let _ = nudge.try_send(());
        }),
    )
    .unwrap();
    let log = Arc::new(log);
    let written = Arc::new(Mutex::new(BTreeMap::new()));
    let done = Arc::new(AtomicBool::new(false));
    let checkpointer = {
        let (log, done) = (log.clone(), done.clone());
        thread::spawn("checkpoint", move || {
            let mut last = (LogHead::default(), 0);
            while !done.load(Ordering::Acquire) {
                if nudged.recv_timeout(Duration::from_millis(1)).is_ok() {
                    let cut = log.freeze();
                    last = (log.cut_head(&cut).unwrap(), cut.csn);
                    log.truncate(last.0);
                }
            }
            last
        })
        .unwrap()
    };
    let committers: Vec<_> = (0..THREADS)
        .map(|t| {
            let (log, written) = (log.clone(), written.clone());
            thread::spawn("committer", move || {
                let mut last = 0;
                for i in 0..200_u32 {
                    let len = ((i * 37 + t * 101) % 1500) as usize;
                    let ops = ops_of(&vec![(t + i) as u8; len]);
                    let sync = (i + t) % 3 != 0;
                    let csn = append(&log, &ops, sync);
                    assert!(csn > last);
                    last = csn;
                    written.lock().insert(csn, ops.as_bytes().to_vec());
                    if sync {
                        log.wait_durable(csn).unwrap();
                        assert!(log.durable_csn() >= csn);
                    }
                }
            })
            .unwrap()
        })
        .collect();
    for c in committers {
        c.join().unwrap();
    }
    log.flush().unwrap();
    done.store(true, Ordering::Release);
    let (head, cut) = checkpointer.join().unwrap();
    let stats = log.stats();
    let tail = log.shutdown().unwrap();
    assert_eq!(tail.last_csn, 3200);
    assert!(
        stats.log_blocks < 3200 && stats.max_records_per_block > 2,
        "{stats:?}"
    );
    assert_eq!(stats.records, 3200);
    let (all, end) = read_all(&mut reader(&ring, &disk, head, cut, tail.position)).unwrap();
    assert_eq!(end, tail);
    let written = written.lock();
    assert_eq!(written.len(), 3200);
    for (csn, bytes) in &all {
        assert_eq!(written.get(csn), Some(bytes));
    }
}

#[test]
fn a_buffered_commit_becomes_durable_by_itself() {
    let (log, _disk, _) = simple(64);
    for _ in 0..5 {
        let csn = log.try_append(&record(&ops_of(b"v"), false)).unwrap();
        let start = now();
        while log.durable_csn() < csn {
            assert!(start.elapsed() < Duration::from_secs(5), "never written");
            thread::yield_now();
        }
    }
    assert_eq!(log.stats().durable_waits, 0);
}

#[test]
fn a_failed_write_stops_the_log_and_takes_nothing_back() {
    let (log, disk, ring) = simple(64);
    let first = log.try_append(&record(&ops_of(b"1"), true)).unwrap();
    log.wait_durable(first).unwrap();
    disk.inject_next(OpKind::Write, FaultKind::Fail(IoErrorKind::Failed));
    let log = Arc::new(log);
    let waiters: Vec<_> = (0..8)
        .map(|_| {
            let log = log.clone();
            thread::spawn("waiter", move || {
                let csn = match log.try_append(&record(&ops_of(b"2"), true)) {
                    Ok(csn) => csn,
                    Err(e) => return assert_eq!(e, Refused::Stopped),
                };
                match log.wait_durable(csn) {
                    Err(Error::OutcomeUnknown { csn: c, cause }) => {
                        assert_eq!(c, csn);
                        assert!(cause.contains("injected"), "{cause}");
                    }
                    other => panic!("{other:?}"),
                }
            })
            .unwrap()
        })
        .collect();
    for w in waiters {
        w.join().unwrap();
    }
    log.wait_durable(first).unwrap();
    assert_eq!(log.durable_csn(), first);
    let refused = log.try_append(&record(&ops_of(b"3"), true));
    assert_eq!(refused, Err(Refused::Stopped));
    assert!(matches!(log.stopped(), Some(Error::Stopped(_))));
    assert!(matches!(log.wait_space(), Err(Error::Stopped(_))));
    assert!(matches!(log.shutdown(), Err(Error::Stopped(_))));
    let (all, _) = read_all(&mut reader(&ring, &disk, LogHead::default(), 0, 0)).unwrap();
    // What failed may be there all the same.
    assert_eq!(all[0].1, ops_of(b"1").as_bytes());
}

#[test]
fn a_failed_flush_stops_the_log_before_the_block_is_written() {
    let (log, disk, _) = simple(64);
    disk.inject_next(OpKind::Flush, FaultKind::Fail(IoErrorKind::Failed));
    let mut ops = OpsBuilder::new();
    ops.put_extents(1, b"k", &[Default::default()]).unwrap();
    let csn = log.try_append(&record(&ops, true)).unwrap();
    let got = log.wait_durable(csn);
    assert!(matches!(got, Err(Error::OutcomeUnknown { .. })), "{got:?}");
    assert_eq!(disk.stats().writes, 0);
}

#[test]
fn extents_are_flushed_before_the_block_that_names_them() {
    let (log, disk, _) = simple(64);
    let plain = log.try_append(&record(&ops_of(b"v"), true)).unwrap();
    log.wait_durable(plain).unwrap();
    let before = disk.stats();
    disk.inject_next(OpKind::Flush, FaultKind::Stall);
    let mut ops = OpsBuilder::new();
    ops.put_extents(1, b"k", &[Default::default()]).unwrap();
    log.try_append(&record(&ops, true)).unwrap();
    // What comes later waits behind it.
    let csn = log.try_append(&record(&ops_of(b"w"), true)).unwrap();
    log.request_sync(csn);
    let start = now();
    while disk.stats().flushes == before.flushes {
        assert!(start.elapsed() < Duration::from_secs(5), "no flush");
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(10));
    assert_eq!(disk.stats().writes, before.writes);
    disk.release_stalls();
    log.wait_durable(csn).unwrap();
    assert_eq!(log.stats().flushes, 1);
    assert_eq!(disk.stats().writes, before.writes + 1);
}

#[test]
fn a_block_is_not_acknowledged_before_the_one_before_it() {
    let (ring, bytes) = ring(&[64]);
    let disk = disk(bytes, 1);
    let c = config(&ring, 1);
    let log = open(&ring, &disk, c, LogHead::default(), LogTail::default());
    disk.inject_next(OpKind::Write, FaultKind::Stall);
    let wait_for = |what: &dyn Fn() -> bool| {
        let start = now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(5), "it never comes");
            thread::yield_now();
        }
    };
    let first = log.try_append(&record(&ops_of(b"1"), true)).unwrap();
    log.request_sync(first);
    wait_for(&|| disk.stats().writes == 1);
    let second = log.try_append(&record(&ops_of(b"2"), true)).unwrap();
    log.request_sync(second);
    // The second block is on the device, and yet not durable: it stands on the first.
    wait_for(&|| disk.stats().events == 2);
    thread::sleep(Duration::from_millis(10));
    assert_eq!((log.durable_csn(), log.durable_position()), (0, 0));
    let lost = disk.snapshot();
    let (all, end) = read_all(&mut reader(&ring, &lost, LogHead::default(), 0, 0)).unwrap();
    assert_eq!((all.len(), end), (0, LogTail::default()));
    disk.release_stalls();
    log.wait_durable(second).unwrap();
    assert_eq!(log.durable_csn(), second);
}

#[test]
fn a_full_log_refuses_and_draws_nothing() {
    let (log, _disk, _) = simple(64);
    let ops = ops_of(&[1; 1000]);
    let mut csn = 0;
    while let Ok(got) = log.try_append(&record(&ops, true)) {
        csn = got;
        log.wait_durable(csn).unwrap();
    }
    assert_eq!(log.last_csn(), csn);
    assert_eq!(log.usage().used, 63);
    let cut = log.freeze();
    assert_eq!(cut.csn, csn);
    let head = log.cut_head(&cut).unwrap();
    assert_eq!(log.cut_head(&log.freeze()).unwrap(), head);
    log.truncate(head);
    assert_eq!(log.usage().used, 0);
    assert_eq!(log.try_append(&record(&ops, false)), Ok(csn + 1));
    let large = ops_of(&vec![0; log.max_record()]);
    let refused = log.try_append(&record(&large, false));
    assert_eq!(refused, Err(Refused::TooLarge));
    assert_eq!(log.shutdown().unwrap().last_csn, csn + 1);
    assert!(matches!(log.stopped(), Some(Error::Closed)));
    let refused = log.try_append(&record(&ops, false));
    assert_eq!(refused, Err(Refused::Stopped));
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let (ring, bytes) = ring(&[64]);
    let disk = disk(bytes, 1);
    let start = |c: LogConfig, tail: u64| {
        let tail = LogTail {
            position: tail,
            ..LogTail::default()
        };
        Log::start_on(
            ring.clone(),
            disk.device(),
            c,
            LogHead::default(),
            tail,
            Box::new(|| {}),
        )
        .err()
    };
    let good = config(&ring, 1);
    let bad = |r: Option<Error>| assert!(matches!(r, Some(Error::BadOption { .. })), "{r:?}");
    bad(start(
        LogConfig {
            in_flight: 0,
            ..good.clone()
        },
        0,
    ));
    bad(start(
        LogConfig {
            max_record: 0,
            ..good.clone()
        },
        0,
    ));
    bad(start(
        LogConfig {
            max_record: 4096,
            ..good.clone()
        },
        0,
    ));
    bad(start(
        LogConfig {
            buffered_interval: Duration::ZERO,
            ..good.clone()
        },
        0,
    ));
    bad(start(good.clone(), 65));
    assert!(start(good, 64).is_none());
}
