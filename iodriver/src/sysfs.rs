//! What the kernel tells of a block device in `/sys`.

use std::fs;
use std::path::PathBuf;

/// Major and minor number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DevNumber {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl DevNumber {
    /// From `st_rdev` or `st_dev`.
    pub(crate) fn new(dev: u64) -> Self {
        Self {
            major: libc::major(dev),
            minor: libc::minor(dev),
        }
    }
}

impl std::str::FromStr for DevNumber {
    type Err = std::num::ParseIntError;

    /// As `/sys` writes it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self {
            major: major.parse()?,
            minor: minor.parse()?,
        })
    }
}

impl std::fmt::Display for DevNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The directories of one block device. Everything in it may be missing: `/sys`
/// need not be mounted, and attributes come and go with kernels.
#[derive(Clone, Debug)]
pub(crate) struct BlockDir {
    /// Of the device itself, which may be a partition.
    pub(crate) own: PathBuf,
    /// Of the whole device; the same unless `own` is a partition.
    pub(crate) disk: PathBuf,
}

impl BlockDir {
    pub(crate) fn of(dev: DevNumber) -> Option<Self> {
        let own = fs::canonicalize(format!("/sys/dev/block/{dev}")).ok()?;
        let disk = if own.join("partition").exists() {
            own.parent()?.to_owned()
        } else {
            own.clone()
        };
        Some(Self { own, disk })
    }

    /// A line of the whole device's `queue` directory.
    pub(crate) fn queue(&self, name: &str) -> Option<String> {
        line(self.disk.join("queue").join(name))
    }

    /// A number of the whole device's `queue` directory.
    pub(crate) fn queue_number(&self, name: &str) -> Option<u64> {
        self.queue(name)?.parse().ok()
    }

    /// A line of the device's own directory.
    pub(crate) fn own(&self, name: &str) -> Option<String> {
        line(self.own.join(name))
    }

    /// A line of the whole device's directory.
    pub(crate) fn disk(&self, name: &str) -> Option<String> {
        line(self.disk.join(name))
    }

    /// The kernel's name of the device itself.
    pub(crate) fn name(&self) -> Option<String> {
        Some(self.own.file_name()?.to_string_lossy().into_owned())
    }

    /// Where the device begins on what is below it, in bytes: of a partition on its
    /// disk, of a loop device in its file.
    pub(crate) fn start(&self) -> u64 {
        // Sysfs counts in 512 bytes whatever the sector is.
        let sectors: u64 = self.own("start").and_then(|s| s.parse().ok()).unwrap_or(0);
        let offset = self.own("loop/offset").and_then(|s| s.parse().ok());
        sectors.saturating_mul(512) + offset.unwrap_or(0u64)
    }

    /// Bytes by which the device's first block misses a physical block; 0 if the
    /// kernel does not know.
    pub(crate) fn alignment_offset(&self) -> u64 {
        let bytes = self.own("alignment_offset").and_then(|s| s.parse().ok());
        bytes.unwrap_or(0)
    }

    /// The devices built on top (device mapper, RAID), by name.
    pub(crate) fn holders(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.own.join("holders")) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The number of this device and of all that share blocks with it: its
    /// partitions, or the disk it is a part of.
    pub(crate) fn relatives(&self) -> Vec<DevNumber> {
        let mut found: Vec<DevNumber> = [&self.own, &self.disk]
            .into_iter()
            .filter_map(|dir| number(dir))
            .collect();
        if self.own == self.disk {
            let parts = fs::read_dir(&self.disk).into_iter().flatten().flatten();
            found.extend(
                parts
                    .map(|e| e.path())
                    .filter(|p| p.join("partition").exists())
                    .filter_map(|p| number(&p)),
            );
        }
        found.dedup();
        found
    }
}

fn line(path: PathBuf) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn number(dir: &std::path::Path) -> Option<DevNumber> {
    line(dir.join("dev"))?.parse().ok()
}
