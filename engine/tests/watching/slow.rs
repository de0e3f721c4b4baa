//! Readers that last: told of, given up for age or memory, and holding nothing then.

use std::time::Instant;

use gaur::{Error, GivenUp};

use super::*;

const SLOW: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_millis(600);

fn too_old<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(
        matches!(result, Err(Error::ViewTooOld { .. })),
        "{result:?}"
    );
}

fn get(store: &Store, group: &str, name: &str) -> u64 {
    store.stats().get(group, name).unwrap()
}

fn is_slow(e: &Event) -> bool {
    matches!(e, Event::SlowReader { .. })
}

fn is_given_up(e: &Event) -> bool {
    matches!(e, Event::ReadersGivenUp { .. })
}

/// Breaks if what was given up still counts as a reader where images are collected, or
/// where blocks are released; or if a large value is called damaged that a reader who
/// was given up reads too late.
#[test]
fn past_its_age_a_reader_is_given_up_and_holds_nothing() {
    let o = OpenOptions {
        slow_reader: SLOW,
        max_reader_age: Some(LIMIT),
        ..options()
    };
    let disk = formatted(11, false);
    let store = Store::open_device(disk.device(), &o).unwrap();
    let tree = store.tree("t").unwrap();
    let key = |i: u32| i.to_be_bytes();
    let large = |byte: u8| vec![byte; 100_000];
    for i in 0..200 {
        tree.put_with(&key(i), &[1; 100], BUFFERED).unwrap();
    }
    tree.put_with(b"large", &large(1), BUFFERED).unwrap();
    let events = store.events(1000).unwrap();
    let begun = Instant::now();
    let old = store.snapshot().unwrap();
    let mut scan = old.iter(&tree).unwrap();
    let cut_short = old.range(&tree, b"large".to_vec()..).unwrap();
    let mut t = store.transaction().unwrap();
    assert!(t.get(&tree, &key(1)).unwrap().is_some());
    t.put(&tree, &key(1), b"").unwrap();
    scan.next().unwrap().unwrap();
    let overwrite = |byte: u8| {
        for i in 0..200 {
            tree.put_with(&key(i), &[byte; 100], BUFFERED).unwrap();
        }
        tree.put_with(b"large", &large(byte), BUFFERED).unwrap();
    };
    overwrite(2);
    store.checkpoint().unwrap();
    match await_event(&events, is_slow) {
        Event::SlowReader {
            csn,
            age,
            behind,
            kept_bytes,
            ..
        } => {
            assert!(csn <= old.csn() && age > SLOW);
            assert!(behind > 0 && kept_bytes > 0);
        }
        other => panic!("{other:?}"),
    }
    let (value, kept) = (old.get(&tree, b"large"), get(&store, "versions", "bytes"));
    let pinned = get(&store, "space", "pinned");
    // Unless the machine is slow.
    if begun.elapsed() < LIMIT {
        assert_eq!(value.unwrap(), Some(large(1)));
        assert!(kept > 20_000 && pinned >= 25, "{kept} {pinned}");
    }
    // One that has just begun when the old ones are given up.
    let mut young = store.snapshot().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let given_up = loop {
        assert!(Instant::now() < end, "{:?}", store.stats());
        match events.try_next() {
            Some(e) if is_given_up(&e) => break e,
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
        if young.age() > LIMIT / 3 {
            young = store.snapshot().unwrap();
        }
    };
    assert_eq!(young.get(&tree, &key(1)).unwrap(), Some(vec![2; 100]));
    // The snapshot, its clones in the scans counted as one, and the transaction.
    let by_age = Event::ReadersGivenUp {
        views: 2,
        oldest: old.csn(),
        cause: GivenUp::Age,
    };
    assert_eq!(given_up, by_age);
    assert_eq!(get(&store, "views", "given_up"), 2);
    drop(young);

    // They are held, and hold nothing: what is overwritten now is kept for nobody.
    store.checkpoint().unwrap();
    for byte in 3..8 {
        overwrite(byte);
        store.checkpoint().unwrap();
    }
    let end = Instant::now() + Duration::from_secs(30);
    while get(&store, "versions", "bytes") > 0 || get(&store, "space", "pinned") > 0 {
        assert!(Instant::now() < end, "{:?}", store.stats());
        overwrite(9);
        store.checkpoint().unwrap();
        std::thread::sleep(LIMIT / 8);
    }
    assert!(get(&store, "views", "open") >= 2);
    too_old(old.get(&tree, &key(1)));
    too_old(old.get(&tree, b"large"));
    too_old(old.contains(&tree, b"none"));
    too_old(scan.by_ref().last().unwrap());
    for record in cut_short {
        too_old(record);
    }
    too_old(t.get(&tree, &key(2)));
    too_old(t.commit(BUFFERED));
    drop((old, scan));
    assert_eq!(get(&store, "views", "open"), 0);
    // Told once.
    assert_eq!(get(&store, "views", "given_up"), 2);
    drop(tree);
    store.close().unwrap();
    assert_eq!(events.filter(is_given_up).count(), 0);
}

/// What looks at the newest commit holds nothing, however old it is.
#[test]
fn a_reader_of_a_store_that_rests_is_left_alone() {
    let o = OpenOptions {
        slow_reader: Duration::from_millis(20),
        max_reader_age: Some(Duration::from_millis(50)),
        ..options()
    };
    let store = Store::open_device(formatted(12, false).device(), &o).unwrap();
    let tree = store.tree("t").unwrap();
    tree.put(b"k", b"v").unwrap();
    let events = store.events(10).unwrap();
    let old = store.snapshot().unwrap();
    await_event(&events, is_slow);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(old.get(&tree, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    // Nor is one that begins at the same commit taken for as old as the first.
    let young = store.snapshot().unwrap();
    tree.put_with(b"k", b"w", BUFFERED).unwrap();
    let read = young.get(&tree, b"k");
    if young.age() < Duration::from_millis(50) {
        assert_eq!(read.unwrap().as_deref(), Some(&b"v"[..]));
    }
    await_event(&events, is_given_up);
    too_old(old.get(&tree, b"k"));
    too_old(young.get(&tree, b"k"));
}

/// Transactions are the views that no checkpoint relieves of their images.
#[test]
fn for_want_of_memory_the_oldest_is_given_up_and_that_is_told() {
    let o = OpenOptions {
        version_memory: 64 << 10,
        ..options()
    };
    let store = Store::open_device(formatted(13, false).device(), &o).unwrap();
    let tree = store.tree("t").unwrap();
    let write = |n: u32| {
        for i in 0..n {
            let key = (i % 100).to_be_bytes();
            tree.put_with(&key, &[1; 100], BUFFERED).unwrap();
        }
    };
    write(100);
    let events = store.events(10_000).unwrap();
    let held: Vec<_> = (0..3).map(|_| store.transaction().unwrap()).collect();
    write(100);
    let second = store.transaction().unwrap();
    write(1000);
    let mut given_up = Vec::new();
    while let Some(e) = events.next_within(Duration::from_millis(200)) {
        given_up.extend(Some(e).filter(is_given_up));
    }
    let by_memory = |views, oldest| Event::ReadersGivenUp {
        views,
        oldest,
        cause: GivenUp::Memory,
    };
    let wanted = [by_memory(3, held[0].csn()), by_memory(1, second.csn())];
    assert_eq!(given_up, wanted);
    assert_eq!(get(&store, "views", "given_up"), 4);
    too_old(second.get(&tree, b"x"));
}
