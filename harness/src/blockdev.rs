//! What the kernel counts for a block device: `/sys/dev/block/…/stat`.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use serde::Serialize;

/// Bytes per sector in these counters, whatever the device's own sector is.
const SECTOR: u64 = 512;

/// The counters; or the difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    pub(crate) reads: u64,
    pub(crate) read_bytes: u64,
    pub(crate) writes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) discards: u64,
    pub(crate) discarded_bytes: u64,
    pub(crate) flushes: u64,
}

impl Counters {
    /// The counters of the block device at `path` now; none for a file.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(place(path)?.join("stat")).ok()?)
    }

    /// What was added since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let d = |now: u64, then: u64| now.saturating_sub(then);
        Self {
            reads: d(self.reads, earlier.reads),
            read_bytes: d(self.read_bytes, earlier.read_bytes),
            writes: d(self.writes, earlier.writes),
            written_bytes: d(self.written_bytes, earlier.written_bytes),
            discards: d(self.discards, earlier.discards),
            discarded_bytes: d(self.discarded_bytes, earlier.discarded_bytes),
            flushes: d(self.flushes, earlier.flushes),
        }
    }

    /// The fields' places are told by the kernel's Documentation/block/stat.rst;
    /// discards came with 4.18, flushes with 5.5.
    fn parse(text: &str) -> Option<Self> {
        let f: Vec<u64> = text
            .split_whitespace()
            .map_while(|w| w.parse().ok())
            .collect();
        let at = |i: usize| f.get(i).copied();
        Some(Self {
            reads: at(0)?,
            read_bytes: at(2)? * SECTOR,
            writes: at(4)?,
            written_bytes: at(6)? * SECTOR,
            discards: at(11).unwrap_or(0),
            discarded_bytes: at(13).unwrap_or(0) * SECTOR,
            flushes: at(15).unwrap_or(0),
        })
    }
}

/// Where the kernel tells about the block device at `path`.
fn place(path: &Path) -> Option<PathBuf> {
    let meta = std::fs::metadata(path).ok()?;
    if !meta.file_type().is_block_device() {
        return None;
    }
    let dev = meta.rdev();
    Some(PathBuf::from(format!(
        "/sys/dev/block/{}:{}",
        major(dev),
        minor(dev)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let text = "     100  1  800 5   200  2 1600 6  0 7 8   3 0 24 1   9 10\n";
        let c = Counters::parse(text).unwrap();
        let expected = Counters {
            reads: 100,
            read_bytes: 800 * 512,
            writes: 200,
            written_bytes: 1600 * 512,
            discards: 3,
            discarded_bytes: 24 * 512,
            flushes: 9,
        };
        assert_eq!(c, expected);
        assert_eq!(c.since(&c), Counters::default());
        assert!(Counters::parse("1 2 3").is_none());
    }

    #[test]
    fn a_file_has_none() {
        assert!(Counters::read(Path::new("/proc/self/status")).is_none());
    }
}
