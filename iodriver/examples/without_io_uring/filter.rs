//! A seccomp filter that refuses io_uring, and limits, for the calling process and all it
//! starts.

use std::io;

/// `io_uring_setup`, `io_uring_enter`, `io_uring_register`. New system calls have the same
/// number on x86-64, AArch64, RISC-V and nearly all others, 32-bit ones included, so the
/// filter need not ask which one a call is of.
const CALLS: [u32; 3] = [425, 426, 427];

/// Where a filter finds the number of the system call.
const NUMBER: u32 = 0;

/// Refuses the three calls with `errno` from now on, in this process and its children; it
/// cannot be undone. Allocates nothing, so it may run between `fork` and `exec`.
///
/// # Errors
/// If the kernel has no seccomp.
pub(crate) fn refuse_io_uring(errno: i32) -> io::Result<()> {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA);
    let mut filter = [
        op(load, 0, 0, NUMBER),
        op(equal, 3, 0, CALLS[0]),
        op(equal, 2, 0, CALLS[1]),
        op(equal, 1, 0, CALLS[2]),
        op(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        op(answer, 0, 0, refuse),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let (yes, no) = (1 as libc::c_ulong, 0 as libc::c_ulong);
    // SAFETY: numbers only, as wide as the kernel reads them.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, no, no, no) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: `program` and the filter it names live to the end of the call, which copies
    // them.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &program) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A limit on a resource.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Bytes of memory that may be locked.
    Memlock,
    /// Descriptors that may be open.
    Nofile,
}

/// Lowers a limit, hard and soft, for this process and its children.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn lower(limit: Limit, value: u64) -> io::Result<()> {
    let resource = match limit {
        Limit::Memlock => libc::RLIMIT_MEMLOCK,
        Limit::Nofile => libc::RLIMIT_NOFILE,
    };
    let both = libc::rlimit64 {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: `both` is readable for the call.
    if unsafe { libc::setrlimit64(resource, &both) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
