//! Which process is calling.
//!
//! A forked child has the memory of its parent and one thread. What other threads
//! held stays held there, what they were to answer is never answered, and rings and
//! files are the parent's too. So whatever is open knows its [`Home`] and does nothing
//! in a child.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};

/// The process that made this. Grows from parent to child, so that no process has the
/// number of one it descends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home(u64);

/// The number given last, here or in a process this one descends from.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A word that the kernel sets to zero in a child; `None` where it cannot.
fn word() -> Option<&'static AtomicU64> {
    static WORD: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    *WORD.get_or_init(|| {
        let size = NonZeroUsize::new(4096)?;
        // SAFETY: a fresh private anonymous mapping, zeroed and aligned to a page. It is
        // never unmapped; a child has it too, wiped.
        unsafe {
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let page = mmap_anonymous(None, size, protection, MapFlags::MAP_PRIVATE).ok()?;
            // Linux 4.14. Takes a whole page, whose size may be larger than 4096: the
            // kernel rounds up, as it did for the mapping.
            madvise(page, size.get(), MmapAdvise::MADV_WIPEONFORK).ok()?;
            Some(page.cast::<AtomicU64>().as_ref())
        }
    })
}

/// This process's number, given at the first call.
fn number() -> u64 {
    let Some(word) = word() else {
        return u64::from(std::process::id());
    };
    let known = word.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    match word.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => new,
        Err(others) => others,
    }
}

impl Home {
    /// The calling process.
    pub fn here() -> Self {
        Self(number())
    }

    /// Whether the calling process is this one. One load of a word that nobody writes.
    #[inline]
    pub fn is_here(self) -> bool {
        match word() {
            Some(word) => word.load(Ordering::Relaxed) == self.0,
            None => u64::from(std::process::id()) == self.0,
        }
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::here()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_at_home_in_itself() {
        let home = Home::here();
        assert!(home.is_here());
        assert_eq!(home, Home::default());
        assert!(!Home(home.0 + 1).is_here());
    }
}
