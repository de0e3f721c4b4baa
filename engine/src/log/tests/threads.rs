//! Many threads, failures, and the order of things.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gaur_iodriver::sync::time::now;
use gaur_iodriver::sync::{Mutex, channel, latch, thread};

use super::device::Event;
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
    let device = MemDevice::new(bytes, 5);
    let (nudge, nudged) = channel::bounded(1);
    let log = Log::start_on(
        ring.clone(),
        Arc::new(device.clone()),
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
    let (all, end) = read_all(&mut reader(&ring, &device, head, cut, tail.position)).unwrap();
    assert_eq!(end, tail);
    let written = written.lock();
    assert_eq!(written.len(), 3200);
    for (csn, bytes) in &all {
        assert_eq!(written.get(csn), Some(bytes));
    }
}

#[test]
fn a_buffered_commit_becomes_durable_by_itself() {
    let (log, _device, _) = simple(64);
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
    let (log, device, ring) = simple(64);
    let first = log.try_append(&record(&ops_of(b"1"), true)).unwrap();
    log.wait_durable(first).unwrap();
    device.disk.lock().fail_write = Some(1);
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
    let (all, _) = read_all(&mut reader(&ring, &device, LogHead::default(), 0, 0)).unwrap();
    assert_eq!(all.len(), 1);
}

#[test]
fn a_failed_flush_stops_the_log_before_the_block_is_written() {
    let (log, device, _) = simple(64);
    // The first flush is that of the start.
    device.disk.lock().fail_flush = Some(1);
    let mut ops = OpsBuilder::new();
    ops.put_extents(1, b"k", &[Default::default()]).unwrap();
    let csn = log.try_append(&record(&ops, true)).unwrap();
    let got = log.wait_durable(csn);
    assert!(matches!(got, Err(Error::OutcomeUnknown { .. })), "{got:?}");
    let disk = device.disk.lock();
    assert!(!disk.trace.iter().any(|e| matches!(e, Event::Write(_))));
}

#[test]
fn extents_are_flushed_before_the_block_that_names_them() {
    let (log, device, ring) = simple(64);
    let plain = log.try_append(&record(&ops_of(b"v"), true)).unwrap();
    log.wait_durable(plain).unwrap();
    let mut ops = OpsBuilder::new();
    ops.put_extents(1, b"k", &[Default::default()]).unwrap();
    let csn = log.try_append(&record(&ops, true)).unwrap();
    log.wait_durable(csn).unwrap();
    assert_eq!(log.stats().flushes, 1);
    assert_eq!(
        device.disk.lock().trace,
        [
            Event::Flush,
            Event::Write(ring.byte(0)),
            Event::Flush,
            Event::Write(ring.byte(1))
        ]
    );
}

#[test]
fn a_full_log_refuses_and_draws_nothing() {
    let (log, _device, _) = simple(64);
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
    let device = MemDevice::new(bytes, 1);
    let start = |c: LogConfig, tail: u64| {
        let tail = LogTail {
            position: tail,
            ..LogTail::default()
        };
        let device = Arc::new(device.clone());
        Log::start_on(
            ring.clone(),
            device,
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
