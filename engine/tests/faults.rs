//! An error at every index: the n-th write, flush or read fails, for every n.
//!
//! A standard workload of one thread runs on a copy of the same formatted disk,
//! with one fault. What must hold (P8): nothing acknowledged is lost, commits in
//! flight say so, later ones are refused, reads go on, close fails and ends, and
//! opening again recovers. A failed read is an error of that read alone.
//!
//! `GAUR_FAULT_STRIDE=1` tries every index; the ordinary test every few.

mod campaign;

use std::time::Duration;

use campaign::Watchdog;
use campaign::history::{Change, Commit, Done, Known};
use gaur::{Durability, DurableMethod, Error, FormatOptions, OpenOptions, Store, WriteBatch};
use gaur_iodriver::IoErrorKind;
use gaur_iodriver::sim::{Fault, FaultKind, OpKind, SimDisk, SimOptions, SimStats};

const FAIL: FaultKind = FaultKind::Fail(IoErrorKind::Failed);
const ONE: &str = "one";

fn formatted() -> SimDisk {
    let disk = SimDisk::new(SimOptions {
        capacity: 32 << 20,
        seed: 7,
        ..SimOptions::default()
    });
    let options = FormatOptions {
        durable_method: Some(DurableMethod::Dsync),
        ..FormatOptions::default()
    };
    Store::format_device(disk.device(), &options).unwrap();
    // Something is there already, so that opening reads and replays.
    let store = open(&disk).unwrap();
    let tree = store.tree(ONE).unwrap();
    for i in 0..1500 {
        tree.put_with(&key(i), &[1; 400], Durability::Buffered)
            .unwrap();
    }
    store.checkpoint().unwrap();
    tree.put(&key(3), b"replayed").unwrap();
    drop(tree);
    drop(store);
    disk.snapshot()
}

fn start() -> Known {
    let mut done = Done::default();
    done.created.push(ONE.into());
    for i in 0..1500u32 {
        done.commits.push(Commit {
            csn: u64::from(i) + 2,
            changes: vec![Change::Put(ONE.into(), key(i), vec![1; 400].into())],
        });
    }
    done.commits.push(Commit {
        csn: 1502,
        changes: vec![Change::Put(ONE.into(), key(3), b"replayed".to_vec().into())],
    });
    let mut known = Known::default();
    known.settle(done, 1502);
    known
}

fn open(disk: &SimDisk) -> Result<Store, Error> {
    let options = OpenOptions {
        // Small: the evictor reads and writes too.
        cache_bytes: 1 << 20,
        checkpoint_interval: Duration::from_secs(3600),
        buffered_interval: Duration::from_millis(2),
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options)
}

fn key(i: u32) -> Vec<u8> {
    format!("key-{:05}", i.wrapping_mul(7919) % 10_007).into_bytes()
}

/// The standard workload; ends at the first error, which it returns.
fn work(store: &Store, done: &mut Done) -> Result<(), Error> {
    let tree = store.open_tree(ONE)?;
    for i in 0..60u32 {
        let durability = if i % 3 == 0 {
            Durability::Sync
        } else {
            Durability::Buffered
        };
        let len = if i % 10 == 4 { 30_000 } else { 20 + i as usize };
        let mut changes = vec![Change::Put(
            ONE.into(),
            key(i * 31),
            vec![i as u8; len].into(),
        )];
        if i % 4 == 1 {
            changes.push(Change::Delete(ONE.into(), key(i * 17 + 1)));
            changes.push(Change::Put(
                ONE.into(),
                key(9000 + i),
                b"new".to_vec().into(),
            ));
        }
        let mut batch = WriteBatch::new();
        for change in &changes {
            match change {
                Change::Put(_, k, v) => batch.put(&tree, k, v),
                Change::Delete(_, k) => batch.delete(&tree, k),
                Change::Create(_) => unreachable!(),
            };
        }
        match store.commit(batch, durability) {
            Ok(csn) => {
                done.commits.push(Commit { csn, changes });
                if durability == Durability::Sync {
                    done.durable(csn);
                }
            }
            Err(e) => {
                if let Error::OutcomeUnknown { csn, .. } = e {
                    done.commits.push(Commit { csn, changes });
                }
                return Err(e);
            }
        }
        if i % 25 == 24 {
            let last = done.last();
            store.checkpoint()?;
            done.durable(last);
        }
    }
    Ok(())
}

/// Calls of each kind in a run without faults, from the opening to the close.
fn calls(base: &SimDisk) -> SimStats {
    let disk = base.snapshot();
    let store = open(&disk).unwrap();
    let mut done = Done::default();
    work(&store, &mut done).unwrap();
    store.close().unwrap();
    disk.stats()
}

fn stride(ordinary: u64) -> u64 {
    match std::env::var("GAUR_FAULT_STRIDE") {
        Ok(n) => n.parse().expect("a number"),
        Err(_) => ordinary,
    }
}

