//! What a superblock may say, to the number; what opening finds, and what it does then.

use std::sync::atomic::{AtomicBool, Ordering};

use gaur_iodriver::{CrashMode, SimDisk, SimOptions};

use super::*;
use crate::alloc::{Request, Shape, Urgency};
use crate::format::Generation;
use crate::log::OpsBuilder;
use crate::worker::Freed;
use crate::{CheckOptions, Durability, FormatOptions, Store, check_device};

const BLOCKS: u64 = 1000;

fn device(blocks: u64) -> Arc<dyn Device> {
    SimDisk::new(SimOptions {
        capacity: blocks * 4096,
        ..SimOptions::default()
    })
    .device()
}

fn good() -> Superblock {
    Superblock {
        block_size: 4096,
        capacity: BLOCKS,
        log_blocks: 100,
        incarnation: 3,
        generation: Generation::first(3).0,
        ..Superblock::default()
    }
}

#[test]
fn a_superblock_that_cannot_be_is_damage() {
    let device = device(BLOCKS);
    let damaged = |set: &dyn Fn(&mut Superblock)| {
        let mut sb = good();
        set(&mut sb);
        match geometry_of(&sb, device.as_ref()) {
            Ok(_) => false,
            Err(Error::Damaged(_)) => true,
            Err(e) => panic!("{e}"),
        }
    };
    let far = 1 << 62;
    assert!(!damaged(&|_| ()));
    // The log begins behind the second superblock, block 256.
    assert!(!damaged(&|sb| sb.log_blocks = BLOCKS - 257));
    assert!(damaged(&|sb| sb.log_blocks = BLOCKS - 256));
    assert!(damaged(&|sb| sb.log_blocks = u64::MAX));
    assert!(damaged(&|sb| sb.capacity = 256));
    assert!(damaged(&|sb| (sb.capacity, sb.log_blocks) = (0, 0)));
    assert!(damaged(&|sb| sb.capacity = 1 << ADDR_BITS));
    assert!(!damaged(&|sb| (sb.map_slot, sb.map_untouched) = (1, 1)));
    assert!(damaged(&|sb| sb.map_slot = 2));
    assert!(damaged(&|sb| sb.map_untouched = 2));
    assert!(!damaged(&|sb| sb.catalog_level = 255));
    assert!(damaged(&|sb| sb.catalog_level = 256));
    for set in [
        (|sb, n| sb.cut = n) as fn(&mut Superblock, u64),
        |sb, n| sb.log_head = n,
        |sb, n| sb.log_durable = n,
    ] {
        assert!(!damaged(&|sb| set(sb, far - 1)));
        assert!(damaged(&|sb| set(sb, far)));
        assert!(damaged(&|sb| set(sb, u64::MAX)));
    }
    assert!(!damaged(&|sb| sb.incarnation = u32::MAX - 1));
    assert!(damaged(&|sb| sb.incarnation = u32::MAX));
    // The generation may be of an earlier incarnation, the map of an earlier generation.
    assert!(!damaged(&|sb| sb.generation = Generation::first(2).0));
    assert!(damaged(&|sb| sb.generation = Generation::first(4).0));
    assert!(!damaged(&|sb| sb.map_generation = sb.generation));
    assert!(damaged(&|sb| sb.map_generation = sb.generation + 1));
}

#[test]
fn a_device_may_be_larger_and_not_smaller() {
    let sb = good();
    for blocks in [BLOCKS, BLOCKS + 1] {
        let geometry = geometry_of(&sb, device(blocks).as_ref()).unwrap();
        assert_eq!((geometry.capacity, geometry.log_blocks), (BLOCKS, 100));
    }
    let small = geometry_of(&sb, device(BLOCKS - 1).as_ref());
    let (need, have) = (BLOCKS * 4096, (BLOCKS - 1) * 4096);
    match small {
        Err(Error::Shrunk { need: n, have: h }) => assert_eq!((n, h), (need, have)),
        other => panic!("{other:?}"),
    }
}

/// A store of some trees, closed.
fn store(trees: usize) -> SimDisk {
    let disk = SimDisk::new(SimOptions {
        capacity: 64 << 20,
        ..SimOptions::default()
    });
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk);
    for i in 0..trees {
        let tree = store.tree(&name(i)).unwrap();
        tree.put(b"k", &[i as u8; 100]).unwrap();
    }
    store.close().unwrap();
    disk
}

fn name(i: usize) -> String {
    format!("{i:03}{}", "n".repeat(200))
}

