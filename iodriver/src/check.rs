//! The checks every request passes before a driver touches it, so that all
//! drivers refuse the same requests with the same errors.

use crate::contract::{Geometry, Op};
use crate::error::{IoError, IoErrorKind};

/// Offset and length against alignment and capacity.
pub(crate) fn range(
    geometry: &Geometry,
    what: &'static str,
    offset: u64,
    len: u64,
) -> Result<(), IoError> {
    let align = u64::from(geometry.offset_align.max(1));
    if !offset.is_multiple_of(align) || !len.is_multiple_of(align) {
        return Err(IoError::new(
            IoErrorKind::Misaligned,
            what,
            offset,
            len,
            format!("offset and length must be multiples of {align}"),
        ));
    }
    match offset.checked_add(len) {
        Some(end) if end <= geometry.capacity => Ok(()),
        _ => Err(IoError::new(
            IoErrorKind::OutOfRange,
            what,
            offset,
            len,
            format!("the device ends at byte {}", geometry.capacity),
        )),
    }
}

/// The buffer's address against the memory alignment.
pub(crate) fn memory(
    geometry: &Geometry,
    what: &'static str,
    offset: u64,
    buf: &[u8],
) -> Result<(), IoError> {
    let align = geometry.memory_align.max(1) as usize;
    if (buf.as_ptr() as usize).is_multiple_of(align) {
        return Ok(());
    }
    Err(IoError::new(
        IoErrorKind::Misaligned,
        what,
        offset,
        buf.len() as u64,
        format!("the buffer must be aligned to {align} bytes; use an IoBuf"),
    ))
}

/// That the device was not opened read-only.
pub(crate) fn writable(
    read_only: bool,
    what: &'static str,
    offset: u64,
    len: u64,
) -> Result<(), IoError> {
    if !read_only {
        return Ok(());
    }
    Err(IoError::new(
        IoErrorKind::Denied,
        what,
        offset,
        len,
        "the device was opened read-only; open it for writing",
    ))
}

/// A whole request of a queue.
pub(crate) fn op(geometry: &Geometry, read_only: bool, op: &Op) -> Result<(), IoError> {
    match op {
        Op::Read { offset, buf } => {
            range(geometry, "read", *offset, buf.len() as u64)?;
            memory(geometry, "read", *offset, buf)
        }
        Op::Write { offset, buf, .. } => {
            writable(read_only, "write", *offset, buf.len() as u64)?;
            range(geometry, "write", *offset, buf.len() as u64)?;
            memory(geometry, "write", *offset, buf)
        }
        Op::Flush => Ok(()),
        Op::Discard { offset, len } => {
            writable(read_only, "discard", *offset, *len)?;
            if geometry.discard_granularity == 0 {
                return Err(IoError::new(
                    IoErrorKind::Unsupported,
                    "discard",
                    *offset,
                    *len,
                    "the device cannot discard, or it is a file not opened as sparse",
                ));
            }
            range(geometry, "discard", *offset, *len)
        }
    }
}
