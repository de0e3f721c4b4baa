//! Doing with a store all that its users do, whatever it says: it comes back.

use gaur::{Durability, Error, OpenOptions, Store, WriteBatch, check_device};
use gaur_iodriver::sim::SimDisk;

/// Records that a scan takes, at most: a forged tree may hold any number.
const MOST: usize = 1000;

/// Reads a store in every way there is. Whether `check` found it clean.
pub(crate) fn look(disk: &SimDisk) -> bool {
    let report = check_device(disk.device(), &Default::default());
    for salvage in [false, true] {
        let options = OpenOptions {
            read_only: true,
            cache_bytes: 1 << 20,
            salvage,
            ..OpenOptions::default()
        };
        if let Ok(store) = Store::open_device(disk.device(), &options) {
            read(&store);
            break;
        }
    }
    let options = gaur::inspect::InspectOptions::default();
    for look in [
        gaur::inspect::superblock_device,
        gaur::inspect::log_device,
        gaur::inspect::map_device,
        gaur::inspect::tree_device,
    ] {
        let _ = look(disk.device(), &options);
    }
    report.is_ok_and(|r| r.clean)
}

fn read(store: &Store) {
    for name in store.tree_names() {
        let tree = store.open_tree(&name).unwrap();
        let _ = tree.get(b"ccccc");
        let _ = tree.iter().unwrap().take(MOST).count();
        let backwards = tree.iter().unwrap().skip_damaged().rev();
        for record in backwards.take(MOST) {
            let Ok((key, _)) = record else { break };
            let _ = tree.get(&key);
        }
    }
}

/// Opens a store for writing, which replays its log, changes it, and closes it.
/// Whether it could be opened.
///
/// # Panics
/// If a thread of the store panicked.
pub(crate) fn work(disk: &SimDisk) -> bool {
    let options = OpenOptions {
        cache_bytes: 1 << 20,
        ..OpenOptions::default()
    };
    let Ok(store) = Store::open_device(disk.device(), &options) else {
        return false;
    };
    // A store that finds out that its structures contradict each other stops, and says
    // why. None of its threads may end otherwise.
    let alive = |done: Result<(), Error>| {
        if let Err(e @ (Error::Stopped(_) | Error::OutcomeUnknown { .. })) = done {
            assert!(!e.to_string().contains("panicked"), "{e}");
        }
    };
    for name in store.tree_names().iter().take(3) {
        let tree = store.open_tree(name).unwrap();
        let keys: Vec<Vec<u8>> = tree
            .iter()
            .unwrap()
            .skip_damaged()
            .keys_only()
            .take(40)
            .map_while(|r| r.ok().map(|(key, _)| key))
            .collect();
        // New keys beside those that are there, and at both ends.
        let near = keys.iter().step_by(4).map(|k| [&k[..], b"+"].concat());
        let ends = [Vec::new(), vec![0xFF; 9]];
        for (i, key) in near.chain(ends).enumerate() {
            let value = vec![i as u8; [0, 900, 20_000][i % 3]];
            let done = tree.put_with(&key, &value, Durability::Buffered);
            alive(done.map(drop));
        }
        let mut batch = WriteBatch::new();
        for key in keys.iter().step_by(2) {
            batch.delete(&tree, key);
        }
        alive(store.commit(batch, Durability::Buffered).map(drop));
    }
    if let Ok(tree) = store.tree("made by the visitor") {
        alive(tree.put(b"key", b"value").map(drop));
    }
    alive(store.checkpoint());
    read(&store);
    alive(store.close());
    true
}
