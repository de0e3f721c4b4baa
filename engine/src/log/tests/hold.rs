//! Appending on a condition, and keeping others from appending.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gaur_iodriver::sync::{latch, thread};

use super::*;
use crate::log::Refused;

#[test]
fn a_record_follows_the_one_it_is_to_follow_or_is_not_appended() {
    let (log, ..) = simple(64);
    let ops = ops_of(b"v");
    let r = record(&ops, false);
    assert_eq!(log.try_append_after(&r, 0, None), Ok(1));
    assert_eq!(log.try_append_after(&r, 0, None), Err(Refused::Moved));
    assert_eq!(log.try_append(&r), Ok(2));
    assert_eq!(log.try_append_after(&r, 2, None), Ok(3));
    // Nothing was drawn in between.
    assert_eq!(log.last_csn(), 3);
}

/// Breaks if the hold is looked at or given back outside of the appenders' lock, or if
/// those who wait are not woken.
#[test]
fn with_the_hold_the_last_csn_stands_still() {
    const ROUNDS: u64 = 300;
    let (log, ..) = simple(512);
    let ops = ops_of(b"v");
    let (over, refused) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match log.try_append(&record(&ops, false)) {
                        Ok(csn) => log.wait_durable(csn).unwrap(),
                        Err(Refused::Held) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            log.wait_hold();
                        }
                        // Nothing truncates this log.
                        Err(Refused::Full) => return,
                        Err(e) => panic!("{e:?}"),
                    }
                }
            });
        }
        for _ in 0..ROUNDS {
            latch::acquired();
            let hold = log.hold().expect("nobody else takes it");
            assert!(log.hold().is_none());
            let last = log.last_csn();
            for _ in 0..20 {
                thread::yield_now();
                assert_eq!(log.last_csn(), last);
            }
            match log.try_append_after(&record(&ops, false), last, Some(&hold)) {
                Ok(csn) => assert_eq!(csn, last + 1),
                Err(e) => assert_eq!(e, Refused::Full),
            }
            drop(hold);
            latch::released();
            thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("{} appends refused", refused.load(Ordering::Relaxed));
    assert!(refused.load(Ordering::Relaxed) > 0);
    assert_eq!(log.stats().holds, ROUNDS);
    log.wait_hold();
}
