//! What several tests need.
#![allow(dead_code, reason = "not every test uses all of it")]

pub(crate) mod forger;
pub(crate) mod reach;
pub(crate) mod visit;

use gaur::{CheckOptions, CheckReport, OpenOptions, Store, check_device};
use gaur_iodriver::sim::{SimDisk, SimOptions};
use gaur_iodriver::sync::rng::Rng;
use rand::RngExt;

/// A simulated disk.
pub(crate) fn disk(seed: u64, capacity: u64) -> SimDisk {
    SimDisk::new(SimOptions {
        capacity,
        seed,
        ..SimOptions::default()
    })
}

/// Opens the store on a disk.
pub(crate) fn open(disk: &SimDisk, cache: u64) -> Store {
    let options = OpenOptions {
        cache_bytes: cache,
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options).unwrap()
}

/// Checks the store on a disk.
pub(crate) fn check(disk: &SimDisk) -> CheckReport {
    check_device(disk.device(), &CheckOptions::default()).unwrap()
}

/// Checks the store on a disk: it must be clean, and every block in one place.
pub(crate) fn checked(disk: &SimDisk) -> CheckReport {
    let report = check(disk);
    let lines: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert!(report.clean, "{}", lines.join("\n"));
    adds_up(&report);
    report
}

/// Every block is in one place.
pub(crate) fn adds_up(report: &CheckReport) {
    let b = &report.blocks;
    let sum =
        b.metadata + b.log + b.nodes + b.extents + b.kept + b.free + b.unaccounted + b.unknown;
    assert_eq!(sum, b.total, "{b:?}");
}

/// A key of one of several kinds.
pub(crate) fn key(r: &mut Rng, space: u32) -> Vec<u8> {
    let n = r.random_range(0..space);
    match n % 4 {
        0 => format!("a-long-common-prefix-for-many-keys/{n:06}").into_bytes(),
        1 => n.to_be_bytes().to_vec(),
        2 => [vec![b'p'; 600], n.to_be_bytes().to_vec()].concat(),
        _ => format!("{:x}", n.wrapping_mul(2_654_435_761)).into_bytes(),
    }
}

/// A value, now and then a large one.
pub(crate) fn value(r: &mut Rng) -> Vec<u8> {
    let len = match r.random_range(0..40) {
        0 => r.random_range(2000..9000),
        1 => r.random_range(9000..100_000),
        2..10 => r.random_range(200..1000),
        _ => r.random_range(0..120),
    };
    let byte: u8 = r.random();
    (0..len).map(|i| byte.wrapping_add(i as u8)).collect()
}
