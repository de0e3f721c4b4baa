//! The checkpointer without its thread: what it keeps, when it works, how it ends.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use gaur_iodriver::sim::{FaultKind, OpKind};
use gaur_iodriver::{IoErrorKind, SimDisk, SimOptions};

use super::*;
use crate::commit::{Change, Stamp};
use crate::format::Geometry;
use crate::format::node::KIND_VALUE;
use crate::format::superblock::FLAG_SPARSE;
use crate::log::{Log, LogConfig, OpsBuilder, Record, record_check};
use crate::node::{NodeBuf, load_image};
use crate::shortage::Claim;
use crate::{CheckOptions, FormatOptions, OpenOptions, Store, check_device, recovery};

/// An open store of which only the allocator's and the log's threads run.
struct Bench {
    disk: SimDisk,
    core: Arc<Core>,
    c: Checkpointer,
}

impl Bench {
    fn new() -> Self {
        Self::with(64 << 20, false, &OpenOptions::default())
    }

    fn with(capacity: u64, file: bool, o: &OpenOptions) -> Self {
        let disk = SimDisk::new(SimOptions {
            capacity,
            file,
            ..SimOptions::default()
        });
        Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
        Self::open(disk, o)
    }

    fn open(disk: SimDisk, o: &OpenOptions) -> Self {
        let device = disk.device();
        let mut opening = recovery::begin(device.clone(), "disk", o).unwrap();
        let tail = recovery::replay(&mut opening).unwrap();
        let (core, sb) = (opening.core, opening.superblock);
        let config = LogConfig::new(core.forest.geometry.now(), sb.store_id, sb.incarnation);
        let head = recovery::head_of(&sb);
        let log = Log::start(device.clone(), config, head, tail, Box::new(|| ())).unwrap();
        core.set_log(log);
        core.progress().serve();
        let queue = device.queue(DEPTH as u32).unwrap();
        let c = Checkpointer::new(sb, opening.catalog, opening.spare, opening.doomed, queue);
        Self { disk, core, c }
    }

    fn tree(&self, id: u32, name: &str) -> Arc<TreeState> {
        let tree = Arc::new(TreeState::empty(id, name));
        self.core.trees.lock().insert(tree.clone());
        self.core.next_tree.fetch_max(id + 1, Ordering::Relaxed);
        tree
    }

    fn put(&self, tree: &TreeState, key: u32) {
        let (key, value) = (key.to_be_bytes(), [7; 200]);
        let mut ops = OpsBuilder::new();
        ops.put(tree.id, &key, &value).unwrap();
        let record = Record {
            ops: ops.as_bytes(),
            count: ops.count(),
            check: record_check(ops.as_bytes()),
            names_extents: false,
            sync: false,
        };
        let change = Change {
            tree,
            key: &key,
            value: Some((KIND_VALUE, &value)),
        };
        let worker = self.core.forest.workers.mine().unwrap();
        let appended = Cell::new(false);
        let stamp = Stamp::Append(&record, &appended);
        let made = self.core.make(&worker, &[change], stamp, Claim::adding());
        made.0.unwrap();
    }

    /// Checkpoints made.
    fn made(&self) -> u64 {
        self.core.checkpointing.checkpoints.load(Ordering::Relaxed)
    }

    fn free(&self) -> u64 {
        let allocator = self.core.forest.pool.allocator();
        allocator.settle().unwrap();
        let stats = allocator.stats();
        stats.free + stats.channel
    }

    fn reserve(&self, blocks: u64) -> Vec<Run> {
        let allocator = self.core.forest.pool.allocator();
        let request = SpaceRequest {
            blocks: blocks as u32,
            shape: Shape::Nodes,
            hint: 0,
            urgency: Urgency::Reserve,
        };
        allocator.reserve(request).unwrap()
    }
}

fn blocks(runs: &[Run]) -> u64 {
    runs.iter().map(|r| u64::from(r.len)).sum()
}

