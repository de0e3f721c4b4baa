//! Growth: with the power cut at every write and flush of it, with every call
//! failing, by itself, and by what others enlarged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gaur::{
    CheckOptions, Durability, DurableMethod, Error, FormatOptions, GrowReport, OpenOptions, Store,
    Tree, check_device,
};
use gaur_iodriver::IoErrorKind;
use gaur_iodriver::sim::{Fault, FaultKind, OpKind, SimDisk, SimOptions};
use gaur_iodriver::sync::rng;
use rand::RngExt;

use super::campaign::Watchdog;
use super::common::checked;

const MIB: u64 = 1 << 20;
/// A whole group.
const GROUP: u64 = 32_256 * 4096;

fn formatted(capacity: u64, file: bool) -> SimDisk {
    let disk = SimDisk::new(SimOptions {
        capacity,
        file,
        ..SimOptions::default()
    });
    let options = FormatOptions {
        log_size: Some(4 * MIB),
        durable_method: Some(DurableMethod::Dsync),
        ..FormatOptions::default()
    };
    Store::format_device(disk.device(), &options).unwrap();
    disk
}

fn options() -> OpenOptions {
    OpenOptions {
        cache_bytes: 4 * MIB,
        checkpoint_interval: Duration::from_secs(3600),
        follow_size: false,
        ..OpenOptions::default()
    }
}

fn open(disk: &SimDisk) -> Store {
    Store::open_device(disk.device(), &options()).unwrap()
}

fn key(i: u64) -> Vec<u8> {
    format!("key-{i:08}").into_bytes()
}

fn put_some(tree: &Tree, from: u64, n: u64) {
    for i in from..from + n {
        tree.put_with(&key(i), &[i as u8; 300], Durability::Buffered)
            .unwrap();
    }
}

/// A growth to go through with power cuts.
struct Kind {
    what: &'static str,
    from: u64,
    to: u64,
    /// And then.
    further: u64,
    /// Records before, so that the map is written; 0: it was never.
    records: u64,
}

const KINDS: [Kind; 7] = [
    Kind {
        what: "a short group becomes longer",
        from: 24 * MIB,
        to: 40 * MIB,
        further: 300 * MIB,
        records: 300,
    },
    Kind {
        what: "a map that was never written",
        from: 24 * MIB,
        to: 24 * MIB + 4096,
        further: 25 * MIB,
        records: 0,
    },
    Kind {
        what: "a short group becomes whole, and further ones",
        from: 100 * MIB,
        to: 3 * GROUP,
        further: 3 * GROUP + 63 * 4096,
        records: 300,
    },
    Kind {
        what: "a tail too short to be used",
        from: GROUP + 60 * 4096,
        to: GROUP + 64 * 4096,
        further: 2 * GROUP,
        records: 10,
    },
    Kind {
        what: "a second index block of level 1",
        from: 126 * GROUP,
        to: 126 * GROUP + 70 * 4096,
        further: 300 * GROUP,
        records: 10,
    },
    Kind {
        what: "from a short group over the end of an index block of level 1",
        from: 125 * GROUP + 80 * 4096,
        to: 128 * GROUP,
        further: 129 * GROUP,
        records: 10,
    },
    Kind {
        what: "a second index block of level 2",
        from: 126 * 126 * GROUP - 4096,
        to: 126 * 126 * GROUP + GROUP,
        further: 126 * 126 * GROUP + 2 * GROUP,
        records: 10,
    },
];

/// What the store may have of a device.
fn usable(bytes: u64) -> u64 {
    let tail = bytes % GROUP;
    if tail < 64 * 4096 {
        bytes - tail
    } else {
        bytes
    }
}

