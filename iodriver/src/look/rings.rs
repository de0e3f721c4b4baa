//! What io_uring can do on this machine.

use std::os::fd::AsRawFd;

use crate::uring;

/// What rings can do here. The driver uses neither registered files nor
/// registered buffers, nor polled rings: those are told for who compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// `SINGLE_ISSUER` and `DEFER_TASKRUN`, which the driver uses where it can.
    pub deferred: bool,
    /// Whether files can be registered with a ring.
    pub registered_files: bool,
    /// Whether memory can be registered with a ring; `RLIMIT_MEMLOCK` may forbid it.
    pub registered_buffers: bool,
    /// Whether a ring with IOPOLL can be made. The device must have queues for it too.
    pub polled: bool,
}

/// Makes rings and drops them again, to see what they can do.
///
/// # Errors
/// Why there is no usable io_uring, in words; then the `psync` driver is used.
pub fn rings() -> Result<Rings, String> {
    let kind = uring::probe()?;
    let ring = uring::build(2, uring::RingKind::Plain).map_err(|e| uring::refusal(&e))?;
    let files = std::fs::File::open("/dev/null")
        .map(|f| ring.submitter().register_files(&[f.as_raw_fd()]).is_ok())
        .unwrap_or(false);
    Ok(Rings {
        deferred: kind == uring::RingKind::Deferred,
        registered_files: files,
        registered_buffers: uring::can_register_buffers(&ring),
        polled: uring::can_poll(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_the_driver_would_do() {
        match rings() {
            Ok(r) => assert_eq!(r.deferred, uring::probe() == Ok(uring::RingKind::Deferred)),
            Err(reason) => assert!(!reason.is_empty()),
        }
    }
}
