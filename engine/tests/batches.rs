//! Batches over several leaves while the leaves change under them.

mod campaign;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use campaign::Watchdog;
use gaur::{Durability, Error, FormatOptions, OpenOptions, Store, WriteBatch};
use gaur_iodriver::sim::{SimDisk, SimOptions};

#[test]
fn a_tree_of_another_store_is_refused() {
    let disks = [1, 2].map(|seed| {
        let disk = SimDisk::new(SimOptions {
            seed,
            ..SimOptions::default()
        });
        Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
        disk
    });
    let open = |disk: &SimDisk| Store::open_device(disk.device(), &OpenOptions::default()).unwrap();
    let (store, other) = (open(&disks[0]), open(&disks[1]));
    let ours = store.tree("ours").unwrap();
    // Of the same number.
    let theirs = other.tree("theirs").unwrap();
    let refused = |store: &Store| {
        let mut batch = WriteBatch::new();
        batch.put(&ours, b"k", b"v").put(&theirs, b"k", b"w");
        store.commit(batch, Durability::Buffered).unwrap_err()
    };
    assert!(matches!(refused(&store), Error::OtherStore(t) if t == "theirs"));
    assert!(matches!(refused(&other), Error::OtherStore(t) if t == "ours"));
    let mut batch = WriteBatch::new();
    batch.delete(&theirs, b"k");
    let e = store.commit(batch, Durability::Buffered).unwrap_err();
    assert!(matches!(e, Error::OtherStore(_)), "{e}");
    assert_eq!(store.stats().get("log", "last_csn"), Some(1));
    assert_eq!(ours.get(b"k").unwrap(), None);

    // Nor one of the same store that was opened before: its nodes are of that time.
    let mut batch = WriteBatch::new();
    batch.put(&ours, b"k", b"v");
    store.close().unwrap();
    let again = open(&disks[0]);
    let e = again.commit(batch, Durability::Buffered).unwrap_err();
    assert!(matches!(e, Error::OtherStore(t) if t == "ours"));
    assert_eq!(again.open_tree("ours").unwrap().get(b"k").unwrap(), None);
}

#[test]
fn leaves_of_a_batch_may_merge_before_it_latches_them() {
    // Hung in power-cut story 53: of two leaves prepared for a batch the second was
    // merged into the first before both were latched, so the batch had two groups
    // for one frame and waited for a latch that it held itself.
    let watchdog = Watchdog::start(Duration::from_secs(60));
    watchdog.feed("a batch over leaves that merge".into());
    let disk = SimDisk::new(SimOptions::default());
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let options = OpenOptions {
        cache_bytes: 1 << 20,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    let tree = store.tree("t").unwrap();
    let key = |i: u32| format!("key-{i:04}").into_bytes();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..400 {
                for i in 0..60 {
                    tree.put_with(&key(i), &[7; 150], Durability::Buffered)
                        .unwrap();
                }
                for i in 0..60 {
                    let i = if round % 2 == 0 { i } else { 59 - i };
                    tree.delete_with(&key(i), Durability::Buffered).unwrap();
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        for thread in 0..2u32 {
            let (store, tree, ended, key) = (&store, &tree, &ended, &key);
            scope.spawn(move || {
                let mut n = thread;
                while !ended.load(Ordering::Relaxed) {
                    n += 1;
                    let mut batch = WriteBatch::new();
                    for i in 0..4 {
                        batch.put(tree, &key((n * 7 + i * 15) % 60), &n.to_be_bytes());
                    }
                    store.commit(batch, Durability::Buffered).unwrap();
                }
            });
        }
    });
    let stats = store.stats();
    assert!(stats.get("tree", "merges").unwrap() > 10, "{stats:?}");
    store.close().unwrap();
}
