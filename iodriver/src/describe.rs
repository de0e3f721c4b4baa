//! What a person wants to know of a device before giving it to a store.
//!
//! Nothing is opened here and nothing is changed; whoever may list `/sys` may
//! ask. Facts that the kernel does not tell are `None`.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::IoError;
use crate::open::guard;
use crate::open::open_os_error;
use crate::sysfs::{BlockDir, DevNumber};
use crate::target::is_block_device;

/// What the path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A whole block device.
    Disk,
    /// A part of one.
    Partition,
    /// A file; the facts are those of the disk below, where there is one.
    File,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Disk => "disk",
            Self::Partition => "partition",
            Self::File => "file",
        })
    }
}

/// The facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// As asked for.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Bytes it holds.
    pub capacity: Option<u64>,
    /// The kernel's name of the disk (below).
    pub disk: Option<String>,
    /// Major and minor number of the device (below).
    pub number: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// The file that a loop device shows.
    pub backing_file: Option<String>,
    /// The I/O scheduler in use.
    pub scheduler: Option<String>,
    /// Whether it turns.
    pub rotational: Option<bool>,
    /// `write back` or `write through`.
    pub write_cache: Option<String>,
    /// Whether it can force single writes through its cache.
    pub fua: Option<bool>,
    /// Logical block size in bytes.
    pub logical_block: Option<u64>,
    /// Physical block size in bytes.
    pub physical_block: Option<u64>,
    /// The largest I/O in bytes that is not split.
    pub max_io: Option<u64>,
    /// The largest discard in bytes; 0: none.
    pub max_discard: Option<u64>,
    /// Devices built on it.
    pub holders: Vec<String>,
    /// Where it, or a device it shares blocks with, is mounted. For a file: the
    /// file system it is on.
    pub mounted_at: Option<String>,
    /// Whether it, or a device it shares blocks with, is swap.
    pub swap: bool,
    /// Whether the kernel has it read-only.
    pub read_only: bool,
}

/// Describes what a path names.
///
/// # Errors
/// If there is nothing, or nothing that may be looked at.
pub fn describe(path: impl AsRef<Path>) -> Result<Description, IoError> {
    let path = path.as_ref();
    let metadata = fs::metadata(path).map_err(|e| open_os_error(path, &e))?;
    let is_block = is_block_device(&metadata);
    let dev = DevNumber::new(if is_block {
        metadata.rdev()
    } else {
        metadata.dev()
    });
    let sys = BlockDir::of(dev);
    let queue = |name| sys.as_ref().and_then(|s| s.queue(name));
    let number = |name| sys.as_ref().and_then(|s| s.queue_number(name));
    let disk = |name| sys.as_ref().and_then(|s| s.disk(name));
    let own_size = || {
        let sectors: u64 = sys.as_ref()?.own("size")?.parse().ok()?;
        // Sysfs counts in 512 bytes whatever the sector is.
        sectors.checked_mul(512)
    };
    let kind = match &sys {
        _ if !is_block => DeviceKind::File,
        Some(sys) if sys.own != sys.disk => DeviceKind::Partition,
        _ => DeviceKind::Disk,
    };
    let relatives = match &sys {
        Some(sys) if is_block => sys.relatives(),
        _ => vec![dev],
    };
    Ok(Description {
        path: path.to_owned(),
        kind,
        capacity: if is_block {
            own_size()
        } else {
            Some(metadata.len())
        },
        disk: sys
            .as_ref()
            .and_then(|s| s.disk.file_name())
            .map(|name| name.to_string_lossy().into_owned()),
        number: sys.as_ref().map(|_| dev.to_string()),
        model: disk("device/model").or_else(|| disk("device/name")),
        serial: disk("device/serial").or_else(|| disk("serial")),
        backing_file: disk("loop/backing_file"),
        scheduler: queue("scheduler").map(|all| chosen(&all)),
        rotational: number("rotational").map(|n| n != 0),
        write_cache: queue("write_cache"),
        fua: number("fua").map(|n| n != 0),
        logical_block: number("logical_block_size"),
        physical_block: number("physical_block_size"),
        max_io: number("max_sectors_kb").map(|kib| kib * 1024),
        max_discard: number("discard_max_bytes"),
        holders: match &sys {
            Some(sys) if is_block => sys.holders(),
            _ => Vec::new(),
        },
        mounted_at: relatives.iter().find_map(|&d| guard::mounted_at(d)),
        swap: is_block && relatives.iter().any(|&d| guard::is_swap(d)),
        read_only: if is_block {
            sys.as_ref().and_then(|s| s.own("ro")).as_deref() == Some("1")
        } else {
            metadata.permissions().readonly()
        },
    })
}

/// `none [mq-deadline] kyber` names the one in brackets.
fn chosen(all: &str) -> String {
    all.split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or(all, |(name, _)| name)
        .to_owned()
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn text<T: fmt::Display>(value: Option<&T>) -> String {
            value.map_or_else(|| "unknown".into(), ToString::to_string)
        }
        let yes = |value: Option<bool>| match value {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let mut line = |name: &str, value: String| writeln!(f, "{name:<16}{value}");
        line("path", self.path.display().to_string())?;
        line("kind", self.kind.to_string())?;
        line("capacity", text(self.capacity.as_ref()))?;
        line("disk", text(self.disk.as_ref()))?;
        line("number", text(self.number.as_ref()))?;
        line("model", text(self.model.as_ref()))?;
        line("serial", text(self.serial.as_ref()))?;
        if let Some(file) = &self.backing_file {
            line("backing file", file.clone())?;
        }
        line("scheduler", text(self.scheduler.as_ref()))?;
        line("rotational", yes(self.rotational).into())?;
        line("write cache", text(self.write_cache.as_ref()))?;
        line("fua", yes(self.fua).into())?;
        line("logical block", text(self.logical_block.as_ref()))?;
        line("physical block", text(self.physical_block.as_ref()))?;
        line("largest i/o", text(self.max_io.as_ref()))?;
        line("largest discard", text(self.max_discard.as_ref()))?;
        line(
            "holders",
            if self.holders.is_empty() {
                "none".into()
            } else {
                self.holders.join(", ")
            },
        )?;
        let mounted = self.mounted_at.as_deref().unwrap_or("no");
        line(
            if self.kind == DeviceKind::File {
                "file system at"
            } else {
                "mounted"
            },
            mounted.into(),
        )?;
        line("swap", yes(Some(self.swap)).into())?;
        line("read-only", yes(Some(self.read_only)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_in_brackets_is_the_one() {
        assert_eq!(chosen("none [mq-deadline] kyber"), "mq-deadline");
        assert_eq!(chosen("none"), "none");
    }

    #[test]
    fn what_is_not_known_is_told_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut facts = describe(file.path()).unwrap();
        let lines = |facts: &Description| -> Vec<String> {
            facts.to_string().lines().map(str::to_owned).collect()
        };
        facts.fua = None;
        facts.serial = None;
        facts.mounted_at = None;
        let told = lines(&facts);
        for line in [
            "kind            file",
            "serial          unknown",
            "fua             unknown",
            "holders         none",
            "file system at  no",
        ] {
            assert!(told.iter().any(|l| l == line), "{line}: {told:#?}");
        }
        facts.kind = DeviceKind::Partition;
        facts.fua = Some(true);
        facts.holders = vec!["dm-0".into(), "md1".into()];
        let told = lines(&facts);
        for line in [
            "kind            partition",
            "fua             yes",
            "holders         dm-0, md1",
            "mounted         no",
        ] {
            assert!(told.iter().any(|l| l == line), "{line}: {told:#?}");
        }
    }
}