/// What a stopped store still does and does not.
fn stopped(store: &Store, done: &Done, before: &Known, what: &str) {
    let tree = store.open_tree(ONE).unwrap();
    for _ in 0..2 {
        for durability in [Durability::Sync, Durability::Buffered] {
            let refused = tree.put_with(b"after", b"x", durability);
            assert!(
                matches!(refused, Err(Error::Stopped(_))),
                "{what}: {refused:?}"
            );
        }
    }
    let big = tree.put(b"after", &[1; 20_000]);
    assert!(matches!(big, Err(Error::Stopped(_))), "{what}: {big:?}");
    let new = store.create_tree("another");
    assert!(matches!(new, Err(Error::Stopped(_))), "{what}: {new:?}");
    assert!(store.checkpoint().is_err(), "{what}");
    assert!(!tree.contains(b"after").unwrap());
    // Reads go on, also of what has to be read from the device.
    let touched: std::collections::BTreeSet<_> = done
        .commits
        .iter()
        .flat_map(|c| &c.changes)
        .map(|c| match c {
            Change::Put(_, k, _) | Change::Delete(_, k) => k.clone(),
            Change::Create(_) => unreachable!(),
        })
        .collect();
    for (k, v) in &before.trees[ONE] {
        if !touched.contains(k) {
            let got = tree.get(k).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(got.as_deref(), Some(&v[..]), "{what}");
        }
    }
    assert!(tree.iter().unwrap().all(|r| r.is_ok()), "{what}");
}

/// One fault; returns whether anything failed.
fn fault(base: &SimDisk, op: OpKind, at: u64, for_good: bool, watchdog: &Watchdog) -> bool {
    let what = format!(
        "{op:?} {at} fails{}",
        if for_good { " for good" } else { "" }
    );
    watchdog.feed(what.clone());
    let disk = base.snapshot();
    disk.inject(if for_good {
        Fault::for_good(op, at, FAIL)
    } else {
        Fault::once(op, at, FAIL)
    });
    let before = start();
    let mut done = Done::default();
    let failed = match open(&disk) {
        Err(e) => {
            assert!(matches!(e, Error::Io(_) | Error::Stopped(_)), "{what}: {e}");
            true
        }
        Ok(store) => match work(&store, &mut done) {
            Ok(()) => {
                let closed = store.close();
                if closed.is_ok() {
                    done.durable(done.last());
                }
                closed.is_err()
            }
            Err(e) => {
                let fits = matches!(
                    e,
                    Error::Stopped(_) | Error::OutcomeUnknown { .. } | Error::Io(_)
                );
                assert!(fits, "{what}: {e}");
                stopped(&store, &done, &before, &what);
                assert!(store.close().is_err(), "{what}: close");
                true
            }
        },
    };
    // The device works again: once as it is, and once after a power cut.
    disk.clear_faults();
    let after_cut = disk.crash(at);
    let as_it_is = disk.snapshot();
    for (disk, how) in [(as_it_is, "as it is"), (after_cut, "after a power cut")] {
        let store = open(&disk).unwrap_or_else(|e| panic!("{what}, {how}: {e}"));
        let mut known = before.clone();
        let copy = Done {
            commits: done.commits.clone(),
            created: Vec::new(),
            ..done
        };
        known.settle(copy, store.recovery().last_csn);
        known.compare(&store, &format!("{what}, {how}"));
        let tree = store.open_tree(ONE).unwrap();
        tree.put(b"after", b"x").unwrap();
        drop(tree);
        store.close().unwrap();
    }
    failed
}

fn every(op: OpKind, ordinary: u64) {
    let watchdog = Watchdog::start(Duration::from_secs(60));
    let base = formatted();
    let calls = calls(&base).next(op);
    let step = stride(ordinary);
    let (mut tried, mut failed) = (0, 0);
    for at in (0..calls).step_by(step as usize) {
        for for_good in [false, true] {
            tried += 1;
            failed += u64::from(fault(&base, op, at, for_good, &watchdog));
        }
    }
    println!("{op:?}: {calls} calls, {tried} faults tried, {failed} failed the store");
    // Timing moves a few calls behind the end of the workload.
    assert!(failed * 10 >= tried * 8, "{failed} of {tried}");
}

#[test]
fn the_nth_write_fails() {
    every(OpKind::Write, 3);
}

#[test]
fn the_nth_flush_fails() {
    every(OpKind::Flush, 1);
}

#[test]
fn the_nth_read_fails_once() {
    let watchdog = Watchdog::start(Duration::from_secs(60));
    let base = formatted();
    let calls = {
        let disk = base.snapshot();
        let store = open(&disk).unwrap();
        let opening = disk.stats().reads;
        let tree = store.open_tree(ONE).unwrap();
        for i in 0..1500 {
            tree.get(&key(i)).unwrap();
        }
        (opening, disk.stats().reads)
    };
    let (mut tried, mut seen) = (0, 0);
    for at in (0..calls.1).step_by(stride(7) as usize) {
        watchdog.feed(format!("read {at} fails"));
        tried += 1;
        let disk = base.snapshot();
        disk.inject(Fault::once(OpKind::Read, at, FAIL));
        let store = match open(&disk) {
            Ok(store) => store,
            Err(e) => {
                assert!(matches!(e, Error::Io(_)), "read {at}: {e}");
                seen += 1;
                open(&disk).unwrap()
            }
        };
        let tree = store.open_tree(ONE).unwrap();
        let known = start();
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
        tree.put(b"after", b"x").unwrap();
        store.close().unwrap();
    }
    println!(
        "{} reads while opening, {} in all: {tried} faults, {seen} seen",
        calls.0, calls.1
    );
    assert!(seen * 10 >= tried * 8, "{seen} of {tried}");
}

#[test]
fn short_transfers_and_eagain_are_not_seen() {
    let base = formatted();
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
        let mut done = Done::default();
        work(&store, &mut done).unwrap();
        let mut known = start();
        known.settle(done, store.flush().unwrap());
        known.compare(&store, "with short transfers");
        store.close().unwrap();
        let stats = disk.stats();
        assert!(stats.short + stats.again > 10, "{stats:?}");
        disk.clear_faults();
        let store = open(&disk).unwrap();
        assert_eq!(store.recovery().replayed, 0);
        known.compare(&store, "reopened");
    }
}
