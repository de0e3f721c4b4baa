//! Making rings, and finding out whether and how they can be made.

use std::io;

use crate::error::IoError;

use io_uring::{IoUring, Probe, opcode};

/// The most requests one ring takes (the kernel's own limit).
pub(crate) const MAX_DEPTH: u32 = 16_384;

/// How rings are made on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingKind {
    /// `SINGLE_ISSUER` and `DEFER_TASKRUN` (Linux 6.1): completions are done
    /// when the owner asks, not by interrupting it.
    Deferred,
    /// Without: any kernel from 5.11 on.
    Plain,
}

/// Which rings this machine makes, or why it makes none.
pub(crate) fn probe() -> Result<RingKind, String> {
    let kind = match build(2, RingKind::Deferred) {
        Ok(ring) => {
            check(&ring)?;
            RingKind::Deferred
        }
        Err(_) => {
            let ring = build(2, RingKind::Plain).map_err(|e| refusal(&e))?;
            check(&ring)?;
            RingKind::Plain
        }
    };
    Ok(kind)
}

/// A new ring; one of the deferred kind is disabled until its owner starts it.
pub(crate) fn build(entries: u32, kind: RingKind) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork();
    if kind == RingKind::Deferred {
        builder
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag();
    }
    builder.build(entries)
}

/// Whether memory can be registered with this ring.
pub(crate) fn can_register_buffers(ring: &IoUring) -> bool {
    let mut page = crate::buf::IoBuf::zeroed(4096);
    let iovec = libc::iovec {
        iov_base: page.as_mut_ptr().cast(),
        iov_len: page.len(),
    };
    // SAFETY: the page outlives its registration, which is taken back at once.
    // Nothing is submitted to this ring, so nobody reads or writes it.
    let registered = unsafe { ring.submitter().register_buffers(&[iovec]) }.is_ok();
    if registered {
        let _ = ring.submitter().unregister_buffers();
    }
    registered
}

/// Whether rings that poll for completions can be made.
pub(crate) fn can_poll() -> bool {
    let mut builder: io_uring::Builder = IoUring::builder();
    builder.setup_iopoll().build(2).is_ok()
}

fn check(ring: &IoUring) -> Result<(), String> {
    if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
        return Err("io_uring of this kernel is too old (Linux 5.11 is needed)".into());
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|e| refusal(&e))?;
    let needed = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Fsync::CODE,
        opcode::PollAdd::CODE,
    ];
    if needed.iter().all(|&code| probe.is_supported(code)) {
        Ok(())
    } else {
        Err("io_uring of this kernel lacks read, write, fsync or poll".into())
    }
}

pub(crate) fn refusal(e: &io::Error) -> String {
    format!("{}: {e}", hint(e))
}

/// The same words, without the error number's own, for a ring that a queue could not get.
pub(crate) fn hint(e: &io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel has no io_uring",
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden (see the sysctl kernel.io_uring_disabled, or a seccomp filter)"
        }
        Some(libc::ENOMEM) => "no memory may be locked for io_uring (see RLIMIT_MEMLOCK)",
        Some(libc::EMFILE | libc::ENFILE) => "too many open files",
        _ => "io_uring cannot be set up",
    }
}

/// Whether the kernel makes no ring here and now, so that another way must do.
pub(crate) fn is_refusal(e: &IoError) -> bool {
    matches!(
        e.os,
        Some(
            libc::ENOSYS | libc::EPERM | libc::EACCES | libc::ENOMEM | libc::EMFILE | libc::ENFILE
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::IoErrorKind;

    #[test]
    fn only_a_refusal_has_another_way() {
        for (errno, words, other_way) in [
            (libc::ENOSYS, "the kernel has no io_uring", true),
            (libc::EPERM, "kernel.io_uring_disabled", true),
            (libc::EACCES, "a seccomp filter", true),
            (libc::ENOMEM, "RLIMIT_MEMLOCK", true),
            (libc::EMFILE, "too many open files", true),
            (libc::ENFILE, "too many open files", true),
            (libc::EINVAL, "io_uring cannot be set up", false),
        ] {
            let e = io::Error::from_raw_os_error(errno);
            assert!(refusal(&e).contains(words), "{}", refusal(&e));
            let kind = IoErrorKind::Queue;
            let e = IoError::with_errno(kind, "queue", 0, 0, errno, hint(&e));
            assert_eq!(is_refusal(&e), other_way, "{e}");
        }
    }
}
