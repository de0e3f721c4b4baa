//! Power cuts at any write or flush: what the last durable superblock reaches is
//! there, whole, and nothing else is in use. Also on the real drivers.

use gaur_iodriver::sync::rng;
use gaur_iodriver::{DriverChoice, OpenOptions};
use rand::RngExt;

use super::config;
use super::disk::{Store, disk, extent, nodes};
use crate::alloc::{AllocConfig, Allocator, Changes, MapRoot};
use crate::format::{Generation, Run};

/// Everything that is free, after `root`, beside what is used.
fn check(alloc: &Allocator, root: MapRoot, used: &[Run], what: &str) {
    alloc.settle().unwrap();
    assert_eq!(alloc.free_blocks(), root.free, "{what}");
    assert!(alloc.damaged_groups().unwrap().is_empty(), "{what}");
    let mut all = alloc.reserve(nodes(root.free as u32)).expect(what);
    assert!(alloc.damaged_groups().unwrap().is_empty(), "{what}");
    all.extend(used);
    all.sort_unstable();
    assert!(all.windows(2).all(|w| w[0].end() <= w[1].start), "{what}");
}

#[test]
fn a_power_cut_leaves_the_last_durable_map() {
    for _ in 0..12 {
        let seed = rng::fresh_seed();
        println!("seed {seed}");
        power_cut(seed);
    }
}

fn power_cut(seed: u64) {
    let mut r = rng::seeded(seed);
    let config = AllocConfig {
        map_memory: 0,
        discard: r.random(),
        ..config(3)
    };
    let disk = disk(&config, seed);
    let root = MapRoot::fresh(&config.geometry);
    let mut store = Store {
        alloc: Allocator::start(&disk.device(), root, config.clone()).unwrap(),
        disk: disk.clone(),
        config: config.clone(),
        root,
        generation: Generation::first(1),
    };
    let device = disk.device();
    let (mut used, mut durable) = (Vec::new(), Vec::new());
    disk.crash_after(r.random_range(1..60));
    while disk.is_powered() {
        let mut new = Vec::new();
        for _ in 0..r.random_range(0..4) {
            let size = [10, 2000][r.random_range(0..2)];
            let request = if r.random() {
                nodes(size)
            } else {
                extent(size, 4)
            };
            new.extend(store.alloc.reserve(request).unwrap_or_default());
        }
        let freed: Vec<Run> = used.extract_if(.., |_| r.random_range(0..3) == 0).collect();
        used.extend(&new);
        let frozen = store.try_freeze(&new, &freed);
        if let (Ok(root), Ok(())) = (frozen, device.flush()) {
            // Here the superblock would be written.
            store.root = root;
            durable.clone_from(&used);
            store.alloc.release(store.generation, Vec::new());
        }
    }
    store.alloc.shutdown();
    let after = disk.crash(seed);
    let alloc = Allocator::start(&after.device(), store.root, config).unwrap();
    check(&alloc, store.root, &durable, &format!("seed {seed}"));
}

#[test]
fn works_on_the_real_drivers() {
    let config = config(1);
    for driver in [DriverChoice::Auto, DriverChoice::Psync] {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            create: Some(config.geometry.byte(config.geometry.capacity)),
            sparse: true,
            driver,
            ..OpenOptions::default()
        };
        let opened = gaur_iodriver::open(dir.path().join("store"), &options).unwrap();
        let mut root = MapRoot::fresh(&config.geometry);
        let mut used = Vec::new();
        for incarnation in 1..4 {
            let config = AllocConfig {
                discard: true,
                ..config.clone()
            };
            let alloc = Allocator::start(&opened.device, root, config).unwrap();
            let new = alloc.reserve(nodes(1000)).unwrap();
            let freed = std::mem::replace(&mut used, new.clone());
            let generation = Generation::first(incarnation);
            let changes = Changes { used: new, freed };
            root = alloc.freeze(generation, changes).wait().unwrap();
            alloc.release(generation, Vec::new());
            assert!(alloc.counts().discard_failures == 0);
        }
        let alloc = Allocator::start(&opened.device, root, config.clone()).unwrap();
        check(&alloc, root, &used, opened.device.driver());
    }
}