#[test]
fn what_is_kept_for_the_tree_of_trees_is_what_it_needs_and_eight_blocks() {
    let b = Bench::new();
    for i in 0..40 {
        b.tree(i + 1, &format!("{i:02}{}", "n".repeat(100)));
    }
    let core = &b.core;
    let want = catalog_blocks(core, 0) + 8;
    assert!(want > 12 + 8, "{want}");
    let mut spare = Vec::new();
    let before = b.free();
    reserve_catalog(core, &mut spare, 0, 0).unwrap();
    assert_eq!((blocks(&spare), b.free()), (want, before - want));
    let allocator = core.forest.pool.allocator();
    let floor = allocator.kept_back() - allocator.reserve_blocks();
    assert_eq!(floor, want - 8);
    // There is enough: nothing changes.
    reserve_catalog(core, &mut spare, 0, 0).unwrap();
    assert_eq!((blocks(&spare), b.free()), (want, before - want));
    // Only what is missing is taken.
    assert_eq!(spare.len(), 1, "an empty store has such a run");
    spare[0].len -= 3;
    let (start, len) = (spare[0].end(), 3);
    allocator.give_back_unused(vec![Run { start, len }]);
    reserve_catalog(core, &mut spare, 0, 0).unwrap();
    assert_eq!((blocks(&spare), b.free()), (want, before - want));
    // What new trees brought is taken first, and what is too much goes back.
    let brought = b.reserve(3);
    core.for_catalog.lock().extend(brought);
    reserve_catalog(core, &mut spare, 0, 0).unwrap();
    assert_eq!((blocks(&spare), b.free()), (want, before - want));
    assert!(core.for_catalog.lock().is_empty());
    allocator.give_back_unused(std::mem::take(&mut spare));
    let singles = b.reserve(want + 5);
    spare.extend(
        singles
            .iter()
            .flat_map(|r| (r.start..r.end()).map(Run::single)),
    );
    reserve_catalog(core, &mut spare, 0, 0).unwrap();
    assert_eq!((blocks(&spare), b.free()), (want, before - want));
    // A run of which part is needed is kept whole.
    allocator.give_back_unused(std::mem::take(&mut spare));
    spare = b.reserve(want + 5);
    assert_eq!(spare.len(), 1);
    reserve_catalog(core, &mut spare, 0, 0).unwrap();
    assert_eq!((blocks(&spare), b.free()), (want + 5, before - want - 5));
}

#[test]
fn a_checkpoint_is_made_if_there_is_news_or_somebody_waits() {
    let mut b = Bench::new();
    let tree = b.tree(1, "t");
    assert!(!b.c.round(&b.core, false).unwrap());
    assert_eq!(b.made(), 0);
    // A commit.
    b.put(&tree, 1);
    b.c.round(&b.core, false).unwrap();
    assert_eq!((b.made(), b.c.superblock.cut), (1, b.core.last_drawn()));
    b.c.round(&b.core, false).unwrap();
    assert_eq!(b.made(), 1);
    // Nodes that are not on the device, of commits that the superblock has.
    b.put(&tree, 2);
    b.c.superblock.cut = b.core.last_drawn();
    b.c.round(&b.core, false).unwrap();
    assert_eq!(b.made(), 2);
    // A commit that left no node.
    b.c.superblock.cut -= 1;
    b.c.round(&b.core, false).unwrap();
    assert_eq!(b.made(), 3);
    b.c.round(&b.core, false).unwrap();
    assert_eq!(b.made(), 3);
    // Somebody waits.
    let core = b.core.clone();
    let waiter = std::thread::spawn(move || core.progress().wait_for_next());
    while !b.core.progress().is_wanted() {
        std::thread::yield_now();
    }
    b.c.round(&b.core, false).unwrap();
    waiter.join().unwrap().unwrap();
    assert_eq!(b.made(), 4);
}

#[test]
fn a_larger_device_is_news() {
    let follow = OpenOptions {
        follow_size: true,
        ..OpenOptions::default()
    };
    let mut b = Bench::with(64 << 20, false, &follow);
    b.disk.set_capacity(96 << 20);
    b.c.round(&b.core, false).unwrap();
    assert_eq!((b.made(), b.core.forest.bytes()), (1, 96 << 20));
    b.c.round(&b.core, false).unwrap();
    assert_eq!(b.made(), 1);
}

