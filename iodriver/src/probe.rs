//! Asking an open file or block device what it is.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::contract::Geometry;
use crate::error::{IoError, IoErrorKind};
use crate::sysfs::{BlockDir, DevNumber};
use crate::target::last_errno;

/// What file systems and devices had before they could be asked.
const DEFAULT_SECTOR: u32 = 512;
/// The page and block size of nearly all file systems.
const DEFAULT_FS_BLOCK: u32 = 4096;
/// Some file systems report their preferred I/O size (megabytes) as the block
/// size; more than this cannot be what they write.
const MAX_FS_BLOCK: u32 = 64 << 10;

const BLKDISCARD: libc::Ioctl = nix::request_code_none!(0x12, 119);
const BLKGETSIZE64: libc::Ioctl = nix::request_code_read!(0x12, 114, size_of::<usize>());
const BLKROGET: libc::Ioctl = nix::request_code_none!(0x12, 94);

/// The geometry of an open file, and notes on what is not as it should be.
pub(crate) fn geometry(file: &File, notes: &mut Vec<String>) -> Result<Geometry, IoError> {
    let metadata = file.metadata().map_err(|e| probe_error(&e))?;
    if metadata.file_type().is_block_device() {
        block_geometry(file, metadata.rdev())
    } else {
        file_geometry(file, &metadata, notes)
    }
}

fn block_geometry(file: &File, rdev: u64) -> Result<Geometry, IoError> {
    let mut logical: libc::c_int = 0;
    let mut physical: libc::c_uint = 0;
    // SAFETY: BLKSSZGET writes one int.
    ask("BLKSSZGET", unsafe {
        libc::ioctl(file.as_raw_fd(), libc::BLKSSZGET, &raw mut logical)
    })?;
    // SAFETY: BLKPBSZGET writes one unsigned int.
    ask("BLKPBSZGET", unsafe {
        libc::ioctl(file.as_raw_fd(), libc::BLKPBSZGET, &raw mut physical)
    })?;
    let logical = u32::try_from(logical)
        .ok()
        .filter(|n| n.is_power_of_two())
        .unwrap_or(DEFAULT_SECTOR);
    let physical = power_of_two(physical).unwrap_or(logical).max(logical);

    let direct = is_direct(file);
    let align = dio_align(file);
    let sys = BlockDir::of(DevNumber::new(rdev));
    let queue = |name| sys.as_ref().and_then(|s| s.queue(name));
    let number = |name| sys.as_ref().and_then(|s| s.queue_number(name));
    // Unknown is not safe: without an answer the cache counts as volatile.
    let volatile_cache = queue("write_cache").is_none_or(|s| s != "write through");
    let discard_granularity = match number("discard_max_bytes") {
        None | Some(0) => 0,
        Some(_) => number("discard_granularity")
            .and_then(|n| u32::try_from(n).ok())
            .map_or(0, |n| if n == 0 { 0 } else { n.max(logical) }),
    };
    // Of the partition itself, if it is one: relative to where it begins.
    let discard_alignment = sys
        .as_ref()
        .and_then(|s| s.own("discard_alignment")?.parse::<u32>().ok())
        .filter(|n| n.is_multiple_of(logical))
        .and_then(|n| n.checked_rem(discard_granularity))
        .unwrap_or(0);
    let mut geometry = Geometry {
        capacity: 0,
        logical_block: logical,
        physical_block: physical,
        offset_align: align.map_or(logical, |a| a.offset.max(logical)),
        memory_align: match (direct, align) {
            (false, _) => 1,
            (true, Some(a)) => a.memory,
            (true, None) => logical,
        },
        volatile_cache,
        discard_granularity,
        discard_alignment,
        max_discard: number("discard_max_bytes").unwrap_or(0),
        discard_zeroes: false,
        is_block_device: true,
        direct,
    };
    geometry.capacity = capacity(file, &geometry)?;
    Ok(geometry)
}

fn file_geometry(
    file: &File,
    metadata: &std::fs::Metadata,
    notes: &mut Vec<String>,
) -> Result<Geometry, IoError> {
    let fs_block = u32::try_from(metadata.blksize())
        .ok()
        .and_then(power_of_two)
        .filter(|n| (DEFAULT_SECTOR..=MAX_FS_BLOCK).contains(n))
        .unwrap_or(DEFAULT_FS_BLOCK);
    let in_memory = is_tmpfs(file);
    if in_memory {
        notes.push(
            "the file lies in memory (tmpfs): nothing survives a restart of the machine".into(),
        );
    }
    let direct = is_direct(file) && !in_memory;
    let align = if direct { dio_align(file) } else { None };
    let logical = align.map_or(DEFAULT_SECTOR, |a| a.offset.max(DEFAULT_SECTOR));
    let mut geometry = Geometry {
        capacity: 0,
        logical_block: logical,
        physical_block: fs_block.max(logical),
        offset_align: logical,
        memory_align: match (direct, align) {
            (false, _) => 1,
            (true, Some(a)) => a.memory,
            (true, None) => DEFAULT_SECTOR,
        },
        // Even on a device without a cache the file system's own journal needs
        // the flush.
        volatile_cache: true,
        // A sparse one's are told by its `Target`.
        discard_granularity: 0,
        discard_alignment: 0,
        max_discard: 0,
        discard_zeroes: false,
        is_block_device: false,
        direct,
    };
    geometry.capacity = capacity(file, &geometry)?;
    Ok(geometry)
}

/// The unit in which a sparse file's space is punched out: a block of the file
/// system, which is what a file has as its physical block.
pub(crate) fn punch_granularity(file: &Geometry) -> u32 {
    file.physical_block
}

