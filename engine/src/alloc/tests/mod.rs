//! Tests: the bookkeeping beside a simple model, and the thread on a simulated disk.

mod bugs;
mod crash;
mod damage;
mod discard;
mod disk;
mod grow;
mod limits;
mod model;
mod serving;
mod trim;

use super::index::Index;
use super::load::Fresh;
use super::{AllocConfig, MapRoot};
use crate::format::Geometry;

/// Whole groups of a 4 KiB block size, and a short last one of 700 blocks.
fn geometry(whole: u64) -> Geometry {
    Geometry::new(4096, (whole * 32_256 + 700) * 4096, 500)
}

pub(super) fn config(whole: u64) -> AllocConfig {
    AllocConfig {
        reserve_blocks: 0,
        ..AllocConfig::new(geometry(whole), 77)
    }
}

pub(super) fn index(config: &AllocConfig, root: MapRoot) -> Index {
    let free: Vec<u64> = Fresh::new(&config.geometry)
        .map(|f| u64::from(f.free))
        .collect();
    Index::new(config.geometry, config.store_id, root, &free)
}