#[test]
fn a_file_low_on_space_is_looked_at_again_unless_it_cannot_grow() {
    let grows = OpenOptions {
        grow_to: Some(1 << 30),
        ..OpenOptions::default()
    };
    let mut b = Bench::with(64 << 20, true, &grows);
    let asked = |b: &Bench| b.core.progress().asked_within(Duration::ZERO);
    assert!(!b.c.round(&b.core, false).unwrap());
    assert!(!asked(&b));
    // Half as much again as the mark is the bound.
    let mark = b.core.forest.low_mark();
    let bound = mark + mark / 2;
    let taken = b.reserve(b.free() - bound);
    let free = b.core.forest.pool.allocator().free_soon().unwrap();
    assert_eq!(free, bound);
    assert!(!b.c.round(&b.core, false).unwrap());
    let one = b.reserve(1);
    assert!(b.c.round(&b.core, false).unwrap());
    assert!(asked(&b));
    // It cannot grow: not before some time has passed.
    b.disk
        .inject_next(OpKind::Grow, FaultKind::Fail(IoErrorKind::NoSpace));
    assert!(!b.c.round(&b.core, true).unwrap());
    assert!(!asked(&b));
    assert_eq!((b.core.forest.bytes(), b.made()), (64 << 20, 0));
    drop((taken, one));
}

#[test]
fn a_store_grows_by_itself_when_it_is_low() {
    let grows = OpenOptions {
        grow_to: Some(1 << 30),
        ..OpenOptions::default()
    };
    let mut b = Bench::with(64 << 20, true, &grows);
    b.reserve(b.free() - 100);
    assert!(b.c.round(&b.core, false).unwrap());
    assert!(b.core.progress().asked_within(Duration::ZERO));
    assert_eq!(b.core.forest.bytes(), 64 << 20);
    assert!(!b.c.round(&b.core, true).unwrap());
    assert_eq!((b.core.forest.bytes(), b.made()), (128 << 20, 1));
    // The allocator tells when the larger store is low.
    let mark = b.core.forest.low_mark();
    assert!(!b.core.progress().asked_within(Duration::ZERO));
    b.reserve(b.free() - mark + 1);
    b.free();
    assert!(b.core.progress().asked_within(Duration::from_secs(10)));
}

#[test]
fn closing_leaves_nothing_to_replay_and_a_whole_map() {
    let mut b = Bench::new();
    let tree = b.tree(1, "t");
    b.put(&tree, 1);
    b.c.close(&b.core).unwrap();
    assert_eq!(b.made(), 1);
    b.core.log().shutdown().unwrap();
    assert!(clean(&b.disk));
}

fn clean(disk: &SimDisk) -> bool {
    let report = check_device(disk.device(), &CheckOptions::default());
    report.unwrap().clean
}

#[test]
fn closing_puts_a_map_that_was_damaged_back_on_the_device() {
    let disk = SimDisk::new(SimOptions {
        capacity: 400 << 20,
        ..SimOptions::default()
    });
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let spread = OpenOptions {
        allocator_spread: true,
        ..OpenOptions::default()
    };
    let store = Store::open_device(disk.device(), &spread).unwrap();
    let tree = store.tree("t").unwrap();
    // The last group stays untouched: opening finds room there, and reads no other.
    for key in 0..2u32 {
        tree.put(&key.to_be_bytes(), &[7; 100_000]).unwrap();
    }
    drop(tree);
    store.close().unwrap();
    assert!(clean(&disk));

    let geometry = Geometry::new(4096, 400 << 20, 0);
    for group in 0..geometry.groups() {
        disk.corrupt(geometry.byte(geometry.map_block(group, 0)), 2 * 4096);
    }
    let mut b = Bench::open(disk, &OpenOptions::default());
    // It is noticed when all groups are needed.
    let allocator = b.core.forest.pool.allocator();
    let all = SpaceRequest {
        blocks: b.free() as u32,
        shape: Shape::Nodes,
        hint: 0,
        urgency: Urgency::Reserve,
    };
    assert!(allocator.reserve(all).is_err());
    assert!(!allocator.damaged_groups().unwrap().is_empty());
    b.c.close(&b.core).unwrap();
    assert_eq!(b.made(), 2);
    b.core.log().shutdown().unwrap();
    assert!(clean(&b.disk));
}