/// Cuts the power at the `n`-th write or flush of a growth, with others writing
/// meanwhile or not. True if the growth was over before that.
fn cut(kind: &Kind, base: &SimDisk, n: u64, writing: bool, seed: u64) -> bool {
    let what = format!("{}, cut {n}, writing {writing}, seed {seed}", kind.what);
    let disk = base.snapshot();
    disk.set_capacity(kind.to);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    put_some(&tree, kind.records, 40);
    let mut acknowledged = kind.records;
    if store.flush().is_ok() {
        acknowledged += 40;
    }
    let stop = AtomicBool::new(!writing);
    disk.crash_after(n);
    let (grown, more) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut at = acknowledged;
            while !stop.load(Ordering::Relaxed) && tree.put(&key(at), b"more").is_ok() {
                at += 1;
            }
            at - acknowledged
        });
        let grown = store.grow(None);
        stop.store(true, Ordering::Relaxed);
        (grown, writer.join().unwrap())
    });
    acknowledged += more;
    let over = disk.is_powered();
    disk.power_off();
    drop((tree, store));

    let after = disk.crash(seed);
    let report = checked(&after);
    let capacity = report.superblock.capacity * 4096;
    let (old, new) = (usable(kind.from), usable(kind.to));
    assert!(capacity == old || capacity == new, "{what}: {capacity}");
    match &grown {
        Ok(r) => assert_eq!((capacity, r.before, r.capacity), (new, old, new), "{what}"),
        Err(e) => assert!(!over, "{what}: {e}"),
    }
    let store = open(&after);
    let tree = store.tree("t").unwrap();
    for i in (0..acknowledged).rev().take(200) {
        assert!(
            tree.get(&key(i)).unwrap().is_some(),
            "{what}: key {i} is lost"
        );
    }
    // The growth that was cut short, or a further one.
    after.set_capacity(kind.further);
    assert_eq!(
        store.grow(None).unwrap().capacity,
        usable(kind.further),
        "{what}"
    );
    tree.put(b"large", &vec![7; 3 << 20]).unwrap();
    put_some(&tree, acknowledged, 40);
    drop(tree);
    store.close().unwrap();
    checked(&after);
    let store = open(&after);
    let large = store.tree("t").unwrap().get(b"large").unwrap().unwrap();
    assert!(large.iter().all(|&b| b == 7), "{what}");
    assert_eq!(store.capacity(), usable(kind.further));
    over
}

#[test]
fn power_cuts_while_it_grows() {
    let seed = rng::fresh_seed();
    println!("seed {seed}");
    let mut r = rng::seeded(seed);
    let watchdog = Watchdog::start(Duration::from_secs(120));
    for kind in &KINDS {
        let base = formatted(kind.from, false);
        if kind.records > 0 {
            let store = open(&base);
            put_some(&store.tree("t").unwrap(), 0, kind.records);
            store.close().unwrap();
        }
        watchdog.feed(kind.what.to_owned());
        // Of so many groups a check takes its time.
        let huge = kind.from > 1 << 40;
        let mut n = 1;
        while !cut(kind, &base, n, false, r.random()) {
            n += if huge { 3 } else { 1 };
        }
        println!("{}: {n} cuts", kind.what);
        assert!(n > 8, "{}: only {n} writes and flushes", kind.what);
        for _ in 0..if huge { 1 } else { 10 } {
            watchdog.feed(kind.what.to_owned());
            cut(kind, &base, r.random_range(1..60), true, r.random());
        }
    }
}

/// The n-th write or flush of a growth fails: the store stops, and nothing is lost.
#[test]
fn a_failed_write_of_the_checkpoint_that_grows_stops_the_store() {
    let kind = &KINDS[2];
    let base = formatted(kind.from, false);
    put_some(&open(&base).tree("t").unwrap(), 0, 300);
    for op in [OpKind::Write, OpKind::Flush] {
        for n in 0.. {
            let disk = base.snapshot();
            disk.set_capacity(kind.to);
            let store = open(&disk);
            let tree = store.tree("t").unwrap();
            put_some(&tree, 300, 40);
            store.flush().unwrap();
            let at = disk.stats().next(op) + n;
            let failed = FaultKind::Fail(IoErrorKind::Failed);
            disk.inject(Fault::once(op, at, failed));
            let grown = store.grow(None);
            let met = disk.stats().next(op) > at;
            assert_eq!(grown.is_err(), met, "{op:?} {n}: {grown:?}");
            if !met {
                disk.clear_faults();
            }
            assert_eq!(tree.put(b"k", b"v").is_err(), met, "{op:?} {n}");
            drop((tree, store));
            disk.clear_faults();
            let store = open(&disk);
            let tree = store.tree("t").unwrap();
            assert!((0..340).all(|i| tree.get(&key(i)).unwrap().is_some()));
            assert_eq!(store.grow(None).unwrap().capacity, kind.to);
            drop(tree);
            store.close().unwrap();
            checked(&disk);
            if !met {
                break;
            }
        }
    }
}

