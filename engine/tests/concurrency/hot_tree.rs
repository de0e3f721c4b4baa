//! A small tree that all writers want: restarts and the account of reservations.

use super::*;

/// Breaks if a path loses or doubles a reservation, if a restart reserves too
/// little for a whole descent, or if anything waits under a latch.
#[test]
fn a_small_hot_tree_restarts_at_most_twice() {
    let seed = seed();
    for (checkpoint, delay) in [(20, None), (200, None), (30, Some(3))] {
        let disk = disk(seed, 128, Duration::ZERO);
        within(60, move || {
            let o = OpenOptions {
                allocator_delay: delay.map(Duration::from_millis),
                map_memory: 0,
                ..options(8 << 20, checkpoint)
            };
            let store = Store::open_device(disk.device(), &o).unwrap();
            let tree = store.tree("hot").unwrap();
            let end = Instant::now() + seconds();
            std::thread::scope(|s| {
                for t in 0..16u64 {
                    let tree = &tree;
                    s.spawn(move || {
                        let mut r = rng::seeded(seed ^ t);
                        while Instant::now() < end {
                            let k = r.random_range(0..400u32).to_be_bytes();
                            if r.random_bool(0.8) {
                                let v = vec![t as u8; r.random_range(0..300)];
                                tree.put_with(&k, &v, BUFFERED).unwrap();
                            } else {
                                tree.delete_with(&k, BUFFERED).unwrap();
                            }
                        }
                    });
                }
            });
            check_account(&store);
            let stats = store.stats();
            for row in stats.rows().iter().filter(|r| r.group == "restarts") {
                println!("{} {}", row.name, row.value);
            }
            assert!(stats.get("restarts", "restarts_most").unwrap() <= 2);
            assert!(stats.get("checkpoints", "checkpoints").unwrap() > 0);
        });
    }
}
