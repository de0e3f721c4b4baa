//! Trees made while commits and checkpoints run.

use super::*;

/// Breaks if a checkpoint's list of trees is not that of its cut, or has no room
/// for trees made since its blocks were reserved.
#[test]
fn trees_are_made_while_commits_and_checkpoints_run() {
    let seed = seed();
    let disk = disk(seed, 192, Duration::ZERO);
    within(60, move || {
        let store = open(disk.device(), 2 << 20, 1);
        let made = Mutex::new(BTreeMap::new());
        let end = Instant::now() + seconds();
        std::thread::scope(|s| {
            for t in 0..6u64 {
                let (store, made) = (&store, &made);
                s.spawn(move || {
                    let mut r = rng::seeded(seed ^ t);
                    let mut mine = Vec::new();
                    for n in 0..300 {
                        if Instant::now() > end {
                            break;
                        }
                        let long = "x".repeat(r.random_range(0..240));
                        // Half of the names are wanted by all threads.
                        let name = format!("{:03}-{}{long}", n, if n % 2 == 0 { t } else { 99 });
                        let name = if n % 2 == 0 {
                            name
                        } else {
                            name[..6].to_owned()
                        };
                        let tree = store.tree(&name).unwrap();
                        let n = r.random_range(1..20u64);
                        let mut batch = WriteBatch::new();
                        for i in 0..n {
                            batch.put(&tree, format!("{t}-{i}").as_bytes(), &[t as u8; 50]);
                        }
                        store.commit(batch, BUFFERED).unwrap();
                        mine.push((name, t, n));
                    }
                    let mut made = made.lock().unwrap();
                    for (name, t, n) in mine {
                        made.entry(name)
                            .or_insert_with(Vec::new)
                            .extend((0..n).map(|i| format!("{t}-{i}").into_bytes()));
                    }
                });
            }
        });
        let made = made.into_inner().unwrap();
        println!("{} trees", made.len());
        check_account(&store);
        for round in 0..3 {
            let store = match round {
                0 => store.clone(),
                _ => open(disk.device(), 2 << 20, 1),
            };
            assert!(store.tree_names().iter().eq(made.keys()));
            for (name, keys) in &made {
                let mut keys = keys.clone();
                keys.sort();
                let got = walk(&store.open_tree(name).unwrap(), false).unwrap();
                assert!(got.into_iter().map(|r| r.0).eq(keys), "{name}");
            }
            if round == 0 {
                store.close().unwrap();
                break;
            }
        }
    });
}
