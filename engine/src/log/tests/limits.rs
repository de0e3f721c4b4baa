//! Limits and signals to the byte, in a log whose timer does not come by itself: what
//! should be written, woken or told at once is, and what should not is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::thread;
use gaur_iodriver::sync::time::now;
use gaur_iodriver::{Fault, FaultKind, IoErrorKind, OpKind};

use super::*;
use crate::error::Error;
use crate::format::log::{OpHeader, RecordHeader};
use crate::log::Refused;

/// Longer than any test may take.
const HOUR: Duration = Duration::from_secs(3600);

/// A log of one piece that waits an hour before it writes by itself, with one write in
/// flight, and how often it has asked for a checkpoint.
fn patient(blocks: u32, set: impl FnOnce(&mut LogConfig)) -> (Log, SimDisk, Arc<AtomicU64>) {
    let (ring, bytes) = ring(&[blocks]);
    let disk = disk(bytes, 1);
    let mut c = config(&ring, 1);
    c.buffered_interval = HOUR;
    c.in_flight = 1;
    set(&mut c);
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let log = Log::start_on(
        ring,
        disk.device(),
        c,
        LogHead::default(),
        LogTail::default(),
        Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }),
    );
    (log.unwrap(), disk, asked)
}

/// A record that takes exactly `bytes` in memory.
fn record_of(bytes: usize) -> OpsBuilder {
    let ops = ops_of(&vec![7; bytes - RecordHeader::SIZE - OpHeader::SIZE - 1]);
    assert_eq!(RecordHeader::SIZE + ops.as_bytes().len(), bytes);
    ops
}

