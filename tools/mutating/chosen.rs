//! Which mutant this process is, and which functions with mutants it has entered.
//! Laid into a copy of the engine by `tools/mutants`, which chooses by environment:
//! `GAUR_MUTANT` the number, or none; `GAUR_MUTANT_REACHED` a file of one byte for each
//! number, shared, so that it is whole however the process ends.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

struct Chosen {
    number: u32,
    reached: &'static [AtomicU8],
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

fn read() -> Chosen {
    let number = std::env::var("GAUR_MUTANT").map_or(0, |n| n.parse().unwrap());
    let reached = std::env::var("GAUR_MUTANT_REACHED").map_or(&[][..], |path| {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let len = file.metadata().unwrap().len() as usize;
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping of `len` bytes, which is never taken away.
        unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                len,
                access,
                shared,
                file.as_raw_fd(),
                0,
            );
            assert!(at != libc::MAP_FAILED);
            std::slice::from_raw_parts(at.cast(), len)
        }
    });
    Chosen { number, reached }
}

/// The mutant of a function with those from `first` to `last`: 0 is the function as it is.
#[inline]
pub(crate) fn pick(first: u32, last: u32) -> u32 {
    let chosen = CHOSEN.get_or_init(read);
    if let Some(reached) = chosen.reached.get(first as usize) {
        reached.store(1, Ordering::Relaxed);
    }
    if (first..=last).contains(&chosen.number) {
        chosen.number
    } else {
        0
    }
}
