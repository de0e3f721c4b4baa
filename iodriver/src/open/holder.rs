//! Who holds a lock: for the message, where the kernel tells, and for how long to wait.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{major, minor};

/// The process that holds a `flock` on this file, as `process 123 (name)`. None if
/// the kernel does not tell: it is another container's, or ended meanwhile.
pub(super) fn of(file: &File) -> Option<String> {
    let pid = locker(&file.metadata().ok()?)?;
    Some(match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim()),
        Err(_) => format!("process {pid}"),
    })
}

/// The process that took a `flock` on this file.
fn locker(meta: &fs::Metadata) -> Option<u32> {
    let id = format!(
        "{:02x}:{:02x}:{}",
        major(meta.dev()),
        minor(meta.dev()),
        meta.ino()
    );
    holder_in(&fs::read_to_string("/proc/locks").ok()?, &id)
}

/// Whether a holder is only what is left of a process that has ended. The kernel takes
/// its rings down some time later, and they have its files until then.
///
/// False if anybody is found who has it open, or where not all may be looked at, unless
/// the one who took the lock is known and gone.
pub(super) fn is_dying(path: &Path) -> bool {
    let Ok(users) = crate::look::users_and_own(path) else {
        return false;
    };
    let gone = || {
        let pid = fs::metadata(path).ok().and_then(|meta| locker(&meta));
        pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    users.is_empty() && (users.processes_not_seen == 0 || gone())
}

/// Whether a holder is found that stays: the kernel's own (a mount, swap, a device built
/// on it), or another process that took the lock, has the file open and is not ending.
///
/// False where that is not known. A process that only has it open is no holder: the
/// system looks at a device whenever somebody lets go of it.
pub(super) fn lives(path: &Path) -> bool {
    let Ok(users) = crate::look::users_and_own(path) else {
        return false;
    };
    if !(users.mounts.is_empty() && users.swap.is_empty() && users.holders.is_empty()) {
        return true;
    }
    // This process may be about to let go of it in another thread.
    let own = std::process::id();
    fs::metadata(path)
        .ok()
        .and_then(|meta| locker(&meta))
        .is_some_and(|pid| {
            pid != own && users.processes.iter().any(|p| p.pid == pid) && !is_ending(pid)
        })
}

/// Whether a process is gone, was killed, or is being taken down.
fn is_ending(pid: u32) -> bool {
    let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    ends(&read("stat"), &read("status"))
}

/// The same, of what the kernel tells in these two.
fn ends(stat: &str, status: &str) -> bool {
    // Flags of a task that is leaving, and the number of the signal that ends it.
    const PF_EXITING: u64 = 4;
    const SIGKILL: u64 = 9;
    // Behind the name: state, four ids and the terminal, flags.
    let mut fields = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_ascii_whitespace();
    let state = fields.next().unwrap_or("X");
    let flags: u64 = fields.nth(5).and_then(|f| f.parse().ok()).unwrap_or(0);
    let pending = |name| {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
            .is_some_and(|set| set >> (SIGKILL - 1) & 1 == 1)
    };
    matches!(state, "Z" | "X" | "x")
        || flags & PF_EXITING != 0
        || pending("SigPnd:")
        || pending("ShdPnd:")
        || status.lines().any(|l| l == "CoreDumping:\t1")
}

/// Lines are `1: FLOCK  ADVISORY  WRITE 123 08:01:456 0 EOF`; those who wait for a
/// lock have an arrow behind the number.
fn holder_in(locks: &str, id: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, place, ..] if *place == id => {
                pid.parse().ok().filter(|pid| *pid > 0)
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_and_not_those_who_wait() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 7 00:2f:12 0 EOF
2: -> FLOCK  ADVISORY  WRITE 8 00:2f:12 0 EOF
3: FLOCK  ADVISORY  WRITE 0 00:2f:12 0 EOF
4: FLOCK  ADVISORY  READ  9 00:2f:12 0 EOF
5: FLOCK  ADVISORY  WRITE 10 00:2f:13 0 EOF";
        assert_eq!(holder_in(locks, "00:2f:12"), Some(9));
        assert_eq!(holder_in(locks, "00:2f:14"), None);
    }

    #[test]
    fn who_was_killed_or_leaves_is_ending() {
        let stat = |state, flags| format!("7 (a) b) {state} 1 7 7 0 -1 {flags} 98 0 0");
        let status = |pending, dumps| {
            format!(
                "Name:\ta\nCoreDumping:\t{dumps}\nSigPnd:\t{pending}\nShdPnd:\t0000000000000000\n"
            )
        };
        let (none, killed) = ("0000000000000000", "0000000000000100");
        assert!(!ends(&stat("S", 0x40_0000), &status(none, 0)));
        assert!(!ends(&stat("T", 0x40_0000), &status("0000000000000080", 0)));
        assert!(ends(&stat("Z", 0x40_0000), &status(none, 0)));
        assert!(ends(&stat("R", 0x40_0004), &status(none, 0)));
        assert!(ends(&stat("D", 0x40_0000), &status(killed, 0)));
        assert!(ends(&stat("D", 0x40_0000), &status(none, 1)));
        assert!(ends("", ""), "it is gone");
        assert!(!is_ending(std::process::id()));
    }

    #[test]
    fn our_own_lock_names_us() {
        let file = tempfile::tempfile().expect("a file");
        file.lock().expect("locked");
        // Where the kernel tells at all.
        if let Some(who) = of(&file) {
            assert!(who.contains(&std::process::id().to_string()), "{who}");
        }
    }
}
