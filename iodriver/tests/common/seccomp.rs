//! System calls that the kernel refuses.

use std::thread;

/// A system call and the error number it is answered with.
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    call: libc::c_long,
    errno: i32,
    /// Only if the argument of this number has one of these bits.
    bits: Option<(usize, i32)>,
}

impl Refusal {
    /// Every call.
    pub(crate) fn of(call: libc::c_long, errno: i32) -> Self {
        Self {
            call,
            errno,
            bits: None,
        }
    }

    /// Opening with one of these flags.
    #[allow(dead_code, reason = "not all programs that have this file need it")]
    pub(crate) fn of_open_with(flags: i32, errno: i32) -> Self {
        Self {
            call: libc::SYS_openat,
            errno,
            bits: Some((2, flags)),
        }
    }
}

/// Runs `body` on a thread of its own, whose system calls, and those of the threads it
/// starts, are answered as said. Says so if that cannot be had.
pub(crate) fn with_refused(refusals: &[Refusal], body: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(move || match filter(refusals) {
            true => body(),
            false => println!("skipped: no seccomp filter can be set"),
        });
    });
}

/// Filters the calling thread's system calls for the rest of its life.
fn filter(refusals: &[Refusal]) -> bool {
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = |at: usize| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at as u32);
    let answer = |what: u32| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, what);
    let jump =
        |how: u32, k: u32, unless: u8| instruction(libc::BPF_JMP | how | libc::BPF_K, 0, unless, k);
    let mut program = Vec::new();
    for refusal in refusals {
        let errno = answer(libc::SECCOMP_RET_ERRNO | refusal.errno as u32);
        let call = refusal.call as u32;
        program.push(load(std::mem::offset_of!(libc::seccomp_data, nr)));
        match refusal.bits {
            None => program.extend([jump(libc::BPF_JEQ, call, 1), errno]),
            Some((argument, bits)) => {
                let at = std::mem::offset_of!(libc::seccomp_data, args) + 8 * argument;
                // The lower half comes first on the machines this runs on.
                program.extend([
                    jump(libc::BPF_JEQ, call, 3),
                    load(at),
                    jump(libc::BPF_JSET, bits as u32, 1),
                    errno,
                ]);
            }
        }
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: both calls change only the calling thread; the program and its
    // instructions outlive the call, which copies them.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    }
}
