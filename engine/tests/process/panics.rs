//! A user's thread that panics with a scan and a batch in hand leaves no trace: no place
//! among the threads, no view, no lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gaur::{
    CheckOptions, Durability, FormatOptions, MAX_THREADS, OpenOptions, Store, TrimOptions,
    WriteBatch, check_device,
};
use gaur_iodriver::DriverChoice;

pub(crate) fn test(dir: &Path, driver: DriverChoice) {
    let path = dir.join("store");
    let format = FormatOptions {
        create_size: Some(64 << 20),
        // Only a sparse file is trimmed.
        sparse: true,
        ..FormatOptions::default()
    };
    Store::format(&path, &format).unwrap();
    let options = OpenOptions {
        driver,
        cache_bytes: 1 << 20,
        checkpoint_interval: Duration::from_millis(20),
        ..OpenOptions::default()
    };
    let store = Store::open(&path, &options).unwrap();
    let tree = store.tree("t").unwrap();
    let key = |i: usize| format!("{i:05}").into_bytes();
    for i in 0..3000 {
        tree.put_with(&key(i), &[0; 300], Durability::Buffered)
            .unwrap();
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    // More threads than a store has places, a few at a time.
    let mut panicked = 0;
    for group in 0..MAX_THREADS / 8 + 8 {
        let threads: Vec<_> = (0..8)
            .map(|t| {
                let (store, tree) = (store.clone(), tree.clone());
                std::thread::spawn(move || {
                    let n = (group * 8 + t) % 3000;
                    let mut batch = WriteBatch::new();
                    batch.put(&tree, b"never", b"x");
                    let mut scan = tree.iter().unwrap();
                    scan.next().unwrap().unwrap();
                    tree.put_with(&key(n), &[1; 300], Durability::Buffered)
                        .unwrap();
                    // In the middle of an iteration, and of a batch.
                    let sum: usize = scan
                        .map(|r| match r.unwrap().1.len() {
                            0 => 0,
                            _ => panic!(
                                "the user's own, with {} {}",
                                batch.len(),
                                store.tree_names().len()
                            ),
                        })
                        .sum();
                    unreachable!("{sum}");
                })
            })
            .collect();
        panicked += threads.into_iter().filter_map(|t| t.join().err()).count();
    }
    // A store that is dropped by a panic.
    let clone = store.clone();
    assert!(
        catch_unwind(AssertUnwindSafe(move || {
            let _held = clone;
            panic!("with a handle");
        }))
        .is_err()
    );
    // A callback of a call on the open store.
    let dry = TrimOptions {
        dry_run: true,
        ..TrimOptions::default()
    };
    let trim = AssertUnwindSafe(|| store.trim(&dry, |_| panic!("in a callback")).map(|_| ()));
    assert!(catch_unwind(trim).is_err());
    std::panic::set_hook(usual);
    assert!(panicked > MAX_THREADS, "{panicked}");

    assert_eq!(tree.get(b"never").unwrap(), None);
    // No view is left: what is overwritten now needs no before-images.
    let images = |s: &Store| {
        s.stats()
            .rows()
            .iter()
            .find(|r| r.name == "before_images")
            .map(|r| r.value)
    };
    let before = images(&store);
    assert!(before.is_some());
    for i in 0..200 {
        tree.put_with(&key(i), &[2; 300], Durability::Buffered)
            .unwrap();
    }
    assert_eq!(images(&store), before, "views are left open");
    assert_eq!(tree.iter().unwrap().filter(|r| r.is_ok()).count(), 3000);
    drop(tree);
    store.close().unwrap();

    // A callback that panics, of a check, which has no threads of the store.
    let device = || {
        gaur_iodriver::open(&path, &Default::default())
            .unwrap()
            .device
    };
    let options = CheckOptions {
        progress: Some(Arc::new(|_| panic!("in a callback"))),
        ..CheckOptions::default()
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    // The call may end with the panic or, if it was not called, well.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        check_device(device(), &options).map(|_| ())
    }));
    std::panic::set_hook(hook);
    let report = check_device(device(), &CheckOptions::default()).unwrap();
    assert!(report.clean, "{:?}", report.problems);
}
