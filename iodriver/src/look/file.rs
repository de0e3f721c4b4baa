//! What lies below a file: its file system, and the devices below that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::open::guard::unescape;
use crate::sysfs::{BlockDir, DevNumber};

/// A chain of devices is never longer; what is, is a loop in what was told.
const MAX_CHAIN: usize = 16;

/// Facts of a file. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// The file system's type.
    pub fs_type: String,
    /// Where it is mounted.
    pub mounted_at: String,
    /// What is mounted there.
    pub source: String,
    /// The devices below, from the file system down: `loop0`, `disk.img on ext4`, `vda`.
    pub chain: Vec<String>,
    /// Bytes the file has.
    pub size: u64,
    /// Bytes allocated for it. Fewer than `size`: it is sparse.
    pub allocated: u64,
    /// Bytes free in the file system for who asks.
    pub fs_free: Option<u64>,
    /// The largest file there can be here, where that is known: the file system's
    /// bound or the process's (`RLIMIT_FSIZE`).
    pub max_size: Option<u64>,
}

impl FileFacts {
    /// Whether parts of it have no space of their own yet.
    pub fn is_sparse(&self) -> bool {
        self.allocated < self.size
    }
}

/// The facts of the file at `path`; `None` for what is no file, or if
/// `/proc` does not tell.
pub fn file(path: impl AsRef<Path>) -> Option<FileFacts> {
    let metadata = fs::metadata(&path).ok()?;
    if !metadata.is_file() {
        return None;
    }
    let real = fs::canonicalize(path).ok()?;
    let mount = mount_of(&real)?;
    let stat = nix::sys::statvfs::statvfs(&real).ok();
    let fs_free = stat.map(|s| s.blocks_available().saturating_mul(s.fragment_size()));
    let block = stat.map_or(4096, |s| s.fragment_size());
    let mut chain = Vec::new();
    below_file(metadata.dev(), &mount, &mut chain);
    Some(FileFacts {
        max_size: [largest(&mount.fs_type, block), file_limit()]
            .into_iter()
            .flatten()
            .min(),
        fs_type: mount.fs_type,
        mounted_at: mount.at.display().to_string(),
        source: mount.source,
        chain,
        size: metadata.len(),
        allocated: metadata.blocks().saturating_mul(512),
        fs_free,
    })
}

struct MountLine {
    at: PathBuf,
    fs_type: String,
    source: String,
}

/// The mount that a path lies on: the last of those with the longest name.
fn mount_of(path: &Path) -> Option<MountLine> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let parse = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let at = PathBuf::from(unescape(front.split_ascii_whitespace().nth(4)?));
        let mut back = back.split_ascii_whitespace();
        Some(MountLine {
            at,
            fs_type: back.next()?.to_owned(),
            source: unescape(back.next()?),
        })
    };
    text.lines()
        .filter_map(parse)
        .filter(|m| path.starts_with(&m.at))
        .max_by_key(|m| m.at.as_os_str().len())
}

fn below_file(dev: u64, mount: &MountLine, chain: &mut Vec<String>) {
    let by_number = BlockDir::of(DevNumber::new(dev));
    let by_source = || {
        let number = crate::open::guard::block_number(Path::new(&mount.source))?;
        BlockDir::of(number)
    };
    if let Some(sys) = by_number.or_else(by_source) {
        below_device(&sys, chain);
    }
}

fn below_device(sys: &BlockDir, chain: &mut Vec<String>) {
    if chain.len() >= MAX_CHAIN {
        return;
    }
    let name = |p: &Path| {
        p.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    chain.push(match sys.own("dm/name") {
        Some(mapped) => format!("{} ({mapped})", name(&sys.own)),
        None => name(&sys.own),
    });
    if sys.own != sys.disk {
        chain.push(name(&sys.disk));
    }
    if let Some(file) = sys.disk("loop/backing_file") {
        let path = Path::new(&file);
        let mount = mount_of(path);
        let fs_type = mount.as_ref().map_or("unknown", |m| &m.fs_type);
        chain.push(format!("{file} on {fs_type}"));
        if let (Some(mount), Ok(m)) = (&mount, fs::metadata(path)) {
            below_file(m.dev(), mount, chain);
        }
    }
    let slaves = fs::read_dir(sys.disk.join("slaves")).into_iter().flatten();
    for slave in slaves.flatten() {
        let number = fs::read_to_string(slave.path().join("dev"))
            .ok()
            .and_then(|t| t.trim().parse().ok());
        if let Some(below) = number.and_then(BlockDir::of) {
            below_device(&below, chain);
        }
    }
}

/// The largest file of a type of file system with a given block size.
fn largest(fs_type: &str, block: u64) -> Option<u64> {
    match fs_type {
        // 2³² blocks in a file of extents.
        "ext4" => Some(block << 32),
        "ext2" | "ext3" => Some(2 << 40),
        "xfs" | "btrfs" | "zfs" | "bcachefs" => Some(i64::MAX as u64),
        "vfat" | "msdos" => Some(u64::from(u32::MAX)),
        _ => None,
    }
}

fn file_limit() -> Option<u64> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_FSIZE).ok()?;
    (soft != RLIM_INFINITY).then_some(soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_and_whole_files_are_told_apart() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("f");
        fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let facts = file(&path).expect("a file");
        assert!(facts.is_sparse() && facts.size == 1 << 20, "{facts:?}");
        assert!(!facts.fs_type.is_empty());
        assert!(file(dir.path()).is_none());
        assert!(file("/dev/null").is_none());
    }

    #[test]
    fn the_largest_file_is_the_file_systems() {
        assert_eq!(largest("ext4", 4096), Some(16 << 40));
        assert_eq!(largest("ext4", 1024), Some(4 << 40));
        assert_eq!(largest("ext3", 4096), Some(2 << 40));
        assert_eq!(largest("xfs", 4096), Some(i64::MAX as u64));
        assert_eq!(largest("vfat", 512), Some((4 << 30) - 1));
        assert_eq!(largest("9p", 4096), None);
    }

    #[test]
    fn a_mapped_device_is_named_and_so_is_what_it_is_built_on() {
        let dir = tempfile::tempdir().unwrap();
        let mapped = dir.path().join("dm-3");
        fs::create_dir_all(mapped.join("dm")).unwrap();
        fs::write(mapped.join("dm/name"), "vault\n").unwrap();
        let sys = BlockDir {
            own: mapped.clone(),
            disk: mapped,
        };
        let mut chain = Vec::new();
        below_device(&sys, &mut chain);
        assert_eq!(chain, ["dm-3 (vault)"]);
        // A partition's disk is below it; and a chain has an end.
        let part = BlockDir {
            own: dir.path().join("vda/vda1"),
            disk: dir.path().join("vda"),
        };
        let mut chain = Vec::new();
        below_device(&part, &mut chain);
        assert_eq!(chain, ["vda1", "vda"]);
        chain = vec![String::new(); MAX_CHAIN];
        below_device(&part, &mut chain);
        assert_eq!(chain.len(), MAX_CHAIN);
    }
}