fn open(disk: &SimDisk) -> Store {
    let quiet = OpenOptions {
        checkpoint_interval: Duration::from_secs(3600),
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &quiet).unwrap()
}

/// The store after a power cut in which nothing that was written is lost.
fn cut(disk: &SimDisk, store: Store) -> SimDisk {
    disk.power_off();
    drop(store);
    disk.crash_with(CrashMode::Everything, 1)
}

fn options(read_only: bool) -> OpenOptions {
    OpenOptions {
        read_only,
        ..OpenOptions::default()
    }
}

fn begun(disk: &SimDisk, o: &OpenOptions) -> Opening {
    begin(disk.device(), "disk", o).unwrap()
}

fn newest(disk: &SimDisk) -> Superblock {
    let pair = read_pair(disk.device().as_ref(), "disk", false).unwrap();
    assert_eq!(pair.behind, []);
    pair.newest
}

/// Sets the flags of both superblocks.
fn set_flags(disk: &SimDisk, flags: u32) {
    let sb = Superblock {
        flags,
        ..newest(disk)
    };
    let device = disk.device();
    let geometry = geometry_of(&sb, device.as_ref()).unwrap();
    let flush = || Ok(device.flush()?);
    write_pair(device.as_ref(), &geometry, &sb, 0, &flush).unwrap();
}

#[test]
fn opening_for_writing_takes_an_incarnation_and_the_mark_of_the_close() {
    let disk = store(1);
    let before = newest(&disk);
    assert_eq!(before.flags & FLAG_CLEAN, FLAG_CLEAN);
    for (flags, clean) in [
        (FLAG_CLEAN, true),
        (0, false),
        (FLAG_SPARSE | FLAG_CLEAN, true),
        (FLAG_SPARSE, false),
    ] {
        let disk = disk.snapshot();
        set_flags(&disk, flags);
        // Who only reads changes nothing.
        let hash = disk.image_hash();
        assert_eq!(begun(&disk, &options(true)).report.clean, clean);
        assert_eq!(disk.image_hash(), hash);
        let opening = begun(&disk, &options(false));
        assert_eq!(opening.report.clean, clean);
        assert_eq!(opening.core.forest.growth.sparse, flags & FLAG_SPARSE != 0);
        let now = newest(&disk);
        assert_eq!(now.incarnation, before.incarnation + 1);
        assert_eq!(now.flags, flags & FLAG_SPARSE);
    }
}

#[test]
fn a_copy_that_is_behind_is_told_and_completed_by_who_writes() {
    for copy in 0..2u32 {
        let disk = store(1);
        disk.flip_bit(u64::from(copy) << 20, 0);
        for read_only in [true, false] {
            let opening = begun(&disk, &options(read_only));
            let behind = &opening.report.superblocks_behind;
            assert_eq!(behind.iter().map(|b| b.0).collect::<Vec<_>>(), [copy]);
        }
        newest(&disk);
    }
}

#[test]
fn who_only_reads_minds_nothing_that_was_made_over_a_copy() {
    let disk = store(1);
    disk.corrupt(0, 4096);
    // The sign of a disk image.
    disk.poke(0, b"conectix");
    assert!(begin(disk.device(), "disk", &options(true)).is_ok());
    let refused = begin(disk.device(), "disk", &options(false));
    assert!(matches!(refused, Err(Error::Foreign { .. })));
}

#[test]
fn only_a_writer_on_what_may_have_holes_discards() {
    let rate = |file: bool, flags: u32, o: &OpenOptions| {
        let disk = SimDisk::new(SimOptions {
            capacity: 64 << 20,
            file,
            ..SimOptions::default()
        });
        Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
        set_flags(&disk, flags);
        let opening = begun(&disk, o);
        opening.core.forest.pool.allocator().discard_rate()
    };
    let discards = |read_only| OpenOptions {
        discard: true,
        ..options(read_only)
    };
    let asked = discards(false);
    assert_eq!(rate(false, 0, &asked), Some(asked.discard_rate));
    assert_eq!(rate(false, 0, &options(false)), None);
    assert_eq!(rate(false, 0, &discards(true)), None);
    // A file keeps its space, unless it is sparse.
    assert_eq!(rate(true, 0, &asked), None);
    assert_eq!(rate(true, FLAG_CLEAN, &asked), None);
    assert_eq!(rate(true, FLAG_SPARSE, &asked), Some(asked.discard_rate));
}