#[test]
fn a_growth_that_fails_stops_nothing() {
    let disk = formatted(32 * MIB, true);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let fail = |op, kind| disk.inject_next(op, FaultKind::Fail(kind));
    for (op, kind) in [
        (OpKind::Grow, IoErrorKind::NoSpace),
        (OpKind::Grow, IoErrorKind::Failed),
        (OpKind::Refresh, IoErrorKind::Failed),
    ] {
        fail(op, kind);
        match store.grow(Some(64 * MIB)) {
            Err(Error::CannotGrow {
                have,
                wanted,
                cause,
            }) => {
                assert_eq!((have, wanted, cause.kind), (32 * MIB, 64 * MIB, kind));
            }
            other => panic!("{op:?}: {other:?}"),
        }
        assert!(store.notes().iter().any(|n| n.contains("cannot grow")));
        tree.put(b"k", b"v").unwrap();
        store.checkpoint().unwrap();
    }
    assert_eq!(store.stats().get("growth", "failures"), Some(3));
    assert_eq!(store.capacity(), 32 * MIB);
    disk.clear_faults();
    let report = store.grow(Some(64 * MIB)).unwrap();
    let whole = GrowReport {
        before: 32 * MIB,
        capacity: 64 * MIB,
        device: 64 * MIB,
    };
    assert_eq!(report, whole);
    assert!(store.notes().is_empty(), "{:?}", store.notes());
    // Nothing more to win is no failure.
    let again = store.grow(Some(64 * MIB)).unwrap();
    assert_eq!((again.before, again.capacity), (64 * MIB, 64 * MIB));
    assert_eq!(store.stats().get("growth", "growths"), Some(1));
    drop(tree);
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn what_cannot_be_is_refused() {
    let disk = formatted(32 * MIB, false);
    let store = open(&disk);
    for size in [0, 16 * MIB, u64::MAX] {
        for e in [store.grow(Some(size)), store.plan_growth(Some(size))] {
            assert!(matches!(e, Err(Error::BadOption { .. })), "{e:?}");
        }
    }
    for e in [
        store.grow(Some(64 * MIB)),
        store.plan_growth(Some(64 * MIB)),
    ] {
        let Err(Error::CannotGrow { cause, .. }) = e else {
            panic!("{e:?}");
        };
        assert_eq!(cause.kind, IoErrorKind::Unsupported);
    }
    disk.set_capacity(64 * MIB);
    let plan = store.plan_growth(Some(64 * MIB)).unwrap();
    assert_eq!((plan.before, plan.capacity), (32 * MIB, 64 * MIB));
    assert_eq!(store.capacity(), 32 * MIB);
    let other = store.clone();
    store.close().unwrap();
    assert!(matches!(other.grow(None), Err(Error::Closed)));

    let options = OpenOptions {
        read_only: true,
        ..options()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    assert_eq!(store.plan_growth(None).unwrap(), plan);
    assert!(matches!(store.grow(None), Err(Error::ReadOnly)));
    drop(store);

    // A device smaller than its store says so, and is not touched.
    disk.set_capacity(31 * MIB);
    let before = disk.image_hash();
    let opened = Store::open_device(disk.device(), &OpenOptions::default());
    let Err(Error::Shrunk { need, have }) = opened else {
        panic!("{opened:?}");
    };
    assert_eq!((need, have), (32 * MIB, 31 * MIB));
    let checked = check_device(disk.device(), &CheckOptions::default());
    assert!(matches!(checked, Err(Error::Shrunk { .. })));
    assert_eq!(disk.image_hash(), before);
}

/// Fills the store with small, and perhaps some `large` values from several threads
/// until it says that it is full, or `bytes` are in.
fn fill(store: &Store, bytes: u64, large: bool) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u64)
            .map(|t| {
                let tree = store.tree("t").unwrap();
                scope.spawn(move || {
                    let (mut put, mut i) = (0, 0);
                    while put < bytes / 4 {
                        let len = if large && i % 20 == 0 { 1 << 20 } else { 900 };
                        let value = vec![t as u8; len];
                        tree.put_with(&key(t << 24 | i), &value, Durability::Buffered)?;
                        put += len as u64;
                        i += 1;
                    }
                    Ok(())
                })
            })
            .collect();
        let all: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        all.into_iter().collect()
    })
}