#[test]
fn nothing_is_on_its_way_when_the_queue_is_left() {
    let mut b = Bench::new();
    for run in b.reserve(5) {
        for addr in run.start..run.end() {
            let buf = IoBuf::zeroed(4096);
            b.c.write(&b.core, addr, buf, Vec::new()).unwrap();
        }
    }
    assert_eq!(b.c.queue.in_flight(), 5);
    b.c.leave_queue();
    assert_eq!(b.c.queue.in_flight(), 0);
}

#[test]
fn a_panic_of_the_checkpointer_stops_the_store() {
    let b = Bench::new();
    drop(Guard(&b.core));
    assert_eq!(b.core.progress().stopped(), None);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = Guard(&b.core);
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    let why = b.core.progress().stopped().unwrap();
    assert!(why.contains("the checkpointer"), "{why}");
}

#[test]
fn nodes_side_by_side_are_written_with_one_request() {
    let mut b = Bench::new();
    let tree = b.tree(1, "t");
    for key in 0..6000 {
        b.put(&tree, key);
    }
    b.c.round(&b.core, false).unwrap();
    let c = &b.core.checkpointing;
    let [nodes, requests, bytes] =
        [&c.nodes, &c.requests, &c.bytes].map(|n| n.load(Ordering::Relaxed));
    // The tree of trees is a block of its own.
    assert_eq!(bytes, (nodes + 1) * 4096);
    assert!(
        nodes > 200 && requests - 1 < nodes / 4,
        "{requests} requests for {nodes}"
    );
    // The nodes above have the checksums of those below.
    b.c.close(&b.core).unwrap();
    b.core.log().shutdown().unwrap();
    assert!(clean(&b.disk));
}

#[test]
fn the_mark_of_a_close_is_in_the_last_superblock_alone() {
    let mut b = Bench::new();
    let tree = b.tree(1, "t");
    b.c.superblock.flags = FLAG_SPARSE | FLAG_CLEAN;
    b.put(&tree, 1);
    b.c.round(&b.core, false).unwrap();
    assert_eq!(b.c.superblock.flags, FLAG_SPARSE);
    b.c.close(&b.core).unwrap();
    assert_eq!(b.c.superblock.flags, FLAG_SPARSE | FLAG_CLEAN);
}

#[test]
fn what_a_superblock_names_is_flushed_before_it_is_written() {
    let mut b = Bench::new();
    let tree = b.tree(1, "t");
    b.put(&tree, 1);
    b.core.log().flush().unwrap();
    let before = b.disk.stats().flushes;
    b.c.round(&b.core, false).unwrap();
    // Then each of the two copies.
    assert_eq!(b.disk.stats().flushes - before, 3);
}

#[test]
fn a_node_that_could_not_be_written_fails_the_checkpoint() {
    let mut b = Bench::new();
    let tree = b.tree(1, "t");
    b.put(&tree, 1);
    b.core.log().flush().unwrap();
    let generation = b.c.superblock.generation;
    let failed = FaultKind::Fail(IoErrorKind::Failed);
    b.disk.inject_next(OpKind::Write, failed);
    assert!(b.c.round(&b.core, false).is_err());
    assert_eq!((b.made(), b.c.superblock.generation), (0, generation));
}

#[test]
fn a_checkpoint_waits_for_what_was_written_early() {
    let mut b = Bench::new();
    let tree = b.tree(1, "t");
    b.put(&tree, 1);
    let (core, running) = (b.core.clone(), b.core.forest.running());
    core.evicting.in_flight.begin(running);
    let ended = AtomicU64::new(0);
    std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            ended.store(1, Ordering::SeqCst);
            core.evicting.in_flight.end(running);
        });
        b.c.round(&core, false).unwrap();
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    });
}

fn freed(run: Run, birth: Generation) -> Freed {
    Freed {
        run,
        birth,
        piece: true,
        last: None,
    }
}

