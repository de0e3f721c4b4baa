//! An open file or block device and the plain system calls on it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::check;
use crate::contract::{Geometry, Op};
use crate::error::{IoError, IoErrorKind};
use crate::probe;
use crate::sync::{Home, Mutex, latch, thread};
use crate::transfer::{Step, Transfer};

/// What the queues and handles of one open device share.
#[derive(Debug)]
pub(crate) struct Target {
    file: File,
    /// The process whose file it is.
    home: Home,
    path: PathBuf,
    read_only: bool,
    /// For a file: it may be punched, and grows without preallocation.
    sparse: AtomicBool,
    /// All but the capacity, which may grow, and the discards of a sparse file.
    fixed: Geometry,
    capacity: AtomicU64,
    /// Two threads must not size the file at once.
    growing: Mutex<()>,
    /// The kernel may have requests still that nobody waits for.
    busy: AtomicBool,
}

/// Turns a system call's return value into bytes or an error number.
fn outcome(returned: isize) -> Result<u64, i32> {
    u64::try_from(returned).map_err(|_| last_errno())
}

pub(crate) fn last_errno() -> i32 {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

impl Target {
    pub(crate) fn new(
        file: File,
        path: PathBuf,
        read_only: bool,
        sparse: bool,
        geometry: Geometry,
    ) -> Self {
        Self {
            file,
            home: Home::here(),
            path,
            read_only,
            sparse: AtomicBool::new(sparse),
            capacity: AtomicU64::new(geometry.capacity),
            fixed: geometry,
            growing: Mutex::new(()),
            busy: AtomicBool::new(false),
        }
    }

    /// Leaves the kernel with requests that nobody will see the end of. Each holds the
    /// open file, so the lock on it lasts until the last of them has ended.
    pub(crate) fn leave_busy(&self) {
        self.busy.store(true, Ordering::Release);
    }

    /// Whether the calling process is the one that opened it, not a forked child.
    pub(crate) fn is_home(&self) -> bool {
        self.home.is_here()
    }

    /// Refuses in a forked child.
    pub(crate) fn check_home(
        &self,
        what: &'static str,
        offset: u64,
        len: u64,
    ) -> Result<(), IoError> {
        if self.is_home() {
            Ok(())
        } else {
            Err(IoError::forked(what, offset, len))
        }
    }

    pub(crate) fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    pub(crate) fn offset_align(&self) -> u32 {
        self.fixed.offset_align
    }

    pub(crate) fn geometry(&self) -> Geometry {
        let mut geometry = Geometry {
            capacity: self.capacity.load(Ordering::Acquire),
            ..self.fixed.clone()
        };
        if self.is_sparse() {
            geometry.discard_granularity = probe::punch_granularity(&geometry);
            // A hole reads as zeros.
            geometry.discard_zeroes = true;
        }
        geometry
    }

    /// Whether this is a file that may be punched.
    fn is_sparse(&self) -> bool {
        !self.fixed.is_block_device && self.sparse.load(Ordering::Acquire)
    }

    /// See [`crate::Device::treat_as_sparse`].
    pub(crate) fn treat_as_sparse(&self) {
        self.sparse.store(true, Ordering::Release);
    }

    pub(crate) fn check(&self, op: &Op) -> Result<(), IoError> {
        check::op(&self.geometry(), self.read_only, op)
    }

    pub(crate) fn check_read(&self, offset: u64, buf: &[u8]) -> Result<(), IoError> {
        let geometry = self.geometry();
        self.check_home("read", offset, buf.len() as u64)?;
        check::range(&geometry, "read", offset, buf.len() as u64)?;
        check::memory(&geometry, "read", offset, buf)
    }

    pub(crate) fn check_write(&self, offset: u64, buf: &[u8]) -> Result<(), IoError> {
        let geometry = self.geometry();
        self.check_home("write", offset, buf.len() as u64)?;
        check::writable(self.read_only, "write", offset, buf.len() as u64)?;
        check::range(&geometry, "write", offset, buf.len() as u64)?;
        check::memory(&geometry, "write", offset, buf)
    }

    /// Reads all of `buf`. The range was checked.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        latch::assert_may_block("a device read");
        let transfer = Transfer::new("read", offset, buf.len() as u64, self.offset_align());
        transfer_all(transfer, buf.len(), |at, from, len| {
            let part = &mut buf[from..from + len];
            // SAFETY: `part` is `len` writable bytes, borrowed for the call.
            outcome(unsafe { libc::pread64(self.fd(), part.as_mut_ptr().cast(), len, at as i64) })
        })
    }

    /// Writes all of `buf`, with `RWF_DSYNC` if asked. The range was checked.
    pub(crate) fn write(&self, offset: u64, buf: &[u8], dsync: bool) -> Result<(), IoError> {
        latch::assert_may_block("a device write");
        let transfer = Transfer::new("write", offset, buf.len() as u64, self.offset_align());
        transfer_all(transfer, buf.len(), |at, from, len| {
            let part = &buf[from..from + len];
            if dsync {
                let vector = libc::iovec {
                    iov_base: part.as_ptr().cast_mut().cast(),
                    iov_len: len,
                };
                // SAFETY: one vector of `len` readable bytes, borrowed for the
                // call; a write only reads it.
                return outcome(unsafe {
                    libc::pwritev2(self.fd(), &vector, 1, at as i64, libc::RWF_DSYNC)
                });
            }
            // SAFETY: `part` is `len` readable bytes, borrowed for the call.
            outcome(unsafe { libc::pwrite64(self.fd(), part.as_ptr().cast(), len, at as i64) })
        })
    }

    /// The first byte at or behind `offset` that is in no hole of the file.
    pub(crate) fn next_data(&self, offset: u64) -> Result<Option<u64>, IoError> {
        if self.fixed.is_block_device {
            return Ok(Some(offset));
        }
        latch::assert_may_block("a search for data");
        // SAFETY: a call on an open descriptor without memory. It moves the file's
        // position, which nothing here goes by.
        let found = unsafe { libc::lseek64(self.fd(), offset as i64, libc::SEEK_DATA) };
        match u64::try_from(found) {
            Ok(found) => Ok(Some(found)),
            Err(_) => match last_errno() {
                libc::ENXIO => Ok(None),
                // A file system that knows no holes.
                libc::EINVAL | libc::EOPNOTSUPP => Ok(Some(offset)),
                errno => Err(IoError::from_errno("find data", offset, 0, errno)),
            },
        }
    }

    /// Makes completed writes durable.
    pub(crate) fn flush(&self) -> Result<(), IoError> {
        latch::assert_may_block("a device flush");
        self.check_home("flush", 0, 0)?;
        loop {
            // SAFETY: a call on an open descriptor without memory.
            if unsafe { libc::fdatasync(self.fd()) } == 0 {
                return Ok(());
            }
            // Any other error is final: a second fdatasync may succeed although
            // the data of the first is lost.
            match last_errno() {
                libc::EINTR => {}
                errno => return Err(IoError::from_errno("flush", 0, 0, errno)),
            }
        }
    }

    /// Discards a range. It was checked, and the geometry allows discards.
    pub(crate) fn discard(&self, offset: u64, len: u64) -> Result<(), IoError> {
        latch::assert_may_block("a device discard");
        if len == 0 {
            return Ok(());
        }
        loop {
            let returned = if self.fixed.is_block_device {
                probe::discard_range(self.fd(), offset, len)
            } else {
                // SAFETY: a call on an open descriptor without memory.
                unsafe {
                    libc::fallocate64(
                        self.fd(),
                        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                        offset as i64,
                        len as i64,
                    )
                }
            };
            if returned == 0 {
                return Ok(());
            }
            match last_errno() {
                libc::EINTR => {}
                errno => return Err(IoError::from_errno("discard", offset, len, errno)),
            }
        }
    }

    /// Gives what has no space in a file its space.
    pub(crate) fn preallocate(&self) -> Result<(), IoError> {
        latch::assert_may_block("preallocating a file");
        if self.is_sparse() || self.fixed.is_block_device {
            return Ok(());
        }
        let _one = self.growing.lock();
        probe::fill_file(&self.file, self.refresh()?.capacity)
    }

    /// Asks for the size again.
    pub(crate) fn refresh(&self) -> Result<Geometry, IoError> {
        let capacity = probe::capacity(&self.file, &self.fixed)?;
        self.capacity.store(capacity, Ordering::Release);
        Ok(self.geometry())
    }

    /// Makes a file larger, durably, and never smaller; see [`Device::grow`].
    ///
    /// [`Device::grow`]: crate::Device::grow
    pub(crate) fn grow(
        &self,
        capacity: u64,
        allocated_from: Option<u64>,
    ) -> Result<Geometry, IoError> {
        let fail = |kind, detail: &str| Err(IoError::new(kind, "grow", capacity, 0, detail));
        latch::assert_may_block("growing a file");
        self.check_home("grow", capacity, 0)?;
        let _one = self.growing.lock();
        let now = self.refresh()?;
        if now.capacity >= capacity && (self.fixed.is_block_device || allocated_from.is_none()) {
            return Ok(now);
        }
        if self.read_only {
            return fail(IoErrorKind::Denied, "the file was opened read-only");
        }
        if self.fixed.is_block_device {
            return fail(
                IoErrorKind::Unsupported,
                "a block device has the size it has; enlarge it from outside and refresh",
            );
        }
        if !capacity.is_multiple_of(u64::from(self.fixed.offset_align)) {
            return fail(
                IoErrorKind::Misaligned,
                "the new size is no multiple of the block",
            );
        }
        let before = now.capacity;
        let from = allocated_from
            .filter(|_| !self.is_sparse())
            .map(|from| from.min(before));
        probe::size_file(&self.file, before, capacity, from)?;
        self.file.sync_all().map_err(|e| {
            IoError::with_errno(
                IoErrorKind::Failed,
                "grow",
                capacity,
                0,
                e.raw_os_error().unwrap_or(libc::EIO),
                format!(
                    "the new size of {} did not become durable",
                    self.path.display()
                ),
            )
        })?;
        self.refresh()
    }
}

