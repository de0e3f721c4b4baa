//! Keeping two users off one device.
//!
//! A block device is claimed with `O_EXCL`, which the kernel's own users (mounts,
//! swap, device mapper) respect and are found by; both kinds are locked with
//! `flock`, which other openers of this crate respect.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{IoError, IoErrorKind};
use crate::sync::{thread, time};
use crate::sysfs::DevNumber;

use super::users::user_of;
use super::{NOT_DIRECT, OpenOptions, open_error, open_os_error};

/// Between two tries for a lock.
const PAUSE: time::Duration = time::Duration::from_millis(20);
/// How long even a living holder is waited for: it may be about to end, or be a child
/// of the holder before its exec.
const PASSING: time::Duration = time::Duration::from_millis(200);
/// Between two looks for a living holder.
const LOOK: time::Duration = time::Duration::from_millis(500);
/// How long to wait for a holder that nobody is any more.
const DYING: time::Duration = time::Duration::from_secs(15);

/// Opens and locks, waiting for a holder that is going away; not for one that lives
/// and stays.
pub(crate) fn open_retrying(
    path: &Path,
    is_block: bool,
    options: &OpenOptions,
    notes: &mut Vec<String>,
) -> Result<File, IoError> {
    let start = time::now();
    let mut until = options.lock_wait;
    let mut look = PASSING;
    loop {
        let opened = open_once(path, is_block, options, notes);
        if !matches!(&opened, Err(e) if e.kind == IoErrorKind::Busy) || until.is_zero() {
            return opened;
        }
        let waited = start.elapsed();
        if waited >= until {
            if waited >= DYING || !super::holder::is_dying(path) {
                return opened;
            }
            until = waited + LOOK;
        } else if waited >= look {
            if super::holder::lives(path) {
                return opened;
            }
            look = waited + LOOK;
        }
        thread::sleep(PAUSE);
    }
}

fn open_once(
    path: &Path,
    is_block: bool,
    options: &OpenOptions,
    notes: &mut Vec<String>,
) -> Result<File, IoError> {
    // Links were followed before; one that appears since is not.
    let mut flags = libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NOFOLLOW;
    // A claim keeps other claims out, readers' too; readers share by the lock.
    if is_block && options.exclusive && !options.read_only {
        flags |= libc::O_EXCL;
    }
    let with = |extra: i32| {
        fs::OpenOptions::new()
            .read(true)
            .write(!options.read_only)
            .custom_flags(flags | extra)
            .open(path)
    };
    let file = if options.direct {
        match with(libc::O_DIRECT) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                let file = with(0).map_err(|e| refused(path, &e))?;
                if !notes.iter().any(|n| n == NOT_DIRECT) {
                    notes.push(NOT_DIRECT.into());
                }
                file
            }
            other => other.map_err(|e| refused(path, &e))?,
        }
    } else {
        with(0).map_err(|e| refused(path, &e))?
    };
    if options.exclusive {
        lock(path, &file, options.read_only)?;
    }
    Ok(file)
}

fn refused(path: &Path, e: &io::Error) -> IoError {
    if e.raw_os_error() != Some(libc::EBUSY) {
        return open_os_error(path, e);
    }
    let user = fs::metadata(path)
        .ok()
        .and_then(|m| user_of(DevNumber::new(m.rdev())))
        .unwrap_or_else(|| {
            "is held by another process, or by a file system mounted elsewhere; nothing was \
             written. End that first (fuser -v, lsof and lsblk may show it)"
                .into()
        });
    open_error(path, IoErrorKind::Busy, user)
}

fn lock(path: &Path, file: &File, shared: bool) -> Result<(), IoError> {
    let tried = if shared {
        file.try_lock_shared()
    } else {
        file.try_lock()
    };
    match tried {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => Err(open_error(
            path,
            IoErrorKind::Busy,
            format!(
                "another store holds it open{}; nothing was written. Close that one first; \
                 only readers may share a store",
                super::holder::of(file).map_or_else(String::new, |who| format!(" ({who})"))
            ),
        )),
        Err(fs::TryLockError::Error(e)) => Err(open_os_error(path, &e)),
    }
}

/// Where a block device is mounted, if it is.
pub(crate) fn mounted_at(dev: DevNumber) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let number = dev.to_string();
    mounts.lines().find_map(|line| {
        // mount id, parent id, major:minor, root, mount point, options … `-`,
        // type, source. File systems with several devices show a number of
        // their own there, so the source is compared too.
        let mut fields = line.split_ascii_whitespace();
        let shown = fields.nth(2)?;
        let place = fields.nth(1)?;
        if shown == number {
            return Some(unescape(place));
        }
        let source = line.split_once(" - ")?.1.split_ascii_whitespace().nth(1)?;
        let source = unescape(source);
        (source.starts_with('/') && block_number(Path::new(&source)) == Some(dev))
            .then(|| unescape(place))
    })
}

/// Whether a block device is used as swap.
pub(crate) fn is_swap(dev: DevNumber) -> bool {
    swaps().iter().any(|path| block_number(path) == Some(dev))
}

/// The devices and files that are used as swap.
pub(crate) fn swaps() -> Vec<PathBuf> {
    let Ok(swaps) = fs::read_to_string("/proc/swaps") else {
        return Vec::new();
    };
    swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().next())
        .map(|name| unescape(name).into())
        .collect()
}

pub(crate) fn block_number(path: &Path) -> Option<DevNumber> {
    let metadata = fs::metadata(path).ok()?;
    crate::target::is_block_device(&metadata).then(|| DevNumber::new(metadata.rdev()))
}

/// The kernel writes blanks and backslashes in paths as `\040`.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let code = bytes
            .get(i + 1..i + 4)
            .filter(|_| bytes[i] == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes_what_the_kernel_escapes() {
        assert_eq!(unescape(r"/mnt/a\040b\134c"), r"/mnt/a b\c");
        assert_eq!(unescape(r"\04"), r"\04");
    }
}