fn soon(what: &str, is: impl Fn() -> bool) {
    let start = now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Time for the log thread to do what it should not.
fn a_while() {
    thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_full_batch_is_written_unasked_and_less_is_not() {
    let (log, disk, _) = patient(256, |c| c.batch = 2048);
    // The first sets the timer, no other one wakes the thread before the batch is full.
    assert_eq!(log.try_append(&record(&record_of(256), false)), Ok(1));
    a_while();
    let wakes = log.stats().wakes;
    for csn in 2..8 {
        assert_eq!(log.try_append(&record(&record_of(256), false)), Ok(csn));
        a_while();
        assert_eq!(log.stats().wakes, wakes);
    }
    assert_eq!(log.usage().pending_bytes, 7 * 256);
    assert_eq!((disk.stats().writes, log.durable_csn()), (0, 0));
    assert_eq!(log.try_append(&record(&record_of(256), false)), Ok(8));
    soon("the batch", || log.durable_csn() >= 7);
    assert!(log.stats().wakes <= wakes + 1);
}

#[test]
fn what_nobody_waits_for_is_written_at_half_of_the_interval() {
    // The other half is left to the device.
    let (log, _, _) = patient(256, |_| ());
    assert_eq!(log.shared.patience(), HOUR / 2);
    let (log, _, _) = patient(256, |c| c.buffered_interval = Duration::from_millis(10));
    for csn in 1..4 {
        let appended = log.try_append(&record(&record_of(256), false));
        assert_eq!(appended, Ok(csn));
        soon("what nobody waits for", || log.durable_csn() == csn);
    }
}

#[test]
fn what_is_asked_for_is_written_at_once_and_says_so() {
    let (log, _, _) = patient(256, |_| ());
    let ops = record_of(256);
    // A record alone asks for nothing, whoever appended it, until its caller does.
    let csn = log.try_append(&record(&ops, true)).unwrap();
    log.wait_durable(csn).unwrap();
    assert_eq!((log.durable_csn(), log.durable_position()), (1, 1));
    let csn = log.try_append(&record(&ops, false)).unwrap();
    log.request_sync(csn);
    soon("what was requested", || log.durable_csn() == 2);
    assert_eq!(log.try_append(&record(&ops, false)), Ok(3));
    a_while();
    assert_eq!(log.durable_csn(), 2);
    assert_eq!(log.flush().unwrap(), 3);
    assert_eq!((log.durable_csn(), log.durable_position()), (3, 3));
    // A request for what is durable wakes nobody.
    let wakes = log.stats().wakes;
    log.request_sync(3);
    assert_eq!(log.stats().wakes, wakes);
}

#[test]
fn memory_for_what_waits_is_limited_to_the_byte() {
    let (log, disk, asked) = patient(256, |c| {
        c.batch = 1024;
        c.max_record = 2000;
    });
    // Four batches, which is more than a batch and the largest record.
    const MOST: usize = 4096;
    disk.inject_next(OpKind::Write, FaultKind::Stall);
    log.try_append(&record(&record_of(256), false)).unwrap();
    log.request_sync(1);
    soon("the write that stalls", || disk.stats().writes == 1);
    for _ in 0..3 {
        log.try_append(&record(&record_of(1024), false)).unwrap();
    }
    assert_eq!(log.usage().pending_bytes, 3072);
    // The header of the record that comes is not counted.
    let fits = record_of(MOST - 3072 + RecordHeader::SIZE);
    let one_more = record_of(MOST - 3072 + RecordHeader::SIZE + 1);
    let refused = log.try_append(&record(&one_more, false));
    assert_eq!(refused, Err(Refused::Full));
    assert_eq!((log.stats().full_memory, log.stats().full_log), (1, 0));
    assert_eq!(log.try_append(&record(&fits, false)), Ok(5));
    assert_eq!(asked.load(Ordering::Relaxed), 0, "the log has room");
    // Who waits for space is woken when the device goes on.
    std::thread::scope(|s| {
        let waiter = s.spawn(|| log.wait_space());
        a_while();
        assert!(!waiter.is_finished());
        disk.release_stalls();
        soon("space", || waiter.is_finished());
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(asked.load(Ordering::Relaxed), 0, "the log has room");
    let waiting = log.usage().pending_bytes;
    assert!(waiting + log.max_record() <= MOST, "{waiting}");
    // With room there is nothing to wait for.
    let waits = log.stats().space_waits;
    log.wait_space().unwrap();
    assert_eq!(log.stats().space_waits, waits);
}

#[test]
fn a_checkpoint_is_asked_for_once_when_more_than_half_is_full() {
    let (log, _, asked) = patient(64, |_| ());
    let asked = || asked.load(Ordering::Relaxed);
    let block = record_of(256);
    let append = |n: u64| {
        for _ in 0..n {
            log.try_append(&record(&block, true)).unwrap();
            log.flush().unwrap();
        }
    };
    append(32);
    assert_eq!((log.usage().used, asked()), (32, 0));
    append(1);
    assert_eq!((log.usage().used, asked()), (33, 1));
    let cut = log.freeze();
    append(20);
    assert_eq!(asked(), 1);
    // 20 are left: less than half, so the next time is told again.
    log.truncate(log.cut_head(&cut).unwrap());
    assert_eq!((log.usage().used, asked()), (20, 1));
    append(12);
    assert_eq!((log.usage().used, asked()), (32, 1));
    append(1);
    assert_eq!((log.usage().used, asked()), (33, 2));
    let cut = log.freeze();
    append(31);
    assert_eq!((log.usage().used, asked()), (64, 2));
    // It is full, and so each refusal asks, and whoever waits for space.
    let refused = log.try_append(&record(&block, true));
    assert_eq!(refused, Err(Refused::Full));
    assert_eq!((log.stats().full_log, asked()), (1, 3));
    std::thread::scope(|s| {
        let waiter = s.spawn(|| log.wait_space());
        soon("the waiter asks", || asked() == 4);
        a_while();
        assert!(!waiter.is_finished());
        log.truncate(log.cut_head(&cut).unwrap());
        soon("space", || waiter.is_finished());
        waiter.join().unwrap().unwrap();
    });
    assert_eq!((log.usage().used, asked()), (31, 4));
    append(2);
    assert_eq!((log.usage().used, asked()), (33, 5));
    let cut = log.freeze();
    append(31);
    // Half of it is not more than half; one more is, and the truncation asks.
    let one = log.cut_head(&cut).unwrap();
    log.truncate(LogHead {
        position: one.position - 2,
        ..one
    });
    assert_eq!((log.usage().used, asked()), (33, 6));
    log.truncate(LogHead {
        position: one.position - 1,
        ..one
    });
    assert_eq!((log.usage().used, asked()), (32, 6));
}

#[test]
fn who_waits_for_the_hold_waits() {
    let (log, ..) = patient(64, |_| ());
    let hold = log.hold().unwrap();
    let (ops, waits) = (record_of(256), || log.wait_hold());
    assert_eq!(
        log.try_append(&record(&ops, false)),
        Err(Refused::Held),
        "somebody has it"
    );
    std::thread::scope(|s| {
        let waiter = s.spawn(waits);
        a_while();
        assert!(!waiter.is_finished());
        drop(hold);
        soon("the hold's end", || waiter.is_finished());
    });
    assert_eq!(log.try_append(&record(&ops, false)), Ok(1));
}

#[test]
fn the_largest_record_is_taken_and_one_byte_more_is_not() {
    let (log, ..) = patient(256, |c| c.max_record = 300);
    let largest = record_of(300 + RecordHeader::SIZE);
    let larger = record_of(301 + RecordHeader::SIZE);
    let refused = log.try_append(&record(&larger, false));
    assert_eq!(refused, Err(Refused::TooLarge));
    assert_eq!(log.try_append(&record(&largest, false)), Ok(1));
    assert_eq!(log.usage().blocks, 256);
}

#[test]
fn a_dropped_log_writes_what_was_appended() {
    let (log, disk, _) = patient(64, |_| ());
    assert!(!log.has_stopped());
    log.try_append(&record(&record_of(256), false)).unwrap();
    drop(log);
    let (ring, _) = ring(&[64]);
    let (all, end) = read_all(&mut reader(&ring, &disk, LogHead::default(), 0, 0)).unwrap();
    assert_eq!((all.len(), end.last_csn), (1, 1));
}

#[test]
fn a_stopped_log_says_so_and_why() {
    let (log, ..) = patient(64, |_| ());
    assert!(!log.has_stopped() && log.stopped().is_none());
    log.stop("enough".into());
    log.stop("more".into());
    assert!(log.has_stopped());
    assert!(matches!(log.stopped(), Some(Error::Stopped(why)) if why == "enough"));
    assert!(matches!(log.wait_space(), Err(Error::Stopped(_))));
}

/// What a failed flush should have saved may be lost although another one succeeds.
#[test]
fn a_flush_beside_waits_for_the_log_and_its_failure_stops_it() {
    let (log, disk, _) = patient(64, |_| ());
    let device = disk.device();
    disk.inject_next(OpKind::Write, FaultKind::Stall);
    log.try_append(&record(&record_of(256), false)).unwrap();
    log.request_sync(1);
    soon("the write that stalls", || disk.stats().writes == 1);
    std::thread::scope(|s| {
        let flushing = s.spawn(|| log.flush_beside(device.as_ref()));
        soon("the flush", || disk.stats().flushes > 1);
        a_while();
        assert!(!flushing.is_finished(), "the log's write is not over");
        disk.release_stalls();
        soon("the end of the flush", || flushing.is_finished());
        flushing.join().unwrap().unwrap();
    });
    log.flush_beside(device.as_ref()).unwrap();
    disk.inject_next(OpKind::Flush, FaultKind::Fail(IoErrorKind::Failed));
    let failed = log.flush_beside(device.as_ref());
    assert!(matches!(failed, Err(Error::Io(_))), "{failed:?}");
    assert!(matches!(log.stopped(), Some(Error::Stopped(_))));
    let after = log.flush_beside(device.as_ref());
    assert!(matches!(after, Err(Error::Stopped(_))), "{after:?}");
}

#[test]
fn a_cut_is_known_until_the_log_is_truncated_behind_it() {
    let (log, ..) = patient(64, |_| ());
    let cuts = [1, 2, 3].map(|_| {
        log.try_append(&record(&record_of(256), true)).unwrap();
        log.freeze()
    });
    log.flush().unwrap();
    let heads = cuts.map(|cut| log.cut_head(&cut).unwrap());
    assert_eq!(heads.map(|h| h.position), [1, 2, 3]);
    log.truncate(heads[1]);
    assert_eq!(log.cut_head(&cuts[1]).unwrap(), heads[1]);
    assert_eq!(log.cut_head(&cuts[2]).unwrap(), heads[2]);
    let gone = log.cut_head(&cuts[0]);
    assert!(
        matches!(gone, Err(Error::OutcomeUnknown { csn: 1, .. })),
        "{gone:?}"
    );
}

#[test]
fn no_more_log_blocks_than_allowed_are_in_flight() {
    for in_flight in [1, 2] {
        let (log, disk, _) = patient(256, |c| {
            c.batch = 1024;
            c.in_flight = in_flight;
        });
        disk.inject(Fault {
            op: OpKind::Write,
            at: disk.stats().next(OpKind::Write),
            times: u64::MAX / 2,
            what: FaultKind::Stall,
        });
        for csn in 1..=in_flight as u64 {
            log.try_append(&record(&record_of(1024), true)).unwrap();
            log.request_sync(csn);
            soon("a write that stalls", || disk.stats().writes == csn);
        }
        for _ in 0..3 {
            log.try_append(&record(&record_of(900), true)).unwrap();
        }
        log.request_sync(log.last_csn());
        a_while();
        assert_eq!(disk.stats().writes, in_flight as u64);
        assert_eq!(log.usage().pending_bytes, 3 * 900);
        disk.release_stalls();
        soon("the next", || disk.stats().writes == 2 * in_flight as u64);
        a_while();
        assert_eq!(log.usage().pending_bytes, (3 - in_flight) * 900);
        disk.clear_faults();
        disk.release_stalls();
        log.flush().unwrap();
    }
}

#[test]
fn the_log_does_not_flush_beside_somebody_elses_flush() {
    let (log, disk, _) = patient(64, |_| ());
    let device = disk.device();
    let before = disk.stats().flushes;
    disk.inject_next(OpKind::Flush, FaultKind::Stall);
    std::thread::scope(|s| {
        let flushing = s.spawn(|| log.flush_beside(device.as_ref()));
        soon("the flush", || disk.stats().flushes == before + 1);
        let mut ops = OpsBuilder::new();
        ops.put_extents(1, b"k", &[Default::default()]).unwrap();
        let csn = log.try_append(&record(&ops, true)).unwrap();
        log.request_sync(csn);
        a_while();
        let beside = disk.stats().flushes;
        disk.release_stalls();
        log.wait_durable(csn).unwrap();
        assert_eq!(beside, before + 1);
        flushing.join().unwrap().unwrap();
    });
    // One of its own, which began when the other one was over.
    assert_eq!(log.stats().flushes, 1);
    assert_eq!(disk.stats().flushes, before + 2);
}

#[test]
fn a_log_thread_that_panics_leaves_nobody_waiting() {
    let (log, disk, _) = patient(256, |_| ());
    disk.inject_next(OpKind::Write, FaultKind::Panic);
    let csn = log.try_append(&record(&record_of(256), true)).unwrap();
    let e = log.wait_durable(csn).unwrap_err();
    assert!(e.to_string().contains("panicked"), "{e}");
    assert!(log.wait_space().is_err());
}
