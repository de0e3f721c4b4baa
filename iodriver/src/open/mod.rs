//! Opening a block device or a file for use by one store.
//!
//! What must hold (promises P9 and P10): nothing is written to by opening it,
//! except that a file asked to be created is; a device that is mounted, used as
//! swap or held by somebody else is refused, always; where io_uring is not to be
//! had the psync driver takes its place and the notes say why.

mod create;
pub(crate) mod guard;
mod holder;
mod link;
mod users;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::contract::{Device, Geometry};
use crate::durable::DurableMethod;
use crate::error::{IoError, IoErrorKind};
use crate::probe;
use crate::psync::PsyncDevice;
use crate::sysfs::{BlockDir, DevNumber};
use crate::target::Target;
use crate::uring::{self, UringDevice};

pub use create::check_create;

/// Which driver to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// `uring`; `psync` if the kernel refuses io_uring.
    #[default]
    Auto,
    /// `uring` or an error.
    Uring,
    /// `psync`.
    Psync,
}

impl std::str::FromStr for DriverChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "psync" => Ok(Self::Psync),
            _ => Err(format!("no driver `{s}`: use `auto`, `uring` or `psync`")),
        }
    }
}

impl std::fmt::Display for DriverChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Psync => "psync",
        })
    }
}

/// How to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Only read. Several readers may share a device, but not with a writer.
    pub read_only: bool,
    /// Keep others out. Without it nothing protects the device from a second
    /// opener; only for looking at a device that is known to be in use.
    pub exclusive: bool,
    /// How long to wait for a holder that is going away; zero: not at all. One that is
    /// seen to live and stay (another process that holds the lock, a mount, swap, a
    /// device built on it) is told of after 0.2 s. Where no
    /// living process and nothing mounted has it open, the holder is what the kernel
    /// keeps for a process that has ended, while its I/O is in flight and its rings
    /// are taken down: that is waited for longer, up to 15 seconds.
    pub lock_wait: Duration,
    /// Make a file of this many bytes, preallocated unless `sparse`. One that
    /// exists already must be empty.
    pub create: Option<u64>,
    /// For files: space is allocated when written and may be punched out again
    /// (discard), at the price of a file system that may run full at any write.
    pub sparse: bool,
    /// Which driver.
    pub driver: DriverChoice,
    /// How `durable` writes are made durable.
    pub durable: DurableMethod,
    /// Bypass the page cache. Where the file system cannot, the page cache is
    /// used and the notes say so.
    pub direct: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            exclusive: true,
            lock_wait: Duration::from_secs(2),
            create: None,
            sparse: false,
            driver: DriverChoice::Auto,
            durable: DurableMethod::default(),
            direct: true,
        }
    }
}

/// What [`open`] returns.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The path for messages, with what it leads to if it is a link.
    pub name: String,
    /// The open device.
    pub device: Arc<dyn Device>,
    /// What it is.
    pub geometry: Geometry,
    /// Whether it was opened only for reading.
    pub read_only: bool,
    /// Where it begins on the disk or file below, in bytes: of a partition or a
    /// loop device.
    pub start: u64,
    /// Bytes by which its first block misses a physical block of the disk.
    pub alignment_offset: u64,
    /// What is not as it was asked for, for a person to read: another driver, a
    /// file system without `O_DIRECT`.
    pub notes: Vec<String>,
}

/// An `open` error with the path in it.
pub(crate) fn open_error(path: &Path, kind: IoErrorKind, detail: impl AsRef<str>) -> IoError {
    let detail = format!("{}: {}", path.display(), detail.as_ref());
    IoError::new(kind, "open", 0, 0, detail)
}

/// An `open` error from the operating system.
pub(crate) fn open_os_error(path: &Path, e: &io::Error) -> IoError {
    let errno = e.raw_os_error().unwrap_or(libc::EIO);
    let kind = match errno {
        libc::ENOENT | libc::ENXIO | libc::ENODEV | libc::ENOMEDIUM | libc::ENOTDIR => {
            IoErrorKind::NotFound
        }
        libc::EACCES | libc::EPERM | libc::EROFS => IoErrorKind::Denied,
        libc::EBUSY | libc::ETXTBSY => IoErrorKind::Busy,
        libc::ENOSPC | libc::EDQUOT => IoErrorKind::NoSpace,
        libc::EISDIR | libc::EINVAL => IoErrorKind::Unsupported,
        _ => IoErrorKind::Failed,
    };
    IoError::with_errno(kind, "open", 0, 0, errno, path.display().to_string())
}

