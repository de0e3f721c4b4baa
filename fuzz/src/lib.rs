//! What the fuzz targets run: the same functions that the ordinary tests run over
//! `corpus`. All that is here is their names.

#[path = "../../engine/tests/common/mod.rs"]
mod common;
#[path = "../../engine/tests/fuzzing/node_image.rs"]
mod node_image;
#[path = "../../engine/tests/fuzzing/targets.rs"]
mod targets;

/// A superblock, and the store it would open.
pub fn superblock(data: &[u8]) {
    targets::superblock(data);
}

/// A block of the space map or its index, and the store it belongs to.
pub fn space(data: &[u8]) {
    targets::space(data);
}

/// A node alone; and as the root of a tree, if it is sound.
pub fn node(data: &[u8]) {
    if gaur::fuzzing::node(data) {
        targets::node(data);
    }
}

/// Log blocks, read and replayed.
pub fn log(data: &[u8]) {
    targets::log(data);
}

/// A run's description.
pub fn config(data: &[u8]) {
    gaur_harness::fuzzing::config(data);
}

/// A dump.
pub fn dump(data: &[u8]) {
    gaur_harness::fuzzing::dump(data);
}
