//! Nothing stale passes for new: an old store under a new one, and two futures of
//! one store.

mod campaign;

use std::ops::ControlFlow;
use std::time::Duration;

use campaign::Watchdog;
use campaign::history::{Change, Commit, Done, Known};
use gaur::{
    CheckOptions, DiscardProgress, Durability, DurableMethod, Error, FormatOptions, OpenOptions,
    Store, check_device,
};
use gaur_iodriver::sim::{CrashMode, DiscardFill, FaultKind, OpKind, SimDisk, SimOptions};
use gaur_iodriver::{IoBuf, IoErrorKind};

fn format(force: bool, block_size: u32) -> FormatOptions {
    FormatOptions {
        force,
        block_size,
        log_size: Some(4 << 20),
        durable_method: Some(DurableMethod::Dsync),
        ..FormatOptions::default()
    }
}

fn open(disk: &SimDisk) -> Result<Store, Error> {
    let options = OpenOptions {
        cache_bytes: 4 << 20,
        checkpoint_interval: Duration::from_secs(3600),
        buffered_interval: Duration::from_millis(1),
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options)
}

fn fill(store: &Store, name: &str, n: u32) {
    let tree = store.tree(name).unwrap();
    for i in 0..n {
        let value = vec![i as u8; if i % 50 == 0 { 9000 } else { 90 }];
        tree.put_with(name.as_bytes(), &value, Durability::Buffered)
            .unwrap();
        tree.put_with(&i.to_be_bytes(), &value, Durability::Buffered)
            .unwrap();
    }
}

/// A disk with a store that was used and not closed.
fn old_disk() -> SimDisk {
    let disk = SimDisk::new(SimOptions::default());
    Store::format_device(disk.device(), &format(false, 4096)).unwrap();
    let store = open(&disk).unwrap();
    fill(&store, "old", 500);
    store.checkpoint().unwrap();
    fill(&store, "older", 100);
    store.flush().unwrap();
    drop(store);
    disk
}

#[test]
fn a_store_over_an_old_one_never_sees_it() {
    for block_size in [4096, 16384] {
        let disk = old_disk();
        let refused = Store::format_device(disk.device(), &format(false, block_size));
        assert!(matches!(refused, Err(Error::Foreign { .. })), "{refused:?}");
        Store::format_device(disk.device(), &format(true, block_size)).unwrap();
        for seed in 0..4 {
            let disk = disk.crash(seed);
            let store = open(&disk).unwrap();
            assert_eq!(store.recovery().replayed, 0);
            assert!(store.tree_names().is_empty());
            // Through the log's places and the blocks that the old one used.
            fill(&store, "new", 700);
            store.flush().unwrap();
            disk.power_off();
            drop(store);
            let disk = disk.crash(seed);
            let store = open(&disk).unwrap();
            assert_eq!(store.recovery().last_csn, 1 + 2 * 700);
            assert_eq!(store.tree_names(), ["new"]);
            assert_eq!(store.open_tree("new").unwrap().iter().unwrap().count(), 701);
            store.close().unwrap();
            let report = check_device(disk.device(), &CheckOptions::default()).unwrap();
            assert!(report.clean, "{:?}", report.problems);
        }
    }
}

#[test]
fn what_was_made_over_a_store_is_not_made_a_store_again() {
    // As `sgdisk`, `mkswap` and `mkfs` do it: one superblock is overwritten, the other left.
    let write = |disk: &SimDisk, at: u64, bytes: &[u8]| {
        let block = at / 4096 * 4096;
        let mut buf = IoBuf::zeroed(4096);
        buf[(at - block) as usize..][..bytes.len()].copy_from_slice(bytes);
        disk.device().write_at(block, &buf).unwrap();
        disk.device().flush().unwrap();
    };
    let disk = old_disk();
    // Damage is mended.
    write(&disk, 100, b"some bytes");
    open(&disk).unwrap().close().unwrap();
    write(&disk, 4086, b"SWAPSPACE2");
    let writes = disk.stats().writes;
    let opened = open(&disk).map(drop);
    assert!(
        matches!(&opened, Err(Error::Foreign { detail, signatures, .. })
            if detail.contains("swap") && signatures.len() == 1),
        "{opened:?}"
    );
    assert_eq!(disk.stats().writes, writes);
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &options).unwrap();
    assert_eq!(store.tree_names(), ["old", "older"]);
}

#[test]
fn a_format_that_was_cut_off_leaves_the_old_store_whole_or_none() {
    // The log was zeroed while the old superblocks still stood, so a power cut in
    // between left the old store without its newest commits; after one superblock
    // was written the other, of the old store and a higher incarnation, won.
    let base = old_disk().snapshot();
    let watchdog = Watchdog::start(Duration::from_secs(60));
    let (mut old, mut none, mut new) = (0, 0, 0);
    for cut in 1.. {
        watchdog.feed(format!("format cut off at {cut}"));
        let disk = base.snapshot();
        disk.crash_after(cut);
        let options = FormatOptions {
            discard: cut % 2 == 0,
            ..format(true, 8192)
        };
        let formatted = Store::format_device(disk.device(), &options);
        let ended = formatted.is_ok();
        for seed in 0..4 {
            let disk = disk.crash(seed + 100 * cut);
            match open(&disk) {
                Ok(store) if store.tree_names().is_empty() => new += 1,
                Ok(store) => {
                    assert!(!ended, "the old store is there after a format");
                    assert_eq!(store.tree_names(), ["old", "older"], "cut {cut}");
                    assert_eq!(store.recovery().last_csn, 1202, "cut {cut}, seed {seed}");
                    old += 1;
                    store.close().unwrap();
                }
                Err(Error::NotAStore { .. } | Error::Damaged(_)) if !ended => none += 1,
                Err(e) => panic!("cut {cut}: {e}"),
            }
        }
        if ended {
            break;
        }
    }
    assert!(old > 0 && none > 0 && new > 0, "{old} {none} {new}");
}

