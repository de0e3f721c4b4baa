//! The ways of writing beside puts and deletes, each beside a model, on the simulated disk: with
//! reopening, power cuts, failing devices and full stores.
//!
//! What is random has a seed (`GAUR_SEED`, or a fresh one), which is printed.

mod bulk;
#[path = "../common/mod.rs"]
mod common;
mod merge;
mod streamed;

use gaur::{FormatOptions, OpenOptions, Store};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng::fresh_seed;

/// The seed of this run, printed.
fn seed() -> u64 {
    let given = std::env::var("GAUR_SEED").ok();
    let seed = given
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(fresh_seed);
    println!("GAUR_SEED={seed}");
    seed
}

/// A formatted disk of so many MiB, with a log of 4.
fn formatted(seed: u64, mib: u64) -> SimDisk {
    let disk = common::disk(seed, mib << 20);
    let options = FormatOptions {
        log_size: Some(4 << 20),
        ..FormatOptions::default()
    };
    Store::format_device(disk.device(), &options).unwrap();
    disk
}

/// Opens it with a small cache, and without checkpoints that nobody asks for.
fn open(disk: &SimDisk) -> Store {
    let options = OpenOptions {
        cache_bytes: 2 << 20,
        checkpoint_interval: std::time::Duration::from_secs(3600),
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options).unwrap()
}

/// Blocks that are free, or will be with what is given back.
fn free(store: &Store) -> u64 {
    for _ in 0..2 {
        store.checkpoint().unwrap();
    }
    store.stats().get("allocator", "free_blocks").unwrap()
}