#[test]
fn a_file_grows_by_itself_before_it_is_full() {
    let watchdog = Watchdog::start(Duration::from_secs(120));
    watchdog.feed("a file that grows by itself".into());
    let disk = formatted(16 * MIB, true);
    let options = OpenOptions {
        grow_to: Some(200 * MIB),
        ..options()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    assert_eq!(store.capacity(), 16 * MIB);
    fill(&store, 120 * MIB, true).unwrap();
    let get = |name| store.stats().get("growth", name).unwrap();
    assert!(get("growths") >= 2, "{}", get("growths"));
    assert_eq!((get("capacity"), get("failures")), (store.capacity(), 0));
    // And no further than it may.
    let full = fill(&store, 400 * MIB, true);
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    assert_eq!(store.capacity(), 200 * MIB);
    assert_eq!(disk.device().geometry().capacity, 200 * MIB);
    assert_eq!(store.stats().get("waits", "under_latch"), Some(0));
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn where_the_file_system_is_full_so_is_the_store_and_it_goes_on() {
    let disk = formatted(16 * MIB, true);
    let options = OpenOptions {
        grow_to: Some(200 * MIB),
        ..options()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let no_space = FaultKind::Fail(IoErrorKind::NoSpace);
    disk.inject(Fault::for_good(OpKind::Grow, 0, no_space));
    let full = fill(&store, 100 * MIB, true);
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    // It does not ask at every commit.
    assert!(disk.stats().grows < 20, "{}", disk.stats().grows);
    assert!(store.notes().iter().any(|n| n.contains("cannot grow")));
    let tree = store.tree("t").unwrap();
    tree.delete(&key(0)).unwrap();
    disk.clear_faults();
    store.grow(Some(100 * MIB)).unwrap();
    tree.put(b"large", &vec![1; 40 << 20]).unwrap();
    drop(tree);
    store.close().unwrap();
    checked(&disk);
}

#[test]
fn what_others_enlarged_is_taken_in() {
    // In its own time.
    let disk = formatted(32 * MIB, false);
    let options = |interval| OpenOptions {
        follow_size: true,
        checkpoint_interval: interval,
        ..options()
    };
    let often = options(Duration::from_millis(5));
    let store = Store::open_device(disk.device(), &often).unwrap();
    disk.set_capacity(48 * MIB);
    let end = Instant::now() + Duration::from_secs(30);
    while store.capacity() != 48 * MIB {
        assert!(Instant::now() < end, "never taken in");
        std::thread::sleep(Duration::from_millis(1));
    }
    store.close().unwrap();
    checked(&disk);
    // And rather than say that it is full, to small values and to large ones.
    let seldom = options(Duration::from_secs(3600));
    let store = Store::open_device(disk.device(), &seldom).unwrap();
    for (large, capacity) in [(false, 200), (true, 350)] {
        disk.set_capacity(capacity * MIB);
        // Small values that come in order take twice their space.
        fill(&store, if large { 120 } else { 60 } * MIB, large).unwrap();
        assert_eq!(store.capacity(), capacity * MIB);
    }
    store.close().unwrap();
    // Not if it is told not to.
    disk.set_capacity(600 * MIB);
    let never = OpenOptions {
        follow_size: false,
        ..seldom
    };
    let store = Store::open_device(disk.device(), &never).unwrap();
    assert!(matches!(
        fill(&store, 600 * MIB, true),
        Err(Error::Full { .. })
    ));
    assert_eq!(store.capacity(), 350 * MIB);
    store.close().unwrap();
    checked(&disk);
}

/// A growth whose file was made longer and whose superblock was not written.
#[test]
fn a_longer_file_is_harmless_and_taken_in_the_next_time() {
    let disk = formatted(32 * MIB, true);
    disk.device().grow(64 * MIB, Some(32 * MIB)).unwrap();
    checked(&disk);
    let own = OpenOptions {
        grow_to: Some(48 * MIB),
        ..options()
    };
    let store = Store::open_device(disk.device(), &own).unwrap();
    assert_eq!(store.capacity(), 32 * MIB);
    // By itself no further than it may.
    assert!(matches!(
        fill(&store, 100 * MIB, true),
        Err(Error::Full { .. })
    ));
    assert_eq!(store.capacity(), 48 * MIB);
    assert_eq!(store.grow(None).unwrap().capacity, 64 * MIB);
    store.close().unwrap();
    checked(&disk);
}
