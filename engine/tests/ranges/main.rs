//! Deleting ranges of keys: beside a model, beside others, through power cuts.

#[path = "../common/mod.rs"]
mod common;

mod beside;
mod full;
mod model;
mod power;
mod seen;

use std::collections::BTreeMap;
use std::time::Duration;

use common::checked;
use gaur::{Durability, FormatOptions, Store, Tree};
use gaur_iodriver::sim::SimDisk;

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) fn formatted(capacity: u64) -> SimDisk {
    let disk = common::disk(1, capacity);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    disk
}

pub(crate) fn contents(tree: &Tree) -> Model {
    tree.iter().unwrap().map(Result::unwrap).collect()
}

pub(crate) fn key(i: u32) -> Vec<u8> {
    i.to_be_bytes().to_vec()
}

pub(crate) fn fill(tree: &Tree, keys: std::ops::Range<u32>, value: &[u8]) {
    for i in keys {
        tree.put_with(&key(i), value, Durability::Buffered).unwrap();
    }
}

pub(crate) fn stat(store: &Store, group: &str, name: &str) -> u64 {
    store.stats().get(group, name).unwrap()
}

/// Waits until nothing is left of what was deleted, and what it had is free.
pub(crate) fn settle(store: &Store) {
    loop {
        store.checkpoint().unwrap();
        if stat(store, "reclaim", "trees") == 0 && stat(store, "reclaim", "snapshots") == 0 {
            return store.checkpoint().unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Blocks in use, all told.
pub(crate) fn used(disk: &SimDisk) -> u64 {
    let blocks = checked(disk).blocks;
    blocks.nodes + blocks.extents + blocks.kept
}
