//! Errors of the I/O layer.

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
}

/// A failed I/O operation: what, where and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what} at byte {offset}, {len} bytes: {detail}")]
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
