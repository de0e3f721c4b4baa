//! An error at every index: the n-th write, flush, read or discard fails, for every n.
//!
//! The standard workload (`work.rs`) runs on a copy of the same formatted disk, with one
//! fault, from the opening to the close. What must hold (P8): nothing acknowledged is
//! lost, commits in flight say so, later ones are refused, reads go on, close fails and
//! ends, and opening again recovers a prefix of the commits, batches whole, every block
//! accounted for: on the disk as it is, and after a power cut. A failed read is an error
//! of that read alone, a failed discard none.
//!
//! Each index is tried, with EIO or ENOSPC, once and for good: one of the four on one
//! index and another on the next; panics on every fourth. `GAUR_FAULTS=all` tries all on each.

#[path = "../campaign/mod.rs"]
mod campaign;
mod panics;
mod work;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use campaign::Watchdog;
use campaign::history::{Done, Known};
use gaur::{CheckOptions, Error, check_device};
use gaur_iodriver::IoErrorKind;
use gaur_iodriver::sim::{Fault, FaultKind, OpKind, SimDisk, SimStats};

use work::{ONE, Outcome, formatted, key, open, stopped, work};

/// Calls of each kind in a run without faults, from the opening to the close; and those
/// of the opening alone.
fn calls(base: &SimDisk) -> (SimStats, SimStats) {
    let disk = base.snapshot();
    let store = open(&disk).unwrap();
    let opening = disk.stats();
    let out = work(&store);
    assert!(out.errors.is_empty(), "{:?}", out.errors);
    store.close().unwrap();
    (opening, disk.stats())
}

fn clean(disk: &SimDisk, what: &str) {
    let report = check_device(disk.device(), &CheckOptions::default()).unwrap();
    assert!(report.clean, "{what}: {:?}", report.problems);
}

/// What a run with a fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Nobody noticed.
    Well,
    /// The store could not be opened.
    NotOpened,
    /// Calls failed; the store did not stop.
    Calls,
    /// The store stopped.
    Stopped,
}

/// The run itself: opens, works, closes.
fn run(disk: &SimDisk, before: &Known, what: &str) -> (Outcome, Ended) {
    let store = match open(disk) {
        Ok(store) => store,
        Err(e) => {
            assert!(matches!(e, Error::Io(_) | Error::Stopped(_)), "{what}: {e}");
            return (Outcome::default(), Ended::NotOpened);
        }
    };
    let mut out = work(&store);
    for e in &out.errors {
        let fits = matches!(
            e,
            Error::Stopped(_) | Error::OutcomeUnknown { .. } | Error::Io(_)
        );
        assert!(fits, "{what}: {e}");
    }
    // A writer that met an error may have been the last call of all.
    let has_stopped = |e: &Error| !matches!(e, Error::Io(_));
    let mut ended = match out.errors.is_empty() {
        true => Ended::Well,
        false => Ended::Calls,
    };
    if out.errors.iter().any(has_stopped) {
        ended = Ended::Stopped;
        stopped(&store, &out, before, what);
    }
    let last = out.done.last();
    // The last checkpoint is made by the thread that closes, and may panic there.
    let closed = std::panic::catch_unwind(AssertUnwindSafe(|| store.close()));
    match closed.unwrap_or_else(|_| Err(Error::Stopped("a panic".into()))) {
        Ok(()) => {
            assert_ne!(ended, Ended::Stopped, "{what}: close");
            out.done.durable(last);
        }
        Err(e) => {
            assert!(matches!(e, Error::Stopped(_)), "{what}: close: {e}");
            ended = Ended::Stopped;
        }
    }
    (out, ended)
}