#[test]
fn extents_that_a_view_may_look_at_are_kept() {
    let b = Bench::new();
    let tree = b.tree(1, "t");
    b.put(&tree, 1);
    let seen = b.core.visible.upto();
    let runs: Vec<Run> = (0..3).flat_map(|_| b.reserve(1)).collect();
    let allocator = b.core.forest.pool.allocator();
    let mut generation = b.core.forest.running();
    let mut frozen = |used: &[Run], freed: &[Run]| {
        generation = generation.next();
        let (used, freed) = (used.to_vec(), freed.to_vec());
        let ticket = allocator.freeze(generation, Changes { used, freed });
        ticket.wait().unwrap();
        generation
    };
    allocator.release(frozen(&runs, &[]), Vec::new());
    let free = b.free();
    let sorted = |runs: &[Run], from: Csn| {
        let mut sorted = Sorted::default();
        let extents = runs.iter().map(|run| freed(*run, Generation(1)));
        sorted.extents = (from..).zip(extents).collect();
        sorted
    };
    let extents = sorted(&runs, seen - 1).extents;
    let view = b.core.view().unwrap();
    let kept = release(&b.core, frozen(&[], &runs), &mut sorted(&runs, seen - 1));
    // Only what a later commit freed.
    assert_eq!(kept, extents[2..]);
    assert_eq!(b.free(), free + 2);
    drop(view);
    allocator.give_back(vec![runs[2]]);
    assert_eq!(b.free(), free + 3);
    // Without a view nothing is.
    let runs = b.reserve(1);
    allocator.release(frozen(&runs, &[]), Vec::new());
    let kept = release(&b.core, frozen(&[], &runs), &mut sorted(&runs, seen + 1));
    assert_eq!((kept, b.free()), (Vec::new(), free + 3));
}

#[test]
fn a_checkpoint_tells_how_many_nodes_it_wrote() {
    let mut b = Bench::new();
    let tree = b.tree(1, "t");
    let events = b.core.forest.events.listen(8);
    for _ in 0..2 {
        b.put(&tree, 1);
        b.c.round(&b.core, false).unwrap();
        let Some(Event::Checkpoint { nodes, csn, .. }) = events.try_next() else {
            panic!("no checkpoint was told");
        };
        assert_eq!((nodes, csn), (1, b.core.last_drawn()));
    }
}

#[test]
fn a_frozen_node_names_all_below_it_though_writers_went_on() {
    let mut b = Bench::new();
    let tree = b.tree(1, "t");
    for key in 0..200 {
        b.put(&tree, key);
    }
    let (core, generation) = (b.core.clone(), b.core.forest.running());
    let frozen = Frozen::new(tree.clone(), false);
    let root_now = || core.forest.cache.page(tree.anchor.child().hint - 1);
    let leaf = root_now().child(0);
    core.forest.advance();
    // A writer leaves the frozen root, and of the leaves only one.
    b.put(&tree, 0);
    // The checksum of the leaf that it left, told late, is not that of the new one.
    let left = Dirty {
        frame: leaf.hint - 1,
        addr: leaf.ptr.addr,
        parent: Above::Root,
    };
    tell_running(&core, &tree, &left, 7);
    assert_eq!(root_now().child(0).ptr.checksum, 0);
    assert_ne!(tree.anchor.child().ptr.addr, frozen.root.ptr.addr);
    let root = b.c.write_tree(&core, &frozen, generation).unwrap();
    b.c.drain(&core).unwrap();
    let read = |ptr: BlockPtr, level| {
        let image = b.disk.peek(ptr.addr * 4096, 4096);
        let node = NodeBuf::new(512);
        let store = core.forest.store;
        load_image(&image, ptr, store, Some(1), Some(level), node.page()).unwrap();
        node
    };
    let node = read(root, 1);
    assert!(node.page().slots() > 5);
    for slot in 0..node.page().slots() {
        let child = node.page().child(slot).ptr;
        assert_ne!(child.checksum, 0);
        read(child, 0);
        // The running tree's root has them too, but for the leaf that was copied.
        let same = root_now().child(slot).ptr == child;
        assert_eq!(same, slot > 0);
    }
}
