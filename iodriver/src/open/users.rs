//! Who uses a device or a file now: mounts, swap, and devices built on it.
//!
//! A disk and its partitions share blocks, and so do a loop device and what is
//! below it; whoever uses one of them uses them all.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sysfs::{BlockDir, DevNumber};
use crate::target::is_block_device;

use super::guard::{is_swap, mounted_at, swaps};

/// Loop devices on loop devices are followed so deep.
const MAX_DEPTH: u32 = 8;

/// Who uses a block device, or one it shares blocks with, and the way out.
pub(crate) fn user_of(dev: DevNumber) -> Option<String> {
    user_below(dev, MAX_DEPTH)
}

fn user_below(dev: DevNumber, depth: u32) -> Option<String> {
    let sys = BlockDir::of(dev);
    let relatives = match &sys {
        Some(sys) => sys.relatives(),
        None => vec![dev],
    };
    for relative in relatives {
        if let Some(use_) = own_use(relative) {
            let who = match &sys {
                Some(sys) if relative != dev => relation(sys, relative),
                _ => String::new(),
            };
            return Some(format!("{who}{use_}"));
        }
    }
    // What a loop device shows may itself be in use.
    let below = sys?.disk("loop/backing_file")?;
    let metadata = fs::metadata(&below).ok()?;
    if metadata.is_file() {
        return is_locked(Path::new(&below)).then(|| {
            format!(
                "shows {below}, which another store holds open; nothing was written. Close that \
                 one first (fuser -v shows it)"
            )
        });
    }
    if depth == 0 || !is_block_device(&metadata) {
        return None;
    }
    let user = user_below(DevNumber::new(metadata.rdev()), depth - 1)?;
    Some(format!("shows {below}, which {user}"))
}

/// Whether somebody has opened a file for writing through this crate.
fn is_locked(path: &Path) -> bool {
    let file = fs::File::open(path);
    file.is_ok_and(|f| matches!(f.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

/// How the device calls a relative: `its partition /dev/sda1 `.
fn relation(sys: &BlockDir, relative: DevNumber) -> String {
    let name = BlockDir::of(relative)
        .and_then(|dir| dir.name())
        .map_or_else(|| relative.to_string(), |name| format!("/dev/{name}"));
    if sys.own == sys.disk {
        format!("has the partition {name}, which ")
    } else {
        format!("is a part of {name}, which ")
    }
}

fn own_use(dev: DevNumber) -> Option<String> {
    if let Some(place) = mounted_at(dev) {
        return Some(format!(
            "is mounted at {place}; nothing was written. Unmount it first (umount)"
        ));
    }
    if is_swap(dev) {
        return Some(
            "is used as swap; nothing was written. End that first (swapoff, and see /proc/swaps)"
                .into(),
        );
    }
    let holders = BlockDir::of(dev)?.holders();
    let names: Vec<String> = holders.iter().map(|h| holder_name(h)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "is held by {}; nothing was written. Take that apart first (dmsetup remove, \
             vgchange -an, cryptsetup close, mdadm --stop; lsblk shows it)",
            names.join(", ")
        )
    })
}

/// `dm-0` says little: with the name that its makers gave it.
fn holder_name(kernel: &str) -> String {
    match fs::read_to_string(format!("/sys/block/{kernel}/dm/name")) {
        Ok(name) => format!("/dev/{kernel} ({})", name.trim()),
        Err(_) => format!("/dev/{kernel}"),
    }
}

/// Who uses a file as a device or as swap, and the way out.
pub(crate) fn user_of_file(metadata: &fs::Metadata) -> Option<String> {
    let same = |path: &Path| {
        fs::metadata(path)
            .is_ok_and(|m| m.is_file() && (m.dev(), m.ino()) == (metadata.dev(), metadata.ino()))
    };
    if swaps().iter().any(|path| same(path)) {
        return Some(
            "is used as swap; nothing was written. End that first (swapoff, and see /proc/swaps)"
                .into(),
        );
    }
    let devices = fs::read_dir("/sys/block").ok()?;
    for entry in devices.flatten() {
        let shown = fs::read_to_string(entry.path().join("loop/backing_file"));
        let Ok(shown) = shown else {
            continue;
        };
        if same(&PathBuf::from(shown.trim_end_matches('\n'))) {
            let device = entry.file_name().to_string_lossy().into_owned();
            return Some(format!(
                "is shown as a device by /dev/{device}; nothing was written. Use that device, \
                 or detach it first (losetup -d /dev/{device})"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_root_file_systems_device() {
        let Ok(root) = fs::metadata("/") else { return };
        let dev = DevNumber::new(root.dev());
        if dev.major == 0 {
            println!("skipped: the root file system has no block device");
            return;
        }
        assert!(mounted_at(dev).is_some());
        assert!(user_of(dev).is_some_and(|u| u.contains("mounted")));
    }

    #[test]
    fn nobody_uses_a_new_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let metadata = fs::metadata(file.path()).expect("there");
        assert_eq!(user_of_file(&metadata), None);
    }
}