/// Opens a block device or a file.
///
/// # Errors
/// `NotFound`, `Denied`; `Busy` if it is mounted, used as swap or held by
/// somebody else (after [`OpenOptions::lock_wait`]); `Unsupported` for what is
/// neither a block device nor a file; `Queue` if the driver asked for is not to
/// be had. A link is followed; one that leads nowhere is `NotFound`, also where a
/// file is to be made.
pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Opened, IoError> {
    let resolved = link::resolve(path.as_ref())?;
    let mut opened = open_resolved(&resolved.target, options).map_err(|e| resolved.named(e))?;
    if let Some(link) = &resolved.link {
        let target = resolved.target.display();
        opened
            .notes
            .push(format!("{} is a link to {target}", link.display()));
    }
    opened.name = resolved.name();
    Ok(opened)
}

fn open_resolved(path: &Path, options: &OpenOptions) -> Result<Opened, IoError> {
    let mut notes = Vec::new();
    let kind = choose_driver(path, options.driver, &mut notes)?;
    let file = open_file(path, options, &mut notes)?;
    let geometry = probe::geometry(&file, &mut notes)?;
    if options.direct && !geometry.direct && !notes.iter().any(|n| n.contains("O_DIRECT")) {
        notes.push(NOT_DIRECT.into());
    }
    let metadata = file.metadata().map_err(|e| open_os_error(path, &e))?;
    let sys = match geometry.is_block_device {
        true => BlockDir::of(DevNumber::new(metadata.rdev())),
        false => None,
    };
    let target = Arc::new(Target::new(
        file,
        path.to_owned(),
        options.read_only,
        options.sparse,
        geometry,
    ));
    let geometry = target.geometry();
    let device: Arc<dyn Device> = match kind {
        Some(kind) => {
            let strict = options.driver == DriverChoice::Uring;
            Arc::new(UringDevice::new(target, kind, options.durable, strict))
        }
        None => Arc::new(PsyncDevice::new(target, options.durable)),
    };
    Ok(Opened {
        name: path.display().to_string(),
        start: sys.as_ref().map_or(0, BlockDir::start),
        alignment_offset: sys.as_ref().map_or(0, BlockDir::alignment_offset),
        device,
        geometry,
        read_only: options.read_only,
        notes,
    })
}

const SET_READ_ONLY: &str = "the block device is set read-only; nothing was written. Open it \
     read-only, or set it writable (blockdev --setrw)";
const NOT_DIRECT: &str = "the file system has no O_DIRECT: the page cache is used";

/// The kind of ring to use, or `None` for psync.
fn choose_driver(
    path: &Path,
    choice: DriverChoice,
    notes: &mut Vec<String>,
) -> Result<Option<uring::RingKind>, IoError> {
    if choice == DriverChoice::Psync {
        return Ok(None);
    }
    match uring::probe() {
        Ok(kind) => Ok(Some(kind)),
        Err(reason) if choice == DriverChoice::Auto => {
            notes.push(format!("the psync driver is used: {reason}"));
            Ok(None)
        }
        Err(reason) => Err(open_error(
            path,
            IoErrorKind::Queue,
            format!("no uring driver: {reason}; use psync or auto"),
        )),
    }
}

fn open_file(path: &Path, options: &OpenOptions, notes: &mut Vec<String>) -> Result<File, IoError> {
    if options.create.is_some() && options.read_only {
        return Err(open_error(
            path,
            IoErrorKind::Denied,
            "a file cannot be created by a read-only open",
        ));
    }
    let mut created = None;
    let before = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound && options.create.is_some() => {
            created = Some(create_file(path)?);
            fs::metadata(path).map_err(|e| open_os_error(path, &e))?
        }
        Err(e) => return Err(open_os_error(path, &e)),
    };
    let opened = open_existing(path, &before, options, notes)
        .and_then(|file| fill_new(path, &file, options).map(|()| file));
    if opened.is_err()
        && let Some(path) = created
    {
        // Only what this call made is taken away again.
        let _ = fs::remove_file(path);
    }
    opened
}

/// Makes an empty file and returns its path for removal on a later error.
fn create_file(path: &Path) -> Result<PathBuf, IoError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| open_os_error(path, &e))?;
    Ok(path.to_owned())
}