impl Drop for Target {
    /// A forked child that has not ended holds the same open file, and with it the lock,
    /// so the lock is given back by name. In the child itself that would take it from the
    /// parent; and while the kernel has a write of ours, another would be let in before
    /// that has landed: then the lock goes with the last who holds the file.
    fn drop(&mut self) {
        if self.is_home() && !self.busy.load(Ordering::Acquire) {
            let _ = self.file.unlock();
        }
    }
}

/// Repeats `piece(device offset, buffer position, length)` until all is done.
pub(crate) fn transfer_all(
    mut transfer: Transfer,
    len: usize,
    mut piece: impl FnMut(u64, usize, usize) -> Result<u64, i32>,
) -> Result<(), IoError> {
    if len == 0 {
        return Ok(());
    }
    loop {
        let (offset, from, len) = transfer.piece();
        match transfer.step(piece(offset, from, len)) {
            Step::Done => return Ok(()),
            Step::More => {}
            Step::Again => thread::yield_now(),
            Step::Fail(error) => return Err(error),
        }
    }
}

/// Whether a file is a block device.
pub(crate) fn is_block_device(metadata: &std::fs::Metadata) -> bool {
    metadata.file_type().is_block_device()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_stays_while_the_kernel_has_requests() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [0; 4096]).unwrap();
        let other = File::open(&path).unwrap();
        for busy in [false, true] {
            let file = File::open(&path).unwrap();
            file.try_lock().unwrap();
            // As a request in the kernel does, or a forked child.
            let holder = file.try_clone().unwrap();
            let geometry = probe::geometry(&file, &mut Vec::new()).unwrap();
            let target = Target::new(file, path.clone(), true, false, geometry);
            if busy {
                target.leave_busy();
            }
            drop(target);
            assert_eq!(other.try_lock().is_err(), busy);
            drop(holder);
            other.try_lock().unwrap();
            other.unlock().unwrap();
        }
    }
}
