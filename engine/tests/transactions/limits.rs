//! Limits, ends of the store, and refusals.

use super::*;

#[test]
fn a_write_set_over_the_limit_is_refused_and_the_rest_stands() {
    let disk = disk(1);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let mut t = store.transaction().unwrap();
    let max = t.max_size();
    assert!(max >= 64 << 10);
    let mut n = 0u32;
    let refused = loop {
        match t.put(&tree, &n.to_be_bytes(), &[1; 1000]) {
            Ok(()) => n += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, Error::BatchTooLarge { len, max: m } if m == max && len > max));
    assert!(t.size() <= max && t.size() > max - 2000);
    assert_eq!(t.len(), n as usize);
    // What is there may be replaced and deleted, what is large counts little.
    t.put(&tree, &0u32.to_be_bytes(), b"").unwrap();
    t.delete(&tree, &1u32.to_be_bytes()).unwrap();
    t.put(&tree, b"large", &[1; 100_000]).unwrap();
    match t.commit(BUFFERED) {
        Ok(_) => assert_eq!(tree.iter().unwrap().count(), n as usize),
        // The cache may be too small for that many leaves.
        Err(Error::BatchTooWide { .. }) => assert_eq!(tree.iter().unwrap().count(), 0),
        Err(e) => panic!("{e}"),
    }
    let mut t = store.transaction().unwrap();
    let long = vec![1; gaur::MAX_KEY + 1];
    assert!(matches!(
        t.put(&tree, &long, b""),
        Err(Error::KeyTooLong { .. })
    ));
    assert!(matches!(t.get(&tree, &long), Err(Error::KeyTooLong { .. })));
}

#[test]
fn one_that_takes_too_long_is_told_and_run_again() {
    let disk = disk(2);
    let options = OpenOptions {
        version_memory: 32 << 10,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let tree = store.tree("t").unwrap();
    let busy = || {
        for i in 0..500u32 {
            tree.put_with(&i.to_be_bytes(), &[1; 100], BUFFERED)
                .unwrap();
        }
    };
    busy();
    // In a read, and in the commit.
    let mut t = store.transaction().unwrap();
    assert!(t.get(&tree, &1000u32.to_be_bytes()).unwrap().is_none());
    t.put(&tree, b"x", b"").unwrap();
    busy();
    let e = t.get(&tree, &1000u32.to_be_bytes()).unwrap_err();
    assert!(matches!(e, Error::ViewTooOld { .. }) && e.is_retryable());
    let e = t.commit(BUFFERED).unwrap_err();
    assert!(matches!(e, Error::ViewTooOld { .. }), "{e}");
    assert!(!tree.contains(b"x").unwrap());
    for reads in [false, true] {
        let mut turns = 0;
        let done = store.transact(|t| {
            turns += 1;
            t.get(&tree, &1000u32.to_be_bytes())?;
            t.put(&tree, b"x", b"")?;
            if turns == 1 {
                busy();
            }
            if reads {
                // An error of its own kind, made of the engine's.
                t.get(&tree, b"y").map_err(|e| e.to_string())?;
            }
            Ok::<_, Text>(())
        });
        assert_eq!(done.unwrap().attempts, 2);
    }
}

#[derive(Debug)]
struct Text;

impl From<Error> for Text {
    fn from(_: Error) -> Self {
        Self
    }
}

impl From<String> for Text {
    fn from(_: String) -> Self {
        Self
    }
}

#[test]
fn ends_and_refusals() {
    let (disk, elsewhere) = (disk(3), self::disk(4));
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let other = open(&elsewhere).tree("t").unwrap();
    let mut t = store.transaction().unwrap();
    let stranger = |e: Error| assert!(matches!(e, Error::OtherStore(name) if name == "t"));
    stranger(t.get(&other, b"k").unwrap_err());
    stranger(t.put(&other, b"k", b"").unwrap_err());
    stranger(t.iter(&other).map(drop).unwrap_err());
    t.put(&tree, b"k", b"v").unwrap();
    let reading = store.transaction().unwrap();
    let begun = reading.iter(&tree).unwrap();
    // In another thread than the one that began it.
    std::thread::spawn(move || t.commit(BUFFERED).unwrap())
        .join()
        .unwrap();
    let mut late = store.transaction().unwrap();
    assert_eq!(late.get(&tree, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    late.put(&tree, b"k", b"w").unwrap();
    assert_eq!(begun.count(), 0);
    store.clone().close().unwrap();
    assert!(matches!(reading.get(&tree, b"k"), Err(Error::Closed)));
    assert!(matches!(reading.commit(BUFFERED), Err(Error::Closed)));
    assert!(matches!(late.put(&tree, b"k", b"x"), Err(Error::Closed)));
    assert!(matches!(late.commit(BUFFERED), Err(Error::Closed)));
    assert!(matches!(store.transaction(), Err(Error::Closed)));
    drop((tree, store));

    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let tree = store.open_tree("t").unwrap();
    let mut t = store.transaction().unwrap();
    assert_eq!(t.get(&tree, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    assert!(matches!(t.put(&tree, b"k", b""), Err(Error::ReadOnly)));
    assert_eq!(t.max_size(), 0);
    t.commit(BUFFERED).unwrap();
}