#[test]
fn a_format_discards_all_but_the_superblocks_and_only_when_nothing_forbids_it() {
    let disk = SimDisk::new(SimOptions {
        discard_fill: DiscardFill::Garbage,
        ..SimOptions::default()
    });
    let options = |force| FormatOptions {
        discard: true,
        ..format(force, 4096)
    };
    Store::format_device(disk.device(), &format(false, 4096)).unwrap();
    let store = open(&disk).unwrap();
    fill(&store, "old", 500);
    store.close().unwrap();
    // Refused: nothing was touched.
    let image = disk.image_hash();
    let refused = Store::format_device(disk.device(), &options(false));
    assert!(matches!(refused, Err(Error::Foreign { .. })), "{refused:?}");
    assert_eq!((disk.stats().discards, disk.image_hash()), (0, image));

    let made = Store::format_device(disk.device(), &options(true)).unwrap();
    let all = disk.device().geometry().capacity;
    assert_eq!(made.discarded, all - 2 * 4096);
    assert!(made.notes.is_empty(), "{:?}", made.notes);
    let store = open(&disk).unwrap();
    assert!(store.tree_names().is_empty());
    fill(&store, "new", 700);
    store.close().unwrap();
    let report = check_device(disk.device(), &CheckOptions::default()).unwrap();
    assert!(report.clean, "{:?}", report.problems);

    // Ended early: there is no store, and what stood there does not come back.
    let mut ended = options(true);
    ended.discard_progress = Some(DiscardProgress::new(|done, of| {
        assert!(done > 0 && done <= of);
        ControlFlow::Break(())
    }));
    let said = Store::format_device(disk.device(), &ended).unwrap_err();
    assert!(matches!(said, Error::Interrupted(_)), "{said}");
    assert!(said.to_string().contains("no store"), "{said}");
    for seed in 0..4 {
        let none = open(&disk.crash(seed));
        assert!(matches!(none, Err(Error::NotAStore { .. })), "{none:?}");
    }

    // A device that cannot: a note, and a store.
    for (granularity, fault) in [(0, None), (4096, Some(IoErrorKind::Unsupported))] {
        let disk = SimDisk::new(SimOptions {
            discard_granularity: granularity,
            ..SimOptions::default()
        });
        if let Some(kind) = fault {
            disk.inject_next(OpKind::Discard, FaultKind::Fail(kind));
        }
        let made = Store::format_device(disk.device(), &options(false)).unwrap();
        assert_eq!((made.discarded, made.notes.len()), (0, 1), "{made:?}");
        assert_eq!(disk.stats().discards, u64::from(fault.is_some()));
        open(&disk).unwrap().close().unwrap();
    }
}

#[test]
fn a_replay_without_space_ends_with_an_error() {
    // Hung: with the map block lost there is no space to be had, and replay waited
    // for a checkpoint, which there is none of before it ends.
    let watchdog = Watchdog::start(Duration::from_secs(30));
    watchdog.feed("opening a store whose map is gone".into());
    let disk = old_disk();
    disk.corrupt(4096, 2 * 4096);
    // Once recovery can rebuild a map block, it may succeed.
    if let Err(e) = open(&disk) {
        assert!(matches!(e, Error::Full { .. } | Error::Damaged(_)), "{e}");
    }
}

#[test]
fn two_futures_from_one_point_never_mix() {
    // Future after future begins at what the one before left, each with a part of
    // its unacknowledged log, torn; none is checkpointed, so all lie in one log.
    let watchdog = Watchdog::start(Duration::from_secs(60));
    let mut disk = SimDisk::new(SimOptions {
        logical_block: 512,
        ..SimOptions::default()
    });
    Store::format_device(disk.device(), &format(false, 4096)).unwrap();
    let mut known = Known::default();
    for future in 0..60u64 {
        watchdog.feed(format!("future {future}"));
        let store = open(&disk).unwrap();
        let mut done = Done::default();
        if future == 0 {
            store.create_tree("t").unwrap();
            done.created.push("t".into());
        }
        let tree = store.open_tree("t").unwrap();
        disk.crash_after(3 + future * 7 % 20);
        for i in 0..3000u64 {
            let key = (i % 40).to_be_bytes().to_vec();
            let value = [future.to_be_bytes(), i.to_be_bytes()].concat();
            let sync = i % 500 == 499;
            let durability = if sync {
                Durability::Sync
            } else {
                Durability::Buffered
            };
            let result = tree.put_with(&key, &value, durability);
            let change = Change::Put("t".into(), key, value.into());
            let csn = match result {
                Ok(csn) => csn,
                Err(Error::OutcomeUnknown { csn, .. }) => csn,
                Err(_) => break,
            };
            if sync && result.is_ok() {
                done.durable(csn);
            }
            done.commits.push(Commit {
                csn,
                changes: vec![change],
            });
        }
        disk.power_off();
        drop(tree);
        drop(store);
        let keep = if future % 2 == 0 { 0.5 } else { 0.1 };
        disk = disk.crash_with(CrashMode::Writes { keep }, future);
        let store = open(&disk).unwrap();
        known.settle(done, store.recovery().last_csn);
        known.compare(&store, &format!("future {future}"));
        // Some end here: the next opening begins at the same point once more.
        drop(store);
    }
}
