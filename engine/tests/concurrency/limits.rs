//! Limits: batches wider than the cache, and full stores.

use super::*;

/// A batch that needs more leaves in memory at once than the cache can hold made
/// them ready in turn for ever, and took a block each time.
#[test]
fn a_batch_larger_than_the_cache_is_refused() {
    let disk = disk(5, 128, Duration::ZERO);
    within(60, move || {
        let store = open(disk.device(), 1 << 20, 50);
        let tree = store.tree("t").unwrap();
        for i in 0..6000u64 {
            tree.put_with(&i.to_be_bytes(), &[0; 1000], BUFFERED)
                .unwrap();
        }
        let batch = |n: u64| {
            let mut batch = WriteBatch::new();
            for i in 0..n {
                batch.put(&tree, &(i * 6000 / n).to_be_bytes(), &[1; 1000]);
            }
            store.commit(batch, BUFFERED)
        };
        assert!(matches!(batch(1000), Err(Error::BatchTooWide { .. })));
        assert!(tree.iter().unwrap().all(|x| x.unwrap().1[0] == 0));
        batch(40).unwrap();
        let ones = tree
            .iter()
            .unwrap()
            .filter(|x| x.as_ref().unwrap().1[0] == 1);
        assert_eq!(ones.count(), 40);
        check_account(&store);
    });
}

/// In a full store a root that had to split was tried for ever: the version of the
/// node changed as its latch was given up, so "no blocks" looked like "another
/// writer was first". And deletes, checkpoints and closing must go on (P6): the
/// deletes took the last block, and the checkpoint, which needs some for the tree
/// of trees, failed for good.
#[test]
fn a_full_store_says_so_and_space_comes_back() {
    let disk = disk(6, 32, Duration::ZERO);
    within(100, move || {
        let store = open(disk.device(), 4 << 20, 10_000);
        let small: Vec<Tree> = (0..60)
            .map(|i| store.tree(&format!("small-{i}")).unwrap())
            .collect();
        for tree in &small {
            tree.put_with(b"k", &[0; 500], BUFFERED).unwrap();
        }
        let tree = store.tree("large").unwrap();
        let mut n = 0u64;
        let full = loop {
            match tree.put_with(&n.to_be_bytes(), &[1; 1000], BUFFERED) {
                Ok(_) => n += 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(full, Error::Full { .. }), "{full}");
        let mut refused = 0;
        for tree in &small {
            for i in 0..12u8 {
                match tree.put_with(&[i], &[1; 900], BUFFERED) {
                    Ok(_) => {}
                    Err(Error::Full { .. }) => refused += 1,
                    Err(e) => panic!("{e}"),
                }
            }
        }
        assert!(refused > 0, "so many roots cannot have split");
        // The first deletes each meet another leaf, so that no leaf becomes empty and
        // each costs blocks; there are no checkpoints but those they ask for.
        for i in (0..n).step_by(20) {
            tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
        }
        for i in 0..n {
            tree.delete_with(&i.to_be_bytes(), BUFFERED).unwrap();
        }
        store.checkpoint().unwrap();
        store.checkpoint().unwrap();
        for i in 0..n / 2 {
            tree.put_with(&i.to_be_bytes(), &[2; 1000], BUFFERED)
                .unwrap();
        }
        check_account(&store);
        store.close().unwrap();
    });
}