#[test]
fn the_tree_of_trees_is_read_at_every_level() {
    for trees in [0, 1, 80] {
        let disk = store(trees);
        let sb = newest(&disk);
        assert_eq!(sb.catalog_level, u32::from(trees > 20));
        let opening = begun(&disk, &options(true));
        assert_eq!(opening.core.trees.lock().all().len(), trees);
        // An inner node and the leaves below.
        assert!(trees < 20 || opening.catalog.len() > 2);

        let device = disk.device();
        let reader = CatalogReader {
            device: device.as_ref(),
            geometry: geometry_of(&sb, device.as_ref()).unwrap(),
            store: sb.store_id as u64,
        };
        let read = |ptr| {
            let level = sb.catalog_level as u8;
            let (mut contents, mut blocks) = (Contents::default(), Vec::new());
            reader.read(ptr, level, &mut contents, &mut blocks, &mut None)?;
            Ok(contents.trees.len())
        };
        let root = sb.catalog();
        assert_eq!(read(root).unwrap(), trees);
        for wrong in [
            BlockPtr { len: 2, ..root },
            BlockPtr { flags: 1, ..root },
            BlockPtr { addr: 0, ..root },
        ] {
            match read(wrong) {
                Err(Error::Damaged(d)) => assert!(d.detail.contains("outside"), "{d}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn read_only_the_log_lies_beside_the_trees() {
    // Commits behind a checkpoint that has some already.
    let disk = store(2);
    let store = open(&disk);
    let tree = store.tree(&name(1)).unwrap();
    for i in 0..5u8 {
        tree.put_with(&[i], b"new", Durability::Sync).unwrap();
    }
    let last = store.flush().unwrap();
    drop(tree);
    let disk = cut(&disk, store);
    let sb = newest(&disk);
    assert_eq!(last, sb.cut + 5);
    assert!(sb.cut > 1);

    let mut opening = begun(&disk, &options(true));
    assert_eq!(opening.core.visible.upto(), sb.cut);
    replay_beside(&mut opening, &options(true)).unwrap();
    assert_eq!(opening.core.visible.upto(), last);
    let report = &opening.report;
    assert_eq!((report.replayed, report.operations), (5, 5));
    assert_eq!((report.last_csn, report.changes.0), (last, 5));
    assert!(opening.core.overlay().is_some());

    // Nor does it take a checkpoint: all is in the log.
    let fresh = SimDisk::new(SimOptions::default());
    Store::format_device(fresh.device(), &FormatOptions::default()).unwrap();
    let store = open(&fresh);
    drop(store.tree("t").unwrap());
    let fresh = cut(&fresh, store);
    assert_eq!(newest(&fresh).cut, 0);
    let mut opening = begun(&fresh, &options(true));
    replay_beside(&mut opening, &options(true)).unwrap();
    assert_eq!(opening.core.visible.upto(), 1);
    assert!(opening.core.trees.lock().named("t").is_some());

    // Of a store that was closed there is nothing to hold.
    let disk = self::store(2);
    let mut opening = begun(&disk, &options(true));
    replay_beside(&mut opening, &options(true)).unwrap();
    assert_eq!(opening.report.replayed, 0);
    assert!(opening.core.overlay().is_none());
}

#[test]
fn what_the_log_says_of_trees_that_are_lost_is_left_out_with_them() {
    let disk = store(2);
    let store = open(&disk);
    let tree = store.tree(&name(1)).unwrap();
    tree.put_with(b"k", b"new", Durability::Sync).unwrap();
    drop(tree);
    let disk = cut(&disk, store);
    let root = newest(&disk).catalog();
    disk.corrupt(root.addr * 4096, 4096);
    assert!(begin(disk.device(), "disk", &options(true)).is_err());
    let salvage = OpenOptions {
        salvage: true,
        ..options(true)
    };
    let mut opening = begun(&disk, &salvage);
    assert_eq!(opening.report.left_out.len(), 1);
    assert_eq!(opening.report.left_out[0].place, root.addr);
    replay_beside(&mut opening, &salvage).unwrap();
    assert_eq!(opening.report.left_out.len(), 1);
}

#[test]
fn what_the_log_names_is_nobody_elses() {
    let disk = store(2);
    let store = open(&disk);
    let tree = store.tree(&name(1)).unwrap();
    for i in 0..3u8 {
        tree.put_with(&[i], &[i; 100_000], Durability::Sync)
            .unwrap();
    }
    drop(tree);
    let disk = cut(&disk, store);
    let mut opening = begun(&disk, &options(false));
    let tail = replay(&mut opening).unwrap();
    assert_eq!(opening.report.replayed, 3);
    assert_eq!(tail.last_csn, opening.report.last_csn);
    // All that is to be had is none of it.
    let allocator = opening.core.forest.pool.allocator();
    allocator.settle().unwrap();
    let all = Request {
        blocks: allocator.stats().free as u32,
        shape: Shape::Nodes,
        hint: 0,
        urgency: Urgency::Reserve,
    };
    let all = allocator.reserve(all).unwrap();
    let sb = opening.superblock;
    let mut reader = open_log(&opening).unwrap();
    let mut named = 0;
    while let Some(record) = reader.next_record().unwrap() {
        for op in Ops::new(record.ops) {
            let LogOp::PutExtent { extents, .. } = op.unwrap() else {
                continue;
            };
            for run in extents.iter().map(|e| e.run(sb.block_size)) {
                named += 1;
                assert!(
                    all.iter()
                        .all(|r| r.end() <= run.start || run.end() <= r.start)
                );
            }
        }
    }
    assert_eq!(named, 3);
    drop(opening);
    // And the whole store agrees.
    let store = open(&disk);
    let tree = store.tree(&name(1)).unwrap();
    for i in 0..3u8 {
        assert_eq!(tree.get(&[i]).unwrap(), Some(vec![i; 100_000]));
    }
    drop(tree);
    store.close().unwrap();
    let report = check_device(disk.device(), &CheckOptions::default()).unwrap();
    assert!(report.clean, "{:?}", report.problems);
}

/// A store after its replay, of which no block is free, and the blocks.
fn full() -> (Opening, Vec<Run>) {
    let disk = store(2);
    let mut opening = begun(&disk, &options(false));
    replay(&mut opening).unwrap();
    let allocator = opening.core.forest.pool.allocator();
    allocator.settle().unwrap();
    let all = Request {
        blocks: allocator.free_blocks() as u32,
        shape: Shape::Nodes,
        hint: 0,
        urgency: Urgency::Reserve,
    };
    let taken = allocator.reserve(all).unwrap();
    (opening, taken)
}

/// Notes blocks as those of nodes that replay made and left again.
fn pass(worker: &Worker, taken: &mut [Run], blocks: u32) {
    let from = taken.iter_mut().find(|r| r.len > blocks).unwrap();
    for _ in 0..blocks {
        from.len -= 1;
        let block = Run::single(from.end());
        worker.journal.lock().used.push(block);
        worker.freed(Freed::node(BlockPtr::unwritten(
            block.start,
            Generation::default(),
        )));
    }
}

#[test]
fn a_replay_without_space_goes_on_with_what_it_used_before() {
    let (opening, mut taken) = full();
    let core = &opening.core;
    let worker = core.forest.workers.mine().unwrap();
    let tree = core.trees.lock().named(&name(1)).unwrap();
    let mut ops = OpsBuilder::new();
    ops.put(tree.id, b"new", b"value").unwrap();
    let csn = core.visible.upto() + 1;
    let put = || replay_record(core, &worker, csn, ops.as_bytes());
    // There is none, and it says so.
    assert!(matches!(put(), Err(Error::Full { .. })));
    assert_eq!(core.visible.upto(), csn - 1);
    pass(&worker, &mut taken, 8);
    put().unwrap();
    assert_eq!(core.visible.upto(), csn);
}

#[test]
fn blocks_are_given_back_when_nothing_is_on_its_way_to_them() {
    let (opening, mut taken) = full();
    let core = &opening.core;
    let worker = core.forest.workers.mine().unwrap();
    let free = || {
        core.forest.pool.allocator().settle().unwrap();
        core.forest.pool.allocator().free_blocks()
    };
    assert_eq!((reclaim(core, &worker), free()), (0, 0));
    pass(&worker, &mut taken, 3);
    let running = core.forest.running();
    core.evicting.in_flight.begin(running);
    let ended = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            ended.store(true, Ordering::SeqCst);
            core.evicting.in_flight.end(running);
        });
        let blocks = reclaim(core, &worker);
        assert!(ended.load(Ordering::SeqCst));
        assert_eq!((blocks, free()), (3, 3));
    });
    // Of a store that has stopped nobody ends what is on its way.
    core.evicting.in_flight.begin(running);
    core.fail(&Error::Stopped("on purpose".into()));
    assert_eq!(reclaim(core, &worker), 0);
}
