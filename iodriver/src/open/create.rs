//! Whether a file could be made, without making it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::contract::Geometry;
use crate::error::{IoError, IoErrorKind};

use super::{OpenOptions, choose_driver, open_error, open_os_error};

/// What file systems write at least.
const SECTOR: u32 = 512;

/// Makes the checks of an [`open`](super::open) that makes a file of
/// [`OpenOptions::create`] bytes, and makes none. The geometry is what is known
/// before: alignment and `direct` show only when the file is there.
///
/// # Errors
/// As [`open`](super::open), as far as they can be foreseen.
pub fn check_create(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Geometry, IoError> {
    let path = path.as_ref();
    let size = options.create.unwrap_or(0);
    choose_driver(path, options.driver, &mut Vec::new())?;
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            return Err(open_error(
                path,
                IoErrorKind::Unsupported,
                "is no file, and cannot be created; open it without a size",
            ));
        }
        Ok(there) if there.len() != 0 => {
            return Err(open_error(
                path,
                IoErrorKind::Denied,
                format!(
                    "exists and holds {}; open it without a size, or remove it first",
                    in_units(there.len())
                ),
            ));
        }
        Ok(_) => may(path, path, AccessFlags::R_OK | AccessFlags::W_OK)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(open_os_error(path, &e)),
    }
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let metadata = fs::metadata(parent).map_err(|e| open_os_error(path, &e))?;
    may(path, parent, AccessFlags::W_OK | AccessFlags::X_OK)?;
    if size == 0 || !size.is_multiple_of(4096) {
        return Err(open_error(
            path,
            IoErrorKind::Misaligned,
            format!(
                "a file's size must be a multiple of 4096 bytes, not {}",
                in_units(size)
            ),
        ));
    }
    if i64::try_from(size).is_err() {
        return Err(open_error(
            path,
            IoErrorKind::Unsupported,
            "no file can be that large",
        ));
    }
    let room = nix::sys::statvfs::statvfs(parent)
        .map(|s| s.blocks_available().saturating_mul(s.fragment_size()))
        .unwrap_or(u64::MAX);
    if !options.sparse && room < size {
        return Err(open_error(
            path,
            IoErrorKind::NoSpace,
            format!(
                "the file system has {} free, too few for {}; \
                 make room, choose a smaller size, or make a sparse one (--sparse)",
                in_units(room),
                in_units(size)
            ),
        ));
    }
    let fs_block = u32::try_from(metadata.blksize())
        .ok()
        .filter(|n| n.is_power_of_two() && (SECTOR..=64 << 10).contains(n))
        .unwrap_or(4096);
    Ok(Geometry {
        capacity: size,
        logical_block: SECTOR,
        physical_block: fs_block,
        offset_align: SECTOR,
        memory_align: SECTOR,
        volatile_cache: true,
        discard_granularity: if options.sparse { fs_block } else { 0 },
        discard_alignment: 0,
        max_discard: 0,
        discard_zeroes: options.sparse,
        is_block_device: false,
        direct: options.direct,
    })
}

fn may(path: &Path, place: &Path, what: AccessFlags) -> Result<(), IoError> {
    access(place, what).map_err(|e| {
        let e = io::Error::from_raw_os_error(e as i32);
        open_error(
            path,
            open_os_error(place, &e).kind,
            format!(
                "{} may not be written ({e}); choose another place, or change its permissions",
                place.display()
            ),
        )
    })
}

/// Bytes as people read them, and exactly.
pub(super) fn in_units(n: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.into_iter().find(|(_, shift)| n >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit} ({n} B)", n as f64 / (1u64 << shift) as f64),
        None => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::{DriverChoice, open};

    #[test]
    fn foresees_what_an_open_would_say() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made");
        fs::write(&made, "precious").unwrap();
        let (new, empty) = (dir.path().join("new"), dir.path().join("empty"));
        fs::write(&empty, "").unwrap();
        let beneath = made.join("below");
        let nowhere = dir.path().join("nowhere/file");
        let whole = OpenOptions {
            driver: DriverChoice::Psync,
            create: Some(1 << 20),
            ..OpenOptions::default()
        };
        let of = |size| OpenOptions {
            create: Some(size),
            ..whole.clone()
        };
        let sparse = OpenOptions {
            sparse: true,
            ..whole.clone()
        };
        let refused = [
            (dir.path(), &whole, IoErrorKind::Unsupported, "is no"),
            (&made, &whole, IoErrorKind::Denied, "exists and holds 8 B"),
            (&new, &of(0), IoErrorKind::Misaligned, "not 0 B"),
            (&new, &of(5000), IoErrorKind::Misaligned, "(5000 B)"),
            (&new, &of(1 << 63), IoErrorKind::Unsupported, "that large"),
            (&new, &of(1 << 62), IoErrorKind::NoSpace, "4194304.0 TiB"),
            (&beneath, &whole, IoErrorKind::NotFound, "ENOTDIR"),
            (&nowhere, &whole, IoErrorKind::NotFound, "ENOENT"),
        ];
        for (path, options, kind, words) in refused {
            let foreseen = check_create(path, options).unwrap_err();
            assert_eq!(foreseen.kind, kind, "{foreseen}");
            assert!(foreseen.detail.contains(words), "{foreseen}");
            let e = open(path, options).unwrap_err();
            // A file system may have no name for a file too large for it.
            let large = matches!(kind, IoErrorKind::NoSpace | IoErrorKind::Unsupported);
            assert!(e.kind == kind || large, "{e}");
        }
        assert_eq!(fs::read(&made).unwrap(), b"precious");
        assert!(!new.exists());
        for (path, options) in [(&empty, &whole), (&new, &whole), (&new, &sparse)] {
            let foreseen = check_create(path, options).unwrap();
            assert_eq!(foreseen.capacity, 1 << 20);
            assert!(path == &empty || !new.exists(), "nothing is made");
            let geometry = open(path, options).unwrap().geometry;
            assert_eq!(geometry.discard_granularity, foreseen.discard_granularity);
            assert_eq!(geometry.discard_zeroes, foreseen.discard_zeroes);
            assert_eq!(geometry.physical_block, foreseen.physical_block);
            fs::remove_file(path).unwrap();
        }
    }
}
