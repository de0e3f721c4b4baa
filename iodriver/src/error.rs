//! Errors of the I/O layer.

use nix::errno::Errno;

/// Why an I/O operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoErrorKind {
    /// The medium or the link failed (EIO and its kin).
    Failed,
    /// The range ends behind the end of the device.
    OutOfRange,
    /// Offset, length or memory is not aligned as the device needs.
    Misaligned,
    /// The device or driver cannot do this (a discard, say).
    Unsupported,
    /// No space left below a sparse or thin device.
    NoSpace,
    /// Not permitted, or the device is read-only.
    Denied,
    /// Somebody else holds the device.
    Busy,
    /// No such device or file.
    NotFound,
    /// The queue or ring is broken.
    Queue,
    /// The calling process is a forked child of the one that opened the device.
    Forked,
}

/// A failed I/O operation: what, where and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}{detail}", self.place())]
pub struct IoError {
    /// The cause, to match on.
    pub kind: IoErrorKind,
    /// What was tried: `read`, `write`, `flush`, `discard`, `open` …
    pub what: &'static str,
    /// Where, in bytes from the start of the device.
    pub offset: u64,
    /// How much, in bytes.
    pub len: u64,
    /// The operating system's error number, where there was one.
    pub os: Option<i32>,
    /// The cause in words.
    pub detail: String,
}

impl IoError {
    /// Where it happened, in words. An open has no place on the device; its detail
    /// begins with the path.
    fn place(&self) -> String {
        match self.what {
            "open" => String::new(),
            what => format!("{what} at byte {}, {} bytes: ", self.offset, self.len),
        }
    }

    /// An error that the operating system had no part in.
    pub fn new(
        kind: IoErrorKind,
        what: &'static str,
        offset: u64,
        len: u64,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            what,
            offset,
            len,
            os: None,
            detail: detail.into(),
        }
    }

    /// The refusal in a forked child.
    pub(crate) fn forked(what: &'static str, offset: u64, len: u64) -> Self {
        Self::new(
            IoErrorKind::Forked,
            what,
            offset,
            len,
            "the device was opened by the parent of this process, to which it belongs; \
             open it anew",
        )
    }

    /// An error number from a transfer, a flush or a discard on an open device.
    pub fn from_errno(what: &'static str, offset: u64, len: u64, errno: i32) -> Self {
        let kind = match errno {
            libc::ENOSPC | libc::EDQUOT => IoErrorKind::NoSpace,
            libc::EACCES | libc::EPERM | libc::EROFS => IoErrorKind::Denied,
            libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS => IoErrorKind::Unsupported,
            libc::EBUSY => IoErrorKind::Busy,
            // Geometry was checked before; what the kernel refuses still is an
            // alignment that the geometry did not tell of.
            libc::EINVAL => IoErrorKind::Misaligned,
            _ => IoErrorKind::Failed,
        };
        let context = match kind {
            IoErrorKind::NoSpace => {
                "there is no space below the file or device: a sparse file's file system or a \
                 thin device is full; make room there, then open it again"
            }
            _ => "",
        };
        Self::with_errno(kind, what, offset, len, errno, context)
    }

    /// As [`IoError::new`], with the error number it came from.
    pub fn with_errno(
        kind: IoErrorKind,
        what: &'static str,
        offset: u64,
        len: u64,
        errno: i32,
        context: impl Into<String>,
    ) -> Self {
        let name = Errno::from_raw(errno);
        let context = context.into();
        let detail = if context.is_empty() {
            format!("{} ({name:?})", name.desc())
        } else {
            format!("{context}: {} ({name:?})", name.desc())
        };
        Self {
            kind,
            what,
            offset,
            len,
            os: Some(errno),
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The test that has a driver produce each kind. A kind without one does not
    /// compile.
    fn produced_by(kind: IoErrorKind) -> (&'static str, &'static str) {
        match kind {
            IoErrorKind::Failed => ("tests/sim.rs", "faults_come_at_their_call"),
            IoErrorKind::OutOfRange => (
                "tests/open.rs",
                "a_file_cut_short_behind_our_back_gives_an_error",
            ),
            IoErrorKind::Misaligned => ("tests/open.rs", "creating_harms_nothing_that_exists"),
            IoErrorKind::Unsupported => ("tests/open.rs", "what_is_not_there_or_no_device"),
            IoErrorKind::NoSpace => ("tests/open.rs", "creating_harms_nothing_that_exists"),
            IoErrorKind::Denied => ("tests/open.rs", "a_read_only_device_takes_no_writes"),
            IoErrorKind::Busy => ("tests/open.rs", "one_writer_or_many_readers"),
            IoErrorKind::NotFound => ("tests/open.rs", "what_is_not_there_or_no_device"),
            IoErrorKind::Queue => (
                "tests/open.rs",
                "psync_takes_over_where_io_uring_is_forbidden",
            ),
            IoErrorKind::Forked => ("../engine/tests/process/fork.rs", "queues_are_refused"),
        }
    }

    #[test]
    fn every_kind_has_a_test_that_produces_it() {
        use IoErrorKind::*;
        let all = [
            Failed,
            OutOfRange,
            Misaligned,
            Unsupported,
            NoSpace,
            Denied,
            Busy,
            NotFound,
            Queue,
            Forked,
        ];
        for kind in all {
            let (file, test) = produced_by(kind);
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(
                text.contains(&format!("fn {test}(")),
                "{file} has no test {test}"
            );
            assert!(
                text.contains(&format!("{kind:?}")),
                "{file} does not name {kind:?}"
            );
        }
    }

    #[test]
    fn error_numbers_have_a_cause() {
        use IoErrorKind::*;
        for (errno, kind) in [
            (libc::EIO, Failed),
            (libc::ENOSPC, NoSpace),
            (libc::EDQUOT, NoSpace),
            (libc::EACCES, Denied),
            (libc::EPERM, Denied),
            (libc::EROFS, Denied),
            (libc::EOPNOTSUPP, Unsupported),
            (libc::ENOSYS, Unsupported),
            (libc::EBUSY, Busy),
            (libc::EINVAL, Misaligned),
        ] {
            let e = IoError::from_errno("write", 4096, 512, errno);
            assert_eq!((e.kind, e.os), (kind, Some(errno)));
            assert!(
                e.to_string().starts_with("write at byte 4096, 512 bytes: "),
                "{e}"
            );
        }
        let e = IoError::from_errno("write", 0, 512, libc::ENOSPC);
        assert!(e.to_string().contains("make room there"), "{e}");
        let e = IoError::new(NotFound, "open", 0, 0, "/nowhere: not there");
        assert_eq!(e.to_string(), "/nowhere: not there");
    }
}
