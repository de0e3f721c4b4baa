//! Runs a command as if the machine had no io_uring: a seccomp filter refuses it, as
//! containers do. Optionally with less memory to lock, or fewer open files.
//!
//! ```sh
//! cargo run -p gaur-iodriver --example without_io_uring -- cargo test --workspace
//! cargo run -p gaur-iodriver --example without_io_uring -- \
//!     --errno ENOSYS --memlock 65536 --nofile 64 target/debug/gaur stat demo.store
//! ```
//!
//! `--errno EPERM` (the default), `ENOSYS` or `EACCES` is what io_uring is refused with,
//! `none` lets it be. Limits are in bytes and descriptors.

mod filter;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use filter::{Limit, lower, refuse_io_uring};

const USAGE: &str = "usage: without_io_uring [--errno EPERM|ENOSYS|EACCES|none] \
                     [--memlock BYTES] [--nofile COUNT] COMMAND [ARGUMENT …]";

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1).peekable();
    let mut errno = Some(libc::EPERM);
    let mut limits = Vec::new();
    while let Some(option) = args.next_if(|a| a.starts_with("--")) {
        let value = args.next().ok_or(USAGE)?;
        let number = || value.parse::<u64>().map_err(|e| format!("{value}: {e}"));
        match option.as_str() {
            "--errno" => {
                errno = match value.as_str() {
                    "EPERM" => Some(libc::EPERM),
                    "ENOSYS" => Some(libc::ENOSYS),
                    "EACCES" => Some(libc::EACCES),
                    "none" => None,
                    _ => return Err(USAGE.into()),
                }
            }
            "--memlock" => limits.push((Limit::Memlock, number()?)),
            "--nofile" => limits.push((Limit::Nofile, number()?)),
            _ => return Err(USAGE.into()),
        }
    }
    let command = args.next().ok_or(USAGE)?;
    for (limit, value) in limits {
        lower(limit, value).map_err(|e| format!("{limit:?}: {e}"))?;
    }
    if let Some(errno) = errno {
        refuse_io_uring(errno).map_err(|e| format!("seccomp: {e}"))?;
    }
    let error = Command::new(&command).args(args).exec();
    Err(format!("{command}: {error}"))
}

fn main() -> ExitCode {
    let Err(message) = run() else {
        unreachable!("exec does not return")
    };
    eprintln!("{message}");
    ExitCode::from(2)
}
