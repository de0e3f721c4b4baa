//! Who holds a lock: for the message, where the kernel tells.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use nix::sys::stat::{major, minor};

/// The process that holds a `flock` on this file, as `process 123 (name)`. None if
/// the kernel does not tell: it is another container's, or ended meanwhile.
pub(super) fn of(file: &File) -> Option<String> {
    let meta = file.metadata().ok()?;
    let id = format!(
        "{:02x}:{:02x}:{}",
        major(meta.dev()),
        minor(meta.dev()),
        meta.ino()
    );
    let pid = holder_in(&fs::read_to_string("/proc/locks").ok()?, &id)?;
    Some(match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim()),
        Err(_) => format!("process {pid}"),
    })
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
    fn our_own_lock_names_us() {
        let file = tempfile::tempfile().expect("a file");
        file.lock().expect("locked");
        // Where the kernel tells at all.
        if let Some(who) = of(&file) {
            assert!(who.contains(&std::process::id().to_string()), "{who}");
        }
    }
}
