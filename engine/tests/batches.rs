//! Batches over several leaves while the leaves change under them.

mod campaign;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use campaign::Watchdog;
use gaur::{Durability, FormatOptions, OpenOptions, Store, WriteBatch};
use gaur_iodriver::sim::{SimDisk, SimOptions};

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