/// How many bytes there are now, in whole blocks.
pub(crate) fn capacity(file: &File, geometry: &Geometry) -> Result<u64, IoError> {
    let bytes = if geometry.is_block_device {
        let mut bytes: u64 = 0;
        // SAFETY: BLKGETSIZE64 writes one u64.
        ask("BLKGETSIZE64", unsafe {
            libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut bytes)
        })?;
        bytes
    } else {
        file.metadata().map_err(|e| probe_error(&e))?.len()
    };
    Ok(bytes - bytes % u64::from(geometry.offset_align))
}

/// Whether the kernel has the block device marked read-only.
pub(crate) fn is_read_only_device(file: &File) -> bool {
    let mut flag: libc::c_int = 0;
    // SAFETY: BLKROGET writes one int.
    let returned = unsafe { libc::ioctl(file.as_raw_fd(), BLKROGET, &raw mut flag) };
    returned == 0 && flag != 0
}

/// BLKDISCARD; returns as a system call does.
pub(crate) fn discard_range(fd: i32, offset: u64, len: u64) -> i32 {
    let range = [offset, len];
    // SAFETY: BLKDISCARD reads two u64.
    unsafe { libc::ioctl(fd, BLKDISCARD, range.as_ptr()) }
}

/// Makes a file that has `before` bytes at least `to` bytes long: with space from
/// `allocate_from` on, or only longer. On an error the size is as before.
pub(crate) fn size_file(
    file: &File,
    before: u64,
    to: u64,
    allocate_from: Option<u64>,
) -> Result<(), IoError> {
    let fail = |kind, errno, context: &str| {
        IoError::with_errno(
            kind,
            "size file",
            before,
            to.saturating_sub(before),
            errno,
            context,
        )
    };
    if i64::try_from(to).is_err() {
        return Err(fail(
            IoErrorKind::Unsupported,
            libc::EFBIG,
            "no file can be that large",
        ));
    }
    let Some(from) = allocate_from else {
        return file.set_len(to).map_err(|e| {
            let errno = e.raw_os_error().unwrap_or(libc::EIO);
            let context = if errno == libc::EFBIG {
                format!(
                    "the file system cannot hold a file of {to} bytes; make it smaller, or use \
                     another file system (ext4 holds 16 TiB, XFS more)"
                )
            } else {
                "cannot set the file's size".to_owned()
            };
            fail(sizing_kind(errno), errno, &context)
        });
    };
    if from >= to {
        return Ok(());
    }
    allocate(file, from, to).inspect_err(|_| {
        // A failed preallocation may leave the file longer, with part of it
        // allocated; nobody has used that yet.
        if to > before {
            let _ = file.set_len(before);
        }
    })
}

/// Gives every hole of a file of this size space.
pub(crate) fn fill_file(file: &File, size: u64) -> Result<(), IoError> {
    allocate(file, 0, size)
}

fn allocate(file: &File, from: u64, to: u64) -> Result<(), IoError> {
    loop {
        // SAFETY: a call on an open descriptor without memory.
        let returned =
            unsafe { libc::fallocate64(file.as_raw_fd(), 0, from as i64, (to - from) as i64) };
        if returned == 0 {
            return Ok(());
        }
        let errno = last_errno();
        if errno != libc::EINTR {
            return Err(IoError::with_errno(
                sizing_kind(errno),
                "size file",
                from,
                to - from,
                errno,
                "cannot preallocate the file (a sparse one needs no preallocation)",
            ));
        }
    }
}

fn sizing_kind(errno: i32) -> IoErrorKind {
    match errno {
        libc::ENOSPC | libc::EDQUOT => IoErrorKind::NoSpace,
        libc::EOPNOTSUPP | libc::EFBIG | libc::EINVAL => IoErrorKind::Unsupported,
        libc::EPERM | libc::EACCES | libc::EROFS => IoErrorKind::Denied,
        _ => IoErrorKind::Failed,
    }
}

/// Whether the file is really open with `O_DIRECT`.
fn is_direct(file: &File) -> bool {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_DIRECT != 0
}

fn is_tmpfs(file: &File) -> bool {
    nix::sys::statfs::fstatfs(file)
        .is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

/// Alignment for direct I/O. Memory and offset are two things: memory often
/// needs 4 bytes where offsets need 512.
#[derive(Clone, Copy, Debug)]
struct DioAlign {
    memory: u32,
    offset: u32,
}

/// `STATX_DIOALIGN`, from Linux 6.1; `None` if the kernel or the file system
/// does not tell.
fn dio_align(file: &File) -> Option<DioAlign> {
    // SAFETY: `statx` is plain numbers, for which all zeroes is a value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor itself;
    // `stat` is writable for the call.
    let returned = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &raw mut stat,
        )
    };
    if returned != 0 || stat.stx_mask & libc::STATX_DIOALIGN == 0 {
        return None;
    }
    let align = DioAlign {
        memory: power_of_two(stat.stx_dio_mem_align)?,
        offset: power_of_two(stat.stx_dio_offset_align)?,
    };
    (align.memory <= crate::buf::BUF_ALIGN as u32).then_some(align)
}

fn power_of_two(n: u32) -> Option<u32> {
    n.is_power_of_two().then_some(n)
}

fn ask(name: &str, returned: i32) -> Result<(), IoError> {
    if returned == 0 {
        return Ok(());
    }
    Err(IoError::with_errno(
        IoErrorKind::Failed,
        "probe",
        0,
        0,
        last_errno(),
        format!("{name} on the device"),
    ))
}

fn probe_error(e: &std::io::Error) -> IoError {
    IoError::with_errno(
        IoErrorKind::Failed,
        "probe",
        0,
        0,
        e.raw_os_error().unwrap_or(libc::EIO),
        "cannot ask for the file's size",
    )
}