/// The device works again: what is on it is recovered, as it is and after a power cut.
fn recovers(disk: &SimDisk, out: Outcome, before: &Known, seed: u64, what: &str) {
    disk.clear_faults();
    let after_cut = disk.crash(seed);
    let as_it_is = disk.snapshot();
    for (disk, how) in [(as_it_is, "as it is"), (after_cut, "after a power cut")] {
        let what = format!("{what}, {how}");
        clean(&disk, &what);
        let store = open(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut known = before.clone();
        let done = Done {
            commits: out.done.commits.clone(),
            created: out.done.created.clone(),
            ..out.done
        };
        known.settle(done, store.recovery().last_csn);
        known.compare(&store, &what);
        let tree = store.open_tree(ONE).unwrap();
        tree.put(b"after", b"x").unwrap();
        drop(tree);
        store.close().unwrap();
        clean(&disk, &what);
    }
}

/// The variants of a fault: what, and whether for good.
fn variants(at: u64) -> Vec<(FaultKind, bool)> {
    let kind = [IoErrorKind::Failed, IoErrorKind::NoSpace].map(FaultKind::Fail);
    let all = [
        (kind[0], false),
        (kind[1], true),
        (kind[1], false),
        (kind[0], true),
    ];
    match all_faults() {
        true => all.to_vec(),
        false => vec![all[at as usize % 4]],
    }
}

fn all_faults() -> bool {
    std::env::var("GAUR_FAULTS").is_ok_and(|v| v == "all")
}

fn inject(disk: &SimDisk, op: OpKind, at: u64, (what, for_good): (FaultKind, bool)) {
    disk.inject(match for_good {
        true => Fault::for_good(op, at, what),
        false => Fault::once(op, at, what),
    });
}

/// Tries every index, and counts how the runs ended: not opened, calls failed, stopped.
fn every(op: OpKind) -> [u64; 3] {
    let watchdog = Watchdog::start(Duration::from_secs(60));
    let (base, before) = formatted();
    let (opening, all) = calls(&base);
    let (mut tried, mut ends) = (0, [0; 3]);
    for at in 0..all.next(op) {
        for variant in variants(at) {
            let what = format!("{op:?} {at} fails: {variant:?}");
            watchdog.feed(what.clone());
            let disk = base.snapshot();
            inject(&disk, op, at, variant);
            let (out, ended) = run(&disk, &before, &what);
            recovers(&disk, out, &before, at, &what);
            tried += 1;
            match ended {
                Ended::Well => {}
                Ended::NotOpened => ends[0] += 1,
                Ended::Calls => ends[1] += 1,
                Ended::Stopped => ends[2] += 1,
            }
        }
    }
    println!(
        "{op:?}: {} calls, {} of them while opening; {tried} faults tried: {} stores did not \
         open, {} had failed calls, {} stopped",
        all.next(op),
        opening.next(op),
        ends[0],
        ends[1],
        ends[2],
    );
    // Timing moves a few calls behind the end of the workload.
    if op != OpKind::Discard && op != OpKind::Read {
        assert!(
            ends.iter().sum::<u64>() * 10 >= tried * 7,
            "{ends:?} of {tried}"
        );
    }
    ends
}

#[test]
fn the_nth_write_fails() {
    every(OpKind::Write);
}

#[test]
fn the_nth_flush_fails() {
    every(OpKind::Flush);
}

#[test]
fn the_nth_read_fails() {
    every(OpKind::Read);
}

#[test]
fn the_nth_discard_fails() {
    assert_eq!(
        every(OpKind::Discard),
        [0; 3],
        "a failed discard is no failure"
    );
}

#[test]
fn the_nth_read_fails_once_and_then_succeeds() {
    let watchdog = Watchdog::start(Duration::from_secs(60));
    let (base, known) = formatted();
    let all = {
        let disk = base.snapshot();
        let store = open(&disk).unwrap();
        let tree = store.open_tree(ONE).unwrap();
        for k in known.trees[ONE].keys() {
            tree.get(k).unwrap();
        }
        disk.stats().reads
    };
    let (mut tried, mut seen) = (0, 0);
    for at in (0..all).step_by(11) {
        watchdog.feed(format!("read {at} fails"));
        tried += 1;
        let disk = base.snapshot();
        disk.inject(Fault::once(
            OpKind::Read,
            at,
            FaultKind::Fail(IoErrorKind::Failed),
        ));
        let store = match open(&disk) {
            Ok(store) => store,
            Err(e) => {
                assert!(matches!(e, Error::Io(_)), "read {at}: {e}");
                seen += 1;
                open(&disk).unwrap()
            }
        };
        let tree = store.open_tree(ONE).unwrap();
        for (k, v) in &known.trees[ONE] {
            match tree.get(k) {
                Ok(got) => assert_eq!(got.as_deref(), Some(&v[..])),
                Err(Error::Io(_)) => {
                    seen += 1;
                    assert_eq!(tree.get(k).unwrap().as_deref(), Some(&v[..]));
                }
                Err(e) => panic!("read {at}: {e}"),
            }
        }
        tree.put(&key(1), b"x").unwrap();
        store.close().unwrap();
    }
    println!("{all} reads: {tried} faults, {seen} seen");
    assert!(seen * 10 >= tried * 8, "{seen} of {tried}");
}

#[test]
fn short_transfers_and_eagain_are_not_seen() {
    let (base, before) = formatted();
    for what in [
        FaultKind::Short(4096),
        FaultKind::Short(1),
        FaultKind::Again(3),
    ] {
        let disk = base.snapshot();
        for op in [OpKind::Read, OpKind::Write] {
            disk.inject(Fault::for_good(op, 0, what));
        }
        let store = open(&disk).unwrap();
        let out = work(&store);
        assert!(out.errors.is_empty(), "{:?}", out.errors);
        let mut known = before.clone();
        known.settle(out.done, store.flush().unwrap());
        known.compare(&store, "with short transfers");
        store.close().unwrap();
        let stats = disk.stats();
        assert!(stats.short + stats.again > 10, "{stats:?}");
        disk.clear_faults();
        clean(&disk, "with short transfers");
        let store = open(&disk).unwrap();
        assert_eq!(store.recovery().replayed, 0);
        known.compare(&store, "reopened");
    }
}