fn open_existing(
    path: &Path,
    before: &fs::Metadata,
    options: &OpenOptions,
    notes: &mut Vec<String>,
) -> Result<File, IoError> {
    let kind = before.file_type();
    if !kind.is_block_device() && !kind.is_file() {
        return Err(open_error(
            path,
            IoErrorKind::Unsupported,
            "is neither a block device nor a file",
        ));
    }
    let is_block = kind.is_block_device();
    if is_block {
        check_block_device(path, before, options)?;
    } else if !options.read_only
        && let Some(user) = users::user_of_file(before)
    {
        return Err(open_error(path, IoErrorKind::Busy, user));
    }
    let file = guard::open_retrying(path, is_block, options, notes)?;
    // Between the look at the path and the open somebody may have put something
    // else there.
    let now = file.metadata().map_err(|e| open_os_error(path, &e))?;
    let same = (now.dev(), now.ino(), now.rdev()) == (before.dev(), before.ino(), before.rdev());
    if !same {
        return Err(open_error(
            path,
            IoErrorKind::Busy,
            "was replaced while it was opened; try again",
        ));
    }
    if is_block && !options.read_only && probe::is_read_only_device(&file) {
        return Err(open_error(path, IoErrorKind::Denied, SET_READ_ONLY));
    }
    Ok(file)
}

fn check_block_device(
    path: &Path,
    metadata: &fs::Metadata,
    options: &OpenOptions,
) -> Result<(), IoError> {
    if options.create.is_some() {
        return Err(open_error(
            path,
            IoErrorKind::Unsupported,
            "is a block device, which cannot be created; open it without a size",
        ));
    }
    if options.read_only {
        return Ok(());
    }
    let dev = DevNumber::new(metadata.rdev());
    if let Some(user) = users::user_of(dev) {
        return Err(open_error(path, IoErrorKind::Busy, user));
    }
    let sys = BlockDir::of(dev);
    // Asked of the open device again; some drivers do not even open it then.
    if sys.as_ref().and_then(|s| s.own("ro")).as_deref() == Some("1") {
        return Err(open_error(path, IoErrorKind::Denied, SET_READ_ONLY));
    }
    let zoned = sys.and_then(|dir| dir.queue("zoned"));
    if zoned.is_some_and(|z| z != "none") {
        return Err(open_error(
            path,
            IoErrorKind::Unsupported,
            "is a zoned device, which cannot be written at random; nothing was written. Use \
             another device",
        ));
    }
    Ok(())
}

/// Gives a file that was asked for its size, durably.
fn fill_new(path: &Path, file: &File, options: &OpenOptions) -> Result<(), IoError> {
    let Some(size) = options.create else {
        return Ok(());
    };
    let now = file.metadata().map_err(|e| open_os_error(path, &e))?;
    if now.len() != 0 {
        return Err(open_error(
            path,
            IoErrorKind::Denied,
            format!(
                "exists and holds {}; open it without a size, or remove it first",
                create::in_units(now.len())
            ),
        ));
    }
    if size == 0 || size % 4096 != 0 {
        return Err(open_error(
            path,
            IoErrorKind::Misaligned,
            format!(
                "a file's size must be a multiple of 4096 bytes, not {}",
                create::in_units(size)
            ),
        ));
    }
    probe::size_file(file, 0, size, (!options.sparse).then_some(0)).map_err(|e| IoError {
        detail: format!("{}: {}", path.display(), e.detail),
        ..e
    })?;
    file.sync_all().map_err(|e| open_os_error(path, &e))?;
    // The name is in the directory, which has its own sync.
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| open_os_error(parent, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_of_an_open_have_a_cause() {
        use IoErrorKind::*;
        for (errno, kind) in [
            (libc::ENOENT, NotFound),
            (libc::ENOMEDIUM, NotFound),
            (libc::EACCES, Denied),
            (libc::EROFS, Denied),
            (libc::EBUSY, Busy),
            (libc::ETXTBSY, Busy),
            (libc::ENOSPC, NoSpace),
            (libc::EISDIR, Unsupported),
            (libc::EIO, Failed),
        ] {
            let e = open_os_error(Path::new("/dev/x"), &io::Error::from_raw_os_error(errno));
            assert_eq!((e.kind, e.os), (kind, Some(errno)));
            assert!(e.to_string().starts_with("/dev/x: "), "{e}");
        }
    }
}
