//! A store on a simulated disk, for the tests of the thread.

use std::time::Duration;

use gaur_iodriver::sync::thread;
use gaur_iodriver::{Fault, FaultKind, IoErrorKind, OpKind, SimDisk, SimOptions};

use super::config;
use crate::alloc::{AllocConfig, Allocator, Changes, MapRoot, Request, Shape, Urgency};
use crate::error::Result;
use crate::format::{BlockNo, Generation, Run};

pub(super) const FAIL: FaultKind = FaultKind::Fail(IoErrorKind::Failed);

pub(super) fn nodes(blocks: u32) -> Request {
    Request {
        blocks,
        shape: Shape::Nodes,
        hint: 0,
        urgency: Urgency::Normal,
    }
}

pub(super) fn extent(blocks: u32, max_pieces: usize) -> Request {
    Request {
        shape: Shape::Extent { max_pieces },
        ..nodes(blocks)
    }
}

pub(super) fn disk(config: &AllocConfig, seed: u64) -> SimDisk {
    SimDisk::new(SimOptions {
        capacity: config.geometry.byte(config.geometry.capacity),
        seed,
        ..SimOptions::default()
    })
}

pub(super) struct Store {
    pub(super) disk: SimDisk,
    pub(super) config: AllocConfig,
    pub(super) root: MapRoot,
    pub(super) alloc: Allocator,
    pub(super) generation: Generation,
}

impl Store {
    pub(super) fn new(config: AllocConfig) -> Self {
        let disk = disk(&config, 1);
        Self::on(disk, config)
    }

    pub(super) fn on(disk: SimDisk, config: AllocConfig) -> Self {
        let root = MapRoot::fresh(&config.geometry);
        Self {
            alloc: Allocator::start(&disk.device(), root, config.clone()).unwrap(),
            disk,
            config,
            root,
            generation: Generation::first(1),
        }
    }

    /// Three whole groups, most of each in use, and what is.
    pub(super) fn used() -> (Self, Vec<Run>) {
        let mut store = Self::new(AllocConfig {
            map_memory: 0,
            ..config(3)
        });
        let mut used = Vec::new();
        for _ in 0..3 {
            used.extend(store.alloc.reserve(extent(30_000, 1)).unwrap());
        }
        store.checkpoint(&used, &[]);
        store.checkpoint(&[], &[Run::single(used[0].start)]);
        used[0].start += 1;
        used[0].len -= 1;
        (store, used)
    }

    /// Freezes without a release.
    pub(super) fn try_freeze(&mut self, used: &[Run], freed: &[Run]) -> Result<MapRoot> {
        self.generation = self.generation.next();
        let changes = Changes {
            used: used.to_vec(),
            freed: freed.to_vec(),
        };
        self.alloc.freeze(self.generation, changes).wait()
    }

    pub(super) fn freeze(&mut self, used: &[Run], freed: &[Run]) {
        self.root = self.try_freeze(used, freed).unwrap();
    }

    pub(super) fn checkpoint(&mut self, used: &[Run], freed: &[Run]) {
        self.freeze(used, freed);
        self.alloc.release(self.generation, Vec::new());
    }

    /// Starts again from the last root.
    pub(super) fn reopen(&mut self) {
        self.alloc.shutdown();
        let (device, config) = (self.disk.device(), self.config.clone());
        self.alloc = Allocator::start(&device, self.root, config).unwrap();
    }

    pub(super) fn all_free(&self) -> u64 {
        self.alloc.settle().unwrap();
        self.alloc.free_blocks()
    }

    /// All of a kind from now on: until [`Store::calm`].
    pub(super) fn always(&self, op: OpKind, what: FaultKind) {
        self.disk.inject(Fault {
            op,
            at: self.disk.stats().next(op),
            times: u64::MAX / 2,
            what,
        });
    }

    /// No faults, and what stalled goes on.
    pub(super) fn calm(&self) {
        self.disk.clear_faults();
        self.disk.release_stalls();
    }

    /// Turns a bit of both slots of a map (level 0) or index block.
    pub(super) fn rot(&self, place: impl Fn(u32) -> BlockNo) {
        for slot in 0..2 {
            self.disk
                .flip_bit(self.config.geometry.byte(place(slot)) + 100, 2);
        }
    }
}

pub(super) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..5000 {
        if is() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("never: {what}");
}
